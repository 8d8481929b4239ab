"""Opens what ``farcast publish`` is given: a file, a URL, ``testsrc``, or ``-`` for standard input."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

import av
import av.error

from farcast.clients.media.encoders import RenditionSpec
from farcast.clients.media.errors import MediaError
from farcast.clients.media.feeds import Feed, open_feed
from farcast.clients.media.grouping import Grouper
from farcast.clients.media.interleave import Interleaver
from farcast.clients.media.source import Source
from farcast.clients.media.testsrc import TestSource, TestSourceOptions, parse_testsrc
from farcast.clients.media.tracks import Frame, Sample, TrackInfo

PROBE_SAMPLES_MAX = 2_000
"""Most samples read before every track has shown its configuration and its first time."""
OPEN_TIMEOUT_S = 10.0
"""How long opening a URL may take."""
READ_TIMEOUT_S = 30.0
"""How long a URL may be silent."""


def open_source(
    spec: str,
    *,
    clock_us: Callable[[], int],
    stdin: BinaryIO | None = None,
    transcode: bool = False,
    testsrc: TestSourceOptions | None = None,
    renditions: Sequence[RenditionSpec] = (),
) -> Source:
    """Open a source.

    ``spec`` is ``testsrc`` (with options as in :func:`parse_testsrc`, starting from ``testsrc``), ``-``
    for a stream on ``stdin`` (fragmented MP4, or any other format that needs no seeking), or a file or
    URL. ``renditions`` encode the picture anew in each of them. ``clock_us`` tells wall-clock
    microseconds since the Unix epoch. Raises :class:`MediaError`.
    """
    if spec == "testsrc" or spec.startswith("testsrc="):
        options = parse_testsrc(spec, testsrc)
        return TestSource(replace(options, renditions=tuple(renditions)) if renditions else options, clock_us)
    if spec == "-":
        if stdin is None:
            raise MediaError("there is no standard input to read")
        container, spec = _open(_Pipe(stdin), "standard input"), "standard input"
    else:
        container = _open(spec, spec)
    return MediaSource(container, spec, transcode=transcode, renditions=renditions)


class MediaSource:
    """A :class:`Source` of an open PyAV container.

    Times of all tracks are moved by one whole number of seconds so that decoding starts in the first
    second: exact in every timescale, and never negative.
    """

    def __init__(
        self,
        container: Any,
        name: str,
        *,
        transcode: bool = False,
        renditions: Sequence[RenditionSpec] = (),
    ) -> None:
        self._container = container
        try:
            self._feed: Feed = open_feed(container, name, transcode, renditions)
            early = self._probe(name)
        except BaseException:
            container.close()
            raise
        tracks = self._feed.tracks()
        self.tracks: tuple[TrackInfo, ...] = tuple(_with_reorder(track, early) for track in tracks)
        self.skipped: tuple[str, ...] = tuple(self._feed.skipped)
        self.encoded_bps = self._feed.encoded_bps
        self._by_name = {track.name: track for track in self.tracks}
        self._shift_s = _shift_seconds(self._by_name, early)
        self._interleaver: Interleaver[tuple[TrackInfo, Sample]] = Interleaver(list(self._by_name))
        self._grouper = Grouper(any(track.kind == "video" for track in self.tracks))
        self._started: set[str] = set()
        self._failure: MediaError | None = None
        self._first_us: int | None = None
        self._push(early)

    def next_time_us(self) -> int | None:
        """See :class:`Source`."""
        while (time_us := self._interleaver.peek_us()) is None:
            if not self._read():
                return None
        if self._first_us is None:
            self._first_us = time_us
        return max(time_us - self._first_us, 0)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self.next_time_us() is None:
            if self._failure is not None:
                raise self._failure
            raise StopIteration
        track, sample = self._interleaver.pop()
        group_start = self._grouper.starts_group(track, sample)
        dts = sample.pts if sample.dts is None else sample.dts
        return Frame(track.name, dts, sample.pts, sample.duration, sample.keyframe, sample.data, group_start)

    def set_rate_share(self, share: float) -> None:
        """See :class:`Source`."""
        self._feed.set_rate_share(share)

    def close(self) -> None:
        """See :class:`Source`."""
        self._container.close()

    def _probe(self, name: str) -> list[tuple[str, Sample]]:
        """Read until every track is known and has begun; tracks that do not show up are given up."""
        early: list[tuple[str, Sample]] = []
        while len(early) < PROBE_SAMPLES_MAX:
            begun = {track for track, _ in early}
            known = {track.name for track in self._feed.tracks()}
            if begun >= set(self._feed.names) <= known:
                break
            samples = self._feed.pull()
            if samples is None:
                break
            early += samples
        known = {track.name for track in self._feed.tracks()}
        missing = [track for track in self._feed.names if track not in known]
        if not known or not early:
            raise MediaError(f"no audio or video stream that can be carried in {name}: found no frames")
        self._feed.skipped += [f"{track}: no decoder configuration found" for track in missing]
        return early

    def _read(self) -> bool:
        """Read some more; False when there is nothing left to let out."""
        if self._interleaver.ended:
            return False
        try:
            samples = self._feed.pull()
        except MediaError as error:
            self._failure = error
            samples = None
        if samples is None:
            self._interleaver.end()
        else:
            self._push(samples)
        return True

    def _push(self, samples: list[tuple[str, Sample]]) -> None:
        for name, sample in samples:
            track = self._by_name.get(name)
            if track is None or (name not in self._started and not sample.keyframe):
                continue
            self._started.add(name)
            dts, shifted = _shifted(track, sample, self._shift_s)
            self._interleaver.push(name, track.to_us(dts), (track, shifted))


class _Pipe:
    """A readable stream as PyAV wants it: no seeking, and no waiting for a full buffer."""

    def __init__(self, stream: BinaryIO) -> None:
        self._read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes, as soon as there are some; empty at the end."""
        return self._read(size)


