"""``farcast links``: what edges measured of the links between them."""

from __future__ import annotations

from typing import Any

from cyclopts import App

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Json
from farcast.cli.output import print_json, print_table
from farcast.errors import EXIT_OK, EXIT_USAGE, UserError

links = App(
    name="links",
    help="""Show what edges measured of the links between them, or export it.

    Example: farcast links sin-1 --state-dir control
    """,
)
"""The commands ``farcast links`` and ``farcast links export``."""

COLUMNS = (
    "link", "RTT", "latest", "least", "p99", "variation", "loss", "loss may be", "burst", "spacing",
    "arrives", "state",
)  # fmt: skip

links.command("farcast.cli.links_export:export", name="export")


@links.default
def show(
    node: str | None = None,
    /,
    *,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Show every measured link, each direction for itself: RTT, loss with its confidence, arrivals, use.

    RTTs are smoothed, latest, least and p99; loss and bursts are those that the receiving edge counts;
    spacing is how much times of arrival vary. --json has every figure.

    Example: farcast links sin-1 --state-dir control

    Parameters
    ----------
    node
        Only links from or to this edge.
    """
    control = control_api(state_dir, api, token_file)
    if node is not None:
        _check(node, [edge["node_id"] for edge in control.get("/nodes")["nodes"]])
    chosen = [link for link in control.get("/links")["links"] if node in (None, link["src"], link["dst"])]
    if json:
        print_json({"links": chosen})
        return EXIT_OK
    print_table(COLUMNS, [_row(link) for link in chosen])
    return EXIT_OK


def _check(node: str, known: list[str]) -> None:
    if node not in known:
        raise UserError(f"no edge {node!r}; known are {', '.join(known) or 'none'}", EXIT_USAGE)


def _row(link: dict[str, Any]) -> tuple[str, ...]:
    rate = "" if link["rx_bps"] is None else f"{link['rx_bps'] / 1e6:.2f} Mbit/s"
    return (
        f"{link['src']} > {link['dst']}",
        _ms(link["rtt_ms"]),
        _ms(link["rtt_latest_ms"]),
        _ms(link["rtt_min_ms"]),
        _ms(link["rtt_p99_ms"]),
        _ms(link["rtt_variation_ms"]),
        f"{link['loss']:.2%}",
        f"{link['loss_low']:.2%} to {link['loss_high']:.2%}",
        f"{link['burst']:.1f}",
        _ms(link["spacing_ms"]),
        rate,
        "silent" if not link["usable"] else "ok" if link["fresh"] else "stale",
    )


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} ms"
