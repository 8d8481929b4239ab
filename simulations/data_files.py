"""Tables that come with Farcast, in ``simulations/data``: read whole, and missed by name."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

from farcast.errors import EXIT_USAGE, UserError

DATA: Final = Path(__file__).with_name("data")


def read_rows(name: str) -> list[dict[str, str]]:
    """The rows of a table; `UserError` (exit code 2) names the file if it is not there or cannot be read."""
    file = DATA / name
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened, strict=True))
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read: {error.strerror or error}: it comes with Farcast, install it again",
            EXIT_USAGE,
        ) from error
    except (UnicodeError, csv.Error) as error:
        raise UserError(f"{file}: not a table: {error}: install Farcast again", EXIT_USAGE) from error
    if not rows or any(None in row or None in row.values() for row in rows):
        raise UserError(f"{file}: empty or cut off: install Farcast again", EXIT_USAGE)
    return rows
