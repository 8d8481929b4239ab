"""What a result says, in words: what broke, by how much, where, and how to see it again.

The page, JUnit and the tables on a terminal all say it with these, so that they cannot differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farcast.simulations.results import Result, SeedResult, Verdict


@dataclass(frozen=True, slots=True)
class PinState:
    """A promise that is not kept yet, whose present margin the gate holds. ``state``: it is as it was pinned;
    or, and then the gate ``fails`` by it, has become worse than that, or holds by now, so that the pin must
    go."""

    state: str
    reason: str
    fails: bool = False


Pins = Mapping[tuple[str, str], PinState]
"""By the name of a scenario and the text of a promise."""


@dataclass(frozen=True, slots=True)
class Figures:
    """All scenarios together, as the last line of the gate states them. ``seeds`` is what every scenario has
    at least, ``runs`` are all together."""

    scenarios: int
    seeds: int
    runs: int
    promises_held: int
    promises_total: int
    invariant_failures: int
    runs_failed: int


def figures(results: Sequence[Result]) -> Figures:
    """Counts over all scenarios."""
    verdicts = [verdict for result in results for verdict in result.verdicts]
    return Figures(
        scenarios=len(results),
        seeds=min((len(result.seeds) for result in results), default=0),
        runs=sum(len(result.seeds) for result in results),
        promises_held=sum(verdict.status == "held" for verdict in verdicts),
        promises_total=len(verdicts),
        invariant_failures=sum(len(result.invariant_failures) for result in results),
        runs_failed=sum(seed.failure is not None for result in results for seed in result.seeds),
    )


def is_bad(result: Result, pins: Pins) -> bool:
    """Whether a result fails the gate: something is broken that is not pinned, or worse than pinned, or
    pinned for nothing."""
    if result.invariant_failures or any(seed.failure is not None for seed in result.seeds):
        return True
    if any(pin.fails for (name, _), pin in pins.items() if name == result.scenario.name):
        return True
    return any(fails_gate(result, verdict, pins) for verdict in result.verdicts)


def fails_gate(result: Result, verdict: Verdict, pins: Pins) -> bool:
    """Whether a verdict by itself fails the gate."""
    pin = pins.get((result.scenario.name, verdict.promise))
    return verdict.status != "held" and (pin is None or pin.fails)


def broken(result: Result) -> list[Verdict]:
    """The promises that do not hold, those missed by the largest share of their limit first."""
    found = [verdict for verdict in result.verdicts if verdict.status != "held"]
    return sorted(found, key=lambda verdict: verdict.margin_ratio or 0.0)


def worst_seed(result: Result, verdict: Verdict | None = None) -> SeedResult | None:
    """The seed to look at: one that breaks the promise by itself, else any that broke something, else any."""
    seeds = result.seeds
    if verdict is not None:
        found = next((seed for seed in seeds if verdict.promise in seed.broken), None)
        if found is not None:
            return found
    failed = {failure.seed for failure in result.invariant_failures}
    bad = [seed for seed in seeds if seed.failure is not None or seed.seed in failed or seed.broken]
    return next(iter([*bad, *seeds]), None)


def value_text(verdict: Verdict) -> str:
    """``742 ms``; of what was never measured, why."""
    if verdict.value is None:
        return "never" if verdict.never else "no data"
    return amount(verdict.value, verdict.unit)


def margin_text(verdict: Verdict) -> str:
    """``142 ms (24 %) too much``, ``58 ms (10 %) to spare``."""
    if verdict.margin is None:
        return verdict.note or ""
    share = "" if verdict.margin_ratio is None else f" ({abs(verdict.margin_ratio):.0%})"
    missed = "too much" if (verdict.value or 0.0) > (verdict.limit or 0.0) else "too little"
    said = "to spare" if verdict.margin >= 0 else missed
    return f"{amount(abs(verdict.margin), verdict.unit)}{share} {said}"


def interval_text(verdict: Verdict) -> str:
    """``701 ms … 790 ms over 10 seeds``, or nothing."""
    if verdict.low is None and verdict.high is None:
        return ""
    low, high = (
        "unbounded" if bound is None else amount(bound, verdict.unit) for bound in (verdict.low, verdict.high)
    )
    over = {"seeds": f"over {verdict.seeds_total} seeds", "viewers": f"over {verdict.viewers} viewers"}
    return f"{low} … {high} {over.get(verdict.interval_over, '')}".strip()


def amount(value: float, unit: str) -> str:
    """A figure with its unit, as many digits as matter."""
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    text = f"{value:,.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return f"{text} {unit}".rstrip()
