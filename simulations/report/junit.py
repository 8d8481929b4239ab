"""Results as JUnit XML: a suite for each scenario, a case for each promise and run, one for invariants."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree

from farcast.simulations.report.findings import (
    Pins,
    fails_gate,
    interval_text,
    margin_text,
    value_text,
    worst_seed,
)
from farcast.simulations.results import Result, Verdict

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no characters for, escaped or not (section 2.2)."""

INVARIANTS_MAX: Final = 50


def junit(results: Sequence[Result], pins: Pins | None = None) -> bytes:
    """The file. A broken promise is a failure, and so is a pin without need; a run that ended with an error
    is an error, what is pinned is skipped with its reason."""
    root = ElementTree.Element("testsuites", name="farcast sim")
    for result in results:
        _suite(root, result, pins or {})
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _suite(root: ElementTree.Element, result: Result, pins: Pins) -> None:
    suite = ElementTree.SubElement(root, "testsuite", name=result.scenario.name)
    for verdict in result.verdicts:
        case = _case(suite, result, verdict.promise)
        if verdict.status != "held":
            _not_held(case, result, verdict, pins)
        elif (pin := pins.get((result.scenario.name, verdict.promise))) is not None and pin.fails:
            _say(case, "failure", f"pin: {pin.state}", pin.reason)
    _pins_of_nothing(suite, result, pins)
    if result.invariant_failures or not result.seeds:
        _invariants(suite, result)
    else:
        _case(suite, result, "invariants")
    for seed in result.seeds:
        case = _case(suite, result, f"seed {seed.seed}", seconds=seed.wall_s)
        if seed.failure is not None:
            _say(case, "error", seed.failure.partition("\n")[0], f"{seed.failure}\n{seed.replay}")
    for tag in ("failure", "error", "skipped"):
        count = sum(case.find(tag) is not None for case in suite)
        suite.set({"failure": "failures", "error": "errors", "skipped": "skipped"}[tag], str(count))
    suite.set("tests", str(len(suite)))
    suite.set("time", f"{sum(seed.wall_s for seed in result.seeds):.3f}")


def _pins_of_nothing(suite: ElementTree.Element, result: Result, pins: Pins) -> None:
    promises = {verdict.promise for verdict in result.verdicts}
    for (name, promise), pin in pins.items():
        if name == result.scenario.name and promise not in promises:
            _say(_case(suite, result, promise), "failure", f"pin: {pin.state}", pin.reason)


def _not_held(case: ElementTree.Element, result: Result, verdict: Verdict, pins: Pins) -> None:
    seed = worst_seed(result, verdict)
    where = f"; worst {verdict.where_worst}" if verdict.where_worst else ""
    message = f"{value_text(verdict)}: {margin_text(verdict) or verdict.status}{where}"
    pinned = pins.get((result.scenario.name, verdict.promise))
    if not fails_gate(result, verdict, pins):
        state = "" if pinned is None else f", {pinned.state}: {message}: {pinned.reason}"
        _say(case, "skipped", f"not yet{state}", "")
        return
    pin = "" if pinned is None else f"{pinned.state} ({pinned.reason})"
    lines = [verdict.promise, message, pin, interval_text(verdict), verdict.note, seed.replay if seed else ""]
    _say(case, "failure", message, "\n".join(line for line in lines if line))


def _invariants(suite: ElementTree.Element, result: Result) -> None:
    case = _case(suite, result, "invariants")
    replays = {seed.seed: seed.replay for seed in result.seeds}
    lines = [
        f"seed {failure.seed}, {failure.at_us / 1e6:.6f} s: {failure.invariant}: {failure.what}\n"
        f"  {replays.get(failure.seed, '')}"
        for failure in result.invariant_failures[:INVARIANTS_MAX]
    ]
    count = len(result.invariant_failures)
    said = f"{count} invariant failure{'' if count == 1 else 's'}" if count else "nothing was run"
    _say(case, "failure", said, "\n".join(lines))


def _case(suite: ElementTree.Element, result: Result, name: str, seconds: float = 0.0) -> ElementTree.Element:
    place = f"farcast.sim.{result.scenario.name}"
    return ElementTree.SubElement(
        suite, "testcase", name=_clean(name), classname=place, time=f"{seconds:.3f}"
    )


def _say(case: ElementTree.Element, tag: str, message: str, text: str) -> None:
    ElementTree.SubElement(case, tag, message=_clean(message)).text = _clean(text)


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
