"""``farcast links export``: what edges measured of their links, as a world for the simulator.

A control plane tells of each link the smoothed round trip and its 99th percentile, the share of packets
lost and the mean length of a run of losses. The simulator's form (`farcast.simulations.export_file`) wants
the 90th percentile too: it is read off the log-normal distribution through the two that were measured, which
is the distribution that the simulator fits to it anyway. Links that are silent at either end are left out.

What was lost in the last hour is written as windows of time, all links by the same clock, each direction
by itself: record in production, replay in CI. Where packets were close enough to tell how long runs of losses
lasted (`SPACING_US_MAX`), a minute becomes its runs, evenly spread, each as long as they were on average,
with nothing passing; elsewhere, and where runs were very many, one window in which that share is lost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Any, Final

from cyclopts import Parameter

from farcast.cli.control_api import Api, ControlApi, StateDir, TokenFile, control_api
from farcast.cli.options import Flag, Json
from farcast.cli.output import note, print_json
from farcast.errors import EXIT_OK, EXIT_USAGE, UserError
from farcast.simulations.export_file import (
    EDGES_MAX,
    EXPORT_VERSION,
    Export,
    ExportEdge,
    ExportLink,
    ExportLoss,
    ExportRtt,
    ExportWindows,
    write_export,
)
from farcast.simulations.places import UnknownPlace, region
from farcast.simulations.report import store

MINUTE_S: Final = 60
MINUTE_US: Final = MINUTE_S * 1_000_000
SPACING_US_MAX: Final = 10_000
"""Packets further apart do not tell how long a loss lasted."""

RUNS_MAX: Final = 600
"""Of one minute as windows of their own."""

Z_P90: Final = NormalDist().inv_cdf(0.90)
Z_P99: Final = NormalDist().inv_cdf(0.99)


def export(
    *,
    out: Annotated[Path, Parameter(help="The file to write, for farcast sim import.")],
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    force: Flag = False,
    json: Json = False,
) -> int:
    """Write the links as edges measured them to a file from which farcast sim import makes a scenario.

    Example: farcast links export --state-dir control --out links.json

    Parameters
    ----------
    force
        Replace a file that is there.
    """
    if out.exists() and not force:
        raise UserError(f"{out}: is there already; --force replaces it", EXIT_USAGE)
    control = control_api(state_dir, api, token_file)
    status = control.get("/status")
    hours = _history(control, [edge["node_id"] for edge in status["edges"]])
    made = export_of(status, control.get("/links")["links"], datetime.now(UTC), hours)
    store.write(out, write_export(made))
    if json:
        windows = sum(len(link.loss_windows.windows) for link in made.links if link.loss_windows)
        figures = {"edges": len(made.edges), "links": len(made.links), "loss_windows": windows}
        print_json({"file": str(out), **figures})
        return EXIT_OK
    lossy = sum(link.loss_windows is not None for link in made.links)
    note(f"{out}: {len(made.edges)} edges, {len(made.links)} links, {lossy} with losses of the last hour")
    note(f"next: farcast sim import {out}")
    return EXIT_OK


def _history(control: ControlApi, node_ids: Sequence[str]) -> list[Mapping[str, Any]]:
    """The last hour of all links; edge by edge where that is too much for one answer."""
    try:
        found: list[Mapping[str, Any]] = control.get("/links/history")["links"]
    except UserError:
        found = []
        for node_id in node_ids[:EDGES_MAX]:
            found += control.get("/links/history", src=node_id)["links"]
    return found


def export_of(
    status: Mapping[str, Any],
    links: Sequence[Mapping[str, Any]],
    now: datetime,
    hours: Sequence[Mapping[str, Any]] = (),
) -> Export:
    """The file's content out of what the API answers at ``/status``, ``/links`` and ``/links/history``.

    Raises `UserError` where nothing was measured yet, or there are more edges than a file may hold.
    """
    usable = {(link["src"], link["dst"]): link for link in links if link["usable"]}
    pairs = {pair: link for pair, link in usable.items() if pair[::-1] in usable}
    ends = {node_id for pair in pairs for node_id in pair}
    edges = [edge for edge in status["edges"] if edge["node_id"] in ends]
    known = {edge["node_id"] for edge in edges}
    if not edges:
        raise UserError("no link was measured both ways yet: two edges have to report, see farcast links")
    if len(edges) > EDGES_MAX:
        raise UserError(f"{len(edges)} edges, a world of measured links holds {EDGES_MAX} at most")
    windows = _windows(hours)
    return Export(
        format="farcast-links",
        version=EXPORT_VERSION,
        source=f"links of cluster {status['cluster']}, {now:%Y-%m-%d %H:%M} UTC; p90 between p50 and p99",
        edges=tuple(_edge(edge) for edge in edges),
        links=tuple(
            _link(link, windows.get(pair)) for pair, link in sorted(pairs.items()) if known.issuperset(pair)
        ),
    )


def _edge(edge: Mapping[str, Any]) -> ExportEdge:
    try:
        where = region(edge["region"], "aws")
    except UnknownPlace as error:
        raise UserError(f"{edge['node_id']}: where it is cannot be told: {error}") from error
    return ExportEdge(
        node_id=edge["node_id"],
        region=edge["region"],
        lat=where.lat,
        lon=where.lon,
        country=where.country,
        provider=edge["provider"],
        capacity_bps=edge["egress_bps_max"],
    )


def _windows(hours: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], ExportWindows]:
    """Losses by link; every window by the clock that began with the oldest minute of any link."""
    ends = [minute["unix_s"] for hour in hours for minute in hour["minutes"]]
    if not ends:
        return {}
    began_s = min(ends) - MINUTE_S
    repeat_us = (max(ends) - began_s) * 1_000_000
    found: dict[tuple[str, str], ExportWindows] = {}
    for hour in hours:
        windows: list[tuple[int, int, float]] = []
        for minute in sorted(hour["minutes"], key=lambda minute: int(minute["unix_s"])):
            start_us = (minute["unix_s"] - MINUTE_S - began_s) * 1_000_000
            if windows and start_us < windows[-1][0] + windows[-1][1]:
                continue  # A clock that was set back.
            windows += minute_windows(start_us, minute["packets"], minute["lost"], minute["runs"])
        if windows:
            found[hour["src"], hour["dst"]] = ExportWindows(tuple(windows), repeat_us)
    return found


def minute_windows(start_us: int, packets: int, lost: int, runs: int) -> list[tuple[int, int, float]]:
    """What was lost in a minute that began at ``start_us``: (start_us, length_us, share), in order."""
    lost = min(lost, packets)
    if not lost:
        return []
    spacing_us = MINUTE_US // packets
    runs = min(max(runs, 1), lost)
    if spacing_us > SPACING_US_MAX or runs > RUNS_MAX:
        return [(start_us, MINUTE_US, round(lost / packets, 6))]
    length_us = max(lost * spacing_us // runs, 1)
    step_us = MINUTE_US // runs
    return [(start_us + run * step_us + (step_us - length_us) // 2, length_us, 1.0) for run in range(runs)]


def _link(link: Mapping[str, Any], windows: ExportWindows | None = None) -> ExportLink:
    p50_us = max(float(link["rtt_ms"]) * 1_000, 1.0)
    p99_us = max(float(link["rtt_p99_ms"] or 0.0) * 1_000, p50_us)
    p90_us = p50_us * math.exp(math.log(p99_us / p50_us) * Z_P90 / Z_P99)
    loss = None
    if link["loss"]:
        loss = ExportLoss(share=link["loss"], burst_packets=max(link["burst"] or 1.0, 1.0))
    return ExportLink(
        src=link["src"],
        dst=link["dst"],
        rtt_us=ExportRtt(p50=round(p50_us, 1), p90=round(p90_us, 1), p99=round(p99_us, 1)),
        loss=loss,
        loss_windows=windows,
    )
