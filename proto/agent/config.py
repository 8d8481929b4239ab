"""Settings of the agent: who it is, what lies upstream, and every limit by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from farcast.proto.access.gate import AccessPolicy
from farcast.proto.agent.backoff import BackoffConfig
from farcast.proto.joining.revocations import Certified
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.moqt.parameters import HOP_PATH_NODES_MAX, NODE_TEXT_BYTES_MAX
from farcast.proto.recovery.policy import Assumptions
from farcast.proto.recovery.second_path import SecondPaths

if TYPE_CHECKING:
    from farcast.proto._core import ClientTls

TRACKS_AHEAD: Final = (b"catalog", b"catalog.json")
"""Catalogs of MSF and of @moq."""

TargetKind: TypeAlias = Literal["hop", "quic", "webtransport"]


@dataclass(frozen=True, slots=True)
class Target:
    """A MoQT server to connect to, with its name resolved.

    ``remote`` is ``ip:port``; ``server_name`` is verified in its certificate; ``authority`` and
    ``path`` go into SETUP (raw QUIC) or into CONNECT (WebTransport).
    """

    kind: TargetKind
    remote: str
    server_name: str
    tls: ClientTls
    authority: str = ""
    path: str = "/"
    drafts: tuple[int, ...] = (18, 16)


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where tracks and namespaces under ``prefix`` come from when no publisher is here."""

    prefix: TrackNamespace
    target: Target

    @property
    def name(self) -> str:
        """For people: kind and address."""
        return f"{self.target.kind}://{self.target.remote}"


@dataclass(frozen=True, slots=True)
class Quirks:
    """Departures from the drafts that make known clients work; each can be switched off."""

    whole_group_for_moq_net: bool = True
    """``@moq/net`` asks for Largest Object and then insists on object 0 of a group: a client that
    offers a ``moq-lite`` protocol, or names itself so in SETUP, gets the running group from its start."""


@dataclass(frozen=True, slots=True)
class AgentLimits:
    """Bounds on what peers can make the agent hold."""

    sessions_max: int = 20_000
    subscriptions_max: int = 100_000
    subscriptions_per_session_max: int = 512
    pending_per_track_max: int = 20_000
    tracks_max: int = 10_000
    published_tracks_per_session_max: int = 512
    namespaces_max: int = 20_000
    namespaces_per_session_max: int = 4_096
    prefixes_per_session_max: int = 64
    hop_path_max: int = HOP_PATH_NODES_MAX


@dataclass(frozen=True, slots=True)
class TrackTiming:
    """How long the agent waits for what, milliseconds."""

    publisher_grace_ms: int = 10_000
    """Viewers of a lost publisher are kept this long."""
    track_linger_ms: int = 2_000
    """An upstream subscription without viewers is kept this long."""
    rendezvous_ms_max: int = 60_000
    """Longest wait for a publisher that a SUBSCRIBE can ask for."""
    rendezvous_retry_ms: int = 250
    """While somebody waits, a publisher that did not know the track is asked again this often."""
    subscribe_ms_max: int = 5_000
    """An upstream that has not answered a SUBSCRIBE by then counts as refusing."""
    takeover_ms: int = 1_000
    """A publisher whose tracks stand still this long, while another one offers the same, is replaced."""
    late_stream_ms: int = 1_500
    """Data streams may arrive this long after the PUBLISH_DONE that ends their track."""
    setup_ms_max: int = 10_000
    """A session without SETUP is closed after this."""
    drain_ms: int = 10_000
    """GOAWAY gives peers this long."""
    drain_publishers_ms: int = 3_000
    """A drain gives publishers, and the edges that follow them, a start of this much before viewers."""
    drain_children_ms: int = 2_000
    """A drain gives the edges below a start of this much before viewers are sent away, and as much time to
    find their own way where they have not followed a publisher."""
    standby_retry_ms: int = 5_000
    """A standby that was refused, or did not answer, is asked again after this."""
    switch_ms_max: int = 3_000
    """A planned move that has not delivered by then is forced where the track is idle, else given up."""
    return_ms: int = 10_000
    """After an escape the plan's parent is taken again this much later; twice as late after each further."""
    return_ms_max: int = 300_000
    """Longest wait before that."""
    escapes_kept_ms: int = 900_000
    """After so long without an escape those before are forgotten."""
    reroute_ms: int = 2_000
    """A track's new route is told to the edges below when it has lasted this long."""


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """Per track and per viewer bounds handed to the datapath."""

    cache_bytes_max: int = 64 << 20
    cache_ms_max: int = 10_000
    cache_groups_max: int = 64
    queue_bytes_max: int = 8 << 20
    queue_ms_max: int = 2_000
    layer_ms_max: int = 250
    """A viewer whose first waiting byte is older gives up its highest layer (subgroup above 0)."""
    unheard_ms_max: int = 500
    """A viewer of whom nothing is heard for so long gets the newest group alone: later than that players
    leave pictures out (``kOldRenderTimestampMS`` of WebRTC)."""


