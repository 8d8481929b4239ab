"""Several edges are tried at once, and the first whose MoQT session stands is taken.

As in Happy Eyeballs (RFC 8305): the first edge at once, the next one a moment later or as soon as one has
failed, a few at most at a time. An attempt that takes very long gives its place to an edge that was not
tried yet. All edges of a race tried, and all failed: the race is lost, and says why, edge by edge.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from farcast.proto._core import Command
from farcast.proto.agent.config import Target
from farcast.proto.agent.link import ControlLink, connect_command

STAGGER_US = 150_000
"""An attempt has so long before the next one begins beside it."""

ATTEMPTS_MAX = 3
"""Attempts at a time."""

ATTEMPT_US_MAX = 3_000_000
"""After so long an attempt gives its place away, if another edge waits for one."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One session on its way; ``link`` from the moment when QUIC (and HTTP/3) stand."""

    session: int
    target: Target
    started_us: int
    link: ControlLink | None = None
    transport: str = ""
    draft: int = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one edge was not to be had; ``by`` as in `Event.SessionClosed`."""

    target: Target
    by: str
    reason: str


class Race:
    """One race. Commands go to the queue it is given; ids of its sessions come from ``next_session``."""

    def __init__(self, targets: Sequence[Target], commands: deque[Command], next_session: int) -> None:
        self._waiting = deque(targets)
        self._commands = commands
        self._running: dict[int, Attempt] = {}
        self._next_start_us: int | None = None
        self.next_session = next_session
        self.failures: list[Failure] = []

    @property
    def attempts(self) -> list[Attempt]:
        """What is under way, oldest first."""
        return list(self._running.values())

    @property
    def is_lost(self) -> bool:
        """Whether every edge was tried, and failed."""
        return not self._running and not self._waiting

    def attempt(self, session: int) -> Attempt | None:
        """The attempt that is this session."""
        return self._running.get(session)

    def poll_timeout(self) -> int | None:
        """When to call `step`."""
        if not self._waiting:
            return None
        if len(self._running) < ATTEMPTS_MAX:
            return self._next_start_us
        return min(attempt.started_us for attempt in self._running.values()) + ATTEMPT_US_MAX

    def step(self, now_us: int) -> None:
        """Begin what is due."""
        if not self._waiting:
            return
        if len(self._running) >= ATTEMPTS_MAX:
            oldest = min(self._running.values(), key=lambda attempt: attempt.started_us)
            if now_us < oldest.started_us + ATTEMPT_US_MAX:
                return
            self._close(oldest)
            self.failed(oldest.session, "timeout", "no answer", now_us)
        elif self._next_start_us is None or now_us >= self._next_start_us:
            self._begin(now_us)

    def failed(self, session: int, by: str, reason: str, now_us: int) -> None:
        """An attempt is over; the next edge has its turn at once."""
        attempt = self._running.pop(session, None)
        if attempt is not None:
            self.failures.append(Failure(attempt.target, by, reason))
            if self._waiting:
                self._begin(now_us)

    def win(self, session: int) -> Attempt:
        """The session stands: all others are closed."""
        winner = self._running.pop(session)
        self.cancel()
        return winner

    def cancel(self) -> None:
        """End whatever is under way."""
        self._waiting.clear()
        for attempt in self.attempts:
            self._close(attempt)
        self._running.clear()

    def _begin(self, now_us: int) -> None:
        target = self._waiting.popleft()
        attempt = Attempt(self.next_session, target, now_us)
        self.next_session += 2
        self._running[attempt.session] = attempt
        self._next_start_us = now_us + STAGGER_US
        self._commands.append(connect_command(attempt.session, target))

    def _close(self, attempt: Attempt) -> None:
        self._commands.append(Command.Close(session=attempt.session, code=0, reason="not needed"))
