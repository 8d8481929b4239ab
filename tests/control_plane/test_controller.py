"""The control plane with real engines at both ends, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest
from control_world import SECOND, World

from farcast.control_plane.controller import ControllerConfig
from farcast.control_plane.move_gate import MoveGate
from farcast.control_plane.plan_cycle import PlanCycle
from farcast.proto.control.messages import Epoch, PlanVersion

SIX = ("dxb-1", "fra-1", "iad-1", "jkt-1", "lon-1", "sin-1")


def chain(a: str, b: str) -> float:
    """RTT by distance on a line: neighbours are near, and the longest way is bad."""
    places = {"iad": 0, "lon": 1, "fra": 2, "dxb": 3, "sin": 4, "jkt": 5}
    steps = abs(places[a[:3]] - places[b[:3]])
    return 20.0 * steps + (steps - 1) * (steps - 1) * 12.0


def settled(seconds: float = 100, **fields: Any) -> World:
    return World(SIX, chain, **fields).run(seconds)


def test_edges_join_report_and_follow_one_plan() -> None:
    world = settled()
    assert world.counters["joins"] == 6
    for edge in world.edges.values():
        assert set(edge.plan.nodes) == set(SIX)
        assert set(edge.plan.routes) == set(SIX) - {edge.node_id}
        assert world.controller.pushes.is_current(edge.node_id)
        assert not edge.refusals
    for origin in SIX:
        parents = world.parents(origin)
        for node_id in set(SIX) - {origin}:
            path = world.edges[node_id].plan.routes[origin].path
            assert [parents[child] for child in path[1:]] == list(path[:-1])


def test_a_new_namespace_is_at_every_edge_one_way_after_its_report() -> None:
    world = settled()
    world.offer("jkt-1", "live/film")
    world.run(0.11)
    for edge in world.edges.values():
        assert edge.plan.directory == {(b"live", b"film"): "jkt-1"}
        assert (edge.node_id == "jkt-1") == ("jkt-1" not in edge.plan.routes)


def test_a_change_goes_out_as_a_delta_of_what_the_edge_has() -> None:
    world = settled()
    before = len(world.edges["fra-1"].plans)
    world.offer("jkt-1", "live/film")
    world.run(0.2)
    (delta,) = world.edges["fra-1"].plans[before:]
    assert delta.base is not None
    assert (delta.nodes, delta.routes, len(delta.directory)) == ((), (), 1)


def test_nothing_is_sent_while_nothing_changes() -> None:
    world = settled()
    counts = {node_id: len(edge.plans) for node_id, edge in world.edges.items()}
    world.run(20)
    assert {node_id: len(edge.plans) for node_id, edge in world.edges.items()} == counts


def test_reports_are_acknowledged_at_once() -> None:
    world = settled()
    edge = world.edges["sin-1"]
    edge.acked_at.clear()
    world.offer("sin-1", "a")
    sent_us = world.now_us
    world.run(0.2)
    assert edge.acked_at[0] - sent_us == 2 * world.delay_us


def test_a_silent_link_is_routed_around_at_once() -> None:
    world = settled()
    origin, child, parent = next((o, n, p) for o in SIX for n, p in world.parents(o).items() if p != o)
    world.cut_link(parent, child)
    world.run(1.3)
    assert world.parents(origin)[child] != parent
    assert world.counters["routes_escaped"] >= 1


def test_an_edge_that_dies_is_withdrawn_and_its_children_are_not_left() -> None:
    world = settled()
    world.isolate("sin-1")
    world.disconnect("sin-1")
    world.run(3)
    assert "sin-1" not in world.controller.members
    for node_id, edge in world.edges.items():
        if node_id != "sin-1":
            assert "sin-1" not in edge.plan.nodes
            assert all("sin-1" not in route.path for route in edge.plan.routes.values())


def test_an_edge_without_a_control_session_keeps_its_place_while_others_hear_it() -> None:
    world = settled()
    world.offer("sin-1", "live/film")
    world.run(0.2)
    world.disconnect("sin-1")
    world.run(60)
    assert world.counters["routes_escaped"] == 0
    for node_id, edge in world.edges.items():
        if node_id != "sin-1":
            assert edge.plan.directory == {(b"live", b"film"): "sin-1"}
            assert edge.plan.routes["sin-1"].path[-1] == node_id
    world.connect(world.edges["sin-1"])
    world.run(2)
    assert world.controller.pushes.is_current("sin-1")


def test_a_short_isolation_of_everybody_takes_out_one_region_at_most() -> None:
    world = settled()
    for node_id in SIX[1:]:
        world.isolate(node_id)
    world.disconnect(*SIX[1:])
    world.run(5)
    assert world.counters["edges_withdrawn"] <= 1
    assert world.logged("edges of a second region seem gone; kept for now")
    world.cut.clear()
    for node_id in SIX[1:]:
        world.connect(world.edges[node_id])
    world.run(8)
    for edge in world.edges.values():
        assert set(edge.plan.nodes) == set(SIX)
        assert world.controller.pushes.is_current(edge.node_id)


def test_a_newer_process_of_an_edge_replaces_the_older_session() -> None:
    world = settled()
    edge = world.edges["sin-1"]
    old = edge.session
    edge.restart("b2")
    world.connect(edge)
    world.run(2)
    assert edge.channel.joined
    assert world.controller.sessions == 6
    assert old != edge.session
    assert world.controller.pushes.is_current("sin-1")


def test_an_edge_that_comes_back_with_what_it_has_is_sent_differences_only() -> None:
    world = settled()
    edge = world.edges["sin-1"]
    world.disconnect("sin-1")
    count = len(edge.plans)
    world.run(1)
    world.connect(edge)
    world.run(2)
    assert all(delta.base is not None and not delta.nodes for delta in edge.plans[count:])
    assert world.controller.pushes.is_current("sin-1")


def test_a_refused_plan_is_followed_by_a_whole_one_once_and_disturbs_nobody_else() -> None:
    world = settled()
    edge = world.edges["fra-1"]
    edge.refuse = lambda delta: "I do not like it" if delta.base is not None else None
    count = len(edge.plans)
    world.offer("jkt-1", "live/film")
    world.run(1)
    assert [delta.base is None for delta in edge.plans[count:]] == [False, True]
    assert world.counters["plans_refused_by_edges"] == 1
    assert world.logged("edge refused a plan")[0]["reason"] == "I do not like it"
    assert all(world.controller.pushes.is_current(node_id) for node_id in SIX)


def test_an_edge_that_refuses_everything_is_asked_ever_more_rarely() -> None:
    world = settled()
    edge = world.edges["fra-1"]
    edge.refuse = lambda _: "never"
    count = len(edge.plans)
    world.offer("jkt-1", "live/film")
    world.run(120)
    assert 4 <= len(edge.plans) - count <= 7
    assert not world.controller.pushes.is_current("fra-1")
    assert all(world.controller.pushes.is_current(node_id) for node_id in SIX if node_id != "fra-1")


def test_an_edge_that_never_answers_loses_its_session_and_nothing_else() -> None:
    world = settled()
    edge = world.edges["fra-1"]
    edge.channel.answer_plan = lambda *_: None  # type: ignore[method-assign]
    world.offer("jkt-1", "live/film")
    world.run(12)
    assert world.counters["answers_missing"] >= 1
    assert "fra-1" in world.controller.members


def test_a_planner_that_breaks_leaves_the_plan_in_force() -> None:
    world = settled()
    before = {o: world.parents(o) for o in SIX}
    world.planner_down = True
    world.run(5)
    world.offer("jkt-1", "live/film")
    world.run(1)
    assert {o: world.parents(o) for o in SIX} == before
    assert world.edges["iad-1"].plan.directory
    assert world.logged("planner failed, the plan in force stays")


def test_an_edge_of_a_newer_reign_is_not_led_astray() -> None:
    world = settled()
    edge = world.edges["sin-1"]
    world.disconnect("sin-1")
    edge.channel.set_holds(PlanVersion(epoch=Epoch(cluster="shows", number=9), sequence=1))
    world.connect(edge)
    world.run(1)
    assert not edge.channel.joined
    assert "--epoch-min 10" in edge.refusals[-1]
    assert world.counters["joins_refused"] == 1


def test_only_regions_of_the_cluster_may_join() -> None:
    config = ControllerConfig(regions=frozenset({"fra", "sin"}))
    world = World(("fra-1", "sin-1", "mars-1"), lambda a, b: 50.0, config=config).run(3)
    assert world.edges["mars-1"].refusals == [
        "region 'mars' is not of this cluster; its regions are fra, sin"
    ]
    assert world.controller.pushes.is_current("fra-1")
    assert len(world.controller.members) == 2


def test_an_edge_that_comes_again_and_again_and_may_not_join_is_one_warning() -> None:
    config = ControllerConfig(regions=frozenset({"fra"}))
    world = World(("fra-1", "mars-1"), config=config).run(2)
    for _ in range(3):
        world.edges["mars-1"].restart()
        world.connect(world.edges["mars-1"])
        world.run(1)
    levels = [entry.level for entry in world.log if entry.event == "edge refused"]
    assert levels == ["warning", "debug", "debug", "debug"]
    assert world.counters["joins_refused"] == 4


def test_what_must_not_be_forgotten_is_saved_before_anybody_is_told() -> None:
    world = settled()
    world.offer("jkt-1", "live/film")
    seen = len(world.saves)
    world.run(world.delay_us / SECOND)
    assert [offer.node_id for save in world.saves[seen:] for offer in save.offers] == ["jkt-1"]
    assert not world.edges["fra-1"].plan.directory


def test_a_plan_that_was_long_in_the_making_is_reconciled_with_what_happened_meanwhile() -> None:
    world = settled(20, plan_ms=900)
    world.run(0.05)
    world.isolate("sin-1")
    world.disconnect("sin-1")
    world.offer("jkt-1", "live/film")
    for _ in range(80):
        world.run(0.05)
        for node_id, edge in world.edges.items():
            assert not edge.refusals
            if node_id != "sin-1" and "sin-1" not in edge.plan.nodes:
                assert all("sin-1" not in (*r.path, *r.upstreams) for r in edge.plan.routes.values())
    assert "sin-1" not in world.controller.members
    assert world.edges["fra-1"].plan.directory == {(b"live", b"film"): "jkt-1"}


def test_planning_once_a_period_takes_a_tenth_of_the_processor_and_events_not_much_more() -> None:
    world = settled(20, plan_ms=900)
    runs = world.controller.cycle.runs
    world.run(90)
    assert 9 <= world.controller.cycle.runs - runs <= 20


def far_from_all_but_sin(a: str, b: str) -> float:
    return 30.0 if "sin-1" in (a, b) else 250.0


def test_an_upgrade_goes_to_a_canary_first_and_everybody_follows_when_it_is_well() -> None:
    world = World(SIX, lambda a, b: 90.0).run(60)
    assert "canaries" not in world.counters
    world.rtt_ms = far_from_all_but_sin
    world.run(60)
    assert world.counters["canaries"] >= 1
    assert world.logged("canary passed")
    assert sum(parent == "sin-1" for origin in SIX for parent in world.parents(origin).values()) >= 20
    assert world.counters.get("canaries_failed", 0) == 0


def test_a_canary_that_refuses_its_plan_is_taken_back_and_nobody_else_is_moved() -> None:
    world = World(SIX, lambda a, b: 90.0).run(60)
    before = {origin: world.parents(origin) for origin in SIX}
    for edge in world.edges.values():
        edge.refuse = lambda delta: "not so" if any(len(r.path) > 2 for r in delta.routes) else None
    world.rtt_ms = far_from_all_but_sin
    world.run(15)
    assert world.counters["canaries_failed"] == 1
    (line,) = world.logged("upgrade taken back")
    assert line["reason"] == "the canary refused its plan"
    assert {origin: world.parents(origin) for origin in SIX} == before


def test_an_edge_that_refused_plans_is_told_of_an_escape_at_once() -> None:
    """Its refusals have made the control plane ask it ever more rarely."""
    world = settled()
    origin, child, parent = next((o, n, p) for o in SIX for n, p in world.parents(o).items() if p != o)
    edge = world.edges[child]
    edge.refuse = lambda _: "never"
    world.offer(child, "live/film")
    world.run(12)
    assert world.controller.pushes.rollout(child).retry_us > world.now_us + SECOND
    edge.refuse = lambda _: None
    world.cut_link(parent, child)
    world.run(1.3)
    assert world.parents(origin)[child] != parent


def test_the_answer_to_an_earlier_plan_says_nothing_of_what_the_canary_tries_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = settled()
    acked: list[str] = []
    before = world.counters["plans_acked"]
    monkeypatch.setattr(PlanCycle, "handle_ack", lambda _, node_id: acked.append(node_id))
    world.offer("sin-1", "live/film")
    world.run(0.06)
    world.offer("fra-1", "live/other")
    world.run(0.1)
    assert world.counters["plans_acked"] > before
    assert acked == [], "another plan is in force by now"
    world.run(1)
    assert set(acked) == set(SIX)


def test_an_edge_that_is_withdrawn_is_no_canary_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    world = settled()
    forgotten: list[str] = []
    monkeypatch.setattr(MoveGate, "forget", lambda _, node_id: forgotten.append(node_id))
    world.isolate("sin-1")
    world.disconnect("sin-1")
    world.run(3)
    assert forgotten == ["sin-1"]
