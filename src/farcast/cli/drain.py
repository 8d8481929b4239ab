"""``farcast drain``: empty an edge without anybody noticing."""

from __future__ import annotations

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Flag, Json, check_seconds
from farcast.cli.output import note, print_json
from farcast.errors import EXIT_OK


def drain(
    node: str,
    /,
    *,
    seconds: float | None = None,
    undo: Flag = False,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Empty an edge: others take over what it relays, its publishers and viewers go to the next best edge.

    Example: farcast drain sin-1 --seconds 60 --state-dir control

    Parameters
    ----------
    node
        The edge.
    seconds
        What is left then is cut off; 30 unless set.
    undo
        Use the edge again: take the order back.
    """
    check_seconds("--seconds", seconds)
    order: dict[str, object] = {"node_id": node}
    if undo:
        order["undo"] = True
    elif seconds is not None:
        order["drain_ms"] = round(seconds * 1_000)
    done = control_api(state_dir, api, token_file).post("/drain", order)
    if json:
        print_json(done)
    else:
        note(
            f"{node}: the order is taken back"
            if undo
            else f"{node} drains; farcast status shows how far it is"
        )
    return EXIT_OK
