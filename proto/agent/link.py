"""One MoQT session engine over one session of the datapath: events in, commands out.

The agent, the publisher and the viewer all speak MoQT through this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from farcast.proto._core import Command, Event
from farcast.proto.agent.config import Target
from farcast.proto.moqt import events as moqt
from farcast.proto.moqt.limits import SessionLimits
from farcast.proto.moqt.profile import Profile
from farcast.proto.moqt.profiles import HOP, profile_for_draft
from farcast.proto.moqt.quirks import DEFAULT_QUIRKS, HOP_QUIRKS
from farcast.proto.moqt.session import Session
from farcast.proto.moqt.values import SetupOptions

HOP_REQUESTS_MAX = 16_384
"""Requests that an edge may have open at another one: a source or a standby for every track."""

_HOP_LIMITS = SessionLimits(requests_open_max=HOP_REQUESTS_MAX, finished_streams_max=HOP_REQUESTS_MAX)

_TRANSMITS: dict[type, Callable[[int, Any], Command]] = {
    moqt.OpenStream: lambda session, t: Command.OpenStream(session, t.stream, t.bidi),
    moqt.StreamWrite: lambda session, t: Command.Write(session, t.stream, t.data, t.fin),
    moqt.StreamReset: lambda session, t: Command.ResetStream(session, t.stream, t.code),
    moqt.StreamStop: lambda session, t: Command.StopStream(session, t.stream, t.code),
    moqt.SessionClose: lambda session, t: Command.Close(session, int(t.code), t.reason),
}


def connect_command(session: int, target: Target) -> Command:
    """The command that opens a connection to ``target``."""
    return Command.Connect(
        session=session,
        remote=target.remote,
        server_name=target.server_name,
        target=target.kind,
        tls=target.tls,
        drafts=list(target.drafts),
        authority=target.authority or target.server_name,
        path=target.path or "/",
    )


def profile_of(transport: str, draft: int) -> Profile:
    """The message profile of a session as the datapath reports it."""
    return HOP if transport == "hop" else profile_for_draft(draft)


class ControlLink:
    """The MoQT engine of one session and its translation to commands."""

    def __init__(self, opened: Event.SessionOpened, options: SetupOptions) -> None:
        self.session_id: int = opened.session
        self.engine = Session(
            profile_of(opened.transport, opened.draft),
            client=not opened.incoming,
            options=options,
            webtransport=opened.transport == "webtransport",
            limits=_HOP_LIMITS if opened.transport == "hop" else None,
            quirks=HOP_QUIRKS if opened.transport == "hop" else DEFAULT_QUIRKS,
        )
        self.engine.handle_opened()

    def feed(self, event: Event) -> None:
        """Hand over a `StreamData`, `StreamReset` or `StreamStopped` of this session."""
        if isinstance(event, Event.StreamData):
            self.engine.handle_stream_data(event.stream, event.kind, event.data, event.fin)
        elif isinstance(event, Event.StreamReset):
            self.engine.handle_stream_reset(event.stream, event.code)
        elif isinstance(event, Event.StreamStopped):
            self.engine.handle_stream_stopped(event.stream, event.code)

    def commands(self) -> Iterator[Command]:
        """Everything the engine wants written, until it has no more."""
        while (transmit := self.engine.poll_transmit()) is not None:
            yield _TRANSMITS[type(transmit)](self.session_id, transmit)
