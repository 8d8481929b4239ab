"""Connections to upstreams: made when somebody needs them, renewed when they break.

Some upstreams are configured, with a prefix; the others are the edges of the plan (see `plan_upstreams`).

``idle`` → ``connecting`` → ``open``; a failure leads to ``waiting`` (with exponential backoff) while the
upstream is needed, else to ``idle``. After a GOAWAY another connection is made beside the old one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from farcast.proto.agent.backoff import Backoff
from farcast.proto.agent.config import Upstream
from farcast.proto.agent.link import connect_command
from farcast.proto.moqt.names import TrackNamespace

if TYPE_CHECKING:
    from farcast.proto._core import ClientTls
    from farcast.proto.agent.config import Target
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sessions import Peer


class UpstreamLink:
    """One upstream and the state of the connection to it. ``planned`` is its node id, if the plan names it;
    ``is_wanted``: the plan does so still."""

    def __init__(self, index: int, config: Upstream, backoff: Backoff, planned: str | None = None) -> None:
        self.index = index
        self.config = config
        self.backoff = backoff
        self.planned = planned
        self.is_wanted = planned is not None
        self.state = "idle"
        self.connecting: int | None = None
        self.peer: Peer | None = None
        self.node_id: str | None = planned
        self.prefix_path: tuple[str, ...] | None = None
        self.prefix_request: int | None = None
        self.last_error = ""
        self.established_us: int | None = None

    @property
    def ready(self) -> Peer | None:
        """The session to send requests on, if there is one."""
        return self.peer if self.peer is not None and self.peer.established else None

    @property
    def is_sound(self) -> bool:
        """Whether there is such a session, and its peer neither silent nor going away."""
        peer = self.ready
        return peer is not None and not (peer.silent or peer.going_away)


class Upstreams:
    """All upstreams, by index. ``is_needed`` tells whether to keep trying for one of them."""

    def __init__(self, hub: Hub, is_needed: Callable[[UpstreamLink], bool]) -> None:
        self._hub = hub
        self._is_needed = is_needed
        self._next_session = 1
        self._next_index = 0
        self._connecting: dict[int, UpstreamLink] = {}
        self.links: dict[int, UpstreamLink] = {}
        for upstream in hub.config.upstreams:
            self._add(upstream)

    def add_planned(self, node_id: str, target: Target) -> UpstreamLink:
        """An edge of the plan, not connected yet."""
        return self._add(Upstream(TrackNamespace(), target), node_id)

    def move(self, link: UpstreamLink, target: Target) -> None:
        """The upstream is somewhere else now; a connection that there is stays."""
        link.config = Upstream(link.config.prefix, target)
        if link.state == "waiting":
            self._hub.cancel_timer("reconnect", link.index)
            link.state = "idle"

    def renew_hops(self, tls: ClientTls) -> None:
        """Connections to edges show another certificate from the next one on."""
        for link in self.links.values():
            target = link.config.target
            if target.kind == "hop":
                link.config = Upstream(link.config.prefix, replace(target, tls=tls))

    def remove(self, link: UpstreamLink) -> None:
        """Forget an edge of the plan to which there is no connection."""
        self._hub.cancel_timer("reconnect", link.index)
        self._connecting.pop(link.connecting or 0, None)
        self.links.pop(link.index, None)

    def _add(self, upstream: Upstream, planned: str | None = None) -> UpstreamLink:
        config, index = self._hub.config, self._next_index
        self._next_index += 1
        backoff = Backoff(config.backoff, config.seed + index)
        self.links[index] = UpstreamLink(index, upstream, backoff, planned)
        return self.links[index]

    def _configured(self) -> Iterator[UpstreamLink]:
        return (link for link in self.links.values() if link.planned is None)

    def candidates(self, namespace: TrackNamespace) -> list[UpstreamLink]:
        """Configured upstreams for a namespace, longest prefix first, in the order of the configuration."""
        matching = [link for link in self._configured() if namespace.starts_with(link.config.prefix)]
        return sorted(matching, key=lambda link: -len(link.config.prefix.fields))

    def overlapping(self, prefix: TrackNamespace) -> list[UpstreamLink]:
        """Configured upstreams that may know namespaces under ``prefix``."""
        return [link for link in self._configured() if link.config.prefix.overlaps(prefix)]

    def connecting_as(self, session: int) -> UpstreamLink | None:
        """The upstream that a session is being made for."""
        return self._connecting.get(session)

    def ensure(self, link: UpstreamLink) -> None:
        """Connect, unless there is a connection, or one on its way."""
        if link.state == "idle":
            self._connect(link)

    def opened(self, link: UpstreamLink, peer: Peer) -> None:
        """The connection stands; SETUP follows."""
        self._connecting.pop(peer.id, None)
        link.connecting = None
        link.peer = peer

    def established(self, link: UpstreamLink, peer: Peer) -> None:
        """The upstream's SETUP is here."""
        link.state = "open"
        link.established_us = self._hub.now_us
        link.node_id = peer.node_id
        link.last_error = ""

    def lost(self, link: UpstreamLink, reason: str) -> None:
        """The connection, or the attempt to make one, failed."""
        self._connecting.pop(link.connecting or 0, None)
        link.connecting = None
        link.last_error = reason
        self._hub.counters["upstream_failures"] += 1
        self._wait(link)

    def retire(self, link: UpstreamLink) -> None:
        """The upstream goes away: make another connection, while the old one still serves."""
        self._hub.counters["upstream_goaways"] += 1
        self._wait(link)

    def _wait(self, link: UpstreamLink) -> None:
        link.peer = link.prefix_request = None
        link.state = "waiting"
        lasted_us = self._hub.now_us - link.established_us if link.established_us is not None else 0
        link.established_us = None
        wait_us = link.backoff.next_wait_us(lasted_us)
        self._hub.timers.set(("reconnect", link.index, 0), self._hub.now_us + wait_us)

    def reconnect_due(self, index: int) -> None:
        """The backoff is over."""
        link = self.links.get(index)
        if link is not None:
            link.state = "idle"
            if self._is_needed(link):
                self._connect(link)

    def _connect(self, link: UpstreamLink) -> None:
        link.state = "connecting"
        link.connecting = self._next_session
        self._connecting[self._next_session] = link
        self._next_session += 2
        self._hub.counters["upstream_connects"] += 1
        self._hub.command(connect_command(link.connecting, link.config.target))
