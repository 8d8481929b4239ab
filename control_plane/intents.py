"""What operators want of the network, beside what is measured: drains, pins, edges kept out of transit,
prices and capacities.

All of it is one frozen value, `Intents`, that travels as a whole: to disk (`farcast.control_plane.store`),
to a registry that several control planes share (`farcast.control_plane.sharing`), and into a new reign
(`Restored.intents`). It is small and bounded, so nobody has to send differences or to merge.

    order ─► Orders ─► IntentBook ─► Save.intents ─► Store, registry          (durable before it acts)
                            │
                            └─────► LinkState (prices, capacities, transit) and PlanJob (pins) ─► planner

Two kinds of refusal, on purpose. What can never be is refused when it is ordered: a way with too many relays
or one that meets a node twice, one that contradicts another pin, a price below zero. What cannot be *now*,
because an edge of the way is dead or drains, is kept and suspended, and comes into force by itself when that
has passed; the planner decides so in every run (`farcast.control_plane.pinning`), and ``farcast why`` says
it.

Ends are wall-clock times, because an intent outlives the process that took it.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import msgspec

from farcast.control_plane.plan import RELAYS_MAX
from farcast.proto.control.ranges import BPS_MAX, DRAIN_MS_MAX, is_node_id

PINS_MAX: Final = 256
KEPT_OUT_MAX: Final = 256
OVERRIDES_MAX: Final = 1_024
DRAINS_MAX: Final = 1_024
NAMESPACE_CHARACTERS_MAX: Final = 1_024
PRICE_MAX: Final = 1e6
SECONDS_MAX: Final = 366 * 86_400
"""The furthest end of a pin."""
ENCODED_BYTES_MAX: Final = 512 << 10
"""Of all intents as JSON: what a registry takes in one value (Consul: 512 KiB)."""


@dataclass(frozen=True, slots=True)
class Pin:
    """What ``way[0]`` publishes reaches ``way[-1]`` by this way, whatever else would be better.

    A tree has one upstream per node, so a pin also fixes the relays on it, and counts for all that the origin
    publishes. With ``namespace`` (fields joined by slashes) it counts while that namespace has its origin at
    ``way[0]``. ``until_unix_us``: its end; ``None`` is until it is taken back.
    """

    way: tuple[str, ...]
    until_unix_us: int | None = None
    namespace: str = ""

    @property
    def origin(self) -> str:
        """Where it is published."""
        return self.way[0]

    @property
    def node_id(self) -> str:
        """Where it is taken."""
        return self.way[-1]

    @property
    def name(self) -> str:
        """For people: the way."""
        return " > ".join(self.way)


@dataclass(frozen=True, slots=True)
class KeptOut:
    """An edge that relays for no other origin than itself; its own publishers and viewers stay."""

    node_id: str
    until_unix_us: int | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """What an edge sends costs or may be at most, whatever its configuration says; ``dst`` "" is the edge as
    a whole, else the link from ``src`` to it. ``None`` leaves a figure as it is; a capacity of 0 is no
    bound."""

    src: str
    dst: str = ""
    price_per_gb: float | None = None
    capacity_bps: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        """What it is about."""
        return self.src, self.dst


@dataclass(frozen=True, slots=True)
class Intents:
    """Everything that operators have ordered and that holds. ``drains``: node id to its bound, ms."""

    drains: Mapping[str, int] = field(default_factory=dict)
    pins: tuple[Pin, ...] = ()
    kept_out: tuple[KeptOut, ...] = ()
    overrides: tuple[Override, ...] = ()


NO_INTENTS: Final = Intents()


class BadIntents(ValueError):
    """Bytes that hold no intents; one sentence."""


class _Wire(msgspec.Struct, frozen=True, omit_defaults=True):
    """`Intents` as it is written; unknown fields are ignored, so that two versions understand each other."""

    drains: dict[str, int] = {}
    pins: tuple[Pin, ...] = ()
    kept_out: tuple[KeptOut, ...] = ()
    overrides: tuple[Override, ...] = ()


def encode(intents: Intents) -> bytes:
    """As JSON; equal intents give equal bytes."""
    drains = dict(sorted(intents.drains.items()))
    return msgspec.json.encode(_Wire(drains, intents.pins, intents.kept_out, intents.overrides))


def decode(data: bytes) -> Intents:
    """The reverse of `encode`, with all checks. Raises `BadIntents`."""
    if len(data) > ENCODED_BYTES_MAX:
        raise BadIntents(f"intents of {len(data)} bytes, at most {ENCODED_BYTES_MAX} are allowed")
    try:
        wire = msgspec.json.decode(data, type=_Wire)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadIntents(f"no intents: {error}") from error
    return checked(Intents(wire.drains, wire.pins, wire.kept_out, wire.overrides))


def checked(intents: Intents) -> Intents:
    """The same, if each of them could have been ordered. Raises `BadIntents`."""
    for node_id, drain_ms in intents.drains.items():
        if not is_node_id(node_id) or not 0 <= drain_ms <= DRAIN_MS_MAX:
            raise BadIntents(f"drain of {node_id[:80]!r} within {drain_ms} ms")
    if len(intents.drains) > DRAINS_MAX:
        raise BadIntents(f"{len(intents.drains)} drains, at most {DRAINS_MAX} are allowed")
    book = IntentBook(NO_INTENTS)
    for why_not in (
        *(book.pin(pin) for pin in intents.pins),
        *(book.keep_out(kept) for kept in intents.kept_out),
        *(book.override(override) for override in intents.overrides),
    ):
        if why_not is not None:
            raise BadIntents(why_not)
    return intents


class IntentBook:
    """Pins, edges kept out and overrides in force. Commands return ``None``, or one sentence that says why
    not; whether the edges exist is the caller's to know. Drains are states of members and not kept here."""

    def __init__(self, intents: Intents) -> None:
        self._pins = {(pin.origin, pin.node_id): pin for pin in intents.pins}
        self._kept_out = {kept.node_id: kept for kept in intents.kept_out}
        self._overrides = {override.key: override for override in intents.overrides}
        self.changed = False
        """Since it was last set to false."""

    @property
    def pins(self) -> tuple[Pin, ...]:
        """By origin and node."""
        return tuple(pin for _, pin in sorted(self._pins.items()))

    @property
    def kept_out(self) -> tuple[KeptOut, ...]:
        """By node id."""
        return tuple(kept for _, kept in sorted(self._kept_out.items()))

    @property
    def overrides(self) -> tuple[Override, ...]:
        """By edge, then link."""
        return tuple(override for _, override in sorted(self._overrides.items()))

    def with_drains(self, drains: Mapping[str, int]) -> Intents:
        """All intents."""
        return Intents(drains, self.pins, self.kept_out, self.overrides)

    def pin(self, pin: Pin) -> str | None:
        """Keep a pin; it replaces another one between the same two edges."""
        why_not = why_not_pin(pin) or self._contradiction(pin)
        if why_not is None and (pin.origin, pin.node_id) not in self._pins and len(self._pins) >= PINS_MAX:
            why_not = f"there are {PINS_MAX} pins already"
        if why_not is None:
            self._pins[pin.origin, pin.node_id] = pin
            self.changed = True
        return why_not

    def unpin(self, origin: str, node_id: str) -> str | None:
        """Forget a pin."""
        if self._pins.pop((origin, node_id), None) is None:
            known = ", ".join(pin.name for pin in self.pins) or "none"
            return f"no pin from {origin!r} to {node_id!r}; there are {known}"
        self.changed = True
        return None

    def keep_out(self, kept: KeptOut) -> str | None:
        """Let an edge relay no more."""
        if not is_node_id(kept.node_id):
            return f"{kept.node_id[:80]!r} cannot be the name of an edge"
        relayed = next((pin for pin in self.pins if kept.node_id in pin.way[1:-1]), None)
        if relayed is not None:
            return f"{kept.node_id} relays on the pinned way {relayed.name}; unpin that first"
        if kept.node_id not in self._kept_out and len(self._kept_out) >= KEPT_OUT_MAX:
            return f"{KEPT_OUT_MAX} edges are kept out of transit already"
        self._kept_out[kept.node_id] = kept
        self.changed = True
        return None

    def let_in(self, node_id: str) -> str | None:
        """Let an edge relay again."""
        if self._kept_out.pop(node_id, None) is None:
            known = ", ".join(sorted(self._kept_out)) or "none"
            return f"edge {node_id!r} is not kept out of transit; kept out are {known}"
        self.changed = True
        return None

    def override(self, override: Override) -> str | None:
        """Set what an edge's or a link's sending costs, or may be at most; figures of ``None`` stay as they
        were overridden before."""
        why_not = why_not_override(override)
        if why_not is not None:
            return why_not
        held = self._overrides.get(override.key)
        if held is None and len(self._overrides) >= OVERRIDES_MAX:
            return f"there are {OVERRIDES_MAX} overrides already"
        price, capacity = override.price_per_gb, override.capacity_bps
        if held is not None:
            price = held.price_per_gb if price is None else price
            capacity = held.capacity_bps if capacity is None else capacity
        self._overrides[override.key] = Override(*override.key, price, capacity)
        self.changed = True
        return None

    def reset(self, src: str, dst: str, *, price: bool = False, capacity: bool = False) -> str | None:
        """Take overrides of an edge or a link back: the price, the capacity, or both."""
        about = f"{src} > {dst}" if dst else src
        held = self._overrides.get((src, dst))
        left = None
        if held is not None:
            left = Override(
                src, dst, None if price else held.price_per_gb, None if capacity else held.capacity_bps
            )
        if held is None or left is None or left == held:
            what = "price" if not capacity else "capacity" if not price else "price or capacity"
            return f"no {what} of {about} is overridden"
        if left.price_per_gb is None and left.capacity_bps is None:
            del self._overrides[src, dst]
        else:
            self._overrides[src, dst] = left
        self.changed = True
        return None

    def forget_ended(self, unix_us: int) -> list[str]:
        """Drop what has ended; what it was, for the log."""
        pins = [pin for pin in self.pins if _has_ended(pin.until_unix_us, unix_us)]
        kept = [kept for kept in self.kept_out if _has_ended(kept.until_unix_us, unix_us)]
        for pin in pins:
            del self._pins[pin.origin, pin.node_id]
        for each in kept:
            del self._kept_out[each.node_id]
        self.changed |= bool(pins or kept)
        return [f"pin {pin.name}" for pin in pins] + [f"{each.node_id} kept out of transit" for each in kept]

    def _contradiction(self, pin: Pin) -> str | None:
        """Another pin that wants another upstream for a node of this way, or a relay that is kept out."""
        parents = {node: parent for parent, node in pairwise(pin.way)}
        for other in self.pins:
            if other.origin != pin.origin or other.node_id == pin.node_id:
                continue
            for parent, node in pairwise(other.way):
                if parents.get(node, parent) != parent:
                    return (
                        f"{node} is pinned to take {pin.origin} from {parent} by {other.name}; an edge has "
                        "one upstream per origin"
                    )
        barred = next((relay for relay in pin.way[1:-1] if relay in self._kept_out), None)
        return None if barred is None else f"{barred} is kept out of transit and cannot relay"


