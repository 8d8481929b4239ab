"""When routes move: escapes at once, upgrades late, never for noise."""

from __future__ import annotations

import dataclasses
from collections import Counter
from functools import cache
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import SECOND_US, all_origins, at, first_plan, line, network_of, with_links, with_nodes
from reports import hello, link, report

from farcast.control_plane.branches import Upstreams
from farcast.control_plane.costs import Costs
from farcast.control_plane.link_state import LinkState, LinkStateConfig
from farcast.control_plane.network import Floats, Network
from farcast.control_plane.plan import (
    CAPACITY,
    COMPANION,
    DEPTH_MAX,
    ESCAPE,
    NEW,
    UPGRADE,
    Move,
)
from farcast.control_plane.planner import Plan, PlannerConfig, PlannerMemory, plan
from farcast.control_plane.planning import PlanJob
from farcast.proto.control.messages import LinkReport

CONFIG = PlannerConfig()
SEEDS = st.integers(0, 2**32 - 1)
BY_CHOICE = (UPGRADE, COMPANION)


class Run:
    """Plans one after another, a second apart unless said otherwise."""

    def __init__(self, network: Network, config: PlannerConfig = CONFIG) -> None:
        self.config = config
        self.now_s = 0.0
        self.memory = PlannerMemory()
        self.plan = self.step(network, 0.0)

    def step(self, network: Network, after_s: float = 1.0) -> Plan:
        self.now_s += after_s
        here = at(network, self.now_s)
        self.plan, self.memory = plan(here, all_origins(here), self.memory, self.config)
        return self.plan

    def parent(self, origin: str, node: str) -> str | None:
        return self.plan.trees[origin].parent.get(node)


def triangle(by_relay_ms: float = 60.0, **changes: object) -> Network:
    """``a`` and ``b`` 100 ms apart, or ``by_relay_ms`` by way of ``m``."""
    half = by_relay_ms / 2
    return line({("a", "b"): 100.0, ("a", "m"): half, ("m", "b"): half}, **changes)


SLOW, FAST = triangle(200.0), triangle(60.0)


def test_an_upgrade_waits_for_three_reports() -> None:
    run = Run(SLOW)
    assert run.parent("a", "b") == "a"
    for _ in range(2):
        assert run.step(FAST).moves == ()
    moved = run.step(FAST).moves
    assert Move("a", "b", "a", "m", UPGRADE) in moved
    assert run.parent("a", "b") == "m"


def test_runs_within_one_report_interval_count_once() -> None:
    run = Run(SLOW)
    for _ in range(10):
        assert run.step(FAST, after_s=0.1).moves == ()


def test_an_upgrade_that_was_held_back_is_proposed_again_before_the_next_report() -> None:
    """A canary that passes calls for a run at once; routes that waited for it have to be in that."""
    run = Run(SLOW)
    in_force = {
        origin: {node: Upstreams(parent) for node, parent in tree.parent.items()}
        for origin, tree in run.plan.trees.items()
    }
    for after_s in (1.0, 1.0, 1.0, 0.2):
        run.now_s += after_s
        here = at(FAST, run.now_s)
        planned = PlanJob(here, all_origins(here), run.memory, CONFIG).run()
        run.memory = planned.memory_of(in_force)
    assert Move("a", "b", "a", "m", UPGRADE) in planned.plan.moves
    for after_s, moves in ((0.2, True), (0.2, False)):
        here = at(FAST if moves else SLOW, run.now_s + after_s)
        planned = PlanJob(here, all_origins(here), run.memory, CONFIG).run()
        run.memory = planned.memory_of(in_force)
        assert bool(planned.plan.moves) == moves


def test_the_hold_down_keeps_nobody_beyond_a_bound_after_an_upgrade_in_vain() -> None:
    longer = line({("a", "b"): 100.0, ("a", "m"): 30.0, ("m", "b"): 400.0})
    lossy = with_links(longer, "loss_high", 0.2, ("m", "b"))
    for network, moves_at_s in ((lossy, 3), (longer, 31)):
        run = Run(SLOW)
        while run.parent("a", "b") != "m":
            run.step(FAST)
        seconds = 0
        while run.parent("a", "b") == "m":
            run.step(network)
            seconds += 1
        assert abs(seconds - moves_at_s) <= 1


def test_a_report_that_is_not_better_starts_the_count_anew() -> None:
    run = Run(SLOW)
    for network in (FAST, FAST, SLOW, FAST, FAST):
        assert run.step(network).moves == ()
    assert run.step(FAST).moves != ()


