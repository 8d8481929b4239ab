"""Many viewers on one datapath, driven from plain code; a publisher likewise.

Each viewer is an engine and a session of its own; the runtime is shared so that a hundred viewers do not need
a hundred threads. Which engine an event belongs to follows from its ids, that each engine takes from a range
of its own.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from farcast.proto._core import DatapathConfig, Runtime

IDS_PER_ENGINE = 1_000
"""Session and downstream ids that one engine may use up."""


class Engine(Protocol):
    """What `Crowd` drives: `Publisher`, `Viewer`, `Agent`."""

    def handle_event(self, event: Any, now_us: int) -> None: ...
    def handle_timeout(self, now_us: int) -> None: ...
    def poll_command(self) -> Any: ...
    def poll_event(self) -> Any: ...
    def poll_timeout(self) -> int | None: ...


def first_id(number: int) -> int:
    """First session and downstream id of engine ``number``; odd."""
    return number * IDS_PER_ENGINE + 1


class Crowd:
    """Engines that share one runtime on loopback."""

    def __init__(self, engines: Sequence[Engine], drafts: Sequence[int] = (18, 16)) -> None:
        self.runtime = Runtime("127.0.0.1:0", DatapathConfig(drafts=list(drafts)))
        self.engines = engines

    def now_us(self) -> int:
        """The runtime's clock."""
        return self.runtime.now_us()

    def flush(self) -> None:
        """Hand all engines' commands over."""
        commands = []
        for engine in self.engines:
            while (command := engine.poll_command()) is not None:
                commands.append(command)
        if commands:
            self.runtime.execute(commands)

    def run(
        self, seconds: float, on_event: Callable[[int, Any], None], until: Callable[[], bool] | None = None
    ) -> None:
        """Drive everything for a time, or until a condition holds; ``on_event(engine number, event)``."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not (until is not None and until()):
            self.flush()
            select.select([self.runtime.event_fd], [], [], min(left, self._sleep_seconds()))
            self._dispatch()
            for number, engine in enumerate(self.engines):
                while (event := engine.poll_event()) is not None:
                    on_event(number, event)
        self.flush()

    def _sleep_seconds(self) -> float:
        timeouts = (engine.poll_timeout() for engine in self.engines)
        first = min((t for t in timeouts if t is not None), default=None)
        return 1.0 if first is None else max(0.0, (first - self.now_us()) / 1e6)

    def _dispatch(self) -> None:
        for event in self.runtime.drain_events(4_096):
            owner: int = getattr(event, "session", -1)
            if owner < 0:
                owner = getattr(event, "downstream", 0)
            self.engines[owner // IDS_PER_ENGINE].handle_event(event, self.now_us())
        now_us = self.now_us()
        for engine in self.engines:
            timeout_us = engine.poll_timeout()
            if timeout_us is not None and timeout_us <= now_us:
                engine.handle_timeout(now_us)

    def close(self) -> None:
        """End the runtime."""
        self.runtime.close()
