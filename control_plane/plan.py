"""What goes into the planner and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.frame_delay import FrameModel
from farcast.control_plane.network import Bools, Floats

if TYPE_CHECKING:
    from farcast.control_plane.pinning import PinState

RELAYS_MAX: Final = 2
"""Most relays between origin and egress. Two are what measured overlays use for 94 % and more of their paths
(XRON, SIGCOMM 2023, fig. 17a); the tree search is written for this depth."""

DEPTH_MAX: Final = RELAYS_MAX + 1
"""Tree edges from the origin to the deepest node."""

UPGRADE: Final = "upgrade"
COMPANION: Final = "companion"
ESCAPE: Final = "escape"
CAPACITY: Final = "capacity"
NEW: Final = "new"
PIN: Final = "pin"

SHARES: Final = ("provider", "way between regions", "region", "risk group", "relay")
"""What a backup may share with the branch it stands in for, in the order in which that is given in to: the
first is the least harm. Bit k of a number of shares is item k."""


@dataclass(frozen=True, slots=True)
class PlannerConfig:
    """Settings of the planner. Times in ms where the network's are, in us where clocks are."""

    frame: FrameModel = field(default_factory=FrameModel)
    relay_ms: float = 1.0
    """Time that a frame spends in one relay."""
    delay_ms_max: float = 400.0
    """Bound on the p99 delay of a frame from origin to egress."""
    loss_max: float = 0.10
    """Bound on the loss of packets from origin to egress before repair."""
    fill_free: float = 0.6
    """Share of a capacity that costs nothing."""
    fill_penalty_ms: float = 40.0
    """Cost of a resource that is full."""
    fill_target: float = 0.9
    """What is moved for want of capacity goes where it fits below this share."""
    price_ms_per_unit: float = 0.0
    """What one unit of money per GB sent is worth in ms of delay; 0 leaves price out."""
    backups_max: int = 3
    upgrade_ratio: float = 0.10
    upgrade_ms: float = 10.0
    upgrade_reports: int = 3
    """A better branch is taken when it was better by both for this many reports in a row..."""
    report_interval_us: int = 1_000_000
    hold_down_us: int = 30_000_000
    """...and not within this time of the last move of the same origin at the same node."""
    upgrades_share_max: float = 0.10
    """Share of all routes that may be upgraded at once; the greatest gains go first."""
    relief_moves_max: int = 128
    """Moves for want of capacity in one run."""


@dataclass(frozen=True, slots=True, eq=False)
class Demand:
    """Who watches what an origin publishes: ``watched[track, k]`` at ``nodes[k]``, ``bps[track]`` each.

    A track is counted once on each tree edge that it needs, however many watch below.
    """

    nodes: tuple[str, ...] = ()
    bps: Floats = field(default_factory=lambda: np.zeros(0))
    watched: Bools = field(default_factory=lambda: np.zeros((0, 0), np.bool_))

    def __post_init__(self) -> None:
        if self.watched.shape != (len(self.bps), len(self.nodes)):
            raise ValueError(f"{self.watched.shape} watched, {len(self.bps)} tracks, {len(self.nodes)} nodes")

    @classmethod
    def from_loads(cls, loads: Mapping[str, int]) -> Demand:
        """Out of bit rates taken at nodes, which is what edges report, without saying which tracks.

        The tracks taken at a node that takes less are supposed to be among those taken where more is taken:
        popular ones first. So loads become layers, each taken by all that take at least so much.
        """
        taken = {node: bps for node, bps in sorted(loads.items()) if bps > 0}
        levels = sorted(set(taken.values()))
        rates = np.array(list(taken.values()), np.float64)
        steps = np.diff(np.array([0, *levels], np.float64))
        watched = rates[None, :] >= np.array(levels, np.float64)[:, None]
        return cls(tuple(taken), steps, watched)


class Move(NamedTuple):
    """A node that got another parent. ``cause``: `UPGRADE`; `COMPANION`, moved so that another's upgrade is
    possible; `ESCAPE`; `CAPACITY`; `PIN`, by order; `NEW`, had none before. ``before`` is "" where there was
    none."""

    origin: str
    node: str
    before: str
    after: str
    cause: str


