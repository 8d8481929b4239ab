"""What trees load onto nodes and links, and moves that take load off what is full.

A track costs its rate once on every tree edge below which somebody watches it. What is above its capacity is
relieved one move at a time: of all tree edges that load the worst resource, the one moves elsewhere that
costs least delay per bit taken off, to where there is room; the move stays if less is overloaded than before.
This is a heuristic for a packing problem (NP-hard); moves are bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.costs import Branches, Costs, depths, heights
from farcast.control_plane.network import Bools, Floats, Indices, Network
from farcast.control_plane.plan import DEPTH_MAX, Demand, PlannerConfig
from farcast.control_plane.tree_search import below, judge_parents, rejudge

RELIEF_CANDIDATES_MAX: Final = 24
"""Moves that are tried for one resource before it is given up."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Demand in the order of the network: per row of trees, rates ``[track]`` and ``[track, node]``."""

    bps: tuple[Floats, ...]
    watched: tuple[NDArray[np.float32], ...]

    @classmethod
    def of(cls, network: Network, demand: Mapping[str, Demand], origins: Sequence[str]) -> Wanted:
        """What is watched at nodes that the network does not have is left out."""
        rates: list[Floats] = []
        watched: list[NDArray[np.float32]] = []
        for origin in origins:
            wanted = demand[origin]
            known = [k for k, node in enumerate(wanted.nodes) if node in network.index]
            at = [network.index[wanted.nodes[k]] for k in known]
            spread = np.zeros((len(wanted.bps), len(network.nodes)), np.float32)
            spread[:, at] = wanted.watched[:, known]
            spread[:, network.index[origin]] = 0
            rates.append(wanted.bps)
            watched.append(spread)
        return cls(tuple(rates), tuple(watched))

    def edge_bps(self, parents: Indices, row: int) -> Floats:
        """Rate on the edge into each node of one tree."""
        count = parents.shape[1]
        if not len(self.bps[row]):
            return np.zeros(count)
        under = np.zeros((count, count), np.float32)
        at = np.arange(count)
        for _ in range(DEPTH_MAX + 1):
            there = np.flatnonzero(at >= 0)
            under[at[there], there] = 1
            at = np.where(at >= 0, parents[row, at], -1)
        crossing: Floats = self.bps[row] @ (self.watched[row] @ under.T > 0)
        crossing[parents[row] < 0] = 0.0
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
        for row in range(len(parents)):
            self._add(row, wanted.edge_bps(parents, row), parents[row], 1)

    def update(self, parents: Indices, row: int) -> None:
        """The tree ``row`` has changed."""
        self._add(row, self.edge_bps[row].copy(), self._in_tree[row], -1)
        self._add(row, self._wanted.edge_bps(parents, row), parents[row], 1)
        self._in_tree[row] = parents[row]

    @property
    def is_bounded(self) -> bool:
        """Whether anything has a capacity at all."""
        return bool(self._node_capacity.any() or self.network.capacity_bps.any())

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

    def room(self, parent: int, node: int, bps: float, target: float) -> float:
        """Least share of a capacity that is left free when ``parent`` sends ``bps`` more to ``node``, below
        ``target``; negative where it does not fit."""
        left = target
        if self._node_capacity[parent]:
            left = target - float(self.node_bps[parent] + bps) / float(self._node_capacity[parent])
        if self.network.capacity_bps[parent, node]:
            link = float(self.link_bps[parent, node] + bps) / float(self.network.capacity_bps[parent, node])
            left = min(left, target - link)
        return left

    def _add(self, row: int, edge_bps: Floats, parents: Indices, sign: int) -> None:
        nodes = np.flatnonzero(parents >= 0)
        np.add.at(self.node_bps, parents[nodes], sign * edge_bps[nodes])
        self.link_bps[parents[nodes], nodes] += sign * edge_bps[nodes]
        self.edge_bps[row] = edge_bps if sign > 0 else 0.0


def relieve(
    costs: Costs, loads: Loads, parents: Indices, origins: Indices, branches: Branches, config: PlannerConfig
) -> Bools:
    """Move what overloads nodes and links, in place; returns which parents changed."""
    moved = np.zeros(parents.shape, np.bool_)
    given_up: set[tuple[int, int]] = set()
    for _ in range(config.relief_moves_max):
        worst = _worst(loads, given_up)
        if worst is None:
            break
        change = _relieve_one(costs, loads, parents, origins, branches, worst, config.fill_target)
        if change is None:
            change = _relieve_one(costs, loads, parents, origins, branches, worst, 1.0)
        if change is None:
            given_up.add(worst)
        else:
            moved[change] = True
    return moved


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


def _relieve_one(
    costs: Costs,
    loads: Loads,
    parents: Indices,
    origins: Indices,
    branches: Branches,
    resource: tuple[int, int],
    target: float,
) -> tuple[int, int] | None:
    """The cheapest move that takes load off ``resource``: (tree, node) that moved, ``None`` if none helps."""
    sender, receiver = resource
    on_it = (parents == sender) & (loads.edge_bps > 0)
    if receiver >= 0:
        on_it[:, np.arange(parents.shape[1]) != receiver] = False
    options: list[tuple[float, int, int, int]] = []
    for row, node in np.argwhere(on_it).tolist():
        options += _options(costs, loads, parents, origins, branches, row, node, target)
    before = loads.overload()
    for _, row, node, parent in sorted(options)[:RELIEF_CANDIDATES_MAX]:
        old = int(parents[row, node])
        parents[row, node] = parent
        loads.update(parents, row)
        if loads.overload() < before - 1e-9:
            rejudge(costs, parents, origins, branches, np.array([row]))
            return row, node
        parents[row, node] = old
        loads.update(parents, row)
    return None


def _options(
    costs: Costs,
    loads: Loads,
    parents: Indices,
    origins: Indices,
    branches: Branches,
    row: int,
    node: int,
    target: float,
) -> list[tuple[float, int, int, int]]:
    """Other parents of one node that have room for it, by what they cost per bit moved."""
    bps = float(loads.edge_bps[row, node])
    tree = slice(row, row + 1)
    depth = depths(parents[tree], origins[tree])[0]
    height = int(heights(parents[tree])[0, node])
    relays = costs.may_relay.copy()
    relays[origins[row]] = True
    fits = relays & (depth >= 0) & (depth + 1 + height <= DEPTH_MAX) & ~below(parents, row, node)
    fits &= np.isfinite(costs.search_ms[:, node]) & (np.arange(len(fits)) != parents[row, node])
    candidates = [u for u in np.flatnonzero(fits).tolist() if loads.room(u, node, bps, target) >= -1e-9]
    if not candidates:
        return []
    judged = judge_parents(costs, parents, origins, row, node, np.array(candidates))
    dearer = judged.cost_ms - branches.cost_ms[row, node]
    return [(float(d) / bps, row, node, u) for d, u in zip(dearer.tolist(), candidates, strict=True)]


def _share(used: Floats, capacity: Floats) -> Floats:
    share: Floats = np.divide(used, capacity, out=np.zeros_like(used), where=capacity > 0)
    return share
