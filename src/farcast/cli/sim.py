"""``farcast sim``: scenarios in virtual time, and whether their promises hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App

from farcast.cli.options import Flag, Json
from farcast.cli.output import note, notes, print_json, print_table
from farcast.cli.sim_compare import compare
from farcast.cli.sim_explain import explain
from farcast.cli.sim_import import import_
from farcast.cli.sim_options import Jobs, ScenarioName, Seed, Seeds, Short, jobs_of, scenario_of
from farcast.cli.sim_replay import replay
from farcast.errors import EXIT_OK, EXIT_PROMISE_BROKEN, EXIT_USAGE, UserError
from farcast.simulations.gate import Ask, run_gate, seeds_from
from farcast.simulations.pins import check_pins, load_pins, pin_states, propose
from farcast.simulations.report import charts, store
from farcast.simulations.report.console import (
    PROMISE_COLUMNS,
    Progressing,
    pin_remarks,
    promise_rows,
    replays,
)
from farcast.simulations.report.findings import Pins, figures, is_bad
from farcast.simulations.report.junit import junit as junit_of
from farcast.simulations.report.page import page
from farcast.simulations.results import Result
from farcast.simulations.scenario import Scenario
from farcast.simulations.scenario_file import list_scenarios, load_scenario

sim = App(name="sim", help="Run scenarios in virtual time over modelled links; say whether promises hold.")
"""The commands ``farcast sim …``."""

sim.command(compare)
sim.command(explain)
sim.command(replay)
sim.command(import_, name="import")


@sim.command(name="list")
def list_(*, json: Json = False) -> int:
    """List the scenarios that come with Farcast.

    Example: farcast sim list
    """
    scenarios = [load_scenario(name) for name in list_scenarios()]
    if json:
        print_json({"scenarios": [_described(scenario) for scenario in scenarios]})
        return EXIT_OK
    rows = [
        (
            scenario.name,
            scenario.scale,
            f"{scenario.duration_s:g} s",
            f"{scenario.short.duration_us / 1e6:g} s",
            str(len(scenario.promises)),
            scenario.title,
        )
        for scenario in scenarios
    ]
    print_table(("scenario", "scale", "time", "short form", "promises", "what"), rows)
    return EXIT_OK


@sim.command
def run(
    *scenarios: ScenarioName,
    all: Flag = False,
    seeds: Seeds = 1,
    seed: Seed = None,
    short: Short = False,
    twice: Flag = False,
    jobs: Jobs = None,
    pins: Path | None = None,
    write_pins: Path | None = None,
    save: Path | None = None,
    junit: Path | None = None,
    html: Path | None = None,
    json: Json = False,
) -> int:
    """Run scenarios and judge their promises. The exit code is 0 if all hold, and 99 if not.

    Example: farcast sim run sea-to-eu red-sea-cut --seeds 10 --html report.html

    Parameters
    ----------
    all
        Every scenario of farcast sim list.
    twice
        Run the first seed a second time: both must leave the same trace.
    pins
        A file of promises that are known not to hold yet, and must not get worse. A pin of one that holds
        fails, too.
    write_pins
        Write a file of pins for what is broken now; reasons of --pins stay, others are for you to give.
    save
        Write the results there: for compare --base, explain and replay.
    junit
        Write a JUnit report there.
    html
        Write a page there: one file that needs no network.
    """
    if html is not None:
        charts.check()
    asks = [
        Ask(called=called, scenario=scenario, seeds=seeds_from(scenario, seed, seeds), twice=twice)
        for called, scenario in _chosen(scenarios, all=all, short=short)
    ]
    known = load_pins(pins) if pins is not None else ()
    if pins is not None and write_pins is None:
        check_pins(pins, known, [ask.scenario for ask in asks], _others(asks))
    results: list[Result] = []
    with Progressing(notes(), sum(len(ask.runs()) for ask in asks)) as shown:
        for result in run_gate(asks, jobs_of(jobs), shown):
            store.keep_last(result)
            results.append(result)
            shown.complete(result, pin_states(known, [result]))
    states = pin_states(known, results)
    if write_pins is not None:
        store.write(write_pins, propose(results, known).encode())
    if save is not None:
        store.save(results, save)
    if junit is not None:
        store.write(junit, junit_of(results, states))
    if html is not None:
        store.write(html, page(results, states).encode())
    return _conclude(results, states, json=json)


def _others(asks: Sequence[Ask]) -> set[str]:
    """Names of scenarios that there are, whether or not they are asked for: ours, and what lies beside a
    user's own."""
    folders = {ask.scenario.file.parent for ask in asks if ask.called not in list_scenarios()}
    return {*list_scenarios(), *(file.stem for folder in folders for file in folder.glob("*.toml"))}


def _conclude(results: Sequence[Result], pins: Pins, *, json: bool) -> int:
    """Say what was found; the exit code."""
    if not json:
        print_table(PROMISE_COLUMNS, promise_rows(results, pins))
    for line in (*pin_remarks(results, pins), *replays(results, pins)):
        note(line)
    found = figures(results)
    if json:
        print_json({**dataclasses.asdict(found), "pinned": len(pins)})
    else:
        note(
            f"{found.promises_held} of {found.promises_total} promises held, {found.scenarios} scenarios, "
            f"{found.runs} runs, {found.invariant_failures} invariant failures"
        )
    return EXIT_PROMISE_BROKEN if any(is_bad(result, pins) for result in results) else EXIT_OK


def _chosen(names: Sequence[str], *, all: bool, short: bool) -> list[tuple[str, Scenario]]:
    """What the user asks for, each with what it was called."""
    if all == bool(names):
        wanted = "not both" if all else "see farcast sim list"
        raise UserError(f"farcast sim run: name scenarios, or give --all: {wanted}", EXIT_USAGE)
    return [(name, scenario_of(name, short=short)) for name in (list_scenarios() if all else names)]


def _described(scenario: Scenario) -> dict[str, object]:
    return {
        "name": scenario.name,
        "title": scenario.title,
        "scale": scenario.scale,
        "duration_s": scenario.duration_s,
        "short_s": scenario.short.duration_us / 1e6,
        "promises": list(scenario.promises),
        "sources": list(scenario.sources),
        "measured": list(scenario.measured),
        "synthesised": list(scenario.synthesised),
    }
