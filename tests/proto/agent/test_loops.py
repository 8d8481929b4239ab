"""Edges that point at each other never forward in a circle."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto._core import Command
from farcast.proto.agent.routes import (
    HOP_ROUTE,
    Route,
    attach_route,
    detach_route,
    obstacle_in_path,
    obstacle_in_route,
)
from farcast.proto.client.events import TrackEnded, TrackReady
from farcast.proto.moqt.errors import RequestCode
from farcast.proto.moqt.events import RequestRejected, SubscribeAccepted, SubscribeRequested
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.moqt.parameters import Parameters
from farcast.proto.properties import Property

from .raw import RawClient, raw_client
from .world import Host, World, events_of, track_status


def pair() -> tuple[World, Host, Host]:
    """Two edges, each the other's upstream for everything."""
    world = World()
    one = world.edge("e1", ("", "10.0.0.2:4433"))
    two = world.edge("e2", ("", one))
    return world, one, two


def ring(size: int) -> tuple[World, list[Host]]:
    """Each edge is the upstream of the one before it."""
    world = World()
    addresses = [f"10.0.0.{n + 1}:4433" for n in range(size)]
    return world, [world.edge(f"e{n}", ("", addresses[(n + 1) % size])) for n in range(size)]


def subscribes(*edges: Host) -> list[int]:
    return [edge.engine.status(edge.world.now_us)["counters"].get("upstream_subscribes", 0) for edge in edges]


def test_a_track_nobody_has_is_asked_for_once_around() -> None:
    world, one, two = pair()
    _, viewer = raw_client(world, one)
    viewer.session.subscribe(FullTrackName.of("live/a", "video"))
    world.run(500)
    rejected = viewer.last(RequestRejected)
    assert rejected.code is RequestCode.DOES_NOT_EXIST
    assert "circle" in rejected.reason
    assert sum(subscribes(one, two)) <= 2
    assert (one.tracks, two.tracks) == ({}, {})


def test_viewers_at_both_edges_of_a_track_nobody_has_are_refused() -> None:
    world, one, two = pair()
    clients = [raw_client(world, edge)[1] for edge in (one, two)]
    for client in clients:
        client.session.subscribe(FullTrackName.of("live/a", "video"))
    world.run(7_000)
    assert [client.last(RequestRejected).code for client in clients] == [RequestCode.DOES_NOT_EXIST] * 2
    assert one.engine.status(world.now_us)["tracks"] == two.engine.status(world.now_us)["tracks"] == []


@pytest.mark.parametrize("size", [3, 4, 6])
def test_a_ring_of_edges_refuses_what_nobody_has(size: int) -> None:
    world, edges = ring(size)
    _, viewer = raw_client(world, edges[0])
    viewer.session.subscribe(FullTrackName.of("live/a", "video"))
    world.run(3_000)
    assert viewer.last(RequestRejected).code is RequestCode.DOES_NOT_EXIST
    assert sum(subscribes(*edges)) <= size


def test_each_of_two_edges_gets_what_the_other_has() -> None:
    world, one, two = pair()
    for edge, other in ((one, two), (two, one)):
        world.publisher(edge, f"live/{edge.name}", "video")
        viewer = world.viewer(other, f"live/{edge.name}", "video")
        world.run(1_000)
        assert any(isinstance(e, TrackReady) for e in events_of(viewer))


def test_an_edge_that_lost_its_publisher_is_not_fed_by_its_own_viewers() -> None:
    world, one, two = pair()
    publisher = world.publisher(one, "live/a", "video")
    viewers = [world.viewer(edge, "live/a", "video") for edge in (one, two)]
    world.run(1_000)
    publisher.engine.close(world.now_us)
    world.run(1_000)
    assert track_status(one)["phase"] == "grace"
    world.run(20_000)
    assert one.tracks == two.tracks == {}
    assert all(any(isinstance(e, TrackEnded) for e in events_of(v)) for v in viewers)


