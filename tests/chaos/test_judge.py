"""What the fault tests say of a run, by hand-made runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from farcast.cli.cluster import Cluster
from farcast.cli.dev_world import Conditions, dev_links
from farcast.proto._core import LinkConfig

from .arrivals import Arrivals, Gap
from .faults import Fault, Kind
from .judge import DRAIN_GAP_MS_MAX, RUNS_TELLING, Drain, Judge, Outcome
from .switches import Switch, SwitchLog
from .tree import fed_by, propagation, untouched

BEGUN = 1_000.0
BEGUN_BY_LOGS = 1_700_000_000.0


def left(node_id: str, after_ms: float, left: str = "a", cause: str = "silent") -> Switch:
    return Switch(node_id, cause, left, BEGUN_BY_LOGS + after_ms / 1_000)


def outcome(*moved: Switch, kind: Kind = "link cut", ways_ms: dict[str, float] | None = None) -> Outcome:
    gaps = {"fra-1": Gap(BEGUN, BEGUN + 0.4)}
    fault = Fault(kind, "sin-1", "fra-1")
    fed = frozenset({"fra-1", "lon-1"})
    return Outcome(fault, BEGUN, BEGUN_BY_LOGS, fed, gaps, gaps, frozenset(), [*moved], [], ways_ms or {})


def test_noticed_is_measured_from_the_fault_on_and_not_what_the_edge_says_of_itself() -> None:
    late = outcome(left("fra-1", 700), ways_ms={"fra-1": 80.0})
    assert late.noticed_ms == pytest.approx([620])


def test_an_edge_that_takes_two_upstreams_for_dead_is_judged_by_the_slower_one() -> None:
    assert outcome(left("fra-1", 250), left("fra-1", 600, "b")).noticed_ms == pytest.approx([600])


def test_that_an_edge_leaves_the_same_upstream_later_once_more_is_not_when_it_noticed() -> None:
    assert outcome(left("fra-1", 250), left("fra-1", 2_000)).noticed_ms == pytest.approx([250])


def test_an_edge_that_turns_to_a_dead_upstream_only_later_has_not_noticed_late() -> None:
    assert outcome(left("fra-1", 250), left("dxb-1", 700)).noticed_ms == pytest.approx([250])


def test_only_a_branch_that_ran_over_what_broke_or_moved_is_concerned_by_a_fault() -> None:
    routes = {"fra-1": ["jkt-1", "sin-1", "fra-1"], "lon-1": ["jkt-1", "sin-1", "fra-1", "lon-1"]}
    routes |= {"iad-1": ["jkt-1", "sin-1", "iad-1"], "dxb-1": ["jkt-1", "dxb-1"]}
    assert untouched(Fault("link cut", "sin-1", "fra-1"), routes, routes) == {"iad-1", "dxb-1"}
    assert untouched(Fault("relay killed", "sin-1", "fra-1"), routes, routes) == {"dxb-1"}
    moved = routes | {"dxb-1": ["jkt-1", "sin-1", "dxb-1"]}
    assert untouched(Fault("link cut", "sin-1", "fra-1"), routes, moved) == {"iad-1"}
    del moved["iad-1"]
    assert untouched(Fault("link cut", "sin-1", "fra-1"), routes, moved) == frozenset()


def test_what_a_bystander_waits_for_a_repair_is_no_resume_and_has_a_bound_of_its_own() -> None:
    fault = Fault("link cut", "sin-1", "fra-1")
    gaps = {"fra-1": Gap(BEGUN, BEGUN + 0.4), "iad-1": Gap(BEGUN + 0.2, BEGUN + 0.75)}
    run = Outcome(
        fault, BEGUN, BEGUN_BY_LOGS, frozenset({"fra-1"}), gaps, gaps, frozenset(), [], [], {},
        bystanders=frozenset({"iad-1"}),
    )  # fmt: skip
    assert run.resumed_ms == pytest.approx([400])
    assert run.bystander_gap_ms == pytest.approx([550])
    only_theirs = dataclasses.replace(run, bystanders=frozenset(gaps))
    assert only_theirs.is_unnoticed, "what a bystander waits for is no sign of the fault either"
    judge = Judge([run])
    assert [broken for broken in judge.broken_promises() if broken.startswith("bystander")] == [
        "bystander_gap_ms_p99 is 550.0, at most 500.0 was promised"
    ]


def test_edges_below_a_dead_relay_are_fed_by_it_and_below_a_cut_link_only_its_end() -> None:
    routes = {"fra-1": ["jkt-1", "sin-1", "fra-1"], "lon-1": ["jkt-1", "sin-1", "fra-1", "lon-1"]}
    routes |= {"iad-1": ["jkt-1", "sin-1", "iad-1"], "dxb-1": ["jkt-1", "dxb-1"]}
    assert fed_by(Fault("relay stopped", "sin-1", "fra-1"), routes) == {"fra-1", "iad-1"}
    assert fed_by(Fault("link cut", "sin-1", "fra-1"), routes) == {"fra-1"}


def test_planned_moves_and_faults_that_break_nothing_are_not_noticed() -> None:
    assert outcome(left("fra-1", 250, cause="command")).noticed_ms == []
    assert outcome(left("fra-1", 250), kind="20 % loss one way").noticed_ms == []


def test_one_late_edge_of_many_breaks_the_bound() -> None:
    judge = Judge()
    judge.add(outcome(left("fra-1", 250), left("lon-1", 301)))
    assert judge.figures()["noticed_ms_p99"] == pytest.approx(301)
    assert not judge.is_in_time


def test_a_drain_is_judged_over_links_that_lose_nothing_and_all_of_them_are_told() -> None:
    judge = Judge(
        drains=[Drain("sin-1", True, "fra-1", 0.25, 0.26), Drain("sin-1", False, "fra-1", 0.1, 0.04)]
    )
    figures = judge.figures()
    assert (figures["drain_gap_ms_max"], figures["gap_ms_max_without_drain"]) == (100, 40)
    assert (figures["lossy_drain_gap_ms_max"], figures["lossy_gap_ms_max_without_drain"]) == (250, 260)
    assert judge.is_in_time
    judge.drains.append(Drain("fra-1", False, "fra-1", DRAIN_GAP_MS_MAX / 1_000, 0.04))
    assert not judge.is_in_time


def test_what_never_came_and_what_came_twice_is_counted_whatever_the_times_are() -> None:
    seat, judge = Arrivals("fra-1"), Judge()
    for object in range(4):
        seat.ledger.published("video", 0, object, b"x")
    for object in (0, 1, 1, 3):
        seat.received("video", 0, object, b"x")
    judge.finish([seat])
    assert (judge.lost, judge.doubled, judge.is_whole) == (1, 1, False)


def test_a_longest_gap_may_go_on_at_the_end() -> None:
    seat = Arrivals("fra-1", times=[0.9, 1.0, 1.1])
    assert seat.longest_gap(1.0, 1.5) == Gap(1.1, 1.5)


def test_a_gap_that_outlasts_the_fault_is_not_cut_short_by_its_end() -> None:
    seat = Arrivals("fra-1", times=[0.9, 1.0, 1.1, 4.0, 4.1])
    assert seat.longest_gap(1.0, 1.5) == Gap(1.1, 4.0)


def test_a_fault_that_nobody_noticed_is_counted_and_a_false_alarm_breaks_the_promise() -> None:
    judge = Judge()
    judge.add(outcome(left("fra-1", 250)))
    quiet = outcome()
    judge.add(dataclasses.replace(quiet, breaks={"fra-1": Gap(BEGUN, BEGUN + 0.05)}))
    assert (judge.figures()["unnoticed"], judge.is_in_time) == (1, True)
    judge.add(dataclasses.replace(quiet, false_alarms=[left("lon-1", -500)]))
    assert (judge.figures()["unnoticed"], judge.is_in_time) == (1, False)


def test_alarms_are_counted_and_not_the_edges_that_raise_them_nor_the_tracks_that_they_move() -> None:
    one = [left("lon-1", -900), left("lon-1", -890, cause="closed")]
    alarms = [*one, left("lon-1", -900, "b"), left("lon-1", -300), left("iad-1", -900)]
    planned = left("dxb-1", -900, cause="command")
    judge = Judge()
    judge.add(dataclasses.replace(outcome(left("fra-1", 250)), false_alarms=[*alarms, planned]))
    assert judge.figures()["false_alarms"] == 4


def test_a_link_that_loses_is_judged_by_the_longest_gap_of_any_viewer() -> None:
    judge = Judge()
    lossy = outcome(kind="20 % loss one way")
    judge.add(dataclasses.replace(lossy, gaps={"fra-1": Gap(0, 0.1), "iad-1": Gap(0, 0.5)}))
    assert judge.figures()["lossy_link_gap_ms_p99"] == pytest.approx(500)
    assert judge.figures()["resumed_ms_p99"] is None
    assert judge.is_in_time
    judge.add(dataclasses.replace(lossy, gaps={"fra-1": Gap(0, 0.501)}))
    assert list(judge.broken_promises()) == ["lossy_link_gap_ms_p99 is 501.0, at most 500.0 was promised"]


def test_gaps_while_something_is_broken_are_not_those_of_a_link_that_loses() -> None:
    judge = Judge()
    judge.add(outcome(left("fra-1", 250)))
    assert judge.figures()["lossy_link_gap_ms_p99"] is None


def test_what_had_to_be_measured_and_was_not_breaks_the_promise_in_words() -> None:
    nobody = Judge()
    nobody.add(outcome())
    assert list(nobody.broken_promises()) == [
        "noticed_ms_p99 is unknown: upstreams were broken, and no edge took any of them for dead"
    ]
    no_drain = "drain_gap_ms_max is unknown: no drain over links without loss was measured"
    no_relay = "the gap that the drain of a relay makes is unknown: it was to be measured, and nothing was"
    assert list(Judge(must_drain=True).broken_promises()) == [no_relay, no_drain]
    assert list(Judge(drains=[Drain("sin-1", True, "fra-1", 0.1, 0.1)]).broken_promises()) == [no_drain]
    unknown = "control_gone.gap_ms is unknown: nothing was measured without a control plane"
    gone = Judge(control_gone={"gap_ms": None, "first_picture_ms": 50.0})
    assert list(gone.broken_promises()) == [unknown]
    assert Judge().is_in_time


def test_the_drain_of_a_viewers_edge_says_nothing_about_that_of_a_relay() -> None:
    leaf, relay = (
        Drain(node, False, "fra-1", 0.1, 0.1, feeds) for node, feeds in (("fra-1", False), ("sin-1", True))
    )
    assert not Judge(must_drain=True, drains=[leaf]).is_in_time
    assert Judge(must_drain=True, drains=[leaf, relay]).is_in_time


def test_so_many_runs_must_have_had_every_kind_of_fault_and_stand_ins_are_counted() -> None:
    judge = Judge()
    cut = outcome(left("fra-1", 250))
    for _ in range(RUNS_TELLING):
        judge.add(dataclasses.replace(cut, fault=dataclasses.replace(cut.fault, stands_in=True)))
    assert judge.figures()["relay_faults_without_relay"] == RUNS_TELLING
    assert any("'relay killed' is unknown" in broken for broken in judge.broken_promises())


def test_a_late_first_picture_without_a_control_plane_breaks_the_promise() -> None:
    judge = Judge(control_gone={"first_picture_ms": 601.0, "gap_ms": 400.0})
    assert list(judge.broken_promises()) == [
        "control_gone.first_picture_ms is 601.0, at most 600.0 was promised"
    ]


def test_media_that_does_not_come_back_without_a_control_plane_breaks_the_promise() -> None:
    judge = Judge(control_gone={"first_picture_ms": 50.0, "gap_ms": 400.0})
    assert judge.is_in_time
    judge.control_gone["gap_ms"] = 501.0
    assert not judge.is_in_time


@pytest.mark.parametrize(
    ("kind", "ways_ms"),
    [
        ("link cut", {"fra-1": 80.6}),
        ("relay killed", {"jkt-1": 8.8, "dxb-1": 45.05, "fra-1": 80.6, "lon-1": 84.95, "iad-1": 109.5}),
    ],
)
def test_ways_lead_to_whoever_can_notice(kind: Kind, ways_ms: dict[str, float]) -> None:
    cluster = cast(Cluster, SimpleNamespace(links=SimpleNamespace(normal=dev_links(Conditions()))))
    assert Fault(kind, "sin-1", "fra-1").ways_ms(cluster) == pytest.approx(ways_ms)


def test_who_is_not_heard_gets_answers_for_a_round_trip() -> None:
    cluster = cast(Cluster, SimpleNamespace(links=SimpleNamespace(normal=dev_links(Conditions()))))
    fault = Fault("one direction cut", "sin-1", "fra-1", outward=False)
    assert fault.ways_ms(cluster) == pytest.approx({"fra-1": 161.2})


def test_an_upstream_is_noticed_when_its_silence_is_written_and_not_when_the_next_one_has_answered(
    tmp_path: Path,
) -> None:
    log = tmp_path / "fra-1.log"
    switches = SwitchLog(cast(Cluster, SimpleNamespace(edges={"fra-1": SimpleNamespace(log=log)})))
    silent = {"event": "hop is silent", "remote": "a", "timestamp": "2023-11-14T22:13:20.200000Z"}
    move = {"event": "track took another upstream", "cause": "silent", "remote": "b"}
    moves = [
        {**move, "left": "a", "timestamp": "2023-11-14T22:13:20.350000Z"},
        {**move, "left": "c", "timestamp": "2023-11-14T22:13:20.400000Z"},
        {**move, "left": "a", "timestamp": "2023-11-14T22:13:27.000000Z"},
    ]
    log.write_text("".join(json.dumps(entry) + "\n" for entry in [silent, *moves]))
    assert [switch.at - BEGUN_BY_LOGS for switch in switches.take()] == pytest.approx([0.2, 0.4, 7.0])


def test_distance_is_the_last_packets_way_the_question_the_answer_and_the_ways_below() -> None:
    links = {
        (a, b): LinkConfig(delay_us=ms * 1_000)
        for a, b, ms in [("sin", "fra", 80), ("lon", "fra", 7), ("fra", "lon", 8), ("fra", "iad", 45)]
    }
    before, after = ["jkt", "sin", "fra", "iad"], ["jkt", "dxb", "lon", "fra", "iad"]
    assert propagation(before, after, links) == pytest.approx(80 + 8 + 7 + 45)
    assert propagation(before, before, links) == 0


def test_moves_are_read_with_the_time_at_which_they_were_written(tmp_path: Path) -> None:
    entry: dict[str, Any] = {
        "track": 6,
        "cause": "silent",
        "left": "127.0.0.1:1",
        "remote": "127.0.0.1:2",
        "silent_ms": 202,
        "event": "track took another upstream",
        "timestamp": "2023-11-14T22:13:20.250000Z",
    }
    log = tmp_path / "fra-1.log"
    log.write_text("not JSON\n" + json.dumps({"event": "other"}) + "\n" + json.dumps(entry) + "\n")
    switches = SwitchLog(cast(Cluster, SimpleNamespace(edges={"fra-1": SimpleNamespace(log=log)})))
    assert switches.take() == [Switch("fra-1", "silent", "127.0.0.1:1", BEGUN_BY_LOGS + 0.25)]
    assert switches.take() == []


def test_fifty_runs_that_measured_nothing_of_a_kind_are_no_pass() -> None:
    judge = Judge(outcomes=[outcome(left("fra-1", 250))] * RUNS_TELLING)
    told = " ".join(judge.broken_promises())
    assert "edge_dead_resumed_ms_p99 is unknown" in told
    assert "lossy_link_gap_ms_p99 is unknown" in told
    assert "resumed_ms_p99 is unknown" not in told.replace("edge_dead_resumed_ms_p99 is unknown", "")
