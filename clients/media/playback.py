"""Measures what a viewer gets to see and hear. An engine: it is fed, it asks no clock.

What is measured is arrival: a frame counts when its last byte is there. Decoding and rendering are not in the
figures, nor is a player's jitter buffer; a stall here is what a player without any buffer would show.

- *Join time*: from the start until the publisher's side said that the tracks are there.
- *Time to first picture*: from the start until the first key frame is complete.
- *Latency*: arrival minus capture time, both on one clock. A frame captured before the start is backlog
  that a late joiner gets on purpose; it is counted, but its age is no latency.
- *Stalls*: W3C's freeze rule (:mod:`freezes`) on the arrivals of the first video track's frames in order,
  from the first picture on, backlog excluded.
- *A/V skew*: how much earlier the sound comes than the picture of the same moment: video delay minus audio
  delay, positive when sound leads (the sense in which -125 … +45 ms is tolerable). Delay is counted from the
  capture time, or from the presentation time where a publisher sends no capture times.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from farcast.clients.media.freezes import FreezeMeter
from farcast.clients.media.gaps import GapMeter
from farcast.clients.media.quantiles import Quantiles
from farcast.clients.media.tracks import Kind

TRACKS_MAX = 64
"""Most tracks measured in one playback."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """One object that is complete at the viewer. Times in microseconds, ``size_bytes`` of the payload.

    An object holds one frame; of several, give the first one's time and the sum of durations.
    """

    track: str
    kind: Kind
    group: int
    object_id: int
    pts_us: int
    duration_us: int
    keyframe: bool
    size_bytes: int
    arrival_us: int
    capture_time_us: int | None = None


@dataclass(frozen=True, slots=True)
class Distribution:
    """A summary in milliseconds; all None without values."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    max: float | None = None
    mean: float | None = None


@dataclass(frozen=True, slots=True)
class TrackReport:
    """One track. ``frames`` counts frames in order, ``missing`` those that never came."""

    kind: Kind
    frames: int
    bytes: int
    bitrate: int | None
    missing: int
    gaps: int
    late: int
    duplicates: int


