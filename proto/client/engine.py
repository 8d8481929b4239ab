"""What publishers and viewers have in common: one connection, its edges and their list, queues in and out."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from farcast.proto._core import Command, Event
from farcast.proto.agent.config import Target
from farcast.proto.agent.filters import is_ours
from farcast.proto.client.config import ConnectionConfig
from farcast.proto.client.connection import Connection
from farcast.proto.client.edge_list import BadEdgeList, EdgeListFollower
from farcast.proto.client.events import Connected, EdgeEvent, EdgeListRefused, EdgesListed, Moved
from farcast.proto.client.notices import Opened

E = TypeVar("E")


class ClientEngine(Generic[E]):
    """Base of the sans-IO engines of clients; ``E`` is what it tells its application.

    ``first_id`` is its first track and downstream id in the datapath. ``follow_edge_list``: ask each edge of
    ours for its edge list.
    """

    def __init__(self, connection: ConnectionConfig, first_id: int, *, follow_edge_list: bool) -> None:
        self._commands: deque[Command] = deque()
        self._events: deque[E | Connected | EdgeEvent] = deque()
        self._connection = Connection(connection, self._commands, self._has_media, self._awaits_media)
        self._list = EdgeListFollower(self._commands, self._new_id) if follow_edge_list else None
        self._next_id = first_id
        self._now_us = 0

    @property
    def state(self) -> str:
        """``new``, ``connecting``, ``established``, ``waiting``, ``refused`` or ``closed``."""
        return self._connection.state

    # --- commands ---------------------------------------------------------------------------------

    def start(self, now_us: int) -> None:
        """Connect."""
        self._now_us = now_us
        self._connection.start(now_us)

    def learn(self, now_us: int, targets: Sequence[Target], draining: Sequence[Target] = ()) -> None:
        """Other edges that serve the same, best first, in place of those learnt before."""
        self._now_us = now_us
        self._connection.learn(targets, draining)

    def answer_uri(self, now_us: int, uri: str, target: Target | None) -> None:
        """The answer to `SentTo`; ``None`` if the URI leads nowhere."""
        self._now_us = now_us
        self._connection.answer_uri(uri, target, now_us)

    # --- output -----------------------------------------------------------------------------------

    def poll_command(self) -> Command | None:
        """The next command to the datapath."""
        return self._commands.popleft() if self._commands else None

    def poll_event(self) -> E | Connected | EdgeEvent | None:
        """The next thing to tell the application."""
        return self._events.popleft() if self._events else None

    # --- for the engines --------------------------------------------------------------------------

    def _has_media(self) -> bool:
        """Whether objects flow over the current session, or would if there were any."""
        raise NotImplementedError

    def _awaits_media(self) -> bool:
        """Whether something was broken off that another session is to deliver."""
        return False

    def _poll_notice(self) -> Any:
        """The next notice of the connection that is not about the edge list."""
        while (notice := self._connection.poll_notice()) is not None:
            if self._list is None or not self._list.takes(self._connection.session_id, notice):
                return notice
        return None

    def _note_opened(self, notice: Opened) -> None:
        """Tell of a session that stands, and ask for the edge list there."""
        self._events.append(Connected(notice.transport, notice.draft, notice.edge))
        if notice.previous not in (None, notice.edge):
            self._events.append(Moved(notice.previous or "", notice.edge, notice.cause))
        session = self._connection.moqt
        if self._list is not None and session is not None and is_ours(notice.implementation):
            self._list.follow(session, notice.session)

    def _note_object(self, event: Event.Object) -> None:
        """An object that is no media may be the edge list."""
        try:
            found = self._list.object(event) if self._list is not None else None
        except BadEdgeList as error:
            self._events.append(EdgeListRefused(str(error)))
        else:
            if found is not None:
                self._events.append(EdgesListed(found))

    def _drop_edge_list(self) -> None:
        if self._list is not None:
            self._list.drop()

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id - 1
