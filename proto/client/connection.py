"""A client's session with its edge: set-up, the way to another edge when this one goes or dies, reconnect.

The engines above see what happens as notices (`notices`), and the events of the current MoQT session in
between. A session is left for three reasons. It ended: the next one begins without it. It fell silent
(nothing heard for a while, though keep-alives ask): another edge is raced for at once, but the old session
stays until another one stands, because a path that was interrupted may be back first; then the race is
called off. Or the edge sent GOAWAY: the same, with time to spare. So there are several sessions for a while;
events of those that are not the current one come as `FromOld`. The engine above says by `settle` when they
have done their duty; `move_ms_max` (or the time that GOAWAY gave) bounds it.

A handshake proves that an edge lives, not that it has the film: it may have been fed by the very edge that
died. So where media was broken off, the session that stands first is *on trial* until the engine says that
it `delivers`. The race goes on meanwhile. When the trial is over (a moment, and no less than the handshake
took), or its session fails, the next session that stands becomes the current one, and is asked beside the
one before; whichever delivers first is kept, even if it is not the latest. Rejected: a connection kept warm
to the second best edge, which would double the sessions of every edge all day for a moment of need.

Whatever leads away from an edge goes to the other ones that are known first; back to the same edge where
there is no other, and as the last resort.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from farcast.proto._core import Command, Event
from farcast.proto.agent.backoff import Backoff
from farcast.proto.agent.config import Target
from farcast.proto.agent.link import ControlLink
from farcast.proto.agent.timers import Timers
from farcast.proto.client.config import ConnectionConfig
from farcast.proto.client.edges import EdgeBook, edge_name
from farcast.proto.client.notices import Cause, FromOld, GaveUp, Lost, Opened, SentTo
from farcast.proto.client.race import STAGGER_US, Race, explain, explain_all
from farcast.proto.client.standing import Standing, StandingSessions
from farcast.proto.client.trial import Trial
from farcast.proto.moqt import events as moqt
from farcast.proto.moqt.errors import SessionCode
from farcast.proto.moqt.events import GoawayReceived
from farcast.proto.moqt.session import Session
from farcast.proto.moqt.values import SetupOptions

IMPLEMENTATION = "farcast/0.1"

State: TypeAlias = Literal["new", "connecting", "established", "waiting", "refused", "closed"]
REFUSALS = frozenset({"tls", "peer"})
"""Ends of a first attempt that another attempt does not change: certificate, ALPN, or the peer's word."""

GOAWAY_MARGIN_MS = 250
"""The old session is closed so long before the edge that sent GOAWAY would do it."""

RESOLVE_MS_MAX = 1_000
"""So long the address behind the URI of a GOAWAY is waited for."""


