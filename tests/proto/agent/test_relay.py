"""One upstream subscription per track, here and across edges."""

from __future__ import annotations

import json

import pytest

from farcast.proto._core import Command
from farcast.proto.agent import TrackTiming
from farcast.proto.client.events import Failed, TrackReady, Waiting
from farcast.proto.moqt.errors import RequestCode
from farcast.proto.moqt.events import RequestCancelled, RequestRejected, SubscribeAccepted, SubscribeRequested
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.moqt.values import Location

from .raw import raw_client
from .world import World, events_of, namespace, track_status

LINGER_MS = TrackTiming().track_linger_ms


def name(text: str = "live/a", track: str = "video") -> FullTrackName:
    return FullTrackName.of(text, track)


def test_many_viewers_share_one_upstream_subscription() -> None:
    world = World()
    edge = world.edge("e1")
    publisher = world.publisher(edge, "live/a", "video")
    viewers = [world.viewer(edge, "live/a", "video") for _ in range(5)]
    world.run(500)
    assert all(any(isinstance(e, TrackReady) for e in events_of(v)) for v in viewers)
    assert publisher.engine.subscriptions(b"video") == 1
    assert len(edge.downstreams) == 5
    assert edge.count(Command.BindUpstream) == 1


@pytest.mark.parametrize("published", [16, 18])
@pytest.mark.parametrize("watched", [16, 18])
@pytest.mark.parametrize("kind", ["quic", "webtransport"])
def test_every_draft_is_relayed_to_every_draft(published: int, watched: int, kind: str) -> None:
    world = World()
    edge = world.edge("e1")
    world.publisher(edge, "live/a", "video", kind=kind, drafts=(published,))
    viewer = world.viewer(edge, "live/a", "video", kind=kind, drafts=(watched,))
    world.run(500)
    assert any(isinstance(e, TrackReady) for e in events_of(viewer))
    drafts = {session["draft"] for session in edge.engine.status(world.now_us)["sessions"]}
    assert drafts == {published, watched}


def test_the_upstream_ends_a_while_after_the_last_viewer_left() -> None:
    world = World()
    edge = world.edge("e1")
    publisher = world.publisher(edge, "live/a", "video")
    one, two = (world.viewer(edge, "live/a", "video") for _ in range(2))
    world.run(500)
    one.engine.unsubscribe(b"video")
    world.run(2 * LINGER_MS)
    assert publisher.engine.subscriptions(b"video") == 1
    two.engine.unsubscribe(b"video")
    world.run(LINGER_MS - 100)
    assert publisher.engine.subscriptions(b"video") == 1
    world.run(200)
    assert publisher.engine.subscriptions(b"video") == 0
    assert edge.holds_nothing()


def test_a_viewer_that_comes_while_the_track_lingers_gets_it_at_once() -> None:
    world = World()
    edge = world.edge("e1")
    world.publisher(edge, "live/a", "video")
    first = world.viewer(edge, "live/a", "video")
    world.run(500)
    first.engine.close(world.now_us)
    world.run(LINGER_MS // 2)
    assert track_status(edge)["phase"] == "lingering"
    world.viewer(edge, "live/a", "video")
    world.run(2 * LINGER_MS)
    assert track_status(edge)["phase"] == "live"
    assert edge.count(Command.BindUpstream) == 1


def test_subscribe_is_answered_only_after_the_publisher_has() -> None:
    world = World()
    edge = world.edge("e1")
    _, publisher = raw_client(world, edge, "publisher")
    publisher.session.publish_namespace(namespace("live/a"))
    _, viewer = raw_client(world, edge, "viewer")
    viewer.session.subscribe(name())
    world.run(50)
    assert not viewer.found(SubscribeAccepted)
    asked = publisher.last(SubscribeRequested)
    publisher.session.accept_subscribe(asked.request, 77, largest=Location(5, 9))
    world.run(50)
    assert viewer.last(SubscribeAccepted).largest == Location(5, 9)
    assert list(edge.bindings) == [(0, 77)]


def test_the_publishers_refusal_reaches_the_viewer_with_its_code() -> None:
    world = World()
    edge = world.edge("e1")
    _, publisher = raw_client(world, edge, "publisher")
    publisher.session.publish_namespace(namespace("live/a"))
    _, viewer = raw_client(world, edge, "viewer")
    viewer.session.subscribe(name())
    world.run(50)
    publisher.session.reject(publisher.last(SubscribeRequested).request, RequestCode.UNAUTHORIZED, "no")
    world.run(50)
    rejected = viewer.last(RequestRejected)
    assert (rejected.code, rejected.reason) == (RequestCode.UNAUTHORIZED, "no")
    assert edge.engine.status(world.now_us)["tracks"] == []


def test_an_unknown_track_does_not_exist() -> None:
    world = World()
    edge = world.edge("e1")
    _, viewer = raw_client(world, edge)
    viewer.session.subscribe(name())
    world.run(50)
    assert viewer.last(RequestRejected).code is RequestCode.DOES_NOT_EXIST


def test_a_publisher_that_never_answers_times_out() -> None:
    world = World()
    edge = world.edge("e1")
    _, publisher = raw_client(world, edge, "publisher")
    publisher.session.publish_namespace(namespace("live"))
    _, viewer = raw_client(world, edge, "viewer")
    viewer.session.subscribe(name())
    world.run(TrackTiming().subscribe_ms_max + 100)
    assert viewer.last(RequestRejected).code is RequestCode.TIMEOUT


def test_namespaces_match_by_field_and_the_longest_wins() -> None:
    world = World()
    edge = world.edge("e1")
    clients = {}
    for announced in ("live", "live/a", "liver"):
        _, clients[announced] = raw_client(world, edge, announced)
        clients[announced].session.publish_namespace(namespace(announced))
    _, viewer = raw_client(world, edge, "viewer")
    viewer.session.subscribe(name("live/a/b"))
    world.run(50)
    asked = {announced: len(client.found(SubscribeRequested)) for announced, client in clients.items()}
    assert asked == {"live": 0, "live/a": 1, "liver": 0}


def test_a_second_publisher_stands_by_and_takes_over() -> None:
    world = World()
    edge = world.edge("e1")
    first = world.publisher(edge, "live/a", "video")
    world.run(50)
    second = world.publisher(edge, "live/a", "video")
    world.run(50)
    viewer = world.viewer(edge, "live/a", "video")
    world.run(200)
    assert (first.engine.subscriptions(b"video"), second.engine.subscriptions(b"video")) == (1, 0)
    first.engine.close(world.now_us)
    world.run(200)
    assert second.engine.subscriptions(b"video") == 1
    assert track_status(edge)["viewers"] == 1
    assert [c.restart_allowed for c in edge.commands if isinstance(c, Command.BindUpstream)] == [False, True]
    assert not [e for e in events_of(viewer) if isinstance(e, Failed)]


def test_two_edges_share_one_subscription_over_the_hop() -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("live", origin))
    publisher = world.publisher(origin, "live/a", "video")
    viewers = [world.viewer(egress, "live/a", "video") for _ in range(3)]
    world.run(1_000)
    assert all(any(isinstance(e, TrackReady) for e in events_of(v)) for v in viewers)
    assert publisher.engine.subscriptions(b"video") == 1
    assert len(origin.downstreams) == 1
    assert track_status(egress)["route"] == ["e1"]
    assert egress.connects == 1


