"""The policy table of a hop: how many datagrams a round of repairs has, and how far apart they leave.

A round repairs ``k`` chunks that were lost together with ``n`` datagrams: each chunk once more, and ``n -
k`` symbols coded over all of them; any ``k`` of the ``n`` bring everything. (``k = 1``: ``n`` copies.) It
fails when more than ``n - k`` of them are lost, and then, as a rule, one frame misses its budget.

**Time.** The budget decides how long a round may take. Rows are chosen by what would be left of it if the
repair arrived now (time left less the way to the peer). Where that is enough for a second round, the first
sends what costs least in all, hardly ever more than each chunk once; the last one that fits must meet the
target. Its datagrams share its span evenly, so the more there are, the closer they leave: each cell of the
table is computed with the distance that it will have, ``min(spacing, span / (n - 1))``.

**Bursts.** Losses come in bursts (Gilbert): after ``t`` the chance that a datagram meets the same bad state as
the one before is ``p + (1 - p) * rho``. In packets, ``rho = (1 - r - q) ** lag`` with ``r = 1 / L``, ``q = p
* r / (1 - p)``; the packets in between are those that the hop sends anyway.

**Targets** are of frames. Of ``w(k)`` rounds of ``k`` chunks (geometric about the mean that loss, burst and
collecting give) so many begin in a frame that ``rounds * sum(w(k) * failure(k, n(k)))`` is the share of
frames that miss. Datagrams are added one by one where the next one saves most failures (for every round costs
the same, whatever ``k``), until the target is met: the least expected cost for that target.

Rejected: one target for every ``k`` (large rounds are rare and dear: they may fail more often, small ones
less); parity beside the media (a block of 50 chunks needs 48 to 62 % at 5 % loss in bursts of three, a frame
of 11 chunks more than twice that, where repair of what was lost needs 10 %); cancelling copies on
acknowledgement (the copies are over long before it comes).

Sources: the reference of the transport, "Closed forms"; Meng et al., "Hairpin", NSDI 2024; E. N. Gilbert,
1960.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from heapq import heappop, heappush
from itertools import accumulate
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
    0.05,
    0.06,
    0.07,
    0.085,
    0.1,
    0.12,
    0.14,
    0.17,
    0.21,
    0.26,
    0.33,
    0.45,
    1.0,
)
"""Upper bounds of the rows by loss; a row is computed for its bound, the last for 0.6."""
SMALL_COPIES_MAX: Final = 12
SPACING_MS: Final = 16.0
COLLECT_MS: Final = 30.0
SPANS_MS: Final = (80.0, 62.0, 45.0, 28.0)
"""How long the last round takes, by what time there is."""
SPAN_LATE_MS: Final = 62.0
"""Of a round that comes after the budget anyway."""
SPAN_FIRST_MS: Final = 20.0
"""Of a round after which another fits."""
SLACK_MS: Final = 6
"""Kept for what the queue, jitter and the timers take of a span."""
GAIN_MIN: Final = 2e-4
"""What one more datagram of a round must save of its failures: a frame is not worth more than its inverse."""
LOSS_WORST: Final = 0.6
BURSTS: Final = (1.5, 4.0, inf)
"""Upper bounds by mean burst, datagrams; the last is computed for 8."""
BURST_WORST: Final = 8.0
RTTS_MS: Final = (30, 60, 105, 150, 210)
"""Upper bounds by round trip, milliseconds, of rows after which another round fits."""
ROUND_RTT: Final = 1.125
NOTICE_MS: Final = 12.0
"""Until a loss is known: so many round trips (RFC 9002, section 6.1.2), and what acknowledgements wait."""


class PolicyError(ValueError):
    """A target, budget or rate that cannot be."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the table is computed for.

    ``budget_ms``: of a chunk when the hop gets it. ``spacing_ms``: between the datagrams of a round where they
    have room; ``spans_ms``: how long the last round takes, by what time there is, downwards;
    ``collect_ms``: how long a round waits for further losses. ``packets_per_s``: what flows between the
    datagrams of a round; ``frames_per_s``: of what they are. ``coded``: the peer takes coded symbols.
    ``disposable_priority_min``: priorities from here on may be missed more often; 256 for none. Targets:
    shares of frames that may miss their budget.
    """

    budget_ms: int = 400
    spacing_ms: float = SPACING_MS
    collect_ms: float = COLLECT_MS
    spans_ms: tuple[float, ...] = SPANS_MS
    packets_per_s: float = 320.0
    frames_per_s: float = 30.0
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


@lru_cache(maxsize=4_096)
def _losses_among(datagrams: int, loss: float, rho: float) -> tuple[float, ...]:
    """Chances of 0 … n losses among n datagrams of which neighbours correlate by ``rho``."""
    stay, fall = loss + (1.0 - loss) * rho, loss * (1.0 - rho)
    good, bad = [1.0 - loss, 0.0], [0.0, loss]
    for _ in range(datagrams - 1):
        to_good = [g * (1.0 - fall) + b * (1.0 - stay) for g, b in zip(good, bad, strict=True)]
        to_bad = [g * fall + b * stay for g, b in zip(good, bad, strict=True)]
        good, bad = [*to_good, 0.0], [0.0, *to_bad]
    return tuple(g + b for g, b in zip(good, bad, strict=True))


def failure(chunks: int, datagrams: int, loss: float, rho: float = 0.0) -> float:
    """Chance that fewer than ``chunks`` of ``datagrams`` (at most 64) arrive."""
    return sum(_losses_among(datagrams, loss, rho)[datagrams - chunks + 1 :])


def rounds_in(budget_ms: float, rtt_ms: float) -> int:
    """Rounds of repair that fit in a budget, each 9/8 of a round trip (RFC 9002, section 6.1.2)."""
    return max(int((budget_ms - rtt_ms / 2.0) // (ROUND_RTT * rtt_ms)), 1) if rtt_ms > 0 else 1


@dataclass(frozen=True, slots=True)
class _Cell:
    """Rows that differ by loss and burst alone."""

    rtt_ms: int
    budget_ms_min: int
    span_ms: float
    collect_ms: float
    again: bool
    """Another round fits behind this one."""


@dataclass(frozen=True, slots=True)
class _Link:
    """How a link loses, and how closely the datagrams of a round leave."""

    loss: float
    burst: float
    spacing_ms: float
    span_ms: float
    packets_per_ms: float

    def losses(self, datagrams: int) -> tuple[float, ...]:
        """Chances of 0 … n losses among the n datagrams of a round."""
        step_ms = min(self.spacing_ms, self.span_ms / max(datagrams - 1, 1))
        lag = max(step_ms * self.packets_per_ms, 1.0)
        return _losses_among(datagrams, self.loss, correlation(self.loss, self.burst, lag))

    def failure(self, chunks: int, datagrams: int) -> float:
        """Chance that a round fails."""
        return sum(self.losses(datagrams)[datagrams - chunks + 1 :])


def table(assumed: Assumptions = Assumptions()) -> tuple[Row, ...]:
    """All rows, in the order in which they are tried."""
    return tuple(_rows(assumed))


def _rows(assumed: Assumptions) -> Iterator[Row]:
    for cell in _cells(assumed):
        for burst in BURSTS:
            least: Row | None = None
            for loss in LOSSES:
                least = _row(assumed, cell, loss, burst, least)
                yield least


def _cells(assumed: Assumptions) -> Iterator[_Cell]:
    last_ms = assumed.spans_ms[len(assumed.spans_ms) // 2]
    for rtt_ms in RTTS_MS:
        needed_ms = SPAN_FIRST_MS + ROUND_RTT * rtt_ms + NOTICE_MS + last_ms
        yield _Cell(rtt_ms, int(needed_ms) + SLACK_MS, SPAN_FIRST_MS, assumed.collect_ms / 4, True)
    for span_ms in assumed.spans_ms:
        collect_ms = min(assumed.collect_ms, span_ms * 0.4)
        yield _Cell(0, int(span_ms) + SLACK_MS, span_ms, collect_ms, False)
    yield _Cell(0, 0, SPAN_LATE_MS, min(assumed.collect_ms, SPAN_LATE_MS * 0.4), False)


def _row(assumed: Assumptions, cell: _Cell, loss: float, burst: float, least: Row | None) -> Row:
    """``least``: the row for the next smaller loss, which never costs more."""
    at, length = min(loss, LOSS_WORST), (BURST_WORST if burst == inf else burst * 0.75)
    per_ms = assumed.packets_per_s / 1_000.0
    link = _Link(at, max(length, 1.0), assumed.spacing_ms, cell.span_ms, per_ms)

    def symbols(target: float, floor: tuple[int, ...]) -> tuple[int, ...]:
        last = _last_round(link, _sizes(assumed, link, cell.collect_ms), target)
        found = _first_round(link, last) if cell.again else last
        return tuple(max(pair) for pair in zip(found, floor, strict=True))

    none = tuple(range(1, ROUND_CHUNKS_MAX + 1))
    small = copies_for(link, assumed.target_small, cell.again)
    return Row(
        loss_ppm_max=int(loss * 1_000_000),
        burst_milli_max=0 if burst == inf else int(burst * 1_000),
        rtt_us_max=cell.rtt_ms * 1_000,
        budget_ms_min=cell.budget_ms_min,
        spacing_us=int(assumed.spacing_ms * 1_000),
        collect_us=int(cell.collect_ms * 1_000),
        span_us=int(cell.span_ms * 1_000),
        coded=assumed.coded,
        small_copies=max(small, least.small_copies if least else 1),
        essential=symbols(assumed.target_essential, least.essential if least else none),
        disposable=symbols(assumed.target_disposable, least.disposable if least else none),
    )


def copies_for(link: _Link, target: float, again: bool) -> int:
    """Least copies that leave at most ``target`` of all chunks missing; another round does the same."""
    wanted = min(target / link.loss, 1.0)
    if again:
        wanted = wanted**0.5
    count = 1
    while count < SMALL_COPIES_MAX and link.failure(1, count) > wanted:
        count += 1
    return count


def _sizes(assumed: Assumptions, link: _Link, collect_ms: float) -> tuple[float, ...]:
    """Rounds of 1 … 16 chunks in a frame."""
    lost_per_ms = link.loss * link.packets_per_ms
    mean = link.burst + lost_per_ms * collect_ms
    shares = [(1.0 - 1.0 / mean) ** k for k in range(ROUND_CHUNKS_MAX)]
    chunks = sum(share * k for k, share in enumerate(shares, 1))
    lost_per_frame = 1_000.0 * lost_per_ms / assumed.frames_per_s
    return tuple(share * lost_per_frame / chunks for share in shares)


def _last_round(link: _Link, sizes: tuple[float, ...], target: float) -> tuple[int, ...]:
    """Datagrams for 1 … 16 chunks that leave at most ``target`` of the frames missing, at the least cost."""
    counts = list(range(1, ROUND_CHUNKS_MAX + 1))
    fails = [link.failure(k, k) for k in counts]
    gains: list[tuple[float, int, float]] = []

    def offer(at: int) -> None:
        if counts[at] < ROUND_SYMBOLS_MAX:
            after = link.failure(at + 1, counts[at] + 1)
            heappush(gains, (after - fails[at], at, after))

    for at in range(ROUND_CHUNKS_MAX):
        offer(at)
    missing = sum(map(operator.mul, sizes, fails))
    while missing > target and gains:
        gain, at, after = heappop(gains)
        if -gain < GAIN_MIN:
            break
        missing += sizes[at] * gain
        counts[at], fails[at] = counts[at] + 1, after
        offer(at)
    growing = accumulate(counts, lambda before, count: max(before + 1, count))
    return tuple(min(count, ROUND_SYMBOLS_MAX) for count in growing)


def _first_round(link: _Link, last: tuple[int, ...]) -> tuple[int, ...]:
    """Datagrams for 1 … 16 chunks that cost least together with those of a second round, ``last``."""

    def cost(k: int, n: int) -> float:
        again = enumerate(link.losses(n)[n - k + 1 :], n - k + 1)
        return n + sum(share * last[max(round(lost * k / n), 1) - 1] for lost, share in again)

    found = []
    for k in range(1, ROUND_CHUNKS_MAX + 1):
        found.append(min(range(k, min(2 * k + 2, ROUND_SYMBOLS_MAX)), key=lambda n, k=k: cost(k, n)))
    return tuple(found)
