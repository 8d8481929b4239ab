"""``farcast why``: why a route is as it is, and what repair makes of its hops."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from farcast.cli.control_api import Api, ControlApi, StateDir, TokenFile, control_api
from farcast.cli.options import Json
from farcast.cli.output import note, print_json, print_table
from farcast.errors import EXIT_OK, EXIT_USAGE, UserError
from farcast.proto.recovery.choice import choose

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
    """Explain a route: all candidates, their costs term by term, the reason, and how each hop of it repairs.

    What is said of repair is the table of [recovery] as it is by default, for what the hop loses now.

    Example: farcast why live/demo fra-1 --state-dir control

    Parameters
    ----------
    src
        The edge where something is published; or its namespace, or a track of it.
    dst
        The edge where it is watched.
    """
    asked = control_api(state_dir, api, token_file)
    found = asked.get("/why", src=_origin(asked, src) if "/" in src else src, dst=dst)
    found["repairs"] = _repairs(asked, found)
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
    for hop in found["repairs"]:
        note(f"repair {hop['src']} > {hop['dst']}: {hop['text']}")
    return EXIT_OK


def _origin(asked: ControlApi, name: str) -> str:
    """The edge that offers the longest namespace that the name begins with."""
    known = {row["namespace"]: row["origin"] for row in asked.get("/plan")["directory"]}
    fitting = [namespace for namespace in known if f"{name}/".startswith(f"{namespace}/")]
    if not fitting:
        told = ", ".join(sorted(known)) or "none"
        raise UserError(f"no edge offers {name!r}; namespaces are {told}", EXIT_USAGE)
    origin: str = known[max(fitting, key=len)]
    return origin


def _repairs(asked: ControlApi, found: dict[str, Any]) -> list[dict[str, Any]]:
    """What repair does on each hop of the route in force, else of the one that was chosen."""
    chosen: list[str] = next((each["path"] for each in found["candidates"] if each["chosen"]), [])
    links = {(link["src"], link["dst"]): link for link in asked.get("/links")["links"]}
    told = []
    for ends in pairwise(found["in_force"] or chosen):
        if link := links.get(ends):
            choice = choose(link["loss"], link["burst"], link["rtt_ms"])
            told.append(
                {
                    "src": ends[0],
                    "dst": ends[1],
                    "text": choice.text(),
                    "rounds": len(choice.rounds),
                    "extra_bytes": round(choice.extra, 4),
                    "missed": round(choice.missed, 6),
                }
            )
    return told


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
