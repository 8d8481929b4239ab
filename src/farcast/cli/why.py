"""``farcast why``: why a route is as it is."""

from __future__ import annotations

from typing import Any

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Json
from farcast.cli.output import note, print_json, print_table
from farcast.errors import EXIT_OK

TERMS = ("propagation", "repair", "jitter", "relay", "load", "price")


def why(
    src: str,
    dst: str,
    /,
    *,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Explain the route from one edge to another: all candidates, their costs term by term, and the reason.

    Example: farcast why jkt-1 fra-1 --state-dir control

    Parameters
    ----------
    src
        The edge where something is published.
    dst
        The edge where it is watched.
    """
    found = control_api(state_dir, api, token_file).get("/why", src=src, dst=dst)
    if json:
        print_json(found)
        return EXIT_OK
    columns = ("", "route", "cost", *TERMS, "loss", "why not")
    print_table(columns, [_row(candidate) for candidate in found["candidates"]])
    note(found["summary"])
    if found["kept_back"]:
        why = found["why_kept_back"] or "it was planned this moment"
        note(f"not in force yet ({why}); now it is {' > '.join(found['in_force'])}")
    for node_id, shares in found["backups"]:
        note(f"backup {node_id}" + (f" (shares {', '.join(shares)} with the route)" if shares else ""))
    return EXIT_OK


def _row(candidate: dict[str, Any]) -> tuple[str, ...]:
    return (
        "*" if candidate["chosen"] else "",
        " > ".join(candidate["path"]),
        _ms(candidate["cost_ms"]),
        *(_ms(candidate[f"{term}_ms"]) for term in TERMS),
        f"{candidate['loss']:.2%}" if candidate["loss"] is not None else "",
        candidate["why_not"],
    )


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"
