"""What the log says about events of the datapath. The agent decides; here it is only written down.

Sessions of clients are ``debug``: thousands come and go. Hops and upstreams are ``info``, and ``warning``
when they fail.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import structlog

from farcast.proto._core import Event
from farcast.proto.moqt.errors import SessionCode

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SAY_AGAIN_SECONDS = 1.0
"""Switches between the same two hops, for the same cause, are one line in this time."""


class EventLog:
    """Call it with each event. ``clock`` gives seconds, monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hops: dict[int, str] = {}
        self._said: dict[tuple[int, int, str], float] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            Event.SessionOpened: self._opened,
            Event.SessionClosed: self._closed,
            Event.HopSilent: self._silent,
            Event.TrackMalformed: self._malformed,
            Event.UpstreamSwitched: self._switched,
            Event.UpstreamResumed: lambda event: log.debug(
                "media resumed", track=event.track, remote=self._remote(event), gap_ms=event.gap_us // 1_000
            ),
            Event.TrackRestarted: lambda event: log.info(
                "publisher started its track over", track=event.track
            ),
        }

    def __call__(self, event: Event) -> None:
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def _opened(self, event: Event.SessionOpened) -> None:
        fields = {"session": event.session, "transport": event.transport, "remote": event.remote}
        if event.transport == "hop":
            self._hops[event.session] = event.remote
            log.info("hop opened", incoming=event.incoming, **fields)
        elif not event.incoming:
            log.info("upstream opened", draft=event.draft, **fields)
        else:
            log.debug("session opened", draft=event.draft, **fields)

    def _closed(self, event: Event.SessionClosed) -> None:
        remote = self._hops.pop(event.session, None)
        fields = {"session": event.session, "by": event.by, "code": event.code, "reason": event.reason}
        meant = event.by == "local" and event.code != SessionCode.UNAUTHORIZED
        write = log.info if meant else log.warning
        if remote is not None:
            write("hop closed", remote=remote, **fields)
        elif event.session % 2:
            write("upstream closed", **fields)
        else:
            log.debug("session closed", **fields)

    def _silent(self, event: Event.HopSilent) -> None:
        remote = self._hops.get(event.session, "")
        if event.silent:
            log.warning("hop is silent", session=event.session, remote=remote)
        else:
            log.info("hop is heard again", session=event.session, remote=remote)

    def _switched(self, event: Event.UpstreamSwitched) -> None:
        planned = event.cause == "command"
        self._write_once(event, log.info if planned else log.warning)(
            "track took another upstream",
            track=event.track,
            cause=event.cause,
            left=self._hops.get(event.from_session, ""),
            remote=self._remote(event),
            silent_ms=event.silent_us // 1_000,
        )

    def _write_once(self, event: Event.UpstreamSwitched, write: Callable[..., Any]) -> Callable[..., Any]:
        """A hop that fails moves all its tracks at once: the first one is told, the others are details."""
        key = event.from_session, event.session, event.cause
        now = self._clock()
        said, self._said = self._said, {k: at for k, at in self._said.items() if now - at < SAY_AGAIN_SECONDS}
        self._said.setdefault(key, now)
        return write if now - said.get(key, -math.inf) >= SAY_AGAIN_SECONDS else log.debug

    def _remote(self, event: Event.UpstreamSwitched | Event.UpstreamResumed) -> str:
        return self._hops.get(event.session, "")

    def _malformed(self, event: Event.TrackMalformed) -> None:
        log.warning(
            "upstream sent a malformed track", session=event.session, track=event.track, reason=event.reason
        )
