"""Orders of operators, carried out: drains, pins, edges kept out of transit, prices and capacities.

A part of the controller's engine. An order is taken or refused at once; what holds is told to whom it
concerns: members (drains), link state (prices, capacities, transit) and the plan cycle (pins). Commands
return ``None``, or one sentence that says why not.

An edge that is to drain is told so itself only once nobody takes by it what another could give
(`farcast.control_plane.drains`), or after `OrdersConfig.reparent_ms_max`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farcast.control_plane.drains import is_relieved
from farcast.control_plane.intents import IntentBook, Intents, KeptOut, Override, Pin, unknown_edge
from farcast.control_plane.journal import Journal
from farcast.control_plane.link_state import LinkState
from farcast.control_plane.members import Member, Members
from farcast.control_plane.plan_cycle import PlanCycle
from farcast.control_plane.pushes import Pushes
from farcast.proto.control.ranges import DRAIN_MS_MAX

if TYPE_CHECKING:
    from farcast.proto.control.server_channel import ServerChannel


@dataclass(frozen=True, slots=True)
class OrdersConfig:
    """Times of drains."""

    drain_ms_default: int = 30_000
    reparent_ms_max: int = 5_000
    """Children of a draining edge have so long to follow their new plan before the edge itself is told."""


class Orders:
    """``nodes_changed`` and ``intents_changed`` say, until they are set to false, that members look different
    to others, and that `intents` is to be written down."""

    def __init__(
        self,
        config: OrdersConfig,
        intents: Intents,
        members: Members,
        links: LinkState,
        cycle: PlanCycle,
        pushes: Pushes,
        journal: Journal,
    ) -> None:
        self.book = IntentBook(intents)
        self.nodes_changed = True
        self.intents_changed = False
        self._config = config
        self._members, self._links = members, links
        self._cycle, self._pushes = cycle, pushes
        self._journal = journal
        self._drains_pending = bool(intents.drains)
        self._tell()

    @property
    def intents(self) -> Intents:
        """All that holds."""
        drains = {m.node_id: m.drain_ms for m in self._members if m.drain_us is not None}
        return self.book.with_drains(drains)

    # ---- Drains -----------------------------------------------------------------------------------

    def drain(self, node_id: str, drain_ms: int | None, now_us: int) -> str | None:
        """Empty an edge: its children first, then its viewers."""
        member = self._members.get(node_id)
        if member is None:
            return unknown_edge([node_id], self._members.ids)
        bound_ms = self._config.drain_ms_default if drain_ms is None else drain_ms
        if not 0 <= bound_ms <= DRAIN_MS_MAX:
            return f"drain_ms is {bound_ms}, 0 to {DRAIN_MS_MAX} are allowed"
        member.drain_us, member.drain_ms, member.drain_sent = now_us, bound_ms, False
        self.set_draining(member)
        self._journal.write("info", "drain ordered", node_id=node_id, drain_ms=bound_ms)
        return None

    def undrain(self, node_id: str) -> str | None:
        """Take an order to drain back; an edge that has been told goes on by itself."""
        member = self._members.get(node_id)
        if member is None or member.drain_us is None:
            return f"edge {node_id!r} has no order to drain"
        member.drain_us, member.drain_sent = None, False
        self.set_draining(member)
        self._journal.write("info", "drain taken back", node_id=node_id)
        return None

    def set_draining(self, member: Member) -> None:
        """A member's draining is not what it was."""
        self._links.set_draining(member.node_id, member.draining)
        self.intents_changed = self.nodes_changed = True
        self._drains_pending |= member.drain_us is not None
        if member.draining:
            self._cycle.want()

    def tell_edges(self, channel_of: Callable[[str], ServerChannel | None], now_us: int) -> list[str]:
        """Tell draining edges themselves, once nobody takes from them what another could give; whom."""
        if not self._drains_pending:
            return []
        self._drains_pending = False
        told = []
        for member in self._members:
            if member.drain_us is None or member.drain_sent:
                continue
            self._drains_pending = True
            overdue = now_us >= member.drain_us + self._config.reparent_ms_max * 1_000
            channel = channel_of(member.node_id)
            if channel is not None and (
                overdue or is_relieved(member, self._members, self._cycle, self._pushes)
            ):
                channel.order_drain(member.drain_ms)
                member.drain_sent = True
                told.append(member.node_id)
                self._journal.write("info", "edge told to drain", node_id=member.node_id, overdue=overdue)
        return told

    # ---- Pins, transit, prices, capacities --------------------------------------------------------

    def pin(self, pin: Pin) -> str | None:
        """Hold a route to a way; it replaces another pin between the same two edges."""
        return self._change(pin.way, self.book.pin(pin) if self._known(pin.way) else None, "pin", pin.name)

    def unpin(self, origin: str, node_id: str) -> str | None:
        """Take a pin back; the route stays until another one is enough better."""
        return self._change((), self.book.unpin(origin, node_id), "pin taken back", f"{origin} > {node_id}")

    def keep_out(self, kept: KeptOut) -> str | None:
        """Let an edge relay for nobody else."""
        names = (kept.node_id,)
        why_not = self.book.keep_out(kept) if self._known(names) else None
        return self._change(names, why_not, "kept out of transit", kept.node_id)

    def let_in(self, node_id: str) -> str | None:
        """Let an edge relay again."""
        return self._change((), self.book.let_in(node_id), "let into transit again", node_id)

    def override(self, override: Override) -> str | None:
        """Set what an edge's or a link's sending costs, or may be at most."""
        names = tuple(name for name in override.key if name)
        why_not = self.book.override(override) if self._known(names) else None
        return self._change(names, why_not, "override", " > ".join(names))

    def reset(self, src: str, dst: str, *, price: bool = False, capacity: bool = False) -> str | None:
        """Take overrides back."""
        why_not = self.book.reset(src, dst, price=price, capacity=capacity)
        return self._change((), why_not, "override taken back", f"{src} > {dst}" if dst else src)

    def forget_ended(self, unix_us: int) -> None:
        """Drop what has ended."""
        for what in self.book.forget_ended(unix_us):
            self._journal.write("info", "order ended", about=what)
        self._tell_if_changed()

    def _known(self, names: Collection[str]) -> bool:
        return unknown_edge(names, self._members.ids) is None

    def _change(self, names: Collection[str], why_not: str | None, what: str, about: str) -> str | None:
        why_not = unknown_edge(names, self._members.ids) or why_not
        if why_not is None:
            self._journal.write("info", what, about=about)
            self._tell_if_changed()
        return why_not

    def _tell_if_changed(self) -> None:
        if self.book.changed:
            self.book.changed = False
            self.intents_changed = True
            self._tell()
            self._cycle.want()

    def _tell(self) -> None:
        self._links.set_intents({kept.node_id for kept in self.book.kept_out}, self.book.overrides)
        self._cycle.set_pins(self.book.pins, {kept.node_id for kept in self.book.kept_out})
