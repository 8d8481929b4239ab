"""Messages of the peer about a request that exists: responses, updates, ends, and namespaces.

A table says which message is for which requests; anything else is a violation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from farcast.proto.moqt.answers import reject_update
from farcast.proto.moqt.core import Core
from farcast.proto.moqt.errors import RequestCode, StreamCode, violation
from farcast.proto.moqt.events import (
    NamespaceAnnounced,
    NamespaceGone,
    NamespaceWithdrawn,
    PublishAccepted,
    PublishEnded,
    RequestAccepted,
    RequestCancelled,
    RequestGoaway,
    RequestRejected,
    SubscribeAccepted,
    UpdateAccepted,
    UpdateRejected,
    UpdateRequested,
)
from farcast.proto.moqt.inbound import accept_request_id, check_alias, has_unknown_mandatory
from farcast.proto.moqt.messages import (
    STREAM_COUNT_UNKNOWN,
    FetchCancel,
    Goaway,
    Message,
    Namespace,
    NamespaceDone,
    PublishDone,
    PublishNamespaceCancel,
    PublishNamespaceDone,
    PublishOk,
    RequestError,
    RequestOk,
    RequestUpdate,
    SubscribeOk,
    Unsubscribe,
)
from farcast.proto.moqt.names import InvalidName, TrackNamespace
from farcast.proto.moqt.parameters import DEFAULT_PRIORITY, Parameters
from farcast.proto.moqt.requests import Request, State, Trigger, Verb
from farcast.proto.moqt.values import Redirect

Role = tuple[Verb, bool]
"""A verb, and whether the request is ours."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """How a message about a request is handled, and for which requests it is."""

    roles: frozenset[Role]
    handle: Callable[[Core, Request, Any], None]


def follow_up(core: Core, message: Any, request: Request | None) -> None:
    """Handles a message about ``request`` (the one of its stream; else its request id names it).

    Raises :class:`ProtocolError`.
    """
    entry = FOLLOW_UPS.get(type(message))
    if entry is None:
        raise violation(f"unexpected {type(message).__name__}")
    if isinstance(message, RequestUpdate):
        accept_request_id(core, message.request_id)
    named = _named_id(message)
    if request is None or named is not None:
        request = _lookup(core, message)
    if request is None:
        return
    if named not in (None, request.request_id) and not isinstance(message, RequestOk | RequestError):
        raise violation(f"{type(message).__name__} for the request id of an update")
    if (request.verb, request.ours) not in entry.roles:
        raise violation(f"{type(message).__name__} for a {_describe(request)}")
    entry.handle(core, request, message)


def _named_id(message: Any) -> int | None:
    if isinstance(message, RequestUpdate):
        return message.existing_request_id
    request_id: int | None = getattr(message, "request_id", None)
    return request_id


def _lookup(core: Core, message: Any) -> Request | None:
    """The request that a message names; ``None`` for one that is over, as its end may have crossed the
    message."""
    request_id = _named_id(message)
    if request_id is None:
        raise violation(f"{type(message).__name__} without a request")
    request = core.by_id.get(request_id)
    if request is not None:
        return request
    ours = request_id % 2 == core.next_id % 2
    if request_id >= core.next_id if ours else request_id not in core.peer_ids:
        raise violation(f"{type(message).__name__} for request id {request_id}, which was never used")
    if isinstance(message, RequestUpdate):
        _refuse_late_update(core, message)
    return None


def _refuse_late_update(core: Core, message: RequestUpdate) -> None:
    code = core.profile.request_number(RequestCode.DOES_NOT_EXIST)
    core.send_control(RequestError(request_id=message.request_id, code=code, reason="the request is over"))
    core.grant_requests()


def _describe(request: Request) -> str:
    return f"{request.verb} of {'ours' if request.ours else 'the peer'}"


# --- responses ------------------------------------------------------------------------------------------


def _subscribe_ok(core: Core, request: Request, message: SubscribeOk) -> None:
    core.advance(request, Trigger.ACCEPT, local=False)
    check_alias(core, message.alias, request.name)
    if has_unknown_mandatory(core.profile, message.track_properties):
        core.hang_up(request)
        reason = "a mandatory track property is not known here"
        core.emit(RequestRejected(request.handle, RequestCode.UNSUPPORTED_EXTENSION, reason))
        return
    request.alias = message.alias
    core.aliases.setdefault(message.alias, request)
    core.emit(
        SubscribeAccepted(
            request.handle,
            message.alias,
            message.parameters.largest,
            message.parameters.expires_ms or None,
            message.track_properties,
        )
    )


def _publish_ok(core: Core, request: Request, message: PublishOk | RequestOk) -> None:
    _check_no_properties(message)
    core.advance(request, Trigger.ACCEPT, local=False)
    core.emit(_publish_accepted(request, message.parameters))


def _publish_accepted(request: Request, parameters: Parameters) -> PublishAccepted:
    priority = parameters.subscriber_priority
    return PublishAccepted(
        request.handle,
        forward=parameters.forward is not False,
        priority=DEFAULT_PRIORITY if priority is None else priority,
        filter=parameters.filter,
        group_order=parameters.group_order,
        expires_ms=parameters.expires_ms or None,
    )


def _request_ok(core: Core, request: Request, message: RequestOk) -> None:
    _check_no_properties(message)
    if _answers_update(request, message.request_id):
        _take_update(core, request, message.request_id)
        parameters = message.parameters
        core.emit(UpdateAccepted(request.handle, parameters.largest, parameters.expires_ms or None))
    elif request.verb is Verb.PUBLISH:
        _publish_ok(core, request, message)
    elif request.verb is Verb.SUBSCRIBE:
        raise violation("REQUEST_OK answers a SUBSCRIBE")
    else:
        core.advance(request, Trigger.ACCEPT, local=False)
        core.emit(RequestAccepted(request.handle))


def _request_error(core: Core, request: Request, message: RequestError) -> None:
    code = core.profile.request_code(message.code)
    if _answers_update(request, message.request_id):
        _take_update(core, request, message.request_id)
        core.emit(UpdateRejected(request.handle, code, message.reason))
        return
    core.advance(request, Trigger.REJECT, local=False)
    if message.redirect is not None:
        _check_redirect(core, request, message.redirect)
    core.finish(request)
    retry_ms = message.retry - 1 if message.retry else None
    core.emit(RequestRejected(request.handle, code, message.reason, retry_ms, message.redirect, message.code))


def _check_redirect(core: Core, request: Request, redirect: Redirect) -> None:
    if redirect.uri and not core.client:
        raise violation("REDIRECT with a URI from a client")
    if redirect.name.name and not request.is_subscription:
        raise violation(f"REDIRECT of a {request.verb} with a track name")


def _check_no_properties(message: PublishOk | RequestOk) -> None:
    if message.track_properties:
        raise violation(f"{type(message).__name__} with track properties")


def _answers_update(request: Request, request_id: int | None) -> bool:
    """Whether a response is to an update: its id says so, or (without ids) the request itself has had its
    own."""
    if request_id is not None:
        return request_id != request.request_id
    return not (request.ours and request.state is State.PENDING)


def _take_update(core: Core, request: Request, request_id: int | None) -> None:
    if not request.updates_sent or (request_id is not None and request_id not in request.updates_sent):
        raise violation(f"a response that nothing asked for, to a {_describe(request)}")
    if request_id is None:
        request_id = request.updates_sent.popleft()
    else:
        request.updates_sent.remove(request_id)
    core.by_id.pop(request_id, None)


# --- updates --------------------------------------------------------------------------------------------


def _request_update(core: Core, request: Request, message: RequestUpdate) -> None:
    tokens = core.tokens.resolve(message.parameters.authorization_tokens)
    request.updates_received.append(message.request_id)
    parameters = message.parameters
    if len(request.updates_received) > core.limits.updates_pending_max:
        reject_update(core, request, RequestCode.EXCESSIVE_LOAD, "too many updates wait for an answer")
    elif parameters.namespace_prefix is not None:
        reject_update(core, request, RequestCode.NOT_SUPPORTED, "a prefix cannot be changed here")
    else:
        event = UpdateRequested(
            request.handle,
            parameters.forward,
            parameters.subscriber_priority,
            parameters.filter,
            parameters,
            tokens,
        )
        if not request.ours and request.state is State.PENDING:
            request.deferred.append(event)  # its response must not come before that to the request
        else:
            core.emit(event)


# --- ends -----------------------------------------------------------------------------------------------


def _unsubscribe(core: Core, request: Request, _message: Unsubscribe) -> None:
    core.advance(request, Trigger.CANCEL, local=False)
    core.release(request)
    core.emit(RequestCancelled(request.handle))


def _publish_done(core: Core, request: Request, message: PublishDone) -> None:
    core.advance(request, Trigger.DONE, local=False)
    core.finish(request)
    count = None if message.stream_count >= STREAM_COUNT_UNKNOWN else message.stream_count
    status = core.profile.publish_done_code(message.status)
    core.emit(PublishEnded(request.handle, status, count, message.reason))


def _publish_namespace_done(core: Core, request: Request, _message: PublishNamespaceDone) -> None:
    core.advance(request, Trigger.CANCEL, local=False)
    core.release(request)
    core.emit(NamespaceWithdrawn(request.handle, request.namespace))


def _publish_namespace_cancel(core: Core, request: Request, _message: PublishNamespaceCancel) -> None:
    core.advance(request, Trigger.CANCEL, local=False)
    core.release(request)
    core.emit(RequestCancelled(request.handle))


# --- namespaces and migration ---------------------------------------------------------------------------


def _namespace(core: Core, request: Request, message: Namespace) -> None:
    namespace = _under_prefix(request, message.suffix)
    if namespace in request.suffixes:
        return
    if len(request.suffixes) >= core.limits.namespaces_max:
        core.hang_up(request, StreamCode.EXCESSIVE_LOAD, abrupt=True)
        forget_namespaces(core, request)
        core.emit(RequestCancelled(request.handle))
        return
    request.suffixes.add(namespace)
    core.emit(NamespaceAnnounced(request.handle, namespace))


def _namespace_done(core: Core, request: Request, message: NamespaceDone) -> None:
    namespace = _under_prefix(request, message.suffix)
    if namespace not in request.suffixes:
        raise violation("NAMESPACE_DONE before NAMESPACE")
    request.suffixes.remove(namespace)
    core.emit(NamespaceGone(request.handle, namespace))


def _under_prefix(request: Request, suffix: TrackNamespace) -> TrackNamespace:
    if request.state is not State.ESTABLISHED:
        raise violation("NAMESPACE before the response to SUBSCRIBE_NAMESPACE")
    try:
        return request.namespace.join(suffix)
    except InvalidName as error:
        raise violation(str(error)) from None


def forget_namespaces(core: Core, request: Request) -> None:
    """Reports every namespace that was announced in answer to a SUBSCRIBE_NAMESPACE of ours as gone."""
    for namespace in sorted(request.suffixes):
        core.emit(NamespaceGone(request.handle, namespace))
    request.suffixes.clear()


def _request_goaway(core: Core, request: Request, message: Goaway) -> None:
    if request.goaway_received:
        raise violation("a second GOAWAY on one request")
    if message.request_id is not None:
        raise violation("GOAWAY with a request id on a request stream")
    if message.uri and not core.client:
        raise violation("GOAWAY with a URI from a client")
    request.goaway_received = True
    core.emit(RequestGoaway(request.handle, message.uri, message.timeout_ms or 0))


_ANY_ROLE = frozenset((verb, ours) for verb in Verb for ours in (True, False))
_OUR_SUBSCRIBE, _THEIR_SUBSCRIBE = (Verb.SUBSCRIBE, True), (Verb.SUBSCRIBE, False)
_OUR_PUBLISH, _THEIR_PUBLISH = (Verb.PUBLISH, True), (Verb.PUBLISH, False)
_OUR_NAMESPACE, _THEIR_NAMESPACE = (Verb.PUBLISH_NAMESPACE, True), (Verb.PUBLISH_NAMESPACE, False)
_OUR_PREFIX, _THEIR_PREFIX = (Verb.SUBSCRIBE_NAMESPACE, True), (Verb.SUBSCRIBE_NAMESPACE, False)
_UPDATED_BY_PEER = {_THEIR_SUBSCRIBE, _THEIR_PUBLISH, _THEIR_NAMESPACE, _THEIR_PREFIX, _OUR_PUBLISH}
_ANSWERED_BY_PEER = {_OUR_SUBSCRIBE, _OUR_PUBLISH, _OUR_NAMESPACE, _OUR_PREFIX, _THEIR_PUBLISH}

FOLLOW_UPS: dict[type[Message], FollowUp] = {
    SubscribeOk: FollowUp(frozenset({_OUR_SUBSCRIBE}), _subscribe_ok),
    PublishOk: FollowUp(frozenset({_OUR_PUBLISH}), _publish_ok),
    RequestOk: FollowUp(frozenset(_ANSWERED_BY_PEER), _request_ok),
    RequestError: FollowUp(frozenset(_ANSWERED_BY_PEER), _request_error),
    RequestUpdate: FollowUp(frozenset(_UPDATED_BY_PEER), _request_update),
    Unsubscribe: FollowUp(frozenset({_THEIR_SUBSCRIBE, _OUR_PUBLISH}), _unsubscribe),
    PublishDone: FollowUp(frozenset({_OUR_SUBSCRIBE, _THEIR_PUBLISH}), _publish_done),
    PublishNamespaceDone: FollowUp(frozenset({_THEIR_NAMESPACE}), _publish_namespace_done),
    PublishNamespaceCancel: FollowUp(frozenset({_OUR_NAMESPACE}), _publish_namespace_cancel),
    FetchCancel: FollowUp(frozenset(), _unsubscribe),  # every FETCH was refused: it can only be late
    Namespace: FollowUp(frozenset({_OUR_PREFIX}), _namespace),
    NamespaceDone: FollowUp(frozenset({_OUR_PREFIX}), _namespace_done),
    Goaway: FollowUp(_ANY_ROLE, _request_goaway),
}
