"""Who publishes what: PUBLISH_NAMESPACE and SUBSCRIBE_NAMESPACE, here and across edges.

Towards clients this is what the drafts say. Between edges, the answers to a SUBSCRIBE_NAMESPACE are
PUBLISH_NAMESPACE requests, because those carry parameters and so the path (see `namespaces`), and an
edge asks each upstream at most once, for that upstream's whole prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farcast.proto.access.scopes import Action
from farcast.proto.agent.local_tracks import is_own_namespace
from farcast.proto.agent.namespaces import DIRECTORY, Notice, PrefixSubscriber
from farcast.proto.agent.routes import obstacle_in_path
from farcast.proto.moqt.errors import RequestCode
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.moqt.parameters import Parameters

if TYPE_CHECKING:
    from farcast.proto.agent.access import Access
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.namespaces import HopPath, NamespaceTable
    from farcast.proto.agent.sessions import Peer, PeerTable
    from farcast.proto.agent.upstreams import UpstreamLink, Upstreams
    from farcast.proto.moqt import events as moqt

RETRY_LOAD_MS = 1_000
PASSING = frozenset({RequestCode.EXCESSIVE_LOAD, RequestCode.GOING_AWAY})
"""Refusals after which the same may be asked again."""


@dataclass(slots=True, eq=False)
class Announcing:
    """A PUBLISH_NAMESPACE of a peer. ``ignored``: it came through us, so it is not news."""

    namespace: TrackNamespace
    ignored: bool


@dataclass(slots=True, eq=False)
class Telling:
    """A PUBLISH_NAMESPACE of ours, to an edge that asked for a prefix."""

    namespace: TrackNamespace


@dataclass(slots=True, eq=False)
class PrefixQuery:
    """Our SUBSCRIBE_NAMESPACE to an upstream."""

    link: UpstreamLink


class Discovery:
    """Announcements in, announcements out. Calls back ``appeared(peer, namespace)`` for each new one."""

    def __init__(
        self, hub: Hub, access: Access, peers: PeerTable, table: NamespaceTable, upstreams: Upstreams
    ) -> None:
        self._hub = hub
        self._access = access
        self._peers = peers
        self._table = table
        self._upstreams = upstreams
        self._times_announced: dict[tuple[int, TrackNamespace], int] = {}
        self._told: dict[tuple[int, TrackNamespace], int] = {}
        self._listed: dict[tuple[bytes, ...], str] = {}
        self.appeared: Callable[[Peer, TrackNamespace], None]

    # --- PUBLISH_NAMESPACE ------------------------------------------------------------------------

    def announced(self, peer: Peer, event: moqt.NamespacePublished) -> None:
        """A peer has tracks under a namespace."""
        refusal = self._refusal(peer, event.namespace) or self._access.refusal(
            peer, Action.PUBLISH_NAMESPACE, event.namespace, None, event.tokens
        )
        if refusal is not None:
            self._hub.counters["namespaces_refused"] += 1
            retry_ms = RETRY_LOAD_MS if refusal[0] in PASSING else None
            peer.moqt.reject(event.request, *refusal, retry_ms=retry_ms)
            return
        path = event.parameters.hop_path if peer.is_hop else ()
        ignored = obstacle_in_path(path, self._hub.config.node_id) is not None
        peer.roles[event.request] = Announcing(event.namespace, ignored)
        peer.moqt.accept(event.request)
        if not ignored:
            self._add(peer, event.namespace, path)

    def _refusal(self, peer: Peer, namespace: TrackNamespace) -> tuple[RequestCode, str] | None:
        limits = self._hub.config.limits
        if self._hub.draining:
            return RequestCode.GOING_AWAY, f"edge {self._hub.config.node_id} is going away"
        if is_own_namespace(namespace):
            return RequestCode.UNAUTHORIZED, f"namespace {namespace.path()} belongs to the edges"
        if len(self._table.announced_by(peer.id)) >= limits.namespaces_per_session_max:
            return (
                RequestCode.EXCESSIVE_LOAD,
                f"a session may have {limits.namespaces_per_session_max} namespaces",
            )
        if len(self._table) - len(self._listed) >= limits.namespaces_max:
            return RequestCode.EXCESSIVE_LOAD, f"this edge knows {limits.namespaces_max} namespaces already"
        return None

    def withdrawn(self, peer: Peer, role: Announcing, request: int) -> None:
        """A peer took an announcement back."""
        peer.roles.pop(request, None)
        if not role.ignored:
            self._remove(peer, role.namespace)

    def _add(self, peer: Peer, namespace: TrackNamespace, path: HopPath) -> None:
        key = (peer.id, namespace)
        self._times_announced[key] = self._times_announced.get(key, 0) + 1
        self._tell(self._table.announce(namespace, peer.id, path))
        self.appeared(peer, namespace)

    def _remove(self, peer: Peer, namespace: TrackNamespace) -> None:
        """A session may announce one namespace in two ways; it is gone when both are taken back."""
        key = (peer.id, namespace)
        left = self._times_announced.get(key, 0) - 1
        if left > 0:
            self._times_announced[key] = left
        elif self._times_announced.pop(key, None) is not None:
            self._tell(self._table.withdraw(namespace, peer.id))

    # --- the plan's directory ---------------------------------------------------------------------

    def listed(self, directory: Mapping[tuple[bytes, ...], str]) -> None:
        """The namespaces that other edges have, by origin: tell those who want to know what changed."""
        own = self._hub.config.node_id
        listed = {fields: origin for fields, origin in directory.items() if origin != own}
        for fields, origin in self._listed.items():
            if listed.get(fields) != origin:
                self._tell(self._table.withdraw(TrackNamespace(fields), DIRECTORY))
        for fields, origin in listed.items():
            if self._listed.get(fields) != origin:
                self._tell(self._table.announce(TrackNamespace(fields), DIRECTORY, (origin,)))
        self._listed = listed

    # --- SUBSCRIBE_NAMESPACE ----------------------------------------------------------------------

    def subscribed(self, peer: Peer, event: moqt.NamespaceSubscribed) -> None:
        """A peer wants to hear of namespaces under a prefix."""
        path = event.parameters.hop_path if peer.is_hop else ()
        refusal = self._prefix_refusal(peer, event, path) or self._access.refusal(
            peer, Action.SUBSCRIBE_NAMESPACE, event.prefix, None, event.tokens
        )
        if refusal is not None:
            self._hub.counters["prefixes_refused"] += 1
            peer.moqt.reject(event.request, *refusal)
            return
        subscriber = PrefixSubscriber(peer.id, event.request, event.prefix, peer.node_id)
        peer.roles[event.request] = subscriber
        peer.moqt.accept(event.request)
        self._tell(self._table.subscribe(subscriber))
        self._ask_upstreams(peer, event.prefix, path)

    def _prefix_refusal(
        self, peer: Peer, event: moqt.NamespaceSubscribed, path: HopPath
    ) -> tuple[RequestCode, str] | None:
        limit = self._hub.config.limits.prefixes_per_session_max
        obstacle = obstacle_in_path(path, self._hub.config.node_id)
        mine = self._table.prefixes_of(peer.id)
        if self._hub.draining:
            return RequestCode.GOING_AWAY, f"edge {self._hub.config.node_id} is going away"
        if obstacle is not None:
            return RequestCode.DOES_NOT_EXIST, obstacle
        if len(mine) >= limit:
            return RequestCode.EXCESSIVE_LOAD, f"a session may have {limit} prefixes"
        return None

    def unsubscribed(self, peer: Peer, role: PrefixSubscriber) -> None:
        """A peer has heard enough."""
        peer.roles.pop(role.request, None)
        self._table.unsubscribe(peer.id, role.request)
        for namespace in role.told:
            self._stop_telling(peer, namespace)

    # --- telling ----------------------------------------------------------------------------------

    def _tell(self, notices: list[Notice]) -> None:
        for notice in notices:
            peer = self._peers.get(notice.session)
            if peer is None:
                continue
            if peer.is_hop:
                self._tell_edge(peer, notice)
            elif notice.path is not None:
                peer.moqt.announce_to(notice.request, notice.namespace)
            else:
                peer.moqt.withdraw_from(notice.request, notice.namespace)

    def _tell_edge(self, peer: Peer, notice: Notice) -> None:
        if notice.path is None:
            self._stop_telling(peer, notice.namespace)
        elif len(notice.path) < self._hub.config.limits.hop_path_max:
            parameters = Parameters(hop_path=(*notice.path, self._hub.config.node_id))
            request = peer.moqt.publish_namespace(notice.namespace, parameters=parameters)
            self._told[peer.id, notice.namespace] = request
            peer.roles[request] = Telling(notice.namespace)

    def _stop_telling(self, peer: Peer, namespace: TrackNamespace) -> None:
        request = self._told.pop((peer.id, namespace), None)
        if request is not None and peer.roles.pop(request, None) is not None:
            peer.moqt.unpublish_namespace(request)

    def telling_ended(self, peer: Peer, role: Telling, request: int) -> None:
        """An edge does not want (any more) to be told of a namespace."""
        peer.roles.pop(request, None)
        if self._told.get((peer.id, role.namespace)) == request:
            del self._told[peer.id, role.namespace]

    # --- asking upstreams -------------------------------------------------------------------------

    def _ask_upstreams(self, peer: Peer, prefix: TrackNamespace, path: HopPath) -> None:
        for link in self._upstreams.overlapping(prefix):
            if peer.upstream is link or link.prefix_path is not None or link.node_id in path:
                continue
            link.prefix_path = path
            if link.ready is None:
                self._upstreams.ensure(link)
            else:
                self._query(link, link.ready)

    def upstream_ready(self, link: UpstreamLink) -> None:
        """An upstream is connected: ask it, if anybody wants to know."""
        if link.prefix_path is not None and link.ready is not None and link.prefix_request is None:
            self._query(link, link.ready)

    def _query(self, link: UpstreamLink, peer: Peer) -> None:
        path = link.prefix_path or ()
        if peer.node_id is not None and peer.node_id in path:
            link.prefix_path = None
            return
        parameters = Parameters(hop_path=(*path, self._hub.config.node_id)) if peer.is_hop else Parameters()
        link.prefix_request = peer.moqt.subscribe_namespace(link.config.prefix, parameters=parameters)
        peer.roles[link.prefix_request] = PrefixQuery(link)
        self._hub.counters["upstream_prefix_queries"] += 1

    def query_ended(self, peer: Peer, role: PrefixQuery, request: int) -> None:
        """An upstream does not answer (any more); it is asked again when somebody else wants to know."""
        peer.roles.pop(request, None)
        if role.link.prefix_request == request:
            role.link.prefix_request = None
            role.link.prefix_path = None

    def answer(self, peer: Peer, event: moqt.NamespaceAnnounced) -> None:
        """A stock upstream knows a namespace."""
        if len(self._table) - len(self._listed) < self._hub.config.limits.namespaces_max:
            self._add(peer, event.namespace, ())

    def answer_gone(self, peer: Peer, event: moqt.NamespaceGone) -> None:
        """A stock upstream does not know a namespace any more."""
        self._remove(peer, event.namespace)

    def is_needed(self, link: UpstreamLink) -> bool:
        """Whether somebody wants to hear of the namespaces of an upstream."""
        return link.prefix_path is not None

    def session_lost(self, peer: Peer) -> None:
        """A session closed with what it announced and asked for."""
        for role in peer.roles.values():
            if isinstance(role, Telling):
                self._told.pop((peer.id, role.namespace), None)
        for namespace in self._table.announced_by(peer.id):
            self._times_announced.pop((peer.id, namespace), None)
        self._tell(self._table.forget_session(peer.id))
