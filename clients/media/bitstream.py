"""Bitstream forms: Annex B and length-prefixed NAL units, ADTS and raw AAC.

MPEG transport streams and browsers' encoders give H.264 and HEVC as Annex B (start codes, parameter
sets in the stream) and AAC with an ADTS header on every frame. ISO BMFF, LOC's canonical form and the
recorder want length-prefixed NAL units with the parameter sets apart (``avcC``), and raw AAC with an
AudioSpecificConfig. NAL units keep their bytes and order; only the delimiters change.
"""

from __future__ import annotations

from collections.abc import Iterator

from farcast.clients.media.errors import MediaError

_START_CODE = b"\x00\x00\x01"
_H264_SPS = 7
_H264_PPS = 8
_H264_HIGH_PROFILES = frozenset((100, 110, 122, 144, 244, 44))
_ADTS_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


def is_annexb(data: bytes) -> bool:
    """Whether ``data`` starts with a start code."""
    return data.startswith((_START_CODE, b"\x00" + _START_CODE))


def split_annexb(data: bytes) -> Iterator[bytes]:
    """The NAL units of an Annex B access unit, without start codes and trailing zero bytes."""
    start = data.find(_START_CODE)
    while start >= 0:
        start += len(_START_CODE)
        end = data.find(_START_CODE, start)
        unit = (data[start:] if end < 0 else data[start:end]).rstrip(b"\x00")
        if unit:
            yield unit
        start = end


def annexb_to_lengths(data: bytes) -> bytes:
    """Replace start codes by 4-byte lengths. Raises :class:`MediaError` if there is no NAL unit."""
    converted = b"".join(len(unit).to_bytes(4, "big") + unit for unit in split_annexb(data))
    if not converted:
        raise MediaError("Annex B frame without a NAL unit")
    return converted


def avcc_from_annexb(data: bytes) -> bytes | None:
    """Build ``avcC`` (ISO/IEC 14496-15, 5.3.3.1) from the parameter sets in ``data``; None if it has none."""
    units = list(split_annexb(data))
    sps = _distinct(unit for unit in units if unit[0] & 0x1F == _H264_SPS and len(unit) >= 4)
    pps = _distinct(unit for unit in units if unit[0] & 0x1F == _H264_PPS)
    if not sps or not pps or len(sps) > 31 or len(pps) > 255:
        return None
    record = bytes((1, sps[0][1], sps[0][2], sps[0][3], 0xFF, 0xE0 | len(sps)))
    record += b"".join(len(unit).to_bytes(2, "big") + unit for unit in sps)
    record += bytes((len(pps),))
    record += b"".join(len(unit).to_bytes(2, "big") + unit for unit in pps)
    return record + _high_profile_fields(sps[0])


def has_adts_header(data: bytes) -> bool:
    """Whether an AAC frame starts with an ADTS sync word (layer bits zero)."""
    return len(data) >= 7 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0


def strip_adts(data: bytes) -> bytes:
    """The raw AAC frame behind its ADTS header (ISO/IEC 14496-3, 1.A.2)."""
    return data[7 if data[1] & 1 else 9 :]


def config_from_adts(data: bytes) -> bytes:
    """The AudioSpecificConfig an ADTS header stands for. Raises :class:`MediaError`."""
    object_type = (data[2] >> 6) + 1
    rate_index = data[2] >> 2 & 0xF
    channels = (data[2] & 1) << 2 | data[3] >> 6
    if rate_index >= len(_ADTS_RATES):
        raise MediaError(f"ADTS header with sampling rate index {rate_index}")
    return _pack_audio_config(object_type, rate_index, channels)


def make_audio_config(samplerate: int, channels: int) -> bytes:
    """An AAC-LC AudioSpecificConfig for a rate and a channel count. Raises :class:`MediaError`."""
    if samplerate not in _ADTS_RATES or not 1 <= channels <= 8 or channels == 7:
        raise MediaError(f"no AAC configuration for {samplerate} Hz, {channels} channels")
    return _pack_audio_config(2, _ADTS_RATES.index(samplerate), 7 if channels == 8 else channels)


def _pack_audio_config(object_type: int, rate_index: int, channels: int) -> bytes:
    return (object_type << 11 | rate_index << 7 | channels << 3).to_bytes(2, "big")


def _high_profile_fields(sps: bytes) -> bytes:
    """The chroma and depth fields that ``avcC`` carries for the High profiles, else nothing."""
    if sps[1] not in _H264_HIGH_PROFILES:
        return b""
    bits = _BitReader(sps[4:].replace(b"\x00\x00\x03", b"\x00\x00"))
    bits.read_ue()  # seq_parameter_set_id
    chroma = bits.read_ue()
    if chroma == 3:
        bits.read(1)  # separate_colour_plane_flag
    luma_depth, chroma_depth = bits.read_ue(), bits.read_ue()
    return bytes((0xFC | chroma & 3, 0xF8 | luma_depth & 7, 0xF8 | chroma_depth & 7, 0))


class _BitReader:
    """Reads bits and Exp-Golomb numbers, zeros behind the end."""

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data[:32].ljust(32, b"\x00"), "big")
        self._left = 256

    def read(self, count: int) -> int:
        self._left -= count
        return self._bits >> max(self._left, 0) & ((1 << count) - 1)

    def read_ue(self) -> int:
        zeros = 0
        while zeros < 31 and not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)


def _distinct(units: Iterator[bytes]) -> list[bytes]:
    return list(dict.fromkeys(units))
