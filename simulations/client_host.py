"""Clients in virtual time: `ViewerHost` and `PublisherHost` do what ``farcast watch`` and ``publish`` do.

Their engines are those of the tools, and so is the order of things: connect to the named edges (a race), ask
for the catalogs and for the edge list, subscribe what the catalog names, move when the edge dies or says
goodbye. Names of edges are resolved from a table, in no time. Two things differ, for speed:

- Media objects do not come to Python. The kernel keeps records of them, which are taken before the engine
  gets anything else, so that it knows how far it is when it has to go on elsewhere.
- A publisher's frames are handed to the kernel some time ahead, each with its time.

A viewer watches all in its room, over one connection per publisher, as several ``farcast watch`` would. Of
several renditions it takes the best that fits its access (`choose_rendition`), once; one that *adapts*
leaves that to the engine of the tools (`farcast.clients.quality`). A *stock* viewer is a stand-in for a
browser: it knows one URL, follows no edge list, and its figures are kept apart. Where a connection fails it
tries again as @moq/net does (`constants.STOCK_RETRY_MS`); an own viewer does what ``farcast watch`` does: all
edges that it was given, for 5 s, then it gives up. Whoever tries again, its times count from the first tap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from farcast.clients.film import STATUS_NORMAL, FilmObject
from farcast.clients.media.catalog import CATALOG_TRACKS, parse_catalog
from farcast.clients.media.errors import MediaError
from farcast.clients.media.offer import OfferedTrack
from farcast.clients.quality import Begin, QualityChooser, Rendition
from farcast.clients.viewing import PRIORITY, PRIORITY_CATALOG
from farcast.proto._core import Command, Event
from farcast.proto.agent import Target
from farcast.proto.client import Publisher, Viewer
from farcast.proto.client import events as client
from farcast.proto.client.edges import EDGES_MAX
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.urls import ServerUrl, parse_url
from farcast.simulations.invariants import Order
from farcast.simulations.media import FilmModel, FilmTrack
from farcast.simulations.raw import ARRIVAL_DTYPE, Array, Move, Watched
from farcast.simulations.records import RECORD_DTYPE
from farcast.simulations.twin import Twin

IDS_PER_ENGINE = 1_000_000
"""Engines of one client have ids of sessions, tracks and sinks apart."""

AHEAD_US = 1_000_000
"""Frames are handed to the kernel so far ahead."""

RATE_SHARE_MAX = 0.75
"""Part of the access rate that a viewer's renditions and sound may take."""

LINGER_US = 500_000
"""From the end of a film to the end of the publisher's connection (`clients.publish.LINGER_SECONDS_MIN`)."""

ERRORS_MAX = 100


class Names(Protocol):
    """What a resolver knows."""

    def target(self, url: ServerUrl) -> Target | None: ...


@dataclass(slots=True)
class Log:
    """What a client noticed, for its `ClientTrace`."""

    tapped_us: int
    connected_us: int | None = None
    catalog_us: int | None = None
    left_us: int | None = None
    edges: list[tuple[int, str]] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    connections_lost: int = 0

    def fail(self, text: str) -> None:
        """Keep an error, once."""
        if len(self.errors) < ERRORS_MAX and text not in self.errors:
            self.errors.append(text)


class Roaming:
    """Answers an engine's questions about edges, as `farcast.clients.roaming` does."""

    def __init__(self, names: Names, log: Log, node_of: Mapping[str, str]) -> None:
        self._names = names
        self._log = log
        self._node_of = node_of
        self._edge = ""

    def handle(self, engine: Publisher | Viewer, event: object, now_us: int) -> None:
        """Take an event of the engine that is about edges."""
        log = self._log
        match event:
            case client.Connected(edge=edge):
                self._edge = edge
                log.connected_us = now_us if log.connected_us is None else log.connected_us
                log.edges.append((now_us, self._node_of.get(edge, edge)))
            case client.Moved(before, edge, cause):
                node_of = self._node_of
                log.moves.append(Move(now_us, node_of.get(before, before), node_of.get(edge, edge), cause))
            case client.EdgesListed(edges):
                listed = edges.seen_from(self._edge)[:EDGES_MAX]
                found = [(edge, self._names.target(edge.url)) for edge in listed]
                engine.learn(
                    now_us,
                    [target for _, target in found if target is not None],
                    [target for edge, target in found if target is not None and edge.draining],
                )
            case client.EdgeListRefused(reason):
                log.fail(reason)
            case client.SentTo(uri):
                engine.answer_uri(now_us, uri, self._resolve(uri))
            case client.Disconnected():
                log.connections_lost += 1
            case _:
                pass

    def _resolve(self, uri: str) -> Target | None:
        try:
            return self._names.target(parse_url(uri))
        except ValueError as error:
            self._log.fail(str(error))
            return None


