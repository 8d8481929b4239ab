"""What the HTTP API takes, bodies and queries: structs that requests are decoded by; unknown fields are
refused. Durations are ``_ms`` or ``_s``, moments ``_unix_us`` or ``_unix_s``; shares are 0 to 1. Fields are
only ever added, here and in the answers, so that a command of the version before understands the next one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from farcast.control_plane.api_tokens import VALID_SECONDS_MAX as TOKEN_SECONDS_MAX
from farcast.control_plane.api_tokens import Scope
from farcast.control_plane.audit import READ_MAX
from farcast.control_plane.intents import NAMESPACE_CHARACTERS_MAX, PRICE_MAX, SECONDS_MAX
from farcast.control_plane.plan import RELAYS_MAX
from farcast.control_plane.trust_book import VALID_SECONDS_MAX
from farcast.control_plane.usage_book import DAYS_MAX
from farcast.proto.control.ranges import BPS_MAX, DRAIN_MS_MAX, NodeId
from farcast.proto.joining.tokens import ADDRESSES_MAX

Seconds = Annotated[int, Meta(ge=1, le=SECONDS_MAX)]
Price = Annotated[float, Meta(ge=0, le=PRICE_MAX)]
Capacity = Annotated[int, Meta(ge=0, le=BPS_MAX)]

PIN_SECONDS: int = 86_400
"""Of a pin, and of an edge kept out of transit, unless said."""


class _Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all requests."""


class DrainOrder(_Request, frozen=True):
    """Drain an edge within ``drain_ms``, or take the order back."""

    node_id: NodeId
    drain_ms: Annotated[int, Meta(ge=0, le=DRAIN_MS_MAX)] | None = None
    undo: bool = False


class PinOrder(_Request, frozen=True):
    """Hold the route of ``way[0]`` to ``way[-1]`` to this way, for ``valid_s`` (a day unless said; ``null``:
    until it is taken back). ``namespace``: only while that is published at ``way[0]``."""

    way: Annotated[tuple[NodeId, ...], Meta(min_length=2, max_length=RELAYS_MAX + 2)]
    valid_s: Seconds | None = PIN_SECONDS
    namespace: Annotated[str, Meta(max_length=NAMESPACE_CHARACTERS_MAX)] = ""


class KeepOutOrder(_Request, frozen=True):
    """Let an edge relay for nobody else, for ``valid_s`` as with a pin."""

    node_id: NodeId
    valid_s: Seconds | None = PIN_SECONDS


class OverrideOrder(_Request, frozen=True):
    """Set what ``src`` (or with ``dst`` the link between them) costs, or may send at most; 0 is no bound."""

    src: NodeId
    dst: NodeId | None = None
    price_per_gb: Price | None = None
    capacity_bps: Capacity | None = None


class RemoveOrder(_Request, frozen=True):
    """Take an edge out for good."""

    node_id: NodeId


class AccessOrder(_Request, frozen=True):
    """Exactly one. ``trust``: a JWK, which may have ``issuer`` and ``scope``."""

    trust: dict[str, Any] | UnsetType = UNSET
    distrust: str | UnsetType = UNSET
    revoke_key: str | UnsetType = UNSET
    revoke_token: str | UnsetType = UNSET


class TrustOrder(_Request, frozen=True):
    """Exactly one: a node whose certificates end, the serial number of one (hex), a join token's id."""

    revoke_node: str | UnsetType = UNSET
    revoke_serial: str | UnsetType = UNSET
    revoke_join_token: str | UnsetType = UNSET


class JoinTokenOrder(_Request, frozen=True):
    """A join token for one edge of a region. ``control``: where it reaches the control plane, HOST:PORT."""

    region: NodeId
    node_id: NodeId | None = None
    valid_s: Annotated[int, Meta(ge=1, le=VALID_SECONDS_MAX)] = 3_600
    control: Annotated[tuple[str, ...], Meta(max_length=ADDRESSES_MAX)] = ()


class ApiTokenOrder(_Request, frozen=True):
    """A token of this API. ``valid_s``: ``null`` is for ever."""

    name: str
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1)] = (Scope.READ,)
    valid_s: Annotated[int, Meta(ge=1, le=TOKEN_SECONDS_MAX)] | None = 90 * 86_400


class RoutesQuery(_Request, frozen=True):
    """Only what is published at ``origin``."""

    origin: str | None = None


class WhyQuery(_Request, frozen=True):
    """From where something is published to where it is watched."""

    src: str
    dst: str


class HistoryQuery(_Request, frozen=True):
    """Links from ``src``, to ``dst``, or the one between them."""

    src: str | None = None
    dst: str | None = None


class AuditQuery(_Request, frozen=True):
    """``limit`` entries, the newest first, of those before number ``before``."""

    limit: Annotated[int, Meta(ge=1, le=READ_MAX)] = 100
    before: Annotated[int, Meta(ge=0)] | None = None


class UsageQuery(_Request, frozen=True):
    """Of one key, or of all; with what was used on each of the last ``days``, today included."""

    key_id: str | None = None
    days: Annotated[int, Meta(ge=0, le=DAYS_MAX)] = 0


class QuotasQuery(_Request, frozen=True):
    """Of one key, or of all that have a quota."""

    key_id: str | None = None


class OverrideQuery(_Request, frozen=True):
    """Of ``src``, or of the link from it to ``dst``: which figure; both unless said."""

    dst: NodeId | None = None
    figure: Literal["price", "capacity"] | None = None
