"""What a session reports (:meth:`Session.poll_event`) and what it wants done (:meth:`Session.poll_transmit`).

``request`` is always the handle of a request: an integer of our own that is unique in the session, given by a
command for our requests and by the first event for the peer's. Handles say nothing about the wire.
"""

from __future__ import annotations

from dataclasses import dataclass

from farcast.proto.moqt.errors import PublishDoneCode, RequestCode, SessionCode
from farcast.proto.moqt.keyvalue import Pairs
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.parameters import NO_PARAMETERS, Parameters
from farcast.proto.moqt.values import Filter, GroupOrder, Interest, Location, Redirect, SetupOptions, Token

# --- what is to be done with streams -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Open a stream; ``stream`` is a local key (``LOCAL_STREAM_BIT`` is set)."""

    stream: int
    bidi: bool


@dataclass(frozen=True, slots=True)
class StreamWrite:
    """Append to a stream; ``fin`` ends our side."""

    stream: int
    data: bytes
    fin: bool = False


@dataclass(frozen=True, slots=True)
class StreamReset:
    """Reset our side of a stream."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class StreamStop:
    """Ask the peer to stop sending on a stream."""

    stream: int
    code: int


@dataclass(frozen=True, slots=True)
class SessionClose:
    """Close the session; nothing follows."""

    code: SessionCode
    reason: str


Transmit = OpenStream | StreamWrite | StreamReset | StreamStop | SessionClose

# --- the session ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Established:
    """The peer's SETUP is here. ``options`` is all of it; ``tokens`` are its authorization tokens,
    resolved."""

    implementation: str | None
    path: str | None
    authority: str | None
    options: SetupOptions
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class GoawayReceived:
    """The peer is going to close the session. ``uri`` is empty for "the same again"; ``timeout_ms`` is
    ``None`` where the draft has none and 0 where the peer names none."""

    uri: str
    timeout_ms: int | None


@dataclass(frozen=True, slots=True)
class SessionFailed:
    """The peer broke the protocol (or a limit); a ``SessionClose`` with the same code has been queued."""

    code: SessionCode
    reason: str


# --- requests of the peer -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubscribeRequested:
    """SUBSCRIBE. Answer with ``accept_subscribe`` or ``reject``; defaults of absent parameters are filled
    in."""

    request: int
    name: FullTrackName
    filter: Filter | None
    priority: int
    group_order: GroupOrder | None
    forward: bool
    parameters: Parameters = NO_PARAMETERS
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class PublishRequested:
    """PUBLISH. Answer with ``accept_publish`` or ``reject``; objects may be on their way already."""

    request: int
    name: FullTrackName
    alias: int
    largest: Location | None
    forward: bool
    track_properties: Pairs = ()
    parameters: Parameters = NO_PARAMETERS
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespacePublished:
    """PUBLISH_NAMESPACE. Answer with ``accept`` or ``reject``."""

    request: int
    namespace: TrackNamespace
    parameters: Parameters = NO_PARAMETERS
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceWithdrawn:
    """The peer took a PUBLISH_NAMESPACE back; the request is over."""

    request: int
    namespace: TrackNamespace


@dataclass(frozen=True, slots=True)
class NamespaceSubscribed:
    """SUBSCRIBE_NAMESPACE. Answer with ``accept`` and then ``announce_to``, or ``reject``."""

    request: int
    prefix: TrackNamespace
    interest: Interest
    parameters: Parameters = NO_PARAMETERS
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class UpdateRequested:
    """REQUEST_UPDATE of a request (the peer's own, or a PUBLISH of ours). Answer with ``accept_update`` or
    ``reject_update``, in the order of the events; ``None`` leaves a value as it is."""

    request: int
    forward: bool | None
    priority: int | None
    filter: Filter | None
    parameters: Parameters = NO_PARAMETERS
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    """The peer ended a request, its own or (revoking what it had accepted) ours; the request is over."""

    request: int


# --- answers to our requests ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SubscribeAccepted:
    """SUBSCRIBE_OK: objects come under ``alias``."""

    request: int
    alias: int
    largest: Location | None
    expires_ms: int | None
    track_properties: Pairs = ()


@dataclass(frozen=True, slots=True)
class PublishAccepted:
    """The peer took our PUBLISH; defaults of absent parameters are filled in."""

    request: int
    forward: bool
    priority: int
    filter: Filter | None
    group_order: GroupOrder | None
    expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class RequestAccepted:
    """REQUEST_OK for a PUBLISH_NAMESPACE or SUBSCRIBE_NAMESPACE of ours."""

    request: int


@dataclass(frozen=True, slots=True)
class RequestRejected:
    """Our request was refused, by the peer or (no ``wire_code``) before it was sent; the request is over.

    ``retry_ms``: not before this many milliseconds; ``None``: do not retry.
    """

    request: int
    code: RequestCode
    reason: str
    retry_ms: int | None = None
    redirect: Redirect | None = None
    wire_code: int | None = None


@dataclass(frozen=True, slots=True)
class PublishEnded:
    """The publisher ended a subscription; the request is over. ``stream_count`` is ``None`` where unknown."""

    request: int
    status: PublishDoneCode
    stream_count: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class UpdateAccepted:
    """The peer took the oldest unanswered ``update`` of this request."""

    request: int
    largest: Location | None = None
    expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class UpdateRejected:
    """The peer refused the oldest unanswered ``update`` of this request; a subscription ends with it, which
    ``PublishEnded`` reports separately."""

    request: int
    code: RequestCode
    reason: str


@dataclass(frozen=True, slots=True)
class NamespaceAnnounced:
    """A namespace under the prefix of our SUBSCRIBE_NAMESPACE exists (the whole namespace, not the
    suffix)."""

    request: int
    namespace: TrackNamespace


@dataclass(frozen=True, slots=True)
class NamespaceGone:
    """A namespace announced before is gone; also for each that was left when the request ends."""

    request: int
    namespace: TrackNamespace


@dataclass(frozen=True, slots=True)
class RequestGoaway:
    """The peer wants one request moved: to ``uri``, or (empty) made again (draft 18, section 10.4)."""

    request: int
    uri: str
    timeout_ms: int


Event = (
    Established
    | GoawayReceived
    | SessionFailed
    | SubscribeRequested
    | PublishRequested
    | NamespacePublished
    | NamespaceWithdrawn
    | NamespaceSubscribed
    | UpdateRequested
    | RequestCancelled
    | SubscribeAccepted
    | PublishAccepted
    | RequestAccepted
    | RequestRejected
    | PublishEnded
    | UpdateAccepted
    | UpdateRejected
    | NamespaceAnnounced
    | NamespaceGone
    | RequestGoaway
)
