"""How commands talk: a table for people, one JSON line for programs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table

from farcast.redaction import redact


def print_json(value: Mapping[str, object]) -> None:
    """One JSON line on stdout."""
    print(json.dumps(value, separators=(",", ":")), flush=True)


def notes() -> Console:
    """Where progress and remarks go: stderr, plain where that is no terminal or NO_COLOR is set."""
    return Console(stderr=True, highlight=False, soft_wrap=True, color_system=_color_system())


def note(text: str) -> None:
    """A remark for the user."""
    notes().print(redact(text), markup=False, style="dim")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout; columns separated by tabs where that is no terminal."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, color_system=_color_system()).print(table)


def _color_system() -> Literal["auto"] | None:
    """None leaves out bold and dim too, which rich keeps for NO_COLOR."""
    return None if os.environ.get("NO_COLOR") else "auto"
