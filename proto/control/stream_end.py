"""What both ends of a control channel share: frames in and out, events, and all of it bounded."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from farcast.proto.control.codec import BadMessage, Framer, encode
from farcast.proto.control.messages import FromControl, FromEdge

MessageT = TypeVar("MessageT")
EventT = TypeVar("EventT")

EVENTS_MAX = 64
"""Events that wait for the caller. A caller that polls after every ``handle_*`` never gets near."""


class StreamEnd(Generic[MessageT, EventT]):
    """One end of the stream: messages in, frames out, and events for the caller."""

    def __init__(
        self, decode: Callable[[bytes], MessageT], message_bytes_max: int, message_us_max: int
    ) -> None:
        self._decode = decode
        self._message_us_max = message_us_max
        self._framer = Framer(message_bytes_max)
        self._begun_us: int | None = None
        self._out: deque[bytes] = deque()
        self._out_bytes = 0
        self._events: deque[EventT] = deque()
        self.counters: Counter[str] = Counter()

    @property
    def out_bytes(self) -> int:
        """Bytes that wait to be polled."""
        return self._out_bytes

    @property
    def message_due_us(self) -> int | None:
        """When a message that has begun must be complete; ``None`` where none has."""
        return None if self._begun_us is None else self._begun_us + self._message_us_max

    def receive(self, data: bytes, now_us: int) -> Iterator[MessageT]:
        """The messages that ``data`` completes, one by one. Raises `BadMessage`."""
        self._framer.push(data)
        while (body := self._framer.next()) is not None:
            self._begun_us = None
            self.counters["messages_received"] += 1
            yield self._decode(body)
        if not self._framer.buffered_bytes:
            self._begun_us = None
        elif self._begun_us is None:
            self._begun_us = now_us

    def send(self, message: FromEdge | FromControl) -> None:
        """Queue a message. Raises `MessageTooLarge`."""
        frame = encode(message)
        self._out.append(frame)
        self._out_bytes += len(frame)
        self.counters["messages_sent"] += 1

    def emit(self, event: EventT) -> None:
        """Queue an event. Raises `BadMessage` where the peer caused more than anybody has to hold."""
        if len(self._events) >= EVENTS_MAX:
            raise BadMessage(f"more than {EVENTS_MAX} messages at once")
        self._events.append(event)

    def emit_last(self, event: EventT) -> None:
        """Queue the event that ends a connection; there is always room for it."""
        self._events.append(event)

    def poll_data(self) -> bytes | None:
        """The next frame, or ``None``."""
        if not self._out:
            return None
        frame = self._out.popleft()
        self._out_bytes -= len(frame)
        return frame

    def poll_event(self) -> EventT | None:
        """The next event, or ``None``."""
        return self._events.popleft() if self._events else None

    def stop_receiving(self) -> None:
        """Forget what has come in and is no message yet."""
        self._framer.clear()
        self._begun_us = None

    def stop_sending(self) -> None:
        """Forget what has not been polled."""
        self._out.clear()
        self._out_bytes = 0
