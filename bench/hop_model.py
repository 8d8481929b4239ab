"""What the planner reckons of a hop that loses, beside what the hop does: p99 of frames, and bytes of repair.

    make bench-hop-model

The film of `recovery.py` over a hop of 20 Mbit/s with a budget of 400 ms, in virtual time, over losses, round
trips and bursts; beside it `control_plane.frame_delay` for the same link. What is measured is the p99 latency
of whole frames less the time that a frame takes to leave where nothing is lost (the median of a clean link,
less half the round trip), which no route changes; and the bytes that crossed the link beyond those of a clean
one.

Each cell has both p99, and the error of the planner's in per cent of the hop's; then both extra bytes. Where
no round of repairs fits in the budget the hop is beyond the planner's bound on delay: such cells are shown in
brackets and left out of the JSON line, as are those of more loss than routes may have (``planner.loss_max``).
The planner says when a stage of repair ends (`repair_stages`), in steps: where the share of frames that wait
for the next is near a hundredth, the hop's p99 lies to this side of a step or to that. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from statistics import fmean
from typing import Final

import numpy as np
from bench.recovery_runs import SEEDS, Figures, Way, extra, lines, run

from farcast.control_plane.edge_table import EdgeTable
from farcast.control_plane.frame_delay import FrameModel, hop_delays
from farcast.control_plane.plan import PlannerConfig
from farcast.proto.recovery.feasible import first_repair_ms
from farcast.proto.recovery.policy import SPANS_MS, table

LOSSES: Final = (1, 2, 5, 10, 20)
RTTS_MS: Final = (50, 75, 100, 130, 160, 200, 300)
BURSTS: Final = (1, 3, 6)
FRAMES: Final = 24_000
SHORT_FRAMES: Final = 6_000
BUDGET_MS: Final = 400
GOAL: Final = 0.10
"""How far the planner's p99 may be from the hop's, a share of it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One link; loss in per cent, burst in datagrams. p99 in ms, extra bytes a share of the media."""

    loss: int
    rtt_ms: int
    burst: int
    planned_ms: float
    planned_extra: float
    measured_ms: float
    measured_extra: float

    @property
    def is_judged(self) -> bool:
        """A round fits, and routes may use such a link."""
        fits = first_repair_ms(self.rtt_ms) + SPANS_MS[-1] <= BUDGET_MS
        return fits and self.loss <= 100 * PlannerConfig().loss_max

    @property
    def error(self) -> float:
        """Of the planner's p99, a share of the hop's."""
        return self.planned_ms / self.measured_ms - 1

    @property
    def text(self) -> str:
        """One field of the table."""
        told = (
            f"{self.planned_ms:3.0f} {self.measured_ms:3.0f} {self.error:+4.0%} "
            f"{self.planned_extra:4.1%} {self.measured_extra:4.1%}"
        )
        return told if self.is_judged else f"({told})"


def planned(rtt_ms: float, loss: float, burst: float) -> tuple[float, float]:
    """p99 delay of frames over one hop, ms, and extra bytes, by the planner."""
    rtt, lost, length = (np.array([value]) for value in (rtt_ms, loss, burst))
    hop = hop_delays(FrameModel(), rtt, rtt, lost, length)
    (delay_ms,), _ = EdgeTable(hop, np.zeros(1)).judge(np.array([[0]]))
    return float(delay_ms), float(hop.extra[0])


def cells(frames: int) -> Iterator[Cell]:
    """All, those of one row together."""
    ours = Way("ours", "hop", lines(table()))
    links = [(rtt_ms, burst, loss) for rtt_ms, burst in product(RTTS_MS, BURSTS) for loss in (0, *LOSSES)]

    def measured(link: tuple[int, int, int]) -> Figures:
        rtt_ms, burst, loss = link
        return run(
            ours,
            frames,
            1,
            [f"burst={burst}", f"delay_us={rtt_ms * 500}", f"budget_ms={BUDGET_MS}", f"loss={loss / 100}"],
        )

    clean: Figures = {}
    with ThreadPoolExecutor(SEEDS) as pool:
        for (rtt_ms, burst, loss), got in zip(links, pool.map(measured, links), strict=True):
            if not loss:
                clean = got
                continue
            leaves_ms = clean["p50_ms"] - rtt_ms / 2
            at = planned(rtt_ms, loss / 100, burst)
            yield Cell(loss, rtt_ms, burst, *at, got["p99_ms"] - leaves_ms, extra(got, clean))


def show(found: Sequence[Cell]) -> None:
    """The table: a line for each round trip and burst."""
    print("planner's p99, hop's p99 (ms), error; planner's extra bytes, hop's")
    print("round trip  burst  " + "".join(f"{loss:>15} %          " for loss in LOSSES))
    rows: dict[tuple[int, int], list[Cell]] = {}
    for one in found:
        rows.setdefault((one.rtt_ms, one.burst), []).append(one)
    for (rtt_ms, burst), row in rows.items():
        print(f"{rtt_ms:7} ms  {burst:5}  " + " ".join(f"{one.text:>26}" for one in row))


def totals(found: Sequence[Cell]) -> dict[str, float | int]:
    """Over the cells that are judged; of bytes the difference in shares of the media."""
    judged = [one for one in found if one.is_judged]
    errors = [abs(one.error) for one in judged]
    more = [one.planned_extra - one.measured_extra for one in judged]
    return {
        "cells": len(judged),
        "p99_error_max": round(max(errors), 3),
        "p99_error_mean": round(fmean(errors), 3),
        "p99_cells_beyond_goal": sum(error > GOAL for error in errors),
        "extra_error_max": round(max(map(abs, more)), 3),
        "extra_error_mean": round(fmean(map(abs, more)), 3),
    }


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help=f"{SHORT_FRAMES} frames a run")
    parser.add_argument("--frames", type=int, default=0, help=f"a run; {FRAMES} without this")
    options = parser.parse_args()
    found = list(cells(options.frames or (SHORT_FRAMES if options.short else FRAMES)))
    show(found)
    print(json.dumps(totals(found)))


if __name__ == "__main__":
    main()
