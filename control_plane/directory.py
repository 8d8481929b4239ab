"""Which edge holds which namespace, from what edges say they were offered.

One namespace may be announced at two edges: a publisher that moved and whose old session still stands, or a
second one that stands by. One of them must be taken, by everybody the same one: **the older offer wins,
between equally old ones the smaller node id**. When it goes, the next takes over. An offer said again keeps
its first time, because its age wanders by the report's time on its way; one that comes back visibly younger
was withdrawn in between and is new.

Offers of an edge that lost its control session stay: media does not depend on the control plane. After a
restart times on the disk are those of a wall clock that may have been set meanwhile. They decide nothing:
whoever held a namespace keeps it until it has reported itself or is gone, and after that only those count who
have reported too, as long as there are any.

An edge's word for the age of an offer is bounded by what the control plane saw itself (``since_min_us``).
What an edge offers may fill several reports: the first one is full, and until the last one has come
(``more``) nothing that it offered before is taken for withdrawn.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final, TypeAlias

from farcast.proto.control.messages import Offer
from farcast.proto.control.plan_rules import DIRECTORY_BYTES_MAX
from farcast.proto.control.ranges import NAMESPACES_MAX

Fields: TypeAlias = tuple[bytes, ...]
"""The fields of a namespace."""

SINCE_JITTER_US: Final = 2_000_000
"""Offers of one namespace at one edge whose times differ by less are one offer."""

NAMESPACES_PER_NODE_MAX: Final = 16_384
"""So that one edge cannot fill the directory of all."""


@dataclass(frozen=True, slots=True)
class OfferChange:
    """One line of the directory to be made durable; ``since_us`` is ``None`` where the offer has gone."""

    namespace: Fields
    node_id: str
    since_us: int | None


class Directory:
    """All offers of all edges, and the one of each namespace that counts.

    ``since_us`` is a time on the caller's clock, which may lie before its zero.
    """

    def __init__(self) -> None:
        self._offers: dict[Fields, dict[str, int]] = {}
        self._of_node: dict[str, set[Fields]] = {}
        self._table: dict[Fields, str] = {}
        self._table_bytes = 0
        self._changes: dict[tuple[Fields, str], OfferChange] = {}
        self._unconfirmed: set[str] = set()
        self._unsaid: dict[str, set[Fields]] = {}
        """By edge whose full report goes on: what it offered before and has not said again yet."""
        self.refused = 0
        """Offers left out because a limit was reached."""
        self.too_old = 0
        """Offers said to be older than their edge can be."""

    @property
    def table(self) -> dict[Fields, str]:
        """Namespace to origin; a new object after each change, never changed in place."""
        return self._table

    @property
    def origins(self) -> frozenset[str]:
        """Edges that hold at least one namespace by the rule."""
        return frozenset(self._table.values())

    def offers_of(self, node_id: str) -> int:
        """How many namespaces the edge offers, taken or not."""
        return len(self._of_node.get(node_id, ()))

    def holders(self, namespace: Fields) -> tuple[str, ...]:
        """All edges that offer a namespace, the one that counts first."""
        offers = self._offers.get(namespace, {})
        return tuple(sorted(offers, key=lambda node_id: (offers[node_id], node_id)))

    def restore(self, offers: Iterable[tuple[Fields, str, int]]) -> None:
        """Take over (namespace, node id, since) of an earlier run; they are durable already."""
        for namespace, node_id, since_us in offers:
            self._set(namespace, node_id, since_us)
        self._changes.clear()
        self._settle(list(self._offers))
        self._unconfirmed = set(self._of_node)

    def handle_offers(
        self,
        node_id: str,
        offered: Iterable[Offer],
        withdrawn: Iterable[Fields],
        now_us: int,
        *,
        full: bool,
        more: bool = False,
        since_min_us: int | None = None,
    ) -> bool:
        """Take over what an edge said, everything it holds where ``full`` (the rest follows where ``more``);
        whether `table` is another. ``since_min_us``: it cannot hold anything for longer."""
        said = {offer.namespace: now_us - offer.age_us for offer in offered}
        if since_min_us is not None:
            self.too_old += sum(since_us < since_min_us for since_us in said.values())
            said = {namespace: max(since_us, since_min_us) for namespace, since_us in said.items()}
        was_full = full or node_id in self._unsaid
        gone = set(withdrawn) - said.keys()
        gone |= self._said_no_more(node_id, said.keys() | gone, full=full, more=more)
        touched = [namespace for namespace in gone if self._remove(namespace, node_id)]
        if was_full and not more and node_id in self._unconfirmed:
            self._unconfirmed.discard(node_id)
            touched += self._of_node.get(node_id, ())
        for namespace, since_us in said.items():
            held = self._offers.get(namespace, {}).get(node_id)
            if held is not None and abs(since_us - held) < SINCE_JITTER_US:
                continue
            if self._set(namespace, node_id, since_us):
                touched.append(namespace)
        return self._settle(touched)

    def _said_no_more(
        self, node_id: str, said: AbstractSet[Fields], *, full: bool, more: bool
    ) -> set[Fields]:
        """What a full report, in one or several pieces, has left out in the end."""
        before = self._of_node.get(node_id, set()) if full else self._unsaid.pop(node_id, set())
        unsaid = before - said
        if more and (full or unsaid):
            self._unsaid[node_id] = unsaid
            return set()
        if full:
            self._unsaid.pop(node_id, None)
        return unsaid

    def remove_node(self, node_id: str) -> bool:
        """The edge is no longer of the cluster; whether `table` is another."""
        self._unconfirmed.discard(node_id)
        self._unsaid.pop(node_id, None)
        namespaces = list(self._of_node.get(node_id, ()))
        for namespace in namespaces:
            self._remove(namespace, node_id)
        return self._settle(namespaces)

    def poll_changes(self) -> list[OfferChange]:
        """What has changed since the last call, for the store."""
        changes = list(self._changes.values())
        self._changes.clear()
        return changes

    def _set(self, namespace: Fields, node_id: str, since_us: int) -> bool:
        """Take an offer; `False` where there is no room for it."""
        offers = self._offers.get(namespace)
        own = self._of_node.get(node_id, set())
        if namespace not in own and len(own) >= NAMESPACES_PER_NODE_MAX:
            self.refused += 1
            return False
        if offers is None:
            size = sum(map(len, namespace))
            if len(self._offers) >= NAMESPACES_MAX or self._table_bytes + size > DIRECTORY_BYTES_MAX:
                self.refused += 1
                return False
            self._table_bytes += size
            offers = self._offers[namespace] = {}
        offers[node_id] = since_us
        self._of_node.setdefault(node_id, set()).add(namespace)
        self._changes[namespace, node_id] = OfferChange(namespace, node_id, since_us)
        return True

    def _remove(self, namespace: Fields, node_id: str) -> bool:
        offers = self._offers.get(namespace)
        if offers is None or offers.pop(node_id, None) is None:
            return False
        if not offers:
            del self._offers[namespace]
            self._table_bytes -= sum(map(len, namespace))
        own = self._of_node[node_id]
        own.discard(namespace)
        if not own:
            del self._of_node[node_id]
        self._changes[namespace, node_id] = OfferChange(namespace, node_id, None)
        return True

    def _winner(self, namespace: Fields) -> str | None:
        offers, holder = self._offers.get(namespace), self._table.get(namespace)
        if not offers:
            return None
        if holder in offers and holder in self._unconfirmed:
            return holder
        confirmed = offers.keys() - self._unconfirmed
        return min(confirmed or offers, key=lambda node_id: (offers[node_id], node_id))

    def _settle(self, touched: list[Fields]) -> bool:
        """Apply the rule to the namespaces that changed; whether any has another holder."""
        table: dict[Fields, str] | None = None
        for namespace in touched:
            winner = self._winner(namespace)
            if winner == self._table.get(namespace):
                continue
            table = dict(self._table) if table is None else table
            if winner is None:
                table.pop(namespace, None)
            else:
                table[namespace] = winner
        if table is not None:
            self._table = table
        return table is not None
