"""Media as rates: what tree edges and viewers load onto links and nodes, and what of it gets through.

A track's copies cost its rate on every tree edge below which somebody watches, and once more for every
viewer. What a link or a node's own uplink is offered beyond its capacity is lost, from everybody in
proportion (a drop-tail queue does not know whose packet it drops). What a node has lost, it cannot pass on:
so loads follow the tree from its root, and one step of time later.

Kept at every step: bytes offered = bytes sent + bytes dropped, for each link and node; nothing sends more
than it can.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Positions = NDArray[np.int64]


@dataclass(slots=True)
class Account:
    """Bytes so far, by node and by link ``[src, dst]``."""

    node_offered: Floats
    node_sent: Floats
    link_offered: Floats
    link_sent: Floats

    @classmethod
    def of(cls, nodes: int) -> Account:
        """Nothing yet."""
        return cls(np.zeros(nodes), np.zeros(nodes), np.zeros((nodes, nodes)), np.zeros((nodes, nodes)))


@dataclass(slots=True)
class Fluid:
    """Rates in a network of ``capacity_bps`` nodes and ``link_bps`` links; 0 is no bound. One tree for each
    of ``origins``.

    ``arriving[tree, node]``: the share of an origin's media that gets to a node; ``fitting``: the same if
    every link carried something, so that only capacity counts. ``node_share``: what of all that a node has
    to send it can. ``links``: flat positions (src * nodes + dst) of links in use, and ``links_bps`` what
    they carry.
    """

    capacity_bps: Floats
    link_bps: Floats
    origins: Positions
    account: Account = field(init=False)
    arriving: Floats = field(init=False)
    fitting: Floats = field(init=False)
    node_share: Floats = field(init=False)
    node_bps: Floats = field(init=False)
    viewers_bps: Floats = field(init=False)
    links: Positions = field(init=False)
    links_bps: Floats = field(init=False)

    def __post_init__(self) -> None:
        nodes = len(self.capacity_bps)
        self.account = Account.of(nodes)
        self.arriving = np.ones((len(self.origins), nodes))
        self.fitting = self.arriving.copy()
        self.node_share, self.node_bps, self.viewers_bps = np.ones(nodes), np.zeros(nodes), np.zeros(nodes)
        self.links, self.links_bps = np.zeros(0, np.int64), np.zeros(0)

    def step(
        self,
        parents: Positions,
        wanted_bps: Floats,
        viewers_bps: Floats,
        up: NDArray[np.bool_],
        seconds: float,
    ) -> None:
        """Let time pass. ``parents[tree, node]``, -1 for none; ``wanted_bps[tree, node]``: what the node
        takes from its parent, everything below included; ``viewers_bps[tree, node]``: what its viewers take
        of it; ``up[src, dst]``: whether the link carries anything."""
        nodes = len(self.capacity_bps)
        tree, node = np.nonzero((parents >= 0) & (wanted_bps > 0))
        parent = parents[tree, node]
        self.links, at = np.unique(parent * nodes + node, return_inverse=True)
        src = self.links // nodes
        wanted = wanted_bps[tree, node] * self.arriving[tree, parent]
        offered = np.bincount(at, wanted, minlength=len(self.links))
        to_viewers = (viewers_bps * self.arriving).sum(axis=0)
        out_of_node = np.bincount(src, offered, minlength=nodes) + to_viewers
        self.node_share = _share(self.capacity_bps, out_of_node)
        on_link = offered * self.node_share[src]
        fits = _share(self.link_bps.ravel()[self.links], on_link)
        through = np.where(up.ravel()[self.links], fits, 0.0)
        passes = self.node_share[parent]
        self.fitting = self._passed_on(self.fitting, parent, tree, node, passes * fits[at])
        self.arriving = self._passed_on(self.arriving, parent, tree, node, passes * through[at])
        self.node_bps, self.links_bps = out_of_node * self.node_share, on_link * through
        self.viewers_bps = to_viewers * self.node_share
        account, bytes_per_bps = self.account, seconds / 8
        account.node_offered += out_of_node * bytes_per_bps
        account.node_sent += self.node_bps * bytes_per_bps
        account.link_offered.ravel()[self.links] += on_link * bytes_per_bps
        account.link_sent.ravel()[self.links] += self.links_bps * bytes_per_bps

    def _passed_on(
        self, before: Floats, parent: Positions, tree: Positions, node: Positions, through: Floats
    ) -> Floats:
        """What gets to each node, by what got to its parent a step before."""
        after = np.zeros(before.shape)
        after[np.arange(len(self.origins)), self.origins] = 1.0
        after[tree, node] = before[tree, parent] * through
        return after


def below(parents: Positions, own: Floats) -> Floats:
    """The largest of ``own[tree, node]`` at each node and anywhere below it: what a node must take."""
    wanted = own.copy()
    tree, node = np.nonzero(parents >= 0)
    above = parents[tree, node]
    while True:
        before = wanted.copy()
        np.maximum.at(wanted, (tree, above), wanted[tree, node])
        if np.array_equal(before, wanted):
            return wanted


def _share(capacity: Floats, offered: Floats) -> Floats:
    bounded = (capacity > 0) & (offered > capacity)
    return np.where(bounded, capacity / np.maximum(offered, 1e-9), 1.0)
