"""Scenarios from TOML files: strict, with everything that is wrong in one error."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from farcast.simulations.scenario import Scenario

SCENARIOS: Final = Path(__file__).with_name("scenarios")


def list_scenarios() -> tuple[str, ...]:
    """Names of the scenarios that come with the simulator."""
    return tuple(sorted(file.stem for file in SCENARIOS.glob("*.toml")))


def load_scenario(path: str | Path) -> Scenario:
    """Read a scenario: a file, or the name of one that comes with the simulator.

    `UserError` with one line for each fault: file, line, key, and what would be right.
    """
    raise NotImplementedError
