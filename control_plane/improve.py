"""Makes trees better by their real cost, which the search could only approximate.

A local search. In every pass each node of every tree is tried below its most promising other parents; those
are judged as arrays, all at once. Leaves then move at once, since that changes nothing for anybody else (but
not below a leaf that moves itself); of the nodes with others below them the one with the greatest gain in
each tree moves, and stays there if the whole tree has become cheaper. Passes end when nothing moves, or after
`PASSES_MAX`.

What no single move finds is a node that would be the best parent for others and stands too deep, because that
is where it is a little better off itself. Before the passes such nodes are pulled up, together with the node
that gains most by it, if the whole tree gains.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from farcast.control_plane.costs import Branches, Costs, ancestors, blocks, depths, heights
from farcast.control_plane.edge_table import Partial
from farcast.control_plane.network import Bools, Floats, Indices
from farcast.control_plane.plan import DEPTH_MAX

PASSES_MAX: Final = 3

ALTERNATIVES_MAX: Final = 4
"""Other parents that are judged for each node in one pass..."""

PATHS_PER_PASS: Final = 60_000
"""...fewer, where there are so many nodes that all of them would be more branches than this."""

PULLS_MAX: Final = 3
"""Nodes that are tried further up in each tree."""

PULL_MS_MIN: Final = 5.0
"""Gain by additive cost from which that is tried."""

_GAIN_MS_MIN: Final = 1e-3


@dataclass(frozen=True, slots=True)
class _Trees:
    """Trees as they stand, with what is asked of them in a pass; arrays ``[tree, node]``.

    ``above[level, ...]`` as of `ancestors`; ``partial``: of the branch to each node; ``may_send``: who
    may get children.
    """

    parents: Indices
    above: Indices
    depth: Indices
    height: Indices
    may_send: Bools
    partial: Partial

    @classmethod
    def of(cls, costs: Costs, parents: Indices, origins: Indices) -> _Trees:
        above, trees = ancestors(parents, origins), np.arange(len(origins))
        depth = (above >= 0).sum(axis=0)
        may_send = costs.may_relay & (depth > 0)
        may_send[trees, origins] = True
        partial = costs.partial(above, np.arange(parents.shape[1]))
        flat = Partial(partial.base_ms.ravel(), partial.jitter_ms2.ravel(), partial.repair_ms.ravel())
        return cls(parents, above, depth, heights(parents), may_send, flat)


def improve(costs: Costs, parents: Indices, origins: Indices, branches: Branches, free: Bools) -> None:
    """Change the parents of ``free`` nodes in place, and ``branches`` with them, while that gains."""
    moving = free.copy()
    moving[np.arange(len(origins)), origins] = False
    _pull_up(costs, parents, origins, branches, moving)
    promising = _promising(costs, parents, origins)
    for _ in range(PASSES_MAX):
        rows, nodes = np.nonzero(moving)
        trees = _Trees.of(costs, parents, origins)
        best, there = _best_alternatives(costs, trees, branches, promising[rows, nodes], rows, nodes)
        with np.errstate(invalid="ignore"):
            gain = branches.cost_ms[rows, nodes] - there.cost_ms
        found = np.flatnonzero(np.isfinite(there.cost_ms) & (gain > _GAIN_MS_MIN))
        if not len(found):
            return
        leaf = trees.height[rows[found], nodes[found]] == 0
        inner = found[~leaf]
        changed = _move_inner(
            costs, parents, origins, branches, rows[inner], nodes[inner], best[inner], gain[inner]
        )
        leaves = _steady(found[leaf & ~np.isin(rows[found], changed)], rows, nodes, best, parents.shape)
        at = rows[leaves], nodes[leaves]
        parents[at] = best[leaves]
        branches.delay_ms[at], branches.loss[at] = there.delay_ms[leaves], there.loss[leaves]
        branches.cost_ms[at] = there.cost_ms[leaves]
        still = np.zeros(len(origins), np.bool_)
        still[changed] = still[rows[leaves]] = True
        moving[~still] = False


def _pull_up(costs: Costs, parents: Indices, origins: Indices, branches: Branches, free: Bools) -> None:
    """Try nodes that stand too deep where they can have children, each with the one that gains most."""
    for node, parent, above in _pulls(costs, parents, origins, free):
        rows = np.flatnonzero(node >= 0)
        if not len(rows):
            return
        tried = parents[rows]
        tried[np.arange(len(rows)), parent[rows]] = above[rows]
        tried[np.arange(len(rows)), node[rows]] = parent[rows]
        whole = (depths(tried, origins[rows]) >= 0) == (depths(parents[rows], origins[rows]) >= 0)
        after = costs.branches(tried, origins[rows])
        better = whole.all(axis=1)
        better &= _total(after.cost_ms) < _total(branches.cost_ms[rows]) - _GAIN_MS_MIN
        _put(parents, branches, rows, better, tried, after)


def _pulls(
    costs: Costs, parents: Indices, origins: Indices, free: Bools
) -> Iterator[tuple[Indices, Indices, Indices]]:
    """Per tree (a node, its new parent, the new parent of that); -1 for trees with nothing to try."""
    depth, into = depths(parents, origins), np.ascontiguousarray(costs.search_ms.T)
    now = _additive(costs, parents, origins)
    node, parent, above = (np.full((PULLS_MAX, len(origins)), -1) for _ in range(3))
    deep = np.flatnonzero((depth == DEPTH_MAX).any(axis=1))
    for block in blocks(len(deep), parents.shape[1]):
        rows = deep[block]
        gain, best, up = _gains_of_pulls(costs, into, origins[rows], depth[rows], now[rows], free[rows])
        most = np.argsort(-gain, axis=1, kind="stable")[:, :PULLS_MAX]
        better = np.take_along_axis(gain, most, axis=1) > PULL_MS_MIN
        to = np.take_along_axis(best, most, axis=1)
        over = np.take_along_axis(up, to, axis=1)
        for table, found in ((node, most), (parent, to), (above, over)):
            table[: most.shape[1], rows] = np.where(better, found, -1).T
    yield from zip(node, parent, above, strict=True)


def _gains_of_pulls(
    costs: Costs, into: Floats, origins: Indices, depth: Indices, now: Floats, free: Bools
) -> tuple[Floats, Indices, Indices]:
    """Of a block of trees, ``[tree, node]``: what the node would gain below the best of those that stand at
    the greatest depth, if that were pulled up; which that is; and below which each node would be pulled."""
    relays, direct = costs.may_relay, costs.search_ms[origins]
    # Only what stands at depth 1 keeps a node that hangs below it within depth 2.
    relayed = np.where(relays & (depth == 1), direct, np.inf)[:, None] + into
    via = np.argmin(relayed, axis=2)
    two = np.take_along_axis(relayed, via[..., None], axis=2)[..., 0]
    up = np.where(direct <= two, origins[:, None], via)
    stuck = relays & free & (depth == DEPTH_MAX)
    offer = np.where(stuck, np.minimum(direct, two), np.inf)[:, None] + into
    best = np.argmin(offer, axis=2)
    with np.errstate(invalid="ignore"):  # a node that nothing reaches, and to which nothing is offered
        better = now - np.take_along_axis(offer, best[..., None], axis=2)[..., 0]
    return np.where(free & (depth > 0), better, 0.0), best, up


def _best_alternatives(
    costs: Costs, trees: _Trees, branches: Branches, others: Indices, rows: Indices, nodes: Indices
) -> tuple[Indices, Branches]:
    """For each (tree, node) the best of ``others[k, :]`` as its parent by real cost, and the branch below it;
    infinite where none will do.

    Only alternatives are judged whose cost may be below what the node has now.
    """
    at = rows[:, None] * trees.depth.shape[1] + others
    over = costs.partial(others[None], nodes[:, None])
    with np.errstate(invalid="ignore"):
        dearer = branches.cost_ms[rows, nodes][:, None] - _GAIN_MS_MIN
        fits = costs.least_ms(trees.partial.at(at).then(over)) < dearer
    fits &= others != trees.parents[rows, nodes][:, None]
    fits &= trees.depth.ravel()[at] + 1 + trees.height[rows, nodes][:, None] <= DEPTH_MAX
    fits &= trees.may_send.ravel()[at] & np.isfinite(costs.search_ms[others, nodes[:, None]])
    which, place = np.nonzero(fits)
    row, node, parent = rows[which], nodes[which], others[which, place]
    above = np.concatenate([parent[None], trees.above[:-1, row, parent]])
    judged = costs.judge(np.where((above == node).any(axis=0), -1, above), node)
    return _cheapest(others, which, place, judged)


def _cheapest(others: Indices, which: Indices, place: Indices, judged: Branches) -> tuple[Indices, Branches]:
    """Of each row of ``others`` the one whose branch costs least, ``judged`` for those at [which, place]."""
    spread = np.full((3, *others.shape), np.inf)
    spread[:, which, place] = judged.delay_ms, judged.loss, judged.cost_ms
    at = np.arange(len(others)), np.argmin(spread[2], axis=1)
    return others[at], Branches(*spread[:, *at])


def _promising(costs: Costs, parents: Indices, origins: Indices) -> Indices:
    """``[origin, node, alternatives]``: the origin, and parents that are cheap by additive cost."""
    relays = np.broadcast_to(costs.may_relay, parents.shape).copy()
    relays[np.arange(len(origins)), origins] = False
    depth = depths(parents, origins)
    to_origin = np.where(
        relays & (depth > 0) & (depth < DEPTH_MAX), _additive(costs, parents, origins), np.inf
    )
    into = np.ascontiguousarray(costs.search_ms.T)
    width = min(max(min(ALTERNATIVES_MAX, PATHS_PER_PASS // max(parents.size, 1)), 2), parents.shape[1])
    ranked = np.empty((*parents.shape, width + 1), np.int64)
    ranked[..., 0] = origins[:, None]
    for block in blocks(*parents.shape):
        offer = to_origin[block, None] + into
        for place in range(1, width + 1):
            cheapest = np.argmin(offer, axis=2)
            ranked[block, :, place] = cheapest
            np.put_along_axis(offer, cheapest[..., None], np.inf, axis=2)
    return ranked


def _move_inner(
    costs: Costs,
    parents: Indices,
    origins: Indices,
    branches: Branches,
    rows: Indices,
    nodes: Indices,
    best: Indices,
    gain: Floats,
) -> Indices:
    """Move one node with others below it per tree, if the tree gains; returns the trees that changed."""
    order = np.argsort(-gain, kind="stable")
    _, firsts = np.unique(rows[order], return_index=True)
    chosen = order[firsts]
    rows, nodes, best = rows[chosen], nodes[chosen], best[chosen]
    if not len(rows):
        return rows
    tried = parents[rows]
    tried[np.arange(len(rows)), nodes] = best
    after = costs.branches(tried, origins[rows])
    better = _total(after.cost_ms) < _total(branches.cost_ms[rows]) - _GAIN_MS_MIN
    return _put(parents, branches, rows, better, tried, after)


def _put(
    parents: Indices, branches: Branches, rows: Indices, which: Bools, tried: Indices, after: Branches
) -> Indices:
    """Take over those of the trees ``rows`` that were tried; returns which trees changed."""
    changed = rows[which]
    parents[changed] = tried[which]
    branches.delay_ms[changed], branches.loss[changed] = after.delay_ms[which], after.loss[which]
    branches.cost_ms[changed] = after.cost_ms[which]
    return changed


def _additive(costs: Costs, parents: Indices, origins: Indices) -> Floats:
    """Additive cost from each origin to each node along the trees."""
    total, lower = np.zeros(parents.shape), np.arange(parents.shape[1])
    for upper in ancestors(parents, origins):
        there = upper >= 0
        total += np.where(there, costs.search_ms[np.where(there, upper, 0), np.where(there, lower, 0)], 0.0)
        lower = upper
    return total


def _steady(leaves: Indices, rows: Indices, nodes: Indices, best: Indices, shape: tuple[int, ...]) -> Indices:
    """Those of ``leaves`` whose new parent does not move itself: two could end up below each other."""
    moving = np.zeros(shape, np.bool_)
    moving[rows[leaves], nodes[leaves]] = True
    return leaves[~moving[rows[leaves], best[leaves]]]


def _total(cost_ms: Floats) -> Floats:
    total: Floats = np.where(np.isfinite(cost_ms), cost_ms, 0.0).sum(axis=1)
    return total
