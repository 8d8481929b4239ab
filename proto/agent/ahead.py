"""Tracks that an edge takes before anybody asks for them: the catalogs of the namespaces that it knows.

A viewer needs a catalog before it knows which tracks to ask for. Where it is the first at its edge, that
would cost a round trip to the publisher, and the tracks another one. Catalogs are small and change rarely, so
an edge subscribes to them as soon as it hears of a namespace, and keeps them for as long as it hears of it.

At the publisher's own edge one more thing is known: our publishers name, as a property of the catalog, the
tracks that it lists (`COMPANIONS`). Those this edge takes as well: a publisher's uplink is the narrowest part
of the way, and a first viewer in the middle of a group would otherwise wait for all of it to come over that.
While nobody watches them they come last (`IDLE_PRIORITY`), so that they take nothing from what is watched.

What is refused is asked for `TRIES_MAX` times and then not until the namespace comes anew: an edge above may
not know of it yet, and not every publisher has every catalog.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from farcast.proto.agent.local_tracks import is_own_namespace
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.properties import COMPANIONS, Properties

if TYPE_CHECKING:
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.idle_tracks import IdleTracks
    from farcast.proto.agent.namespaces import NamespaceTable
    from farcast.proto.agent.sessions import PeerTable
    from farcast.proto.agent.sourcing import Sourcing
    from farcast.proto.agent.tracks import Source, Track, TrackTable
    from farcast.proto.moqt.names import TrackNamespace

NAMESPACES_MAX: Final = 256
"""Namespaces whose catalogs are taken ahead; of more, those that were known first."""

COMPANIONS_MAX: Final = 16
"""Tracks of one namespace that are taken beside its catalog."""

COMPANIONS_BYTES_MAX: Final = 1_024

IDLE_PRIORITY: Final = 255
WATCHED_PRIORITY: Final = 128
"""Subscriber priorities of companions; the second is that of the drafts for who names none."""

TRIES_MAX: Final = 3
RETRY_MS: Final = 5_000

Announcers = tuple[tuple[int, tuple[str, ...]], ...]
"""Who has a namespace: sessions, and the ways to them."""


class Ahead:
    """Marks tracks as wanted ahead, and has them sought."""

    def __init__(
        self,
        hub: Hub,
        peers: PeerTable,
        tracks: TrackTable,
        namespaces: NamespaceTable,
        sourcing: Sourcing,
        idle: IdleTracks,
    ) -> None:
        self._hub = hub
        self._peers = peers
        self._tracks = tracks
        self._namespaces = namespaces
        self._sourcing = sourcing
        self._idle = idle
        self._serial = -1
        self._wanted: dict[TrackNamespace, Announcers] = {}
        self._kept: dict[TrackNamespace, dict[FullTrackName, int]] = {}
        """What is wanted ahead, and how often it was asked for."""

    def look(self) -> bool:
        """Namespaces may have come or gone; whether that was so."""
        names = self._hub.config.ahead
        if not names or self._serial == self._namespaces.serial:
            return False
        self._serial = self._namespaces.serial
        found = {
            namespace: self._namespaces.ways_to(namespace)
            for namespace in islice(self._namespaces, NAMESPACES_MAX)
            if not is_own_namespace(namespace)
        }
        before, self._wanted = self._wanted, found
        for namespace in before:
            if found.get(namespace) != before[namespace]:
                self._let_go(namespace)
        for namespace in found:
            if found[namespace] != before.get(namespace) and not self._hub.draining:
                for name in names:
                    self._want(FullTrackName(namespace, name))
        return True

    def retry_due(self) -> None:
        """Ask again for what is not here."""
        for kept in list(self._kept.values()):
            for name, tries in list(kept.items()):
                if name not in self._tracks.by_name and tries < TRIES_MAX and not self._hub.draining:
                    is_catalog = name.name in self._hub.config.ahead
                    self._want(name, None if is_catalog else IDLE_PRIORITY)

    def accepted(self, track: Track, source: Source) -> None:
        """A track taken ahead has a source: where that is a publisher here, its companions are taken, too."""
        if not track.ahead or source.key[0] == "upstream" or track.name.name not in self._hub.config.ahead:
            return
        for name in _companions(track.properties):
            self._want(FullTrackName(track.name.namespace, name), IDLE_PRIORITY)

    def taken(self, track: Track) -> None:
        """Somebody begins or ceases to get a track: it comes in its turn, or last."""
        source = track.source
        if track.idle_priority is None or source is None or source.key[0] != "announcer":
            return
        priority = WATCHED_PRIORITY if track.is_watched() else track.idle_priority
        peer = self._peers.get(source.session)
        if (
            peer is not None
            and source.request is not None
            and (source.priority or WATCHED_PRIORITY) != priority
        ):
            source.priority = priority
            peer.moqt.update(source.request, priority=priority)

    def _want(self, name: FullTrackName, idle_priority: int | None = None) -> None:
        track = self._tracks.by_name.get(name)
        if track is None:
            if len(self._tracks.by_id) >= self._hub.config.limits.tracks_max:
                return
            track = self._tracks.create(name)
        if track.ahead:
            return
        track.ahead, track.idle_priority = True, idle_priority
        kept = self._kept.setdefault(name.namespace, {})
        kept[name] = kept.get(name, 0) + 1
        if kept[name] < TRIES_MAX:
            self._hub.timers.set_if_unset(("ahead", 0, 0), self._hub.now_us + RETRY_MS * 1_000)
        self._hub.cancel_timer("linger", track.id)
        self._hub.counters["tracks_taken_ahead"] += 1
        if track.source is None and track.candidate is None:
            self._sourcing.seek_again(track)

    def _let_go(self, namespace: TrackNamespace) -> None:
        for name in self._kept.pop(namespace, ()):
            track = self._tracks.by_name.get(name)
            if track is not None and track.ahead:
                track.ahead, track.idle_priority = False, None
                self._idle.look(track)


def _companions(properties: Properties) -> list[bytes]:
    """The names in a catalog's property, one a line; none where it is too long to be meant well."""
    value = next((pair.value for pair in properties if pair.type == COMPANIONS), None)
    if not isinstance(value, bytes) or len(value) > COMPANIONS_BYTES_MAX:
        return []
    return [name for name in value.split(b"\n") if name][:COMPANIONS_MAX]
