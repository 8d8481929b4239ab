"""Commands about our own requests, and those that end a request of either side."""

from __future__ import annotations

from dataclasses import fields, replace

from farcast.proto.moqt.answers import reject
from farcast.proto.moqt.cancellation import cancel_sent
from farcast.proto.moqt.core import Core
from farcast.proto.moqt.errors import LocalError, PublishDoneCode, RequestCode, SessionCode
from farcast.proto.moqt.events import UpdateAccepted, UpdateRejected
from farcast.proto.moqt.keyvalue import Pairs
from farcast.proto.moqt.messages import (
    STREAM_COUNT_UNKNOWN,
    Goaway,
    Message,
    Publish,
    PublishDone,
    PublishNamespace,
    RequestUpdate,
    Subscribe,
    SubscribeNamespace,
)
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.parameters import Parameters
from farcast.proto.moqt.requests import Request, State, Trigger, Verb
from farcast.proto.moqt.values import Interest

_UNSENT = 0
"""Request id of a message that has none yet."""


def subscribe(core: Core, name: FullTrackName, parameters: Parameters) -> int:
    """SUBSCRIBE."""
    request = core.new_request(Verb.SUBSCRIBE, ours=True)
    request.name = name
    return core.start(request, Subscribe(request_id=_UNSENT, name=name, parameters=parameters))


def publish(
    core: Core, name: FullTrackName, alias: int, parameters: Parameters, track_properties: Pairs
) -> int:
    """PUBLISH."""
    request = core.new_request(Verb.PUBLISH, ours=True)
    request.name = name
    message = Publish(
        request_id=_UNSENT,
        name=name,
        alias=alias,
        parameters=parameters,
        track_properties=track_properties,
    )
    return core.start(request, message)


def publish_namespace(core: Core, namespace: TrackNamespace, parameters: Parameters) -> int:
    """PUBLISH_NAMESPACE."""
    request = core.new_request(Verb.PUBLISH_NAMESPACE, ours=True)
    request.namespace = namespace
    message = PublishNamespace(request_id=_UNSENT, namespace=namespace, parameters=parameters)
    return core.start(request, message)


def subscribe_namespace(
    core: Core, prefix: TrackNamespace, interest: Interest, parameters: Parameters
) -> int:
    """SUBSCRIBE_NAMESPACE."""
    request = core.new_request(Verb.SUBSCRIBE_NAMESPACE, ours=True)
    request.namespace = prefix
    request.interest = interest
    message = SubscribeNamespace(request_id=_UNSENT, prefix=prefix, interest=interest, parameters=parameters)
    return core.start(request, message)


# --- changes --------------------------------------------------------------------------------------------


def update(core: Core, handle: int, parameters: Parameters) -> None:
    """REQUEST_UPDATE. A request that is not out yet is changed before it goes."""
    request = core.find(handle)
    if request is None:
        return
    if not request.ours and request.verb is not Verb.PUBLISH:
        raise LocalError(f"a {request.verb} of the peer is not ours to update")
    if not request.ours and request.state is State.PENDING:
        raise LocalError("a PUBLISH has to be accepted before it is updated")
    if request.state is State.QUEUED:
        _update_unsent(core, request, parameters)
    elif len(request.updates_sent) >= core.limits.updates_unanswered_max:
        core.emit(UpdateRejected(handle, RequestCode.EXCESSIVE_LOAD, "too many updates without an answer"))
    else:
        core.queue.append((request, RequestUpdate(request_id=_UNSENT, parameters=parameters)))
        core.flush_queue()


def _update_unsent(core: Core, request: Request, parameters: Parameters) -> None:
    for index, (queued, message) in enumerate(core.queue):
        if queued is request:
            core.queue[index] = (request, _merged(message, parameters))
            core.emit(UpdateAccepted(request.handle))
            return


def _merged(message: Message, changes: Parameters) -> Message:
    before: Parameters = message.parameters  # type: ignore[attr-defined]
    present = {
        f.name: value for f in fields(changes) if (value := getattr(changes, f.name)) not in (None, ())
    }
    return replace(message, parameters=replace(before, **present))  # type: ignore[call-arg]


# --- ends -----------------------------------------------------------------------------------------------


def publish_done(
    core: Core, handle: int, status: PublishDoneCode, stream_count: int | None, reason: str
) -> None:
    """PUBLISH_DONE."""
    request = core.find(handle)
    if request is None:
        return
    if not (request.is_subscription and request.we_publish):
        raise LocalError(f"PUBLISH_DONE for a {request.verb} where we do not publish")
    unsent = request.state is State.QUEUED
    core.advance(request, Trigger.DONE, local=True)
    if not unsent:
        message = PublishDone(
            request_id=request.request_id,
            status=core.profile.publish_done_number(status),
            stream_count=STREAM_COUNT_UNKNOWN if stream_count is None else stream_count,
            reason=reason,
        )
        core.send(request, message, fin=True)
    core.release(request)


_REFUSALS = {
    Verb.SUBSCRIBE: RequestCode.INTERNAL_ERROR,
    Verb.PUBLISH: RequestCode.UNINTERESTED,
    Verb.PUBLISH_NAMESPACE: RequestCode.UNINTERESTED,
    Verb.SUBSCRIBE_NAMESPACE: RequestCode.INTERNAL_ERROR,
}
_DONE_STATUS = {Verb.SUBSCRIBE: PublishDoneCode.INTERNAL_ERROR, Verb.PUBLISH: PublishDoneCode.TRACK_ENDED}


def cancel(core: Core, handle: int) -> None:
    """Ends a request in the way that its verb, its state and the draft have for it."""
    request = core.find(handle)
    if request is None:
        return
    if request.state is State.QUEUED:
        core.release(request)
    elif not request.ours and request.state is State.PENDING:
        reject(core, handle, _REFUSALS[request.verb], "cancelled")
    elif request.is_subscription and request.we_publish:
        publish_done(core, handle, _DONE_STATUS[request.verb], None, "cancelled")
    else:
        cancel_sent(core, request)


# --- migration ------------------------------------------------------------------------------------------


def goaway(core: Core, uri: str, timeout_ms: int) -> None:
    """GOAWAY on the control stream, once; a session that is not up yet is closed instead."""
    if uri and core.client:
        raise LocalError("a client cannot send a server elsewhere")
    if core.closed or core.goaway_sent:
        return
    if not core.ready:
        core.close(SessionCode.NO_ERROR, "going away")
        return
    core.goaway_sent = True
    core.send_control(Goaway(uri=uri, timeout_ms=timeout_ms, request_id=core.peer_ids.next))


def goaway_request(core: Core, handle: int, uri: str, timeout_ms: int) -> None:
    """GOAWAY on a request stream, once."""
    request = core.find(handle)
    if request is None:
        return
    if not core.profile.requests_on_streams:
        raise LocalError(f"{core.profile.name} cannot move a single request")
    if uri and core.client:
        raise LocalError("a client cannot send a server elsewhere")
    if request.state is State.QUEUED or request.goaway_sent:
        return
    request.goaway_sent = True
    core.send(request, Goaway(uri=uri, timeout_ms=timeout_ms))
