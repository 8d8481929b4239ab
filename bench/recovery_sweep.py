"""Our hop over loss, round trip, burst and budget, beside the best fixed mix of ARQ and FEC, in virtual time.

The film of `recovery.py` over a hop of 20 Mbit/s. Beside each cell stands every mix of a share of parity for
each frame (`PARITIES`) and a number of copies of what that does not complete, 12 ms apart (`COPIES`), on the
same links (``rules.rs``). It is stronger than what anybody can configure, since the best mix is taken of each
cell, with hindsight:

- *missed*: frames that ours misses, over those of the mix that misses fewest of those that cost no more;
- *bytes*: extra bytes of ours, over those of the cheapest mix that misses no more (or no more than the target
  of `TARGET` asks for).

Below 1 ours is better. ``-``: no mix does it; ``=``: neither misses anything. Over all cells the sums are
compared. Where no round of repairs fits in the budget a hop of ours cannot hold it (the edge refuses such a
configuration, and the planner splits the hop): such cells are shown in brackets and left out of the sums.
``--svg`` draws the heat map. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

from bench.recovery_runs import SEEDS, Figures, Way, extra, hybrid, lines, run

from farcast.proto.recovery.feasible import first_repair_ms
from farcast.proto.recovery.policy import SPANS_MS, TARGET_ESSENTIAL, table
from farcast.simulations.report.charts import SCHEMA, Spec, svg

LOSSES: Final = (2, 5, 10, 20)
RTTS_MS: Final = (50, 100, 200)
BURSTS: Final = (1, 3, 6)
BUDGETS_MS: Final = (250, 400, 600)
PARITIES: Final = (0.0, 0.1, 0.2, 0.35, 0.5, 1.0, 1.5)
COPIES: Final = (1, 2, 3, 4, 6)
FRAMES: Final = 12_000
SHORT_FRAMES: Final = 3_000
TARGET: Final = TARGET_ESSENTIAL
RATIO_SHOWN_MAX: Final = 2.0
GOALS: Final = {"missed_ratio": 0.68, "bytes_ratio": 0.60}
"""Hairpin's against the best before it: 32 % fewer missed, 40 % fewer bytes (Meng et al., NSDI 2024)."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One link and what is asked of it; loss in per cent, burst in datagrams."""

    loss: int
    rtt_ms: int
    burst: int
    budget_ms: int

    @property
    def values(self) -> tuple[str, ...]:
        """As the example reads it, but for the loss."""
        return (
            f"burst={self.burst}",
            f"delay_us={self.rtt_ms * 500}",
            f"budget_ms={self.budget_ms}",
        )

    @property
    def has_round(self) -> bool:
        """A round of repairs fits."""
        return first_repair_ms(self.rtt_ms) + SPANS_MS[-1] <= self.budget_ms


