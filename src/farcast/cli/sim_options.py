"""What the commands ``farcast sim …`` share."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations.pool import JOBS_MAX, available_cores
from farcast.simulations.scenario import Scenario
from farcast.simulations.scenario_file import load_scenario

ScenarioName = Annotated[
    str, Parameter(help="Name of a scenario (farcast sim list), or a TOML file of your own.")
]
Seeds = Annotated[int, Parameter(help="How many seeds: each draws losses, delays and accesses anew.")]
Seed = Annotated[int | None, Parameter(help="The first seed; the scenario's own unless set.")]
Short = Annotated[
    bool, Parameter(negative=(), help="The short form, as in the gate: mostly 30 s and at most 20 viewers.")
]
Jobs = Annotated[int | None, Parameter(help="Runs side by side; as many as cores unless set.")]


def scenario_of(called: str, *, short: bool) -> Scenario:
    """The scenario that a user names, or its short form."""
    scenario = load_scenario(called)
    return scenario.shortened() if short else scenario


def jobs_of(jobs: int | None) -> int:
    """How many runs side by side."""
    if jobs is None:
        return available_cores()
    if not 1 <= jobs <= JOBS_MAX:
        raise UserError(f"--jobs {jobs}: must be from 1 to {JOBS_MAX}", EXIT_USAGE)
    return jobs
