"""``farcast remove``: take an edge out of a cluster for good."""

from __future__ import annotations

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Json
from farcast.cli.output import note, print_json
from farcast.errors import EXIT_OK


def remove(
    node: str,
    /,
    *,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Take an edge out of the cluster: it leaves the plan, and its certificates count no more.

    Its viewers are cut off: farcast drain it first. It comes back only with a new join token
    (farcast join-token --node-id NODE).

    Example: farcast remove sin-1 --state-dir control

    Parameters
    ----------
    node
        The edge.
    """
    done = control_api(state_dir, api, token_file).post("/remove", {"node_id": node})
    if json:
        print_json(done)
    else:
        note(f"{node} is removed; it comes back only with a new join token")
    return EXIT_OK
