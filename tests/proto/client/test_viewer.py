"""The viewer as its application sees it."""

from __future__ import annotations

from typing import Any

import pytest

from farcast.proto._core import Event
from farcast.proto.client.events import (
    Connected,
    Disconnected,
    Failed,
    ObjectReceived,
    SubgroupEnded,
    TrackEnded,
    TrackReady,
    Waiting,
)
from farcast.proto.client.viewer import LATE_STREAM_MS
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode
from farcast.proto.moqt.events import NamespaceSubscribed, RequestCancelled, SubscribeRequested
from farcast.proto.moqt.values import Filter, FilterKind, Location

from ..agent.raw import RawClient
from ..agent.world import Host, World, events_of, namespace


def at_a_server(**options: Any) -> tuple[World, Host, RawClient]:
    """A viewer of one track at a server that does only what the test says."""
    world = World()
    server = RawClient(None)
    host = world.add("server", server)
    viewer = world.viewer(host, "live/a", "video", **options)
    world.run(20)
    return world, viewer, server


def accept(world: World, server: RawClient, alias: int = 5, largest: Location | None = None) -> int:
    """SUBSCRIBE_OK to the newest SUBSCRIBE."""
    request = server.last(SubscribeRequested).request
    server.session.accept_subscribe(request, alias, largest=largest)
    world.run(20)
    return request


@pytest.mark.parametrize("draft", [16, 18])
def test_it_asks_for_the_namespace_and_for_its_tracks_unfiltered(draft: int) -> None:
    world, viewer, server = at_a_server(drafts=(draft,))
    assert server.last(NamespaceSubscribed).prefix == namespace("live/a")
    asked = server.last(SubscribeRequested)
    assert (str(asked.name), asked.filter, asked.forward) == ("live-a--video", None, True)
    accept(world, server, largest=Location(3, 3))
    assert events_of(viewer) == [Connected("quic", draft), TrackReady(b"video", Location(3, 3), ())]
    (bound,) = viewer.bindings.values()
    assert (bound.alias, bound.restart_allowed) == (5, False)
    assert [sink.start for sink in viewer.sinks.values()] == [(0, 0)]


@pytest.mark.parametrize("draft", [16, 18])
def test_a_track_that_is_wanted_from_the_next_group_on_is_asked_for_so(draft: int) -> None:
    world, viewer, server = at_a_server(drafts=(draft,))
    accept(world, server)
    viewer.engine.subscribe(b"hd", world.now_us, priority=136, next_group=True)
    world.run(20)
    asked = server.last(SubscribeRequested)
    assert (str(asked.name), asked.filter) == ("live-a--hd", Filter(FilterKind.NEXT_GROUP_START))
    assert asked.priority == 136


def test_objects_and_ends_of_subgroups_are_handed_over_by_track() -> None:
    world, viewer, server = at_a_server()
    accept(world, server)
    events_of(viewer)
    (sink,) = viewer.sinks
    world.post(viewer, Event.Object(sink, 1, 2, 3, b"payload", 4, 0, b"\x02\x01", 10, 20))
    world.post(viewer, Event.Object(sink + 99, 1, 2, 3, b"of nobody"))
    world.post(viewer, Event.SinkSubgroupEnded(sink, 1, 2, True, False))
    world.run(10)
    assert events_of(viewer) == [
        ObjectReceived(b"video", 1, 2, 3, 4, 0, b"\x02\x01", b"payload", 10, 20),
        SubgroupEnded(b"video", 1, 2, end_of_group=True, reset=False),
    ]


def test_a_track_that_does_not_exist_is_asked_for_until_the_time_is_over() -> None:
    world, viewer, server = at_a_server(wait_ms=5_000)
    for _ in range(60):
        for asked in server.found(SubscribeRequested):
            server.session.reject(asked.request, RequestCode.DOES_NOT_EXIST)
        server.events = []
        world.run(100)
    found = events_of(viewer)
    assert 3 <= sum(isinstance(event, Waiting) for event in found) <= 10
    failed = found[-1]
    assert failed == Failed("nobody publishes track video of live/a (waited 5 s)", b"video")
    assert viewer.engine.poll_timeout() is None


def test_an_announced_namespace_is_asked_for_at_once() -> None:
    world, _, server = at_a_server()
    server.session.accept(server.last(NamespaceSubscribed).request)
    server.session.reject(server.last(SubscribeRequested).request, RequestCode.DOES_NOT_EXIST)
    world.run(20)
    assert len(server.found(SubscribeRequested)) == 1
    server.session.announce_to(server.last(NamespaceSubscribed).request, namespace("live/a"))
    world.run(20)
    assert len(server.found(SubscribeRequested)) == 2


def test_a_namespace_announced_unasked_is_asked_for_at_once() -> None:
    world, _, server = at_a_server()
    server.session.reject(server.last(SubscribeRequested).request, RequestCode.DOES_NOT_EXIST)
    world.run(20)
    server.session.publish_namespace(namespace("live/a"))
    world.run(20)
    assert len(server.found(SubscribeRequested)) == 2