# ---- Viewers ---------------------------------------------------------------------------------------


def choose_rendition(tracks: Sequence[OfferedTrack], access_rate_bps: int) -> list[OfferedTrack]:
    """Sound, and the best picture for which the access has room; the smallest where it has for none."""
    sounds = [track for track in tracks if track.info.kind == "audio"]
    pictures = sorted(
        (track for track in tracks if track.info.kind == "video"), key=lambda track: track.info.bitrate or 0
    )
    room_bps = access_rate_bps * RATE_SHARE_MAX - sum(track.info.bitrate or 0 for track in sounds)
    fitting = [track for track in pictures if (track.info.bitrate or 0) <= room_bps]
    return [*sounds, *(fitting[-1:] or pictures[:1])]


@dataclass(slots=True)
class _Sink:
    """What a sink of the datapath stands for."""

    show: _Show
    track: FilmTrack
    index: int


class _Show:
    """One namespace that a viewer watches: an engine, and what was found in its catalog."""

    def __init__(self, engine: Viewer, film: FilmModel, first_track: int) -> None:
        self.engine = engine
        self.film = film
        self.indices = {track.info.name: first_track + k for k, track in enumerate(film.tracks)}
        self.tracks = {track.info.name: track for track in film.tracks}
        self.stints: list[_Stint] = []
        self.catalog: str | None = None
        self.chooser: QualityChooser | None = None

    def subscribe(self, name: str, now_us: int, priority: int, *, next_group: bool = False) -> None:
        """Watch a track from now on."""
        self.stints.append(_Stint(name, now_us))
        self.engine.subscribe(name.encode(), now_us, priority=priority, next_group=next_group)

    def unsubscribe(self, name: str, now_us: int) -> None:
        """Watch it no more."""
        for stint in self.stints:
            if stint.name == name and stint.until_us is None:
                stint.until_us = now_us
        self.engine.unsubscribe(name.encode())

    def watches(self, name: str) -> bool:
        """Whether a track is watched now."""
        return any(stint.name == name and stint.until_us is None for stint in self.stints)

    def switch(self, now_us: int) -> None:
        """Do what the chooser says."""
        while self.chooser is not None and (action := self.chooser.poll_action()) is not None:
            if isinstance(action, Begin):
                self.subscribe(action.name, now_us, action.priority, next_group=action.next_group)
            else:
                self.unsubscribe(action.name, now_us)


@dataclass(slots=True)
class _Stint:
    """A track that was watched for a while; ``until_us`` is ``None`` while it is."""

    name: str
    at_us: int
    until_us: int | None = None


