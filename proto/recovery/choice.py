"""What the policy table makes of one link: its rounds, how late they bring what was lost, and what they cost.

The datapath chooses a row for each loss by what it measures then and what is left of the budget; here the
same is done for a chunk that was lost when it was first sent. Shares of frames and bytes are those that the
table was computed with (`policy`), for the loss and the bursts of the link in place of the bounds of its row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from farcast.proto.recovery.policy import (
    BURST_WORST,
    LOSS_WORST,
    Assumptions,
    Link,
    Row,
    round_ms,
    rounds_by_size,
    table,
)

ROUNDS_TOLD_MAX: Final = 4
SHOWN_CHUNKS: Final = 4
"""Of the round that `Choice.text` gives as an example: about one burst."""
USUAL: Final = Assumptions()
LOSS_TOLD_MIN: Final = 1e-5
"""Less is called no loss."""


@dataclass(frozen=True, slots=True)
class Round:
    """One round. ``after_ms``: when its first copies are there, after the chunk itself would have been;
    ``begun``: such rounds a frame, if all its losses had them; ``fails``: share of them that another must
    follow; ``datagrams``: per chunk lost, on the average."""

    row: Row
    after_ms: float
    begun: float
    fails: float
    datagrams: float


@dataclass(frozen=True, slots=True)
class Choice:
    """What is done about losses of a link; no rounds where none comes in time, or nothing is lost."""

    loss: float
    burst: float
    rtt_ms: float
    budget_ms: int
    rounds: tuple[Round, ...]
    needs_ms: float
    """When the first copies are there, after the chunk was sent."""
    extra: float
    """Bytes of repairs per byte of media."""
    missed: float
    """Share of frames that are not whole within the budget."""

    def text(self) -> str:
        """One sentence: what was measured, what is sent, and what that does."""
        if self.loss < LOSS_TOLD_MIN:
            return f"{self.rtt_ms:.0f} ms, nothing lost: nothing is sent again"
        measured = f"{self.rtt_ms:.0f} ms, {self.loss:.2%} lost in runs of {self.burst:.1f}"
        if not self.rounds:
            return (
                f"{measured}: what is lost comes {self.needs_ms:.0f} ms after it was sent, and the budget is "
                f"{self.budget_ms} ms: every loss is missed"
            )
        last = self.rounds[-1]
        sent = _sent(last.row)
        if len(self.rounds) > 1:
            sent = f"each loss once more, {len(self.rounds)} rounds fit; in the last {sent}"
        return (
            f"{measured}: {sent}; there {self.rounds[0].after_ms:.0f} ms later, {self.extra:+.1%} bytes, "
            f"{self.missed:.3%} of frames missed"
        )


def _sent(row: Row) -> str:
    alone, together = row.essential[0], row.essential[SHOWN_CHUNKS - 1]
    times = {1: "once", 2: "twice"}.get(alone, f"{alone} times")
    how = "with coded symbols" if row.coded and together > SHOWN_CHUNKS else "as copies"
    span = f" over {row.span_us // 1_000} ms" if row.span_us and together > SHOWN_CHUNKS else ""
    return f"one loss {times}, {SHOWN_CHUNKS} together in {together} datagrams{span} {how}"


def row_for(
    rows: Sequence[Row], loss: float, burst: float, rtt_ms: float, left_ms: float, again: bool = False
) -> Row:
    """The row that the datapath chooses (``HopPolicy::row``); ``again``: a round has not brought it."""
    loss_ppm, burst_milli, rtt_us = round(loss * 1e6), round(burst * 1e3), round(rtt_ms * 1e3)
    fitting = (
        row
        for row in rows
        if loss_ppm <= row.loss_ppm_max
        and (not row.burst_milli_max or burst_milli <= row.burst_milli_max)
        and (not row.rtt_us_max or rtt_us <= row.rtt_us_max)
        and left_ms >= row.budget_ms_min
        and (again or not row.again)
    )
    return next(fitting, rows[-1])


def choose(loss: float, burst: float, rtt_ms: float, assumed: Assumptions = USUAL) -> Choice:
    """What the table makes of a link; ``loss`` a share, ``burst`` datagrams."""
    at = min(max(loss, 0.0), LOSS_WORST)
    length = min(max(burst, 1.0), BURST_WORST)
    takes_ms = round_ms(rtt_ms)
    needs_ms = rtt_ms / 2.0 + takes_ms
    if at < LOSS_TOLD_MIN:
        return Choice(at, length, rtt_ms, assumed.budget_ms, (), needs_ms, 0.0, 0.0)
    rows, rounds = table(assumed), list[Round]()
    while len(rounds) < ROUNDS_TOLD_MAX:
        left_ms = assumed.budget_ms - needs_ms - len(rounds) * takes_ms
        if left_ms < 0:
            break
        row = row_for(rows, at, length, rtt_ms, left_ms, bool(rounds))
        rounds.append(_round(assumed, row, at, length, (len(rounds) + 1) * takes_ms))
        if row.rtt_us_max == 0:  # the last that fits
            break
    extra, owed = 0.0, 1.0
    for one in rounds:
        extra += at * owed * one.datagrams
        owed *= one.fails
    hit = rounds[0].begun if rounds else at * assumed.chunks_per_s / assumed.frames_per_s / length
    missed = min(hit * owed, 1.0)
    return Choice(at, length, rtt_ms, assumed.budget_ms, tuple(rounds), needs_ms, extra, missed)


def _round(assumed: Assumptions, row: Row, loss: float, burst: float, after_ms: float) -> Round:
    per_ms = assumed.packets_per_s / 1_000.0
    link = Link(
        loss, burst, row.spacing_us / 1_000.0, row.span_us / 1_000.0, row.collect_us / 1_000.0, per_ms
    )
    sizes = rounds_by_size(assumed, link)
    begun, lost = sum(sizes), sum(size * k for k, size in enumerate(sizes, 1))
    failing = sum(
        size * link.failure(k, n) for k, (size, n) in enumerate(zip(sizes, row.essential, strict=True), 1)
    )
    datagrams = sum(size * n for size, n in zip(sizes, row.essential, strict=True))
    return Round(row, after_ms, begun, failing / begun, datagrams / lost)