def test_a_gain_below_a_tenth_or_ten_milliseconds_is_no_upgrade() -> None:
    for direct_ms, relayed_ms in ((100.0, 92.0), (20.0, 4.0)):
        slow = line({("a", "b"): direct_ms, ("a", "m"): direct_ms, ("m", "b"): direct_ms})
        half = relayed_ms / 2
        fast = line({("a", "b"): direct_ms, ("a", "m"): half, ("m", "b"): half})
        run = Run(slow)
        assert all(run.step(fast).moves == () for _ in range(10))


def test_after_a_move_a_route_is_held_for_thirty_seconds() -> None:
    run = Run(SLOW)
    while run.parent("a", "b") == "a":
        run.step(FAST)
    moved_s = run.now_s
    while run.parent("a", "b") == "m":
        run.step(SLOW)
    assert run.now_s - moved_s >= 30


def test_a_silent_link_is_left_at_once_even_when_held() -> None:
    run = Run(SLOW)
    while run.parent("a", "b") == "a":
        run.step(FAST)
    moved = run.step(with_links(FAST, "usable", False, ("m", "b")), after_s=0.05).moves
    assert moved == (Move("a", "b", "m", "a", ESCAPE), Move("m", "b", "m", "a", ESCAPE))


def test_a_draining_relay_loses_its_children_at_once_and_keeps_its_parent() -> None:
    run = Run(FAST)
    assert run.parent("a", "b") == "m"
    run.step(with_nodes(FAST, m={"draining": True}), after_s=0.05)
    assert run.parent("a", "b") == "a"
    assert run.parent("a", "m") == "a"


def test_a_relay_that_is_gone_is_left_at_once() -> None:
    run = Run(FAST)
    made = run.step(line({("a", "b"): 100.0}), after_s=0.05)
    assert made.trees["a"].path("b") == ("a", "b")
    assert [move.cause for move in made.moves if move.node == "b" and move.origin == "a"] == [ESCAPE]


def test_a_relay_without_control_session_keeps_its_children() -> None:
    run = Run(FAST)
    for _ in range(5):
        assert run.step(with_nodes(FAST, m={"connected": False})).moves == ()


def test_links_without_news_keep_what_they_carry_and_get_nothing_new() -> None:
    run = Run(FAST)
    stale = with_links(FAST, "fresh", False, ("m", "b"), ("a", "m"))
    assert all(run.step(stale).moves == () for _ in range(5))
    fresh_start = Run(stale)
    assert fresh_start.parent("a", "b") == "a"


def test_loss_beyond_the_bound_beyond_doubt_is_escaped_at_once() -> None:
    run = Run(FAST)
    lossy = with_links(FAST, "loss_high", 0.3, ("m", "b"))
    beyond = with_links(lossy, "loss_low", 0.2, ("m", "b"))
    moved = run.step(beyond, after_s=0.05).moves
    assert Move("a", "b", "m", "a", ESCAPE) in moved


def test_loss_that_may_be_chance_is_no_reason_to_escape() -> None:
    run = Run(FAST)
    doubtful = with_links(FAST, "loss_high", 0.3, ("m", "b"))
    doubtful = with_links(doubtful, "loss_low", 0.0, ("m", "b"))
    assert all(run.step(doubtful).moves == () for _ in range(10))
    certain = with_links(doubtful, "loss_low", 0.08, ("m", "b"))
    moves = [run.step(certain).moves for _ in range(3)]
    assert moves[:2] == [(), ()]
    assert Move("a", "b", "m", "a", UPGRADE) in moves[2]


def test_only_the_node_below_a_broken_link_moves() -> None:
    chain = line({("a", "b"): 20.0, ("b", "c"): 20.0, ("a", "c"): 90.0, ("a", "d"): 22.0, ("d", "b"): 22.0})
    run = Run(chain)
    assert run.plan.trees["a"].path("c") == ("a", "b", "c")
    made = run.step(with_links(chain, "usable", False, ("a", "b")), after_s=0.05)
    assert [move for move in made.moves if move.origin == "a"] == [Move("a", "b", "a", "d", ESCAPE)]
    assert made.trees["a"].path("c") == ("a", "d", "b", "c")


def test_a_new_node_gets_a_parent_at_once_and_is_not_held() -> None:
    run = Run(line({("a", "b"): 100.0}))
    made = run.step(SLOW)
    assert {move.cause for move in made.moves} == {NEW}
    assert run.parent("a", "m") == "a"
    for _ in range(3):
        run.step(FAST)
    assert run.parent("a", "b") == "m"


