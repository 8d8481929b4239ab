"""The gate: scenarios over seeds, judged; one result for each scenario.

A promise is judged over all seeds together, and by each seed alone, to know which one to replay. With
``twice`` the first seed of each scenario runs a second time, in another process: if the two leave different
traces, an invariant has failed, whatever the promises say.
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import msgspec

from farcast import __version__
from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations.pool import Failure, Pool
from farcast.simulations.promises import PromiseError, parse_promise
from farcast.simulations.results import BuildInfo, InvariantFailure, Result, ScenarioInfo, SeedResult
from farcast.simulations.runs import Ran, Run, run_once
from farcast.simulations.scenario import Scenario
from farcast.simulations.summaries import make_result
from farcast.simulations.verdicts import judge

SEEDS_MAX: Final = 10_000
SAME_TRACE: Final = "same seed, same trace"
TRACE_LINES_MAX: Final = 12

Outcome = Ran | Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One scenario to be run. ``called`` is how the user called it: a name or a path."""

    called: str
    scenario: Scenario
    seeds: tuple[int, ...]
    twice: bool = False

    def runs(self) -> list[Run]:
        """Its runs, in the order of seeds; a repetition follows the run that it repeats."""
        runs = [Run(scenario=self.scenario, seed=seed) for seed in self.seeds]
        if self.twice and runs:
            runs.insert(1, Run(scenario=self.scenario, seed=self.seeds[0], repeat=1))
        return runs


class Watcher(Protocol):
    """Is told how far runs are."""

    def progress(self, number: int, run: Run, share: float) -> None: ...
    def ended(self, number: int, run: Run, outcome: Outcome) -> None: ...


class _Nobody:
    def progress(self, number: int, run: Run, share: float) -> None:
        """Nobody is told."""

    def ended(self, number: int, run: Run, outcome: Outcome) -> None:
        """Nobody is told."""


def seeds_from(scenario: Scenario, seed: int | None, count: int) -> tuple[int, ...]:
    """``count`` seeds from a first one, the scenario's own unless given."""
    first = scenario.seed if seed is None else seed
    if not 1 <= count <= SEEDS_MAX:
        raise UserError(f"--seeds {count}: must be from 1 to {SEEDS_MAX}", EXIT_USAGE)
    if not 0 <= first <= 2**63 - count:
        raise UserError(f"--seed {first}: must be from 0 to {2**63 - count}", EXIT_USAGE)
    return tuple(range(first, first + count))


def run_gate(asks: Sequence[Ask], jobs_max: int, watcher: Watcher | None = None) -> Iterator[Result]:
    """Run everything side by side; the results in the order asked for, each as soon as it is complete."""
    watcher = watcher or _Nobody()
    for ask in asks:
        check_promises(ask)
    build = build_info()
    pool = Pool(run_once, jobs_max, watcher.progress)
    outcomes = enumerate(pool.run([run for ask in asks for run in ask.runs()]))
    for ask in asks:
        ended: list[tuple[Run, Outcome]] = []
        for _ in ask.runs():
            number, (run, outcome) = next(outcomes)
            if isinstance(outcome, Failure) and outcome.kind == "user":
                raise UserError(outcome.what, EXIT_USAGE)
            watcher.ended(number, run, outcome)
            ended.append((run, outcome))
        yield result_of(ask, ended, build)


def check_promises(ask: Ask) -> None:
    """`UserError` for a promise that cannot be read, before anything is run."""
    for promise in ask.scenario.promises:
        try:
            parse_promise(promise)
        except PromiseError as error:
            raise UserError(
                f"{ask.scenario.file}: promises: {promise!r}: column {error.column}: {error.what}", EXIT_USAGE
            ) from error


def replay_command(ask: Ask, seed: int) -> str:
    """What a user types to see a seed again."""
    short = " --short" if ask.scenario.is_short else ""
    return f"farcast sim replay {shlex.quote(ask.called)} --seed {seed}{short}"


def result_of(ask: Ask, ended: Sequence[tuple[Run, Outcome]], build: BuildInfo) -> Result:
    """Judge the runs of one scenario."""
    firsts = [(run, outcome) for run, outcome in ended if run.repeat == 0]
    ran = [outcome for _, outcome in firsts if isinstance(outcome, Ran)]
    seeds = [_seed_result(ask, run, outcome) for run, outcome in firsts]
    result = make_result(
        scenario_info(ask, ran), build, ask.scenario.promises, seeds, [each.measured for each in ran]
    )
    different = _differences(ended)
    return msgspec.structs.replace(result, invariant_failures=(*result.invariant_failures, *different))


def _seed_result(ask: Ask, run: Run, outcome: Outcome) -> SeedResult:
    command = replay_command(ask, run.seed)
    if isinstance(outcome, Failure):
        said = "\n".join([outcome.what, *outcome.trace.splitlines()[-TRACE_LINES_MAX:]])
        return SeedResult(seed=run.seed, trace_hash="", replay=command, virtual_s=0.0, failure=said)
    measured = outcome.measured
    return SeedResult(
        seed=run.seed,
        trace_hash=measured.trace_hash,
        replay=command,
        virtual_s=measured.virtual_s,
        wall_s=round(outcome.wall_s, 3),
        broken=tuple(
            promise
            for promise in ask.scenario.promises
            if judge(promise, parse_promise(promise), [measured]).status == "broken"
        ),
    )


def _differences(ended: Sequence[tuple[Run, Outcome]]) -> list[InvariantFailure]:
    """Repetitions that did not leave the trace of what they repeat."""
    first = {run.seed: outcome for run, outcome in ended if run.repeat == 0 and isinstance(outcome, Ran)}
    found = []
    for run, outcome in ended:
        if run.repeat == 0 or run.seed not in first:
            continue
        before = first[run.seed].measured.trace_hash
        after = outcome.what if isinstance(outcome, Failure) else outcome.measured.trace_hash
        if before != after:
            what = f"run {run.repeat + 1} left {after[:200]}, and run 1 left {before}"
            found.append(InvariantFailure(seed=run.seed, at_us=0, invariant=SAME_TRACE, what=what))
    return found


def scenario_info(ask: Ask, ran: Sequence[Ran]) -> ScenarioInfo:
    """What a result says of its scenario."""
    scenario = ask.scenario
    return ScenarioInfo(
        name=scenario.name,
        title=scenario.title,
        version=scenario.version,
        duration_s=scenario.duration_s,
        scale=scenario.scale,
        short=scenario.is_short,
        viewers=max((each.viewers for each in ran), default=0),
        edges=max((each.edges for each in ran), default=0),
        sources=scenario.sources,
        measured=scenario.measured,
        synthesised=scenario.synthesised,
        called=ask.called,
        digest=scenario.digest,
    )


def build_info() -> BuildInfo:
    """This build; the commit where it runs from a clone."""
    return BuildInfo(
        version=__version__,
        commit=_commit(),
        python=platform.python_version(),
        machine=f"{platform.machine()}, {os.cpu_count()} cores",
    )


def _commit() -> str | None:
    folder = Path(__file__).resolve().parent
    try:
        found = subprocess.run(
            ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() or None
