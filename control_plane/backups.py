"""Backups: which other upstreams a node should turn to when its parent fails, in which order.

For each tree and node every other node of the tree is a candidate that is not below the node itself (it would
fail with it, or close a circle), may relay, and gives a branch of bounded depth. Candidates are ordered by
what their branch shares with the node's own (`SHARES`: least harm first), then by cost and pause; what both
branches must have in common, the origin and the node, does not count. The first of them that shares nothing
comes first, whatever it costs; where there is none, providers may be shared first, then ways between two
regions, then regions, then risk groups, relays last. Links between the same two regions mostly lie in the
same cables, whether a risk group says so or not: an edge whose link to the origin is bad finds no help at its
neighbour, which has the media over the same way. A branch beyond the bounds comes after all that are within,
and the origin itself is always among the backups: where its link is bad, as the last.

Pause. What a node turns to when its parent is dead has to be asked, and to answer, before media goes on: a
round trip to a candidate that has the media already, because somebody watches there or below it; one that
has not asks its own parent first, and so on. A millisecond of it counts as one of the branch's delay: the
pause is seen once, the delay until a plan moves the node. By branches alone an edge in Virginia would turn to
an origin in Jakarta, over a link that loses packets, and not to Dubai, which has the film and is nearer.

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
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.costs import Costs, ancestors, blocks, depths
from farcast.control_plane.network import Bools, Floats, Indices, Masks, Network
from farcast.control_plane.plan import DEPTH_MAX, SHARES, PlannerConfig

_PROVIDER, _WAY, _REGION, _RISK, _RELAY = (1 << k for k in range(len(SHARES)))

_BEYOND_BOUNDS: Final = 1 << len(SHARES)

_BELOW_PARENT: Final = 2 * _BEYOND_BOUNDS

_CLASS_MS: Final = 1e7
"""One class more outweighs any cost."""


_Number = TypeVar("_Number", np.float64, np.int64)


@dataclass(frozen=True, slots=True)
class _Branches:
    """Branches of a block of trees. ``above[level, tree, node]`` as of `ancestors`; ``relays`` the same of
    relays alone; ``risks[tree, node, word]``: of its relays and links; ``depth[tree, node]``; ``supplied``:
    of `_supplied`."""

    origins: Indices
    above: Indices
    relays: Indices
    risks: Masks
    depth: Indices
    supplied: Bools

    @property
    def trees(self) -> Indices:
        """The position of each tree in the block."""
        return np.arange(len(self.origins))


@dataclass(frozen=True, slots=True)
class _Into:
    """Links by where they lead, ``[node, candidate]``: cost, the negative logarithm of what arrives, and how
    long the candidate's answer to the node takes."""

    cost_ms: Floats
    log_loss: Floats
    answer_ms: Floats

    @classmethod
    def of(cls, cost_ms: Floats, log_loss: Floats) -> _Into:
        """From ``[src, dst]``. Where the way there is not known it counts as the way back."""
        into = np.ascontiguousarray(cost_ms.T)
        answer_ms = into + np.where(np.isfinite(cost_ms), cost_ms, into)
        return cls(into, np.ascontiguousarray(log_loss.T), answer_ms)


def backups(
    costs: Costs, parents: Indices, origins: Indices, held: Indices, watched: Bools
) -> tuple[Indices, NDArray[np.uint8]]:
    """``[origin, node, k]``: positions of backups, best first, -1 beyond; and what each shares.
    ``held``: those in force until now, of the same shape. ``watched[origin, node]``: where somebody watches.
    """
    ranks, shares = np.full(held.shape, -1), np.zeros(held.shape, np.uint8)
    depth = depths(parents, origins)
    expected, hopeful = _Into.of(costs.search_ms, costs.log_loss), _Into.of(*costs.hopeful())
    regions = _numbered([node.region for node in costs.network.nodes])
    providers = _numbered([node.provider for node in costs.network.nodes])
    ways = _ways(regions)
    count = parents.shape[1]
    for block in blocks(len(origins), count):
        tree = _branches(costs, parents[block], origins[block], depth[block], watched[block])
        classes = _shared(costs.network, tree, regions, providers, ways)
        known = _Held(held[block], _held_keys(costs, tree, classes, hopeful, held[block]), costs.config)
        key = _keys(costs, tree, classes, expected)
        wanted = (parents[block] != origins[block, None]) & (np.arange(count) != origins[block, None])
        ranks[block] = _ranked(key, known, wanted, tree.origins)
        there = ranks[block] >= 0
        found = np.take_along_axis(classes, np.where(there, ranks[block], 0), axis=2)
        shares[block] = np.where(there, found, 0)
    return ranks, shares


