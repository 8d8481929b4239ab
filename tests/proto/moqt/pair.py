"""Two sessions joined in memory, with the liberties that QUIC takes.

Bytes of one stream arrive in order but cut anywhere; streams overtake each other; a reset may overtake the
data before it; STOP_SENDING overtakes everything. Which of it happens is decided by a seed; without one
everything arrives whole and in the order in which it was sent.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, TypeVar

from farcast.proto.moqt.events import (
    Event,
    OpenStream,
    SessionClose,
    StreamReset,
    StreamStop,
    StreamWrite,
    Transmit,
)
from farcast.proto.moqt.profile import Profile
from farcast.proto.moqt.session import LOCAL_STREAM_BIT, Session

E = TypeVar("E", bound=Event)

STEPS_MAX = 100_000


@dataclass
class End:
    """One session and what it has said."""

    session: Session
    client: bool
    opened: int = 0
    events: list[Any] = field(default_factory=list)
    transmits: list[Transmit] = field(default_factory=list)
    close: SessionClose | None = None
    wire_ids: dict[int, int] = field(default_factory=dict)
    """Stream ids as QUIC has them, by local key."""

    def wire_id(self, key: int) -> int:
        """The QUIC stream id of a key of this end."""
        return self.wire_ids[key] if key & LOCAL_STREAM_BIT else key

    def key(self, wire_id: int) -> int:
        """The key that this end has for a QUIC stream id."""
        return next((key for key, known in self.wire_ids.items() if known == wire_id), wire_id)

    def take(self, kind: type[E]) -> E:
        """The oldest event of this kind, which must exist; it is removed."""
        event = next((event for event in self.events if isinstance(event, kind)), None)
        assert event is not None, f"no {kind.__name__} in {self.events}"
        self.events.remove(event)
        return event

    def has(self, kind: type[Event]) -> bool:
        """Whether there is an event of this kind."""
        return any(isinstance(event, kind) for event in self.events)


class Pair:
    """A client and a server session and the connection between them."""

    def __init__(
        self,
        profile: Profile,
        *,
        seed: int | None = None,
        client: dict[str, Any] | None = None,
        server: dict[str, Any] | None = None,
        connect: bool = True,
    ) -> None:
        self.profile = profile
        self.random = None if seed is None else random.Random(seed)
        self.client = End(Session(profile, client=True, **(client or {})), client=True)
        self.server = End(Session(profile, client=False, **(server or {})), client=False)
        self._flows: dict[tuple[bool, int], deque[bytes | tuple[str, int]]] = {}
        self._stops: deque[tuple[bool, int, int]] = deque()
        if connect:
            self.client.session.handle_opened()
            self.server.session.handle_opened()
            self.run()
            assert self.client.session.established
            assert self.server.session.established

    @property
    def ends(self) -> tuple[End, End]:
        """Client and server."""
        return self.client, self.server

    def run(self) -> None:
        """Delivers everything there is to deliver."""
        for _ in range(STEPS_MAX):
            self.collect()
            if not self.deliver_one():
                return
        raise AssertionError("the two sessions never come to rest")

    def collect(self) -> None:
        """Takes the output of both sessions."""
        for end in self.ends:
            while (transmit := end.session.poll_transmit()) is not None:
                end.transmits.append(transmit)
                self._apply(end, transmit)
            while (event := end.session.poll_event()) is not None:
                end.events.append(event)

    def deliver_one(self) -> bool:
        """Delivers one piece of something; ``False`` if there is nothing."""
        flows = [key for key, flow in self._flows.items() if flow]
        if self._stops and (self.random is None or not flows or self.random.random() < 0.5):
            from_client, wire_id, code = self._stops.popleft()
            receiver = self.server if from_client else self.client
            receiver.session.handle_stream_stopped(receiver.key(wire_id), code)
            return True
        if not flows:
            return False
        key = self.random.choice(flows) if self.random else flows[0]
        self._deliver(key)
        return True

    def _apply(self, end: End, transmit: Transmit) -> None:
        if isinstance(transmit, OpenStream):
            assert transmit.stream & LOCAL_STREAM_BIT
            end.wire_ids[transmit.stream] = end.opened * 4 + (not end.client) + 2 * (not transmit.bidi)
            end.opened += 1
        elif isinstance(transmit, SessionClose):
            end.close = transmit
        else:
            wire_id = end.wire_id(transmit.stream)
            flow = self._flows.setdefault((end.client, wire_id), deque())
            ended = bool(flow) and isinstance(flow[-1], tuple)
            if isinstance(transmit, StreamWrite):
                assert not ended, "bytes after the end of a stream"
                flow.extend(
                    ([transmit.data] if transmit.data else []) + ([("fin", 0)] if transmit.fin else [])
                )
            elif isinstance(transmit, StreamReset):
                assert not ended, "a reset after the end of a stream"
                flow.append(("reset", transmit.code))
            elif isinstance(transmit, StreamStop):
                self._stops.append((end.client, wire_id, transmit.code))

    def _deliver(self, flow_key: tuple[bool, int]) -> None:
        from_client, wire_id = flow_key
        flow = self._flows[flow_key]
        receiver = self.server if from_client else self.client
        key = receiver.key(wire_id)
        if (
            self.random
            and isinstance(flow[-1], tuple)
            and flow[-1][0] == "reset"
            and self.random.random() < 0.3
        ):
            last = flow[-1]
            flow.clear()
            flow.append(last)
        item = flow.popleft()
        if isinstance(item, tuple):
            kind, code = item
            if kind == "reset":
                receiver.session.handle_stream_reset(key, code)
            else:
                receiver.session.handle_stream_data(key, self._kind(wire_id), b"", True)
            return
        size = self.random.randint(1, len(item)) if self.random else len(item)
        if size < len(item):
            flow.appendleft(item[size:])
        fin = size == len(item) and bool(flow) and flow[0] == ("fin", 0)
        if fin:
            flow.popleft()
        receiver.session.handle_stream_data(key, self._kind(wire_id), item[:size], fin)

    def _kind(self, wire_id: int) -> str:
        if self.profile.control_bidi:
            return "control" if wire_id == 0 else "request"
        return "control" if wire_id & 2 else "request"
