"""The Rust datapath: QUIC, WebTransport, MoQT data streams, tracks, forwarding, hop recovery.

An agent sends ``Command`` objects down and gets ``Event`` objects up; a shell carries them: ``Runtime``
over real sockets and threads, or ``World`` over modelled links on a virtual clock. Nothing here runs per
packet or, in a relay, per object.

Conventions:

- Times are integer microseconds since the start of the ``Runtime`` or ``World`` (``now_us``).
- Locations are ``(group, object)`` tuples. Addresses are ``"ip:port"`` strings. Drafts are 16 or 18.
- Session ids: incoming ones are even and made by the datapath, outgoing ones are odd and made by the
  agent. Stream keys that the agent makes have ``LOCAL_STREAM_BIT`` set.
- Object properties are key-value pairs with delta-coded types and RFC 9000 varints (draft 16's form),
  whatever the session's draft.
- ``Command`` and ``Event`` objects are immutable, compare by value, and can be matched by class pattern.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias, TypedDict, final, type_check_only

_Location: TypeAlias = tuple[int, int]
_Draft: TypeAlias = Literal[16, 18]
_Congestion: TypeAlias = Literal["media", "cubic", "newreno", "bbr3"]
_Transport: TypeAlias = Literal["quic", "webtransport", "hop", "control"]
_StreamKind: TypeAlias = Literal["control", "request"]
_ClosedBy: TypeAlias = Literal["local", "peer", "timeout", "tls", "transport"]
_SwitchCause: TypeAlias = Literal["silent", "closed", "loss", "delay", "starved", "command"]
_GroupOrder: TypeAlias = Literal["ascending", "descending"]

CORE_VERSION: Final[str]
"""Version of the Rust crates; equal to ``farcast.__version__`` unless the build is stale."""

LOCAL_STREAM_BIT: Final[int]
"""Set in every stream key that the agent makes: ``LOCAL_STREAM_BIT | n``."""

class CoreError(ValueError):
    """Certificates, keys or trust roots that TLS refuses; the text says why."""

# ---- TLS and settings --------------------------------------------------------------------------

@final
class ServerTls:
    """TLS of a listener: the public side, and the side that other edges see if it takes part in hops.

    Certificates and keys are DER; chains are leaf first; keys are PKCS#8. The three hop arguments go
    together: our identity towards other edges, and the roots that theirs must chain to.

    Raises ``CoreError`` for what cannot be used, ``ValueError`` if only some hop arguments are given.
    """

    def __new__(
        cls,
        public_chain: Sequence[bytes],
        public_key: bytes,
        hop_chain: Sequence[bytes] | None = None,
        hop_key: bytes | None = None,
        hop_roots: Sequence[bytes] | None = None,
    ) -> Self: ...
    def renew_hop(self, chain: Sequence[bytes], key: bytes) -> None:
        """Show this identity to edges from the next handshake on, in the running listener too; connections
        that stand go on. Raises ``CoreError``, and then nothing changes."""

@final
class ClientTls:
    """TLS of outgoing connections: whom to trust, and which certificate to show (hops).

    Exactly one of: ``roots`` (DER; the server's chain must end in one of them), ``fingerprints`` (SHA-256
    of the server's leaf certificate, 32 bytes each), ``insecure=True`` (anybody; development only).
    ``chain`` and ``key`` (DER, PKCS#8) go together.

    Raises ``CoreError`` for what cannot be used, ``ValueError`` for a wrong combination.
    """

    def __new__(
        cls,
        roots: Sequence[bytes] | None = None,
        fingerprints: Sequence[bytes] | None = None,
        insecure: bool = False,
        chain: Sequence[bytes] | None = None,
        key: bytes | None = None,
    ) -> Self: ...

@final
class DatapathConfig:
    """Settings of one datapath. A limit that is ``None`` has its default; reading it gives the value."""

    def __new__(
        cls,
        server: ServerTls | None = None,
        drafts: Sequence[int] = (18, 16),
        seed: int | None = None,
        *,
        moq_net_quirk: bool = True,
        control: bool = False,
        congestion: _Congestion | None = None,
        congestion_limits: CongestionLimits | None = None,
        sessions_max: int | None = None,
        uni_streams_max: int | None = None,
        bidi_streams_max: int | None = None,
        stream_window_bytes: int | None = None,
        connection_window_bytes: int | None = None,
        send_window_bytes: int | None = None,
        send_queue_ms: int | None = None,
        idle_timeout_ms: int | None = None,
        hop_idle_timeout_ms: int | None = None,
        keep_alive_ms: int | None = None,
        silence_ms: int | None = None,
        initial_rtt_ms: int | None = None,
        handshakes_max: int | None = None,
        handshake_timeout_ms: int | None = None,
        control_pending_bytes_max: int | None = None,
        control_session_pending_bytes_max: int | None = None,
        stream_header_timeout_ms: int | None = None,
        object_bytes_max: int | None = None,
        unbound_bytes_max: int | None = None,
        cache_total_bytes_max: int | None = None,
        control_event_bytes_max: int | None = None,
        hop_heartbeat_ms: int | None = None,
        hop_heartbeat_gap_ms: int | None = None,
        hop_heartbeat_idle_ms: int | None = None,
        hop_silent_ms: int | None = None,
        hop_silent_idle_ms: int | None = None,
        hop_reorder_ms: int | None = None,
        hop_bounds_packets_min: int | None = None,
        hop_switch_hold_ms: int | None = None,
        hop_budget_ms: int | None = None,
        hop_repair_percent_max: int | None = None,
        hop_repair_burst_bytes: int | None = None,
        hop_repair_bps_min: int | None = None,
        hop_repairs_planned_max: int | None = None,
        hop_coded_bytes_max: int | None = None,
    ) -> Self: ...
    @property
    def server(self) -> ServerTls | None:
        """Certificates of the listener; ``None`` for a client that never listens."""
    @property
    def drafts(self) -> list[_Draft]:
        """Drafts that incoming sessions may use, most wanted first."""
    @property
    def seed(self) -> int | None:
        """Makes connection ids and packet numbers reproducible; ``None`` outside of the simulator."""
    @property
    def hop_idle_timeout_ms(self) -> int:
        """A hop that hears nothing this long is dead."""
    @property
    def keep_alive_ms(self) -> int:
        """A public connection that heard nothing this long asks its peer for a sign of life."""
    @property
    def silence_ms(self) -> int:
        """An outgoing public session that hears nothing this long is reported; 0 is never."""
    @property
    def initial_rtt_ms(self) -> int:
        """What a round trip is taken to be before one was measured; a lost first packet costs three."""
    @property
    def cache_total_bytes_max(self) -> int:
        """Bytes held over all tracks."""
    @property
    def moq_net_quirk(self) -> bool:
        """Clients whose offer marks them as ``@moq/net`` get draft 16 over WebTransport."""
    @property
    def congestion(self) -> _Congestion:
        """Congestion controller of public sessions."""
    @property
    def control(self) -> bool:
        """Edges may open control sessions (ALPN ``farcast-control/1``).

        They show a certificate of the hop's roots. A listener without hop arguments in its ``ServerTls``
        cannot have them: making the datapath then raises ``CoreError``.
        """
    @property
    def handshakes_max(self) -> int:
        """Connection attempts that wait for their first answer, at once."""
    @property
    def handshake_timeout_ms(self) -> int:
        """A session that is not open after this many milliseconds is given up."""
    @property
    def control_pending_bytes_max(self) -> int:
        """Bytes written to control and request streams that the peer has not taken, per session."""
    @property
    def control_session_pending_bytes_max(self) -> int:
        """The same on a control session, where a message may be a whole plan."""
    @property
    def sessions_max(self) -> int:
        """Concurrent sessions."""
    @property
    def uni_streams_max(self) -> int:
        """Unidirectional (data) streams that a peer may have open."""
    @property
    def bidi_streams_max(self) -> int:
        """Bidirectional (request) streams that a peer may have open."""
    @property
    def stream_window_bytes(self) -> int:
        """Flow-control window of one stream."""
    @property
    def connection_window_bytes(self) -> int:
        """Flow-control window of one connection."""
    @property
    def send_window_bytes(self) -> int:
        """Sent and not acknowledged, or waiting inside QUIC, per connection."""
    @property
    def send_queue_ms(self) -> int:
        """What QUIC takes of media beyond what is under way, as time at the session's rate."""
    @property
    def idle_timeout_ms(self) -> int:
        """A connection that hears nothing this long is dead."""
    @property
    def stream_header_timeout_ms(self) -> int:
        """A data stream whose header is not complete, or whose alias is not bound, by then is stopped."""
    @property
    def object_bytes_max(self) -> int:
        """Largest object, properties included."""
    @property
    def unbound_bytes_max(self) -> int:
        """Chunks of one hop whose alias is not bound yet."""
    @property
    def control_event_bytes_max(self) -> int:
        """Longest control-stream data in one ``StreamData`` event."""
    @property
    def hop_heartbeat_ms(self) -> int:
        """Heartbeat interval of a hop that carries media, or has a standby upstream."""
    @property
    def hop_heartbeat_gap_ms(self) -> int:
        """Closest that such heartbeats come where loss in bursts asks for more of them."""
    @property
    def hop_heartbeat_idle_ms(self) -> int:
        """Heartbeat interval of any other hop."""
    @property
    def hop_silent_ms(self) -> int:
        """Silence after which a peer counts as gone while the short heartbeats run."""
    @property
    def hop_silent_idle_ms(self) -> int:
        """Silence after which it counts as gone otherwise; at least three of the peer's intervals."""
    @property
    def hop_reorder_ms(self) -> int:
        """How long a missing datagram of a hop may still come before it counts as lost."""
    @property
    def hop_bounds_packets_min(self) -> int:
        """Datagrams due within a second without which its loss is no reason to leave a hop."""
    @property
    def hop_switch_hold_ms(self) -> int:
        """How long a track stays where it went because of loss or delay."""
    @property
    def hop_budget_ms(self) -> int:
        """What an object may take through the network, from its first edge to that of its viewers."""

    @property
    def hop_repair_percent_max(self) -> int:
        """Bytes of repairs of every kind per 100 bytes of new media."""

    @property
    def hop_repair_burst_bytes(self) -> int:
        """How far repairs may run ahead of that."""

    @property
    def hop_repair_bps_min(self) -> int:
        """What repairs may have besides, bit/s."""

    @property
    def hop_repairs_planned_max(self) -> int:
        """Repairs that wait for their time."""

    @property
    def hop_coded_bytes_max(self) -> int:
        """Shards and repair symbols kept to solve coded rounds."""

@final
class CacheLimits:
    """How much of a track is kept for late joiners. Immutable, compares by value."""

    __match_args__ = ("cache_bytes_max", "cache_ms_max", "cache_groups_max")
    def __new__(
        cls, cache_bytes_max: int = 67_108_864, cache_ms_max: int = 10_000, cache_groups_max: int = 64
    ) -> Self: ...
    @property
    def cache_bytes_max(self) -> int:
        """Bytes over all groups of the track."""
    @property
    def cache_ms_max(self) -> int:
        """Age at which a group that is not the newest goes."""
    @property
    def cache_groups_max(self) -> int:
        """Groups kept at most, the running one included."""

@final
class CongestionLimits:
    """Limits of the media controller. Immutable, compares by value.

    `DatapathConfig` refuses impossible ones with a `ValueError` that names the limit.
    """

    __match_args__ = (
        "rate_initial_bps",
        "rate_min_bps",
        "rate_max_bps",
        "initial_packets",
        "queue_delay_ms_max",
        "outage_ms",
        "loss_max_permille",
    )
    def __new__(
        cls,
        rate_initial_bps: int = 2_000_000,
        rate_min_bps: int = 64_000,
        rate_max_bps: int = 1_000_000_000,
        initial_packets: int = 24,
        queue_delay_ms_max: int = 25,
        outage_ms: int = 1_000,
        loss_max_permille: int = 250,
    ) -> Self: ...
    @property
    def rate_initial_bps(self) -> int:
        """Rate at the start."""
    @property
    def rate_min_bps(self) -> int:
        """Lowest rate."""
    @property
    def rate_max_bps(self) -> int:
        """Highest rate."""
    @property
    def initial_packets(self) -> int:
        """Packets under way before the first round trip is known."""
    @property
    def queue_delay_ms_max(self) -> int:
        """Standing queue beyond which the rate goes down."""
    @property
    def outage_ms(self) -> int:
        """Outage that the window rides out."""
    @property
    def loss_max_permille(self) -> int:
        """Lasting loss beyond which the rate goes down whatever the cause."""

@final
class QueueLimits:
    """Limits of one downstream's backlog. Immutable, compares by value.

    Beyond either limit its oldest groups of the lowest priority go.
    """

    __match_args__ = ("queue_bytes_max", "queue_ms_max", "layer_ms_max", "unheard_ms_max")
    def __new__(
        cls,
        queue_bytes_max: int = 8_388_608,
        queue_ms_max: int = 2_000,
        layer_ms_max: int = 250,
        unheard_ms_max: int = 500,
    ) -> Self: ...
    @property
    def queue_bytes_max(self) -> int:
        """Bytes that wait for the viewer, over all its open groups."""
    @property
    def queue_ms_max(self) -> int:
        """How long the first waiting byte may wait."""
    @property
    def layer_ms_max(self) -> int:
        """How long it may wait before the highest layer (subgroup above 0) is given up."""
    @property
    def unheard_ms_max(self) -> int:
        """A viewer of whom nothing is heard for so long gets the newest group alone."""

@final
class LargestCell:
    """The largest location of a track, shared between the datapath, which writes it, and the agent."""

    def __new__(cls) -> Self: ...
    def get(self) -> _Location | None:
        """The largest location so far, ``None`` before the first object."""
    def set(self, location: _Location | None) -> None:
        """Replace it; ``None`` forgets it."""

# ---- Commands ----------------------------------------------------------------------------------

@final
class HopPolicy:
    """The repair policy of a hop, checked: rows that are tried in order.

    A row: (loss_ppm_max, burst_milli_max, rtt_us_max, budget_ms_min, again, spacing_us, collect_us, span_us,
    coded, small_copies, essential, disposable); 0 for any burst or RTT. With an RTT: another round fits after
    this one. ``again``: only for what a round has not brought. The last two have 16 entries: datagrams of a
    round that repairs 1, 2, ... chunks.

    Raises ``ValueError`` that names the first row that cannot be.
    """

    def __new__(
        cls,
        rows: Sequence[
            tuple[int, int, int, int, bool, int, int, int, bool, int, Sequence[int], Sequence[int]]
        ],
        disposable_priority_min: int = 256,
    ) -> Self: ...

@final
class SecondPathPolicy:
    """Which tracks of a hop take a second path, checked: rows that are tried in order.

    A row: (loss_ppm_max, rtt_us_max, rise_us_max, small, large); 0 for any RTT or rise. The last two are
    ``off``, ``keep`` or ``on``, for tracks up to ``small_bps_max`` and for all others. Without rows nothing
    takes one. The limits are those of ``second_policy.rs``.

    Raises ``ValueError`` that names what cannot be.
    """

    def __new__(
        cls,
        rows: Sequence[tuple[int, int, int, str, str]],
        *,
        small_bps_max: int,
        tracks_max: int,
        percent_max: int,
        bps_max: int,
        clear_ms: int,
        runs_min: int,
    ) -> Self: ...

class Command:
    """What the agent tells the datapath; each kind is a nested class.

    A command never fails: one that names a session, stream, track or downstream which is gone is
    ignored, because its end was or will be reported by an event and the two may cross.
    """

    __hash__: ClassVar[None]  # type: ignore[assignment]

    @final
    class Connect(Command):
        """Open a connection; answered by ``Event.SessionOpened`` or ``Event.SessionClosed``.

        ``session`` is odd. ``server_name`` is the name to verify in the server's certificate. ``drafts``
        are offered, most wanted first; hop and control ignore them. ``authority`` (``host:port``) and
        ``path`` (with its query, starting with a slash) are WebTransport's.
        """

        __match_args__ = ("session", "remote", "server_name", "target", "tls", "drafts", "authority", "path")
        def __new__(
            cls,
            session: int,
            remote: str,
            server_name: str,
            target: _Transport,
            tls: ClientTls,
            drafts: Sequence[int] = (18, 16),
            authority: str = "",
            path: str = "/",
        ) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def remote(self) -> str: ...
        @property
        def server_name(self) -> str: ...
        @property
        def target(self) -> _Transport: ...
        @property
        def tls(self) -> ClientTls: ...
        @property
        def drafts(self) -> list[_Draft]: ...
        @property
        def authority(self) -> str: ...
        @property
        def path(self) -> str: ...

    @final
    class Close(Command):
        """Close a session with a MoQT session error code (0 is no error)."""

        __match_args__ = ("session", "code", "reason")
        def __new__(cls, session: int, code: int = 0, reason: str = "") -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def code(self) -> int: ...
        @property
        def reason(self) -> str: ...

    @final
    class OpenStream(Command):
        """Open a control (unidirectional) or request (bidirectional) stream; writes may follow at once.

        ``stream`` is ``LOCAL_STREAM_BIT | n`` with an ``n`` not used before in the session.
        """

        __match_args__ = ("session", "stream", "bidi")
        def __new__(cls, session: int, stream: int, bidi: bool) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def stream(self) -> int: ...
        @property
        def bidi(self) -> bool: ...

    @final
    class Write(Command):
        """Append to a control or request stream; ``fin`` ends our side of it."""

        __match_args__ = ("session", "stream", "data", "fin")
        def __new__(cls, session: int, stream: int, data: bytes, fin: bool = False) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def stream(self) -> int: ...
        @property
        def data(self) -> bytes: ...
        @property
        def fin(self) -> bool: ...

    @final
    class ResetStream(Command):
        """Reset our side of a stream."""

        __match_args__ = ("session", "stream", "code")
        def __new__(cls, session: int, stream: int, code: int) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def stream(self) -> int: ...
        @property
        def code(self) -> int: ...

    @final
    class StopStream(Command):
        """Ask the peer to stop sending on a stream."""

        __match_args__ = ("session", "stream", "code")
        def __new__(cls, session: int, stream: int, code: int) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def stream(self) -> int: ...
        @property
        def code(self) -> int: ...

    @final
    class AddTrack(Command):
        """Begin to hold a track. ``largest`` is written by the datapath from then on."""

        __match_args__ = ("track", "largest", "cache")
        def __new__(cls, track: int, largest: LargestCell, cache: CacheLimits = ...) -> Self: ...
        @property
        def track(self) -> int: ...
        @property
        def largest(self) -> LargestCell: ...
        @property
        def cache(self) -> CacheLimits: ...

    @final
    class RemoveTrack(Command):
        """Forget a track, its cache, and what is bound to it."""

        __match_args__ = ("track",)
        def __new__(cls, track: int) -> Self: ...
        @property
        def track(self) -> int: ...

    @final
    class BindUpstream(Command):
        """Objects with this alias in this session feed the track.

        ``restart_allowed``: the upstream is a new one, and if its first object lies at or below what the
        old one reached, the track starts over (``Event.TrackRestarted``).
        """

        __match_args__ = ("session", "alias", "track", "default_priority", "restart_allowed")
        def __new__(
            cls,
            session: int,
            alias: int,
            track: int,
            default_priority: int = 128,
            restart_allowed: bool = False,
        ) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def alias(self) -> int: ...
        @property
        def track(self) -> int: ...
        @property
        def default_priority(self) -> int: ...
        @property
        def restart_allowed(self) -> bool: ...

    @final
    class BindStandby(Command):
        """A paused subscription of the track at a hop's peer, which takes over when the active one fails.

        The lowest ``rank`` goes first. Said again, it has the new rank. Ignored on a session that is no hop.
        """

        __match_args__ = ("session", "alias", "track", "default_priority", "rank")
        def __new__(
            cls, session: int, alias: int, track: int, default_priority: int = 128, rank: int = 0
        ) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def alias(self) -> int: ...
        @property
        def track(self) -> int: ...
        @property
        def default_priority(self) -> int: ...
        @property
        def rank(self) -> int: ...

    @final
    class SwitchUpstream(Command):
        """Move a track to one of its standbys while the active upstream still runs.

        Both send until the standby has delivered; then it is the active one (``Event.UpstreamSwitched``)
        and the other one the last standby.
        """

        __match_args__ = ("track", "session", "alias")
        def __new__(cls, track: int, session: int, alias: int) -> Self: ...
        @property
        def track(self) -> int: ...
        @property
        def session(self) -> int: ...
        @property
        def alias(self) -> int: ...

    @final
    class ReachBack(Command):
        """Have the upstream that feeds a track, if it is a hop's, send it from an older place on.

        Older than the one from which it was subscribed; what was held here and is evicted is not asked for.
        """

        __match_args__ = ("track", "start")
        def __new__(cls, track: int, start: tuple[int, int]) -> Self: ...
        @property
        def track(self) -> int: ...
        @property
        def start(self) -> tuple[int, int]: ...

    @final
    class HopPolicy(Command):
        """What to spend on losses of a hop; coded rows are for peers that offer it (NODE option)."""

        __match_args__ = ("session", "policy")
        def __new__(cls, session: int, policy: HopPolicy) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def policy(self) -> HopPolicy: ...

    @final
    class HopSecondPaths(Command):
        """Which tracks that a hop brings take a second path beside it, from now on."""

        __match_args__ = ("session", "table")
        def __new__(cls, session: int, table: SecondPathPolicy) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def table(self) -> SecondPathPolicy: ...

    @final
    class HopBounds(Command):
        """Beyond this loss (received, last second) or smoothed round trip, a hop's tracks move to standbys.

        Only to hops that are heard and within their own bounds. 0 is no bound.
        """

        __match_args__ = ("session", "loss_max_permille", "rtt_max_us")
        def __new__(cls, session: int, loss_max_permille: int = 0, rtt_max_us: int = 0) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def loss_max_permille(self) -> int: ...
        @property
        def rtt_max_us(self) -> int: ...

    @final
    class UnbindUpstream(Command):
        """Objects with this alias are no longer wanted; their open streams are stopped.

        If it was the active upstream of its track, the next standby takes over as if its session had
        closed: where the track is over, unbind the standbys first, or remove the track.
        """

        __match_args__ = ("session", "alias")
        def __new__(cls, session: int, alias: int) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def alias(self) -> int: ...

    @final
    class AddDownstream(Command):
        """Send the track to a session from a location on; what the cache holds of it goes at once.

        ``end_group`` is the last group to be sent. ``subscriber_priority``: 0 goes first, 255 last.
        ``forward=False`` pauses the subscription.
        """

        __match_args__ = (
            "downstream",
            "session",
            "alias",
            "track",
            "start",
            "end_group",
            "subscriber_priority",
            "group_order",
            "forward",
            "limits",
        )
        def __new__(
            cls,
            downstream: int,
            session: int,
            alias: int,
            track: int,
            start: _Location,
            end_group: int | None = None,
            subscriber_priority: int = 128,
            group_order: _GroupOrder = "ascending",
            forward: bool = True,
            limits: QueueLimits = ...,
        ) -> Self: ...
        @property
        def downstream(self) -> int: ...
        @property
        def session(self) -> int: ...
        @property
        def alias(self) -> int: ...
        @property
        def track(self) -> int: ...
        @property
        def start(self) -> _Location: ...
        @property
        def end_group(self) -> int | None: ...
        @property
        def subscriber_priority(self) -> int: ...
        @property
        def group_order(self) -> _GroupOrder: ...
        @property
        def forward(self) -> bool: ...
        @property
        def limits(self) -> QueueLimits: ...

    @final
    class UpdateDownstream(Command):
        """Change a downstream; ``None`` leaves a field as it is."""

        __match_args__ = ("downstream", "start", "end_group", "subscriber_priority", "forward")
        def __new__(
            cls,
            downstream: int,
            start: _Location | None = None,
            end_group: int | None = None,
            subscriber_priority: int | None = None,
            forward: bool | None = None,
        ) -> Self: ...
        @property
        def downstream(self) -> int: ...
        @property
        def start(self) -> _Location | None: ...
        @property
        def end_group(self) -> int | None: ...
        @property
        def subscriber_priority(self) -> int | None: ...
        @property
        def forward(self) -> bool | None: ...

    @final
    class RemoveDownstream(Command):
        """End a downstream: its open streams are reset with ``code``; ``Event.DownstreamEnded`` answers."""

        __match_args__ = ("downstream", "code")
        def __new__(cls, downstream: int, code: int = 0) -> Self: ...
        @property
        def downstream(self) -> int: ...
        @property
        def code(self) -> int: ...

    @final
    class FinishDownstream(Command):
        """Let a downstream finish what its open groups already have; ``Event.DownstreamEnded`` answers."""

        __match_args__ = ("downstream",)
        def __new__(cls, downstream: int) -> Self: ...
        @property
        def downstream(self) -> int: ...

    @final
    class AddSink(Command):
        """Give the objects of a track to the agent as ``Event.Object``, from a location on."""

        __match_args__ = ("downstream", "track", "start")
        def __new__(cls, downstream: int, track: int, start: _Location) -> Self: ...
        @property
        def downstream(self) -> int: ...
        @property
        def track(self) -> int: ...
        @property
        def start(self) -> _Location: ...

    @final
    class Publish(Command):
        """Publish one whole object of a local track.

        ``object`` rises inside a subgroup. ``priority``: 0 goes first, 255 last. ``status``: 0 normal, 3
        end of group, 4 end of track; only 0 has a payload. ``end_of_subgroup``: no further object of this
        subgroup follows. ``end_of_group``: this subgroup holds the last object of the group.
        """

        __match_args__ = (
            "track",
            "group",
            "subgroup",
            "object",
            "payload",
            "priority",
            "status",
            "properties",
            "end_of_subgroup",
            "end_of_group",
        )
        def __new__(
            cls,
            track: int,
            group: int,
            subgroup: int,
            object: int,
            payload: bytes,
            priority: int = 128,
            status: int = 0,
            properties: bytes = b"",
            end_of_subgroup: bool = False,
            end_of_group: bool = False,
        ) -> Self: ...
        @property
        def track(self) -> int: ...
        @property
        def group(self) -> int: ...
        @property
        def subgroup(self) -> int: ...
        @property
        def object(self) -> int: ...
        @property
        def payload(self) -> bytes: ...
        @property
        def priority(self) -> int: ...
        @property
        def status(self) -> int: ...
        @property
        def properties(self) -> bytes: ...
        @property
        def end_of_subgroup(self) -> bool: ...
        @property
        def end_of_group(self) -> bool: ...

    @final
    class Snapshot(Command):
        """Ask for all counters; answered by ``Event.Snapshot`` with the same token."""

        __match_args__ = ("token",)
        def __new__(cls, token: int) -> Self: ...
        @property
        def token(self) -> int: ...

# ---- Events ------------------------------------------------------------------------------------

class Event:
    """What the datapath tells the agent; each kind is a nested class.

    Nothing here happens per packet. ``Object`` and ``SinkSubgroupEnded`` exist only for local sinks.
    """

    __hash__: ClassVar[None]  # type: ignore[assignment]

    @final
    class SessionOpened(Event):
        """A session is ready for its MoQT set-up messages.

        ``draft`` is the one agreed on (hops speak draft 18's shape). ``incoming``: the peer opened it.
        ``offered``: the peer's ALPN tokens or its ``WT-Available-Protocols``. ``authority`` and ``path``
        are WebTransport's, empty elsewhere. ``peer_certificates``: DER, leaf first; empty where none was
        asked for.
        """

        __match_args__ = (
            "session",
            "transport",
            "draft",
            "incoming",
            "remote",
            "offered",
            "authority",
            "path",
            "peer_certificates",
        )
        def __new__(
            cls,
            session: int,
            transport: _Transport,
            draft: int,
            incoming: bool,
            remote: str,
            offered: Sequence[str] = (),
            authority: str = "",
            path: str = "",
            peer_certificates: Sequence[bytes] = (),
        ) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def transport(self) -> _Transport: ...
        @property
        def draft(self) -> _Draft: ...
        @property
        def incoming(self) -> bool: ...
        @property
        def remote(self) -> str: ...
        @property
        def offered(self) -> list[str]: ...
        @property
        def authority(self) -> str: ...
        @property
        def path(self) -> str: ...
        @property
        def peer_certificates(self) -> list[bytes]: ...

    @final
    class SessionClosed(Event):
        """A session, or the attempt to make one, is over.

        ``code`` is the MoQT or QUIC code, ``reason`` a sentence for people. ``by``: ``local`` (a ``Close``,
        or the peer broke the protocol), ``peer``, ``timeout`` (nothing was heard), ``tls`` (certificate,
        ALPN or identity refused by either side), ``transport`` (any other transport error).
        """

        __match_args__ = ("session", "by", "code", "reason")
        def __new__(cls, session: int, by: _ClosedBy, code: int = 0, reason: str = "") -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def by(self) -> _ClosedBy: ...
        @property
        def code(self) -> int: ...
        @property
        def reason(self) -> str: ...

    @final
    class StreamData(Event):
        """Bytes of a control or request stream, in order; ``fin``: the peer's side ended with them."""

        __match_args__ = ("session", "stream", "kind", "data", "fin")
        def __new__(
            cls, session: int, stream: int, kind: _StreamKind, data: bytes, fin: bool = False
        ) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def stream(self) -> int: ...
        @property
        def kind(self) -> _StreamKind: ...
        @property
        def data(self) -> bytes: ...
        @property
        def fin(self) -> bool: ...

    @final
    class StreamReset(Event):
        """The peer reset its side of a control or request stream."""

        __match_args__ = ("session", "stream", "code")
        def __new__(cls, session: int, stream: int, code: int) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def stream(self) -> int: ...
        @property
        def code(self) -> int: ...

    @final
    class StreamStopped(Event):
        """The peer asked us to stop sending on a control or request stream."""

        __match_args__ = ("session", "stream", "code")
        def __new__(cls, session: int, stream: int, code: int) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def stream(self) -> int: ...
        @property
        def code(self) -> int: ...

    @final
    class TrackRestarted(Event):
        """The track started over below its old largest location; its old cache and streams are gone.

        ``downstreams`` had the old one: they get nothing of the new one, and are to be ended or added again.
        """

        __match_args__ = ("track", "downstreams")
        def __new__(cls, track: int, downstreams: Sequence[int]) -> Self: ...
        @property
        def track(self) -> int: ...
        @property
        def downstreams(self) -> list[int]: ...

    @final
    class TrackMalformed(Event):
        """An upstream sent what no track can hold (another payload for the same object, …)."""

        __match_args__ = ("session", "alias", "track", "reason")
        def __new__(cls, session: int, alias: int, track: int, reason: str) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def alias(self) -> int: ...
        @property
        def track(self) -> int: ...
        @property
        def reason(self) -> str: ...

    @final
    class DownstreamEnded(Event):
        """A downstream is over; ``streams`` were opened for it in all (PUBLISH_DONE wants the number)."""

        __match_args__ = ("downstream", "streams")
        def __new__(cls, downstream: int, streams: int) -> Self: ...
        @property
        def downstream(self) -> int: ...
        @property
        def streams(self) -> int: ...

    @final
    class Object(Event):
        """One whole object for a local sink, in order inside its subgroup.

        ``first_byte_us`` and ``complete_us``: when its first byte arrived, and when it was whole.
        """

        __match_args__ = (
            "downstream",
            "group",
            "subgroup",
            "object",
            "payload",
            "priority",
            "status",
            "properties",
            "first_byte_us",
            "complete_us",
        )
        def __new__(
            cls,
            downstream: int,
            group: int,
            subgroup: int,
            object: int,
            payload: bytes,
            priority: int = 128,
            status: int = 0,
            properties: bytes = b"",
            first_byte_us: int = 0,
            complete_us: int = 0,
        ) -> Self: ...
        @property
        def downstream(self) -> int: ...
        @property
        def group(self) -> int: ...
        @property
        def subgroup(self) -> int: ...
        @property
        def object(self) -> int: ...
        @property
        def payload(self) -> bytes: ...
        @property
        def priority(self) -> int: ...
        @property
        def status(self) -> int: ...
        @property
        def properties(self) -> bytes: ...
        @property
        def first_byte_us(self) -> int: ...
        @property
        def complete_us(self) -> int: ...

    @final
    class SinkSubgroupEnded(Event):
        """A subgroup of a local sink ended; ``reset``: before its last object."""

        __match_args__ = ("downstream", "group", "subgroup", "end_of_group", "reset")
        def __new__(
            cls, downstream: int, group: int, subgroup: int, end_of_group: bool, reset: bool
        ) -> Self: ...
        @property
        def downstream(self) -> int: ...
        @property
        def group(self) -> int: ...
        @property
        def subgroup(self) -> int: ...
        @property
        def end_of_group(self) -> bool: ...
        @property
        def reset(self) -> bool: ...

    @final
    class HopSilent(Event):
        """Nothing was heard on a hop for its silence limit, or (``silent=False``) something is again."""

        __match_args__ = ("session", "silent")
        def __new__(cls, session: int, silent: bool) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def silent(self) -> bool: ...

    @final
    class UpstreamSwitched(Event):
        """A track has another upstream now: by the datapath's own decision, or by ``SwitchUpstream``.

        ``silent_us``: how long nothing had been heard on the one before, or nothing acknowledged by it, when
        that was noticed; the switch is later where no other upstream was there yet.
        """

        __match_args__ = ("track", "from_session", "from_alias", "session", "alias", "cause", "silent_us")
        def __new__(
            cls,
            track: int,
            from_session: int,
            from_alias: int,
            session: int,
            alias: int,
            cause: _SwitchCause,
            silent_us: int,
        ) -> Self: ...
        @property
        def track(self) -> int: ...
        @property
        def from_session(self) -> int: ...
        @property
        def from_alias(self) -> int: ...
        @property
        def session(self) -> int: ...
        @property
        def alias(self) -> int: ...
        @property
        def cause(self) -> _SwitchCause: ...
        @property
        def silent_us(self) -> int: ...

    @final
    class UpstreamResumed(Event):
        """After a switch, the new upstream brought its first byte that was not held.

        ``gap_us`` is the time since the last new byte by any upstream.
        """

        __match_args__ = ("track", "session", "alias", "gap_us")
        def __new__(cls, track: int, session: int, alias: int, gap_us: int) -> Self: ...
        @property
        def track(self) -> int: ...
        @property
        def session(self) -> int: ...
        @property
        def alias(self) -> int: ...
        @property
        def gap_us(self) -> int: ...

    @final
    class UpstreamDelivers(Event):
        """A data stream of a bound alias brought its first object; only of public sessions of ours, and only
        where ``silence_ms`` is set."""

        __match_args__ = ("session", "alias", "group", "object")
        def __new__(cls, session: int, alias: int, group: int, object: int) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def alias(self) -> int: ...
        @property
        def group(self) -> int: ...
        @property
        def object(self) -> int: ...

    @final
    class SecondPath(Event):
        """An upstream sends the track beside the active one from now on (``on``), or no longer. Where it
        becomes the active one, only ``UpstreamSwitched`` says so."""

        __match_args__ = ("track", "session", "alias", "on")
        def __new__(cls, track: int, session: int, alias: int, on: bool) -> Self: ...
        @property
        def track(self) -> int: ...
        @property
        def session(self) -> int: ...
        @property
        def alias(self) -> int: ...
        @property
        def on(self) -> bool: ...

    @final
    class TrackStarved(Event):
        """No upstream edge of the track can give it now: each is silent, gone, has lost the track itself or
        is fed from here. Or (``starved=False``) one can again."""

        __match_args__ = ("track", "starved")
        def __new__(cls, track: int, starved: bool) -> Self: ...
        @property
        def track(self) -> int: ...
        @property
        def starved(self) -> bool: ...

    @final
    class SessionSilent(Event):
        """Nothing was heard on a public session of ours for ``silence_ms``, or (``silent=False``) something
        is again. The session lives on until its idle timeout."""

        __match_args__ = ("session", "silent")
        def __new__(cls, session: int, silent: bool) -> Self: ...
        @property
        def session(self) -> int: ...
        @property
        def silent(self) -> bool: ...

    @final
    class Snapshot(Event):
        """The answer to ``Command.Snapshot``."""

        __match_args__ = ("token", "snapshot")
        def __new__(cls, token: int, snapshot: SnapshotDict) -> Self: ...
        @property
        def token(self) -> int: ...
        @property
        def snapshot(self) -> SnapshotDict: ...

# ---- Counters ----------------------------------------------------------------------------------

@type_check_only
class TotalsDict(TypedDict):
    """Counters of a whole datapath since its start. ``stalls``: times that it was called 200 ms later than it
    had asked, or more: the process or its machine stood still."""

    udp_datagrams_in: int
    udp_bytes_in: int
    udp_datagrams_out: int
    udp_bytes_out: int
    objects_in: int
    object_bytes_in: int
    objects_out: int
    object_bytes_out: int
    duplicate_bytes_in: int
    second_path_bytes_in: int
    second_path_new_bytes_in: int
    groups_dropped_slow: int
    groups_dropped_evicted: int
    layers_dropped: int
    layer_switches_down: int
    layer_switches_up: int
    queue_bytes_peak: int
    cache_bytes_peak: int
    streams_rejected: int
    datagrams_dropped: int
    protocol_errors: int
    handshakes_refused: int
    stalls: int
    commands: int
    events: int

@type_check_only
class HopStatsDict(TypedDict):
    """Counters of the recovery layer of one hop, this end; gauges are named below.

    ``rtt_*``: now, 0 if not measured; ``rtt_min_us`` is the least of the last ten seconds or so.
    ``rtt_sketch``: all round trips so far, bucket (``ceil(log(rtt_us, 1.02 / 0.98))``) to count.
    ``rx_packets``: numbered datagrams of the peer that were due; ``rx_lost``: those of them that never
    came; ``rx_bursts``: runs of lost ones by length (1, 2, 3-4, 5-8, 9-16, 17-32, 33-64, more);
    ``rx_spacing_us``: mean variation of transit times, now. ``heard_us``: how long ago anything was heard.
    ``is_silent``, ``has_media``: now.
    """

    chunks_sent: int
    chunks_repaired: int
    symbols_sent: int
    symbols_received: int
    chunks_restored: int
    repair_bytes: int
    media_bytes: int
    repairs_withheld: int
    rounds_failed: int
    budget_misses: int
    tx_loss_ppm: int
    tx_burst_milli: int
    chunks_received: int
    chunks_duplicate: int
    chunks_lost: int
    chunks_given_up: int
    chunks_refused: int
    losses_spurious: int
    probe_timeouts: int
    acks_sent: int
    acks_received: int
    heartbeats_sent: int
    queue_bytes: int
    unacked_bytes: int
    groups_shed: int
    datagrams_malformed: int
    datagrams_refused: int
    forwards_received: int
    forwards_refused: int
    rtt_us: int
    rtt_latest_us: int
    rtt_min_us: int
    rtt_variation_us: int
    rtt_sketch: dict[int, int]
    rx_packets: int
    rx_lost: int
    rx_bursts: list[int]
    rx_spacing_us: int
    rx_bytes: int
    tx_bytes: int
    heard_us: int
    is_silent: bool
    has_media: bool

@type_check_only
class SessionStatsDict(TypedDict):
    """State and counters of one session."""

    session: int
    transport: _Transport
    remote: str
    rtt_us: int
    congestion_window_bytes: int
    rate_bps: int
    delivered_bps: int
    pacing_bps: int
    queue_delay_us: int
    is_rate_capped: bool
    is_rate_competing: bool
    congestion: str
    packets_sent: int
    packets_lost: int
    bytes_sent: int
    bytes_received: int
    hop: HopStatsDict | None

@type_check_only
class DownstreamStatsDict(TypedDict):
    """State and counters of one downstream."""

    downstream: int
    session: int
    objects: int
    bytes: int
    groups_dropped: int
    layers_given_up: int
    queue_bytes: int

@type_check_only
class SnapshotDict(TypedDict):
    """All counters of a datapath at one moment."""

    now_us: int
    totals: TotalsDict
    sessions: list[SessionStatsDict]
    downstreams: list[DownstreamStatsDict]
    tracks: int
    tracks_on_two_paths: int
    cache_bytes: int

@type_check_only
class LinkStatsDict(TypedDict):
    """Counters of one direction of a link since it was made."""

    packets_in: int
    bytes_in: int
    packets_delivered: int
    bytes_delivered: int
    packets_lost: int
    packets_lost_large: int
    packets_dropped_queue: int
    packets_dropped_policer: int
    packets_dropped_mtu: int
    packets_dropped_down: int
    packets_duplicated: int
    packets_reordered: int
    queue_bytes_peak: int

@type_check_only
class WorldStatsDict(TypedDict):
    """Counters of a ``World``.

    ``datagrams`` and ``bytes``: what hosts sent, whatever became of it (UDP payload). ``datagrams_no_route``:
    those of them to an address or over a link that does not exist. ``datagrams_host_down``: arrived at a
    host that was stopped or had moved. ``datagrams_socket_full``: arrived at a paused host whose
    socket buffer was full. ``records_dropped``, ``traces_dropped``: objects beyond the limits of a record
    or an object trace.
    """

    datagrams: int
    bytes: int
    datagrams_no_route: int
    datagrams_host_down: int
    datagrams_socket_full: int
    records_dropped: int
    traces_dropped: int

@type_check_only
class ShaperStatsDict(TypedDict):
    """Counters of a ``UdpShaper``."""

    forward: LinkStatsDict
    backward: LinkStatsDict
    clients: int
    datagrams_refused: int
    datagrams_dropped: int

@type_check_only
class IoStatsDict(TypedDict):
    """Counters of a ``Runtime``'s thread and socket since its start.

    ``objects_dropped``: ``Object`` events that were dropped because the agent did not drain them.
    ``gso`` and ``gro``: whether the kernel's offload is in use. The buffers are the kernel's, as granted.
    """

    wakeups: int
    receive_calls: int
    send_calls: int
    datagrams_in: int
    bytes_in: int
    datagrams_out: int
    bytes_out: int
    datagrams_truncated: int
    datagrams_dropped_queue: int
    datagrams_refused: int
    receive_errors: int
    send_blocked: int
    objects_dropped: int
    gso: bool
    gro: bool
    receive_buffer_bytes: int
    send_buffer_bytes: int

# ---- Shells ------------------------------------------------------------------------------------

@final
class Runtime:
    """A datapath on real UDP sockets, in threads of its own that need no interpreter.

    ``listen`` is ``"ip:port"``; port 0 takes a free one. A client listens too: it is the address that it
    sends from. Raises ``OSError`` if the address cannot be bound, ``ValueError`` if it is none.
    """

    def __new__(cls, listen: str, config: DatapathConfig) -> Self: ...
    @property
    def local_addr(self) -> str:
        """The bound address, ``"ip:port"``."""
    @property
    def event_fd(self) -> int:
        """A file descriptor that is readable while events wait; owned by the runtime."""
    def execute(self, commands: Sequence[Command]) -> None:
        """Give commands to the datapath, in order, all or none. After ``close`` they are ignored.

        Raises ``RuntimeError`` if the thread is so far behind that no more commands may wait.
        """
    def drain_events(self, max: int) -> list[Event]:
        """Take the waiting events, oldest first, at most ``max``."""
    def now_us(self) -> int:
        """Microseconds since the start of the runtime, monotonic."""
    def stats(self) -> IoStatsDict:
        """Counters of the thread and its socket."""
    def close(self) -> None:
        """Close all sessions, stop the threads, free the sockets. A second call does nothing."""

@final
class Loss:
    """How a link loses datagrams. Immutable, compares by value; made by the static methods.

    Times are those at which a datagram is put on the wire, in the link's clock (a ``World``'s own). All
    shares are 0 to 1. Raises ``ValueError`` that names the field for what no link can be like.
    """

    @staticmethod
    def random(p: float) -> Loss:
        """Each datagram is lost on its own account."""
    @staticmethod
    def gilbert_elliott(loss: float, burst_packets: float) -> Loss:
        """Bursts of that mean length in packets, and the share ``loss`` in the long run (Gilbert model)."""
    @staticmethod
    def gilbert_elliott_time(loss: float, burst_us: int) -> Loss:
        """Stretches of that mean length in time in which all is lost: the share ``loss`` of all time."""
    @staticmethod
    def two_level(
        p_good: float,
        p_bad: float,
        good_to_bad: float,
        bad_to_good: float,
        *,
        burst_good_packets: float | None = None,
        burst_bad_packets: float | None = None,
    ) -> Loss:
        """Two states, each with a loss of its own (Ellis et al., Computer Networks 70, 2014).

        ``good_to_bad`` and ``bad_to_good`` are chances per packet. Inside a state losses come in bursts
        (Gilbert model) of the mean length given, else independently.
        """
    @staticmethod
    def windows(windows: Sequence[tuple[int, int, float]], repeat_us: int = 0) -> Loss:
        """Loss inside stretches of time: ``(start_us, length_us, share)``, in order, apart from each other.

        They begin again every ``repeat_us``; 0 is never.
        """
    @staticmethod
    def diurnal(low: float, high: float, period_us: int, high_share: float, phase_us: int = 0) -> Loss:
        """``high`` in the busy part of every period, ``low`` in the rest.

        The busy part is ``high_share`` of the period and begins at ``phase_us``.
        """
    @staticmethod
    def any_of(losses: Sequence[Loss]) -> Loss:
        """Losses in series, at most 16: what one lets through meets the next. Not nested."""

@final
class LinkConfig:
    """One direction of a path between two hosts. Immutable, compares by value.

    ``loss_burst=None`` loses each datagram on its own account; else losses come in bursts of that mean
    length in packets (Gilbert model), with the share ``loss`` in the long run. ``loss_model`` stands
    instead of both.

    A datagram meets the policer, the queue, the wire's limit of size and its losses, and the delay, in that
    order (the limit of size first, as a sender's own link would). Bytes are those on the wire: payload,
    UDP and IP headers.

    Raises ``ValueError`` that names the field if no link can be like that.
    """

    __match_args__ = (
        "delay_us",
        "jitter_us",
        "rate_bps",
        "queue_bytes",
        "loss",
        "loss_burst",
        "loss_model",
        "rate_schedule",
        "rate_repeat_us",
        "delay_log_median_us",
        "delay_log_sigma",
        "delay_redraw_us",
        "policer_bps",
        "policer_burst_bytes",
        "mtu_bytes",
        "large_bytes",
        "large_loss",
        "duplicate",
        "reorder",
        "reorder_us",
    )
    def __new__(
        cls,
        delay_us: int = 0,
        jitter_us: int = 0,
        rate_bps: int | None = None,
        queue_bytes: int = 262_144,
        loss: float = 0.0,
        loss_burst: float | None = None,
        *,
        loss_model: Loss | None = None,
        rate_schedule: Sequence[tuple[int, int]] = (),
        rate_repeat_us: int = 0,
        delay_log_median_us: int = 0,
        delay_log_sigma: float = 0.0,
        delay_redraw_us: int = 1_000_000,
        policer_bps: int | None = None,
        policer_burst_bytes: int = 0,
        mtu_bytes: int = 65_535,
        large_bytes: int = 0,
        large_loss: float = 0.0,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        reorder_us: int = 0,
    ) -> Self: ...
    def replace(self, **changes: Any) -> LinkConfig:
        """A copy with some fields changed, by the constructor's names."""
    @property
    def delay_us(self) -> int:
        """Propagation delay."""
    @property
    def jitter_us(self) -> int:
        """Up to this much is added to the delay, uniformly; datagrams never overtake one another."""
    @property
    def rate_bps(self) -> int | None:
        """Bits per second, IP and UDP headers included; ``None`` for no limit, and then no queue."""
    @property
    def queue_bytes(self) -> int:
        """What may wait for the rate before datagrams are dropped."""
    @property
    def loss(self) -> float:
        """Share of datagrams lost on the wire, 0 to 1."""
    @property
    def loss_burst(self) -> float | None:
        """Mean length of a burst of losses, packets."""
    @property
    def loss_model(self) -> Loss | None:
        """How datagrams are lost, instead of ``loss`` and ``loss_burst``."""
    @property
    def rate_schedule(self) -> tuple[tuple[int, int], ...]:
        """``(at_us, bps)`` in order of time: the rate from then on, before the first ``rate_bps``."""
    @property
    def rate_repeat_us(self) -> int:
        """The schedule begins again after this long; 0 is never."""
    @property
    def delay_log_median_us(self) -> int:
        """Median of a delay on top of ``delay_us`` that is lognormal at every instant; 0 is none."""
    @property
    def delay_log_sigma(self) -> float:
        """Standard deviation of its logarithm, 0 to 4."""
    @property
    def delay_redraw_us(self) -> int:
        """It is drawn anew this often, and moves steadily in between."""
    @property
    def policer_bps(self) -> int | None:
        """Rate of a token bucket before the queue: what exceeds it is lost, without any delay."""
    @property
    def policer_burst_bytes(self) -> int:
        """Size of that bucket."""
    @property
    def mtu_bytes(self) -> int:
        """Larger datagrams vanish."""
    @property
    def large_bytes(self) -> int:
        """Datagrams larger than this are lost with ``large_loss`` besides."""
    @property
    def large_loss(self) -> float:
        """Share of large datagrams that is lost."""
    @property
    def duplicate(self) -> float:
        """Share of datagrams that arrives twice."""
    @property
    def reorder(self) -> float:
        """Share of datagrams that is held back, and overtaken meanwhile."""
    @property
    def reorder_us(self) -> int:
        """How long those are held back."""

@final
class UdpShaper:
    """Puts the datagrams between clients and one server through a link, in real time, in a thread.

    Clients send to ``local_addr`` instead of to ``target``. ``forward`` shapes what goes to the target,
    ``backward`` what comes back. Raises ``OSError`` if ``listen`` cannot be bound.
    """

    def __new__(
        cls, listen: str, target: str, forward: LinkConfig, backward: LinkConfig, seed: int = 0
    ) -> Self: ...
    @property
    def local_addr(self) -> str:
        """The bound address, ``"ip:port"``."""
    def set_links(self, forward: LinkConfig, backward: LinkConfig) -> None:
        """Change what both directions are like; datagrams under way keep their times."""
    def set_up(self, forward: bool, backward: bool) -> None:
        """Cut (False) or mend each direction; datagrams under way still arrive."""
    def stats(self) -> ShaperStatsDict:
        """Counters of both directions, over all clients."""
    def close(self) -> None:
        """Stop the thread and free the sockets. A second call does nothing."""

@final
class World:
    """Datapaths over modelled links on a virtual clock that starts at 0.

    The same seed, hosts, links and commands give the same datagrams. Raises ``ValueError`` for hosts and
    links that do not exist or exist already, ``RuntimeError`` if the world stands still (hosts that answer
    one another endlessly over links without delay).
    """

    def __new__(cls, seed: int) -> Self: ...
    def add_host(self, addr: str, config: DatapathConfig) -> int:
        """Add a datapath at ``"ip:port"``; its number counts from 0. Its seed comes from the world's."""
    def add_link(self, src_host: int, dst_host: int, config: LinkConfig) -> None:
        """Add a directed link. The way back is a link of its own."""
    def set_link(self, src_host: int, dst_host: int, config: LinkConfig) -> None:
        """Change what a link is like from now on; what is under way keeps its arrival times."""
    def set_link_up(self, src_host: int, dst_host: int, up: bool) -> None:
        """Cut or mend a link."""
    def remove_link(self, src_host: int, dst_host: int) -> None:
        """Take a link out. What is under way still arrives; later datagrams have no route."""
    def link_stats(self, src_host: int, dst_host: int) -> LinkStatsDict:
        """Counters of one link."""
    def pause_host(self, host: int, until_us: int) -> None:
        """Stop a host's process until a time (SIGSTOP, a long pause of its machine).

        Nothing is handed over to it and its timers wait. What arrives waits in the socket's buffer of
        4 MiB; what does not fit is lost. Commands, scheduled ones too, wait as well. At ``until_us``
        everything that waits is handed over, in order. A time that has passed ends a pause at once.
        """
    def stop_host(self, host: int) -> None:
        """Crash a host: its datapath is gone without a word, with its events, timers and schedule.

        What arrives for it is lost, and commands to it are ignored. Its records stay to be taken; which
        sinks are recorded is forgotten.
        """
    def restart_host(self, host: int, config: DatapathConfig) -> None:
        """Put a new datapath in a host's place, stopped or not: same number, address and links."""
    def move_host(self, host: int, addr: str) -> None:
        """Give a host another address: a NAT's new binding, another network.

        What is under way to the old one is lost. Links go by host, so that they stay; the host itself is
        not told.
        """
    def execute(self, host: int, commands: Sequence[Command]) -> None:
        """Carry out commands at a host at the present instant."""
    def schedule(self, host: int, commands: Sequence[tuple[int, Command]]) -> None:
        """Carry out commands at later times, ``(at_us, command)``, without returning to Python.

        Those of one instant run in the order given. A time that has passed counts as now. Raises
        ``RuntimeError`` where too much is under way.
        """
    def record(self, host: int, downstream: int) -> None:
        """Keep what a local sink gets in Rust instead of giving events, from now on.

        Objects become records, also those that carry only a status (end of group, no bytes); ends of its
        subgroups are dropped. ``downstream`` need not exist yet.
        """
    def take_record(self, host: int) -> bytes:
        """All records of a host since the last call, in order, 40 bytes each, little-endian.

        ``at_us`` u64, ``first_us`` u64, ``downstream`` u32, ``group`` u64, ``object`` u32, ``subgroup`` u32,
        ``bytes`` u32 of payload: ``RECORD_DTYPE`` of ``farcast.simulations.records``. At most 1,000,000
        wait per host; those beyond are counted as ``records_dropped`` of ``stats``.
        """
    def trace_objects(self, host: int, on: bool) -> None:
        """Note when each object's first and last byte came to a host's datapath, until it is stopped."""
    def take_object_trace(self, host: int) -> bytes:
        """That trace since the last call, in order of completion, 40 bytes each, little-endian.

        ``first_us`` u64, ``last_us`` u64, ``track`` u64, ``group`` u64, ``object`` u32, ``subgroup`` u32:
        ``OBJECT_TRACE_DTYPE`` of ``farcast.simulations.records``. At most 65,536 wait per host; those beyond
        are counted as ``traces_dropped`` of ``stats``.
        """
    def run_until(self, t_us: int) -> list[tuple[int, int, Event]]:
        """Run until events appear or until ``t_us``, whichever is first: ``(t_us, host, event)``, in order.

        The clock then stands at that instant, so that an agent can answer at the time of the event. An
        empty list means that ``t_us`` was reached.
        """
    def stats(self) -> WorldStatsDict:
        """Counters of the whole world."""
    def now_us(self) -> int:
        """Virtual time."""
    def trace_hash(self) -> str:
        """Hash over time, size, source and destination of every datagram so far, hexadecimal."""
