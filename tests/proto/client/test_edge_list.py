"""The edge list: what is taken, and what is refused in one sentence."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
from edge_lists import edge_list, token
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto._core import Event
from farcast.proto.client.edge_list import (
    EDGE_LIST,
    EDGE_LIST_BYTES_MAX,
    BadEdgeList,
    parse_edge_list,
)
from farcast.proto.client.events import EdgeListRefused, EdgesListed
from farcast.proto.moqt.errors import RequestCode
from farcast.proto.moqt.events import RequestCancelled, SubscribeRequested

from ..agent.raw import RawClient
from ..agent.world import Host, World, events_of

SIN = {"node_id": "sin-1", "region": "sin", "url": "moqt://sin-1.example:443", "draining": False}
SIN_2 = {"node_id": "sin-2", "region": "sin", "url": "https://sin-2.example/"}
FRA = {"node_id": "fra-1", "region": "fra", "url": "moqt://fra-1.example:443", "draining": False}


def test_edges_come_as_listed_and_near_ones_first() -> None:
    found = parse_edge_list(edge_list(FRA, SIN, SIN_2 | {"draining": True}))
    assert [edge.node_id for edge in found.edges] == ["fra-1", "sin-1", "sin-2"]
    near = found.seen_from("sin-1.example:443")
    assert [edge.node_id for edge in near] == ["sin-1", "fra-1", "sin-2"], "a draining one comes last"
    assert near[0].url.authority == "sin-1.example:443"


def test_what_a_newer_control_plane_adds_is_ignored() -> None:
    assert parse_edge_list(edge_list(SIN | {"capacity": 7})).edges[0].node_id == "sin-1"


@pytest.mark.parametrize(
    ("given_token", "fault"),
    [
        (b"x" * (EDGE_LIST_BYTES_MAX + 1), "more than 262144"),
        (b"only.two", "no compact JWS, it has 2 parts"),
        (b"e30.!!!.c2ln", "edge list: "),
        (token(b"[]"), "Expected `object`"),
        (token(b"\xff"), "edge list: "),
        (token({"edges": []}), "issued_unix_us"),
        (edge_list(SIN, issued_unix_us=-1), "issued_unix_us is negative"),
        (edge_list(SIN | {"node_id": "Sin 1"}), "edges[0].node_id: 'Sin 1'"),
        (edge_list(SIN, FRA | {"region": ""}), "edges[1].region: ''"),
        (edge_list(SIN | {"url": "http://sin"}), "edges[0].url: 'http://sin': scheme 'http' is not known"),
        (edge_list(SIN | {"url": "farcast://sin:1"}), "is a hop"),
        (edge_list(SIN | {"url": "moqt://" + "a" * 600}), "longer than 512"),
        (edge_list(SIN | {"draining": "yes"}), "draining"),
        (edge_list(*[SIN] * 1_025), "1025 edges, more than 1024"),
    ],
)
def test_a_faulty_list_is_refused_as_a_whole_with_its_fault(given_token: bytes, fault: str) -> None:
    with pytest.raises(BadEdgeList, match=re.escape(fault)):
        parse_edge_list(given_token)


@given(st.binary(max_size=300) | st.binary(max_size=300).map(token) | st.text().map(lambda t: token(t)))
def test_nothing_an_edge_sends_makes_the_parser_fail_otherwise(data: bytes) -> None:
    with contextlib.suppress(BadEdgeList):
        parse_edge_list(data)


# --- following it at an edge ---------------------------------------------------------------------


def at_an_edge(**options: Any) -> tuple[World, Host, RawClient]:
    world = World()
    edge = RawClient(None, implementation=options.pop("implementation", "farcast/0.1"))
    viewer = world.viewer(world.add("edge", edge), "live/a", follow_edge_list=True)
    world.run(20)
    return world, viewer, edge


def serve(world: World, edge: RawClient, alias: int = 3) -> None:
    edge.session.accept_subscribe(edge.last(SubscribeRequested).request, alias)
    world.run(20)


def test_each_newer_list_is_told_and_an_older_one_is_not() -> None:
    world, viewer, edge = at_an_edge()
    assert edge.last(SubscribeRequested).name == EDGE_LIST
    serve(world, edge)
    (sink,) = viewer.sinks
    for issued_unix_us in (5, 4, 6):
        world.post(
            viewer, Event.Object(sink, issued_unix_us, 0, 0, edge_list(SIN, issued_unix_us=issued_unix_us))
        )
    world.run(20)
    told = [event for event in events_of(viewer) if isinstance(event, EdgesListed)]
    assert [event.edges.issued_unix_us for event in told] == [5, 6]


def test_a_list_that_cannot_be_used_is_told_and_the_next_one_is_taken() -> None:
    world, viewer, edge = at_an_edge()
    serve(world, edge)
    (sink,) = viewer.sinks
    world.post(viewer, Event.Object(sink, 1, 0, 0, b"nonsense"))
    world.post(viewer, Event.Object(sink, 2, 0, 0, edge_list(SIN)))
    world.run(20)
    refused, told = events_of(viewer)[-2:]
    assert refused == EdgeListRefused("edge list: no compact JWS, it has 1 parts")
    assert isinstance(told, EdgesListed)


def test_an_edge_without_a_list_is_not_asked_again() -> None:
    world, viewer, edge = at_an_edge()
    edge.session.reject(edge.last(SubscribeRequested).request, RequestCode.DOES_NOT_EXIST)
    world.run(60_000)
    assert len(edge.found(SubscribeRequested)) == 1
    assert viewer.holds_nothing()


def test_only_edges_of_ours_are_asked() -> None:
    _, _, relay = at_an_edge(implementation="some-relay/1")
    assert relay.found(SubscribeRequested) == []


def test_closing_leaves_nothing_of_it() -> None:
    world, viewer, edge = at_an_edge()
    serve(world, edge)
    viewer.engine.close(world.now_us)
    world.run(20)
    assert viewer.holds_nothing()
    assert edge.found(RequestCancelled) == []
