"""``farcast capacity``: what an edge or a link may send at most, by order."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from farcast.cli.control_api import Api, StateDir, TokenFile
from farcast.cli.options import Flag, Json
from farcast.cli.overrides import override


def capacity(
    *about: str,
    value: Annotated[float | None, Parameter(name="--set")] = None,
    undo: Flag = False,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Say what an edge may send at most, or a link may carry; without anything, show what was said.

    Example: farcast capacity sin-1 --set 800 --state-dir control

    Parameters
    ----------
    about
        An edge; or two, for the link from the first to the second.
    value
        Mbit/s; 0 is no bound.
    undo
        Take it back: what the edge's configuration says counts again.
    """
    return override("capacity", about, value, (state_dir, api, token_file), undo=undo, json=json)
