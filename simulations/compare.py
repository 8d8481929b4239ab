"""What a network is worth: figures of several variants, or of several builds, side by side, and a verdict.

Differences are paired: the same seed is the same world in all variants, so what counts is the difference seed
by seed, with its 95 % interval; of times and bytes it is the ratio. *Better* and *worse* are said where the
interval leaves out zero and the difference is worth naming, *as good* where the whole interval is too small
to be worth naming, whoever gains by that. Everything else is *unclear*, and says that more seeds are needed.

What never happened (a quantile of viewers without a picture) is infinite. It is shown as that, and counts in
its seed like a wait of `NEVER_MS`: left out, a variant would be the better the fewer viewers it serves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from farcast.simulations.measured import Measured
from farcast.simulations.results import OutputSummary, Result
from farcast.simulations.summaries import summarise

WORTH_SHARE: Final = 0.05
"""Of a value; a smaller difference is not worth naming."""

WORTH_LEAST: Final = {"ms": 5.0, "%": 0.1}
"""Nor is one below this, in the figure's unit."""

LEAST: Final = 0.1
"""Of times and megabytes, so that there are ratios to nothing."""
NEVER_MS: Final = 60_000.0
"""What never happened, among times that did: a minute, after which nobody waits any more."""

EXPONENT_MAX: Final = 50.0
STACKS: Final = ("stock", "farcast")
TRAFFIC: Final = "all"
"""Whose the bytes are: those between edges are not of one sort of viewers."""

MEGABYTE: Final = 1e6
T_95: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""Student's t, 97.5 %, for 1, 2, … degrees of freedom; beyond, that of the normal distribution is near
enough."""

Values = Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. ``kind``: which statistic of the output; ``more_is_better`` as it says."""

    name: str
    output: str
    read: Callable[[OutputSummary], float | None]
    unit: str
    more_is_better: bool = False


def _quantile(key: str) -> Callable[[OutputSummary], float | None]:
    """A quantile; infinite where a result has none because that much never happened."""

    def read(summary: OutputSummary) -> float | None:
        value = summary.quantiles.get(key)
        return math.inf if value is None and summary.never else value

    return read


def _ratio(summary: OutputSummary) -> float | None:
    return summary.ratio


def _never_share(summary: OutputSummary) -> float | None:
    return 100.0 * summary.never / summary.count if summary.count else None


FIGURES: Final = (
    Figure("glass to glass p50", "glass_to_glass", _quantile("0.5"), "ms"),
    Figure("glass to glass p99", "glass_to_glass", _quantile("0.99"), "ms"),
    Figure("glass to glass p99.9", "glass_to_glass", _quantile("0.999"), "ms"),
    Figure("first picture p95", "first_picture", _quantile("0.95"), "ms"),
    Figure("viewers without a picture", "first_picture", _never_share, "%"),
    Figure("frames that never came", "missing_frames", _ratio, "%"),
    Figure("time stalled", "stall_ratio", _ratio, "%"),
    Figure("time at HD", "hd_share", _ratio, "%", more_is_better=True),
)
BYTES: Final = (
    Figure("bytes between edges, a run", "between_edges", lambda _: None, "MB"),
    Figure("bytes from and to clients, a run", "to_clients", lambda _: None, "MB"),
)
WORDS: Final = ("better", "worse", "as good", "as bad", "unclear", "no data")


@dataclass(frozen=True, slots=True)
class Line:
    """A figure of one sort of viewers, by variant: all seeds pooled, and seed by seed."""

    figure: Figure
    stack: str
    pooled: Mapping[str, float | None]
    by_seed: Mapping[str, Values]

    @property
    def is_relative(self) -> bool:
        """Times and bytes are compared as ratios: tails are seconds in one seed and a fraction of one in the
        next, and the mean of such differences would be that of the worst seed."""
        return self.figure.unit != "%"

    def never(self, name: str) -> int:
        """In how many seeds a variant has no finite figure because it never happened."""
        return sum(value is not None and math.isinf(value) for value in self.by_seed[name])

    def difference(self, base: str, other: str) -> tuple[float, float, float] | None:
        """``other`` against ``base``, over seeds: mean and its 95 % interval; None without two figures, or
        if a seed has one of the two only. Of times and bytes: ratio minus one (of the geometric
        mean). Of shares: the difference in per cent points."""
        values = list(zip(self.by_seed[base], self.by_seed[other], strict=True))
        pairs = [(a, b) for a, b in values if a is not None and b is not None]
        if any((a is None) != (b is None) for a, b in values):
            return None
        if not self.is_relative:
            return interval([b - a for a, b in pairs])
        found = interval([math.log(self._size(b) / self._size(a)) for a, b in pairs])
        if found is None:
            return None
        mean, low, high = map(_expm1, found)
        return mean, low, high

    def verdict(self, base: str, other: str) -> str:
        """One of `WORDS`: ``other`` against ``base``."""
        before, after = self.pooled.get(base), self.pooled.get(other)
        found = self.difference(base, other)
        if before is None or after is None or found is None:
            return "no data"
        seeds = len(self.by_seed[base])
        if self.never(base) == self.never(other) == seeds:
            return "as bad"
        mean, low, high = found
        worth = self._worth(max(abs(before), abs(after)))
        if -worth < low and high < worth:
            return "as good"
        if abs(mean) < worth or low <= 0 <= high:
            return "unclear"
        return "better" if (mean > 0) == self.figure.more_is_better else "worse"

    def _worth(self, value: float) -> float:
        """The smallest difference that is worth naming."""
        if self.is_relative:
            return max(WORTH_SHARE, WORTH_LEAST.get(self.figure.unit, 0.0) / max(value, LEAST))
        return max(WORTH_SHARE * value, WORTH_LEAST["%"])

    def _size(self, value: float) -> float:
        return min(max(value, LEAST), NEVER_MS if self.figure.unit == "ms" else math.inf)


