"""A control plane that comes back: its state, its patience, and what edges see of it."""

from __future__ import annotations

import pytest
from control_world import SECOND, World

from farcast.control_plane.branches import Tree
from farcast.control_plane.directory import Fields
from farcast.control_plane.intents import NO_INTENTS
from farcast.control_plane.store import Restored, Save
from farcast.proto.control.messages import Epoch, Hello

SIX = ("dxb-1", "fra-1", "iad-1", "jkt-1", "lon-1", "sin-1")


def line(a: str, b: str) -> float:
    return 20.0 + 40.0 * abs(SIX.index(a) - SIX.index(b))


def merged(saves: list[Save], number: int = 2) -> Restored:
    """What a store would give back after these."""
    members: tuple[Hello, ...] = ()
    intents = NO_INTENTS
    trees: dict[str, Tree] = {}
    offers: dict[tuple[Fields, str], int | None] = {}
    for save in saves:
        members = save.members or members
        intents = save.intents or intents
        trees = {o: t for o, t in {**trees, **save.trees}.items() if t is not None}
        for offer in save.offers:
            offers[offer.namespace, offer.node_id] = offer.since_us
    return Restored(
        Epoch(cluster="shows", number=number),
        members=members,
        intents=intents,
        trees=trees,
        offers=tuple((ns, node, since) for (ns, node), since in offers.items() if since is not None),
    )


def restarted(world: World, node_ids: tuple[str, ...] = SIX, clock_jump_us: int = 0) -> World:
    """Another control plane on the state of the first; the edges are the same and come back."""
    for edge in world.edges.values():
        edge.channel.handle_disconnected("control plane gone", world.now_us)
        edge.plans.clear()
    return World(
        node_ids,
        world.rtt_ms,
        restored=merged(world.saves),
        edges=world.edges.values(),
        now_us=world.now_us,
        clock_jump_us=clock_jump_us,
    )


def test_edges_keep_every_route_and_namespace_when_the_control_plane_is_restarted() -> None:
    first = World(SIX, line).run(100)
    first.offer("jkt-1", "live/film")
    first.run(1)
    before = {origin: first.parents(origin) for origin in SIX}
    world = restarted(first)
    for _ in range(200):
        world.run(0.05)
        assert {origin: world.parents(origin) for origin in SIX} == before
        assert all(e.plan.directory == {(b"live", b"film"): "jkt-1"} for e in world.edges.values())
    assert all(edge.plan.version.epoch.number == 2 for edge in world.edges.values())
    assert world.counters.get("routes_escaped", 0) == 0


def test_no_plan_is_made_out_of_half_a_network() -> None:
    first = World(SIX, line).run(8)
    before = {origin: first.parents(origin) for origin in SIX}
    world = restarted(first, SIX[:3]).run(9)
    assert world.controller.cycle.runs == 0
    assert world.controller.cycle.holding(world.now_us)
    assert {origin: world.parents(origin) for origin in SIX} == before


def test_planning_begins_when_everybody_is_back() -> None:
    world = restarted(World(SIX, line).run(8)).run(3)
    assert world.controller.cycle.runs > 0


def test_those_who_do_not_come_back_are_withdrawn_in_the_end_region_by_region() -> None:
    world = restarted(World(SIX, line).run(8), SIX[:4])
    for edge in SIX[4:]:
        world.isolate(edge)
    world.run(16)
    assert len(world.controller.members) == 5
    world.run(30)
    assert sorted(member.node_id for member in world.controller.members) == list(SIX[:4])
    assert set(world.edges["fra-1"].plan.nodes) == set(SIX[:4])


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_the_older_offer_wins_across_a_restart_whatever_the_wall_clock_does(hours: int) -> None:
    first = World(SIX, line).run(3)
    first.offer("sin-1", "live/film")
    first.run(20)
    first.offer("dxb-1", "live/film")
    first.run(5)
    world = restarted(first, clock_jump_us=hours * 3_600 * SECOND)
    for _ in range(40):
        world.run(0.1)
        assert world.controller.directory.table == {(b"live", b"film"): "sin-1"}


def test_a_drain_is_remembered() -> None:
    first = World(SIX, line).run(3)
    first.controller.drain("fra-1", 5_000, first.now_us)
    first.run(1)
    world = restarted(first).run(3)
    member = world.controller.members.get("fra-1")
    assert member is not None
    assert member.draining
    assert world.edges["iad-1"].plan.nodes["fra-1"].draining


def test_times_on_the_disk_are_the_wall_clock() -> None:
    world = World(SIX[:2], line).run(3)
    world.offer("dxb-1", "live/film")
    world.run(1)
    (since_us,) = [offer.since_us for save in world.saves for offer in save.offers]
    assert since_us is not None
    assert 1_790_000_000 * SECOND < since_us < 1_790_000_010 * SECOND
