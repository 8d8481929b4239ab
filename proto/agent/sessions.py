"""The sessions of one agent: a MoQT engine each, what its requests stand for, and their output."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from farcast.proto._core import Command, Event
from farcast.proto.agent.filters import is_moq_net
from farcast.proto.agent.link import ControlLink
from farcast.proto.agent.repairs import RECOVERY_OFFERED
from farcast.proto.moqt.errors import SessionCode
from farcast.proto.moqt.events import SessionFailed
from farcast.proto.moqt.values import NodeInfo, SetupOptions

if TYPE_CHECKING:
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.upstreams import UpstreamLink
    from farcast.proto.moqt.session import Session

IMPLEMENTATION = "farcast/0.1"


class Peer:
    """One session. ``roles`` says what each open request is to the agent."""

    def __init__(self, table: PeerTable, opened: Event.SessionOpened, options: SetupOptions) -> None:
        self._table = table
        self._link = ControlLink(opened, options)
        self.id: int = opened.session
        self.transport: str = opened.transport
        self.draft: int = opened.draft
        self.incoming: bool = opened.incoming
        self.remote: str = opened.remote
        self.path: str = opened.path
        self.offered: list[str] = list(opened.offered)
        self.certificates: list[bytes] = list(opened.peer_certificates)
        self.upstream: UpstreamLink | None = None
        self.node_id: str | None = None
        self.established = False
        self.going_away = False
        self.silent = False
        self.stalled = False
        self.closed = False
        self.roles: dict[int, Any] = {}
        self.implementation: str | None = None
        self._next_alias = 1

    @property
    def is_hop(self) -> bool:
        """Whether the peer is an edge."""
        return self.transport == "hop"

    @property
    def is_publisher(self) -> bool:
        """Whether tracks may be taken from this session because it offers them."""
        return not (self.is_hop or self.going_away or self.upstream is not None)

    @property
    def is_moq_net(self) -> bool:
        """Whether the peer is ``@moq/net`` or its sibling in Rust."""
        return is_moq_net(self.offered, self.implementation)

    @property
    def moqt(self) -> Session:
        """The MoQT engine; asking for it puts the peer on the list of those with output."""
        self._table.mark(self)
        return self._link.engine

    def feed(self, event: Event) -> None:
        """Control or request stream input."""
        self._table.mark(self)
        self._link.feed(event)

    def flush(self) -> None:
        """Turn what the engine wants written into commands."""
        for command in self._link.commands():
            self._table.hub.command(command)

    def next_alias(self) -> int:
        """A track alias that this session has not used."""
        self._next_alias += 1
        return self._next_alias - 1

    def count_roles(self, *kinds: type) -> int:
        """How many open requests are of these kinds."""
        return sum(isinstance(role, kinds) for role in self.roles.values())


class PeerTable:
    """All sessions by id, and those whose output is to be collected."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.by_id: dict[int, Peer] = {}
        self._marked: dict[int, Peer] = {}

    def get(self, session: int | None) -> Peer | None:
        """The session of this id that is not closed."""
        return None if session is None else self.by_id.get(session)

    def open(self, event: Event.SessionOpened, upstream: UpstreamLink | None) -> Peer | None:
        """A session of the datapath is ready for SETUP; ``None`` where it was refused."""
        refusal = self._refusal() if upstream is None else None
        if refusal is not None:
            self.hub.counters["sessions_refused"] += 1
            code, reason = refusal
            self.hub.command(Command.Close(event.session, int(code), reason))
            return None
        peer = Peer(self, event, self._options(event, upstream))
        peer.upstream = upstream
        self.by_id[peer.id] = peer
        self.mark(peer)
        self.hub.counters["sessions_opened"] += 1
        self.hub.set_timer("setup", peer.id, after_ms=self.hub.config.timing.setup_ms_max)
        return peer

    def _refusal(self) -> tuple[SessionCode, str] | None:
        """Why nobody is let in now. A client that a drain sent away, and that finds no other edge, keeps
        its old session that way, and is served there until the drain is over."""
        limit = self.hub.config.limits.sessions_max
        if self.hub.draining:
            return SessionCode.NO_ERROR, f"edge {self.hub.config.node_id} is going away"
        if len(self.by_id) >= limit:
            return SessionCode.INTERNAL_ERROR, f"this edge has its {limit} sessions already"
        return None

    def mark(self, peer: Peer) -> None:
        """The peer's engine may have events or output."""
        self._marked[peer.id] = peer

    def forget(self, peer: Peer) -> None:
        """The session is over; nothing of it is processed any more."""
        peer.closed = True
        self.by_id.pop(peer.id, None)
        self._marked.pop(peer.id, None)
        self.hub.cancel_timer("setup", peer.id)

    def pump(self, dispatch: Callable[[Peer, Any], None]) -> None:
        """Dispatch the events of all marked peers and collect their output, until none is left."""
        while self._marked:
            peer = self._marked.pop(next(iter(self._marked)))
            while not peer.closed and (event := peer.moqt.poll_event()) is not None:
                if isinstance(event, SessionFailed):
                    peer.flush()
                dispatch(peer, event)
            self._marked.pop(peer.id, None)
            if not peer.closed:
                peer.flush()

    def _options(self, event: Event.SessionOpened, upstream: UpstreamLink | None) -> SetupOptions:
        config = self.hub.config
        if event.transport == "hop":
            node = NodeInfo(config.node_id, config.region, RECOVERY_OFFERED)
            return SetupOptions(implementation=IMPLEMENTATION, node=node)
        if upstream is None or event.transport == "webtransport":
            return SetupOptions(implementation=IMPLEMENTATION)
        target = upstream.config.target
        return SetupOptions(
            implementation=IMPLEMENTATION,
            path=target.path or "/",
            authority=target.authority or target.server_name,
        )
