"""The policy table: closed forms against known values, cost monotone, targets met."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto._core import HopPolicy
from farcast.proto.agent.repairs import policy_command
from farcast.proto.moqt.values import Recovery
from farcast.proto.recovery.policy import (
    ROUND_CHUNKS_MAX,
    ROUND_SYMBOLS_MAX,
    Assumptions,
    PolicyError,
    correlation,
    datagrams_for,
    failure,
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


@given(CHUNKS, LOSS, st.floats(0, 0.6), st.floats(1e-6, 0.1))
def test_a_round_meets_its_target_with_the_least_datagrams(
    chunks: int, loss: float, rho: float, target: float
) -> None:
    count = datagrams_for(chunks, loss, rho, target)
    assert chunks <= count <= ROUND_SYMBOLS_MAX
    if count < ROUND_SYMBOLS_MAX:
        assert loss * failure(chunks, count, loss, rho) <= target * (1 + 1e-9)
    if count > chunks:
        assert loss * failure(chunks, count - 1, loss, rho) > target


@given(CHUNKS, LOSS, st.floats(0, 0.5), st.floats(1.0, 3.0))
def test_a_stricter_target_never_costs_less(chunks: int, loss: float, rho: float, factor: float) -> None:
    assert datagrams_for(chunks, loss, rho, 1e-4 / factor) >= datagrams_for(chunks, loss, rho, 1e-4)


def test_cost_rises_with_loss_and_falls_a_chunk_with_the_size_of_the_round() -> None:
    for before, row in zip(table(), table()[1:], strict=False):
        if (before.burst_milli_max, before.rtt_us_max) == (row.burst_milli_max, row.rtt_us_max):
            assert all(a <= b for a, b in zip(before.essential, row.essential, strict=True))
        assert all(
            a < b for a, b in zip(row.essential, row.essential[1:], strict=False) if b < ROUND_SYMBOLS_MAX
        )
        assert all(d <= e for d, e in zip(row.disposable, row.essential, strict=True))


def test_hardly_any_loss_costs_one_copy() -> None:
    assert datagrams_for(1, 0.0005, 0.1, 1e-4) == 1


def test_the_datapath_takes_every_table_and_coded_rows_only_where_the_peer_offers_them() -> None:
    coded = policy_command(1, Recovery.FORWARD_ERROR_CORRECTION, Assumptions())
    plain = policy_command(1, Recovery.RETRANSMISSION, Assumptions())
    assert coded != plain
    assert plain == policy_command(1, Recovery.NONE, Assumptions(coded=False))


def test_a_row_that_cannot_be_is_refused_with_its_number() -> None:
    row = (1_000_000, 0, 0, 0, 5_000, 0, 0, True, 1, [1] * 16, [1] * 16)
    with pytest.raises(ValueError, match="row 0: symbols for k chunks must be from k to 64"):
        HopPolicy([row])


@pytest.mark.parametrize("wrong", [{"target_essential": 0.0}, {"spacing_ms": 0.0}, {"budget_ms": 0}])
def test_what_cannot_be_assumed_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(PolicyError, match=next(iter(wrong))):
        Assumptions(**wrong)  # type: ignore[arg-type]
