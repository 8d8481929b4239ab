"""Budgets, targets and rates that cannot be had are refused with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from farcast.proto.recovery.feasible import first_repair_ms, objections
from farcast.proto.recovery.policy import Assumptions

USUAL: dict[str, Any] = {
    "loss_max": 0.15,
    "rtt_max_ms": 0,
    "percent_max": 400,
    "burst_bytes": 524_288,
    "planned_max": 8_192,
}


def test_what_is_usual_can_be_had() -> None:
    assert list(objections(Assumptions(), **USUAL)) == []


def test_the_first_repair_takes_half_a_round_trip_more_than_a_round() -> None:
    assert first_repair_ms(200) == pytest.approx(100 + 200 + 22)


@pytest.mark.parametrize(
    ("assumed", "changed", "reason"),
    [
        (Assumptions(budget_ms=300), {"rtt_max_ms": 200}, "budget_ms = 300 is over before .* takes 351 ms"),
        (
            Assumptions(),
            {"percent_max": 10},
            "repair_percent_max = 10 is not enough .* repairs take [0-9]+ %",
        ),
        (Assumptions(), {"burst_bytes": 500}, "repair_burst_bytes = 500 is less than one repair"),
        (Assumptions(), {"planned_max": 8}, "repairs_planned_max = 8 is less than one round"),
        (
            Assumptions(target_essential=1e-6),
            {"loss_max": 0.4},
            "frames_missed_ppm = 1 cannot be had at loss_max_permille = 400",
        ),
    ],
)
def test_what_cannot_be_had_is_told_with_its_reason(
    assumed: Assumptions, changed: dict[str, Any], reason: str
) -> None:
    (objection,) = objections(assumed, **(USUAL | changed))
    with pytest.raises(ValueError, match=reason):
        raise ValueError(objection)
