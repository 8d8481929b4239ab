"""What an engine wants written down: fields, not prose, for the shell's log; and counters for metrics."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

ENTRIES_MAX: Final = 1_024
"""Entries that wait for the shell; beyond that the newest are counted and left out."""

Level: TypeAlias = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log."""

    level: Level
    event: str
    fields: dict[str, Any]


class Journal:
    """Entries in their order, and counters by name."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._entries: deque[Entry] = deque()

    def write(self, level: Level, event: str, **fields: Any) -> None:
        """Note something that a person would ask about."""
        if len(self._entries) >= ENTRIES_MAX:
            self.counters["log_entries_left_out"] += 1
        else:
            self._entries.append(Entry(level, event, fields))

    def count(self, name: str, by: int = 1) -> None:
        """Count something."""
        self.counters[name] += by

    def poll(self) -> Entry | None:
        """The next entry, or ``None``."""
        return self._entries.popleft() if self._entries else None
