"""Which viewers are with which edge, and since when: joins, losses, moves and departures."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.simulations.flows.joining import NEVER, Joins
from farcast.simulations.flows.load import Audience
from farcast.simulations.flows.traces import Stay

Times = NDArray[np.int64]
Positions = NDArray[np.int64]

SILENCE_US: Final = 600_000
"""After so long without a sign of life a client looks for another edge (`clients.server.SILENCE_MS`)."""

RETRY_US_MAX: Final = 3_000_000
"""How long after a black-out a client's next attempt may come: it tries again with growing pauses."""


class Attendance:
    """All viewers of a run over time."""

    def __init__(self, audience: Audience, edges: int, seed: int, joins_per_s: float) -> None:
        self.audience = audience
        self.joins = Joins(audience.crowd, edges, seed, joins_per_s)
        self._draw = np.random.default_rng([seed, 4])
        self._gone = np.zeros(audience.viewers, np.bool_)
        self._seated = np.array([seat.viewer for seat in audience.seats], np.int64)
        self._stays: dict[int, list[Stay]] = {}

    def step(self, until_us: int) -> None:
        """Let viewers come and go."""
        self.joins.step(until_us)
        leaving = np.flatnonzero((self.audience.leaves_us < until_us) & ~self._gone)
        if len(leaving):
            self._note(leaving, np.full(len(leaving), NEVER), "")
            self._gone[leaving] = True
            self.joins.leave(leaving)

    def watching(self, until_us: int) -> Positions:
        """Who gets media."""
        return np.flatnonzero((self.joins.edge >= 0) & (self.joins.subscribed_us < until_us))

    def lose_edge(self, nodes: list[int], at_us: int) -> None:
        """An edge is gone: its viewers hear nothing, and look for another one."""
        self.joins.alive[nodes] = False
        hit = np.flatnonzero(np.isin(self.joins.edge, nodes))
        self._restart(hit, np.full(len(hit), at_us), np.full(len(hit), at_us + SILENCE_US), "silent")

    def send_away(self, nodes: list[int], at_us: int) -> None:
        """GOAWAY: the old session lives on until the new one stands."""
        self.joins.alive[nodes] = False
        hit = np.flatnonzero(np.isin(self.joins.edge, nodes))
        self._restart(hit, np.full(len(hit), NEVER), np.full(len(hit), at_us), "goaway")

    def revive(self, nodes: list[int]) -> None:
        """Edges take viewers again."""
        self.joins.alive[nodes] = True

    def black_out(self, clients: tuple[str, ...], at_us: int, until_us: int) -> None:
        """Viewers hear nothing until a time, and come back all at once, each at its next attempt."""
        kinds = self.audience.kinds
        named = [k for k, client in enumerate(kinds) if {client.entry, client.name} & set(clients)]
        hit = np.flatnonzero(np.isin(self.audience.crowd.kind, named) & (self.joins.edge >= 0))
        wait_us = min((until_us - at_us) // 2, RETRY_US_MAX)
        again_us = until_us + self._draw.integers(0, max(wait_us, 1), len(hit))
        self._restart(hit, np.full(len(hit), at_us), again_us, "silent")

    def stays(self, viewer: int) -> list[Stay]:
        """All of one viewer with a seat, to the end."""
        last = [] if self.joins.edge[viewer] < 0 else [self._stay(viewer, NEVER, "")]
        return [*self._stays.get(viewer, ()), *last]

    def _restart(self, viewers: Positions, lost_us: Times, at_us: Times, cause: str) -> None:
        self._note(viewers, lost_us, cause)
        self.joins.start(viewers, at_us)

    def _note(self, viewers: Positions, lost_us: Times, cause: str) -> None:
        """Write down what stays of those with a seat are over."""
        for k in np.flatnonzero(np.isin(viewers, self._seated)).tolist():
            viewer = int(viewers[k])
            if self.joins.edge[viewer] >= 0:
                self._stays.setdefault(viewer, []).append(self._stay(viewer, int(lost_us[k]), cause))

    def _stay(self, viewer: int, lost_us: int, cause: str) -> Stay:
        joins = self.joins
        return Stay(
            int(joins.edge[viewer]),
            int(joins.choice[viewer]),
            int(joins.established_us[viewer]),
            int(joins.subscribed_us[viewer]),
            lost_us,
            cause,
        )
