"""``farcast status``: the edges of a cluster, and how far each has come."""

from __future__ import annotations

from typing import Any

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Json
from farcast.cli.output import note, print_json, print_table
from farcast.errors import EXIT_FAILED, EXIT_OK


def status(
    *, state_dir: StateDir = None, api: Api = None, token_file: TokenFile = None, json: Json = False
) -> int:
    """Show the cluster: its edges, what they bear, and whether each follows the newest plan.

    The exit code is 1 where an edge is missing or behind.

    Example: farcast status --state-dir control
    """
    found = control_api(state_dir, api, token_file).get("/status")
    if json:
        print_json(found)
    else:
        _show(found)
    well = not found["behind"] and all(edge["state"] == "connected" for edge in found["edges"])
    return EXIT_OK if well else EXIT_FAILED


def _show(found: dict[str, Any]) -> None:
    columns = ("edge", "region", "state", "plan", "reported", "viewers", "namespaces", "egress", "cpu")
    print_table(columns, [_row(edge) for edge in found["edges"]])
    note(
        f"cluster {found['cluster']}, epoch {found['epoch']}, plan {found['sequence']}: "
        f"{found['connected']} of {len(found['edges'])} edges connected, {len(found['behind'])} behind; "
        f"{found['routes']} routes, {found['namespaces']} namespaces, planned in {found['plan_ms']:.0f} ms"
    )
    if found["holding"]:
        note("restarted: the routes of before are kept until the edges are back")
    if found["kept_back"]:
        note(f"{found['kept_back']} better routes wait for their turn; canary: {found['canary'] or 'none'}")
    for edge in found["edges"]:
        if edge["refused_because"]:
            note(f"{edge['node_id']} refused a plan: {edge['refused_because']}")
    for fault in found["risk_groups_naming_nobody"]:
        note(f"risk groups: {fault}")
    if found["overloaded"]:
        note(f"overloaded: {', '.join(found['overloaded'])}")


def _row(edge: dict[str, Any]) -> tuple[str, ...]:
    state = f"{edge['state']}, draining" if edge["draining"] else edge["state"]
    acked = "none" if edge["acked_sequence"] is None else str(edge["acked_sequence"])
    reported = "never" if edge["report_ms"] is None else f"{edge['report_ms'] / 1_000:.1f} s ago"
    return (
        edge["node_id"],
        edge["region"],
        state,
        acked if edge["current"] else f"{acked}, behind",
        reported,
        str(edge["viewers"]),
        str(edge["namespaces"]),
        f"{edge['egress_bps'] / 1e6:.1f} Mbit/s",
        f"{edge['cpu']:.0%}",
    )
