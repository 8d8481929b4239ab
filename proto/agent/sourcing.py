"""Where each track comes from: one upstream subscription per track, however many viewers.

The next candidate (see `candidates`) is asked when one refuses. Nothing is ever asked twice at a time for a
track: at most one source is live, and at most one candidate is being asked to replace it. Beside the source
there may be standbys (see `standby`): they step in where a source is lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from farcast.proto.agent.filters import is_ours
from farcast.proto.agent.routes import detach_route, obstacle_in_path
from farcast.proto.agent.tracks import Publication, Source, SourceKey, Track
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode
from farcast.proto.moqt.parameters import Parameters
from farcast.proto.moqt.values import Filter, FilterKind, Location

if TYPE_CHECKING:
    from farcast.proto.agent.binding import Bindings
    from farcast.proto.agent.candidates import Candidates
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sessions import Peer, PeerTable
    from farcast.proto.agent.tracks import TrackTable
    from farcast.proto.agent.upstreams import UpstreamLink, Upstreams
    from farcast.proto.moqt import events as moqt

RETRY_MS_MAX = 2_000
WHOLE_RETRY_MS = 100
"""Until a subscription that replaces a cancelled one is asked for again, where it came too early."""

ENDED = frozenset(
    {
        PublishDoneCode.TRACK_ENDED,
        PublishDoneCode.SUBSCRIPTION_ENDED,
        PublishDoneCode.UNAUTHORIZED,
        PublishDoneCode.MALFORMED_TRACK,
    }
)
"""PUBLISH_DONE codes after which the track is over; after any other its publisher counts as lost."""


BROKEN = frozenset({PublishDoneCode.UNAUTHORIZED, PublishDoneCode.MALFORMED_TRACK})
"""Those of them that another edge above may not say."""


class Sourcing:
    """Finds, asks, binds and releases the sources of tracks.

    Calls back ``live(track)`` when subscribers can be answered, ``failed(track, code, reason, retry_ms)``
    when nobody has the track, ``over(track, status, reason, after_ms)`` when it has ended, ``changed(track)``
    when its source is another one. Asks ``succeed(track)`` whether a standby steps in for a lost source, and
    has ``stand_down(track)`` called where none is wanted any more.
    """

    def __init__(
        self,
        hub: Hub,
        peers: PeerTable,
        tracks: TrackTable,
        candidates: Candidates,
        upstreams: Upstreams,
        bindings: Bindings,
    ) -> None:
        self._hub = hub
        self._peers = peers
        self._tracks = tracks
        self._candidates = candidates
        self._upstreams = upstreams
        self._bindings = bindings
        self.live: Callable[[Track], None]
        self.failed: Callable[[Track, RequestCode, str, int | None], None]
        self.over: Callable[[Track, PublishDoneCode, str, int], None]
        self.changed: Callable[[Track], None]
        self.succeed: Callable[[Track], bool]
        self.stand_down: Callable[[Track], None]

    # --- looking for a source ---------------------------------------------------------------------

    def seek(self, track: Track) -> None:
        """Ask the first candidate that was not tried, unless one is being asked."""
        self._hub.cancel_timer("retry", track.id)
        if track.candidate is None and not track.retired:
            self._ask_next(track, RequestCode.DOES_NOT_EXIST, "nobody here publishes this track", None)

    def seek_again(self, track: Track) -> None:
        """As ``seek``, and ask those again that refused before."""
        track.tried.clear()
        self.seek(track)

    def appeared(self, track: Track, *, here: bool) -> None:
        """A publisher has come, ``here`` or somewhere upstream: ask it, if the track has no source."""
        if track.source is not None or track.retired:
            return
        if here and track.candidate is not None and track.candidate.key[0] == "upstream":
            self.drop_candidate(track)
        track.retries = 0
        self.seek_again(track)

    def _ask_next(self, track: Track, code: RequestCode, reason: str, retry_ms: int | None) -> None:
        for key in self._candidates.keys(track):
            if key not in track.tried and self._ask(track, key):
                return
        if track.source is None:
            self.failed(track, code, reason, retry_ms)

    def replace(self, track: Track) -> None:
        """Look for another source beside the live one, which serves until the other stands."""
        if track.source is not None and track.candidate is None:
            track.tried = {track.source.key}
            self._ask_next(track, RequestCode.DOES_NOT_EXIST, "", None)

    def _ask(self, track: Track, key: SourceKey) -> bool:
        """Start with one candidate; false where it is not there any more."""
        kind, number = key
        if kind == "publication":
            return self._take_publication(track, number)
        source = Source(track, key)
        if kind == "upstream":
            link = self._upstreams.links[number]
            self._become_candidate(track, source)
            if link.ready is not None:
                self._subscribe(source, link.ready)
            else:
                self._upstreams.ensure(link)
            return True
        peer = self._peers.get(number)
        if peer is None or not peer.established:
            return False
        self._become_candidate(track, source)
        self._subscribe(source, peer)
        return True

    def _become_candidate(self, track: Track, source: Source) -> None:
        track.candidate = source
        wait_ms = self._hub.config.timing.subscribe_ms_max
        rendezvous_us = self._rendezvous_until(track)
        if source.key[0] == "upstream" and rendezvous_us is not None:
            source.rendezvous = True
            wait_ms += max(0, rendezvous_us - self._hub.now_us) // 1_000
        self._hub.set_timer("answer", track.id, after_ms=wait_ms)

    def _subscribe(self, source: Source, peer: Peer, *, whole: bool = False) -> None:
        track = source.track
        parameters = Parameters()
        if peer.is_hop:
            parameters = parameters.with_(hop_path=self._candidates.hop_path(track))
        until_us = self._rendezvous_until(track)
        if source.rendezvous and until_us is not None and peer.draft >= 18:
            wait_ms = max(0, until_us - self._hub.now_us) // 1_000
            parameters = parameters.with_(rendezvous_timeout_ms=wait_ms)
        source.session = peer.id
        source.resumed_from = None if whole else self._resume_from(track, peer)
        start = source.whole_from if whole else source.resumed_from
        filter = None if start is None else Filter(FilterKind.ABSOLUTE_START, start)
        source.priority = None if peer.is_hop or track.is_watched() else track.idle_priority
        source.request = peer.moqt.subscribe(
            track.name, filter=filter, priority=source.priority, forward=True, parameters=parameters
        )
        peer.roles[source.request] = source
        self._hub.counters["upstream_subscribes"] += 1

    def _resume_from(self, track: Track, peer: Peer) -> Location | None:
        """Where to go on: in the group that was running here, or where viewers were who come from an edge
        that is gone. Only another Farcast sends what lies before its running group."""
        if not (peer.is_hop or is_ours(peer.implementation)):
            return None
        largest = track.largest.get() if track.held else None
        if largest is not None:
            return Location(largest[0], 0)
        filters = [pending.filter for pending in track.waiting.values()]
        starts = [f.start for f in filters if f is not None and f.start is not None and f.end_group is None]
        return min(starts, default=None)

    def whole_due(self, track_id: int) -> None:
        """Ask the candidate once more for the whole track; the wait for its answer bounds how often."""
        track = self._tracks.by_id.get(track_id)
        source = track.candidate if track is not None else None
        peer = self._peers.get(source.session) if source is not None else None
        if source is not None and source.is_whole and peer is not None:
            self._subscribe(source, peer, whole=True)

    def _rendezvous_until(self, track: Track) -> int | None:
        untils = [p.rendezvous_until_us for p in track.waiting.values() if p.rendezvous_until_us is not None]
        return max(untils, default=None)

    # --- answers ----------------------------------------------------------------------------------

    def accepted(self, peer: Peer, source: Source, event: moqt.SubscribeAccepted) -> None:
        """SUBSCRIBE_OK."""
        track = source.track
        resumed_from = source.resumed_from
        if resumed_from is not None and (event.largest is None or event.largest < resumed_from):
            # It has started over, or is behind: either way what it has is wanted from its beginning. That is
            # named, because by the time it is asked again the next group may run.
            self.cancel(source)
            source.is_whole = True
            source.whole_from = None if event.largest is None else Location(event.largest.group, 0)
            self._subscribe(source, peer, whole=True)
            return
        properties, route = detach_route(event.track_properties)
        obstacle = obstacle_in_path(route.nodes, self._hub.config.node_id)
        if obstacle is not None:
            self.cancel(source)
            self._refused(track, source, RequestCode.DOES_NOT_EXIST, obstacle, None)
            return
        source.alias = event.alias
        source.begins = source.whole_from if source.is_whole else resumed_from
        if source.begins is None and event.largest is not None:
            source.begins = Location(event.largest.group, 0)
        source.route = route.nodes if peer.is_hop else ()
        source.incarnation = route.incarnation if peer.is_hop else self._incarnation(peer.id)
        restart_allowed = self._may_restart(track, source, event)
        track.properties = properties
        if event.largest is not None:
            before = None if restart_allowed else track.reported
            track.reported = max(event.largest, before or event.largest)
        self._adopt(track, source, restart_allowed)

    def rejected(self, peer: Peer, source: Source, event: moqt.RequestRejected) -> None:
        """REQUEST_ERROR, or a refusal by our own session engine."""
        peer.roles.pop(event.request, None)
        track = source.track
        if source is track.candidate and source.is_whole and event.code is RequestCode.DUPLICATE_SUBSCRIPTION:
            # The subscription that was cancelled for this one is still there: the two overtook each other.
            self._hub.set_timer("whole", track.id, after_ms=WHOLE_RETRY_MS)
            return
        if source is source.track.candidate:
            self._refused(source.track, source, event.code, event.reason, event.retry_ms)

    def ended(self, peer: Peer, source: Source, event: moqt.PublishEnded) -> None:
        """PUBLISH_DONE of a source."""
        peer.roles.pop(event.request, None)
        self.source_ended(source, event.status, event.reason)

    def source_ended(self, source: Source, status: PublishDoneCode, reason: str) -> None:
        """The publisher ended the subscription: the track is over, or has lost this source."""
        track = source.track
        if source is track.candidate:
            self._refused(track, source, RequestCode.DOES_NOT_EXIST, reason or "the publisher ended it", None)
        elif source is track.source and status in BROKEN and track.standbys and self.succeed(track):
            self._hub.counters["sources_broken"] += 1
        elif source is track.source and status in ENDED:
            self.stand_down(track)
            track.source = None
            self.over(track, status, reason, self._hub.config.timing.late_stream_ms)
        elif source is track.source:
            self._lost(track)

    def cancelled(self, peer: Peer, source: Source, request: int) -> None:
        """The peer reset the request's stream."""
        peer.roles.pop(request, None)
        self.source_ended(source, PublishDoneCode.INTERNAL_ERROR, "the publisher reset the subscription")

    def moved(self, source: Source) -> None:
        """GOAWAY for one request: make it again beside the old one, which ends when the new one stands."""
        track = source.track
        if source is track.source and track.candidate is None:
            self._ask(track, source.key)

    def answer_due(self, track_id: int) -> None:
        """A candidate has not answered in time."""
        track = self._tracks.by_id.get(track_id)
        if track is None or track.candidate is None:
            return
        source = track.candidate
        self.cancel(source)
        reason = self._why_no_answer(source)
        self._refused(track, source, RequestCode.TIMEOUT, reason, None)

    def retry_due(self, track_id: int) -> None:
        """Ask all candidates once more, for those who are willing to wait."""
        track = self._tracks.by_id.get(track_id)
        if track is not None and track.source is None:
            self.seek_again(track)

    def retry_later(self, track: Track) -> None:
        """Nobody has the track now; ask again soon, then less often."""
        first_ms = self._hub.config.timing.rendezvous_retry_ms
        self._hub.set_timer("retry", track.id, after_ms=min(first_ms << min(track.retries, 8), RETRY_MS_MAX))
        track.retries += 1

    def _why_no_answer(self, source: Source) -> str:
        if source.key[0] != "upstream":
            return "the publisher did not answer"
        link = self._upstreams.links[source.key[1]]
        if source.session is None:
            return f"upstream {link.config.name} is not reachable: {link.last_error or 'no answer'}"
        return f"upstream {link.config.name} did not answer"

    def _refused(
        self, track: Track, source: Source, code: RequestCode, reason: str, retry_ms: int | None
    ) -> None:
        track.candidate = None
        self._hub.cancel_timer("answer", track.id)
        track.tried.add(source.key)
        self._ask_next(track, code, reason, retry_ms)

    # --- binding ----------------------------------------------------------------------------------

    def _take_publication(self, track: Track, session: int) -> bool:
        known = self._tracks.publications.get(track.name, ())
        publication = next((p for p in known if p.session == session), None)
        peer = self._peers.get(session)
        if publication is None or peer is None or peer.going_away:
            return False
        source = Source(track, ("publication", session), session, publication.request, publication.alias)
        source.publication = publication
        source.incarnation = self._incarnation(session)
        track.properties = publication.properties
        track.reported = publication.largest
        self._set_forward(publication, peer, True)
        self._adopt(track, source, restart_allowed=track.held)
        return True

    def _set_forward(self, publication: Publication, peer: Peer, forward: bool) -> None:
        if publication.forward != forward:
            publication.forward = forward
            peer.moqt.update(publication.request, forward=forward)

    def _incarnation(self, session: int) -> str:
        """Of a track whose publisher is on this session of ours."""
        return f"{self._hub.config.seed:x}.{session}"

    def _may_restart(self, track: Track, source: Source, event: moqt.SubscribeAccepted) -> bool:
        """Whether the group numbers of a new source may have started over."""
        if not track.held:
            return False
        if source.key[0] == "announcer":
            return True
        if source.incarnation and track.incarnation and source.key[0] == "upstream" and source.route:
            return source.incarnation != track.incarnation
        arrived = track.largest.get()
        return arrived is not None and (event.largest is None or event.largest < arrived)

    def _adopt(self, track: Track, source: Source, restart_allowed: bool) -> None:
        """The source is the track's from now on; the one before is let go after the new one is bound."""
        old = track.source
        track.candidate = None
        for kind in ("answer", "retry", "grace"):
            self._hub.cancel_timer(kind, track.id)
        self._bindings.bind(track, source, restart_allowed=restart_allowed)
        track.source = source
        track.incarnation = source.incarnation
        track.tried.clear()
        track.retries = 0
        if old is not None and old is not source:
            self._release(old)
        self.changed(track)
        self.live(track)

    def followed(self, track: Track) -> None:
        """A standby has become the source, by the datapath's word."""
        self.drop_candidate(track)
        for kind in ("retry", "grace"):
            self._hub.cancel_timer(kind, track.id)
        track.tried.clear()
        track.retries = 0
        self.changed(track)
        self.live(track)

    def ask_beside(self, track: Track, key: SourceKey) -> None:
        """Subscribe at one candidate beside the source, which ends when the new one stands; if it does not,
        all stays as it is."""
        if track.candidate is None:
            track.tried = set(self._candidates.keys(track))
            self._ask(track, key)

    def take_local(self, track: Track, source: Source) -> None:
        """This edge itself is the source."""
        self.drop_candidate(track)
        self._hub.cancel_timer("retry", track.id)
        track.source = source
        self.live(track)

    def restarted(self, track: Track) -> None:
        """The numbers of the track started over: where its publisher is here, this is a new incarnation."""
        source = track.source
        track.reported = None
        if source is not None and not source.route and source.session is not None:
            serial = self._hub.counters["track_restarts"]
            track.incarnation = source.incarnation = f"{self._incarnation(source.session)}.{serial}"

    # --- letting go -------------------------------------------------------------------------------

    def release(self, track: Track) -> None:
        """End whatever the track has or asks for upstream; standbys first, or they would take over."""
        self.stand_down(track)
        self.drop_candidate(track)
        self._hub.cancel_timer("retry", track.id)
        source, track.source = track.source, None
        self._bindings.unbind(track)
        if source is not None:
            self._release(source)

    def drop_candidate(self, track: Track) -> None:
        """Ask nobody for the moment."""
        candidate, track.candidate = track.candidate, None
        self._hub.cancel_timer("answer", track.id)
        if candidate is not None:
            self.cancel(candidate)

    def _release(self, source: Source) -> None:
        """A publication only falls silent; any other subscription ends."""
        peer = self._peers.get(source.session)
        if source.publication is None:
            self.cancel(source)
        elif peer is not None and source.publication in self._tracks.publications.get(source.track.name, ()):
            self._set_forward(source.publication, peer, False)

    def cancel(self, source: Source) -> None:
        """End a subscription of ours."""
        peer = self._peers.get(source.session)
        request = source.request
        if peer is not None and request is not None and peer.roles.pop(request, None) is not None:
            peer.moqt.cancel(request)
            self._hub.counters["upstream_cancels"] += 1

    def _lost(self, track: Track) -> None:
        """The source is gone without the track being over: a standby steps in, or viewers stay for the
        grace time."""
        self._hub.counters["sources_lost"] += 1
        if self.succeed(track):
            return
        track.lost_upstream = track.source is not None and track.source.key[0] == "upstream"
        track.source = None
        if not track.is_watched():
            self.over(track, PublishDoneCode.TRACK_ENDED, "the publisher is gone", 0)
            return
        if track.active_downstreams():
            self._hub.set_timer("grace", track.id, after_ms=self._hub.config.timing.publisher_grace_ms)
        self.seek_again(track)

    # --- sessions and upstreams -------------------------------------------------------------------

    def publication_ended(self, publication: Publication, status: PublishDoneCode, reason: str) -> None:
        """A PUBLISH is over."""
        self._tracks.remove_publication(publication)
        track = self._tracks.by_name.get(publication.name)
        if track is not None and track.source is not None and track.source.publication is publication:
            self.source_ended(track.source, status, reason)

    def session_lost(self, peer: Peer) -> None:
        """A session closed with the sources that were on it. Call after its announcements are gone."""
        for alias in list(self._tracks.bindings.get(peer.id, ())):
            self._tracks.unbind(peer.id, alias)
        for role in list(peer.roles.values()):
            if isinstance(role, Publication):
                self.publication_ended(role, PublishDoneCode.INTERNAL_ERROR, "the publisher's session closed")
            elif isinstance(role, Source) and role is role.track.candidate:
                self._candidate_lost(role.track, role)
            elif isinstance(role, Source) and role is role.track.source:
                self._lost(role.track)

    def hop_silent(self, peer: Peer) -> None:
        """An edge is not heard any more: what it was asked for and has not answered goes to the next one, if
        there is any."""
        for role in list(peer.roles.values()):
            if not isinstance(role, Source) or role is not role.track.candidate:
                continue
            tried = {*role.track.tried, role.key}
            if any(key not in tried for key in self._candidates.keys(role.track)):
                self.cancel(role)
                reason = f"nothing is heard of {peer.node_id or peer.remote}"
                self._refused(role.track, role, RequestCode.TIMEOUT, reason, None)

    def _candidate_lost(self, track: Track, candidate: Source) -> None:
        if candidate.key[0] != "upstream":
            self._refused(track, candidate, RequestCode.DOES_NOT_EXIST, "the publisher went away", None)
            return
        candidate.session = candidate.request = None
        self.upstream_failed(self._upstreams.links[candidate.key[1]])

    def upstream_ready(self, link: UpstreamLink) -> None:
        """An upstream is connected: subscribe what waits for it, and move what its last session had."""
        peer = link.ready
        if peer is None:
            return
        key: SourceKey = ("upstream", link.index)
        for track in list(self._tracks.by_id.values()):
            candidate, source = track.candidate, track.source
            if candidate is not None and candidate.key == key and candidate.session is None:
                self._ask_if_no_circle(track, candidate, peer)
            elif candidate is None and source is not None and source.key == key and source.session != peer.id:
                self._ask_anew(track, key)

    def _ask_anew(self, track: Track, key: SourceKey) -> None:
        """The upstream of a track has a new session; where the plan knows the way, a standby moves there."""
        if not self._candidates.is_planned(track):
            self._ask(track, key)

    def _ask_if_no_circle(self, track: Track, candidate: Source, peer: Peer) -> None:
        if peer.node_id is not None and peer.node_id in self._candidates.nodes_asking(track):
            reason = f"circle: {peer.node_id} is both upstream and asking"
            self._refused(track, candidate, RequestCode.DOES_NOT_EXIST, reason, None)
        else:
            self._subscribe(candidate, peer)

    def planned(self, track: Track, links: list[UpstreamLink]) -> None:
        """The plan says where a track without a source comes from: ask there, not where one was guessing."""
        if track.source is not None or track.retired:
            return
        keys = [("upstream", link.index) for link in links]
        candidate = track.candidate
        if candidate is not None and candidate.key[0] == "upstream" and candidate.key not in keys:
            self.drop_candidate(track)
        if track.candidate is None and track.is_watched():
            track.retries = 0
            self.seek_again(track)

    def upstream_failed(self, link: UpstreamLink) -> None:
        """No connection to an upstream now: those who wait for it go to the next one, if there is any."""
        key: SourceKey = ("upstream", link.index)
        for track in list(self._tracks.by_id.values()):
            candidate = track.candidate
            if candidate is None or candidate.key != key or candidate.session is not None:
                continue
            others = [
                other for other in self._candidates.keys(track) if other != key and other not in track.tried
            ]
            if others:
                track.candidate = None
                track.tried.add(key)
                self._ask_next(track, RequestCode.TIMEOUT, link.last_error, None)

    def is_needed(self, link: UpstreamLink) -> bool:
        """Whether a track has or wants this upstream."""
        key: SourceKey = ("upstream", link.index)
        tracks = self._tracks.by_id.values()
        sources = (s for t in tracks for s in (t.candidate, t.source, *t.standbys))
        return any(s is not None and s.key == key for s in sources)
