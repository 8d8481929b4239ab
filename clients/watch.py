"""Watches a namespace: finds the tracks in its catalog, measures what arrives, records it if asked."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from farcast.clients.film import STATUS_NORMAL
from farcast.clients.media.catalog import CATALOG_TRACKS, parse_catalog
from farcast.clients.media.errors import MediaError
from farcast.clients.media.offer import OfferedTrack
from farcast.clients.media.packaging import config_of, unpack
from farcast.clients.media.playback import Arrival, Playback, PlaybackReport
from farcast.clients.media.recorder import Recorder
from farcast.clients.media.tracks import Sample, TrackInfo
from farcast.clients.running import Note, cannot_connect, running
from farcast.clients.server import CONNECT_SECONDS_MAX, Server, open_runtime
from farcast.edge.driver import Driver
from farcast.errors import UserError
from farcast.proto.client import ConnectionConfig, Viewer, ViewerConfig
from farcast.proto.client import events as client
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.properties import CAPTURE_TIME, MalformedProperties, decode_properties

OnFrame = Callable[[str, int, int, bytes], None]
"""Told of each media object: track, group, object, payload."""

PRIORITY_CATALOG = 0
PRIORITY = {"audio": 64, "video": 128}
"""Subscriber priorities."""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What to watch. ``seconds``: end so long after the first frame. ``timeout_s``: wait so long for it."""

    server: Server
    namespace: TrackNamespace
    out: Path | None = None
    seconds: float | None = None
    timeout_s: float = 30.0


