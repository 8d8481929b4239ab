"""Finds trees of bounded depth, for all origins at once.

Dijkstra's algorithm, one step for all origins together: in each step every origin settles its cheapest open
node and looks at the edges out of it, as arrays ``[origin, node]``. 64 steps of 64 x 64 numbers are what
numpy is good at; a loop over origins in Python would be an order of magnitude slower. The depth bound enters
as in a label-setting search: a node settled at the greatest depth gets no children. That makes trees by
construction: a node is settled once, below a node that was settled before.

With additive costs and no depth bound this is exact. The bound is what makes it a heuristic: a node settles
where it is cheapest for itself, which may be one edge too deep for others below. `repair` then looks at every
branch by its real cost, which does not add up edge by edge, and mends what is worse than the direct edge or
beyond the bounds.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from farcast.control_plane.costs import Branches, Costs, ancestors, depths, heights
from farcast.control_plane.network import Bools, Floats, Indices
from farcast.control_plane.plan import DEPTH_MAX

MENDING_PATHS_MAX: Final = 100_000
"""Alternatives that are judged in one run for branches beyond the bounds; what is left stays as it is."""

_EPSILON_MS: Final = 1e-6


def grow(
    search_ms: Floats,
    origins: Indices,
    may_relay: Bools,
    fixed: Indices | None = None,
    depth_max: Indices | None = None,
    held_ms: Floats | None = None,
) -> Indices:
    """Parents ``[origin, node]``, -1 for origins and for what is not reached.

    ``search_ms[src, dst]``: additive costs above zero, infinite for edges not to be used. ``fixed``: the only
    parent that a node may have, -1 for any; a node that may not relay may still be a fixed parent.
    ``held_ms``: costs of edges to fixed parents. ``depth_max``: how deep each node may be.
    """
    count, rows = len(search_ms), np.arange(len(origins))
    shape = (len(origins), count)
    cost, parents = np.full(shape, np.inf), np.full(shape, -1)
    depth, opened = np.zeros(shape, np.int64), np.full(shape, np.inf)
    cost[rows, origins] = opened[rows, origins] = 0.0
    for step in range(count):
        nearest = np.argmin(opened, axis=1)
        reached = opened[rows, nearest]
        if not np.isfinite(reached).any():
            break
        opened[rows, nearest] = np.inf
        cost[rows, nearest] = np.minimum(cost[rows, nearest], reached)
        below = depth[rows, nearest] + 1
        offer = reached[:, None] + search_ms[nearest]
        relays = may_relay[nearest] | (step == 0)
        if fixed is None:
            better = (offer < cost) & (relays & (below <= DEPTH_MAX))[:, None]
        else:
            mine = fixed == nearest[:, None]
            if held_ms is not None:
                offer = np.where(mine, reached[:, None] + held_ms[nearest], offer)
            better = (
                (offer < cost) & (mine | ((fixed == -1) & relays[:, None])) & (below <= DEPTH_MAX)[:, None]
            )
        if depth_max is not None:
            better &= below[:, None] <= depth_max
        np.copyto(cost, offer, where=better)
        np.copyto(opened, offer, where=better)
        np.copyto(parents, nearest[:, None], where=better)
        np.copyto(depth, below[:, None], where=better)
    return parents


def repair(
    costs: Costs, parents: Indices, origins: Indices, branches: Branches, free: Bools | None = None
) -> None:
    """Mend trees in place by the real cost of ``branches``, which are kept current.

    ``free``: nodes whose parent may change, all by default. Afterwards no free node is worse off than by the
    direct edge.
    """
    if free is None:
        free = np.ones(parents.shape, np.bool_)
    direct = costs.direct(origins)
    _straighten(costs, parents, origins, branches, direct, free)
    if _mend(costs, parents, origins, branches, free):
        _straighten(costs, parents, origins, branches, direct, free)


def below(parents: Indices, row: int, node: int) -> Bools:
    """Which nodes are ``node`` or stand below it in the tree ``row``."""
    found = np.zeros(parents.shape[1], np.bool_)
    found[node] = True
    above = parents[row]
    for _ in range(DEPTH_MAX):
        found |= found[above] & (above >= 0)
    return found


def _straighten(
    costs: Costs, parents: Indices, origins: Indices, branches: Branches, direct: Branches, free: Bools
) -> None:
    """Hang what is worse than the direct edge on the origin, until nothing is.

    Each pass hangs at least one node more on an origin, where it stays: it ends.
    """
    while True:
        worse = free & (branches.cost_ms > direct.cost_ms + _EPSILON_MS) & (parents != origins[:, None])
        rows, nodes = np.nonzero(worse)
        if not len(rows):
            return
        parents[rows, nodes] = origins[rows]
        rejudge(costs, parents, origins, branches, np.unique(rows))


def _mend(costs: Costs, parents: Indices, origins: Indices, branches: Branches, free: Bools) -> bool:
    """Give branches beyond the bounds the cheapest parent that keeps them, where there is one."""
    beyond = free & ~branches.within_bounds
    beyond[np.arange(len(origins)), origins] = False
    mended, judged = False, 0
    for row in np.flatnonzero(beyond.any(axis=1)).tolist():
        for node in np.flatnonzero(beyond[row]).tolist():
            candidates = _candidates(costs, parents, origins, row, node)
            judged += len(candidates)
            if judged > MENDING_PATHS_MAX:
                return mended
            if not len(candidates):
                continue
            found = judge_parents(costs, parents, origins, row, node, candidates)
            best = int(np.argmin(found.cost_ms))
            if found.cost_ms[best] < branches.cost_ms[row, node] - _EPSILON_MS and found.within_bounds[best]:
                parents[row, node] = candidates[best]
                rejudge(costs, parents, origins, branches, np.array([row]))
                mended = True
    return mended


def _candidates(costs: Costs, parents: Indices, origins: Indices, row: int, node: int) -> Indices:
    """Parents that ``node`` might have, those left out that cannot keep the bounds whatever the rest."""
    depth = depths(parents[row : row + 1], origins[row : row + 1])[0]
    height = heights(parents[row : row + 1])[0, node]
    fits = (depth >= 0) & (depth + 1 + height <= DEPTH_MAX) & ~below(parents, row, node)
    relays = costs.may_relay.copy()
    relays[origins[row]] = True
    fits &= relays & np.isfinite(costs.search_ms[:, node]) & (np.arange(len(fits)) != parents[row, node])
    network, config = costs.network, costs.config
    fits &= (network.loss_high[:, node] <= config.loss_max) & (
        network.rtt_ms[:, node] / 2 <= config.delay_ms_max
    )
    return np.flatnonzero(fits)


def judge_parents(
    costs: Costs, parents: Indices, origins: Indices, row: int, node: int, candidates: Indices
) -> Branches:
    """The branch of ``node`` in the tree ``row`` below each of ``candidates``."""
    above = ancestors(parents[row : row + 1], origins[row : row + 1])[:, 0, candidates]
    whole = np.concatenate([candidates[None], above[:-1]])
    return costs.judge(whole, np.full(len(candidates), node))


def rejudge(costs: Costs, parents: Indices, origins: Indices, branches: Branches, rows: Indices) -> None:
    """Bring the figures of the trees ``rows`` up to date."""
    fresh = costs.branches(parents[rows], origins[rows])
    branches.delay_ms[rows] = fresh.delay_ms
    branches.loss[rows] = fresh.loss
    branches.cost_ms[rows] = fresh.cost_ms