@dataclass(frozen=True, slots=True)
class Found:
    """What a way missed, a share of frames, and what it cost, a share of the media."""

    missed: float
    extra: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Ours in a cell, the mix of no more bytes that misses fewest, and the cheapest that misses no more."""

    cell: Cell
    ours: Found
    as_cheap: Found | None
    as_good: Found | None

    @property
    def missed_ratio(self) -> float | None:
        """None without a mix; 1 where neither misses anything."""
        if self.as_cheap is None:
            return None
        if self.as_cheap.missed == 0:
            return 1.0 if self.ours.missed == 0 else RATIO_SHOWN_MAX
        return self.ours.missed / self.as_cheap.missed

    @property
    def bytes_ratio(self) -> float | None:
        """None without a mix, or where it sent nothing more."""
        if self.as_good is None or self.as_good.extra <= 0:
            return None
        return self.ours.extra / self.as_good.extra


class Sweep:
    """Runs cells; what a way takes without loss is run once."""

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._ours = Way("ours", "hop", lines(table()))
        self._mixes = [hybrid(share, count) for share, count in product(PARITIES, COPIES)]
        self._plain = hybrid(0.0, 1)
        self._clean: dict[tuple[str, tuple[str, ...]], Figures] = {}

    def compare(self, cell: Cell) -> Compared:
        """All ways in one cell."""
        ours = self._found(self._ours, self._ours, cell)
        # Parity is a cost of the mix, so its bytes are counted beside those of a film without any.
        mixes = [self._found(way, self._plain, cell) for way in self._mixes]
        cheap = [mix for mix in mixes if mix.extra <= ours.extra]
        good = [mix for mix in mixes if mix.missed <= max(ours.missed, TARGET)]
        return Compared(
            cell,
            ours,
            min(cheap, key=lambda mix: (mix.missed, mix.extra), default=None),
            min(good, key=lambda mix: mix.extra, default=None),
        )

    def _found(self, way: Way, plain: Way, cell: Cell) -> Found:
        key = (plain.name, cell.values)
        if key not in self._clean:
            self._clean[key] = run(plain, self._frames, 1, [*cell.values, "loss=0"])
        got = run(way, self._frames, 1, [*cell.values, f"loss={cell.loss / 100}"])
        return Found(got["missed"], extra(got, self._clean[key]))


def cells(losses: Sequence[int]) -> Iterator[Cell]:
    """All, those of one table together."""
    for budget_ms, burst, rtt_ms, loss in product(BUDGETS_MS, BURSTS, RTTS_MS, losses):
        yield Cell(loss, rtt_ms, burst, budget_ms)


def text(compared: Compared) -> str:
    """Missed and bytes of a cell: ours, and the ratios."""
    missed, cost = compared.missed_ratio, compared.bytes_ratio
    neither = compared.as_cheap is not None and compared.ours.missed == compared.as_cheap.missed == 0
    shown = "=" if neither else "-" if missed is None else f"{missed:.2f}"
    both = f"{shown:>5} {'-' if cost is None else f'{cost:.2f}':>5}"
    return both if compared.cell.has_round else f"({both})"


def show(found: Sequence[Compared], losses: Sequence[int]) -> None:
    """The heat map as text: a line for each budget, burst and round trip."""
    print("budget  burst  round trip   " + "".join(f"{loss:>10} %     " for loss in losses))
    print(" " * 28 + "".join("missed  bytes   " for _ in losses))
    rows: dict[tuple[int, int, int], list[Compared]] = {}
    for one in found:
        rows.setdefault((one.cell.budget_ms, one.cell.burst, one.cell.rtt_ms), []).append(one)
    for (budget_ms, burst, rtt_ms), row in rows.items():
        print(f"{budget_ms:4} ms  {burst:4}  {rtt_ms:7} ms   " + "".join(f"{text(one):16}" for one in row))


def chart(found: Sequence[Compared]) -> Spec:
    """The heat map as a drawing: loss by round trip, in fields by burst and budget, for both ratios."""
    values = [
        {
            "loss": f"{one.cell.loss} %",
            "round trip": f"{one.cell.rtt_ms} ms",
            "field": f"{one.cell.budget_ms} ms, bursts of {one.cell.burst}",
            "what": what,
            "ratio": min(ratio, RATIO_SHOWN_MAX),
            "shown": f"{ratio:.2f}",
        }
        for one in found
        for what, ratio in (("missed", one.missed_ratio), ("bytes", one.bytes_ratio))
        if ratio is not None
    ]
    axes: Spec = {
        "x": {"field": "loss", "type": "ordinal", "sort": None},
        "y": {"field": "round trip", "type": "ordinal", "sort": None},
    }
    color = {
        "field": "ratio",
        "type": "quantitative",
        "title": "ours / best mix",
        "scale": {"scheme": "redyellowgreen", "reverse": True, "domain": [0, RATIO_SHOWN_MAX]},
    }
    layers: list[Spec] = [
        {"mark": "rect", "encoding": {**axes, "color": color}},
        {"mark": {"type": "text", "fontSize": 9}, "encoding": {**axes, "text": {"field": "shown"}}},
    ]
    return {
        "$schema": SCHEMA,
        "data": {"values": values},
        "facet": {
            "row": {"field": "field", "sort": None, "title": None},
            "column": {"field": "what", "sort": None, "title": None},
        },
        "spec": {"layer": layers},
    }


def totals(found: Sequence[Compared]) -> dict[str, float | int]:
    """Sums over the cells in which a round of repairs fits."""
    held = [one for one in found if one.cell.has_round]
    cheap = [(one.ours.missed, one.as_cheap.missed) for one in held if one.as_cheap]
    good = [(one.ours.extra, one.as_good.extra) for one in held if one.as_good]
    return {
        "cells": len(held),
        "cells_without_as_cheap": len(held) - len(cheap),
        "cells_without_as_good": len(held) - len(good),
        "missed": round(sum(one.ours.missed for one in held) / max(len(held), 1), 6),
        "missed_ratio": _ratio(cheap),
        "bytes_ratio": _ratio(good),
    }


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return round(sum(ours for ours, _ in pairs) / max(sum(theirs for _, theirs in pairs), 1e-9), 3)


def main() -> None:
    """Print the map and the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help=f"{SHORT_FRAMES} frames a run")
    parser.add_argument("--frames", type=int, default=0, help=f"a run; {FRAMES} without this")
    parser.add_argument("--losses", type=int, nargs="*", default=LOSSES, help="per cent")
    parser.add_argument("--svg", type=Path, help="draw the map to this file")
    options = parser.parse_args()
    sweep = Sweep(options.frames or (SHORT_FRAMES if options.short else FRAMES))
    with ThreadPoolExecutor(SEEDS) as pool:
        found = list(pool.map(sweep.compare, cells(options.losses)))
    show(found, options.losses)
    if options.svg:
        options.svg.write_text(svg(chart(found)))
    total = totals(found)
    missing = [f"{key} {total[key]} > {most}" for key, most in GOALS.items() if total[key] > most]
    print("goals not reached: " + ("; ".join(missing) or "none"))
    print(json.dumps(total))


if __name__ == "__main__":
    main()
