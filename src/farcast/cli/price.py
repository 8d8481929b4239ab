"""``farcast price``: what an edge's or a link's sending costs, by order."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from farcast.cli.control_api import Api, StateDir, TokenFile
from farcast.cli.options import Flag, Json
from farcast.cli.overrides import override


def price(
    *about: str,
    value: Annotated[float | None, Parameter(name="--set")] = None,
    undo: Flag = False,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Say what an edge sends costs, or what a link does; without anything, show what was said.

    Prices count beside delay as far as [planner] price_ms_per_unit of the control plane says.

    Example: farcast price sin-1 fra-1 --set 0.08 --state-dir control

    Parameters
    ----------
    about
        An edge; or two, for the link from the first to the second.
    value
        Price per GB sent, in any one currency.
    undo
        Take it back: what the configuration says counts again.
    """
    return override("price", about, value, (state_dir, api, token_file), undo=undo, json=json)
