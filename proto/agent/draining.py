"""How an edge goes away: the edges below first, then the clients, then whatever is left.

Edges below move make-before-break to their standbys, which takes a round trip or two; clients make a whole
new connection, and to an edge that may have been fed from here. So clients are sent away only when no edge is
fed from here any more, or after a start that is bounded. Until it has left, everybody is served.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from farcast.proto.agent.discovery import Announcing
from farcast.proto.agent.tracks import Downstream, Pending, Publication
from farcast.proto.moqt.errors import SessionCode
from farcast.proto.urls import ServerUrl, parse_url

if TYPE_CHECKING:
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sessions import Peer, PeerTable

_ROLES_OF_WORK = (Downstream, Pending, Publication, Announcing)
"""What a drain waits for. A standing question for namespaces would never end by itself, and who asked it
loses nothing by asking elsewhere."""

_SCHEMES = {"quic": "moqt", "webtransport": "https"}


class Draining:
    """One drain. Calls ``close(peer, code, reason)`` on those that are left at its end."""

    def __init__(self, hub: Hub, peers: PeerTable, close: Callable[[Peer, SessionCode, str], None]) -> None:
        self._hub = hub
        self._peers = peers
        self._close = close
        self._until_us = 0
        self._next: ServerUrl | None = None
        self._clients_told = False
        self._below: list[Peer] = []

    @property
    def is_over(self) -> bool:
        """Draining, and no peer has anything open here any more."""
        return self._hub.draining and not any(map(self._has_work, self._peers.by_id.values()))

    def begin(self, drain_ms: int, next_url: str) -> None:
        """GOAWAY to the edges now, and to clients when those have moved. ``next_url``: where clients are to
        go; empty, if that is for them to find out."""
        self._hub.draining = True
        self._until_us = self._hub.now_us + drain_ms * 1_000
        self._next = _client_url(next_url)
        self._hub.set_timer("drain", 0, after_ms=drain_ms)
        start_ms = min(self._hub.config.timing.drain_children_ms, drain_ms // 2)
        self._hub.set_timer("drain-clients", 0, after_ms=start_ms)
        hops = [peer for peer in self._peers.by_id.values() if peer.is_hop]
        self._below = [peer for peer in hops if peer.incoming]
        for peer in hops:
            if peer.established:
                self._send_away(peer)
        self.look()

    def look(self) -> None:
        """Whether it is the clients' turn."""
        if not self._hub.draining or self._clients_told:
            return
        self._below = [peer for peer in self._below if not peer.closed and self._is_fed(peer)]
        if not self._below:
            self.send_clients_away()

    def send_clients_away(self) -> None:
        """It is."""
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
        return any(
            isinstance(role, Pending) or (isinstance(role, Downstream) and role.forward)
            for role in peer.roles.values()
        )

    @staticmethod
    def _has_work(peer: Peer) -> bool:
        return peer.incoming and any(isinstance(role, _ROLES_OF_WORK) for role in peer.roles.values())


def _client_url(text: str) -> ServerUrl | None:
    """An edge's public URL; ``None`` for what no client could use."""
    try:
        url = parse_url(text)
    except ValueError:
        return None
    return url if url.target != "hop" else None
