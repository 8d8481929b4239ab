"""Whatever two sessions are told to do, and however their streams arrive, at rest they agree on what is
open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from farcast.proto.moqt import events as e
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode
from farcast.proto.moqt.limits import SessionLimits
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.profile import Profile
from farcast.proto.moqt.requests import Request, State, Verb

from .pair import End, Pair
from .strategies import ALL_PROFILES

NAMES = [FullTrackName.of("a", str(index)) for index in range(3)]
NAMESPACES = [TrackNamespace.parse(path) for path in ("a", "a/b", "c", "")]
PUBLISHABLE = NAMESPACES[:3]

sides = st.booleans()
picks = st.integers(0, 1_000)


class Agreement(RuleBasedStateMachine):
    """Commands of both applications and deliveries, in any order."""

    profile: Profile

    @initialize(seed=st.integers(0, 2**32))
    def connect(self, seed: int) -> None:
        limits = {"limits": SessionLimits(requests_open_max=6, updates_pending_max=3)}
        self.pair = Pair(self.profile, seed=seed, client=limits, server=limits)
        self.alias = 0

    def end(self, client: bool) -> End:
        return self.pair.client if client else self.pair.server

    def requests(self, client: bool, wanted: Callable[[Request], bool]) -> list[Request]:
        return [each for each in self.end(client).session._core.requests.values() if wanted(each)]

    def pick(self, client: bool, pick: int, wanted: Callable[[Request], bool]) -> int | None:
        """The handle of some request of this kind."""
        found = self.requests(client, wanted)
        return found[pick % len(found)].handle if found else None

    def next_alias(self) -> int:
        self.alias += 1
        return self.alias

    @rule(client=sides, name=st.sampled_from(NAMES))
    def subscribe(self, client: bool, name: FullTrackName) -> None:
        self.end(client).session.subscribe(name)

    @rule(client=sides, name=st.sampled_from(NAMES))
    def publish(self, client: bool, name: FullTrackName) -> None:
        self.end(client).session.publish(name, self.next_alias())

    @rule(client=sides, namespace=st.sampled_from(PUBLISHABLE))
    def publish_namespace(self, client: bool, namespace: TrackNamespace) -> None:
        self.end(client).session.publish_namespace(namespace)

    @rule(client=sides, prefix=st.sampled_from(NAMESPACES))
    def subscribe_namespace(self, client: bool, prefix: TrackNamespace) -> None:
        self.end(client).session.subscribe_namespace(prefix)

    @rule(client=sides, pick=picks)
    def accept(self, client: bool, pick: int) -> None:
        session = self.end(client).session
        handle = self.pick(client, pick, lambda each: not each.ours and each.state is State.PENDING)
        if handle is None:
            return
        commands: dict[Verb, Callable[[], Any]] = {
            Verb.SUBSCRIBE: lambda: session.accept_subscribe(handle, self.next_alias()),
            Verb.PUBLISH: lambda: session.accept_publish(handle),
            Verb.PUBLISH_NAMESPACE: lambda: session.accept(handle),
            Verb.SUBSCRIBE_NAMESPACE: lambda: session.accept(handle),
        }
        commands[session._core.requests[handle].verb]()

    @rule(client=sides, pick=picks)
    def reject(self, client: bool, pick: int) -> None:
        handle = self.pick(client, pick, lambda each: not each.ours and each.state is State.PENDING)
        if handle is not None:
            self.end(client).session.reject(handle, RequestCode.DOES_NOT_EXIST)

    @rule(client=sides, pick=picks)
    def cancel(self, client: bool, pick: int) -> None:
        handle = self.pick(client, pick, lambda each: True)
        if handle is not None:
            self.end(client).session.cancel(handle)

    @rule(client=sides, pick=picks)
    def publish_done(self, client: bool, pick: int) -> None:
        def ours_to_end(each: Request) -> bool:
            unanswered = not each.ours and each.state is State.PENDING
            return each.is_subscription and each.we_publish and not unanswered

        handle = self.pick(client, pick, ours_to_end)
        if handle is not None:
            self.end(client).session.publish_done(handle, PublishDoneCode.TRACK_ENDED, stream_count=1)

    @rule(client=sides, pick=picks)
    def update(self, client: bool, pick: int) -> None:
        def ours_to_update(each: Request) -> bool:
            return each.ours or (each.verb is Verb.PUBLISH and each.state is State.ESTABLISHED)

        handle = self.pick(client, pick, ours_to_update)
        if handle is not None:
            self.end(client).session.update(handle, forward=True)

    @rule(client=sides, pick=picks, accepted=sides)
    def answer_update(self, client: bool, pick: int, accepted: bool) -> None:
        def waiting(each: Request) -> bool:
            reported = len(each.updates_received) - len(each.deferred)
            return reported > 0 and (each.ours or each.state is State.ESTABLISHED)

        handle = self.pick(client, pick, waiting)
        if handle is None:
            return
        if accepted:
            self.end(client).session.accept_update(handle)
        else:
            self.end(client).session.reject_update(handle, RequestCode.UNAUTHORIZED)

    @rule(client=sides, pick=picks, namespace=st.sampled_from(NAMESPACES), comes=sides)
    def announce(self, client: bool, pick: int, namespace: TrackNamespace, comes: bool) -> None:
        def asked(each: Request) -> bool:
            open_one = each.verb is Verb.SUBSCRIBE_NAMESPACE and each.state is State.ESTABLISHED
            return open_one and not each.ours and namespace.starts_with(each.namespace)

        handle = self.pick(client, pick, asked)
        if handle is None:
            return
        session = self.end(client).session
        (session.announce_to if comes else session.withdraw_from)(handle, namespace)

    @rule(pieces=st.integers(1, 20))
    def deliver(self, pieces: int) -> None:
        for _ in range(pieces):
            self.pair.collect()
            self.pair.deliver_one()

    @rule()
    def rest(self) -> None:
        self.pair.run()
        self.check_agreement()

    @invariant()
    @precondition(lambda self: hasattr(self, "pair"))
    def nobody_complains(self) -> None:
        self.pair.collect()
        for end in self.pair.ends:
            assert not end.has(e.SessionFailed), end.events[-1]
            assert end.close is None

    def teardown(self) -> None:
        if not hasattr(self, "pair"):
            return
        self.pair.run()
        self.nobody_complains()
        self.check_agreement()
        self.end_everything()

    def check_agreement(self) -> None:
        for client in (True, False):
            asked = self.requests(client, lambda each: each.ours and each.state is not State.QUEUED)
            asked_of = self.requests(not client, lambda each: not each.ours)
            assert self.facts(asked) == self.facts(asked_of)

    @staticmethod
    def facts(requests: list[Request]) -> list[tuple[Any, ...]]:
        """What both ends of a request must agree on."""
        found: list[tuple[Any, ...]] = [
            (each.request_id, each.verb, each.state, each.name, each.namespace, sorted(each.suffixes))
            for each in requests
        ]
        return sorted(found, key=lambda fact: fact[0])

    def end_everything(self) -> None:
        """Once every request of either side is cancelled, nothing is left anywhere."""
        for client in (True, False):
            for each in self.requests(client, lambda each: each.ours):
                self.end(client).session.cancel(each.handle)
        self.pair.run()
        for end in self.pair.ends:
            core = end.session._core
            assert end.close is None
            assert end.session.open_requests == ()
            tables = (
                core.by_id,
                core.as_publisher,
                core.as_subscriber,
                core.aliases,
                core.queue,
                core.streams,
            )
            assert [len(table) for table in tables] == [0] * len(tables)
            assert core.peer_requests_open == 0


@pytest.mark.parametrize("profile", ALL_PROFILES, ids=lambda profile: profile.name)
def test_both_ends_agree(profile: Profile) -> None:
    machine = type("Machine", (Agreement,), {"profile": profile})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=60, stateful_step_count=30, deadline=None)
    )
