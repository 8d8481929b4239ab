"""``farcast pin``: hold a route to a way, or keep an edge out of the ways of others."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from cyclopts import Parameter

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Json, parse_duration
from farcast.cli.output import note, print_json, print_table
from farcast.errors import EXIT_OK, EXIT_USAGE, UserError

SECONDS_MAX = 366 * 86_400
VALID_DEFAULT = "1d"
EVER = "ever"


def pin(
    *way: str,
    no_transit: str | None = None,
    valid: Annotated[str, Parameter(name="--for")] = VALID_DEFAULT,
    namespace: str = "",
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Hold the route from one edge to another to a way; without a way, show what is held.

    What the first edge publishes reaches the last one by the edges between, whatever would be better. A pin
    that can never be is refused; one whose way has failed is suspended until that works again, and farcast
    why says so. farcast unpin takes it back.

    Example: farcast pin jkt-1 sin-1 fra-1 --for 2h --state-dir control

    Parameters
    ----------
    way
        The edge where something is published, up to two that relay, the edge where it is watched.
    no_transit
        Instead of a way: an edge that is to relay nothing for others; its own publishers and viewers stay.
    valid
        How long, such as 90s, 15m, 2h, 3d; or ever: until it is taken back.
    namespace
        Only while this namespace, its fields separated by slashes, is published at the first edge.
    """
    control = control_api(state_dir, api, token_file)
    if not way and no_transit is None:
        return _show(control.get("/pins"), control.get("/kept-out"), json=json)
    if way and no_transit is not None:
        raise UserError("a way, or --no-transit NODE: not both at once", EXIT_USAGE)
    if len(way) == 1:
        raise UserError(f"a way has two ends: farcast pin {way[0]} [RELAY] [RELAY] NODE", EXIT_USAGE)
    valid_s = None if valid == EVER else parse_duration("--for", valid, SECONDS_MAX)
    if no_transit is not None:
        done = control.post("/kept-out", {"node_id": no_transit, "valid_s": valid_s})
        text = f"{no_transit} relays for nobody else"
    else:
        done = control.post("/pins", {"way": list(way), "valid_s": valid_s, "namespace": namespace})
        text = f"pinned: {' > '.join(way)}; farcast why {way[0]} {way[-1]} says what holds"
    if json:
        print_json(done)
    else:
        note(text)
    return EXIT_OK


def _show(pins: dict[str, Any], kept_out: dict[str, Any], *, json: bool) -> int:
    if json:
        print_json({**pins, **kept_out})
        return EXIT_OK
    rows = [
        (
            " > ".join(each["way"]),
            each["namespace"],
            until(each["until_unix_us"]),
            f"suspended: {each['suspended']}" if each["suspended"] else "in force",
        )
        for each in pins["pins"]
    ]
    rows += [
        (each["node_id"], "", until(each["until_unix_us"]), "no transit") for each in kept_out["kept_out"]
    ]
    print_table(("what", "namespace", "until", "state"), rows)
    return EXIT_OK


def until(unix_us: int | None) -> str:
    """An end for people."""
    if unix_us is None:
        return "taken back"
    return datetime.fromtimestamp(unix_us // 1_000_000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
