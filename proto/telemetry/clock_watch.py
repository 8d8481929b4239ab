"""Tells when an edge cannot trust what it measured: it stood still, or its clock jumped.

A pause within one interval shows in no distance between reports, and yet every answer that came in it waited
for its end. So the datapath counts how often it was called much later than it had asked.
"""

from __future__ import annotations

from typing import Final

PAUSE_INTERVALS: Final = 2.5
"""A gap between two reports of more intervals than this is a pause (SIGSTOP, a starved or moved machine),
even where the datapath had nothing to be late for."""

JUMP_US_MAX: Final = 500_000
"""The wall clock may differ from the monotonic one by this much over one interval. A virtual machine that is
suspended stops the monotonic clock and shows only here."""


class ClockWatch:
    """Compares both clocks, and the datapath's count of stalls, from one report to the next. Only intervals
    are compared, never absolute times."""

    def __init__(self, interval_us: int) -> None:
        self._pause_us = int(interval_us * PAUSE_INTERVALS)
        self._before: tuple[int, int, int] | None = None
        self._distrusted_last = False
        self.pauses = 0
        self.jumps = 0

    def check(self, now_us: int, now_unix_us: int, stalls: int) -> bool:
        """Whether to distrust this interval: a pause or jump was in it, or in the one before. ``stalls``:
        those of the datapath so far."""
        before, self._before = self._before, (now_us, now_unix_us, stalls)
        disturbed = before is not None and self._is_disturbed(
            now_us - before[0], now_unix_us - before[1], stalls != before[2]
        )
        distrust = disturbed or self._distrusted_last
        self._distrusted_last = disturbed
        return distrust

    def _is_disturbed(self, elapsed_us: int, elapsed_unix_us: int, stalled: bool) -> bool:
        is_pause = stalled or not 0 <= elapsed_us <= self._pause_us
        is_jump = abs(elapsed_unix_us - elapsed_us) > JUMP_US_MAX
        self.pauses += is_pause
        self.jumps += is_jump
        return is_pause or is_jump
