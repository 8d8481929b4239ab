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
from farcast.control_plane.tree_search import rejudge

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
        best, gain = _best_alternatives(costs, parents, origins, branches, promising, rows, nodes)
        found = gain > _GAIN_MS_MIN
        if not found.any():
            return
        rows, nodes, best, gain = rows[found], nodes[found], best[found], gain[found]
        leaf = heights(parents)[rows, nodes] == 0
        inner = (rows[~leaf], nodes[~leaf], best[~leaf], gain[~leaf])
        changed = _move_inner(costs, parents, origins, branches, *inner)
        leaf &= ~np.isin(rows, changed)
        parents[rows[leaf], nodes[leaf]] = best[leaf]
        touched = np.unique(np.concatenate([rows[leaf], changed]))
        if not len(touched):
            return
        rejudge(costs, parents, origins, branches, touched)
        moving[np.setdiff1d(np.arange(len(origins)), touched)] = False


def _best_alternatives(
    costs: Costs,
    parents: Indices,
    origins: Indices,
    branches: Branches,
    promising: Indices,
    rows: Indices,
    nodes: Indices,
) -> tuple[Indices, Floats]:
    """For each (tree, node) the best other parent by real cost, and what it gains for the node, ms.

    Only alternatives are judged whose cost may be below what the node has now.
    """
    others = promising[rows, nodes]
    width = others.shape[1]
    flat_rows, flat_nodes, flat = np.repeat(rows, width), np.repeat(nodes, width), others.ravel()
    above = np.column_stack([flat, ancestors(parents, origins, flat_rows, flat)[:, : DEPTH_MAX - 1]])
    deep = (above >= 0).sum(axis=1) + np.repeat(heights(parents)[rows, nodes], width)
    is_origin = flat == origins[flat_rows]
    now = np.repeat(branches.cost_ms[rows, nodes], width)
    fits = (deep <= DEPTH_MAX) & (flat != parents[flat_rows, flat_nodes]) & (is_origin | (above[:, 1] >= 0))
    fits &= ~(above == flat_nodes[:, None]).any(axis=1)
    fits[fits] &= costs.least_ms(above[fits], flat_nodes[fits]) < now[fits] - _GAIN_MS_MIN
    costs_ms = np.full(len(flat), np.inf)
    costs_ms[fits] = costs.judge(above[fits], flat_nodes[fits]).cost_ms
    judged = costs_ms.reshape(len(rows), width)
    first = np.argmin(judged, axis=1)
    at = np.arange(len(rows))
    gain = np.zeros(len(rows))
    finite = np.isfinite(judged[at, first])
    gain[finite] = branches.cost_ms[rows, nodes][finite] - judged[at, first][finite]
    return others[at, first], gain


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
    parents[rows[better]] = tried[better]
    return rows[better]


def _additive(costs: Costs, parents: Indices, origins: Indices) -> Floats:
    """Additive cost from each origin to each node along the trees."""
    shape = parents.shape
    rows, nodes = np.repeat(np.arange(shape[0]), shape[1]), np.tile(np.arange(shape[1]), shape[0])
    above = ancestors(parents, origins, rows, nodes)
    below_each = np.column_stack([nodes, above[:, :-1]])
    there = above >= 0
    edges = np.where(there, costs.search_ms[np.where(there, above, 0), np.where(there, below_each, 0)], 0.0)
    total: Floats = edges.sum(axis=1).reshape(shape)
    return total


def _total(cost_ms: Floats) -> Floats:
    total: Floats = np.where(np.isfinite(cost_ms), cost_ms, 0.0).sum(axis=1)
    return total
