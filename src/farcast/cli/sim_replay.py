"""``farcast sim replay``: one seed again, whether it is the same run, and what happened in it when."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from cyclopts import Parameter

from farcast.cli.options import Json
from farcast.cli.output import note, notes, print_json, print_table
from farcast.cli.sim_options import ScenarioName, Short, scenario_of
from farcast.errors import EXIT_FAILED, EXIT_OK, EXIT_PROMISE_BROKEN, EXIT_USAGE, UserError
from farcast.simulations.gate import Ask, build_info, result_of, seeds_from
from farcast.simulations.pool import Failure, Pool
from farcast.simulations.report import store
from farcast.simulations.report.console import PROMISE_COLUMNS, Progressing, promise_rows
from farcast.simulations.results import Result, SeedResult, TimelineEntry
from farcast.simulations.runs import Run, run_once

Sameness = Literal["same", "different", "other build", "other scenario", "unknown"]

SAID: Final[dict[Sameness, str]] = {
    "same": "the same run as before: its trace is equal",
    "different": "NOT THE SAME RUN: this build left another trace of this seed before; that is a defect",
    "other build": "another trace than before, but the build differs too: nothing follows from that",
    "other scenario": "another trace than before, but the scenario differs too: nothing follows from that",
    "unknown": "nothing to compare the trace with: it was not run before",
}


def replay(
    scenario: ScenarioName,
    /,
    *,
    seed: Annotated[int, Parameter(help="The seed to run again.")],
    short: Short = False,
    result: Annotated[
        Path | None, Parameter(help="Where the first run was saved (--save); the last one unless set.")
    ] = None,
    json: Json = False,
) -> int:
    """Run one seed again, check that it leaves the trace that it left before, and show what happened when.

    A failing seed prints the command to do so. The exit code is 99 if the seed breaks a promise, and 1 if it
    is not the same run although the build is.

    Example: farcast sim replay sea-to-eu --seed 7
    """
    asked = scenario_of(scenario, short=short)
    ask = Ask(called=scenario, scenario=asked, seeds=seeds_from(asked, seed, 1))
    before = _before(ask, result)
    with Progressing(notes(), 1) as shown:
        ((run, outcome),) = Pool(run_once, 1, shown.progress).run([Run(scenario=asked, seed=seed)])
    if isinstance(outcome, Failure):
        raise UserError(
            f"{asked.name}, seed {seed}: {outcome.what}\n{outcome.trace}".strip(),
            EXIT_USAGE if outcome.kind == "user" else EXIT_FAILED,
        )
    found = result_of(ask, [(run, outcome)], build_info())
    sameness = _sameness(before, found)
    if json:
        print_json(
            {
                "scenario": asked.name,
                "seed": seed,
                "trace_hash": found.seeds[0].trace_hash,
                "trace": sameness,
                "held": found.held,
            }
        )
    else:
        print_table(("at", "for", "", "who", "what"), map(_row, _entries(found)))
        print_table(PROMISE_COLUMNS, promise_rows([found], {}))
        note(f"{SAID[sameness]} ({found.seeds[0].trace_hash[:16]})")
    if sameness == "different":
        return EXIT_FAILED
    return EXIT_OK if found.held else EXIT_PROMISE_BROKEN


def _before(ask: Ask, file: Path | None) -> Result | None:
    """The result that has the earlier run of this seed, if there is one."""
    if file is None:
        return store.last(ask.called, short=ask.scenario.is_short)
    for found in store.load(file):
        if (found.scenario.name, found.scenario.short) == (ask.scenario.name, ask.scenario.is_short):
            return found
    raise UserError(f"--result {file}: has no result of {ask.scenario.name} in this form", EXIT_USAGE)


def _sameness(before: Result | None, now: Result) -> Sameness:
    seeds: dict[int, SeedResult] = {} if before is None else {each.seed: each for each in before.seeds}
    earlier = seeds.get(now.seeds[0].seed)
    if before is None or earlier is None or not earlier.trace_hash:
        return "unknown"
    if earlier.trace_hash == now.seeds[0].trace_hash:
        return "same"
    if before.scenario.digest not in ("", now.scenario.digest):
        return "other scenario"
    return "different" if before.build == now.build else "other build"


def _entries(result: Result) -> list[TimelineEntry]:
    failures = [
        TimelineEntry(seed=each.seed, at_us=each.at_us, kind="error", what=f"{each.invariant}: {each.what}")
        for each in result.invariant_failures
    ]
    return sorted([*result.timeline, *failures], key=lambda entry: entry.at_us)


def _row(entry: TimelineEntry) -> tuple[str, ...]:
    length = "" if entry.length_us is None else f"{entry.length_us / 1e3:.0f} ms"
    return (f"{entry.at_us / 1e6:.3f} s", length, entry.kind, entry.who or "", entry.what)
