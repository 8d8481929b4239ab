"""The newest versions of the plan, and which edges have acknowledged each.

An edge that acknowledges a version has everything of those before it, so it counts for them too. Edges are
not sent what does not concern them: one that was never sent a version, because nothing in it is for them, has
it as soon as it follows the plan in force, which is the caller's to say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

VERSIONS_MAX: Final = 128


@dataclass(slots=True)
class LoggedVersion:
    """One version. ``acked_us``: node id to when it followed this version, or a later one."""

    sequence: int
    made_us: int
    acked_us: dict[str, int] = field(default_factory=dict)


class PlanLog:
    """Bounded by `VERSIONS_MAX` and the number of edges."""

    def __init__(self) -> None:
        self._versions: deque[LoggedVersion] = deque(maxlen=VERSIONS_MAX)

    @property
    def versions(self) -> list[LoggedVersion]:
        """The newest first."""
        return list(reversed(self._versions))

    def note(self, sequence: int, now_us: int) -> None:
        """The plan in force has this sequence number; nothing happens where that is known."""
        if not self._versions or self._versions[-1].sequence != sequence:
            self._versions.append(LoggedVersion(sequence, now_us))

    def handle_ack(self, node_id: str, sequence: int, now_us: int) -> None:
        """An edge follows a version."""
        for version in self._versions:
            if version.sequence <= sequence:
                version.acked_us.setdefault(node_id, now_us)

    def handle_current(self, node_ids: Iterable[str], now_us: int) -> None:
        """These edges have all that is in force."""
        if self._versions:
            newest = self._versions[-1].sequence
            for node_id in node_ids:
                if node_id not in self._versions[-1].acked_us:
                    self.handle_ack(node_id, newest, now_us)

    def forget(self, node_id: str) -> None:
        """The edge is no member any more."""
        for version in self._versions:
            version.acked_us.pop(node_id, None)
