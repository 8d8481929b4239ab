"""What the HTTP API answers of the network, as typed dictionaries: what `farcast.control_plane.reading` and
its neighbours return. A test holds every real answer against them. `api_trust_answers` has the others.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict


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


class Nodes(TypedDict):
    """All edges."""

    nodes: list[Edge]


class Link(TypedDict):
    """One directed link, from ``src`` to ``dst``. As it is planned with: the smoothed ``rtt_ms`` of both
    ends, loss and runs of losses (``burst``, packets) as ``dst`` counts them. As ``dst`` alone measured it,
    ``null`` where it never spoke of it: the latest and the least RTT and its variation, ``spacing_ms`` (mean
    variation of transit times), what arrives (``rx_bps``), packets due and lost in the last minute,
    ``age_ms`` of all that. ``loss_average`` is an average over time, without bounds."""

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
    rtt_latest_ms: float | None
    rtt_min_ms: float | None
    rtt_variation_ms: float | None
    spacing_ms: float | None
    age_ms: float | None
    packets_60s: int | None
    lost_60s: int | None
    rx_bps: int | None
    loss_average: float | None
    media: bool | None


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
