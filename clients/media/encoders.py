"""The encoders of our own sources: H.264 (libx264) and Opus (libopus), without any delay.

Every frame put in comes out at once: no B-frames, no look-ahead, one thread. H.264 is constrained
baseline, which each browser decodes; the parameter sets are in the configuration only. With two layers every
other picture is a B-picture that nothing refers to: main profile, and each frame is out one frame later,
because libx264 makes no other pictures that can be left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
import av.error
import numpy as np
from av.audio.codeccontext import AudioCodecContext
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext

from farcast.clients.media import codecs
from farcast.clients.media.bitstream import annexb_to_lengths, avcc_from_annexb
from farcast.clients.media.errors import MediaError
from farcast.clients.media.tracks import Sample, TrackInfo

VIDEO_TIMESCALE = 90_000
AUDIO_FRAME_SAMPLES = 960
"""Samples of one Opus frame: 20 ms."""
AUDIO_CHANNELS = 2
BITRATE_MIN = 10_000
"""Least rate of pictures, bits per second."""
ALT_GROUP = 1
"""Of the renditions of one picture."""


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """What an H.264 encoder is asked for. ``bitrate`` in bits per second, ``gop_s`` in seconds."""

    width: int
    height: int
    framerate: Fraction
    bitrate: int
    gop_s: float
    layers: int = 1

    @property
    def gop(self) -> int:
        """Pictures of a group."""
        return max(round(self.gop_s * self.framerate), 1)


RENDITIONS_MAX = 8
"""Most renditions that one picture is encoded in."""


@dataclass(frozen=True, slots=True)
class RenditionSpec:
    """One rendition that is asked for: lines, and bits per second."""

    height: int
    bitrate: int


def parse_renditions(spec: str) -> tuple[RenditionSpec, ...]:
    """Renditions from ``720p:1800k,360p:600k``, best first. Raises :class:`MediaError`."""
    found: dict[int, RenditionSpec] = {}
    for item in spec.split(","):
        match = re.fullmatch(r"(\d{2,4})p:(\d+(?:\.\d+)?)([kM])", item.strip())
        if match is None:
            raise MediaError(f"rendition {item.strip()!r} is not like 720p:1800k or 1080p:4.5M")
        height, bitrate = int(match[1]), round(float(match[2]) * (1_000 if match[3] == "k" else 1_000_000))
        if height % 2 or height in found or bitrate < BITRATE_MIN:
            raise MediaError(
                f"rendition {item.strip()!r}: lines have to be even and each given once, at 10k or more"
            )
        found[height] = RenditionSpec(height, bitrate)
    if len(found) > RENDITIONS_MAX:
        raise MediaError(f"{len(found)} renditions, at most {RENDITIONS_MAX}")
    return tuple(sorted(found.values(), key=lambda each: -each.height))


class VideoEncoder:
    """H.264, one frame in, one frame out. Raises :class:`MediaError` if the encoder refuses.

    With two layers the first frame comes out with the second one put in, and `flush` gives the last.
    """

    def __init__(self, name: str, settings: VideoSettings, alt_group: int | None = None) -> None:
        self._settings = settings
        self._duration = round(VIDEO_TIMESCALE / settings.framerate)
        self.delay: int = self._duration if settings.layers > 1 else 0
        """Ticks that are added to every presentation time, because a frame is decoded before it is shown."""
        self.bitrate: int = settings.bitrate
        """What was asked for, bits per second."""
        self._context = _open_x264(settings)
        self._extradata = bytes(self._context.extradata or b"")
        self._pictures = 0
        self._wanted_bitrate = settings.bitrate
        self.track = _video_track(name, settings, self._extradata)
        self._level = (self.track.extradata or bytes(4))[3]
        if alt_group is not None:
            self.track = replace(self.track, alt_group=alt_group)

    def set_rate_share(self, share: float) -> None:
        """Go on at this share of the bit rate that was asked for: roughly from the next picture on, exactly
        from the next group on."""
        self._wanted_bitrate = max(round(self.bitrate * share), BITRATE_MIN)
        self._context.bit_rate = self._wanted_bitrate

    def encode(self, image: av.VideoFrame, pts: int) -> Iterator[Sample]:
        """Encode one picture in any pixel format; ``pts`` in ``VIDEO_TIMESCALE`` ticks (of samples: plus
        `delay`)."""
        if self._pictures % self._settings.gop == 0 and self._wanted_bitrate != self._settings.bitrate:
            yield from self._begin_anew()
        self._pictures += 1
        image = image.reformat(width=self.track.width, height=self.track.height, format="yuv420p")
        image.pts, image.time_base = pts, Fraction(1, VIDEO_TIMESCALE)
        image.pict_type = av.video.frame.PictureType.NONE
        yield from self._samples(image, pts)

    def flush(self) -> Iterator[Sample]:
        """What the encoder still holds."""
        yield from self._samples(None, 0)

    def _begin_anew(self) -> Iterator[Sample]:
        """At the wanted rate, where a group begins: libx264 takes a new rate on the way, but keeps the buffer
        of the old one, which holds a low rate's bits of seconds."""
        settings = replace(self._settings, bitrate=self._wanted_bitrate)
        context = _open_x264(settings, self._level)
        if bytes(context.extradata or b"") == self._extradata:
            yield from self.flush()
            self._context, self._settings, self._pictures = context, settings, 0

    def _samples(self, image: av.VideoFrame | None, pts: int) -> Iterator[Sample]:
        for packet in self._context.encode(image):
            shown = pts if packet.pts is None else packet.pts
            # Decode times count from a frame before the first picture; those of files are never negative.
            decoded = shown if packet.dts is None else packet.dts + self.delay
            data = annexb_to_lengths(bytes(packet))
            yield Sample(decoded, shown + self.delay, self._duration, packet.is_keyframe, data)


