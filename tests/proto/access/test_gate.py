"""What sessions may do, and for how long."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from joserfc.jwk import OKPKey

from farcast.proto.access.gate import EXPIRY_GRACE_SECONDS, GRANTS_PER_SESSION_MAX, AccessPolicy, Gate
from farcast.proto.access.keys import TrustedKey
from farcast.proto.access.scopes import PUBLISHER, VIEWER, Action, Scope
from farcast.proto.access.tokens import make_claims, write_token
from farcast.proto.moqt.names import TrackNamespace

NOW = 1_800_000_000
LIFE = 900
PRIVATE = OKPKey.generate_key("Ed25519")
KEY = TrustedKey("k1", str(PRIVATE.as_dict(private=False)["x"]))
POLICY = AccessPolicy("shows", {"k1": KEY})
ROOM = TrackNamespace.parse("live/room1")


def token(token_id: str = "t1", scope: Scope | None = None, now: int = NOW, **changes: Any) -> bytes:
    claims = make_claims(
        [scope or Scope(VIEWER, ROOM)],
        audience="shows",
        issuer="shop",
        subject="ann",
        token_id=token_id,
        now_unix_s=now,
        life_seconds=LIFE,
    )
    return write_token({**claims, **changes}, PRIVATE, "k1").encode()


def may_watch(gate: Gate, session: int = 1, unix_s: float = NOW) -> bool:
    return gate.refusal(session, Action.SUBSCRIBE, ROOM, b"video", unix_s) is None


def why(gate: Gate, unix_s: float = NOW, action: Action = Action.SUBSCRIBE) -> str:
    refusal = gate.refusal(1, action, ROOM, b"video", unix_s)
    return "" if refusal is None else refusal.reason


@pytest.fixture
def gate() -> Gate:
    gate = Gate(POLICY)
    gate.handle_tokens(1, [token()], NOW)
    return gate


def test_without_a_policy_everything_is_allowed() -> None:
    gate = Gate(None)
    assert gate.is_open
    assert may_watch(gate)
    gate.handle_tokens(1, [b"nonsense"], NOW)
    assert gate.tokens_refused == 0


def test_without_a_token_nothing_is_allowed() -> None:
    gate = Gate(POLICY)
    assert why(gate) == "this needs a token"
    assert not gate.may_go_on(1, Action.SUBSCRIBE, ROOM, b"video")


def test_a_token_opens_what_it_says_for_its_own_session(gate: Gate) -> None:
    assert may_watch(gate)
    assert not may_watch(gate, session=2)
    assert why(gate, action=Action.PUBLISH) == "no token allows this"
    assert (gate.subject_of(1), gate.keys_of(1)) == ("ann", ("k1",))


def test_a_bad_token_is_told_of_and_takes_nothing_away(gate: Gate) -> None:
    gate.handle_tokens(1, [b"a.b.c"], NOW)
    assert may_watch(gate)
    assert gate.tokens_refused == 1
    gate.handle_tokens(2, [b"a.b.c"], NOW)
    refusal = gate.refusal(2, Action.SUBSCRIBE, ROOM, b"video", NOW)
    assert refusal is not None
    assert refusal.reason.startswith("token refused: ")


def test_two_tokens_add_up(gate: Gate) -> None:
    gate.handle_tokens(1, [token("t2", Scope(PUBLISHER, ROOM))], NOW)
    assert why(gate) == why(gate, action=Action.PUBLISH) == ""


def test_nothing_begins_after_the_end_and_what_runs_has_a_grace(gate: Gate) -> None:
    end = NOW + LIFE
    assert gate.next_end() == end + EXPIRY_GRACE_SECONDS
    refusal = gate.refusal(1, Action.SUBSCRIBE, ROOM, b"video", end)
    assert refusal is not None
    assert refusal.expired
    gate.handle_time(end + EXPIRY_GRACE_SECONDS - 1)
    assert gate.may_go_on(1, Action.SUBSCRIBE, ROOM, b"video")
    assert gate.poll_changed() is None
    gate.handle_time(end + EXPIRY_GRACE_SECONDS)
    assert gate.poll_changed() == 1
    assert gate.poll_changed() is None
    assert not gate.may_go_on(1, Action.SUBSCRIBE, ROOM, b"video")


def test_a_refreshed_token_lets_a_session_go_on(gate: Gate) -> None:
    gate.handle_tokens(1, [token("t2", now=NOW + 800)], NOW + 800)
    gate.handle_time(NOW + LIFE + EXPIRY_GRACE_SECONDS)
    assert gate.poll_changed() == 1
    assert gate.may_go_on(1, Action.SUBSCRIBE, ROOM, b"video")
    assert may_watch(gate, unix_s=NOW + LIFE + EXPIRY_GRACE_SECONDS)


@pytest.mark.parametrize(
    "policy",
    [
        replace(POLICY, revoked_tokens=frozenset({"t1"})),
        replace(POLICY, revoked_keys=frozenset({"k1"})),
        replace(POLICY, keys={}),
    ],
    ids=["token", "key", "key taken away"],
)
def test_a_revoked_grant_is_gone_at_once_and_does_not_come_back(gate: Gate, policy: AccessPolicy) -> None:
    gate.handle_policy(policy)
    assert gate.poll_changed() == 1
    assert not gate.may_go_on(1, Action.SUBSCRIBE, ROOM, b"video")
    gate.handle_tokens(1, [token()], NOW)
    assert not may_watch(gate)


def test_a_key_that_used_up_its_quota_begins_nothing_and_ends_nothing(gate: Gate) -> None:
    gate.handle_policy(replace(POLICY, exhausted=frozenset({"k1"})))
    refusal = gate.refusal(1, Action.SUBSCRIBE, ROOM, b"video", NOW)
    assert refusal is not None
    assert refusal.exhausted
    assert gate.may_go_on(1, Action.SUBSCRIBE, ROOM, b"video")
    assert gate.poll_changed() is None


def test_a_session_that_shows_tokens_without_end_keeps_the_newest(gate: Gate) -> None:
    for number in range(40):
        gate.handle_tokens(1, [token(f"n{number}", Scope(PUBLISHER, ROOM))], NOW)
    assert not may_watch(gate)
    assert why(gate, action=Action.PUBLISH) == ""
    assert len(gate._sessions[1].grants) == GRANTS_PER_SESSION_MAX


def test_a_session_that_is_over_leaves_nothing(gate: Gate) -> None:
    gate.forget(1)
    assert gate.next_end() is None
    gate.handle_policy(replace(POLICY, revoked_keys=frozenset({"k1"})))
    assert gate.poll_changed() is None