class Connection:
    """One client's connection. Commands go to the queue it is given; ``has_media`` says whether objects flow
    over the current session, or would if there were any, ``awaits_media`` whether some were broken off that
    another session is to deliver."""

    def __init__(
        self,
        config: ConnectionConfig,
        commands: deque[Command],
        has_media: Callable[[], bool],
        awaits_media: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config = config
        self._has_media = has_media
        self._awaits_media = awaits_media
        self._commands = commands
        self._backoff = Backoff(config.backoff, config.seed)
        self._timers: Timers[str] = Timers()
        self._edges = EdgeBook((config.target, *config.alternatives))
        self._next_session = config.first_id
        self._race: Race | None = None
        self._failures: dict[str, str] = {}
        self._notices: deque[Any] = deque()
        self._sessions = StandingSessions(commands, self._notices)
        self._trial = Trial()
        self._edge: Target | None = None
        self._established_us = 0
        self._was_established = False
        self._leaving: Cause | None = None
        self._sent_to: Target | None = None
        self._uri: str | None = None
        self._old_until_us: int | None = None
        self._now_us = 0
        self.state: State = "new"

    # --- getters ----------------------------------------------------------------------------------

    @property
    def moqt(self) -> Session | None:
        """The MoQT session to send requests on, if one stands."""
        current = self._sessions.current
        return current.link.engine if current is not None else None

    @property
    def session_id(self) -> int | None:
        """The datapath's id of that session."""
        current = self._sessions.current
        return current.id if current is not None else None

    @property
    def old_session_ids(self) -> tuple[int, ...]:
        """The datapath's ids of the sessions beside it."""
        return tuple(standing.id for standing in self._sessions.old)

    def moqt_of(self, session: int) -> Session | None:
        """The MoQT session with this id, the current or an old one."""
        standing = self._sessions.get(session)
        return standing.link.engine if standing is not None else None

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

    def delivers(self, session: int, now_us: int) -> None:
        """A session brings what was broken off: if it was on trial, it is the one that is kept."""
        self._now_us = now_us
        standing = self._sessions.get(session)
        if session not in self._trial or standing is None:
            return
        for other in map(self._sessions.get, self._trial.sessions):
            if other is not None and other is not standing:
                self._edges.distrust(other.target, now_us)
        self._edges.trust(standing.target)
        self._end_trial()
        if standing is not self._sessions.current:
            self._make_current(standing, "silent")
        self.flush()

    def settle(self, now_us: int) -> None:
        """Nothing depends on the old sessions any more: they end after the overlap."""
        due_us = now_us + self._config.overlap_ms * 1_000
        if self._old_until_us is not None and due_us < self._old_until_us:
            self._old_until_us = due_us
            self._timers.set("old", due_us)

    def close(self, now_us: int, reason: str = "") -> None:
        """End the session and try no more."""
        self._now_us = now_us
        for link in self._sessions.links:
            link.engine.close(SessionCode.NO_ERROR, reason)
        self.flush()
        self._end("closed")
        self._sessions = StandingSessions(self._commands, self._notices)

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
        race_us = self._race_timeout()
        if self._race is not None and race_us is not None and race_us <= now_us:
            self._race.step(now_us)
            self._after_race_step()
        self.flush()

    # --- output -----------------------------------------------------------------------------------

    def poll_notice(self) -> Any:
        """`Opened`, `Lost`, `GaveUp`, `SentTo`, `OldOver`, `FromOld`, or an event of the MoQT session."""
        for link in self._sessions.links:
            self._collect(link)
        return self._notices.popleft() if self._notices else None

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is to be called."""
        return min((t for t in (self._timers.next_at(), self._race_timeout()) if t is not None), default=None)

    # --- finding an edge --------------------------------------------------------------------------

    def _race_timeout(self) -> int | None:
        return None if self._race is None or self._trial.rests else self._race.poll_timeout()

    def _connect(self) -> None:
        """Begin a race, unless one is under way or the session is as it should be."""
        if self.state in ("closed", "refused") or self._race is not None:
            return
        if self._sessions.current is not None and self._leaving is None:
            return
        if self._sessions.current is None:
            self.state = "connecting"
        self._timers.cancel("reconnect")
        is_free = self._leaving == "goaway" and self._sent_to is None
        stagger_us = 0 if is_free else STAGGER_US
        self._race = Race(self._candidates(), self._commands, self._next_session, stagger_us)
        self._race.step(self._now_us)
        self._after_race_step()

    def _candidates(self) -> list[Target]:
        """The edge that we leave is no candidate as long as we have it and there are others."""
        if self._edge is None:
            return self._edges.order(self._now_us)
        others = self._edges.others(self._edge, self._now_us, self._sent_to)
        return others if others and self._sessions.current is not None else [*others, self._edge]

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
        if self._trial:
            return
        if not self._was_established and all(failure.by in REFUSALS for failure in race.failures):
            self._give_up(explain(race.failures))
            return
        if self._sessions.current is None:
            self._notices.append(Lost(explain(race.failures)))
        self._reconnect_later(0)

    def _reconnect_later(self, lasted_us: int) -> None:
        if self.state in ("closed", "refused"):
            return
        if self._sessions.current is None:
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
            self._give_up(explain_all(self._edges.targets, self._failures))
        elif timer == "trial":
            self._try_next()
        elif timer == "patience":
            self._leave_silent()
        elif timer == "old":
            self._close_old()
        elif timer == "resolve" and self._uri is not None:
            self.answer_uri(self._uri, None, self._now_us)

    def _give_up(self, reason: str) -> None:
        self._end("refused")
        self._notices.append(GaveUp(reason))

    def _end(self, state: State) -> None:
        self.state = state
        for timer in ("reconnect", "give up", "old", "resolve", "patience", "trial"):
            self._timers.cancel(timer)
        self._call_race_off()

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
            elif link.session_id == self.session_id:
                self._notices.append(event)
            elif self._sessions.get(link.session_id) is not None:
                self._notices.append(FromOld(link.session_id, link.engine, event))

    def _established(self, link: ControlLink, implementation: str | None) -> None:
        attempt = self._race.attempt(link.session_id) if self._race is not None else None
        if self._race is None or attempt is None:
            return
        attempt.implementation = implementation
        self._race.stand_by(attempt.session)
        if self._trial.wants_next:
            self._try_next()

    def _try_next(self) -> None:
        """Take the next session that stands; on trial, where media waits for it."""
        self._timers.cancel("trial")
        self._trial.is_over = True
        attempt = self._race.take_spare() if self._race is not None else None
        if attempt is None or attempt.link is None:
            self._after_race_step()
            return
        is_trial = bool(self._trial) or self._awaits_media()
        self._trial.has_time = self._leaving == "goaway"
        if not is_trial:
            self._sessions.close_old()
        cause = "silent" if self._trial else self._leaving or "ended"
        self._make_current(Standing(attempt.link, attempt.target, attempt), cause)
        if is_trial:
            due_us = self._trial.begin(attempt.session, attempt.started_us, self._now_us)
            self._timers.set("trial", due_us)
        else:
            self._edges.trust(attempt.target)
            self._call_race_off()

    def _make_current(self, standing: Standing, cause: Cause) -> None:
        attempt = standing.attempt
        previous = edge_name(self._edge) if self._edge is not None else None
        edge = edge_name(standing.target)
        self._notices.append(
            Opened(
                standing.id, attempt.transport, attempt.draft, attempt.implementation, edge, previous, cause
            )
        )
        self._sessions.replace(standing)
        self._bound_old()
        self._edge = standing.target
        self._leaving = self._sent_to = self._uri = None
        self._was_established = True
        self._established_us = self._now_us
        for timer in ("give up", "reconnect", "resolve", "patience"):
            self._timers.cancel(timer)
        self.state = "established"

    def _end_trial(self) -> None:
        self._timers.cancel("trial")
        self._trial.end()
        self._call_race_off()

    def _call_race_off(self) -> None:
        if self._race is not None:
            self._race.cancel()
        self._race = None

    def _bound_old(self) -> None:
        if not self._sessions.old:
            self._old_until_us = None
            return
        bound_us = self._now_us + self._config.move_ms_max * 1_000
        self._old_until_us = min(self._old_until_us or bound_us, bound_us)
        self._timers.set("old", self._old_until_us)

    def _close_old(self) -> None:
        self._timers.cancel("old")
        self._old_until_us = None
        self._sessions.close_old()
        self._trial.keep(self.session_id)

    def _session_silent(self, event: Event.SessionSilent) -> None:
        """The current session has gone silent, or is heard again before another one stands."""
        if event.session != self.session_id:
            return
        self._timers.cancel("patience")
        if event.silent and self._trial:
            self._fail_trial()
        elif event.silent and self._has_media():
            self._leave_silent()
        elif event.silent:
            self._timers.set("patience", self._now_us + self._config.patience_ms * 1_000)
        elif self._leaving == "silent":
            self._leaving = None
            self._timers.cancel("reconnect")
            self._call_race_off()

    def _fail_trial(self) -> None:
        """The session on trial is none: the next one has its turn; if there is none, a race for all."""
        self._try_next()
        if self._race is None:
            self._end_trial()
            self._leave_silent()

    def _leave_silent(self) -> None:
        if self._sessions.current is not None and self._leaving is None:
            self._leaving = "silent"
            self._connect()

    def _goaway(self, link: ControlLink, event: GoawayReceived) -> None:
        if link.session_id != self.session_id or self._leaving == "goaway":
            return
        if self._trial and self._race is not None:
            self._try_next()
            return
        if self._trial:
            self._end_trial()
        self._leaving = "goaway"
        if event.timeout_ms:
            kept_ms = max(event.timeout_ms - GOAWAY_MARGIN_MS, event.timeout_ms // 2)
            self._old_until_us = self._now_us + kept_ms * 1_000
        self._uri = event.uri or None
        known = self._edges.find(event.uri)
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

    def _session_over(self, session: int, by: str, reason: str) -> None:
        if session == self.session_id:
            self._current_over(reason)
        elif self._sessions.get(session) is not None:
            self._sessions.over(session)
            self._trial.drop(session)
            if not self._sessions.old:
                self._timers.cancel("old")
                self._old_until_us = None
        elif self._race is not None and self._race.attempt(session) is not None:
            self._race.failed(session, by, reason, self._now_us)
            self._after_race_step()

    def _current_over(self, reason: str) -> None:
        if self._trial and self._fall_back():
            return
        self._sessions.current = None
        self._timers.cancel("patience")
        self._notices.append(Lost(reason))
        if self._edge is not None and self._leaving != "goaway":
            self._edges.distrust(self._edge, self._now_us)
        if self._race is not None:
            self.state = "connecting"
            self._trial.end()
            self._try_next()
            return
        self._end_trial()
        self._reconnect_later(self._lasted_us())
        has_others = self._edge is not None and bool(self._edges.others(self._edge, self._now_us))
        if has_others and self._backoff.failures == 1:
            self._connect()

    def _fall_back(self) -> bool:
        """The session on trial ended: another one that was tried is the current one again, if any stands."""
        ended = self._sessions.current
        others = [s for s in self._sessions.old if s.id in self._trial]
        if ended is None or not others:
            return False
        self._edges.distrust(ended.target, self._now_us)
        self._trial.drop(ended.id)
        self._make_current(others[-1], "ended")
        self._sessions.over(ended.id)
        self._try_next()
        return True

    def _links(self) -> list[ControlLink]:
        attempts = self._race.attempts if self._race is not None else []
        return [*self._sessions.links, *(a.link for a in attempts if a.link is not None)]
