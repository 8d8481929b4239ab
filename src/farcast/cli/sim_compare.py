"""``farcast sim compare``: the same world with and without Farcast in it, or with an older build of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, TypeAlias

from cyclopts import Parameter

from farcast.cli.options import Flag, Json
from farcast.cli.output import note, notes, print_json, print_table
from farcast.cli.sim_options import Jobs, ScenarioName, Seed, Seeds, Short, jobs_of, scenario_of
from farcast.errors import EXIT_FAILED, EXIT_OK, EXIT_PROMISE_BROKEN, EXIT_USAGE, UserError
from farcast.simulations.compare import (
    MEGABYTE,
    TRAFFIC,
    Change,
    Line,
    compare_results,
    compare_runs,
    failures,
    in_words,
    summary_text,
)
from farcast.simulations.events import kind_of
from farcast.simulations.gate import Ask, run_gate, seeds_from
from farcast.simulations.measured import Measured
from farcast.simulations.pool import Failure, Pool
from farcast.simulations.report import store
from farcast.simulations.report.console import Progressing
from farcast.simulations.report.findings import amount
from farcast.simulations.results import Result, finite
from farcast.simulations.runs import Run, run_once
from farcast.simulations.scenario import Scenario
from farcast.simulations.variants import HOP_VARIANTS, VARIANTS, Variant, VariantName, left_out
from farcast.simulations.worlds import build_world

FAILURES_MAX: Final = 12

Variants: TypeAlias = Mapping[VariantName, Variant]
"""In the order of the table; the last one is Farcast as it is, the others are what it is set against."""


def _letters(variants: Variants) -> dict[VariantName, str]:
    return {name: chr(ord("a") + at) for at, name in enumerate(variants)}


def _bases(variants: Variants) -> list[VariantName]:
    return [name for name in variants if name != "farcast"]


def compare(
    scenario: ScenarioName,
    /,
    *,
    base: Annotated[
        Path | None, Parameter(help="Results of another build, from farcast sim run --save.")
    ] = None,
    seeds: Seeds = 5,
    seed: Seed = None,
    paths: Annotated[
        Flag, Parameter(help="Compare repair off and on, over one path and over two, instead.")
    ] = False,
    short: Short = False,
    jobs: Jobs = None,
    json: Json = False,
) -> int:
    """Compare what viewers get: (a) one relay near the publisher and the public Internet, (b) nearest edges,
    a direct hop and plain streams, (c) Farcast; the same world, accesses and seeds in all three. For every
    figure, bytes included, the table says who is better, or that (a) or (b) is as good.

    With --paths: what the hops do for losses, (a) each lost chunk once more, (b) as the table of repairs
    says, (c) as (a) over two paths, (d) as (b) over two at all times, (e) over two where it is
    worth it, which is Farcast.

    With --base: this build against the results of another one, promise by promise; the exit code is 99 if one
    that held there is broken here, if a run fails here, or an invariant.

    Example: farcast sim compare sea-to-eu --seeds 10
    """
    asked = scenario_of(scenario, short=short)
    wanted = seeds_from(asked, seed, seeds)
    if base is not None:
        return _with_base(Ask(called=scenario, scenario=asked, seeds=wanted), base, jobs_of(jobs), json=json)
    variants: Variants = HOP_VARIANTS if paths else VARIANTS
    runs = _run_variants(asked, wanted, jobs_of(jobs), variants)
    lines = compare_runs({str(name): measured for name, measured in runs.items()})
    remarks = _remarks(asked, wanted, lines, variants)
    if json:
        print_json(
            {
                "scenario": asked.name,
                "seeds": list(wanted),
                "variants": {name: variant.title for name, variant in variants.items()},
                "lines": [_line_json(line, variants) for line in lines],
                "bytes": {name: _bytes(lines, name) for name in variants},
                "summary": remarks,
            }
        )
        return EXIT_OK
    letters = _letters(variants)
    columns = ("viewers", "figure", *(f"({letters[name]}) {variants[name].title}" for name in variants))
    against = (f"{letters['farcast']} against {letters[name]}" for name in _bases(variants))
    rows = [_row(line, variants) for line in lines]
    print_table((*columns, *against), rows)
    for remark in remarks:
        note(remark)
    return EXIT_OK


def _run_variants(
    scenario: Scenario, seeds: Sequence[int], jobs_max: int, variants: Variants
) -> dict[VariantName, list[Measured]]:
    runs = [Run(scenario=scenario, seed=seed, variant=name) for seed in seeds for name in variants]
    found: dict[VariantName, list[Measured]] = {name: [] for name in variants}
    with Progressing(notes(), len(runs)) as shown:
        for number, (run, outcome) in enumerate(Pool(run_once, jobs_max, shown.progress).run(runs)):
            shown.ended(number, run, outcome)
            if isinstance(outcome, Failure):
                variant = variants[run.variant].title
                raise UserError(
                    f"{scenario.name}, seed {run.seed}, {variant}: {outcome.what}",
                    EXIT_USAGE if outcome.kind == "user" else EXIT_FAILED,
                )
            found[run.variant].append(outcome.measured)
    return found


# ---- Variants ----------------------------------------------------------------------------------------


def _row(line: Line, variants: Variants) -> tuple[str, ...]:
    shown = (_shown(line, name) for name in variants)
    letters = {name: f"({letter})" for name, letter in _letters(variants).items()}
    verdicts = (_verdict(line, name, letters) for name in _bases(variants))
    return (line.stack, line.figure.name, *shown, *verdicts)


def _shown(line: Line, name: str) -> str:
    """A variant's figure, and in how many seeds it never happened."""
    value, never, seeds = line.pooled[name], line.never(name), len(line.by_seed[name])
    if value is None:
        return ""
    text = "never" if math.isinf(value) else amount(value, line.figure.unit)
    return f"{text} (never in {never} of {seeds} seeds)" if never and seeds > 1 else text