def test_upstreams_are_connected_when_somebody_needs_them() -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("live", origin))
    world.publisher(egress, "local", "video")
    world.run(500)
    assert egress.connects == 0
    world.viewer(egress, "live/a", "video")
    world.run(500)
    assert egress.connects == 1


def test_a_publisher_here_comes_before_an_upstream() -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("live", origin))
    world.publisher(origin, "live/a", "video")
    here = world.publisher(egress, "live/a", "video")
    world.run(100)
    world.viewer(egress, "live/a", "video")
    world.run(300)
    assert here.engine.subscriptions(b"video") == 1
    assert track_status(egress)["source"] == "announcer"


def test_an_unreachable_upstream_is_a_timeout_that_names_it() -> None:
    world = World()
    edge = world.edge("e1", ("live", "10.0.0.99:4433"))
    _, viewer = raw_client(world, edge)
    viewer.session.subscribe(name())
    world.run(TrackTiming().subscribe_ms_max + 100)
    rejected = viewer.last(RequestRejected)
    assert rejected.code is RequestCode.TIMEOUT
    assert "10.0.0.99:4433" in rejected.reason


def test_the_next_upstream_is_asked_when_the_first_cannot_be_reached() -> None:
    world = World()
    other = world.edge("e2")
    world.publisher(other, "live/a", "video")
    edge = world.edge("e1", ("live/a", "10.0.0.99:4433"), ("live", other))
    viewer = world.viewer(edge, "live/a", "video")
    world.run(1_000)
    assert any(isinstance(e, TrackReady) for e in events_of(viewer))


def test_a_viewer_waits_for_a_namespace_that_comes_late() -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("", origin))
    viewer = world.viewer(egress, "live/a", "catalog")
    world.run(3_000)
    waited = events_of(viewer)
    assert any(isinstance(e, Waiting) for e in waited)
    world.publisher(origin, "live/a", "catalog")
    world.run(100)
    assert any(isinstance(e, TrackReady) for e in events_of(viewer))


def test_a_refused_hop_is_closed_and_named() -> None:
    world = World()
    origin = world.edge("e1")
    _, impostor = raw_client(world, origin, "mallory", kind="hop", node_id="e2")
    assert impostor.closed is not None
    assert "the certificate says mallory" in impostor.closed.reason
    assert origin.engine.status(world.now_us)["sessions"] == []


def test_a_subscription_that_nobody_waits_for_any_more_is_cancelled_upstream() -> None:
    world = World()
    edge = world.edge("e1")
    _, publisher = raw_client(world, edge, "publisher")
    publisher.session.publish_namespace(namespace("live"))
    _, viewer = raw_client(world, edge, "viewer")
    request = viewer.session.subscribe(name())
    world.run(50)
    viewer.session.cancel(request)
    world.run(LINGER_MS + 100)
    assert publisher.last(RequestCancelled).request == publisher.last(SubscribeRequested).request
    assert edge.engine.status(world.now_us)["tracks"] == []


def test_the_status_is_plain_data() -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("live", origin), ("other", "10.0.0.99:4433"))
    world.publisher(origin, "live/a", "video")
    world.viewer(egress, "live/a", "video")
    world.run(500)
    status = json.loads(json.dumps(egress.engine.status(world.now_us)))
    assert [session["transport"] for session in status["sessions"]] == ["quic", "hop"]
    assert [upstream["state"] for upstream in status["upstreams"]] == ["open", "idle"]
    (track,) = status["tracks"]
    assert (track["namespace"], track["name"], track["viewers"]) == ("live/a", "video", 1)
