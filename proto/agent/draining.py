"""How an edge goes away: its publishers first, then the edges below, then viewers, then whatever is left.

What is published here nobody else can give until the publisher is elsewhere: edges that were sent away before
would find only each other. So an edge that takes such a track is held until it has moved, which it does by
the plan as soon as that knows where the publisher is now; edges that take only what others have too go at
once. Moves of edges are make-before-break and take a round trip or two; viewers make a whole new connection,
and to an edge that may have been fed from here, so they come last.

Every wait is bounded. A publisher that does not go is served until the drain is over, and so are the edges
that need it: there is no other way to it. Where it has gone and edges do not follow (the control plane may
be dead), they are told in time to find their own way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from farcast.proto.agent.discovery import Announcing
from farcast.proto.agent.tracks import Downstream, Pending, Publication, Track
from farcast.proto.moqt.errors import SessionCode
from farcast.proto.urls import ServerUrl, parse_url

if TYPE_CHECKING:
    from farcast.proto.agent.candidates import Candidates
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sessions import Peer, PeerTable

_ROLES_OF_WORK = (Downstream, Pending, Publication, Announcing)
"""What a drain waits for. A standing question for namespaces would never end by itself, and who asked it
loses nothing by asking elsewhere."""

_SCHEMES = {"quic": "moqt", "webtransport": "https"}


class Draining:
    """One drain. Calls ``close(peer, code, reason)`` on those that are left at its end."""

    def __init__(
        self,
        hub: Hub,
        peers: PeerTable,
        candidates: Candidates,
        close: Callable[[Peer, SessionCode, str], None],
    ) -> None:
        self._hub = hub
        self._peers = peers
        self._candidates = candidates
        self._close = close
        self._until_us = 0
        self._next: ServerUrl | None = None
        self._told: set[int] = set()
        self._clients_told = False
        self._edges_hurried = False
        self._held: list[Peer] = []
        self._below: list[Peer] = []

    @property
    def is_over(self) -> bool:
        """Draining, and no peer has anything open here any more."""
        return self._hub.draining and not any(map(self._has_work, self._peers.by_id.values()))

    def begin(self, drain_ms: int, next_url: str) -> None:
        """GOAWAY to publishers, and to the edges that need none of them; to the others in their turn.
        ``next_url``: where clients are to go; empty, if that is for them to find out."""
        self._hub.draining = True
        self._until_us = self._hub.now_us + drain_ms * 1_000
        self._next = _client_url(next_url)
        peers = [peer for peer in self._peers.by_id.values() if peer.established]
        publishers = [peer for peer in peers if not peer.is_hop and peer.count_roles(Publication, Announcing)]
        self._set_timers(drain_ms, has_publishers=bool(publishers))
        for peer in publishers:
            self._send_away(peer)
        self._held = [peer for peer in peers if peer.is_hop]
        self._below = [peer for peer in self._held if peer.incoming]
        self.look()

    def _set_timers(self, drain_ms: int, *, has_publishers: bool) -> None:
        timing = self._hub.config.timing
        viewers_ms = timing.drain_children_ms + (timing.drain_publishers_ms if has_publishers else 0)
        edges_ms = max(drain_ms - timing.drain_children_ms, drain_ms // 2)
        self._hub.set_timer("drain", 0, after_ms=drain_ms)
        self._hub.set_timer("drain-clients", 0, after_ms=min(viewers_ms, drain_ms // 2))
        self._hub.set_timer("drain-edges", 0, after_ms=edges_ms)

    def look(self) -> None:
        """Whose turn it is."""
        if not self._hub.draining:
            return
        self._held = [peer for peer in self._held if not (peer.closed or self._let_go(peer))]
        self._below = [peer for peer in self._below if not peer.closed and self._is_fed(peer)]
        if not self._below:
            self.send_clients_away()

    def _let_go(self, edge: Peer) -> bool:
        """Send an edge away unless it needs a publisher that is here."""
        if any(map(self._is_ours_alone, _fed_tracks(edge))):
            return False
        self._send_away(edge)
        return True

    def _is_ours_alone(self, track: Track) -> bool:
        """Whether nobody else can give a track: its publisher is here, or was until a moment ago."""
        if next(self._candidates.publishers_here(track), None) is not None:
            return True
        is_from_publisher = track.source is not None and track.source.key[0] in ("publication", "announcer")
        return is_from_publisher and not self._edges_hurried

    def hurry_edges(self) -> None:
        """Edges that have not followed a publisher are not waited for any longer."""
        self._edges_hurried = True
        self.look()

    def send_clients_away(self) -> None:
        """Nobody waits for edges any longer."""
        if self._clients_told:
            return
        self._clients_told = True
        self._hub.cancel_timer("drain-clients", 0)
        for peer in list(self._peers.by_id.values()):
            if not peer.is_hop and peer.established:
                self._send_away(peer)

    def established(self, peer: Peer) -> None:
        """A session's SETUP came while draining."""
        if peer.is_hop or self._clients_told:
            self._send_away(peer)

    def end(self) -> None:
        """The time is over."""
        for peer in list(self._peers.by_id.values()):
            code = SessionCode.GOAWAY_TIMEOUT if self._has_work(peer) else SessionCode.NO_ERROR
            self._close(peer, code, "the edge is going away")

    def _send_away(self, peer: Peer) -> None:
        if peer.id in self._told:
            return
        self._told.add(peer.id)
        left_ms = max(1, (self._until_us - self._hub.now_us) // 1_000)
        uri = self._uri_for(peer) if peer.incoming and not peer.is_hop else ""
        peer.moqt.goaway(uri, timeout_ms=left_ms)

    def _uri_for(self, peer: Peer) -> str:
        """The next edge in the words of the peer's transport."""
        scheme = _SCHEMES.get(peer.transport)
        if self._next is None or scheme is None:
            return ""
        return f"{scheme}://{self._next.authority}{self._next.path or '/'}"

    @staticmethod
    def _is_fed(peer: Peer) -> bool:
        """Whether an edge gets something from here, or is about to."""
        return bool(_fed_tracks(peer))

    @staticmethod
    def _has_work(peer: Peer) -> bool:
        return peer.incoming and any(isinstance(role, _ROLES_OF_WORK) for role in peer.roles.values())


def _fed_tracks(edge: Peer) -> list[Track]:
    """The tracks that an edge gets from here, or is about to; not those of its standbys."""
    return [
        role.track
        for role in edge.roles.values()
        if isinstance(role, Pending) or (isinstance(role, Downstream) and role.forward)
    ]


def _client_url(text: str) -> ServerUrl | None:
    """An edge's public URL; ``None`` for what no client could use."""
    try:
        url = parse_url(text)
    except ValueError:
        return None
    return url if url.target != "hop" else None
