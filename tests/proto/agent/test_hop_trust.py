"""Hops of certificates that a plan revokes are closed, and none begins with one."""

from __future__ import annotations

from farcast.proto.joining.revocations import Certified, Revocations, RevokedNode

from .plans import Plans
from .world import Host, World

BEGINS = 100
ISSUED = {"a": Certified("a", "a", "aa", BEGINS), "b": Certified("b", "b", "bb", BEGINS)}


def pair() -> tuple[World, Host, Host, Plans]:
    world = World()
    one, two = (
        world.planned_edge(name, peer_certificate=lambda chain: ISSUED[chain[0].decode()]) for name in "ab"
    )
    return world, one, two, Plans(world, one, two)


def hops(edge: Host) -> int:
    return len(edge.engine.hop_peers())


def push(plans: Plans, *to: Host, revoked: Revocations | None = None) -> None:
    plans.push({}, {"a": {"b": ["b"]}, "b": {"a": ["a"]}}, to=to, revoked=revoked)


def test_hops_that_stand_are_closed_when_a_plan_revokes_their_certificate() -> None:
    for revoked in (
        Revocations(serials=("bb",)),
        Revocations(nodes=(RevokedNode(node_id="b", until_unix_s=BEGINS),)),
    ):
        world, one, two, plans = pair()
        push(plans, one, two)
        world.run(200)
        assert (hops(one), hops(two)) == (2, 2)
        push(plans, one, revoked=revoked)
        world.run(50)
        assert hops(one) == 0
        world.run(5_000)
        assert (hops(one), hops(two)) == (0, 0), "it came in again"
        assert one.engine.status(world.now_us)["counters"]["hops_revoked"] > 2


def test_a_certificate_that_is_newer_than_the_revocation_of_its_node_is_let_in() -> None:
    world, one, two, plans = pair()
    earlier = RevokedNode(node_id="b", until_unix_s=BEGINS - 1)
    push(plans, one, revoked=Revocations(nodes=(earlier,)))
    push(plans, two)
    world.run(200)
    assert (hops(one), hops(two)) == (2, 2)


def test_an_edge_of_another_region_than_the_plan_has_it_in_is_let_in_by_nobody() -> None:
    world, one, two, plans = pair()
    push(plans, one, two)
    world.run(200)
    assert (hops(one), hops(two)) == (2, 2)
    ISSUED["b"] = Certified("elsewhere", "b", "bb", BEGINS)
    try:
        world, one, two, plans = pair()
        push(plans, one, two)
        world.run(5_000)
        assert (hops(one), hops(two)) == (0, 0)
        assert one.engine.status(world.now_us)["counters"]["hops_misidentified"] > 0
    finally:
        ISSUED["b"] = Certified("b", "b", "bb", BEGINS)
