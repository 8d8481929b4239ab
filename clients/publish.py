"""Publishes a source of frames in real time, on trio; reading and encoding happen on a thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from farcast.clients.film import STATUS_NORMAL, Film, FilmObject, hand_over
from farcast.clients.media.errors import MediaError
from farcast.clients.media.layers import in_layers
from farcast.clients.media.offer import PublishedPackaging
from farcast.clients.media.source import Source
from farcast.clients.moves import MoveMeter, describe
from farcast.clients.roaming import Roaming, connection_to, find_edges
from farcast.clients.running import cannot_connect, running
from farcast.clients.server import Server, open_runtime
from farcast.clients.tokens import NO_TOKEN, TokenSource
from farcast.clients.uplink import LAG_US_MAX, SAMPLE_US, UplinkShare
from farcast.clients.viewing import Note, OnEdges, OnFrame
from farcast.edge.driver import Driver, DriverClosed
from farcast.errors import UserError
from farcast.proto.client import Publisher, PublisherConfig
from farcast.proto.client import events as client
from farcast.proto.moqt.names import TrackNamespace

LATE_SECONDS_MAX = 0.25
"""A source that falls behind by more is not caught up with: its later frames keep their distances."""

FINISH_SECONDS_MAX = 5.0
"""How long subscribers may take for what was published last."""

LINGER_SECONDS_MIN = 0.5
LINGER_RTTS = 4
"""How long the connection stays when everything is sent: an acknowledgement and two repairs."""

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """What to publish where. ``seconds``: end after so much of the source."""

    server: Server
    namespace: TrackNamespace
    packaging: PublishedPackaging = "cmaf"
    seconds: float | None = None
    others: tuple[Server, ...] = ()
    """Other edges to publish at, if this one goes."""
    token: TokenSource = NO_TOKEN
    edge_list: bool = True
    """Follow the edge list that the edge serves."""
    layers: bool = False
    """Put frames that no other refers to into subgroups of their own, so that edges can leave them out."""
    adapt: bool = True
    """Let the pictures' rate follow what the uplink carries, where they are encoded here."""


@dataclass(slots=True)
class PublishReport:
    """What was published. ``behind_s``: how much the source fell behind real time in all."""

    frames: int = 0
    bytes: int = 0
    seconds: float = 0.0
    behind_s: float = 0.0
    subscriptions: int = 0
    moves: int = 0
    """From one edge to another."""
    edges: tuple[str, ...] = ()
    """Those used, in order of first use."""
    rate_share: float = 1.0
    rate_share_min: float = 1.0
    """Part of the pictures' rate that the uplink carried at the end, and at its worst."""


async def publish(
    source: Source,
    options: PublishOptions,
    *,
    note: Note,
    on_frame: OnFrame | None = None,
    accepted: trio.Event | None = None,
    playing: trio.CancelScope | None = None,
) -> PublishReport:
    """Publish the source to its end; ``accepted`` is set when the film begins.

    Cancelling ``playing`` ends the film early but in good order, tracks ended and delivered.

    Raises `UserError` if the server cannot be reached or refuses, `MediaError` if the source breaks off.
    """
    edges = await find_edges((options.server, *options.others), note)
    roaming = Roaming(options.server, edges.target, note)
    tracks = [in_layers(track) for track in source.tracks] if options.layers else source.tracks
    film = Film(tracks, options.packaging)
    connection = connection_to(edges, options.token.value)
    config = PublisherConfig(connection, options.namespace, follow_edge_list=options.edge_list)
    driver = Driver(open_runtime(edges.target), Publisher(config))
    publishing = _Publishing(driver, film, options, note, on_frame, roaming.handle)
    if accepted is not None:
        publishing.accepted = accepted
    driver.on_progress(publishing.handle_progress)
    background = [roaming.run, lambda _: options.token.keep_fresh(driver, note)]
    if options.adapt:
        background.append(lambda _: publishing.follow_uplink(source))
    async with running(driver, *background):
        with playing or trio.CancelScope():
            await publishing.accepted.wait()
            await publishing.play(source)
        await publishing.finish()
    return publishing.report


