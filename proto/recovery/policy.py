"""The policy table of a hop: how many datagrams a round of repairs has, and how far apart they leave.

A round repairs ``k`` chunks that were lost together with ``n`` datagrams: each chunk once more, and ``n -
k`` symbols coded over all of them; any ``k`` of the ``n`` bring everything. (``k = 1``: ``n`` copies.) It
fails when more than ``n - k`` of them are lost, and then, as a rule, one frame misses its budget.

**Time.** The budget decides how long a round may take. Rows are chosen by what would be left of it if the
repair arrived now (time left less the way to the peer). Where that is enough for a second round, the first
sends what costs least in all, hardly ever more than each chunk once; the last one that fits must meet the
target. Its datagrams share its span, the copies in the first quarter (a frame that they bring is early), the
symbols evenly in what is left when the round has been collected. So the more there are, the closer they
leave: each cell of the table is computed with the distances that it will have.

**Rounds in a row** are reckoned from the last one backwards. Few first rounds fail, so that a last one
seldom begins where one came before: for the same frames missed it may fail so many times more often (rows for
what is sent *again*). The first weighs what it sends against what its failure costs then. Of more than two
rounds all but the last are reckoned as the first of two: up to a loss of 14 % they send each chunk once, and
less cannot be.

**Bursts.** Losses come in bursts (Gilbert): after ``t`` the chance that a datagram meets the same bad state
as the one before is ``p + (1 - p) * rho``. In packets, ``rho = (1 - r - q) ** lag`` with ``r = 1 / L``, ``q =
p * r / (1 - p)``; the packets in between are those that the hop sends anyway.

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from heapq import heappop, heappush
from itertools import accumulate, chain, product
from math import ceil, inf
from typing import Final, TypeAlias

ROUND_CHUNKS_MAX: Final = 16
"""Chunks of one coded round, as in the datapath."""
ROUND_SYMBOLS_MAX: Final = 64
"""Datagrams of one round, as in the datapath."""
TARGET_ESSENTIAL: Final = 1.2e-4
TARGET_DISPOSABLE: Final = 1e-3
TARGET_SMALL: Final = 5e-5
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
    0.35,
    1.0,
)
"""Upper bounds of the rows by loss; a row is computed for its bound, the last for 0.5."""
SMALL_COPIES_MAX: Final = 12
SPACING_MS: Final = 16.0
COLLECT_MS: Final = 30.0
SPANS_MS: Final = (80.0, 62.0, 45.0, 28.0)
"""How long the last round takes, by what time there is."""
SPAN_LATE_MS: Final = 62.0
"""Of a round that comes after the budget anyway."""
SPAN_FIRST_MS: Final = 20.0
"""Of a round after which another fits."""
COPIES_SHARE: Final = 4
"""The copies of a round leave within this part of its span, as in the datapath."""
COLLECT_SHARE_MAX: Final = 0.4
COLLECT_AGAIN_MS: Final = 12.0
"""Of a round after one that failed: few others join it, and its frames are late."""
TIMES_MAX: Final = 3
MORE_MAX: Final = 4
"""A round has at most so many times its chunks, and so many more: beyond that the link is what is wrong."""
CHUNKS_RECKONED: Final = 8
"""Larger rounds are continued from these: they are rare, and dear to reckon."""
SLACK_MS: Final = 6
"""Kept for what the queue, jitter and the timers take of a span."""
HEAVY: Final = ((0.075, 1.0), (0.125, 6.0), (0.175, 9.0), (1.0, 12.0))
"""Up to a loss, by what targets of frames are multiplied: on a worse link the last frames cost too much."""
GAIN_MIN: Final = 2e-4
"""What one more datagram of a round must save of its failures: a frame is not worth more than its inverse."""
LOSS_WORST: Final = 0.5
BURSTS: Final = (1.5, 4.0, inf)
"""Upper bounds by mean burst, datagrams; the last is computed for 8. The first is higher where so much is
lost that independent losses look like bursts."""
BURST_WORST: Final = 8.0
BURST_USUAL: Final = 4.0
"""The bursts that figures about a whole link are given for."""
RTTS_MS: Final = (30, 60, 80, 105, 130, 155, 180, 205, 260, 330)
"""Upper bounds by round trip, milliseconds, of rows after which another round fits."""
ROUND_RTT: Final = 1.125
"""Until a loss is known by QUIC's rule (RFC 9002, section 6.1.2): round trips. Slower than hops are: for what
is to fit with time to spare, and for second paths."""
NOTICE_MS: Final = 22.0
"""What a hop takes to notice a loss, beyond the round trip: acknowledgements wait 10 ms, one of what was sent
later counts after 8 ms (`HopConfig`), and that has to be sent first."""


Symbols: TypeAlias = tuple[int, ...]
"""Datagrams of a round, by the number of chunks from 1 on."""


class PolicyError(ValueError):
    """A target, budget or rate that cannot be."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the table is computed for.

    ``budget_ms``: of a chunk when the hop gets it. ``spacing_ms``: between the datagrams of a round where
    they have room; ``spans_ms``: how long the last round takes, by what time there is, downwards;
    ``collect_ms``: how long a round waits for further losses. ``packets_per_s``: what flows between the
    datagrams of a round; ``chunks_per_s`` of them are media, of ``frames_per_s``. ``coded``: the peer takes
    coded symbols.
    ``disposable_priority_min``: priorities from here on may be missed more often; 256 for none. Targets:
    shares of frames that may miss their budget.
    """

    budget_ms: int = 400
    spacing_ms: float = SPACING_MS
    collect_ms: float = COLLECT_MS
    spans_ms: tuple[float, ...] = SPANS_MS
    packets_per_s: float = 400.0
    chunks_per_s: float = 330.0
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


PLAIN: Final = Assumptions(coded=False, target_essential=0.999, target_disposable=0.999, target_small=0.999)
"""For comparison: whatever is lost is sent once more, and that is all."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row, in the units and the order of ``Command.HopPolicy``; see the datapath's ``PolicyRow``."""

    loss_ppm_max: int
    burst_milli_max: int
    rtt_us_max: int
    budget_ms_min: int
    again: bool
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


