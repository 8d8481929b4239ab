"""Charts as Vega-Lite: one description, drawn twice.

Each chart is put into the page as a drawing (SVG), so that it shows where scripts are not allowed to run, as
in the pages of many CI servers; where they may, the same description is drawn again with values under the
mouse and a timeline that can be zoomed. Drawings and the script come out of `vl-convert-python`, which
carries the compiler; nothing is fetched. It is imported only when a page is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations.results import OutputSummary, Result, TimelineEntry

LATENCY: Final = "glass_to_glass"
VEGA_LITE: Final = "5.21"
SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v5.json"
LANES_MAX: Final = 18
"""Rows of a timeline: the viewers that stalled longest."""

ENTRIES_MAX: Final = 300
LABELS_MAX: Final = 12
"""Faults whose names are written into a timeline."""

DOTS: Final = (0.5, 0.9, 0.95, 0.99)
"""Where a line has a dot with its values."""

NINES_MAX: Final = 3.0
"""The upper end of the latency chart: 99.9 %."""

Spec = dict[str, Any]

_CONFIG: Final[Spec] = {
    "aria": False,  # a label on each of hundreds of marks makes nothing easier to read
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "gridColor": "#e6e8eb",
        "domainColor": "#9aa1a9",
        "tickColor": "#9aa1a9",
        "labelColor": "#3c434b",
    },
    "legend": {"labelColor": "#3c434b", "titleColor": "#3c434b"},
    "range": {
        "category": ["#1f6feb", "#e08600", "#1a7f37", "#7a5af8", "#0aa2c0", "#d63384", "#6e4b1f", "#57606a"]
    },
}
_COLORS: Final = {
    "fault": "#b42318",
    "route": "#1f6feb",
    "move": "#7a5af8",
    "stall": "#e08600",
    "error": "#b42318",
}


def check() -> None:
    """`UserError` unless charts can be drawn; to be asked before a run of minutes, not after it."""
    _converter()


def script() -> str:
    """The script that draws charts in a browser, about 900 kB; BSD-3-Clause."""
    text: str = _converter().javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=VEGA_LITE)
    return text


def svg(spec: Spec) -> str:
    """The chart as a drawing."""
    text: str = _converter().vegalite_to_svg(spec, vl_version=VEGA_LITE)
    return text


def latency_chart(result: Result, limits_ms: Sequence[float]) -> Spec | None:
    """Glass to glass by market, as a distribution function whose axis spreads the tail; None without data."""
    rows = [row for output in _by_market(result) for row in _cdf_rows(output)]
    if not rows:
        return None
    # p50, p90 … at equal steps of nines: promises are about the tail, which a plain axis squeezes flat.
    labels = "datum.value < 0.1 ? '0' : datum.value < 0.5 ? '50 %' : datum.value < 1.5 ? '90 %' : "
    labels += "datum.value < 2.5 ? '99 %' : '99.9 %'"
    y = {
        "field": "nines",
        "type": "quantitative",
        "title": "share of pictures not later",
        "scale": {"domain": [0, NINES_MAX]},
        "axis": {"values": [0, math.log10(2), 1, 2, 3], "labelExpr": labels},
    }
    x = {"field": "ms", "type": "quantitative", "title": "glass to glass, ms", "scale": {"zero": False}}
    tooltip = [
        {"field": "market", "title": "market"},
        {"field": "ms", "title": "ms", "format": ".0f"},
        {"field": "share", "title": "share", "format": ".2%"},
    ]
    lines = {
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": 2, "clip": True, "interpolate": "linear"},
        "encoding": {
            "x": x,
            "y": y,
            "color": {"field": "market", "title": "market"},
            "order": {"field": "share"},
        },
    }
    points = {
        "data": {"values": [row for row in rows if row["share"] in DOTS]},
        "mark": {"type": "point", "filled": True, "size": 36, "opacity": 1, "clip": True},
        "encoding": {"x": x, "y": y, "color": {"field": "market"}, "tooltip": tooltip},
    }
    return _chart([lines, points, *_limit_layers(limits_ms)], height=260)


def _limit_layers(limits_ms: Sequence[float]) -> list[Spec]:
    if not limits_ms:
        return []
    values = [{"ms": limit, "text": f"promise {limit:g} ms"} for limit in sorted(set(limits_ms))]
    x = {"field": "ms", "type": "quantitative"}
    rule = {"type": "rule", "color": _COLORS["fault"], "strokeDash": [5, 4]}
    text = {"type": "text", "align": "right", "dx": -5, "y": 8, "color": _COLORS["fault"]}
    return [
        {"data": {"values": values}, "mark": rule, "encoding": {"x": x}},
        {"data": {"values": values}, "mark": text, "encoding": {"x": x, "text": {"field": "text"}}},
    ]


def _by_market(result: Result) -> list[OutputSummary]:
    of_latency = [output for output in result.outputs if output.output == LATENCY]
    found = [output for output in of_latency if output.scope.startswith("market:")]
    return found or [output for output in of_latency if output.scope == "all"]


def _cdf_rows(output: OutputSummary) -> list[Spec]:
    points = {share: value for value, share in output.cdf}
    points.update({float(q): value for q, value in output.quantiles.items() if value is not None})
    market = output.scope.removeprefix("market:")
    return [
        {
            "market": market,
            "ms": round(value, 1),
            "share": round(share, 5),
            "nines": round(min(-math.log10(max(1 - share, 1e-9)), NINES_MAX), 4),
        }
        for share, value in sorted(points.items())
        if share <= 0.9991
    ]


def timeline_chart(result: Result, seed: int) -> Spec | None:
    """Faults, changes of route, moves and stalls of one seed over time; None if nothing happened."""
    entries = [entry for entry in result.timeline if entry.seed == seed][:ENTRIES_MAX]
    if not entries:
        return None
    lanes = _lanes(entries)
    rows = [
        {
            "lane": lane,
            "kind": entry.kind,
            "from": entry.at_us / 1e6,
            "to": (entry.at_us + (entry.length_us or 0)) / 1e6,
            "what": entry.what,
            "who": entry.who or "",
        }
        for entry in entries
        if (lane := _lane(entry)) in lanes
    ]
    x = {
        "field": "from",
        "type": "quantitative",
        "title": "seconds",
        "scale": {"domain": [0, result.scenario.duration_s]},
    }
    return _chart(_timeline_layers(rows, lanes, x), height=max(60, 22 * len(lanes)))


def _timeline_layers(rows: Sequence[Spec], lanes: Sequence[str], x: Spec) -> list[Spec]:
    kinds = [kind for kind in _COLORS if any(row["kind"] == kind for row in rows)]
    y = {"field": "lane", "type": "nominal", "title": None, "sort": list(lanes), "axis": {"labelLimit": 220}}
    colors = {
        "field": "kind",
        "scale": {"domain": kinds, "range": [_COLORS[kind] for kind in kinds]},
        "title": None,
        "legend": {"symbolType": "square"},
    }
    tooltip = [{"field": "from", "title": "s", "format": ".3f"}, {"field": "what"}, {"field": "who"}]
    shared = {"x": x, "y": y, "color": colors, "tooltip": tooltip}
    faults = [row for row in rows if row["kind"] == "fault"]
    rule = {"type": "rule", "color": _COLORS["fault"], "opacity": 0.35, "clip": True}
    label = {"type": "text", "align": "left", "dx": 5, "fontSize": 10, "color": "#1b1f24"}
    zoom = {"name": "zoom", "select": {"type": "interval", "encodings": ["x"]}, "bind": "scales"}
    return [
        {"data": {"values": faults}, "mark": rule, "encoding": {"x": x, "tooltip": tooltip}},
        {
            "data": {"values": [row for row in rows if row["to"] > row["from"]]},
            "mark": {"type": "bar", "height": 10, "clip": True, "minBandSize": 2, "opacity": 0.75},
            "encoding": {**shared, "x2": {"field": "to"}},
        },
        {
            "data": {"values": [row for row in rows if row["to"] <= row["from"]]},
            "mark": {"type": "tick", "thickness": 3, "height": 13, "clip": True},
            "encoding": shared,
            "params": [zoom],
        },
        {
            "data": {"values": faults[:LABELS_MAX]},
            "mark": label,
            "encoding": {"x": x, "y": y, "text": {"field": "what"}},
        },
    ]


def _lane(entry: TimelineEntry) -> str:
    if entry.kind in ("fault", "route"):
        return "faults" if entry.kind == "fault" else "routes"
    return entry.who or entry.kind


def _lanes(entries: Sequence[TimelineEntry]) -> list[str]:
    """Faults and routes first, then those whose pictures stood still longest."""
    stalled: dict[str, int] = {}
    for entry in entries:
        if entry.kind not in ("fault", "route"):
            lane = _lane(entry)
            stalled[lane] = stalled.get(lane, 0) + (entry.length_us or 0) * (entry.kind == "stall")
    kinds = {entry.kind for entry in entries}
    first = [lane for lane, kind in (("faults", "fault"), ("routes", "route")) if kind in kinds]
    return first + sorted(stalled, key=lambda lane: (-stalled[lane], lane))[:LANES_MAX]


def _chart(layers: Sequence[Spec], height: int) -> Spec:
    return {
        "$schema": SCHEMA,
        "width": 760,
        "height": height,
        "background": "white",
        "config": _CONFIG,
        "layer": list(layers),
    }


def _converter() -> Any:
    try:
        import vl_convert
    except ModuleNotFoundError as error:
        raise UserError(
            "--html needs the package vl-convert-python for its charts: pip install 'farcast[reports]'",
            EXIT_USAGE,
        ) from error
    return vl_convert
