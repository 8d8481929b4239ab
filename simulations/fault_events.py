"""Events of `simulations/data/fault_scenarios.csv` as changes of the AWS matrix: which pairs of regions, and
how much longer. `WITHOUT_EFFECT` says of all others why they change no round trip of it.
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


@dataclass(frozen=True, slots=True)
class Detour:
    """Pairs of regions, both directions, whose traffic goes by a third one: its RTT is that of both parts."""

    ends: tuple[tuple[str, ...], tuple[str, ...]]
    via: str


EFFECTS: Final[dict[str, tuple[Step | Detour, ...]]] = {
    # UAE - London from 60-120 to 250-320 ms: the middles.
    "red_sea_2025_09": (Step((("me-central-1", "me-south-1"), _EUROPE), 195.0),),
    # Traced to Los Angeles at 152 ms (the matrix has 153 from Frankfurt to California); what lies beyond was
    # not seen, and is the matrix's.
    "red_sea_2025_09_india": (Detour((_EUROPE, ("ap-south-1", "ap-south-2")), "us-west-1"),),
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

SYNTHESISED: Final = frozenset({"red_sea_2025_09_india"})
"""Of `EFFECTS`, those whose way was measured and whose round trip was not."""

WITHOUT_EFFECT: Final[dict[str, str]] = {
    "red_sea_2024_02": "shares of traffic only, no round trip found",
    "vietnam_2023_02": "no region of the matrix is in Vietnam, and no magnitude found",
    "vietnam_2024_06": "no region of the matrix is in Vietnam, and no magnitude found",
    "aae1_smw5_2022_06": "no region of the matrix is in Ethiopia or Pakistan; traffic only",
    "sea_typhoon_2017_08": "no magnitude found",
    "china_gfw_diurnal": "no region of the matrix is in mainland China",
    "lan_to_lte_handover": "an access network, no link between regions",
    "starlink_tcp_loss": "an access network, no link between regions",
}
"""Id to why."""


def known_events() -> tuple[str, ...]:
    """Ids of all rows of the file."""
    return tuple(row["id"] for row in read_rows("fault_scenarios.csv"))


def during(event: str, matrix: Matrix) -> tuple[Matrix, frozenset[tuple[int, int]]]:
    """The matrix while an event lasts, and the pairs (positions) that it touches. ``KeyError`` for an event
    without effect on it."""
    rtt_ms, p90_ms = matrix.rtt_ms.copy(), matrix.rtt_p90_ms.copy()
    touched: set[tuple[int, int]] = set()
    for step in EFFECTS[event]:
        for a, b in product(*step.ends):
            i, j = matrix.index(a), matrix.index(b)
            for pair in ((i, j), (j, i)):
                rise_ms = _rise_ms(step, matrix, pair)
                rtt_ms[pair] += rise_ms
                p90_ms[pair] += rise_ms
                touched.add(pair)
    return replace(matrix, name=event, rtt_ms=rtt_ms, rtt_p90_ms=p90_ms), frozenset(touched)


def _rise_ms(step: Step | Detour, matrix: Matrix, pair: tuple[int, int]) -> float:
    if isinstance(step, Step):
        return step.rise_ms
    via = matrix.index(step.via)
    return float(matrix.rtt_ms[pair[0], via] + matrix.rtt_ms[via, pair[1]] - matrix.rtt_ms[pair])
