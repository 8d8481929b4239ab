"""A client's session with its edge: set-up, the way to another edge when this one goes or dies, reconnect.

The engines above see one session at a time, through `moqt`, and what happens as notices: `Opened`, `Lost`,
`GaveUp`, and the events of the MoQT session in between.

A session is left for three reasons. It ended: the next one begins without it. It fell silent (nothing heard
for a while, though keep-alives ask): another edge is raced for at once, but the old session stays until
another one stands, because a path that was interrupted may be back first; then the race is called off. Or
the edge sent GOAWAY: the same, with time to spare. So in the last two cases there are two sessions for a
while, and the engine above decides by `settle` when the old one has done its duty; its events come as
`FromOld`. `move_ms_max` (or the time that GOAWAY gave) bounds it.

Whatever leads away from an edge goes to the other ones that are known first; back to the same edge where
there is no other, and as the last resort.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from farcast.proto._core import Command, Event
from farcast.proto.agent.backoff import Backoff, BackoffConfig
from farcast.proto.agent.config import Target
from farcast.proto.agent.link import ControlLink
from farcast.proto.agent.timers import Timers
from farcast.proto.client.edges import EdgeBook, edge_name
from farcast.proto.client.race import Failure, Race
from farcast.proto.moqt import events as moqt
from farcast.proto.moqt.errors import SessionCode
from farcast.proto.moqt.events import GoawayReceived
from farcast.proto.moqt.session import Session
from farcast.proto.moqt.values import SetupOptions
from farcast.proto.urls import parse_url

IMPLEMENTATION = "farcast/0.1"

State: TypeAlias = Literal["new", "connecting", "established", "waiting", "refused", "closed"]
Cause: TypeAlias = Literal["ended", "silent", "goaway"]
"""Why a session is left."""

REFUSALS = frozenset({"tls", "peer"})
"""Ends of a first attempt that another attempt does not change: certificate, ALPN, or the peer's word."""

GOAWAY_MARGIN_MS = 250
"""The old session is closed so long before the edge that sent GOAWAY would do it."""

RESOLVE_MS_MAX = 1_000
"""So long the address behind the URI of a GOAWAY is waited for."""


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """How a client connects. ``seed`` spreads reconnects; ``first_id`` is its first session id, odd."""

    target: Target
    seed: int = 0
    first_id: int = 1
    connect_ms_max: int = 10_000
    """The first connection must stand by then; later ones are tried without end."""
    overlap_ms: int = 1_000
    """Once everything runs over a new session, the old one is kept this long beside it."""
    move_ms_max: int = 10_000
    """An old session is kept at most this long, whatever still hangs on it."""
    patience_ms: int = 1_500
    """A silent session that carries no media is given so much more time: nobody misses anything, and where
    few packets go, a short burst of loss is a long silence."""
    backoff: BackoffConfig = field(default_factory=BackoffConfig)
    alternatives: tuple[Target, ...] = ()
    """Other edges that serve the same, best first."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A session stands. ``previous`` is the edge of the one before, if there was any, ``cause`` why that was
    left."""

    session: int
    transport: str
    draft: int
    implementation: str | None = None
    edge: str = ""
    previous: str | None = None
    cause: Cause = "ended"


