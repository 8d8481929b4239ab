"""A certificate is renewed at a third of its life; what was not renewed becomes a louder concern."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.joining.renewal import RETRY_SECONDS_MAX, RETRY_SECONDS_MIN, Life

DAY = 86_400.0


def test_a_week_is_renewed_in_its_third_day() -> None:
    life = Life(0.0, 7 * DAY)
    assert life.renew_unix_s(0.0) == 7 * DAY / 3
    assert life.renew_unix_s(1.0) < 7 * DAY * 0.4


def test_what_was_not_renewed_is_late_then_ending_then_ended() -> None:
    life = Life(1_000.0, 2_000.0)
    told = [life.concern(unix_s) for unix_s in (1_000.0, 1_499.0, 1_500.0, 1_900.0, 2_000.0, 9e9)]
    assert told == ["", "", "late", "ending", "ended", "ended"]


@given(st.floats(0, 4e9), st.floats(-10, 4e9), st.floats(0, 1))
def test_renewal_is_within_the_first_two_fifths_and_retries_are_bounded(
    issued: float, seconds: float, uniform: float
) -> None:
    life = Life(issued, issued + seconds)
    assert issued <= life.renew_unix_s(uniform) <= issued + 0.4 * life.seconds
    assert RETRY_SECONDS_MIN <= life.retry_seconds <= RETRY_SECONDS_MAX
