"""What trees load onto nodes and links, and moves that take load off what is full.

A track costs its rate once on every tree edge below which somebody watches it. What is above its capacity is
relieved one move at a time: of all tree edges that load the worst resource, the one moves elsewhere that
costs least delay per bit taken off, to where there is room; the move stays if less is overloaded than before.
Where there is no room, a chain of a few moves is tried, each off what the ones before have filled; all stay
or none. This is a heuristic for a packing problem (NP-hard); moves and tries are bounded, and what is left
over is taken up in the next run.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.costs import Branches, Costs, ancestors, heights
from farcast.control_plane.network import Bools, Floats, Indices, Network
from farcast.control_plane.plan import DEPTH_MAX, Demand
from farcast.control_plane.tree_search import rejudge

RELIEF_EDGES_MAX: Final = 64
"""Tree edges of one resource that are looked at, those that load it most first."""

RELIEF_JUDGED_MAX: Final = 24
"""Moves of those whose real cost is looked at."""

RELIEF_TRIES_MAX: Final = 8
"""Moves that are tried one by one."""

CHAIN_TRIES_MAX: Final = (8, 8, 6, 4)
"""Moves that are tried at each link of a chain before a resource is given up."""

TRIES_MAX: Final = 600
"""Moves that are tried in one run, kept or not."""

_Step = tuple[int, int, int]
"""A tree, a node, its new parent."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Demand in the order of the network, per row of trees: rates ``[track]``, and who watches, as bits of
    tracks ``[node, byte]``. Bits, because trees add up by OR, and because matrix products would wake the
    threads of a linear algebra library for nothing."""

    bps: tuple[Floats, ...]
    watched: tuple[NDArray[np.uint8], ...]

    @classmethod
    def of(cls, network: Network, demand: Mapping[str, Demand], origins: Sequence[str]) -> Wanted:
        """What is watched at nodes that the network does not have is left out."""
        rates: list[Floats] = []
        watched: list[NDArray[np.uint8]] = []
        for origin in origins:
            wanted = demand[origin]
            known = [k for k, node in enumerate(wanted.nodes) if node in network.index]
            at = [network.index[wanted.nodes[k]] for k in known]
            bits = np.zeros((len(network.nodes), -(-len(wanted.bps) // 8)), np.uint8)
            bits[at] = np.packbits(wanted.watched[:, known].T, axis=1)
            bits[network.index[origin]] = 0
            rates.append(wanted.bps)
            watched.append(bits)
        return cls(tuple(rates), tuple(watched))

    @property
    def anywhere(self) -> Bools:
        """``[row, node]``: where anything of the row is watched."""
        return np.array([bits.any(axis=1) for bits in self.watched])

    def edge_bps(self, parents: Indices, row: int) -> Floats:
        """Rate on the edge into each node of one tree."""
        above, bps = parents[row], self.bps[row]
        depth, at = np.zeros(len(above), np.int64), above
        for _ in range(DEPTH_MAX):
            depth += at >= 0
            at = np.where(at >= 0, above[at], -1)
        under = self.watched[row].copy()
        for level in range(DEPTH_MAX, 1, -1):
            nodes = np.flatnonzero(depth == level)
            np.bitwise_or.at(under, above[nodes], under[nodes])
        crossing: Floats = np.einsum("nt,t->n", np.unpackbits(under, axis=1, count=len(bps)), bps)
        crossing[above < 0] = 0.0
        return crossing


class Loads:
    """Loads of all trees together, kept current while trees change."""

    def __init__(self, network: Network, wanted: Wanted, parents: Indices) -> None:
        self.network = network
        self._wanted = wanted
        count = len(network.nodes)
        self.edge_bps = np.zeros(parents.shape)
        self.link_bps = np.zeros((count, count))
        self.node_bps = np.array([node.egress_bps for node in network.nodes], np.float64)
        self._node_capacity = np.array([node.capacity_bps for node in network.nodes], np.float64)
        self._in_tree = parents.copy()
        for row in np.flatnonzero((parents >= 0).any(axis=1)).tolist():
            self._add(row, wanted.edge_bps(parents, row), parents[row], 1)

    def update(self, parents: Indices, row: int) -> None:
        """The tree ``row`` has changed."""
        if (self._in_tree[row] >= 0).any():
            self._add(row, self.edge_bps[row].copy(), self._in_tree[row], -1)
        self._add(row, self._wanted.edge_bps(parents, row), parents[row], 1)
        self._in_tree[row] = parents[row]

    def of(self, parents: Indices) -> Loads:
        """Those of other trees, which differ from these in some rows."""
        other = copy.copy(self)
        other.edge_bps, other.link_bps = self.edge_bps.copy(), self.link_bps.copy()
        other.node_bps, other._in_tree = self.node_bps.copy(), self._in_tree.copy()
        for row in np.flatnonzero((parents != self._in_tree).any(axis=1)).tolist():
            other.update(parents, row)
        return other

    @property
    def node_fill(self) -> Floats:
        """Share of each node's capacity in use; 0 where it has no bound."""
        return _share(self.node_bps, self._node_capacity)

    @property
    def link_fill(self) -> Floats:
        """The same of links, ``[src, dst]``."""
        return _share(self.link_bps, self.network.capacity_bps)

    def overload(self) -> float:
        """Sum of what is above capacities, in shares of them."""
        over = np.maximum(self.node_fill - 1, 0).sum() + np.maximum(self.link_fill - 1, 0).sum()
        return float(over)

    def is_over(self, resource: tuple[int, int]) -> bool:
        """Whether a node (as (node, -1)) or a link is above its capacity."""
        node, to = resource
        if to < 0:
            return bool(0 < self._node_capacity[node] < self.node_bps[node] - 1e-6)
        capacity = self.network.capacity_bps[node, to]
        return bool(0 < capacity < self.link_bps[node, to] - 1e-6)

    def fits(self, nodes: Indices, bps: Floats, target: float) -> Bools:
        """``[k, parent]``: whether ``parent`` may send ``bps[k]`` more to ``nodes[k]`` without filling itself
        or the link above ``target``."""
        of_node, of_link = self._node_capacity, self.network.capacity_bps[:, nodes].T
        link_bps = self.link_bps[:, nodes].T + bps[:, None]
        node_fits = (of_node == 0) | (self.node_bps + bps[:, None] <= target * of_node + 1e-6)
        link_fits: Bools = (of_link == 0) | (link_bps <= target * of_link + 1e-6)
        both: Bools = node_fits & link_fits
        return both

    def _add(self, row: int, edge_bps: Floats, parents: Indices, sign: int) -> None:
        nodes = np.flatnonzero(parents >= 0)
        np.add.at(self.node_bps, parents[nodes], sign * edge_bps[nodes])
        self.link_bps[parents[nodes], nodes] += sign * edge_bps[nodes]
        self.edge_bps[row] = edge_bps if sign > 0 else 0.0