def _branches(costs: Costs, parents: Indices, origins: Indices, depth: Indices, watched: Bools) -> _Branches:
    network, shape = costs.network, parents.shape
    nodes = np.broadcast_to(np.arange(shape[1]), shape)
    above = ancestors(parents, origins)
    lower = np.concatenate([nodes[None], above[:-1]])
    there = above >= 0
    src, dst = np.where(there, above, 0), np.where(there, lower, 0)
    relays = np.where(there & (above != origins[:, None]), above, -1)[: DEPTH_MAX - 1]
    risks = np.zeros((*shape, network.node_risks.shape[1]), network.node_risks.dtype)
    if network.risk_names:
        for level in range(DEPTH_MAX):
            risks |= network.link_risks[src[level], dst[level]] * there[level, ..., None].astype(np.uint64)
        for relay in relays:
            risks |= network.node_risks[relay] * (relay >= 0)[..., None].astype(np.uint64)
    return _Branches(origins, above, relays, risks, depth, _supplied(above, origins, watched))


def _supplied(above: Indices, origins: Indices, watched: Bools) -> Bools:
    """``[tree, node]``: nodes that have the media: the origin, where somebody watches, and what is above."""
    supplied = watched.copy()
    supplied[np.arange(len(origins)), origins] = True
    for level in above:
        at, under = np.nonzero((level >= 0) & watched)
        supplied[at, level[at, under]] = True
    return supplied


def _shared(
    network: Network, tree: _Branches, regions: Indices, providers: Indices, ways: NDArray[np.int16]
) -> NDArray[np.uint8]:
    """``[tree, node, candidate]``: bits of what the branch through the candidate shares with the node's
    own."""
    nodes = np.broadcast_to(np.arange(len(network.nodes)), tree.depth.shape)
    is_origin = nodes == tree.origins[:, None]
    mine = tree.relays
    theirs = np.concatenate([np.where(is_origin, -1, nodes)[None], tree.relays[:-1]])
    classes = _meet(mine, theirs) * np.uint8(_RELAY)
    for numbers, bit in ((regions, _REGION), (providers, _PROVIDER)):
        own, other = _of(numbers, mine), _of(numbers, theirs)
        own = np.where((own == numbers[tree.origins, None]) | (own == numbers), -1, own)
        classes |= _meet(own, other) * np.uint8(bit)
    # A region that is shared has its ways with it.
    classes |= (_same_ways(tree, ways) & (classes & np.uint8(_REGION) == 0)) * np.uint8(_WAY)
    if network.risk_names:
        through = tree.risks | network.node_risks * (~is_origin).astype(np.uint64)[..., None]
        common = tree.risks & ~(network.node_risks[tree.origins, None] | network.node_risks)
        for word in range(common.shape[2]):
            theirs_too = through[:, None, :, word] | network.link_risks[:, :, word].T
            classes |= ((theirs_too & common[:, :, word, None]) != 0).view(np.uint8) * np.uint8(_RISK)
    return classes


def _same_ways(tree: _Branches, ways: NDArray[np.int16]) -> Bools:
    """``[tree, node, candidate]``: whether both go between the same two regions, in any direction."""
    nodes = np.broadcast_to(np.arange(len(ways)), tree.depth.shape)
    lower = np.concatenate([nodes[None], tree.above[:-1]])
    own = np.where(tree.above >= 0, ways[tree.above, lower], -1)
    met = _meet(own, own).view(np.bool_)
    for way in np.where(own >= 0, own, -2).astype(np.int16):
        met |= way[..., None] == ways
    return met