class _Publishing:
    def __init__(
        self,
        driver: Driver[Publisher],
        film: Film,
        options: PublishOptions,
        note: Note,
        on_frame: OnFrame | None,
        on_edges: OnEdges,
    ) -> None:
        self.report = PublishReport()
        self.accepted = trio.Event()
        self._driver = driver
        self._film = film
        self._options = options
        self._note = note
        self._on_frame = on_frame
        self._on_edges = on_edges
        self._moves = MoveMeter()
        self._refusal = ""
        self._pictures: set[str] = set()
        self._picture_bytes = 0
        self._open_subscriptions = 0
        self._no_subscribers = trio.Event()
        for name, priority in film.priorities.items():
            properties = film.properties.get(name, ())
            driver.engine.add_track(name.encode(), priority=priority, properties=properties)

    def handle_progress(self) -> None:
        """Take what the engine has to say."""
        while (event := self._driver.engine.poll_event()) is not None:
            match event:
                case client.Connected() | client.Moved() | client.EdgesListed():
                    self._edge_event(event)
                case client.EdgeListRefused() | client.SentTo():
                    self._edge_event(event)
                case client.NamespaceAccepted(namespace) if not self.accepted.is_set():
                    self._note(f"publishing {namespace.path()}: {', '.join(self._film.priorities)}")
                    self._refusal = ""
                    self.accepted.set()
                case client.Subscribed():
                    self.report.subscriptions += 1
                    self._open_subscriptions += 1
                case client.Unsubscribed():
                    self._open_subscriptions -= 1
                case client.Disconnected(reason) if self.accepted.is_set():
                    self._note(f"connection lost: {reason}; trying again")
                case client.Refused(reason, final):
                    if final:
                        raise cannot_connect(self._options.server, reason)
                    if reason != self._refusal:
                        self._note(f"{reason}; trying again")
                    self._refusal = reason
                case _:
                    pass
        if not self._open_subscriptions:
            self._no_subscribers.set()

    def _edge_event(self, event: client.EdgeEvent | client.Connected) -> None:
        if isinstance(event, client.Connected):
            self._note(f"connected over {event.transport}, draft {event.draft}")
            self._moves.connected(event)
        elif isinstance(event, client.Moved):
            self._note(describe(event))
            self._moves.moved(self._driver.now_us())
        moves = self._moves.report()
        self.report.moves, self.report.edges = moves.moves, moves.edges
        self._on_edges(event)

    async def play(self, source: Source) -> None:
        """Publish every frame when it is due."""
        self._pictures = {track.name for track in source.tracks if track.kind == "video"}
        self._publish(self._film.catalog_objects())
        start = trio.current_time()
        while (due_us := await _in_thread(source.next_time_us)) is not None:
            if self._options.seconds is not None and due_us >= self._options.seconds * 1e6:
                return
            late = trio.current_time() - start - due_us / 1e6
            if late > LATE_SECONDS_MAX:
                start += late
                self.report.behind_s += late
            await trio.sleep_until(start + due_us / 1e6)
            frame = await _in_thread(lambda: next(source, None))
            if frame is None:
                return
            objects = self._film.objects(frame, time.time_ns() // 1000)
            self._publish(objects)
            self._count(objects)
            self._picture_bytes += len(frame.data) * (frame.track in self._pictures)
            self.report.seconds = due_us / 1e6

    async def follow_uplink(self, source: Source) -> None:
        """Have pictures encoded at what the uplink carries, see `farcast.clients.uplink`; where nothing is
        encoded, say that it carries too little."""
        uplink = UplinkShare(source.encoded_bps or 1, self._driver.now_us())
        while True:
            await trio.sleep(SAMPLE_US / 1e6)
            try:
                downstreams = (await self._driver.snapshot())["downstreams"]
            except DriverClosed:
                return
            idle = self._driver.engine.idle_downstreams
            waiting = sum(each["queue_bytes"] for each in downstreams if each["downstream"] not in idle)
            left = sum(each["bytes"] for each in downstreams)
            before = uplink.share
            uplink.handle_sample(self._driver.now_us(), waiting, left, self._picture_bytes)
            if uplink.share == before:
                continue
            if not source.encoded_bps:
                self._note("the uplink carries less than this film; --transcode would let its rate follow")
                return
            source.set_rate_share(uplink.share)
            self.report.rate_share, self.report.rate_share_min = uplink.share, uplink.share_min
            narrow = f"pictures waited more than {LAG_US_MAX // 1000} ms for the uplink"
            reason = narrow if uplink.share < before else "the uplink keeps up"
            self._note(f"{reason}: they are encoded at {uplink.share:.0%} of their rate")

    async def finish(self) -> None:
        """End all tracks, and let subscribers take what was published last."""
        self._no_subscribers = trio.Event()
        self._publish(self._film.last_objects())

        def end(engine: Publisher, now_us: int) -> None:
            for name in self._film.priorities:
                engine.end_track(name.encode())

        self._driver.call(end)
        if self._open_subscriptions:
            with trio.move_on_after(FINISH_SECONDS_MAX):
                await self._no_subscribers.wait()
                await self._linger()

    async def _linger(self) -> None:
        """Leave QUIC time to repair what was sent last: closing a connection ends that."""
        sessions = (await self._driver.snapshot())["sessions"]
        rtt_us = max((session["rtt_us"] for session in sessions), default=0)
        await trio.sleep(LINGER_SECONDS_MIN + LINGER_RTTS * rtt_us / 1e6)

    def _publish(self, objects: list[FilmObject]) -> None:
        self._driver.call(lambda engine, now_us: hand_over(engine, objects))

    def _count(self, objects: list[FilmObject]) -> None:
        for made in objects:
            if made.status != STATUS_NORMAL:
                continue
            self.report.frames += 1
            self.report.bytes += len(made.payload)
            if self._on_frame is not None:
                self._on_frame(made.track, made.group, made.object, made.payload)


async def _in_thread(call: Callable[[], R]) -> R:
    """Read or encode on a thread; a `MediaError` becomes the user's."""
    try:
        return await trio.to_thread.run_sync(call, abandon_on_cancel=True)
    except MediaError as error:
        raise UserError(str(error)) from error
