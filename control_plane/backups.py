"""Backups: which other upstreams a node should turn to when its parent fails, in which order.

For each tree and node every other node of the tree is a candidate that is not below the node itself (it would
fail with it, or close a circle), may relay, and gives a branch of bounded depth. Candidates are ordered by
what their branch shares with the node's own (`SHARES`: least harm first), then by cost; what both branches
must have in common, the origin and the node, does not count. The first of them that shares nothing comes
first, whatever it costs; where there is none, providers may be shared first, then regions, then risk groups,
relays last. A branch beyond the bounds comes after all that are within, and the origin itself is always
among the backups: where its link is bad, as the last.

Below the parent. Every edge turns by itself to the first backup whose link works. A candidate below the
node's own parent falls with it, and when the parent dies all its children turn at once: where they turned to
each other's branches they could close a circle. So such a candidate comes after all others, those beyond the
bounds too. With that no failure of one relay or one link closes a circle: only the dead one's children turn,
and each to a branch that the failure does not touch, as long as any such branch is there.

Held. Every change of the list costs its edge a plan and a standby that is asked for anew, and which of two
candidates costs less is noise from one second to the next. So a backup keeps its place until another, by the
loss to reckon with, is of a better class than it is by the loss that it has beyond doubt, or cheaper by as
much as makes an upgrade (`damping`). In a tree that has just changed nothing is held: backups are those that
suit it best.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.costs import Costs, ancestors, depths
from farcast.control_plane.network import Bools, Floats, Indices, Masks, Network
from farcast.control_plane.plan import DEPTH_MAX, SHARES, PlannerConfig

_PROVIDER, _REGION, _RISK, _RELAY = (1 << k for k in range(len(SHARES)))

_BEYOND_BOUNDS: Final = 1 << len(SHARES)

_BELOW_PARENT: Final = 2 * _BEYOND_BOUNDS

_CLASS_MS: Final = 1e7
"""One class more outweighs any cost."""


@dataclass(frozen=True, slots=True)
class _Branches:
    """Branches of one tree. ``relays[k, node]``: its relays from below, -1 beyond; ``risks[node, word]``: of
    its relays and links; ``above`` as of `ancestors`."""

    origin: int
    above: Indices
    relays: Indices
    risks: Masks
    depth: Indices


def backups(
    costs: Costs, parents: Indices, origins: Indices, held: Indices
) -> tuple[Indices, NDArray[np.uint8]]:
    """``[origin, node, k]``: positions of backups, best first, -1 beyond; and what each shares.
    ``held``: those in force until now, of the same shape."""
    shape = held.shape
    ranks, shares = np.full(shape, -1), np.zeros(shape, np.uint8)
    depth = depths(parents, origins)
    expected, hopeful = (costs.search_ms, costs.log_loss), costs.hopeful()
    regions = _numbered([node.region for node in costs.network.nodes])
    providers = _numbered([node.provider for node in costs.network.nodes])
    for row, origin in enumerate(origins.tolist()):
        tree = _branches(costs, parents, origins, row, depth[row])
        classes = _shared(costs.network, tree, regions, providers)
        known = _Held(held[row], _held_keys(costs, tree, classes, hopeful, held[row]), costs.config)
        key = _keys(costs, tree, classes, expected)
        wanted = (parents[row] != origin) & (np.arange(len(key)) != origin)
        _rank(key, known, wanted, origin, ranks[row])
        there = ranks[row] >= 0
        shares[row] = np.where(there, np.take_along_axis(classes, np.where(there, ranks[row], 0), axis=1), 0)
    return ranks, shares


def _branches(costs: Costs, parents: Indices, origins: Indices, row: int, depth: Indices) -> _Branches:
    network, nodes = costs.network, np.arange(parents.shape[1])
    above = ancestors(parents, origins, np.full(len(nodes), row), nodes)
    lower = np.concatenate([nodes[None], above[:-1]])
    there = above >= 0
    src, dst = np.where(there, above, 0), np.where(there, lower, 0)
    relays = np.where(there & (above != origins[row]), above, -1)[: DEPTH_MAX - 1]
    risks = np.zeros_like(network.node_risks)
    if network.risk_names:
        for level in range(DEPTH_MAX):
            risks |= network.link_risks[src[level], dst[level]] * there[level, :, None].astype(np.uint64)
        for relay in relays:
            risks |= network.node_risks[relay] * (relay >= 0)[:, None].astype(np.uint64)
    return _Branches(int(origins[row]), above, relays, risks, depth)


def _shared(network: Network, tree: _Branches, regions: Indices, providers: Indices) -> NDArray[np.uint8]:
    """``[node, candidate]``: bits of what the branch through the candidate shares with the node's own."""
    count = len(network.nodes)
    nodes = np.arange(count)
    mine = tree.relays
    theirs = np.concatenate([np.where(nodes == tree.origin, -1, nodes)[None], tree.relays[:-1]])
    classes = _meet(mine, theirs).astype(np.uint8) * np.uint8(_RELAY)
    for numbers, bit in ((regions, _REGION), (providers, _PROVIDER)):
        own, other = _of(numbers, mine), _of(numbers, theirs)
        own = np.where((own == numbers[tree.origin]) | (own == numbers[nodes]), -1, own)
        classes |= _meet(own, other).astype(np.uint8) * np.uint8(bit)
    if network.risk_names:
        through = tree.risks | network.node_risks * (nodes != tree.origin).astype(np.uint64)[:, None]
        common = tree.risks & ~(network.node_risks[tree.origin] | network.node_risks)
        for word in range(common.shape[1]):
            theirs_too = through[None, :, word] | network.link_risks[:, :, word].T
            classes |= ((theirs_too & common[:, word, None]) != 0).astype(np.uint8) * np.uint8(_RISK)
    return classes


