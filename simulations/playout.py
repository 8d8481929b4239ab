"""What a viewer sees and hears of what arrives: a jitter buffer, a decoder and a screen as pure functions.

Theory. Frames are captured at c and complete at the viewer at a; a player shows frame i at c_i + D, with a
delay D that is short enough to be live and long enough that most frames are there. Everything is in the
choice of D:

- **Our own viewers** (``farcast``) follow the practice of WebRTC. NetEq takes the largest delay of every half
  second into a histogram that forgets exponentially, and aims at its 95th percentile (libwebrtc,
  ``delay_manager.h``, ``underrun_optimizer.cc``); it changes D by stretching sound, a little at a time, and
  WebRTC's video timing moves by at most 100 ms a second (``timing.h``). Here: the same estimate over absolute
  delays, one for sound and one for pictures, and one clock for both that follows the larger of the two (so
  A/V stays in sync), by at most 5 % of speed. *Attack*: where frames come too late for D, playing has stopped
  anyhow, and D may grow by as much as they were late at once. *Decay*: only by playing faster. *Lag*: where
  even the quickest picture of half a second is later than D, pictures are not jittery but behind, and the
  clock goes slower until sound waits for them. At a join sound begins with the first live picture. What
  was captured while nothing came at all says nothing about jitter.
- **Stock viewers** (``stock``) are @moq/watch (moq-dev/moq, js/watch/src/sync.ts at 061fb8e3): D is the
  smallest delay seen so far plus a fixed buffer plus a frame. It shrinks, it never grows, and what is late is
  shown when it comes.

Pictures are decoded in order. One whose reference is missing cannot be decoded; after a hole nothing is shown
until the next key frame. Of pictures that are due at one refresh of the screen only the newest is shown.
Sound that is not there when its time comes is concealed, and is not played later. A viewer that joins late is
given a group from its beginning: it shows the first picture as soon as it has one, and then hurries to what
is on now, as fast as its decoder goes.

Simplified: references are those of a stream without B-frames (each picture needs the one before); clocks of
publisher and viewer agree (a player learns the difference with D itself); and D is a line between half
seconds. Rejected: a loop over frames that simulates a player's queue. It shows the same pictures, and costs a
hundred times the arithmetic below, which a gate of many seeds would feel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from farcast.clients.media.freezes import AVERAGED_FRAMES, FREEZE_EXTRA_US
from farcast.simulations.constants import (
    BUFFER_FORGET,
    BUFFER_MARGIN_US,
    BUFFER_MAX_US,
    BUFFER_QUANTILE,
    BUFFER_SAMPLE_US,
    BUFFER_SAMPLES_MAX,
    BUFFER_START_SAMPLES,
    BUFFER_START_US,
    CATCH_UP_RATE_MAX,
    CATCH_UP_US,
    DECODE_AUDIO_US,
    DECODE_VIDEO_US,
    LATE_MAX_US,
    OUTAGE_US,
    RATE_CHANGE_MAX,
    REFRESH_US,
    RENDER_US,
    START_BEHIND_MAX_US,
    START_WAIT_US,
    STOCK_BUFFER_US,
)

Times = NDArray[np.int64]
"""Microseconds of virtual time."""

NEVER: Final = 1 << 40
"""A time that does not come: 12 days, far beyond any run, and small enough to be added to."""

SEGMENTS_MAX: Final = 1 << 20
"""Most segments of one feed; with more, the arithmetic below would overflow."""

Player = Literal["farcast", "stock"]


@dataclass(frozen=True, slots=True)
class Feed:
    """What was published of one kind and when it was there, in the order of decoding; arrays of one length.

    ``arrival_us`` is `NEVER` for what did not come. Frames of one ``segment`` (a group of a track) stand
    together and need none of another; ``key`` marks where decoding can begin. ``quality`` (lines of a
    picture) tells renditions apart, whose frames of one picture have one capture time.
    """

    capture_us: Times
    arrival_us: Times
    segment: Times
    key: NDArray[np.bool_]
    quality: Times


def no_feed() -> Feed:
    """A feed without frames."""
    none = np.empty(0, np.int64)
    return Feed(none, none, none, np.empty(0, np.bool_), none)


@dataclass(frozen=True, slots=True)
class Freezes:
    """When pictures froze, and for how long."""

    begin_us: Times
    length_us: Times


@dataclass(frozen=True, slots=True)
class Playout:
    """What was seen and heard.

    Of pictures shown, in the order of showing: their place in the feed, when their light came, when they were
    decoded. ``audio_played``: which frames of sound. ``delay_us`` at ``clock_us``: the player's D over time.
    """

    shown: Times
    shown_us: Times
    decoded_us: Times
    audio_played: NDArray[np.bool_]
    audio_due_us: Times
    live_from_us: int
    """What was captured before this is backlog that a late joiner got on purpose."""
    clock_us: Times = field(default_factory=lambda: np.empty(0, np.int64))
    delay_us: Times = field(default_factory=lambda: np.empty(0, np.int64))


def play(player: Player, video: Feed, audio: Feed, *, frame_us: int, until_us: int) -> Playout:
    """Play two feeds until a time; either may be empty. ``frame_us``: how long one picture lasts."""
    decoded = _decode(video, DECODE_VIDEO_US)
    heard = _decode(audio, DECODE_AUDIO_US)
    began_us = int(min(decoded.min(initial=NEVER), heard.min(initial=NEVER)))
    if began_us >= until_us:
        return _nothing(audio)
    feeds = ((video.capture_us, decoded), (audio.capture_us, heard))
    if player == "stock":
        dues = _stock_clock(feeds, STOCK_BUFFER_US + frame_us)
        knots_us, delays_us = np.empty(0, np.int64), np.empty(0, np.int64)
    else:
        knots_us, delays_us = _adaptive_clock(feeds, began_us, until_us)
        dues = tuple(_due(capture_us, knots_us, delays_us) for capture_us, _ in feeds)
    due, audio_due = dues
    _show_first_at_once(due, decoded)
    kept = _best_rendition(video, decoded, due)
    if player == "farcast":
        kept &= ~_overtaken(video.capture_us, decoded, due, kept)
    kept &= np.maximum(due, decoded) < until_us - RENDER_US
    shown, shown_us = _show(video.capture_us, np.maximum(due, decoded) - began_us, kept)
    return Playout(
        shown=shown,
        shown_us=shown_us + began_us + RENDER_US,
        decoded_us=decoded[shown],
        audio_played=(heard <= audio_due) & (audio_due < until_us),
        audio_due_us=audio_due,
        live_from_us=_live_from(decoded),
        clock_us=knots_us,
        delay_us=delays_us,
    )


def _show_first_at_once(due: Times, decoded: Times) -> None:
    if decoded.size:
        first = int(np.argmin(decoded))
        due[first] = decoded[first]


def freezes(shown_us: Times, until_us: int, first_us: int = NEVER) -> Freezes:
    """Freezes by W3C's rule (see :mod:`farcast.clients.media.freezes`); the last picture stays until a time.

    The rule says nothing of the first picture, before which there was none to take an average of: it is
    frozen if it stays for ``first_us``.
    """
    if shown_us.size == 0:
        return Freezes(shown_us, shown_us)
    edges = np.append(shown_us, max(until_us, int(shown_us[-1])))
    lengths = np.diff(edges)
    sums = np.concatenate(([0], np.cumsum(lengths)))
    number = np.arange(lengths.size)
    counted = np.minimum(number, AVERAGED_FRAMES)
    average = (sums[number] - sums[number - counted]) / np.maximum(counted, 1)
    least = np.where(number > 0, np.maximum(3 * average, average + FREEZE_EXTRA_US), first_us)
    frozen = lengths >= least
    return Freezes(shown_us[frozen], lengths[frozen])


def audio_delay(playout: Playout, audio: Feed, at_us: Times) -> NDArray[np.float64]:
    """The delay of the sound that is heard at some times; not a number where none is."""
    result = np.full(at_us.shape, np.nan)
    if audio.capture_us.size == 0 or at_us.size == 0:
        return result
    order = np.argsort(playout.audio_due_us, kind="stable")
    due = playout.audio_due_us[order]
    place = np.searchsorted(due, at_us, side="right") - 1
    there = place >= 0
    found = order[place[there]]
    delays = (playout.audio_due_us[found] - audio.capture_us[found]).astype(np.float64)
    delays[~playout.audio_played[found]] = np.nan
    result[there] = delays
    return result


def _nothing(audio: Feed) -> Playout:
    none = np.empty(0, np.int64)
    silent = np.zeros(audio.capture_us.shape, np.bool_)
    return Playout(none, none, none, silent, np.full(audio.capture_us.shape, NEVER), NEVER)


def _decode(feed: Feed, decode_us: int) -> Times:
    """When each frame is decoded: in order within its segment, each after what it refers to."""
    if feed.capture_us.size == 0:
        return feed.capture_us
    starts = np.append(True, np.diff(feed.segment) != 0)
    segment = np.cumsum(starts)
    if segment[-1] > SEGMENTS_MAX:
        raise ValueError(f"a feed of more than {SEGMENTS_MAX} groups")
    first = np.flatnonzero(starts)[segment - 1]
    place = np.arange(segment.size) - first
    arrival = np.where(feed.key[first], feed.arrival_us, NEVER)
    ready = np.minimum(arrival, NEVER) - place * decode_us + NEVER // 2
    in_order = np.maximum.accumulate(ready + segment * (2 * NEVER)) - segment * (2 * NEVER) - NEVER // 2
    decoded: Times = np.minimum(in_order + (place + 1) * decode_us, NEVER)
    return decoded


def _adaptive_clock(
    feeds: tuple[tuple[Times, Times], ...], began_us: int, until_us: int
) -> tuple[Times, Times]:
    """The delay D at some times, a line between them, beginning with the first decoded frame.

    It is judged anew each half second. Where a frame came too late and D grows by it, it has grown while
    playing stood still: from when the frame was due until it was there.
    """
    count = max(-((began_us - until_us) // BUFFER_SAMPLE_US), 1) + 1
    outages = _outages(feeds)
    kinds = [_sampled(capture_us, decoded, began_us, count, outages) for capture_us, decoded in feeds]
    delay_us, is_joining = _start_delay(feeds[0], kinds, began_us), True
    knots = [(began_us, delay_us), (began_us + BUFFER_SAMPLE_US, delay_us)]
    for number in range(1, count):
        now_us = began_us + number * BUFFER_SAMPLE_US
        aim_us = _aim(kinds, number)
        latest_us, at_us = max((int(k.latest_us[number - 1]), int(k.latest_at_us[number - 1])) for k in kinds)
        growth_us = min(aim_us, latest_us) - delay_us
        if growth_us > 0:
            due_us = at_us - (latest_us - delay_us)
            knots = [knot for knot in knots if knot[0] < due_us] or knots[:1]
            knots += [(due_us, delay_us), (at_us, delay_us + growth_us), (now_us, delay_us + growth_us)]
            delay_us += growth_us
        change_us = max(aim_us, _lag(kinds, number)) - delay_us
        is_joining &= change_us < -CATCH_UP_US
        fast = CATCH_UP_RATE_MAX if is_joining else RATE_CHANGE_MAX
        delay_us += min(
            max(change_us, -int(BUFFER_SAMPLE_US * fast)), int(BUFFER_SAMPLE_US * RATE_CHANGE_MAX)
        )
        knots.append((now_us + BUFFER_SAMPLE_US, delay_us))
    return np.array([at for at, _ in knots], np.int64), np.array([delay for _, delay in knots], np.int64)


def _start_delay(pictures: tuple[Times, Times], kinds: list[_Sampled], began_us: int) -> int:
    """The first D: a little above the fastest frame, or what the first live picture took, if the backlog
    before it held it up: sound waits for it, so as not to pass the pictures."""
    fastest_us = min(int(kind.fastest_us[0]) for kind in kinds)
    delay_us = fastest_us + BUFFER_START_US
    capture_us, decoded = pictures
    live = np.flatnonzero((capture_us >= began_us) & (decoded <= began_us + START_WAIT_US))
    if not live.size:
        return delay_us
    first = live[np.argmin(decoded[live])]
    behind_us = int(decoded[first] - capture_us[first]) - fastest_us
    return max(delay_us, fastest_us + min(behind_us, START_BEHIND_MAX_US))


def _lag(kinds: list[_Sampled], number: int) -> int:
    """The least delay of pictures in the last half second: what even the quickest needed is no jitter but
    what they are behind, and sound that did not wait for it would pass them."""
    return min(
        int(kinds[0].least_us[number - 1]), min(int(k.fastest_us[number - 1]) for k in kinds) + BUFFER_MAX_US
    )


@dataclass(frozen=True, slots=True)
class _Sampled:
    """One kind, by half second: the largest delay and when that frame was there, by how much a frame was
    behind the fastest one before it, the smallest delay so far (`NEVER`: none yet), and that of the half
    second alone (0: none in it)."""

    latest_us: Times
    latest_at_us: Times
    behind_us: Times
    fastest_us: Times
    least_us: Times


def _outages(feeds: tuple[tuple[Times, Times], ...]) -> Times:
    """The ends of times in which nothing came, neither sound nor pictures."""
    came = np.unique(np.concatenate([decoded for _, decoded in feeds]))
    came = came[came < NEVER]
    ends: Times = came[1:][np.diff(came) > OUTAGE_US]
    return ends


def _sampled(capture_us: Times, decoded: Times, began_us: int, count: int, outages: Times) -> _Sampled:
    """Samples of what was decoded, backlog aside, that of a join and those of outages. While a late joiner
    catches up, each frame is the fastest so far: none is behind, though all take long."""
    latest, latest_at, behind = (np.zeros(count, np.int64) for _ in range(3))
    fastest = np.full(count, NEVER, np.int64)
    order = np.argsort(decoded, kind="stable")
    order = order[decoded[order] < began_us + count * BUFFER_SAMPLE_US]
    delay = (decoded - capture_us)[order]
    smallest = np.minimum.accumulate(delay)
    sample = (decoded[order] - began_us) // BUFFER_SAMPLE_US
    np.minimum.at(fastest, sample, smallest)
    live = capture_us[order] >= _live_from(decoded)
    last_outage = np.append(0, outages)[np.searchsorted(outages, decoded[order], side="right")]
    live &= capture_us[order] >= last_outage
    np.maximum.at(latest, sample[live], delay[live])
    jitter = live & (delay - smallest <= BUFFER_MAX_US)
    np.maximum.at(behind, sample[jitter], (delay - smallest)[jitter])
    is_latest = live & (delay == latest[sample])
    latest_at[sample[is_latest][::-1]] = decoded[order][is_latest][::-1]
    least = np.full(count, NEVER, np.int64)
    np.minimum.at(least, sample[live], delay[live])
    least[least >= NEVER] = 0
    return _Sampled(latest, latest_at, behind, np.minimum.accumulate(fastest), least)


def _live_from(decoded: Times) -> int:
    """What was captured before anything was decoded is backlog, which a late joiner gets on purpose."""
    return int(decoded.min(initial=NEVER))


def _aim(kinds: list[_Sampled], number: int) -> int:
    """The delay to aim at after so many half seconds."""
    fastest_us = [int(kind.fastest_us[number - 1]) for kind in kinds]
    if number <= BUFFER_START_SAMPLES:
        return min(fastest_us) + BUFFER_START_US
    needed_us = max(
        smallest_us + _needed(kind.behind_us[BUFFER_START_SAMPLES:number])
        for kind, smallest_us in zip(kinds, fastest_us, strict=True)
        if smallest_us < NEVER
    )
    return min(needed_us + BUFFER_MARGIN_US, min(fastest_us) + BUFFER_MAX_US)


def _needed(behind: Times) -> int:
    """The smallest wait that half seconds of little weight alone exceed."""
    recent = behind[-BUFFER_SAMPLES_MAX:]
    weights = (1 - BUFFER_FORGET) * BUFFER_FORGET ** np.arange(recent.size - 1, -1, -1)
    order = np.argsort(-recent, kind="stable")
    enough = int(np.searchsorted(np.cumsum(weights[order]), 1 - BUFFER_QUANTILE, side="right"))
    return int(recent[order[min(enough, recent.size - 1)]])


def _due(capture_us: Times, knots_us: Times, delays_us: Times) -> Times:
    """When it is time for what was captured at some times: where wall clock minus D gets there."""
    media_us = np.maximum.accumulate(knots_us - delays_us)
    due = np.interp(capture_us, media_us, knots_us).astype(np.int64)
    before, after = capture_us < media_us[0], capture_us > media_us[-1]
    due[before] = capture_us[before] + delays_us[0]
    due[after] = capture_us[after] + (knots_us[-1] - media_us[-1])
    return due


def _stock_clock(feeds: tuple[tuple[Times, Times], ...], buffer_us: int) -> tuple[Times, ...]:
    """Due times by the smallest delay seen up to each frame's coming, plus a fixed buffer."""
    capture_us = np.concatenate([capture for capture, _ in feeds])
    ready_us = np.concatenate([ready for _, ready in feeds])
    order = np.argsort(ready_us, kind="stable")
    smallest = np.empty(ready_us.shape, np.int64)
    smallest[order] = np.minimum.accumulate((ready_us - capture_us)[order])
    due = capture_us + smallest + buffer_us
    return tuple(np.split(due, np.cumsum([capture.size for capture, _ in feeds])[:-1]))


