"""Judges promises over what runs measured.

A promise is judged once, for the samples of all seeds together; how sure that is stands beside it: an
interval (:mod:`pools`), the number of seeds that hold by themselves, and a lower bound for the share of all
seeds that would. Without data nothing is held: not a promise without a sample, and not one that asks for the
worst market where a market has viewers and no sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from farcast.simulations import pools
from farcast.simulations.measured import Floats, Measured, Ratios, Samples, ViewerInfo
from farcast.simulations.output_names import OUTPUTS, OutputInfo
from farcast.simulations.pools import UNITS_MIN, Pool, RatioPool
from farcast.simulations.promises import Condition, Promise
from farcast.simulations.results import MISSED_MAX, Missed, Verdict, finite

_ATTRIBUTES: Final[dict[str, Callable[[ViewerInfo], float | str]]] = {
    "access_rtt": lambda viewer: viewer.access_rtt_ms,
    "access_rate": lambda viewer: viewer.access_rate_mbps,
    "market": lambda viewer: viewer.market,
    "region": lambda viewer: viewer.region,
    "from_region": lambda viewer: viewer.from_region,
    "room": lambda viewer: viewer.room,
    "stack": lambda viewer: viewer.stack,
    "transport": lambda viewer: viewer.transport,
    "track": lambda viewer: viewer.track,
}
_GROUPS: Final[dict[str, Callable[[ViewerInfo], str]]] = {
    "worst_market": lambda viewer: viewer.market,
    "worst_pair": lambda viewer: viewer.pair,
    "worst_viewer": lambda viewer: viewer.name,
}
_COMPARE: Final[dict[str, Callable[[float, float], bool]]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}

Over = Literal["seeds", "viewers", "none"]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Group:
    """The data that one statistic is taken of; of ratios ``values`` is what counts and ``whole`` of what."""

    name: str | None
    values: Floats
    whole: Floats | None
    weights: Floats
    seed: NDArray[np.int64]
    viewer: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class _Ends:
    """The statistic: of one-sided promises both ends are one figure."""

    low: float
    high: float


def judge(text: str, promise: Promise, runs: Sequence[Measured]) -> Verdict:
    """Whether a promise holds over all runs together, and how sure that is; ``text`` as the scenario has
    it.

    Of the worst market it is broken if one breaks it, and without data if none does and one has no sample.
    """
    info = OUTPUTS[promise.output]
    groups = list(_groups(promise, info, runs))
    empty = [group.name for group in groups if not group.values.size]
    judged = [(_statistic(promise, info, group), group) for group in groups if group.values.size]
    ends, worst = min(judged, key=lambda each: _margin(promise, each[0]), default=(None, None))
    if ends is None or worst is None or (empty and _holds(promise, ends)):
        return _no_data(text, promise, info, empty)
    margin = _margin(promise, ends)
    value, limit, is_upper = _nearest_end(promise, ends)
    low, high, over, sure = _interval(promise, info, worst, margin, limit, is_upper=is_upper)
    seeds = _seeds(promise, info, runs)
    return Verdict(
        promise=text,
        status="held" if _holds(promise, ends) else "broken",
        unit=info.unit,
        value=finite(value),
        limit=limit,
        low=low,
        high=high,
        interval_over=over,
        sure=sure,
        margin=finite(margin),
        margin_ratio=finite(margin / abs(limit)) if limit else None,
        samples=int(worst.values.size),
        viewers=len(np.unique(worst.viewer)),
        never=_never(worst),
        where_worst=worst.name,
        missed_by=_missed(promise, judged, empty),
        seeds_held=sum(seeds),
        seeds_total=len(runs),
        seeds_held_share_low=pools.share_low(sum(seeds), len(runs)),
        note="; ".join(filter(None, [_lacking(info, empty), _note(worst, len(seeds), len(runs))])),
    )


def _no_data(text: str, promise: Promise, info: OutputInfo, empty: Sequence[str | None]) -> Verdict:
    _, limit, _ = _nearest_end(promise, _Ends(math.inf, math.inf))
    return Verdict(
        promise=text,
        status="no data",
        unit=info.unit,
        limit=limit,
        where_worst=next(iter(empty), None),
        missed_by=_missed(promise, [], empty),
        note=_lacking(info, empty) or f"no sample of {info.name}",
    )


def _lacking(info: OutputInfo, empty: Sequence[str | None]) -> str:
    names = [name for name in empty if name is not None]
    if not names:
        return ""
    verb = "have" if len(names) > 1 else "has"
    return f"no sample of {info.name} for {', '.join(names[:MISSED_MAX])}, which {verb} viewers"


def _missed(
    promise: Promise, judged: Sequence[tuple[_Ends, _Group]], empty: Sequence[str | None]
) -> tuple[Missed, ...]:
    """Who misses it, the worst first; who was not measured before all others."""
    found = [Missed(name=name) for name in empty if name is not None]
    for ends, group in sorted(judged, key=lambda each: _margin(promise, each[0])):
        if group.name is not None and not _holds(promise, ends):
            value, _, _ = _nearest_end(promise, ends)
            found.append(Missed(name=group.name, value=finite(value), never=_never(group)))
    return tuple(found[:MISSED_MAX])


def _never(group: _Group) -> int:
    return int(np.isinf(group.values).sum())


def _note(group: _Group, seeds: int, runs: int) -> str:
    notes = []
    never = _never(group)
    if never:
        notes.append(f"{never} of {group.values.size} never happened")
    if seeds < runs:
        notes.append(f"{runs - seeds} of {runs} seeds have no data")
    return "; ".join(notes)


# ---- Whose samples


def _groups(promise: Promise, info: OutputInfo, runs: Sequence[Measured]) -> Iterator[_Group]:
    """The data that counts, as a whole or by what the worst is asked of; without viewers there is none."""
    kinds = _GROUPS.get(promise.worst or "")
    parts: dict[str | None, list[tuple[int, Measured, Bools]]] = {}
    for seed, run in enumerate(runs):
        chosen = _chosen(promise, run)
        if kinds is None:
            parts.setdefault(None, []).append((seed, run, chosen))
            continue
        names = np.array([kinds(viewer) for viewer in run.viewers], object)
        for name in dict.fromkeys(names[chosen].tolist()):
            parts.setdefault(name, []).append((seed, run, chosen & (names == name)))
    for name, rows in parts.items():
        group = _collect(promise, info, name, rows)
        if group.values.size or (info.everyone and kinds is not None):
            yield group


def _chosen(promise: Promise, run: Measured) -> Bools:
    return np.array([_counts(promise, viewer) for viewer in run.viewers], np.bool_)


def _counts(promise: Promise, viewer: ViewerInfo) -> bool:
    for scope in promise.scopes:
        if scope.kind == "stack" and viewer.stack != scope.names[0]:
            return False
        if scope.kind == "market" and viewer.market != scope.names[0]:
            return False
        if scope.kind == "pair" and (viewer.from_region, viewer.region) != scope.names:
            return False
    return all(_meets(condition, viewer) for condition in promise.where)


def _meets(condition: Condition, viewer: ViewerInfo) -> bool:
    value = _ATTRIBUTES[condition.attribute](viewer)
    if isinstance(value, str) or isinstance(condition.value, str):
        return (value == condition.value) == (condition.op == "=")
    return _COMPARE[condition.op](value, condition.value)


def _collect(
    promise: Promise, info: OutputInfo, name: str | None, rows: Sequence[tuple[int, Measured, Bools]]
) -> _Group:
    whole_run = name is None and not promise.where and all(scope.kind == "all" for scope in promise.scopes)
    values, wholes, weights, seeds, viewers = [], [], [], [], []
    for seed, run, chosen in rows:
        data: Samples | Ratios | None
        data = (run.samples if info.kind == "samples" else run.ratios).get(info.name)
        if data is None:
            continue
        mask = np.append(chosen, whole_run)[data.viewer]
        of = data.viewer[mask]
        weight = np.array([*(viewer.weight for viewer in run.viewers), 1.0])[of]
        values.append(data.values[mask] if isinstance(data, Samples) else data.part[mask] * weight)
        wholes.append(data.whole[mask] * weight if isinstance(data, Ratios) else np.empty(0))
        weights.append(weight)
        seeds.append(np.full(of.size, seed))
        viewers.append(of.astype(np.int64) + seed * (len(run.viewers) + 1))
    return _Group(
        name=name,
        values=_join(values),
        whole=_join(wholes) if info.kind == "ratio" else None,
        weights=_join(weights),
        seed=_join(seeds).astype(np.int64),
        viewer=_join(viewers).astype(np.int64),
    )


def _join(arrays: Sequence[NDArray[np.float64] | NDArray[np.int64]]) -> Floats:
    return np.concatenate(arrays).astype(np.float64) if arrays else np.empty(0)


# ---- The statistic and the bound


def _statistic(promise: Promise, info: OutputInfo, group: _Group) -> _Ends:
    if promise.stat == "total":
        value = pools.total(_pool(group, group.seed)) / np.unique(group.seed).size
        return _Ends(value, value)
    if group.whole is not None and promise.stat in (None, "mean"):
        value = pools.ratio(RatioPool(group.values, group.whole, group.seed)) * _scale(info)
        return _Ends(value, value)
    pool = _pool(_each(info, group), group.seed)
    if promise.stat == "mean":
        value = pools.mean(pool)
        return _Ends(value, value)
    high = pools.quantile(pool, _share(promise))
    low = -pools.quantile(_mirrored(pool), _share(promise)) if _has_two_ends(promise) else high
    return _Ends(low, high)


def _share(promise: Promise) -> float:
    """Which quantile a promise asks for; ``within`` asks for it from either end."""
    if promise.percentile is not None:
        share = promise.percentile / 100
        return (1 + share) / 2 if promise.op == "within" else share
    if promise.stat is not None:
        return 0.0 if promise.stat == "min" else 1.0
    return 0.0 if promise.op in (">", ">=") else 1.0


def _has_two_ends(promise: Promise) -> bool:
    return promise.op == "within" and promise.stat not in ("min", "max")


def _mirrored(pool: Pool) -> Pool:
    return Pool(-pool.values, pool.weights, pool.unit)


def _each(info: OutputInfo, group: _Group) -> _Group:
    """Of a ratio: one value for each viewer."""
    if group.whole is None:
        return group
    values = group.values / group.whole * _scale(info)
    return _Group(group.name, values, None, group.weights, group.seed, group.viewer)


def _scale(info: OutputInfo) -> float:
    return 100.0 if info.unit == "%" else 1.0


def _pool(group: _Group, unit: NDArray[np.int64]) -> Pool:
    return Pool(group.values, group.weights, unit)


def _margin(promise: Promise, ends: _Ends) -> float:
    """How far the statistic is on the good side of its limits."""
    below = math.inf if promise.high is None else promise.high - ends.high
    above = math.inf if promise.low is None else ends.low - promise.low
    return min(below, above)


def _holds(promise: Promise, ends: _Ends) -> bool:
    if promise.op in ("<", ">"):
        return _margin(promise, ends) > 0
    return _margin(promise, ends) >= 0


def _nearest_end(promise: Promise, ends: _Ends) -> tuple[float, float, bool]:
    """The statistic, the limit that it is nearest to or farthest beyond, and whether that is the upper
    one."""
    if promise.high is None:
        return ends.low, promise.low or 0.0, False
    if promise.low is None or promise.high - ends.high <= ends.low - promise.low:
        return ends.high, promise.high, True
    return ends.low, promise.low, False


# ---- How sure


def _interval(
    promise: Promise, info: OutputInfo, group: _Group, margin: float, limit: float, *, is_upper: bool
) -> tuple[float | None, float | None, Over, bool]:
    """The interval of the statistic, what it is taken over, and whether all of it is on one side of the
    limit."""
    over, unit = _units(group)
    if over == "none" or not math.isfinite(margin) or _is_extreme(promise, group):
        return None, None, "none", False
    least, most = pools.interval(_drawn_margins(promise, info, group, unit))
    low, high = (limit - most, limit - least) if is_upper else (limit + least, limit + most)
    sure = least > 0 if margin > 0 else most < 0
    return finite(low), finite(high), over, bool(sure)


def _is_extreme(promise: Promise, group: _Group) -> bool:
    """Whether it is about every single sample: of a maximum, draws of what was seen show only what was
    seen."""
    if promise.stat in ("min", "max"):
        return True
    return promise.stat is None and group.whole is None


def _units(group: _Group) -> tuple[Over, NDArray[np.int64]]:
    if np.unique(group.seed).size >= UNITS_MIN:
        return "seeds", group.seed
    if np.unique(group.viewer).size >= UNITS_MIN:
        return "viewers", group.viewer
    return "none", group.seed


def _drawn_margins(promise: Promise, info: OutputInfo, group: _Group, unit: NDArray[np.int64]) -> Floats:
    lows, highs = _drawn(promise, info, group, unit)
    below = np.inf if promise.high is None else promise.high - highs
    above = np.inf if promise.low is None else lows - promise.low
    return np.asarray(np.minimum(below, above), np.float64)


def _drawn(
    promise: Promise, info: OutputInfo, group: _Group, unit: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Both ends of the statistic for each draw."""
    if promise.stat == "total":
        totals = pools.drawn_totals(_pool(group, unit)) / np.unique(group.seed).size
        return totals, totals
    if group.whole is not None and promise.stat in (None, "mean"):
        ratios = pools.drawn_ratios(RatioPool(group.values, group.whole, unit)) * _scale(info)
        return ratios, ratios
    pool = _pool(_each(info, group), unit)
    if promise.stat == "mean":
        means = pools.drawn_means(pool)
        return means, means
    highs = pools.drawn_quantiles(pool, _share(promise))
    if not _has_two_ends(promise):
        return highs, highs
    return -pools.drawn_quantiles(_mirrored(pool), _share(promise)), highs


def _seeds(promise: Promise, info: OutputInfo, runs: Sequence[Measured]) -> list[bool]:
    """Of each seed with data: whether the promise holds for it alone."""
    held = []
    for run in runs:
        groups = list(_groups(promise, info, [run]))
        if groups:
            held.append(
                all(
                    group.values.size and _holds(promise, _statistic(promise, info, group))
                    for group in groups
                )
            )
    return held
