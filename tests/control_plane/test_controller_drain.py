"""Draining an edge: its children first, then the edge itself, and never longer than is bound."""

from __future__ import annotations

from control_world import SECOND, World

SIX = ("dxb-1", "fra-1", "iad-1", "jkt-1", "lon-1", "sin-1")


def by_way_of_sin(a: str, b: str) -> float:
    """Everything is near to sin-1 and far from everything else."""
    return 30.0 if "sin-1" in (a, b) else 200.0


def settled() -> World:
    world = World(SIX, by_way_of_sin).run(60)
    assert [n for n, p in world.parents("jkt-1").items() if p == "sin-1"]
    return world


def relayed_by(world: World, node_id: str) -> list[tuple[str, str]]:
    return [
        (origin, child)
        for origin in SIX
        if origin != node_id
        for child, parent in world.parents(origin).items()
        if parent == node_id
    ]


def test_children_are_moved_before_the_edge_is_told() -> None:
    world = settled()
    canaries = world.counters.get("canaries", 0)
    assert world.controller.drain("sin-1", 20_000, world.now_us) is None
    world.flush()
    while not world.edges["sin-1"].drains:
        moved = not relayed_by(world, "sin-1")
        world.run(0.01)
        assert moved or not world.edges["sin-1"].drains
    assert world.edges["sin-1"].drains == [20_000]
    assert world.counters["routes_escaped"] > 0
    assert world.counters.get("canaries", 0) == canaries
    assert world.edges["fra-1"].plan.nodes["sin-1"].draining


def test_a_drain_is_not_held_up_by_the_guard() -> None:
    world = settled()
    share = len(relayed_by(world, "sin-1")) / 30
    assert share > 0.3
    world.controller.drain("sin-1", None, world.now_us)
    world.run(0.3)
    assert not relayed_by(world, "sin-1")
    assert "plans_refused_by_guard" not in world.counters


def test_an_edge_is_told_at_last_even_if_a_child_does_not_follow() -> None:
    world = settled()
    (_, child) = relayed_by(world, "sin-1")[0]
    world.edges[child].refuse = lambda _: "never"
    world.controller.drain("sin-1", 1_000, world.now_us)
    world.run(4)
    assert world.edges["sin-1"].drains == []
    world.run(2)
    assert world.edges["sin-1"].drains == [1_000]


def test_an_edge_that_drains_by_itself_is_relieved_too() -> None:
    world = settled()
    world.edges["sin-1"].draining = True
    world.run(2)
    assert not relayed_by(world, "sin-1")
    assert world.edges["sin-1"].drains == []


def test_an_order_taken_back_makes_the_edge_a_relay_again() -> None:
    world = settled()
    world.controller.drain("sin-1", 1_000, world.now_us)
    world.run(2)
    assert world.controller.undrain("sin-1", world.now_us) is None
    world.run(60)
    assert relayed_by(world, "sin-1")
    assert world.controller.undrain("sin-1", world.now_us) == "edge 'sin-1' has no order to drain"


def test_an_order_outlives_the_session_of_the_edge() -> None:
    world = settled()
    world.disconnect("sin-1")
    world.controller.drain("sin-1", 7_000, world.now_us)
    world.run(2)
    assert world.edges["sin-1"].drains == []
    world.connect(world.edges["sin-1"])
    world.run(2)
    assert world.edges["sin-1"].drains == [7_000]


def test_orders_that_make_no_sense_are_refused_with_what_would() -> None:
    world = settled()
    controller = world.controller
    assert controller.drain("sin-2", None, world.now_us) == (
        "no edge 'sin-2'; known are dxb-1, fra-1, iad-1, jkt-1, lon-1, sin-1"
    )
    assert "0 to 86400000" in (controller.drain("sin-1", -1, world.now_us) or "")
    assert world.now_us > SECOND