def test_companions_move_so_that_an_upgrade_is_possible() -> None:
    """``d`` is best by ``b``, which stands too deep: ``b`` must come up, though not for its own sake."""
    deep = {("a", "x"): 20.0, ("x", "y"): 20.0, ("y", "b"): 20.0, ("a", "b"): 66.0, ("a", "d"): 200.0}
    run = Run(line({**deep, ("b", "d"): 300.0}))
    assert run.plan.trees["a"].path("b") == ("a", "x", "y", "b")
    near = line({**deep, ("b", "d"): 10.0})
    for _ in range(3):
        made = run.step(near)
    assert made.trees["a"].path("d") == ("a", "b", "d")
    causes = {(move.node, move.cause) for move in made.moves if move.origin == "a"}
    assert causes == {("d", UPGRADE), ("b", COMPANION)}


def test_few_routes_are_upgraded_at_once_the_greatest_gains_first() -> None:
    count = 30
    spokes = {("a", f"n{k:02}"): 100.0 + k for k in range(count)}
    hub = {("h", f"n{k:02}"): 20.0 for k in range(count)}
    slow = line({**spokes, **hub, ("a", "h"): 200.0})
    fast = line({**spokes, **hub, ("a", "h"): 20.0})
    network = at(slow, 0)
    demand = {"a": all_origins(network)["a"]}
    _, memory = plan(network, demand, PlannerMemory(), CONFIG)
    made, memory = plan(at(fast, 1), demand, memory, CONFIG)
    made, memory = plan(at(fast, 2), demand, memory, CONFIG)
    made, memory = plan(at(fast, 3), demand, memory, CONFIG)
    moved = [move.node for move in made.moves]
    assert 0 < len(moved) <= 8
    assert "n29" in moved or "h" in moved


# ---- Whatever happens ---------------------------------------------------------------------------------


def noisy(network: Network, draw: np.random.Generator) -> Network:
    """One report's worth of noise: RTTs by 3 %, counts of 1,000 packets."""
    rtt_ms = network.rtt_ms * draw.normal(1, 0.03, network.rtt_ms.shape).clip(0.9, 1.1)
    lost = draw.binomial(1_000, network.loss) / 1_000
    spread = 1.645 * np.sqrt(np.maximum(lost, 1e-3) / 1_000)
    return dataclasses.replace(
        network,
        rtt_ms=rtt_ms,
        rtt_p99_ms=rtt_ms * 1.1,
        loss=lost,
        loss_high=np.minimum(lost + spread, 0.9),
        loss_low=np.maximum(lost - spread, 0.0),
    )


@settings(max_examples=12)
@given(SEEDS, st.integers(4, 9))
def test_noise_moves_no_route_more_than_once_in_thirty_seconds(seed: int, count: int) -> None:
    network, draw = network_of(seed, count), np.random.default_rng(seed)
    run = Run(noisy(network, draw))
    moved_s: dict[tuple[str, str], float] = {}
    for _ in range(60):
        for move in run.step(noisy(network, draw)).moves:
            assert move.cause in (*BY_CHOICE, ESCAPE)
            if move.cause in BY_CHOICE:
                key = move.origin, move.node
                assert run.now_s - moved_s.get(key, -1e9) >= 30
                moved_s[key] = run.now_s


def test_noise_in_reports_of_a_quiet_network_moves_next_to_nothing() -> None:
    moves = Counter(move.cause for made in plans_of_a_quiet_network() for move in made.moves)
    assert moves[NEW] == 42
    assert moves[ESCAPE] == 0
    assert moves[UPGRADE] + moves[COMPANION] <= 4


def test_noise_in_reports_of_a_quiet_network_reorders_next_to_no_backups() -> None:
    ways = [{o: tree.backups for o, tree in made.trees.items()} for made in plans_of_a_quiet_network()]
    changed = sum(
        before[origin][node] != after[origin][node]
        for before, after in pairwise(ways[10:])
        for origin in after
        for node in after[origin]
    )
    assert changed <= 8


@cache
def plans_of_a_quiet_network() -> list[Plan]:
    """Through link state, as it would be: 50 packets a second on each link, RTTs that wander by 3 %."""
    world, draw = network_of(3, 7, usable=True, loss=0.0003), np.random.default_rng(3)
    state = LinkState(LinkStateConfig())
    for node in world.nodes:
        state.join(hello(node.node_id, node.region), 0)
    wander, plans, memory = np.ones(world.rtt_ms.shape), list[Plan](), PlannerMemory()
    for second in range(1, 121):
        wander += 0.125 * (draw.normal(1, 0.08, wander.shape) - wander)
        now_us = second * SECOND_US
        for node in world.nodes:
            links = reported(world, node.node_id, wander, draw)
            state.handle_report(node.node_id, report(second, links=links, full=second == 1), now_us)
        made, memory = plan(state.network(now_us), all_origins(world), memory, CONFIG)
        plans.append(made)
    return plans


