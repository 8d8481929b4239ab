"""Between the datapath's control sessions and the controller, as an engine of the driver.

A session is one QUIC connection of one edge with the one bidirectional stream that the edge opens. Whatever
else a session does (a second stream, a reset, the end of the stream) ends it. Changes are made durable before
anything is handed to the datapath, so that what an edge has seen is on disk. To close a connection is to
throw away what it has not sent yet: the edge has a moment to read why, and to close by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from farcast.control_plane.controller import Controller, Identity
from farcast.control_plane.store import Save

if TYPE_CHECKING:
    from collections.abc import Sequence

    from farcast.proto._core import Command, Event

CONTROL: Final = "control"
"""Transport of a control session."""

CLOSE_CODE: Final = 0

LINGER_US: Final = 2_000_000
"""From the last byte for a session to its end."""

IdentityOf = Callable[["Sequence[bytes]"], Identity | None]
"""Certificate chain (DER, leaf first) to region and node id of an edge."""


class ControlSessions:
    """The engine that `farcast.control_plane.driver` runs. ``save`` makes a change durable, or says so."""

    def __init__(self, controller: Controller, identity_of: IdentityOf, save: Callable[[Save], None]) -> None:
        self.controller = controller
        self._identity_of = identity_of
        self._save = save
        self._streams: dict[int, int] = {}
        self._open: set[int] = set()
        self._lingering: dict[int, int] = {}
        self._commands: deque[Command] = deque()
        self._now_us = 0

    def handle_event(self, event: Event, now_us: int) -> None:
        """Something of the datapath."""
        self._now_us = now_us
        from farcast.proto._core import Event as E

        match event:
            case E.SessionOpened(session=session, transport=transport, peer_certificates=chain):
                self._open.add(session)
                identity = self._identity_of(chain) if transport == CONTROL else None
                self.controller.handle_connected(session, identity, now_us)
            case E.StreamData(session=session, stream=stream, data=data, fin=fin):
                self._take_data(session, stream, data, fin, now_us)
            case (
                E.StreamReset(session=session, stream=stream)
                | E.StreamStopped(session=session, stream=stream)
            ):
                if self._streams.get(session) == stream:
                    self._end(session, "edge ended the stream", now_us)
            case E.SessionClosed(session=session, by=by, reason=reason):
                if by == "tls" and session not in self._open:
                    self.controller.handle_turned_away(reason)
                self._open.discard(session)
                self._lingering.pop(session, None)
                self._streams.pop(session, None)
                self.controller.handle_disconnected(session, f"{by}: {reason or 'no reason given'}", now_us)

    def handle_timeout(self, now_us: int) -> None:
        """The time of `poll_timeout` has come."""
        self._now_us = now_us
        self.controller.handle_timeout(now_us)
        for session in [session for session, due_us in self._lingering.items() if due_us <= now_us]:
            self._close(session, "")

    def poll_command(self) -> Command | None:
        """A command for the datapath; saves first what it depends on."""
        if not self._commands:
            while (save := self.controller.poll_save()) is not None:
                self._save(save)
            self._collect()
        return self._commands.popleft() if self._commands else None

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is due, microseconds."""
        return min((self.controller.poll_timeout(), *self._lingering.values()))

    def _take_data(self, session: int, stream: int, data: bytes, fin: bool, now_us: int) -> None:
        if self._streams.setdefault(session, stream) != stream:
            self._end(session, "edge opened a second stream", now_us)
            return
        self.controller.handle_data(session, data, now_us)
        if fin:
            self._end(session, "edge ended the stream", now_us)

    def _end(self, session: int, reason: str, now_us: int) -> None:
        self.controller.handle_disconnected(session, reason, now_us)
        self._close(session, reason)

    def _collect(self) -> None:
        from farcast.proto._core import Command as C

        while (sent := self.controller.poll_data()) is not None:
            session, data = sent
            stream = self._streams.get(session)
            if stream is not None:
                self._commands.append(C.Write(session=session, stream=stream, data=data))
        while (over := self.controller.poll_close()) is not None:
            session, reason = over
            stream = self._streams.get(session)
            if stream is None or reason:
                self._close(session, reason)
            elif session in self._open:
                self._commands.append(C.Write(session=session, stream=stream, data=b"", fin=True))
                self._lingering[session] = self._now_us + LINGER_US

    def _close(self, session: int, reason: str) -> None:
        from farcast.proto._core import Command as C

        self._streams.pop(session, None)
        self._lingering.pop(session, None)
        if session in self._open:
            self._open.discard(session)
            self._commands.append(C.Close(session=session, code=CLOSE_CODE, reason=reason))
