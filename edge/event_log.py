"""What the log says about events of the datapath. The agent decides; here it is only written down.

Sessions of clients are ``debug``: thousands come and go. Hops and upstreams are ``info``, and ``warning``
when they fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from farcast.proto._core import Event

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class EventLog:
    """Call it with each event."""

    def __init__(self) -> None:
        self._hops: dict[int, str] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            Event.SessionOpened: self._opened,
            Event.SessionClosed: self._closed,
            Event.HopSilent: self._silent,
            Event.TrackMalformed: self._malformed,
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
        write = log.info if event.by == "local" else log.warning
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

    def _malformed(self, event: Event.TrackMalformed) -> None:
        log.warning(
            "upstream sent a malformed track", session=event.session, track=event.track, reason=event.reason
        )
