"""Which rendition of a picture a viewer takes: by what arrives. An engine: it is fed, it asks no clock.

**What it goes by.** The *lag* of pictures: how much later than the quickest ones of the last ten to twenty
seconds they come, by their media times. A lag that grows or stands is a link that carries less than the
rendition; one that shrinks is what an outage left behind, and goes by itself. If pictures stay away while
sound comes, the link works and has no room for them (sound goes first). If everything stays away, that is
an outage, and no rendition helps.

**What losses explain.** Where packets are lost, pictures lag by the repair of each, and far from an edge that
is as much as on a link that is too narrow. Sound tells the two apart: it goes first, so a rendition hardly
holds it up, but its packets are lost and repaired like those of pictures. What pictures lag no more than
sound does is not laid to the rendition, up to `LOSS_LAG_US_MAX`. (Without it a viewer far from its edge
keeps a low picture on a wide access that loses much: one loss now and then keeps it from going up.)

**Down, at once.** To the best rendition whose rate fits into what arrived in the last second: asked for
with a higher priority than the one that is given up, from the beginning of the running group. The other one
is cancelled as soon as the first picture is there, so that pictures go on within one group; or at once, if
it is so late that nothing of it is of use.

**Up, with hysteresis.** One step, from the next group on, after pictures came without lag for a while;
behind the one that is running in priority, which is cancelled when the new one's first picture is there in
time. Whether the link has room for more cannot be seen before it is tried: while it is not full, nothing
arrives faster than it is made. So a step up is a trial. One that has to be taken back soon makes the next
one wait twice as long, up to `UP_AFTER_US_MAX`; one that lasted counts no more.

**Order of giving up.** An edge gives up layers of a track before a viewer notices much (``layer_ms_max``),
so a track with layers may lag longer here. Sound is not chosen at all: it is always taken.

Rejected: estimating the capacity from the spacing of packets. The sender paces them; what would be measured
is the sender's idea of the link.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

RENDITIONS_MAX: Final = 16
"""Renditions that are looked at; those of higher rates are left aside."""

START_BPS_MAX: Final = 1_500_000
"""The first rendition is the best up to this rate, or the lowest."""

LAG_US_MAX: Final = 300_000
"""Pictures that lag more beyond what losses explain, without catching up, cost the rendition."""

LAYERS_LAG_US: Final = 300_000
"""What a track with layers may lag beyond that, so that its edge gives up layers first."""

LAG_US_HOPELESS: Final = 600_000
"""Pictures that lag more are not waited for: they are cancelled before the next rendition has begun."""

LAG_US_TRIAL: Final = 450_000
"""A step up whose first picture lags more is taken back before it is made."""

LAG_US_CALM: Final = 150_000
"""With less lag the link keeps up."""

PERSIST_US: Final = 200_000
"""For so long pictures lag before it counts."""

LOSS_LAG_US_MAX: Final = 500_000
"""Lag of sound that is taken for repairs at most."""

SOUND_SAMPLE_US: Final = 500_000
SOUND_SAMPLES: Final = 8
SOUND_SAMPLES_HIGH: Final = 2
"""What sound lags: of its greatest lags in so many samples the second, so that one event says nothing."""

CATCHES_UP_SHARE: Final = 4
"""Lag that shrinks by this part of the time is catching up."""

SILENT_US_MAX: Final = 600_000
"""So long pictures may stay away while sound comes."""

SOUND_US_MAX: Final = 250_000
"""Sound that is no older shows that the link works."""

SETTLE_US: Final = 1_500_000
"""A rendition that begins with a group that is partly past is not judged for so long."""

PENDING_US_MAX: Final = 3_000_000
"""A rendition that has not begun by then is given up."""

UP_FIRST_US: Final = 1_000_000
"""Calm time before each step up as long as none had to be taken back."""

UP_AFTER_US: Final = 4_000_000
UP_AFTER_US_MAX: Final = 24_000_000
"""Calm time before a step up, at first and at most: a step that is taken back costs one key frame's bytes."""

