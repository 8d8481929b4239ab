"""Between the datapath's control sessions and the controller, as an engine of the driver.

A session is one QUIC connection of one edge with the one bidirectional stream that the edge opens. Whatever
else a session does (a second stream, a reset, the end of the stream) ends it. Changes are made durable before
anything is handed to the datapath, so that what an edge has seen is on disk.
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
        self._commands: deque[Command] = deque()

    def handle_event(self, event: Event, now_us: int) -> None:
        """Something of the datapath."""
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
                self._open.discard(session)
                self._streams.pop(session, None)
                self.controller.handle_disconnected(session, f"{by}: {reason or 'no reason given'}", now_us)

    def handle_timeout(self, now_us: int) -> None:
        """The time of `poll_timeout` has come."""
        self.controller.handle_timeout(now_us)

    def poll_command(self) -> Command | None:
        """A command for the datapath; saves first what it depends on."""
        if not self._commands:
            while (save := self.controller.poll_save()) is not None:
                self._save(save)
            self._collect()
        return self._commands.popleft() if self._commands else None

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is due, microseconds."""
        return self.controller.poll_timeout()

    def _take_data(self, session: int, stream: int, data: bytes, fin: bool, now_us: int) -> None:
        if self._streams.setdefault(session, stream) != stream:
            self._end(session, "edge opened a second stream", now_us)
            return
        self.controller.handle_data(session, data, now_us)
        if fin:
            self._end(session, "edge ended the stream", now_us)

    def _end(self, session: int, reason: str, now_us: int) -> None:
        self.controller.handle_disconnected(session, reason, now_us)
        self._close(session)

    def _collect(self) -> None:
        from farcast.proto._core import Command as C

        while (sent := self.controller.poll_data()) is not None:
            session, data = sent
            stream = self._streams.get(session)
            if stream is not None:
                self._commands.append(C.Write(session=session, stream=stream, data=data))
        while (over := self.controller.poll_close()) is not None:
            self._close(over)

    def _close(self, session: int) -> None:
        from farcast.proto._core import Command as C

        stream = self._streams.pop(session, None)
        if session not in self._open:
            return
        self._open.discard(session)
        if stream is not None:
            self._commands.append(C.Write(session=session, stream=stream, data=b"", fin=True))
        self._commands.append(C.Close(session=session, code=CLOSE_CODE, reason=""))
