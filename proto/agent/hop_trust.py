"""Whose certificates count on hops: asked at each handshake, and of hops that stand when a plan is another.

A certificate counts no more when a plan revokes it; and it does not count for a node that the plan has in
another region than the certificate: no edge speaks for a region that is not its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from farcast.proto.joining.revocations import Revocations, Revoked
from farcast.proto.moqt.errors import SessionCode

if TYPE_CHECKING:
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sessions import Peer, PeerTable
    from farcast.proto.control.edge_plan import EdgePlan
    from farcast.proto.joining.revocations import Certified

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
        self._regions: dict[str, str] = {}

    def refusal(self, peer: Peer) -> tuple[SessionCode, str] | None:
        """Why a hop may not be, ``None`` if it may."""
        certified = self._certified(peer)
        if certified is None:
            return None
        if certified in self._revoked:
            self._hub.counters["hops_revoked"] += 1
            return SessionCode.UNAUTHORIZED, REVOKED
        planned = self._regions.get(certified.node_id, certified.region)
        if planned != certified.region:
            self._hub.counters["hops_misidentified"] += 1
            reason = f"the certificate is of region {certified.region}, the plan has this edge in {planned}"
            return SessionCode.UNAUTHORIZED, reason
        return None

    def apply(self, plan: EdgePlan) -> None:
        """Close the hops that may not be by this plan."""
        regions = {node_id: node.region for node_id, node in plan.nodes.items()}
        if plan.revoked in (None, self._said) and regions == self._regions:
            return
        self._regions = regions
        if plan.revoked is not None:
            self._said, self._revoked = plan.revoked, Revoked(plan.revoked)
        for peer in [peer for peer in self._peers.by_id.values() if peer.is_hop]:
            refusal = self.refusal(peer)
            if refusal is not None:
                self._close(peer, *refusal)

    def _certified(self, peer: Peer) -> Certified | None:
        read = self._hub.config.peer_certificate
        return read(peer.certificates) if read is not None else None
