"""Events of `simulations/data/fault_scenarios.csv` whose effect on round trips was measured, as changes of
the AWS matrix: which pairs of regions, and how much longer.

Other rows of that file have no magnitude, or are about places that the matrix does not have (mainland China,
Vietnam) or about access networks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from farcast.simulations.data_files import read_rows
from farcast.simulations.matrices import Matrix

_EUROPE: Final = (
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
)


@dataclass(frozen=True, slots=True)
class Step:
    """Pairs of regions, both directions, and what their RTT rises by."""

    ends: tuple[tuple[str, ...], tuple[str, ...]]
    rise_ms: float


EFFECTS: Final[dict[str, tuple[Step, ...]]] = {
    # UAE - London from 60-120 to 250-320 ms: the middles.
    "red_sea_2025_09": (Step((("me-central-1", "me-south-1"), _EUROPE), 195.0),),
    "eu_apac_detour_2024_q2": (
        Step((("eu-central-1", "eu-south-2"), ("ap-northeast-1",)), 40.0),
        Step((("eu-central-1", "eu-south-2"), ("ap-northeast-3",)), 35.0),
        Step((("eu-central-1", "eu-south-2"), ("ap-southeast-2",)), 39.0),
    ),
    "eu_sydney_detour_2023_12": (
        Step((("eu-central-1",), ("ap-southeast-2",)), 49.0),
        Step((("eu-west-2",), ("ap-southeast-2",)), 48.0),
    ),
    # Chennai is not in the matrix; Hyderabad stands for it.
    "eu_india_detour_2026_05": (
        Step((("eu-central-1",), ("ap-south-1",)), 45.0),
        Step((("eu-central-1",), ("ap-south-2",)), 21.0),
        Step((("eu-west-2",), ("ap-south-2",)), 12.0),
    ),
    # P95 over P50 of a bimodal path.
    "azure_eu_eastasia_flap_2026_07": (
        Step((("eu-central-1",), ("ap-east-1",)), 78.0),
        Step((("eu-west-3",), ("ap-east-1",)), 85.0),
        Step((("eu-west-2",), ("ap-east-1",)), 74.0),
    ),
}


def known_events() -> tuple[str, ...]:
    """Ids of all rows of the file."""
    return tuple(row["id"] for row in read_rows("fault_scenarios.csv"))


def during(event: str, matrix: Matrix) -> tuple[Matrix, frozenset[tuple[int, int]]]:
    """The matrix while an event lasts, and the pairs (positions) that it touches. ``KeyError`` for an event
    without a measured effect."""
    rtt_ms, p90_ms = matrix.rtt_ms.copy(), matrix.rtt_p90_ms.copy()
    touched: set[tuple[int, int]] = set()
    for step in EFFECTS[event]:
        for a, b in product(*step.ends):
            i, j = matrix.index(a), matrix.index(b)
            for pair in ((i, j), (j, i)):
                rtt_ms[pair] += step.rise_ms
                p90_ms[pair] += step.rise_ms
                touched.add(pair)
    return replace(matrix, name=event, rtt_ms=rtt_ms, rtt_p90_ms=p90_ms), frozenset(touched)
