"""The policy table: closed forms against known values, cost monotone, targets met."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto._core import HopPolicy
from farcast.proto.agent.repairs import policy_command
from farcast.proto.moqt.values import Recovery
from farcast.proto.recovery.policy import (
    BURSTS,
    ROUND_CHUNKS_MAX,
    ROUND_SYMBOLS_MAX,
    RTTS_MS,
    SLACK_MS,
    SPANS_MS,
    Assumptions,
    PolicyError,
    correlation,
    failure,
    frames_missed,
    percent_needed,
    rounds_in,
    table,
)

LOSS = st.floats(0.001, 0.5)
CHUNKS = st.integers(1, ROUND_CHUNKS_MAX)


def test_a_block_needs_the_parity_of_the_published_table() -> None:
    """10 chunks, 5 % in bursts of three: 15 symbols of parity for 1e-3 a block."""
    rho = correlation(0.05, 3.0, 1.0)
    assert failure(10, 25, 0.05, rho) <= 1e-3 < failure(10, 24, 0.05, rho)


def test_independent_losses_give_the_binomial_distribution() -> None:
    assert failure(3, 5, 0.05) == pytest.approx(10 * 0.05**3 * 0.95**2 + 5 * 0.05**4 * 0.95 + 0.05**5)


def test_rounds_in_a_budget_are_those_of_the_closed_form() -> None:
    assert [rounds_in(400, rtt) for rtt in (25, 100, 200, 300)] == [13, 3, 1, 1]


@given(CHUNKS, st.integers(0, 8), LOSS, st.floats(0, 0.9))
def test_a_further_datagram_never_makes_failure_likelier(
    chunks: int, further: int, loss: float, rho: float
) -> None:
    before, after = (failure(chunks, chunks + further + more, loss, rho) for more in (0, 1))
    assert -1e-9 <= after <= before + 1e-9 <= 1 + 1e-9


def test_each_row_costs_more_with_loss_and_less_a_chunk_in_larger_rounds() -> None:
    for before, row in zip(table(), table()[len(BURSTS) :], strict=False):
        same = (before.rtt_us_max, before.budget_ms_min, before.again)
        if same == (row.rtt_us_max, row.budget_ms_min, row.again):
            assert all(a <= b for a, b in zip(before.essential, row.essential, strict=True))
            assert before.small_copies <= row.small_copies
        assert all(
            a < b for a, b in zip(row.essential, row.essential[1:], strict=False) if b < ROUND_SYMBOLS_MAX
        )
        assert all(d <= e for d, e in zip(row.disposable, row.essential, strict=True))


@pytest.mark.parametrize("loss", [0.02, 0.05, 0.07])
def test_the_frames_missed_by_the_table_are_those_that_its_target_allows(loss: float) -> None:
    for target in (1e-4, 1e-3):
        assert frames_missed(Assumptions(target_essential=target), loss) <= target * (1 + 1e-6)


def test_a_looser_target_costs_less() -> None:
    costs = [percent_needed(Assumptions(target_essential=target), 0.1) for target in (1e-2, 1e-3, 1e-4)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


def test_where_another_round_fits_the_first_sends_each_chunk_once_at_common_loss() -> None:
    rows = [row for row in table() if row.rtt_us_max and row.loss_ppm_max <= 140_000]
    assert {row.essential for row in rows} == {tuple(range(1, ROUND_CHUNKS_MAX + 1))}
    assert {row.small_copies for row in rows} == {1}
    assert {row.rtt_us_max for row in rows} == {1_000 * rtt for rtt in RTTS_MS}


def test_a_round_is_over_within_what_is_left_of_the_budget() -> None:
    last = [row for row in table() if row.budget_ms_min and not row.rtt_us_max]
    assert {row.budget_ms_min for row in last} == {int(span) + SLACK_MS for span in SPANS_MS}
    assert all(row.span_us < 1_000 * row.budget_ms_min and row.collect_us < row.span_us for row in last)
    assert table()[-1].budget_ms_min == 0


def test_the_worst_link_gets_a_bounded_multiple() -> None:
    for row in table():
        assert all(n <= min(4 * k + 4, ROUND_SYMBOLS_MAX) for k, n in enumerate(row.essential, 1))


def test_the_datapath_takes_every_table_and_coded_rows_only_where_the_peer_offers_them() -> None:
    coded = policy_command(1, Recovery.FORWARD_ERROR_CORRECTION, Assumptions())
    plain = policy_command(1, Recovery.RETRANSMISSION, Assumptions())
    assert coded != plain
    assert plain == policy_command(1, Recovery.NONE, Assumptions(coded=False))


def test_a_row_that_cannot_be_is_refused_with_its_number() -> None:
    row = (1_000_000, 0, 0, 0, False, 5_000, 0, 0, True, 1, [1] * 16, [1] * 16)
    with pytest.raises(ValueError, match="row 0: symbols for k chunks must be from k to 64"):
        HopPolicy([row])


@pytest.mark.parametrize("wrong", [{"target_essential": 0.0}, {"spacing_ms": 0.0}, {"budget_ms": 0}])
def test_what_cannot_be_assumed_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(PolicyError, match=next(iter(wrong))):
        Assumptions(**wrong)  # type: ignore[arg-type]
