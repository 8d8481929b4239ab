"""Join tokens: what is written is read, and anything else is refused in a sentence without the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.joining.tokens import PREFIX, BadJoinToken, JoinToken, decode_join_token

SECRET = b"\xabS" * 16
TOKEN = JoinToken(
    ("c1.example:4440", "[::1]:4440"), b"\7" * 32, "sin", "sin-1", "0123456789abcdef", SECRET, 99
)


def test_what_is_written_is_read() -> None:
    assert decode_join_token(TOKEN.encode()) == TOKEN
    assert decode_join_token(f"  {TOKEN.encode()}\n") == TOKEN


def test_a_token_shows_its_secret_nowhere_but_in_its_text() -> None:
    assert SECRET.hex() not in repr(TOKEN)
    assert repr(SECRET) not in repr(TOKEN)


@given(st.integers(min_value=0, max_value=len(TOKEN.encode()) - 1))
def test_a_token_that_is_cut_off_is_refused_without_being_told(length: int) -> None:
    text = TOKEN.encode()[:length]
    with pytest.raises(BadJoinToken) as caught:
        decode_join_token(text)
    assert len(text) < 12 or text not in str(caught.value)


@given(st.text(max_size=200))
def test_anything_else_is_refused_and_never_raises_otherwise(text: str) -> None:
    for given_text in (text, PREFIX + text):
        with pytest.raises(BadJoinToken):
            decode_join_token(given_text)


def test_a_token_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadJoinToken, match="4096 at most"):
        decode_join_token(PREFIX + "A" * 5_000)
