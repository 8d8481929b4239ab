"""``farcast status``: the edges of a cluster, and how far each has come."""

from __future__ import annotations

import time
from typing import Any, Final

from farcast.cli.control_api import Api, ControlApi, StateDir, TokenFile, control_api
from farcast.cli.options import Json, check_seconds
from farcast.cli.output import note, print_json, print_table
from farcast.errors import EXIT_FAILED, EXIT_OK

LOOK_SECONDS: Final = 0.25


def status(
    *,
    wait: float | None = None,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Show the cluster: its edges, what they bear, and whether each follows the newest plan.

    The exit code is 1 where an edge is missing or behind.

    Example: farcast status --wait 10 --state-dir control

    Parameters
    ----------
    wait
        Seconds to wait at most until no edge is missing or behind, as some are for a moment after each plan.
    """
    check_seconds("--wait", wait)
    found = _once_well(control_api(state_dir, api, token_file), wait or 0.0)
    if json:
        print_json(found)
    else:
        _show(found)
    return EXIT_OK if _well(found) else EXIT_FAILED


def _once_well(asked: ControlApi, seconds_max: float) -> dict[str, Any]:
    deadline = time.monotonic() + seconds_max
    while True:
        found = asked.get("/status")
        left = deadline - time.monotonic()
        if _well(found) or left <= 0.0:
            return found
        time.sleep(min(LOOK_SECONDS, left))


def _well(found: dict[str, Any]) -> bool:
    return not found["behind"] and all(edge["state"] == "connected" for edge in found["edges"])


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
