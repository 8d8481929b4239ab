"""When a node may change its parent: escapes at once, upgrades late.

The trees that would be best now are compared with the trees in force. A node whose parent is gone, silent,
unreachable or draining, or whose branch breaks a bound beyond doubt (even by what links may lose at best)
while another keeps them, is free to move at once. A node that would merely be better off becomes free when it
would be better by a tenth and by 10 ms for three reports in a row, and did not move within the hold-down.
The hold-down does not hold a node that is beyond a bound by what is to be reckoned with: what it moved to is
not what it looked like.
What it has is judged by the loss that links have beyond doubt, what it might have by the loss to reckon with:
where the intervals overlap, it stays. For its new branch to be possible others above it may have to move too:
they are its companions, and if one of them is held down the upgrade waits. A pinned node is none of this: it
has the parent that its pin says, at once, and whoever that takes too deep is free to move.

All others are frozen to the parent they have. The new trees are grown with free nodes anywhere and frozen
ones where they were, so a move never costs anybody else one; a free node with frozen ones below it goes no
deeper than those can follow. Whom that leaves unreached is freed as well. An upgrade that turns out not to be
one, or that would overload something, is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.costs import Branches, Costs, ancestors, heights
from farcast.control_plane.improve import improve
from farcast.control_plane.network import Bools, Indices, Network
from farcast.control_plane.plan import (
    CAPACITY,
    COMPANION,
    DEPTH_MAX,
    ESCAPE,
    NEVER_US,
    NEW,
    PIN,
    UPGRADE,
    Move,
    PlannerConfig,
    PlannerMemory,
)
from farcast.control_plane.tree_search import grow, repair

ROUNDS_MAX: Final = 6
"""Times that trees are grown again because something was freed or taken back."""

UPGRADES_LEAST: Final = 8
"""So many routes may be upgraded at once in any network."""

Overloads = Callable[[Indices], tuple[Bools, Bools]]
"""Of trees: which nodes, and which links ``[src, dst]``, they overload."""


@dataclass(frozen=True, slots=True)
class Past:
    """The memory in today's positions. ``lost``: had a parent that is not in the network any more."""

    parents: Indices
    lost: Bools
    streak: Indices
    moved_us: Indices
    backups: Indices
    counted_us: int

    @property
    def is_blank(self) -> bool:
        """Nothing has been planned before."""
        return not (self.parents >= 0).any() and not self.lost.any()


@dataclass(frozen=True, slots=True)
class Settled:
    """Trees to put in force, by what right each node may have moved (`Move`), and new streaks."""

    parents: Indices
    causes: NDArray[np.object_]
    streak: Indices
    counted_us: int


def recall(memory: PlannerMemory, network: Network, origins: Sequence[str], backups: int) -> Past:
    """Nodes and origins that are new have no past. ``backups``: so many of each node."""
    shape = (len(origins), len(network.nodes))
    parents, lost = np.full(shape, -1), np.zeros(shape, np.bool_)
    streak, moved_us = np.zeros(shape, np.int64), np.full(shape, NEVER_US)
    ranks = np.full((*shape, backups), -1)
    row_of = {origin: row for row, origin in enumerate(memory.origins)}
    rows = [row for row, origin in enumerate(origins) if origin in row_of]
    old_rows = [row_of[origins[row]] for row in rows]
    old_of = {node: k for k, node in enumerate(memory.node_ids)}
    columns = [k for k, node in enumerate(network.node_ids) if node in old_of]
    old_columns = [old_of[network.node_ids[k]] for k in columns]
    if rows and columns:
        today = np.array([network.index.get(node, -1) for node in memory.node_ids] + [-1])
        into, out = np.ix_(rows, columns), np.ix_(old_rows, old_columns)
        old = memory.parent[out]
        parents[into] = today[old]
        lost[into] = (old >= 0) & (today[old] < 0)
        streak[into], moved_us[into] = memory.streak[out], memory.moved_us[out]
        held = memory.backups[out][:, :, :backups]
        ranks[into[0], into[1], : held.shape[2]] = today[held]
    return Past(parents, lost, streak, moved_us, ranks, memory.counted_us)


