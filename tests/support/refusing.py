"""A MoQT server that wants nothing to do with anybody."""

from __future__ import annotations

import contextlib
import select
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal

from farcast.certificates import make_dev_identity
from farcast.proto._core import Command, DatapathConfig, Event, Runtime, ServerTls
from farcast.proto.agent.link import ControlLink
from farcast.proto.moqt import events as moqt
from farcast.proto.moqt.errors import RequestCode
from farcast.proto.moqt.values import SetupOptions

Manner = Literal["close", "reject"]
REASON = "members only"
_CLOSE_CODE = 0x2


class RefusingServer(threading.Thread):
    """Closes each session at once, or stays and rejects each request."""

    def __init__(self, manner: Manner) -> None:
        super().__init__(daemon=True)
        self.identity = make_dev_identity(datetime.now(UTC))
        tls = ServerTls(self.identity.chain, self.identity.key)
        self._runtime = Runtime("127.0.0.1:0", DatapathConfig(tls))
        self.listen = self._runtime.local_addr
        self._manner = manner
        self._links: dict[int, ControlLink] = {}
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            select.select([self._runtime.event_fd], [], [], 0.1)
            for event in self._runtime.drain_events(1_000):
                self._runtime.execute(self._answer(event))
        self._runtime.close()

    def stop(self) -> None:
        """End the server."""
        self._stopping.set()
        self.join()

    def _answer(self, event: Any) -> list[Any]:
        if isinstance(event, Event.SessionOpened):
            if self._manner == "close":
                return [Command.Close(session=event.session, code=_CLOSE_CODE, reason=REASON)]
            self._links[event.session] = ControlLink(event, SetupOptions(implementation="refusing"))
        link = self._links.get(getattr(event, "session", -1))
        if link is None:
            return []
        link.feed(event)
        while (found := link.engine.poll_event()) is not None:
            if isinstance(found, moqt.NamespacePublished | moqt.SubscribeRequested):
                link.engine.reject(found.request, RequestCode.UNAUTHORIZED, REASON)
        return list(link.commands())


@contextlib.contextmanager
def refusing_server(manner: Manner) -> Iterator[RefusingServer]:
    """A server that runs for the length of the block."""
    server = RefusingServer(manner)
    server.start()
    try:
        yield server
    finally:
        server.stop()
