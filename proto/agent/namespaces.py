"""Which namespaces exist, who said so, and who wants to know.

Announcements form a path vector, as routes do in BGP: each carries the node ids it came through.
An edge ignores what came through itself, and does not tell a peer what came through that peer.
So a withdrawn namespace disappears from a ring of edges, instead of being believed round and round.

For each (prefix subscriber, namespace) the table knows what was told last. Any change of the
announcements yields the smallest set of `Notice` values that brings the subscribers up to date.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from farcast.proto.moqt.names import TrackNamespace

HopPath = tuple[str, ...]

DIRECTORY = -1
"""In place of a session: the plan's directory."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """``session`` says that it has tracks under ``namespace``; ``path``: node ids, origin first."""

    namespace: TrackNamespace
    session: int
    path: HopPath
    serial: int


@dataclass(slots=True)
class PrefixSubscriber:
    """One SUBSCRIBE_NAMESPACE of a session; ``node_id`` is set where the session is a hop."""

    session: int
    request: int
    prefix: TrackNamespace
    node_id: str | None
    told: dict[TrackNamespace, HopPath] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notice:
    """Tell a subscriber that a namespace is there (``path`` given) or gone (``None``)."""

    session: int
    request: int
    namespace: TrackNamespace
    path: HopPath | None


class NamespaceTable:
    """Announcements and prefix subscribers of one agent."""

    def __init__(self) -> None:
        self._announcements: dict[TrackNamespace, dict[int, Announcement]] = {}
        self._by_session: dict[int, dict[TrackNamespace, None]] = {}
        self._subscribers: dict[tuple[int, int], PrefixSubscriber] = {}
        self._serial = 0
        self.changes = 0
        """How often a session announced or withdrew something."""

    def __len__(self) -> int:
        return len(self._announcements)

    def namespaces(self) -> list[TrackNamespace]:
        """All namespaces announced by anybody, in the order of their first announcement."""
        return list(self._announcements)

    @property
    def serial(self) -> int:
        """Another number whenever an announcement has come, changed or gone."""
        return self._serial

    def __iter__(self) -> Iterator[TrackNamespace]:
        """As `namespaces`; not to be changed meanwhile."""
        return iter(self._announcements)

    def ways_to(self, namespace: TrackNamespace) -> tuple[tuple[int, HopPath], ...]:
        """The sessions that announced exactly this namespace, each with its path."""
        return tuple((a.session, a.path) for a in self._announcements.get(namespace, {}).values())

    def announcers_of(self, namespace: TrackNamespace) -> list[int]:
        """The sessions that announced exactly this namespace."""
        return list(self._announcements.get(namespace, ()))

    def announced_by(self, session: int) -> list[TrackNamespace]:
        """The namespaces that a session announced."""
        return list(self._by_session.get(session, ()))

    def prefixes_of(self, session: int) -> list[TrackNamespace]:
        """The prefixes that a session subscribed to."""
        return [s.prefix for s in self._subscribers.values() if s.session == session]

    def prefixes_wanted(self) -> list[PrefixSubscriber]:
        """All prefix subscribers."""
        return list(self._subscribers.values())

    def announcers(self, namespace: TrackNamespace) -> list[Announcement]:
        """Who announced ``namespace`` or a prefix of it: longest prefix first, then oldest first."""
        found: list[Announcement] = []
        for length in range(len(namespace.fields), -1, -1):
            at = self._announcements.get(TrackNamespace(namespace.fields[:length]), {})
            found.extend(sorted(at.values(), key=lambda a: a.serial))
        return found

    def announce(self, namespace: TrackNamespace, session: int, path: HopPath) -> list[Notice]:
        """A session announced a namespace, or announced it again with another path."""
        self._serial += 1
        self.changes += session != DIRECTORY
        at = self._announcements.setdefault(namespace, {})
        known = at.get(session)
        serial = known.serial if known else self._serial
        at[session] = Announcement(namespace, session, path, serial)
        self._by_session.setdefault(session, {})[namespace] = None
        return self._notices_about(namespace)

    def withdraw(self, namespace: TrackNamespace, session: int) -> list[Notice]:
        """A session withdrew its announcement; nothing happens if there was none."""
        at = self._announcements.get(namespace, {})
        if at.pop(session, None) is None:
            return []
        self._serial += 1
        self.changes += session != DIRECTORY
        self._by_session[session].pop(namespace, None)
        if not at:
            del self._announcements[namespace]
        return self._notices_about(namespace)

    def subscribe(self, subscriber: PrefixSubscriber) -> list[Notice]:
        """Add a prefix subscriber; the notices are about what is there already."""
        self._subscribers[subscriber.session, subscriber.request] = subscriber
        below = [n for n in self._announcements if n.starts_with(subscriber.prefix)]
        return [notice for n in below for notice in self._notices_for(subscriber, n)]

    def unsubscribe(self, session: int, request: int) -> None:
        """Remove a prefix subscriber."""
        self._subscribers.pop((session, request), None)

    def forget_session(self, session: int) -> list[Notice]:
        """A session is gone with its announcements and subscriptions."""
        for key in [key for key in self._subscribers if key[0] == session]:
            del self._subscribers[key]
        notices = [notice for n in self.announced_by(session) for notice in self.withdraw(n, session)]
        self._by_session.pop(session, None)
        return notices

    def _notices_about(self, namespace: TrackNamespace) -> list[Notice]:
        matching = [s for s in self._subscribers.values() if namespace.starts_with(s.prefix)]
        return [notice for s in matching for notice in self._notices_for(s, namespace)]

    def _notices_for(self, subscriber: PrefixSubscriber, namespace: TrackNamespace) -> list[Notice]:
        told = subscriber.told.get(namespace)
        best = self._best_for(subscriber, namespace)
        if best == told or (best is not None and told is not None and subscriber.node_id is None):
            return []
        paths: list[HopPath | None] = []
        if told is not None:
            del subscriber.told[namespace]
            paths.append(None)
        if best is not None:
            subscriber.told[namespace] = best
            paths.append(best)
        return [Notice(subscriber.session, subscriber.request, namespace, path) for path in paths]

    def _best_for(self, subscriber: PrefixSubscriber, namespace: TrackNamespace) -> HopPath | None:
        """The shortest path that neither came from the subscriber's session nor through its node."""
        eligible = [
            a
            for a in self._announcements.get(namespace, {}).values()
            if a.session != subscriber.session and subscriber.node_id not in a.path
        ]
        best = min(eligible, key=lambda a: (len(a.path), a.serial), default=None)
        return None if best is None else best.path
