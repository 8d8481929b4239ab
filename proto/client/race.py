"""Several edges are tried at once, and the first that serves is taken.

As in Happy Eyeballs (RFC 8305): the first edge at once, the next one a moment later or as soon as one has
failed, a few at most at a time. An attempt that takes very long gives its place to an edge that was not
tried yet. All edges of a race tried, and all failed: the race is lost, and says why, edge by edge.

Who only connects is content with the first session that stands. Who was watching when an edge died is not:
the edge whose handshake is first may have been fed by the dead one. There the race goes on while the first
session is on trial (see `connection`); further sessions that stand meanwhile are *spares*, at most
`SPARES_MAX`, and cost an edge a handshake and no media.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from farcast.proto._core import Command
from farcast.proto.agent.config import Target
from farcast.proto.agent.link import ControlLink, connect_command
from farcast.proto.client.edges import edge_name

STAGGER_US = 150_000
"""An attempt has so long before the next one begins beside it."""

ATTEMPTS_MAX = 3
"""Attempts at a time."""

ATTEMPT_US_MAX = 3_000_000
"""After so long an attempt gives its place away, if another edge waits for one."""

SPARES_MAX = 2
"""With so many sessions that stand and are not needed yet, no further edge is asked."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One session on its way; ``link`` from the moment when QUIC (and HTTP/3) stand."""

    session: int
    target: Target
    started_us: int
    link: ControlLink | None = None
    transport: str = ""
    draft: int = 0
    implementation: str | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one edge was not to be had; ``by`` as in `Event.SessionClosed`."""

    target: Target
    by: str
    reason: str


class Race:
    """One race. Commands go to the queue it is given; ids of its sessions come from ``next_session``.
    ``stagger_us`` 0: the first few start together, so that the nearest one wins."""

    def __init__(
        self,
        targets: Sequence[Target],
        commands: deque[Command],
        next_session: int,
        stagger_us: int = STAGGER_US,
    ) -> None:
        self._stagger_us = stagger_us
        self._waiting = deque(targets)
        self._commands = commands
        self._running: dict[int, Attempt] = {}
        self._spares: dict[int, Attempt] = {}
        self._next_start_us: int | None = None
        self.next_session = next_session
        self.failures: list[Failure] = []

    @property
    def attempts(self) -> list[Attempt]:
        """What is under way, oldest first, and what stands by."""
        return [*self._running.values(), *self._spares.values()]

    @property
    def is_lost(self) -> bool:
        """Whether every edge was tried, and nothing is left that may still come to something."""
        return not (self._running or self._waiting or self._spares)

    def attempt(self, session: int) -> Attempt | None:
        """The attempt that is this session."""
        return self._running.get(session) or self._spares.get(session)

    def poll_timeout(self) -> int | None:
        """When to call `step`."""
        if not self._may_begin():
            return None
        if len(self._running) < ATTEMPTS_MAX:
            return self._next_start_us
        return min(attempt.started_us for attempt in self._running.values()) + ATTEMPT_US_MAX

    def step(self, now_us: int) -> None:
        """Begin what is due."""
        if not self._may_begin():
            return
        if len(self._running) >= ATTEMPTS_MAX:
            oldest = min(self._running.values(), key=lambda attempt: attempt.started_us)
            if now_us < oldest.started_us + ATTEMPT_US_MAX:
                return
            self._close(oldest)
            self.failed(oldest.session, "timeout", "no answer", now_us)
            return
        while self._may_begin() and len(self._running) < ATTEMPTS_MAX and self._is_due(now_us):
            self._begin(now_us)

    def failed(self, session: int, by: str, reason: str, now_us: int) -> None:
        """An attempt is over; the next edge has its turn at once."""
        attempt = self._running.pop(session, None) or self._spares.pop(session, None)
        if attempt is not None:
            self.failures.append(Failure(attempt.target, by, reason))
            if self._may_begin():
                self._begin(now_us)

    def stand_by(self, session: int) -> None:
        """The session stands, and may be needed."""
        self._spares[session] = self._running.pop(session)

    def take_spare(self) -> Attempt | None:
        """The spare that stands longest, if there is any; it is no part of the race any more."""
        return self._spares.pop(next(iter(self._spares))) if self._spares else None

    def cancel(self) -> None:
        """End whatever is under way or stands by."""
        self._waiting.clear()
        for attempt in self.attempts:
            self._close(attempt)
        self._running.clear()
        self._spares.clear()

    def _is_due(self, now_us: int) -> bool:
        return self._next_start_us is None or now_us >= self._next_start_us

    def _may_begin(self) -> bool:
        return bool(self._waiting) and len(self._spares) < SPARES_MAX

    def _begin(self, now_us: int) -> None:
        target = self._waiting.popleft()
        attempt = Attempt(self.next_session, target, now_us)
        self.next_session += 2
        self._running[attempt.session] = attempt
        self._next_start_us = now_us + self._stagger_us
        self._commands.append(connect_command(attempt.session, target))

    def _close(self, attempt: Attempt) -> None:
        self._commands.append(Command.Close(session=attempt.session, code=0, reason="not needed"))


def explain(failures: Sequence[Failure]) -> str:
    """Why no edge was to be had: the reason itself where there was one edge only."""
    if len(failures) == 1:
        return failures[0].reason
    return _sentence([(edge_name(failure.target), failure.reason) for failure in failures])


def explain_all(targets: Sequence[Target], reasons: Mapping[str, str]) -> str:
    """The same of all edges there are, by what is known of each (name to reason)."""
    if len(targets) == 1:
        return f"no answer from {targets[0].remote}"
    return _sentence([(edge_name(t), reasons.get(edge_name(t), "no answer")) for t in targets])


def _sentence(reasons: Sequence[tuple[str, str]]) -> str:
    return "no edge can be used: " + "; ".join(f"{name}: {reason}" for name, reason in reasons)
