"""Records of the control channel, as MessagePack maps.

An edge opens one bidirectional stream and says `Hello`; the control plane answers `Welcome`. Then the edge
sends `Report`s, each answered by `ReportAck`, and the control plane sends `PlanDelta`s, each answered by
`PlanAck` or `PlanNack`. Unknown fields are ignored, missing ones take their defaults, so that version N and
N-1 understand each other; what a field means never changes.

Times are integer microseconds. Durations are measured by one clock; ``*_unix_us`` is wall-clock time and
only for people. Counts of a `LinkReport` are not totals. The types of the fields say what they may hold
(`farcast.proto.control.ranges`); decoding checks it.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta

from farcast.proto.access.metering import USAGE_PER_REPORT_MAX
from farcast.proto.access.records import AccessRules, KeyId, Shares
from farcast.proto.control.ranges import (
    CERTIFICATE_BYTES_MAX,
    DRAIN_MS_MAX,
    NAMESPACES_MAX,
    NODES_MAX,
    SIGNING_REQUEST_BYTES_MAX,
    SKETCH_BUCKETS_MAX,
    Address,
    Bps,
    Bucket,
    Count,
    EdgeList,
    Interval,
    KnownNodeId,
    NamespaceFields,
    NodeId,
    NodeIds,
    Path,
    RecordVersion,
    Rtt,
    Share,
    Text,
    Token,
    UpstreamIds,
)
from farcast.proto.joining.revocations import Revocations

VERSION = 1
"""Of these records. An end offers this one and the one before it."""

BURST_BUCKETS = 8
"""Runs of lost packets by length: 1, 2, 3-4, 5-8, 9-16, 17-32, 33-64, more."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="is", gc=False):
    """Base of all records. The garbage collector need not look at them: what is frozen and made of values
    closes no circle, and a control plane decodes thousands of links a second.
    """


class Epoch(Record, frozen=True, kw_only=True, tag=False):
    """Whose plans these are: a cluster, and the number of a reign in it. Higher numbers win."""

    cluster: Token
    number: Count


class PlanVersion(Record, frozen=True, kw_only=True, tag=False):
    """One plan. Sequences rise by one for each plan inside an epoch."""

    epoch: Epoch
    sequence: Count

    def __str__(self) -> str:
        return f"{self.epoch.cluster}/{self.epoch.number}.{self.sequence}"


# ---- Edge to control plane ------------------------------------------------------------------------


class Hello(Record, frozen=True, kw_only=True, tag="hello"):
    """First message of an edge. ``boot_id`` is drawn anew at each start of its process; ``advertise`` is the
    ``host:port`` where others reach it; ``public_url`` what viewers are told; ``holds`` the plan it has;
    ``takes_shares``: it follows `PlanDelta.shares`, and does not divide quotas evenly."""

    versions: Annotated[tuple[RecordVersion, ...], Meta(min_length=1, max_length=16)]
    node_id: NodeId
    region: NodeId
    boot_id: Token
    advertise: Address
    public_url: Text = ""
    provider: Text = ""
    software: Text = ""
    egress_bps_max: Bps = 0
    holds: PlanVersion | None = None
    takes_shares: bool = False


class LinkReport(Record, frozen=True, kw_only=True, tag=False):
    """What one edge measured of the link between it and ``peer`` since it last reported that link.

    ``rx_*`` is the direction from the peer to the reporter: packets that were due, those that never came,
    runs of losses by length (`BURST_BUCKETS`), mean variation of arrival spacing, bits per second
    received. ``rtt_sketch``: bucket to count, see `farcast.proto.telemetry.sketch`. ``silent``: nothing is
    heard from the peer. ``media``: tracks flow on it.
    """

    peer: KnownNodeId
    rtt_latest_us: Rtt = 0
    rtt_min_us: Rtt = 0
    rtt_smoothed_us: Rtt = 0
    rtt_variation_us: Rtt = 0
    rtt_sketch: Annotated[dict[Bucket, Count], Meta(max_length=SKETCH_BUCKETS_MAX)] = {}
    rx_packets: Count = 0
    rx_lost: Count = 0
    rx_bursts: Annotated[tuple[Count, ...], Meta(max_length=BURST_BUCKETS)] = ()
    rx_spacing_us: Rtt = 0
    rx_bps: Bps = 0
    tx_bps: Bps = 0
    media: bool = False
    silent: bool = False


class Load(Record, frozen=True, kw_only=True, tag=False):
    """What an edge bears. ``cpu`` is a share of all cores, 0 to 1."""

    cpu: Share = 0.0
    egress_bps: Bps = 0
    viewers: Count = 0
    publishers: Count = 0
    tracks: Count = 0
    queue_bytes: Count = 0


class Offer(Record, frozen=True, kw_only=True, tag=False):
    """A namespace that a publisher announced at the edge, for ``age_us`` now."""

    namespace: NamespaceFields
    age_us: Count = 0


class TrackLoad(Record, frozen=True, kw_only=True, tag=False):
    """Demand at the edge: tracks taken from an origin, and their bit rate together."""

    origin: NodeId
    tracks: Count
    bps: Bps


class KeyUsage(Record, frozen=True, kw_only=True, tag=False):
    """What the sessions of an issuer's key have used at the edge since the meter began (its process, by boot
    id), and take now; ``refused``: how often its quota kept something out."""

    meter: Token
    key_id: KeyId
    bytes_in: Count = 0
    bytes_out: Count = 0
    publisher_us: Count = 0
    viewer_us: Count = 0
    publishers: Count = 0
    viewers: Count = 0
    namespaces: Count = 0
    bps: Bps = 0
    refused: Count = 0