def relieve(
    costs: Costs, loads: Loads, parents: Indices, origins: Indices, branches: Branches, pinned: Bools
) -> Bools:
    """Move what overloads nodes and links, in place; returns which parents changed. ``pinned``: parents that
    may not."""
    config = costs.config
    relief = _Relief(costs, loads, parents, origins, branches, pinned)
    moved = np.zeros(parents.shape, np.bool_)
    given_up: set[tuple[int, int]] = set()
    for _ in range(config.relief_moves_max):
        worst = _worst(loads, given_up)
        if worst is None:
            break
        steps = relief.off(worst, config.fill_target) or relief.off(worst, 1.0) or relief.by_chain(worst)
        if not steps:
            given_up.add(worst)
        for row, node, _ in steps:
            moved[row, node] = True
    return moved


class _Relief:
    """Trees being relieved, with what is asked of them again and again."""

    def __init__(
        self,
        costs: Costs,
        loads: Loads,
        parents: Indices,
        origins: Indices,
        branches: Branches,
        pinned: Bools,
    ) -> None:
        self._costs, self._loads, self._pinned = costs, loads, pinned
        self._parents, self._origins, self._branches = parents, origins, branches
        self._above, self._height = ancestors(parents, origins), heights(parents)
        self._nodes = np.arange(parents.shape[1])
        self._tries = 0

    def off(self, resource: tuple[int, int], target: float) -> list[_Step]:
        """Make the cheapest move that takes load off ``resource`` to where it fits below ``target``; returns
        it, nothing if none helps."""
        before = self._loads.overload()
        for step in self._options(resource, target, fitting=True)[:RELIEF_TRIES_MAX]:
            undo = self._set(*step)
            if self._loads.overload() < before - 1e-9:
                self._keep([step])
                return [step]
            self._set(*undo)
        return []

    def by_chain(self, resource: tuple[int, int]) -> list[_Step]:
        """Make a move to where there is no room, another off what that overloads, and so on; returns all, or
        nothing."""
        steps = self._chain([resource], CHAIN_TRIES_MAX, self._loads.overload())
        self._keep(steps)
        return steps

    def _chain(self, touched: list[tuple[int, int]], tries: tuple[int, ...], before: float) -> list[_Step]:
        """``touched``: resources of the chain so far, the latest first; the first that is full is next."""
        full = next((resource for resource in touched if self._loads.is_over(resource)), None)
        if full is None:
            return []
        last = len(tries) == 1
        for row, node, parent in self._options(full, 1.0, fitting=last)[: tries[0]]:
            undo = self._set(row, node, parent)
            if self._loads.overload() < before - 1e-9:
                return [(row, node, parent)]
            more = [(parent, -1), (parent, node), *touched]
            rest = [] if last else self._chain(more, tries[1:], before)
            if rest:
                return [(row, node, parent), *rest]
            self._set(*undo)
        return []

    def _keep(self, steps: list[_Step]) -> None:
        rows = np.unique(np.array([row for row, _, _ in steps], np.int64))
        rejudge(self._costs, self._parents, self._origins, self._branches, rows)

    def _set(self, row: int, node: int, parent: int) -> _Step:
        """Make a move; returns the one that takes it back."""
        undo = (row, node, int(self._parents[row, node]))
        self._tries += 1
        self._parents[row, node] = parent
        self._loads.update(self._parents, row)
        self._look(row)
        return undo

    def _options(self, resource: tuple[int, int], target: float, fitting: bool) -> list[_Step]:
        """Moves off a resource, to where they fit or to anywhere; cheapest per bit first."""
        if self._tries >= TRIES_MAX:
            return []
        rows, nodes = self._on(resource)
        bps = self._loads.edge_bps[rows, nodes]
        allowed = self._allowed(rows, nodes)
        if fitting:
            allowed &= self._loads.fits(nodes, bps, target)
        which, to = np.nonzero(allowed)
        if not len(which):
            return []
        dearer = self._costs.search_ms[to, nodes[which]] + self._branches.cost_ms[rows[which], to]
        first = np.argsort(dearer / bps[which], kind="stable")[:RELIEF_JUDGED_MAX]
        which, to = which[first], to[first]
        above = np.concatenate([to[None], self._above[:-1, rows[which], to]])
        cost = self._costs.judge(above, nodes[which]).cost_ms
        per_bit = (cost - self._branches.cost_ms[rows[which], nodes[which]]) / bps[which]
        order = np.argsort(per_bit, kind="stable")
        return [(int(rows[which[k]]), int(nodes[which[k]]), int(to[k])) for k in order]

    def _on(self, resource: tuple[int, int]) -> tuple[Indices, Indices]:
        """Tree edges, as (tree, node below), that load a resource, most first."""
        sender, receiver = resource
        on_it = (self._parents == sender) & (self._loads.edge_bps > 0) & ~self._pinned
        if receiver >= 0:
            on_it[:, self._nodes != receiver] = False
        rows, nodes = np.nonzero(on_it)
        most = np.argsort(-self._loads.edge_bps[rows, nodes], kind="stable")[:RELIEF_EDGES_MAX]
        return rows[most], nodes[most]

    def _allowed(self, rows: Indices, nodes: Indices) -> Bools:
        """``[k, parent]``: whether that makes a tree of bounded depth over usable links."""
        costs, origins = self._costs, self._origins[rows]
        above = self._above[:, rows]
        depth = (above >= 0).sum(axis=0)
        is_origin = self._nodes == origins[:, None]
        height = self._height[rows, nodes]
        allowed: Bools = is_origin | (costs.may_relay & (depth > 0))
        allowed &= depth + 1 + height[:, None] <= DEPTH_MAX
        allowed &= ~(above == nodes[:, None]).any(axis=0) & (self._nodes != nodes[:, None])
        allowed &= np.isfinite(costs.search_ms[:, nodes].T)
        allowed[np.arange(len(rows)), self._parents[rows, nodes]] = False
        return allowed

    def _look(self, row: int) -> None:
        tree, origin = self._parents[row : row + 1], self._origins[row : row + 1]
        self._above[:, row] = ancestors(tree, origin)[:, 0]
        self._height[row] = heights(tree)[0]