def _expm1(value: float) -> float:
    return math.expm1(min(value, EXPONENT_MAX))


def interval(differences: Sequence[float]) -> tuple[float, float, float] | None:
    """Mean and 95 % interval of it; of a single difference it has no bounds."""
    count = len(differences)
    if not count:
        return None
    mean = sum(differences) / count
    if count == 1:
        return mean, -math.inf, math.inf
    variance = sum((each - mean) ** 2 for each in differences) / (count - 1)
    t = T_95[count - 2] if count - 2 < len(T_95) else 1.96
    half = t * math.sqrt(variance / count)
    return mean, mean - half, mean + half


def compare_runs(runs: Mapping[str, Sequence[Measured]]) -> list[Line]:
    """By name of a variant its runs, seeds in the same order in all: what viewers get, then what it costs in
    bytes. Lines without any figure are left out."""
    pooled = {name: _by_scope(summarise(measured)) for name, measured in runs.items()}
    single = {name: [_by_scope(summarise([each])) for each in measured] for name, measured in runs.items()}
    lines = []
    for stack in STACKS:
        for figure in FIGURES:
            key = figure.output, f"stack:{stack}"
            line = Line(
                figure,
                stack,
                {name: _read(figure, found.get(key)) for name, found in pooled.items()},
                {
                    name: tuple(_read(figure, found.get(key)) for found in each)
                    for name, each in single.items()
                },
            )
            if any(value is not None for value in line.pooled.values()):
                lines.append(line)
    return [*lines, *(_bytes_line(figure, runs) for figure in BYTES)]


def _bytes_line(figure: Figure, runs: Mapping[str, Sequence[Measured]]) -> Line:
    count = bytes_between_edges if figure.output == "between_edges" else bytes_to_clients
    by_seed = {name: [count(each) / MEGABYTE for each in measured] for name, measured in runs.items()}
    pooled = {name: sum(each) / len(each) if each else None for name, each in by_seed.items()}
    return Line(figure, TRAFFIC, pooled, by_seed)


def _by_scope(summaries: Sequence[OutputSummary]) -> dict[tuple[str, str], OutputSummary]:
    return {(summary.output, summary.scope): summary for summary in summaries}


def _read(figure: Figure, summary: OutputSummary | None) -> float | None:
    return None if summary is None else figure.read(summary)


def bytes_between_edges(measured: Measured) -> int:
    """Wire bytes of all paths from edge to edge."""
    edges = {node.name for node in measured.nodes if node.kind == "edge"}
    return sum(link.bytes for link in measured.links if link.src in edges and link.dst in edges)


def bytes_to_clients(measured: Measured) -> int:
    """Wire bytes of all paths with a client at one end."""
    return sum(link.bytes for link in measured.links) - bytes_between_edges(measured)


def summary_text(lines: Sequence[Line], base: str, other: str, titles: Mapping[str, str]) -> list[str]:
    """What ``other`` gains over ``base`` and what not, and what it costs in bytes, in sentences: one for each
    sort of viewers, and one for bytes. Who is better is named, be it ``base``."""
    said = []
    for stack in (*STACKS, TRAFFIC):
        by_verdict: dict[str, list[str]] = {}
        for line in lines:
            if line.stack == stack:
                by_verdict.setdefault(line.verdict(base, other), []).append(line.figure.name)
        if not by_verdict:
            continue
        parts = [
            f"{in_words(word, titles[base], titles[other])} in {', '.join(by_verdict[word])}"
            for word in WORDS
            if word in by_verdict
        ]
        if set(by_verdict) <= {"as good", "no data"} and stack != TRAFFIC:
            parts = [f"{titles[base]} as good in everything: nothing here needs it"]
        whose = "bytes" if stack == TRAFFIC else f"{stack} viewers"
        said.append(f"{whose}: {titles[other]} against {titles[base]}: {'; '.join(parts)}")
    return said


def in_words(verdict: str, base: str, other: str) -> str:
    """A verdict of `Line.verdict`, saying who it is that is better, or as good."""
    known = {"better": f"{other} better", "worse": f"{base} better", "as good": f"{base} as good"}
    return known.get(verdict, verdict)


def failures(result: Result) -> list[str]:
    """What went wrong in a result besides its promises, a line each: invariants, and seeds without a
    measurement."""
    name = result.scenario.name
    said = [
        f"{name}, seed {seed.seed}: {seed.failure.partition(chr(10))[0]}"
        for seed in result.seeds
        if seed.failure is not None
    ]
    return said + [
        f"{name}, seed {failure.seed}, {failure.at_us / 1e6:.3f} s: {failure.invariant}: {failure.what}"
        for failure in result.invariant_failures
    ]


@dataclass(frozen=True, slots=True)
class Change:
    """A promise in two results. None: it is not in one of them."""

    promise: str
    unit: str
    before: float | None
    after: float | None
    status_before: str
    status_after: str


def compare_results(before: Result, after: Result) -> list[Change]:
    """What a change of code did to the promises of a scenario, in the order of the newer result."""
    old = {verdict.promise: verdict for verdict in before.verdicts}
    new = {verdict.promise: verdict for verdict in after.verdicts}
    changes = []
    for promise in [*new, *(promise for promise in old if promise not in new)]:
        a, b = old.get(promise), new.get(promise)
        changes.append(
            Change(
                promise=promise,
                unit=(b or a or after.verdicts[0]).unit,
                before=a.value if a else None,
                after=b.value if b else None,
                status_before=a.status if a else "absent",
                status_after=b.status if b else "absent",
            )
        )
    return changes
