"""Sums up runs of one scenario as a `Result`."""

from __future__ import annotations

from collections.abc import Sequence

from farcast.simulations.measured import Measured
from farcast.simulations.results import BuildInfo, OutputSummary, Result, ScenarioInfo, SeedResult


def make_result(
    scenario: ScenarioInfo,
    build: BuildInfo,
    promises: Sequence[str],
    seeds: Sequence[SeedResult],
    runs: Sequence[Measured],
) -> Result:
    """Promises judged, outputs summed up. ``seeds`` holds the runs that failed, too."""
    raise NotImplementedError


def summarise(runs: Sequence[Measured]) -> tuple[OutputSummary, ...]:
    """Every output, over all viewers and by market, pair of regions and stack."""
    raise NotImplementedError