def _ways(regions: Indices) -> NDArray[np.int16]:
    """``[node, node]``: a number for each pair of regions, the same in both directions; -1 within a region
    and where one is not known. Among more than 256 regions two pairs may have the same."""
    one, other = regions[None], regions[:, None]
    low, high = np.minimum(one, other), np.maximum(one, other)
    numbers = low + high * (high - 1) // 2
    return np.where((low >= 0) & (low != high), numbers % np.iinfo(np.int16).max, -1).astype(np.int16)


def _keys(costs: Costs, tree: _Branches, classes: NDArray[np.uint8], into: _Into) -> Floats:
    """``[tree, node, candidate]``: sorts candidates; infinite where the candidate will not do."""
    trees, origins = tree.trees, tree.origins
    usable = costs.may_relay & (tree.depth >= 0) & (tree.depth < DEPTH_MAX)
    usable[trees, origins] = True
    cost = np.where(usable, _along(tree.above, into.cost_ms), np.inf)[:, None] + into.cost_ms
    log_loss = _along(tree.above, into.log_loss)[:, None] + into.log_loss
    key = _graded(costs.config, cost, log_loss, classes, _below(tree))
    key += _unsupplied_ms(tree, into)[:, None] + into.answer_ms
    for level in tree.above:
        at, under = np.nonzero(level >= 0)
        key[at, level[at, under], under] = np.inf
    parent, nodes = tree.above[0], np.arange(len(into.cost_ms))
    key[:, nodes, nodes] = np.inf
    at, node = np.nonzero(parent >= 0)
    key[at, node, parent[at, node]] = np.inf
    is_parent = parent == origins[:, None]
    key[trees, :, origins] = np.where(is_parent, np.inf, np.minimum(key[trees, :, origins], 1e300))
    key[trees, origins] = np.inf
    return key


def _held_keys(
    costs: Costs, tree: _Branches, classes: NDArray[np.uint8], into: _Into, held: Indices
) -> Floats:
    """``[tree, node, k]``: the same of backups in force, as far as they will do; ``held`` as in `backups`."""
    trees, node = tree.trees[:, None, None], np.arange(held.shape[1])[:, None]
    cost = _along(tree.above, into.cost_ms)[trees, held] + into.cost_ms[node, held]
    log_loss = _along(tree.above, into.log_loss)[trees, held] + into.log_loss[node, held]
    below = (tree.above[:, trees, held] == _fallen(tree)[..., None]).any(axis=0)
    key = _graded(costs.config, cost, log_loss, classes[trees, node, held], below)
    key += _unsupplied_ms(tree, into)[trees, held] + into.answer_ms[node, held]
    return np.where(held == tree.origins[:, None, None], np.minimum(key, 1e300), key)


def _unsupplied_ms(tree: _Branches, into: _Into) -> Floats:
    """``[tree, candidate]``: how long it takes a candidate itself to get the media, 0 where it has it."""
    wait_ms = np.zeros(tree.depth.shape)
    lower, asks = np.broadcast_to(np.arange(len(into.cost_ms)), wait_ms.shape), ~tree.supplied
    for level in tree.above:
        asks = asks & (level >= 0)
        upper = np.where(asks, level, 0)
        wait_ms += np.where(asks, into.answer_ms[np.where(asks, lower, 0), upper], 0.0)
        lower, asks = upper, asks & ~tree.supplied[tree.trees[:, None], upper]
    return wait_ms


def _fallen(tree: _Branches) -> Indices:
    """The relay that each node falls with first, its parent; -2 where that is the origin or nobody."""
    parent = tree.above[0]
    fallen: Indices = np.where((parent >= 0) & (parent != tree.origins[:, None]), parent, -2)
    return fallen


def _below(tree: _Branches) -> Bools:
    """``[tree, node, candidate]``: whether the candidate falls with the node's parent."""
    return _meet(_fallen(tree)[None], tree.above).view(np.bool_)


