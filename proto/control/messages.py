"""Records of the control channel, as MessagePack maps.

An edge opens one bidirectional stream and says `Hello`; the control plane answers `Welcome`. Then the edge
sends `Report`s, each answered by `ReportAck`, and the control plane sends `PlanDelta`s, each answered by
`PlanAck` or `PlanNack`. Unknown fields are ignored, missing ones take their defaults, so that version N and
N-1 understand each other; what a field means never changes.

Times are integer microseconds. Durations are measured by one clock; ``*_unix_us`` is wall-clock time and
only for people. Counts of a `LinkReport` are of its interval, not totals.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

VERSION = 1
"""Of these records. An end offers this one and the one before it."""

BURST_BUCKETS = 8
"""Runs of lost packets by length: 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64, more."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="is"):
    """Base of all records."""


class Epoch(Record, frozen=True, kw_only=True, tag=False):
    """Whose plans these are: a cluster, and the number of a reign in it. Higher numbers win."""

    cluster: str
    number: int


class PlanVersion(Record, frozen=True, kw_only=True, tag=False):
    """One plan. Sequences rise by one for each plan inside an epoch."""

    epoch: Epoch
    sequence: int


# ---- Edge to control plane ------------------------------------------------------------------------


class Hello(Record, frozen=True, kw_only=True, tag="hello"):
    """First message of an edge. ``boot_id`` is drawn anew at each start of its process; ``advertise`` is the
    ``host:port`` where others reach it; ``public_url`` what viewers are told; ``holds`` the plan it has."""

    versions: tuple[int, ...]
    node_id: str
    region: str
    boot_id: str
    advertise: str
    public_url: str = ""
    provider: str = ""
    software: str = ""
    egress_bps_max: int = 0
    holds: PlanVersion | None = None


class LinkReport(Record, frozen=True, kw_only=True, tag=False):
    """What one edge measured of the link between it and ``peer`` in one interval.

    ``rx_*`` is the direction from the peer to the reporter: packets that were due, those that never came,
    runs of losses by length (`BURST_BUCKETS`), mean variation of arrival spacing, bytes per second
    received. ``rtt_sketch``: bucket to count, see `farcast.proto.telemetry.sketch`. ``silent``: nothing is
    heard from the peer. ``media``: tracks flow on it.
    """

    peer: str
    rtt_latest_us: int = 0
    rtt_min_us: int = 0
    rtt_smoothed_us: int = 0
    rtt_variation_us: int = 0
    rtt_sketch: dict[int, int] = {}
    rx_packets: int = 0
    rx_lost: int = 0
    rx_bursts: tuple[int, ...] = ()
    rx_spacing_us: int = 0
    rx_bps: int = 0
    tx_bps: int = 0
    media: bool = False
    silent: bool = False


class Load(Record, frozen=True, kw_only=True, tag=False):
    """What an edge bears. ``cpu`` is a share of all cores, 0 to 1."""

    cpu: float = 0.0
    egress_bps: int = 0
    viewers: int = 0
    publishers: int = 0
    tracks: int = 0
    queue_bytes: int = 0


class Offer(Record, frozen=True, kw_only=True, tag=False):
    """A namespace that a publisher announced at the edge, for ``age_us`` now."""

    namespace: tuple[bytes, ...]
    age_us: int = 0


class TrackLoad(Record, frozen=True, kw_only=True, tag=False):
    """Demand at the edge: tracks taken from an origin, and their bit rate together."""

    origin: str
    tracks: int
    bps: int


class Report(Record, frozen=True, kw_only=True, tag="report"):
    """Every second. ``sent_us`` is the edge's monotonic clock since its boot. ``links`` holds those that
    changed. ``offered`` and ``withdrawn`` are changes against the report before; all is said again where
    ``full``. ``distrust``: the process was paused or the clock jumped; do not judge links by this."""

    boot_id: str
    sequence: int
    sent_us: int
    interval_us: int
    full: bool = False
    distrust: bool = False
    draining: bool = False
    links: tuple[LinkReport, ...] = ()
    unlinked: tuple[str, ...] = ()
    load: Load | None = None
    demand: tuple[TrackLoad, ...] | None = None
    offered: tuple[Offer, ...] = ()
    withdrawn: tuple[tuple[bytes, ...], ...] = ()


class PlanAck(Record, frozen=True, kw_only=True, tag="ack"):
    """The plan is in force at the edge."""

    version: PlanVersion


class PlanNack(Record, frozen=True, kw_only=True, tag="nack"):
    """The plan was refused and the one before stays; ``holds`` is that one."""

    version: PlanVersion
    reason: str
    holds: PlanVersion | None = None


# ---- Control plane to edge ------------------------------------------------------------------------


class Welcome(Record, frozen=True, kw_only=True, tag="welcome"):
    """Answer to `Hello`: the version both will use."""

    version: int
    epoch: Epoch
    report_interval_us: int = 1_000_000


class Refusal(Record, frozen=True, kw_only=True, tag="refusal"):
    """Answer to `Hello` of an edge that may not join; the stream ends."""

    reason: str


class ReportAck(Record, frozen=True, kw_only=True, tag="report_ack"):
    """A report was taken over. ``resync``: send a full one next."""

    sequence: int
    resync: bool = False


class NodeInfo(Record, frozen=True, kw_only=True, tag=False):
    """One edge of the cluster as the others see it. ``address`` is ``ip:port``; ``probe``: measure the
    link to it even where no media needs it."""

    node_id: str
    region: str
    address: str
    public_url: str = ""
    provider: str = ""
    draining: bool = False
    probe: bool = True


class RouteEntry(Record, frozen=True, kw_only=True, tag=False):
    """Where this edge takes what an origin publishes: node ids, the parent in the tree first, then backups
    in their order. ``path``: the whole branch from the origin to this edge, for people and for checks."""

    origin: str
    upstreams: tuple[str, ...]
    path: tuple[str, ...] = ()


class DirectoryEntry(Record, frozen=True, kw_only=True, tag=False):
    """Which edge holds a namespace."""

    namespace: tuple[bytes, ...]
    origin: str


class PlanDelta(Record, frozen=True, kw_only=True, tag="plan"):
    """What changed since ``base``; everything, where ``base`` is ``None``. ``edge_list`` is the signed list
    for viewers (compact JWS), where it changed. ``issued_unix_us`` is for people."""

    version: PlanVersion
    base: PlanVersion | None = None
    nodes: tuple[NodeInfo, ...] = ()
    nodes_removed: tuple[str, ...] = ()
    routes: tuple[RouteEntry, ...] = ()
    routes_removed: tuple[str, ...] = ()
    directory: tuple[DirectoryEntry, ...] = ()
    directory_removed: tuple[tuple[bytes, ...], ...] = ()
    edge_list: str | None = None
    issued_unix_us: int = 0


class DrainOrder(Record, frozen=True, kw_only=True, tag="drain"):
    """Drain now; what is left after ``drain_ms`` is cut off."""

    drain_ms: int


FromEdge: TypeAlias = Hello | Report | PlanAck | PlanNack
"""What an edge sends."""

FromControl: TypeAlias = Welcome | Refusal | ReportAck | PlanDelta | DrainOrder
"""What the control plane sends."""
