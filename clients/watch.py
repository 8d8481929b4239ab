"""Watches a namespace, on trio: measures what arrives, records it if asked."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import trio

from farcast.clients.media.errors import MediaError
from farcast.clients.media.playback import PlaybackReport
from farcast.clients.media.recorder import Recorder
from farcast.clients.media.tracks import Sample, TrackInfo
from farcast.clients.moves import MovesReport
from farcast.clients.roaming import Roaming, connection_to, find_edges
from farcast.clients.running import cannot_connect, running
from farcast.clients.server import CONNECT_SECONDS_MAX, Server, open_runtime
from farcast.clients.tokens import NO_TOKEN, TokenSource
from farcast.clients.viewing import QUALITY_AUTO, QUALITY_BEST, RESUME_MS_MAX, Note, OnFrame, Viewing
from farcast.edge.driver import Driver
from farcast.errors import UserError
from farcast.proto.client import Viewer, ViewerConfig
from farcast.proto.moqt.names import TrackNamespace

LOOK_US_MIN = 20_000
LOOK_US_MAX = 250_000


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What to watch. ``seconds``: end so long after the first frame. ``timeout_s``: wait so long for it."""

    server: Server
    namespace: TrackNamespace
    out: Path | None = None
    seconds: float | None = None
    timeout_s: float = 30.0
    others: tuple[Server, ...] = ()
    """Other edges that serve the same."""
    token: TokenSource = NO_TOKEN
    edge_list: bool = True
    """Follow the edge list that the edge serves."""
    quality: str = QUALITY_AUTO
    """Of several renditions the one that fits, or as `pick_rendition` says; a recording has one rendition, so
    with ``out`` it is the best where nothing else is asked for."""


class Watcher:
    """One viewer at work; `run` does everything, the rest is for looking at it meanwhile."""

    def __init__(self, options: WatchOptions, *, note: Note, on_frame: OnFrame | None = None) -> None:
        self._options = options
        self._note = note
        self._on_frame = on_frame
        self._recording = _Recording(options.out) if options.out is not None else None
        self._viewing: Viewing | None = None
        self._driver: Driver[Viewer] | None = None
        self._started = trio.Event()
        self._finished = trio.Event()

    @property
    def objects_malformed(self) -> int:
        """Objects that held no media that can be read."""
        return 0 if self._viewing is None else self._viewing.objects_malformed

    @property
    def moves(self) -> MovesReport:
        """Its moves from edge to edge so far."""
        return MovesReport() if self._viewing is None else self._viewing.moves.report()

    def report(self, *, is_over: bool = False) -> PlaybackReport | None:
        """The figures so far, None before `run`. When the film ``is_over``, no picture is no stall."""
        if self._viewing is None:
            return None
        return self._viewing.playback.report(None if is_over else _wall_us())

    def stop(self) -> None:
        """End `run` in good order."""
        self._started.set()
        self._finished.set()

    async def run(self) -> PlaybackReport:
        """Watch until the film ends, `stop`, or the options' seconds are over.

        Raises `UserError` if the server cannot be reached, if nobody publishes, or if the recording fails.
        """
        options = self._options
        edges = await find_edges((options.server, *options.others), self._note)
        roaming = Roaming(options.server, edges.target, self._note)
        wait_ms_max = int(options.timeout_s * 1000)
        config = ViewerConfig(
            connection_to(edges, options.token.value),
            options.namespace,
            wait_ms_max,
            follow_edge_list=options.edge_list,
            resume_ms_max=None if self._recording else RESUME_MS_MAX,
        )
        driver = self._driver = Driver(open_runtime(edges.target), Viewer(config))
        now_us = driver.now_us()
        viewing = self._viewing = Viewing(
            now_us,
            clock_offset_us=_wall_us() - now_us,
            note=self._note,
            on_frame=self._on_frame,
            sink=self._recording,
            on_edges=roaming.handle,
            quality=self._quality(),
        )
        driver.on_progress(self._handle_progress)
        try:
            async with running(driver, roaming.run, self._keep_token_fresh, self._keep_looking):
                driver.call(viewing.start)
                await self._watch()
        finally:
            self._close_recording()
        return viewing.playback.report(None if viewing.over else _wall_us())

    async def _keep_token_fresh(self, driver: Driver[Viewer]) -> None:
        await self._options.token.keep_fresh(driver, self._note)

    def _quality(self) -> str:
        asked = self._options.quality
        return QUALITY_BEST if asked == QUALITY_AUTO and self._recording is not None else asked

    async def _keep_looking(self, driver: Driver[Viewer]) -> None:
        """Choosing a rendition takes notice of what does not come."""
        while True:
            due_us = None if self._viewing is None else self._viewing.poll_timeout()
            wait_us = LOOK_US_MAX if due_us is None else due_us - driver.now_us()
            await trio.sleep(min(max(wait_us, LOOK_US_MIN), LOOK_US_MAX) / 1e6)
            if due_us is not None:
                self._handle_progress()

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

    def _handle_progress(self) -> None:
        if self._driver is None or self._viewing is None:
            return
        try:
            self._driver.call(self._viewing.poll)
        except MediaError as error:
            raise UserError(str(error)) from error
        if self._viewing.refusal is not None:
            raise cannot_connect(self._options.server, self._viewing.refusal)
        if self._viewing.failure is not None:
            raise UserError(f"{self._options.server.url}: {self._viewing.failure}")
        if self._viewing.begun:
            self._started.set()
        if self._viewing.over:
            self.stop()

    def _close_recording(self) -> None:
        if self._recording is None:
            return
        try:
            written = self._recording.close()
        except MediaError as error:
            raise UserError(str(error)) from error
        if written is not None:
            self._note(f"{self._options.out}: {written} frames")


class _Recording:
    """Samples on their way into a file, which is made when the first one comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._recorder: Recorder | None = None

    def begin(self, tracks: Sequence[TrackInfo]) -> None:
        self._recorder = Recorder(self._path, tracks)

    def take(self, track: str, samples: Sequence[Sample], config: bytes | None) -> None:
        if self._recorder is None:
            return
        if config is not None:
            self._recorder.configure(track, config)
        for sample in samples:
            self._recorder.handle_sample(track, sample)

    def start_over(self) -> None:
        if self._recorder is not None:
            self._recorder.handle_restart()

    def close(self) -> int | None:
        """Finish the file; the frames in it, None if there is none."""
        return None if self._recorder is None else self._recorder.close().written


def _wall_us() -> int:
    return time.time_ns() // 1000
