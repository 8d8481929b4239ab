"""Tracks that move in a network with the round trips of `farcast dev`: what viewers notice of a relay's
death, of edges that stand by for each other, and of a drain.

Links lose nothing here unless a test says so: what a viewer waits for is silence, ways and moves, and no
repair.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest

from farcast.cli.dev_world import RTT_MS
from farcast.proto._core import LinkConfig

from .planned import FRAME_US, SECOND, Network, Watcher

FRAME_MS = FRAME_US // 1_000
NOTICED_MS = 200
RESUMED_MS_MAX = 500
HEARTBEAT_MS = 40

REGIONS = ("jkt", "sin", "dxb", "fra", "lon", "iad")
RTT = {pair: round(p50_ms) for (a, b), (p50_ms, _) in RTT_MS.items() for pair in ((a, b), (b, a))}

Lists = Mapping[str, Sequence[str]]


def one_way_ms(*way: str) -> float:
    """Along these edges."""
    return sum(RTT[pair] for pair in pairwise(way)) / 2


def playing(lists: Lists, seats: Sequence[str], **viewer: Any) -> tuple[Network, dict[str, Watcher]]:
    """A film from Jakarta in six regions, in its sixth second; ``lists``: each edge's upstreams."""
    net = Network(*REGIONS, rtt_ms=RTT)
    net.push({"jkt": {}, **{edge: {"jkt": upstreams} for edge, upstreams in lists.items()}}, directory="jkt")
    net.publish("jkt")
    watchers = {seat: net.watch(seat, at_us=2 * SECOND, **viewer) for seat in seats}
    net.run_until(6 * SECOND)
    assert all(net.source(edge) == lists[edge][0] for edge in seats)
    return net, watchers


def assert_whole(net: Network, watchers: Mapping[str, Watcher]) -> None:
    net.run_for(3)
    for seat, watcher in watchers.items():
        assert watcher.missing() == [], seat
        assert watcher.doubled() == 0, seat
        assert watcher.arrived[-1][0] > net.twin.now_us() - SECOND // 2, seat


def assert_resumed(net: Network, watchers: Mapping[str, Watcher], since_us: int) -> None:
    gaps = {seat: watcher.gap_ms(since_us) for seat, watcher in watchers.items()}
    assert max(gaps.values()) <= RESUMED_MS_MAX, gaps
    assert_whole(net, watchers)


# --- deaths -----------------------------------------------------------------------------------------

THROUGH_SIN: dict[str, Lists] = {
    "the standby has the same parent": {
        "sin": ["jkt"],
        "dxb": ["sin", "jkt"],
        "fra": ["sin", "dxb", "jkt"],
        "lon": ["fra", "dxb", "jkt"],
    },
    "the standby is fed by the parent": {
        "sin": ["jkt"],
        "dxb": ["sin", "fra", "jkt"],
        "fra": ["sin", "jkt"],
        "lon": ["sin", "fra", "jkt"],
    },
    "three in a circle": {
        "sin": ["jkt"],
        "dxb": ["sin", "fra", "jkt"],
        "fra": ["sin", "lon", "jkt"],
        "lon": ["sin", "dxb", "jkt"],
    },
    "two for each other": {
        "sin": ["jkt"],
        "dxb": ["sin", "fra", "jkt"],
        "fra": ["sin", "dxb", "jkt"],
        "lon": ["fra", "sin", "jkt"],
    },
}


@pytest.mark.parametrize("lists", THROUGH_SIN.values(), ids=THROUGH_SIN.keys())
@pytest.mark.parametrize("seats", [("fra",), ("dxb", "fra", "lon")], ids=["one seat", "all seats"])
def test_a_relay_that_feeds_parents_and_standbys_alike_dies_and_nobody_waits_in_vain(
    lists: Lists, seats: tuple[str, ...]
) -> None:
    net, watchers = playing(lists, seats)
    before = net.twin.now_us()
    net.kill("sin")
    net.run_for(4)
    assert_resumed(net, watchers, before)
    for seat in seats:
        alarms = [switch for switch in net.switches(seat) if switch["cause"] == "silent"]
        for switch in alarms:
            assert switch["silent_us"] <= (NOTICED_MS + HEARTBEAT_MS) * 1_000


@pytest.mark.parametrize("lists", THROUGH_SIN.values(), ids=THROUGH_SIN.keys())
def test_the_link_behind_a_relay_is_cut_and_its_children_leave_it_when_they_are_told(lists: Lists) -> None:
    """The relay itself lives and is heard: it has no other upstream than the origin."""
    net, watchers = playing(lists, ("dxb", "fra", "lon"))
    before = net.twin.now_us()
    net.cut("jkt", "sin")
    net.run_for(4)
    assert_resumed(net, watchers, before)


def test_a_standby_that_nobody_is_fed_by_finds_itself_another_upstream() -> None:
    net, watchers = playing(THROUGH_SIN["the standby has the same parent"], ("fra",))
    assert net.standbys("dxb") == [], "nobody is fed by it"
    net.cut("sin", "dxb")
    net.run_for(1)
    assert net.source("dxb") == "jkt"
    assert net.standbys("dxb") == []
    assert_whole(net, watchers)


# --- drains -----------------------------------------------------------------------------------------

