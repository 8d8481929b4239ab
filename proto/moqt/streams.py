"""Streams: which bytes are whose, and what the end of a stream means for the request on it.

The tables at the end say for which requests a FIN, a reset or STOP_SENDING of the peer is the end:

- A *reset* always is.
- A *FIN* is where the peer has nothing left to say: as the publisher of a subscription, and as the requester
  of a namespace request (draft 18, section 6.1, and moq-net, which withdraws a namespace so). It is not for
  a SUBSCRIBE or a PUBLISH that the peer made or took: it merely has no further updates.
- *STOP_SENDING* is where we were to send what was asked for.
- A FIN and STOP_SENDING together always are, as nothing can be said any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from farcast.proto.moqt.codec import decode_message
from farcast.proto.moqt.core import Core, RequestStream
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode, StreamCode, violation
from farcast.proto.moqt.events import (
    NamespaceWithdrawn,
    PublishEnded,
    RequestCancelled,
    RequestRejected,
    StreamReset,
)
from farcast.proto.moqt.followups import Role, follow_up, forget_namespaces
from farcast.proto.moqt.inbound import SESSION_MESSAGES, is_request, open_request
from farcast.proto.moqt.messages import AnySetup
from farcast.proto.moqt.profile import MessageRow, Place
from farcast.proto.moqt.requests import Request, State, Verb
from farcast.proto.moqt.setup import receive_setup


@dataclass(slots=True)
class EarlyStream:
    """What came on a request stream that is ahead of the peer's SETUP."""

    data: bytearray = field(default_factory=bytearray)
    fin: bool = False
    stop_code: int | None = None


class EarlyStreams:
    """Request streams that are ahead of the peer's SETUP (draft 18, section 3.3), within the session's
    limits."""

    def __init__(self) -> None:
        self._streams: dict[int, EarlyStream] = {}
        self._bytes = 0

    def push(self, core: Core, key: int, data: bytes, fin: bool) -> None:
        """Keeps what came, or resets the stream."""
        if self._bytes + len(data) > core.limits.early_stream_bytes_max:
            self.drop(key)
            refuse_stream(core, core.accept_stream(key))
        elif (early := self._stream(core, key)) is not None:
            early.data += data
            early.fin = fin
            self._bytes += len(data)

    def stop(self, core: Core, key: int, code: int) -> None:
        """Keeps that the peer wants nothing on a stream."""
        if (early := self._stream(core, key)) is not None:
            early.stop_code = code

    def drop(self, key: int) -> None:
        """Forgets a stream."""
        if (early := self._streams.pop(key, None)) is not None:
            self._bytes -= len(early.data)

    def take(self) -> dict[int, EarlyStream]:
        """All that was kept, in the order in which the streams came."""
        kept = self._streams
        self._streams = {}
        self._bytes = 0
        return kept

    def _stream(self, core: Core, key: int) -> EarlyStream | None:
        if key not in self._streams and len(self._streams) >= core.limits.early_streams_max:
            refuse_stream(core, core.accept_stream(key))
            return None
        return self._streams.setdefault(key, EarlyStream())


def refuse_stream(core: Core, stream: RequestStream) -> None:
    """Resets a stream of the peer that there is no room for."""
    core.close_stream(stream, StreamCode.EXCESSIVE_LOAD, abrupt=True)


# --- the control stream ---------------------------------------------------------------------------------


def control_data(core: Core, key: int, data: bytes, fin: bool, early: EarlyStreams) -> None:
    """Bytes of the peer's control stream. Raises :class:`ProtocolError`."""
    _check_control_key(core, key)
    core.control_framer.push(data)
    while not core.closed and (item := core.control_framer.next()) is not None:
        row, payload = item
        if Place.CONTROL not in row.place:
            raise violation(f"{row.message.__name__} on the control stream")
        _control_message(core, row, payload, early)
    if fin:
        raise violation("the control stream ended")


def _check_control_key(core: Core, key: int) -> None:
    if core.peer_control_key is None:
        if core.profile.control_bidi and core.client and key != core.control_key:
            raise violation("a control stream opened by the server")
        core.peer_control_key = key
        if core.profile.control_bidi:
            core.control_key = key
    elif key != core.peer_control_key:
        raise violation("a second control stream")


def _control_message(core: Core, row: MessageRow, payload: bytes, early: EarlyStreams) -> None:
    if issubclass(row.message, AnySetup) == core.established:
        raise violation("a second SETUP" if core.established else f"{row.message.__name__} before SETUP")
    message = decode_message(row, payload, core.profile)
    if isinstance(message, AnySetup):
        receive_setup(core, message)
        for key, stream in early.take().items():
            if stream.stop_code is not None:
                request_stopped(core, key, stream.stop_code)
            request_data(core, key, bytes(stream.data), stream.fin)
    elif row.message in SESSION_MESSAGES:
        SESSION_MESSAGES[row.message](core, message)
    elif is_request(message):
        open_request(core, message, None)
    else:
        follow_up(core, message, None)


# --- request streams ------------------------------------------------------------------------------------


def request_data(core: Core, key: int, data: bytes, fin: bool) -> None:
    """Bytes of a request stream once SETUP is here. Raises :class:`ProtocolError`."""
    if core.is_new_stream(key):
        stream = core.accept_stream(key)
        if len(core.streams) - len(core.finished_streams) > _streams_max(core):
            refuse_stream(core, stream)
    else:
        known = core.streams.get(key)
        if known is None:
            return
        stream = known
    if not stream.finished:
        _read_messages(core, stream, data)
    if fin and not core.closed:
        stream.receive_open = False
        _end_of_data(core, stream)


