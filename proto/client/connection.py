"""A client's session with its server: connect, MoQT set-up, GOAWAY, reconnect with backoff.

The engines above see one session at a time, through `moqt`, and what happens as notices: `Opened`,
`Lost`, `GaveUp`, and the events of the MoQT session in between. After a GOAWAY a second session is made;
once it stands it takes over, and the first is closed a moment later, so that nothing in flight is lost.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from farcast.proto._core import Command, Event
from farcast.proto.agent.backoff import Backoff, BackoffConfig
from farcast.proto.agent.config import Target
from farcast.proto.agent.link import ControlLink, connect_command
from farcast.proto.agent.timers import Timers
from farcast.proto.moqt import events as moqt
from farcast.proto.moqt.errors import SessionCode
from farcast.proto.moqt.session import Session
from farcast.proto.moqt.values import SetupOptions

IMPLEMENTATION = "farcast/0.1"

State: TypeAlias = Literal["new", "connecting", "established", "waiting", "refused", "closed"]

REFUSALS = frozenset({"tls", "peer"})
"""Ends of a first attempt that another attempt does not change: certificate, ALPN, or the peer's word."""


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """How a client connects. ``seed`` spreads reconnects; ``first_id`` is its first session id, odd."""

    target: Target
    seed: int = 0
    first_id: int = 1
    connect_ms_max: int = 10_000
    """The first connection must stand by then; later ones are tried without end."""
    overlap_ms: int = 1_000
    """After a GOAWAY the old session is kept this long beside the new one."""
    backoff: BackoffConfig = field(default_factory=BackoffConfig)


