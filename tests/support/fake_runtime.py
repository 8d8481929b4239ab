"""A datapath that does nothing but what a test tells it to."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class FakeRuntime:
    """Stands in for ``_core.Runtime``: a real eventfd and a list of events, no network."""

    events: list[Any] = field(default_factory=list)
    executed: list[Any] = field(default_factory=list)
    drains: int = 0
    closed: bool = False
    answer: Callable[[Any], list[Any]] = lambda command: []

    def __post_init__(self) -> None:
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._start = time.monotonic()

    def emit(self, *events: Any) -> None:
        """What the datapath's threads do when something happened."""
        self.events += events
        os.eventfd_write(self.event_fd, 1)

    def execute(self, commands: Sequence[Any]) -> None:
        for command in commands:
            self.executed.append(command)
            if answers := self.answer(command):
                self.emit(*answers)

    def drain_events(self, max: int) -> list[Any]:
        self.drains += 1
        taken, self.events = self.events[:max], self.events[max:]
        if not self.events:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.event_fd)
        return taken

    def now_us(self) -> int:
        return int((time.monotonic() - self._start) * 1e6)

    def close(self) -> None:
        self.closed = True
