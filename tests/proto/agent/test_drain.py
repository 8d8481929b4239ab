"""Drains: GOAWAY out, GOAWAY in."""

from __future__ import annotations

from farcast.proto._core import Command
from farcast.proto.agent import Agent, AgentConfig, TrackTiming
from farcast.proto.client.events import TrackReady
from farcast.proto.moqt.errors import RequestCode, SessionCode
from farcast.proto.moqt.events import GoawayReceived, RequestRejected
from farcast.proto.moqt.names import FullTrackName

from .raw import raw_client
from .world import World, events_of, namespace, track_status

DRAIN_MS = TrackTiming().drain_ms


def test_a_drain_tells_everybody_and_refuses_what_is_new() -> None:
    world = World()
    edge = world.edge("e1")
    world.publisher(edge, "live/a", "video")
    clients = [raw_client(world, edge, drafts=(draft,))[1] for draft in (16, 18)]
    for client in clients:
        client.session.subscribe(FullTrackName.of("live/a", "video"))
        client.session.publish_namespace(namespace("live/b"))
        client.session.subscribe_namespace(namespace("live"))
    edge.engine.drain(world.now_us)
    world.run(20)
    assert edge.tracks == {}
    assert edge.engine.status(world.now_us)["namespaces"] == [{"namespace": "live/a"}]
    for client, code in zip(clients, (RequestCode.INTERNAL_ERROR, RequestCode.GOING_AWAY), strict=True):
        assert client.found(GoawayReceived)
        assert [rejected.code for rejected in client.found(RequestRejected)] == [code] * 3


def test_a_drain_is_over_when_everybody_has_left() -> None:
    world = World()
    edge = world.edge("e1")
    publisher = world.publisher(edge, "live/a", "video")
    viewer = world.viewer(edge, "live/a", "video")
    world.run(200)
    assert not edge.engine.is_drained
    edge.engine.drain(world.now_us)
    world.run(50)
    assert edge.engine.is_draining
    assert not edge.engine.is_drained
    for client in (publisher, viewer):
        client.engine.close(world.now_us)
    world.run(50)
    assert edge.engine.is_drained


def test_a_drain_does_not_wait_for_an_edge_that_only_asked_for_namespaces() -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("", origin))
    world.viewer(egress, "live/a", "video")
    world.run(200)
    assert [session["prefixes"] for session in origin.engine.status(world.now_us)["sessions"]] == [1]
    origin.engine.drain(world.now_us)
    world.run(50)
    assert origin.engine.is_drained


def test_who_stays_is_closed_when_the_time_is_over() -> None:
    world = World()
    edge = world.edge("e1")
    _, busy = raw_client(world, edge)
    busy.session.publish_namespace(namespace("live/a"))
    _, idle = raw_client(world, edge)
    world.run(20)
    edge.engine.drain(world.now_us)
    world.run(DRAIN_MS - 100)
    assert not busy.is_closed
    world.run(200)
    assert (busy.closed.code, idle.closed.code) == (SessionCode.GOAWAY_TIMEOUT, SessionCode.NO_ERROR)
    assert edge.engine.is_drained


def test_a_drain_may_be_given_another_length_than_the_configurations() -> None:
    world = World()
    edge = world.edge("e1")
    _, client = raw_client(world, edge)
    client.session.publish_namespace(namespace("live/a"))
    world.run(20)
    edge.engine.drain(world.now_us, 2 * DRAIN_MS)
    world.run(2 * DRAIN_MS - 100)
    assert client.last(GoawayReceived).timeout_ms == 2 * DRAIN_MS
    assert not client.is_closed
    world.run(200)
    assert client.is_closed


def test_a_second_drain_changes_nothing() -> None:
    world = World()
    edge = world.edge("e1")
    _, client = raw_client(world, edge)
    for _ in range(2):
        edge.engine.drain(world.now_us)
        world.run(20)
    assert len(client.found(GoawayReceived)) == 1


def test_clients_that_come_during_a_drain_are_sent_away() -> None:
    world = World()
    edge = world.edge("e1")
    edge.engine.drain(world.now_us)
    _, client = raw_client(world, edge)
    assert (client.closed.code, client.closed.reason) == (SessionCode.NO_ERROR, "edge e1 is going away")


def test_a_client_sent_away_does_not_hammer_the_edge() -> None:
    world = World()
    edge = world.edge("e1")
    viewer = world.viewer(edge, "live/a", "video")
    world.run(200)
    edge.engine.drain(world.now_us)
    world.run(DRAIN_MS + 2_000)
    assert viewer.connects < 20


def test_tracks_of_an_upstream_that_goes_away_move_without_a_gap() -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("", origin))
    world.publisher(origin, "live/a", "video")
    viewer = world.viewer(egress, "live/a", "video")
    world.run(500)
    events_of(viewer)
    before = dict(egress.bindings)
    goaway_from(world, origin)
    world.run(2_000)
    assert egress.connects == 2
    assert track_status(egress)["source_session"] == 3
    assert egress.bindings.keys().isdisjoint(before)
    kinds = [type(c) for c in egress.commands if isinstance(c, Command.BindUpstream | Command.UnbindUpstream)]
    assert kinds == [Command.BindUpstream, Command.BindUpstream, Command.UnbindUpstream]
    assert [type(e) for e in events_of(viewer)] == []
    assert len(egress.downstreams) == 1


def goaway_from(world: World, origin: object) -> None:
    """The origin edge sends GOAWAY on its hops alone, as a load balancer might make it."""
    peers = origin.engine._peers.by_id.values()  # type: ignore[attr-defined]
    for peer in peers:
        if peer.is_hop:
            peer.moqt.goaway()
    origin.engine._pump()  # type: ignore[attr-defined]
    world.run(1)


def test_a_viewer_moves_when_its_edge_sends_it_away() -> None:
    world = World()
    edge = world.edge("e1")
    world.publisher(edge, "live/a", "video")
    viewer = world.viewer(edge, "live/a", "video")
    world.run(500)
    events_of(viewer)
    for peer in edge.engine._peers.by_id.values():
        peer.moqt.goaway()
    edge.engine._pump()
    world.run(3_000)
    assert viewer.connects == 2
    assert TrackReady in [type(e) for e in events_of(viewer)]
    assert len(viewer.bindings) == 1
    assert len(edge.downstreams) == 1


def test_viewers_of_an_edge_that_drains_are_served_until_its_time_is_over() -> None:
    world = World()
    edge = world.edge("e1")
    publisher = world.publisher(edge, "live/a", "video")
    viewer = world.viewer(edge, "live/a", "video")
    world.run(500)
    events_of(viewer)
    events_of(publisher)
    edge.engine.drain(world.now_us)
    world.run(DRAIN_MS - 100)
    assert len(edge.downstreams) == 1
    assert [type(e) for e in (*events_of(viewer), *events_of(publisher))] == []


def test_clients_of_an_edge_that_starts_anew_after_a_drain_go_on() -> None:
    world = World()
    edge = world.edge("e1")
    publisher = world.publisher(edge, "live/a", "video")
    viewer = world.viewer(edge, "live/a", "video")
    world.run(500)
    events_of(viewer)
    edge.engine.drain(world.now_us)
    world.run(DRAIN_MS + 100)
    edge.engine = Agent(AgentConfig(node_id="e1"))
    world.run(15_000)
    assert publisher.engine.state == "established"
    assert TrackReady in [type(e) for e in events_of(viewer)]
