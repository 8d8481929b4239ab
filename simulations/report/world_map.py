"""The map of a result, as a drawing: land, edges, clients, and the paths that carried media.

Longitude and latitude are the coordinates of the drawing, as on every plate carrée, so nothing has to be
projected. Land is that of Natural Earth at 1:110 million (`land_110m.json`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Final

from farcast.simulations.results import MapLink, MapNode, Result

MARGIN_DEGREES: Final = 8.0
SPAN_DEGREES_MIN: Final = 40.0
LATITUDES: Final = (-60.0, 78.0)
LINK_LOSS_BAD: Final = 0.01
"""From this share of lost datagrams on a path is drawn as a bad one."""

MEDIA_SHARE_MIN: Final = 0.05
"""Of the bytes of the busiest path: below are heartbeats and probes, which go between all edges."""

LAND: Final = "land"
CLIENTS_MAX: Final = 400


def world_map(result: Result) -> str | None:
    """SVG of what has coordinates; None if nothing has."""
    places = {node.name: node for node in result.nodes if node.lat is not None and node.lon is not None}
    if not places:
        return None
    west, north, width, height = _frame(list(places.values()))
    unit = width / 760
    hops = [link for link in result.links if _is_edge(places, link.src) and _is_edge(places, link.dst)]
    widest = max((link.bytes for link in hops), default=1) or 1
    links = [_link(link, places, widest, unit) for link in hops if link.bytes >= MEDIA_SHARE_MIN * widest]
    clients = [node for node in places.values() if node.kind != "edge"][:CLIENTS_MAX]
    edges = [node for node in places.values() if node.kind == "edge"]
    parts = [
        f'<svg class="map" viewBox="{west:.1f} {north:.1f} {width:.1f} {height:.1f}" role="img" '
        'aria-label="Map of edges, clients and the paths that carried media">',
        f'<rect class="sea" x="{west:.1f}" y="{north:.1f}" width="{width:.1f}" height="{height:.1f}"/>',
        f'<use href="#{LAND}" class="land"/>',
        *links,
        *(_client(node, number, unit) for number, node in enumerate(clients)),
        *(_edge(node, unit) for node in edges),
        "</svg>",
    ]
    return "".join(parts)


def _frame(nodes: Sequence[MapNode]) -> tuple[float, float, float, float]:
    """West, north (downwards is positive), width, height of what is shown."""
    lons = [node.lon for node in nodes if node.lon is not None]
    lats = [node.lat for node in nodes if node.lat is not None]
    west, east = _widen(min(lons), max(lons), SPAN_DEGREES_MIN)
    south, north = _widen(min(lats), max(lats), max(SPAN_DEGREES_MIN, (east - west)) / 2.6)
    south, north = max(south, LATITUDES[0]), min(north, LATITUDES[1])
    return west, -north, east - west, north - south


def _widen(low: float, high: float, span_min: float) -> tuple[float, float]:
    low, high = low - MARGIN_DEGREES, high + MARGIN_DEGREES
    more = max(0.0, span_min - (high - low)) / 2
    return low - more, high + more


def land_symbol() -> str:
    """The land, once for all maps of a page."""
    land = f'<path id="{LAND}" d="{_land()}"/>'
    return f'<svg width="0" height="0" style="position:absolute"><defs>{land}</defs></svg>'


def _land() -> str:
    rings = json.loads((Path(__file__).parent / "land_110m.json").read_text())
    return "".join(
        "M" + "L".join(f"{lon:g} {-lat:g}" for lon, lat in zip(ring[::2], ring[1::2], strict=True)) + "Z"
        for ring in rings
    )


def _is_edge(places: Mapping[str, MapNode], name: str) -> bool:
    return name in places and places[name].kind == "edge"


def _link(link: MapLink, places: Mapping[str, MapNode], widest: int, unit: float) -> str:
    src, dst = places[link.src], places[link.dst]
    x1, y1, x2, y2 = src.lon or 0.0, -(src.lat or 0.0), dst.lon or 0.0, -(dst.lat or 0.0)
    # A bow to one side, so that both directions of a path can be told apart.
    middle_x, middle_y = (x1 + x2) / 2 - (y2 - y1) * 0.12, (y1 + y2) / 2 + (x2 - x1) * 0.12
    stroke = unit * (0.8 + 3.2 * math.sqrt(link.bytes / widest))
    loss = "" if link.loss is None else f", {link.loss:.2%} lost"
    rtt = "" if link.rtt_ms is None else f", {link.rtt_ms:.0f} ms round trip"
    title = f"{link.src} → {link.dst}: {link.bytes / 1e6:.1f} MB{rtt}{loss}"
    state = "link bad" if (link.loss or 0.0) >= LINK_LOSS_BAD else "link"
    return (
        f'<path class="{state}" stroke-width="{stroke:.2f}" '
        f'd="M{x1:.2f} {y1:.2f}Q{middle_x:.2f} {middle_y:.2f} {x2:.2f} {y2:.2f}">'
        f"<title>{escape(title)}</title></path>"
    )


def _client(node: MapNode, number: int, unit: float) -> str:
    # Clients of one city lie on one point: spread them on a spiral around it (golden angle).
    angle, radius = number * 2.39996, unit * (7 + 1.1 * math.sqrt(number))
    x = (node.lon or 0.0) + radius * math.cos(angle)
    y = -(node.lat or 0.0) + radius * math.sin(angle)
    what = " ".join(part for part in (node.kind, node.name, node.market, node.stack) if part)
    size = unit * (4.0 if node.kind == "publisher" else 2.2)
    return (
        f'<circle class="{node.kind}" cx="{x:.2f}" cy="{y:.2f}" r="{size:.2f}">'
        f"<title>{escape(what)}</title></circle>"
    )


def _edge(node: MapNode, unit: float) -> str:
    x, y = node.lon or 0.0, -(node.lat or 0.0)
    name = escape(node.name)
    return (
        f'<circle class="edge" cx="{x:.2f}" cy="{y:.2f}" r="{4.5 * unit:.2f}"><title>{name}</title></circle>'
        f'<text x="{x + 6 * unit:.2f}" y="{y - 5 * unit:.2f}" font-size="{11 * unit:.2f}">{name}</text>'
    )
