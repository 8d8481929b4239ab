"""What ``farcast top`` shows, out of what the control plane's API answers: rows of text, nothing drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from farcast.cli.control_api import ControlApi

Rows = Sequence[tuple[str, ...]]

ROWS_MAX: Final = 200
"""Of one table; what is beyond is counted in its title."""

EDGE_COLUMNS: Final = ("edge", "region", "state", "viewers", "publishers", "tracks", "egress", "cpu")
LINK_COLUMNS: Final = ("link", "RTT", "RTT p99", "loss", "burst", "state")
ROUTE_COLUMNS: Final = ("route", "backups", "frame delay p99", "loss")
NAMESPACE_COLUMNS: Final = ("namespace", "published at", "held by", "egress there")


@dataclass(frozen=True, slots=True)
class Table:
    """One table; ``left_out`` rows were more than `ROWS_MAX`."""

    title: str
    columns: tuple[str, ...]
    rows: Rows
    left_out: int = 0

    @property
    def heading(self) -> str:
        """The title, with how many rows there are."""
        more = f", {self.left_out} more" if self.left_out else ""
        return f"{self.title} ({len(self.rows)}{more})"


@dataclass(frozen=True, slots=True)
class Frame:
    """The cluster at one moment. ``answers`` are those of the API, by path."""

    headline: str
    tables: tuple[Table, ...]
    answers: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "status": self.answers["/status"],
            "links": self.answers["/links"]["links"],
            "routes": self.answers["/routes"]["routes"],
            "namespaces": self.answers["/plan"]["directory"],
        }


def take_frame(control: ControlApi) -> Frame:
    """Ask the control plane, and lay out what it says. Raises `UserError` if it does not answer."""
    return frame_of({path: control.get(path) for path in ("/status", "/links", "/routes", "/plan")})


def frame_of(answers: Mapping[str, Any]) -> Frame:
    """The frame of these answers: the worst links and the busiest edges first."""
    status = answers["/status"]
    edges, links = status["edges"], answers["/links"]["links"]
    busiest = sorted(edges, key=lambda edge: (-edge["egress_bps"], edge["node_id"]))
    worst = sorted(links, key=lambda link: (link["usable"], -(link["loss"] or 0.0), -(link["rtt_ms"] or 0.0)))
    routes = sorted(answers["/routes"]["routes"], key=lambda route: -(route["delay_p99_ms"] or 0.0))
    egress = {edge["node_id"]: edge["egress_bps"] for edge in edges}
    spaces = sorted(
        answers["/plan"]["directory"],
        key=lambda space: (-sum(egress.get(node, 0) for node in space["holders"]), space["namespace"]),
    )
    return Frame(
        headline=_headline(status),
        tables=(
            _table("Edges", EDGE_COLUMNS, [_edge(edge) for edge in busiest]),
            _table("Links", LINK_COLUMNS, [_link(link) for link in worst]),
            _table("Routes", ROUTE_COLUMNS, [_route(route) for route in routes]),
            _table("Busiest namespaces", NAMESPACE_COLUMNS, [_namespace(space, egress) for space in spaces]),
        ),
        answers=answers,
    )


def frame_text(frame: Frame) -> str:
    """A frame as plain text, its columns in line."""
    lines = [frame.headline]
    for table in frame.tables:
        rows = [table.columns, *table.rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(table.columns))]
        lines += ["", table.heading]
        lines += [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
    return "\n".join(lines)


def _headline(status: Mapping[str, Any]) -> str:
    behind = f", {len(status['behind'])} behind" if status["behind"] else ""
    holding = ", holding the routes of before" if status["holding"] else ""
    return (
        f"cluster {status['cluster']}, epoch {status['epoch']}, plan {status['sequence']}: "
        f"{status['connected']} of {len(status['edges'])} edges connected{behind}{holding}"
    )


def _table(title: str, columns: tuple[str, ...], rows: Rows) -> Table:
    return Table(title, columns, rows[:ROWS_MAX], max(len(rows) - ROWS_MAX, 0))


def _edge(edge: Mapping[str, Any]) -> tuple[str, ...]:
    state = (
        edge["state"] + (", draining" if edge["draining"] else "") + ("" if edge["current"] else ", behind")
    )
    return (
        edge["node_id"],
        edge["region"],
        state,
        str(edge["viewers"]),
        str(edge["publishers"]),
        str(edge["tracks"]),
        rate_text(edge["egress_bps"]),
        f"{edge['cpu']:.0%}",
    )


def _link(link: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{link['src']} > {link['dst']}",
        _ms(link["rtt_ms"]),
        _ms(link["rtt_p99_ms"]),
        _share(link["loss"]),
        "" if link["burst"] is None else f"{link['burst']:.1f}",
        "silent" if not link["usable"] else "ok" if link["fresh"] else "stale",
    )


def _route(route: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        " > ".join(route["path"]),
        ", ".join(route["backups"]) or "none",
        _ms(route["delay_p99_ms"]),
        _share(route["loss"]),
    )


def _namespace(space: Mapping[str, Any], egress: Mapping[str, int]) -> tuple[str, ...]:
    there = sum(egress.get(node, 0) for node in space["holders"])
    return (space["namespace"], space["origin"], ", ".join(space["holders"]), rate_text(there))


def rate_text(bps: float) -> str:
    """A rate for people."""
    return f"{bps / 1e6:.1f} Mbit/s"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"
