"""The live synthetic film: a moving picture with clock and frame number, and a tone.

Nothing here waits: a frame is made when it is asked for, with the time that the injected clock tells then.
The tone is 440 Hz, with a louder beep of 1 kHz in the first 100 ms of every second, while the picture
flashes: so the eye and the ear can judge synchrony.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from farcast.clients.media.codecs import OPUS_RATE
from farcast.clients.media.encoders import (
    AUDIO_CHANNELS,
    AUDIO_FRAME_SAMPLES,
    VIDEO_TIMESCALE,
    AudioEncoder,
    RenditionSpec,
    VideoSettings,
    video_encoders,
)
from farcast.clients.media.errors import MediaError
from farcast.clients.media.framecode import Image, read_frame_number
from farcast.clients.media.picture import SIZE_MIN, Painter
from farcast.clients.media.tracks import MICROSECONDS, Frame, Sample, TrackInfo

__all__ = ["TestSource", "TestSourceOptions", "make_tone", "parse_testsrc", "read_frame_number"]

SIZE_MAX = 4096
FRAMERATE_MAX = 240
_BEEP_S = 0.1


@dataclass(frozen=True, slots=True)
class TestSourceOptions:
    """What the film looks like. ``duration_s`` None means endless; ``audio_bitrate`` 0 means silent film.

    ``layers`` 2 makes every other picture one that can be left out, at the cost of a frame's delay.
    """

    __test__ = False

    width: int = 640
    height: int = 360
    framerate: int = 30
    bitrate: int = 800_000
    gop_s: float = 1.0
    duration_s: float | None = None
    audio_bitrate: int = 64_000
    layers: int = 1
    renditions: tuple[RenditionSpec, ...] = ()


class TestSource:
    """A :class:`Source` of the film. Raises :class:`MediaError` if an option is out of range."""

    __test__ = False

    def __init__(self, options: TestSourceOptions, clock_us: Callable[[], int]) -> None:
        _check(options)
        self._options = options
        self._clock_us = clock_us
        settings = VideoSettings(
            options.width,
            options.height,
            Fraction(options.framerate),
            options.bitrate,
            options.gop_s,
            options.layers,
        )
        self._videos = video_encoders(settings, options.renditions)
        self._audio = AudioEncoder("audio", options.audio_bitrate) if options.audio_bitrate else None
        self._painter = Painter(options.width, options.height)
        self._tone = make_tone()
        self._captured_us: dict[tuple[str, int], int] = {}
        self._ready: deque[tuple[str, Sample]] = deque()
        self._frames_out = 0
        self._painted = 0
        self._delay_us = (options.layers - 1) * MICROSECONDS // options.framerate
        duration_s = options.duration_s
        self._pictures_wanted = None if duration_s is None else math.ceil(duration_s * options.framerate)
        self._packet_number = 0
        self._group_wanted = True
        self.tracks: tuple[TrackInfo, ...] = tuple(video.track for video in self._videos)
        if self._audio:
            self.tracks += (self._audio.track,)
        self.skipped: tuple[str, ...] = ()
        self.encoded_bps = sum(video.bitrate for video in self._videos)

    def next_time_us(self) -> int | None:
        """See :class:`Source`."""
        dues = (self._video_time_us() - self._delay_us, self._video_time_us()), (self._audio_time_us(),) * 2
        limit = self._options.duration_s
        left = [due for made, due in dues if limit is None or made < limit * MICROSECONDS]
        return min(left, default=None)

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        due = self.next_time_us()
        if due is None:
            raise StopIteration
        return self._next_picture() if due == self._video_time_us() else self._next_sound()

    def set_rate_share(self, share: float) -> None:
        """See :class:`Source`."""
        for video in self._videos:
            video.set_rate_share(share)

    def close(self) -> None:
        """See :class:`Source`."""
        self._options = replace(self._options, duration_s=0)

    def _video_time_us(self) -> int:
        number = self._frames_out // len(self._videos)
        return number * MICROSECONDS // self._options.framerate + self._delay_us

    def _audio_time_us(self) -> int:
        if not self._audio:
            return self._video_time_us()
        return self._packet_number * AUDIO_FRAME_SAMPLES * MICROSECONDS // OPUS_RATE

    def _next_picture(self) -> Frame:
        """The next frame: with layers it is out when the picture after it has been put in."""
        number, self._frames_out = self._frames_out // len(self._videos), self._frames_out + 1
        while not self._ready:
            if self._pictures_wanted is not None and self._painted >= self._pictures_wanted:
                self._ready.extend((v.track.name, sample) for v in self._videos for sample in v.flush())
            else:
                self._ready.extend(self._paint(number + self._options.layers - 1))
        name, sample = self._ready.popleft()
        self._group_wanted |= sample.keyframe
        return _frame(name, sample, sample.keyframe, self._captured_us.pop((name, sample.pts)))

    def _paint(self, until: int) -> Iterator[tuple[str, Sample]]:
        """Put the next picture into the encoders; it was due so long before that of number ``until``."""
        number, self._painted = self._painted, self._painted + 1
        framerate = self._options.framerate
        captured_us = self._clock_us() - (until - number) * MICROSECONDS // framerate
        image = self._painter.paint(number, captured_us, flash=number % framerate < framerate * _BEEP_S)
        pts = number * VIDEO_TIMESCALE // framerate
        for video in self._videos:
            self._captured_us[video.track.name, pts + video.delay] = captured_us
            for sample in video.encode(image, pts):
                yield video.track.name, sample

    def _next_sound(self) -> Frame:
        assert self._audio is not None
        start = self._packet_number * AUDIO_FRAME_SAMPLES
        self._packet_number += 1
        captured_us = self._clock_us()
        at = start % OPUS_RATE
        sample = next(self._audio.encode(self._tone[:, at * 2 : (at + AUDIO_FRAME_SAMPLES) * 2], start))
        group_start, self._group_wanted = self._group_wanted, False
        return _frame("audio", sample, group_start, captured_us)


def make_tone() -> Image:
    """One second of the tone: interleaved stereo, shape (1, 96000), int16."""
    time = np.arange(OPUS_RATE) / OPUS_RATE
    tone = 2000 * np.sin(2 * np.pi * 440 * time)
    beep = 6000 * np.sin(2 * np.pi * 1000 * time)
    mono = np.where(time < _BEEP_S, beep, tone).astype(np.int16)
    stereo: Image = np.repeat(mono, AUDIO_CHANNELS)[None, :]
    return stereo


def parse_testsrc(spec: str, defaults: TestSourceOptions | None = None) -> TestSourceOptions:
    """Options from ``testsrc`` or ``testsrc=size=1280x720:fps=60:bitrate=2000000:gop=2:duration=10``.

    Raises :class:`MediaError` on an unknown option or a value that is not a number.
    """
    options = defaults or TestSourceOptions()
    _, _, listed = spec.partition("=")
    for item in filter(None, listed.split(":")):
        name, _, value = item.partition("=")
        try:
            options = _OPTIONS[name](options, value)
        except KeyError:
            raise MediaError(f"testsrc has no option {name!r}; it has {', '.join(_OPTIONS)}") from None
        except ValueError:
            raise MediaError(f"testsrc: {value!r} is not a value for {name}") from None
    return options


def _with_size(options: TestSourceOptions, value: str) -> TestSourceOptions:
    width, height = value.split("x")
    return replace(options, width=int(width), height=int(height))


_OPTIONS: dict[str, Callable[[TestSourceOptions, str], TestSourceOptions]] = {
    "size": _with_size,
    "fps": lambda options, value: replace(options, framerate=int(value)),
    "bitrate": lambda options, value: replace(options, bitrate=int(value)),
    "gop": lambda options, value: replace(options, gop_s=float(value)),
    "duration": lambda options, value: replace(options, duration_s=float(value)),
    "layers": lambda options, value: replace(options, layers=int(value)),
    "audio-bitrate": lambda options, value: replace(options, audio_bitrate=int(value)),
}


def _frame(track: str, sample: Sample, group_start: bool, captured_us: int) -> Frame:
    pts, dts = sample.pts, sample.pts if sample.dts is None else sample.dts
    return Frame(track, dts, pts, sample.duration, sample.keyframe, sample.data, group_start, captured_us)


def _check(options: TestSourceOptions) -> None:
    width, height = options.width, options.height
    if (
        width % 2
        or height % 2
        or not (SIZE_MIN[0] <= width <= SIZE_MAX and SIZE_MIN[1] <= height <= SIZE_MAX)
    ):
        smallest = f"{SIZE_MIN[0]}x{SIZE_MIN[1]}"
        raise MediaError(
            f"testsrc: size {width}x{height} is not even and from {smallest} to {SIZE_MAX}x{SIZE_MAX}"
        )
    if not 1 <= options.framerate <= FRAMERATE_MAX:
        raise MediaError(f"testsrc: {options.framerate} frames per second is not from 1 to {FRAMERATE_MAX}")
    if options.bitrate < 10_000 or not 0 < options.gop_s <= 60:
        raise MediaError("testsrc: bit rate must be at least 10000 bit/s, GOP from above 0 to 60 s")
    if options.layers not in (1, 2):
        raise MediaError(f"testsrc: {options.layers} layers is not 1 or 2")
    if options.audio_bitrate and not 6_000 <= options.audio_bitrate <= 510_000:
        raise MediaError("testsrc: audio bit rate must be 0 or from 6000 to 510000 bit/s")
