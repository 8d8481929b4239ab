"""The edges of the plan, as upstreams: to each of them that the plan wants measured, or names as a way to
some origin, a hop is kept open, whether or not a track needs it now.

An open hop is what makes a standby a matter of one SUBSCRIBE, and what measures the link: its heartbeats are
the probes. One connection for each pair and direction; the other edge makes the other one. An edge that the
plan does not name any more loses its hop as soon as no track hangs on it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import TYPE_CHECKING

from farcast.proto._core import Command
from farcast.proto.agent.config import Target
from farcast.proto.agent.repairs import second_paths_command
from farcast.proto.urls import split_host_port

if TYPE_CHECKING:
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sessions import Peer
    from farcast.proto.agent.upstreams import UpstreamLink, Upstreams
    from farcast.proto.control.edge_plan import EdgePlan, Route
    from farcast.proto.control.messages import NodeInfo
    from farcast.proto.moqt.names import TrackNamespace

TIDY_MS = 5_000
"""How often hops that nobody needs any more are looked for, while there are some."""

NOT_NAMED = "the plan does not name this edge any more"


class PlanUpstreams:
    """Keeps upstream links in step with the plan. Asks ``in_use(link)`` whether a track hangs on one of
    them, and calls ``close(peer, reason)`` to end its session."""

    def __init__(
        self,
        hub: Hub,
        upstreams: Upstreams,
        in_use: Callable[[UpstreamLink], bool],
        close: Callable[[Peer, str], None],
    ) -> None:
        self._hub = hub
        self._upstreams = upstreams
        self._in_use = in_use
        self._close = close
        self._by_node: dict[str, UpstreamLink] = {}
        self.unusable: tuple[str, ...] = ()
        """Edges of the plan whose address is none."""
        self.plan: EdgePlan | None = None

    # --- getters ----------------------------------------------------------------------------------

    def link_to(self, node_id: str) -> UpstreamLink | None:
        """The upstream that is this edge of the plan."""
        return self._by_node.get(node_id)

    def route_for(self, namespace: TrackNamespace) -> Route | None:
        """As in the plan; ``None`` where it knows no way that could be taken."""
        route = self.plan.route_for(namespace) if self.plan is not None else None
        if route is None or (not route.upstreams and route.origin != self._hub.config.node_id):
            return None
        return route

    def links_for(self, namespace: TrackNamespace) -> list[UpstreamLink] | None:
        """Upstreams for a namespace in the plan's order, parent first; empty where this edge is the origin
        itself; ``None`` where the plan does not say."""
        route = self.route_for(namespace)
        if route is None:
            return None
        links = (self._by_node.get(node_id) for node_id in route.upstreams)
        return [link for link in links if link is not None]

    # --- changes ----------------------------------------------------------------------------------

    def apply(self, plan: EdgePlan) -> None:
        """Follow this plan from now on: connect to what is new in it."""
        self.plan = plan
        wanted = self._wanted(plan)
        self.unusable = ()
        for node_id, node in wanted.items():
            target = self._target(node)
            if target is not None:
                self._want(node_id, target)
        for node_id, link in self._by_node.items():
            link.is_wanted = node_id in wanted
        self.tidy()

    def _wanted(self, plan: EdgePlan) -> dict[str, NodeInfo]:
        on_ways = {node_id for origin in plan.routes for node_id in plan.candidates(origin)}
        return {
            node_id: node
            for node_id, node in plan.nodes.items()
            if node_id != self._hub.config.node_id and (node.probe or node_id in on_ways)
        }

    def _target(self, node: NodeInfo) -> Target | None:
        hops = self._hub.config.plan_hops
        if hops is None:
            return None
        remote = hops.addresses.get(node.node_id, node.address)
        if not is_address(remote):
            self.unusable += (node.node_id,)
            return None
        return Target("hop", remote, edge_server_name(node.node_id), hops.tls)

    def _want(self, node_id: str, target: Target) -> None:
        link = self._by_node.get(node_id)
        if link is None:
            link = self._by_node[node_id] = self._upstreams.add_planned(node_id, target)
        elif link.config.target != target:
            self._upstreams.move(link, target)
        self._upstreams.ensure(link)

    def tidy(self) -> None:
        """Close hops to edges that the plan does not name any more, once no track hangs on them."""
        unwanted = [link for link in self._by_node.values() if not link.is_wanted]
        for link in unwanted:
            if not self._in_use(link):
                self._drop(link)
        if any(not link.is_wanted for link in self._by_node.values()):
            self._hub.set_timer("tidy", 0, after_ms=TIDY_MS)

    def _drop(self, link: UpstreamLink) -> None:
        peer, link.peer = link.peer, None
        del self._by_node[link.planned or ""]
        self._upstreams.remove(link)
        if peer is not None:
            self._close(peer, NOT_NAMED)
        elif link.connecting is not None:
            self._hub.command(Command.Close(session=link.connecting, code=0, reason=NOT_NAMED))

    def established(self, peer: Peer) -> None:
        """A hop of ours stands: when its tracks take a second path, and when they leave it."""
        config = self._hub.config
        if peer.is_hop:
            self._hub.command(second_paths_command(peer.id, config.second_paths, config.recovery))
        hops = config.plan_hops
        if hops is not None and (hops.loss_max_permille or hops.rtt_max_us):
            self._hub.command(Command.HopBounds(peer.id, hops.loss_max_permille, hops.rtt_max_us))


def edge_server_name(node_id: str) -> str:
    """The DNS name in an edge's hop certificate."""
    return f"{node_id}.edge.farcast.internal"


def is_address(text: str) -> bool:
    """Whether ``text`` is ``ip:port``."""
    try:
        host, port = split_host_port(text)
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return port > 0
