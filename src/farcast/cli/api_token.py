"""``farcast api-token``: who may ask the control plane's API, and what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, Parameter

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Json, parse_duration
from farcast.cli.output import note, print_json, print_table
from farcast.cli.pin import EVER, until
from farcast.errors import EXIT_OK

SECONDS_MAX = 366 * 86_400

api_token = App(name="api-token", help="Issue, list and revoke tokens of the control plane's API.")
"""The commands ``farcast api-token …``."""


@api_token.command
def issue(
    name: str,
    /,
    *,
    scope: Annotated[Sequence[str], Parameter(consume_multiple=True, negative=())] = ("read",),
    valid: str = "90d",
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Make a token of the API and print it, now and never again: only its hash is kept.

    Example: farcast api-token issue grafana --scope read --valid 90d --state-dir control > grafana.token

    Parameters
    ----------
    name
        Who it is for, such as grafana or alice; the audit log names it.
    scope
        What it may: read; operate (drains, pins, prices, removing edges); trust (keys, certificates, tokens).
        The last two may read as well.
    valid
        How long, such as 12h, 90d; or ever.
    """
    valid_s = None if valid == EVER else parse_duration("--valid", valid, SECONDS_MAX)
    order: dict[str, object] = {"name": name, "scopes": list(scope), "valid_s": valid_s}
    made = control_api(state_dir, api, token_file).post("/api-tokens", order)
    if json:
        print_json(made)
        return EXIT_OK
    print(made["token"])
    note(f"token {name}, may {', '.join(made['scopes'])}, valid until {_end(made['expires_unix_s'])}")
    return EXIT_OK


@api_token.command(name="list")
def list_(
    *, state_dir: StateDir = None, api: Api = None, token_file: TokenFile = None, json: Json = False
) -> int:
    """Show the tokens that were issued, without their text.

    Example: farcast api-token list --state-dir control
    """
    found = control_api(state_dir, api, token_file).get("/api-tokens")
    if json:
        print_json(found)
        return EXIT_OK
    rows = [
        (
            each["name"],
            ", ".join(each["scopes"]),
            _end(each["created_unix_s"]),
            _end(each["expires_unix_s"]),
        )
        for each in found["tokens"]
    ]
    print_table(("token", "may", "issued", "valid until"), rows)
    return EXIT_OK


@api_token.command
def revoke(
    name: str,
    /,
    *,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """End a token at once. The inverse of issue.

    Example: farcast api-token revoke grafana --state-dir control

    Parameters
    ----------
    name
        The token's name.
    """
    done = control_api(state_dir, api, token_file).delete("/api-tokens", name)
    if json:
        print_json(done)
    else:
        note(f"token {name} opens nothing any more")
    return EXIT_OK


def _end(unix_s: int | None) -> str:
    return "ever" if unix_s is None else until(unix_s * 1_000_000)
