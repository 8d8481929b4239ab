"""How a request that is out is cancelled: by its stream, or by a message where it has none."""

from __future__ import annotations

from farcast.proto.moqt.core import Core
from farcast.proto.moqt.errors import RequestCode, StreamCode
from farcast.proto.moqt.messages import Message, PublishNamespaceCancel, PublishNamespaceDone, Unsubscribe
from farcast.proto.moqt.requests import Request, Trigger, Verb


def cancel_sent(core: Core, request: Request, *, abrupt: bool | None = None) -> None:
    """Cancels a request of ours that was sent, or one of the peer's that was accepted.

    Our own streams end with FIN and STOP_SENDING, so that the request itself still arrives and what it had
    done is undone in good order (moq-net keeps a namespace alive for a while whose stream was reset); the
    peer's are reset, unless ``abrupt`` says otherwise because something said before is still to arrive.
    """
    core.advance(request, Trigger.CANCEL, local=True)
    if request.stream is not None:
        core.hang_up(request, StreamCode.CANCELLED, abrupt=not request.ours if abrupt is None else abrupt)
        return
    core.send(request, _cancel_message(core, request))
    core.release(request)


def _cancel_message(core: Core, request: Request) -> Message:
    """What draft 16 sends instead of ending a stream."""
    if request.verb is not Verb.PUBLISH_NAMESPACE:
        return Unsubscribe(request_id=request.request_id)
    if request.ours:
        return PublishNamespaceDone(request_id=request.request_id)
    code = core.profile.request_number(RequestCode.UNINTERESTED)
    return PublishNamespaceCancel(request_id=request.request_id, code=code, reason="cancelled")