class Watcher:
    """One viewer at work; `run` does everything, the rest is for looking at it meanwhile."""

    def __init__(self, options: WatchOptions, *, note: Note, on_frame: OnFrame | None = None) -> None:
        self.objects_malformed = 0
        self._options = options
        self._note = note
        self._on_frame = on_frame
        self._playback: Playback | None = None
        self._recorder: Recorder | None = None
        self._tracks: dict[str, OfferedTrack] = {}
        self._ended: set[str] = set()
        self._failed: dict[str, str] = {}
        self._catalog: str | None = None
        self._noted: set[str] = set()
        self._started = trio.Event()
        self._finished = trio.Event()
        self._clock_offset_us = 0
        self._driver: Driver[Viewer] | None = None

    def report(self, *, is_over: bool = False) -> PlaybackReport | None:
        """The figures so far, None before `run`. When the film ``is_over``, no picture is no stall."""
        return None if self._playback is None else self._playback.report(None if is_over else _wall_us())

    def stop(self) -> None:
        """End `run` in good order."""
        self._started.set()
        self._finished.set()

    async def run(self) -> PlaybackReport:
        """Watch until the film ends, `stop`, or the options' seconds are over.

        Raises `UserError` if the server cannot be reached, if nobody publishes, or if the recording fails.
        """
        target = await self._options.server.target()
        connect_ms_max = int(CONNECT_SECONDS_MAX * 1000)
        connection = ConnectionConfig(target, seed=secrets.randbits(63), connect_ms_max=connect_ms_max)
        wait_ms_max = int(self._options.timeout_s * 1000)
        config = ViewerConfig(connection, self._options.namespace, wait_ms_max)
        self._playback = Playback(_wall_us())
        self._driver = Driver(open_runtime(target), Viewer(config))
        self._clock_offset_us = _wall_us() - self._driver.now_us()
        self._driver.on_progress(self._handle_progress)
        try:
            async with running(self._driver):
                self._driver.call(_subscribe, dict.fromkeys(CATALOG_TRACKS, PRIORITY_CATALOG))
                await self._watch()
        finally:
            self._close_recorder()
        return self._playback.report(_wall_us() if not self._ended else None)

    async def _watch(self) -> None:
        with trio.move_on_after(self._options.timeout_s + CONNECT_SECONDS_MAX) as waiting:
            await self._started.wait()
        if waiting.cancelled_caught:
            raise UserError(
                f"{self._options.namespace.path()} is published, but nothing of it came within "
                f"{self._options.timeout_s:g} s"
            )
        with trio.move_on_after(self._options.seconds or float("inf")):
            await self._finished.wait()

    # ---- What the engine has to say ---------------------------------------------------------------

    def _handle_progress(self) -> None:
        if self._driver is None:
            return
        while (event := self._driver.engine.poll_event()) is not None:
            self._handle(event)

    def _handle(self, event: client.ViewerEvent) -> None:
        match event:
            case client.ObjectReceived():
                self._object(event)
            case client.Connected(transport, draft):
                self._note(f"connected over {transport}, draft {draft}")
            case client.Waiting(namespace):
                self._note_once(f"waiting for {namespace.path()}: nobody publishes it yet")
            case client.TrackReady(track):
                self._ready(track.decode())
            case client.TrackRestarted(track) if track.decode() in self._tracks:
                self._note(f"track {track.decode()} starts over")
                self._playing.handle_restart()
            case client.TrackEnded(track, reason):
                self._end(track.decode(), reason)
            case client.Disconnected(reason):
                self._note_once(f"connection lost: {reason}; trying again")
            case client.Failed(reason, None):
                raise cannot_connect(self._options.server, reason)
            case client.Failed(reason, bytes(track)):
                self._fail(track.decode(), reason)
            case _:
                pass

    @property
    def _playing(self) -> Playback:
        assert self._playback is not None
        return self._playback

    def _ready(self, track: str) -> None:
        if track in self._tracks:
            self._playing.handle_joined(_wall_us())

    def _end(self, track: str, reason: str) -> None:
        if track not in self._tracks:
            return
        self._ended.add(track)
        if self._ended >= self._tracks.keys():
            self._note(f"the film is over: {reason}" if reason else "the film is over")
            self.stop()

    def _fail(self, track: str, reason: str) -> None:
        """A track will not come: fatal if it was the last catalog or the last media track."""
        self._failed[track] = reason
        if self._catalog is None and self._failed.keys() >= set(CATALOG_TRACKS):
            raise UserError(f"{self._options.server.url}: {reason}")
        if track in self._tracks:
            self._note(reason)
            self._end(track, reason)

    # ---- Catalog ------------------------------------------------------------------------------------

    def _object(self, event: client.ObjectReceived) -> None:
        track = event.track.decode()
        if event.status != STATUS_NORMAL:
            return
        if track in CATALOG_TRACKS:
            self._catalog_object(track, event.payload)
        elif track in self._tracks:
            self._media_object(self._tracks[track], event)

    def _catalog_object(self, name: str, payload: bytes) -> None:
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
        priorities = {name: PRIORITY[track.info.kind] for name, track in new.items()}
        others = [other for other in CATALOG_TRACKS if other != name]

        def take(engine: Viewer, now_us: int) -> None:
            _subscribe(engine, now_us, priorities)
            for other in others:
                engine.unsubscribe(other.encode())

        if self._driver is not None:
            self._driver.call(take)

    # ---- Media ------------------------------------------------------------------------------------------

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
        if not samples:
            return
        self._started.set()
        self._measure(track.info, event, samples, properties.get(CAPTURE_TIME))
        self._record(name, samples, config_of(properties))

    def _measure(
        self, info: TrackInfo, event: client.ObjectReceived, samples: list[Sample], captured_us: int | None
    ) -> None:
        first = samples[0]
        self._playing.handle_arrival(
            Arrival(
                track=info.name,
                kind=info.kind,
                group=event.group,
                object_id=event.object,
                pts_us=info.to_us(first.pts),
                duration_us=sum(info.to_us(sample.duration) for sample in samples),
                keyframe=first.keyframe,
                size_bytes=len(event.payload),
                arrival_us=event.complete_us + self._clock_offset_us,
                capture_time_us=captured_us,
            )
        )

    def _record(self, name: str, samples: list[Sample], config: bytes | None) -> None:
        if self._options.out is None:
            return
        try:
            if self._recorder is None:
                self._recorder = Recorder(self._options.out, [track.info for track in self._tracks.values()])
            if config is not None:
                self._recorder.configure(name, config)
            for sample in samples:
                self._recorder.handle_sample(name, sample)
        except MediaError as error:
            raise UserError(str(error)) from error

    def _close_recorder(self) -> None:
        if self._recorder is None:
            return
        try:
            stats = self._recorder.close()
        except MediaError as error:
            raise UserError(str(error)) from error
        self._note(f"{self._options.out}: {stats.written} frames")

    def _note_once(self, text: str) -> None:
        if text not in self._noted:
            self._noted.add(text)
            self._note(text)


def _subscribe(engine: Viewer, now_us: int, priorities: dict[str, int]) -> None:
    for name, priority in priorities.items():
        engine.subscribe(name.encode(), now_us, priority=priority)


def _wall_us() -> int:
    return time.time_ns() // 1000