@dataclass(frozen=True, slots=True)
class PlaybackReport:
    """What was measured so far. ``stall_ratio`` is stalled time by time since the first picture."""

    join_ms: float | None
    first_picture_ms: float | None
    playing_s: float
    frames: int
    backlog_frames: int
    missing: int
    gaps: int
    bitrate: int | None
    latency_ms: Distribution
    video_latency_ms: Distribution
    audio_latency_ms: Distribution
    stalls: int
    stalled_s: float
    longest_stall_ms: float
    stall_ratio: float
    av_skew_ms: Distribution
    av_skew_min_ms: float | None
    tracks: dict[str, TrackReport] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The report for JSON: plain dicts, numbers, None."""
        return asdict(self)


@dataclass(slots=True)
class _Track:
    kind: Kind
    gaps: GapMeter = field(default_factory=GapMeter)
    frames: int = 0
    bytes: int = 0
    first_us: int | None = None
    last_us: int = 0


class Playback:
    """Measures one viewer from ``started_us`` on, the moment it was asked to play."""

    def __init__(self, started_us: int) -> None:
        self._started_us = started_us
        self._joined_us: int | None = None
        self._first_picture_us: int | None = None
        self._last_us = started_us
        self._tracks: dict[str, _Track] = {}
        self._freezes = FreezeMeter()
        self._watched: str | None = None
        self._backlog = 0
        self._latency: dict[Kind, Quantiles] = {"video": Quantiles(), "audio": Quantiles()}
        self._all_latency = Quantiles()
        self._skew = Quantiles()
        self._audio_delay: tuple[bool, int] | None = None

    def handle_joined(self, now_us: int) -> None:
        """The tracks are known to be there: the subscription was accepted. Only the first call counts."""
        if self._joined_us is None:
            self._joined_us = now_us

    def handle_arrival(self, arrival: Arrival) -> None:
        """A frame is complete. Tracks beyond ``TRACKS_MAX`` are ignored."""
        track = self._tracks.get(arrival.track)
        if track is None:
            if len(self._tracks) >= TRACKS_MAX:
                return
            track = self._tracks[arrival.track] = _Track(arrival.kind)
        self._last_us = max(self._last_us, arrival.arrival_us)
        track.bytes += arrival.size_bytes
        track.first_us = arrival.arrival_us if track.first_us is None else track.first_us
        track.last_us = max(track.last_us, arrival.arrival_us)
        if not track.gaps.handle_frame(arrival.group, arrival.object_id, arrival.pts_us, arrival.duration_us):
            return
        track.frames += 1
        self._measure(arrival)

    def handle_restart(self) -> None:
        """The publisher came back and counts groups from the start; what was missed meanwhile is unknown."""
        for track in self._tracks.values():
            track.gaps.handle_restart()

    def handle_switch(self, track: str) -> None:
        """Pictures are of this track from now on, another rendition: what it has not sent before is not
        missing."""
        self._watched = track
        known = self._tracks.get(track)
        if known is not None:
            known.gaps.handle_restart()

    def report(self, now_us: int | None = None) -> PlaybackReport:
        """The figures up to now. With ``now_us``, a picture that is frozen then counts as stalled."""
        end_us = self._last_us if now_us is None else max(now_us, self._last_us)
        running_us = 0 if now_us is None else self._freezes.running_us(end_us)
        stalled_us = self._freezes.total_us + running_us
        playing_us = 0 if self._first_picture_us is None else end_us - self._first_picture_us
        tracks = {name: _track_report(track) for name, track in self._tracks.items()}
        bitrates = [track.bitrate for track in tracks.values() if track.bitrate is not None]
        return PlaybackReport(
            join_ms=self._since_start_ms(self._joined_us),
            first_picture_ms=self._since_start_ms(self._first_picture_us),
            playing_s=playing_us / 1e6,
            frames=sum(track.frames for track in tracks.values()),
            backlog_frames=self._backlog,
            missing=sum(track.missing for track in tracks.values()),
            gaps=sum(track.gaps for track in tracks.values()),
            bitrate=sum(bitrates) if bitrates else None,
            latency_ms=_distribution(self._all_latency),
            video_latency_ms=_distribution(self._latency["video"]),
            audio_latency_ms=_distribution(self._latency["audio"]),
            stalls=self._freezes.count + (1 if running_us else 0),
            stalled_s=stalled_us / 1e6,
            longest_stall_ms=max(self._freezes.longest_us, running_us) / 1e3,
            stall_ratio=stalled_us / playing_us if playing_us else 0.0,
            av_skew_ms=_distribution(self._skew),
            av_skew_min_ms=_ms(self._skew.minimum),
            tracks=tracks,
        )

    def _measure(self, arrival: Arrival) -> None:
        captured_us = arrival.capture_time_us
        backlog = captured_us is not None and captured_us < self._started_us
        self._backlog += backlog
        if arrival.kind == "video":
            self._measure_picture(arrival, backlog)
        if backlog:
            return
        if captured_us is not None:
            latency_us = arrival.arrival_us - captured_us
            self._latency[arrival.kind].add(latency_us)
            self._all_latency.add(latency_us)
        self._measure_skew(arrival)

    def _measure_picture(self, arrival: Arrival, backlog: bool) -> None:
        if self._first_picture_us is None:
            if not arrival.keyframe:
                return
            self._first_picture_us = arrival.arrival_us
            self._watched = arrival.track
        if arrival.track == self._watched and not backlog:
            self._freezes.handle_frame(arrival.arrival_us)

    def _measure_skew(self, arrival: Arrival) -> None:
        by_capture = arrival.capture_time_us is not None
        origin_us = arrival.pts_us if arrival.capture_time_us is None else arrival.capture_time_us
        delay_us = arrival.arrival_us - origin_us
        if arrival.kind == "audio":
            self._audio_delay = (by_capture, delay_us)
        elif self._audio_delay is not None and self._audio_delay[0] == by_capture:
            self._skew.add(delay_us - self._audio_delay[1])

    def _since_start_ms(self, at_us: int | None) -> float | None:
        return None if at_us is None else (at_us - self._started_us) / 1e3


def _track_report(track: _Track) -> TrackReport:
    elapsed_us = track.last_us - (track.first_us or 0)
    bitrate = track.bytes * 8 * 1_000_000 // elapsed_us if elapsed_us > 0 else None
    gaps = track.gaps
    return TrackReport(
        track.kind, track.frames, track.bytes, bitrate, gaps.missing, gaps.gaps, gaps.late, gaps.duplicates
    )


def _distribution(values: Quantiles) -> Distribution:
    mean = values.mean()
    return Distribution(
        p50=_ms(values.quantile(0.5)),
        p90=_ms(values.quantile(0.9)),
        p99=_ms(values.quantile(0.99)),
        max=_ms(values.maximum),
        mean=None if mean is None else round(mean / 1e3, 3),
    )


def _ms(value_us: int | None) -> float | None:
    return None if value_us is None else value_us / 1e3
