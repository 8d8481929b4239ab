"""LOC packaging and the two raw containers of the hang catalog.

Three ways to put a time next to a raw frame:

``loc`` (draft-ietf-moq-loc-04)
    The payload is the frame and nothing else; time, timescale and decoder configuration are object
    properties (2, below). Frames are in decode order, but LOC knows no decode time: without one, a player
    can show B-frames, yet nobody can write the film into a file as it was. So we add two properties of our
    own, which other players ignore.
``hang-loc``
    What ``@moq`` players call ``loc``: they cannot see object properties, so the same properties stand in
    front of the frame: varint length, properties, frame.
``legacy``
    What ``@moq`` players call ``legacy``: varint microseconds, frame. An empty frame is a mark, not media.

Properties are pairs of type and value: an even type has an integer value, an odd one bytes (MoQT,
"Key-Value-Pair"). Here they are a mapping; whoever sends the object encodes them.
"""

from __future__ import annotations

from collections.abc import Mapping

from farcast.clients.media.errors import MediaError
from farcast.clients.media.tracks import MICROSECONDS, Frame, Sample, TrackInfo
from farcast.clients.media.varint import VARINT_MAX, read_varint

Properties = Mapping[int, int | bytes]

TIMESTAMP = 0x10
TIMESTAMP_DRAFT_03 = 0x06
TIMESCALE = 0x08
VIDEO_CONFIG = 0x0D
AUDIO_CONFIG = 0x0F

DECODE_LEAD = 0x38C6
"""Our property: presentation minus decode time, in ticks. Left out if zero."""
DURATION = 0x38C8
"""Our property: duration in ticks."""

PROPERTIES_MAX = 64
"""Most properties read from one ``hang-loc`` object."""


def write_loc(frame: Frame, track: TrackInfo) -> tuple[bytes, dict[int, int | bytes]]:
    """One frame as LOC: (payload, object properties). A group's first frame carries the configuration."""
    properties: dict[int, int | bytes] = {
        TIMESTAMP: frame.pts,
        TIMESCALE: track.timescale,
        DURATION: frame.duration,
    }
    if frame.pts != frame.dts:
        properties[DECODE_LEAD] = frame.pts - frame.dts
    if frame.group_start and track.extradata is not None:
        properties[VIDEO_CONFIG if track.kind == "video" else AUDIO_CONFIG] = track.extradata
    return frame.data, properties


def read_loc(payload: bytes, properties: Properties, keyframe: bool, timescale: int) -> list[Sample]:
    """Parse a LOC object into ticks of ``timescale``.

    ``keyframe`` is the caller's knowledge (the first object of a group is one). An object without a
    timestamp property is read as ``hang-loc``, which is what ``@moq`` publishers send under LOC's name.
    Raises :class:`MediaError`.
    """
    if TIMESTAMP not in properties and TIMESTAMP_DRAFT_03 not in properties:
        return read_hang_loc(payload, keyframe, timescale)
    return [_sample(payload, properties, keyframe, timescale)]


def read_hang_loc(payload: bytes, keyframe: bool, timescale: int) -> list[Sample]:
    """Parse an object of the hang catalog's ``loc`` container. Raises :class:`MediaError`."""
    size, offset = read_varint(payload, 0)
    if size > len(payload) - offset:
        raise MediaError("LOC properties are longer than their object")
    properties = _read_properties(payload[offset : offset + size])
    return [_sample(payload[offset + size :], properties, keyframe, timescale)]


def read_legacy(payload: bytes, keyframe: bool, timescale: int) -> list[Sample]:
    """Parse an object of the ``legacy`` container; empty for a mark. Raises :class:`MediaError`."""
    timestamp_us, offset = read_varint(payload, 0)
    if offset == len(payload):
        return []
    pts = _rescale(timestamp_us, MICROSECONDS, timescale)
    return [Sample(None, pts, 0, keyframe, payload[offset:])]


def config_of(properties: Properties) -> bytes | None:
    """The decoder configuration an object carries, if it does."""
    config = properties.get(VIDEO_CONFIG, properties.get(AUDIO_CONFIG))
    return config if isinstance(config, bytes) else None


def _sample(payload: bytes, properties: Properties, keyframe: bool, timescale: int) -> Sample:
    timestamp = _integer(properties, TIMESTAMP, _integer(properties, TIMESTAMP_DRAFT_03, None))
    if timestamp is None:
        raise MediaError("LOC object without a timestamp")
    if not payload:
        raise MediaError("LOC object without a frame")
    scale = _integer(properties, TIMESCALE, MICROSECONDS)
    if not scale:
        raise MediaError("LOC object with timescale 0")
    pts = _rescale(timestamp, scale, timescale)
    duration = _integer(properties, DURATION, None)
    if duration is None:
        return Sample(None, pts, 0, keyframe, payload)
    lead = _integer(properties, DECODE_LEAD, 0) or 0
    dts = pts - _rescale(lead, scale, timescale)
    return Sample(dts, pts, _rescale(duration, scale, timescale), keyframe, payload)


def _integer(properties: Properties, key: int, default: int | None) -> int | None:
    value = properties.get(key, default)
    return value if isinstance(value, int) else default


def _rescale(value: int, source: int, target: int) -> int:
    return value if source == target else (value * target + source // 2) // source


def _read_properties(data: bytes) -> dict[int, int | bytes]:
    properties: dict[int, int | bytes] = {}
    offset = kind = 0
    while offset < len(data):
        delta, offset = read_varint(data, offset)
        kind += delta
        if kind > VARINT_MAX or len(properties) >= PROPERTIES_MAX:
            raise MediaError("LOC object with too many properties")
        value, offset = read_varint(data, offset)
        if kind % 2 == 0:
            properties[kind] = value
        elif value > len(data) - offset:
            raise MediaError("LOC property is longer than its object")
        else:
            properties[kind] = data[offset : offset + value]
            offset += value
    return properties
