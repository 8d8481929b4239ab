"""How much of its rate a publisher's encoder may use, by what waits for the uplink. An engine without clock.

**What it goes by.** Each sample says how many bytes of media wait at the publisher and how many have left.
What waits longer than `LAG_US_MAX`, at the rate of the last second, and does not catch up, is a link that
carries less than is made. If nothing leaves at all that is an outage, and no rate helps.

**Down, at once,** to what left of what was made in that second, with a margin that lets the queue run out.
**Up, with hysteresis.** Whether the link has room for more shows only when more is sent, for a sender that
is not held up sees no queue: so a step up is a trial, as in `farcast.clients.quality`, and one that has to
be taken back makes the next one wait twice as long.

The answer is a share of what the encoders were asked for, not a rate: which tracks are watched, and so sent,
the publisher's encoder does not know. A picture in which little moves takes less than what was asked for, so
a step down counts from what the encoders made. Sound is not touched; priorities see to it that it goes first.
Rejected: the congestion controller's rate, which says little while the film is what limits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

SAMPLE_US: Final = 100_000
"""Time between samples."""

WINDOW_US: Final = 1_000_000
SAMPLES_MAX: Final = 64
"""Samples that rates are taken over."""

OUTAGE_SAMPLES: Final = 3
"""An uplink that took nothing for so many samples is down, not narrow."""

LAG_US_MAX: Final = 250_000
LAG_US_CALM: Final = 100_000
"""What may wait; with less the uplink keeps up."""

PERSIST_US: Final = 200_000
"""For so long media waits before it counts: a key frame is larger than others."""

SETTLE_US: Final = 1_000_000
"""After a step down, until the queue has had time to run out."""

CATCHES_UP_SHARE: Final = 4
"""Lag that shrinks by this part of the time is catching up."""

SHARE_MIN: Final = 0.05
"""Least share: below that a picture says nothing any more, however little moves in it."""

MARGIN: Final = 0.85
"""Most of what left that is used, for the queue to run out."""

DRAIN_US: Final = 2_000_000
"""In which what waits should have left."""

RUNS_OUT_SHARE: Final = 0.9
"""If less than this part of what left came anew, the queue is running out, and no step is needed."""

STEP_DOWN_MIN: Final = 0.5
"""Most that one step takes away: a second may have been unusually bad."""

STEP_UP: Final = 1.2

UP_AFTER_US: Final = 2_000_000
UP_AFTER_US_MAX: Final = 32_000_000
"""Calm time before a step up, at first and at most."""

TRIAL_US: Final = 5_000_000
"""A step up that is taken back within this time came too early."""


@dataclass(frozen=True, slots=True)
class _Sample:
    at_us: int
    waiting_bytes: int
    left_bytes: int
    made_bytes: int


class UplinkShare:
    """The share, from samples. ``asked_bps``: what all encoders of pictures were asked for. Times are
    microseconds of any monotonic clock."""

    def __init__(self, asked_bps: int, now_us: int) -> None:
        self._asked_bps = asked_bps
        self.share = 1.0
        """Of the rates that the encoders were asked for."""
        self.share_min = 1.0
        """The least so far."""
        self.steps_down = 0
        self.steps_up = 0
        self._samples: deque[_Sample] = deque(maxlen=SAMPLES_MAX)
        self._behind: tuple[int, int] | None = None
        self._judged_from_us = now_us
        self._calm_since_us = now_us
        self._up_us: int | None = None
        self._up_after_us = UP_AFTER_US

    def handle_sample(self, now_us: int, waiting_bytes: int, left_bytes: int, made_bytes: int) -> None:
        """``waiting_bytes`` wait for the uplink now; ``left_bytes`` have left since the beginning, or since
        a new connection, whose count may begin again; ``made_bytes`` of pictures were encoded."""
        if self._samples and left_bytes < self._samples[-1].left_bytes:
            self._restart(now_us)
        self._samples.append(_Sample(now_us, waiting_bytes, left_bytes, made_bytes))
        while len(self._samples) > 2 and now_us - self._samples[1].at_us >= WINDOW_US:
            self._samples.popleft()
        lag_us = self._lag_us()
        if lag_us is None:
            self._behind = None
            self._calm_since_us = now_us
            return
        if lag_us > LAG_US_CALM:
            self._calm_since_us = now_us
        if lag_us <= LAG_US_MAX or now_us < self._judged_from_us:
            self._behind = None
            self._consider_up(now_us)
        elif self._stays_behind(now_us, lag_us):
            self._down(now_us)

    def _restart(self, now_us: int) -> None:
        """Another connection: what the one before carried says nothing."""
        self._samples.clear()
        self._behind = None
        self._judged_from_us = now_us + SETTLE_US

    def _lag_us(self) -> int | None:
        """How long what waits takes at the rate of the last second; ``None`` in an outage."""
        first, last = self._samples[0], self._samples[-1]
        if not last.waiting_bytes:
            return 0
        before = self._samples[max(len(self._samples) - 1 - OUTAGE_SAMPLES, 0)]
        if last.left_bytes <= before.left_bytes:
            return None
        return last.waiting_bytes * (last.at_us - first.at_us) // (last.left_bytes - first.left_bytes)

    def _stays_behind(self, now_us: int, lag_us: int) -> bool:
        since_us, lag_then_us = self._behind or (now_us, lag_us)
        self._behind = (since_us, lag_then_us)
        waited_us = now_us - since_us
        if waited_us < PERSIST_US:
            return False
        if lag_then_us - lag_us >= waited_us // CATCHES_UP_SHARE:
            self._behind = (now_us, lag_us)
            return False
        return True

    def _down(self, now_us: int) -> None:
        first, last = self._samples[0], self._samples[-1]
        sent = last.left_bytes - first.left_bytes
        came = max(sent + last.waiting_bytes - first.waiting_bytes, sent)
        made_bps = (last.made_bytes - first.made_bytes) * 8_000_000 // max(last.at_us - first.at_us, 1)
        used = min(self.share, made_bps / self._asked_bps)
        self._behind = None
        if came <= sent * RUNS_OUT_SHARE:
            return
        room = min(sent * MARGIN, sent - last.waiting_bytes * (last.at_us - first.at_us) / DRAIN_US)
        self._note_failure(now_us)
        self._judged_from_us = now_us + SETTLE_US
        self._calm_since_us = now_us
        wanted = max(used * max(room / came, STEP_DOWN_MIN), SHARE_MIN)
        if wanted < self.share:
            self.share = wanted
            self.share_min = min(self.share_min, wanted)
            self.steps_down += 1

    def _note_failure(self, now_us: int) -> None:
        up_us, self._up_us = self._up_us, None
        if up_us is not None and now_us - up_us < TRIAL_US:
            self._up_after_us = min(2 * self._up_after_us, UP_AFTER_US_MAX)
        else:
            self._up_after_us = UP_AFTER_US

    def _consider_up(self, now_us: int) -> None:
        if self.share >= 1.0 or now_us - self._calm_since_us < self._up_after_us:
            return
        self.share = min(self.share * STEP_UP, 1.0)
        self.steps_up += 1
        self._up_us = self._calm_since_us = now_us
