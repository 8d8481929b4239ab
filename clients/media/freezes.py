"""Stalls by the freeze rule of W3C webrtc-stats.

A frame that has been on screen for at least ``max(3 * avg, avg + 150 ms)`` was a freeze, where avg is the
mean time on screen of the last 30 frames before it: 183 ms at 30 frames a second. Its whole time counts.
"""

from __future__ import annotations

from collections import deque

AVERAGED_FRAMES = 30
FREEZE_EXTRA_US = 150_000


class FreezeMeter:
    """Watches when the frames of one video track appear."""

    def __init__(self) -> None:
        self._durations_us: deque[int] = deque(maxlen=AVERAGED_FRAMES)
        self._shown_us: int | None = None
        self.count = 0
        self.total_us = 0
        self.longest_us = 0

    def handle_frame(self, now_us: int) -> None:
        """A new frame replaces the one on screen."""
        if self._shown_us is not None:
            duration_us = max(now_us - self._shown_us, 0)
            if self._is_freeze(duration_us):
                self.count += 1
                self.total_us += duration_us
                self.longest_us = max(self.longest_us, duration_us)
            self._durations_us.append(duration_us)
        self._shown_us = now_us

    def running_us(self, now_us: int) -> int:
        """How long the picture has been frozen by now; 0 if it is not."""
        duration_us = 0 if self._shown_us is None else now_us - self._shown_us
        return duration_us if self._is_freeze(duration_us) else 0

    def _is_freeze(self, duration_us: int) -> bool:
        if not self._durations_us:
            return False
        average_us = sum(self._durations_us) / len(self._durations_us)
        return duration_us >= max(3 * average_us, average_us + FREEZE_EXTRA_US)
