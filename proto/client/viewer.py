"""A viewer: waits for a namespace, subscribes tracks, hands their objects over, survives reconnects.

Each track is held by the datapath of this client and read through a sink. Whatever ends a
subscription but not the track (a lost session, a publisher that started over, a server that went
away), the track is subscribed again; duplicates are the datapath's to remove.

At another edge (or the same one anew) a track goes on where it was broken off, if the edge is one of
ours: those send what they have cached from there on, older groups included, where other relays begin
with the running group. While there are several sessions, all feed the track; those that are left end once
the new one delivers every track, at the place where it was asked to go on. An edge that is not as far as
we are is behind by the longer way to it, and will be there in a moment; or it has fallen behind, or has a
publisher that started over: there the subscription is made again without a start, and the datapath tells by
the objects which it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from farcast.proto._core import Event
from farcast.proto.agent.filters import is_ours
from farcast.proto.agent.timers import Timers
from farcast.proto.client.config import ViewerConfig
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
from farcast.proto.client.feed import Feed
from farcast.proto.client.notices import FromOld, GaveUp, Lost, OldOver, Opened
from farcast.proto.client.notices import SentTo as SentToUri
from farcast.proto.client.watched import PRIORITY_DEFAULT, Subscription, WatchedTrack
from farcast.proto.moqt import events as moqt
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.moqt.session import Session
from farcast.proto.moqt.values import Filter, FilterKind

RETRY_MS_FIRST = 250
RETRY_MS_MAX = 2_000
WHOLE_RETRY_MS = 100
LATE_STREAM_MS = 1_500
BEHIND_MS_MAX = 1_000
"""An edge that is behind by less than a group is given so long to come to where the track goes on."""

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


class Viewer(ClientEngine[ViewerEvent]):
    """Sans-IO engine of a watching client. ``now_us`` is any monotonic clock in microseconds."""

    def __init__(self, config: ViewerConfig) -> None:
        super().__init__(config.connection, config.first_id, follow_edge_list=config.follow_edge_list)
        self._config = config
        self._timers: Timers[tuple[str, bytes]] = Timers()
        self._resumes = False
        self._session: int | None = None
        self._asked_for_namespace: set[int] = set()
        self._tracks: dict[bytes, WatchedTrack] = {}
        self._feed = Feed(self._commands, self._new_id, config.media)
        self._handlers = self._make_handlers()
        self._event_handlers = self._make_event_handlers()
        self._timer_handlers = self._make_timer_handlers()

    # --- commands ---------------------------------------------------------------------------------

    def subscribe(
        self, track: bytes, now_us: int, *, priority: int = PRIORITY_DEFAULT, next_group: bool = False
    ) -> None:
        """Watch a track, as soon as there is a session and the track exists; 0 is the first priority.
        ``next_group``: not from the beginning of the running group, but from the next one on."""
        self._now_us = now_us
        if track in self._tracks:
            return
        if len(self._tracks) >= TRACKS_MAX:
            raise ValueError(f"a viewer watches at most {TRACKS_MAX} tracks")
        self._tracks[track] = WatchedTrack(track, self._new_id(), priority, next_group)
        self._timers.set(("give up", track), now_us + self._config.wait_ms_max * 1_000)
        self._request(self._tracks[track])
        self._connection.flush()

    def unsubscribe(self, track: bytes) -> None:
        """Watch a track no longer."""
        known = self._tracks.get(track)
        if known is not None:
            self._cancel_all(known)
            self._forget(known)
            self._connection.flush()

    def track_names(self) -> dict[int, FullTrackName]:
        """The tracks that the datapath holds, by its numbers for them."""
        return {t.id: FullTrackName(self._config.namespace, t.name) for t in self._tracks.values()}

    def track_of(self, sink: int) -> bytes | None:
        """The track that a sink of the datapath belongs to."""
        track = self._feed.track_of(sink)
        return None if track is None else track.name

    def note_arrival(self, sink: int, group: int, subgroup: int, object: int, *, ended: bool) -> None:
        """An object that a shell took from the datapath by a way of its own, and whether it was the last of
        its subgroup: for going on at another edge."""
        track = self._feed.track_of(sink)
        if track is not None:
            track.progress.object(group, subgroup, object)
            track.arrived_us = self._now_us
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

    def _open_request(self) -> int | None:
        here = (track.at(self._session) for track in self._tracks.values())
        return next((subscription.request for subscription in here if subscription is not None), None)

    # --- events of the datapath -------------------------------------------------------------------

    def _make_event_handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            Event.Object: self._object,
            Event.SinkSubgroupEnded: self._subgroup_ended,
            Event.TrackRestarted: self._restarted,
            Event.TrackMalformed: self._malformed,
            Event.UpstreamDelivers: self._delivers,
            Event.DownstreamEnded: lambda _: None,
        }

    def _object(self, event: Event.Object) -> None:
        track = self._feed.track_of(event.downstream)
        if track is None:
            self._note_object(event)
        else:
            track.progress.object(event.group, event.subgroup, event.object)
            track.arrived_us = self._now_us
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
        track = self._feed.track_of(event.downstream)
        if track is not None:
            track.progress.ended(event.group, event.subgroup)
            ended = SubgroupEnded(track.name, event.group, event.subgroup, event.end_of_group, event.reset)
            self._events.append(ended)

    def _restarted(self, event: Event.TrackRestarted) -> None:
        for sink in event.downstreams:
            track = self._feed.restart(sink, self._connection.session_id)
            if track is not None:
                self._events.append(TrackRestarted(track.name))

    def _malformed(self, event: Event.TrackMalformed) -> None:
        track = next((t for t in self._tracks.values() if t.id == event.track), None)
        if track is not None:
            self._cancel_all(track)
            self._end(track, f"malformed track: {event.reason}")

    def _delivers(self, event: Event.UpstreamDelivers) -> None:
        for track in self._tracks.values():
            found = track.at(event.session)
            if found is None or found.alias != event.alias:
                continue
            if track.note_delivery(found, event.group):
                self._connection.delivers(event.session, self._now_us)
                self._settle()

    # --- the sessions -----------------------------------------------------------------------------

    def _make_handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            Opened: self._opened,
            Lost: self._lost,
            GaveUp: lambda notice: self._events.append(Failed(notice.reason)),
            SentToUri: lambda notice: self._events.append(SentTo(notice.uri)),
            OldOver: self._old_over,
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
        found = (track.at(self._connection.session_id) for track in self._tracks.values())
        return any(subscription is not None and subscription.is_bound for subscription in found)

    def _awaits_media(self) -> bool:
        tracks = self._tracks.values()
        return any(track.ending is None and track.progress.resume() is not None for track in tracks)

    def _process(self) -> None:
        while (notice := self._poll_notice()) is not None:
            self._session = self._connection.session_id
            if isinstance(notice, FromOld):
                self._session, notice = notice.session, notice.event
            handler = self._handlers.get(type(notice))
            if handler is not None:
                handler(notice)
        self._connection.flush()

    def _moqt(self) -> Session | None:
        """The MoQT session whose event is being handled."""
        return None if self._session is None else self._connection.moqt_of(self._session)

    def _opened(self, notice: Opened) -> None:
        self._note_opened(notice)
        self._resumes = is_ours(notice.implementation)
        session = self._connection.moqt
        if session is not None and notice.session not in self._asked_for_namespace:
            self._asked_for_namespace.add(notice.session)
            session.subscribe_namespace(self._config.namespace)
        for track in self._tracks.values():
            self._request(track)
        self._settle()

    def _settle(self) -> None:
        """Let the other sessions go once no track depends on them."""
        session = self._connection.session_id
        if self._connection.old_session_ids and all(t.is_settled_at(session) for t in self._tracks.values()):
            self._connection.settle(self._now_us)

    def _old_over(self, notice: OldOver) -> None:
        self._forget_gone_sessions()

    def _lost(self, notice: Lost) -> None:
        self._events.append(Disconnected(notice.reason))
        self._forget_gone_sessions()
        for track in self._tracks.values():
            self._timers.cancel(("retry", track.name))
            if track.ending is None:
                give_up_at = self._now_us + self._config.wait_ms_max * 1_000
                self._timers.set_if_unset(("give up", track.name), give_up_at)

    def _forget_gone_sessions(self) -> None:
        for track in self._tracks.values():
            for session in list(track.subscriptions):
                if self._connection.moqt_of(session) is None:
                    del track.subscriptions[session]
        stands = self._connection.moqt_of
        self._asked_for_namespace = {s for s in self._asked_for_namespace if stands(s) is not None}

    def _announced(self, event: moqt.NamespaceAnnounced) -> None:
        if event.namespace == self._config.namespace:
            self._ask_again()

    def _published(self, event: moqt.NamespacePublished) -> None:
        """Some servers announce without being asked."""
        session = self._moqt()
        if session is not None:
            session.accept(event.request)
        if event.namespace == self._config.namespace:
            self._ask_again()

    def _ask_again(self) -> None:
        for track in self._tracks.values():
            here = track.at(self._connection.session_id)
            if (here is None or here.request is None) and track.ending is None:
                track.retries = 0
                self._request(track)

    def _asked(self, event: moqt.NamespaceSubscribed) -> None:
        """A viewer has no namespaces, and says so."""
        session = self._moqt()
        if session is not None:
            session.accept(event.request)

    def _updated(self, event: moqt.UpdateRequested) -> None:
        session = self._moqt()
        if session is not None:
            session.accept_update(event.request)

    def _reject(self, request: int, code: RequestCode) -> None:
        session = self._moqt()
        if session is not None:
            session.reject(request, code, "a viewer")

    # --- subscriptions ----------------------------------------------------------------------------

    def _request(self, track: WatchedTrack) -> None:
        """Subscribe a track at the current session, unless it is."""
        session = self._connection.session_id
        self._timers.cancel(("retry", track.name))
        if session is None or track.ending is not None:
            return
        here = track.begin(session)
        if here.request is None:
            here.whole |= not self._resumes or track.restarts
            self._subscribe(track, here)

    def _subscribe(self, track: WatchedTrack, here: Subscription) -> None:
        session = self._connection.moqt_of(here.session)
        if session is None:
            return
        name = FullTrackName(self._config.namespace, track.name)
        here.asked_from = None if here.whole or self._is_past(track) else track.progress.resume()
        here.request = session.subscribe(name, filter=_start(track, here), priority=track.priority)

    def _is_past(self, track: WatchedTrack) -> bool:
        """Whether what was missed of a track is so long ago that nobody wants to see it."""
        most_ms, arrived_us = self._config.resume_ms_max, track.arrived_us
        return most_ms is not None and arrived_us is not None and self._now_us - arrived_us > most_ms * 1_000

    def _accepted(self, event: moqt.SubscribeAccepted) -> None:
        track, here = self._by_request(event.request)
        if track is None or here is None:
            return
        asked_from = here.asked_from
        if asked_from is not None and (event.largest is None or event.largest < asked_from):
            if event.largest is None or event.largest.group + 1 < asked_from.group:
                self._ask_whole(track, here)
                return
            self._timers.set(("behind", track.name), self._now_us + BEHIND_MS_MAX * 1_000)
        self._timers.cancel(("give up", track.name))
        track.retries = 0
        self._feed.bind(track, here, event)
        if here.asked_from is None:
            # It goes on where it is, and when that will be nobody knows.
            here.delivers = True
            self._connection.delivers(here.session, self._now_us)
        self._events.append(TrackReady(track.name, event.largest, event.track_properties))
        self._settle()

    def _ask_whole(self, track: WatchedTrack, here: Subscription) -> None:
        """Subscribe again, without a start."""
        self._cancel(here)
        here.whole = True
        self._subscribe(track, here)

    def _rejected(self, event: moqt.RequestRejected) -> None:
        track, here = self._by_request(event.request)
        if track is None or here is None:
            return
        here.request = None
        if event.code is RequestCode.INVALID_RANGE and here.asked_from is not None:
            self._ask_whole(track, here)
        elif here.session != self._connection.session_id:
            return
        elif event.code is RequestCode.DUPLICATE_SUBSCRIPTION and here.whole:
            # The one that was cancelled for it is still there: the two overtook each other.
            self._timers.set(("retry", track.name), self._now_us + WHOLE_RETRY_MS * 1_000)
        elif event.code in WORTH_WAITING:
            track.full = event.reason if event.code is RequestCode.EXCESSIVE_LOAD else ""
            self._retry_later(track, event.retry_ms or 0)
            self._events.append(Waiting(self._config.namespace, track.name, track.full))
        else:
            reason = event.reason or event.code.name
            self._forget(track)
            self._events.append(Failed(f"track {_text(track.name)} refused: {reason}", track.name))

    def _retry_later(self, track: WatchedTrack, at_least_ms: int = 0) -> None:
        wait_ms = max(min(RETRY_MS_FIRST << min(track.retries, 8), RETRY_MS_MAX), at_least_ms)
        track.retries += 1
        self._timers.set(("retry", track.name), self._now_us + wait_ms * 1_000)
        give_up_at = self._now_us + self._config.wait_ms_max * 1_000
        self._timers.set_if_unset(("give up", track.name), give_up_at)

    def _ended(self, event: moqt.PublishEnded) -> None:
        """At a session beside the current one only the end of the track matters, and only where no other
        session has told of it."""
        track, here = self._by_request(event.request)
        if track is None or here is None:
            return
        here.request = None
        current = track.at(self._connection.session_id)
        is_current = here is current
        if event.status in FINAL:
            if is_current or current is None or not current.is_bound:
                self._cancel_all(track)
                self._ending(track, event)
        elif is_current:
            self._subscribe_again(track, event.status)

    def _ending(self, track: WatchedTrack, event: moqt.PublishEnded) -> None:
        """The track is over but for streams that are still on their way."""
        track.ending = event.reason or event.status.name
        self._timers.cancel(("retry", track.name))
        self._timers.cancel(("give up", track.name))
        self._timers.set(("end", track.name), self._now_us + LATE_STREAM_MS * 1_000)

    def _subscribe_again(self, track: WatchedTrack, status: PublishDoneCode) -> None:
        """EXPIRED is how an edge says that the publisher started over."""
        track.restarts = status is PublishDoneCode.EXPIRED
        if track.restarts:
            self._request(track)
        else:
            self._retry_later(track)

    def _cancelled(self, event: moqt.RequestCancelled) -> None:
        track, here = self._by_request(event.request)
        if track is not None and here is not None:
            here.request = None
            if here.session == self._connection.session_id:
                self._retry_later(track)

    def _by_request(self, request: int) -> tuple[WatchedTrack | None, Subscription | None]:
        """The track and its subscription that a request on the session of now stands for."""
        for track in self._tracks.values():
            here = track.at(self._session)
            if here is not None and here.request == request:
                return track, here
        return None, None

    # --- timers and ends --------------------------------------------------------------------------

    def _make_timer_handlers(self) -> dict[str, Callable[[WatchedTrack], None]]:
        return {
            "retry": self._request,
            "give up": self._give_up,
            "behind": self._behind,
            "end": lambda track: self._end(track, track.ending or ""),
        }

    def _behind(self, track: WatchedTrack) -> None:
        """An edge was behind, and has not come to where we are."""
        here = track.at(self._connection.session_id)
        if here is not None and here.is_bound and not (here.delivers or here.skips or here.whole):
            self._feed.unbind(here)
            self._ask_whole(track, here)

    def _give_up(self, track: WatchedTrack) -> None:
        self._cancel_all(track)
        self._forget(track)
        namespace = self._config.namespace.path()
        seconds = self._config.wait_ms_max / 1_000
        why = track.full or f"nobody publishes track {_text(track.name)} of {namespace}"
        reason = f"{why} (waited {seconds:g} s)"
        self._events.append(Failed(reason, track.name))

    def _end(self, track: WatchedTrack, reason: str) -> None:
        self._forget(track)
        self._events.append(TrackEnded(track.name, reason))

    def _cancel(self, subscription: Subscription) -> None:
        session = self._connection.moqt_of(subscription.session)
        if session is not None and subscription.request is not None:
            session.cancel(subscription.request)
        subscription.request = None

    def _cancel_all(self, track: WatchedTrack) -> None:
        for subscription in track.subscriptions.values():
            self._cancel(subscription)

    def _forget(self, track: WatchedTrack) -> None:
        self._tracks.pop(track.name, None)
        for kind in ("retry", "give up", "behind", "end"):
            self._timers.cancel((kind, track.name))
        self._feed.remove(track)
        self._settle()


def _start(track: WatchedTrack, here: Subscription) -> Filter | None:
    """From where on a subscription is to bring a track; nothing said, from the running group's beginning."""
    if here.asked_from is not None:
        return Filter(FilterKind.ABSOLUTE_START, here.asked_from)
    is_new = track.progress.resume() is None
    return Filter(FilterKind.NEXT_GROUP_START) if track.next_group and is_new else None


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
