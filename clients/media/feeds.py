"""Where the frames of an input come from: its packets as they are, or re-encoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any, Protocol

import av
import av.error

from farcast.clients.media import codecs
from farcast.clients.media.encoders import (
    AUDIO_FRAME_SAMPLES,
    VIDEO_TIMESCALE,
    AudioEncoder,
    RenditionSpec,
    VideoEncoder,
    VideoSettings,
    video_encoders,
)
from farcast.clients.media.errors import MediaError
from farcast.clients.media.stream_reader import StreamReader, codec_name, family_of_stream
from farcast.clients.media.tracks import Kind, Sample, TrackInfo

TRANSCODE_GOP_S = 2.0
_TRANSCODE_BITS_PER_PIXEL = 0.1
_TRANSCODE_AUDIO_BITRATE = 96_000
_KINDS: tuple[Kind, ...] = ("video", "audio")


class Feed(Protocol):
    """Samples of several tracks, as the input has them."""

    names: list[str]
    skipped: list[str]
    encoded_bps: int
    """Rate of the pictures that are encoded here, all together."""

    def set_rate_share(self, share: float) -> None:
        """Encode pictures at this share of their rates from now on."""

    def tracks(self) -> list[TrackInfo]:
        """The tracks that are known so far."""

    def pull(self) -> list[tuple[str, Sample]] | None:
        """Read on; None at the end of the input. Raises :class:`MediaError`."""


def open_feed(container: Any, source: str, transcode: bool, renditions: Sequence[RenditionSpec] = ()) -> Feed:
    """A feed of the first video and the first audio stream that can be carried; ``renditions`` are encoded.

    Raises :class:`MediaError` if there is neither.
    """
    if transcode or renditions:
        return _TranscodeFeed(container, source, renditions)
    return _CopyFeed(container, source)


class _CopyFeed:
    """Packets as they are."""

    encoded_bps = 0

    def __init__(self, container: Any, source: str) -> None:
        chosen, self.skipped = _choose(container, source, any_codec=False)
        self._readers: dict[int, StreamReader] = {}
        for kind, stream in chosen:
            family = family_of_stream(stream)
            assert family is not None
            self._readers[stream.index] = StreamReader(stream, kind, kind, family)
        self.names: list[str] = [reader.name for reader in self._readers.values()]
        self._packets = _packets(container, [stream for _, stream in chosen], source)

    def set_rate_share(self, share: float) -> None:
        pass

    def tracks(self) -> list[TrackInfo]:
        return [reader.track for reader in self._readers.values() if reader.track is not None]

    def pull(self) -> list[tuple[str, Sample]] | None:
        packet = next(self._packets, None)
        if packet is not None:
            reader = self._readers[packet.stream_index]
            return [(reader.name, sample) for sample in reader.push(packet)]
        last = [(reader.name, sample) for reader in self._readers.values() for sample in reader.flush()]
        return last or None


class _TranscodeFeed:
    """Pictures and sound decoded and encoded anew: H.264 without B-frames, and Opus."""

    def __init__(self, container: Any, source: str, renditions: Sequence[RenditionSpec]) -> None:
        chosen, self.skipped = _choose(container, source, any_codec=True)
        self._source = source
        self._videos: list[VideoEncoder] = []
        self._audio: AudioEncoder | None = None
        for kind, stream in chosen:
            if kind == "video":
                self._videos = video_encoders(_video_settings(stream), renditions)
            else:
                self._audio = AudioEncoder("audio", _TRANSCODE_AUDIO_BITRATE)
        self._resampler = av.AudioResampler("s16", "stereo", codecs.OPUS_RATE, AUDIO_FRAME_SAMPLES)
        self.names: list[str] = [track.name for track in self.tracks()]
        self.encoded_bps = sum(video.bitrate for video in self._videos)
        self._packets = _packets(container, [stream for _, stream in chosen], source, flush=True)

    def set_rate_share(self, share: float) -> None:
        for video in self._videos:
            video.set_rate_share(share)

    def tracks(self) -> list[TrackInfo]:
        sound = [] if self._audio is None else [self._audio.track]
        return [video.track for video in self._videos] + sound

    def pull(self) -> list[tuple[str, Sample]] | None:
        packet = next(self._packets, None)
        if packet is None:
            return None
        try:
            images = packet.decode()
        except av.error.FFmpegError:
            return []  # A damaged packet: the decoder goes on with the next one.
        if packet.stream.type == "video":
            return [made for image in images for made in self._encode_picture(image)]
        return [("audio", sample) for frame in images for sample in self._encode_sound(frame)]

    def _encode_picture(self, image: av.VideoFrame) -> Iterator[tuple[str, Sample]]:
        if image.pts is None or image.time_base is None:
            return
        pts = round(image.pts * image.time_base * VIDEO_TIMESCALE)
        for video in self._videos:
            for sample in video.encode(image, pts):
                yield video.track.name, sample

    def _encode_sound(self, frame: av.AudioFrame) -> Iterator[Sample]:
        if self._audio is None:
            return
        for resampled in self._resampler.resample(frame):
            if resampled.samples == AUDIO_FRAME_SAMPLES and resampled.pts is not None:
                yield from self._audio.encode(resampled.to_ndarray(), resampled.pts)


def _choose(container: Any, source: str, *, any_codec: bool) -> tuple[list[tuple[Kind, Any]], list[str]]:
    """The first stream of each kind that can be carried, and why the others are not."""
    chosen: dict[Kind, Any] = {}
    skipped: list[str] = []
    for stream in container.streams:
        label = f"stream {stream.index} ({stream.type} {codec_name(stream)})"
        if stream.type not in _KINDS or codec_name(stream) == "unknown":
            skipped.append(f"{label}: not carried")
        elif stream.type == "video" and stream.disposition & av.stream.Disposition.attached_pic:
            skipped.append(f"{label}: a cover picture")
        elif not any_codec and family_of_stream(stream) is None:
            skipped.append(f"{label}: this codec cannot be carried without transcoding")
        elif stream.type in chosen:
            skipped.append(f"{label}: only the first {stream.type} stream is carried")
        else:
            chosen[stream.type] = stream
    if not chosen:
        found = ", ".join(f"{stream.type} {codec_name(stream)}" for stream in container.streams)
        reason = f"found {found or 'no streams'}"
        raise MediaError(f"no audio or video stream that can be carried in {source}: {reason}")
    return [(kind, chosen[kind]) for kind in _KINDS if kind in chosen], skipped


def _packets(container: Any, streams: list[Any], source: str, *, flush: bool = False) -> Iterator[Any]:
    """Packets with content; with ``flush`` also the empty ones that empty a decoder at the end."""
    try:
        for packet in container.demux(streams):
            if packet.size or flush:
                yield packet
    except av.error.ExitError:
        raise MediaError(f"{source} breaks off: it has been silent for too long") from None
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise MediaError(f"{source} breaks off: {getattr(error, 'strerror', None) or error}") from None


def _video_settings(stream: Any) -> VideoSettings:
    context = stream.codec_context
    width, height = context.width // 2 * 2, context.height // 2 * 2
    framerate = Fraction(stream.average_rate or 30)
    bitrate = int(width * height * framerate * Fraction(_TRANSCODE_BITS_PER_PIXEL))
    return VideoSettings(width, height, framerate, max(bitrate, 300_000), TRANSCODE_GOP_S)