def _losses_among(loss: float, rhos: Sequence[float]) -> tuple[float, ...]:
    """Chances of 0 … n losses among n datagrams; ``rhos``: how each but the first correlates with the one
    before."""
    good, bad = [1.0 - loss, 0.0], [0.0, loss]
    for rho in rhos:
        stay, fall = loss + (1.0 - loss) * rho, loss * (1.0 - rho)
        to_good = [g * (1.0 - fall) + b * (1.0 - stay) for g, b in zip(good, bad, strict=True)]
        to_bad = [g * fall + b * stay for g, b in zip(good, bad, strict=True)]
        good, bad = [*to_good, 0.0], [0.0, *to_bad]
    return tuple(g + b for g, b in zip(good, bad, strict=True))


def _few_lost(loss: float, rhos: Sequence[float], most: int) -> float:
    """Chance that at most so many are lost."""
    good, bad = [1.0 - loss] + [0.0] * most, [0.0] * (most + 1)
    if most:
        bad[1] = loss
    for rho in rhos:
        fall = loss * (1.0 - rho)
        hold, stay = 1.0 - fall, fall + rho
        rise = 1.0 - stay
        pairs = [(g * hold + b * rise, g * fall + b * stay) for g, b in zip(good, bad, strict=True)]
        good = [pair[0] for pair in pairs]
        bad = [0.0, *(pair[1] for pair in pairs[:-1])]
    return sum(good) + sum(bad)


def failure(chunks: int, datagrams: int, loss: float, rho: float = 0.0) -> float:
    """Chance that fewer than ``chunks`` of ``datagrams`` arrive of which neighbours correlate by ``rho``."""
    return 1.0 - _few_lost(loss, (rho,) * (datagrams - 1), datagrams - chunks)


def round_ms(rtt_ms: float) -> float:
    """From a loss to when its repair is there, or known to be lost too."""
    return rtt_ms + NOTICE_MS


