"""The planner: a pure function from the network, the demand and its own memory to trees.

Per origin one tree over all edges, because one upstream per track and edge is what makes fan-out cheap;
pairwise best routes would give an edge two upstreams, or two edges each other. A plan is made in five steps,
each a module of its own:

1. `costs`: what an edge costs for the search, and what a whole branch really costs.
2. `tree_search` and `improve`: the trees that would be best now, nothing of the past considered.
3. `damping`: the trees to put in force, which differ from those in force only where somebody must move, or
   where it is worth moving and has been for a while.
4. `capacity`: moves off what is overloaded.
5. `backups`: for each node other upstreams that would not fail together with its branch.

Same input, same plan: nothing here reads a clock, draws a number, or depends on the order of a set; ties go
to the smaller node id.

Not done, and why: Steiner trees (cheapest in edges, not in delay; NP-hard), pairwise k-shortest paths
(routing.md §3: what they give beyond two relays is nothing on measured networks), linear programming on
every report (seconds at 40 nodes), Vivaldi coordinates (cannot see a detour).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.backups import backups
from farcast.control_plane.capacity import Loads, Wanted, overloaded, relieve
from farcast.control_plane.costs import OUT_OF_BOUNDS_MS, Branches, Costs
from farcast.control_plane.damping import Past, moves, recall, settle
from farcast.control_plane.explain import Candidate, Explanation, explain
from farcast.control_plane.improve import improve
from farcast.control_plane.network import Bools, Floats, Indices, Network
from farcast.control_plane.pinning import PinState, judge_pins, pinned_parents
from farcast.control_plane.plan import (
    NEVER_US,
    NEW,
    Demand,
    Move,
    Plan,
    PlannerConfig,
    PlannerMemory,
    Tree,
)
from farcast.control_plane.tree_search import grow, repair

__all__ = [
    "Candidate",
    "Demand",
    "Explanation",
    "Move",
    "Plan",
    "PlannerConfig",
    "PlannerMemory",
    "Tree",
    "explain",
    "plan",
]

FIRST_BLOCKS: Final = 3
"""Where capacities are bounded, the first plan is made for so many blocks of origins one after another, each
of which sees what the ones before load."""


def plan(
    network: Network,
    demand: Mapping[str, Demand],
    memory: PlannerMemory,
    config: PlannerConfig,
    pins: Sequence[PinState] = (),
) -> tuple[Plan, PlannerMemory]:
    """Trees for every origin named in ``demand`` that is in the network (an empty `Demand` will do).

    ``network.now_us`` is the time. Pass the memory that the run before gave back. ``pins`` that can be are
    held to, whatever they cost; the plan says which those are.
    """
    origins = tuple(sorted(name for name in demand if name in network.index))
    if not origins:
        states, failed_us = judge_pins(network, pins, origins, memory.pins_failed_us, config.hold_down_us)
        return Plan({}, pins=states), PlannerMemory(counted_us=memory.counted_us, pins_failed_us=failed_us)
    at = np.array([network.index[name] for name in origins])
    wanted = Wanted.of(network, demand, origins)
    past = recall(memory, network, origins, config.backups_max)
    costs = Costs(network, config)
    states, failed_us = judge_pins(network, pins, origins, memory.pins_failed_us, config.hold_down_us)
    pinned = pinned_parents(network, states, origins)
    if past.is_blank:
        parents, loads = _first(costs, wanted, at, pinned)
        causes, streak = np.full(parents.shape, NEW, dtype=object), past.streak
        counted_us = network.now_us
    else:
        before = Loads(network, wanted, past.parents) if _is_bounded(network) else None
        parents, causes, streak, counted_us = _next(costs, before, past, at, pinned)
        loads = None if before is None else before.of(parents)
    relieved = np.zeros(parents.shape, np.bool_)
    branches = costs.branches(parents, at)
    if loads is not None and loads.overload() > 0:
        relieved = relieve(costs, loads, parents, at, branches, pinned >= 0)
    changes = moves(network, origins, past, parents, causes, relieved)
    is_same_tree = (parents == past.parents).all(axis=1)
    held = np.where(is_same_tree[:, None, None], past.backups, -1)
    ranks, shares = backups(costs, parents, at, held, wanted.anywhere)
    result = Plan(
        _trees(costs, parents, (ranks, shares), at, origins, branches),
        () if loads is None else overloaded(loads),
        changes,
        network.node_ids,
        np.zeros(len(network.nodes)) if loads is None else loads.node_fill,
        np.zeros(network.rtt_ms.shape) if loads is None else loads.link_fill,
        states,
    )
    remembered = _remember(network, origins, past, parents, causes, relieved)
    return result, PlannerMemory(
        origins, network.node_ids, parents, streak, remembered, ranks, counted_us, failed_us
    )


def best_trees(costs: Costs, origins: Indices, pinned: Indices) -> tuple[Indices, Branches]:
    """The trees that would be best now, were it not for capacities and the past. ``pinned``: the only parents
    that nodes may have, -1 for any."""
    fixed = pinned if (pinned >= 0).any() else None
    parents = grow(costs.search_ms, origins, costs.may_relay, fixed, None, costs.held_ms)
    branches = costs.branches(parents, origins)
    free = pinned < 0
    improve(costs, parents, origins, branches, free)
    repair(costs, parents, origins, branches, free)
    return parents, branches


def _first(costs: Costs, wanted: Wanted, origins: Indices, pinned: Indices) -> tuple[Indices, Loads | None]:
    """The first plan, and what it loads. Origins with the most to send choose first."""
    if not _is_bounded(costs.network):
        return best_trees(costs, origins, pinned)[0], None
    parents = np.full((len(origins), len(costs.network.nodes)), -1)
    loads = Loads(costs.network, wanted, parents)
    totals = np.array([rates.sum() for rates in wanted.bps])
    order = np.argsort(-totals, kind="stable")
    for block in np.array_split(order, min(FIRST_BLOCKS, len(order))):
        costs.set_fill(loads.node_fill, loads.link_fill)
        parents[block] = best_trees(costs, origins[block], pinned[block])[0]
        for row in block.tolist():
            loads.update(parents, row)
    costs.set_fill(loads.node_fill, loads.link_fill)
    return parents, loads


def _next(
    costs: Costs, before: Loads | None, past: Past, origins: Indices, pinned: Indices
) -> tuple[Indices, NDArray[np.object_], Indices, int]:
    """The plan after another. Penalties are those of what is in force, which loads as ``before`` says."""
    network = costs.network
    if before is not None:
        costs.set_fill(before.node_fill, before.link_fill)

    def overloads(parents: Indices) -> tuple[Bools, Bools]:
        if before is None:
            return np.zeros(len(network.nodes), np.bool_), np.zeros(network.usable.shape, np.bool_)
        after = before.of(parents)
        return after.node_fill > 1, after.link_fill > 1

    best_parents, best = best_trees(costs, origins, pinned)
    settled = settle(costs, past, best_parents, best, origins, overloads, pinned)
    return settled.parents, settled.causes, settled.streak, settled.counted_us


def _trees(
    costs: Costs,
    parents: Indices,
    backups: tuple[Indices, NDArray[np.uint8]],
    at: Indices,
    origins: Sequence[str],
    branches: Branches,
) -> dict[str, Tree]:
    ids = costs.network.node_ids
    ranks, shares = backups
    delays, losses = _named(branches.delay_ms), _named(branches.loss)
    beyond = OUT_OF_BOUNDS_MS * (branches.cost_ms >= OUT_OF_BOUNDS_MS)
    costs_ms = _named(branches.cost_ms - beyond)
    for figures in (delays, losses, costs_ms):
        figures[np.arange(len(at)), at] = 0.0
    return {
        origin: Tree(
            origin, ids, parents[row], ranks[row], shares[row], delays[row], losses[row], costs_ms[row]
        )
        for row, origin in enumerate(origins)
    }


def _remember(
    network: Network,
    origins: Sequence[str],
    past: Past,
    parents: Indices,
    causes: NDArray[np.object_],
    relieved: Bools,
) -> Indices:
    """When nodes moved last; what is new has not moved."""
    moved = (parents != past.parents) & ((causes != NEW) | relieved)
    remembered: Indices = np.where(moved, network.now_us, past.moved_us)
    remembered[(past.parents < 0) & ~past.lost] = NEVER_US
    return remembered


def _named(figures: Floats) -> Floats:
    return np.where(np.isfinite(figures), figures, np.nan)


def _is_bounded(network: Network) -> bool:
    return any(node.capacity_bps for node in network.nodes) or bool(network.capacity_bps.any())
