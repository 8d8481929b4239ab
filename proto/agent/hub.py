"""What the parts of one agent share: settings, the present moment, timers, counters, and the way out."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, TypeAlias

from farcast.proto.agent.timers import Timers

if TYPE_CHECKING:
    from farcast.proto._core import Command
    from farcast.proto.agent.config import AgentConfig

TimerKey: TypeAlias = tuple[str, int, int]
"""What a deadline is for, and the ids it is about (0 where there is none)."""


class Hub:
    """Shared by reference; holds no session and no track."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self.now_us = 0
        self.unix_minus_clock_us = 0
        """The wall clock less the clock of ``now_us``, as the shell saw it last."""
        self.draining = False
        self.commands: deque[Command] = deque()
        self.timers: Timers[TimerKey] = Timers()
        self.counters: Counter[str] = Counter()

    @property
    def unix_s(self) -> float:
        """The wall clock, for what people date: seconds since 1970."""
        return (self.now_us + self.unix_minus_clock_us) / 1e6

    def command(self, command: Command) -> None:
        """Hand a command to the datapath, after those before it."""
        self.commands.append(command)

    def set_timer(self, kind: str, first: int, second: int = 0, *, after_ms: int) -> None:
        """(Re)start a timer."""
        self.timers.set((kind, first, second), self.now_us + after_ms * 1_000)

    def cancel_timer(self, kind: str, first: int, second: int = 0) -> None:
        """Stop a timer, if it runs."""
        self.timers.cancel((kind, first, second))
