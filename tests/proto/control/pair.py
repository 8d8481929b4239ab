"""An edge and a control plane joined by hand, on a clock that only moves when told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace as changed

from farcast.proto.control import events as e
from farcast.proto.control import messages as m
from farcast.proto.control.codec import (
    FROM_CONTROL_BYTES_MAX,
    Framer,
)
from farcast.proto.control.edge_channel import EdgeChannel, EdgeChannelConfig
from farcast.proto.control.server_channel import ServerChannel, ServerChannelConfig

from .records import EPOCH, HELLO, REPORT

SECOND = 1_000_000


class Pair:
    """An edge and a control plane with a stream between them; `pump` carries what waits."""

    def __init__(
        self,
        edge: EdgeChannelConfig | None = None,
        server: ServerChannelConfig | None = None,
        *,
        chunk_bytes: int = 1 << 16,
    ) -> None:
        self.now_us = 0
        self.chunk_bytes = chunk_bytes
        self.edge = EdgeChannel(edge or EdgeChannelConfig(HELLO))
        self.server_config = server or ServerChannelConfig()
        self.edge_events: list[e.EdgeEvent] = []
        self.server_events: list[e.ServerEvent] = []
        self.connect()

    def connect(self) -> None:
        self.server = ServerChannel(self.server_config, "sin-1", "sin", self.now_us)
        self.edge.handle_connected(self.now_us)
        self.pump()

    def pump(self) -> None:
        moved = True
        while moved:
            up, down = drain(self.edge), drain(self.server)
            moved = bool(up or down)
            for data, end in ((up, self.server), (down, self.edge)):
                for at in range(0, len(data), self.chunk_bytes):
                    end.handle_data(data[at : at + self.chunk_bytes], self.now_us)
        self.edge_events += events_of(self.edge)
        self.server_events += events_of(self.server)

    def join(self) -> Pair:
        self.server.welcome(EPOCH)
        self.pump()
        assert self.edge.joined
        assert self.server.joined
        self.edge_events.clear()
        self.server_events.clear()
        return self


def drain(end: EdgeChannel | ServerChannel) -> bytes:
    data = b""
    while (part := end.poll_data()) is not None:
        data += part
    return data


def events_of(end: Any) -> list[Any]:
    found = []
    while (event := end.poll_event()) is not None:
        found.append(event)
    return found


def messages_of(data: bytes, decode: Callable[[bytes], Any]) -> list[Any]:
    framer, found = Framer(FROM_CONTROL_BYTES_MAX), []
    framer.push(data)
    while (body := framer.next()) is not None:
        found.append(decode(body))
    return found


def report(sequence: int, *, full: bool = False) -> m.Report:
    return changed(REPORT, sequence=sequence, full=full)
