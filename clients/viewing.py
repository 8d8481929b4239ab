"""What a viewer makes of a namespace: finds the tracks in its catalog, subscribes them, measures them.

Pure bookkeeping between the `Viewer` engine and an application, for ``farcast watch`` and for the simulator
alike: it reads no clock and writes no file. It is polled after the engine had input, asks the engine for
tracks, and passes on what arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from farcast.clients.film import STATUS_NORMAL
from farcast.clients.media.catalog import CATALOG_TRACKS, parse_catalog
from farcast.clients.media.errors import MediaError
from farcast.clients.media.offer import OfferedTrack
from farcast.clients.media.packaging import config_of, unpack
from farcast.clients.media.playback import Arrival, Playback
from farcast.clients.media.tracks import Kind, Sample, TrackInfo
from farcast.clients.moves import MoveMeter, describe
from farcast.clients.ordering import GroupOrder
from farcast.clients.quality import Begin, QualityChooser, Rendition
from farcast.proto.client import Viewer
from farcast.proto.client import events as client
from farcast.proto.properties import CAPTURE_TIME, MalformedProperties, decode_properties

PRIORITY_CATALOG = 0
PRIORITY: dict[Kind, int] = {"audio": 64, "video": 128}
"""Subscriber priorities."""

RESUME_MS_MAX = 2_000
"""Who only watches goes on with what is on after a longer silence than this, as edges drop what is older for
whom they still reach (``queue_ms_max``); a recording wants all that there still is."""

QUALITY_AUTO = "auto"
QUALITY_BEST = "best"

Note = Callable[[str], None]
"""Takes a remark for the user, one line."""

OnEdges = Callable[[client.EdgeEvent | client.Connected], None]
"""Told what the engine says of its edges."""

OnFrame = Callable[[str, int, int, bytes], None]
"""Told of each media object: track, group, object, payload."""


class SampleSink(Protocol):
    """Takes what there is to see and hear, in order of arrival."""

    def begin(self, tracks: Sequence[TrackInfo]) -> None:
        """These tracks will come; called before the first sample."""

    def take(self, track: str, samples: Sequence[Sample], config: bytes | None) -> None:
        """The samples of one object, and the decoder configuration if it came with them."""

    def start_over(self) -> None:
        """The publisher began anew, and so may its times."""


class Viewing:
    """One viewer's state. ``clock_offset_us`` leads from the engine's clock to that of capture times.
    ``quality``: of several renditions the one that fits (``auto``), or as `pick_rendition` says."""

    def __init__(
        self,
        started_us: int,
        *,
        clock_offset_us: int = 0,
        note: Note,
        on_frame: OnFrame | None = None,
        sink: SampleSink | None = None,
        on_edges: OnEdges | None = None,
        quality: str = QUALITY_AUTO,
    ) -> None:
        self.moves = MoveMeter()
        self.playback = Playback(started_us + clock_offset_us)
        self.objects_malformed = 0
        self.begun = False
        """Whether something to see or hear has come."""
        self.over = False
        """Whether every track has ended."""
        self.refusal: str | None = None
        """Why there will be no connection."""
        self.failure: str | None = None
        """Why there is nothing to watch."""
        self._clock_offset_us = clock_offset_us
        self._note = note
        self._on_frame = on_frame
        self._sink = sink
        self._on_edges = on_edges
        self._tracks: dict[str, OfferedTrack] = {}
        self._orders: dict[str, GroupOrder] = {}
        self._quality = quality
        self._heard: str | None = None
        self._chooser: QualityChooser | None = None
        self._alternatives: set[str] = set()
        self._watched: set[str] = set()
        self._shown_us = -1
        self._skips_until_us = -1
        self._arrived_us = 0
        self._ended: set[str] = set()
        self._failed: set[str] = set()
        self._catalog: str | None = None
        self._noted: set[str] = set()

    def start(self, engine: Viewer, now_us: int) -> None:
        """Ask for the catalogs."""
        _subscribe(engine, now_us, dict.fromkeys(CATALOG_TRACKS, PRIORITY_CATALOG))

    def poll(self, engine: Viewer, now_us: int) -> None:
        """Take what the engine has to say, and ask it for the tracks that a catalog names."""
        while (event := engine.poll_event()) is not None:
            self._handle(event, engine, now_us)
        if self._chooser is not None:
            self._chooser.handle_timeout(now_us)
            self._switch(self._chooser, engine, now_us)

    def poll_timeout(self) -> int | None:
        """When `poll` is due though the engine has nothing to say; ``None`` if it is not."""
        return None if self._chooser is None or self.over else self._chooser.poll_timeout()

    def _edge_event(self, event: client.EdgeEvent | client.Connected, now_us: int) -> None:
        if isinstance(event, client.Connected):
            self._note(f"connected over {event.transport}, draft {event.draft}")
            self.moves.connected(event)
        elif isinstance(event, client.Moved):
            self._note(describe(event))
            self.moves.moved(now_us)
        if self._on_edges is not None:
            self._on_edges(event)

    def _handle(self, event: client.ViewerEvent, engine: Viewer, now_us: int) -> None:
        match event:
            case client.ObjectReceived():
                self._object(event, engine, now_us)
            case client.Connected() | client.Moved() | client.EdgesListed():
                self._edge_event(event, now_us)
            case client.EdgeListRefused() | client.SentTo():
                self._edge_event(event, now_us)
            case client.Waiting(namespace, _, full):
                self._note_once(f"waiting for {namespace.path()}: {full or 'nobody publishes it yet'}")
            case client.TrackReady(track) if track.decode() in self._watched:
                self.playback.handle_joined(now_us + self._clock_offset_us)
            case client.SubgroupEnded(track) if track.decode() in self._watched:
                self._take(track.decode(), self._orders[track.decode()].handle_end(event))
            case client.TrackRestarted(track) if track.decode() in self._watched:
                self._restart(track.decode())
            case client.TrackEnded(track, reason):
                self._end(track.decode(), reason)
            case client.Disconnected(reason):
                self._note_once(f"connection lost: {reason}; trying again")
            case client.Failed(reason, None):
                self.refusal = reason
            case client.Failed(reason, bytes(track)):
                self._fail(track.decode(), reason)
            case _:
                pass

    # ---- The course of tracks -------------------------------------------------------------------------

    def _restart(self, track: str) -> None:
        self._take(track, self._orders[track].flush())
        self._note(f"track {track} starts over")
        self.playback.handle_restart()
        if self._sink is not None and track == self._leading():
            self._sink.start_over()

    def _leading(self) -> str:
        """The track by which others are placed in time: the first with pictures, else the first."""
        watched = {name: track for name, track in self._tracks.items() if name in self._watched}
        pictures = [name for name, track in watched.items() if track.info.kind == "video"]
        return (pictures or list(watched))[0]

    def _end(self, track: str, reason: str) -> None:
        if track not in self._watched:
            return
        self._take(track, self._orders[track].flush())
        self._ended.add(track)
        if self._ended >= self._watched:
            self._note(f"the film is over: {reason}" if reason else "the film is over")
            self.over = True

    def _fail(self, track: str, reason: str) -> None:
        """A track will not come: fatal if it was the last catalog or the last media track."""
        self._failed.add(track)
        if self._catalog is None and self._failed >= set(CATALOG_TRACKS):
            self.failure = reason
        if track in self._watched:
            self._note(reason)
            self._end(track, reason)

    # ---- Objects ----------------------------------------------------------------------------------------

    def _object(self, event: client.ObjectReceived, engine: Viewer, now_us: int) -> None:
        track = event.track.decode()
        if event.status != STATUS_NORMAL:
            self._mark(track, event)
            return
        self._arrived_us = max(self._arrived_us, event.complete_us)
        if track in CATALOG_TRACKS:
            self._catalog_object(track, event.payload, engine, now_us)
        elif track in self._watched:
            self.moves.arrived(track, event.complete_us)
            self._take(track, self._orders[track].handle_object(event))

    def _mark(self, track: str, event: client.ObjectReceived) -> None:
        """An object without media; of a track with layers it says how many frames the group has."""
        if track in self._watched and self._tracks[track].info.layers > 1:
            self._take(track, self._orders[track].handle_object(event))

    def _catalog_object(self, name: str, payload: bytes, engine: Viewer, now_us: int) -> None:
        """Take the first catalog that offers something, and its later versions."""
        if self._catalog not in (None, name):
            return
        try:
            offer = parse_catalog(name, payload)
        except MediaError as error:
            self._note_once(f"{name} cannot be used: {error}")
            return
        for reason in offer.ignored:
            self._note_once(reason)
        new = {track.info.name: track for track in offer.tracks if track.info.name not in self._tracks}
        if not new:
            return
        self._catalog = name
        self._tracks.update(new)
        kinds = ", ".join(f"{track.info.name} ({track.info.codec})" for track in new.values())
        self._note(f"tracks in {name}: {kinds}")
        alternatives = self._choose(new, now_us)
        for track in new.values():
            if track.info.name not in alternatives:
                self._watch(track.info.name, engine, now_us, PRIORITY[track.info.kind])
        if self._chooser is not None:
            self._switch(self._chooser, engine, now_us)
        for other in CATALOG_TRACKS:
            if other != name:
                engine.unsubscribe(other.encode())

    # ---- Renditions --------------------------------------------------------------------------------------

    def _choose(self, new: dict[str, OfferedTrack], now_us: int) -> set[str]:
        """Of new tracks those that are not watched, or only if the chooser says so."""
        pictures = {name: track for name, track in new.items() if track.info.alt_group is not None}
        if len(pictures) < 2 or self._chooser is not None:
            return set()
        if self._quality != QUALITY_AUTO:
            wanted = pick_rendition([track.info for track in pictures.values()], self._quality)
            return pictures.keys() - {wanted.name}
        sounds = [track.info.bitrate or 0 for track in new.values() if track.info.kind == "audio"]
        renditions = [
            Rendition(name, track.info.bitrate or 0, track.info.layers) for name, track in pictures.items()
        ]
        self._chooser = QualityChooser(renditions, sum(sounds), now_us)
        self._alternatives = set(pictures)
        return set(pictures)

    def _watch(
        self, track: str, engine: Viewer, now_us: int, priority: int, *, next_group: bool = False
    ) -> None:
        self._watched.add(track)
        self._orders[track] = GroupOrder(self._tracks[track].info.layers)
        engine.subscribe(track.encode(), now_us, priority=priority, next_group=next_group)

    def _switch(self, chooser: QualityChooser, engine: Viewer, now_us: int) -> None:
        """Do what the chooser says."""
        while (action := chooser.poll_action()) is not None:
            if isinstance(action, Begin):
                self._watch(action.name, engine, now_us, action.priority, next_group=action.next_group)
            else:
                self._watched.discard(action.name)
                engine.unsubscribe(action.name.encode())

    def _is_to_be_shown(self, info: TrackInfo, event: client.ObjectReceived, first: Sample) -> bool:
        """Tell the chooser of an object; whether it is of the rendition that is watched, and not one that was
        shown in another one."""
        chooser = self._chooser
        if chooser is None:
            return True
        pts_us, before = info.to_us(first.pts), chooser.current
        if info.kind == "audio":
            self._heard = self._heard or info.name
            if info.name == self._heard:
                chooser.handle_sound(pts_us, event.complete_us, len(event.payload))
            return True
        if info.name not in self._alternatives:
            return True
        chooser.handle_picture(info.name, pts_us, event.complete_us, len(event.payload))
        if chooser.current != before:
            self._skips_until_us = self._shown_us
            self.playback.handle_switch(info.name)
            self._note(f"now in {info.name}")
        if info.name != chooser.current or pts_us <= self._skips_until_us:
            return False
        self._shown_us = max(self._shown_us, pts_us)
        return True

    def _take(self, track: str, objects: Iterable[client.ObjectReceived]) -> None:
        """Use objects that have their turn now."""
        for received in objects:
            self._media_object(self._tracks[track], received)

    def _media_object(self, track: OfferedTrack, event: client.ObjectReceived) -> None:
        name = track.info.name
        try:
            pairs = decode_properties(event.properties)
            properties: dict[int, Any] = {pair.type: pair.value for pair in pairs}
            samples = unpack(track, event.payload, properties, event.object)
        except (MediaError, MalformedProperties) as error:
            self.objects_malformed += 1
            self._note_once(f"track {name}: an object cannot be read: {error}")
            return
        if self._on_frame is not None:
            self._on_frame(name, event.group, event.object, event.payload)
        if not samples or not self._is_to_be_shown(track.info, event, samples[0]):
            return
        self._measure(track.info, event, samples, properties.get(CAPTURE_TIME))
        if self._sink is not None:
            if not self.begun:
                self._sink.begin([offered.info for offered in self._tracks.values()])
            self._sink.take(name, samples, config_of(properties))
        self.begun = True

    def _measure(
        self, info: TrackInfo, event: client.ObjectReceived, samples: list[Sample], captured_us: int | None
    ) -> None:
        first = samples[0]
        self.playback.handle_arrival(
            Arrival(
                track=info.name,
                kind=info.kind,
                group=event.group,
                object_id=event.object,
                pts_us=info.to_us(first.pts),
                duration_us=sum(info.to_us(sample.duration) for sample in samples),
                keyframe=first.keyframe,
                size_bytes=len(event.payload),
                arrival_us=self._arrived_us + self._clock_offset_us,
                capture_time_us=captured_us,
            )
        )

    def _note_once(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._note(text)


def pick_rendition(renditions: Sequence[TrackInfo], quality: str) -> TrackInfo:
    """The rendition that is called so: ``best``, a track's name, or lines (``360p``: the best of up to so
    many, or the lowest)."""
    ladder = sorted(renditions, key=lambda info: (info.height or 0, info.bitrate or 0))
    named = [info for info in ladder if info.name == quality]
    if named or quality == QUALITY_BEST:
        return (named or ladder)[-1]
    lines = int(quality[:-1]) if re.fullmatch(r"\d{1,5}p", quality) else 0
    return ([info for info in ladder if (info.height or 0) <= lines] or ladder[:1])[-1]


def _subscribe(engine: Viewer, now_us: int, priorities: dict[str, int]) -> None:
    for name, priority in priorities.items():
        engine.subscribe(name.encode(), now_us, priority=priority)
