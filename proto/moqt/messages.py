"""Control messages as values, one class each, the same for every draft.

A field that a draft does not carry is ``None`` there: ``request_id`` of responses from draft 17 on, for
instance, where the stream says which request is meant. Layouts are in the profiles.
"""

from __future__ import annotations

from dataclasses import dataclass

from farcast.proto.moqt.keyvalue import Pairs
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.parameters import NO_PARAMETERS, Parameters
from farcast.proto.moqt.values import Interest, Location, Redirect, SetupOptions

REASON_BYTES_MAX = 1_024
URI_BYTES_MAX = 8_192
STREAM_COUNT_UNKNOWN = 2**62 - 1
"""Stream count of a PUBLISH_DONE whose sender does not know it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Any control message."""


# --- the session ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AnySetup(Message):
    """First message of an endpoint."""

    options: SetupOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSetup(AnySetup):
    """Draft 16: the client's set-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSetup(AnySetup):
    """Draft 16: the server's set-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup(AnySetup):
    """From draft 17 on: either side's set-up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goaway(Message):
    """The sender will close; on a request stream (draft 18), the sender wants this request moved.

    ``request_id``, on the control stream of draft 18 only, is the smallest that may be unprocessed.
    """

    uri: str = ""
    timeout_ms: int | None = None
    request_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxRequestId(Message):
    """Draft 16: request ids below this one may be used."""

    request_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestsBlocked(Message):
    """Draft 16: the sender is out of request ids."""

    request_id: int


# --- responses to any request ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOk(Message):
    """A request, or an update, was accepted."""

    request_id: int | None = None
    parameters: Parameters = NO_PARAMETERS
    track_properties: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestError(Message):
    """A request, or an update, was refused. ``code`` is the number of the draft; ``retry`` is 0 for never,
    else milliseconds plus 1."""

    request_id: int | None = None
    code: int
    retry: int = 0
    reason: str = ""
    redirect: Redirect | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestUpdate(Message):
    """Changes a request. ``existing_request_id`` names it where the stream does not (draft 16)."""

    request_id: int
    existing_request_id: int | None = None
    parameters: Parameters = NO_PARAMETERS


# --- subscriptions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe(Message):
    """Asks for a track."""

    request_id: int
    name: FullTrackName
    parameters: Parameters = NO_PARAMETERS


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeOk(Message):
    """The track comes under this alias."""

    request_id: int | None = None
    alias: int
    parameters: Parameters = NO_PARAMETERS
    track_properties: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe(Message):
    """Draft 16: the subscriber leaves."""

    request_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish(Message):
    """Offers a track under this alias."""

    request_id: int
    name: FullTrackName
    alias: int
    parameters: Parameters = NO_PARAMETERS
    track_properties: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishOk(Message):
    """The offered track is wanted (draft 16; later drafts send REQUEST_OK and keep the number as an
    alias)."""

    request_id: int | None = None
    parameters: Parameters = NO_PARAMETERS
    track_properties: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishDone(Message):
    """The publisher ends a subscription. ``status`` is the number of the draft."""

    request_id: int | None = None
    status: int
    stream_count: int
    reason: str = ""


# --- fetches and status ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StandaloneFetch:
    """Objects of a track from ``start`` to just before ``end`` (an object of 0: the whole group)."""

    name: FullTrackName
    start: Location
    end: Location


@dataclass(frozen=True, slots=True)
class JoiningFetch:
    """What lies before a subscription: from ``start`` groups before the join, or from group ``start``."""

    relative: bool
    subscription_request_id: int
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch(Message):
    """Asks for objects of the past."""

    request_id: int
    fetch: StandaloneFetch | JoiningFetch
    parameters: Parameters = NO_PARAMETERS


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOk(Message):
    """The fetched objects come."""

    request_id: int | None = None
    end_of_track: bool
    end: Location
    parameters: Parameters = NO_PARAMETERS
    track_properties: Pairs = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchCancel(Message):
    """Draft 16: the fetch is no longer wanted."""

    request_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackStatus(Message):
    """Asks what SUBSCRIBE_OK would say, without subscribing."""

    request_id: int
    name: FullTrackName
    parameters: Parameters = NO_PARAMETERS


# --- namespaces -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishNamespace(Message):
    """The sender has tracks in this namespace."""

    request_id: int
    namespace: TrackNamespace
    parameters: Parameters = NO_PARAMETERS


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishNamespaceDone(Message):
    """Draft 16: takes a PUBLISH_NAMESPACE back."""

    request_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishNamespaceCancel(Message):
    """Draft 16: revokes the acceptance of a PUBLISH_NAMESPACE."""

    request_id: int
    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeNamespace(Message):
    """Asks which namespaces exist under a prefix. ``interest`` is draft 16's Subscribe Options."""

    request_id: int
    prefix: TrackNamespace
    interest: Interest | None = None
    parameters: Parameters = NO_PARAMETERS


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscribeTracks(Message):
    """From draft 18 on: asks for a PUBLISH of every track under a prefix."""

    request_id: int
    prefix: TrackNamespace
    parameters: Parameters = NO_PARAMETERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace(Message):
    """A namespace exists: the prefix asked for, and then this."""

    suffix: TrackNamespace


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceDone(Message):
    """A namespace is gone."""

    suffix: TrackNamespace


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishBlocked(Message):
    """Draft 18: a PUBLISH that SUBSCRIBE_TRACKS asked for found no stream."""

    suffix: TrackNamespace
    track_name: bytes
