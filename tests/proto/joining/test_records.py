"""The join exchange: records survive their frames, and no bytes of a peer raise anything but `BadMessage`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.control.codec import BadMessage
from farcast.proto.joining.records import (
    Greeting,
    JoinAnswer,
    JoinRequest,
    decode_answer,
    decode_greeting,
    decode_request,
    encode_joining,
    joining_framer,
)

REQUEST = JoinRequest(token_id="0123456789abcdef", secret=b"hush hush", request=b"csr", node_id="sin-1")


def body(data: bytes) -> bytes:
    framer = joining_framer()
    framer.push(data)
    found = framer.next()
    assert found is not None
    return found


def test_records_survive_their_frames() -> None:
    answer = JoinAnswer(certificate=b"der", region="sin", node_id="sin-1")
    assert decode_request(body(encode_joining(REQUEST))) == REQUEST
    assert decode_answer(body(encode_joining(answer))) == answer
    assert decode_greeting(body(encode_joining(Greeting(authority=b"der")))).authority == b"der"
    assert "hush" not in repr(REQUEST)


@given(st.binary(max_size=300))
def test_bytes_of_a_peer_raise_nothing_else(data: bytes) -> None:
    for decode in (decode_request, decode_answer, decode_greeting):
        try:
            decode(data)
        except BadMessage:
            continue


@pytest.mark.parametrize(
    "answer", [JoinAnswer(), JoinAnswer(certificate=b"der"), JoinAnswer(node_id="sin-1", region="sin")]
)
def test_an_answer_is_a_certificate_or_a_reason(answer: JoinAnswer) -> None:
    with pytest.raises(BadMessage, match="neither certificate nor refusal"):
        decode_answer(body(encode_joining(answer)))


def test_a_message_that_is_too_long_is_refused_before_it_is_held() -> None:
    framer = joining_framer()
    framer.push((1 << 20).to_bytes(4, "big"))
    with pytest.raises(BadMessage):
        framer.next()