class ViewerHost:
    """The engine of a viewer's host. ``shows``: engine, film and index of its first track, one each for what
    it watches; the k-th engine has ids from ``k * IDS_PER_ENGINE``."""

    def __init__(
        self,
        twin: Twin,
        shows: Sequence[tuple[Viewer, FilmModel, int]],
        names: Names,
        node_of: Mapping[str, str],
        access_rate_bps: int,
        tapped_us: int,
        *,
        adapts: bool = False,
    ) -> None:
        self.host = -1
        """Its number in the twin."""
        self.log = Log(tapped_us)
        self._adapts = adapts
        self._twin = twin
        self._shows = [_Show(*show) for show in shows]
        self._roaming = [Roaming(names, self.log, node_of) for _ in shows]
        self._access_rate_bps = access_rate_bps
        self._sinks: dict[int, _Sink] = {}
        self._chunks: list[Array] = []
        self._checked = 0
        self.order = Order()
        self.ended: dict[int, int] = {}
        """Tracks that it was told are over, by index, and when."""
        self.newest: dict[int, tuple[int, int]] = {}
        """The newest group and object that came, by track index."""

    # ---- Commands ----------------------------------------------------------------------------------

    def start(self, now_us: int) -> None:
        """The tap."""
        for show in self._shows:
            show.engine.start(now_us)
            for name in CATALOG_TRACKS:
                show.engine.subscribe(name.encode(), now_us, priority=PRIORITY_CATALOG)

    def leave(self, now_us: int) -> None:
        """The viewer has seen enough."""
        self.take_records()
        self.log.left_us = now_us
        for show in self._shows:
            show.engine.close(now_us, "seen enough")

    # ---- An engine, for the twin ---------------------------------------------------------------------

    def handle_event(self, event: Event, now_us: int) -> None:
        """Something of the datapath."""
        self.take_records()
        show = self._shows[_engine_of(event)]
        show.engine.handle_event(event, now_us)

    def handle_timeout(self, now_us: int) -> None:
        """The time of `poll_timeout` has come."""
        self.take_records()
        for show in self._shows:
            due_us = show.engine.poll_timeout()
            if due_us is not None and due_us <= now_us:
                show.engine.handle_timeout(now_us)
            if show.chooser is not None and self.log.left_us is None:
                show.chooser.handle_timeout(now_us)
                show.switch(now_us)

    def poll_command(self) -> Command | None:
        """The next command; sinks of media are recorded from their beginning."""
        for show in self._shows:
            command = show.engine.poll_command()
            if command is not None:
                if isinstance(command, Command.AddSink):
                    self._record(show, command.downstream)
                return command
        return None

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is due."""
        times = [show.engine.poll_timeout() for show in self._shows]
        if self.log.left_us is None:
            times += [show.chooser.poll_timeout() for show in self._shows if show.chooser is not None]
        return min((time for time in times if time is not None), default=None)

    def look(self, now_us: int) -> None:
        """Take what the engines have to say."""
        for show, roaming in zip(self._shows, self._roaming, strict=True):
            while (event := show.engine.poll_event()) is not None:
                self._take(show, roaming, event, now_us)

    def _take(self, show: _Show, roaming: Roaming, event: client.ViewerEvent, now_us: int) -> None:
        match event:
            case client.ObjectReceived(track=track, status=status, payload=payload):
                if status == STATUS_NORMAL and track.decode() in CATALOG_TRACKS:
                    self._take_catalog(show, track.decode(), payload, now_us)
            case client.Failed(reason, track):
                if track is None or track.decode() not in CATALOG_TRACKS or show.catalog is None:
                    self.log.fail(reason)
            case client.TrackEnded(track) if show.watches(track.decode()):
                self.ended[show.indices[track.decode()]] = now_us
            case client.TrackRestarted(track):
                self.log.fail(f"track {track.decode()} starts over")
            case _:
                roaming.handle(show.engine, event, now_us)

    def _take_catalog(self, show: _Show, name: str, payload: bytes, now_us: int) -> None:
        if show.catalog not in (None, name):
            return
        try:
            offer = parse_catalog(name, payload)
        except MediaError as error:
            self.log.fail(f"{name} cannot be used: {error}")
            return
        if not offer.tracks or show.catalog is not None:
            return
        show.catalog = name
        if self.log.catalog_us is None:
            self.log.catalog_us = now_us
        chosen = choose_rendition(offer.tracks, self._access_rate_bps)
        pictures = [track.info for track in offer.tracks if track.info.kind == "video"]
        if self._adapts and len(pictures) > 1:
            chosen = [track for track in chosen if track.info.kind == "audio"]
            renditions = [Rendition(info.name, info.bitrate or 0, info.layers) for info in pictures]
            sound_bps = sum(track.info.bitrate or 0 for track in chosen)
            show.chooser = QualityChooser(renditions, sound_bps, now_us)
        for track in chosen:
            show.subscribe(track.info.name, now_us, PRIORITY[track.info.kind])
        show.switch(now_us)
        for other in CATALOG_TRACKS:
            if other != name:
                show.engine.unsubscribe(other.encode())

    # ---- Records -----------------------------------------------------------------------------------

    def _record(self, show: _Show, downstream: int) -> None:
        name = (show.engine.track_of(downstream) or b"").decode()
        if name in show.tracks:
            self._sinks[downstream] = _Sink(show, show.tracks[name], show.indices[name])
            self._twin.world.record(self.host, downstream)

    def take_records(self) -> None:
        """Take what has come since the last time, and tell the engines how far they are."""
        data = self._twin.world.take_record(self.host)
        if not data:
            return
        chunk = np.frombuffer(data, RECORD_DTYPE)
        self._chunks.append(chunk)
        rows = zip(
            chunk["downstream"].tolist(),
            chunk["group"].tolist(),
            chunk["subgroup"].tolist(),
            chunk["object"].tolist(),
            chunk["at_us"].tolist(),
            chunk["bytes"].tolist(),
            strict=True,
        )
        for downstream, group, subgroup, number, at_us, size in rows:
            sink = self._sinks[downstream]
            ended = number == sink.track.frames_a_group
            sink.show.engine.note_arrival(downstream, group, subgroup, number, ended=ended)
            if self.newest.get(sink.index, (-1, -1)) < (group, number):
                self.newest[sink.index] = (group, number)
            if sink.show.chooser is not None and not ended:
                _tell(sink.show.chooser, sink.track, group * sink.track.frames_a_group + number, at_us, size)

    def take_unchecked(self) -> list[Array]:
        """Records that came since the last call, for whoever checks their order."""
        fresh, self._checked = self._chunks[self._checked :], len(self._chunks)
        return fresh

    def arrivals(self, began_us: Mapping[int, int]) -> Array:
        """All media that came, as `ARRIVAL_DTYPE` in order of time. ``began_us``: by track index, when the
        film began."""
        self.take_records()
        if not self._chunks:
            return np.empty(0, ARRIVAL_DTYPE)
        records = np.concatenate(self._chunks)
        parts: list[Array] = []
        for downstream in np.unique(records["downstream"]).tolist():
            sink = self._sinks[downstream]
            mine = records[records["downstream"] == downstream]
            mine = mine[mine["object"] < sink.track.frames_a_group]
            part = np.zeros(len(mine), ARRIVAL_DTYPE)
            for name in ("at_us", "first_us", "group", "object", "subgroup", "bytes"):
                part[name] = mine[name]
            part["track"] = sink.index
            number = mine["group"].astype(np.int64) * sink.track.frames_a_group + mine["object"]
            part["capture_us"] = began_us[sink.index] + number * sink.track.info.frame_us
            parts.append(part)
        whole = np.concatenate(parts)
        return whole[np.argsort(whole["at_us"], kind="stable")]

    def watched(self) -> tuple[Watched, ...]:
        """Which tracks it wanted, from when on."""
        until_us = self.log.left_us
        return tuple(
            Watched(
                show.indices[stint.name], stint.at_us, until_us if stint.until_us is None else stint.until_us
            )
            for show in self._shows
            for stint in show.stints
        )

    def without_catalog(self) -> list[int]:
        """The first track of each film of which it has no catalog."""
        return [min(show.indices.values()) for show in self._shows if show.catalog is None and show.indices]

    def wanted_since(self, asked_us: int) -> tuple[int, ...]:
        """The tracks that it watches, by index, but for a rendition that has not begun, or was asked for
        after ``asked_us``."""
        return tuple(
            show.indices[stint.name]
            for show in self._shows
            for stint in show.stints
            if stint.until_us is None
            and (show.chooser is None or (stint.name != show.chooser.pending and stint.at_us <= asked_us))
        )

    def track_names(self) -> dict[int, FullTrackName]:
        """The tracks that its datapath holds, by their numbers there."""
        found: dict[int, FullTrackName] = {}
        for show in self._shows:
            found.update(show.engine.track_names())
        return found


def _tell(chooser: QualityChooser, track: FilmTrack, number: int, at_us: int, size_bytes: int) -> None:
    """A frame came, the ``number``-th of its film."""
    media_us = number * track.info.frame_us
    if track.info.kind == "audio":
        chooser.handle_sound(media_us, at_us, size_bytes)
    else:
        chooser.handle_picture(track.info.name, media_us, at_us, size_bytes)


def _engine_of(event: Any) -> int:
    """Which of a client's engines an event is for, by the ids in it."""
    for name in ("session", "downstream", "track"):
        number = getattr(event, name, None)
        if number is not None:
            span = 2 * IDS_PER_ENGINE if name == "session" else IDS_PER_ENGINE
            return int(number) // span
    return 0