@dataclass(frozen=True, slots=True)
class Opened:
    """A session stands."""

    session: int
    transport: str
    draft: int
    implementation: str | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """The session ended, or an attempt failed; the next attempt follows by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """There will be no session."""

    reason: str


class Connection:
    """One client's connection. Commands go to the queue it is given."""

    def __init__(self, config: ConnectionConfig, commands: deque[Command]) -> None:
        self._config = config
        self._commands = commands
        self._backoff = Backoff(config.backoff, config.seed)
        self._timers: Timers[str] = Timers()
        self._next_session = config.first_id
        self._connecting: int | None = None
        self._opening: ControlLink | None = None
        self._current: ControlLink | None = None
        self._retiring: ControlLink | None = None
        self._opened: dict[int, Opened] = {}
        self._established_us: int | None = None
        self._was_established = False
        self._notices: deque[Any] = deque()
        self._now_us = 0
        self.state: State = "new"

    # --- getters ----------------------------------------------------------------------------------

    @property
    def moqt(self) -> Session | None:
        """The MoQT session to send requests on, if one stands."""
        return self._current.engine if self._current is not None else None

    @property
    def session_id(self) -> int | None:
        """The datapath's id of that session."""
        return self._current.session_id if self._current is not None else None

    # --- commands ---------------------------------------------------------------------------------

    def start(self, now_us: int) -> None:
        """Connect."""
        self._now_us = now_us
        if self.state == "new":
            self._timers.set("give up", now_us + self._config.connect_ms_max * 1_000)
            self._connect()

    def close(self, now_us: int, reason: str = "") -> None:
        """End the session and try no more."""
        self._now_us = now_us
        self._end("closed")
        for link in (self._current, self._retiring):
            if link is not None:
                link.engine.close(SessionCode.NO_ERROR, reason)
        self.flush()
        attempt = self._opening.session_id if self._opening is not None else self._connecting
        if attempt is not None:
            self._commands.append(Command.Close(session=attempt, code=0, reason=reason))
        self._current = self._retiring = self._opening = self._connecting = None

    def flush(self) -> None:
        """Turn what the sessions want written into commands."""
        for link in (self._opening, self._current, self._retiring):
            if link is not None:
                self._commands.extend(link.commands())

    # --- input ------------------------------------------------------------------------------------

    def handle_event(self, event: Event, now_us: int) -> None:
        """A session or stream event; any other is not for us."""
        self._now_us = now_us
        if isinstance(event, Event.SessionOpened) and event.session == self._connecting:
            self._session_opened(event)
        elif isinstance(event, Event.SessionClosed):
            self._session_closed(event)
        elif isinstance(event, Event.StreamData | Event.StreamReset | Event.StreamStopped):
            link = self._link(event.session)
            if link is not None:
                link.feed(event)
                self._collect(link)
        self.flush()

    def handle_timeout(self, now_us: int) -> None:
        """The time of `poll_timeout` has come."""
        self._now_us = now_us
        while (due := self._timers.pop_due(now_us)) is not None:
            if due == "reconnect":
                self._connect()
            elif due == "give up" and not self._was_established:
                self._give_up(f"no answer from {self._config.target.remote}")
            elif due == "retire" and self._retiring is not None:
                self._retiring.engine.close(SessionCode.NO_ERROR, "moved")
                self.flush()
                self._retiring = None
        self.flush()

    # --- output -----------------------------------------------------------------------------------

    def poll_notice(self) -> Any:
        """`Opened`, `Lost`, `GaveUp`, or an event of the current MoQT session."""
        link = self._current
        if link is not None and (event := link.engine.poll_event()) is not None:
            self._session_event(link, event)
        return self._notices.popleft() if self._notices else None

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is to be called."""
        return self._timers.next_at()

    # --- the course of a session ------------------------------------------------------------------

    def _connect(self) -> None:
        if self.state in ("closed", "refused"):
            return
        if self._current is None:
            self.state = "connecting"
        self._connecting = self._next_session
        self._next_session += 2
        self._commands.append(connect_command(self._connecting, self._config.target))

    def _session_opened(self, event: Event.SessionOpened) -> None:
        target = self._config.target
        options = SetupOptions(implementation=IMPLEMENTATION)
        if event.transport == "quic":
            authority = target.authority or target.server_name
            options = replace(options, path=target.path or "/", authority=authority)
        self._connecting = None
        self._opening = ControlLink(event, options)
        self._opened[event.session] = Opened(event.session, event.transport, event.draft)

    def _collect(self, link: ControlLink) -> None:
        """Events of a session, in order; those of a retiring one are of interest no more."""
        while (event := link.engine.poll_event()) is not None:
            self._session_event(link, event)

    def _session_event(self, link: ControlLink, event: Any) -> None:
        if isinstance(event, moqt.Established):
            self._established(link, event.implementation)
        elif isinstance(event, moqt.SessionFailed):
            self.flush()
            self._session_over(link.session_id, "local", event.reason)
        elif isinstance(event, moqt.GoawayReceived):
            self._goaway(link)
        elif link is self._current:
            self._notices.append(event)

    def _established(self, link: ControlLink, implementation: str | None) -> None:
        if link is not self._opening:
            return
        self._opening = None
        if self._current is not None:
            self._retiring = self._current
            self._timers.set("retire", self._now_us + self._config.overlap_ms * 1_000)
        self._current = link
        self._established_us = self._now_us
        self._was_established = True
        self._timers.cancel("give up")
        self.state = "established"
        opened = self._opened.pop(link.session_id)
        self._notices.append(replace(opened, implementation=implementation))

    def _goaway(self, link: ControlLink) -> None:
        if link is self._current and self._opening is None and self._connecting is None:
            self._reconnect_later()

    def _session_closed(self, event: Event.SessionClosed) -> None:
        if event.session == self._connecting or self._link(event.session) is not None:
            reason = event.reason or f"closed by {event.by}, code {event.code}"
            self._session_over(event.session, event.by, reason)

    def _session_over(self, session: int, by: str, reason: str) -> None:
        self._opened.pop(session, None)
        if self._retiring is not None and session == self._retiring.session_id:
            self._retiring = None
            return
        was_current = self._current is not None and session == self._current.session_id
        if was_current:
            self._current = None
        elif self._opening is not None and session == self._opening.session_id:
            self._opening = None
        self._connecting = None if session == self._connecting else self._connecting
        if by in REFUSALS and not self._was_established:
            self._give_up(reason)
        elif self.state not in ("closed", "refused"):
            if was_current or self._current is None:
                self._notices.append(Lost(reason))
            self._reconnect_later()

    def _reconnect_later(self) -> None:
        if self._current is None:
            self.state = "waiting"
        lasted_us = self._now_us - self._established_us if self._established_us is not None else 0
        self._established_us = None
        if not self._timers.is_set("reconnect") and self._connecting is None and self._opening is None:
            self._timers.set("reconnect", self._now_us + self._backoff.next_wait_us(lasted_us))

    def _give_up(self, reason: str) -> None:
        attempt = self._opening.session_id if self._opening is not None else self._connecting
        if attempt is not None:
            self._commands.append(Command.Close(session=attempt, code=0, reason="gave up"))
        self._connecting = self._opening = None
        self._end("refused")
        self._notices.append(GaveUp(reason))

    def _end(self, state: State) -> None:
        self.state = state
        for timer in ("reconnect", "give up", "retire"):
            self._timers.cancel(timer)

    def _link(self, session: int) -> ControlLink | None:
        links = (self._opening, self._current, self._retiring)
        return next((link for link in links if link is not None and link.session_id == session), None)