def why_not_pin(pin: Pin) -> str | None:
    """Why a way can never be one, by itself."""
    for node_id in pin.way:
        if not is_node_id(node_id):
            return f"{node_id[:80]!r} cannot be the name of an edge"
    if len(pin.way) < 2:
        return "a way has two ends; name them and the relays between"
    if len(pin.way) > RELAYS_MAX + 2:
        return f"{pin.name} has {len(pin.way) - 2} relays, at most {RELAYS_MAX} are allowed"
    twice = next((node for node in pin.way if pin.way.count(node) > 1), None)
    if twice is not None:
        return f"{pin.name} meets {twice} twice"
    if len(pin.namespace) > NAMESPACE_CHARACTERS_MAX:
        return f"namespace is longer than {NAMESPACE_CHARACTERS_MAX} characters"
    return None


def why_not_override(override: Override) -> str | None:
    """Why figures make no sense."""
    for node_id in (override.src, override.dst or override.src):
        if not is_node_id(node_id):
            return f"{node_id[:80]!r} cannot be the name of an edge"
    if override.src == override.dst:
        return f"a link joins two edges, {override.src} is both"
    price, capacity = override.price_per_gb, override.capacity_bps
    if price is None and capacity is None:
        return "price_per_gb and capacity_bps: give at least one"
    if price is not None and not (math.isfinite(price) and 0 <= price <= PRICE_MAX):
        return f"price_per_gb is {price:g}, 0 to {PRICE_MAX:g} are allowed"
    if capacity is not None and not 0 <= capacity <= BPS_MAX:
        return f"capacity_bps is {capacity}, 0 to {BPS_MAX} are allowed"
    return None


def unknown_edge(names: Collection[str], known: Collection[str]) -> str | None:
    """The first of ``names`` that is no edge, as a sentence."""
    stranger = next((name for name in names if name not in known), None)
    if stranger is None:
        return None
    return f"no edge {stranger[:80]!r}; known are {', '.join(sorted(known)) or 'none'}"


def _has_ended(until_unix_us: int | None, unix_us: int) -> bool:
    return until_unix_us is not None and until_unix_us <= unix_us
