"""``farcast top``: a live view of a cluster."""

from __future__ import annotations

import sys

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Flag, Json, check_seconds
from farcast.cli.output import print_json
from farcast.cli.top_frame import frame_text, take_frame
from farcast.errors import EXIT_OK, EXIT_USAGE, UserError

INTERVAL_S_MIN = 0.5


def top(
    *,
    interval: float = 2.0,
    once: Flag = False,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Watch edges, links with RTT and loss, routes and the busiest namespaces; the worst come first.

    Keys: q ends, p pauses, r asks at once. The control plane is asked four questions per interval.

    Example: farcast top --state-dir control

    Parameters
    ----------
    interval
        Seconds from one look to the next, at least 0.5.
    once
        Print one frame as text instead.
    """
    check_seconds("--interval", interval)
    if interval < INTERVAL_S_MIN:
        raise UserError(f"--interval {interval:g}: at least {INTERVAL_S_MIN:g} s", EXIT_USAGE)
    control = control_api(state_dir, api, token_file)
    if json or once:
        frame = take_frame(control)
        print_json(frame.as_dict()) if json else print(frame_text(frame))
        return EXIT_OK
    if not sys.stdout.isatty():
        raise UserError("top draws on a terminal, and this is none; use --once or --json", EXIT_USAGE)
    take_frame(control)
    from farcast.cli.top_screen import TopScreen

    TopScreen(lambda: take_frame(control), interval).run()
    return EXIT_OK
