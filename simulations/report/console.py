"""Results on a terminal: tables on stdout, what is going on and what to do next on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from farcast.simulations.gate import Outcome
from farcast.simulations.pool import Failure
from farcast.simulations.report.findings import (
    Pins,
    broken,
    fails_gate,
    interval_text,
    is_bad,
    margin_text,
    value_text,
    worst_seed,
)
from farcast.simulations.results import Result
from farcast.simulations.runs import Run

PROMISE_COLUMNS: Final = ("scenario", "", "promise", "measured", "margin", "95 %", "worst")
REPLAYS_MAX: Final = 12

Row = tuple[str, ...]


def promise_rows(results: Sequence[Result], pins: Pins) -> list[Row]:
    """A row for each promise, what is broken first within its scenario."""
    rows: list[Row] = []
    for result in results:
        for verdict in [*broken(result), *(each for each in result.verdicts if each.status == "held")]:
            is_pinned = verdict.status != "held" and not fails_gate(result, verdict, pins)
            rows.append(
                (
                    result.scenario.name,
                    "not yet" if is_pinned else verdict.status,
                    verdict.promise,
                    value_text(verdict),
                    margin_text(verdict),
                    interval_text(verdict),
                    verdict.where_worst or "",
                )
            )
    return rows


def replays(results: Sequence[Result], pins: Pins) -> list[str]:
    """What is wrong, with the command that shows it again."""
    said: list[str] = []
    for result in results:
        name = result.scenario.name
        for seed in result.seeds:
            if seed.failure is not None:
                said += [f"{name}, seed {seed.seed}: {seed.failure}", f"  {seed.replay}"]
        commands = {seed.seed: seed.replay for seed in result.seeds}
        for failure in result.invariant_failures[:REPLAYS_MAX]:
            at = f"seed {failure.seed}, {failure.at_us / 1e6:.3f} s"
            said += [f"{name}, {at}: {failure.invariant}: {failure.what}", f"  {commands[failure.seed]}"]
        if any(fails_gate(result, verdict, pins) for verdict in result.verdicts):
            worst = next(verdict for verdict in broken(result) if fails_gate(result, verdict, pins))
            seed_of_worst = worst_seed(result, worst)
            said += [f"{name}: {worst.promise}: {value_text(worst)}{f': {worst.note}' if worst.note else ''}"]
            said += [f"  {seed_of_worst.replay}"] if seed_of_worst else []
    return said


def pin_remarks(results: Sequence[Result], pins: Pins) -> list[str]:
    """What is to be said of promises that are pinned."""
    by_name = {result.scenario.name: result for result in results}
    return [
        f"{name}: {promise}: {pin.state} ({pin.reason})"
        for (name, promise), pin in pins.items()
        if name in by_name
    ]


class Progressing:
    """Shows how far runs are: bars on a terminal, otherwise a line for each scenario that is complete."""

    def __init__(self, console: Console, runs_total: int) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._all = self._bars.add_task("all runs", total=runs_total)
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Progressing:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def progress(self, number: int, run: Run, share: float) -> None:
        """See `gate.Watcher`."""
        if number not in self._tasks:
            again = " again" if run.repeat else ""
            variant = "" if run.variant == "farcast" else f" {run.variant}"
            text = f"{run.scenario.name}{variant} seed {run.seed}{again}"
            self._tasks[number] = self._bars.add_task(text, total=1.0)
        self._bars.update(self._tasks[number], completed=share)
        if share >= 1.0:
            self._bars.update(self._tasks[number], visible=False)

    def ended(self, number: int, run: Run, outcome: Outcome) -> None:
        """See `gate.Watcher`."""
        self._bars.advance(self._all)
        if number in self._tasks:
            self._bars.update(self._tasks[number], visible=False)
        if isinstance(outcome, Failure):
            self._say(f"{run.scenario.name}, seed {run.seed}: {outcome.what}")

    def complete(self, result: Result, pins: Pins) -> None:
        """A scenario has all its runs."""
        held = sum(verdict.status == "held" for verdict in result.verdicts)
        state = "BROKEN" if is_bad(result, pins) else "held" if result.held else "not yet"
        took = sum(seed.wall_s for seed in result.seeds)
        self._say(
            f"{result.scenario.name}: {state}, {held} of {len(result.verdicts)} promises, "
            f"{len(result.seeds)} seeds, {took:.0f} s"
        )

    def _say(self, text: str) -> None:
        self._bars.console.print(text, markup=False)
