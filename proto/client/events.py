"""What publishers and viewers tell their application (`poll_event`). Track names are bytes, as in MoQT."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.moqt.values import Location
from farcast.proto.properties import Properties

if TYPE_CHECKING:
    from farcast.proto.client.edge_list import EdgeList

# --- both --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connected:
    """A session stands. ``edge`` is the host and port of the edge that it is with."""

    transport: str
    draft: int
    edge: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Moved:
    """The session is with another edge than the one before, which ``ended``, went ``silent`` or sent
    ``goaway``. Comes after `Connected`."""

    before: str
    edge: str
    cause: Literal["ended", "silent", "goaway"]


@dataclass(frozen=True, slots=True)
class EdgesListed:
    """The edge served a newer edge list; the application resolves it for the engine's ``learn``."""

    edges: EdgeList


@dataclass(frozen=True, slots=True)
class EdgeListRefused:
    """The edge served an edge list that cannot be used."""

    reason: str


@dataclass(frozen=True, slots=True)
class SentTo:
    """The edge sends us to a URI that is new; the application resolves it for the engine's ``answer_uri``."""

    uri: str


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The session, or an attempt to make one, ended; the next attempt follows by itself."""

    reason: str


# --- publisher --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NamespaceAccepted:
    """The server takes the namespace."""

    namespace: TrackNamespace


@dataclass(frozen=True, slots=True)
class Subscribed:
    """Somebody subscribed to a track; ``subscriptions`` is how many there are now."""

    track: bytes
    subscriptions: int


@dataclass(frozen=True, slots=True)
class Unsubscribed:
    """A subscription to a track ended."""

    track: bytes
    subscriptions: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The server refuses the connection or the namespace. ``final``: it is not tried again."""

    reason: str
    final: bool


# --- viewer -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nobody publishes the namespace (or not this track) yet, or (``full`` says why) there is no room now; it
    is tried again."""

    namespace: TrackNamespace
    track: bytes
    full: str = ""


@dataclass(frozen=True, slots=True)
class TrackReady:
    """A track is subscribed; again, where it was before."""

    track: bytes
    largest: Location | None
    properties: Properties


@dataclass(frozen=True, slots=True)
class ObjectReceived:
    """One whole object. Times are microseconds of the datapath's clock."""

    track: bytes
    group: int
    subgroup: int
    object: int
    priority: int
    status: int
    properties: bytes
    payload: bytes
    first_byte_us: int
    complete_us: int


@dataclass(frozen=True, slots=True)
class SubgroupEnded:
    """No more of a subgroup; ``reset``: it ended before its last object."""

    track: bytes
    group: int
    subgroup: int
    end_of_group: bool
    reset: bool


@dataclass(frozen=True, slots=True)
class TrackRestarted:
    """The publisher started over: group numbers begin anew, and what was not yet whole is lost."""

    track: bytes


@dataclass(frozen=True, slots=True)
class TrackEnded:
    """A track is over."""

    track: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing more will come, or (``track`` given) nothing of this track."""

    reason: str
    track: bytes | None = None


EdgeEvent: TypeAlias = Moved | EdgesListed | EdgeListRefused | SentTo
"""What publishers and viewers both say of their edges."""

PublisherEvent: TypeAlias = (
    Connected | NamespaceAccepted | Subscribed | Unsubscribed | Refused | Disconnected | EdgeEvent
)

ViewerEvent: TypeAlias = (
    Connected
    | Waiting
    | TrackReady
    | ObjectReceived
    | SubgroupEnded
    | TrackRestarted
    | TrackEnded
    | Disconnected
    | Failed
    | EdgeEvent
)
