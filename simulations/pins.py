"""Pins: promises that are known not to hold yet, and the margin that they may not fall behind.

A promise is never loosened to turn it green. It stays red in every report; the gate lets it pass while it is
no worse than when it was pinned, fails when it is, and says when the pin can go::

    [[pin]]
    scenario = "weak-mobile"
    promise = "hd_share >= 95 %"
    value = 88.4
    allowance = 1.5
    reason = "stock viewers are not yet moved to a lower rendition"

``value`` is what was measured, in the unit of the promise's limit, over the seeds that the gate runs, and
``allowance`` how far beyond it another build may land by chance. ``short`` says which form of the scenario
it is about, the short one unless set.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations.report.findings import Pins, PinState
from farcast.simulations.results import Result, Verdict

ALLOWANCE_SHARE: Final = 0.1


class Pin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One promise of one scenario. ``value`` None: nothing was measured, and nothing has to be."""

    scenario: str
    promise: str
    reason: str
    value: float | None = None
    allowance: float = 0.0
    short: bool = True


class _File(msgspec.Struct, forbid_unknown_fields=True):
    pin: list[Pin] = []


def load_pins(file: Path) -> tuple[Pin, ...]:
    """The pins in a file; `UserError` says what in it is wrong."""
    try:
        read = msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), _File)
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}", EXIT_USAGE) from error
    except (tomllib.TOMLDecodeError, UnicodeError, msgspec.ValidationError) as error:
        raise UserError(f"{file}: {error}", EXIT_USAGE) from error
    named = [(pin.scenario, pin.promise, pin.short) for pin in read.pin]
    for key in named:
        if named.count(key) > 1:
            raise UserError(f"{file}: pin: {key[0]}: {key[1]!r} is pinned twice", EXIT_USAGE)
    return tuple(read.pin)


def pin_states(pins: Sequence[Pin], results: Sequence[Result]) -> Pins:
    """How the pinned promises of some results stand. A promise that its scenario does not have is worse than
    pinned: it was renamed, or loosened."""
    states: dict[tuple[str, str], PinState] = {}
    for pin in pins:
        for result in results:
            if (result.scenario.name, result.scenario.short) == (pin.scenario, pin.short):
                states[pin.scenario, pin.promise] = _state(pin, result)
    return states


def _state(pin: Pin, result: Result) -> PinState:
    verdict = next((each for each in result.verdicts if each.promise == pin.promise), None)
    if verdict is None:
        return PinState("no such promise: correct the pin", pin.reason, is_worse=True)
    if verdict.status == "held":
        return PinState("holds now: the pin can be removed", pin.reason)
    if pin.value is None:
        return PinState("pinned without a value", pin.reason)
    if verdict.value is None:
        return PinState(f"worse than pinned: {pin.value:g} was measured, now nothing is", pin.reason, True)
    worse_by = _distance(verdict, verdict.value) - _distance(verdict, pin.value)
    if worse_by > pin.allowance:
        found = f"{verdict.value:.4g}, pinned at {pin.value:g} ± {pin.allowance:g}"
        return PinState(f"worse than pinned: {found}", pin.reason, is_worse=True)
    return PinState(f"no worse than pinned at {pin.value:g} ± {pin.allowance:g}", pin.reason)


def propose(results: Sequence[Result], known: Sequence[Pin]) -> str:
    """A file of pins for everything that is broken now: TOML. Reasons of pins that were known stay; to each
    new one somebody has to give one.

    The allowance is half of the interval, and a tenth of the value at least: another build draws other
    losses.
    """
    reasons = {(pin.scenario, pin.promise, pin.short): pin.reason for pin in known}
    parts = [
        "# Promises that do not hold yet: see farcast.simulations.pins. They stay red in every report.\n"
    ]
    for result in results:
        for verdict in result.verdicts:
            if verdict.status == "held":
                continue
            info = result.scenario
            reason = reasons.get((info.name, verdict.promise, info.short), "not examined yet")
            parts.append(_proposed(info.name, info.short, verdict, reason))
    return "\n".join(parts)


def _proposed(scenario: str, short: bool, verdict: Verdict, reason: str) -> str:
    lines = ["[[pin]]", f"scenario = {_quoted(scenario)}", f"promise = {_quoted(verdict.promise)}"]
    if verdict.value is not None:
        half = 0.0 if verdict.low is None or verdict.high is None else (verdict.high - verdict.low) / 2
        allowance = max(half, ALLOWANCE_SHARE * abs(verdict.value))
        lines += [f"value = {verdict.value:.6g}", f"allowance = {allowance:.3g}"]
    lines += [] if short else ["short = false"]
    return "\n".join([*lines, f"reason = {_quoted(reason)}", ""])


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's."""
    return json.dumps(text, ensure_ascii=False)


def _distance(verdict: Verdict, value: float) -> float:
    """How far a value is on the wrong side of the limit; of ``within``, of the limit that was missed."""
    limit = verdict.limit or 0.0
    is_upper = (verdict.value or 0.0) > limit
    return value - limit if is_upper else limit - value
