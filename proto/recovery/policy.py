"""The policy table of a hop: how many datagrams a round of repairs has, and how far apart they leave.

A round repairs ``k`` chunks that were lost together with ``n`` datagrams: each chunk once more, and ``n -
k`` symbols coded over all of them; any ``k`` of the ``n`` bring everything. (``k = 1``: ``n`` copies.) With
the share ``p`` of datagrams lost, a chunk stays missing after one round with ``p * P(more than n - k of n
are lost)``, and costs ``n / k`` datagrams per lost one. The table holds the least ``n`` that meets the
target, by loss and burst.

Losses come in bursts (Gilbert): after ``t`` the chance that a datagram meets the same bad state as the one
before is ``p + (1 - p) * rho``. In packets, ``rho = (1 - r - q) ** lag`` with ``r = 1 / L``, ``q = p * r /
(1 - p)``; the packets in between are those that the hop sends anyway. Spacing makes ``rho`` small: coding
or copying without it is wasted.

Where the budget allows several rounds (short round trips) each round need only meet the root of the target.

Rejected: parity beside the media (a block of 50 chunks needs 48 to 62 % at 5 % loss in bursts of three, a
frame of 11 chunks more than twice that, where repair of what was lost needs 10 %); cancelling copies on
acknowledgement (the copies are over long before it comes).

Sources: the reference of the transport, "Closed forms"; Meng et al., "Hairpin", NSDI 2024; E. N. Gilbert,
1960.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from typing import Final

ROUND_CHUNKS_MAX: Final = 16
"""Chunks of one coded round, as in the datapath."""
ROUND_SYMBOLS_MAX: Final = 64
"""Datagrams of one round, as in the datapath."""
TARGET_ESSENTIAL: Final = 1e-4
TARGET_DISPOSABLE: Final = 1e-3
TARGET_SMALL: Final = 2e-5
"""Of small chunks (sound): a copy costs next to nothing."""
LOSSES: Final = (
    0.005,
    0.01,
    0.02,
    0.03,
    0.04,
    0.055,
    0.07,
    0.09,
    0.115,
    0.14,
    0.17,
    0.21,
    0.26,
    0.33,
    0.45,
    1.0,
)
"""Upper bounds of the rows by loss; a row is computed for its bound, the last for 0.6."""
SPACING_MS: Final = 16.0
COLLECT_MS: Final = 15.0
SPAN_MS: Final = 45.0
HEAVY_LOSS: Final = 0.15
HEAVY_FACTOR: Final = 0.4
"""From this loss on rounds are so many that the target of each is stricter by this factor."""
LOSS_WORST: Final = 0.6
BURSTS: Final = (1.5, 4.0, inf)
"""Upper bounds by mean burst, datagrams; the last is computed for 8."""
BURST_WORST: Final = 8.0
RTTS_MS: Final = (30, 60, 105, 1_000_000)
"""Upper bounds by round trip, milliseconds."""


class PolicyError(ValueError):
    """A target, budget or rate that cannot be."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the table is computed for.

    ``budget_ms``: of a chunk when the hop gets it. ``span_ms``: how long a round may take from its first
    datagram to its last, unless the budget is shorter. ``packets_per_s``: what flows between the datagrams
    of a round. ``coded``: the peer takes coded symbols. ``disposable_priority_min``: priorities from here
    on may be missed more often; 256 for none.
    """

    budget_ms: int = 400
    spacing_ms: float = SPACING_MS
    collect_ms: float = COLLECT_MS
    span_ms: float = SPAN_MS
    packets_per_s: float = 320.0
    coded: bool = True
    disposable_priority_min: int = 256
    target_essential: float = TARGET_ESSENTIAL
    target_disposable: float = TARGET_DISPOSABLE
    target_small: float = TARGET_SMALL

    def __post_init__(self) -> None:
        """Refuse what cannot be, naming it."""
        for name in ("target_essential", "target_disposable", "target_small"):
            if not 0 < getattr(self, name) < 1:
                raise PolicyError(f"{name} = {getattr(self, name)}: must lie between 0 and 1")
        if not 0 < self.spacing_ms <= 500 or not 0 <= self.collect_ms <= 500:
            raise PolicyError(
                f"spacing_ms = {self.spacing_ms}, collect_ms = {self.collect_ms}: must be at most 500"
            )
        if not 1 <= self.budget_ms <= 60_000:
            raise PolicyError(f"budget_ms = {self.budget_ms}: must be from 1 to 60000")


PLAIN: Final = Assumptions(coded=False, target_essential=0.999, target_disposable=0.999, target_small=0.999)
"""For comparison: whatever is lost is sent once more, and that is all."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row, in the units and the order of ``Command.HopPolicy``; see the datapath's ``PolicyRow``."""

    loss_ppm_max: int
    burst_milli_max: int
    rtt_us_max: int
    budget_ms_min: int
    spacing_us: int
    collect_us: int
    span_us: int
    coded: bool
    small_copies: int
    essential: tuple[int, ...]
    disposable: tuple[int, ...]


