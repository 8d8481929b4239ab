"""Which way each origin's media take, edge by edge: by plan, and by what edges do where it fails.

As the datapath does it: a hop that is silent for 200 ms is left for the first backup that carries and makes
no circle; what is missing comes out of that one's cache, so a viewer sees a gap and loses nothing. A hop that
loses more than its bound is left without a gap. The plan's parent is taken again ten seconds after it has
come back. All of that needs no control plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.branches import Trees
from farcast.proto.agent.config import TrackTiming
from farcast.simulations.flows.network import FlowNetwork
from farcast.simulations.raw import RouteChange

Positions = NDArray[np.int64]

SILENT_US: Final = 200_000
"""`hop_silent_ms`: nothing heard for so long, and media flow."""

HEARTBEAT_US: Final = 20_000
"""Half a heartbeat's interval: how long ago the last sign of life was when the link broke."""

LOSS_MAX: Final = 0.150
"""`PlanHops.loss_max_permille`."""

RETURN_US: Final = TrackTiming().return_ms * 1_000
WAY_NODES_MAX: Final = 16
"""Nodes of a branch, local moves included; the shipped edges bound it by the path in SUBSCRIBE."""


@dataclass(slots=True)
class Gap:
    """Nothing came to a node of a tree in ``[begin_us, end_us)``; ``end_us`` is ``None`` while it lasts."""

    tree: int
    node: int
    begin_us: int
    end_us: int | None = None


