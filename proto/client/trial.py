"""Which sessions were taken in place of one that is being left, and have not delivered anything yet.

See `connection` for what a trial is and why. Times are the caller's microseconds.
"""

from __future__ import annotations

US_MIN = 150_000
"""So long at least a session has to deliver before another one is asked too."""

US_MIN_WITHOUT_HASTE = 1_000_000
"""The same where the session that is left goes on meanwhile."""


class Trial:
    """One trial; empty as long as nothing is tried. ``has_time``: the session that is left still serves."""

    def __init__(self) -> None:
        self.sessions: list[int] = []
        """In the order in which they were taken."""
        self.is_over = False
        """The one that was taken last has had its time."""
        self.has_time = False

    def __bool__(self) -> bool:
        return bool(self.sessions)

    def __contains__(self, session: int | None) -> bool:
        return session in self.sessions

    @property
    def wants_next(self) -> bool:
        """Whether a session that stands now is to be taken at once."""
        return not self.sessions or self.is_over

    @property
    def rests(self) -> bool:
        """Whether no further edge is to be troubled for the moment."""
        return bool(self.sessions) and self.has_time and not self.is_over

    def begin(self, session: int, started_us: int, now_us: int) -> int:
        """A session is taken whose attempt started at a time; when its own time is over.

        A handshake is two round trips or more; a subscription's first object takes one, and what it takes
        the edge to get it.
        """
        self.sessions.append(session)
        self.is_over = False
        us_min = US_MIN_WITHOUT_HASTE if self.has_time else US_MIN
        return now_us + max(us_min, now_us - started_us)

    def drop(self, session: int) -> None:
        """A session is gone."""
        self.sessions = [tried for tried in self.sessions if tried != session]

    def keep(self, session: int | None) -> None:
        """Of all sessions only this one is left."""
        self.sessions = [tried for tried in self.sessions if tried == session]

    def end(self) -> None:
        """Some session has delivered, or all are given up."""
        self.sessions.clear()
        self.is_over = self.has_time = False
