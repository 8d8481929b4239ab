"""Plans, standbys, moves and drains over the real datapath: no object lost, none doubled."""

from __future__ import annotations

from typing import Any

import pytest

from farcast.edge.assembly import probe_intervals
from farcast.proto.control.edge_plan import Refused
from farcast.proto.control.messages import Epoch, PlanVersion, RouteEntry

from .planned import SECOND, Network

ROUTES = {"e": {"o": ["r", "s", "o"]}, "r": {"o": ["o", "s"]}, "s": {"o": ["o", "r"]}, "o": {}}
GAP_MS_MAX = 500
"""Of media, after a failure in mid-tree with a live standby."""

DRAIN_GAP_MS_MAX = 183


def playing(**options: Any) -> tuple[Network, Any]:
    """A film from ``o``, by relay ``r``, to a viewer at ``e``; ``s`` stands by."""
    net = Network("o", "r", "s", "e", **options)
    net.push(ROUTES)
    net.publish("o")
    viewer = net.watch("e", at_us=2 * SECOND)
    net.run_until(5 * SECOND)
    assert (net.source("e"), net.standbys("e")) == ("r", ["s"])
    assert viewer.arrived
    return net, viewer


def assert_whole(net: Network, viewer: Any) -> None:
    net.run_for(3)
    assert viewer.missing() == []
    assert viewer.doubled() == 0
    assert viewer.arrived[-1][0] > net.twin.now_us() - SECOND // 4


def test_a_film_goes_the_way_of_the_plan() -> None:
    net, viewer = playing()
    assert_whole(net, viewer)
    assert net.switches("e") == []


@pytest.mark.parametrize("one_way", [False, True], ids=["both ways", "one way"])
def test_a_cut_link_is_left_for_the_standby_and_nothing_is_lost(one_way: bool) -> None:
    net, viewer = playing()
    before = net.twin.now_us()
    net.cut("r", "e", one_way=one_way)
    net.run_for(3)
    assert net.source("e") == "s"
    assert_whole(net, viewer)
    (switch,) = net.switches("e")
    assert (switch["cause"], switch["from"], switch["to"]) == ("silent", "r", "s")
    assert switch["gap_us"] <= GAP_MS_MAX * 1_000
    assert viewer.gap_ms(before) <= GAP_MS_MAX
    assert net.standbys("e") == ["o"]


def test_the_way_back_alone_cut_is_noticed_too() -> None:
    net, viewer = playing()
    net.cut("e", "r", one_way=True)
    net.run_for(3)
    assert net.source("e") == "s"
    assert_whole(net, viewer)


def test_a_killed_relay_costs_viewers_nothing_but_a_moment() -> None:
    net, viewer = playing()
    before = net.twin.now_us()
    net.kill("r")
    net.run_for(8)
    assert net.source("e") == "s"
    assert viewer.gap_ms(before) <= GAP_MS_MAX
    assert_whole(net, viewer)


def test_two_relays_killed_one_after_the_other_leave_the_origin() -> None:
    net, viewer = playing()
    before = net.twin.now_us()
    net.kill("r")
    net.run_for(1.5)
    net.kill("s")
    net.run_for(3)
    assert net.source("e") == "o"
    assert viewer.gap_ms(before) <= GAP_MS_MAX
    assert_whole(net, viewer)


def test_a_relay_that_loses_its_parent_takes_its_own_standby_and_its_children_notice_nothing() -> None:
    net, viewer = playing()
    before = net.twin.now_us()
    net.cut("o", "r")
    net.run_for(5)
    assert (net.source("r"), net.source("e")) == ("s", "r")
    assert viewer.gap_ms(before) <= GAP_MS_MAX
    assert_whole(net, viewer)
    assert net.status("e")["tracks"][0]["route"] == ["o", "s", "r"]


def test_a_mended_link_is_taken_again_later_without_a_gap() -> None:
    net, viewer = playing()
    net.cut("r", "e")
    net.run_for(2)
    net.cut("r", "e", up=True)
    before = net.twin.now_us()
    net.run_for(20)
    assert (net.source("e"), net.standbys("e")) == ("r", ["s"])
    assert viewer.gap_ms(before) < 100
    assert_whole(net, viewer)


def test_a_plan_with_another_parent_moves_the_track_without_a_gap() -> None:
    net, viewer = playing()
    before = net.twin.now_us()
    net.push({**ROUTES, "e": {"o": ["o", "r", "s"]}})
    net.run_for(2)
    assert (net.source("e"), net.standbys("e")) == ("o", ["r"])
    net.push({**ROUTES, "e": {"o": ["s", "o"]}})
    net.run_for(2)
    assert (net.source("e"), net.standbys("e")) == ("s", ["o"])
    assert viewer.gap_ms(before) < 100
    assert [switch["cause"] for switch in net.switches("e")] == ["command", "command"]
    assert_whole(net, viewer)


