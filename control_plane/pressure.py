"""How busy an edge is by its own word, as a share that the planner reckons with like the fill of a capacity.

Capacities are declared, and mostly are not; what an edge computes and what waits in it is measured. Both are
averaged and told in steps, so that noise is the same figure every second and moves nothing.
"""

from __future__ import annotations

import math
from typing import Final

from farcast.proto.control.messages import Load

AVERAGE_SECONDS: Final = 10.0
"""Time constant of the averages: a busy second is nothing."""

ELAPSED_SECONDS_MAX: Final = 2.0
"""No single report counts for longer: an edge that comes back after a silence is busy for a moment."""

STEP: Final = 0.1
STEP_HYSTERESIS: Final = 0.75
"""A share is told anew when the average has left the one told by so many steps."""

QUEUE_SECONDS_FULL: Final = 0.5
"""What waits for so long, at the rate that the edge sends, is a full queue."""

QUEUE_EGRESS_BPS_LEAST: Final = 1_000_000
"""An edge that sends less is judged as if it sent this."""

QUEUE_SHARE_MAX: Final = 0.7
"""A queue may be that of few slow viewers, no fault of the edge: with the planner's defaults it tilts a
choice by less than an upgrade takes, and moves nothing by itself. A full processor counts as 1."""


class Pressure:
    """Of one edge, from its reports."""

    def __init__(self) -> None:
        self._cpu = self._queue = 0.0
        self._steps = 0
        self._before_us: int | None = None

    @property
    def share(self) -> float:
        """0 to 1, in steps of `STEP`."""
        return self._steps * STEP

    def handle_load(self, load: Load, now_us: int) -> None:
        """Take over what was reported."""
        elapsed = 1.0 if self._before_us is None else max(now_us - self._before_us, 0) / 1e6
        elapsed = min(elapsed, ELAPSED_SECONDS_MAX)
        self._before_us = now_us
        weight = -math.expm1(-elapsed / AVERAGE_SECONDS)
        seconds = 8 * load.queue_bytes / max(load.egress_bps, QUEUE_EGRESS_BPS_LEAST)
        self._cpu += weight * (load.cpu - self._cpu)
        self._queue += weight * (min(seconds / QUEUE_SECONDS_FULL, 1.0) - self._queue)
        now = max(self._cpu, QUEUE_SHARE_MAX * self._queue)
        if abs(now - self.share) > STEP_HYSTERESIS * STEP:
            self._steps = round(now / STEP)
