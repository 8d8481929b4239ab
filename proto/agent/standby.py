"""One upstream feeds a track, one more stands by.

Theory. An upstream that fails is noticed in the datapath within 200 ms, and a media gap of half a second is
what a viewer notices; nothing that has to be asked for in between fits. So the next upstream of the plan's
list is subscribed beforehand, paused (SUBSCRIBE with forward 0, over a hop that is open anyway): its route is
checked, its alias bound (`BindStandby`), its cache warm because it takes the track itself. Then a word on the
hop is enough, and the datapath gives it (``UpstreamSwitched``). Here the records follow.

Rules, all carried out by one function, `_reconcile`, which compares what is with what ought to be whenever
something changed, so that no order of events leads astray:

- The source is the first sound upstream of the plan's list. Where it is not, the track moves: the other one
  is subscribed as a standby, then `SwitchUpstream` lets both run until it has delivered. A move because the
  plan changed, or the source's edge goes away, is made at once; the way back after an escape waits, and
  waits longer each time, or two edges with a doubtful link between them would swing to and fro.
- One more sound upstream of the list stands by, if the track is taken by somebody: by viewers or by edges
  that are fed. Who stands by at this edge for another one's sake is no reason to take a standby too, or
  standbys would draw standbys behind them through the whole network. But where no upstream can give the
  track any more (``TrackStarved``), every other one of the list is asked, for whoever's sake.
- A standby that has the track by the very edge that feeds this one falls with it. It still is of use where
  only the link to that edge breaks, so it stays, and the next one of the list is asked too, until one comes
  another way. What counts is the way that the answers tell, not the plan: after an escape they differ.
- Where the source's edge goes away and the publisher has come here, the plan is not waited for: the publisher
  is the source.
- A standby that is not the wanted one stays until that one is bound.
- A standby never starts a track over: one of another incarnation (another publisher) is none. If the plan
  wants that one as the source, it is subscribed like any new source.
- A standby that the datapath has send beside the source (``SecondPath``) is told so here too, for its edge
  has to know whom it feeds, and stays while it does. When, the datapath decides, by a table that was pushed
  to it (`farcast.proto.recovery.second_path`): it knows first how a hop loses.
- A circle is refused by the edge that would be fed from itself (`routes`), for standbys too. Two edges may
  stand by for each other. When one of them is fed by the other, it ends the other's standby here
  (`Subscriptions.rerouted`), and tells the edges below the new route.

The datapath may switch while events of this agent are on their way, and a hop may end at both ends at once.
So a switch to a record that is not here any more is ignored (its unbinding is under way, and the datapath
will choose again), and a lost source is followed by its standby without waiting for the datapath's word.

Rejected: two upstreams that send at all times (twice the traffic of every hop), asking for the
standby at the moment of failure (a round trip and the standby's own subscription behind it), a standby for
each upstream of the list (the second failure within seconds is covered by choosing again).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from farcast.proto._core import Command
from farcast.proto.agent.routes import detach_route, obstacle_in_path
from farcast.proto.agent.tracks import PlannedMove, Source, Track
from farcast.proto.moqt.parameters import Parameters

if TYPE_CHECKING:
    from farcast.proto._core import Event
    from farcast.proto.agent.binding import Bindings
    from farcast.proto.agent.candidates import Candidates
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.plan_upstreams import PlanUpstreams
    from farcast.proto.agent.sessions import Peer, PeerTable
    from farcast.proto.agent.sourcing import Sourcing
    from farcast.proto.agent.tracks import TrackTable
    from farcast.proto.agent.upstreams import UpstreamLink, Upstreams
    from farcast.proto.control.edge_plan import EdgePlan
    from farcast.proto.moqt import events as moqt
    from farcast.proto.moqt.names import TrackNamespace

SWITCHES_KEPT_MAX = 64
"""Switches remembered for people."""


@dataclass(slots=True)
class Switch:
    """One change of a track's upstream by the datapath. ``gap_us``: between the last new byte before it and
    the first after, once that has come."""

    at_us: int
    track: Track
    cause: str
    silent_us: int
    from_node: str | None
    to_node: str | None
    binding: tuple[int, int]
    gap_us: int | None = None


class Standby:
    """Keeps each track's standby, and its records in step with what the datapath does."""

    def __init__(
        self,
        hub: Hub,
        peers: PeerTable,
        tracks: TrackTable,
        upstreams: Upstreams,
        plan: PlanUpstreams,
        candidates: Candidates,
        bindings: Bindings,
        sourcing: Sourcing,
    ) -> None:
        self._hub = hub
        self._peers = peers
        self._tracks = tracks
        self._upstreams = upstreams
        self._plan = plan
        self._candidates = candidates
        self._bindings = bindings
        self._sourcing = sourcing
        self._marked: dict[int, Track] = {}
        self.switches: deque[Switch] = deque(maxlen=SWITCHES_KEPT_MAX)
        sourcing.succeed = self._succeed
        sourcing.stand_down = self.stand_down

    # --- what may change something ----------------------------------------------------------------

    def mark(self, track: Track) -> None:
        """Something about the track changed."""
        self._marked[track.id] = track

    def source_changed(self, track: Track) -> None:
        """The track has another source, by a subscription of its own."""
        self._end_move(track)
        for standby in list(track.standbys):
            if standby.alias is not None and standby.incarnation != track.incarnation:
                self._drop(track, standby)
        self.mark(track)

    def link_changed(self, link: UpstreamLink) -> None:
        """A hop of the plan is open, silent, heard again or going away."""
        concerned: dict[TrackNamespace, bool] = {}
        for track in self._tracks.by_id.values():
            if track.source is None or track.source.key[0] != "upstream":
                continue
            namespace = track.name.namespace
            if namespace not in concerned:
                concerned[namespace] = link in (self._plan.links_for(namespace) or ())
            if concerned[namespace]:
                self.mark(track)

    def plan_changed(self, before: EdgePlan | None) -> None:
        """The plan is another one: what was put off because of the old one need not wait any longer."""
        for track in self._tracks.by_id.values():
            if track.source is None or track.local:
                continue
            namespace = track.name.namespace
            if before is None or before.route_for(namespace) != self._plan.route_for(namespace):
                track.refused_until.clear()
                track.return_us = track.escapes = 0
                self.mark(track)

    def starved(self, event: Event.TrackStarved) -> None:
        """No upstream edge can give a track any more, or one can again."""
        track = self._tracks.by_id.get(event.track)
        if track is not None:
            self._hub.counters["tracks_starved"] += event.starved
            track.starved = event.starved
            self.mark(track)

    def session_lost(self, peer: Peer) -> None:
        """A session closed with the standbys on it. Call before the sources on it are given up."""
        for role in list(peer.roles.values()):
            if isinstance(role, Source) and role in role.track.standbys:
                self._forget(role.track, role)
                if role.binding is not None:
                    self._tracks.unbind(*role.binding)

    def owns(self, source: Source) -> bool:
        """Whether a subscription is a standby's."""
        return source in source.track.standbys

    def keeps(self, source: Source) -> bool:
        """Whether a subscription is a standby's, or has standbys beside it: a source out of the plan."""
        return self.owns(source) or (source is source.track.source and self._is_planned(source))

    def moved(self, source: Source) -> None:
        """GOAWAY for one subscription: its route is another one, and the answer to a new one tells it."""
        source.stale = True
        if self.owns(source):
            self._drop(source.track, source)
        self.mark(source.track)

    def accepted(self, peer: Peer, source: Source, event: moqt.SubscribeAccepted) -> None:
        """SUBSCRIBE_OK of a standby."""
        track = source.track
        _, route = detach_route(event.track_properties)
        source.alias = event.alias
        source.route = route.nodes
        source.incarnation = route.incarnation
        self._hub.cancel_timer("standby", track.id)
        if obstacle_in_path(route.nodes, self._hub.config.node_id) is not None:
            self._refuse(track, source)
        elif track.incarnation and source.incarnation != track.incarnation:
            self._take_anew(track, source)
        else:
            self._bindings.stand_by(track, source, self._rank(track, source))
            self.mark(track)

    def source_ended(self, source: Source) -> None:
        """The edge above ended the subscription of a source: it is not asked again at once."""
        self._refuse_for_now(source.track, source)

    def over(self, source: Source) -> None:
        """A standby's subscription was refused, reset, or ended by PUBLISH_DONE."""
        self._hub.counters["standbys_refused"] += 1
        self._refuse(source.track, source)

    def malformed(self, track_id: int, session: int, alias: int) -> bool:
        """The datapath threw an upstream out, because what it sent contradicts what is held. Whether the
        track goes on: with a standby less, or with one in place of its source."""
        track = self._tracks.by_id.get(track_id)
        if track is None:
            return False
        thrown = [s for s in track.standbys if s.binding == (session, alias)]
        for standby in thrown:
            self.over(standby)
        source = track.source
        if source is None or source.binding != (session, alias) or not self._is_planned(source):
            return bool(thrown)
        self._refuse_for_now(track, source)
        if not self._succeed(track):
            return False
        self._hub.counters["sources_malformed"] += 1
        self._sourcing.cancel(source)
        return True

    def answer_due(self, track_id: int) -> None:
        """A standby has not answered in time."""
        track = self._tracks.by_id.get(track_id)
        if track is None:
            return
        for standby in [s for s in track.standbys if s.alias is None]:
            self._refuse(track, standby)
        self.mark(track)

    def wake(self, track_id: int) -> None:
        """The time has come to look at a track again."""
        track = self._tracks.by_id.get(track_id)
        if track is not None:
            self.mark(track)

    # --- what the datapath did --------------------------------------------------------------------

    def switched(self, event: Event.UpstreamSwitched) -> None:
        """The datapath lets another upstream feed a track."""
        track = self._tracks.by_id.get(event.track)
        binding = (event.session, event.alias)
        records = [] if track is None else [s for s in (track.source, *track.standbys) if s is not None]
        to = next((s for s in records if s.binding == binding), None)
        if track is None or to is None:
            self._hub.counters["upstream_switches_crossed"] += 1
            return
        self._hub.counters[f"upstream_switches_{event.cause}"] += 1
        from_peer = self._peers.get(event.from_session)
        self.switches.append(
            Switch(
                self._hub.now_us,
                track,
                event.cause,
                event.silent_us,
                from_peer.node_id if from_peer is not None else None,
                self._node_of(to),
                binding,
            )
        )
        if to is not track.source:
            if event.cause != "command":
                self._note_escape(track)
            self._follow(track, to)

    def paired(self, event: Event.SecondPath) -> None:
        """The datapath has a standby send beside the source, or no longer."""
        self._hub.counters["second_paths_taken" if event.on else "second_paths_given_up"] += 1
        track = self._tracks.by_id.get(event.track)
        binding = (event.session, event.alias)
        standby = (
            next((s for s in track.standbys if s.binding == binding), None) if track is not None else None
        )
        if track is not None and standby is not None:
            standby.sends = event.on
            self._tell(standby, forward=event.on)
            self.mark(track)

    def resumed(self, event: Event.UpstreamResumed) -> None:
        """The new upstream has brought its first new byte."""
        self._hub.counters["upstream_resumes"] += 1
        self._hub.counters["upstream_gap_us"] += event.gap_us
        for switch in reversed(self.switches):
            if switch.track.id == event.track and switch.binding == (event.session, event.alias):
                switch.gap_us = event.gap_us
                return

    def _note_escape(self, track: Track) -> None:
        timing = self._hub.config.timing
        if self._hub.now_us - track.escaped_us > timing.escapes_kept_ms * 1_000:
            track.escapes = 0
        track.escaped_us = self._hub.now_us
        wait_ms = min(timing.return_ms << min(track.escapes, 8), timing.return_ms_max)
        track.escapes += 1
        track.return_us = self._hub.now_us + wait_ms * 1_000

    def _follow(self, track: Track, to: Source) -> None:
        """A standby is the source now; the source before stands by, if it is still bound."""
        old = track.source
        track.standbys.remove(to)
        if track.move is not None and track.move.to is to:
            self._end_move(track)
        track.source, track.bound, track.incarnation = to, to.binding, to.incarnation
        to.sends = False
        self._tell(to, forward=True)
        if old is not None and self._is_bound(old):
            track.standbys.append(old)
            self._tell(old, forward=False)
        self._sourcing.followed(track)
        self.mark(track)

    def _succeed(self, track: Track) -> bool:
        """The source is lost: its standby follows, as the datapath will say, or has said already."""
        old = track.source
        heirs = [s for s in track.standbys if self._is_bound(s) and not s.stale]
        if not heirs:
            self.stand_down(track)
            return False
        track.source = None
        self._note_escape(track)
        heir = min(heirs, key=lambda s: (not self._is_sound(s), self._rank(track, s)))
        self._follow(track, heir)
        if old is not None:
            self._bindings.unbind_source(old)
        return True

    def _tell(self, source: Source, *, forward: bool) -> None:
        """Let the agent at the other end know what its datapath has been told already."""
        peer = self._peers.get(source.session)
        if peer is not None and source.request is not None and source.request in peer.roles:
            peer.moqt.update(source.request, forward=forward)

    # --- what ought to be -------------------------------------------------------------------------

    def reconcile(self) -> bool:
        """Bring all marked tracks to what they ought to be; whether there were any."""
        marked, self._marked = self._marked, {}
        for track in marked.values():
            if track.id in self._tracks.by_id:
                self._reconcile(track)
        return bool(marked)

    def _reconcile(self, track: Track) -> None:
        source = track.source
        if source is None or source.binding is None or track.retired or not self._is_planned(source):
            self.stand_down(track)
            return
        links = self._plan.links_for(track.name.namespace)
        if links is None or track.candidate is not None:
            return  # Nobody knows better than those who serve.
        if not links or (self._is_leaving(source) and self._has_publisher(track)):
            self._sourcing.replace(track)
            self.stand_down(track)
            return
        choices = self._choices(track, links)
        successor = self._successor(track, source, links, choices)
        if successor is not None:
            self._move(track, successor)
        elif track.move is None:
            self._back_up(track, source, links, choices)

    def _choices(self, track: Track, links: list[UpstreamLink]) -> list[UpstreamLink]:
        """Upstreams of the list that could feed the track now, in its order."""
        asking = self._candidates.nodes_asking(track)
        now_us = self._hub.now_us
        return [
            link
            for link in links
            if link.is_sound
            and link.node_id not in asking
            and track.refused_until.get(("upstream", link.index), 0) <= now_us
        ]

    def _successor(
        self, track: Track, source: Source, links: list[UpstreamLink], choices: list[UpstreamLink]
    ) -> UpstreamLink | None:
        """Where the track is to move, if it is."""
        if not choices:
            return None
        best = choices[0]
        peer = best.ready
        if peer is not None and peer.id == source.session and not source.stale:
            return None
        at = next((rank for rank, link in enumerate(links) if source.key == ("upstream", link.index)), None)
        if at is None or source.stale or self._is_leaving(source):
            return best
        if links.index(best) > at:
            return None
        if self._hub.now_us >= track.return_us:
            return best
        self._hub.timers.set(("return", track.id, 0), track.return_us)
        return None

    def _move(self, track: Track, link: UpstreamLink) -> None:
        standby = self._on(track, link)
        if standby is None:
            self._ask(track, link)
        elif standby.binding is not None and (track.move is None or track.move.to is not standby):
            track.move = PlannedMove(standby, track.largest.get())
            self._hub.set_timer("move", track.id, after_ms=self._hub.config.timing.switch_ms_max)
            session, alias = standby.binding
            self._hub.command(Command.SwitchUpstream(track=track.id, session=session, alias=alias))

    def _back_up(
        self, track: Track, source: Source, links: list[UpstreamLink], choices: list[UpstreamLink]
    ) -> None:
        if not (track.is_taken() or track.starved):
            self.stand_down(track)
            return
        wanted, is_settled = self._wanted(track, source, choices)
        asking = self._candidates.nodes_asking(track)
        named = {("upstream", link.index) for link in links if link.node_id not in asking}
        for other in [s for s in track.standbys if s.alias is not None and s not in wanted]:
            is_fit = other.key in named and not other.stale and not self._is_leaving(other)
            if (wanted and is_settled and not other.sends) or not is_fit:
                self._drop(track, other)

    def _wanted(self, track: Track, source: Source, choices: list[UpstreamLink]) -> tuple[list[Source], bool]:
        """The standbys that are to be, as far as they are there, and whether all are; the next is asked."""
        wanted: list[Source] = []
        for link in [link for link in choices if source.key != ("upstream", link.index)]:
            standby = self._on(track, link)
            if standby is None:
                self._ask(track, link)
                return wanted, False
            wanted.append(standby)
            if standby.binding is None:
                return wanted, False
            if not track.starved and _is_apart(standby, source):
                break
        return wanted, True

    def move_due(self, track_id: int) -> None:
        """A planned move has not delivered: because there is nothing to deliver, or because it cannot."""
        track = self._tracks.by_id.get(track_id)
        move = track.move if track is not None else None
        if track is None or move is None:
            return
        track.move = None
        old = track.source
        is_mute = track.largest.get() != move.largest or not self._is_bound(move.to)
        if is_mute or not self._is_sound(move.to):
            self._hub.counters["moves_given_up"] += 1
            self._refuse(track, move.to)
            return
        self._hub.counters["moves_forced"] += 1
        self._bindings.bind(track, move.to, restart_allowed=False)
        self._follow(track, move.to)
        if old is not None:
            self._sourcing.cancel(old)

    # --- subscriptions ----------------------------------------------------------------------------

    def _ask(self, track: Track, link: UpstreamLink) -> None:
        """Subscribe, paused; at most one that is not answered yet."""
        peer = link.ready
        if peer is None:
            return
        for standby in [s for s in track.standbys if s.alias is None]:
            self._drop(track, standby)
        parameters = Parameters(hop_path=self._candidates.hop_path(track))
        source = Source(track, ("upstream", link.index), peer.id)
        source.request = peer.moqt.subscribe(track.name, forward=False, parameters=parameters)
        peer.roles[source.request] = source
        track.standbys.append(source)
        self._hub.counters["standby_subscribes"] += 1
        self._hub.set_timer("standby", track.id, after_ms=self._hub.config.timing.subscribe_ms_max)

    def _refuse(self, track: Track, source: Source) -> None:
        """Not this one, for some time."""
        self._drop(track, source)
        self._refuse_for_now(track, source)

    def _refuse_for_now(self, track: Track, source: Source) -> None:
        retry_ms = self._hub.config.timing.standby_retry_ms
        track.refused_until[source.key] = self._hub.now_us + retry_ms * 1_000
        self._hub.set_timer("refused", track.id, after_ms=retry_ms)

    def _take_anew(self, track: Track, standby: Source) -> None:
        """Another publisher's track under the same name is no standby; but if the track was to move there,
        it is a source like any."""
        links = self._plan.links_for(track.name.namespace) or []
        source = track.source
        successor = self._successor(track, source, links, self._choices(track, links)) if source else None
        self._refuse(track, standby)
        if successor is not None and standby.key == ("upstream", successor.index):
            self._sourcing.ask_beside(track, standby.key)

    def _drop(self, track: Track, source: Source) -> None:
        self._bindings.unbind_source(source)
        self._sourcing.cancel(source)
        self._forget(track, source)

    def _forget(self, track: Track, source: Source) -> None:
        if source in track.standbys:
            track.standbys.remove(source)
        if track.move is not None and track.move.to is source:
            self._end_move(track)
        self.mark(track)

    def _end_move(self, track: Track) -> None:
        track.move = None
        self._hub.cancel_timer("move", track.id)

    def stand_down(self, track: Track) -> None:
        """No standby is wanted."""
        for standby in list(track.standbys):
            self._drop(track, standby)
        for kind in ("standby", "refused", "return"):
            self._hub.cancel_timer(kind, track.id)
        self._marked.pop(track.id, None)

    # --- getters ----------------------------------------------------------------------------------

    def _on(self, track: Track, link: UpstreamLink) -> Source | None:
        """The standby on the present session of a link."""
        peer = link.ready
        standbys = (s for s in track.standbys if peer is not None and s.session == peer.id and not s.stale)
        return next(standbys, None)

    def _rank(self, track: Track, source: Source) -> int:
        links = self._plan.links_for(track.name.namespace) or []
        ranks = (rank for rank, link in enumerate(links) if source.key == ("upstream", link.index))
        return next(ranks, len(links))

    def _is_planned(self, source: Source) -> bool:
        link = self._upstreams.links.get(source.key[1]) if source.key[0] == "upstream" else None
        return link is not None and link.planned is not None

    def _is_bound(self, source: Source) -> bool:
        binding = source.binding
        return binding is not None and self._tracks.bound_to(*binding) is source.track

    def _has_publisher(self, track: Track) -> bool:
        return next(self._candidates.publishers_here(track), None) is not None

    def _is_leaving(self, source: Source) -> bool:
        peer = self._peers.get(source.session)
        return peer is None or peer.going_away

    def _is_sound(self, source: Source) -> bool:
        peer = self._peers.get(source.session)
        return peer is not None and not peer.silent

    def _node_of(self, source: Source) -> str | None:
        peer = self._peers.get(source.session)
        return peer.node_id if peer is not None else None


def _is_apart(standby: Source, source: Source) -> bool:
    """Whether a standby has the track even when the edge that feeds the source is dead; if that is the
    publisher's own edge, nobody has."""
    return len(source.route) < 2 or source.route[-1] not in standby.route
