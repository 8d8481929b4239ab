"""What a run leaves behind, before anybody judges it: what was published, what each client got and when,
what the network did. `PacketRun` and `FlowRun` fill it, `outputs` reads it.

Times are microseconds of virtual time. Objects are named by a track's index in `RawResult.tracks`, its group
and its number in the group; arrays are numpy structured arrays of the types below, so that a hundred viewers
of half an hour stay within some hundred MiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

ClientKind: TypeAlias = Literal["publisher", "viewer"]
Stack: TypeAlias = Literal["farcast", "stock"]
TrackKind: TypeAlias = Literal["video", "audio", "data"]
Array: TypeAlias = NDArray[Any]

ARRIVAL_DTYPE = np.dtype(
    [
        ("at_us", "<i8"),
        ("first_us", "<i8"),
        ("capture_us", "<i8"),
        ("track", "<u2"),
        ("group", "<u8"),
        ("object", "<u4"),
        ("subgroup", "<u4"),
        ("bytes", "<u4"),
    ]
)
"""One object at one client: when its last byte was there and could be handed over in order (``at_us``), when
its first byte was there, when it was captured (-1: not an object of the film)."""

FRAME_DTYPE = np.dtype(
    [
        ("capture_us", "<i8"),
        ("pts_us", "<i8"),
        ("track", "<u2"),
        ("group", "<u8"),
        ("object", "<u4"),
        ("bytes", "<u4"),
        ("key", "?"),
    ]
)
"""One published object. ``capture_us`` is when it was captured (virtual time), ``pts_us`` its place in the
film; it is handed to the publisher's engine `TrackInfo.encode_us` after it was captured."""

OBJECT_HOP_DTYPE = np.dtype(
    [
        ("host", "<u2"),
        ("track", "<u2"),
        ("group", "<u8"),
        ("object", "<u4"),
        ("first_us", "<i8"),
        ("last_us", "<i8"),
    ]
)
"""One object at one host's datapath (index in `RawResult.hosts`): its first and its last byte."""


@dataclass(frozen=True, slots=True)
class TrackInfo:
    """A track of a film. ``height`` is 0 for sound; ``bitrate_bps`` the mean; ``frame_us`` a frame's length;
    ``encode_us`` what lies between a frame's capture and its hand-over to the network."""

    publisher: str
    namespace: str
    name: str
    kind: TrackKind
    height: int
    bitrate_bps: int
    frame_us: int
    encode_us: int = 0


@dataclass(frozen=True, slots=True)
class Watched:
    """From ``at_us`` on a viewer wanted this track, until ``until_us`` (``None``: to the end)."""

    track: int
    at_us: int
    until_us: int | None = None


@dataclass(frozen=True, slots=True)
class Move:
    """A client's move from edge to edge; ``cause``: ended, silent or goaway."""

    at_us: int
    before: str
    after: str
    cause: str


@dataclass(frozen=True, slots=True)
class ClientTrace:
    """One client, from the tap. What did not happen is ``None``.

    ``connected_us``: the first MoQT session stands. ``catalog_us``: the first catalog is read.
    ``first_object_us``: the first whole media object. ``arrivals``: media only, in order of ``at_us``.
    ``published``: for a publisher, indices of its tracks.
    """

    client: str
    kind: ClientKind
    stack: Stack
    market: str
    region: str
    room: str
    transport: str
    access_rtt_ms: float
    access_rate_bps: int
    tapped_us: int
    connected_us: int | None = None
    catalog_us: int | None = None
    first_object_us: int | None = None
    left_us: int | None = None
    arrivals: Array = field(default_factory=lambda: np.empty(0, ARRIVAL_DTYPE))
    watched: tuple[Watched, ...] = ()
    published: tuple[int, ...] = ()
    edges: tuple[tuple[int, str], ...] = ()
    """When it was with which edge, in order of time."""
    moves: tuple[Move, ...] = ()
    errors: tuple[str, ...] = ()
    connections_lost: int = 0


@dataclass(frozen=True, slots=True)
class RouteChange:
    """A track at an edge (or, for ``cause="plan"``, an origin's branch) changed its upstream. ``gap_us``:
    time without a new byte, where it is known."""

    at_us: int
    edge: str
    before: str
    after: str
    cause: str
    gap_us: int | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that the scenario did; ``until_us`` is ``None`` for what has no end."""

    at_us: int
    until_us: int | None
    kind: str
    text: str
    is_fault: bool = True
    """False for what is no fault: a crowd, a calm phase, a planned drain."""


@dataclass(frozen=True, slots=True)
class LinkUse:
    """One directed path at the end of a run; ``kind``: hop (edge to edge) or access. Bytes are wire bytes."""

    src: str
    dst: str
    kind: Literal["hop", "access"]
    packets: int
    bytes: int
    packets_lost: int
    packets_dropped_queue: int
    packets_dropped_policer: int = 0
    packets_dropped_mtu: int = 0
    packets_dropped_down: int = 0
    queue_bytes_peak: int = 0
    rtt_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class HopUse:
    """The recovery layer of one hop, summed over the sessions of one edge with one peer."""

    edge: str
    peer: str
    chunks_sent: int
    chunks_repaired: int
    chunks_lost: int
    chunks_given_up: int
    tx_bytes: int
    rx_bytes: int


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold."""

    at_us: int
    invariant: str
    text: str


@dataclass(frozen=True, slots=True)
class RawResult:
    """A whole run. ``hosts`` names the rows' hosts of ``object_hops``."""

    scenario: str
    seed: int
    scale: Literal["packets", "flows"]
    began_us: int
    """Before this the network was set up; nothing before it counts."""
    ended_us: int
    tracks: tuple[TrackInfo, ...]
    frames: Array
    clients: tuple[ClientTrace, ...]
    trace_hash: str
    route_changes: tuple[RouteChange, ...] = ()
    faults: tuple[Fault, ...] = ()
    links: tuple[LinkUse, ...] = ()
    hops: tuple[HopUse, ...] = ()
    hosts: tuple[str, ...] = ()
    object_hops: Array = field(default_factory=lambda: np.empty(0, OBJECT_HOP_DTYPE))
    violations: tuple[Violation, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    """Datagrams, plans, reports and the like, by name."""
    notes: tuple[tuple[int, str, str], ...] = ()
    """Time, who, what: lines of the logs of edges, control plane and clients that people may want."""
    wall_seconds: float = 0.0
    """How long the run took, for people; in no hash."""