def _graded(
    config: PlannerConfig, cost: Floats, log_loss: Floats, classes: NDArray[np.uint8], below: Bools
) -> Floats:
    """Costs with what is shared, what is beyond the bounds and what is below the parent in front of them."""
    beyond = (cost > config.delay_ms_max) | (log_loss > -np.log1p(-config.loss_max))
    classes = classes + beyond * np.uint8(_BEYOND_BOUNDS) + below * np.uint8(_BELOW_PARENT)
    key: Floats = np.multiply(classes, _CLASS_MS, dtype=np.float64)
    key += cost
    return key


@dataclass(frozen=True, slots=True)
class _Held:
    """Backups in force and their keys at their best, ``[tree, node, k]``, and by how much another has to be
    better."""

    ranks: Indices
    keys: Floats
    config: PlannerConfig

    def best(self, key: Floats) -> Indices:
        """Of each node the next backup: the first in force that is left, or what is better by enough."""
        best = np.argmin(key, axis=2)
        left = (self.ranks >= 0) & np.isfinite(np.take_along_axis(key, self.ranks, axis=2))
        first = np.argmax(left, axis=2)
        kept, keys = _picked(self.ranks, first), _picked(self.keys, first)
        with np.errstate(invalid="ignore"):
            margin = np.maximum(self.config.upgrade_ms, self.config.upgrade_ratio * (keys % _CLASS_MS))
            stays = left.any(axis=2) & (keys - _picked(key, best) < margin)
        chosen: Indices = np.where(stays, kept, best)
        return chosen


def _ranked(key: Floats, held: _Held, needs_origin: Bools, origins: Indices) -> Indices:
    """The best candidates of each node; the origin takes the last place where it is needed and has none.
    ``key`` is used up."""
    ranks = np.empty_like(held.ranks)
    width = ranks.shape[2]
    for place in range(width):
        if place == width - 1:
            at, node = np.nonzero(needs_origin)
            of_origin = key[at, node, origins[at]]
            key[at, node] = np.inf
            key[at, node, origins[at]] = of_origin
        best = held.best(key)
        ranks[..., place] = np.where(np.isfinite(_picked(key, best)), best, -1)
        key.reshape(-1)[_flat(key, best)] = np.inf
        needs_origin &= best != origins[:, None]
    return ranks


def _picked(table: NDArray[_Number], at: Indices) -> NDArray[_Number]:
    """``table[tree, node, at[tree, node]]``."""
    return table.reshape(-1)[_flat(table, at)]


def _flat(table: NDArray[_Number], at: Indices) -> Indices:
    """Positions of ``[tree, node, at[tree, node]]`` in the table laid flat."""
    rows: Indices = np.arange(at.size).reshape(at.shape) * table.shape[2]
    return rows + at


def _along(above: Indices, into: Floats) -> Floats:
    """Of each node the sum over the edges of its branch; ``into[dst, src]`` of each edge."""
    lower = np.concatenate([np.broadcast_to(np.arange(above.shape[2]), above.shape[1:])[None], above[:-1]])
    there = above >= 0
    sums: Floats = np.where(there, into[np.where(there, lower, 0), np.where(there, above, 0)], 0.0).sum(
        axis=0
    )
    return sums


def _meet(mine: Indices, theirs: Indices) -> NDArray[np.uint8]:
    """``[tree, node, candidate]``, 0 or 1: whether the node's column of ``mine`` and the candidate's of
    ``theirs``, both ``[k, tree, node]``, have a number in common; negative ones are none."""
    mine, theirs = np.where(mine >= 0, mine, -2).astype(np.int16), theirs.astype(np.int16)
    met = np.zeros((*mine.shape[1:], theirs.shape[2]), np.bool_)
    for a in mine:
        for b in theirs:
            met |= a[..., None] == b[:, None, :]
    return met.view(np.uint8)


def _of(numbers: Indices, relays: Indices) -> Indices:
    return np.where(relays >= 0, numbers[np.where(relays >= 0, relays, 0)], -1)


def _numbered(names: list[str]) -> Indices:
    """A number for each distinct name, -1 for none."""
    known = {name: k for k, name in enumerate(sorted({name for name in names if name}))}
    return np.array([known.get(name, -1) for name in names])