def _keys(costs: Costs, tree: _Branches, classes: NDArray[np.uint8], edges: tuple[Floats, Floats]) -> Floats:
    """``[node, candidate]``: sorts candidates; infinite where the candidate will not do. ``edges``: of each
    link the cost, and the negative logarithm of what arrives."""
    edge_ms, edge_log_loss = edges
    nodes = np.arange(len(classes))
    usable = costs.may_relay & (tree.depth >= 0) & (tree.depth < DEPTH_MAX)
    usable[tree.origin] = True
    cost = np.where(usable, _along(tree.above, edge_ms), np.inf)[None, :] + edge_ms.T
    log_loss = _along(tree.above, edge_log_loss)[None, :] + edge_log_loss.T
    parent = tree.above[0]
    below = (tree.above[:, None, :] == _fallen(tree)[None, :, None]).any(axis=0)
    key = _graded(costs.config, cost, log_loss, classes, below)
    for level in tree.above:
        key[level[level >= 0], nodes[level >= 0]] = np.inf
    key[nodes, nodes] = np.inf
    key[nodes[parent >= 0], parent[parent >= 0]] = np.inf
    key[:, tree.origin] = np.where(parent == tree.origin, np.inf, np.minimum(key[:, tree.origin], 1e300))
    key[tree.origin] = np.inf
    return key


def _held_keys(
    costs: Costs,
    tree: _Branches,
    classes: NDArray[np.uint8],
    edges: tuple[Floats, Floats],
    held: Indices,
) -> Floats:
    """``[node, k]``: the same of backups in force, as far as they will do; ``held`` as in `backups`."""
    edge_ms, edge_log_loss = edges
    node = np.arange(len(held))[:, None]
    cost = _along(tree.above, edge_ms)[held] + edge_ms[held, node]
    log_loss = _along(tree.above, edge_log_loss)[held] + edge_log_loss[held, node]
    below = (tree.above[:, held] == _fallen(tree)[None, :, None]).any(axis=0)
    key = _graded(costs.config, cost, log_loss, classes[node, held], below)
    return np.where(held == tree.origin, np.minimum(key, 1e300), key)


