"""A viewer: waits for a namespace, subscribes tracks, hands their objects over, survives reconnects.

Each track is held by the datapath of this client and read through a sink. Whatever ends a
subscription but not the track (a lost session, a publisher that started over, a server that went
away), the track is subscribed again; duplicates are the datapath's to remove.

At another edge (or the same one anew) a track goes on where it was broken off, if the edge is one of
ours: those send what they have cached from there on, older groups included, where other relays begin
with the running group. While the old session lives, both feed the track; it ends once every track is
bound to the new one. An edge that is not as far as we are has either fallen behind or has a publisher
that started over: there the subscription is made again without a start, and the datapath tells by the
objects which it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from farcast.proto._core import Command, Event, LargestCell
from farcast.proto.agent.config import MediaLimits
from farcast.proto.agent.downstream import STREAM_CANCELLED, cache_limits
from farcast.proto.agent.filters import is_ours
from farcast.proto.agent.timers import Timers
from farcast.proto.client.connection import (
    ConnectionConfig,
    FromOld,
    GaveUp,
    Lost,
    OldOver,
    Opened,
)
from farcast.proto.client.connection import SentTo as SentToUri
from farcast.proto.client.engine import ClientEngine
from farcast.proto.client.events import (
    Disconnected,
    Failed,
    ObjectReceived,
    SentTo,
    SubgroupEnded,
    TrackEnded,
    TrackReady,
    TrackRestarted,
    ViewerEvent,
    Waiting,
)
from farcast.proto.client.progress import Progress
from farcast.proto.moqt import events as moqt
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.values import Filter, FilterKind, Location
from farcast.proto.properties import DEFAULT_PUBLISHER_PRIORITY, find_integer

PRIORITY_DEFAULT = 128
RETRY_MS_FIRST = 250
RETRY_MS_MAX = 2_000
LATE_STREAM_MS = 1_500
TRACKS_MAX = 1_024

FINAL = frozenset(
    {
        PublishDoneCode.TRACK_ENDED,
        PublishDoneCode.SUBSCRIPTION_ENDED,
        PublishDoneCode.UNAUTHORIZED,
        PublishDoneCode.MALFORMED_TRACK,
    }
)
WORTH_WAITING = frozenset(
    {
        RequestCode.DOES_NOT_EXIST,
        RequestCode.TIMEOUT,
        RequestCode.INTERNAL_ERROR,
        RequestCode.EXCESSIVE_LOAD,
        RequestCode.GOING_AWAY,
    }
)


@dataclass(frozen=True, slots=True)
class ViewerConfig:
    """What to watch. ``wait_ms_max``: how long a track may be missing before the viewer gives up.
    ``follow_edge_list``: ask each edge of ours for its edge list (`EdgesListed`)."""

    connection: ConnectionConfig
    namespace: TrackNamespace
    wait_ms_max: int = 30_000
    media: MediaLimits = field(default_factory=MediaLimits)
    first_id: int = 1
    follow_edge_list: bool = False


@dataclass(slots=True, eq=False)
class _Track:
    name: bytes
    id: int
    priority: int
    largest: LargestCell
    progress: Progress = field(default_factory=Progress)
    asked_from: Location | None = None
    old_request: int | None = None
    sink: int | None = None
    request: int | None = None
    bound: tuple[int, int] | None = None
    old_bound: tuple[int, int] | None = None
    restarts: bool = False
    retries: int = 0
    ending: str | None = None


class Viewer(ClientEngine[ViewerEvent]):
    """Sans-IO engine of a watching client. ``now_us`` is any monotonic clock in microseconds."""

    def __init__(self, config: ViewerConfig) -> None:
        super().__init__(config.connection, config.first_id, follow_edge_list=config.follow_edge_list)
        self._config = config
        self._timers: Timers[tuple[str, bytes]] = Timers()
        self._resumes = False
        self._tracks: dict[bytes, _Track] = {}
        self._by_sink: dict[int, _Track] = {}
        self._handlers = self._make_handlers()
        self._event_handlers = self._make_event_handlers()
        self._timer_handlers = self._make_timer_handlers()

    # --- commands ---------------------------------------------------------------------------------

    def subscribe(self, track: bytes, now_us: int, *, priority: int = PRIORITY_DEFAULT) -> None:
        """Watch a track, as soon as there is a session and the track exists; 0 is the first priority."""
        self._now_us = now_us
        if track in self._tracks:
            return
        if len(self._tracks) >= TRACKS_MAX:
            raise ValueError(f"a viewer watches at most {TRACKS_MAX} tracks")
        self._tracks[track] = _Track(track, self._new_id(), priority, LargestCell())
        self._timers.set(("give up", track), now_us + self._config.wait_ms_max * 1_000)
        self._request(self._tracks[track])
        self._connection.flush()

    def unsubscribe(self, track: bytes) -> None:
        """Watch a track no longer."""
        known = self._tracks.get(track)
        if known is not None:
            self._cancel(known)
            self._forget(known)
            self._connection.flush()

    def track_names(self) -> dict[int, FullTrackName]:
        """The tracks that the datapath holds, by its numbers for them."""
        return {t.id: FullTrackName(self._config.namespace, t.name) for t in self._tracks.values()}

    def track_of(self, sink: int) -> bytes | None:
        """The track that a sink of the datapath belongs to."""
        track = self._by_sink.get(sink)
        return None if track is None else track.name

    def note_arrival(self, sink: int, group: int, subgroup: int, object: int, *, ended: bool) -> None:
        """An object that a shell took from the datapath by a way of its own, and whether it was the last of
        its subgroup: for going on at another edge."""
        track = self._by_sink.get(sink)
        if track is not None:
            track.progress.object(group, subgroup, object)
            if ended:
                track.progress.ended(group, subgroup)

    def close(self, now_us: int, reason: str = "") -> None:
        """End all."""
        self._now_us = now_us
        self._drop_edge_list()
        for track in list(self._tracks.values()):
            self._forget(track)
        self._connection.close(now_us, reason)

    # --- input ------------------------------------------------------------------------------------

    def handle_event(self, event: Event, now_us: int) -> None:
        """Something happened in the datapath."""
        self._now_us = now_us
        handler = self._event_handlers.get(type(event))
        if handler is not None:
            handler(event)
        else:
            self._connection.handle_event(event, now_us)
        self._process()

    def handle_timeout(self, now_us: int) -> None:
        """The time of `poll_timeout` has come."""
        self._now_us = now_us
        self._connection.handle_timeout(now_us)
        while (due := self._timers.pop_due(now_us)) is not None:
            kind, name = due
            track = self._tracks.get(name)
            if track is not None:
                self._timer_handlers[kind](track)
        self._process()

    # --- output -----------------------------------------------------------------------------------

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is to be called, microseconds."""
        times = [t for t in (self._connection.poll_timeout(), self._timers.next_at()) if t is not None]
        return min(times, default=None)

    # --- events of the datapath -------------------------------------------------------------------

    def _make_event_handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            Event.Object: self._object,
            Event.SinkSubgroupEnded: self._subgroup_ended,
            Event.TrackRestarted: self._restarted,
            Event.TrackMalformed: self._malformed,
            Event.DownstreamEnded: lambda _: None,
        }

    def _object(self, event: Event.Object) -> None:
        track = self._by_sink.get(event.downstream)
        if track is None:
            self._note_object(event)
        else:
            track.progress.object(event.group, event.subgroup, event.object)
            self._events.append(
                ObjectReceived(
                    track.name,
                    event.group,
                    event.subgroup,
                    event.object,
                    event.priority,
                    event.status,
                    event.properties,
                    event.payload,
                    event.first_byte_us,
                    event.complete_us,
                )
            )

    def _subgroup_ended(self, event: Event.SinkSubgroupEnded) -> None:
        track = self._by_sink.get(event.downstream)
        if track is not None:
            track.progress.ended(event.group, event.subgroup)
            ended = SubgroupEnded(track.name, event.group, event.subgroup, event.end_of_group, event.reset)
            self._events.append(ended)

    def _restarted(self, event: Event.TrackRestarted) -> None:
        for sink in event.downstreams:
            track = self._by_sink.pop(sink, None)
            if track is not None:
                self._commands.append(Command.RemoveDownstream(downstream=sink, code=STREAM_CANCELLED))
                self._events.append(TrackRestarted(track.name))
                track.progress.restart()
                self._unbind_old(track)
                self._add_sink(track)

    def _malformed(self, event: Event.TrackMalformed) -> None:
        track = next((t for t in self._tracks.values() if t.id == event.track), None)
        if track is not None:
            self._cancel(track)
            self._end(track, f"malformed track: {event.reason}")

    # --- the session ------------------------------------------------------------------------------

    def _make_handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            Opened: self._opened,
            Lost: self._lost,
            GaveUp: lambda notice: self._events.append(Failed(notice.reason)),
            SentToUri: lambda notice: self._events.append(SentTo(notice.uri)),
            OldOver: self._old_over,
            FromOld: self._from_old,
            moqt.NamespaceAnnounced: self._announced,
            moqt.NamespacePublished: self._published,
            moqt.SubscribeAccepted: self._accepted,
            moqt.RequestRejected: self._rejected,
            moqt.PublishEnded: self._ended,
            moqt.RequestCancelled: self._cancelled,
            moqt.RequestGoaway: lambda _: None,
            moqt.SubscribeRequested: lambda e: self._reject(e.request, RequestCode.DOES_NOT_EXIST),
            moqt.PublishRequested: lambda e: self._reject(e.request, RequestCode.UNINTERESTED),
            moqt.NamespaceSubscribed: self._asked,
            moqt.UpdateRequested: self._updated,
        }

    def _has_media(self) -> bool:
        session = self._connection.session_id
        return any(track.bound is not None and track.bound[0] == session for track in self._tracks.values())

    def _process(self) -> None:
        while (notice := self._poll_notice()) is not None:
            handler = self._handlers.get(type(notice))
            if handler is not None:
                handler(notice)
        self._connection.flush()

    def _opened(self, notice: Opened) -> None:
        self._note_opened(notice)
        self._resumes = is_ours(notice.implementation)
        session = self._connection.moqt
        if session is not None:
            session.subscribe_namespace(self._config.namespace)
        for track in self._tracks.values():
            track.old_request, track.request = track.request, None
            self._request(track)
        self._settle()

    def _settle(self) -> None:
        """Let the old session go once no track depends on it."""
        old = self._connection.old_session_id
        if old is not None and all(t.bound is None or t.bound[0] != old for t in self._tracks.values()):
            self._connection.settle(self._now_us)

    def _old_over(self, notice: OldOver) -> None:
        for track in self._tracks.values():
            track.old_request = None
            if track.old_bound is not None and track.old_bound[0] == notice.session:
                track.old_bound = None

    def _from_old(self, notice: FromOld) -> None:
        """Of the session that is left only one thing matters: that a track has ended."""
        event = notice.event
        if not isinstance(event, moqt.PublishEnded) or event.status not in FINAL:
            return
        track = next((t for t in self._tracks.values() if t.old_request == event.request), None)
        if track is not None and (track.bound is None or track.bound[0] == notice.session):
            self._cancel(track)
            self._ending(track, event)

    def _lost(self, notice: Lost) -> None:
        self._events.append(Disconnected(notice.reason))
        for track in self._tracks.values():
            track.request = None
            self._timers.cancel(("retry", track.name))
            if track.ending is None:
                give_up_at = self._now_us + self._config.wait_ms_max * 1_000
                self._timers.set_if_unset(("give up", track.name), give_up_at)

    def _announced(self, event: moqt.NamespaceAnnounced) -> None:
        if event.namespace == self._config.namespace:
            self._ask_again()

    def _published(self, event: moqt.NamespacePublished) -> None:
        """Some servers announce without being asked."""
        session = self._connection.moqt
        if session is not None:
            session.accept(event.request)
        if event.namespace == self._config.namespace:
            self._ask_again()

    def _ask_again(self) -> None:
        for track in self._tracks.values():
            if track.request is None and track.ending is None:
                track.retries = 0
                self._request(track)

    def _asked(self, event: moqt.NamespaceSubscribed) -> None:
        """A viewer has no namespaces, and says so."""
        session = self._connection.moqt
        if session is not None:
            session.accept(event.request)

    def _updated(self, event: moqt.UpdateRequested) -> None:
        session = self._connection.moqt
        if session is not None:
            session.accept_update(event.request)

    def _reject(self, request: int, code: RequestCode) -> None:
        session = self._connection.moqt
        if session is not None:
            session.reject(request, code, "a viewer")

    # --- subscriptions ----------------------------------------------------------------------------

    def _request(self, track: _Track, *, whole: bool = False) -> None:
        session = self._connection.moqt
        self._timers.cancel(("retry", track.name))
        if session is None or track.request is not None or track.ending is not None:
            return
        name = FullTrackName(self._config.namespace, track.name)
        resumes = self._resumes and not track.restarts and not whole
        track.asked_from = track.progress.resume() if resumes else None
        start = None if track.asked_from is None else Filter(FilterKind.ABSOLUTE_START, track.asked_from)
        track.request = session.subscribe(name, filter=start, priority=track.priority)

    def _accepted(self, event: moqt.SubscribeAccepted) -> None:
        track = self._by_request(event.request)
        session_id = self._connection.session_id
        if track is None or session_id is None:
            return
        asked_from = track.asked_from
        if asked_from is not None and (event.largest is None or event.largest < asked_from):
            self._cancel(track)
            self._request(track, whole=True)
            return
        self._timers.cancel(("give up", track.name))
        track.retries = 0
        if track.sink is None:
            self._hold(track)
        self._bind(track, session_id, event)
        self._events.append(TrackReady(track.name, event.largest, event.track_properties))
        self._settle()

    def _hold(self, track: _Track) -> None:
        cache = cache_limits(self._config.media)
        self._commands.append(Command.AddTrack(track=track.id, cache=cache, largest=track.largest))
        self._add_sink(track)

    def _add_sink(self, track: _Track) -> None:
        track.sink = self._new_id()
        self._by_sink[track.sink] = track
        self._commands.append(Command.AddSink(downstream=track.sink, track=track.id, start=(0, 0)))

    def _bind(self, track: _Track, session_id: int, event: moqt.SubscribeAccepted) -> None:
        before, track.bound = track.bound, (session_id, event.alias)
        if before == track.bound:
            self._unbind(before)
        priority = find_integer(event.track_properties, DEFAULT_PUBLISHER_PRIORITY)
        self._commands.append(
            Command.BindUpstream(
                session=session_id,
                alias=event.alias,
                track=track.id,
                default_priority=PRIORITY_DEFAULT if priority is None else min(priority, 255),
                restart_allowed=self._may_restart(track, event.largest),
            )
        )
        track.restarts = False
        if before is None or before == track.bound:
            return
        self._unbind_old(track)
        if before[0] == self._connection.old_session_id:
            track.old_bound = before
        else:
            self._unbind(before)

    @staticmethod
    def _may_restart(track: _Track, largest: Location | None) -> bool:
        """After the server said so, or where the track is now behind what has arrived of it."""
        arrived = track.largest.get()
        return track.restarts or (arrived is not None and (largest is None or largest < arrived))

    def _unbind_old(self, track: _Track) -> None:
        """What still comes over the session that is left is not wanted any more."""
        if track.old_bound is not None:
            self._unbind(track.old_bound)
        track.old_bound = None

    def _unbind(self, binding: tuple[int, int]) -> None:
        self._commands.append(Command.UnbindUpstream(session=binding[0], alias=binding[1]))

    def _rejected(self, event: moqt.RequestRejected) -> None:
        track = self._by_request(event.request)
        if track is None:
            return
        track.request = None
        if event.code is RequestCode.INVALID_RANGE and track.asked_from is not None:
            self._request(track, whole=True)
        elif event.code in WORTH_WAITING:
            self._retry_later(track, event.retry_ms or 0)
            self._events.append(Waiting(self._config.namespace, track.name))
        else:
            reason = event.reason or event.code.name
            self._forget(track)
            self._events.append(Failed(f"track {_text(track.name)} refused: {reason}", track.name))

    def _retry_later(self, track: _Track, at_least_ms: int = 0) -> None:
        wait_ms = max(min(RETRY_MS_FIRST << min(track.retries, 8), RETRY_MS_MAX), at_least_ms)
        track.retries += 1
        self._timers.set(("retry", track.name), self._now_us + wait_ms * 1_000)
        give_up_at = self._now_us + self._config.wait_ms_max * 1_000
        self._timers.set_if_unset(("give up", track.name), give_up_at)

    def _ended(self, event: moqt.PublishEnded) -> None:
        track = self._by_request(event.request)
        if track is None:
            return
        track.request = None
        if event.status in FINAL:
            self._ending(track, event)
        else:
            self._subscribe_again(track, event.status)

    def _ending(self, track: _Track, event: moqt.PublishEnded) -> None:
        """The track is over but for streams that are still on their way."""
        track.ending = event.reason or event.status.name
        self._timers.cancel(("retry", track.name))
        self._timers.cancel(("give up", track.name))
        self._timers.set(("end", track.name), self._now_us + LATE_STREAM_MS * 1_000)

    def _subscribe_again(self, track: _Track, status: PublishDoneCode) -> None:
        """EXPIRED is how an edge says that the publisher started over."""
        track.restarts = status is PublishDoneCode.EXPIRED
        if track.restarts:
            self._request(track)
        else:
            self._retry_later(track)

    def _cancelled(self, event: moqt.RequestCancelled) -> None:
        track = self._by_request(event.request)
        if track is not None:
            track.request = None
            self._retry_later(track)

    def _by_request(self, request: int) -> _Track | None:
        return next((t for t in self._tracks.values() if t.request == request), None)

    # --- timers and ends --------------------------------------------------------------------------

    def _make_timer_handlers(self) -> dict[str, Callable[[_Track], None]]:
        return {
            "retry": self._request,
            "give up": self._give_up,
            "end": lambda track: self._end(track, track.ending or ""),
        }

    def _give_up(self, track: _Track) -> None:
        self._cancel(track)
        self._forget(track)
        namespace = self._config.namespace.path()
        seconds = self._config.wait_ms_max / 1_000
        reason = f"nobody publishes track {_text(track.name)} of {namespace} (waited {seconds:g} s)"
        self._events.append(Failed(reason, track.name))

    def _end(self, track: _Track, reason: str) -> None:
        self._forget(track)
        self._events.append(TrackEnded(track.name, reason))

    def _cancel(self, track: _Track) -> None:
        session = self._connection.moqt
        if session is not None and track.request is not None:
            session.cancel(track.request)
        track.request = None

    def _forget(self, track: _Track) -> None:
        self._tracks.pop(track.name, None)
        for kind in ("retry", "give up", "end"):
            self._timers.cancel((kind, track.name))
        self._unbind_old(track)
        if track.bound is not None:
            self._unbind(track.bound)
        if track.sink is not None:
            self._by_sink.pop(track.sink, None)
            self._commands.append(Command.RemoveTrack(track=track.id))
        self._settle()


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