def _best_rendition(video: Feed, decoded: Times, due: Times) -> NDArray[np.bool_]:
    """Which frames can be shown: of several renditions of a picture the best that is in time, else the
    first."""
    there = decoded < NEVER
    if video.quality.size == 0 or (video.quality == video.quality[0]).all():
        return there
    late_us = np.maximum(decoded - due, 0)
    order = np.lexsort((-video.quality, late_us, video.capture_us))
    first = np.append(True, np.diff(video.capture_us[order]) != 0)
    best = np.zeros(there.shape, np.bool_)
    best[order[first]] = True
    return best & there


def _overtaken(capture_us: Times, decoded: Times, due: Times, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pictures that came much too late, with the next one right behind: decoded, and never shown."""
    overtaken = np.zeros(kept.shape, np.bool_)
    order: NDArray[Any] = np.flatnonzero(kept)
    order = order[np.argsort(capture_us[order], kind="stable")]
    behind = np.diff(decoded[order]) * 2 < np.diff(capture_us[order])
    overtaken[order[:-1]] = behind & ((decoded - due)[order[:-1]] > LATE_MAX_US)
    return overtaken


def _show(capture_us: Times, at_us: Times, kept: NDArray[np.bool_]) -> tuple[Times, Times]:
    """Of frames that could be shown from some times on: those that are, one a refresh of the screen, because
    no later one is due as soon."""
    candidates: NDArray[Any] = np.flatnonzero(kept)
    candidates = candidates[np.argsort(capture_us[candidates], kind="stable")]
    times = at_us[candidates]
    refresh = times // REFRESH_US
    soonest_later = np.append(np.minimum.accumulate(refresh[::-1])[::-1][1:], NEVER)
    shown = refresh < soonest_later
    return candidates[shown].astype(np.int64), times[shown]