def _fallen(tree: _Branches) -> Indices:
    """The relay that each node falls with first, its parent; -2 where that is the origin or nobody."""
    parent = tree.above[0]
    fallen: Indices = np.where((parent >= 0) & (parent != tree.origin), parent, -2)
    return fallen


def _graded(
    config: PlannerConfig, cost: Floats, log_loss: Floats, classes: NDArray[np.uint8], below: Bools
) -> Floats:
    """Costs with what is shared, what is beyond the bounds and what is below the parent in front of them."""
    beyond = (cost > config.delay_ms_max) | (log_loss > -np.log1p(-config.loss_max))
    classes = classes + beyond * np.uint8(_BEYOND_BOUNDS) + below * np.uint8(_BELOW_PARENT)
    key: Floats = classes.astype(np.float64)
    key *= _CLASS_MS
    key += cost
    return key


@dataclass(frozen=True, slots=True)
class _Held:
    """Backups in force and their keys at their best, ``[node, k]``, and by how much another has to be
    better."""

    ranks: Indices
    keys: Floats
    config: PlannerConfig

    def best(self, key: Floats) -> Indices:
        """Of each node the next backup: the first in force that is left, or what is better by enough."""
        nodes, best = np.arange(len(key)), np.argmin(key, axis=1)
        left = (self.ranks >= 0) & np.isfinite(key[nodes[:, None], self.ranks])
        first = np.argmax(left, axis=1)
        kept, keys = self.ranks[nodes, first], self.keys[nodes, first]
        with np.errstate(invalid="ignore"):
            margin = np.maximum(self.config.upgrade_ms, self.config.upgrade_ratio * (keys % _CLASS_MS))
            stays = left.any(axis=1) & (keys - key[nodes, best] < margin)
        chosen: Indices = np.where(stays, kept, best)
        return chosen


def _rank(key: Floats, held: _Held, needs_origin: Bools, origin: int, ranks: Indices) -> None:
    """The best ``ranks.shape[1]`` candidates of each node; the origin takes the last place where it is needed
    and has none."""
    nodes, width = np.arange(len(key)), ranks.shape[1]
    for place in range(width):
        if place == width - 1:
            only_origin = needs_origin[:, None] & (nodes != origin)[None, :]
            key[only_origin] = np.inf
        best = held.best(key)
        ranks[:, place] = np.where(np.isfinite(key[nodes, best]), best, -1)
        key[nodes, best] = np.inf
        needs_origin &= best != origin


def _along(above: Indices, of_edge: Floats) -> Floats:
    """Of each node the sum over the edges of its branch."""
    lower = np.concatenate([np.arange(above.shape[1])[None], above[:-1]])
    there = above >= 0
    sums: Floats = np.where(there, of_edge[np.where(there, above, 0), np.where(there, lower, 0)], 0.0).sum(
        axis=0
    )
    return sums


def _meet(mine: Indices, theirs: Indices) -> Bools:
    """``[node, candidate]``: whether the node's column of ``mine`` and the candidate's of ``theirs`` have a
    number in common; negative ones are none."""
    mine, theirs = mine.astype(np.int16), theirs.astype(np.int16)
    met = np.zeros((mine.shape[1], theirs.shape[1]), np.bool_)
    for a in mine:
        known = np.where(a >= 0, a, -2)
        for b in theirs:
            met |= known[:, None] == b[None, :]
    return met


def _of(numbers: Indices, relays: Indices) -> Indices:
    return np.where(relays >= 0, numbers[np.where(relays >= 0, relays, 0)], -1)


def _numbered(names: list[str]) -> Indices:
    """A number for each distinct name, -1 for none."""
    known = {name: k for k, name in enumerate(sorted({name for name in names if name}))}
    return np.array([known.get(name, -1) for name in names])
