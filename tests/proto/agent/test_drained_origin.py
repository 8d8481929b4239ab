"""A drain of the edge that a publisher is connected to: the publisher first, edges after it, viewers last."""

from __future__ import annotations

from typing import Any

import pytest

from farcast.proto.agent import TrackTiming
from farcast.proto.client.events import Disconnected, Moved, TrackEnded
from farcast.proto.moqt.events import GoawayReceived
from farcast.proto.moqt.names import FullTrackName

from .plans import Plans, fed_by, session_to, source_of
from .raw import RawClient, raw_client
from .world import Host, World, events_of, namespace

TIMING = TrackTiming()
DRAIN_MS = 10_000
HURRY_MS = DRAIN_MS - TIMING.drain_children_ms
ROUTES = {
    "e": {"o": ["o", "n"], "n": ["n", "o"]},
    "n": {"o": ["o", "e"], "e": ["e", "o"]},
    "o": {"n": ["n", "e"], "e": ["e", "n"]},
}


class Net:
    """A publisher at ``o``, to be drained; ``n``, the next edge, and ``e`` have a viewer each."""

    def __init__(self, *, may_move: bool = True) -> None:
        self.world = World()
        self.o, self.n, self.e = (self.world.planned_edge(name) for name in "one")
        self.plans = Plans(self.world, self.o, self.n, self.e)
        self.publisher = self.publish(may_move=may_move)
        self.plan("o")
        self.world.run(200)
        self.viewers = [self.world.viewer(edge, "live/a", "video") for edge in (self.n, self.e)]
        self.world.run(500)
        for host in (*self.viewers, self.publisher):
            events_of(host)

    def publish(self, space: str = "live/a", *, may_move: bool) -> Host:
        others = (self.n,) if may_move else ()
        return self.world.publisher(self.o, space, "video", others=others)

    def plan(self, show: str) -> None:
        """The plan that has the show at an edge."""
        self.plans.push({"live/a": show, "live/b": "o"}, ROUTES)

    def client(self, **options: Any) -> RawClient:
        _, client = raw_client(self.world, self.o, **options)
        return client

    def drain(self, ms: int = 0, next_url: str = "https://n.example/live") -> None:
        self.o.engine.drain(self.world.now_us, DRAIN_MS, next_url)
        self.world.run(ms)

    def sent_away(self, edge: Host) -> bool:
        """Whether an edge has heard from ``o`` that it goes."""
        return bool(edge.engine.counters["upstream_goaways"])

    def lost(self) -> list[object]:
        """What viewers and publishers noticed of it all."""
        hosts = (*self.viewers, self.publisher)
        return [e for host in hosts for e in events_of(host) if isinstance(e, TrackEnded | Disconnected)]


def test_publishers_are_sent_away_at_once_and_in_the_words_of_their_transport() -> None:
    net = Net()
    announcing, publishing, watching = net.client(), net.client(kind="webtransport"), net.client()
    announcing.session.publish_namespace(namespace("live/b"))
    publishing.session.publish(FullTrackName.of("live/c", "video"), alias=1)
    watching.session.subscribe(FullTrackName.of("live/a", "video"))
    net.world.run(50)
    net.drain(5)
    uris = [client.found(GoawayReceived)[0].uri for client in (announcing, publishing)]
    assert uris == ["moqt://n.example:443/live", "https://n.example:443/live"]
    assert watching.found(GoawayReceived) == []


@pytest.mark.parametrize("next_url", ["https://n.example/live", "", "nonsense"])
def test_edges_are_held_until_they_have_followed_the_publisher(next_url: str) -> None:
    net = Net()
    viewer = net.client()
    viewer.session.subscribe(FullTrackName.of("live/a", "video"))
    net.world.run(50)
    net.drain(2_000, next_url)
    assert Moved in [type(event) for event in events_of(net.publisher)]
    assert (source_of(net.e), source_of(net.n)) == ("o", "o")
    assert not any(map(net.sent_away, (net.e, net.n)))
    net.plan("n")
    net.world.run(100)
    assert (source_of(net.e), source_of(net.n)) == ("n", "publisher")
    assert all(map(net.sent_away, (net.e, net.n)))
    assert viewer.found(GoawayReceived), "viewers follow when no edge is fed from here"
    net.world.run(DRAIN_MS)
    assert net.lost() == []


def test_a_publisher_that_stays_holds_no_edge_that_takes_nothing_of_it() -> None:
    net = Net()
    net.publish("live/b", may_move=False)
    net.world.viewer(net.o, "live/b", "video")
    net.world.run(200)
    net.drain(2_000)
    assert not any(map(net.sent_away, (net.e, net.n)))
    net.plan("n")
    net.world.run(100)
    assert all(map(net.sent_away, (net.e, net.n)))


@pytest.mark.parametrize("with_rival", [False, True], ids=["alone", "of two"])
def test_a_publisher_that_stays_is_served_to_the_end_and_so_are_the_edges_that_need_it(
    with_rival: bool,
) -> None:
    net = Net(may_move=False)
    if with_rival:
        net.publish(may_move=True)
        net.world.run(TIMING.takeover_ms // 2)
        net.o.media(net.o.only_track(), 7, 0)
        net.world.run(TIMING.takeover_ms)
    net.drain(DRAIN_MS - 200)
    assert (source_of(net.e), source_of(net.n)) == ("o", "o")
    assert not any(map(net.sent_away, (net.e, net.n)))
    assert net.lost() == []
    net.world.run(400)
    assert net.o.engine.is_drained


def test_viewers_do_not_wait_longer_than_a_start_for_a_publisher_that_stays() -> None:
    net = Net(may_move=False)
    viewer = net.client()
    viewer.session.subscribe(FullTrackName.of("live/a", "video"))
    net.world.run(50)
    start_ms = min(TIMING.drain_publishers_ms + TIMING.drain_children_ms, DRAIN_MS // 2)
    net.drain(start_ms - 50)
    assert viewer.found(GoawayReceived) == []
    net.world.run(100)
    assert len(viewer.found(GoawayReceived)) == 1


def test_without_any_plan_for_it_edges_find_the_publisher_where_it_is_now_before_the_end() -> None:
    net = Net()
    net.drain(HURRY_MS - 100)
    assert not any(map(net.sent_away, (net.e, net.n)))
    net.world.run(300)
    assert (source_of(net.e), source_of(net.n)) == ("n", "publisher")
    net.world.run(DRAIN_MS)
    assert source_of(net.e) == "n"
    assert fed_by(net.n) == ["e", "viewer"]
    assert net.lost() == []


def test_a_publisher_that_comes_where_the_upstream_is_going_away_is_taken() -> None:
    net = Net(may_move=False)
    net.plans.push({"live/a": "o"}, {"n": {"o": ["o"]}}, to=[net.n])
    net.o.is_listening = False
    net.o.engine._peers.get(net.n.wires[session_to(net.n, net.o)].ends[net.o]).moqt.goaway()
    net.o.engine._pump()
    net.world.run(50)
    assert source_of(net.n) == "o"
    net.world.publisher(net.n, "live/a", "video")
    net.world.run(100)
    assert source_of(net.n) == "publisher"
