"""A control plane that lost its state, its network, or a relay amid a plan: no edge loses a route."""

from __future__ import annotations

from control_world import SECOND, World

from farcast.control_plane.store import Restored
from farcast.proto.control.messages import Epoch

SIX = ("dxb-1", "fra-1", "iad-1", "jkt-1", "lon-1", "sin-1")


def routes(world: World) -> dict[str, set[str]]:
    return {node: set(edge.plan.routes) for node, edge in world.edges.items()}


def settled() -> World:
    world = World(SIX).run(20)
    world.offer("jkt-1", "live/film")
    return world.run(5)


def test_edges_keep_their_plans_until_a_control_plane_that_lost_its_state_knows_them_all() -> None:
    first = settled()
    before = routes(first)
    for edge in first.edges.values():
        edge.restart()
        edge.plans.clear()
    epoch = Epoch(cluster="shows", number=7)
    world = World([], restored=Restored(epoch), edges=first.edges.values(), now_us=first.now_us)

    def come(node_id: str) -> None:
        edge = world.edges[node_id]
        world.connect(edge)
        world.at(world.now_us + SECOND // 5, lambda: world._report(edge))

    for k, node_id in enumerate(SIX):
        world.at(world.now_us + k * SECOND * 3 // 2, lambda n=node_id: come(n))  # type: ignore[misc]
    for _ in range(300):
        world.run(0.1)
        assert routes(world) == before
        assert all(edge.plan.directory for edge in world.edges.values())
    assert all(edge.plan.version.epoch.number == 7 for edge in world.edges.values())
    assert all(edge.acked_at for edge in world.edges.values())


def test_new_edges_do_not_wait_for_those_of_an_earlier_reign() -> None:
    assert World(SIX).run(3).controller.cycle.runs > 0


def test_an_edge_that_comes_long_after_the_others_keeps_its_plan_until_it_is_planned_for() -> None:
    world = settled()
    world.isolate("sin-1")
    world.disconnect("sin-1")
    world.run(20)
    assert "sin-1" not in world.controller.members
    edge, before = world.edges["sin-1"], routes(world)["sin-1"]
    edge.restart("b2")
    world.cut.clear()
    world.connect(edge)
    for _ in range(100):
        world.run(0.1)
        assert set(edge.plan.routes) == before
    assert world.controller.pushes.is_current("sin-1")


def test_a_control_plane_that_is_cut_off_takes_out_nobody() -> None:
    world = settled()
    before = routes(world)
    world.disconnect(*SIX)
    world.run(600)
    assert sorted(member.node_id for member in world.controller.members) == list(SIX)
    for k, node_id in enumerate(SIX):
        edge = world.edges[node_id]
        world.at(world.now_us + k * SECOND * 3 // 2, lambda e=edge: world.connect(e))  # type: ignore[misc]
    for _ in range(100):
        world.run(0.1)
        assert routes(world) == before


def test_a_plan_that_was_on_its_way_when_a_relay_went_leaves_nobody_without_a_route() -> None:
    world = World(SIX, lambda a, b: 40.0 if "sin-1" in (a, b) else 300.0).run(30)
    assert list(world.parents("jkt-1").values()).count("sin-1") == 4
    world.plan_us = 900_000
    world.run(5.05)
    world.isolate("sin-1")
    world.disconnect("sin-1")
    left = [node for node in SIX if node != "sin-1"]
    for _ in range(120):
        world.run(0.05)
        for node in left:
            assert {origin for origin in left if origin != node} <= world.edges[node].plan.routes.keys()
    assert "sin-1" not in world.controller.members
    assert all("sin-1" not in route.upstreams for n in left for route in world.edges[n].plan.routes.values())


def test_an_edge_that_holds_a_later_plan_of_our_own_epoch_is_overtaken() -> None:
    first = World(SIX).run(10)
    for k in range(40):
        first.offer("jkt-1", f"live/f{k}")
        first.run(0.3)
    held = first.edges["fra-1"].plan.version
    for edge in first.edges.values():
        edge.restart()
    world = World(
        SIX,
        restored=Restored(
            held.epoch,
            members=tuple(member.hello for member in first.controller.members),
            trees=first.controller.cycle.trees,
        ),
        edges=first.edges.values(),
        now_us=first.now_us,
    ).run(5)
    assert [edge.refusals for edge in world.edges.values()] == [[]] * len(SIX)
    assert all(edge.plan.version.sequence > held.sequence for edge in world.edges.values())
    assert world.controller.pushes.sequence < held.sequence + 100
