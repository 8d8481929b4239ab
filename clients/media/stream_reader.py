"""Turns the packets of one input stream into samples in the forms that are carried.

Bytes stay as they are, except for delimiters (:mod:`bitstream`). Times become ticks of an integral timescale,
decode times are filled in where the container has none (Matroska, raw streams) and always rise.
"""

from __future__ import annotations

import io
from fractions import Fraction
from typing import Any

import av
import av.error

from farcast.clients.media import bitstream, codecs
from farcast.clients.media.boxes import find_box
from farcast.clients.media.errors import MediaError
from farcast.clients.media.tracks import Kind, Sample, TrackInfo

UNTIMED_PACKETS_MAX = 64
"""Most packets that wait for the first decode time of their stream."""
_FALLBACK_TIMESCALE = 90_000
_TIMESCALE_MAX = 10_000_000
_FAMILIES: dict[str, codecs.Family] = {
    "h264": "h264", "hevc": "hevc", "vp9": "vp9", "av1": "av1", "aac": "aac", "opus": "opus",
}  # fmt: skip


def family_of_stream(stream: Any) -> codecs.Family | None:
    """The codec family of an input stream, None if it is not one that can be carried."""
    return _FAMILIES.get(codec_name(stream))


def codec_name(stream: Any) -> str:
    """The codec of an input stream as FFmpeg calls it, ``unknown`` without a decoder."""
    context = stream.codec_context
    return "unknown" if context is None else str(context.codec.canonical_name)


class StreamReader:
    """Reads one stream. ``track`` is None until the decoder configuration is known."""

    def __init__(self, stream: Any, name: str, kind: Kind, family: codecs.Family) -> None:
        self.name = name
        self.track: TrackInfo | None = None
        self._stream = stream
        self._kind: Kind = kind
        self._family = family
        self._timescale = _timescale_of(stream.time_base)
        self._default_duration = _default_duration(stream, kind, self._timescale)
        self._untimed: list[Any] = []
        self._last_dts: int | None = None
        extradata = bytes(stream.codec_context.extradata or b"")
        self._annexb = family in ("h264", "hevc") and extradata[:1] != b"\x01"
        self._configure(self._config_from_extradata(extradata))

    def push(self, packet: Any) -> list[Sample]:
        """The samples that a packet completes: usually one."""
        if self.track is None:
            self._configure(self._config_from_packet(bytes(packet)))
        if packet.dts is None and self._last_dts is None and len(self._untimed) < UNTIMED_PACKETS_MAX:
            self._untimed.append(packet)
            return []
        return [*self._release(packet.dts), self._sample(packet, packet.dts)]

    def flush(self) -> list[Sample]:
        """The samples of packets that still wait for a decode time."""
        return self._release(None)

    def _release(self, next_dts: int | None) -> list[Sample]:
        """Give the waiting packets decode times that end at ``next_dts`` (in stream ticks)."""
        waiting, self._untimed = self._untimed, []
        total = sum(packet.duration or 0 for packet in waiting)
        dts = None if next_dts is None else next_dts - total
        samples = []
        for packet in waiting:
            samples.append(self._sample(packet, dts))
            dts = None if dts is None else dts + (packet.duration or 0)
        return samples

    def _sample(self, packet: Any, stream_dts: int | None) -> Sample:
        duration = self._ticks(packet.duration or 0) or self._default_duration
        if stream_dts is not None:
            dts = self._ticks(stream_dts)
        elif self._last_dts is not None:
            dts = self._last_dts + duration
        else:
            dts = 0 if packet.pts is None else self._ticks(packet.pts)
        if self._last_dts is not None:
            dts = max(dts, self._last_dts + 1)
        self._last_dts = dts
        pts = dts if packet.pts is None else max(self._ticks(packet.pts), dts)
        keyframe = self._kind == "audio" or bool(packet.is_keyframe)
        return Sample(dts, pts, duration, keyframe, self._convert(bytes(packet)))

    def _ticks(self, value: int) -> int:
        base: Fraction = self._stream.time_base
        if base.numerator == 1 and base.denominator == self._timescale:
            return value
        return round(value * base * self._timescale)

    def _convert(self, data: bytes) -> bytes:
        if self._annexb and bitstream.is_annexb(data):
            return bitstream.annexb_to_lengths(data)
        if self._family == "aac" and bitstream.has_adts_header(data):
            return bitstream.strip_adts(data)
        return data

    def _config_from_extradata(self, extradata: bytes) -> bytes | None:
        if self._family == "h264":
            return bitstream.avcc_from_annexb(extradata) if self._annexb else extradata
        if self._family == "hevc":
            return _hvcc_of(self._stream) if self._annexb else extradata
        if self._family == "vp9":
            return self._vp9_config()
        return extradata or None

    def _config_from_packet(self, data: bytes) -> bytes | None:
        if self._family == "h264":
            return bitstream.avcc_from_annexb(data)
        if self._family == "aac" and bitstream.has_adts_header(data):
            return bitstream.config_from_adts(data)
        return None

    def _vp9_config(self) -> bytes:
        context = self._stream.codec_context
        profile = {"Profile 1": 1, "Profile 2": 2, "Profile 3": 3}.get(context.profile or "", 0)
        depth = 8 if profile < 2 else 12 if "12" in str(context.pix_fmt) else 10
        rate = float(self._stream.average_rate or 30)
        return codecs.make_vp9_config(profile, depth, context.width, context.height, rate)

    def _configure(self, extradata: bytes | None) -> None:
        if extradata is None:
            return
        context, video = self._stream.codec_context, self._kind == "video"
        rate = self._stream.average_rate if video else None
        self.track = TrackInfo(
            self.name,
            self._kind,
            codecs.codec_string(self._family, extradata),
            self._timescale,
            width=context.width if video else None,
            height=context.height if video else None,
            framerate=round(float(rate), 3) if rate else None,
            samplerate=None if video else context.sample_rate,
            channels=None if video else context.layout.nb_channels,
            extradata=extradata,
            bitrate=context.bit_rate or None,
        )


def _timescale_of(time_base: Fraction) -> int:
    whole = time_base.numerator == 1 and time_base.denominator <= _TIMESCALE_MAX
    return time_base.denominator if whole else _FALLBACK_TIMESCALE


def _default_duration(stream: Any, kind: Kind, timescale: int) -> int:
    if kind == "video":
        return max(round(timescale / (stream.average_rate or 30)), 1)
    samples = stream.codec_context.frame_size or 1024
    return max(round(samples * timescale / (stream.codec_context.sample_rate or codecs.OPUS_RATE)), 1)


def _hvcc_of(stream: Any) -> bytes:
    """``hvcC`` of an Annex B stream, as FFmpeg's MP4 writer makes it."""
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="mp4", options={"movflags": "empty_moov"}) as output:
            output.add_stream_from_template(stream).codec_context.codec_tag = "hvc1"
            output.start_encoding()
    except (av.error.FFmpegError, ValueError) as error:
        raise MediaError(f"HEVC stream whose parameter sets cannot be read: {error}") from None
    data = file.getvalue()
    path = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")
    start, end = find_box(data, 0, len(data), *path)
    start, end = find_box(data, start + 8, end, b"hvc1")
    start, end = find_box(data, start + 78, end, b"hvcC")
    return data[start:end]
