"""A drain in a network: the edges below first, then clients, who are told where to go."""

from __future__ import annotations

from typing import Any

from farcast.proto._core import Command
from farcast.proto.agent import TrackTiming
from farcast.proto.client.events import TrackEnded
from farcast.proto.moqt.errors import SessionCode
from farcast.proto.moqt.events import GoawayReceived
from farcast.proto.moqt.names import FullTrackName

from .plans import Plans, fed_by, source_of
from .raw import RawClient, raw_client
from .world import World, events_of

TIMING = TrackTiming()


class Net:
    """Origin ``o``, relays ``r`` and ``s``, egress ``e`` with a viewer, and clients at ``r``."""

    def __init__(self, upstreams: tuple[str, ...] = ("r", "s"), **clients: Any) -> None:
        self.world = World()
        self.edges = {name: self.world.planned_edge(name) for name in ("o", "r", "s", "e")}
        self.r, self.e = self.edges["r"], self.edges["e"]
        plans = Plans(self.world, *self.edges.values())
        self.world.publisher(self.edges["o"], "live/a", "video")
        plans.push({"live/a": "o"}, {"e": {"o": upstreams}, "r": {"o": ["o"]}, "s": {"o": ["o"]}})
        self.world.run(200)
        self.viewer = self.world.viewer(self.e, "live/a", "video")
        self.clients = [self.client(), self.client(kind="webtransport")]
        self.world.run(500)

    def client(self, kind: str = "quic") -> RawClient:
        _, client = raw_client(self.world, self.r, kind=kind)
        client.session.subscribe(FullTrackName.of("live/a", "video"))
        return client

    def told(self) -> list[GoawayReceived]:
        return [event for client in self.clients for event in client.found(GoawayReceived)]

    def drain(self, next_url: str = "https://s.example/live") -> None:
        self.r.engine.drain(self.world.now_us, 10_000, next_url)


def test_clients_are_sent_away_when_the_edges_below_have_moved() -> None:
    net = Net()
    net.drain()
    net.world.run(2)
    assert net.told() == []
    net.world.run(50)
    assert (source_of(net.e), fed_by(net.r)[:1]) == ("s", ["raw"])
    assert len(net.told()) == 2
    assert all(9_900 <= (event.timeout_ms or 0) <= 10_000 for event in net.told())


def test_clients_are_told_the_next_edge_in_the_words_of_their_transport() -> None:
    net = Net()
    net.drain()
    net.world.run(100)
    uris = [event.uri for event in net.told()]
    assert uris == ["moqt://s.example:443/live", "https://s.example:443/live"]


def test_without_a_next_edge_or_with_one_that_is_none_clients_find_their_own_way() -> None:
    for url in ("", "nonsense", "farcast://s.example", "https://"):
        net = Net()
        net.drain(url)
        net.world.run(100)
        assert [event.uri for event in net.told()] == ["", ""]


def test_clients_do_not_wait_longer_than_a_start_for_edges_that_cannot_move() -> None:
    net = Net(upstreams=("r",))
    for name in ("s", "o"):
        for session in [s for s, wire in net.e.wires.items() if wire.other(net.e).name == name]:
            net.e.crash(session)
        net.edges[name].is_listening = False
    net.drain()
    net.world.run(TIMING.drain_children_ms - 100)
    assert net.told() == []
    net.world.run(200)
    assert len(net.told()) == 2
    assert source_of(net.e) == "r", "it is served until the end"


def test_an_edge_without_edges_below_sends_its_clients_away_at_once() -> None:
    net = Net()
    net.e.engine.drain(net.world.now_us, 10_000)
    net.world.run(5)
    _, late = raw_client(net.world, net.e)
    assert late.closed.code == SessionCode.NO_ERROR
    assert not net.e.engine.is_drained
    assert len(net.e.downstreams) == 1


def test_a_standby_at_an_edge_that_drains_is_no_reason_to_wait() -> None:
    net = Net()
    net.edges["s"].engine.drain(net.world.now_us, 10_000)
    net.world.run(10)
    assert net.edges["s"].engine.is_drained


def test_what_is_left_is_closed_at_the_bound() -> None:
    net = Net()
    net.drain()
    net.world.run(10_050)
    assert [client.closed.code for client in net.clients] == [SessionCode.GOAWAY_TIMEOUT] * 2
    assert net.r.engine.is_drained


def test_viewers_below_notice_nothing_of_all_this() -> None:
    net = Net()
    events_of(net.viewer)
    net.drain()
    net.world.run(15_000)
    assert TrackEnded not in [type(event) for event in events_of(net.viewer)]
    assert net.e.count(Command.AddDownstream) == 1