@dataclass(frozen=True, slots=True)
class Lost:
    """The session ended, or an attempt failed; the next attempt follows by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """There will be no session."""

    reason: str


@dataclass(frozen=True, slots=True)
class SentTo:
    """GOAWAY names a URI that is none of the edges we know: `Connection.answer_uri` with its target."""

    uri: str


@dataclass(frozen=True, slots=True)
class OldOver:
    """The session that was left is closed."""

    session: int


@dataclass(frozen=True, slots=True)
class FromOld:
    """An event of the session that is being left."""

    session: int
    moqt: Session
    event: Any


class Connection:
    """One client's connection. Commands go to the queue it is given; ``has_media`` says whether objects flow
    over the current session, or would if there were any."""

    def __init__(
        self, config: ConnectionConfig, commands: deque[Command], has_media: Callable[[], bool]
    ) -> None:
        self._config = config
        self._has_media = has_media
        self._commands = commands
        self._backoff = Backoff(config.backoff, config.seed)
        self._timers: Timers[str] = Timers()
        self._edges = EdgeBook((config.target, *config.alternatives))
        self._next_session = config.first_id
        self._race: Race | None = None
        self._failures: dict[str, str] = {}
        self._current: ControlLink | None = None
        self._edge: Target | None = None
        self._established_us = 0
        self._was_established = False
        self._leaving: Cause | None = None
        self._sent_to: Target | None = None
        self._uri: str | None = None
        self._old: ControlLink | None = None
        self._old_until_us: int | None = None
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

    @property
    def old_session_id(self) -> int | None:
        """The datapath's id of the session that is being left."""
        return self._old.session_id if self._old is not None else None

    def moqt_of(self, session: int) -> Session | None:
        """The MoQT session with this id, the current or the old one."""
        links = (self._current, self._old)
        return next((link.engine for link in links if link and link.session_id == session), None)

    # --- commands ---------------------------------------------------------------------------------

    def start(self, now_us: int) -> None:
        """Connect."""
        self._now_us = now_us
        if self.state == "new":
            self._timers.set("give up", now_us + self._config.connect_ms_max * 1_000)
            self._connect()

    def learn(self, targets: Sequence[Target], draining: Sequence[Target] = ()) -> None:
        """Other edges that serve the same, best first, in place of those learnt before."""
        self._edges.learn(targets, draining)

    def answer_uri(self, uri: str, target: Target | None, now_us: int) -> None:
        """The answer to `SentTo`; ``None`` if the URI leads nowhere."""
        self._now_us = now_us
        if uri != self._uri:
            return
        self._uri = None
        self._timers.cancel("resolve")
        self._go(target)
        self.flush()

    def settle(self, now_us: int) -> None:
        """Nothing depends on the old session any more: it ends after the overlap."""
        due_us = now_us + self._config.overlap_ms * 1_000
        if self._old_until_us is not None and due_us < self._old_until_us:
            self._old_until_us = due_us
            self._timers.set("old", due_us)

    def close(self, now_us: int, reason: str = "") -> None:
        """End the session and try no more."""
        self._now_us = now_us
        for link in (self._current, self._old):
            if link is not None:
                link.engine.close(SessionCode.NO_ERROR, reason)
        self.flush()
        self._end("closed")
        self._current = self._old = None

    def flush(self) -> None:
        """Turn what the sessions want written into commands."""
        for link in self._links():
            self._commands.extend(link.commands())

    # --- input ------------------------------------------------------------------------------------

    def handle_event(self, event: Event, now_us: int) -> None:
        """A session or stream event; any other is not for us."""
        self._now_us = now_us
        if isinstance(event, Event.SessionOpened):
            self._session_opened(event)
        elif isinstance(event, Event.SessionClosed):
            reason = event.reason or f"closed by {event.by}, code {event.code}"
            self._session_over(event.session, event.by, reason)
        elif isinstance(event, Event.SessionSilent):
            self._session_silent(event)
        elif isinstance(event, Event.StreamData | Event.StreamReset | Event.StreamStopped):
            link = next((link for link in self._links() if link.session_id == event.session), None)
            if link is not None:
                link.feed(event)
                self._collect(link)
        self.flush()

    def handle_timeout(self, now_us: int) -> None:
        """The time of `poll_timeout` has come."""
        self._now_us = now_us
        while (due := self._timers.pop_due(now_us)) is not None:
            self._due(due)
        race_us = self._race.poll_timeout() if self._race is not None else None
        if self._race is not None and race_us is not None and race_us <= now_us:
            self._race.step(now_us)
            self._after_race_step()
        self.flush()

    # --- output -----------------------------------------------------------------------------------

    def poll_notice(self) -> Any:
        """`Opened`, `Lost`, `GaveUp`, `SentTo`, `OldOver`, `FromOld`, or an event of the MoQT session."""
        for link in (self._old, self._current):
            if link is not None:
                self._collect(link)
        return self._notices.popleft() if self._notices else None

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is to be called."""
        race_us = self._race.poll_timeout() if self._race is not None else None
        return min((t for t in (self._timers.next_at(), race_us) if t is not None), default=None)

    # --- finding an edge --------------------------------------------------------------------------

    def _connect(self) -> None:
        """Begin a race, unless one is under way or the session is as it should be."""
        if self.state in ("closed", "refused") or self._race is not None:
            return
        if self._current is not None and self._leaving is None:
            return
        if self._current is None:
            self.state = "connecting"
        self._timers.cancel("reconnect")
        self._race = Race(self._candidates(), self._commands, self._next_session)
        self._race.step(self._now_us)
        self._after_race_step()

    def _candidates(self) -> list[Target]:
        """The edge that we leave is no candidate as long as we have it and there are others."""
        if self._edge is None:
            return self._edges.order(self._now_us)
        others = self._edges.others(self._edge, self._now_us, self._sent_to)
        return others if others and self._current is not None else [*others, self._edge]

    def _after_race_step(self) -> None:
        """Take over what a race has come to; if it is lost, begin another one later."""
        race = self._race
        if race is None:
            return
        self._next_session = race.next_session
        for failure in race.failures:
            self._failures[edge_name(failure.target)] = failure.reason
            self._edges.distrust(failure.target, self._now_us)
        if not race.is_lost:
            return
        self._race = None
        if not self._was_established and all(failure.by in REFUSALS for failure in race.failures):
            self._give_up(_reasons(race.failures))
            return
        if self._current is None:
            self._notices.append(Lost(_reasons(race.failures)))
        self._reconnect_later(0)

    def _reconnect_later(self, lasted_us: int) -> None:
        if self.state in ("closed", "refused"):
            return
        if self._current is None:
            self.state = "waiting"
        if self._race is None and not self._timers.is_set("reconnect"):
            self._timers.set("reconnect", self._now_us + self._backoff.next_wait_us(lasted_us))

    def _lasted_us(self) -> int:
        """How long the session lasted that is left now."""
        return self._now_us - self._established_us if self._was_established else 0

    def _due(self, timer: str) -> None:
        if timer == "reconnect":
            self._connect()
        elif timer == "give up" and not self._was_established:
            self._give_up(self._why_nobody_answers())
        elif timer == "patience":
            self._leave_silent()
        elif timer == "old":
            self._close_old()
        elif timer == "resolve" and self._uri is not None:
            self.answer_uri(self._uri, None, self._now_us)

    def _why_nobody_answers(self) -> str:
        targets = self._edges.targets
        if len(targets) == 1:
            return f"no answer from {targets[0].remote}"
        failures = [(edge_name(t), self._failures.get(edge_name(t), "no answer")) for t in targets]
        return _sentence(failures)

    def _give_up(self, reason: str) -> None:
        self._end("refused")
        self._notices.append(GaveUp(reason))

    def _end(self, state: State) -> None:
        self.state = state
        for timer in ("reconnect", "give up", "old", "resolve", "patience"):
            self._timers.cancel(timer)
        if self._race is not None:
            self._race.cancel()
        self._race = None

    # --- the course of a session ------------------------------------------------------------------

    def _session_opened(self, event: Event.SessionOpened) -> None:
        attempt = self._race.attempt(event.session) if self._race is not None else None
        if attempt is None:
            return
        target = attempt.target
        options = SetupOptions(implementation=IMPLEMENTATION)
        if event.transport == "quic":
            authority = target.authority or target.server_name
            options = replace(options, path=target.path or "/", authority=authority)
        attempt.link = ControlLink(event, options)
        attempt.transport, attempt.draft = event.transport, event.draft

    def _collect(self, link: ControlLink) -> None:
        """Take what a session has to say."""
        while (event := link.engine.poll_event()) is not None:
            if isinstance(event, moqt.Established):
                self._established(link, event.implementation)
            elif isinstance(event, moqt.SessionFailed):
                self.flush()
                self._session_over(link.session_id, "local", event.reason)
            elif isinstance(event, GoawayReceived):
                self._goaway(link, event)
            elif link is self._current:
                self._notices.append(event)
            elif link is self._old:
                self._notices.append(FromOld(link.session_id, link.engine, event))

    def _established(self, link: ControlLink, implementation: str | None) -> None:
        if self._race is None or self._race.attempt(link.session_id) is None:
            return
        won = self._race.win(link.session_id)
        self._race = None
        previous = edge_name(self._edge) if self._edge is not None else None
        opened = Opened(won.session, won.transport, won.draft, implementation, edge_name(won.target))
        self._notices.append(replace(opened, previous=previous, cause=self._leaving or "ended"))
        self._replace_current(link)
        self._edge = won.target
        self._edges.trust(won.target)
        self._leaving = self._sent_to = self._uri = None
        self._was_established = True
        self._established_us = self._now_us
        for timer in ("give up", "reconnect", "resolve", "patience"):
            self._timers.cancel(timer)
        self.state = "established"

    def _replace_current(self, link: ControlLink) -> None:
        self._close_old()
        self._old, self._current = self._current, link
        if self._old is None:
            self._old_until_us = None
            return
        bound_us = self._now_us + self._config.move_ms_max * 1_000
        self._old_until_us = min(self._old_until_us or bound_us, bound_us)
        self._timers.set("old", self._old_until_us)

    def _close_old(self) -> None:
        old, self._old = self._old, None
        self._timers.cancel("old")
        if old is not None:
            old.engine.close(SessionCode.NO_ERROR, "moved")
            self._commands.extend(old.commands())
            self._notices.append(OldOver(old.session_id))
            self._old_until_us = None

    def _session_silent(self, event: Event.SessionSilent) -> None:
        """The current session has gone silent, or is heard again before another one stands."""
        if self._current is None or event.session != self._current.session_id:
            return
        self._timers.cancel("patience")
        if event.silent and self._has_media():
            self._leave_silent()
        elif event.silent:
            self._timers.set("patience", self._now_us + self._config.patience_ms * 1_000)
        elif self._leaving == "silent":
            self._leaving = None
            self._timers.cancel("reconnect")
            if self._race is not None:
                self._race.cancel()
            self._race = None

    def _leave_silent(self) -> None:
        if self._current is not None and self._leaving is None:
            self._leaving = "silent"
            self._connect()

    def _goaway(self, link: ControlLink, event: GoawayReceived) -> None:
        if link is not self._current or self._leaving == "goaway":
            return
        self._leaving = "goaway"
        if event.timeout_ms:
            kept_ms = max(event.timeout_ms - GOAWAY_MARGIN_MS, event.timeout_ms // 2)
            self._old_until_us = self._now_us + kept_ms * 1_000
        self._uri = event.uri or None
        known = self._target_of(event.uri)
        if self._uri is None or known is not None:
            self._go(known)
        else:
            self._notices.append(SentTo(self._uri))
            self._timers.set("resolve", self._now_us + RESOLVE_MS_MAX * 1_000)

    def _go(self, target: Target | None) -> None:
        """Leave for the edge that GOAWAY named, or for any; not all clients at the same instant."""
        self._uri = None
        self._sent_to = target
        if target is not None:
            self._edges.add(target)
        self._reconnect_later(self._lasted_us())

    def _target_of(self, uri: str) -> Target | None:
        """The edge that a URI means, where we know it already."""
        try:
            url = parse_url(uri)
        except ValueError:
            return None
        wanted = (url.target, url.authority, url.path or "/")
        known = self._edges.targets
        return next((t for t in known if (t.kind, t.authority, t.path or "/") == wanted), None)

    def _session_over(self, session: int, by: str, reason: str) -> None:
        if session == self.old_session_id:
            self._old = self._old_until_us = None
            self._timers.cancel("old")
            self._notices.append(OldOver(session))
        elif session == self.session_id:
            self._current_over(reason)
        elif self._race is not None and self._race.attempt(session) is not None:
            self._race.failed(session, by, reason, self._now_us)
            self._after_race_step()

    def _current_over(self, reason: str) -> None:
        self._current = self._old_until_us = None
        self._timers.cancel("patience")
        self._notices.append(Lost(reason))
        if self._edge is not None and self._leaving != "goaway":
            self._edges.distrust(self._edge, self._now_us)
        if self._race is not None:
            self.state = "connecting"
            return
        self._reconnect_later(self._lasted_us())
        has_others = self._edge is not None and bool(self._edges.others(self._edge, self._now_us))
        if has_others and self._backoff.failures == 1:
            self._connect()

    def _links(self) -> list[ControlLink]:
        attempts = self._race.attempts if self._race is not None else []
        links = (self._old, self._current, *(attempt.link for attempt in attempts))
        return [link for link in links if link is not None]


def _reasons(failures: Sequence[Failure]) -> str:
    """Why no edge was to be had: the reason itself where there was one edge only."""
    if len(failures) == 1:
        return failures[0].reason
    return _sentence([(edge_name(failure.target), failure.reason) for failure in failures])


def _sentence(reasons: Sequence[tuple[str, str]]) -> str:
    return "no edge can be used: " + "; ".join(f"{name}: {reason}" for name, reason in reasons)
