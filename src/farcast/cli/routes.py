"""``farcast routes``: how what edges publish reaches the others."""

from __future__ import annotations

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Json
from farcast.cli.output import print_json, print_table
from farcast.errors import EXIT_OK


def routes(
    origin: str | None = None,
    /,
    *,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Show the routes in force: the branch from each origin to each edge, its backups, and its delay.

    Example: farcast routes jkt-1 --state-dir control

    Parameters
    ----------
    origin
        Only what is published at this edge.
    """
    query = {} if origin is None else {"origin": origin}
    found = control_api(state_dir, api, token_file).get("/routes", **query)
    if json:
        print_json(found)
        return EXIT_OK
    rows = [
        (
            " > ".join(route["path"]),
            ", ".join(route["backups"]) or "none",
            "" if route["delay_p99_ms"] is None else f"{route['delay_p99_ms']:.0f} ms",
            "" if route["loss"] is None else f"{route['loss']:.2%}",
        )
        for route in found["routes"]
    ]
    print_table(("route", "backups", "frame delay p99", "loss"), rows)
    return EXIT_OK
