"""Makes trees better by their real cost, which the search could only approximate.

A local search. In every pass each node of every tree is tried below its most promising other parents; those
are judged as arrays, all at once. Leaves then move at once, since that changes nothing for anybody else; of
the nodes with others below them the one with the greatest gain in each tree moves, and stays there if the
whole tree has become cheaper. Passes end when nothing moves, or after `PASSES_MAX`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from farcast.control_plane.costs import Branches, Costs, ancestors, depths, heights
from farcast.control_plane.network import Bools, Floats, Indices
from farcast.control_plane.plan import DEPTH_MAX

PASSES_MAX: Final = 3

ALTERNATIVES_MAX: Final = 4
"""Other parents that are judged for each node in one pass..."""

PATHS_PER_PASS: Final = 60_000
"""...fewer, where there are so many nodes that all of them would be more branches than this."""

_GAIN_MS_MIN: Final = 1e-3


def improve(costs: Costs, parents: Indices, origins: Indices, branches: Branches, free: Bools) -> None:
    """Change the parents of ``free`` nodes in place, and ``branches`` with them, while that gains."""
    moving = free.copy()
    moving[np.arange(len(origins)), origins] = False
    promising = _promising(costs, parents, origins)
    for _ in range(PASSES_MAX):
        rows, nodes = np.nonzero(moving)
        best, there = _best_alternatives(costs, parents, origins, branches, promising, rows, nodes)
        with np.errstate(invalid="ignore"):
            gain = branches.cost_ms[rows, nodes] - there.cost_ms
        found = np.flatnonzero(np.isfinite(there.cost_ms) & (gain > _GAIN_MS_MIN))
        if not len(found):
            return
        leaf = heights(parents)[rows[found], nodes[found]] == 0
        inner = found[~leaf]
        changed = _move_inner(
            costs, parents, origins, branches, rows[inner], nodes[inner], best[inner], gain[inner]
        )
        leaves = found[leaf & ~np.isin(rows[found], changed)]
        at = rows[leaves], nodes[leaves]
        parents[at] = best[leaves]
        branches.delay_ms[at], branches.loss[at] = there.delay_ms[leaves], there.loss[leaves]
        branches.cost_ms[at] = there.cost_ms[leaves]
        still = np.zeros(len(origins), np.bool_)
        still[changed] = still[rows[leaves]] = True
        moving[~still] = False


def _best_alternatives(
    costs: Costs,
    parents: Indices,
    origins: Indices,
    branches: Branches,
    promising: Indices,
    rows: Indices,
    nodes: Indices,
) -> tuple[Indices, Branches]:
    """For each (tree, node) the best other parent by real cost, and the branch below it.

    Only alternatives are judged whose cost may be below what the node has now.
    """
    others = promising[rows, nodes]
    width = others.shape[1]
    flat_rows, flat_nodes, flat = np.repeat(rows, width), np.repeat(nodes, width), others.ravel()
    above = np.concatenate([flat[None], ancestors(parents, origins, flat_rows, flat)[:-1]])
    deep = (above >= 0).sum(axis=0) + np.repeat(heights(parents)[rows, nodes], width)
    is_origin = flat == origins[flat_rows]
    now = np.repeat(branches.cost_ms[rows, nodes], width)
    fits = (deep <= DEPTH_MAX) & (flat != parents[flat_rows, flat_nodes]) & (is_origin | (above[1] >= 0))
    fits &= ~(above == flat_nodes).any(axis=0)
    fits[fits] &= costs.least_ms(above[:, fits], flat_nodes[fits]) < now[fits] - _GAIN_MS_MIN
    judged = costs.judge(np.where(fits, above, -1), flat_nodes)
    at = np.arange(len(rows)) * width + np.argmin(judged.cost_ms.reshape(len(rows), width), axis=1)
    return flat[at], Branches(judged.delay_ms[at], judged.loss[at], judged.cost_ms[at])


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
    for row, origin in enumerate(origins.tolist()):
        offer = to_origin[row] + into
        ranked[row, :, 0] = origin
        ranked[row, :, 1:] = np.argpartition(offer, width - 1, axis=1)[:, :width]
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
    changed = rows[better]
    parents[changed] = tried[better]
    branches.delay_ms[changed], branches.loss[changed] = after.delay_ms[better], after.loss[better]
    branches.cost_ms[changed] = after.cost_ms[better]
    return changed


def _additive(costs: Costs, parents: Indices, origins: Indices) -> Floats:
    """Additive cost from each origin to each node along the trees."""
    shape = parents.shape
    rows, nodes = np.repeat(np.arange(shape[0]), shape[1]), np.tile(np.arange(shape[1]), shape[0])
    above = ancestors(parents, origins, rows, nodes)
    below_each = np.concatenate([nodes[None], above[:-1]])
    there = above >= 0
    edges = np.where(there, costs.search_ms[np.where(there, above, 0), np.where(there, below_each, 0)], 0.0)
    total: Floats = edges.sum(axis=0).reshape(shape)
    return total


def _total(cost_ms: Floats) -> Floats:
    total: Floats = np.where(np.isfinite(cost_ms), cost_ms, 0.0).sum(axis=1)
    return total
