"""``farcast undrain``: take an order to drain back."""

from __future__ import annotations

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Json
from farcast.cli.output import note, print_json
from farcast.errors import EXIT_OK


def undrain(
    node: str,
    /,
    *,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Use an edge again that was told to drain: the inverse of farcast drain.

    An edge that has begun to send its viewers away goes on with that, and carries new ones once it starts
    anew.

    Example: farcast undrain sin-1 --state-dir control

    Parameters
    ----------
    node
        The edge.
    """
    done = control_api(state_dir, api, token_file).post("/drain", {"node_id": node, "undo": True})
    if json:
        print_json(done)
    else:
        note(f"{node}: the order is taken back")
    return EXIT_OK