TREE: Lists = {
    "sin": ["jkt"],
    "dxb": ["sin", "jkt"],
    "fra": ["sin", "dxb", "jkt"],
    "lon": ["fra", "dxb", "jkt"],
    "iad": ["lon", "fra", "jkt"],
}
SEATS = ("dxb", "fra", "lon", "iad")


def longer_ms(lists: Lists, before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]) -> float:
    """By how much ways became longer, where they did most."""
    return max(0.0, *(one_way_ms(*after[seat]) - one_way_ms(*before[seat]) for seat in before))


def ways(net: Network, seats: Sequence[str]) -> dict[str, list[str]]:
    return {seat: [*net.status(seat)["tracks"][0]["route"], seat] for seat in seats}


@pytest.mark.parametrize("relay", ["sin", "fra", "lon"])
@pytest.mark.parametrize("at_ms", [0, 313, 701])
def test_of_a_draining_relay_viewers_notice_no_more_than_that_the_new_way_is_longer(
    relay: str, at_ms: int
) -> None:
    seats = [seat for seat in SEATS if seat != relay]
    net, watchers = playing(TREE, seats)
    net.run_for(at_ms / 1_000)
    old, before = ways(net, seats), net.twin.now_us()
    net.agents[relay].drain(before, 8_000)
    net.run_for(4)
    assert relay not in {net.source(seat) for seat in seats}
    gap = max(watcher.gap_ms(before) for watcher in watchers.values())
    assert gap <= longer_ms(TREE, old, ways(net, seats)) + 2 * FRAME_MS
    assert_whole(net, watchers)


def test_a_drain_that_finds_no_standby_bound_waits_for_one_and_breaks_nothing() -> None:
    net, watchers = playing(TREE, SEATS)
    before = net.twin.now_us()
    net.kill("dxb")
    net.agents["sin"].drain(before, 8_000)
    net.run_for(4)
    rest = {seat: watcher for seat, watcher in watchers.items() if seat != "dxb"}
    assert max(watcher.gap_ms(before) for watcher in rest.values()) <= 2 * FRAME_MS
    assert_whole(net, rest)


def test_a_plan_without_the_draining_relay_that_comes_in_the_midst_of_it_breaks_nothing() -> None:
    for after_ms in (0, 40, 90, 180, 300):
        net, watchers = playing(TREE, SEATS)
        before = net.twin.now_us()
        net.agents["sin"].drain(before, 8_000)
        net.run_for(after_ms / 1_000)
        lists = {"dxb": ["jkt", "fra"], "fra": ["jkt", "dxb"], "lon": ["fra", "jkt"], "iad": ["lon", "jkt"]}
        net.push({"jkt": {}, **{e: {"jkt": ups} for e, ups in lists.items()}, "sin": {"jkt": ["jkt"]}}, "jkt")
        net.run_for(4)
        assert max(watcher.gap_ms(before) for watcher in watchers.values()) <= 3 * FRAME_MS
        assert_whole(net, watchers)


@pytest.mark.parametrize(("edge", "other"), [("fra", "iad"), ("dxb", "lon"), ("fra", "sin")])
def test_viewers_of_a_draining_edge_notice_no_more_than_that_the_new_way_is_longer(
    edge: str, other: str
) -> None:
    """The other edge does not have the film before they come."""
    lists = {**TREE, "lon": ["dxb", "jkt"], "iad": ["jkt"]}
    net, watchers = playing(lists, (edge,), others=(other,))
    before = net.twin.now_us()
    net.agents[edge].drain(before, 8_000)
    net.run_for(4)
    way = [*net.status(other)["tracks"][0]["route"], other]
    longer = max(0.0, one_way_ms(*way) - one_way_ms(*lists_way(lists, edge)))
    assert watchers[edge].gap_ms(before) <= longer + 2 * FRAME_MS
    assert_whole(net, watchers)


def lists_way(lists: Lists, edge: str) -> list[str]:
    way = [edge]
    while way[0] != "jkt":
        way.insert(0, lists[way[0]][0])
    return way


def test_on_lossy_links_a_drain_adds_nothing_to_what_repairs_cost_anyway() -> None:
    """Jakarta to Frankfurt loses 2 % in runs of three: a picture that is repaired is a round trip late."""
    for drains in (False, True):
        net, watchers = playing({**TREE, "fra": ["sin", "jkt"]}, ("fra",))
        lossy = LinkConfig(delay_us=RTT["jkt", "fra"] * 500, loss=0.02, loss_burst=3.0)
        for ends in (("jkt", "fra"), ("fra", "jkt")):
            net.twin.world.set_link(net.hosts[ends[0]], net.hosts[ends[1]], lossy)
        before = net.twin.now_us()
        if drains:
            net.agents["sin"].drain(before, 8_000)
        else:
            lists = {**TREE, "fra": ["jkt", "sin"]}
            net.push({"jkt": {}, **{edge: {"jkt": ups} for edge, ups in lists.items()}}, "jkt")
        net.run_for(5)
        assert net.source("fra") == "jkt"
        assert watchers["fra"].gap_ms(before) <= RTT["jkt", "fra"] + 4 * FRAME_MS
        assert_whole(net, watchers)