def settle(
    costs: Costs,
    past: Past,
    best_parents: Indices,
    best: Branches,
    origins: Indices,
    overloads: Overloads,
    pins: Indices,
) -> Settled:
    """Trees as near to ``best_parents`` as damping allows; ``best`` has the figures of those. ``pins``:
    parents by order, -1 where there is none."""
    config, now_us = costs.config, costs.network.now_us
    pinned = pins >= 0
    held, broken = _cut(costs, past, origins)
    held = np.where(pinned, pins, held)
    broken = (broken & ~pinned) | _too_deep(held, origins)
    held_branches = costs.branches(held, origins)
    hopeful = costs.branches(held, origins, hopeful=True)
    beyond = _beyond(held, held_branches, hopeful, best)
    wants = _better(hopeful, best, config) & (held >= 0) & (best_parents >= 0) & ~beyond & ~pinned
    counts = now_us - past.counted_us >= 0.9 * config.report_interval_us
    streak = np.where(wants, past.streak + int(counts), 0)
    newcomers = (past.parents < 0) & ~past.lost
    newcomers[np.arange(len(origins)), origins] = False
    must = (newcomers | broken | beyond) & ~pinned
    is_held = past.moved_us > now_us - config.hold_down_us
    in_vain = is_held & ~held_branches.within_bounds & best.within_bounds
    ready = (streak >= config.upgrade_reports) & (~is_held | in_vain)
    ready = _greatest(ready, hopeful, best, config)
    parents, upgraded, companions, must = _grown(
        costs, held, (held_branches, hopeful), origins, must, ready, (best_parents, is_held), overloads
    )
    causes = np.full(held.shape, ESCAPE, dtype=object)
    causes[companions], causes[upgraded], causes[pinned], causes[newcomers] = COMPANION, UPGRADE, PIN, NEW
    streak[parents != past.parents] = 0
    return Settled(parents, causes, streak, now_us if counts else past.counted_us)


def moves(
    network: Network,
    origins: Sequence[str],
    past: Past,
    parents: Indices,
    causes: NDArray[np.object_],
    relieved: Bools,
) -> tuple[Move, ...]:
    """What changed, in the order of origins and nodes."""
    ids, named = np.array([*network.node_ids, ""], dtype=object), np.array(origins, dtype=object)
    at = rows, nodes = np.nonzero(parents != past.parents)
    columns = (named[rows], ids[nodes], ids[past.parents[at]], ids[parents[at]])
    why = np.where(relieved[at], CAPACITY, causes[at])
    return tuple(map(Move, *(column.tolist() for column in (*columns, why))))


# ---- Who is free ----------------------------------------------------------------------------------


def _cut(costs: Costs, past: Past, origins: Indices) -> tuple[Indices, Bools]:
    """The trees in force without the edges that will not do any more, and where those were."""
    network = costs.network
    held = past.parents.copy()
    barred = np.array([node.draining or not node.transit for node in network.nodes], np.bool_)
    nodes = np.arange(held.shape[1])
    dead = ~network.usable[held, nodes] | (barred[held] & (held != origins[:, None]))
    broken = past.lost | ((held >= 0) & dead)
    held[broken] = -1
    held[np.arange(len(origins)), origins] = -1
    return held, broken


def _too_deep(held: Indices, origins: Indices) -> Bools:
    """Nodes whose branch is longer than any may be."""
    rows, at = np.arange(len(held))[:, None], np.broadcast_to(np.arange(held.shape[1]), held.shape)
    for _ in range(DEPTH_MAX):
        at = np.where(at >= 0, held[rows, at], -1)
    deep: Bools = np.logical_and(at >= 0, at != origins[:, None])
    return deep


def _beyond(held: Indices, now: Branches, hopeful: Branches, best: Branches) -> Bools:
    """Nodes whose branch breaks a bound beyond doubt while a better one keeps them; the topmost of each
    branch only: those below may be well once it has moved."""
    beyond = np.isfinite(now.cost_ms) & ~now.within_bounds & ~hopeful.within_bounds & best.within_bounds
    under = np.take_along_axis(beyond, np.where(held >= 0, held, 0), axis=1) & (held >= 0)
    topmost: Bools = np.logical_and(beyond, ~under)
    return topmost


def _better(before: Branches, after: Branches, config: PlannerConfig) -> Bools:
    """Branches that are better by enough than what is there."""
    with np.errstate(invalid="ignore"):
        enough = (after.cost_ms <= (1 - config.upgrade_ratio) * before.cost_ms) & (
            after.cost_ms <= before.cost_ms - config.upgrade_ms
        )
    better: Bools = np.logical_and(enough, np.isfinite(before.cost_ms))
    return better


