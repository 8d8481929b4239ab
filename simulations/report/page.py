"""One HTML file that says what a run showed; it needs no network.

Who opens it after a red run wants to know, in this order: did it hold, what broke, by how much, where, how do
I see it again. That is the first screen. Below it, scenario by scenario: all promises with their margins,
latency by market, what happened when, where the bytes went, and what the world was made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

import msgspec

from farcast.simulations.report import charts
from farcast.simulations.report.findings import (
    Pins,
    amount,
    broken,
    fails_gate,
    figures,
    interval_text,
    is_bad,
    margin_text,
    value_text,
    worst_seed,
)
from farcast.simulations.report.html import cell, counted, left_out, link, number, replay, table
from farcast.simulations.report.scenario_section import scenario_section, status
from farcast.simulations.report.world_map import land_symbol
from farcast.simulations.results import InvariantFailure, Result, Verdict

CARDS_MAX: Final = 6
"""With more findings than this each is a line instead of a card, so that all are seen at once."""

LINES_MAX: Final = 300

_COPY: Final = """
for (const button of document.querySelectorAll("[data-copy]"))
  button.onclick = () => navigator.clipboard.writeText(button.dataset.copy)
    .then(() => button.textContent = "copied");
for (const chart of document.querySelectorAll("[data-chart]")) {
  const place = document.createElement("div");
  vegaEmbed(place, CHARTS[chart.dataset.chart], {actions: false, renderer: "svg"})
    .then(() => chart.replaceChildren(place)).catch(() => {});
}
"""


class _Charts:
    """The charts of a page: a drawing where each stands, its description for the script at the end."""

    def __init__(self) -> None:
        self.specs: dict[str, charts.Spec] = {}

    def add(self, spec: charts.Spec) -> str:
        name = f"c{len(self.specs)}"
        self.specs[name] = spec
        return f'<div class="chart" data-chart="{name}">{charts.svg(spec)}</div>'


def page(results: Sequence[Result], pins: Pins | None = None) -> str:
    """The whole file. `UserError` where the library for charts is missing."""
    pins = pins or {}
    drawn = _Charts()
    body = [
        *_first_screen(results, pins),
        *(scenario_section(result, pins, drawn.add) for result in results),
    ]
    specs = msgspec.json.encode(drawn.specs).decode().replace("</", "<\\/")
    css = (Path(__file__).parent / "page.css").read_text()
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(_title(results, pins))}</title><style>{css}</style></head><body>",
            _header(results, pins),
            land_symbol(),
            f"<main>{''.join(body)}</main>",
            f"<script>{charts.script() if drawn.specs else ''}</script>",
            f"<script>const CHARTS = {specs};{_COPY}</script></body></html>",
        ]
    )


def _first_screen(results: Sequence[Result], pins: Pins) -> list[str]:
    """What is broken, then the scenarios; of many scenarios an overview comes before what is broken."""
    if len(results) == 1:
        return [_findings(results, pins)]
    parts = [_findings(results, pins), _overview(results, pins)]
    return parts if len(results) <= CARDS_MAX else parts[::-1]


# ---- The first screen ------------------------------------------------------------------------------


def _state(results: Sequence[Result], pins: Pins) -> str:
    if any(is_bad(result, pins) for result in results):
        return "broken"
    return "held" if all(result.held for result in results) else "pinned"


def _title(results: Sequence[Result], pins: Pins) -> str:
    word = {"broken": "Broken", "held": "Held", "pinned": "Not yet"}[_state(results, pins)]
    names = results[0].scenario.name if len(results) == 1 else f"{len(results)} scenarios"
    return f"{word}: {names}"


def _header(results: Sequence[Result], pins: Pins) -> str:
    state = _state(results, pins)
    found = figures(results)
    missed = found.promises_total - found.promises_held
    parts = [f"{missed} of {found.promises_total} promises broken"] if missed else []
    if found.invariant_failures:
        parts.append(counted(found.invariant_failures, "invariant failure"))
    if found.runs_failed:
        parts.append(f"{counted(found.runs_failed, 'run')} ended with an error")
    said = ", ".join(parts) or f"all {found.promises_total} promises held"
    if state == "pinned":
        said += ": known, and no worse than pinned"
    where = results[0].scenario.title if len(results) == 1 else counted(len(results), "scenario")
    lengths = sorted({f"{result.scenario.duration_s:g} s" for result in results})
    build = results[0].build
    facts = [counted(found.runs, "run"), f"of {lengths[0]}" if len(lengths) == 1 else ""]
    commit = f" ({build.commit[:12]})" if build.commit else ""
    return (
        f'<header class="{state}"><div><h1>{escape(_title(results, pins))}</h1>'
        f"<p><b>{escape(said)}</b> · {escape(where)} · {' '.join(facts).strip()} · "
        f"Farcast {escape(build.version + commit)}</p></div></header>"
    )


@dataclass(frozen=True, slots=True)
class _Finding:
    """Something that is broken. ``what`` and ``where`` are HTML, the rest is text."""

    scenario: str
    what: str
    figure: str
    more: str
    where: str
    command: str
    is_pinned: bool = False


def _findings(results: Sequence[Result], pins: Pins) -> str:
    """Everything that is broken, what fails the gate first: a card each, or a line each."""
    found = [each for result in results for each in _findings_of(result, pins)]
    found.sort(key=lambda each: each.is_pinned)
    if len(found) <= CARDS_MAX:
        return "".join(map(_card, found))
    rows = [
        [
            cell(link(each.scenario)),
            cell(f'{each.what}<div class="soft">{each.where}</div>{replay(each.command)}'),
            cell(
                f'<b class="{"pinned" if each.is_pinned else "broken"}">{escape(each.figure)}</b>', "number"
            ),
            cell(escape(each.more), "soft"),
        ]
        for each in found[:LINES_MAX]
    ]
    shown = table(("scenario", "what is broken", "measured", ""), rows)
    left = left_out(len(found) - LINES_MAX, "findings")
    return f'<section class="findings"><h2>{len(found)} findings</h2>{shown}{left}</section>'


def _findings_of(result: Result, pins: Pins) -> list[_Finding]:
    return [
        *_errors(result),
        *_invariants(result),
        *(_broken_promise(result, verdict, pins) for verdict in broken(result)),
        *_pins_without_need(result, pins),
    ]


def _pins_without_need(result: Result, pins: Pins) -> list[_Finding]:
    """Pins that fail the gate although their promise is not broken: it holds, or is none."""
    known = {verdict.promise for verdict in broken(result)}
    return [
        _Finding(
            name, f'pin <span class="promise">{escape(promise)}</span>', "", pin.state, escape(pin.reason), ""
        )
        for (name, promise), pin in pins.items()
        if name == result.scenario.name and promise not in known and pin.fails
    ]


def _broken_promise(result: Result, verdict: Verdict, pins: Pins) -> _Finding:
    seed = worst_seed(result, verdict)
    limit = "" if verdict.limit is None else f"limit {amount(verdict.limit, verdict.unit)}"
    return _Finding(
        result.scenario.name,
        f'<span class="promise">{escape(verdict.promise)}</span>',
        value_text(verdict),
        " · ".join(part for part in (limit, margin_text(verdict)) if part),
        " · ".join(_circumstances(result, verdict, pins)),
        seed.replay if seed else "",
        is_pinned=not fails_gate(result, verdict, pins),
    )


def _circumstances(result: Result, verdict: Verdict, pins: Pins) -> list[str]:
    pin = pins.get((result.scenario.name, verdict.promise))
    found = [f"worst: <b>{escape(verdict.where_worst)}</b>"] if verdict.where_worst else []
    if interval_text(verdict):
        found.append(f"95 %: {escape(interval_text(verdict))}")
    if verdict.seeds_total:
        found.append(f"{verdict.seeds_total - verdict.seeds_held} of {verdict.seeds_total} seeds break it")
    if verdict.note and verdict.margin is not None:
        found.append(escape(verdict.note))
    if pin is not None:
        found.append(f"{escape(pin.state)}: {escape(pin.reason)}")
    return found


def _invariants(result: Result) -> list[_Finding]:
    by_name: dict[str, list[InvariantFailure]] = {}
    for failure in result.invariant_failures:
        by_name.setdefault(failure.invariant, []).append(failure)
    commands = {seed.seed: seed.replay for seed in result.seeds}
    return [
        _Finding(
            result.scenario.name,
            f'invariant <span class="promise">{escape(name)}</span>',
            counted(len(failures), "failure"),
            f"first at {failures[0].at_us / 1e6:.3f} s of seed {failures[0].seed}",
            escape(failures[0].what),
            commands.get(failures[0].seed, ""),
        )
        for name, failures in by_name.items()
    ]


def _errors(result: Result) -> list[_Finding]:
    return [
        _Finding(
            result.scenario.name,
            "",
            "the run ended with an error",
            f"seed {seed.seed}",
            f"<code>{escape(seed.failure)}</code>",
            seed.replay,
        )
        for seed in result.seeds
        if seed.failure is not None
    ]


def _card(finding: _Finding) -> str:
    return (
        f'<div class="card{" pinned" if finding.is_pinned else ""}">{link(finding.scenario)} {finding.what}'
        f'<div class="figure"><b>{escape(finding.figure)}</b> <small>{escape(finding.more)}</small></div>'
        f'<div class="soft">{finding.where}</div>{replay(finding.command)}</div>'
    )


def _overview(results: Sequence[Result], pins: Pins) -> str:
    rows = []
    for result in sorted(results, key=lambda result: (not is_bad(result, pins), result.held)):
        held = sum(verdict.status == "held" for verdict in result.verdicts)
        tight = min(result.verdicts, key=lambda verdict: verdict.margin_ratio or 0.0, default=None)
        nearest = "" if tight is None else f"{tight.promise}: {value_text(tight)}, {margin_text(tight)}"
        rows.append(
            [
                cell(link(result.scenario.name)),
                cell(status(_state([result], pins))),
                number(f"{held} of {len(result.verdicts)}"),
                number(str(len(result.seeds))),
                cell(escape(nearest), "soft"),
            ]
        )
    head = ("scenario", "", "promises held", "runs", "nearest to its limit, or farthest beyond")
    return f"<section><h2>Scenarios</h2>{table(head, rows)}</section>"