@dataclass(slots=True)
class Routes:
    """``parents[tree, node]`` in force at the edges now, -1 for none; ``history``: from when on which."""

    network: FlowNetwork
    origins: tuple[int, ...]
    parents: Positions = field(init=False)
    gaps: list[Gap] = field(default_factory=list)
    changes: list[RouteChange] = field(default_factory=list)
    history: list[tuple[int, Positions]] = field(default_factory=list)
    _planned: Positions = field(init=False)
    _backups: list[dict[int, tuple[int, ...]]] = field(init=False)
    _leaving: dict[tuple[int, int], int] = field(default_factory=dict)
    _open: dict[tuple[int, int], Gap] = field(default_factory=dict)
    _return_us: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (len(self.origins), len(self.network.sites))
        self.parents, self._planned = np.full(shape, -1), np.full(shape, -1)
        self._backups = [{} for _ in self.origins]

    def follow(self, trees: Trees, now_us: int) -> None:
        """A plan reaches the edges."""
        ids = self.network.node_ids
        at = {node: k for k, node in enumerate(ids)}
        for row, origin in enumerate(self.origins):
            for node, upstreams in trees.get(ids[origin], {}).items():
                if node not in at or upstreams.parent not in at:
                    continue
                place, parent = at[node], at[upstreams.parent]
                self._backups[row][place] = tuple(at[name] for name in upstreams.backups if name in at)
                before = int(self._planned[row, place])
                self._planned[row, place] = parent
                if before != parent and self._carries(parent, place):
                    self._set(row, place, parent, now_us, "plan")
        self._remember(now_us)

    def step(self, now_us: int, since_us: int) -> None:
        """What edges notice and do by themselves up to ``now_us``; ``since_us``: when links last changed."""
        carries = self.network.usable
        rows, nodes = np.nonzero(self.parents >= 0)
        above = self.parents[rows, nodes]
        dead = ~carries[above, nodes]
        lossy = self.network.fault_loss[above, nodes] > LOSS_MAX
        for row, node in zip(rows[dead].tolist(), nodes[dead].tolist(), strict=True):
            self._notice(row, node, since_us)
        for row, node in [key for key in self._open if key not in self._leaving]:
            if self._carries(int(self.parents[row, node]), node):
                self._open.pop((row, node)).end_us = since_us + self._way_us(
                    int(self.parents[row, node]), node
                )
        for key, due_us in list(self._leaving.items()):
            if due_us <= now_us:
                self._leave(*key, due_us)
        for row, node in zip(rows[lossy & ~dead].tolist(), nodes[lossy & ~dead].tolist(), strict=True):
            self._switch(row, node, now_us, "loss")
        for key, due_us in list(self._return_us.items()):
            self._come_back(*key, due_us, now_us)
        self._remember(now_us)

    @property
    def next_us(self) -> int | None:
        """When an edge does something by itself next."""
        return min((*self._leaving.values(), *self._return_us.values()), default=None)

    def way(self, parents: Positions, row: int, node: int) -> tuple[int, ...]:
        """From the origin to a node, both included, by a row of parents; empty where nothing leads there."""
        path = [node]
        while path[-1] != self.origins[row]:
            above = int(parents[row, path[-1]])
            if above < 0 or len(path) > WAY_NODES_MAX:
                return ()
            path.append(above)
        return tuple(reversed(path))

    # ---- Moves ------------------------------------------------------------------------------------

    def _carries(self, src: int, dst: int) -> bool:
        return bool(self.network.usable[src, dst])

    def _way_us(self, src: int, dst: int) -> int:
        return round(1e3 * float(self.network.delay_ms[src, dst]))

    def _notice(self, row: int, node: int, since_us: int) -> None:
        key = (row, node)
        if key in self._leaving or key in self._open:
            if key in self._open and key not in self._leaving:
                self._leaving[key] = since_us
            return
        above = int(self.parents[row, node])
        begin_us = since_us + self._way_us(above, node)
        self._open[key] = Gap(row, node, begin_us)
        self.gaps.append(self._open[key])
        self._leaving[key] = begin_us + SILENT_US - HEARTBEAT_US

    def _leave(self, row: int, node: int, at_us: int) -> None:
        """Take the first backup that carries; where none does, wait for the links to change."""
        del self._leaving[row, node]
        above = int(self.parents[row, node])
        gap = self._open[row, node]
        if self._carries(above, node):
            self._open.pop((row, node)).end_us = max(at_us, gap.begin_us)
            return
        chosen = self._backup(row, node)
        if chosen is None:
            return
        rtt_us = round(1e3 * self.network.rtt_between(chosen, node))
        gap = self._open.pop((row, node))
        gap.end_us = at_us + rtt_us
        self._set(row, node, chosen, at_us, "silent", gap.end_us - gap.begin_us)
        self._return_us[row, node] = at_us + RETURN_US

    def _switch(self, row: int, node: int, now_us: int, cause: str) -> None:
        chosen = self._backup(row, node)
        if chosen is not None and self.network.fault_loss[chosen, node] <= LOSS_MAX:
            self._set(row, node, chosen, now_us, cause)
            self._return_us[row, node] = now_us + RETURN_US

    def _come_back(self, row: int, node: int, due_us: int, now_us: int) -> None:
        planned = int(self._planned[row, node])
        if due_us > now_us:
            return
        if self.parents[row, node] == planned:
            del self._return_us[row, node]
        elif (
            self._carries(planned, node)
            and self.network.fault_loss[planned, node] <= LOSS_MAX
            and self._is_free(row, node, planned)
        ):
            self._set(row, node, planned, now_us, "return")
            del self._return_us[row, node]
        else:
            self._return_us[row, node] = now_us + RETURN_US

    def _backup(self, row: int, node: int) -> int | None:
        known = (*self._backups[row].get(node, ()), int(self._planned[row, node]), self.origins[row])
        for other in known:
            if other >= 0 and self._carries(other, node) and self._is_free(row, node, other):
                return other
        return None

    def _is_free(self, row: int, node: int, parent: int) -> bool:
        """Whether the branch of ``parent`` stands and does not lead through ``node``."""
        way = self.way(self.parents, row, parent)
        return bool(way) and node not in way

    def _set(
        self, row: int, node: int, parent: int, at_us: int, cause: str, gap_us: int | None = None
    ) -> None:
        before = int(self.parents[row, node])
        if before == parent:
            return
        if before >= 0 and cause != "silent" and not self._is_free(row, node, parent):
            return
        self.parents[row, node] = parent
        self._leaving.pop((row, node), None)
        if (gap := self._open.pop((row, node), None)) is not None:
            gap.end_us = at_us
        ids = self.network.node_ids
        if before >= 0:
            self.changes.append(RouteChange(at_us, ids[node], ids[before], ids[parent], cause, gap_us))

    def _remember(self, now_us: int) -> None:
        if not self.history or (self.history[-1][1] != self.parents).any():
            self.history.append((now_us, self.parents.copy()))


def epochs(history: Sequence[tuple[int, Positions]]) -> list[tuple[int, int, Positions]]:
    """From when, until when, which parents."""
    ends = [at for at, _ in history[1:]] + [1 << 62]
    return [(at, end, parents) for (at, parents), end in zip(history, ends, strict=True)]