HOP_LOSS_MAX_PERMILLE: Final = 150
"""Of what is due in a second: beyond it repairs cost more than another way does."""
HOP_RTT_MAX_MS: Final = 800
"""About twice as far as any pair of the measured matrices, and what is repaired once over such a hop cannot
be on a screen 600 ms after it was filmed: a queue or a detour, not distance."""


@dataclass(frozen=True, slots=True)
class PlanHops:
    """How the edges of a plan are reached: by which identity, and where otherwise than the plan says.

    ``addresses``: node id to ``ip:port``. A hop with more received loss than ``loss_max_permille`` in a
    second, or a longer smoothed round trip than ``rtt_max_us``, is left by its tracks (0: no bound).
    """

    tls: ClientTls
    addresses: Mapping[str, str] = field(default_factory=dict)
    loss_max_permille: int = HOP_LOSS_MAX_PERMILLE
    rtt_max_us: int = HOP_RTT_MAX_MS * 1_000


PeerIdentity: TypeAlias = Callable[[Sequence[bytes]], str | None]
"""Node id that a certificate chain (DER, leaf first) vouches for, or ``None``."""


PeerCertificate: TypeAlias = Callable[[Sequence[bytes]], Certified | None]
"""What such a chain says of its edge, for revocations; ``None`` if it names none."""


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """Everything the agent is told at its start.

    ``seed`` spreads reconnects and makes track incarnations of two runs differ: the shell draws it.
    ``peer_identity`` reads a hop's certificate; without it the node id in a hop's SETUP is believed.
    ``recovery``: what hops spend on repairs; ``second_paths``: which tracks come over two at the same time.
    ``plan_hops``: without it plans are followed as far as they need no hop.
    ``ahead``: names of the tracks that are taken of every known namespace before anybody asks (see `ahead`).
    ``access``: what clients may do until a plan says it; ``None`` is everything, whatever plans say.
    """

    node_id: str
    region: str = ""
    upstreams: tuple[Upstream, ...] = ()
    seed: int = 0
    quirks: Quirks = field(default_factory=Quirks)
    limits: AgentLimits = field(default_factory=AgentLimits)
    timing: TrackTiming = field(default_factory=TrackTiming)
    media: MediaLimits = field(default_factory=MediaLimits)
    backoff: BackoffConfig = field(default_factory=BackoffConfig)
    peer_identity: PeerIdentity | None = None
    peer_certificate: PeerCertificate | None = None
    plan_hops: PlanHops | None = None
    access: AccessPolicy | None = None
    ahead: tuple[bytes, ...] = ()
    recovery: Assumptions = field(default_factory=Assumptions)
    second_paths: SecondPaths = field(default_factory=SecondPaths)

    def __post_init__(self) -> None:
        check_node_text("node id", self.node_id)
        check_node_text("region", self.region or "-")


def check_node_text(what: str, text: str) -> None:
    """Raise ``ValueError`` for a node id or region that cannot be told to other edges."""
    if not text or not text.isprintable():
        raise ValueError(f"{what} {text!r} must consist of printable characters")
    if len(text.encode()) > NODE_TEXT_BYTES_MAX:
        raise ValueError(f"{what} {text!r} is longer than {NODE_TEXT_BYTES_MAX} bytes")