def _open(file: Any, name: str) -> Any:
    remote = isinstance(file, str) and "://" in file
    timeout = (OPEN_TIMEOUT_S, READ_TIMEOUT_S) if remote else None
    if isinstance(file, str) and not remote and os.path.isdir(file):
        raise MediaError(f"cannot open {name}: it is a directory")
    try:
        return av.open(file, timeout=timeout, options={"fflags": "+genpts"})
    except av.error.ExitError:
        raise MediaError(f"cannot open {name}: no answer within {OPEN_TIMEOUT_S:g} s") from None
    except av.error.InvalidDataError:
        raise MediaError(
            f"cannot open {name}: it is not a media file that FFmpeg can read, or not all of one"
        ) from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"cannot open {name}: {getattr(error, 'strerror', None) or error}") from None


def _shift_seconds(tracks: dict[str, TrackInfo], early: list[tuple[str, Sample]]) -> int:
    """The whole seconds to add so that the earliest decode time lies in the first second."""
    return -min(
        (sample.dts if sample.dts is not None else sample.pts) // tracks[name].timescale
        for name, sample in early
        if name in tracks
    )


def _shifted(track: TrackInfo, sample: Sample, shift_s: int) -> tuple[int, Sample]:
    shift = shift_s * track.timescale
    dts = max((sample.pts if sample.dts is None else sample.dts) + shift, 0)
    return dts, replace(sample, dts=dts, pts=max(sample.pts + shift, dts))


def _with_reorder(track: TrackInfo, early: list[tuple[str, Sample]]) -> TrackInfo:
    """The track with the delay that its first frame shows between decoding and presentation."""
    first = next((sample for name, sample in early if name == track.name), None)
    if track.kind == "audio" or first is None or first.dts is None:
        return track
    return replace(track, reorder_ms=-(-(first.pts - first.dts) * 1000 // track.timescale))
