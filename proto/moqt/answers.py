"""Commands that answer the peer's requests and updates."""

from __future__ import annotations

from farcast.proto.moqt.cancellation import cancel_sent
from farcast.proto.moqt.codec import MessageTooLarge
from farcast.proto.moqt.core import Core
from farcast.proto.moqt.errors import LocalError, PublishDoneCode, RequestCode
from farcast.proto.moqt.events import RequestCancelled
from farcast.proto.moqt.keyvalue import Pairs
from farcast.proto.moqt.messages import (
    STREAM_COUNT_UNKNOWN,
    Namespace,
    NamespaceDone,
    PublishDone,
    PublishOk,
    RequestError,
    RequestOk,
    SubscribeOk,
)
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.moqt.parameters import NO_PARAMETERS, Parameters
from farcast.proto.moqt.requests import Request, State, Trigger, Verb
from farcast.proto.moqt.values import Location, Redirect


def accept_subscribe(
    core: Core,
    handle: int,
    alias: int,
    largest: Location | None,
    expires_ms: int | None,
    track_properties: Pairs,
) -> None:
    """SUBSCRIBE_OK. A track whose properties do not fit this draft's message is refused instead, and
    ``RequestCancelled`` reported."""
    request = _of_peer(core, handle, Verb.SUBSCRIBE)
    if request is None:
        return
    core.advance(request, Trigger.ACCEPT, local=True)
    message = SubscribeOk(
        request_id=request.request_id,
        alias=alias,
        parameters=Parameters(largest=sendable_largest(core, largest), expires_ms=expires_ms or None),
        track_properties=track_properties,
    )
    try:
        core.send(request, message)
    except MessageTooLarge:
        request.state = State.PENDING
        reject(core, handle, RequestCode.INTERNAL_ERROR, "the track properties do not fit a message")
        core.emit(RequestCancelled(handle))
        return
    _report_deferred(core, request)


def accept_publish(core: Core, handle: int, parameters: Parameters) -> None:
    """PUBLISH_OK (REQUEST_OK from draft 17 on). A SUBSCRIBE of ours for the same track that is still pending
    is cancelled first, as the drafts demand."""
    request = _of_peer(core, handle, Verb.PUBLISH)
    if request is None:
        return
    core.advance(request, Trigger.ACCEPT, local=True)
    _supersede(core, request)
    kind = RequestOk if core.profile.requests_on_streams else PublishOk
    core.send(request, kind(request_id=request.request_id, parameters=parameters))
    _report_deferred(core, request)


def accept(core: Core, handle: int) -> None:
    """REQUEST_OK to a PUBLISH_NAMESPACE or SUBSCRIBE_NAMESPACE."""
    request = _of_peer(core, handle, Verb.PUBLISH_NAMESPACE, Verb.SUBSCRIBE_NAMESPACE)
    if request is None:
        return
    core.advance(request, Trigger.ACCEPT, local=True)
    core.send(request, RequestOk(request_id=request.request_id))
    _report_deferred(core, request)


def reject(
    core: Core,
    handle: int,
    code: RequestCode,
    reason: str,
    retry_ms: int | None = None,
    redirect: Redirect | None = None,
) -> None:
    """REQUEST_ERROR; the request is over."""
    request = _of_peer(core, handle, *Verb)
    if request is None:
        return
    core.advance(request, Trigger.REJECT, local=True)
    if code is RequestCode.REDIRECT:
        redirect = redirect or Redirect()
        redirect = Redirect("", redirect.name) if core.client else redirect
    else:
        redirect = None
    _send_error(core, request, request.request_id, code, reason, retry_ms, redirect, fin=True)
    core.release(request)


def announce_to(core: Core, handle: int, namespace: TrackNamespace) -> None:
    """NAMESPACE, unless it was announced already. Raises ``LocalError`` outside the prefix asked for."""
    request = _subscriber_to_namespaces(core, handle, namespace)
    if request is not None and namespace not in request.suffixes:
        request.suffixes.add(namespace)
        core.send(request, Namespace(suffix=namespace.suffix_after(request.namespace)))


