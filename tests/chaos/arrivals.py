"""When each object reached a viewer, and what follows from it: gaps, losses, doubles.

Times are seconds of one monotonic clock, that of the process that publishes, watches and breaks things.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import pairwise

from farcast.clients.ledger import FrameLedger


@dataclass(slots=True)
class Arrivals:
    """One viewer's record; ``track`` is the one whose rhythm is watched."""

    node_id: str
    track: str = "video"
    ledger: FrameLedger = field(default_factory=FrameLedger)
    times: list[float] = field(default_factory=list)

    def received(self, track: str, group: int, object: int, payload: bytes) -> None:
        """An object arrived now."""
        self.ledger.received(track, group, object, payload)
        if track == self.track:
            self.times.append(time.monotonic())

    def longest_gap(self, since: float, until: float, begun_by: float | None = None) -> Gap:
        """The longest time without an object that ends in an interval, or goes on at its end, and then to
        where it ended so far; with ``begun_by`` only of those that begin until then."""
        first = max(0, bisect_left(self.times, since) - 1)
        last = bisect_left(self.times, until)
        times = [*self.times[first:last], *(self.times[last : last + 1] or [until])]
        gaps = [Gap(before, after) for before, after in pairwise(times)]
        if begun_by is not None:
            gaps = [gap for gap in gaps if gap.begin <= begun_by]
        return max(gaps, key=lambda gap: gap.seconds, default=Gap(since, since))


@dataclass(frozen=True, slots=True)
class Gap:
    """From the last object before to the first one after."""

    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long nothing came."""
        return self.end - self.begin


def percentile(values: list[float], share: float) -> float | None:
    """The nearest-rank percentile; ``None`` of nothing."""
    if not values:
        return None
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -(-int(share * len(ranked) * 1e6) // 10**6) - 1))]