class Report(Record, frozen=True, kw_only=True, tag="report"):
    """Every second. ``sent_us`` is the edge's monotonic clock since its boot. ``links`` holds those that
    changed. ``offered`` and ``withdrawn`` are changes against the report before; all is said again where
    ``full``; ``offers_follow`` says how many did not fit and come in the reports that follow.
    ``distrust``: the process was paused or the clock jumped; do not judge links by this. ``usage``: of keys
    of which it changed."""

    boot_id: Token
    sequence: Count
    sent_us: Count
    interval_us: Interval
    full: bool = False
    distrust: bool = False
    draining: bool = False
    links: Annotated[tuple[LinkReport, ...], Meta(max_length=NODES_MAX)] = ()
    unlinked: NodeIds = ()
    load: Load | None = None
    demand: Annotated[tuple[TrackLoad, ...], Meta(max_length=NODES_MAX)] | None = None
    offered: Annotated[tuple[Offer, ...], Meta(max_length=NAMESPACES_MAX)] = ()
    withdrawn: Annotated[tuple[NamespaceFields, ...], Meta(max_length=NAMESPACES_MAX)] = ()
    offers_follow: Count = 0
    usage: Annotated[tuple[KeyUsage, ...], Meta(max_length=USAGE_PER_REPORT_MAX)] = ()


class PlanAck(Record, frozen=True, kw_only=True, tag="ack"):
    """The plan is in force at the edge."""

    version: PlanVersion


class PlanNack(Record, frozen=True, kw_only=True, tag="nack"):
    """The plan was refused and the one before stays; ``holds`` is that one."""

    version: PlanVersion
    reason: Text
    holds: PlanVersion | None = None


class CertificateWanted(Record, frozen=True, kw_only=True, tag="certificate_wanted"):
    """The edge has made its next key and asks for a certificate (PKCS#10, DER); it gets one for the names
    that its session has proved."""

    request: Annotated[bytes, Meta(min_length=1, max_length=SIGNING_REQUEST_BYTES_MAX)]


# ---- Control plane to edge ------------------------------------------------------------------------


class Welcome(Record, frozen=True, kw_only=True, tag="welcome"):
    """Answer to `Hello`: the version both will use. ``issues``: `CertificateWanted` is understood.
    ``unix_us``: the control plane's wall clock; 0 is not told."""

    version: RecordVersion
    epoch: Epoch
    report_interval_us: Interval = 1_000_000
    issues: bool = False
    unix_us: Count = 0


class Refusal(Record, frozen=True, kw_only=True, tag="refusal"):
    """Answer to `Hello` of an edge that may not join; the stream ends. ``retry_ms``: who refuses stands by
    and may lead soon, so ask again within this time; 0 says nothing about that."""

    reason: Text
    retry_ms: Count = 0


class ReportAck(Record, frozen=True, kw_only=True, tag="report_ack"):
    """A report was taken over. ``resync``: send a full one next."""

    sequence: Count
    resync: bool = False


class NodeInfo(Record, frozen=True, kw_only=True, tag=False):
    """One edge of the cluster as the others see it. ``address`` is ``ip:port``; ``probe``: measure the
    link to it even where no media needs it."""

    node_id: NodeId
    region: NodeId
    address: Address
    public_url: Text = ""
    provider: Text = ""
    draining: bool = False
    probe: bool = True


class RouteEntry(Record, frozen=True, kw_only=True, tag=False):
    """Where this edge takes what an origin publishes: node ids, the parent in the tree first, then backups
    in their order. ``path``: the whole branch from the origin to this edge, for people and for checks."""

    origin: NodeId
    upstreams: UpstreamIds
    path: Path = ()


class DirectoryEntry(Record, frozen=True, kw_only=True, tag=False):
    """Which edge holds a namespace."""

    namespace: NamespaceFields
    origin: NodeId


class PlanDelta(Record, frozen=True, kw_only=True, tag="plan"):
    """What changed since ``base``; everything, where ``base`` is ``None``. ``edge_list`` is the signed list
    for viewers (compact JWS), ``access`` who may publish and watch, ``revoked`` the certificates that count
    no more, ``shares`` the edge's own parts of quotas, each where it changed. ``issued_unix_us`` is for
    people."""

    version: PlanVersion
    base: PlanVersion | None = None
    nodes: Annotated[tuple[NodeInfo, ...], Meta(max_length=NODES_MAX)] = ()
    nodes_removed: NodeIds = ()
    routes: Annotated[tuple[RouteEntry, ...], Meta(max_length=NODES_MAX)] = ()
    routes_removed: NodeIds = ()
    directory: Annotated[tuple[DirectoryEntry, ...], Meta(max_length=NAMESPACES_MAX)] = ()
    directory_removed: Annotated[tuple[NamespaceFields, ...], Meta(max_length=NAMESPACES_MAX)] = ()
    edge_list: EdgeList | None = None
    access: AccessRules | None = None
    revoked: Revocations | None = None
    shares: Shares | None = None
    issued_unix_us: Count = 0


class DrainOrder(Record, frozen=True, kw_only=True, tag="drain"):
    """Drain now; what is left after ``drain_ms`` is cut off."""

    drain_ms: Annotated[int, Meta(ge=0, le=DRAIN_MS_MAX)]


class CertificateIssued(Record, frozen=True, kw_only=True, tag="certificate"):
    """Answer to `CertificateWanted`: X.509, DER; or (``refusal``) why there is none."""

    certificate: Annotated[bytes, Meta(max_length=CERTIFICATE_BYTES_MAX)] = b""
    refusal: Text = ""


FromEdge: TypeAlias = Hello | Report | PlanAck | PlanNack | CertificateWanted
"""What an edge sends."""

FromControl: TypeAlias = Welcome | Refusal | ReportAck | PlanDelta | DrainOrder | CertificateIssued
"""What the control plane sends."""
