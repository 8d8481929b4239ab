"""Peers that mean harm, each a datapath of its own with an engine that misbehaves.

``silent`` connects and never says a word. ``flap`` connects and goes again, ten times a second. ``garbage``
sends bytes that mean nothing on its control stream. ``handshakes`` begins connections and hears no answer.
``unread`` is a viewer whose process is stopped once it has subscribed. ``unauthorised`` are viewers and
publishers of the first publisher's namespace with no token, another room's, a forged or an expired one.
"""

from __future__ import annotations

from collections import deque
from random import Random
from typing import Final

from farcast.proto._core import LOCAL_STREAM_BIT, Command, Event
from farcast.proto.agent import Target
from farcast.proto.agent.link import connect_command
from farcast.simulations.events import HostileKind

FLAP_US: Final = 100_000
HANDSHAKE_US: Final = 50_000
GARBAGE_BYTES: Final = 200
SESSIONS_MAX: Final = 100_000


class HostilePeer:
    """One of them; an engine as every other."""

    def __init__(self, what: HostileKind, target: Target, seed: int) -> None:
        self.what = what
        self._target = target
        self._random = Random(seed)
        self._commands: deque[Command] = deque()
        self._next_session = 1
        self._open: int | None = None
        self._due_us: int | None = None

    def start(self, now_us: int) -> None:
        """Begin."""
        self._connect(now_us)

    def stop(self) -> None:
        """Leave."""
        self._due_us = None
        if self._open is not None:
            self._commands.append(Command.Close(session=self._open))

    def handle_event(self, event: Event, now_us: int) -> None:
        """Something of its datapath."""
        if isinstance(event, Event.SessionOpened):
            self._open = event.session
            if self.what == "garbage":
                self._send_garbage(event.session)
        elif isinstance(event, Event.SessionClosed) and event.session == self._open:
            self._open = None
            if self.what != "handshakes":
                self._due_us = now_us + FLAP_US

    def handle_timeout(self, now_us: int) -> None:
        """The time of `poll_timeout` has come."""
        self._due_us = None
        if self.what == "flap" and self._open is not None:
            self._commands.append(Command.Close(session=self._open))
            self._open = None
        self._connect(now_us)

    def poll_command(self) -> Command | None:
        """The next command."""
        return self._commands.popleft() if self._commands else None

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is due."""
        return self._due_us

    def _connect(self, now_us: int) -> None:
        if self._next_session < 2 * SESSIONS_MAX:
            self._commands.append(connect_command(self._next_session, self._target))
            self._next_session += 2
        if self.what == "flap":
            self._due_us = now_us + FLAP_US
        elif self.what == "handshakes":
            self._due_us = now_us + HANDSHAKE_US

    def _send_garbage(self, session: int) -> None:
        stream = LOCAL_STREAM_BIT | 1
        data = self._random.randbytes(GARBAGE_BYTES)
        self._commands.append(Command.OpenStream(session=session, stream=stream, bidi=False))
        self._commands.append(Command.Write(session=session, stream=stream, data=data))