TRIAL_US: Final = 10_000_000
"""A step up that is taken back within this time came too early."""

BASE_WINDOW_US: Final = 10_000_000
RATE_WINDOW_US: Final = 1_000_000
RATE_SHARE: Final = (9, 10)
"""What a rendition and sound may take of the rate that arrived while the link was full."""

TICK_US: Final = 100_000
ARRIVALS_MAX: Final = 4_096
"""Arrivals that the rate is taken over."""

PRIORITY_DOWN: Final = 120
PRIORITY_START: Final = 128
PRIORITY_UP: Final = 136
"""Subscriber priorities."""


@dataclass(frozen=True, slots=True)
class Rendition:
    """One alternative. ``bitrate_bps``: its greatest rate, as the catalog says."""

    name: str
    bitrate_bps: int
    layers: int = 1


@dataclass(frozen=True, slots=True)
class Begin:
    """Subscribe a rendition: from the next group on, or from the beginning of the running one."""

    name: str
    priority: int
    next_group: bool


@dataclass(frozen=True, slots=True)
class End:
    """Cancel the subscription of a rendition."""

    name: str


Action = Begin | End


class QualityChooser:
    """The renditions of one picture, of which one is watched, and during a switch two.

    ``renditions`` need names of their own; ``sound_bps`` is what the sound takes. Times are microseconds of
    any monotonic clock; media times of all renditions count from one moment.
    """

    def __init__(self, renditions: Sequence[Rendition], sound_bps: int, now_us: int) -> None:
        if not renditions:
            raise ValueError("a choice of no renditions")
        ladder = sorted(renditions, key=lambda each: (each.bitrate_bps, each.name))
        self._ladder = ladder[:RENDITIONS_MAX]
        self._sound_bps = sound_bps
        self._actions: deque[Action] = deque()
        self._now_us = now_us
        fitting = [each for each in self._ladder if each.bitrate_bps + sound_bps <= START_BPS_MAX]
        self._current = (fitting or self._ladder[:1])[-1]
        self._pending: Rendition | None = None
        self._pending_since_us = now_us
        self._switched_us = now_us
        self._judged_from_us = now_us + SETTLE_US
        self._picture_us: int | None = None
        self._sound_us: int | None = None
        self._base = _LeastDelay(now_us)
        self._sound_lag = _HighLag(now_us)
        self._arrivals: deque[tuple[int, int]] = deque(maxlen=ARRIVALS_MAX)
        self._behind: tuple[int, int] | None = None
        self._uneasy_since_us: int | None = None
        self._calm_since_us = now_us
        self._up_us: int | None = None
        self._up_after_us = UP_FIRST_US
        self.switches_down = 0
        self.switches_up = 0
        self._begin(self._current, PRIORITY_START, next_group=False)

    # ---- Getters -------------------------------------------------------------------------------------

    @property
    def current(self) -> str:
        """The rendition that is watched."""
        return self._current.name

    @property
    def pending(self) -> str | None:
        """The one that has been asked for and has not begun."""
        return None if self._pending is None else self._pending.name

    # ---- Input -----------------------------------------------------------------------------------------

    def handle_picture(self, name: str, media_us: int, arrival_us: int, size_bytes: int) -> None:
        """A frame of a rendition is complete; ``media_us``: its time in the film."""
        self._now_us = max(self._now_us, arrival_us)
        self._arrivals.append((arrival_us, size_bytes))
        if self._pending is not None and name == self._pending.name:
            is_up = self._pending.bitrate_bps > self._current.bitrate_bps
            if is_up and self._lag_us(arrival_us, media_us) > LAG_US_TRIAL:
                self._give_up_pending()
            else:
                self._switch()
        if name != self._current.name:
            return
        self._picture_us = arrival_us
        lag_us = self._lag_us(arrival_us, media_us)
        if self._now_us >= self._judged_from_us:
            self._judge(lag_us)

    def handle_sound(self, media_us: int, arrival_us: int, size_bytes: int) -> None:
        """A frame of sound is complete, always of the same track; ``media_us``: its time in the film."""
        self._now_us = max(self._now_us, arrival_us)
        self._arrivals.append((arrival_us, size_bytes))
        self._sound_us = arrival_us
        self._sound_lag.note(arrival_us, arrival_us - media_us)

    def handle_timeout(self, now_us: int) -> None:
        """The time of `poll_timeout` has come."""
        self._now_us = max(self._now_us, now_us)
        if self._pending is not None and self._now_us - self._pending_since_us > PENDING_US_MAX:
            self._give_up_pending()
        if self._are_pictures_alone_silent():
            self._down(self._now_us - RATE_WINDOW_US, is_hopeless=True)

    # ---- Output ----------------------------------------------------------------------------------------

    def poll_action(self) -> Action | None:
        """What is to be done next."""
        return self._actions.popleft() if self._actions else None

    def poll_timeout(self) -> int:
        """When `handle_timeout` is to be called."""
        return self._now_us + TICK_US

    # ---- Judging -----------------------------------------------------------------------------------------

    def _lag_us(self, arrival_us: int, media_us: int) -> int:
        """How late a picture is beyond what losses explain."""
        return self._base.lag_us(arrival_us, arrival_us - media_us) - self._repairs_us()

    def _repairs_us(self) -> int:
        """What losses explain of a lag."""
        return min(self._sound_lag.high_us(), LOSS_LAG_US_MAX)

    def _judge(self, lag_us: int) -> None:
        most_us = LAG_US_MAX + (LAYERS_LAG_US if self._current.layers > 1 else 0)
        self._judge_calm(lag_us)
        if lag_us <= most_us:
            self._behind = None
            self._consider_up()
            return
        since_us, lag_then_us = self._behind or (self._now_us, lag_us)
        self._behind = (since_us, lag_then_us)
        waited_us = self._now_us - since_us
        if waited_us < PERSIST_US:
            return
        if lag_then_us - lag_us >= waited_us // CATCHES_UP_SHARE:
            self._behind = (self._now_us, lag_us)
        else:
            self._down(since_us, is_hopeless=lag_us > LAG_US_HOPELESS)

    def _judge_calm(self, lag_us: int) -> None:
        """A lag that does not last is that of one loss."""
        if lag_us <= LAG_US_CALM:
            self._uneasy_since_us = None
            return
        if self._uneasy_since_us is None:
            self._uneasy_since_us = self._now_us
        elif self._now_us - self._uneasy_since_us >= PERSIST_US:
            self._calm_since_us = self._now_us

    def _are_pictures_alone_silent(self) -> bool:
        if self._sound_us is None or self._now_us - self._sound_us > SOUND_US_MAX:
            return False
        most_us = SILENT_US_MAX + self._repairs_us()
        awaited_us = self._switched_us + SETTLE_US - SILENT_US_MAX
        return self._now_us - max(awaited_us, self._picture_us or 0) > most_us

    def _consider_up(self) -> None:
        above = [each for each in self._ladder if each.bitrate_bps > self._current.bitrate_bps]
        if self._pending is not None or not above:
            return
        if self._now_us - max(self._calm_since_us, self._switched_us) < self._up_after_us:
            return
        self._up_us = self._now_us
        self._ask(above[0], PRIORITY_UP, next_group=True)

    # ---- Switching -----------------------------------------------------------------------------------------

    def _down(self, full_since_us: int, *, is_hopeless: bool) -> None:
        """Give up what is watched for what fits into what came since the link was full; a step up that has
        not been made yet is taken back."""
        self._behind = self._uneasy_since_us = None
        self._calm_since_us = self._now_us
        self._note_failure()
        if self._pending is not None:
            if self._pending.bitrate_bps < self._current.bitrate_bps:
                return
            self._drop_pending()
        room_bps = self._arrived_bps(full_since_us) * RATE_SHARE[0] // RATE_SHARE[1] - self._sound_bps
        lower = [each for each in self._ladder if each.bitrate_bps < self._current.bitrate_bps]
        if lower:
            fitting = [each for each in lower if each.bitrate_bps <= room_bps]
            self._ask((fitting or lower[:1])[-1], PRIORITY_DOWN, next_group=False)
            if is_hopeless:
                self._switch()

    def _note_failure(self) -> None:
        """How long the next step up has to wait."""
        up_us, self._up_us = self._up_us, None
        if up_us is None:
            self._up_after_us = max(self._up_after_us, UP_AFTER_US)
        elif self._now_us - up_us < TRIAL_US:
            self._up_after_us = min(max(2 * self._up_after_us, UP_AFTER_US), UP_AFTER_US_MAX)
        else:
            self._up_after_us = UP_AFTER_US

    def _ask(self, rendition: Rendition, priority: int, *, next_group: bool) -> None:
        self._pending, self._pending_since_us = rendition, self._now_us
        self._begin(rendition, priority, next_group=next_group)

    def _begin(self, rendition: Rendition, priority: int, *, next_group: bool) -> None:
        self._actions.append(Begin(rendition.name, priority, next_group))

    def _give_up_pending(self) -> None:
        """It does not come: what is watched stays."""
        self._note_failure()
        self._calm_since_us = self._now_us
        self._drop_pending()

    def _drop_pending(self) -> None:
        if self._pending is not None:
            self._actions.append(End(self._pending.name))
        self._pending = None

    def _switch(self) -> None:
        """The new rendition has begun."""
        assert self._pending is not None
        is_up = self._pending.bitrate_bps > self._current.bitrate_bps
        self.switches_up += is_up
        self.switches_down += not is_up
        self._actions.append(End(self._current.name))
        self._current, self._pending = self._pending, None
        self._switched_us = self._calm_since_us = self._now_us
        self._uneasy_since_us = None
        self._judged_from_us = self._now_us + (0 if is_up else SETTLE_US)
        self._behind = None

    def _arrived_bps(self, since_us: int) -> int:
        from_us = max(since_us, self._now_us - RATE_WINDOW_US)
        size_bytes = sum(size for at_us, size in self._arrivals if at_us > from_us)
        return size_bytes * 8_000_000 // max(self._now_us - from_us, 1)


