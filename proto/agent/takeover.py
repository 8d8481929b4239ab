"""When a publisher comes back before the edge has noticed that it was gone.

A publisher that crashes leaves a session behind that looks alive until its idle timeout, half a minute
later. So when another session offers a track that has a publisher here already, the edge watches the old
one for a moment: if nothing arrives on any of its tracks, the newcomer takes them over; if something does,
there are two publishers, and the newcomer stands by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from farcast.proto.agent.tracks import Source

if TYPE_CHECKING:
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sessions import Peer, PeerTable
    from farcast.proto.agent.sourcing import Sourcing
    from farcast.proto.agent.tracks import Track, TrackTable

Progress: TypeAlias = dict[int, tuple[int, int] | None]
"""Largest location by track."""


class Takeover:
    """Watches publishers that have a rival."""

    def __init__(self, hub: Hub, peers: PeerTable, tracks: TrackTable, sourcing: Sourcing) -> None:
        self._hub = hub
        self._peers = peers
        self._tracks = tracks
        self._sourcing = sourcing
        self._watched: dict[int, Progress] = {}

    def offered(self, track: Track, rival: Peer) -> None:
        """Another session offers a track that has a live source."""
        source = track.source
        if source is None or source.session is None or source.session == rival.id:
            return
        if source.key[0] == "upstream" or source.session in self._watched:
            return
        holder = self._peers.get(source.session)
        if holder is not None:
            self._watched[holder.id] = {t.id: t.largest.get() for t in self._tracks_of(holder)}
            self._hub.set_timer("takeover", holder.id, after_ms=self._hub.config.timing.takeover_ms)

    def due(self, session: int) -> None:
        """The moment is over: has anything arrived since?"""
        before = self._watched.pop(session, {})
        holder = self._peers.get(session)
        if holder is None:
            return
        tracks = self._tracks_of(holder)
        holder.stalled = all(t.largest.get() == before.get(t.id) for t in tracks)
        if holder.stalled:
            self._hub.counters["publishers_stalled"] += 1
            for track in tracks:
                self._sourcing.replace(track)

    def session_lost(self, peer: Peer) -> None:
        """A session closed."""
        self._watched.pop(peer.id, None)
        self._hub.cancel_timer("takeover", peer.id)

    def _tracks_of(self, peer: Peer) -> list[Track]:
        """The tracks that a session is the source of."""
        sources = [track.source for track in self._tracks.by_name.values()]
        return [s.track for s in sources if isinstance(s, Source) and s.session == peer.id]
