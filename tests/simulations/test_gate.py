"""Judging runs: which seed to replay, what a crash and a run that repeats differently become."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_scenario import write_tiny

from farcast.errors import UserError
from farcast.simulations.gate import SAME_TRACE, Ask, build_info, check_promises, result_of, seeds_from
from farcast.simulations.measured import Measured, ViewerInfo, outputs_from_samples
from farcast.simulations.pool import Failure
from farcast.simulations.runs import Ran, Run
from farcast.simulations.scenario_file import load_scenario


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    scenario = load_scenario(write_tiny(tmp_path, ["connect p50 < 100 ms", "connect p50 < 10 s"]))
    return Ask(called="my own.toml", scenario=scenario.shortened(), seeds=(1, 2, 3), twice=True)


def ran(seed: int, connect_ms: float, trace_hash: str = "aa") -> Ran:
    viewer = ViewerInfo(name="v", stack="stock", market="DE", region="fra", from_region="sin")
    measured: Measured = outputs_from_samples(
        seed, [viewer], samples={"connect": ([connect_ms], [0])}, trace_hash=trace_hash, virtual_s=6.0
    )
    return Ran(measured, 1.0, 3, 1)


def test_a_repetition_follows_the_run_that_it_repeats(ask: Ask) -> None:
    assert [(run.seed, run.repeat) for run in ask.runs()] == [(1, 0), (1, 1), (2, 0), (3, 0)]


def test_each_seed_says_which_promises_it_breaks_by_itself(ask: Ask) -> None:
    ended = [(run, ran(run.seed, 50.0 if run.seed != 2 else 500.0)) for run in ask.runs()]
    result = result_of(ask, ended, build_info())
    assert [seed.broken for seed in result.seeds] == [(), ("connect p50 < 100 ms",), ()]
    assert len(result.seeds) == 3
    assert result.invariant_failures == ()


def test_a_run_that_repeats_differently_is_an_invariant_that_failed(ask: Ask) -> None:
    ended = [(run, ran(run.seed, 50.0, "bb" if run.repeat else "aa")) for run in ask.runs()]
    result = result_of(ask, ended, build_info())
    (failure,) = result.invariant_failures
    assert (failure.seed, failure.invariant) == (1, SAME_TRACE)
    assert not result.held


def test_a_crash_names_scenario_seed_and_the_command_that_replays_it(ask: Ask) -> None:
    ended: list[tuple[Run, Ran | Failure]] = [
        (run, Failure("died", "its process was ended by SIGKILL") if run.seed == 3 else ran(run.seed, 50.0))
        for run in ask.runs()
    ]
    result = result_of(ask, ended, build_info())
    assert result.seeds[2].failure == "its process was ended by SIGKILL"
    assert result.seeds[2].replay == "farcast sim replay 'my own.toml' --seed 3 --short"
    assert not result.held


def test_seeds_count_up_from_the_scenarios_own(ask: Ask) -> None:
    assert seeds_from(ask.scenario, None, 3) == (5, 6, 7)
    assert seeds_from(ask.scenario, 11, 1) == (11,)
    with pytest.raises(UserError, match="--seeds 0"):
        seeds_from(ask.scenario, None, 0)


def test_promises_are_read_before_anything_runs(ask: Ask) -> None:
    check_promises(ask)
    wrong = replace(ask, scenario=replace(ask.scenario, promises=("conect p50 < 1 s",)))
    with pytest.raises(UserError, match=r"column 1.*did you mean 'connect'"):
        check_promises(wrong)