def correlation(loss: float, burst: float, lag: float) -> float:
    """Autocorrelation of a Gilbert process of mean ``burst`` datagrams after ``lag`` of them, 0 to 1."""
    leave = 1.0 / max(burst, 1.0)
    enter = min(loss * leave / (1.0 - loss), 1.0) if loss < 1.0 else 1.0
    return float(max(1.0 - leave - enter, 0.0) ** lag)


@lru_cache(maxsize=256)
def _ladder(loss: float, rho: float) -> tuple[tuple[float, ...], ...]:
    """Entry ``n``: chances of 0 … n losses among ``n`` datagrams of which neighbours correlate by ``rho``."""
    stay, fall = loss + (1.0 - loss) * rho, loss * (1.0 - rho)
    good, bad = [1.0 - loss, 0.0], [0.0, loss]
    steps: list[tuple[float, ...]] = [(1.0,), (1.0 - loss, loss)]
    for _ in range(1, ROUND_SYMBOLS_MAX):
        to_good = [g * (1.0 - fall) + b * (1.0 - stay) for g, b in zip(good, bad, strict=True)]
        to_bad = [g * fall + b * stay for g, b in zip(good, bad, strict=True)]
        good, bad = [*to_good, 0.0], [0.0, *to_bad]
        steps.append(tuple(g + b for g, b in zip(good, bad, strict=True)))
    return tuple(steps)


def failure(chunks: int, datagrams: int, loss: float, rho: float = 0.0) -> float:
    """Chance that fewer than ``chunks`` of ``datagrams`` (at most 64) arrive."""
    return sum(_ladder(loss, rho)[datagrams][datagrams - chunks + 1 :])


def rounds_in(budget_ms: float, rtt_ms: float) -> int:
    """Rounds of repair that fit in a budget, each 9/8 of a round trip (RFC 9002, section 6.1.2)."""
    return max(int((budget_ms - rtt_ms / 2.0) // (1.125 * rtt_ms)), 1) if rtt_ms > 0 else 1


def datagrams_for(chunks: int, loss: float, rho: float, target: float, rounds: int = 1) -> int:
    """Least datagrams of a round that leave at most ``target`` of all chunks missing after ``rounds``."""
    wanted = min((target / loss) ** (1.0 / rounds), 1.0) if loss > 0 else 1.0
    count = chunks
    while count < ROUND_SYMBOLS_MAX and failure(chunks, count, loss, rho) > wanted:
        count += 1
    return count


def table(assumed: Assumptions = Assumptions()) -> tuple[Row, ...]:
    """All rows, in the order in which they are tried."""
    return tuple(_rows(assumed))


def _rows(assumed: Assumptions) -> Iterator[Row]:
    for rtt_ms in RTTS_MS:
        rounds = 1 if rtt_ms > 1_000 else rounds_in(assumed.budget_ms * 0.75, rtt_ms)
        for burst in BURSTS:
            for loss in LOSSES:
                yield _row(assumed, loss, burst, rtt_ms, min(rounds, 4))


def _row(assumed: Assumptions, loss: float, burst: float, rtt_ms: int, rounds: int) -> Row:
    at, length = min(loss, LOSS_WORST), (BURST_WORST if burst == inf else burst * 0.75)
    lag = max(assumed.spacing_ms * assumed.packets_per_s / 1_000.0, 1.0)
    rho = correlation(at, length, lag)

    factor = HEAVY_FACTOR if loss > HEAVY_LOSS else 1.0

    def symbols(target: float) -> tuple[int, ...]:
        return tuple(
            datagrams_for(k, at, rho, target * factor, rounds) for k in range(1, ROUND_CHUNKS_MAX + 1)
        )

    return Row(
        loss_ppm_max=int(loss * 1_000_000),
        burst_milli_max=0 if burst == inf else int(burst * 1_000),
        rtt_us_max=0 if rtt_ms > 1_000 else rtt_ms * 1_000,
        budget_ms_min=0,
        spacing_us=int(assumed.spacing_ms * 1_000),
        collect_us=int(assumed.collect_ms * 1_000),
        span_us=int(assumed.span_ms * 1_000),
        coded=assumed.coded,
        small_copies=datagrams_for(1, at, rho, assumed.target_small, rounds),
        essential=symbols(assumed.target_essential),
        disposable=symbols(assumed.target_disposable),
    )
