"""``farcast audit``: who changed what."""

from __future__ import annotations

import json as json_module
from typing import Any

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Json
from farcast.cli.output import note, print_json, print_table
from farcast.cli.pin import until
from farcast.errors import EXIT_OK, EXIT_USAGE, UserError

ENTRIES_MAX = 1_000


def audit(
    *,
    limit: int = 50,
    before: int | None = None,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Show the changes that operators made, and those that were refused; the newest first.

    Example: farcast audit --limit 20 --state-dir control

    Parameters
    ----------
    limit
        So many entries, 1000 at most.
    before
        Only entries before this number, to leaf back.
    """
    if not 1 <= limit <= ENTRIES_MAX:
        raise UserError(f"--limit {limit}: 1 to {ENTRIES_MAX}", EXIT_USAGE)
    query = {"limit": str(limit)} | ({} if before is None else {"before": str(before)})
    found = control_api(state_dir, api, token_file).get("/audit", **query)
    if json:
        print_json(found)
        return EXIT_OK
    columns = ("number", "when", "who", "what", "about", "before", "after")
    print_table(columns, [_row(entry) for entry in found["entries"]])
    if found["failure"]:
        note(f"the newest entries are not on disk: {found['failure']}")
    return EXIT_OK


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(entry["seq"]),
        until(entry["at_unix_us"]),
        entry["who"],
        entry["action"],
        entry["about"],
        _brief(entry["before"]),
        f"refused: {entry['reason']}" if entry["outcome"] == "refused" else _brief(entry["after"]),
    )


def _brief(detail: Any) -> str:
    return "" if detail is None else json_module.dumps(detail, separators=(",", ":"))