# ---- Publishers ------------------------------------------------------------------------------------


class PublisherHost:
    """The engine of a publisher's host: the film begins when its namespace is accepted."""

    def __init__(
        self,
        twin: Twin,
        engine: Publisher,
        film: FilmModel,
        names: Names,
        node_of: Mapping[str, str],
        tapped_us: int,
        until_us: int,
    ) -> None:
        self.host = -1
        """Its number in the twin."""
        self.engine = engine
        self.film = film
        self.log = Log(tapped_us)
        self.began_us: int | None = None
        """When the film began."""
        self.ends_us = until_us
        self.ended = False
        self._twin = twin
        self._roaming = Roaming(names, self.log, node_of)
        self._handed_us = 0
        self._commands: deque[Command] = deque()
        for name, priority in film.priorities.items():
            properties = film.properties.get(name, ())
            engine.add_track(name.encode(), priority=priority, properties=properties)

    def start(self, now_us: int) -> None:
        """The tap."""
        self.engine.start(now_us)

    # ---- An engine, for the twin ---------------------------------------------------------------------

    def handle_event(self, event: Event, now_us: int) -> None:
        """Something of the datapath."""
        self.engine.handle_event(event, now_us)

    def handle_timeout(self, now_us: int) -> None:
        """The time of `poll_timeout` has come."""
        self.engine.handle_timeout(now_us)

    def poll_command(self) -> Command | None:
        """The next command."""
        return self._commands.popleft() if self._commands else self.engine.poll_command()

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is due."""
        return self.engine.poll_timeout()

    def look(self, now_us: int) -> None:
        """Take what the engine has to say."""
        while (event := self.engine.poll_event()) is not None:
            if isinstance(event, client.NamespaceAccepted) and self.began_us is None:
                self._begin(now_us)
            elif isinstance(event, client.Refused):
                self.log.fail(event.reason)
            else:
                self._roaming.handle(self.engine, event, now_us)

    def newest(self, now_us: int) -> dict[str, int]:
        """The group that is being published now, by track."""
        if self.began_us is None:
            return {}
        began_us, until_us = self.began_us, min(now_us, self.ends_us)
        return {
            track.info.name: max(until_us - began_us, 0) // track.info.frame_us // track.frames_a_group
            for track in self.film.tracks
        }

    def _begin(self, now_us: int) -> None:
        self.began_us = self._handed_us = now_us
        for made in self.film.catalog_objects():
            self._publish(made)
        self._hand_over(now_us)

    def _hand_over(self, now_us: int) -> None:
        """Give the kernel the next stretch of the film."""
        if self.ended or self.began_us is None:
            return
        until_us = min(now_us + 2 * AHEAD_US, self.ends_us)
        while (command := self.engine.poll_command()) is not None:
            self._commands.append(command)
        timed: list[tuple[int, Command]] = []
        for at_us, made in self.film.objects(self.began_us, self._handed_us, until_us):
            self._publish(made)
            while (command := self.engine.poll_command()) is not None:
                timed.append((at_us, command))
        self._handed_us = until_us
        self._twin.world.schedule(self.host, timed)
        if until_us < self.ends_us:
            self._twin.at(now_us + AHEAD_US, self._hand_over, (self.host,))
        else:
            self._twin.at(self.ends_us, self._finish, (self.host,))

    def _publish(self, made: FilmObject) -> None:
        last = made.end_of_group or made.status != STATUS_NORMAL
        self.engine.publish(
            made.track.encode(),
            made.group,
            made.object,
            made.payload,
            properties=made.properties,
            status=made.status,
            end_of_subgroup=last,
            end_of_group=made.end_of_group,
        )

    def _finish(self, now_us: int) -> None:
        self.ended = True
        for name in self.film.priorities:
            self.engine.end_track(name.encode())
        self._twin.at(now_us + LINGER_US, self._close, (self.host,))

    def _close(self, now_us: int) -> None:
        self.log.left_us = now_us
        self.engine.close(now_us, "the film is over")
