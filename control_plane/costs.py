"""What edges and branches of trees cost.

The cost of a branch, in ms, is the p99 delay of a frame along it, plus a penalty for each edge whose sending
node or link fills up, plus what its egress costs where money counts. A branch beyond the bounds on delay or
loss costs `OUT_OF_BOUNDS_MS` more, so that it loses against any that keeps them and still beats none at all.

Trees of all origins are arrays ``[origin, node]`` of parents (-1: none); ``origins`` holds the position of
each row's origin among the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from farcast.control_plane.edge_table import EdgeTable, Partial
from farcast.control_plane.frame_delay import HopDelays, hop_delays, repair_ms, search_ms
from farcast.control_plane.network import Bools, Floats, Indices, Network
from farcast.control_plane.plan import DEPTH_MAX, PlannerConfig

OUT_OF_BOUNDS_MS: Final = 1e6

PAIRS_PER_BLOCK: Final = 200_000
"""Pairs of nodes that are looked at together: so many that calls cost little beside numbers (more gained
nothing), so few that arrays of them stay below two megabytes."""


@dataclass(frozen=True, slots=True)
class Branches:
    """Figures of branches, in arrays of one shape; infinite where nothing reaches."""

    delay_ms: Floats
    loss: Floats
    cost_ms: Floats
    """Out of bounds included."""

    @property
    def within_bounds(self) -> Bools:
        """Reached, and within the bounds on delay and loss."""
        within: Bools = self.cost_ms < OUT_OF_BOUNDS_MS
        return within


@dataclass(frozen=True, slots=True)
class Terms:
    """The cost of one branch, term by term, ms."""

    propagation_ms: float
    repair_ms: float
    jitter_ms: float
    relay_ms: float
    load_ms: float
    price_ms: float


class Costs:
    """Costs in one network; ``node_fill`` and ``link_fill`` are shares of capacities in use. A node bears
    the fill of its capacity or its pressure, whichever is more.

    ``search_ms[src, dst]``: additive cost of an edge for the search; infinite where it must not be taken now.
    ``held_ms``: the same of edges that are in use already; ``known_ms``: of all that were ever measured.
    """

    def __init__(
        self,
        network: Network,
        config: PlannerConfig,
        node_fill: Floats | None = None,
        link_fill: Floats | None = None,
    ) -> None:
        self.network = network
        self.config = config
        self.hops = hop_delays(
            config.frame, network.rtt_ms, network.rtt_p99_ms, network.loss_high, network.burst
        )
        self.log_loss = -np.log1p(-network.loss_high)
        count = len(network.nodes)
        self.load_ms = np.zeros((count, count))
        self._pressure = np.array([node.pressure for node in network.nodes], np.float64)
        self._price_ms = config.price_ms_per_unit * network.price_per_gb
        self._search = search_ms(self.hops) + config.relay_ms + self._price_ms
        self.set_fill(
            np.zeros(count) if node_fill is None else node_fill,
            np.zeros((count, count)) if link_fill is None else link_fill,
        )

    def set_fill(self, node_fill: Floats, link_fill: Floats) -> None:
        """Let penalties follow from these shares of capacities in use."""
        network = self.network
        busy = np.maximum(node_fill, self._pressure)
        self.load_ms = _fill_ms(busy, self.config)[:, None] + _fill_ms(link_fill, self.config)
        self._extra_ms = _flat(self.load_ms + self._price_ms)
        self.known_ms = np.where(network.rtt_ms > 0, self._search + self.load_ms, np.inf)
        self.held_ms = np.where(network.usable, self._search + self.load_ms, np.inf)
        self.search_ms = np.where(network.fresh, self.held_ms, np.inf)

    @cached_property
    def may_relay(self) -> Bools:
        """Nodes that may get children in trees of other origins."""
        nodes = self.network.nodes
        return np.array([node.connected and not node.draining and node.transit for node in nodes], np.bool_)

    def hopeful(self) -> tuple[Floats, Floats]:
        """``search_ms``, and negative logarithms of what arrives, at the loss that is beyond doubt."""
        extra_ms = self.config.relay_ms + self._price_ms + self.load_ms
        cost_ms = np.where(np.isfinite(self.search_ms), search_ms(self._hopeful_hops) + extra_ms, np.inf)
        return cost_ms, -np.log1p(-self.network.loss_low)

    # ---- Branches ---------------------------------------------------------------------------------

    def direct(self, origins: Indices) -> Branches:
        """The branch of one edge from each origin to each node."""
        above = np.full((DEPTH_MAX, len(origins), len(self.network.nodes)), -1)
        fresh = (self.network.usable & self.network.fresh)[origins]
        above[0] = np.where(fresh, origins[:, None], -1)
        return self.judge(above, np.arange(above.shape[2]))

    def branches(self, parents: Indices, origins: Indices, hopeful: bool = False) -> Branches:
        """Those of whole trees."""
        return self.judge(ancestors(parents, origins), np.arange(parents.shape[1]), hopeful)

    def judge(self, above: Indices, nodes: Indices, hopeful: bool = False) -> Branches:
        """Branches given from below: ``above[0, ...]`` is the parent of ``nodes[...]``, then its parent … up
        to the origin, -1 beyond; where the parent is -1, nothing reaches. ``hopeful``: at the loss that links
        have beyond doubt, not at the one to reckon with."""
        edges = self._edges(above, nodes)
        delay, loss = (self._hopeful if hopeful else self._expected).judge(edges)
        delay -= self.config.relay_ms
        beyond = (delay > self.config.delay_ms_max) | (loss > self.config.loss_max)
        cost = delay + self._extra_ms[edges].sum(axis=0) + OUT_OF_BOUNDS_MS * beyond
        unreached = above[0] < 0
        for figures in (delay, loss, cost):
            figures[unreached] = np.inf
        return Branches(delay, loss, cost)

    def partial(self, above: Indices, nodes: Indices) -> Partial:
        """What is known of branches given as to `judge` without the repair of their edges together; in
        ``base_ms`` all else that costs, and the time of a relay once too often."""
        edges = self._edges(above, nodes)
        found = self._expected.partial(edges)
        return replace(found, base_ms=found.base_ms + self._extra_ms[edges].sum(axis=0))

    def least_ms(self, partial: Partial) -> Floats:
        """A bound below the cost of branches, ms."""
        least: Floats = partial.least_ms - self.config.relay_ms
        return least

    def _edges(self, above: Indices, nodes: Indices) -> Indices:
        """``[hop, ...]``: positions of edges in flat tables, that of no edge where there is none."""
        edges, no_edge = np.empty_like(above), self._expected.no_edge
        lower, count = nodes, len(self.network.nodes)
        for level, upper in enumerate(above):
            edges[level] = np.where(upper >= 0, upper * count + lower, no_edge)
            lower = upper
        return edges

    @cached_property
    def _expected(self) -> EdgeTable:
        return self._table(self.hops, self.log_loss)

    @cached_property
    def _hopeful(self) -> EdgeTable:
        return self._table(self._hopeful_hops, -np.log1p(-self.network.loss_low))

    def _table(self, hops: HopDelays, log_loss: Floats) -> EdgeTable:
        """With the time of a relay on every edge, which is once too often on each path."""
        return EdgeTable(replace(hops, base_ms=hops.base_ms + self.config.relay_ms), log_loss)

    @cached_property
    def _hopeful_hops(self) -> HopDelays:
        network, frame = self.network, self.config.frame
        return hop_delays(frame, network.rtt_ms, network.rtt_p99_ms, network.loss_low, network.burst)

    def terms(self, path: tuple[int, ...]) -> Terms:
        """The terms of one branch, from the origin down."""
        src, dst = np.array(path[:-1])[:, None], np.array(path[1:])[:, None]
        hops = self.hops
        return Terms(
            propagation_ms=float(hops.base_ms[src, dst].sum()),
            repair_ms=float(repair_ms(hops.round_ms[src, dst], hops.tails[src, dst])[0]),
            jitter_ms=float(np.sqrt((hops.jitter_ms[src, dst] ** 2).sum())),
            relay_ms=self.config.relay_ms * (len(path) - 2),
            load_ms=float(self.load_ms[src, dst].sum()),
            price_ms=float(self._price_ms[src, dst].sum()),
        )


def ancestors(parents: Indices, origins: Indices) -> Indices:
    """``[DEPTH_MAX, tree, node]``: parent, grandparent … of all nodes; -1 beyond the origin.

    All -1 for a node whose chain of parents does not end at the origin.
    """
    above = np.empty((DEPTH_MAX, *parents.shape), np.int64)
    base = (np.arange(len(parents)) * parents.shape[1])[:, None]
    # Position -1 of a flat table that ends with -1: whatever is above nothing is nothing.
    flat = np.append(parents.ravel(), -1)
    above[0] = parents
    for level in range(1, DEPTH_MAX):
        at = above[level - 1]
        above[level] = flat[np.where(at >= 0, base + at, -1)]
    above[:, ~(above == origins[:, None]).any(axis=0)] = -1
    return above


def depths(parents: Indices, origins: Indices) -> Indices:
    """Tree edges between each node and the origin; -1 where the origin is not above."""
    found: Indices = (ancestors(parents, origins) >= 0).sum(axis=0)
    found[found == 0] = -1
    found[np.arange(len(parents)), origins] = 0
    return found


def heights(parents: Indices) -> Indices:
    """Tree edges between each node and the deepest below it, as far as `DEPTH_MAX`."""
    height = np.zeros(parents.size, np.int64)
    base = (np.arange(len(parents)) * parents.shape[1])[:, None]
    flat = parents.ravel()
    at = (base + parents)[parents >= 0]
    for level in range(1, DEPTH_MAX + 1):
        height[at] = level
        above = flat[at]
        at = (at - at % parents.shape[1] + above)[above >= 0]
    return height.reshape(parents.shape)


def blocks(trees: int, nodes: int) -> list[slice]:
    """Cuts trees into blocks for arrays ``[tree, node, node]``."""
    size = max(PAIRS_PER_BLOCK // nodes**2, 1)
    return [slice(start, start + size) for start in range(0, trees, size)]


def _fill_ms(fill: Floats, config: PlannerConfig) -> Floats:
    """Nothing up to ``fill_free``, then as a square to the full penalty, and on beyond, so that a resource
    that is overloaded twice is worse than one that is overloaded a little; bounded at four times that."""
    over = np.clip((fill - config.fill_free) / max(1 - config.fill_free, 1e-9), 0.0, 2.0)
    penalty: Floats = config.fill_penalty_ms * over**2
    return penalty


def _flat(matrix: Floats) -> Floats:
    return np.append(matrix.ravel(), 0.0)
