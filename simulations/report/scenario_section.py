"""The part of the page that is about one scenario."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Final

from farcast.simulations.promises import PromiseError, parse_promise
from farcast.simulations.report import charts
from farcast.simulations.report.findings import (
    Pins,
    amount,
    broken,
    fails_gate,
    interval_text,
    margin_text,
    value_text,
    worst_seed,
)
from farcast.simulations.report.html import cell, left_out, number, table
from farcast.simulations.report.world_map import world_map
from farcast.simulations.results import OutputSummary, Result, SeedResult, TimelineEntry, Verdict

ROWS_MAX: Final = 40
"""Rows of the longer tables; what is left out is said."""

EVENTS_MAX: Final = 200

_KEY: Final = (
    '<div class="soft key"><i style="background:#1b1f24"></i>edge<i style="background:#e08600"></i>publisher'
    '<i style="background:#1a7f37"></i>viewer<i style="background:#1f6feb"></i>path with media, as thick as '
    'its bytes<i style="background:#b42318"></i>path that lost 1 % or more</div>'
)
_STATES: Final[Mapping[str, tuple[str, str]]] = {
    "held": ("held", "✓ held"),
    "broken": ("broken", "✗ broken"),
    "pinned": ("pinned", "○ not yet"),
    "no data": ("none", "? no data"),
}


def scenario_section(result: Result, pins: Pins, draw: Callable[[charts.Spec], str]) -> str:
    """All about one scenario; ``draw`` makes HTML of a chart."""
    info = result.scenario
    seed = worst_seed(result)
    form = "short form, " if info.short else ""
    facts = f"{form}{info.duration_s:g} s, {info.edges} edges, {info.viewers} viewers, {info.scale}"
    latency = charts.latency_chart(result, _limits(result))
    timeline = charts.timeline_chart(result, seed.seed) if seed else None
    drawing = world_map(result)
    parts = [
        f'<section id="{escape(info.name)}"><h2>{escape(info.name)}</h2>',
        f'<div class="soft">{escape(info.title)} · {escape(facts)}</div>',
        f"<h3>Promises</h3>{_promises(result, pins)}",
        f"<h3>Latency by market, all seeds</h3>{draw(latency)}" if latency else "",
        f"<h3>What happened, seed {seed.seed}</h3>{draw(timeline)}" if seed and timeline else "",
        _events(result, seed) if seed else "",
        f"<h3>Where the media went, seed {result.seeds[0].seed}</h3>{drawing}{_KEY}" if drawing else "",
        _stalls(result),
        _outputs(result),
        _seeds(result),
        _sources(result),
        "</section>",
    ]
    return "".join(parts)


def status(state: str) -> str:
    """``held``, ``broken``, ``pinned`` or ``no data``, with its mark and colour."""
    name, text = _STATES[state]
    return f'<span class="status {name}">{text}</span>'


def _limits(result: Result) -> list[float]:
    """The upper bounds in ms that are promised of the tail of latency."""
    limits = []
    for verdict in result.verdicts:
        try:
            promise = parse_promise(verdict.promise)
        except PromiseError:
            continue
        is_of_tail = promise.stat not in ("mean", "p50")
        if promise.output == charts.LATENCY and promise.high is not None and is_of_tail:
            limits.append(promise.high)
    return limits


def _promises(result: Result, pins: Pins) -> str:
    rows = []
    for verdict in [*broken(result), *(verdict for verdict in result.verdicts if verdict.status == "held")]:
        pin = pins.get((result.scenario.name, verdict.promise))
        fails = fails_gate(result, verdict, pins)
        notes = [f"worst {verdict.where_worst}" if verdict.where_worst else "", verdict.note]
        notes += [f"{pin.state}: {pin.reason}"] if pin else []
        said = escape(" · ".join(note for note in notes if note))
        promise = f'<span class="promise">{escape(verdict.promise)}</span><div class="soft">{said}</div>'
        rows.append(
            [
                cell(status(verdict.status if fails or verdict.status == "held" else "pinned")),
                cell(promise),
                number(value_text(verdict)),
                number(margin_text(verdict) if verdict.margin is not None else ""),
                cell(_bullet(verdict)),
                cell(escape(interval_text(verdict)), "interval"),
            ]
        )
    return table(("", "promise", "measured", "margin", "against the limit", "95 %"), rows)


def _bullet(verdict: Verdict) -> str:
    """Value (dot) with its interval (bar) against the limit (line); the limit is in the middle."""
    limit = verdict.limit
    if verdict.value is None or not limit:
        return ""

    def at(value: float) -> float:
        return min(max(70 + (value - limit) * 55 / abs(limit), 3), 137)

    color = "#1a7f37" if verdict.status == "held" else "#b42318"
    interval = ""
    if verdict.low is not None and verdict.high is not None:
        low, width = at(verdict.low), max(at(verdict.high) - at(verdict.low), 1)
        interval = f'<rect x="{low:.1f}" y="7" width="{width:.1f}" height="4" fill="{color}" opacity=".35"/>'
    return (
        '<svg class="bullet" width="140" height="18"><line x1="0" x2="140" y1="9" y2="9" stroke="#d8dee4"/>'
        f'{interval}<line x1="70" x2="70" y1="1" y2="17" stroke="#1b1f24"/>'
        f'<circle cx="{at(verdict.value):.1f}" cy="9" r="4.5" fill="{color}"/></svg>'
    )


def _events(result: Result, seed: SeedResult) -> str:
    """The timeline in words."""
    entries = sorted((entry for entry in result.timeline if entry.seed == seed.seed), key=_when)
    if not entries:
        return ""
    rows = [
        [
            number(f"{entry.at_us / 1e6:.3f} s"),
            number("" if entry.length_us is None else f"{entry.length_us / 1e3:.0f} ms"),
            cell(entry.kind),
            cell(escape(entry.who or "")),
            cell(escape(entry.what)),
        ]
        for entry in entries[:EVENTS_MAX]
    ]
    left = left_out(len(entries) - EVENTS_MAX + result.timeline_left_out, "events")
    found = table(("at", "for", "", "who", "what"), rows)
    return f"<details><summary>The same in words</summary>{found}{left}</details>"


def _when(entry: TimelineEntry) -> int:
    return entry.at_us


def _stalls(result: Result) -> str:
    """Who stood still longest, over all seeds."""
    totals: dict[str, list[int]] = {}
    for entry in result.timeline:
        if entry.kind == "stall":
            totals.setdefault(entry.who or "?", []).append(entry.length_us or 0)
    if not totals:
        return ""
    markets = {node.name: f"{node.market} {node.stack}".strip() for node in result.nodes}
    rows = [
        [
            cell(escape(who)),
            cell(escape(markets.get(who, ""))),
            number(str(len(lengths))),
            number(f"{sum(lengths) / 1e6:.2f} s"),
            number(f"{max(lengths) / 1e3:.0f} ms"),
        ]
        for who, lengths in sorted(totals.items(), key=lambda each: -sum(each[1]))
    ]
    found = table(("viewer", "", "stalls", "in all", "longest"), rows[:ROWS_MAX])
    return f"<h3>Stalls, all seeds</h3>{found}{left_out(len(rows) - ROWS_MAX, 'viewers')}"


def _outputs(result: Result) -> str:
    def figure(output: OutputSummary, value: float | None) -> str:
        return number("" if value is None else amount(value, output.unit))

    rows = [
        [
            cell(escape(output.output)),
            cell(escape(output.scope)),
            figure(output, output.ratio),
            figure(output, output.mean),
            *(figure(output, output.quantiles.get(key)) for key in ("0.5", "0.95", "0.99", "0.999")),
            number(f"{output.count:,}"),
        ]
        for output in result.outputs
    ]
    head = ("output", "scope", "ratio", "mean", "p50", "p95", "p99", "p99.9", "samples")
    return f"<details><summary>All outputs</summary>{table(head, rows)}</details>" if rows else ""


def _seeds(result: Result) -> str:
    rows = [
        [
            cell(str(seed.seed)),
            cell(escape(", ".join(seed.broken) if seed.failure is None else "failed")),
            cell(f"<code>{escape(seed.trace_hash[:16])}</code>"),
            number(f"{seed.wall_s:.1f} s"),
            cell(f"<code>{escape(seed.replay)}</code>"),
        ]
        for seed in result.seeds[:ROWS_MAX]
    ]
    found = table(("seed", "breaks", "trace", "took", "replay"), rows)
    left = left_out(len(result.seeds) - ROWS_MAX, "seeds")
    return f"<details><summary>Seeds and replay</summary>{found}{left}</details>"


def _sources(result: Result) -> str:
    info = result.scenario
    lists = (("Measured", info.measured), ("Synthesised", info.synthesised), ("Sources", info.sources))
    parts = [
        f"<h3>{name}</h3><ul>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"
        for name, lines in lists
        if lines
    ]
    return (
        f"<details><summary>What this world is made of</summary>{''.join(parts)}</details>" if parts else ""
    )
