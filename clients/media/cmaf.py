"""CMAF packaging: one init segment per track, one ``moof`` + ``mdat`` per frame.

An object is a fragment of exactly one sample, so that a frame goes out when it is encoded::

    moof
      mfhd                sequence number
      traf
        tfhd              track id, default-base-is-moof
        tfdt              decode time, 64 bits
        trun              one sample: duration, size, flags, signed composition offset
    mdat                  the frame, byte for byte

That costs 112 bytes a frame. The parser reads any fragment with this structure: several samples, several
``moof``/``mdat`` pairs in an object, defaults from ``tfhd`` or ``trex``, unknown boxes in between.
Sources: ISO/IEC 14496-12 8.8, ISO/IEC 23000-19, draft-ietf-moq-cmsf.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

from farcast.clients.media.boxes import BoxReader, box, find_box, full_box, iter_boxes
from farcast.clients.media.errors import MediaError
from farcast.clients.media.sample_entries import read_stsd, write_stsd
from farcast.clients.media.tracks import Frame, Sample, TrackInfo

SAMPLES_PER_OBJECT_MAX = 10_000
"""Most samples read out of one object."""

_TRACK_ID = 1
_SYNC_FLAGS = 0x0200_0000
_NON_SYNC_FLAGS = 0x0101_0000
_NON_SYNC_BIT = 0x0001_0000
_TRUN_FLAGS = 0x000F01
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


@dataclass(frozen=True, slots=True)
class InitSegment:
    """What a viewer needs of an init segment: the track and the sample defaults of its ``trex``."""

    track: TrackInfo
    default_duration: int = 0
    default_size: int = 0
    default_flags: int = 0


@dataclass(frozen=True, slots=True)
class _Defaults:
    duration: int
    size: int
    flags: int
    base: int


def write_init(track: TrackInfo) -> bytes:
    """``ftyp`` + ``moov`` of one track. Raises :class:`MediaError` if its codec cannot be described."""
    ftyp = box(b"ftyp", b"iso6", struct.pack(">I", 1), b"iso6", b"cmfc", b"mp41")
    mvhd = full_box(
        b"mvhd", 0, 0, struct.pack(">IIIIIH", 0, 0, 1000, 0, 0x10000, 0x100), b"\x00" * 10, _MATRIX,
        b"\x00" * 24, struct.pack(">I", _TRACK_ID + 1),
    )  # fmt: skip
    trex = full_box(b"trex", 0, 0, struct.pack(">IIIII", _TRACK_ID, 1, 0, 0, 0))
    return ftyp + box(b"moov", mvhd, _trak(track), box(b"mvex", trex))


def read_init(data: bytes, name: str) -> InitSegment:
    """Parse the init segment of a track called ``name``. Raises :class:`MediaError`."""
    moov = find_box(data, 0, len(data), b"moov")
    mdia = find_box(data, *moov, b"trak", b"mdia")
    mdhd = BoxReader(data, *find_box(data, *mdia, b"mdhd"))
    version, _ = mdhd.version_and_flags()
    mdhd.take(16 if version == 1 else 8)
    timescale = mdhd.uint(4)
    if timescale == 0:
        raise MediaError(f"track {name}: timescale 0 in its init segment")
    entry = read_stsd(data, *find_box(data, *mdia, b"minf", b"stbl", b"stsd"))
    track = TrackInfo(
        name, entry.kind, entry.codec, timescale, entry.width, entry.height, None,
        entry.samplerate, entry.channels, entry.extradata,
    )  # fmt: skip
    return _with_trex(InitSegment(track), data, moov)


def write_fragment(frame: Frame, sequence_number: int) -> bytes:
    """One frame as ``moof`` + ``mdat``.

    Raises :class:`MediaError` on times that the boxes cannot hold: a negative decode time, more than 32 bits
    of duration or of distance between decoding and presentation.
    """
    try:
        return _pack_fragment(frame, sequence_number)
    except struct.error:
        times = f"dts {frame.dts}, pts {frame.pts}, duration {frame.duration}"
        raise MediaError(f"track {frame.track}: a frame with {times} does not fit MP4") from None


def read_fragments(data: bytes, init: InitSegment) -> list[Sample]:
    """All samples of an object, in order. Raises :class:`MediaError` on anything malformed."""
    samples: list[Sample] = []
    for kind, start, payload, end in iter_boxes(data, 0, len(data)):
        if kind == b"moof":
            _read_moof(data, start, payload, end, init, samples)
    if not samples:
        raise MediaError("MP4 object without a sample")
    return samples


def _pack_fragment(frame: Frame, sequence_number: int) -> bytes:
    flags = _SYNC_FLAGS if frame.keyframe else _NON_SYNC_FLAGS
    mfhd = full_box(b"mfhd", 0, 0, struct.pack(">I", sequence_number & 0xFFFFFFFF))
    tfhd = full_box(b"tfhd", 0, 0x020000, struct.pack(">I", _TRACK_ID))
    tfdt = full_box(b"tfdt", 1, 0, struct.pack(">Q", frame.dts))
    # The trun is the last box of the moof: 36 bytes in all, then 8 of the mdat's header.
    moof_size = 8 + len(mfhd) + 8 + len(tfhd) + len(tfdt) + 36
    sample = (frame.duration, len(frame.data), flags, frame.pts - frame.dts)
    trun = full_box(b"trun", 1, _TRUN_FLAGS, struct.pack(">IiIIIi", 1, moof_size + 8, *sample))
    return box(b"moof", mfhd, box(b"traf", tfhd, tfdt, trun)) + box(b"mdat", frame.data)


def _trak(track: TrackInfo) -> bytes:
    size = struct.pack(">II", (track.width or 0) << 16, (track.height or 0) << 16)
    volume = 0x0100 if track.kind == "audio" else 0
    tkhd = full_box(
        b"tkhd", 0, 7, struct.pack(">IIIII", 0, 0, _TRACK_ID, 0, 0), b"\x00" * 8,
        struct.pack(">HHHH", 0, 0, volume, 0), _MATRIX, size,
    )  # fmt: skip
    mdhd = full_box(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, track.timescale, 0, 0x55C4, 0))
    handler = b"vide" if track.kind == "video" else b"soun"
    hdlr = full_box(b"hdlr", 0, 0, b"\x00" * 4, handler, b"\x00" * 12, b"farcast\x00")
    return box(b"trak", tkhd, box(b"mdia", mdhd, hdlr, _minf(track)))


def _minf(track: TrackInfo) -> bytes:
    if track.kind == "video":
        header = full_box(b"vmhd", 0, 1, b"\x00" * 8)
    else:
        header = full_box(b"smhd", 0, 0, b"\x00" * 4)
    dref = full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1))
    empty = [full_box(name, 0, 0, b"\x00" * 4) for name in (b"stts", b"stsc", b"stco")]
    stsz = full_box(b"stsz", 0, 0, b"\x00" * 8)
    return box(b"minf", header, box(b"dinf", dref), box(b"stbl", write_stsd(track), *empty, stsz))


def _with_trex(init: InitSegment, data: bytes, moov: tuple[int, int]) -> InitSegment:
    for kind, _, payload, end in iter_boxes(data, *moov):
        if kind != b"mvex":
            continue
        trex = BoxReader(data, *find_box(data, payload, end, b"trex"))
        trex.version_and_flags()
        trex.take(8)
        return replace(
            init, default_duration=trex.uint(4), default_size=trex.uint(4), default_flags=trex.uint(4)
        )
    return init


def _read_moof(
    data: bytes, moof: int, start: int, end: int, init: InitSegment, samples: list[Sample]
) -> None:
    for kind, _, payload, stop in iter_boxes(data, start, end):
        if kind == b"traf":
            _read_traf(data, moof, end, (payload, stop), init, samples)


def _read_traf(
    data: bytes, moof: int, moof_end: int, bounds: tuple[int, int], init: InitSegment, samples: list[Sample]
) -> None:
    defaults = _read_tfhd(BoxReader(data, *find_box(data, *bounds, b"tfhd")), init, moof)
    tfdt = BoxReader(data, *find_box(data, *bounds, b"tfdt"))
    version, _ = tfdt.version_and_flags()
    dts = tfdt.uint(8 if version == 1 else 4)
    position = _first_mdat(data, moof_end)
    for kind, _, payload, stop in iter_boxes(data, *bounds):
        if kind == b"trun":
            dts, position = _read_trun(BoxReader(data, payload, stop), data, defaults, dts, position, samples)


def _read_tfhd(tfhd: BoxReader, init: InitSegment, moof: int) -> _Defaults:
    _, flags = tfhd.version_and_flags()
    tfhd.take(4)
    base = tfhd.uint(8) if flags & 0x1 else moof
    if flags & 0x2:
        tfhd.take(4)
    duration = tfhd.uint(4) if flags & 0x8 else init.default_duration
    size = tfhd.uint(4) if flags & 0x10 else init.default_size
    sample_flags = tfhd.uint(4) if flags & 0x20 else init.default_flags
    return _Defaults(duration, size, sample_flags, base)


def _first_mdat(data: bytes, start: int) -> int:
    for kind, _, payload, _end in iter_boxes(data, start, len(data)):
        if kind == b"mdat":
            return payload
    raise MediaError("MP4 box mdat is missing")


def _read_trun(
    trun: BoxReader, data: bytes, defaults: _Defaults, dts: int, position: int, samples: list[Sample]
) -> tuple[int, int]:
    """Append the samples of one run; returns decode time and data position behind it."""
    _, flags = trun.version_and_flags()
    count = trun.uint(4)
    if len(samples) + count > SAMPLES_PER_OBJECT_MAX:
        raise MediaError(f"more than {SAMPLES_PER_OBJECT_MAX} samples in one object")
    if flags & 0x1:
        position = defaults.base + trun.sint(4)
    first_flags = trun.uint(4) if flags & 0x4 else None
    for index in range(count):
        duration = trun.uint(4) if flags & 0x100 else defaults.duration
        size = trun.uint(4) if flags & 0x200 else defaults.size
        sample_flags = trun.uint(4) if flags & 0x400 else defaults.flags
        if index == 0 and first_flags is not None:
            sample_flags = first_flags
        offset = trun.sint(4) if flags & 0x800 else 0
        if position < 0 or position + size > len(data) or size == 0:
            raise MediaError("MP4 sample lies outside its object")
        keyframe = not sample_flags & _NON_SYNC_BIT
        payload = data[position : position + size]
        samples.append(Sample(dts, dts + offset, duration, keyframe, payload))
        dts += duration
        position += size
    return dts, position
