"""The agent of an edge: decides what its datapath does, and does nothing per object.

Events of the datapath come in (`handle_event`), commands go out (`poll_command`). The agent speaks
MoQT on every session, finds each wanted track one source, and programs the datapath's table; from
then on objects pass without it. Each concern has its own module; here they are wired together and
events are handed to them:

``sessions``       MoQT engines and what their requests stand for
``upstreams``      connections to other edges and relays; ``plan_upstreams``: those of the plan
``discovery``      namespaces
``candidates``     whom a track can come from
``sourcing``       where it comes from
``standby``        which edge takes over when that fails
``ahead``          what is taken before anybody asks
``publications``   tracks that clients publish of their own accord
``takeover``       which of two publishers is alive
``subscriptions``  who gets it
``local_tracks``   what this edge publishes itself
``draining``       how it goes away
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from farcast.proto._core import Command, Event
from farcast.proto.access.records import read_rules, read_shares
from farcast.proto.agent import status
from farcast.proto.agent.access import Access
from farcast.proto.agent.ahead import Ahead
from farcast.proto.agent.binding import Bindings
from farcast.proto.agent.candidates import Candidates
from farcast.proto.agent.config import AgentConfig
from farcast.proto.agent.discovery import Announcing, Discovery, PrefixQuery, Telling
from farcast.proto.agent.draining import Draining
from farcast.proto.agent.hop_trust import HopTrust
from farcast.proto.agent.hub import Hub
from farcast.proto.agent.local_tracks import CLOCK, EDGE_LIST, LocalTracks
from farcast.proto.agent.namespaces import NamespaceTable, PrefixSubscriber
from farcast.proto.agent.offers import DemandMeter, Offers
from farcast.proto.agent.plan_upstreams import PlanUpstreams
from farcast.proto.agent.publications import Publications
from farcast.proto.agent.repairs import policy_command, prepare
from farcast.proto.agent.sessions import Peer, PeerTable
from farcast.proto.agent.sourcing import Sourcing
from farcast.proto.agent.standby import Standby
from farcast.proto.agent.subscriptions import Subscriptions
from farcast.proto.agent.takeover import Takeover
from farcast.proto.agent.tracks import Downstream, Pending, Publication, Source, Track, TrackTable
from farcast.proto.agent.upstreams import UpstreamLink, Upstreams
from farcast.proto.moqt import events as moqt
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode, SessionCode
from farcast.proto.moqt.names import FullTrackName, TrackNamespace

if TYPE_CHECKING:
    from farcast.proto._core import ClientTls
    from farcast.proto.access.gate import AccessPolicy
    from farcast.proto.access.quotas import QuotaTable
    from farcast.proto.control.edge_plan import EdgePlan
    from farcast.proto.control.messages import Offer, TrackLoad

PUMPS_MAX = 64
"""Rounds of output and second thoughts in one call; what is left then waits for the next one."""


class Agent:
    """Sans-IO engine of one edge. ``now_us`` is any monotonic clock in microseconds."""

    def __init__(self, config: AgentConfig) -> None:
        prepare(config.recovery, config.second_paths)
        self._hub = Hub(config)
        self._peers = PeerTable(self._hub)
        self._access = Access(self._hub, self._peers, self._close)
        self._hop_trust = HopTrust(self._hub, self._peers, self._close)
        self._tracks = TrackTable()
        self._namespaces = NamespaceTable()
        self._upstreams = Upstreams(self._hub, self._upstream_is_needed)
        self._plan = PlanUpstreams(self._hub, self._upstreams, self._has_tracks_on, self._close_politely)
        self._candidates = Candidates(
            self._hub, self._peers, self._tracks, self._namespaces, self._upstreams, self._plan
        )
        self._bindings = Bindings(self._hub, self._tracks)
        self._sourcing = Sourcing(
            self._hub, self._peers, self._tracks, self._candidates, self._upstreams, self._bindings
        )
        self._subscriptions = Subscriptions(
            self._hub, self._access, self._peers, self._tracks, self._candidates, self._sourcing
        )
        self._standby = Standby(
            self._hub,
            self._peers,
            self._tracks,
            self._upstreams,
            self._plan,
            self._candidates,
            self._bindings,
            self._sourcing,
        )
        self._ahead = Ahead(
            self._hub,
            self._peers,
            self._tracks,
            self._namespaces,
            self._sourcing,
            self._subscriptions.idle,
        )
        self._local = LocalTracks(self._hub, self._tracks, self._sourcing)
        self._offers = Offers(self._peers, self._tracks, self._namespaces)
        self._demand = DemandMeter(self._tracks)
        self._discovery = Discovery(self._hub, self._access, self._peers, self._namespaces, self._upstreams)
        self._takeover = Takeover(self._hub, self._peers, self._tracks, self._sourcing)
        self._publications = Publications(
            self._hub, self._access, self._tracks, self._sourcing, self._takeover
        )
        self._draining = Draining(self._hub, self._peers, self._candidates, self._close)
        self._sourcing.changed = self._source_changed
        self._subscriptions.taken = self._track_taken
        self._discovery.appeared = self._namespace_appeared
        self._event_handlers = self._make_event_handlers()
        self._moqt_handlers = self._make_moqt_handlers()
        self._timer_handlers = self._make_timer_handlers()

    # --- getters ----------------------------------------------------------------------------------

    @property
    def config(self) -> AgentConfig:
        """As given."""
        return self._hub.config

    @property
    def is_draining(self) -> bool:
        """Whether `drain` was called."""
        return self._hub.draining

    @property
    def is_drained(self) -> bool:
        """Draining, and no peer has anything open here any more."""
        return self._draining.is_over

    @property
    def counters(self) -> Mapping[str, int]:
        """What happened how often, by name."""
        return MappingProxyType(self._hub.counters)

    @property
    def plan(self) -> EdgePlan | None:
        """The plan that is followed."""
        return self._plan.plan

    @property
    def unusable_nodes(self) -> tuple[str, ...]:
        """Edges of the plan that cannot be connected to, because their address is none."""
        return self._plan.unusable

    @property
    def offers_serial(self) -> int:
        """Another number whenever `offers` may be other ones."""
        return self._offers.serial

    def offers(self, now_us: int) -> tuple[Offer, ...]:
        """The namespaces that publishers have here."""
        return self._offers.current(now_us)

    @property
    def publishers(self) -> int:
        """Sessions that publish here, or would."""
        peers = self._peers.by_id.values()
        return sum(p.is_publisher and p.count_roles(Publication, Announcing) > 0 for p in peers)

    def hop_peers(self) -> dict[int, str]:
        """The node ids at the other ends of our hops, by session."""
        return {
            p.id: p.node_id for p in self._peers.by_id.values() if p.established and p.node_id is not None
        }

    def track_names(self) -> dict[int, FullTrackName]:
        """The tracks that the datapath holds, by its numbers for them."""
        return {track.id: track.name for track in self._tracks.by_id.values()}

    def feeds(self) -> dict[FullTrackName, str]:
        """The edges that tracks come from now; left out are tracks from elsewhere, and over silent hops."""
        found: dict[FullTrackName, str] = {}
        for track in self._tracks.by_name.values():
            if track.source is None or track.source.binding is None or track.source.session is None:
                continue
            peer = self._peers.get(track.source.session)
            if peer is not None and peer.node_id is not None and not peer.silent:
                found[track.name] = peer.node_id
        return found

    def starved(self) -> frozenset[FullTrackName]:
        """The tracks of which no edge above can give anything now, as the edges below have been told."""
        return frozenset(track.name for track in self._tracks.by_name.values() if track.starved)

    def status(self, now_us: int) -> dict[str, Any]:
        """Sessions, tracks, upstreams, namespaces and counters, as JSON types."""
        self._hub.now_us = max(now_us, self._hub.now_us)
        described = status.describe(
            self._hub, self._peers, self._tracks, self._namespaces, self._upstreams, self._plan, self._standby
        )
        usage = self._access.quotas.status()
        return {**described, "access": {**self._access.gate.status(), "usage": usage}}

    # --- input ------------------------------------------------------------------------------------

    def handle_event(self, event: Event, now_us: int) -> None:
        """Something happened in the datapath."""
        self._hub.now_us = now_us
        handler = self._event_handlers.get(type(event))
        if handler is not None:
            handler(event)
        self._pump()

    def handle_timeout(self, now_us: int) -> None:
        """The time of `poll_timeout` has come."""
        self._hub.now_us = now_us
        while (key := self._hub.timers.pop_due(now_us)) is not None:
            kind, first, second = key
            self._timer_handlers[kind](first, second)
        self._pump()

    # --- commands ---------------------------------------------------------------------------------

    def drain(self, now_us: int, drain_ms: int | None = None, next_url: str = "") -> None:
        """Refuse what is new, send GOAWAY to publishers, to the edges below and to viewers in this order, and
        close what is left after ``drain_ms`` (the configuration's, unless given). Clients are told to go to
        ``next_url``."""
        if self._hub.draining:
            return
        self._hub.now_us = now_us
        self._draining.begin(self.config.timing.drain_ms if drain_ms is None else drain_ms, next_url)
        self._pump()

    def apply_plan(self, now_us: int, plan: EdgePlan) -> None:
        """Follow a plan: connect to its edges, move tracks whose parent is another one, serve those who
        wait for what its directory knows now, and publish its edge list."""
        self._hub.now_us = now_us
        before = self._plan.plan
        self._hop_trust.apply(plan)
        self._plan.apply(plan)
        self._hub.counters["plans_applied"] += 1
        self._discovery.listed(plan.directory)
        if plan.edge_list:
            self._local.publish(EDGE_LIST, plan.edge_list.encode())
        shares = None
        if plan.shares is not None and (before is None or before.shares is not plan.shares):
            shares = read_shares(plan.shares)
        if plan.access is not None and (before is None or before.access is not plan.access):
            rules = read_rules(plan.access, plan.version.epoch.cluster)
            self._access.policy_changed(planned=rules, edges=list(plan.nodes), shares=shares)
        elif shares is not None:
            self._access.policy_changed(edges=list(plan.nodes), shares=shares)
        elif before is not None and before.nodes.keys() != plan.nodes.keys():
            self._access.policy_changed(edges=list(plan.nodes))
        for track in list(self._tracks.by_id.values()):
            links = self._plan.links_for(track.name.namespace) if track.source is None else None
            if links is not None:
                self._sourcing.planned(track, links)
        self._standby.plan_changed(before)
        self._pump()

    def set_wall_clock(self, now_us: int, unix_us: int) -> None:
        """What people's clock shows at ``now_us``; to be said at the start, and now and then."""
        self._hub.unix_minus_clock_us = unix_us - now_us

    def apply_access(
        self, now_us: int, *, local: AccessPolicy | None = None, planned: AccessPolicy | None = None
    ) -> None:
        """The edge's own configuration, or a plan, has other keys and revocations; both count. Ignored where
        everything is open."""
        self._hub.now_us = now_us
        self._access.policy_changed(local=local, planned=planned)
        self._pump()

    def renew_hops(self, now_us: int, tls: ClientTls) -> None:
        """Show another certificate on hops from the next connection on; those that stand go on."""
        self._hub.now_us = now_us
        hops = self._hub.config.plan_hops
        if hops is not None:
            self._hub.config = replace(self._hub.config, plan_hops=replace(hops, tls=tls))
        self._upstreams.renew_hops(tls)

    def publish_edge_list(self, now_us: int, edge_list: bytes) -> None:
        """Serve this list of edges (a compact JWS) from now on; a plan brings its own."""
        self._hub.now_us = now_us
        self._local.publish(EDGE_LIST, edge_list)
        self._pump()

    @property
    def quotas(self) -> QuotaTable:
        """What each key of an issuer takes here."""
        return self._access.quotas

    def meter(self, now_us: int, snapshot: Mapping[str, Any]) -> None:
        """Count what the sessions of each key have moved since the snapshot before."""
        self._hub.now_us = max(now_us, self._hub.now_us)
        if self._access.handle_snapshot(snapshot, now_us):
            self._pump()

    def measure_demand(self, now_us: int, snapshot: Mapping[str, Any]) -> tuple[TrackLoad, ...]:
        """Tracks taken from each origin and their rate, since the snapshot before."""
        return self._demand.handle_snapshot(snapshot, now_us)

    # --- output -----------------------------------------------------------------------------------

    def poll_command(self) -> Command | None:
        """The next command to the datapath."""
        return self._hub.commands.popleft() if self._hub.commands else None

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is to be called, microseconds; ``None``: not before the next event."""
        return self._hub.timers.next_at()

    # --- events of the datapath -------------------------------------------------------------------

    def _make_event_handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            Event.SessionOpened: self._session_opened,
            Event.SessionClosed: self._session_closed,
            Event.StreamData: self._stream_event,
            Event.StreamReset: self._stream_event,
            Event.StreamStopped: self._stream_event,
            Event.TrackRestarted: lambda e: self._subscriptions.restarted(e.track, list(e.downstreams)),
            Event.TrackMalformed: self._track_malformed,
            Event.DownstreamEnded: lambda e: self._subscriptions.ended(e.downstream, e.streams),
            Event.HopSilent: self._hop_silent,
            Event.UpstreamSwitched: self._standby.switched,
            Event.UpstreamResumed: self._standby.resumed,
            Event.TrackStarved: self._standby.starved,
            Event.SecondPath: self._standby.paired,
        }

    def _session_opened(self, event: Event.SessionOpened) -> None:
        link = self._upstreams.connecting_as(event.session)
        if link is None and not event.incoming:
            self._hub.command(Command.Close(session=event.session, code=0, reason="not wanted any more"))
            return
        peer = self._peers.open(event, link)
        if peer is not None and link is not None:
            self._upstreams.opened(link, peer)

    def _session_closed(self, event: Event.SessionClosed) -> None:
        peer = self._peers.get(event.session)
        if peer is not None:
            self._forget(peer, event.reason or f"closed by {event.by}")
            return
        link = self._upstreams.connecting_as(event.session)
        if link is not None:
            self._upstream_lost(link, event.reason or f"closed by {event.by}")
        elif event.by == "tls":
            self._hub.counters["tls_handshakes_failed"] += 1

    def _stream_event(self, event: Any) -> None:
        peer = self._peers.get(event.session)
        if peer is not None:
            peer.feed(event)

    def _track_malformed(self, event: Event.TrackMalformed) -> None:
        if not self._standby.malformed(event.track, event.session, event.alias):
            self._subscriptions.malformed(event.track, event.session, event.alias, event.reason)

    def _hop_silent(self, event: Event.HopSilent) -> None:
        self._hub.counters["hops_silent" if event.silent else "hops_heard_again"] += 1
        peer = self._peers.get(event.session)
        if peer is not None:
            peer.silent = event.silent
            if peer.upstream is not None:
                self._standby.link_changed(peer.upstream)
            if event.silent:
                self._sourcing.hop_silent(peer)

    # --- events of MoQT sessions ------------------------------------------------------------------

    def _pump(self) -> None:
        for _ in range(PUMPS_MAX):
            self._peers.pump(self._dispatch)
            if not self._standby.reconcile():
                break
        self._peers.pump(self._dispatch)
        if self._ahead.look():
            self._peers.pump(self._dispatch)
        if self._hub.draining:
            self._draining.look()
            self._peers.pump(self._dispatch)

    def _dispatch(self, peer: Peer, event: Any) -> None:
        handler = self._moqt_handlers.get(type(event))
        if handler is not None:
            handler(peer, event)

    def _make_moqt_handlers(self) -> dict[type, Callable[[Peer, Any], None]]:
        return {
            moqt.Established: self._established,
            moqt.GoawayReceived: self._goaway,
            moqt.SessionFailed: self._failed,
            moqt.SubscribeRequested: self._subscribe_requested,
            moqt.PublishRequested: self._publications.requested,
            moqt.NamespacePublished: self._discovery.announced,
            moqt.NamespaceWithdrawn: self._request_over,
            moqt.NamespaceSubscribed: self._discovery.subscribed,
            moqt.UpdateRequested: self._update_requested,
            moqt.RequestCancelled: self._request_over,
            moqt.SubscribeAccepted: self._subscribe_accepted,
            moqt.RequestRejected: self._request_over,
            moqt.PublishEnded: self._request_over,
            moqt.NamespaceAnnounced: self._discovery.answer,
            moqt.NamespaceGone: self._discovery.answer_gone,
            moqt.RequestGoaway: self._request_goaway,
        }

    def _established(self, peer: Peer, event: moqt.Established) -> None:
        self._hub.cancel_timer("setup", peer.id)
        peer.implementation = event.implementation
        if peer.is_hop:
            refusal = self._identify(peer, event)
            if refusal is not None:
                self._hub.counters["hops_refused"] += 1
                self._close(peer, *refusal)
                return
        peer.established = True
        self._access.established(peer, event.tokens, event.path or peer.path)
        if self._hub.draining:
            self._draining.established(peer)
        link = peer.upstream
        if link is not None and link.peer is peer:
            self._upstreams.established(link, peer)
            self._plan.established(peer)
            self._sourcing.upstream_ready(link)
            self._discovery.upstream_ready(link)
            self._standby.link_changed(link)

    def _identify(self, peer: Peer, event: moqt.Established) -> tuple[SessionCode, str] | None:
        """Learn a hop's node id; the refusal if it cannot be believed."""
        node = event.options.node
        if node is None:
            return SessionCode.PROTOCOL_VIOLATION, "a hop must say its node id in SETUP"
        if node.node_id == self.config.node_id:
            return SessionCode.UNAUTHORIZED, f"both ends of this hop are {node.node_id}"
        identity = self.config.peer_identity
        certified = identity(peer.certificates) if identity is not None else node.node_id
        if certified != node.node_id:
            return SessionCode.UNAUTHORIZED, f"SETUP says {node.node_id}, the certificate says {certified}"
        read = self.config.peer_certificate
        proved = read(peer.certificates) if read is not None else None
        if proved is not None and node.region and node.region != proved.region:
            reason = f"SETUP says region {node.region}, the certificate says {proved.region}"
            return SessionCode.UNAUTHORIZED, reason
        planned = peer.upstream.planned if peer.upstream is not None else None
        if planned is not None and planned != node.node_id:
            return SessionCode.UNAUTHORIZED, f"the plan says {planned} is here, but it is {node.node_id}"
        peer.node_id = node.node_id
        self._hub.command(policy_command(peer.id, node.recovery, self.config.recovery))
        return self._hop_trust.refusal(peer)

    def _failed(self, peer: Peer, event: moqt.SessionFailed) -> None:
        self._hub.counters["protocol_errors"] += 1
        self._forget(peer, event.reason)

    def _goaway(self, peer: Peer, event: moqt.GoawayReceived) -> None:
        peer.going_away = True
        link = peer.upstream
        if link is not None and link.peer is peer:
            self._upstreams.retire(link)
            self._standby.link_changed(link)

    def _subscribe_requested(self, peer: Peer, event: moqt.SubscribeRequested) -> None:
        if event.name == CLOCK and not peer.is_hop:
            self._local.tell_clock()
        self._subscriptions.requested(peer, event)

    def _subscribe_accepted(self, peer: Peer, event: moqt.SubscribeAccepted) -> None:
        role = peer.roles.get(event.request)
        if isinstance(role, Source) and self._standby.owns(role):
            self._standby.accepted(peer, role, event)
        elif isinstance(role, Source):
            self._sourcing.accepted(peer, role, event)

    def _update_requested(self, peer: Peer, event: moqt.UpdateRequested) -> None:
        role = peer.roles.get(event.request)
        self._access.show(peer, event.tokens)
        if isinstance(role, Downstream | Pending):
            self._subscriptions.updated(peer, role, event)
        elif isinstance(role, PrefixSubscriber) and event.parameters.namespace_prefix is not None:
            reason = "the prefix cannot be changed here: cancel, and subscribe again"
            peer.moqt.reject_update(event.request, RequestCode.NOT_SUPPORTED, reason)
        else:
            peer.moqt.accept_update(event.request)

    def _request_goaway(self, peer: Peer, event: moqt.RequestGoaway) -> None:
        role = peer.roles.get(event.request)
        if not isinstance(role, Source):
            return
        if self._standby.keeps(role):
            self._standby.moved(role)
        else:
            self._sourcing.moved(role)

    def _request_over(self, peer: Peer, event: Any) -> None:
        """A request ended, in whatever way: rejected, withdrawn, cancelled, or by PUBLISH_DONE."""
        role = peer.roles.get(event.request)
        if isinstance(role, Source):
            self._source_over(peer, role, event)
        elif isinstance(role, Publication):
            peer.roles.pop(event.request, None)
            self._sourcing.publication_ended(role, *_ending_of(event))
        elif isinstance(role, Downstream | Pending):
            self._subscriptions.cancelled(peer, role)
        elif isinstance(role, Announcing):
            self._discovery.withdrawn(peer, role, event.request)
        elif isinstance(role, PrefixSubscriber):
            self._discovery.unsubscribed(peer, role)
        elif isinstance(role, Telling):
            self._discovery.telling_ended(peer, role, event.request)
        elif isinstance(role, PrefixQuery):
            self._discovery.query_ended(peer, role, event.request)

    def _source_over(self, peer: Peer, source: Source, event: Any) -> None:
        if self._standby.owns(source):
            peer.roles.pop(event.request, None)
            self._standby.over(source)
        elif isinstance(event, moqt.RequestRejected):
            self._sourcing.rejected(peer, source, event)
        else:
            peer.roles.pop(event.request, None)
            if self._standby.keeps(source):
                self._standby.source_ended(source)
            self._sourcing.source_ended(source, *_ending_of(event))

    # --- what concerns several parts --------------------------------------------------------------

    def _namespace_appeared(self, peer: Peer, namespace: TrackNamespace) -> None:
        for track in list(self._tracks.by_name.values()):
            if not track.name.namespace.starts_with(namespace):
                continue
            if track.source is None:
                self._sourcing.appeared(track, here=peer.is_publisher)
            elif peer.is_publisher:
                self._takeover.offered(track, peer)
                self._standby.mark(track)

    def _track_taken(self, track: Track) -> None:
        self._standby.mark(track)
        self._ahead.taken(track)

    def _source_changed(self, track: Track) -> None:
        if track.source is not None:
            self._ahead.accepted(track, track.source)
        self._standby.source_changed(track)
        self._subscriptions.rerouted(track)

    def _has_tracks_on(self, link: UpstreamLink) -> bool:
        return self._sourcing.is_needed(link)

    def _upstream_is_needed(self, link: UpstreamLink) -> bool:
        return link.is_wanted or self._sourcing.is_needed(link) or self._discovery.is_needed(link)

    def _upstream_lost(self, link: UpstreamLink, reason: str) -> None:
        self._upstreams.lost(link, reason)
        self._sourcing.upstream_failed(link)

    def _close(self, peer: Peer, code: SessionCode, reason: str) -> None:
        """Close a session from our side, and forget it at once."""
        self._hub.command(Command.Close(session=peer.id, code=int(code), reason=reason))
        self._forget(peer, reason)

    def _close_politely(self, peer: Peer, reason: str) -> None:
        self._close(peer, SessionCode.NO_ERROR, reason)

    def _forget(self, peer: Peer, reason: str) -> None:
        """A session is over: everything that hung on it ends or looks for something else."""
        self._peers.forget(peer)
        self._access.forget(peer)
        self._discovery.session_lost(peer)
        link = peer.upstream
        if link is not None and link.peer is peer:
            self._upstreams.lost(link, reason)
        self._takeover.session_lost(peer)
        self._standby.session_lost(peer)
        self._sourcing.session_lost(peer)
        self._subscriptions.session_lost(peer)

    # --- timers -----------------------------------------------------------------------------------

    def _make_timer_handlers(self) -> dict[str, Callable[[int, int], None]]:
        return {
            "setup": self._setup_due,
            "ahead": lambda _first, _second: self._ahead.retry_due(),
            "access": lambda _first, _second: self._access.due(),
            "unshown": lambda session, _: self._access.unshown_due(session),
            "drain": lambda _first, _second: self._draining.end(),
            "drain-edges": lambda _first, _second: self._draining.hurry_edges(),
            "drain-clients": lambda _first, _second: self._draining.send_clients_away(),
            "tidy": lambda _first, _second: self._plan.tidy(),
            "standby": lambda track, _: self._standby.answer_due(track),
            "refused": lambda track, _: self._standby.wake(track),
            "whole": lambda track, _: self._sourcing.whole_due(track),
            "move": lambda track, _: self._standby.move_due(track),
            "return": lambda track, _: self._standby.wake(track),
            "reroute": lambda track, _: self._subscriptions.reroute_due(track),
            "reconnect": lambda index, _: self._upstreams.reconnect_due(index),
            "answer": lambda track, _: self._sourcing.answer_due(track),
            "retry": lambda track, _: self._sourcing.retry_due(track),
            "rendezvous": self._subscriptions.rendezvous_due,
            "takeover": lambda session, _: self._takeover.due(session),
            "linger": lambda track, _: self._subscriptions.linger_due(track),
            "grace": lambda track, _: self._subscriptions.grace_due(track),
            "finish": lambda track, _: self._subscriptions.finish_due(track),
        }

    def _setup_due(self, session: int, _: int) -> None:
        peer = self._peers.get(session)
        if peer is not None and not peer.established:
            self._close(peer, SessionCode.CONTROL_MESSAGE_TIMEOUT, "no SETUP")


def _ending_of(event: Any) -> tuple[PublishDoneCode, str]:
    """Status and reason of the end of an upstream subscription; a reset counts as a lost publisher."""
    if isinstance(event, moqt.PublishEnded):
        return event.status, event.reason
    return PublishDoneCode.INTERNAL_ERROR, "the publisher reset the subscription"
