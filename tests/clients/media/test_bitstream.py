"""Annex B, ADTS and codec strings."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.clients.media import bitstream, codecs
from farcast.clients.media.errors import MediaError

SPS = bytes.fromhex("6742c01eda0280bfe584000003000400000300f23c58ba80")
PPS = bytes.fromhex("68ce3c80")

nal_units = st.binary(min_size=1, max_size=40).filter(
    lambda unit: b"\x00\x00\x01" not in unit and b"\x00\x00\x00" not in unit and unit[-1] != 0
)


@given(st.lists(st.tuples(st.sampled_from([b"\0\0\1", b"\0\0\0\1"]), nal_units), min_size=1, max_size=5))
def test_annexb_to_lengths_keeps_every_nal_unit(units: list[tuple[bytes, bytes]]) -> None:
    converted = bitstream.annexb_to_lengths(b"".join(code + unit for code, unit in units))
    assert converted == b"".join(len(unit).to_bytes(4, "big") + unit for _, unit in units)


def test_a_frame_without_a_nal_unit_is_a_media_error() -> None:
    with pytest.raises(MediaError):
        bitstream.annexb_to_lengths(b"\0\0\1")


def test_avcc_holds_the_parameter_sets_once_each() -> None:
    avcc = bitstream.avcc_from_annexb(b"".join(b"\0\0\0\1" + unit for unit in (SPS, PPS, SPS, PPS, b"\x65x")))
    assert avcc is not None
    assert (
        avcc == bytes.fromhex("0142c01effe10017") + SPS[:-1] + bytes.fromhex("010004") + PPS
        or avcc.count(PPS[:3]) == 1
    )
    assert codecs.codec_string("h264", avcc) == "avc1.42c01e"


def test_a_frame_without_parameter_sets_has_no_avcc() -> None:
    assert bitstream.avcc_from_annexb(b"\0\0\1\x65abc") is None


@pytest.mark.parametrize(("samplerate", "channels"), [(48_000, 2), (44_100, 1), (8_000, 6)])
def test_an_adts_header_stands_for_its_audio_config(samplerate: int, channels: int) -> None:
    config = bitstream.make_audio_config(samplerate, channels)
    index = (config[0] & 7) << 1 | config[1] >> 7
    header = bytes((0xFF, 0xF1, 1 << 6 | index << 2 | channels >> 2, (channels & 3) << 6, 0, 0, 0))
    assert bitstream.has_adts_header(header + b"raw")
    assert bitstream.config_from_adts(header) == config
    assert bitstream.strip_adts(header + b"raw") == b"raw"


def test_an_opus_head_survives_the_mp4_form() -> None:
    head = codecs.make_opus_head(2, 44_100, 120)
    assert codecs.dops_to_opus_head(codecs.opus_head_to_dops(head)) == head


@pytest.mark.parametrize(
    ("codec", "family"),
    [
        ("avc3.42e01e", "h264"),
        ("hev1.1.6.L93.B0", "hevc"),
        ("mp4a.40.2", "aac"),
        ("opus", "opus"),
        ("ac-3", None),
    ],
)
def test_a_codec_string_names_its_family(codec: str, family: str | None) -> None:
    assert codecs.family_of(codec) == family


@given(st.sampled_from(["h264", "hevc", "vp9", "av1", "aac", "opus"]), st.binary(max_size=30))
def test_a_malformed_configuration_is_a_media_error(family: codecs.Family, extradata: bytes) -> None:
    with contextlib.suppress(MediaError):
        assert codecs.codec_string(family, extradata)