def video_encoders(whole: VideoSettings, renditions: Sequence[RenditionSpec]) -> list[VideoEncoder]:
    """An encoder ``video`` of the settings given, or one for each rendition, called ``video-720p``.

    Raises :class:`MediaError` if a rendition is larger than the picture, or an encoder refuses.
    """
    if not renditions:
        return [VideoEncoder("video", whole)]
    if renditions[0].height > whole.height:
        raise MediaError(
            f"rendition {renditions[0].height}p is larger than the picture, {whole.height} lines"
        )
    settings = [
        replace(
            whole,
            width=max(whole.width * each.height // whole.height // 2 * 2, 2),
            height=each.height,
            bitrate=each.bitrate,
        )
        for each in renditions
    ]
    alt_group = ALT_GROUP if len(settings) > 1 else None
    return [VideoEncoder(f"video-{each.height}p", each, alt_group) for each in settings]


class AudioEncoder:
    """Opus at 48 kHz stereo in 20 ms frames."""

    def __init__(self, name: str, bitrate: int) -> None:
        self._context = context = _create(AudioCodecContext, "libopus")
        context.sample_rate = codecs.OPUS_RATE
        context.layout = "stereo"
        context.format = "s16"
        context.bit_rate = bitrate
        context.time_base = Fraction(1, codecs.OPUS_RATE)
        context.options = {"application": "lowdelay", "frame_duration": "20", "compression_level": "5"}
        _open(context, "libopus")
        self.track = TrackInfo(
            name,
            "audio",
            "opus",
            codecs.OPUS_RATE,
            samplerate=codecs.OPUS_RATE,
            channels=AUDIO_CHANNELS,
            extradata=bytes(context.extradata or codecs.make_opus_head(AUDIO_CHANNELS)),
            bitrate=bitrate,
        )

    def encode(self, pcm: np.ndarray[Any, np.dtype[Any]], pts: int) -> Iterator[Sample]:
        """Encode ``AUDIO_FRAME_SAMPLES`` stereo samples: int16, shape (1, 2 * n), interleaved."""
        frame = av.AudioFrame.from_ndarray(pcm, format="s16", layout="stereo")
        frame.sample_rate = codecs.OPUS_RATE
        frame.pts, frame.time_base = pts, Fraction(1, codecs.OPUS_RATE)
        for packet in self._context.encode(frame):
            yield Sample(pts, pts, AUDIO_FRAME_SAMPLES, True, bytes(packet))


def _create(kind: type[Any], codec: str) -> Any:
    try:
        return kind.create(codec, "w")
    except av.error.FFmpegError as error:
        raise MediaError(f"this build of FFmpeg has no encoder {codec}: {error.strerror}") from None


def _open(context: Any, codec: str) -> None:
    try:
        context.open()
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"encoder {codec} refuses its settings: {error}") from None


def _open_x264(settings: VideoSettings, level: int | None = None) -> Any:
    context = _create(VideoCodecContext, "libx264")
    context.width, context.height = settings.width, settings.height
    context.pix_fmt = "yuv420p"
    context.time_base = Fraction(1, VIDEO_TIMESCALE)
    context.framerate = settings.framerate
    context.bit_rate = settings.bitrate
    context.flags |= Flags.global_header
    context.options = _x264_options(settings, level)
    _open(context, "libx264")
    return context


def _x264_options(settings: VideoSettings, level: int | None) -> dict[str, str]:
    gop = settings.gop
    params = f"keyint={gop}:min-keyint={gop}:scenecut=0:threads=1"
    if level is not None:
        params += f":level={level}"
    profile = "baseline"
    if settings.layers > 1:
        params += ":bframes=1:b-adapt=0:b-pyramid=none:open-gop=0"
        profile = "main"
    # libx264 takes a new rate on the way only where the greatest rate is the mean one.
    rate = {"maxrate": str(settings.bitrate), "bufsize": str(settings.bitrate)}
    return {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": profile,
        **rate,
        "x264-params": params,
    }


def _video_track(name: str, settings: VideoSettings, extradata: bytes) -> TrackInfo:
    avcc = avcc_from_annexb(extradata)
    if avcc is None:
        raise MediaError("encoder libx264 gave no parameter sets")
    return TrackInfo(
        name,
        "video",
        codecs.codec_string("h264", avcc),
        VIDEO_TIMESCALE,
        settings.width,
        settings.height,
        float(settings.framerate),
        extradata=avcc,
        bitrate=settings.bitrate * 3 // 2,
        reorder_ms=round(1_000 / settings.framerate) if settings.layers > 1 else 0,
        layers=settings.layers,
    )