@pytest.mark.parametrize("size", [3, 5])
def test_a_ring_whose_publisher_died_does_not_feed_itself(size: int) -> None:
    world, edges = ring(size)
    publisher = world.publisher(edges[0], "live/a", "video")
    for edge in reversed(edges):
        world.viewer(edge, "live/a", "video")
    world.run(2_000)
    assert all(track_status(edge)["phase"] == "live" for edge in edges)
    publisher.engine.close(world.now_us)
    world.run(2_000)
    assert track_status(edges[0])["source"] is None
    world.run(40_000)
    assert [edge.tracks for edge in edges] == [{}] * size


def test_an_edge_that_finds_itself_on_the_path_says_so() -> None:
    world = World()
    edge = world.edge("e1")
    _, hop = raw_client(world, edge, "e2", kind="hop", node_id="e2")
    world.publisher(edge, "live/a", "video")
    world.run(50)
    hop.session.subscribe(
        FullTrackName.of("live/a", "video"), parameters=Parameters(hop_path=("e1", "e3", "e2"))
    )
    world.run(50)
    assert hop.last(RequestRejected).reason == "circle: e1 is already on the way e1 > e3 > e2"


def test_a_path_of_many_nodes_is_refused_instead_of_overflowing() -> None:
    world = World()
    origin = world.edge("e1")
    edge = world.edge("e2", ("", origin))
    _, hop = raw_client(world, edge, "e3", kind="hop", node_id="e3")
    path = tuple(f"n{i}" for i in range(16))
    hop.session.subscribe(FullTrackName.of("live/a", "video"), parameters=Parameters(hop_path=path))
    hop.session.subscribe_namespace(
        FullTrackName.of("live", "").namespace, parameters=Parameters(hop_path=path)
    )
    world.run(100)
    assert [event.reason.split(":")[0] for event in hop.found(RequestRejected)] == ["too many hops"] * 2


def test_an_edge_connected_to_itself_is_refused() -> None:
    world = World()
    edge = world.edge("e1")
    _, itself = raw_client(world, edge, "e1", kind="hop", node_id="e1")
    assert itself.closed.reason == "both ends of this hop are e1"


def test_an_answer_whose_route_leads_through_us_is_not_taken() -> None:
    world = World()
    edge = world.edge("e1", ("", "10.0.0.2:4433"))
    lying = _LyingEdge(("x", "e1", "e2"))
    world.add("e2", lying)
    _, viewer = raw_client(world, edge)
    viewer.session.subscribe(FullTrackName.of("live/a", "video"))
    world.run(200)
    assert viewer.last(RequestRejected).code is RequestCode.DOES_NOT_EXIST
    assert not viewer.found(SubscribeAccepted)
    assert edge.count(Command.BindUpstream) == 0


class _LyingEdge(RawClient):
    """Accepts every SUBSCRIBE of a hop with a route of the test's making."""

    def __init__(self, route: tuple[str, ...]) -> None:
        super().__init__(None, node_id="e2")
        self._properties = attach_route((), Route("1.1", route))

    def handle_event(self, event: Any, now_us: int) -> None:
        super().handle_event(event, now_us)
        for asked in self.found(SubscribeRequested):
            self.session.accept_subscribe(asked.request, 1, track_properties=self._properties)
        self.events.clear()


nodes = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1), max_size=16
)


@given(nodes, st.text("0123456789abcdef.", min_size=1))
def test_routes_survive_the_property(route: list[str], incarnation: str) -> None:
    others = (Property(0x02, 5), Property(0x0B, b"x"))
    sent = attach_route(others, Route(incarnation, tuple(route)))
    assert detach_route(sent) == (others, Route(incarnation, tuple(route)))


@given(st.binary(max_size=5_000) | st.integers(0, 2**62 - 1))
def test_any_route_property_is_read_without_an_error(value: bytes | int) -> None:
    rest, route = detach_route((Property(HOP_ROUTE, value), Property(0x02, 5)))
    assert rest == (Property(0x02, 5),)
    assert len(route.nodes) <= 16


def test_obstacles_name_the_node_and_the_way() -> None:
    assert obstacle_in_path((), "a") is None
    assert obstacle_in_path(("b", "c"), "a") is None
    assert obstacle_in_path(("b", "a"), "a") == "circle: a is already on the way b > a"
    assert obstacle_in_route(("b",), ("a", "b")) == "circle: the track comes through b, which asks for it"
    assert obstacle_in_route((), ("a", "b")) is None
