"""LOC and the hang catalog's raw containers."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.clients.media import loc
from farcast.clients.media.errors import MediaError
from farcast.clients.media.tracks import Frame, Sample, TrackInfo
from farcast.clients.media.varint import VARINT_MAX, read_varint, write_varint

TRACK = TrackInfo("video", "video", "avc1.42c01e", 90_000, extradata=b"config")


def in_hang_loc(pts_us: int, data: bytes) -> bytes:
    """A frame as browsers publish it, with a second property that means nothing to us."""
    properties = write_varint(loc.TIMESTAMP) + write_varint(pts_us) + write_varint(3) + b"\x02??"
    return write_varint(len(properties)) + properties + data


@given(
    dts=st.integers(0, 2**50), lead=st.integers(0, 10**6), duration=st.integers(0, 10**6),
    keyframe=st.booleans(), data=st.binary(min_size=1),
)  # fmt: skip
def test_loc_gives_a_frame_back_with_its_decode_time(
    dts: int, lead: int, duration: int, keyframe: bool, data: bytes
) -> None:
    frame = Frame("video", dts, dts + lead, duration, keyframe, data, keyframe)
    payload, properties = loc.write_loc(frame, TRACK)
    assert payload == data
    assert loc.read_loc(payload, properties, keyframe, 90_000) == [
        Sample(dts, dts + lead, duration, keyframe, data)
    ]


def test_the_configuration_travels_with_each_groups_first_frame_only() -> None:
    first = loc.write_loc(Frame("video", 0, 0, 1, True, b"x", True), TRACK)[1]
    second = loc.write_loc(Frame("video", 1, 1, 1, False, b"x", False), TRACK)[1]
    assert (loc.config_of(first), loc.config_of(second)) == (b"config", None)


def test_loc_without_our_properties_has_no_decode_time() -> None:
    properties = {loc.TIMESTAMP: 48_000, loc.TIMESCALE: 48_000}
    assert loc.read_loc(b"x", properties, True, 90_000) == [Sample(None, 90_000, 0, True, b"x")]


def test_loc_without_a_timescale_counts_microseconds() -> None:
    assert loc.read_loc(b"x", {loc.TIMESTAMP: 2_000_000}, True, 1000)[0].pts == 2000


def test_loc_without_object_properties_is_read_as_the_browsers_form() -> None:
    payload = in_hang_loc(1_000_000, b"frame")
    assert loc.read_loc(payload, {}, True, 90_000) == [Sample(None, 90_000, 0, True, b"frame")]


@given(st.integers(0, 2**40), st.binary(min_size=1))
def test_the_browsers_containers_give_a_frame_back(pts_us: int, data: bytes) -> None:
    expected = [Sample(None, pts_us, 0, True, data)]
    assert loc.read_legacy(write_varint(pts_us) + data, True, 1_000_000) == expected
    assert loc.read_hang_loc(in_hang_loc(pts_us, data), True, 1_000_000) == expected


def test_a_legacy_object_without_a_frame_is_a_mark() -> None:
    assert loc.read_legacy(write_varint(5), False, 1_000_000) == []


@settings(max_examples=300)
@given(st.binary(max_size=60), st.dictionaries(st.integers(0, 20), st.integers(0, 9) | st.binary(max_size=3)))
def test_garbage_is_read_or_is_a_media_error(payload: bytes, properties: dict[int, int | bytes]) -> None:
    for read in (loc.read_legacy, loc.read_hang_loc):
        with contextlib.suppress(MediaError):
            read(payload, True, 1000)
    with contextlib.suppress(MediaError):
        loc.read_loc(payload, properties, True, 1000)


@given(st.integers(0, VARINT_MAX))
def test_a_variable_length_integer_gives_its_value_back(value: int) -> None:
    encoded = write_varint(value)
    assert read_varint(encoded, 0) == (value, len(encoded))
    with pytest.raises(MediaError):
        read_varint(encoded[:-1], 0)