def _streams_max(core: Core) -> int:
    """Open streams at most: our requests, the peer's, and as many that have not said what they want."""
    return len(core.requests) + core.limits.requests_open_max


def _read_messages(core: Core, stream: RequestStream, data: bytes) -> None:
    stream.framer.push(data)
    while not core.closed and not stream.finished and (item := stream.framer.next()) is not None:
        row, payload = item
        _check_place(row, stream)
        message = decode_message(row, payload, core.profile)
        if stream.request is None:
            open_request(core, message, stream)
        else:
            follow_up(core, message, stream.request)


def _check_place(row: MessageRow, stream: RequestStream) -> None:
    first = stream.request is None
    if first != (Place.FIRST in row.place):
        raise violation(f"{row.message.__name__} {'opens' if first else 'inside'} a request stream")
    if Place.REQUEST not in row.place:
        raise violation(f"{row.message.__name__} on a request stream")


def _end_of_data(core: Core, stream: RequestStream) -> None:
    """The peer sent a FIN."""
    request = stream.request
    if stream.finished:
        core.finish_stream(stream)
        return
    if stream.framer.buffered_bytes:
        raise violation("a request stream ended inside a message")
    if request is None:
        core.close_stream(stream, StreamCode.CANCELLED, abrupt=False)
        return
    unanswered = request.ours and request.state is State.PENDING
    if unanswered or _role(request) in ENDED_BY_FIN or not stream.send_open:
        core.finish(request)
        _report_end(core, request, unanswered, PublishDoneCode.TRACK_ENDED, "the publisher ended the stream")


def request_reset(core: Core, key: int, code: int) -> None:
    """The peer reset its side of a request stream."""
    stream = core.streams.get(key)
    if stream is None:
        return
    stream.receive_open = False
    request = stream.request
    if request is None:
        core.close_stream(stream, StreamCode.CANCELLED, abrupt=True)
        return
    unanswered = request.ours and request.state is State.PENDING
    core.hang_up(request, abrupt=True)
    status = _STATUS_OF_RESET.get(_stream_code(core, code), PublishDoneCode.INTERNAL_ERROR)
    _report_end(core, request, unanswered, status, f"the peer reset the stream ({code:#x})")


def request_stopped(core: Core, key: int, code: int) -> None:
    """The peer wants nothing more on our side of a request stream."""
    stream = core.accept_stream(key) if core.is_new_stream(key) else core.streams.get(key)
    if stream is None or not stream.send_open:
        return
    request = stream.request
    if request is not None and (_ended_by_stop(request) or not stream.receive_open):
        core.hang_up(request, abrupt=True)
        reason = f"the peer stopped the stream ({code:#x})"
        _report_end(core, request, False, PublishDoneCode.INTERNAL_ERROR, reason)
    else:
        # A request that STOP_SENDING has overtaken is still taken in: its id and its tokens count.
        stream.send_open = False
        core.transmits.append(StreamReset(key, core.profile.stream_number(StreamCode.CANCELLED)))


def _ended_by_stop(request: Request) -> bool:
    """A request of ours must have had its response: STOP_SENDING can overtake it."""
    answered = not request.ours or request.state is State.ESTABLISHED
    return answered and _role(request) in ENDED_BY_STOP


def _report_end(core: Core, request: Request, unanswered: bool, status: PublishDoneCode, reason: str) -> None:
    """Says what the end of a request's stream means."""
    if unanswered:
        text = reason or "the stream ended without a response"
        core.emit(RequestRejected(request.handle, RequestCode.INTERNAL_ERROR, text))
    elif request.is_subscription and not request.we_publish:
        core.emit(PublishEnded(request.handle, status, None, reason))
    elif _role(request) == (Verb.PUBLISH_NAMESPACE, False):
        core.emit(NamespaceWithdrawn(request.handle, request.namespace))
    else:
        if request.ours:
            forget_namespaces(core, request)
        core.emit(RequestCancelled(request.handle))


def _role(request: Request) -> Role:
    return request.verb, request.ours


def _stream_code(core: Core, number: int) -> StreamCode:
    codes = core.profile.stream_codes
    return next((code for code, known in codes.items() if known == number), StreamCode.INTERNAL_ERROR)


_STATUS_OF_RESET = {
    StreamCode.GOING_AWAY: PublishDoneCode.GOING_AWAY,
    StreamCode.TOO_FAR_BEHIND: PublishDoneCode.TOO_FAR_BEHIND,
    StreamCode.EXCESSIVE_LOAD: PublishDoneCode.EXCESSIVE_LOAD,
    StreamCode.MALFORMED_TRACK: PublishDoneCode.MALFORMED_TRACK,
    StreamCode.EXPIRED_AUTH_TOKEN: PublishDoneCode.UNAUTHORIZED,
}

ENDED_BY_FIN: frozenset[Role] = frozenset(
    {
        (Verb.SUBSCRIBE, True),
        (Verb.PUBLISH, False),
        (Verb.PUBLISH_NAMESPACE, False),
        (Verb.SUBSCRIBE_NAMESPACE, False),
        (Verb.SUBSCRIBE_NAMESPACE, True),
    }
)
ENDED_BY_STOP: frozenset[Role] = frozenset(
    {
        (Verb.SUBSCRIBE, False),
        (Verb.PUBLISH, True),
        (Verb.PUBLISH_NAMESPACE, True),
        (Verb.PUBLISH_NAMESPACE, False),
        (Verb.SUBSCRIBE_NAMESPACE, False),
    }
)
