"""Each kind of event does what its text says, is undone, and breaks no invariant."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.simulations.small_world import SECOND, small_scenario, small_spec

from farcast.proto.urls import parse_url
from farcast.simulations import events as e
from farcast.simulations.network import url_of
from farcast.simulations.packet_run import PacketRun
from farcast.simulations.random_faults import draw_faults
from farcast.simulations.raw import ClientTrace, RawResult
from farcast.simulations.world_spec import WorldSpec

WAY = (("fra", "jkt"),)
ALL_KINDS: tuple[e.RandomFaultKind, ...] = (
    "loss", "delay", "clog", "partition", "isolate", "swizzle", "crash", "restart", "pause", "clock",
    "disk", "bad-plan", "upgrade",
)  # fmt: skip


def play(
    *events: e.AnyEvent, seconds: float = 8.0, spec: WorldSpec | None = None, seed: int = 1
) -> tuple[RawResult, PacketRun]:
    run = PacketRun(spec or small_spec(), small_scenario(seconds, events), seed)
    result = run.run()
    assert result.violations == ()
    return result, run


def viewer(result: RawResult, number: int = 0) -> ClientTrace:
    return next(client for client in result.clients if client.client == f"viewer-{number}")


def gap_ms(result: RawResult, client: ClientTrace, from_s: float = 2.0, to_s: float = 99.0) -> float:
    """The longest time without any object, from some second of the scenario to another."""
    at = client.arrivals["at_us"] - result.began_us
    at = at[(at >= from_s * SECOND) & (at <= to_s * SECOND)]
    return float(np.diff(at).max()) / 1_000


def is_whole(result: RawResult, client: ClientTrace) -> bool:
    """Whether nothing is missing between its first object of each track and the end."""
    for track in (watched.track for watched in client.watched):
        captured = np.sort(client.arrivals[client.arrivals["track"] == track]["capture_us"])
        if set(np.diff(captured).tolist()) != {result.tracks[track].frame_us}:
            return False
    return True


def until_the_end(result: RawResult, client: ClientTrace) -> bool:
    return bool(client.arrivals["at_us"].max() > result.ended_us - SECOND)


def test_a_cut_link_is_left_for_another_and_nothing_is_missing() -> None:
    result, _ = play(e.Cut(at_us=3 * SECOND, links=WAY, for_us=3 * SECOND))
    moved = [change for change in result.route_changes if change.edge == "fra-1"]
    assert moved[0].cause == "silent"
    assert moved[0].before == "jkt-1"
    assert 100 < gap_ms(result, viewer(result)) < 900
    assert is_whole(result, viewer(result))
    (fault,) = result.faults
    assert (fault.at_us, fault.until_us) == (result.began_us + 3 * SECOND, result.began_us + 6 * SECOND)


@pytest.mark.parametrize(
    "event",
    [
        e.Detour(at_us=3 * SECOND, links=WAY, rise_ms=100.0, for_us=2 * SECOND),
        e.Clog(at_us=3 * SECOND, links=WAY, delay_ms=60.0, for_us=2 * SECOND),
        e.LossFault(at_us=3 * SECOND, links=WAY, loss=0.2, burst=3.0, for_us=2 * SECOND),
        e.Gray(at_us=3 * SECOND, links=WAY, loss=0.9, for_us=2 * SECOND),
        e.Capacity(at_us=3 * SECOND, links=WAY, rate_bps=1_000_000, for_us=2 * SECOND),
        e.MtuDrop(at_us=3 * SECOND, links=WAY, mtu_bytes=1_250, for_us=2 * SECOND),
        e.Partition(at_us=3 * SECOND, a=("jkt",), b=("fra",), for_us=2 * SECOND),
    ],
    ids=lambda event: e.kind_of(event),
)
def test_a_way_that_gets_worse_is_changed_and_changed_back(event: e.AnyEvent) -> None:
    result, run = play(event)
    edges, paths = run.network.edges, run.network.paths
    ends = edges["jkt-1"].host, edges["fra-1"].host
    assert paths.model(*ends) == run.spec.path("jkt-1", "fra-1").model
    assert not paths.is_cut(*ends)
    assert until_the_end(result, viewer(result))
    assert is_whole(result, viewer(result))


def test_faults_on_one_way_are_undone_in_any_order() -> None:
    _, run = play(seconds=0.1)
    paths, edges = run.network.paths, run.network.edges
    ends = edges["jkt-1"].host, edges["fra-1"].host
    before = paths.model(*ends)
    paths.change("a", *ends, lambda model: model.longer_by(10_000))
    paths.change("b", *ends, lambda model: model.longer_by(5_000))
    paths.cut("c", *ends)
    paths.cut("d", *ends)
    paths.undo("a", *ends)
    paths.undo("c", *ends)
    assert paths.model(*ends).delay_us == before.delay_us + 5_000
    assert paths.is_cut(*ends)
    paths.undo("d", *ends)
    paths.undo("d", *ends)
    assert not paths.is_cut(*ends)
    paths.mend(*ends)
    assert paths.model(*ends) == before


def test_an_isolated_region_serves_again_when_it_is_back() -> None:
    result, run = play(e.Isolate(at_us=3 * SECOND, place="fra", for_us=3 * SECOND), seconds=10.0)
    assert gap_ms(result, viewer(result)) > 2_900
    assert until_the_end(result, viewer(result))
    assert run.network.control.all_counters()["joins"] >= 4
    assert gap_ms(result, viewer(result, 3)) < 200


def test_swizzled_edges_come_back_in_an_order_of_the_seed() -> None:
    event = e.Swizzle(at_us=2 * SECOND, places=("sin", "jkt", "fra", "dxb"), for_us=4 * SECOND)
    result, run = play(event, seconds=12.0)
    assert all(not run.network.paths.is_cut(*ends) for ends in run.network.paths)
    assert all(until_the_end(result, viewer(result, k)) for k in range(4))


def test_an_edge_that_crashed_starts_from_its_plan_file() -> None:
    result, run = play(e.Crash(at_us=3 * SECOND, node="dxb-1", for_us=1_500_000))
    edge = run.network.edges["dxb-1"]
    assert edge.is_running
    assert edge.plans[0][0] == result.began_us + 4_500_000
    assert result.counters["world_datagrams_host_down"] > 0


def test_an_edge_without_a_disk_starts_without_a_plan_and_gets_one() -> None:
    result, run = play(
        e.Crash(at_us=3 * SECOND, node="dxb-1"),
        e.Restart(at_us=4_500_000, node="dxb-1", lost_disk=True),
    )
    edge = run.network.edges["dxb-1"]
    assert edge.plans[0][0] > result.began_us + 4_500_000


@pytest.mark.parametrize("what", ["truncated", "flipped"])
def test_a_damaged_plan_file_is_refused_and_replaced(what: Any) -> None:
    result, run = play(
        e.DiskFault(at_us=2 * SECOND, node="dxb-1", what=what),
        e.Crash(at_us=2_100_000, node="dxb-1", for_us=500_000),
    )
    assert any("plan file refused" in line for _, who, line in result.notes if who == "dxb-1")
    assert run.network.edges["dxb-1"].membership.plan is not None


def test_a_paused_edge_says_that_its_report_is_not_to_be_trusted() -> None:
    result, run = play(e.Pause(at_us=3 * SECOND, node="sin-1", for_us=3 * SECOND))
    assert run.network.edges["sin-1"].membership.reporter.counters["pauses"] == 1
    assert 2_800 < gap_ms(result, viewer(result, 3)) < 4_000
    assert is_whole(result, viewer(result, 3))


def test_a_handler_that_takes_all_of_an_agents_time_holds_up_no_object_and_who_comes_goes_elsewhere() -> None:
    """F20. The datapath forwards, and so do the others; its agent hears nothing for five seconds."""
    spec = small_spec(viewers=("fra", "fra", "dxb", "sin", "sin"))
    late = replace(spec.clients[-1], joins_us=4 * SECOND)
    hog = e.Pause(at_us=3 * SECOND, node="sin-1", for_us=5 * SECOND, agent_only=True)
    result, run = play(hog, seconds=12.0, spec=replace(spec, clients=(*spec.clients[:-1], late)))
    for number in range(4):
        assert gap_ms(result, viewer(result, number)) < 200
        assert is_whole(result, viewer(result, number))
        assert viewer(result, number).connections_lost == 0
    came = viewer(result, 4)
    assert came.first_object_us is not None
    assert came.first_object_us - came.tapped_us < 2 * SECOND
    assert came.edges[0][1] != "sin-1"
    assert run.network.edges["sin-1"].membership.reporter.counters["pauses"] == 1


@pytest.mark.parametrize("at_ms", [3_000, 3_350, 3_700])
def test_a_pause_shorter_than_reports_are_apart_is_distrusted_like_a_longer_one(at_ms: int) -> None:
    _, run = play(e.Pause(at_us=at_ms * 1_000, node="sin-1", for_us=900_000))
    counted = run.network.edges["sin-1"].membership.reporter.counters
    assert counted["pauses"] == 1
    assert counted["reports_distrusted"] == 2


def test_a_clock_that_jumps_moves_no_route() -> None:
    result, run = play(e.ClockStep(at_us=3 * SECOND, place="all", step_us=3_600 * SECOND, drift_ppm=500.0))
    assert all(edge.membership.reporter.counters["clock_jumps"] == 1 for edge in run.network.edges.values())
    undisturbed, _ = play()
    assert result.route_changes == undisturbed.route_changes
    assert gap_ms(result, viewer(result)) < 100


def test_nobody_notices_that_the_control_plane_is_gone() -> None:
    quiet, _ = play(seconds=10.0)
    result, run = play(e.ControlStop(at_us=2 * SECOND, for_us=4 * SECOND), seconds=10.0)
    for k in range(4):
        assert gap_ms(result, viewer(result, k)) <= gap_ms(quiet, viewer(quiet, k)) + 60
    assert run.network.control.controller is not None
    assert run.network.control.controller.epoch.number == 2
    assert all(edge.membership.channel.joined for edge in run.network.edges.values())


def test_a_control_plane_that_lost_its_state_takes_nothing_away() -> None:
    result, run = play(
        e.ControlStop(at_us=2 * SECOND), e.ControlStart(at_us=4 * SECOND, lost_state=True), seconds=12.0
    )
    assert gap_ms(result, viewer(result)) < 200
    assert run.network.edges["fra-1"].membership.plan is not None


@pytest.mark.parametrize(
    "what", ["empty", "older", "foreign", "circular", "nobody", "truncated", "doubled", "garbage"]
)
def test_a_bad_plan_changes_nothing(what: Any) -> None:
    spec = small_spec(("sin", "jkt", "fra"), viewers=("fra",))
    quiet, _ = play(seconds=5.0, spec=spec)
    result, run = play(e.BadPlan(at_us=2 * SECOND, what=what), seconds=5.0, spec=spec)
    assert gap_ms(result, viewer(result)) <= gap_ms(quiet, viewer(quiet)) + 60
    refused = sum(edge.membership.plans_refused for edge in run.network.edges.values())
    broken = sum(edge.membership.channel.counters.get("breaks", 0) for edge in run.network.edges.values())
    assert refused == 3 or broken == 3


def test_a_drained_edge_sends_its_viewers_away_and_comes_back() -> None:
    result, run = play(e.Drain(at_us=3 * SECOND, node="fra-1", for_us=7 * SECOND), seconds=12.0)
    for number in (0, 1):
        (move, *_) = viewer(result, number).moves
        assert (move.before, move.cause) == ("fra-1", "goaway")
        assert is_whole(result, viewer(result, number))
    assert run.network.edges["fra-1"].is_running
    assert not run.network.edges["fra-1"].agent.is_draining


def test_a_rolling_upgrade_restarts_every_edge_once() -> None:
    event = e.Upgrade(at_us=2 * SECOND, gap_us=3 * SECOND, drain_us=2 * SECOND, down_us=500_000)
    result, run = play(event, seconds=16.0)
    assert all(edge.is_running and edge.boots == 2 for edge in run.network.edges.values())
    assert all(until_the_end(result, viewer(result, k)) for k in range(4))


def test_edges_of_two_builds_serve_side_by_side_while_one_after_the_other_is_upgraded() -> None:
    whole = e.Upgrade(
        at_us=2 * SECOND,
        gap_us=4 * SECOND,
        drain_us=2 * SECOND,
        down_us=500_000,
        nodes=("sin", "fra", "jkt", "dxb"),
        from_before=True,
    )
    run = PacketRun(small_spec(), small_scenario(16.0, (whole,)), 1)
    edges = run.network.edges.values()
    assert all(edge.pipe is not None and edge.pipe.older is not None for edge in edges)
    result = run.run()
    assert result.violations == ()
    older = [node for node, edge in run.network.edges.items() if edge.pipe and edge.pipe.older]
    assert older == ["dxb-1"], "the last one waits for its upgrade"
    assert all(edge.agent.plan is not None for edge in edges)
    assert all(until_the_end(result, viewer(result, k)) for k in range(4))


def test_a_viewer_comes_back_from_a_black_out_at_another_address() -> None:
    event = e.BlackOut(at_us=3 * SECOND, clients=("viewer-0",), for_us=2 * SECOND, profile="mobile-median")
    result, run = play(event, seconds=12.0)
    client = viewer(result)
    assert 2_000 < gap_ms(result, client) < 6_000
    assert until_the_end(result, client)
    host, edge = run.network.viewers["viewer-0"].host, run.network.edges["fra-1"].host
    assert run.network.paths.model(edge, host) != run.spec.clients[1].models_to("fra-1")[1]


def test_a_client_that_comes_during_a_black_out_has_no_signal_either() -> None:
    event = e.BlackOut(at_us=0, clients=("viewer-3",), for_us=4 * SECOND)
    result, _ = play(event, seconds=8.0)
    client = viewer(result, 3)
    assert client.tapped_us < result.began_us + SECOND
    assert client.connected_us is None or client.connected_us >= result.began_us + 4 * SECOND


def test_a_stock_viewer_whose_handshake_fails_tries_again_and_its_wait_counts_from_the_first_tap() -> None:
    """An attempt ends after 10 s; the next one follows a second later, as @moq/net has it."""
    result, _ = play(e.Cut(at_us=0, clients=("viewer-1",), for_us=10 * SECOND), seconds=20.0)
    stock = viewer(result, 1)
    assert stock.stack == "stock"
    assert stock.connected_us is not None
    assert 10.5 * SECOND < stock.connected_us - stock.tapped_us < 13 * SECOND
    assert stock.errors == ()
    assert until_the_end(result, stock)


def test_an_own_viewer_that_finds_no_edge_gives_up_as_the_tool_does() -> None:
    result, _ = play(e.Cut(at_us=0, clients=("viewer-2",), for_us=10 * SECOND), seconds=16.0)
    own = viewer(result, 2)
    assert own.connected_us is None
    assert any(error.startswith("no edge can be used") for error in own.errors)


def test_without_a_resolver_viewers_go_on_by_the_addresses_that_they_have() -> None:
    gone = e.NamesGone(at_us=3 * SECOND)
    crash = e.Crash(at_us=4 * SECOND, node="fra-1")
    result, run = play(gone, crash, seconds=10.0)
    assert run.network.names.target(parse_url(url_of("sin-1"))) is None
    ours = viewer(result)
    assert [move.before for move in ours.moves] == ["fra-1"]
    assert until_the_end(result, ours)
    assert gap_ms(result, ours) < 2_000


def test_a_nat_that_rebinds_costs_a_moment_each_time() -> None:
    event = e.Rebind(at_us=2 * SECOND, clients=("viewer-0",), every_us=2 * SECOND)
    result, _ = play(event)
    assert until_the_end(result, viewer(result))
    assert gap_ms(result, viewer(result)) < 2_000


def test_a_slow_viewer_falls_behind_alone() -> None:
    event = e.SlowViewer(at_us=3 * SECOND, clients=("viewer-0",), rate_bps=300_000, for_us=3 * SECOND)
    result, _ = play(event)
    quiet, _ = play()
    slow, other = viewer(result), viewer(result, 1)
    assert len(slow.arrivals) < len(viewer(quiet).arrivals)
    assert gap_ms(result, other) < gap_ms(quiet, viewer(quiet, 1)) + 60


@pytest.mark.parametrize("what", ["silent", "flap", "garbage", "unread", "handshakes"])
def test_a_hostile_peer_harms_nobody_else(what: Any) -> None:
    spec = small_spec(("jkt", "fra"), viewers=("fra",))
    quiet, _ = play(seconds=5.0, spec=spec)
    event = e.Hostile(at_us=SECOND, node="fra-1", what=what, count=3, for_us=3 * SECOND)
    result, _ = play(event, seconds=5.0, spec=spec)
    assert gap_ms(result, viewer(result)) < gap_ms(quiet, viewer(quiet)) + 60
    assert result.counters["world_datagrams"] > quiet.counters["world_datagrams"]


def test_random_faults_are_those_of_the_seed_and_end_in_time() -> None:
    event = e.RandomFaults(
        at_us=SECOND, for_us=30 * SECOND, calm_us=10 * SECOND, per_minute=60.0, kinds=ALL_KINDS
    )
    spec = small_spec()
    drawn = draw_faults(event, spec, 3)
    assert drawn == draw_faults(event, spec, 3)
    assert drawn != draw_faults(event, spec, 4)
    assert len(drawn) > 15
    for fault in drawn:
        assert fault.at_us >= SECOND
        assert fault.at_us + (getattr(fault, "for_us", None) or 0) <= 31 * SECOND


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_random_faults_and_a_calm_phase_everybody_has_the_newest_group(seed: int) -> None:
    event = e.RandomFaults(
        at_us=2 * SECOND, for_us=15 * SECOND, calm_us=15 * SECOND, per_minute=40.0, kinds=ALL_KINDS
    )
    result, run = play(event, seconds=33.0, seed=seed)
    assert run.faults.is_calm(result.began_us + 32 * SECOND)
    assert len(result.faults) > 3


def test_every_kind_of_event_can_be_played_and_told() -> None:
    from farcast.simulations.faults import PLAYERS, describe

    assert set(PLAYERS) == set(e.EVENTS.values())
    assert describe(e.Cut(at_us=1, links=WAY, one_way=True)) == "links fra-jkt; one_way True"
