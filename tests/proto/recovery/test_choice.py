"""What is told of repair on a link: the row that the datapath takes, and its rounds, bytes and misses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.proto.recovery.choice import choose, row_for
from farcast.proto.recovery.policy import Assumptions, table


def test_nothing_is_sent_where_nothing_is_lost() -> None:
    choice = choose(0.0, 1.0, 50.0)
    assert (choice.rounds, choice.extra, choice.missed) == ((), 0.0, 0.0)
    assert choice.text() == "50 ms, nothing lost: nothing is sent again"


def test_one_round_that_must_do_sends_more_than_what_was_lost() -> None:
    choice = choose(0.05, 3.0, 200.0)
    (only,) = choice.rounds
    assert only.row.essential[0] > 1
    assert only.after_ms == pytest.approx(1.125 * 200 + 12)
    assert choice.text().startswith("200 ms, 5.00% lost in runs of 3.0: one loss 4 times, 4 together in")


def test_bytes_and_misses_are_near_what_a_hop_was_measured_to_take() -> None:
    """`make bench-recovery`: 12.8, 27 and 64.5 % more bytes; at most 0.03 % of frames missed."""
    for loss, extra in ((0.05, 0.128), (0.1, 0.27), (0.2, 0.645)):
        choice = choose(loss, 3.0, 200.0)
        assert choice.extra == pytest.approx(extra, rel=0.25)
        assert choice.missed < 2e-3


def test_rounds_before_the_last_send_what_was_lost_once_more() -> None:
    choice = choose(0.02, 3.0, 50.0)
    assert len(choice.rounds) > 1
    assert choice.rounds[0].datagrams < choice.rounds[-1].datagrams
    assert "each loss once more" in choice.text()


def test_where_no_round_comes_in_time_every_loss_is_missed() -> None:
    choice = choose(0.05, 3.0, 300.0)
    assert choice.rounds == ()
    assert choice.extra == 0.0
    assert choice.missed > 0.1
    assert "every loss is missed" in choice.text()


def test_a_row_is_the_first_whose_bounds_hold_or_the_last() -> None:
    rows = table(Assumptions())
    assert row_for(rows, 0.5, 9.0, 400.0, 0.0) == rows[-1]
    taken = row_for(rows, 0.03, 3.0, 150.0, 100.0)
    assert taken.loss_ppm_max >= 30_000
    assert taken.rtt_us_max == 0
    assert taken.budget_ms_min <= 100


@settings(deadline=None)
@given(st.floats(0, 0.6), st.floats(1, 12), st.floats(1, 400))
def test_figures_are_shares_whatever_the_link(loss: float, burst: float, rtt_ms: float) -> None:
    choice = choose(loss, burst, rtt_ms)
    assert 0 <= choice.missed <= 1
    assert choice.extra >= 0
    assert all(0 <= one.fails <= 1 and one.datagrams >= 1 for one in choice.rounds)
    assert choice.text()
