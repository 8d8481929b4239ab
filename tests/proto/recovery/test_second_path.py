"""The table of second paths: what repair cannot hide, what it cannot bring, the band between on and off."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto._core import SecondPathPolicy
from farcast.proto.agent.repairs import second_paths_command
from farcast.proto.recovery.policy import PLAIN, Assumptions, PolicyError, table
from farcast.proto.recovery.second_path import (
    STANCES,
    SecondPathRow,
    SecondPaths,
    late_ms,
    repair_share,
    residual,
    second_path_table,
)

ASSUMED = Assumptions()
DEFAULT = SecondPaths()
LIMITS = {
    "small_bps_max": 1,
    "tracks_max": 1,
    "percent_max": 100,
    "bps_max": 1,
    "clear_ms": 1_000,
    "runs_min": 1,
}


def stances(
    loss: float, rtt_ms: int, rise_ms: int = 0, wanted: SecondPaths = DEFAULT, assumed: Assumptions = ASSUMED
) -> tuple[str, str]:
    """The row for what was measured, looked up as the datapath does it."""

    def fits(row: SecondPathRow) -> bool:
        return (
            loss * 1e6 <= row.loss_ppm_max
            and (row.rtt_us_max == 0 or rtt_ms * 1_000 <= row.rtt_us_max)
            and (row.rise_us_max == 0 or rise_ms * 1_000 <= row.rise_us_max)
        )

    rows = second_path_table(wanted, assumed)
    row = next(filter(fits, rows), rows[-1])
    return row.small, row.large


def test_a_clean_hop_is_enough_at_any_distance() -> None:
    for rtt_ms in (5, 60, 115, 160, 250, 400, 900):
        assert stances(0.0, rtt_ms) == ("off", "off")
        assert stances(0.0005, rtt_ms) == ("off", "off")


def test_where_repair_is_seen_sound_takes_a_second_path_before_pictures_do() -> None:
    assert stances(0.02, 160) == ("on", "off")
    assert stances(0.10, 160) == ("on", "on")


def test_between_on_and_off_both_keep_what_they_have() -> None:
    assert stances(0.009, 160)[0] == "keep"
    assert stances(0.035, 160)[1] == "keep"
    assert stances(0.0, 160, 60) == ("keep", "keep")


def test_what_comes_later_and_later_takes_a_second_path_without_any_loss() -> None:
    assert stances(0.0, 60, 100) == ("on", "on")
    assert stances(0.0, 60, 40) == ("off", "off")


def test_where_no_round_of_repairs_fits_in_the_budget_every_loss_counts() -> None:
    assert residual(ASSUMED, 0.05, 300) == 0.05
    assert residual(ASSUMED, 0.05, 150) <= 2e-4
    assert stances(0.06, 300) == ("on", "on")


def test_where_repair_costs_as_much_as_a_second_path_there_is_one_at_any_distance() -> None:
    assert repair_share(ASSUMED, 0.5, 30) > DEFAULT.extra_max
    assert stances(0.7, 30) == ("on", "on")


def test_what_may_have_none_has_none() -> None:
    assert second_path_table(replace(DEFAULT, which="off")) == ()
    for loss in (0.0, 0.02, 0.1, 0.9):
        assert stances(loss, 160, wanted=replace(DEFAULT, which="audio"))[1] == "off"
    assert stances(0.0, 10, wanted=replace(DEFAULT, which="always")) == ("on", "on")


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 1_000), st.integers(0, 300))
def test_more_loss_is_never_less_reason(a: float, b: float, rtt_ms: int, rise_ms: int) -> None:
    less, more = stances(min(a, b), rtt_ms, rise_ms), stances(max(a, b), rtt_ms, rise_ms)
    assert all(STANCES.index(x) <= STANCES.index(y) for x, y in zip(less, more, strict=True))


@given(st.floats(0.001, 0.6), st.integers(20, 300))
def test_lateness_is_at_least_a_round_of_repairs(loss: float, rtt_ms: int) -> None:
    assert late_ms(ASSUMED, loss, rtt_ms) >= 1.125 * rtt_ms


def test_the_datapath_takes_the_table() -> None:
    for which in ("off", "audio", "all", "always"):
        second_paths_command(1, SecondPaths(which=which), ASSUMED)


@pytest.mark.parametrize(
    ("row", "limits", "why"),
    [
        ((1, 0, 0, "on", "perhaps"), {}, "perhaps"),
        ((1, 0, 0, "on", "on"), {"percent_max": 101}, "percent_max"),
        ((1, 0, 0, "on", "on"), {"clear_ms": 1}, "clear_ms"),
    ],
)
def test_a_table_that_cannot_be_is_refused_with_what_is_wrong(
    row: tuple[int, int, int, str, str], limits: dict[str, int], why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        SecondPathPolicy([row], **{**LIMITS, **limits})


@pytest.mark.parametrize(
    "wrong",
    [{"audio_loss": 0.0}, {"video_loss": 2.0}, {"hysteresis": 0.5}, {"percent_max": 101}, {"clear_ms": 1}],
)
def test_wishes_that_cannot_be_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(PolicyError, match=next(iter(wrong))):
        SecondPaths(**wrong)  # type: ignore[arg-type]


def test_plain_repair_sends_what_is_lost_once_more() -> None:
    for row in table(PLAIN):
        assert not row.coded
        assert row.small_copies == 1
        assert row.essential[0] == row.disposable[0] == 1
