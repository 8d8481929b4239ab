"""The last line against secrets in messages."""

from __future__ import annotations

import io
import time

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from farcast.logs import configure_logs
from farcast.redaction import HIDDEN, looks_like_token, redact

JWT = "eyJhbGciOiJFZDI1NTE5In0.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"token {JWT} is bad", f"token {HIDDEN} is bad"),
        (f"unknown option --tokn={JWT}", f"unknown option --tokn={HIDDEN}"),
        (f"moqt://h/?a=1&jwt={JWT}&b=2", f"moqt://h/?a=1&jwt={HIDDEN}&b=2"),
        ("/?jwt=opaque-secret x", f"/?jwt={HIDDEN} x"),
        ("--join fcjoin1_eyJhIjpbIjEi-_== now", f"--join {HIDDEN} now"),
        ("Bearer farcast_" + "a" * 43, f"Bearer {HIDDEN}"),
        ('{"kty": "OKP", "d": "nWGxne_9WmC6hEr0kuwsx"}', '{"kty": "OKP", "d": "' + HIDDEN + '"}'),
        ("-----BEGIN PRIVATE KEY-----\nMIGH\n-----END", f"-----BEGIN PRIVATE KEY-----{HIDDEN}-----END"),
    ],
)
def test_what_would_let_somebody_in_is_hidden(text: str, said: str) -> None:
    assert redact(text) == said


@pytest.mark.parametrize(
    "text", ["", "node sin-1 joined", "farcast_ready 1.0", "key shop-1", "eyJ", "sha256 " + "ab" * 32]
)
def test_what_people_need_is_left(text: str) -> None:
    assert redact(text) == text


@given(st.text(alphabet="eyJ.jwt=?&fcjoin1_farcast_dPRIVATE KEY-\"': ", max_size=400))
def test_it_is_done_with_once(text: str) -> None:
    assert redact(redact(text)) == redact(text)


def test_a_line_that_is_made_to_be_slow_is_not() -> None:
    for unit in ("eyJ", "eyJaaaaaaaa.", "PRIVATE KEY-----", "?jwt=", "fcjoin1_", '"d":"'):
        started = time.perf_counter()
        redact(unit * 20_000)
        assert time.perf_counter() - started < 1.0, unit


def test_a_log_line_is_filtered_whatever_was_put_into_it() -> None:
    stream = io.StringIO()
    configure_logs("debug", stream)
    try:
        structlog.get_logger().debug("refused", url=f"https://h/?jwt={JWT}", token=JWT.encode())
    finally:
        structlog.reset_defaults()
    assert "c2ln" not in stream.getvalue()
    assert HIDDEN in stream.getvalue()


def test_a_token_is_told_from_its_id() -> None:
    assert looks_like_token(JWT)
    assert not looks_like_token("2bOtSLLs00r7BLjc")