def test_a_refusal_for_good_is_final() -> None:
    world, viewer, server = at_a_server()
    server.session.reject(server.last(SubscribeRequested).request, RequestCode.UNAUTHORIZED, "no token")
    world.run(5_000)
    assert events_of(viewer)[-1] == Failed("track video refused: no token", b"video")
    assert len(server.found(SubscribeRequested)) == 1


def test_the_end_of_a_track_leaves_time_for_late_streams() -> None:
    world, viewer, server = at_a_server()
    request = accept(world, server)
    events_of(viewer)
    server.session.publish_done(request, PublishDoneCode.TRACK_ENDED, stream_count=1, reason="bye")
    world.run(LATE_STREAM_MS - 100)
    assert events_of(viewer) == []
    assert len(viewer.bindings) == 1
    world.run(200)
    assert events_of(viewer) == [TrackEnded(b"video", "bye")]
    assert viewer.holds_nothing()


@pytest.mark.parametrize(
    ("status", "largest", "restart"),
    [
        (PublishDoneCode.EXPIRED, Location(9, 9), True),
        (PublishDoneCode.GOING_AWAY, Location(9, 9), False),
        (PublishDoneCode.INTERNAL_ERROR, Location(2, 0), True),
        (PublishDoneCode.INTERNAL_ERROR, None, True),
    ],
)
def test_a_subscription_that_ended_is_made_again(
    status: PublishDoneCode, largest: Location | None, restart: bool
) -> None:
    world, viewer, server = at_a_server()
    request = accept(world, server)
    viewer.media(viewer.only_track(), 5, 5)
    server.session.publish_done(request, status, stream_count=1)
    world.run(500)
    assert len(server.found(SubscribeRequested)) == 2
    accept(world, server, alias=6, largest=largest)
    (bound,) = viewer.bindings.values()
    assert (bound.alias, bound.restart_allowed) == (6, restart)
    assert len(viewer.tracks) == len(viewer.sinks) == 1


def test_a_server_that_ends_every_subscription_is_not_hammered() -> None:
    world, _, server = at_a_server()
    asked_in_all = 0
    for _ in range(50):
        for asked in server.found(SubscribeRequested):
            asked_in_all += 1
            server.session.accept_subscribe(asked.request, asked_in_all)
            server.session.publish_done(asked.request, PublishDoneCode.INTERNAL_ERROR, stream_count=0)
        server.events = []
        world.run(100)
    assert asked_in_all < 30


def test_unsubscribing_cancels_and_forgets() -> None:
    world, viewer, server = at_a_server()
    request = accept(world, server)
    viewer.engine.unsubscribe(b"video")
    world.run(20)
    assert server.last(RequestCancelled).request == request
    assert viewer.holds_nothing()


def test_a_malformed_track_ends() -> None:
    world, viewer, server = at_a_server()
    accept(world, server)
    world.post(viewer, Event.TrackMalformed(1, 5, viewer.only_track(), "two payloads of one object"))
    world.run(20)
    assert events_of(viewer)[-1] == TrackEnded(b"video", "malformed track: two payloads of one object")
    assert server.found(RequestCancelled)


def test_a_lost_session_is_renewed_and_the_track_asked_for_again() -> None:
    world = World()
    edge = world.edge("e1")
    world.publisher(edge, "live/a", "video")
    viewer = world.viewer(edge, "live/a", "video")
    world.run(200)
    events_of(viewer)
    viewer.crash(1)
    world.run(2_000)
    assert [type(event) for event in events_of(viewer)] == [Disconnected, Connected, TrackReady]


def test_an_edge_that_never_comes_back_ends_each_track_after_its_time() -> None:
    world = World()
    edge = world.edge("e1")
    world.publisher(edge, "live/a", "video")
    viewer = world.viewer(edge, "live/a", "video", wait_ms=5_000)
    world.run(200)
    edge.is_listening = False
    viewer.crash(1)
    world.run(6_000)
    assert isinstance(events_of(viewer)[-1], Failed)
    assert viewer.tracks == {}


def test_an_unreachable_edge_fails_with_one_sentence() -> None:
    world = World()
    edge = world.edge("e1")
    edge.is_listening = False
    viewer = world.viewer(edge, "live/a", "video", connect_ms_max=2_000)
    world.run(3_000)
    failures = [event for event in events_of(viewer) if isinstance(event, Failed)]
    assert failures == [Failed(f"no answer from {edge.address}")]


def test_a_closed_viewer_leaves_nothing_behind() -> None:
    world, viewer, server = at_a_server()
    accept(world, server)
    viewer.engine.close(world.now_us)
    world.run(60_000)
    assert viewer.holds_nothing()
    assert viewer.wires == {}
    assert viewer.engine.poll_timeout() is None
    assert server.closed is not None