def overloaded(loads: Loads) -> tuple[str, ...]:
    """Names of nodes and links above their capacity, a link as "src > dst"."""
    ids = loads.network.node_ids
    nodes = [ids[u] for u in np.flatnonzero(loads.node_fill > 1 + 1e-9).tolist()]
    links = [f"{ids[a]} > {ids[b]}" for a, b in np.argwhere(loads.link_fill > 1 + 1e-9).tolist()]
    return (*nodes, *links)


def _worst(loads: Loads, given_up: set[tuple[int, int]]) -> tuple[int, int] | None:
    """The most overloaded node (as (node, -1)) or link that is not given up."""
    found: list[tuple[float, tuple[int, int]]] = []
    node_fill, link_fill = loads.node_fill, loads.link_fill
    found += [(float(node_fill[u]), (u, -1)) for u in np.flatnonzero(node_fill > 1 + 1e-9).tolist()]
    found += [(float(link_fill[a, b]), (a, b)) for a, b in np.argwhere(link_fill > 1 + 1e-9).tolist()]
    open_ones = [(-fill, resource) for fill, resource in found if resource not in given_up]
    return min(open_ones)[1] if open_ones else None


def _share(used: Floats, capacity: Floats) -> Floats:
    share: Floats = np.divide(used, capacity, out=np.zeros_like(used), where=capacity > 0)
    return share