def rounds_in(budget_ms: float, rtt_ms: float) -> int:
    """Rounds of repair that fit in a budget, each 9/8 of a round trip (RFC 9002, section 6.1.2)."""
    return max(int((budget_ms - rtt_ms / 2.0) // (ROUND_RTT * rtt_ms)), 1) if rtt_ms > 0 else 1


@dataclass(frozen=True, slots=True)
class Link:
    """How a link loses, and how the datagrams of a round leave (the datapath's ``repair.rs`` does it so)."""

    loss: float
    burst: float
    spacing_ms: float
    span_ms: float
    collect_ms: float
    packets_per_ms: float

    def rho(self, gap_ms: float) -> float:
        """How datagrams correlate that leave one after the other with this gap."""
        return correlation(self.loss, self.burst, max(gap_ms * self.packets_per_ms, 1.0))

    def rhos(self, chunks: int, datagrams: int) -> list[float]:
        """How each datagram of a round but the first correlates with the one before: the copies within a
        share of its span, then, when it has been collected, its symbols in what is left."""
        copy_ms = min(self.spacing_ms, self.span_ms / COPIES_SHARE / chunks)
        first_ms = max(self.collect_ms, chunks * copy_ms)
        symbols = datagrams - chunks
        symbol_ms = min(self.spacing_ms, (self.span_ms - first_ms) / max(symbols - 1, 1))
        rhos = [self.rho(copy_ms)] * (chunks - 1)
        if symbols:
            rhos.append(self.rho(first_ms - (chunks - 1) * copy_ms))
            rhos += [self.rho(symbol_ms)] * (symbols - 1)
        return rhos

    def failure(self, chunks: int, datagrams: int) -> float:
        """Chance that a round fails."""
        return 1.0 - _few_lost(self.loss, self.rhos(chunks, datagrams), datagrams - chunks)

    def copies_failure(self, copies: int) -> float:
        """Chance that all copies of a small chunk are lost, which are not collected."""
        gap_ms = min(self.spacing_ms, self.span_ms / max(copies - 1, 1))
        return failure(1, copies, self.loss, self.rho(gap_ms))


@lru_cache(maxsize=16)
def table(assumed: Assumptions = Assumptions()) -> tuple[Row, ...]:
    """All rows, in the order in which they are tried."""
    last_ms = assumed.spans_ms[len(assumed.spans_ms) // 2]
    first = [_first_rows(assumed, burst, _last_rows(assumed, burst, last_ms, again=True)) for burst in BURSTS]
    rows = [_for_rtt(row, rtt_ms, last_ms) for rtt_ms in RTTS_MS for row in _by_loss(first)]
    for span_ms, again in product(assumed.spans_ms, (True, False)):
        last = _by_loss([_last_rows(assumed, burst, span_ms, again) for burst in BURSTS])
        rows += [replace(row, budget_ms_min=int(span_ms) + SLACK_MS, again=again) for row in last]
    return (*rows, *_by_loss([_last_rows(assumed, burst, SPAN_LATE_MS) for burst in BURSTS]))


def _by_loss(by_burst: Sequence[Sequence[Row]]) -> Iterator[Row]:
    """Upwards, and of one loss by bursts: the bursts of a row are those of its loss."""
    return chain.from_iterable(zip(*by_burst, strict=True))


def _for_rtt(row: Row, rtt_ms: int, last_ms: float) -> Row:
    """A row after which another round fits with time to spare: with QUIC's rule for the round trip. Where
    it only just fits it would save bytes, and cost the frames that need it half of their budget."""
    needed_ms = SPAN_FIRST_MS + ROUND_RTT * rtt_ms + NOTICE_MS + last_ms
    return replace(row, rtt_us_max=rtt_ms * 1_000, budget_ms_min=int(needed_ms) + SLACK_MS)


def _links(assumed: Assumptions, burst: float, span_ms: float, collect_ms: float) -> Iterator[Link]:
    """One for each row of a burst."""
    length = max(BURST_WORST if burst == inf else burst * 0.75, 1.0)
    for loss in LOSSES:
        at = min(loss, LOSS_WORST)
        yield Link(at, length, assumed.spacing_ms, span_ms, collect_ms, assumed.packets_per_s / 1_000.0)


@lru_cache(maxsize=64)
def _last_rows(assumed: Assumptions, burst: float, span_ms: float, again: bool = False) -> list[Row]:
    """Of a round that must do; the row for more loss never has less. ``again``: it follows one that sent what
    was lost once more, so that so many fewer begin; not where more may be lost than is reckoned with."""
    none = tuple(range(1, ROUND_CHUNKS_MAX + 1))
    essential, disposable, small, rows = none, none, 1, []
    collect_ms = min(assumed.collect_ms, span_ms * COLLECT_SHARE_MAX, COLLECT_AGAIN_MS if again else inf)
    for loss, link in zip(LOSSES, _links(assumed, burst, span_ms, collect_ms), strict=True):
        sizes, factor = rounds_by_size(assumed, link), next(factor for most, factor in HEAVY if loss <= most)
        failure_of = cache(link.failure)
        follows = again and loss <= LOSS_WORST
        factor /= _failing(assumed, link) if follows else 1.0
        essential = _most(essential, _last_round(failure_of, sizes, assumed.target_essential * factor))
        disposable = _most(disposable, _last_round(failure_of, sizes, assumed.target_disposable * factor))
        small = max(small, copies_for(link, assumed.target_small / link.loss ** (2 if follows else 1)))
        rows.append(_row(assumed, loss, burst, link, (small, essential, disposable)))
    return rows


def _failing(assumed: Assumptions, link: Link) -> float:
    """Share of first rounds that fail where each sends once more what was lost."""
    first = replace(link, span_ms=SPAN_FIRST_MS, collect_ms=_first_collect_ms(assumed))
    sizes = rounds_by_size(assumed, first)
    return sum(size * first.failure(k, k) for k, size in enumerate(sizes, 1)) / sum(sizes)


def _first_collect_ms(assumed: Assumptions) -> float:
    return min(assumed.collect_ms, SPAN_FIRST_MS * COLLECT_SHARE_MAX)


def _first_rows(assumed: Assumptions, burst: float, last: Sequence[Row]) -> list[Row]:
    """Of a round after which another, of the rows ``last``, fits."""
    links = _links(assumed, burst, SPAN_FIRST_MS, _first_collect_ms(assumed))
    none = tuple(range(1, ROUND_CHUNKS_MAX + 1))
    essential, disposable, small, rows = none, none, 1, []
    for loss, link, after in zip(LOSSES, links, last, strict=True):
        essential = _most(essential, _first_round(link, after.essential))
        disposable = _most(disposable, _first_round(link, after.disposable))
        small = max(small, _first_copies(assumed, link, after.small_copies, loss))
        rows.append(_row(assumed, loss, burst, link, (small, essential, disposable)))
    return rows


def _most(before: Symbols, now: Symbols) -> Symbols:
    return tuple(map(max, before, now))


def _row(
    assumed: Assumptions, loss: float, burst: float, link: Link, counts: tuple[int, Symbols, Symbols]
) -> Row:
    """For any round trip and any budget; what is disposable never gets more."""
    small, essential, disposable = counts
    return Row(
        loss_ppm_max=int(loss * 1_000_000),
        burst_milli_max=0 if burst == inf else int(max(burst, _alone(loss)) * 1_000),
        rtt_us_max=0,
        budget_ms_min=0,
        again=False,
        spacing_us=int(link.spacing_ms * 1_000),
        collect_us=int(link.collect_ms * 1_000),
        span_us=int(link.span_ms * 1_000),
        coded=assumed.coded,
        small_copies=small,
        essential=essential,
        disposable=tuple(map(min, essential, disposable)),
    )


def _alone(loss: float) -> float:
    """Mean run that the datapath may count where losses are independent: it joins what only one datagram that
    came lies between (``loss_meter.rs``); with a tenth for chance. Nothing where all runs are long."""
    return 1.1 / (1.0 - loss) ** 2 if loss < LOSS_WORST else 0.0


def copies_for(link: Link, wanted: float) -> int:
    """Least copies of a small chunk of which all are lost with at most this chance."""
    count = 1
    while count < SMALL_COPIES_MAX and link.copies_failure(count) > wanted:
        count += 1
    return count


def rounds_by_size(assumed: Assumptions, link: Link) -> tuple[float, ...]:
    """Rounds of 1 … 16 chunks that begin in a frame."""
    lost_per_ms = link.loss * assumed.chunks_per_s / 1_000.0
    mean = link.burst + lost_per_ms * link.collect_ms
    shares = [(1.0 - 1.0 / mean) ** k for k in range(ROUND_CHUNKS_MAX)]
    chunks = sum(share * k for k, share in enumerate(shares, 1))
    lost_per_frame = 1_000.0 * lost_per_ms / assumed.frames_per_s
    return tuple(share * lost_per_frame / chunks for share in shares)


def _last_round(failure_of: Callable[[int, int], float], sizes: tuple[float, ...], target: float) -> Symbols:
    """Datagrams for 1 … 16 chunks that leave at most ``target`` of the frames missing, at the least cost."""
    counts = list(range(1, CHUNKS_RECKONED + 1))
    # Larger rounds are reckoned as the largest of these.
    shares = [*sizes[: CHUNKS_RECKONED - 1], sum(sizes[CHUNKS_RECKONED - 1 :])]
    fails = [failure_of(k, k) for k in counts]
    gains: list[tuple[float, int, float]] = []

    def offer(at: int) -> None:
        if counts[at] < TIMES_MAX * (at + 1) + MORE_MAX:
            after = failure_of(at + 1, counts[at] + 1)
            heappush(gains, (after - fails[at], at, after))

    for at in range(CHUNKS_RECKONED):
        offer(at)
    missing = sum(map(operator.mul, shares, fails))
    while missing > target and gains:
        gain, at, after = heappop(gains)
        if -gain < GAIN_MIN:
            break
        missing += shares[at] * gain
        counts[at], fails[at] = counts[at] + 1, after
        offer(at)
    return _continued(counts)


def _continued(counts: list[int]) -> Symbols:
    """Growing, and beyond those that were reckoned growing as between the last two pairs."""
    growing = list(accumulate(counts, lambda before, count: max(before + 1, count)))
    slope = max((growing[-1] - growing[-3]) / 2.0, 1.0)
    growing += [round(growing[-1] + slope * k) for k in range(1, ROUND_CHUNKS_MAX - len(growing) + 1)]
    return tuple(min(count, ROUND_SYMBOLS_MAX) for count in growing)


def _first_round(link: Link, last: Symbols) -> Symbols:
    """Datagrams for 1 … 16 chunks that cost least together with those of a second round, ``last``."""

    def cost(k: int, n: int) -> float:
        losses = _losses_among(link.loss, link.rhos(k, n))
        again = enumerate(losses[n - k + 1 :], n - k + 1)
        return n + sum(share * last[max(round(lost * k / n), 1) - 1] for lost, share in again)

    found = [
        min(range(k, 2 * k + 2), key=lambda n, k=k: cost(k, n))  # type: ignore[misc]
        for k in range(1, CHUNKS_RECKONED + 1)
    ]
    return _continued(found)


def _first_copies(assumed: Assumptions, link: Link, last: int, loss: float) -> int:
    """Copies of a small chunk that cost least together with ``last`` of them where all are lost; where more
    may be lost than is reckoned with, as many as meet the target with as many once more."""
    if loss > LOSS_WORST:
        return copies_for(link, (assumed.target_small / link.loss) ** 0.5)
    return min(range(1, last + 1), key=lambda n: n + link.copies_failure(n) * last)


def percent_needed(assumed: Assumptions, loss: float) -> int:
    """Bytes of repairs for 100 bytes of media at a loss, rounded up."""
    link, sizes, row = _reckoned(assumed, loss)
    chunks = sum(share * k for k, share in enumerate(sizes, 1))
    datagrams = sum(share * n for share, n in zip(sizes, row.essential, strict=True))
    return ceil(100.0 * link.loss * datagrams / chunks)


def frames_missed(assumed: Assumptions, loss: float) -> float:
    """Share of frames that miss their budget at a loss where one round fits."""
    link, sizes, row = _reckoned(assumed, loss)
    shares = [*sizes[: CHUNKS_RECKONED - 1], sum(sizes[CHUNKS_RECKONED - 1 :])]
    return sum(share * link.failure(k, row.essential[k - 1]) for k, share in enumerate(shares, 1))


def _reckoned(assumed: Assumptions, loss: float) -> tuple[Link, tuple[float, ...], Row]:
    span_ms = assumed.spans_ms[0]
    at = next(i for i, most in enumerate(LOSSES) if loss <= most)
    link = list(_links(assumed, BURST_USUAL, span_ms, min(assumed.collect_ms, span_ms * COLLECT_SHARE_MAX)))[
        at
    ]
    return link, rounds_by_size(assumed, link), _last_rows(assumed, BURST_USUAL, span_ms)[at]