def _verdict(line: Line, base: VariantName, letters: Mapping[VariantName, str]) -> str:
    word = in_words(line.verdict(base, "farcast"), letters[base], letters["farcast"])
    found = line.difference(base, "farcast")
    if found is None or word == "no data":
        return word
    mean, low, high = (100 * each if line.is_relative else each for each in found)
    if len(line.by_seed[base]) < 2:
        return f"{word}: {_points(mean)} %"
    return f"{word}: {_points(mean)} % ({_points(low)} … {_points(high)})"


def _points(value: float) -> str:
    return _signed(value, "") if abs(value) < 1_000 else ("more than +1,000" if value > 0 else "-1,000")


def _signed(value: float, unit: str) -> str:
    return f"{'+' if value > 0 else ''}{amount(value, unit)}"


def _bytes(lines: Sequence[Line], name: str) -> dict[str, float]:
    found = {line.figure.output: line.pooled[name] for line in lines if line.stack == TRAFFIC}
    return {output: round(MEGABYTE * (value or 0.0)) for output, value in found.items()}


def _remarks(
    scenario: Scenario, seeds: Sequence[int], lines: Sequence[Line], variants: Variants
) -> list[str]:
    titles: dict[str, str] = {name: f"({letter})" for name, letter in _letters(variants).items()}
    said = [
        sentence for base in _bases(variants) for sentence in summary_text(lines, base, "farcast", titles)
    ]
    spec = build_world(scenario, seeds[0])
    for name in _bases(variants):
        if events := left_out(scenario, spec, name):
            kinds = ", ".join(sorted({kind_of(event) for event in events}))
            said.append(
                f"{titles[name]} has nothing to which these events could happen, and is spared: {kinds}"
            )
    if "one-relay" in variants:
        said.append("what lies between cities and a far relay is synthesised from published quantiles")
    if any(line.verdict(base, "farcast") == "unclear" for line in lines for base in _bases(variants)):
        said.append(f"{len(seeds)} seeds leave some of it unclear: more of them narrow the intervals")
    return said


def _line_json(line: Line, variants: Variants) -> dict[str, object]:
    return {
        "viewers": line.stack,
        "figure": line.figure.name,
        "unit": line.figure.unit,
        "values": {name: finite(value) for name, value in line.pooled.items()},
        "seeds_never": {name: line.never(name) for name in line.by_seed},
        "against": {
            base: {
                "verdict": line.verdict(base, "farcast"),
                "difference": [finite(each) for each in line.difference(base, "farcast") or ()],
            }
            for base in _bases(variants)
        },
    }


# ---- Builds ------------------------------------------------------------------------------------------


def _with_base(ask: Ask, base: Path, jobs_max: int, *, json: bool) -> int:
    before = _result_in(base, ask)
    seeds = tuple(seed.seed for seed in before.seeds)
    same = Ask(called=ask.called, scenario=ask.scenario, seeds=seeds)
    with Progressing(notes(), len(seeds)) as shown:
        (after,) = run_gate([same], jobs_max, shown)
    changes, failed = compare_results(before, after), failures(after)
    if json:
        print_json(
            {
                "scenario": ask.scenario.name,
                "base": _build(before),
                "now": _build(after),
                "promises": [_change_json(change) for change in changes],
                "traces_equal": _traces_equal(before, after),
                "failures": {"base": failures(before), "now": failed},
            }
        )
    else:
        print_table(("promise", _build(before), _build(after), "change", ""), map(_change_row, changes))
        same_traces = _traces_equal(before, after)
        note(f"{same_traces} of {len(seeds)} seeds left the same trace as with the other build")
        note(f"runs and invariants that failed: {len(failures(before))} there, {len(failed)} here")
        for line in failed[:FAILURES_MAX]:
            note(line)
    is_worse = any(_became_worse(change) for change in changes)
    return EXIT_PROMISE_BROKEN if is_worse or failed else EXIT_OK


def _result_in(file: Path, ask: Ask) -> Result:
    found = store.load(file)
    wanted = ask.scenario.name, ask.scenario.is_short
    for result in found:
        if (result.scenario.name, result.scenario.short) == wanted:
            return result
    names = ", ".join(f"{each.scenario.name}{' --short' * each.scenario.short}" for each in found)
    called = f"{ask.scenario.name}{' --short' * ask.scenario.is_short}"
    raise UserError(f"--base {file}: has no result of {called}; it has {names}", EXIT_USAGE)


def _build(result: Result) -> str:
    return f"{result.build.version} {result.build.commit or ''}".strip()


def _traces_equal(before: Result, after: Result) -> int:
    old = {seed.seed: seed.trace_hash for seed in before.seeds}
    return sum(bool(seed.trace_hash) and old.get(seed.seed) == seed.trace_hash for seed in after.seeds)


def _became_worse(change: Change) -> bool:
    return change.status_before == "held" and change.status_after != "held"


def _change_row(change: Change) -> tuple[str, ...]:
    values = [
        status if value is None else amount(value, change.unit)
        for value, status in (
            (change.before, change.status_before),
            (change.after, change.status_after),
        )
    ]
    moved = None if change.before is None or change.after is None else change.after - change.before
    return (
        change.promise,
        *values,
        "" if moved is None else _signed(moved, change.unit),
        change.status_after if change.status_before == change.status_after
        else f"{change.status_before}, now {change.status_after}",
    )  # fmt: skip


def _change_json(change: Change) -> dict[str, object]:
    return {
        "promise": change.promise,
        "unit": change.unit,
        "before": change.before,
        "after": change.after,
        "status_before": change.status_before,
        "status_after": change.status_after,
    }
