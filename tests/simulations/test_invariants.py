"""Every invariant goes red when it is broken on purpose."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from tests.simulations.small_world import small_scenario, small_spec

from farcast.proto.agent import Agent
from farcast.proto.client import Viewer
from farcast.proto.client import events as client
from farcast.proto.control.edge_plan import EdgePlan
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.simulations import edge_host, invariants
from farcast.simulations.client_host import ViewerHost
from farcast.simulations.events import Crash, Cut
from farcast.simulations.packet_run import PacketRun
from farcast.simulations.records import RECORD_DTYPE

TRACK = FullTrackName(TrackNamespace.parse("live/a"), b"video")


def records(*rows: tuple[int, int, int], at_us: int = 0) -> np.ndarray:
    made = np.zeros(len(rows), RECORD_DTYPE)
    made["at_us"] = at_us
    for k, (sink, group, number) in enumerate(rows):
        made[k]["downstream"], made[k]["group"], made[k]["object"] = sink, group, number
    return made


def test_a_track_that_goes_round_is_found_and_one_that_does_not_is_not() -> None:
    tree = {"a": {TRACK: "o"}, "b": {TRACK: "a"}, "c": {TRACK: "a"}, "o": {}}
    assert invariants.cycles(tree) == []
    assert invariants.cycles({**tree, "a": {TRACK: "b"}}) == [(TRACK, ("a", "b"))]
    assert invariants.cycles({"a": {TRACK: "a"}}) == [(TRACK, ("a",))]


def test_two_tracks_against_one_another_are_no_circle() -> None:
    other = FullTrackName(TrackNamespace.parse("live/b"), b"video")
    assert invariants.cycles({"a": {TRACK: "b"}, "b": {other: "a"}}) == []


def test_a_circle_counts_when_a_message_has_been_once_round() -> None:
    rounds = invariants.Rounds(lambda src, dst: 40_000)
    circle = (TRACK, ("a", "b"))
    rounds.note([circle], 1_000_000)
    assert rounds.lasting(1_130_000) == []
    assert rounds.lasting(1_130_001) == ["live/a/video goes round: a from b from a"]
    rounds.note([], 1_140_000)
    rounds.note([circle], 1_150_000)
    assert rounds.lasting(1_200_000) == []


def test_a_circle_in_which_one_has_given_way_counts_when_word_of_that_has_been_round_too() -> None:
    rounds = invariants.Rounds(lambda src, dst: 40_000, ways_max=2)
    circle = (TRACK, ("a", "b"))
    rounds.note([circle], 1_000_000)
    assert rounds.lasting(1_210_000) == []
    assert rounds.lasting(1_210_001) == ["live/a/video goes round: a from b from a"]


def test_who_knows_that_nothing_comes_is_told_for_each_edge_and_for_this_track_alone() -> None:
    other = FullTrackName(TrackNamespace.parse("live/b"), b"video")
    circle = (TRACK, ("a", "b", "c"))
    starved = {"a": {TRACK}, "b": {other}, "c": set[FullTrackName](), "d": {TRACK}}
    assert invariants.aware(circle, starved) == [True, False, False]


def test_an_object_that_comes_twice_or_late_is_found() -> None:
    order = invariants.Order()
    assert order.disorder("v", records((1, 5, 0), (1, 5, 1), (1, 6, 0), (2, 5, 0))) == []
    again = records((1, 5, 2), (1, 6, 0), at_us=7)
    assert order.disorder("v", again) == [(7, "v: sink 1 got object 6/0 after 6/0")]
    assert len(order.disorder("v", records((1, 5, 1)))) == 1


def test_a_queue_above_its_limit_is_found() -> None:
    limit = 8 << 20
    assert invariants.overflows("sin-1", limit, 1 << 30) == []
    found = invariants.overflows("sin-1", limit + (2 << 20), (1 << 30) + (2 << 20))
    assert len(found) == 2
    assert "sin-1" in found[0]


def test_a_plan_that_is_older_or_the_same_again_is_found() -> None:
    assert invariants.falling_plans("sin-1", [(0, 1, 1), (1, 1, 2), (2, 2, 1)]) == []
    assert invariants.falling_plans("sin-1", [(0, 1, 2), (1, 1, 2)]) == ["sin-1 took plan 1.2 after 1.2"]
    assert len(invariants.falling_plans("sin-1", [(0, 2, 1), (1, 1, 9)])) == 1


def test_a_viewer_that_stays_behind_after_a_calm_phase_is_found() -> None:
    assert invariants.behind("v", [0, 1], {0: 9, 1: 12}, {0: 10, 1: 12}) == []
    assert invariants.behind("v", [0], {}, {0: 10}) == ["v: track 0 is at group -1, published is 10"]


def test_a_viewer_that_falls_behind_for_good_is_found_although_no_fault_was_drawn_at_random() -> None:
    """Its access is cut by nobody that the faults know of."""
    run = PacketRun(small_spec(viewers=("fra", "fra")), small_scenario(12.0), 1)

    def cut(now_us: int) -> None:
        for src, dst in run.network.paths.of_host(run.network.viewers["viewer-0"].host):
            run.network.paths.cut("test", src, dst)

    run.network.twin.at(6_000_000, lambda now_us: run.network.twin.at(run.began_us + 2_000_000, cut))
    found = run.run().violations
    assert {violation.invariant for violation in found} == {"newest-group"}
    assert all(violation.text.startswith("viewer-0: track") for violation in found)


def test_a_viewer_behind_an_access_that_loses_much_is_given_time_and_found_all_the_same() -> None:
    spec = small_spec(viewers=("fra",), access_loss=0.07)
    run = PacketRun(spec, small_scenario(1.0), 1)
    group_us = max(t.info.frame_us * t.frames_a_group for t in run.network.films["host"].tracks)
    assert run.invariants._groups_behind("viewer-0") == 15_000_000 // group_us > 3
    clean = PacketRun(small_spec(viewers=("fra",), access_loss=0.05), small_scenario(1.0), 1)
    assert clean.invariants._groups_behind("viewer-0") == 3
    assert invariants.behind("v", [0], {0: 5}, {0: 20}, 15) == []
    assert len(invariants.behind("v", [0], {0: 4}, {0: 20}, 15)) == 1


def test_a_viewer_that_never_got_a_catalog_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ViewerHost, "_take_catalog", lambda *_: None)
    (found,) = PacketRun(small_spec(viewers=("fra",)), small_scenario(9.0), 1).run().violations
    assert (found.invariant, found.text) == (
        "newest-group",
        "viewer-0: has no catalog of what track 0 is of",
    )


def test_who_is_still_cut_off_or_has_just_come_or_has_no_edge_is_not_asked() -> None:
    spec = small_spec(viewers=("fra", "fra", "fra"), joins_us=0)
    late = replace(spec.clients[3], joins_us=5_000_000)
    spec = replace(spec, clients=(*spec.clients[:3], late))
    events = (Cut(at_us=1_000_000, clients=("viewer-0",)), Crash(at_us=1_000_000, node="fra-1"))
    result = PacketRun(spec, small_scenario(11.0, events), 1).run()
    assert [violation.text for violation in result.violations] == []
    assert len(result.clients[1].arrivals) < len(result.clients[3].arrivals) * 3, "viewer-0 was cut off"


def test_runs_that_differ_are_found() -> None:
    assert invariants.differing_hashes(["a", "a"]) == []
    assert len(invariants.differing_hashes(["a", "b"])) == 1


def test_an_exception_in_an_engine_is_a_violation_and_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Agent, now_us: int, plan: object) -> None:
        raise RuntimeError("broken on purpose")

    run = PacketRun(small_spec(viewers=("fra",)), small_scenario(2.0), 1)
    monkeypatch.setattr(Agent, "apply_plan", fail)
    (violation,) = run.run().violations
    assert violation.invariant == "no-exception"
    assert "broken on purpose" in violation.text


def test_a_plan_without_routes_is_found_at_the_moment_at_which_an_edge_takes_it() -> None:
    """It is in force for a millisecond, and no longer there when anybody looks ten times a second."""
    run = PacketRun(small_spec(viewers=()), small_scenario(1.0), 1)
    edge = run.network.edges["sin-1"]

    def plan_for_a_moment(now_us: int) -> None:
        plan = edge.agent.plan
        assert plan is not None
        assert plan.routes
        take(now_us, replace(plan, routes={}))
        run.network.twin.at(now_us + 1_000, lambda at_us: take(at_us, plan))

    def take(now_us: int, plan: EdgePlan) -> None:
        edge.agent.apply_plan(now_us, plan)
        edge.plans.append((now_us, 99, len(edge.plans)))

    run.network.twin.at(
        6_000_000, lambda _: run.network.twin.at(run.began_us + 250_000, plan_for_a_moment, (edge.host,))
    )
    found = [(v.at_us, v.invariant) for v in run.run().violations]
    assert [at_us for at_us, name in found if name == "never-without-routes"] == [run.began_us + 250_000]


def test_what_an_intruder_gets_is_found_at_the_moment_at_which_it_gets_it() -> None:
    class Served:
        """Gets an object at a time between two looks of ten a second."""

        def poll_event(self) -> object | None:
            now_us = run.network.twin.now_us()
            if self.is_served or now_us < run.began_us + 250_000:
                return None
            self.is_served = True
            return client.NamespaceAccepted(TRACK.namespace)

        is_served = False

    run = PacketRun(small_spec(viewers=("fra",)), small_scenario(1.0), 1)
    run.network.intruders.append(("intruder", cast(Viewer, Served())))
    (violation,) = run.run().violations
    assert (violation.invariant, violation.text) == ("authorised-only", "intruder: NamespaceAccepted")
    assert violation.at_us < run.began_us + 300_000


def test_an_object_out_of_order_is_found_with_the_time_at_which_it_came() -> None:
    run = PacketRun(small_spec(viewers=("fra",)), small_scenario(2.0), 1)

    def forge(now_us: int) -> None:
        viewer = run.network.viewers["viewer-0"]
        viewer._chunks += [records((9, 1, 1), (9, 1, 0), at_us=now_us)]

    run.network.twin.at(6_000_000, lambda _: run.network.twin.at(run.began_us + 1_234_000, forge, ()))
    (violation,) = [each for each in run.run().violations if each.invariant == "once-in-order"]
    assert violation.at_us == run.began_us + 1_234_000


def test_a_queue_that_was_too_long_between_two_reports_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The datapath keeps the peak: nobody has to look while it is there."""
    monkeypatch.setattr(invariants, "CACHE_BYTES_MAX", -invariants.QUEUE_SLACK_BYTES)
    result = PacketRun(small_spec(viewers=("fra",)), small_scenario(3.0), 1).run()
    assert {violation.invariant for violation in result.violations} == {"queues-bounded"}
    assert all("the caches had" in violation.text for violation in result.violations)


def test_the_datapath_keeps_how_much_waited_for_a_viewer_that_took_nothing_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peaks: list[int] = []

    def keep(node_id: str, queue_bytes_peak: int, cache_bytes_peak: int) -> list[str]:
        peaks.append(queue_bytes_peak)
        return []

    monkeypatch.setattr(edge_host, "overflows", keep)
    run = PacketRun(small_spec(viewers=("fra",)), small_scenario(6.0), 1)

    def stop_reading(now_us: int) -> None:
        world, viewer = run.network.twin.world, run.network.viewers["viewer-0"]
        world.pause_host(viewer.host, now_us + 2_000_000)

    run.network.twin.at(6_000_000, lambda _: run.network.twin.at(run.began_us + 1_000_000, stop_reading, ()))
    assert run.run().violations == ()
    assert max(peaks) > 50_000
    assert peaks.count(max(peaks)) > 1, "it stays when the queue is gone"


def test_what_the_network_really_does_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that says it is fed by itself shows."""
    monkeypatch.setattr(Agent, "feeds", lambda self: {TRACK: self.config.node_id})
    result = PacketRun(small_spec(viewers=()), small_scenario(1.0), 1).run()
    assert {violation.invariant for violation in result.violations} == {"no-cycle"}
