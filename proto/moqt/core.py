"""What all parts of a session share: its tables, its streams, and its two output queues.

Nothing here knows what a message means; :mod:`.inbound` and :mod:`.outbound` do.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from farcast.proto.moqt.codec import MessageTooLarge, encode_message
from farcast.proto.moqt.errors import (
    LocalError,
    ProtocolError,
    RequestCode,
    SessionCode,
    StreamCode,
    violation,
)
from farcast.proto.moqt.events import (
    Event,
    OpenStream,
    RequestRejected,
    SessionClose,
    SessionFailed,
    StreamReset,
    StreamStop,
    StreamWrite,
    Transmit,
)
from farcast.proto.moqt.framer import Framer
from farcast.proto.moqt.limits import SessionLimits
from farcast.proto.moqt.messages import MaxRequestId, Message
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.moqt.profile import Place, Profile
from farcast.proto.moqt.quirks import NO_QUIRKS, Quirks
from farcast.proto.moqt.requests import Request, State, Trigger, Verb
from farcast.proto.moqt.seen import SeenIds
from farcast.proto.moqt.tokens import TokenCache
from farcast.proto.moqt.values import SetupOptions

LOCAL_STREAM_BIT = 1 << 62
"""Set in the keys of streams that we open, as the datapath wants it."""


@dataclass(slots=True, eq=False)
class RequestStream:
    """A request's own bidirectional stream. ``request`` is ``None`` before its first message and after its
    end (``finished``), when all that still comes is dropped."""

    key: int
    framer: Framer
    request: Request | None = None
    finished: bool = False
    send_open: bool = True
    receive_open: bool = True


class Core:
    """Tables, streams and queues of one session."""

    def __init__(
        self,
        profile: Profile,
        *,
        client: bool,
        options: SetupOptions,
        limits: SessionLimits,
        webtransport: bool,
        quirks: Mapping[str, Quirks],
    ) -> None:
        self.profile = profile
        self.client = client
        self.options = options
        self.limits = limits
        self.webtransport = webtransport
        self.quirk_table = quirks
        self.quirks = NO_QUIRKS
        self.opened = False
        self.established = False
        self.closed = False
        self.goaway_sent = False
        self.goaway_received = False
        self.control_key: int | None = None
        """Where we write control messages."""
        self.peer_control_key: int | None = None
        self.control_framer = Framer(profile, limits.message_bytes_max)
        self.tokens = TokenCache(limits.auth_token_cache_bytes_max)
        self.requests: dict[int, Request] = {}
        self.by_id: dict[int, Request] = {}
        """Open requests and unanswered updates by request id, ours and the peer's (parity tells them
        apart)."""
        self.as_publisher: dict[FullTrackName, Request] = {}
        self.as_subscriber: dict[FullTrackName, Request] = {}
        self.aliases: dict[int, Request] = {}
        """Subscriptions by the alias that the peer gave."""
        self.streams: dict[int, RequestStream] = {}
        self.finished_streams: dict[int, None] = {}
        """Keys of streams that are done with but may still bring data; oldest first."""
        self.transmits: deque[Transmit] = deque()
        self.events: deque[Event] = deque()
        self.queue: deque[tuple[Request, Message]] = deque()
        self.next_id = 0 if client else 1
        self.peer_ids = SeenIds(1 if client else 0, 2, limits.request_id_gaps_max)
        self.peer_streams = SeenIds(1 if client else 0, 4, limits.request_id_gaps_max)
        """Bidirectional streams of the peer, by QUIC stream id."""
        self.id_limit = 0
        """Request ids that the peer has granted lie below (drafts that limit them)."""
        self.granted_limit = self.peer_ids.next + 2 * limits.requests_open_max
        """Request ids that we have granted lie below."""
        self.peer_requests_open = 0
        self._next_handle = 1
        self._next_stream = 0

    # --- output -----------------------------------------------------------------------------------------

    def emit(self, event: Event) -> None:
        """Queues an event."""
        self.events.append(event)

    def fail(self, error: ProtocolError) -> None:
        """The peer is at fault: close, and say so."""
        if not self.closed:
            self.close(error.code, error.reason)
            self.emit(SessionFailed(error.code, error.reason))

    def close(self, code: SessionCode, reason: str) -> None:
        """Closes the session; all requests are forgotten without further events."""
        if self.closed:
            return
        self.closed = True
        self.transmits.append(SessionClose(code, reason))
        tables: tuple[dict[Any, Any], ...] = (
            self.requests,
            self.by_id,
            self.as_publisher,
            self.as_subscriber,
            self.aliases,
            self.streams,
            self.finished_streams,
        )
        for table in tables:
            table.clear()
        self.queue.clear()

    def send_control(self, message: Message) -> None:
        """Writes a message to the control stream."""
        assert self.control_key is not None
        self.transmits.append(StreamWrite(self.control_key, encode_message(message, self.profile)))

    def open_control(self, *, bidi: bool) -> None:
        """Opens our control stream."""
        self.control_key = self.new_stream_key()
        self.transmits.append(OpenStream(self.control_key, bidi))

    def new_stream_key(self) -> int:
        """The key of a stream that we are about to open."""
        key = LOCAL_STREAM_BIT | self._next_stream
        self._next_stream += 1
        return key

    # --- our requests -----------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether requests can be sent: as soon as our SETUP is out where the draft lets us pipeline."""
        return (self.established if self.profile.control_bidi else self.opened) and not self.closed

    def new_request(self, verb: Verb, *, ours: bool) -> Request:
        """A request with a handle of its own, not in any table."""
        handle = self._next_handle
        self._next_handle += 1
        return Request(handle, verb, ours, State.QUEUED if ours else State.PENDING)

    def start(self, request: Request, message: Message) -> int:
        """Sends or queues a request of ours (``message`` without its request id); gives its handle."""
        if self.closed:
            return request.handle
        if self.goaway_received:
            self.reject_locally(request, RequestCode.GOING_AWAY, "the peer is going away")
        elif len(self.queue) >= self.limits.requests_queued_max:
            self.reject_locally(request, RequestCode.EXCESSIVE_LOAD, "too many requests wait to be sent")
        else:
            self.requests[request.handle] = request
            self.queue.append((request, message))
            self.flush_queue()
        return request.handle

    def reject_locally(self, request: Request, code: RequestCode, reason: str) -> None:
        """Ends a request of ours that the peer has not seen."""
        request.state = State.CLOSED
        self.requests.pop(request.handle, None)
        self.emit(RequestRejected(request.handle, code, reason))

    def flush_queue(self) -> None:
        """Sends what waits, as far as the peer has granted request ids."""
        while self.queue and self.ready and self._id_available():
            request, message = self.queue.popleft()
            if request.state is State.QUEUED:
                self._send_first(request, message)
            else:
                self._send_update(request, message)

    def _id_available(self) -> bool:
        return not self.profile.request_ids_limited or self.next_id < self.id_limit

    def take_id(self, request: Request) -> int:
        """The next request id of ours, which now belongs to ``request``."""
        request_id = self.next_id
        self.next_id += 2
        self.by_id[request_id] = request
        return request_id

    def _send_first(self, request: Request, message: Message) -> None:
        ids = {"request_id": self.next_id}
        try:
            data = encode_message(replace(message, **ids), self.profile)
        except MessageTooLarge as error:
            self.reject_locally(request, RequestCode.INTERNAL_ERROR, str(error))
            return
        request.request_id = self.take_id(request)
        request.state = State.PENDING
        self._enter_names(request)
        if Place.FIRST in self.profile.layouts[type(message)].place:
            request.stream = self.new_stream_key()
            self.transmits.append(OpenStream(request.stream, bidi=True))
            self.streams[request.stream] = self._new_stream(request.stream, request)
        self._write(request, data)

    def _send_update(self, request: Request, message: Message) -> None:
        update_id = self.take_id(request)
        request.updates_sent.append(update_id)
        ids = {"request_id": update_id, "existing_request_id": request.request_id}
        self._write(request, encode_message(replace(message, **ids), self.profile))

    # --- any request ------------------------------------------------------------------------------------

    def find(self, handle: int) -> Request | None:
        """The open request of this handle; ``None`` once it is over."""
        return self.requests.get(handle)

    def advance(self, request: Request, trigger: Trigger, *, local: bool) -> None:
        """Moves a request on. Raises ``LocalError`` or ``ProtocolError``, by whose fault it is that it
        cannot."""
        state = request.next_state(trigger, local=local)
        if state is None:
            text = f"{trigger} of a {request.verb} that is {request.state}"
            raise LocalError(text) if local else violation(text)
        request.state = state

    def admit(self, request: Request) -> None:
        """Enters a request of the peer into the tables."""
        self.requests[request.handle] = request
        self.by_id[request.request_id] = request
        self._enter_names(request)
        self.peer_requests_open += 1

    def send(self, request: Request, message: Message, *, fin: bool = False) -> None:
        """Writes a message about a request where it belongs; ``fin`` ends our side of its stream, if it has
        one."""
        self._write(request, encode_message(message, self.profile), fin=fin)

    def _write(self, request: Request, data: bytes, *, fin: bool = False) -> None:
        if request.stream is None:
            assert self.control_key is not None
            self.transmits.append(StreamWrite(self.control_key, data))
            return
        stream = self.streams.get(request.stream)
        if stream is not None and stream.send_open:
            self.transmits.append(StreamWrite(stream.key, data, fin))
            stream.send_open = not fin

    def release(self, request: Request) -> None:
        """Forgets a request that is over. Its stream, if any, is finished as far as it is still open."""
        request.state = State.CLOSED
        if self.requests.pop(request.handle, None) is None:
            return
        if any(waiting is request for waiting, _ in self.queue):
            self.queue = deque(item for item in self.queue if item[0] is not request)
        for request_id in (request.request_id, *request.updates_sent, *request.updates_received):
            self.by_id.pop(request_id, None)
        for table in (self.as_publisher, self.as_subscriber):
            if request.name is not None and table.get(request.name) is request:
                del table[request.name]
        if request.alias is not None and self.aliases.get(request.alias) is request:
            del self.aliases[request.alias]
        stream = self.stream_of(request)
        if stream is not None:
            self.finish_stream(stream)
        if not request.ours:
            self.peer_requests_open -= 1
            self.grant_requests()

    def stream_of(self, request: Request) -> RequestStream | None:
        """The stream of a request, if it has one."""
        return self.streams.get(request.stream) if request.stream is not None else None

    def hang_up(
        self, request: Request, code: StreamCode = StreamCode.CANCELLED, *, abrupt: bool = False
    ) -> None:
        """Releases a request and ends both directions of its stream, ours with a FIN or (``abrupt``) a
        reset."""
        stream = self.stream_of(request)
        self.release(request)
        if stream is not None:
            self.close_stream(stream, code, abrupt=abrupt)

    def finish(self, request: Request) -> None:
        """Releases a request that the peer has ended in good order, and ends our side of its stream as
        well."""
        stream = self.stream_of(request)
        self.release(request)
        if stream is not None and stream.send_open:
            stream.send_open = False
            self.transmits.append(StreamWrite(stream.key, b"", fin=True))

    def grant_requests(self) -> None:
        """Grants new request ids as the peer's requests end.

        The peer may have ids for as many requests as there is room for, above the largest it has used: ids
        that were lost with a stream are not waited for. Said again when half of them are used up.
        """
        if not self.profile.request_ids_limited or self.closed or not self.established:
            return
        room = 2 * max(0, self.limits.requests_open_max - self.peer_requests_open)
        limit = self.peer_ids.next + room
        if limit > self.granted_limit and self.granted_limit - self.peer_ids.next <= room // 2:
            self.granted_limit = limit
            self.send_control(MaxRequestId(request_id=limit))

    def _enter_names(self, request: Request) -> None:
        if request.name is not None:
            table = self.as_publisher if request.we_publish else self.as_subscriber
            table.setdefault(request.name, request)

    # --- streams ----------------------------------------------------------------------------------------

    def _new_stream(self, key: int, request: Request | None) -> RequestStream:
        return RequestStream(key, Framer(self.profile, self.limits.message_bytes_max), request)

    def accept_stream(self, key: int) -> RequestStream:
        """Enters a stream that the peer has opened."""
        self.peer_streams.add(key)
        stream = self.streams[key] = self._new_stream(key, None)
        return stream

    def is_new_stream(self, key: int) -> bool:
        """Whether this is a stream of the peer that nothing was heard of so far."""
        return not key & LOCAL_STREAM_BIT and key not in self.peer_streams and key not in self.streams

    def close_stream(self, stream: RequestStream, code: StreamCode, *, abrupt: bool) -> None:
        """Ends what is open of a stream: our side with a FIN or a reset, the peer's by asking for it."""
        number = self.profile.stream_number(code)
        if stream.send_open:
            stream.send_open = False
            end = StreamReset(stream.key, number) if abrupt else StreamWrite(stream.key, b"", fin=True)
            self.transmits.append(end)
        if stream.receive_open:
            self.transmits.append(StreamStop(stream.key, number))
        self.finish_stream(stream)

    def finish_stream(self, stream: RequestStream) -> None:
        """Drops whatever else comes on a stream, and the stream itself once nothing can."""
        stream.request = None
        stream.finished = True
        stream.framer = Framer(self.profile, 0)
        if not stream.receive_open:
            self.streams.pop(stream.key, None)
            self.finished_streams.pop(stream.key, None)
            return
        self.finished_streams[stream.key] = None
        if len(self.finished_streams) > self.limits.finished_streams_max:
            oldest = next(iter(self.finished_streams))
            del self.finished_streams[oldest]
            self.streams.pop(oldest, None)
