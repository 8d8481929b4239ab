"""What the HTTP API takes and what it answers: the types that its OpenAPI document is made of.

Requests are structs: they are decoded by them, unknown fields are refused. Answers are typed dictionaries:
what `farcast.control_plane.reading` and its neighbours return; a test holds every real answer against them.
Fields are only ever added, so that a command of the version before understands the next one.

Durations are ``_ms`` or ``_s``, moments ``_unix_us`` or ``_unix_s``; shares are 0 to 1.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

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


# ---- Requests -------------------------------------------------------------------------------------


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
    """Exactly one: a node whose certificates end, or the serial number of one (hex)."""

    revoke_node: str | UnsetType = UNSET
    revoke_serial: str | UnsetType = UNSET


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


# ---- Answers --------------------------------------------------------------------------------------


class Edge(TypedDict):
    """One edge. ``state``: connected, absent, or awaited since a restart of the control plane."""

    node_id: str
    region: str
    provider: str
    address: str
    public_url: str
    software: str
    state: Literal["connected", "absent", "awaited"]
    draining: bool
    state_ms: int | None
    report_ms: int | None
    current: bool
    acked_sequence: int | None
    refusals: int
    refused_because: str
    namespaces: int
    viewers: int
    publishers: int
    tracks: int
    egress_bps: int
    egress_bps_max: int
    cpu: float


class Status(TypedDict):
    """The cluster in one look."""

    version: str
    cluster: str
    epoch: int
    sequence: int
    uptime_seconds: float
    edges: list[Edge]
    connected: int
    behind: list[str]
    namespaces: int
    routes: int
    canary: str | None
    kept_back: int
    holding: bool
    plan_ms: float
    plans: int
    risk_groups_naming_nobody: list[str]
    overloaded: list[str]
    counters: dict[str, int]


class Used(TypedDict):
    """What sessions by tokens of a key have used together. ``bytes_in`` came from publishers, ``bytes_out``
    went to viewers; a minute is that of one session."""

    bytes_in: int
    bytes_out: int
    publisher_minutes: float
    viewer_minutes: float


class UsedOnDay(Used):
    """On one day of UTC, such as 2026-11-26."""

    day: str


class UsingNow(TypedDict):
    """What a key takes now at all edges, as those last reported; ``refused``: how often a quota kept
    something out since the edges began."""

    edges: int
    publishers: int
    viewers: int
    namespaces: int
    bps: int
    refused: int


class KeyUsageRow(TypedDict):
    """One key. ``trusted``: its tokens open the cluster still."""

    key_id: str
    issuer: str
    trusted: bool
    total: Used
    now: UsingNow
    days: list[UsedOnDay]


class UsageAnswer(TypedDict):
    """What each key has used. ``left_out``: counts that found no room; 0 where all is counted."""

    cluster: str
    keys: list[KeyUsageRow]
    left_out: int


class QuotaAmounts(TypedDict):
    """Sessions, namespaces, bits per second; of a quota, 0 is no bound."""

    publishers: int
    viewers: int
    namespaces: int
    bps: int


class QuotaEdge(TypedDict):
    """One edge. ``share``: what it is to give out; ``held``: the most that it may act by until it has
    acknowledged that; ``used``: what it last reported; ``refused``: how often it kept something out."""

    node_id: str
    connected: bool
    share: QuotaAmounts
    held: QuotaAmounts
    used: QuotaAmounts
    refused: int


class QuotaRow(TypedDict):
    """One key, in all and by edge; all edges together never hold more than the quota."""

    key_id: str
    issuer: str
    quota: QuotaAmounts
    used: QuotaAmounts
    held: QuotaAmounts
    edges: list[QuotaEdge]


class QuotasAnswer(TypedDict):
    """Keys that have a quota."""

    cluster: str
    keys: list[QuotaRow]


class Nodes(TypedDict):
    """All edges."""

    nodes: list[Edge]


class Link(TypedDict):
    """One directed link, as it is planned with."""

    src: str
    dst: str
    rtt_ms: float | None
    rtt_p99_ms: float | None
    loss: float | None
    loss_low: float | None
    loss_high: float | None
    burst: float | None
    usable: bool
    fresh: bool


class Links(TypedDict):
    """All links."""

    links: list[Link]


class LinkMinuteRow(TypedDict):
    """One minute that ended at ``unix_s``. ``runs``: of losses."""

    unix_s: int
    rtt_min_ms: float
    rtt_ms: float
    rtt_max_ms: float
    packets: int
    lost: int
    runs: int


class LinkHour(TypedDict):
    """One link, the oldest minute first; minutes without a measurement are left out."""

    src: str
    dst: str
    minutes: list[LinkMinuteRow]


class LinkHistoryAnswer(TypedDict):
    """The last hour."""

    period_s: int
    links: list[LinkHour]


class Route(TypedDict):
    """One route in force. Delay and loss as planned; ``null`` where it is not as the newest plan has it."""

    origin: str
    node_id: str
    path: list[str]
    backups: list[str]
    delay_p99_ms: float | None
    loss: float | None


class Routes(TypedDict):
    """Routes in force."""

    routes: list[Route]


class UpstreamsRow(TypedDict):
    """Where a node takes what an origin publishes."""

    parent: str
    backups: list[str]


class NamespaceRow(TypedDict):
    """A namespace and who offers it, the edge that counts first."""

    namespace: str
    origin: str
    holders: list[str]


class PlanAnswer(TypedDict):
    """The plan in force: trees by origin and node; ``acked``: the sequence that each edge follows."""

    cluster: str
    epoch: int
    sequence: int
    trees: dict[str, dict[str, UpstreamsRow]]
    directory: list[NamespaceRow]
    edge_list: str | None
    acked: dict[str, int]


class Version(TypedDict):
    """One version of the plan. ``acked``: node id to how long after its making; ``missing``: edges of the
    cluster that do not follow it yet."""

    sequence: int
    made_unix_us: int
    acked_ms: dict[str, int]
    missing: list[str]


class Versions(TypedDict):
    """The newest versions, the newest first."""

    epoch: int
    versions: list[Version]


class CandidateRow(TypedDict):
    """One way and what it costs, term by term."""

    path: list[str]
    cost_ms: float | None
    delay_ms: float | None
    propagation_ms: float | None
    repair_ms: float | None
    jitter_ms: float | None
    relay_ms: float | None
    load_ms: float | None
    price_ms: float | None
    loss: float | None
    within_bounds: bool
    chosen: bool
    why_not: str


class PinRow(TypedDict):
    """A pin; ``suspended``: why it is not in force, "" where it is."""

    way: list[str]
    namespace: str
    until_unix_us: int | None
    suspended: str


class OverrideRow(TypedDict):
    """What was set for an edge, or with ``dst`` for a link; ``null`` is not set."""

    src: str
    dst: str | None
    price_per_gb: float | None
    capacity_bps: int | None


class Why(TypedDict):
    """Why a route is as it is; ``backups``: node id and what its branch shares with the route.
    ``why_kept_back``: why that is not in force yet. ``pins`` and ``overrides`` are the orders that bear on
    it."""

    src: str
    dst: str
    candidates: list[CandidateRow]
    backups: list[tuple[str, list[str]]]
    summary: str
    in_force: list[str]
    kept_back: bool
    why_kept_back: str
    pins: list[PinRow]
    overrides: list[OverrideRow]


class DrainRow(TypedDict):
    """An order to drain. ``told``: the edge itself knows; ``ordered``: by an operator, not by the edge."""

    node_id: str
    drain_ms: int | None
    ordered: bool
    told: bool


class Drains(TypedDict):
    """Edges that drain."""

    drains: list[DrainRow]


class Draining(TypedDict):
    """Answer to an order to drain."""

    node_id: str
    draining: bool


class Pins(TypedDict):
    """All pins."""

    pins: list[PinRow]


class KeptOutRow(TypedDict):
    """An edge that relays for nobody else."""

    node_id: str
    until_unix_us: int | None


class KeptOuts(TypedDict):
    """All of them."""

    kept_out: list[KeptOutRow]


class Overrides(TypedDict):
    """All overrides. ``remark``: why a price has no effect, "" where it has."""

    overrides: list[OverrideRow]
    remark: str


class Removed(TypedDict):
    """The edge is out."""

    node_id: str
    removed: bool


class AccessKey(TypedDict):
    """One issuer's key. ``scope``: bounds of what its tokens allow; ``quotas``: what they may use at once, 0
    for no bound."""

    key_id: str
    x: str
    issuer: str
    scope: list[dict[str, Any]]
    quotas: dict[str, int]


class RevokedToken(TypedDict):
    """One token that opens nothing."""

    token_id: str
    revoked_unix_us: int


class Access(TypedDict):
    """Whose tokens open the cluster."""

    cluster: str
    keys: list[AccessKey]
    revoked_keys: list[str]
    revoked_tokens: list[RevokedToken]


class CertificateRow(TypedDict):
    """The newest certificate of an edge."""

    node_id: str
    region: str
    serial: str
    expires_unix_us: int


class InvitationRow(TypedDict):
    """A join token without its secret; ``joined``: who used it."""

    token_id: str
    region: str
    node_id: str | None
    expires_unix_us: int
    joined: str | None


class RevokedNode(TypedDict):
    """Certificates of a node that began until then count no more."""

    node_id: str
    until_unix_s: int


class Trust(TypedDict):
    """Certificates and join tokens."""

    certificates: list[CertificateRow]
    join_tokens: list[InvitationRow]
    revoked_nodes: list[RevokedNode]
    revoked_serials: list[str]


class JoinTokenAnswer(TypedDict):
    """A join token, told once."""

    token: str
    token_id: str
    region: str
    node_id: str | None
    control: list[str]
    authority_sha256: str
    expires_unix_s: int


class ApiTokenRow(TypedDict):
    """A token without its text."""

    name: str
    scopes: list[Scope]
    created_unix_s: int
    expires_unix_s: int | None


class ApiTokensAnswer(TypedDict):
    """All issued tokens."""

    tokens: list[ApiTokenRow]


class ApiTokenMade(TypedDict):
    """A new token; ``token`` is its text, told once."""

    token: str
    name: str
    scopes: list[Scope]
    created_unix_s: int
    expires_unix_s: int | None


class ApiTokenRevoked(TypedDict):
    """The token opens nothing any more."""

    name: str
    revoked: bool


class AuditRow(TypedDict):
    """One change: what it was ``about``, and how that was before and after."""

    seq: int
    at_unix_us: int
    who: str
    action: str
    about: str
    request_id: str
    outcome: Literal["done", "refused"]
    before: Any
    after: Any
    reason: str
    address: str


class Audit(TypedDict):
    """Changes, the newest first. ``failure``: why the newest are not on disk, "" where they are."""

    entries: list[AuditRow]
    failure: str


class ListedEdge(TypedDict):
    """One edge that viewers are told of."""

    node_id: str
    region: str
    url: str
    draining: bool
    load: float


class EdgeListAnswer(TypedDict):
    """The edge list: as it is signed (compact JWS; ``null`` where nothing is signed), and what it says."""

    signed: str | None
    edges: list[ListedEdge]
