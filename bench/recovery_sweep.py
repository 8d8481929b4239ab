"""Our hop over loss, round trip, burst and budget, beside the best fixed mix of ARQ and FEC, in virtual time.

The film of `recovery.py` over a hop of 20 Mbit/s. Beside each cell stands every mix of a share of parity for
each frame (`PARITIES`) and a number of copies of what that does not complete, 12 ms apart (`COPIES`), on the
same links (``rules.rs``). Where no round of repairs fits in the budget a hop of ours cannot hold it (the edge
refuses such a configuration, and the planner splits the hop): such cells are shown in brackets and are in no
total. Two questions are asked, each twice; below 1 ours is better.

**One mix for all cells**, as somebody would configure it: of what each mix misses in all cells together, and
of its extra bytes in all of them,

- ``one_mix_missed_ratio``: frames that ours misses, over those of the mix that misses fewest of those that
  cost no more (``one_mix_as_cheap``);
- ``one_mix_bytes_ratio``: extra bytes of ours, over those of the cheapest mix that misses no more than ours
  (``one_mix_as_good``), with `TARGET` in place of ours in the cells where ours is below it.

Null where there is no such mix: none costs so little, or none misses so few at any cost. The goals are not
reached then.

**The best mix of each cell**, which nobody can configure since it takes hindsight; the map and

- ``missed_ratio``, ``bytes_ratio``: the same, against the sums of what was best in each cell. In the map
  ``-``: no mix does it; ``=``: neither misses anything.

These are the harder yardstick, and no goals: where plain ARQ meets the budget nothing can send less than it.

Shares are of frames and of the bytes of the media, and cells count alike. ``--svg`` draws the heat map. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

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
GOALS: Final = {"one_mix_missed_ratio": 0.68, "one_mix_bytes_ratio": 0.60}
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

    name: str
    missed: float
    extra: float


@dataclass(frozen=True, slots=True)
class Compared:
    """Ours in a cell, and every mix: the same ones in the same order in each."""

    cell: Cell
    ours: Found
    mixes: tuple[Found, ...]

    @property
    def missed_allowed(self) -> float:
        """A mix that misses so many is as good as ours."""
        return max(self.ours.missed, TARGET)

    @property
    def as_cheap(self) -> Found | None:
        """The mix of no more bytes that misses fewest."""
        return fewest_missed(self.mixes, self.ours.extra)

    @property
    def as_good(self) -> Found | None:
        """The cheapest mix that is as good."""
        return cheapest(self.mixes, self.missed_allowed)

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


def fewest_missed(mixes: Iterable[Found], extra_max: float) -> Found | None:
    """The one that misses fewest of those that cost no more than this share."""
    cheap = (mix for mix in mixes if mix.extra <= extra_max)
    return min(cheap, key=lambda mix: (mix.missed, mix.extra), default=None)


def cheapest(mixes: Iterable[Found], missed_max: float) -> Found | None:
    """The one that costs least of those that miss no more than this share."""
    good = (mix for mix in mixes if mix.missed <= missed_max)
    return min(good, key=lambda mix: mix.extra, default=None)


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
        return Compared(cell, ours, tuple(self._found(way, self._plain, cell) for way in self._mixes))

    def _found(self, way: Way, plain: Way, cell: Cell) -> Found:
        key = (plain.name, cell.values)
        if key not in self._clean:
            self._clean[key] = run(plain, self._frames, 1, [*cell.values, "loss=0"])
        got = run(way, self._frames, 1, [*cell.values, f"loss={cell.loss / 100}"])
        return Found(way.name, got["missed"], extra(got, self._clean[key]))


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


def totals(found: Sequence[Compared]) -> dict[str, float | int | str | None]:
    """Sums over the cells in which a round of repairs fits: as the head of this module says."""
    held = [one for one in found if one.cell.has_round]
    cheap = [(one.ours.missed, one.as_cheap.missed) for one in held if one.as_cheap]
    good = [(one.ours.extra, one.as_good.extra) for one in held if one.as_good]
    return {
        "cells": len(held),
        "missed": round(sum(one.ours.missed for one in held) / max(len(held), 1), 6),
        "extra_bytes": round(sum(one.ours.extra for one in held) / max(len(held), 1), 4),
        **one_mix(held),
        "cells_without_as_cheap": len(held) - len(cheap),
        "cells_without_as_good": len(held) - len(good),
        "missed_ratio": ratio(*map(sum, zip(*cheap, strict=True))) if cheap else None,
        "bytes_ratio": ratio(*map(sum, zip(*good, strict=True))) if good else None,
    }


def one_mix(held: Sequence[Compared]) -> dict[str, float | str | None]:
    """Ours beside the mixes that are best over all these cells; None where there is no such mix."""
    ours = added([one.ours for one in held])
    sums = [added(mix) for mix in zip(*(one.mixes for one in held), strict=True)]
    as_cheap = fewest_missed(sums, ours.extra)
    as_good = cheapest(sums, sum(one.missed_allowed for one in held))
    return {
        "one_mix_missed_ratio": ratio(ours.missed, as_cheap.missed) if as_cheap else None,
        "one_mix_bytes_ratio": ratio(ours.extra, as_good.extra) if as_good else None,
        "one_mix_as_cheap": as_cheap.name if as_cheap else None,
        "one_mix_as_good": as_good.name if as_good else None,
    }


def added(found: Sequence[Found]) -> Found:
    """The sums of what one way missed and cost in several cells."""
    name = found[0].name if found else ""
    return Found(name, sum(one.missed for one in found), sum(one.extra for one in found))


def ratio(ours: float, theirs: float) -> float | None:
    """None where they miss or cost nothing and ours does; 1 where neither does."""
    if theirs <= 0:
        return 1.0 if ours <= 0 else None
    return round(ours / theirs, 3)


def unmet(total: Mapping[str, Any]) -> list[str]:
    """Goals that were not reached; one without a mix to judge it by is none that was."""
    return [
        f"{key}: no one mix does it" if total[key] is None else f"{key} {total[key]} > {most}"
        for key, most in GOALS.items()
        if total[key] is None or total[key] > most
    ]


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
    print("goals not reached: " + ("; ".join(unmet(total)) or "none"))
    print(json.dumps(total))


if __name__ == "__main__":
    main()
