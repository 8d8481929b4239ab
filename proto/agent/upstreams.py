"""Connections to the configured upstreams: made when somebody needs them, renewed when they break.

``idle`` → ``connecting`` → ``open``; a failure leads to ``waiting`` (with exponential backoff) while the
upstream is needed, else to ``idle``. After a GOAWAY another connection is made beside the old one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from farcast.proto.agent.backoff import Backoff
from farcast.proto.agent.link import connect_command

if TYPE_CHECKING:
    from farcast.proto.agent.config import Upstream
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sessions import Peer
    from farcast.proto.moqt.names import TrackNamespace


class UpstreamLink:
    """One configured upstream and the state of the connection to it."""

    def __init__(self, index: int, config: Upstream, backoff: Backoff) -> None:
        self.index = index
        self.config = config
        self.backoff = backoff
        self.state = "idle"
        self.connecting: int | None = None
        self.peer: Peer | None = None
        self.node_id: str | None = None
        self.prefix_path: tuple[str, ...] | None = None
        self.prefix_request: int | None = None
        self.last_error = ""
        self.established_us: int | None = None

    @property
    def ready(self) -> Peer | None:
        """The session to send requests on, if there is one."""
        return self.peer if self.peer is not None and self.peer.established else None


class Upstreams:
    """All configured upstreams. ``is_needed`` tells whether to keep trying for one of them."""

    def __init__(self, hub: Hub, is_needed: Callable[[UpstreamLink], bool]) -> None:
        self._hub = hub
        self._is_needed = is_needed
        self._next_session = 1
        config = hub.config
        self.links = [
            UpstreamLink(index, upstream, Backoff(config.backoff, config.seed + index))
            for index, upstream in enumerate(config.upstreams)
        ]

    def candidates(self, namespace: TrackNamespace) -> list[UpstreamLink]:
        """Upstreams for a namespace, longest prefix first, in the order of the configuration."""
        matching = [link for link in self.links if namespace.starts_with(link.config.prefix)]
        return sorted(matching, key=lambda link: -len(link.config.prefix.fields))

    def overlapping(self, prefix: TrackNamespace) -> list[UpstreamLink]:
        """Upstreams that may know namespaces under ``prefix``."""
        return [link for link in self.links if link.config.prefix.overlaps(prefix)]

    def connecting_as(self, session: int) -> UpstreamLink | None:
        """The upstream that a session is being made for."""
        return next((link for link in self.links if link.connecting == session), None)

    def ensure(self, link: UpstreamLink) -> None:
        """Connect, unless there is a connection, or one on its way."""
        if link.state == "idle":
            self._connect(link)

    def opened(self, link: UpstreamLink, peer: Peer) -> None:
        """The connection stands; SETUP follows."""
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
        link = self.links[index]
        link.state = "idle"
        if self._is_needed(link):
            self._connect(link)

    def _connect(self, link: UpstreamLink) -> None:
        link.state = "connecting"
        link.connecting = self._next_session
        self._next_session += 2
        self._hub.counters["upstream_connects"] += 1
        self._hub.command(connect_command(link.connecting, link.config.target))
