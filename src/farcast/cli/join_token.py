"""``farcast join-token``: what lets one new edge in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from farcast.certificates import check_label
from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Json
from farcast.cli.output import note, print_json
from farcast.errors import EXIT_OK, EXIT_USAGE, UserError

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
VALID_SECONDS_MAX = 7 * 86_400


def join_token(
    *,
    region: str | None = None,
    revoke: str | None = None,
    node_id: str | None = None,
    valid: str = "1h",
    control: Annotated[Sequence[str], Parameter(consume_multiple=True, negative=())] = (),
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Make a join token: one line by which one edge gets its certificate, once.

    It is printed now and never again; give it to nobody but the new edge: farcast edge --join-file FILE.

    Example: farcast join-token --region sin --state-dir control

    Parameters
    ----------
    region
        Region of the new edge, such as sin.
    revoke
        TOKEN_ID: take back a token that nobody has used yet. --json tells its id, and so does the audit log.
    node_id
        The only node id that it is good for. Without it the edge says one, or gets REGION-NUMBER; an edge
        that is there already can be replaced only by a token that names it.
    valid
        How long, such as 90s, 15m, 1h or 2d; a week at most.
    control
        HOST:PORT where the new edge reaches the control plane; as configured there unless set.
    """
    asked = control_api(state_dir, api, token_file)
    if (region is None) == (revoke is None):
        raise UserError("give --region REGION, or --revoke TOKEN_ID", EXIT_USAGE)
    if revoke is not None:
        done = asked.post("/trust", {"revoke_join_token": revoke})
        if json:
            print_json(done)
        else:
            note(f"revoked: join token {revoke}")
        return EXIT_OK
    check_label("--region", str(region))
    if node_id is not None:
        check_label("--node-id", node_id)
    order: dict[str, object] = {"region": region, "node_id": node_id, "valid_s": _seconds(valid)}
    if control:
        order["control"] = list(control)
    made = asked.post("/join-tokens", order)
    if json:
        print_json(made)
        return EXIT_OK
    print(made["token"])
    note(f"for one edge of {region}, within {valid}: farcast edge --join-file FILE --state-dir DIR")
    return EXIT_OK


def _seconds(text: str) -> int:
    match = re.fullmatch(r"([1-9]\d{0,8})([smhd])", text)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= VALID_SECONDS_MAX:
        raise UserError(f"--valid {text!r}: a time such as 90s, 15m, 1h or 2d, a week at most", EXIT_USAGE)
    return seconds
