"""New requests of the peer, and control messages about the session."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farcast.proto.moqt.core import Core, RequestStream
from farcast.proto.moqt.errors import ProtocolError, RequestCode, SessionCode, StreamCode, violation
from farcast.proto.moqt.events import (
    GoawayReceived,
    NamespacePublished,
    NamespaceSubscribed,
    PublishRequested,
    SubscribeRequested,
)
from farcast.proto.moqt.keyvalue import Pairs
from farcast.proto.moqt.messages import (
    Fetch,
    Goaway,
    MaxRequestId,
    Message,
    Publish,
    PublishNamespace,
    RequestError,
    RequestsBlocked,
    Subscribe,
    SubscribeNamespace,
    SubscribeTracks,
    TrackStatus,
)
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.parameters import DEFAULT_PRIORITY
from farcast.proto.moqt.profile import Profile
from farcast.proto.moqt.requests import Request, State, Verb
from farcast.proto.moqt.values import Interest, Token

_RESERVED = (b".", b".session")


class Refusal(Exception):
    """A request cannot be had; it is answered with REQUEST_ERROR."""

    def __init__(self, code: RequestCode, reason: str, retry_ms: int | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.retry_ms = retry_ms


RETRY_WHEN_LOADED_MS = 1_000
"""What a peer with too many open requests is told to wait."""


def is_request(message: Message) -> bool:
    """Whether this message opens a request."""
    return type(message) in _OPENERS


def open_request(core: Core, message: Any, stream: RequestStream | None) -> None:
    """Takes a request of the peer in: reports it, or refuses what need not bother the application.

    Raises :class:`ProtocolError` for what is the session's end.
    """
    accept_request_id(core, message.request_id)
    tokens = core.tokens.resolve(message.parameters.authorization_tokens)
    if stream is not None and not stream.send_open:
        core.close_stream(stream, StreamCode.CANCELLED, abrupt=True)  # STOP_SENDING has overtaken it
        core.grant_requests()
        return
    try:
        _check_load(core)
        _OPENERS[type(message)](core, message, stream, tokens)
    except Refusal as refusal:
        _refuse(core, message.request_id, stream, refusal)


def accept_request_id(core: Core, request_id: int) -> None:
    """Notes a request id of the peer. Raises :class:`ProtocolError` for one it may not use."""
    if core.profile.request_ids_limited and request_id >= core.granted_limit:
        raise ProtocolError(SessionCode.TOO_MANY_REQUESTS, f"request id {request_id} was not granted")
    if not core.peer_ids.add(request_id):
        raise ProtocolError(SessionCode.INVALID_REQUEST_ID, f"request id {request_id}")


def _check_load(core: Core) -> None:
    if core.goaway_sent:
        raise Refusal(RequestCode.GOING_AWAY, "this session is about to close")
    if core.peer_requests_open >= core.limits.requests_open_max:
        raise Refusal(RequestCode.EXCESSIVE_LOAD, "too many open requests", RETRY_WHEN_LOADED_MS)


def _refuse(core: Core, request_id: int, stream: RequestStream | None, refusal: Refusal) -> None:
    request = Request(0, Verb.SUBSCRIBE, ours=False, state=State.PENDING, request_id=request_id)
    request.stream = stream.key if stream is not None else None
    error = RequestError(
        request_id=request_id,
        code=core.profile.request_number(refusal.code),
        retry=0 if refusal.retry_ms is None else refusal.retry_ms + 1,
        reason=refusal.reason,
    )
    core.send(request, error, fin=True)
    if stream is not None:
        core.finish_stream(stream)
    core.grant_requests()


# --- one opener per kind of request ---------------------------------------------------------------------


def _subscribe(
    core: Core, message: Subscribe, stream: RequestStream | None, tokens: tuple[Token, ...]
) -> None:
    _check_reserved(core.profile, message.name.namespace)
    if message.name in core.as_publisher and not core.quirks.repeated_subscriptions:
        raise Refusal(RequestCode.DUPLICATE_SUBSCRIPTION, "this track is being sent already")
    request = _admit(core, Verb.SUBSCRIBE, message.request_id, stream, name=message.name)
    parameters = message.parameters
    priority = parameters.subscriber_priority
    core.emit(
        SubscribeRequested(
            request.handle,
            message.name,
            filter=parameters.filter,
            priority=DEFAULT_PRIORITY if priority is None else priority,
            group_order=parameters.group_order,
            forward=parameters.forward is not False,
            parameters=parameters,
            tokens=tokens,
        )
    )


def _publish(core: Core, message: Publish, stream: RequestStream | None, tokens: tuple[Token, ...]) -> None:
    _check_reserved(core.profile, message.name.namespace)
    if has_unknown_mandatory(core.profile, message.track_properties):
        raise Refusal(RequestCode.UNSUPPORTED_EXTENSION, "a mandatory track property is not known here")
    other = core.as_subscriber.get(message.name)
    if other is not None and not (other.ours and other.alias is None):
        raise Refusal(RequestCode.DUPLICATE_SUBSCRIPTION, "this track is being received already")
    check_alias(core, message.alias, message.name)
    request = _admit(core, Verb.PUBLISH, message.request_id, stream, name=message.name)
    request.alias = message.alias
    core.aliases.setdefault(message.alias, request)
    core.emit(
        PublishRequested(
            request.handle,
            message.name,
            message.alias,
            largest=message.parameters.largest,
            forward=message.parameters.forward is not False,
            track_properties=message.track_properties,
            parameters=message.parameters,
            tokens=tokens,
        )
    )


def _publish_namespace(
    core: Core, message: PublishNamespace, stream: RequestStream | None, tokens: tuple[Token, ...]
) -> None:
    _check_reserved(core.profile, message.namespace)
    request = _admit(core, Verb.PUBLISH_NAMESPACE, message.request_id, stream, namespace=message.namespace)
    core.emit(NamespacePublished(request.handle, message.namespace, message.parameters, tokens))


def _subscribe_namespace(
    core: Core, message: SubscribeNamespace, stream: RequestStream | None, tokens: tuple[Token, ...]
) -> None:
    interest = Interest.NAMESPACE if message.interest is None else message.interest
    if interest is Interest.PUBLISH:
        raise Refusal(RequestCode.NOT_SUPPORTED, "PUBLISH is not sent for namespaces")
    _check_reserved(core.profile, message.prefix)
    if not core.quirks.overlapping_prefixes and any(
        other.verb is Verb.SUBSCRIBE_NAMESPACE and not other.ours and other.namespace.overlaps(message.prefix)
        for other in core.requests.values()
    ):
        raise Refusal(RequestCode.PREFIX_OVERLAP, "the prefix overlaps that of another SUBSCRIBE_NAMESPACE")
    request = _admit(core, Verb.SUBSCRIBE_NAMESPACE, message.request_id, stream, namespace=message.prefix)
    request.interest = interest
    core.emit(NamespaceSubscribed(request.handle, message.prefix, interest, message.parameters, tokens))


def _not_supported(
    _core: Core, message: Message, _stream: RequestStream | None, _tokens: tuple[Token, ...]
) -> None:
    raise Refusal(RequestCode.NOT_SUPPORTED, f"{type(message).__name__} is not supported")


_OPENERS: dict[type[Message], Callable[[Core, Any, RequestStream | None, tuple[Token, ...]], None]] = {
    Subscribe: _subscribe,
    Publish: _publish,
    PublishNamespace: _publish_namespace,
    SubscribeNamespace: _subscribe_namespace,
    SubscribeTracks: _not_supported,
    Fetch: _not_supported,
    TrackStatus: _not_supported,
}


def _admit(
    core: Core,
    verb: Verb,
    request_id: int,
    stream: RequestStream | None,
    *,
    name: FullTrackName | None = None,
    namespace: TrackNamespace | None = None,
) -> Request:
    request = core.new_request(verb, ours=False)
    request.request_id = request_id
    request.name = name
    request.namespace = namespace or request.namespace
    if stream is not None:
        request.stream = stream.key
        stream.request = request
    core.admit(request)
    return request


def _check_reserved(profile: Profile, namespace: TrackNamespace) -> None:
    if profile.session_namespaces_reserved and namespace.fields and namespace.fields[0] in _RESERVED:
        raise Refusal(RequestCode.DOES_NOT_EXIST, "this namespace is reserved")


def has_unknown_mandatory(profile: Profile, properties: Pairs) -> bool:
    """Whether a track carries a mandatory property (draft 18, section 2.5.1); none is understood so far."""
    return any(pair.type in profile.mandatory_track_properties for pair in properties)


def check_alias(core: Core, alias: int, name: FullTrackName | None) -> None:
    """Raises DUPLICATE_TRACK_ALIAS where the peer uses one alias for two tracks."""
    other = core.aliases.get(alias)
    if other is not None and other.name != name:
        raise ProtocolError(SessionCode.DUPLICATE_TRACK_ALIAS, f"track alias {alias}")


# --- messages about the session -------------------------------------------------------------------------


def receive_goaway(core: Core, message: Goaway) -> None:
    """GOAWAY on the control stream."""
    if core.goaway_received:
        raise violation("a second GOAWAY")
    if message.uri and not core.client:
        raise violation("GOAWAY with a URI from a client")
    if message.request_id is not None and message.request_id % 2 != core.next_id % 2:
        raise ProtocolError(SessionCode.INVALID_REQUEST_ID, f"GOAWAY with request id {message.request_id}")
    core.goaway_received = True
    core.emit(GoawayReceived(message.uri, message.timeout_ms))
    waiting = [request for request, _ in core.queue if request.handle in core.requests]
    core.queue.clear()
    for request in waiting:
        if request.request_id < 0:
            core.reject_locally(request, RequestCode.GOING_AWAY, "the peer is going away")


def receive_max_request_id(core: Core, message: MaxRequestId) -> None:
    """MAX_REQUEST_ID: more requests may be sent."""
    if message.request_id <= core.id_limit:
        raise violation(f"MAX_REQUEST_ID {message.request_id} after {core.id_limit}")
    core.id_limit = message.request_id
    core.flush_queue()


def receive_requests_blocked(_core: Core, _message: RequestsBlocked) -> None:
    """REQUESTS_BLOCKED: ids are granted as requests end, whether asked for or not."""


SESSION_MESSAGES: dict[type[Message], Callable[[Core, Any], None]] = {
    Goaway: receive_goaway,
    MaxRequestId: receive_max_request_id,
    RequestsBlocked: receive_requests_blocked,
}