def _greatest(ready: Bools, now: Branches, best: Branches, config: PlannerConfig) -> Bools:
    """At most so many of ``ready`` as may be upgraded at once, those with the greatest gains."""
    most = max(int(config.upgrades_share_max * ready.size), UPGRADES_LEAST)
    rows, nodes = np.nonzero(ready)
    if len(rows) <= most:
        return ready
    gain = now.cost_ms[rows, nodes] - best.cost_ms[rows, nodes]
    first = np.argsort(-gain, kind="stable")[:most]
    chosen = np.zeros_like(ready)
    chosen[rows[first], nodes[first]] = True
    return chosen


def _companions(
    ready: Bools, held: Indices, best_parents: Indices, origins: Indices, is_held: Bools
) -> tuple[Bools, Bools]:
    """Those of ``ready`` whose way up is not held down, and the nodes on it that must move with them."""
    rows, nodes = np.nonzero(ready)
    above = ancestors(best_parents, origins)[:, rows, nodes]
    there = above >= 0
    at = np.where(there, above, 0)
    moving = there & (held[rows, at] != best_parents[rows, at]) & (above != origins[rows])
    waits = (moving & is_held[rows, at]).any(axis=0)
    left, companions = np.zeros_like(ready), np.zeros_like(ready)
    left[rows[~waits], nodes[~waits]] = True
    level, which = np.nonzero(moving & ~waits)
    companions[rows[which], above[level, which]] = True
    return left, companions & ~left


# ---- Growing --------------------------------------------------------------------------------------


def _grown(
    costs: Costs,
    held: Indices,
    before: tuple[Branches, Branches],
    origins: Indices,
    must: Bools,
    ready: Bools,
    better: tuple[Indices, Bools],
    overloads: Overloads,
) -> tuple[Indices, Bools, Bools, Bools]:
    """Trees, the nodes upgraded, their companions, and those that had to move.

    Every round either ends it, frees nodes or takes upgrades back; in the last no upgrade is left.
    """
    best_parents, is_held = better
    for step in range(ROUNDS_MAX):
        if step == ROUNDS_MAX - 1:
            ready = np.zeros_like(ready)
        ready, companions = _companions(ready, held, best_parents, origins, is_held)
        free = must | ready | companions
        parents, after = _grow_free(costs, held, before[0], origins, free)
        unreached = (parents < 0) & (held >= 0) & ~free
        taken_back = ready & ~_better(before[1], after, costs.config)
        taken_back |= _too_much(ready | companions, held, parents, overloads)
        if not unreached.any() and not taken_back.any():
            break
        must = must | unreached
        ready = ready & ~taken_back & ~_rows_of(taken_back & companions)
    return parents, ready, companions, must


def _grow_free(
    costs: Costs, held: Indices, before: Branches, origins: Indices, free: Bools
) -> tuple[Indices, Branches]:
    """The trees in force with ``free`` nodes where they are best off; trees without free nodes stay."""
    parents = held.copy()
    after = Branches(before.delay_ms.copy(), before.loss.copy(), before.cost_ms.copy())
    rows = np.flatnonzero(free.any(axis=1))
    if not len(rows):
        return parents, after
    fixed = np.where(free[rows], -1, held[rows])
    depth_max = DEPTH_MAX - heights(fixed)
    grown = grow(costs.search_ms, origins[rows], costs.may_relay, fixed, depth_max, costs.held_ms)
    branches = costs.branches(grown, origins[rows])
    improve(costs, grown, origins[rows], branches, free[rows])
    repair(costs, grown, origins[rows], branches, free[rows])
    parents[rows] = grown
    after.delay_ms[rows], after.loss[rows] = branches.delay_ms, branches.loss
    after.cost_ms[rows] = branches.cost_ms
    return parents, after


def _too_much(moving: Bools, held: Indices, parents: Indices, overloads: Overloads) -> Bools:
    """Nodes that chose to move to where that is too much."""
    chosen: Bools = np.logical_and(moving & (parents != held), parents >= 0)
    if not chosen.any():
        return chosen
    over_node, over_link = overloads(parents)
    rows, nodes = np.nonzero(chosen)
    to = parents[rows, nodes]
    chosen[rows, nodes] = np.logical_or(over_node[to], over_link[to, nodes])
    return chosen


def _rows_of(nodes: Bools) -> Bools:
    """All nodes of the trees in which any is set."""
    whole = np.zeros_like(nodes)
    whole[np.flatnonzero(nodes.any(axis=1))] = True
    return whole
