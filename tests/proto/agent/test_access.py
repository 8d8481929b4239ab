"""An edge that asks for tokens: nothing without one, nothing after its end; edges are free."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from access_tokens import LIFE_SECONDS, NOW_UNIX_S, POLICY, make_token

from farcast.proto.access.gate import EXPIRY_GRACE_SECONDS, AccessPolicy
from farcast.proto.access.keys import Quotas
from farcast.proto.access.scopes import PUBLISHER, VIEWER
from farcast.proto.agent.access import SHOWN_MS_MAX, token_in
from farcast.proto.moqt.errors import RequestCode, SessionCode
from farcast.proto.moqt.events import (
    PublishAccepted,
    RequestAccepted,
    RequestRejected,
    SubscribeAccepted,
    UpdateAccepted,
)
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.moqt.parameters import Parameters
from farcast.proto.moqt.values import Location

from .raw import RawClient, raw_client, show
from .world import Host, World, namespace

NAME = FullTrackName.of("live/a", "video")
OTHER = FullTrackName.of("live/ab", "video")
PUBLISH = make_token(actions=PUBLISHER, token_id="p")
WATCH = make_token(actions=VIEWER, token_id="v")


def guarded(world: World, name: str = "e1", *upstreams: tuple[str, str | Host], **settings: Any) -> Host:
    """An edge that asks for tokens."""
    edge = world.edge(name, *upstreams, access=POLICY, **settings)
    edge.engine.set_wall_clock(world.now_us, NOW_UNIX_S * 1_000_000)
    return edge


def client(world: World, edge: Host, *tokens: bytes, **options: Any) -> RawClient:
    return raw_client(world, edge, tokens=tokens, **options)[1]


def publishing(world: World, edge: Host, *tokens: bytes, name: FullTrackName = NAME) -> RawClient:
    found = client(world, edge, *tokens)
    found.session.publish(name, 40, largest=Location(3, 4))
    world.run(20)
    return found


def watching(world: World, edge: Host, *tokens: bytes, name: FullTrackName = NAME) -> RawClient:
    found = client(world, edge, *tokens)
    found.session.subscribe(name)
    world.run(20)
    return found


def refused(found: RawClient) -> RequestCode:
    return found.last(RequestRejected).code


def closed_with(found: RawClient) -> Any:
    return found.closed and found.closed.code


def test_an_edge_that_is_open_asks_for_nothing() -> None:
    world = World()
    edge = world.edge("e1")
    publishing(world, edge)
    assert watching(world, edge).found(SubscribeAccepted)


def test_without_a_token_nothing_is_published_watched_or_looked_up() -> None:
    world = World()
    edge = guarded(world)
    assert refused(publishing(world, edge)) is RequestCode.UNAUTHORIZED
    assert refused(watching(world, edge)) is RequestCode.UNAUTHORIZED
    found = client(world, edge)
    found.session.publish_namespace(namespace("live/a"))
    found.session.subscribe_namespace(namespace("live"))
    world.run(20)
    assert [event.code for event in found.found(RequestRejected)] == [RequestCode.UNAUTHORIZED] * 2
    assert edge.holds_nothing()


@pytest.mark.parametrize("draft", [16, 18])
def test_tokens_in_setup_open_what_they_name_and_no_more(draft: int) -> None:
    world = World()
    edge = guarded(world)
    publisher = client(world, edge, PUBLISH, drafts=(draft,))
    publisher.session.publish(NAME, 40, largest=Location(3, 4))
    publisher.session.publish_namespace(namespace("live/a"))
    world.run(20)
    assert publisher.found(PublishAccepted)
    assert publisher.found(RequestAccepted)
    assert watching(world, edge, WATCH).found(SubscribeAccepted)
    assert refused(watching(world, edge, PUBLISH)) is RequestCode.UNAUTHORIZED
    assert refused(publishing(world, edge, WATCH)) is RequestCode.UNAUTHORIZED
    assert refused(publishing(world, edge, PUBLISH, name=OTHER)) is RequestCode.UNAUTHORIZED
    assert refused(watching(world, edge, WATCH, name=OTHER)) is RequestCode.UNAUTHORIZED


def test_a_token_may_come_with_the_request_it_is_for() -> None:
    world = World()
    edge = guarded(world)
    publishing(world, edge, PUBLISH)
    viewer = client(world, edge)
    viewer.session.subscribe(NAME, parameters=Parameters(authorization_tokens=(show(WATCH),)))
    world.run(20)
    assert viewer.found(SubscribeAccepted)


def test_a_token_may_come_in_the_path_of_a_url() -> None:
    world = World()
    edge = guarded(world)
    publishing(world, edge, PUBLISH)
    for kind in ("webtransport", "quic"):
        viewer = client(world, edge, kind=kind, path=f"/watch?jwt={WATCH.decode()}")
        if kind == "webtransport":
            viewer.session.subscribe(NAME)
            world.run(20)
            assert viewer.found(SubscribeAccepted)
    assert token_in("/watch") is token_in("/?jwt") is token_in("/?jwt=" + "x" * 20_000) is None


def test_an_aggregated_track_is_not_open_to_those_who_join_it() -> None:
    world = World()
    edge = guarded(world)
    publishing(world, edge, PUBLISH)
    assert watching(world, edge, WATCH).found(SubscribeAccepted)
    assert refused(watching(world, edge)) is RequestCode.UNAUTHORIZED


def test_the_edge_list_is_for_everybody() -> None:
    world = World()
    edge = guarded(world)
    edge.engine.publish_edge_list(world.now_us, b"list")
    assert watching(world, edge, name=FullTrackName.of(".farcast", "edges")).found(SubscribeAccepted)


def test_edges_among_themselves_need_no_token() -> None:
    world = World()
    origin = guarded(world, "e1")
    egress = guarded(world, "e2", ("live", origin))
    publisher = client(world, origin, PUBLISH)
    publisher.session.publish_namespace(namespace("live/a"))
    world.run(20)
    viewer = client(world, egress, WATCH)
    viewer.session.subscribe(NAME)
    world.run(50)
    assert refused(watching(world, egress)) is RequestCode.UNAUTHORIZED
    assert origin.engine.counters["subscribes"] == 1


def test_a_session_that_shows_nothing_good_is_closed_after_a_while() -> None:
    world = World()
    edge = guarded(world)
    bad = client(world, edge, b"not.a.token")
    none = client(world, edge)
    good = client(world, edge, WATCH)
    world.run(SHOWN_MS_MAX + 100)
    assert [bool(found.closed) for found in (bad, none, good)] == [True, True, False]
    assert closed_with(bad) == SessionCode.UNAUTHORIZED


def test_a_session_ends_thirty_seconds_after_its_token() -> None:
    world = World()
    edge = guarded(world)
    viewer = client(world, edge, make_token(life_seconds=60))
    viewer.session.subscribe_namespace(namespace("live/a"))
    world.run((60 + EXPIRY_GRACE_SECONDS - 1) * 1_000)
    assert viewer.found(RequestAccepted)
    assert viewer.closed is None
    viewer.session.subscribe(NAME)
    world.run(500)
    assert refused(viewer) is RequestCode.EXPIRED_AUTH_TOKEN
    world.run(1_000)
    assert closed_with(viewer) == SessionCode.UNAUTHORIZED


def test_a_fresh_token_in_time_lets_a_session_go_on() -> None:
    world = World()
    edge = guarded(world)
    publishing(world, edge, make_token(actions=PUBLISHER, life_seconds=86_400))
    viewer = client(world, edge, make_token(life_seconds=60))
    request = viewer.session.subscribe(NAME)
    world.run(50_000)
    fresh = make_token(token_id="v2", now_unix_s=NOW_UNIX_S + 50)
    viewer.session.update(request, parameters=Parameters(authorization_tokens=(show(fresh),)))
    world.run(120_000)
    assert viewer.found(UpdateAccepted)
    assert viewer.closed is None


@pytest.mark.parametrize(
    "policy",
    [
        replace(POLICY, revoked_tokens=frozenset({"v"})),
        replace(POLICY, revoked_keys=frozenset({"k1"})),
        AccessPolicy("shows"),
    ],
    ids=["token", "key", "key taken away"],
)
def test_a_revocation_ends_at_once_what_it_is_about(policy: AccessPolicy) -> None:
    world = World()
    edge = guarded(world)
    publisher, viewer = publishing(world, edge, PUBLISH), watching(world, edge, WATCH)
    edge.engine.apply_access(world.now_us, local=policy)
    world.run(20)
    assert closed_with(viewer) == SessionCode.UNAUTHORIZED
    assert (publisher.closed is None) == ("v" in policy.revoked_tokens)


def test_a_clock_that_is_set_ends_nothing_before_its_time() -> None:
    world = World()
    edge = guarded(world)
    viewer = watching(world, edge, WATCH)
    edge.engine.set_wall_clock(world.now_us, (NOW_UNIX_S - 3_600) * 1_000_000)
    world.run((LIFE_SECONDS + 2 * EXPIRY_GRACE_SECONDS) * 1_000)
    assert viewer.closed is None


def test_an_open_edge_takes_no_policy() -> None:
    world = World()
    edge = world.edge("e1")
    publisher = publishing(world, edge)
    edge.engine.apply_access(world.now_us, planned=POLICY)
    world.run(20)
    assert publisher.closed is None
    assert watching(world, edge).found(SubscribeAccepted)


def with_quotas(quotas: Quotas) -> AccessPolicy:
    return replace(POLICY, keys={"k1": replace(POLICY.keys["k1"], quotas=quotas)})


def test_a_key_that_has_its_viewers_is_told_so_and_another_one_may_come_when_one_leaves() -> None:
    world = World()
    edge = guarded(world)
    edge.engine.apply_access(world.now_us, local=with_quotas(Quotas(viewers_max=1)))
    publishing(world, edge, PUBLISH)
    first = watching(world, edge, WATCH)
    assert first.found(SubscribeAccepted)
    second = watching(world, edge, WATCH)
    assert refused(second) is RequestCode.EXCESSIVE_LOAD
    assert "quota of 1 viewers" in second.last(RequestRejected).reason
    assert edge.engine.counters["over_quota_subscribe"] == 1
    assert edge.engine.quotas.used("k1")[:2] == (1, 1)


def test_a_key_that_has_its_publishers_gets_no_other_one() -> None:
    world = World()
    edge = guarded(world)
    edge.engine.apply_access(world.now_us, local=with_quotas(Quotas(publishers_max=1)))
    assert publishing(world, edge, PUBLISH).found(PublishAccepted)
    late = publishing(world, edge, PUBLISH, name=FullTrackName.of("live/a", "audio"))
    assert refused(late) is RequestCode.EXCESSIVE_LOAD


def test_a_publisher_above_the_bit_rate_of_its_key_is_closed() -> None:
    world = World()
    edge = guarded(world)
    edge.engine.apply_access(world.now_us, local=with_quotas(Quotas(egress_bps_max=8_000)))
    publisher = publishing(world, edge, PUBLISH)
    (session,) = edge.engine._access.quotas._payers
    for second in range(10):
        counters = {"session": session, "bytes_received": 10_000 * second, "bytes_sent": 0}
        edge.engine.meter(world.now_us + second * 1_000_000, {"sessions": [counters]})
    world.run(20)
    assert closed_with(publisher) == SessionCode.UNAUTHORIZED
    assert edge.engine.status(world.now_us)["access"]["usage"]["k1"]["bytes_in"] > 0
    assert edge.engine.counters["sessions_over_quota"] == 1
