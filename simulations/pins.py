"""Pins: promises that are known not to hold yet, and the margin that they may not fall behind.

A promise is never loosened to turn it green. It stays red in every report; the gate lets it pass while it is
no worse than when it was pinned, in every market that misses it, and fails when it is::

    [[pin]]
    scenario = "weak-mobile"
    promise = "hd_share.worst_market >= 95 %"
    value = 88.4
    allowance = 1.5
    markets = { ID = 88.4, PH = 91 }
    reason = "stock viewers are not yet moved to a lower rendition"

``value`` is what was measured, in the unit of the promise's limit, over the seeds that the gate runs, and
``allowance`` how far beyond it another build may land by chance, a tenth of it at most. ``markets`` has
each market (pair, viewer) that misses a promise about the worst of them, with the same allowance in
proportion; one that is not in it has to hold. Where what was waited for never happened, ``value`` is
``inf``, and ``never`` how often that was, with ``allowance`` more of it allowed. ``short`` says which form
of the scenario it is about, the short one unless set.

Pins only ever go: one whose promise holds by now, or which names no promise or no scenario that there is,
fails the gate until it is taken out, and one of what never happened until it has the value of what does
now. What was not measured at all cannot be pinned.
"""

from __future__ import annotations

import difflib
import json
import math
import tomllib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations.promises import PromiseError, parse_promise
from farcast.simulations.report.findings import Pins, PinState
from farcast.simulations.results import Missed, Result, Verdict
from farcast.simulations.scenario import Scenario

ALLOWANCE_SHARE: Final = 0.1
ALLOWANCE_SHARE_MAX: Final = 0.101
"""Three digits are written of it."""
NOT_EXAMINED: Final = "not examined yet"
PINS_MAX: Final = 10_000


