"""The sessions that stand: the current one, and those beside it that are being left or were tried."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from farcast.proto._core import Command
from farcast.proto.agent.config import Target
from farcast.proto.agent.link import ControlLink
from farcast.proto.client.notices import OldOver
from farcast.proto.client.race import Attempt
from farcast.proto.moqt.errors import SessionCode

OLD_MAX = 3
"""Sessions beside the current one; of more the oldest goes."""


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """One session and the edge that it is with."""

    link: ControlLink
    target: Target
    attempt: Attempt

    @property
    def id(self) -> int:
        """The datapath's id."""
        return self.link.session_id


class StandingSessions:
    """Closes what it lets go, and says so by `OldOver`."""

    def __init__(self, commands: deque[Command], notices: deque[object]) -> None:
        self._commands = commands
        self._notices = notices
        self.current: Standing | None = None
        self._old: dict[int, Standing] = {}

    @property
    def old(self) -> tuple[Standing, ...]:
        """Those beside the current one, oldest first."""
        return tuple(self._old.values())

    @property
    def links(self) -> list[ControlLink]:
        """All, the old ones first."""
        current = [] if self.current is None else [self.current.link]
        return [*(standing.link for standing in self._old.values()), *current]

    def get(self, session: int) -> Standing | None:
        """The session of this id."""
        if self.current is not None and self.current.id == session:
            return self.current
        return self._old.get(session)

    def replace(self, standing: Standing) -> None:
        """Another session is the current one, an old one perhaps; the one before stays beside it."""
        self._old.pop(standing.id, None)
        if self.current is not None:
            self._old[self.current.id] = self.current
        self.current = standing
        while len(self._old) > OLD_MAX:
            self.close(next(iter(self._old)))

    def over(self, session: int) -> None:
        """An old session has ended by itself."""
        if self._old.pop(session, None) is not None:
            self._notices.append(OldOver(session))

    def close(self, session: int) -> None:
        """End an old session."""
        standing = self._old.pop(session)
        standing.link.engine.close(SessionCode.NO_ERROR, "moved")
        self._commands.extend(standing.link.commands())
        self._notices.append(OldOver(session))

    def close_old(self) -> None:
        """End all old ones."""
        for session in list(self._old):
            self.close(session)
