"""Sums up runs of one scenario: distributions by market, pair of regions and stack, verdicts, one
timeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.simulations import pools
from farcast.simulations.measured import Floats, Measured, Ratios, Samples, ViewerInfo
from farcast.simulations.output_names import OutputInfo, known_outputs
from farcast.simulations.pools import Pool
from farcast.simulations.promises import parse_promise
from farcast.simulations.results import (
    CDF_POINTS_MAX,
    QUANTILES,
    TIMELINE_ENTRIES_MAX,
    BuildInfo,
    MapLink,
    MapNode,
    OutputSummary,
    Result,
    ScenarioInfo,
    SeedResult,
    TimelineEntry,
    finite,
)
from farcast.simulations.verdicts import judge

_SCOPES: Final[tuple[tuple[str, Callable[[ViewerInfo], str]], ...]] = (
    ("stack", lambda viewer: viewer.stack),
    ("market", lambda viewer: viewer.market),
    ("pair", lambda viewer: viewer.pair),
)
_IMPORTANCE: Final = {"fault": 0, "error": 1, "move": 2, "stall": 3, "route": 4}
"""What stays on a timeline that is too long."""


def make_result(
    scenario: ScenarioInfo,
    build: BuildInfo,
    promises: Sequence[str],
    seeds: Sequence[SeedResult],
    runs: Sequence[Measured],
) -> Result:
    """Promises judged, outputs summed up. ``seeds`` holds the runs that failed, too; of map and links, the
    first run's. `PromiseError` for a promise that cannot be read."""
    timeline, left_out = _timeline(runs)
    nodes: tuple[MapNode, ...] = runs[0].nodes if runs else ()
    links: tuple[MapLink, ...] = runs[0].links if runs else ()
    return Result(
        scenario=scenario,
        build=build,
        seeds=tuple(seeds),
        verdicts=tuple(judge(text, parse_promise(text), runs) for text in promises),
        outputs=summarise(runs),
        timeline=timeline,
        timeline_left_out=left_out,
        nodes=nodes,
        links=links,
        invariant_failures=tuple(failure for run in runs for failure in run.invariant_failures),
    )


def summarise(runs: Sequence[Measured]) -> tuple[OutputSummary, ...]:
    """Every output over all viewers (scope ``all``) and by stack, market and pair of regions."""
    return tuple(_summaries(runs))


def _summaries(runs: Sequence[Measured]) -> Iterator[OutputSummary]:
    for info in known_outputs():
        whole = [np.ones(len(run.viewers) + 1, np.bool_) for run in runs]
        yield from _summary(info, "all", runs, whole)
        for prefix, name_of in _SCOPES:
            named = [np.array([*map(name_of, run.viewers), None], object) for run in runs]
            names = sorted({name for each in named for name in each.tolist() if name is not None})
            for name in names:
                masks = [np.asarray(each == name, np.bool_) for each in named]
                yield from _summary(info, f"{prefix}:{name}", runs, masks)


def _summary(
    info: OutputInfo, scope: str, runs: Sequence[Measured], masks: Sequence[NDArray[np.bool_]]
) -> Iterator[OutputSummary]:
    """``masks``: by run, which viewers (and, last, whether the run as a whole) count."""
    values, parts, wholes, weights, viewers = [], [], [], [], 0
    for run, mask in zip(runs, masks, strict=True):
        data: Samples | Ratios | None
        data = (run.samples if info.kind == "samples" else run.ratios).get(info.name)
        if data is None:
            continue
        chosen = mask[data.viewer]
        weight = np.array([*(viewer.weight for viewer in run.viewers), 1.0])[data.viewer[chosen]]
        weights.append(weight)
        viewers += int(np.unique(data.viewer[chosen]).size)
        if isinstance(data, Samples):
            values.append(data.values[chosen])
            continue
        part, whole = data.part[chosen], data.whole[chosen]
        parts.append(part * weight)
        wholes.append(whole * weight)
        values.append(part / np.where(whole > 0, whole, 1) * (100.0 if info.unit == "%" else 1.0))
    pool = Pool(_join(values), _join(weights), np.zeros(sum(map(len, values)), np.int64))
    if pool.values.size:
        share = _ratio(info, _join(parts), _join(wholes))
        yield _described(info, scope, pool, viewers, share)


def _ratio(info: OutputInfo, part: Floats, whole: Floats) -> float | None:
    if info.kind != "ratio" or not whole.sum():
        return None
    return float(part.sum() / whole.sum()) * (100.0 if info.unit == "%" else 1.0)


def _described(info: OutputInfo, scope: str, pool: Pool, viewers: int, share: float | None) -> OutputSummary:
    quantiles = {f"{quantile:g}": finite(pools.quantile(pool, quantile)) for quantile in QUANTILES}
    return OutputSummary(
        output=info.name,
        scope=scope,
        unit=info.unit,
        count=int(pool.values.size),
        viewers=viewers,
        mean=finite(pools.mean(pool)),
        minimum=finite(float(pool.values.min())),
        maximum=finite(float(pool.values.max())),
        ratio=share,
        never=int(np.isinf(pool.values).sum()),
        quantiles=quantiles,
        cdf=_cdf(pool),
    )


def _cdf(pool: Pool) -> tuple[tuple[float, float], ...]:
    """Points of the distribution function; it ends below 1 where samples are infinite."""
    order = np.argsort(pool.values, kind="stable")
    values = pool.values[order]
    shares = np.cumsum(pool.weights[order]) / pool.weights.sum()
    wanted = np.linspace(0, 1, CDF_POINTS_MAX)
    places = np.unique(np.minimum(np.searchsorted(shares, wanted), values.size - 1))
    return tuple(
        (round(float(values[place]), 3), round(float(shares[place]), 6))
        for place in places
        if np.isfinite(values[place])
    )


def _join(arrays: Sequence[Floats]) -> Floats:
    return np.concatenate(arrays) if arrays else np.empty(0)


def _timeline(runs: Sequence[Measured]) -> tuple[tuple[TimelineEntry, ...], int]:
    entries = [entry for run in runs for entry in run.timeline]
    kept = sorted(entries, key=lambda entry: _IMPORTANCE[entry.kind])[:TIMELINE_ENTRIES_MAX]
    ordered = sorted(kept, key=lambda entry: (entry.seed, entry.at_us, entry.kind, entry.who or ""))
    return tuple(ordered), len(entries) - len(kept)
