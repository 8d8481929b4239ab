"""What of the control plane's state is not on disk yet."""

from __future__ import annotations

from farcast.control_plane.access_book import AccessBook
from farcast.control_plane.branches import Tree, Trees
from farcast.control_plane.directory import Directory, OfferChange
from farcast.control_plane.members import Members
from farcast.control_plane.orders import Orders
from farcast.control_plane.quota_shares import Shares
from farcast.control_plane.store import Save
from farcast.control_plane.trust_book import TrustBook
from farcast.control_plane.usage_book import UsageChange


class Saver:
    """Gathers changes into `Save`s. ``unix_minus_clock_us`` turns times here into those of the wall clock."""

    def __init__(self, trees: Trees, unix_minus_clock_us: int) -> None:
        self.members_changed = False
        self.intents_changed = False
        self.access_changed = self.trust_changed = False
        self._unix_minus_clock_us = unix_minus_clock_us
        self._trees = trees
        self._sequence = -1

    def poll(
        self,
        members: Members,
        directory: Directory,
        trees: Trees,
        sequence: int,
        access: AccessBook,
        trust: TrustBook,
        orders: Orders,
        usage: UsageChange | None = None,
        shares: Shares | None = None,
    ) -> Save | None:
        """What has changed since the last call, ``None`` where nothing has."""
        offers = directory.poll_changes()
        changed = self._changed_trees(trees)
        with_members, with_intents = self.members_changed, self.intents_changed
        with_access, with_trust = self.access_changed, self.trust_changed
        some = (
            with_members
            or with_intents
            or with_access
            or with_trust
            or usage is not None
            or shares is not None
        )
        if not (offers or changed or some or sequence != self._sequence):
            return None
        self.members_changed = self.intents_changed = False
        self.access_changed = self.trust_changed = False
        self._sequence = sequence
        return Save(
            sequence,
            tuple(member.hello for member in members) if with_members else None,
            orders.intents if with_intents else None,
            changed,
            tuple(self._on_wall_clock(offer) for offer in offers),
            access.kept() if with_access else None,
            trust.kept() if with_trust else None,
            usage,
            shares,
        )

    def _changed_trees(self, trees: Trees) -> dict[str, Tree | None]:
        saved = self._trees
        if trees is saved:
            return {}
        self._trees = trees
        changed: dict[str, Tree | None] = {origin: None for origin in saved if origin not in trees}
        for origin, tree in trees.items():
            before = saved.get(origin)
            if before is not tree and before != tree:
                changed[origin] = tree
        return changed

    def _on_wall_clock(self, offer: OfferChange) -> OfferChange:
        if offer.since_us is None:
            return offer
        return OfferChange(offer.namespace, offer.node_id, offer.since_us + self._unix_minus_clock_us)
