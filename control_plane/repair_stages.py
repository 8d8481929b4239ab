"""What repair by the policy table makes of a lossy hop: how many frames wait for what, and how long.

A frame that lost something waits for rounds of repair (`proto.recovery.policy`). While another round still
fits in the budget, a round is hardly more than each chunk once more, and a frame either has all that it needs
when those are there or waits for the next. The last round that fits is another matter: its copies leave
within the first quarter of its span, its further datagrams in the rest, and a frame is whole as soon as so
many have come as it lacks. So what a frame waits for are *stages*:

    1 … f      the rounds that others follow
    f+1        the copies of the last round
    … 4        its further datagrams, in as many parts of its span as there are stages left
    5          one round more, which comes after the budget: what the table was made to make rare

How many rounds fit, and what span is left for the last, is a matter of the round trip alone; each such
stretch of round trips is a *regime*. How many frames wait for each stage depends on the loss, the bursts and
the rows of the regime (`repair_rounds`). It is reckoned once, on a grid, with the bytes that repair takes; a
plan looks it up for all its links. A stage's time is when it ends.

**A worse link must not look better.** The table repairs harder where less time is left: a hop of 130 ms on
which one round fits has its p99 frame earlier than one of 100 ms on which two do. True, but a planner that
took it for an advantage would be drawn to hops on the wrong side of a step. So neither shares nor bytes fall
with the loss or the round trip: they are filled up from below. Nor does the sum of half the round trip and
the end of any stage: there it is half way between what shorter round trips have at most and longer ones at
least, too early by a tenth before the step (of 100 ms at 10 %) and too late by a fifth to a quarter behind it
(130 ms); filled up from below it would be too late by two fifths. Bursts are left as they are: of the same
loss, longer ones hit fewer frames, and to fill that up would charge rare losses with repairs that they do not
need.

**The budget** is that of a whole path, and a hop further down has less left of it. It is reckoned with as if
it were whole on each hop, for a search that adds up edges cannot know at which depth an edge will stand. That
errs little: with less left there are fewer rounds, which are harder, so that the delay at p99 is no longer
and bytes are some more; and where no round is left the path is beyond the bound on delay anyhow, which is
that of the budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Final

import numpy as np

from farcast.control_plane.network import Floats, Indices
from farcast.control_plane.repair_rounds import Losses, follow, lost_together, part_ends_ms
from farcast.proto.recovery.choice import ROUNDS_TOLD_MAX, datagrams_per_loss, row_for, rows_in_turn
from farcast.proto.recovery.policy import (
    BURST_WORST,
    COPIES_SHARE,
    LOSS_WORST,
    LOSSES,
    Assumptions,
    Row,
    table,
)

STAGES: Final = ROUNDS_TOLD_MAX + 1

LOSS_NODES: Final = (0.0, 0.001, 0.0025, *LOSSES[:-1], LOSS_WORST)
BURST_NODES: Final = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, BURST_WORST)
"""Of the grid; in between is interpolated, beyond is taken as the last."""

CELLS: Final = tuple(product(LOSS_NODES, BURST_NODES))

RTT_STEP_MS: Final = 0.5
"""How finely the steps of the table are looked for."""

NOTICED_MS: Final = 12.0
"""From a loss to the round that repairs it, beyond a round trip, as measured on hops that carry media: what
follows shows it at once. (The table allows for more.)"""


@dataclass(frozen=True, slots=True, eq=False)
class Stages:
    """All that is looked up. ``most_ms``: round trips up to which regimes reach, but for the last.
    ``lines[regime, :, stage]``: when a stage ends after the frame itself would have been there, as a number
    and what is added per ms of round trip. ``corners[place, corner]``: what stands at a cell of the grid and
    at those next to it by burst, by loss and by both, ``place`` counting regimes and in each all `CELLS`: the
    shares of frames that wait for each stage, and extra bytes per byte of media."""

    most_ms: Floats
    lines: Floats
    corners: Floats

    def at(self, rtt_ms: Floats, loss: Floats, burst: Floats) -> tuple[Floats, Floats, Floats]:
        """Of links, in arrays of one shape: ends of stages, ms, and shares of frames that wait for each, both
        ``[..., stage]``; extra bytes per byte."""
        regime = np.searchsorted(self.most_ms, rtt_ms)
        lines = self.lines[regime]
        (lower, up), (shorter, on) = _between(LOSS_NODES, loss), _between(BURST_NODES, burst)
        place = (regime * len(LOSS_NODES) + lower) * len(BURST_NODES) + shorter
        weights = np.stack([(1 - up) * (1 - on), (1 - up) * on, up * (1 - on), up * on], axis=-1)
        found = np.einsum("...kc,...k->...c", self.corners[place], weights)
        ends_ms = lines[..., 0, :] + lines[..., 1, :] * rtt_ms[..., None]
        return ends_ms, found[..., :STAGES], found[..., STAGES]


def _between(nodes: Sequence[float], values: Floats) -> tuple[Indices, Floats]:
    """The node below each value, and how far it is on to the next, 0 to 1."""
    at = np.array(nodes)
    bounded = np.clip(values, at[0], at[-1])
    below = np.clip(np.searchsorted(at, bounded, side="right") - 1, 0, len(at) - 2)
    return below, (bounded - at[below]) / (at[below + 1] - at[below])


@lru_cache(maxsize=16)
def stages(packets_per_frame: int, assumed: Assumptions) -> Stages:
    """Of frames of so many packets and the table of these assumptions. The first time takes a second."""
    rows = table(assumed)
    own = [_own_rows(rows, loss, burst) for loss, burst in CELLS]
    regimes = _regimes(own[0], assumed.budget_ms)
    of_cells = np.stack([_shares(packets_per_frame, assumed, _turns(regime, own)) for regime in regimes])
    shares = of_cells.reshape(len(regimes), len(LOSS_NODES), len(BURST_NODES), STAGES + 1)
    for axis in (0, 1):
        shares = np.maximum.accumulate(shares, axis=axis)
    return Stages(np.array([regime.most_ms for regime in regimes[:-1]]), _lines(regimes), _corners(shares))


def _corners(shares: Floats) -> Floats:
    """`Stages.corners`, of ``shares[regime, loss, burst]``. What is next to the last is not looked up."""
    rows = shares.reshape(-1, shares.shape[-1])
    steps = (0, 1, len(BURST_NODES), len(BURST_NODES) + 1)
    return np.stack([np.roll(rows, -step, axis=0) for step in steps], axis=1)


# ---- Which rows, and when -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Regime:
    """Round trips, and the rows of the rounds that fit, in turn; where none does, the row of repairs that
    come too late."""

    least_ms: float
    most_ms: float
    turns: tuple[Row, ...]


def _own_rows(rows: Sequence[Row], loss: float, burst: float) -> list[Row]:
    """Those that a link may be given, in their order."""
    last = row_for(rows, loss, burst, 0.0, 0.0)
    return [
        row
        for row in rows
        if (row.loss_ppm_max, row.burst_milli_max) == (last.loss_ppm_max, last.burst_milli_max)
    ]


def _regimes(own: Sequence[Row], budget_ms: int) -> list[_Regime]:
    """By the rows of one cell: those of all have the same steps."""
    found = list[_Regime]()
    for step in range(1, int(budget_ms / RTT_STEP_MS) + 1):
        rtt_ms = step * RTT_STEP_MS
        turns = rows_in_turn(own, *CELLS[0], rtt_ms, rtt_ms + NOTICED_MS, budget_ms) or (own[-1],)
        is_same = bool(found) and found[-1].turns == turns
        least_ms = found.pop().least_ms if is_same else rtt_ms - RTT_STEP_MS
        found.append(_Regime(least_ms, rtt_ms, turns))
    return found


def _turns(regime: _Regime, own: Sequence[Sequence[Row]]) -> list[list[Row]]:
    """``[turn][cell]``: of each cell the row for the same round trips and times left."""
    cells = [{_place(row): row for row in rows} for rows in own]
    return [[cell[_place(turn)] for cell in cells] for turn in regime.turns]


def _place(row: Row) -> tuple[int, int, bool]:
    """For what it is, loss and bursts aside."""
    return row.rtt_us_max, row.budget_ms_min, row.again


def _parts(turns: Sequence[object]) -> int:
    """Stages of the last round after its copies."""
    return STAGES - 1 - len(turns)


def _lines(regimes: Sequence[_Regime]) -> Floats:
    """`Stages.lines`, straight from the beginning of a regime to its end."""
    rtts_ms = np.array([(regime.least_ms, regime.most_ms) for regime in regimes])[..., None]
    ends_ms = np.array(
        [[_ends_ms(rtt_ms, of.turns) for rtt_ms in (of.least_ms, of.most_ms)] for of in regimes]
    )
    in_all_ms = (np.maximum.accumulate(ends_ms, axis=2) + rtts_ms / 2).reshape(-1, STAGES)
    rising_ms = _rising(in_all_ms).reshape(ends_ms.shape) - rtts_ms / 2
    first_ms, last_ms = np.moveaxis(rising_ms, 1, 0)
    slopes = (last_ms - first_ms) / (rtts_ms[:, 1] - rtts_ms[:, 0])
    return np.stack([first_ms - slopes * rtts_ms[:, 0], slopes], axis=1)


def _rising(rows: Floats) -> Floats:
    """Half way between the greatest so far and the least from here on."""
    most, least = np.maximum.accumulate(rows), np.minimum.accumulate(rows[::-1])[::-1]
    half: Floats = (most + least) / 2
    return half


def _ends_ms(rtt_ms: float, turns: Sequence[Row]) -> list[float]:
    """When each stage ends, at one round trip."""
    takes_ms = rtt_ms + NOTICED_MS
    begins_ms = len(turns) * takes_ms
    span_ms, collect_ms = turns[-1].span_us / 1e3, turns[-1].collect_us / 1e3
    copies = [turn * takes_ms + row.span_us / 1e3 / COPIES_SHARE for turn, row in enumerate(turns, 1)]
    further = [begins_ms + end_ms for end_ms in part_ends_ms(_parts(turns), collect_ms, span_ms)]
    return [*copies, *further, begins_ms + takes_ms + span_ms]


# ---- How many, and how much -----------------------------------------------------------------------


def _shares(packets: int, assumed: Assumptions, turns: Sequence[Sequence[Row]]) -> Floats:
    """``[cell, …]``: frames that wait for each stage; extra bytes. ``turns[turn][cell]``."""
    loss, burst = np.array(CELLS).T
    losses, per_ms = Losses(loss, burst), assumed.packets_per_s / 1e3
    lost = lost_together(losses, packets)
    hit = lost.sum(axis=1)
    waits, extra, owed = [hit], np.zeros(len(CELLS)), np.ones(len(CELLS))
    for turn, rows in enumerate(turns, 1):
        extra += owed * _sent(assumed, rows)
        waiting, lost = follow(losses, per_ms, rows, lost, _parts(turns) if turn == len(turns) else 0)
        waits += [*waiting, lost.sum(axis=1)]
        owed = waits[-1] / np.maximum(hit, 1e-300)
    return np.stack([*waits, extra], axis=-1)


def _sent(assumed: Assumptions, rows: Sequence[Row]) -> Floats:
    """``[cell]``: datagrams of a round per datagram of media, if all losses had it."""
    return np.array(
        [
            loss * datagrams_per_loss(assumed, row, loss, burst) if loss else 0.0
            for row, (loss, burst) in zip(rows, CELLS, strict=True)
        ]
    )