def test_many_plans_in_a_row_lose_and_double_nothing() -> None:
    net, viewer = playing()
    before = net.twin.now_us()
    orders = [["s", "r"], ["o", "s"], ["r", "o"], ["o", "r"], ["s", "o"], ["r", "s"]]
    for order in orders * 3:
        net.push({**ROUTES, "e": {"o": order}})
        net.run_for(0.15)
    net.run_for(1)
    assert (net.source("e"), net.standbys("e")) == ("r", ["s"])
    assert viewer.gap_ms(before) < DRAIN_GAP_MS_MAX
    assert_whole(net, viewer)


def test_a_relay_that_drains_loses_its_children_first_and_they_lose_nothing() -> None:
    net, viewer = playing()
    before = net.twin.now_us()
    net.agents["r"].drain(before, 5_000)
    net.run_for(1)
    assert net.source("e") == "s"
    assert net.agents["r"].is_drained
    assert viewer.gap_ms(before) < DRAIN_GAP_MS_MAX
    assert_whole(net, viewer)


def test_with_the_control_plane_gone_edges_reroute_and_serve_new_viewers() -> None:
    """The last plan was pushed at the start of this test, and none comes after."""
    net, viewer = playing()
    net.kill("r")
    net.run_for(2)
    late = [net.watch(name, at_us=net.twin.now_us()) for name in ("e", "s")]
    net.run_for(3)
    for watcher in (viewer, *late):
        assert_whole(net, watcher)


def bad_plans(net: Network) -> list[tuple[str, Any]]:
    """Name, and what it changes of a good plan."""

    def version(sequence: int, cluster: str = "sim", number: int = 1) -> PlanVersion:
        return PlanVersion(epoch=Epoch(cluster=cluster, number=number), sequence=sequence)

    return [
        ("empty", {"nodes": (), "routes": (), "directory": ()}),
        ("without routes", {"routes": ()}),
        ("older", {"version": version(0)}),
        ("of an older epoch", {"version": version(99, number=0)}),
        ("doubled", {"version": version(1)}),
        ("foreign", {"version": version(99, cluster="other")}),
        ("unknown node", {"routes": (RouteEntry(origin="o", upstreams=("nobody",)),)}),
        ("own upstream", {"routes": (RouteEntry(origin="o", upstreams=("e",)),)}),
        ("circle", {"routes": (RouteEntry(origin="o", upstreams=("r",), path=("o", "r", "o", "e")),)}),
        ("named twice", {"routes": (RouteEntry(origin="o", upstreams=("r", "r")),)}),
        ("of another base", {"base": version(77)}),
    ]


def test_bad_plans_leave_media_untouched() -> None:
    net, viewer = playing()
    before = net.twin.now_us()
    commands = len(net.switches("e"))
    for name, changes in bad_plans(net):
        fields = {"version": PlanVersion(epoch=Epoch(cluster="sim", number=1), sequence=50), **changes}
        taken = net.offer("e", net.delta(ROUTES, "e", "o", fields))
        assert isinstance(taken, Refused), name
        net.run_for(0.2)
    assert str(net.agents["e"].plan.version) == "sim/1.1"  # type: ignore[union-attr]
    assert len(net.switches("e")) == commands
    assert viewer.gap_ms(before) < 100
    assert_whole(net, viewer)


@pytest.mark.parametrize("probe_bps", [3_000, 4_000, 20_000])
def test_idle_links_cost_no_more_than_their_budget(probe_bps: int) -> None:
    net = Network("o", "e", datapath=probe_intervals(probe_bps))
    net.push({})
    net.run_for(20)
    a, b = net.hosts["o"], net.hosts["e"]
    before = net.twin.world.link_stats(a, b)
    net.run_for(60)
    after = net.twin.world.link_stats(a, b)
    packets = after["packets_in"] - before["packets_in"]
    bps = (after["bytes_in"] - before["bytes_in"] + 28 * packets) * 8 / 60
    assert probe_bps / 2 < bps < probe_bps * 1.05


def test_two_runs_are_the_same_run() -> None:
    hashes = []
    for _ in range(2):
        net, _ = playing()
        net.cut("r", "e")
        net.run_for(2)
        hashes.append(net.twin.world.trace_hash())
    assert hashes[0] == hashes[1]
