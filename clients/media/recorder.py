"""Writes received samples into a playable MP4 file, every frame byte for byte.

The film starts with the first video key frame (a late join starts in mid-GOP), and sound from the same
moment on. Times are moved so that this moment is the file's zero. A gap stays a gap: the last frame before
it is shown longer. Frames that come too late to be in order are left out and counted.
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import floor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import av.error

from farcast.clients.media import bitstream, codecs
from farcast.clients.media.cmaf import write_fragment, write_init
from farcast.clients.media.errors import MediaError
from farcast.clients.media.reorder import DecodeClock
from farcast.clients.media.tracks import Frame, Sample, TrackInfo

HELD_SAMPLES_MAX = 20_000
HELD_BYTES_MAX = 128_000_000
"""Limits of what waits for the first key frame and for decoder configurations; beyond, the oldest goes."""


@dataclass(slots=True)
class RecorderStats:
    """What became of the samples."""

    written: int = 0
    """Samples in the file."""
    before_start: int = 0
    """Samples from before the first key frame."""
    late: int = 0
    """Samples that came after later ones of their track."""


class Recorder:
    """Records the given tracks to ``path``. Raises :class:`MediaError` at once if it is not writable.

    Feed every track's samples in order of arrival with :meth:`handle_sample`; :meth:`close` finishes the
    file. Nothing is written before each track that has sent something has its decoder configuration.
    """

    def __init__(self, path: str | Path, tracks: Sequence[TrackInfo]) -> None:
        self.stats = RecorderStats()
        self._path = str(path)
        self._lanes = {track.name: _Lane(track) for track in tracks}
        self._has_video = any(track.kind == "video" for track in tracks)
        self._held: deque[tuple[_Lane, Sample]] = deque()
        self._held_bytes = 0
        self._output: Any = None
        self._closed = False
        self._resume_s: Fraction | None = None
        _check_writable(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def configure(self, track_name: str, extradata: bytes) -> None:
        """Give a track the decoder configuration that came in its objects, if it has none yet."""
        self._lanes[track_name].configure(extradata)

    def handle_sample(self, track_name: str, sample: Sample) -> None:
        """Take the next sample of a track. Raises :class:`MediaError` if it cannot be written."""
        lane = self._lanes[track_name]
        for timed in lane.push(sample):
            self._take(lane, timed)

    def handle_restart(self) -> None:
        """The publisher started over with its times: append what follows, from its first key frame on."""
        for lane in self._lanes.values():
            for sample in lane.restart():
                self._take(lane, sample)
        if self._output is None:
            self.stats.before_start += len(self._held)
            self._held.clear()
            self._held_bytes = 0
            return
        self._resume_s = max(lane.end_s for lane in self._lanes.values())

    def close(self) -> RecorderStats:
        """Finish the file. Raises :class:`MediaError` if nothing could be recorded or the disk is full."""
        if self._closed:
            return self.stats
        self._closed = True
        for lane in self._lanes.values():
            for sample in lane.flush():
                self._take(lane, sample)
        if self._output is None:
            self._start(final=True)
        if self._output is None:
            os.unlink(self._path)
            raise MediaError(
                f"nothing recorded to {self._path}: no key frame came with its decoder configuration"
            )
        self._guard(self._output.close)
        return self.stats

    def _take(self, lane: _Lane, sample: Sample) -> None:
        if self._output is not None:
            self._write(lane, sample)
            return
        self._held.append((lane, sample))
        self._held_bytes += len(sample.data)
        self._start(final=False)
        while len(self._held) > HELD_SAMPLES_MAX or self._held_bytes > HELD_BYTES_MAX:
            self._held_bytes -= len(self._held.popleft()[1].data)
            self.stats.before_start += 1

    def _start(self, *, final: bool) -> None:
        """Begin the file if its first moment and the configuration of its tracks are known."""
        leading = "video" if self._has_video and not final else None
        first = next(
            (
                (lane, sample)
                for lane, sample in self._held
                if lane.described and sample.keyframe and lane.kind == (leading or lane.kind)
            ),
            None,
        )
        if first is None or not (final or self._settled()):
            return
        lane, sample = first
        self._open_output(lane.timescale)
        for each in self._lanes.values():
            each.begin(Fraction(sample.pts, lane.timescale))
        held, self._held, self._held_bytes = self._held, deque(), 0
        for each, waiting in held:
            self._write(each, waiting)

    def _settled(self) -> bool:
        """Whether each track has a configuration or has had its chance to show one."""
        return (
            all(lane.described for lane in self._lanes.values()) or len(self._held) >= HELD_SAMPLES_MAX // 10
        )

    def _open_output(self, timescale: int) -> None:
        # The edit list that hides the delay of B-frames counts in the movie's timescale.
        options = {"movie_timescale": str(timescale)}
        try:
            self._output = av.open(self._path, "w", format="mp4", options=options)
            for lane in self._lanes.values():
                if lane.described:
                    first = next((sample for owner, sample in self._held if owner is lane), None)
                    lane.stream = _add_stream(self._output, lane.track, first)
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"cannot write {self._path}: {error.strerror or error}") from None

    def _write(self, lane: _Lane, sample: Sample) -> None:
        if self._resume_s is not None:
            if (lane.kind == "audio" and self._has_video) or not sample.keyframe:
                self.stats.before_start += 1
                return
            for each in self._lanes.values():
                each.begin(Fraction(sample.pts, lane.timescale) - self._resume_s)
            self._resume_s = None
        if lane.stream is None or not lane.started(sample):
            self.stats.before_start += 1
            return
        packet = lane.packet(sample)
        if packet is None:
            self.stats.late += 1
            return
        self._guard(self._output.mux, packet)
        self.stats.written += 1

    def _guard(self, call: Any, *arguments: Any) -> None:
        try:
            call(*arguments)
        except (av.error.FFmpegError, OSError) as error:
            raise MediaError(f"cannot write {self._path}: {error.strerror or error}") from None


class _Lane:
    """One track on its way into the file."""

    def __init__(self, track: TrackInfo) -> None:
        self.track = track
        self.kind = track.kind
        self.timescale = track.timescale
        self.stream: Any = None
        self._annexb = track.extradata is None and codecs.family_of(track.codec) == "h264"
        self._clock = DecodeClock() if track.kind == "video" else None
        self._origin_ticks = 0
        self._begun = False
        self._end_ticks = 0
        self._last_dts: int | None = None
        self._interval = round(track.timescale / (track.framerate or 50))

    @property
    def described(self) -> bool:
        return self.track.extradata is not None

    def configure(self, extradata: bytes) -> None:
        if not self.described:
            self.track = replace(self.track, extradata=extradata)
            self._annexb = False

    def push(self, sample: Sample) -> list[Sample]:
        if self._annexb and bitstream.is_annexb(sample.data):
            if not self.described:
                self.track = replace(self.track, extradata=bitstream.avcc_from_annexb(sample.data))
            sample = replace(sample, data=bitstream.annexb_to_lengths(sample.data))
        if sample.dts is not None:
            return [sample]
        return [replace(sample, dts=sample.pts)] if self._clock is None else self._clock.push(sample)

    def flush(self) -> list[Sample]:
        return [] if self._clock is None else self._clock.flush()

    def restart(self) -> list[Sample]:
        """The samples that were waiting; decode times may begin anew."""
        waiting = self.flush()
        self._clock = self._clock and DecodeClock()
        return waiting

    @property
    def end_s(self) -> Fraction:
        """Where the track ends in the file, in seconds."""
        return Fraction(self._end_ticks, self.timescale)

    def begin(self, origin_s: Fraction) -> None:
        """Fix the presentation time that is the file's zero; the track goes on at its next key frame."""
        self._origin_ticks = floor(origin_s * self.timescale)
        self._begun = False

    def started(self, sample: Sample) -> bool:
        """Whether the track has begun: with its first key frame from the file's zero (or its end) on."""
        at = sample.pts - self._origin_ticks
        self._begun = self._begun or (sample.keyframe and at >= self._end_ticks)
        return self._begun

    def packet(self, sample: Sample) -> Any:
        """The packet to write, None for a sample that is out of order."""
        dts = _dts(sample) - self._origin_ticks
        if self._last_dts is not None and dts <= self._last_dts:
            return None
        if self._last_dts is not None:
            self._interval = dts - self._last_dts
        self._last_dts = dts
        duration = sample.duration or self._interval
        pts = max(sample.pts - self._origin_ticks, dts)
        self._end_ticks = max(self._end_ticks, pts + duration)
        packet = av.Packet(sample.data)
        packet.stream = self.stream
        packet.dts, packet.pts, packet.duration = dts, pts, duration
        packet.time_base = Fraction(1, self.timescale)
        packet.is_keyframe = sample.keyframe
        return packet


def _dts(sample: Sample) -> int:
    return sample.pts if sample.dts is None else sample.dts


def _add_stream(output: Any, track: TrackInfo, first: Sample | None) -> Any:
    """An output stream for frames that are encoded already.

    It is described by a file of the track's own init segment and first frame, from which FFmpeg learns what
    its writer wants to know (VP9's pixel format is in no configuration that it reads).
    """
    file = write_init(track)
    if first is not None:
        frame = Frame(track.name, 0, 0, first.duration, True, first.data, True)
        file += write_fragment(frame, 1)
    with av.open(io.BytesIO(file), format="mp4") as template:
        stream = output.add_stream_from_template(template.streams[0], opaque=True)
    stream.time_base = Fraction(1, track.timescale)
    return stream


def _check_writable(path: str) -> None:
    try:
        with open(path, "wb"):
            pass
    except OSError as error:
        raise MediaError(f"cannot write {path}: {error.strerror}") from None