def withdraw_from(core: Core, handle: int, namespace: TrackNamespace) -> None:
    """NAMESPACE_DONE, if it was announced."""
    request = _subscriber_to_namespaces(core, handle, namespace)
    if request is not None and namespace in request.suffixes:
        request.suffixes.remove(namespace)
        core.send(request, NamespaceDone(suffix=namespace.suffix_after(request.namespace)))


def accept_update(core: Core, handle: int, largest: Location | None, expires_ms: int | None) -> None:
    """REQUEST_OK to the oldest update that has no answer."""
    request = core.find(handle)
    if request is None:
        return
    parameters = Parameters(largest=sendable_largest(core, largest), expires_ms=expires_ms or None)
    if not request.is_subscription:
        parameters = NO_PARAMETERS
    core.send(request, RequestOk(request_id=_take_update(request), parameters=parameters))
    core.grant_requests()


def reject_update(core: Core, request: Request, code: RequestCode, reason: str) -> None:
    """REQUEST_ERROR to the oldest update that has no answer.

    What was to be updated ends with it (draft 18, section 10.9.1): a subscription that we serve with
    PUBLISH_DONE, a namespace request with its stream; ``RequestCancelled`` is reported. A request that has
    not been accepted is itself refused. Only a PUBLISH that the peer updates goes on.
    """
    if not request.ours and request.state is State.PENDING:
        reject(core, request.handle, code, reason)
        core.emit(RequestCancelled(request.handle))
        return
    _send_error(core, request, _take_update(request), code, reason)
    core.grant_requests()
    if request.is_subscription and not request.we_publish:
        return
    if request.is_subscription:
        status = core.profile.publish_done_number(PublishDoneCode.UPDATE_FAILED)
        count = STREAM_COUNT_UNKNOWN
        done = PublishDone(request_id=request.request_id, status=status, stream_count=count, reason=reason)
        core.send(request, done, fin=True)
        core.finish(request)
    else:
        cancel_sent(core, request, abrupt=False)
    core.emit(RequestCancelled(request.handle))


def sendable_largest(core: Core, largest: Location | None) -> Location | None:
    """LARGEST_OBJECT, unless the peer is known to stumble over it in this draft."""
    return None if core.quirks.largest_omitted and core.profile.requests_on_streams else largest


def _of_peer(core: Core, handle: int, *verbs: Verb) -> Request | None:
    request = core.find(handle)
    if request is not None and (request.ours or request.verb not in verbs):
        side = "of ours" if request.ours else "of the peer"
        raise LocalError(f"this command is not for a {request.verb} {side}")
    return request


def _subscriber_to_namespaces(core: Core, handle: int, namespace: TrackNamespace) -> Request | None:
    request = _of_peer(core, handle, Verb.SUBSCRIBE_NAMESPACE)
    if request is None:
        return None
    if request.state is not State.ESTABLISHED:
        raise LocalError("a SUBSCRIBE_NAMESPACE has to be accepted before it is answered")
    if not namespace.starts_with(request.namespace):
        raise LocalError(f"{namespace} is not under the prefix {request.namespace}")
    return request


def _supersede(core: Core, request: Request) -> None:
    assert request.name is not None
    other = core.as_subscriber.get(request.name)
    if other is None or other is request:
        return
    core.as_subscriber[request.name] = request
    cancel_sent(core, other)
    core.emit(RequestCancelled(other.handle))


def _take_update(request: Request) -> int:
    if not request.updates_received:
        raise LocalError("there is no update to answer")
    return request.updates_received.popleft()


def _send_error(
    core: Core,
    request: Request,
    request_id: int,
    code: RequestCode,
    reason: str,
    retry_ms: int | None = None,
    redirect: Redirect | None = None,
    *,
    fin: bool = False,
) -> None:
    error = RequestError(
        request_id=request_id,
        code=core.profile.request_number(code),
        retry=0 if retry_ms is None else retry_ms + 1,
        reason=reason,
        redirect=redirect,
    )
    core.send(request, error, fin=fin)


def _report_deferred(core: Core, request: Request) -> None:
    core.events.extend(request.deferred)
    request.deferred.clear()
