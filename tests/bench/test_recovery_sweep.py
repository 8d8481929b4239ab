"""The totals of the sweep: ours beside one mix for all cells, and beside the best mix of each."""

from __future__ import annotations

import pytest
from bench.recovery_sweep import GOALS, TARGET, Cell, Compared, Found, totals, unmet
from hypothesis import given
from hypothesis import strategies as st

EASY = Cell(loss=2, rtt_ms=50, burst=1, budget_ms=400)
HARD = Cell(loss=20, rtt_ms=200, burst=3, budget_ms=400)
WITHOUT_ROUND = Cell(loss=2, rtt_ms=200, burst=1, budget_ms=250)
SHARE = st.floats(0, 1)


def compared(cell: Cell, ours: tuple[float, float], *mixes: tuple[float, float]) -> Compared:
    """Shares missed and bytes, of ours and of mixes a, b, …"""
    named = (Found(name, *figures) for name, figures in zip("abc", mixes, strict=False))
    return Compared(cell, Found("ours", *ours), tuple(named))


def test_one_mix_is_judged_by_its_sums_and_the_best_of_each_cell_by_hindsight() -> None:
    # a is best where it is easy and misses where it is hard; b never misses and always costs.
    found = [
        compared(EASY, (0.0, 0.04), (0.0, 0.02), (0.0, 0.5)),
        compared(HARD, (0.002, 0.46), (0.04, 0.3), (0.0, 0.5)),
    ]
    total = totals(found)
    assert (total["one_mix_as_cheap"], total["one_mix_missed_ratio"]) == ("a", 0.05)
    assert (total["one_mix_as_good"], total["one_mix_bytes_ratio"]) == ("b", 0.5)
    assert (total["missed_ratio"], total["bytes_ratio"]) == (0.05, round(0.5 / 0.52, 3))


def test_a_mix_is_as_good_that_misses_no_more_than_the_target_where_ours_is_below_it() -> None:
    total = totals([compared(EASY, (0.0, 0.1), (TARGET, 0.2)), compared(HARD, (0.0, 0.1), (TARGET, 0.2))])
    assert (total["one_mix_as_good"], total["one_mix_bytes_ratio"]) == ("a", 0.5)
    total = totals([compared(EASY, (0.0, 0.1), (2.1 * TARGET, 0.2)), compared(HARD, (0.0, 0.1), (0.0, 0.2))])
    assert total["one_mix_as_good"] is None


def test_cells_in_which_no_round_fits_are_in_no_total() -> None:
    held = [compared(EASY, (0.001, 0.1), (0.01, 0.1))]
    other = compared(WITHOUT_ROUND, (0.9, 0.9), (0.0, 0.0))
    assert totals([*held, other]) == totals(held)


def test_where_no_one_mix_does_it_the_total_is_null_and_the_goal_is_not_reached() -> None:
    total = totals([compared(EASY, (0.0, 0.1), (0.5, 0.2))])
    assert {total[key] for key in GOALS} == {None}
    assert unmet(total) == [f"{key}: no one mix does it" for key in GOALS]


def test_a_mix_that_misses_nothing_for_less_is_not_hidden() -> None:
    total = totals([compared(EASY, (0.001, 0.1), (0.0, 0.05))])
    assert total["one_mix_missed_ratio"] is None
    assert total["one_mix_bytes_ratio"] == 2.0
    assert len(unmet(total)) == len(GOALS)


@given(st.lists(st.tuples(SHARE, SHARE, SHARE, SHARE), min_size=1, max_size=6))
def test_beside_itself_ours_is_never_better(figures: list[tuple[float, float, float, float]]) -> None:
    total = totals([compared(EASY, (a, b), (a, b), (c, d)) for a, b, c, d in figures])
    ratios = (total[key] for key in (*GOALS, "missed_ratio", "bytes_ratio"))
    assert all(ratio is None or float(ratio) >= 1 for ratio in ratios)


@pytest.mark.parametrize("goal", list(GOALS))
def test_a_goal_is_reached_up_to_its_bound(goal: str) -> None:
    reached = dict(GOALS)
    assert unmet(reached) == []
    assert unmet(reached | {goal: GOALS[goal] + 0.001}) != []
