"""A publisher: announces a namespace, serves SUBSCRIBEs from its own tracks, survives reconnects.

Tracks live in the datapath of this client; their objects are put there once with `publish`, whoever
is subscribed. A late joiner gets the running group from the datapath's cache, and so a catalog that
was published long ago.

When it moves to another edge it announces there, and takes the announcement at the old one back once the
new one has taken it. Those who subscribe over the old session are served until they have gone, or until its
time is over; the numbers of groups go on, so that nobody takes the move for a new film.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from farcast.proto._core import Command, Event, LargestCell
from farcast.proto.agent.ahead import IDLE_PRIORITY
from farcast.proto.agent.config import MediaLimits
from farcast.proto.agent.downstream import (
    STREAM_CANCELLED,
    add_downstream,
    cache_limits,
    effective_group_order,
    update_downstream,
)
from farcast.proto.agent.filters import is_moq_net, is_ours, is_over, start_location
from farcast.proto.agent.timers import Timers
from farcast.proto.client.config import ConnectionConfig
from farcast.proto.client.engine import ClientEngine
from farcast.proto.client.events import (
    Disconnected,
    NamespaceAccepted,
    PublisherEvent,
    Refused,
    SentTo,
    Subscribed,
    Unsubscribed,
)
from farcast.proto.client.notices import FromOld, GaveUp, Lost, OldOver, Opened
from farcast.proto.client.notices import SentTo as SentToUri
from farcast.proto.moqt import events as moqt
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.session import Session
from farcast.proto.moqt.values import Filter, Location
from farcast.proto.properties import DEFAULT_PUBLISHER_PRIORITY, Properties, Property

SUBSCRIPTIONS_MAX = 1_024
TRACKS_MAX = 1_024
ANNOUNCE_RETRY_MS = 1_000


@dataclass(frozen=True, slots=True)
class PublisherConfig:
    """What to publish where. ``first_id``: first track and downstream id in the datapath.
    ``follow_edge_list``: ask each edge of ours for its edge list (`EdgesListed`)."""

    connection: ConnectionConfig
    namespace: TrackNamespace
    media: MediaLimits = field(default_factory=MediaLimits)
    first_id: int = 1
    follow_edge_list: bool = False


@dataclass(slots=True, eq=False)
class _Track:
    id: int
    name: bytes
    properties: Properties
    priority: int
    largest: LargestCell
    ended: bool = False


@dataclass(slots=True, eq=False)
class _Downstream:
    id: int
    request: int
    track: _Track
    session: int
    priority: int
    ending: bool = False


class Publisher(ClientEngine[PublisherEvent]):
    """Sans-IO engine of a publishing client. ``now_us`` is any monotonic clock in microseconds."""

    def __init__(self, config: PublisherConfig) -> None:
        super().__init__(config.connection, config.first_id, follow_edge_list=config.follow_edge_list)
        self._config = config
        self._timers: Timers[str] = Timers()
        self._tracks: dict[bytes, _Track] = {}
        self._downstreams: dict[int, _Downstream] = {}
        self._requests: dict[tuple[int, int], _Downstream] = {}
        self._announcements: dict[int, int] = {}
        self._next_alias = 1
        self._implementations: dict[int, str | None] = {}
        self._asking: tuple[int, Session] | None = None
        self._handlers = self._make_handlers()

    # --- getters ----------------------------------------------------------------------------------

    @property
    def tracks(self) -> list[bytes]:
        """Names of the tracks."""
        return list(self._tracks)

    def track_names(self) -> dict[int, FullTrackName]:
        """The tracks that the datapath holds, by its numbers for them."""
        return {t.id: FullTrackName(self._config.namespace, t.name) for t in self._tracks.values()}

    @property
    def idle_downstreams(self) -> set[int]:
        """Those that are asked for after all others (`farcast.proto.agent.ahead`): what waits for them says
        nothing about the uplink."""
        return {d.id for d in self._downstreams.values() if d.priority == IDLE_PRIORITY}

    def subscriptions(self, track: bytes) -> int:
        """How many subscriptions a track has."""
        return sum(d.track.name == track and not d.ending for d in self._downstreams.values())

    # --- commands ---------------------------------------------------------------------------------

    def add_track(self, name: bytes, *, priority: int = 128, properties: Properties = ()) -> None:
        """Begin a track. ``priority``: of its objects unless `publish` says otherwise, 0 is first."""
        if name in self._tracks:
            raise ValueError(f"track {name!r} exists already")
        if len(self._tracks) >= TRACKS_MAX:
            raise ValueError(f"a publisher has at most {TRACKS_MAX} tracks")
        track_properties = (Property(DEFAULT_PUBLISHER_PRIORITY, priority), *properties)
        track = _Track(self._new_id(), name, track_properties, priority, LargestCell())
        self._tracks[name] = track
        cache = cache_limits(self._config.media)
        self._commands.append(Command.AddTrack(track=track.id, cache=cache, largest=track.largest))

    def publish(
        self,
        track: bytes,
        group: int,
        object: int,
        payload: bytes,
        *,
        subgroup: int = 0,
        properties: bytes = b"",
        priority: int | None = None,
        status: int = 0,
        end_of_subgroup: bool = False,
        end_of_group: bool = False,
    ) -> None:
        """Publish one object. ``properties`` as `farcast.proto.properties.encode_properties` makes them."""
        known = self._tracks[track]
        self._commands.append(
            Command.Publish(
                track=known.id,
                group=group,
                subgroup=subgroup,
                object=object,
                priority=known.priority if priority is None else priority,
                status=status,
                properties=properties,
                payload=payload,
                end_of_subgroup=end_of_subgroup or end_of_group,
                end_of_group=end_of_group,
            )
        )

    def end_track(self, track: bytes) -> None:
        """Nothing follows on a track: its subscribers get what there is, then PUBLISH_DONE."""
        known = self._tracks[track]
        known.ended = True
        for downstream in list(self._downstreams.values()):
            if downstream.track is known and not downstream.ending:
                downstream.ending = True
                self._commands.append(Command.FinishDownstream(downstream=downstream.id))

    def close(self, now_us: int, reason: str = "") -> None:
        """Withdraw the namespace and end the session."""
        self._now_us = now_us
        self._drop_edge_list()
        for session_id in list(self._announcements):
            self._withdraw(session_id)
        self._connection.close(now_us, reason)
        for downstream in list(self._downstreams.values()):
            self._forget(downstream)

    def _open_request(self) -> int | None:
        return self._announcements.get(self._connection.session_id or 0)

    # --- input ------------------------------------------------------------------------------------

    def handle_event(self, event: Event, now_us: int) -> None:
        """Something happened in the datapath."""
        self._now_us = now_us
        if isinstance(event, Event.DownstreamEnded):
            self._downstream_ended(event.downstream, event.streams)
        elif isinstance(event, Event.Object):
            self._note_object(event)
        else:
            self._connection.handle_event(event, now_us)
        self._process()

    def handle_timeout(self, now_us: int) -> None:
        """The time of `poll_timeout` has come."""
        self._now_us = now_us
        self._connection.handle_timeout(now_us)
        if self._timers.pop_due(now_us) is not None:
            self._announce()
        self._process()

    # --- output -----------------------------------------------------------------------------------

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is to be called, microseconds."""
        times = [t for t in (self._connection.poll_timeout(), self._timers.next_at()) if t is not None]
        return min(times, default=None)

    # --- the session ------------------------------------------------------------------------------

    def _make_handlers(self) -> dict[type, Callable[[Any], None]]:
        return {
            Opened: self._opened,
            Lost: self._lost,
            GaveUp: lambda notice: self._events.append(Refused(notice.reason, final=True)),
            SentToUri: lambda notice: self._events.append(SentTo(notice.uri)),
            OldOver: self._old_over,
            moqt.RequestAccepted: self._request_accepted,
            moqt.RequestRejected: self._request_rejected,
            moqt.SubscribeRequested: self._subscribe_requested,
            moqt.UpdateRequested: self._update_requested,
            moqt.RequestCancelled: self._request_cancelled,
            moqt.NamespaceSubscribed: self._namespace_subscribed,
            moqt.NamespacePublished: self._uninterested,
            moqt.PublishRequested: self._uninterested,
        }

    def _has_media(self) -> bool:
        session = self._connection.session_id
        return any(downstream.session == session for downstream in self._downstreams.values())

    def _process(self) -> None:
        while (notice := self._poll_notice()) is not None:
            self._asking = self._session()
            if isinstance(notice, FromOld):
                self._asking, notice = (notice.session, notice.moqt), notice.event
            handler = self._handlers.get(type(notice))
            if handler is not None:
                handler(notice)
        self._connection.flush()

    def _session(self) -> tuple[int, Session] | None:
        """The current session, its id and its MoQT engine."""
        session_id, session = self._connection.session_id, self._connection.moqt
        return None if session_id is None or session is None else (session_id, session)

    def _opened(self, notice: Opened) -> None:
        self._note_opened(notice)
        self._implementations[notice.session] = notice.implementation
        self._announce()

    def _lost(self, notice: Lost) -> None:
        self._timers.cancel("announce")
        self._events.append(Disconnected(notice.reason))
        self._forget_gone_sessions()

    def _old_over(self, notice: OldOver) -> None:
        self._forget_gone_sessions()

    def _forget_gone_sessions(self) -> None:
        def is_gone(session_id: int) -> bool:
            return self._connection.moqt_of(session_id) is None

        for session_id in filter(is_gone, list(self._implementations)):
            del self._implementations[session_id]
            self._announcements.pop(session_id, None)
        for downstream in list(self._downstreams.values()):
            if is_gone(downstream.session):
                self._forget(downstream)

    def _announce(self) -> None:
        current = self._session()
        if current is not None:
            session_id, session = current
            self._announcements[session_id] = session.publish_namespace(self._config.namespace)
            self._connection.flush()

    def _withdraw(self, session_id: int) -> None:
        """Take an announcement back."""
        session = self._connection.moqt_of(session_id)
        announcement = self._announcements.pop(session_id, None)
        if session is not None and announcement is not None:
            session.unpublish_namespace(announcement)

    def _is_announcement(self, request: int) -> bool:
        """Whether a request is the announcement on the session whose event is being handled."""
        return self._asking is not None and self._announcements.get(self._asking[0]) == request

    def _request_accepted(self, event: moqt.RequestAccepted) -> None:
        if not self._is_announcement(event.request):
            return
        self._events.append(NamespaceAccepted(self._config.namespace))
        old = self._connection.old_session_ids
        if old and self._asking is not None and self._asking[0] not in old:
            for session_id in old:
                self._withdraw(session_id)
            self._settle()

    def _settle(self) -> None:
        """Let the old session go once the new edge has the namespace and nobody is left at the old one."""
        old, new = self._connection.old_session_ids, self._connection.session_id
        if not old or new not in self._announcements or any(o in self._announcements for o in old):
            return
        if all(downstream.session not in old for downstream in self._downstreams.values()):
            self._connection.settle(self._now_us)

    def _request_rejected(self, event: moqt.RequestRejected) -> None:
        if self._asking is None or not self._is_announcement(event.request):
            return
        del self._announcements[self._asking[0]]
        final = event.retry_ms is None and event.code is not RequestCode.GOING_AWAY
        reason = f"namespace {self._config.namespace.path()} refused: {event.reason or event.code.name}"
        self._events.append(Refused(reason, final))
        if not final:
            wait_ms = max(event.retry_ms or 0, ANNOUNCE_RETRY_MS)
            self._timers.set("announce", self._now_us + wait_ms * 1_000)

    def _namespace_subscribed(self, event: moqt.NamespaceSubscribed) -> None:
        """A server that asks gets the namespace a second time, as an answer."""
        if self._asking is None:
            return
        session = self._asking[1]
        session.accept(event.request)
        if self._config.namespace.starts_with(event.prefix):
            session.announce_to(event.request, self._config.namespace)

    def _uninterested(self, event: moqt.NamespacePublished | moqt.PublishRequested) -> None:
        self._reject(event.request, RequestCode.UNINTERESTED, "this client only publishes")

    def _reject(self, request: int, code: RequestCode, reason: str) -> None:
        if self._asking is not None:
            self._asking[1].reject(request, code, reason)

    # --- subscriptions ----------------------------------------------------------------------------

    def _subscribe_requested(self, event: moqt.SubscribeRequested) -> None:
        track = self._tracks.get(event.name.name) if event.name.namespace == self._config.namespace else None
        if track is None or track.ended:
            self._reject(event.request, RequestCode.DOES_NOT_EXIST, "no such track")
        elif len(self._downstreams) >= SUBSCRIPTIONS_MAX:
            self._reject(event.request, RequestCode.EXCESSIVE_LOAD, "too many subscriptions")
        else:
            self._serve(event, track)

    def _serve(self, event: moqt.SubscribeRequested, track: _Track) -> None:
        if self._asking is None:
            return
        session_id, session = self._asking
        location = track.largest.get()
        largest = Location(*location) if location is not None else None
        if is_over(event.filter, largest):
            self._reject(event.request, RequestCode.INVALID_RANGE, "the range is over")
            return
        alias = self._next_alias
        self._next_alias += 1
        session.accept_subscribe(event.request, alias, largest=largest, track_properties=track.properties)
        self._connection.flush()
        downstream = _Downstream(self._new_id(), event.request, track, session_id, event.priority)
        self._downstreams[downstream.id] = downstream
        self._requests[session_id, event.request] = downstream
        self._commands.append(
            add_downstream(
                downstream.id,
                session=session_id,
                alias=alias,
                track=track.id,
                start=self._start(event.filter, largest),
                filter=event.filter,
                priority=event.priority,
                group_order=effective_group_order(event.group_order, track.properties),
                forward=event.forward,
                media=self._config.media,
            )
        )
        self._events.append(Subscribed(track.name, self.subscriptions(track.name)))

    def _start(self, filter: Filter | None, largest: Location | None) -> Location:
        """Relays of the moq-dev family ask as ``@moq/net`` does, and would miss a catalog that stands."""
        implementation = self._implementations.get(self._asking[0]) if self._asking is not None else None
        whole_group, resumes = is_moq_net((), implementation), is_ours(implementation)
        return start_location(filter, largest, whole_group=whole_group, resumes=resumes)

    def _update_requested(self, event: moqt.UpdateRequested) -> None:
        if self._asking is None:
            return
        session, downstream = self._asking[1], self._request(event.request)
        largest: Location | None = None
        if downstream is not None:
            location = downstream.track.largest.get()
            largest = Location(*location) if location is not None else None
            start = self._start(event.filter, largest) if event.filter is not None else None
            downstream.priority = downstream.priority if event.priority is None else event.priority
            self._commands.append(update_downstream(downstream.id, event, start))
        session.accept_update(event.request, largest=largest)

    def _request_cancelled(self, event: moqt.RequestCancelled) -> None:
        if self._asking is not None and self._is_announcement(event.request):
            del self._announcements[self._asking[0]]
            if self._asking[0] == self._connection.session_id:
                reason = f"namespace {self._config.namespace.path()} revoked"
                self._events.append(Refused(reason, final=True))
            return
        downstream = self._request(event.request)
        if downstream is not None:
            self._commands.append(Command.RemoveDownstream(downstream=downstream.id, code=STREAM_CANCELLED))
            self._forget(downstream)

    def _downstream_ended(self, downstream_id: int, streams: int) -> None:
        downstream = self._downstreams.get(downstream_id)
        if downstream is None:
            return
        session = self._connection.moqt_of(downstream.session)
        if session is not None:
            status = PublishDoneCode.TRACK_ENDED if downstream.ending else PublishDoneCode.SUBSCRIPTION_ENDED
            session.publish_done(downstream.request, status, stream_count=streams)
        self._forget(downstream)

    def _request(self, request: int) -> _Downstream | None:
        return self._requests.get((self._asking[0], request)) if self._asking is not None else None

    def _forget(self, downstream: _Downstream) -> None:
        self._downstreams.pop(downstream.id, None)
        self._requests.pop((downstream.session, downstream.request), None)
        name = downstream.track.name
        self._events.append(Unsubscribed(name, self.subscriptions(name)))
        self._settle()