@dataclass(frozen=True, eq=False)
class Tree:
    """How what ``origin`` publishes reaches every node. Arrays are by the position in ``node_ids``.

    ``parents``: position of the parent, -1 for the origin and for nodes that nothing reaches. ``ranks``:
    positions of backups ``[node, k]`` in their order, -1 beyond the last; ``shares``: what each shares with
    the branch, bits of `SHARES`. ``delays_ms``: p99 delay of a frame; ``losses`` of packets before repair;
    ``costs_ms``: delay and penalties; NaN where nothing reaches.
    """

    origin: str
    node_ids: tuple[str, ...]
    parents: NDArray[np.int64]
    ranks: NDArray[np.int64]
    shares: NDArray[np.uint8]
    delays_ms: Floats
    losses: Floats
    costs_ms: Floats

    @cached_property
    def parent(self) -> dict[str, str]:
        """Parent of each node that is reached, the origin left out."""
        ids = self.node_ids
        return {ids[v]: ids[p] for v, p in enumerate(self.parents.tolist()) if p >= 0}

    @cached_property
    def backups(self) -> dict[str, tuple[str, ...]]:
        """Backups of each node but the origin, best first. Nodes that nothing reaches have the origin."""
        ids = self.node_ids
        rows = zip(ids, self.ranks.tolist(), strict=True)
        return {v: tuple(ids[b] for b in row if b >= 0) for v, row in rows if v != self.origin}

    def upstreams(self, node: str) -> tuple[str, ...]:
        """Parent and backups: what a `RouteEntry` of this node names."""
        parent = self.parent.get(node)
        return ((parent,) if parent is not None else ()) + self.backups.get(node, ())

    def has_upstreams_of(self, other: Tree) -> bool:
        """Whether every node has the same parent and backups there."""
        same = np.array_equal(self.parents, other.parents) and np.array_equal(self.ranks, other.ranks)
        return same and (self.origin, self.node_ids) == (other.origin, other.node_ids)

    def path(self, node: str) -> tuple[str, ...]:
        """From the origin to ``node``, both included; empty where nothing reaches."""
        if node == self.origin:
            return (node,)
        reverse: list[str] = []
        while node in self.parent:
            reverse.append(node)
            node = self.parent[node]
        return (self.origin, *reversed(reverse)) if reverse else ()

    @cached_property
    def delay_ms(self) -> dict[str, float]:
        """p99 delay of a frame, origin to node, ms; only nodes that are reached."""
        return _reached(self.node_ids, self.delays_ms)

    @cached_property
    def loss(self) -> dict[str, float]:
        """Loss of packets before repair, origin to node."""
        return _reached(self.node_ids, self.losses)

    def shared(self, node: str) -> tuple[tuple[str, ...], ...]:
        """For each backup of ``node``, what it could not help sharing with the branch (items of `SHARES`)."""
        v = self.node_ids.index(node)
        return tuple(
            share_names(int(bits))
            for b, bits in zip(self.ranks[v].tolist(), self.shares[v].tolist(), strict=True)
            if b >= 0
        )


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """One tree per origin. ``overloaded``: nodes and links ("a > b") that are above their capacity because
    nothing else was found. ``moves``: what differs from the plan before, in order. ``node_fill``,
    ``link_fill[src, dst]``: shares of capacities that the costs of this plan reckoned with. ``pins``: all
    that were given, and which of them are in force."""

    trees: dict[str, Tree]
    overloaded: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    node_ids: tuple[str, ...] = ()
    node_fill: Floats = field(default_factory=lambda: np.zeros(0))
    link_fill: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    pins: tuple[PinState, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class PlannerMemory:
    """What the planner has to know of its past; pass the one of the run before. Arrays ``[origin, node]``.

    ``parent`` as in `Tree`; ``streak``: reports in a row in which an upgrade was to be had; ``moved_us``:
    when the node last moved (`NEVER_US`: not yet). ``backups[origin, node, k]`` as ``ranks`` in `Tree`.
    ``counted_us``: when streaks last grew.
    ``pins_failed_us``: pinned ways that failed lately, and when last.
    """

    origins: tuple[str, ...] = ()
    node_ids: tuple[str, ...] = ()
    parent: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    streak: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    moved_us: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0), np.int64))
    backups: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 0, 0), np.int64))
    counted_us: int = -(1 << 62)
    pins_failed_us: Mapping[tuple[str, ...], int] = field(default_factory=dict)


NEVER_US: Final = -(1 << 62)


def share_names(bits: int) -> tuple[str, ...]:
    """Items of `SHARES` whose bits are set."""
    return tuple(name for k, name in enumerate(SHARES) if bits >> k & 1)


def _reached(ids: Sequence[str], values: Floats) -> dict[str, float]:
    return {node: value for node, value in zip(ids, values.tolist(), strict=True) if value == value}
