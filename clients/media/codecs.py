"""Codec strings (RFC 6381 as used by WebCodecs) and decoder configurations.

A configuration is always the form that ISO BMFF carries (see :class:`TrackInfo`), whatever the source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from farcast.clients.media.errors import MediaError

Family = Literal["h264", "hevc", "vp9", "av1", "aac", "opus"]

OPUS_RATE = 48_000

_PREFIXES: tuple[tuple[str, Family], ...] = (
    ("avc1", "h264"),
    ("avc3", "h264"),
    ("hvc1", "hevc"),
    ("hev1", "hevc"),
    ("vp09", "vp9"),
    ("av01", "av1"),
    ("mp4a.40", "aac"),
    ("mp4a.67", "aac"),
    ("opus", "opus"),
)

# VP9 levels: (largest luma picture size, largest luma samples per second, level times ten).
_VP9_LEVELS = (
    (36_864, 829_440, 10),
    (73_728, 2_764_800, 11),
    (122_880, 4_608_000, 20),
    (245_760, 9_216_000, 21),
    (552_960, 20_736_000, 30),
    (983_040, 36_864_000, 31),
    (2_228_224, 83_558_400, 40),
    (2_228_224, 160_432_128, 41),
    (8_912_896, 311_951_360, 50),
    (8_912_896, 588_251_136, 51),
    (8_912_896, 1_176_502_272, 52),
)


def family_of(codec: str) -> Family | None:
    """The codec family of a codec string, or None if it is not one that can be carried."""
    for prefix, family in _PREFIXES:
        if codec == prefix or codec.startswith((prefix + ".", prefix + "-")):
            return family
    return None


def codec_string(family: Family, extradata: bytes) -> str:
    """The codec string a configuration stands for. Raises :class:`MediaError` if it is malformed."""
    return "opus" if family == "opus" else _STRING_READERS[family](extradata)


def make_vp9_config(profile: int, bit_depth: int, width: int, height: int, framerate: float) -> bytes:
    """A ``vpcC`` payload (VP codec ISO media file format binding, 1.0) with 4:2:0 colocated chroma."""
    rate = width * height * max(framerate, 1.0)
    level = next((lv for size, speed, lv in _VP9_LEVELS if width * height <= size and rate <= speed), 62)
    return b"\x01\x00\x00\x00" + bytes((profile, level, bit_depth << 4 | 1 << 1, 1, 1, 1, 0, 0))


def make_opus_head(channels: int, samplerate: int = OPUS_RATE, preskip: int = 312) -> bytes:
    """An OpusHead packet (RFC 7845, 5.1) of mapping family 0."""
    head = b"OpusHead" + bytes((1, channels)) + preskip.to_bytes(2, "little")
    return head + samplerate.to_bytes(4, "little") + b"\x00\x00\x00"


def opus_head_to_dops(head: bytes) -> bytes:
    """The ``dOps`` payload (Opus in ISO BMFF, 4.3.2) of an OpusHead. Raises :class:`MediaError`."""
    if len(head) < 19 or not head.startswith(b"OpusHead"):
        raise MediaError("Opus track without an OpusHead configuration")
    swapped = head[10:12][::-1] + head[12:16][::-1] + head[16:18][::-1]
    return b"\x00" + head[9:10] + swapped + head[18:]


def dops_to_opus_head(dops: bytes) -> bytes:
    """The OpusHead of a ``dOps`` payload. Raises :class:`MediaError`."""
    if len(dops) < 11:
        raise MediaError("dOps box too short")
    swapped = dops[2:4][::-1] + dops[4:8][::-1] + dops[8:10][::-1]
    return b"OpusHead\x01" + dops[1:2] + swapped + dops[10:]


def _h264_string(avcc: bytes) -> str:
    if len(avcc) < 7 or avcc[0] != 1:
        raise MediaError("H.264 track without an avcC configuration")
    return f"avc1.{avcc[1]:02x}{avcc[2]:02x}{avcc[3]:02x}"


def _hevc_string(hvcc: bytes) -> str:
    if len(hvcc) < 23 or hvcc[0] != 1:
        raise MediaError("HEVC track without an hvcC configuration")
    space = ("", "A", "B", "C")[hvcc[1] >> 6]
    tier = "H" if hvcc[1] & 0x20 else "L"
    compatibility = int(f"{int.from_bytes(hvcc[2:6], 'big'):032b}"[::-1], 2)
    constraints = hvcc[6:12].rstrip(b"\x00")
    tail = "".join(f".{byte:X}" for byte in constraints)
    return f"hvc1.{space}{hvcc[1] & 0x1F}.{compatibility:X}.{tier}{hvcc[12]}{tail}"


def _vp9_string(vpcc: bytes) -> str:
    if len(vpcc) < 12:
        raise MediaError("VP9 track without a vpcC configuration")
    return f"vp09.{vpcc[4]:02d}.{vpcc[5]:02d}.{vpcc[6] >> 4:02d}"


def _av1_string(av1c: bytes) -> str:
    if len(av1c) < 4 or av1c[0] != 0x81:
        raise MediaError("AV1 track without an av1C configuration")
    tier = "H" if av1c[2] & 0x80 else "M"
    high, twelve = av1c[2] & 0x40, av1c[2] & 0x20
    depth = 12 if high and twelve else 10 if high else 8
    return f"av01.{av1c[1] >> 5}.{av1c[1] & 0x1F:02d}{tier}.{depth:02d}"


def _aac_string(config: bytes) -> str:
    if len(config) < 2:
        raise MediaError("AAC track without an AudioSpecificConfig")
    object_type = config[0] >> 3
    if object_type == 31:
        object_type = 32 + ((config[0] & 7) << 3 | config[1] >> 5)
    return f"mp4a.40.{object_type}"


_STRING_READERS: dict[Family, Callable[[bytes], str]] = {
    "h264": _h264_string,
    "hevc": _hevc_string,
    "vp9": _vp9_string,
    "av1": _av1_string,
    "aac": _aac_string,
}
