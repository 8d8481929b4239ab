"""``farcast unpin``: let routes go where they are best again."""

from __future__ import annotations

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Json
from farcast.cli.output import note, print_json
from farcast.errors import EXIT_OK, EXIT_USAGE, UserError


def unpin(
    src: str | None = None,
    dst: str | None = None,
    /,
    *,
    no_transit: str | None = None,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Take a pin back: the inverse of farcast pin. The route stays until another one is enough better.

    Example: farcast unpin jkt-1 fra-1 --state-dir control

    Parameters
    ----------
    src
        The edge where the pinned way begins.
    dst
        The edge where it ends.
    no_transit
        Instead: an edge that may relay for others again.
    """
    control = control_api(state_dir, api, token_file)
    if no_transit is not None and src is None:
        done, text = control.delete("/kept-out", no_transit), f"{no_transit} may relay again"
    elif src is not None and dst is not None and no_transit is None:
        done, text = control.delete("/pins", src, dst), f"no longer pinned: {src} to {dst}"
    else:
        raise UserError("say which pin: farcast unpin SRC DST, or --no-transit NODE", EXIT_USAGE)
    if json:
        print_json(done)
    else:
        note(text)
    return EXIT_OK
