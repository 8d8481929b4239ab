"""The list of edges, which every edge publishes itself."""

from __future__ import annotations

import json

import pytest

from farcast.proto._core import Command
from farcast.proto.agent import TrackTiming
from farcast.proto.agent.local_tracks import CLOCK, CLOCK_US_MAX, EDGE_LIST
from farcast.proto.client.edge_list import EDGE_LIST as WHERE_CLIENTS_LOOK
from farcast.proto.moqt.errors import RequestCode
from farcast.proto.moqt.events import RequestRejected, SubscribeAccepted
from farcast.proto.moqt.parameters import Parameters
from farcast.proto.moqt.values import Filter, FilterKind

from .plans import Plans
from .raw import RawClient, raw_client
from .world import Host, World, namespace

TIMING = TrackTiming()


class Net:
    """Two edges of a plan, with or without a list."""

    def __init__(self, edge_list: str | None = "a.b.c") -> None:
        self.world = World()
        self.edge, self.other = (self.world.planned_edge(name) for name in ("e", "o"))
        self.plans = Plans(self.world, self.edge, self.other)
        self.push(edge_list)
        self.world.run(100)

    def push(self, edge_list: str | None) -> None:
        self.plans.push({"live/a": "o"}, {"e": {"o": ["o"]}, "o": {"e": ["e"]}}, edge_list=edge_list)

    def asks(self, draft: int = 18, filter: Filter | None = None, **parameters: int) -> RawClient:
        _, client = raw_client(self.world, self.edge, drafts=(draft,))
        client.session.subscribe(EDGE_LIST, filter=filter, parameters=Parameters(**parameters))  # type: ignore[arg-type]
        self.world.run(20)
        return client


def published(edge: Host) -> list[tuple[int, bytes]]:
    return [(c.group, c.payload) for c in edge.commands if isinstance(c, Command.Publish)]


def test_clients_look_where_edges_publish_it() -> None:
    assert EDGE_LIST == WHERE_CLIENTS_LOOK


@pytest.mark.parametrize("draft", [16, 18])
def test_any_client_gets_the_newest_list(draft: int) -> None:
    net = Net()
    client = net.asks(draft)
    assert client.found(SubscribeAccepted)
    (downstream,) = net.edge.downstreams.values()
    assert downstream.start == (0, 0)
    assert downstream.forward
    net.push("d.e.f")
    net.world.run(20)
    assert published(net.edge) == [(0, b"a.b.c"), (1, b"d.e.f")]
    assert [d.start for d in net.edge.downstreams.values()] == [(0, 0)]
    late = net.asks(draft)
    assert late.last(SubscribeAccepted).largest == (1, 0)
    assert sorted(d.start for d in net.edge.downstreams.values()) == [(0, 0), (1, 0)]


def test_who_asks_for_what_comes_after_the_largest_object_gets_that_one_too() -> None:
    net = Net()
    net.asks(filter=Filter(FilterKind.LARGEST_OBJECT))
    assert [d.start for d in net.edge.downstreams.values()] == [(0, 0)]


def test_the_same_list_again_is_no_news() -> None:
    net = Net()
    for _ in range(3):
        net.push("a.b.c")
        net.push(None)
    assert published(net.edge) == [(0, b"a.b.c")]


def test_without_a_list_the_subscription_is_refused_or_waits_for_it() -> None:
    net = Net(edge_list=None)
    refused = net.asks()
    assert refused.last(RequestRejected).code is RequestCode.DOES_NOT_EXIST
    waits = net.asks(rendezvous_timeout_ms=20_000)
    assert not waits.found(RequestRejected)
    net.push("a.b.c")
    net.world.run(20)
    assert waits.found(SubscribeAccepted)
    assert net.edge.engine.status(0)["counters"].get("upstream_subscribes", 0) == 0


def test_the_list_stays_when_nobody_reads_it() -> None:
    net = Net()
    client = net.asks()
    client.session.cancel(client.session.open_requests[0])
    client.session.close()
    net.world.run(TIMING.track_linger_ms * 3)
    assert net.asks().found(SubscribeAccepted)
    assert net.edge.count(Command.AddTrack) == 1


@pytest.mark.parametrize("space", [".farcast", ".farcast/x"])
def test_nobody_else_may_publish_there(space: str) -> None:
    net = Net()
    _, client = raw_client(net.world, net.edge)
    client.session.publish_namespace(namespace(space))
    client.session.publish(EDGE_LIST, 7)
    net.world.run(20)
    assert [event.code for event in client.found(RequestRejected)] == [RequestCode.UNAUTHORIZED] * 2
    assert net.edge.engine.offers(0) == ()


def test_who_asks_for_the_clock_is_told_what_it_shows_and_asking_often_costs_nothing() -> None:
    net = Net()
    net.edge.engine.set_wall_clock(net.world.now_us, 1_800_000_000_000_000)
    asked_us = net.world.now_us
    before = len(published(net.edge))
    for _ in range(20):
        _, client = raw_client(net.world, net.edge, drafts=(18,))
        client.session.subscribe(CLOCK)
    net.world.run(20)
    assert client.found(SubscribeAccepted)
    told = published(net.edge)[before:]
    took_us = net.world.now_us - asked_us
    assert 1 <= len(told) <= took_us // CLOCK_US_MAX + 1 < 20
    shown_us = json.loads(told[-1][1])["unix_us"] - 1_800_000_000_000_000
    assert took_us - CLOCK_US_MAX - 40_000 <= shown_us <= took_us