class _HighLag:
    """How much later than the quickest one sound comes at its worst, one event aside."""

    def __init__(self, now_us: int) -> None:
        self._least = _LeastDelay(now_us)
        self._began_us = now_us
        self._samples: deque[int] = deque([0], maxlen=SOUND_SAMPLES)

    def note(self, now_us: int, delay_us: int) -> None:
        """Note a delay."""
        if now_us - self._began_us >= SOUND_SAMPLE_US:
            self._began_us = now_us
            self._samples.append(0)
        self._samples[-1] = max(self._samples[-1], self._least.lag_us(now_us, delay_us))

    def high_us(self) -> int:
        """The lag, 0 while there is too little to tell."""
        high = sorted(self._samples, reverse=True)[:SOUND_SAMPLES_HIGH]
        return high[-1] if len(high) == SOUND_SAMPLES_HIGH else 0


class _LeastDelay:
    """The least delay of the last one to two windows."""

    def __init__(self, now_us: int) -> None:
        self._began_us = now_us
        self._least_us: int | None = None
        self._before_us: int | None = None

    def lag_us(self, now_us: int, delay_us: int) -> int:
        """Note a delay; how much it is beyond the least."""
        if now_us - self._began_us >= BASE_WINDOW_US:
            self._began_us, self._before_us, self._least_us = now_us, self._least_us, None
        self._least_us = delay_us if self._least_us is None else min(self._least_us, delay_us)
        return delay_us - min(self._least_us, self._least_us if self._before_us is None else self._before_us)
