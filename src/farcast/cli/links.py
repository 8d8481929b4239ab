"""``farcast links``: what edges measured of the links between them."""

from __future__ import annotations

from cyclopts import App

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Json
from farcast.cli.output import print_json, print_table
from farcast.errors import EXIT_OK

links = App(
    name="links",
    help="""Show what edges measured of the links between them, or export it.

    Example: farcast links sin-1 --state-dir control
    """,
)
"""The commands ``farcast links`` and ``farcast links export``."""

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
    """Show every measured link, each direction for itself: RTT, loss with its confidence, use.

    Example: farcast links sin-1 --state-dir control

    Parameters
    ----------
    node
        Only links from or to this edge.
    """
    found = control_api(state_dir, api, token_file).get("/links")
    chosen = [link for link in found["links"] if node in (None, link["src"], link["dst"])]
    if json:
        print_json({"links": chosen})
        return EXIT_OK
    rows = [
        (
            f"{link['src']} > {link['dst']}",
            f"{link['rtt_ms']:.1f} ms",
            f"{link['rtt_p99_ms']:.1f} ms",
            f"{link['loss']:.2%}",
            f"{link['loss_low']:.2%} to {link['loss_high']:.2%}",
            "silent" if not link["usable"] else "ok" if link["fresh"] else "stale",
        )
        for link in chosen
    ]
    print_table(("link", "RTT", "RTT p99", "loss", "loss may be", "state"), rows)
    return EXIT_OK
