"""The viewers' side: SUBSCRIBE to PUBLISH_DONE.

A subscriber waits until its track has a source, is then given an alias and programmed into the
datapath, and from there on costs nothing here until it leaves or its track ends. It is told
PUBLISH_DONE only after the datapath has said how many streams there were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from farcast.proto._core import Command
from farcast.proto.access.scopes import Action
from farcast.proto.agent.downstream import (
    STREAM_CANCELLED,
    STREAM_MALFORMED_TRACK,
    add_downstream,
    effective_group_order,
    move_downstream,
    update_downstream,
)
from farcast.proto.agent.filters import is_ours, is_over, start_location
from farcast.proto.agent.idle_tracks import IdleTracks
from farcast.proto.agent.routes import Route, attach_route, obstacle_in_path, obstacle_in_route
from farcast.proto.agent.tracks import Downstream, Pending, Track
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode

if TYPE_CHECKING:
    from farcast.proto.agent.access import Access
    from farcast.proto.agent.candidates import Candidates
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sessions import Peer, PeerTable
    from farcast.proto.agent.sourcing import Sourcing
    from farcast.proto.agent.tracks import TrackTable
    from farcast.proto.moqt import events as moqt
    from farcast.proto.moqt.values import Filter, Location

RETRY_LOAD_MS = 1_000
WITHDRAWN_WAIT_MS = 1_000
"""How long a subscriber that does not want to wait waits behind one that does."""

WAITABLE = frozenset({RequestCode.DOES_NOT_EXIST, RequestCode.TIMEOUT, RequestCode.INTERNAL_ERROR})
"""Refusals that a rendezvous outlasts; any other is passed on at once."""


Refusal: TypeAlias = tuple[RequestCode, str, int | None]
"""Code, reason for people, and when to ask again, milliseconds."""


class Subscriptions:
    """All subscriptions of viewers (and of edges below). Calls ``taken(track)`` where somebody begins or
    ceases to get a track."""

    def __init__(
        self,
        hub: Hub,
        access: Access,
        peers: PeerTable,
        tracks: TrackTable,
        candidates: Candidates,
        sourcing: Sourcing,
    ) -> None:
        self._hub = hub
        self._access = access
        self._peers = peers
        self._tracks = tracks
        self._candidates = candidates
        self._sourcing = sourcing
        self.idle = self._idle = IdleTracks(hub, tracks, sourcing)
        self.taken: Callable[[Track], None]
        self.pending: dict[tuple[int, int], Pending] = {}
        sourcing.live = self._answer_waiting
        sourcing.failed = self._refuse_waiting
        sourcing.over = self.end_track

    # --- SUBSCRIBE --------------------------------------------------------------------------------

    def requested(self, peer: Peer, event: moqt.SubscribeRequested) -> None:
        """SUBSCRIBE: refuse, answer, or let it wait for a source."""
        self._hub.counters["subscribes"] += 1
        refusal = self._refusal(peer, event)
        if refusal is not None:
            self._reject(peer, event.request, *refusal)
            return
        track = self._tracks.by_name.get(event.name) or self._tracks.create(event.name)
        pending = self._pending(peer, event, track)
        if track.source is not None:
            self._activate(peer, pending)
        elif pending.rendezvous_until_us is None and (
            why := self._candidates.mutual_wait(track, pending.hop_path)
        ):
            self._reject(peer, event.request, RequestCode.DOES_NOT_EXIST, why, None)
        else:
            self._wait(peer, pending)

    def _refusal(self, peer: Peer, event: moqt.SubscribeRequested) -> Refusal | None:
        limits = self._hub.config.limits
        node_id = self._hub.config.node_id
        path = event.parameters.hop_path
        if self._hub.draining:
            return RequestCode.GOING_AWAY, f"edge {node_id} is going away", None
        if peer.is_hop and (obstacle := obstacle_in_path(path, node_id)) is not None:
            return RequestCode.DOES_NOT_EXIST, obstacle, None
        if not peer.is_hop and peer.count_roles(Downstream, Pending) >= limits.subscriptions_per_session_max:
            return self._too_many(f"a session may have {limits.subscriptions_per_session_max} subscriptions")
        if len(self._tracks.downstreams) + len(self.pending) >= limits.subscriptions_max:
            return self._too_many(f"edge {node_id} has its {limits.subscriptions_max} subscriptions")
        track = self._tracks.by_name.get(event.name)
        if track is None and len(self._tracks.by_id) >= limits.tracks_max:
            return self._too_many(f"edge {node_id} has its {limits.tracks_max} tracks")
        if track is not None and len(track.waiting) >= limits.pending_per_track_max:
            return self._too_many("too many subscribers wait for this track")
        return self._unauthorized(peer, event)

    def _unauthorized(self, peer: Peer, event: moqt.SubscribeRequested) -> Refusal | None:
        name = event.name
        refusal = self._access.refusal(peer, Action.SUBSCRIBE, name.namespace, name.name, event.tokens)
        return None if refusal is None else (*refusal, None)

    @staticmethod
    def _too_many(reason: str) -> Refusal:
        return RequestCode.EXCESSIVE_LOAD, reason, RETRY_LOAD_MS

    def _pending(self, peer: Peer, event: moqt.SubscribeRequested, track: Track) -> Pending:
        asked_ms = event.parameters.rendezvous_timeout_ms or 0
        wait_ms = min(asked_ms, self._hub.config.timing.rendezvous_ms_max)
        return Pending(
            session=peer.id,
            request=event.request,
            track=track,
            filter=event.filter,
            priority=event.priority,
            group_order=event.group_order,
            forward=event.forward,
            hop_path=event.parameters.hop_path if peer.is_hop else (),
            rendezvous_until_us=self._hub.now_us + wait_ms * 1_000 if wait_ms else None,
        )

    def _wait(self, peer: Peer, pending: Pending) -> None:
        track, key = pending.track, (pending.session, pending.request)
        peer.roles[pending.request] = pending
        track.waiting[key] = self.pending[key] = pending
        self._hub.cancel_timer("linger", track.id)
        if pending.rendezvous_until_us is not None:
            self._hub.timers.set(("rendezvous", *key), pending.rendezvous_until_us)
        elif track.candidate is not None and track.candidate.rendezvous:
            self._hub.set_timer("rendezvous", *key, after_ms=WITHDRAWN_WAIT_MS)
        if track.candidate is None:
            self._sourcing.seek_again(track)

    def _stop_waiting(self, pending: Pending) -> None:
        key = (pending.session, pending.request)
        self._hub.cancel_timer("rendezvous", *key)
        pending.track.waiting.pop(key, None)
        self.pending.pop(key, None)
        peer = self._peers.get(pending.session)
        if peer is not None:
            peer.roles.pop(pending.request, None)

    def _answer_waiting(self, track: Track) -> None:
        """The track has a source: everybody who waits is let in."""
        for pending in list(track.waiting.values()):
            self._stop_waiting(pending)
            peer = self._peers.get(pending.session)
            if peer is not None:
                self._activate(peer, pending)
        self._linger_if_unwatched(track)

    def _refuse_waiting(self, track: Track, code: RequestCode, reason: str, retry_ms: int | None) -> None:
        """Nobody has the track: refuse those who will not wait any longer."""
        for pending in list(track.waiting.values()):
            until_us = pending.rendezvous_until_us or 0
            if until_us <= self._hub.now_us or code not in WAITABLE:
                self._refuse(pending, code, reason, retry_ms)
        if track.is_watched():
            self._sourcing.retry_later(track)
        else:
            self._idle.remove(track)

    def _refuse(self, pending: Pending, code: RequestCode, reason: str, retry_ms: int | None) -> None:
        self._stop_waiting(pending)
        peer = self._peers.get(pending.session)
        if peer is not None:
            self._reject(peer, pending.request, code, reason, retry_ms)

    def rendezvous_due(self, session: int, request: int) -> None:
        """A subscriber has waited long enough for a publisher."""
        pending = self.pending.get((session, request))
        if pending is None:
            return
        if pending.rendezvous_until_us is None:
            self._refuse(pending, RequestCode.DOES_NOT_EXIST, "nobody publishes this track", None)
        else:
            self._refuse(pending, RequestCode.TIMEOUT, "no publisher appeared in the time given", None)
        self._linger_if_unwatched(pending.track)

    def _reject(self, peer: Peer, request: int, code: RequestCode, reason: str, retry_ms: int | None) -> None:
        self._hub.counters[f"subscribes_refused_{code.name.lower()}"] += 1
        peer.moqt.reject(request, code, reason, retry_ms=retry_ms)

    # --- SUBSCRIBE_OK -----------------------------------------------------------------------------

    def _activate(self, peer: Peer, pending: Pending) -> None:
        """Answer, then program the datapath: the location is read once, so both say the same."""
        track, source = pending.track, pending.track.source
        assert source is not None
        obstacle = obstacle_in_route(pending.hop_path, source.route) if peer.is_hop else None
        largest = track.largest_location()
        if obstacle is not None:
            self._reject(peer, pending.request, RequestCode.DOES_NOT_EXIST, obstacle, None)
            self._linger_if_unwatched(track)
            return
        if is_over(pending.filter, largest):
            self._reject(peer, pending.request, RequestCode.INVALID_RANGE, "the range is over", None)
            self._linger_if_unwatched(track)
            return
        alias = peer.next_alias()
        properties = track.properties
        if peer.is_hop:
            route = Route(track.incarnation, (*source.route, self._hub.config.node_id))
            properties = attach_route(properties, route)
        peer.moqt.accept_subscribe(pending.request, alias, largest=largest, track_properties=properties)
        peer.flush()
        self._add_downstream(peer, pending, alias, self._start(peer, track, pending.filter, largest))

    def _start(self, peer: Peer, track: Track, filter: Filter | None, largest: Location | None) -> Location:
        whole_group = self._hub.config.quirks.whole_group_for_moq_net and peer.is_moq_net
        whole_group = whole_group or track.local
        resumes = peer.is_hop or is_ours(peer.implementation)
        return start_location(filter, largest, whole_group=whole_group, resumes=resumes)

    def _add_downstream(self, peer: Peer, pending: Pending, alias: int, start: Location) -> None:
        track = pending.track
        downstream = Downstream(
            id=self._tracks.new_downstream_id(),
            session=peer.id,
            request=pending.request,
            track=track,
            filter=pending.filter,
            start=start,
            hop_path=pending.hop_path,
            forward=pending.forward,
            route=track.route(),
        )
        peer.roles[pending.request] = downstream
        was_taken = track.is_taken()
        track.downstreams[downstream.id] = self._tracks.downstreams[downstream.id] = downstream
        if downstream.hop_path:
            track.below[downstream.id] = downstream
        self._hub.cancel_timer("linger", track.id)
        self._hub.command(
            add_downstream(
                downstream.id,
                session=peer.id,
                alias=alias,
                track=track.id,
                start=start,
                filter=pending.filter,
                priority=pending.priority,
                group_order=effective_group_order(pending.group_order, track.properties),
                forward=pending.forward,
                media=self._hub.config.media,
            )
        )
        self._reach_back(track, start)
        if peer.is_hop or not was_taken:
            self.taken(track)

    def _reach_back(self, track: Track, start: Location) -> None:
        """Somebody comes from an edge that is gone, and lacks what lies before the place where this edge
        began with the track: the edge above has it."""
        begins = track.source.begins if track.source is not None else None
        if begins is not None and start < begins:
            self._hub.command(Command.ReachBack(track=track.id, start=start))

    # --- REQUEST_UPDATE ---------------------------------------------------------------------------

    def updated(self, peer: Peer, role: Downstream | Pending, event: moqt.UpdateRequested) -> None:
        """REQUEST_UPDATE of a subscription: forward state, priority, range."""
        largest = role.track.largest_location()
        if is_over(event.filter, largest):
            peer.moqt.reject_update(event.request, RequestCode.INVALID_RANGE, "the range is over")
            return
        if isinstance(role, Pending):
            self._update_pending(role, event)
        elif role.ending is None and peer.is_hop:
            self._update_edge(role, event)
        elif role.ending is None:
            self._update_downstream(peer, role, event, largest)
        peer.moqt.accept_update(event.request, largest=largest)

    def _update_edge(self, downstream: Downstream, event: moqt.UpdateRequested) -> None:
        """An edge below says that it is fed from here, or not any more. Its datapath has told ours already,
        and since then perhaps the contrary: so this goes no further."""
        if event.forward is not None and event.forward != downstream.forward:
            downstream.forward = event.forward
            self._end_if_circle(downstream)
            self.taken(downstream.track)

    def _end_if_circle(self, downstream: Downstream) -> None:
        source = downstream.track.source
        way = downstream.hop_path
        obstacle = obstacle_in_route(way, source.route) if way and source is not None else None
        if obstacle is not None:
            self._hub.counters["circles_ended"] += 1
            self._end(downstream, PublishDoneCode.INTERNAL_ERROR, obstacle)

    # --- another source ---------------------------------------------------------------------------

    def rerouted(self, track: Track) -> None:
        """The track comes another way: edges that are on it cannot be fed from here any more, not even in
        need; the others are told when it has lasted a moment."""
        for downstream in track.edges_below():
            self._end_if_circle(downstream)
        if any(d.route != track.route() for d in track.edges_below()):
            self._hub.set_timer("reroute", track.id, after_ms=self._hub.config.timing.reroute_ms)

    def reroute_due(self, track_id: int) -> None:
        """Have the edges below ask again, so that they learn the new route by the answer."""
        track = self._tracks.by_id.get(track_id)
        if track is None or track.source is None:
            return
        for downstream in track.edges_below():
            peer = self._peers.get(downstream.session)
            if peer is not None and downstream.route != track.route():
                downstream.route = track.route()
                peer.moqt.goaway_request(downstream.request)

    @staticmethod
    def _update_pending(pending: Pending, event: moqt.UpdateRequested) -> None:
        pending.forward = pending.forward if event.forward is None else event.forward
        pending.priority = pending.priority if event.priority is None else event.priority
        pending.filter = event.filter or pending.filter

    def _update_downstream(
        self, peer: Peer, downstream: Downstream, event: moqt.UpdateRequested, largest: Location | None
    ) -> None:
        start = None
        if event.filter is not None:
            downstream.filter = event.filter
            start = self._start(peer, downstream.track, event.filter, largest)
            downstream.start = start
        self._hub.command(update_downstream(downstream.id, event, start))
        if event.forward is not None:
            downstream.forward = event.forward
            self.taken(downstream.track)

    # --- the end of a subscription ----------------------------------------------------------------

    def cancelled(self, peer: Peer, role: Downstream | Pending) -> None:
        """UNSUBSCRIBE, or the request's stream was reset."""
        peer.roles.pop(role.request, None)
        if isinstance(role, Pending):
            self._stop_waiting(role)
        else:
            self._remove(role)
        self._linger_if_unwatched(role.track)

    def _remove(self, downstream: Downstream) -> None:
        self._hub.command(Command.RemoveDownstream(downstream=downstream.id, code=STREAM_CANCELLED))
        self._forget(downstream)

    def _forget(self, downstream: Downstream) -> None:
        self._tracks.downstreams.pop(downstream.id, None)
        downstream.track.downstreams.pop(downstream.id, None)
        downstream.track.below.pop(downstream.id, None)

    def _end(
        self, downstream: Downstream, status: PublishDoneCode, reason: str, *, reset: int | None = None
    ) -> None:
        """Finish what is open (or reset it); PUBLISH_DONE follows when the datapath answers."""
        if downstream.ending is not None:
            return
        downstream.ending = (status, reason)
        if reset is None:
            self._hub.command(Command.FinishDownstream(downstream=downstream.id))
        else:
            self._hub.command(Command.RemoveDownstream(downstream=downstream.id, code=reset))

    def ended(self, downstream_id: int, streams: int) -> None:
        """The datapath is done with a downstream."""
        downstream = self._tracks.downstreams.get(downstream_id)
        if downstream is None:
            return
        self._forget(downstream)
        status, reason = downstream.ending or (PublishDoneCode.SUBSCRIPTION_ENDED, "the range is complete")
        peer = self._peers.get(downstream.session)
        if peer is not None and peer.roles.pop(downstream.request, None) is not None:
            peer.moqt.publish_done(downstream.request, status, stream_count=streams, reason=reason)
        self._linger_if_unwatched(downstream.track)

    def session_lost(self, peer: Peer) -> None:
        """A session closed with its subscriptions."""
        mine = [role for role in peer.roles.values() if isinstance(role, Downstream | Pending)]
        for role in mine:
            if isinstance(role, Pending):
                self._stop_waiting(role)
            else:
                self._remove(role)
        for track in {role.track.id: role.track for role in mine}.values():
            self._linger_if_unwatched(track)

    # --- the end of a track -----------------------------------------------------------------------

    def end_track(self, track: Track, status: PublishDoneCode, reason: str, after_ms: int) -> None:
        """A track is over. Its name is free at once; its viewers finish what is still coming in."""
        waiting = list(track.waiting.values())
        self._tracks.retire(track)
        for kind in ("linger", "grace"):
            self._hub.cancel_timer(kind, track.id)
        if after_ms == 0 or track.bound is None:
            self._finish(track, status, reason)
        else:
            track.ending = (status, reason)
            self._hub.set_timer("finish", track.id, after_ms=after_ms)
        for pending in waiting:
            self._move_to_new_track(pending)

    def finish_due(self, track_id: int) -> None:
        """Late streams of an ended track have had their time."""
        track = self._tracks.by_id.get(track_id)
        if track is not None and track.ending is not None:
            self._finish(track, *track.ending)

    def _finish(self, track: Track, status: PublishDoneCode, reason: str) -> None:
        track.ending = None
        self._sourcing.release(track)
        reset = STREAM_MALFORMED_TRACK if status is PublishDoneCode.MALFORMED_TRACK else None
        for downstream in track.active_downstreams():
            self._end(downstream, status, reason, reset=reset)
        self._idle.remove(track)

    def _move_to_new_track(self, pending: Pending) -> None:
        pending.track.waiting.pop((pending.session, pending.request), None)
        name = pending.track.name
        pending.track = self._tracks.by_name.get(name) or self._tracks.create(name)
        peer = self._peers.get(pending.session)
        if peer is not None:
            self._wait(peer, pending)

    def grace_due(self, track_id: int) -> None:
        """The lost publisher did not come back. Where it is only the way to it that was lost, other edges may
        still have one: to them the track is not over."""
        track = self._tracks.by_id.get(track_id)
        if track is not None and track.source is None:
            if track.lost_upstream:
                self._end_for_edges(track, "no way to the publisher from here")
            self.end_track(track, PublishDoneCode.TRACK_ENDED, "the publisher is gone", 0)

    def _end_for_edges(self, track: Track, reason: str) -> None:
        for downstream in track.active_downstreams():
            peer = self._peers.get(downstream.session)
            if peer is not None and peer.is_hop:
                self._end(downstream, PublishDoneCode.INTERNAL_ERROR, reason)

    def malformed(self, track_id: int, session: int, alias: int, reason: str) -> None:
        """An upstream broke the track: nobody gets more of it."""
        track = self._tracks.by_id.get(track_id)
        if track is not None and track.bound == (session, alias):
            self._hub.counters["tracks_malformed"] += 1
            self.end_track(track, PublishDoneCode.MALFORMED_TRACK, reason, 0)

    def restarted(self, track_id: int, downstream_ids: list[int]) -> None:
        """The track's numbers started over: who had the old ones is to subscribe again."""
        track = self._tracks.by_id.get(track_id)
        if track is None:
            return
        self._hub.counters["track_restarts"] += 1
        self._sourcing.restarted(track)
        for downstream in track.active_downstreams():
            if downstream.id in downstream_ids:
                reason = "the publisher started over; subscribe again"
                self._end(downstream, PublishDoneCode.EXPIRED, reason, reset=STREAM_CANCELLED)
            else:
                self._start_again(downstream)
        self._linger_if_unwatched(track)

    def _start_again(self, downstream: Downstream) -> None:
        """A downstream that was added while the track started over must not wait for old numbers."""
        peer = self._peers.get(downstream.session)
        if peer is None:
            return
        track = downstream.track
        start = self._start(peer, track, downstream.filter, track.largest_location())
        if start < downstream.start:
            downstream.start = start
            self._hub.command(move_downstream(downstream.id, start))

    # --- tracks without viewers -------------------------------------------------------------------

    def _linger_if_unwatched(self, track: Track) -> None:
        self.taken(track)
        self._idle.look(track)

    def linger_due(self, track_id: int) -> None:
        """Nobody came back for a track: its upstream subscription ends."""
        self._idle.linger_due(track_id)
