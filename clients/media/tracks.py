"""What a track is and what a frame is, apart from any file format or packaging."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["video", "audio"]

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class TrackInfo:
    """A track as its decoder and its catalog entry need it.

    ``codec`` is a WebCodecs codec string (``avc1.42c01e``, ``mp4a.40.2``, ``opus``). ``extradata`` is
    the decoder configuration in the form ISO BMFF knows it: the payload of ``avcC``/``hvcC``/``av1C``/
    ``vpcC``, an AudioSpecificConfig, or an OpusHead packet; ``None`` if it travels inside the frames
    (then H.264 and HEVC frames are Annex B). ``timescale`` is ticks per second of every timestamp.
    ``reorder_ms`` is how far presentation runs behind decoding because of B-frames. ``layers``: with more
    than one, frames of layer k are in subgroup k of their group (:mod:`farcast.clients.media.layers`).
    ``alt_group``: tracks of one number are renditions of the same picture, with groups of equal number for
    equal times, of which a viewer takes one.
    """

    name: str
    kind: Kind
    codec: str
    timescale: int
    width: int | None = None
    height: int | None = None
    framerate: float | None = None
    samplerate: int | None = None
    channels: int | None = None
    extradata: bytes | None = None
    bitrate: int | None = None
    reorder_ms: int = 0
    layers: int = 1
    alt_group: int | None = None

    def to_us(self, ticks: int) -> int:
        """Convert ticks of this track to microseconds, rounded to nearest."""
        return (ticks * MICROSECONDS + self.timescale // 2) // self.timescale


@dataclass(frozen=True, slots=True)
class Frame:
    """One encoded frame of a source, in decode order. Times in ticks of its track's timescale.

    ``group_start`` asks the publisher to open the next group with this frame. ``capture_time_us`` is
    the wall clock (microseconds since the Unix epoch) when the picture or sound was made, if the source
    knows it; otherwise the publisher stamps the frame when its turn comes.
    """

    track: str
    dts: int
    pts: int
    duration: int
    keyframe: bool
    data: bytes
    group_start: bool
    capture_time_us: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One encoded frame as a viewer gets it out of an object. Times in ticks of its track's timescale.

    ``dts`` is ``None`` and ``duration`` 0 where the packaging does not carry them.
    """

    dts: int | None
    pts: int
    duration: int
    keyframe: bool
    data: bytes
