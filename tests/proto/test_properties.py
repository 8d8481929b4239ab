"""Properties as the agent and the datapath exchange them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.properties import (
    CAPTURE_TIME,
    DEFAULT_PUBLISHER_PRIORITY,
    IMMUTABLE_PROPERTIES,
    MalformedProperties,
    Property,
    decode_properties,
    encode_properties,
    find_integer,
)


def test_capture_time_is_a_varint_behind_its_delta_coded_type() -> None:
    wire = encode_properties([(CAPTURE_TIME, 1_764_000_000_000_000), (DEFAULT_PUBLISHER_PRIORITY, 5)])
    assert wire.hex(" ", -2) == "0e05 78b6 c006 4459 4162 4000"
    assert decode_properties(wire) == (
        Property(DEFAULT_PUBLISHER_PRIORITY, 5),
        Property(CAPTURE_TIME, 1_764_000_000_000_000),
    )


def test_the_first_integer_of_a_type_is_found() -> None:
    properties = decode_properties(encode_properties([(CAPTURE_TIME, 7), (CAPTURE_TIME, 8), (3, b"x")]))
    assert find_integer(properties, CAPTURE_TIME) == 7
    assert find_integer(properties, 2) is None


def test_immutable_properties_are_not_looked_into() -> None:
    inner = b"\xff\xff not even pairs"
    wire = encode_properties([(IMMUTABLE_PROPERTIES, inner)])
    assert decode_properties(wire) == (Property(IMMUTABLE_PROPERTIES, inner),)


@given(st.binary(max_size=30))
def test_arbitrary_bytes_give_properties_or_are_malformed(data: bytes) -> None:
    try:
        properties = decode_properties(data)
    except MalformedProperties:
        return
    assert decode_properties(encode_properties(properties)) == properties


def test_truncated_properties_are_malformed() -> None:
    with pytest.raises(MalformedProperties):
        decode_properties(b"\x01\x05abc")