def reported(world: Network, node_id: str, wander: Floats, draw: np.random.Generator) -> list[LinkReport]:
    """What a node says of its links in one second."""
    j = world.index[node_id]
    links = []
    for i, peer in enumerate(world.node_ids):
        if peer != node_id:
            rtt_us = int(1e3 * world.rtt_ms[i, j] * wander[i, j])
            lost = int(draw.binomial(50, world.loss[i, j]))
            links.append(link(peer, rtt_us, rx_packets=50, rx_lost=lost, rx_bursts=(lost,) if lost else ()))
    return links


@settings(max_examples=25)
@given(SEEDS, st.integers(3, 9), st.lists(SEEDS, min_size=3, max_size=12))
def test_trees_stay_trees_through_any_change(seed: int, count: int, changes: list[int]) -> None:
    run = Run(network_of(seed, count))
    for change in changes:
        draw = np.random.default_rng(change)
        size = int(draw.integers(2, count + 1))
        network = network_of(seed if change % 2 else change, size)
        network = dataclasses.replace(network, usable=network.usable & (draw.random((size, size)) < 0.8))
        node = f"n{draw.integers(0, size)}"
        network = with_nodes(network, **{node: {"draining": True}})
        made = run.step(network, after_s=float(draw.choice([0.1, 1.0, 40.0])))
        for origin, tree in made.trees.items():
            for v, parent in tree.parent.items():
                path = tree.path(v)
                assert path[0] == origin
                assert len(set(path)) == len(path) <= DEPTH_MAX + 1
                assert network.usable[network.index[parent], network.index[v]]
                assert parent == origin or not network.node(parent).draining


def assert_not_worse_than_direct(network: Network, made: Plan, *, moved_only: bool) -> None:
    """Beyond what damping allows; what has just moved is not worse at all."""
    costs, origins = Costs(network, CONFIG), np.arange(len(network.nodes))
    direct = costs.direct(origins)
    chosen = costs.branches(np.stack([made.trees[o].parents for o in network.node_ids]), origins).cost_ms
    moved = np.zeros(chosen.shape, np.bool_)
    for move in made.moves:
        moved[network.index[move.origin], network.index[move.node]] = True
    damped_ms = np.maximum(direct.cost_ms / (1 - CONFIG.upgrade_ratio), direct.cost_ms + CONFIG.upgrade_ms)
    most_ms = np.where(moved, direct.cost_ms, damped_ms) + 1e-6
    judged = direct.within_bounds & (moved | (not moved_only))
    assert (chosen[judged] <= most_ms[judged]).all()


@settings(max_examples=12)
@given(SEEDS, st.integers(3, 8), st.lists(SEEDS, min_size=1, max_size=4))
def test_no_replan_is_worse_than_the_direct_link_by_more_than_damping_allows(
    seed: int, count: int, changes: list[int]
) -> None:
    run = Run(network_of(seed, count))
    for change in changes:
        network = network_of(change, count)
        for after_s in (1.0, 1.0, 1.0, 31.0, 1.0, 1.0, 31.0):
            made = run.step(network, after_s)
            assert_not_worse_than_direct(at(network, run.now_s), made, moved_only=True)
        for _ in range(6):
            made = run.step(network, 1.0)
            made = run.step(network, 31.0)
        assert_not_worse_than_direct(at(network, run.now_s), made, moved_only=False)


@settings(max_examples=15)
@given(SEEDS, st.integers(3, 9))
def test_a_plan_settles_near_the_one_that_would_be_made_anew(seed: int, count: int) -> None:
    """After holding down and counting, no route is worse than the direct link by more than damping allows."""
    run = Run(network_of(seed + 1, count, usable=True))
    network = network_of(seed, count, usable=True)
    for _ in range(12):
        run.step(network, after_s=1.0)
        run.step(network, after_s=31.0)
    anew, _ = first_plan(network)
    for origin, tree in anew.trees.items():
        now = run.plan.trees[origin]
        for node, cost_ms in zip(now.node_ids, tree.costs_ms.tolist(), strict=True):
            k = now.node_ids.index(node)
            assert now.costs_ms[k] <= max(cost_ms / 0.9, cost_ms + 10) + 1e-6


def test_causes_are_named_apart() -> None:
    assert len({UPGRADE, COMPANION, ESCAPE, CAPACITY, NEW}) == 5
