"""How commands talk: a table for people, one JSON line for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table


def print_json(value: Mapping[str, object]) -> None:
    """One JSON line on stdout."""
    print(json.dumps(value, separators=(",", ":")), flush=True)


def notes() -> Console:
    """Where progress and remarks go: stderr, plain where that is no terminal or NO_COLOR is set."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """A remark for the user."""
    notes().print(text, markup=False, style="dim")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stdout; columns separated by tabs where that is no terminal."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    Console(highlight=False).print(table)
