"""The few pieces of HTML that the parts of the page share."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of rows of cells."""
    names = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return f"<table><tr>{names}</tr>{body}</table>"


def cell(html: str, kind: str = "") -> str:
    """A cell of HTML."""
    return f'<td class="{kind}">{html}</td>' if kind else f"<td>{html}</td>"


def number(text: str) -> str:
    """A cell of a figure; text."""
    return cell(escape(text), "number")


def link(name: str) -> str:
    """To the part about a scenario."""
    return f'<a href="#{escape(name)}">{escape(name)}</a>'


def replay(command: str) -> str:
    """A command to be copied; nothing without one."""
    if not command:
        return ""
    text = escape(command)
    return f'<div class="replay"><code>{text}</code><button data-copy="{text}">copy</button></div>'


def counted(count: int, what: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def left_out(count: int, what: str) -> str:
    """What a table does not show."""
    return f'<p class="soft">and {count} more {what}</p>' if count > 0 else ""
