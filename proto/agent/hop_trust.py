"""Whose certificates count no more on hops: asked at each handshake, and of the hops that stand when a plan
brings other revocations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from farcast.proto.joining.revocations import Revocations, Revoked
from farcast.proto.moqt.errors import SessionCode

if TYPE_CHECKING:
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sessions import Peer, PeerTable
    from farcast.proto.control.edge_plan import EdgePlan

Close = Callable[["Peer", SessionCode, str], None]

REVOKED = "the certificate was revoked"


class HopTrust:
    """Revocations of the plan in force."""

    def __init__(self, hub: Hub, peers: PeerTable, close: Close) -> None:
        self._hub = hub
        self._peers = peers
        self._close = close
        self._said: Revocations | None = None
        self._revoked = Revoked()

    def refusal(self, peer: Peer) -> tuple[SessionCode, str] | None:
        """Why a hop may not be, ``None`` if it may."""
        if not self._is_revoked(peer):
            return None
        self._hub.counters["hops_revoked"] += 1
        return SessionCode.UNAUTHORIZED, REVOKED

    def apply(self, plan: EdgePlan) -> None:
        """Close the hops that this plan revokes."""
        if plan.revoked is None or plan.revoked == self._said:
            return
        self._said, self._revoked = plan.revoked, Revoked(plan.revoked)
        for peer in [peer for peer in self._peers.by_id.values() if peer.is_hop]:
            refusal = self.refusal(peer)
            if refusal is not None:
                self._close(peer, *refusal)

    def _is_revoked(self, peer: Peer) -> bool:
        read = self._hub.config.peer_certificate
        certified = read(peer.certificates) if read is not None else None
        return certified is not None and certified in self._revoked