class Pin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One promise of one scenario; the fields are those of the file."""

    scenario: str
    promise: str
    reason: str
    value: float
    allowance: float = 0.0
    never: int = 0
    markets: dict[str, float] = {}
    short: bool = True

    @property
    def key(self) -> tuple[str, str, bool]:
        """What is pinned."""
        return self.scenario, self.promise, self.short

    @property
    def allowance_share(self) -> float:
        """The allowance by the value; of what never happened, by how often."""
        whole = self.never if math.isinf(self.value) else abs(self.value)
        return self.allowance / whole if whole else 0.0


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
    if len(read.pin) > PINS_MAX:
        raise UserError(f"{file}: pin: more than {PINS_MAX}", EXIT_USAGE)
    seen: set[tuple[str, str, bool]] = set()
    for pin in read.pin:
        wrong = "is pinned twice" if pin.key in seen else _wrong(pin)
        if wrong:
            raise UserError(f"{file}: pin: {pin.scenario}: {pin.promise!r}: {wrong}", EXIT_USAGE)
        seen.add(pin.key)
    return tuple(read.pin)


def _wrong(pin: Pin) -> str:
    """What is wrong with a pin by itself, or nothing."""
    try:
        parse_promise(pin.promise)
    except PromiseError as error:
        return str(error)
    if math.isnan(pin.value) or any(math.isnan(value) for value in pin.markets.values()):
        return "value: not a number"
    if not pin.reason.strip():
        return "reason: has to say why it does not hold yet"
    if not 0 <= pin.allowance < math.inf:
        return f"allowance: {pin.allowance:g} is negative or without bound"
    if pin.allowance_share > ALLOWANCE_SHARE_MAX:
        return f"allowance: {pin.allowance:g} is more than a tenth of what is pinned"
    if math.isinf(pin.value) and pin.never < 1:
        return "never: how often what was waited for did not happen has to be said where the value is inf"
    return ""


def check_pins(file: Path, pins: Sequence[Pin], asked: Sequence[Scenario], names: Collection[str]) -> None:
    """`UserError` if a pin names a promise that its scenario does not have, of those that are ``asked`` for,
    or a scenario that is none of these nor of the ``names`` of all others."""
    promises = {scenario.name: scenario.promises for scenario in asked}
    for pin in pins:
        if pin.scenario in promises:
            known: Collection[str] = promises[pin.scenario]
            what, name = f"{pin.scenario}: no such promise", pin.promise
        else:
            known, what, name = {*promises, *names}, "no such scenario", pin.scenario
        if name not in known:
            near = difflib.get_close_matches(name, list(known), n=1)
            hint = f": did you mean {near[0]!r}?" if near else ": take the pin out"
            raise UserError(f"{file}: pin: {what}: {name!r}{hint}", EXIT_USAGE)


def pin_states(pins: Sequence[Pin], results: Sequence[Result]) -> Pins:
    """How the pinned promises of some results stand. A promise that its scenario does not have fails: it was
    renamed, or loosened."""
    states: dict[tuple[str, str], PinState] = {}
    for pin in pins:
        for result in results:
            if (result.scenario.name, result.scenario.short) == (pin.scenario, pin.short):
                states[pin.scenario, pin.promise] = _state(pin, result)
    return states


def _state(pin: Pin, result: Result) -> PinState:
    verdict = next((each for each in result.verdicts if each.promise == pin.promise), None)
    if verdict is None:
        return PinState("no such promise: correct the pin", pin.reason, fails=True)
    if verdict.status == "held":
        return PinState("holds now: take the pin out", pin.reason, fails=True)
    if math.isinf(pin.value) and verdict.value is not None:
        text = f"better than pinned: pin it at {verdict.value:.4g} and not at never"
        return PinState(text, pin.reason, fails=True)
    worse = next(_worse(pin, verdict), None)
    if worse is not None:
        return PinState(f"worse than pinned: {worse}", pin.reason, fails=True)
    if math.isinf(pin.value):
        return PinState(f"no worse than pinned: never, {pin.never} ± {pin.allowance:g} times", pin.reason)
    return PinState(f"no worse than pinned at {pin.value:g} ± {pin.allowance:g}", pin.reason)


def _worse(pin: Pin, verdict: Verdict) -> Iterator[str]:
    """In what a verdict is worse than it was pinned."""
    if verdict.status == "no data":
        yield f"{_at(pin.value)} was measured, now nothing is"
        return
    side = _side(verdict)
    found = _found(side, verdict.value, pin.value, pin.allowance)
    if found:
        yield found
    never = _never(verdict)
    if math.isinf(pin.value) and never > pin.never + pin.allowance:
        yield f"{never} times never, pinned at {pin.never} ± {pin.allowance:g}"
    for market in verdict.missed_by:
        if market.value is None and not market.never:
            yield f"{market.name} has no sample"
        elif market.name not in pin.markets:
            yield f"{market.name} has {_at(market.value)} and is not pinned"
        else:
            pinned = pin.markets[market.name]
            allowance = 0.0 if math.isinf(pinned) else abs(pinned) * pin.allowance_share
            found = _found(side, market.value, pinned, allowance)
            if found:
                yield f"{market.name}: {found}"


@dataclass(frozen=True, slots=True)
class _Side:
    """Which limit a verdict is about: an upper or a lower one."""

    is_upper: bool

    def beyond(self, value: float | None) -> float:
        """A value so that more is worse; None is what never happened, the worst there is."""
        if value is None or math.isinf(value):
            return math.inf
        return value if self.is_upper else -value


def _side(verdict: Verdict) -> _Side:
    """By what was promised, not by where the value lies: that may be on the limit."""
    promise = parse_promise(verdict.promise)
    if promise.op == "within":
        return _Side(verdict.limit == promise.high)
    return _Side(promise.op in ("<", "<="))


def _found(side: _Side, value: float | None, pinned: float, allowance: float) -> str:
    """How a value is worse than pinned, or nothing."""
    if side.beyond(value) <= side.beyond(pinned) + allowance:
        return ""
    return f"{_at(value)}, pinned at {pinned:g} ± {allowance:.3g}"


def _at(value: float | None) -> str:
    return "never" if value is None or math.isinf(value) else f"{value:.4g}"


def _never(verdict: Verdict) -> int:
    """How often what was waited for did not happen, in all markets that miss the promise."""
    return sum(market.never for market in verdict.missed_by) or verdict.never


# ---- Proposals -------------------------------------------------------------------------------------------


def propose(results: Sequence[Result], known: Sequence[Pin]) -> str:
    """A file of pins for everything that is broken now: TOML. Reasons of pins that were known stay; to each
    new one somebody has to give one. Pins of scenarios (in this form) that were not run stay as they are.

    The allowance is a tenth of the value: another build draws other losses.
    """
    reasons = {pin.key: pin.reason for pin in known}
    ran = {(result.scenario.name, result.scenario.short) for result in results}
    made = [pin for pin in known if (pin.scenario, pin.short) not in ran]
    for result in results:
        for verdict in result.verdicts:
            if verdict.status == "broken":
                key = (result.scenario.name, verdict.promise, result.scenario.short)
                made.append(_proposed(key, verdict, reasons.get(key, NOT_EXAMINED)))
    head = "# Promises that do not hold yet: see farcast.simulations.pins. They stay red in every report.\n"
    return "\n".join([head, *(_text(pin) for pin in sorted(made, key=lambda pin: pin.scenario))])


def _proposed(key: tuple[str, str, bool], verdict: Verdict, reason: str) -> Pin:
    scenario, promise, short = key
    never = _never(verdict) if verdict.value is None else 0
    return Pin(
        scenario=scenario,
        promise=promise,
        short=short,
        reason=reason,
        value=math.inf if verdict.value is None else verdict.value,
        never=never,
        allowance=ALLOWANCE_SHARE * (never if verdict.value is None else abs(verdict.value)),
        markets={market.name: _pinned(market) for market in verdict.missed_by if _is_measured(market)},
    )


def _is_measured(market: Missed) -> bool:
    return market.value is not None or market.never > 0


def _pinned(market: Missed) -> float:
    return math.inf if market.value is None else market.value


def _text(pin: Pin) -> str:
    lines = ["[[pin]]", f"scenario = {_quoted(pin.scenario)}", f"promise = {_quoted(pin.promise)}"]
    lines.append(f"value = {pin.value:.6g}")
    lines += [f"never = {pin.never}"] if pin.never else []
    lines += [f"allowance = {pin.allowance:.3g}"] if pin.allowance else []
    if pin.markets:
        inside = ", ".join(f"{_quoted(name)} = {value:.6g}" for name, value in pin.markets.items())
        lines.append(f"markets = {{ {inside} }}")
    lines += [] if pin.short else ["short = false"]
    return "\n".join([*lines, f"reason = {_quoted(pin.reason)}", ""])


def _quoted(text: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's."""
    return json.dumps(text, ensure_ascii=False)
