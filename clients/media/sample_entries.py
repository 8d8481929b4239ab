"""The sample description (``stsd``) of a track: which decoder, with which configuration.

One small table per codec family, written and read by the same names. Sources: ISO/IEC 14496-12 8.5.2
and 12, 14496-15 5.4, 14496-14 5.6, "VP Codec ISO Media File Format Binding", "AV1 Codec ISO Media File
Format Binding", "Encapsulation of Opus in ISO Base Media File Format".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from farcast.clients.media import codecs
from farcast.clients.media.boxes import BoxReader, box, find_box, full_box, iter_boxes
from farcast.clients.media.errors import MediaError
from farcast.clients.media.tracks import Kind, TrackInfo

# family -> (sample entry, configuration box)
_WRITTEN: dict[codecs.Family, tuple[bytes, bytes]] = {
    "h264": (b"avc1", b"avcC"),
    "hevc": (b"hvc1", b"hvcC"),
    "vp9": (b"vp09", b"vpcC"),
    "av1": (b"av01", b"av1C"),
    "aac": (b"mp4a", b"esds"),
    "opus": (b"Opus", b"dOps"),
}
_READ: dict[bytes, tuple[codecs.Family, bytes]] = {
    entry: (family, config) for family, (entry, config) in _WRITTEN.items()
} | {b"avc3": ("h264", b"avcC"), b"hev1": ("hevc", b"hvcC")}

_VIDEO_ENTRY_BYTES = 78


@dataclass(frozen=True, slots=True)
class SampleEntry:
    """What a sample description says; ``extradata`` as in :class:`TrackInfo`."""

    kind: Kind
    codec: str
    extradata: bytes
    width: int | None = None
    height: int | None = None
    samplerate: int | None = None
    channels: int | None = None


def write_stsd(track: TrackInfo) -> bytes:
    """The ``stsd`` box of a track. Raises :class:`MediaError` if its codec has no sample entry here."""
    family = codecs.family_of(track.codec)
    if family is None or track.extradata is None:
        raise MediaError(f"track {track.name}: no MP4 sample description for {track.codec}")
    name = _WRITTEN[family][0]
    config = _write_config(family, track.extradata)
    head = _video_entry(track) if track.kind == "video" else _audio_entry(track)
    return full_box(b"stsd", 0, 0, struct.pack(">I", 1), box(name, head, config))


def read_stsd(data: bytes, start: int, end: int) -> SampleEntry:
    """Parse the payload of an ``stsd`` box. Raises :class:`MediaError`."""
    for name, _, payload, stop in iter_boxes(data, start + 8, end):
        if name not in _READ:
            raise MediaError(f"MP4 sample entry {name!r} is not one that can be played")
        family, config_name = _READ[name]
        entry = BoxReader(data, payload, stop)
        if family in ("aac", "opus"):
            return _read_audio(entry, family, data, stop)
        return _read_video(entry, family, config_name, data, stop)
    raise MediaError("MP4 box stsd is empty")


def _video_entry(track: TrackInfo) -> bytes:
    size = struct.pack(">HH", track.width or 0, track.height or 0)
    return (
        b"\x00" * 6
        + b"\x00\x01"
        + b"\x00" * 16
        + size
        + struct.pack(">III", 0x480000, 0x480000, 0)
        + b"\x00\x01"
        + b"\x00" * 32
        + b"\x00\x18\xff\xff"
    )


def _audio_entry(track: TrackInfo) -> bytes:
    rate = min(track.samplerate or 0, 0xFFFF) << 16
    return b"\x00" * 6 + b"\x00\x01" + b"\x00" * 8 + struct.pack(">HHII", track.channels or 2, 16, 0, rate)


def _write_config(family: codecs.Family, extradata: bytes) -> bytes:
    if family == "aac":
        return _esds(extradata)
    return box(_WRITTEN[family][1], codecs.opus_head_to_dops(extradata) if family == "opus" else extradata)


def _esds(config: bytes) -> bytes:
    specific = _descriptor(5, config)
    decoder = _descriptor(4, b"\x40\x15" + b"\x00" * 11 + specific)
    return full_box(b"esds", 0, 0, _descriptor(3, b"\x00\x00\x00" + decoder + _descriptor(6, b"\x02")))


def _descriptor(tag: int, payload: bytes) -> bytes:
    size = len(payload)
    high = (size >> shift & 0x7F | 0x80 for shift in (21, 14, 7))
    return bytes((tag, *high, size & 0x7F)) + payload


def _read_video(
    entry: BoxReader, family: codecs.Family, config_name: bytes, data: bytes, stop: int
) -> SampleEntry:
    entry.take(24)
    width, height = entry.uint(2), entry.uint(2)
    entry.take(_VIDEO_ENTRY_BYTES - 28)
    start, end = find_box(data, entry.offset, stop, config_name)
    extradata = data[start:end]
    return SampleEntry("video", codecs.codec_string(family, extradata), extradata, width, height)


def _read_audio(entry: BoxReader, family: codecs.Family, data: bytes, stop: int) -> SampleEntry:
    entry.take(16)
    channels = entry.uint(2)
    entry.take(6)
    rate = entry.uint(4) >> 16
    if family == "opus":
        start, end = find_box(data, entry.offset, stop, b"dOps")
        extradata, rate = codecs.dops_to_opus_head(data[start:end]), codecs.OPUS_RATE
    else:
        start, end = find_box(data, entry.offset, stop, b"esds")
        extradata = _read_esds(BoxReader(data, start, end))
    codec = codecs.codec_string(family, extradata)
    return SampleEntry("audio", codec, extradata, samplerate=rate, channels=channels)


def _read_esds(reader: BoxReader) -> bytes:
    """The AudioSpecificConfig of an ``esds`` payload (ISO/IEC 14496-1, 7.2.6)."""
    reader.version_and_flags()
    fixed = {3: 3, 4: 13}
    while reader.remaining:
        tag, size = reader.uint(1), 0
        for _ in range(4):
            byte = reader.uint(1)
            size = size << 7 | byte & 0x7F
            if not byte & 0x80:
                break
        if tag == 5:
            return reader.take(size)
        if tag == 3 and reader.remaining >= 3:
            _skip_es_fields(reader)
        else:
            reader.take(fixed.get(tag, size))
    raise MediaError("MP4 box esds holds no AudioSpecificConfig")


def _skip_es_fields(reader: BoxReader) -> None:
    reader.take(2)
    flags = reader.uint(1)
    if flags & 0x80:
        reader.take(2)
    if flags & 0x40:
        reader.take(reader.uint(1))
    if flags & 0x20:
        reader.take(2)
