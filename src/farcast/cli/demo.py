"""The film of ``farcast dev --demo``: published in Jakarta, watched on three continents, compared by frame;
then a link that carries it is cut."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import trio
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from farcast.cli.cluster import Cluster
from farcast.cli.control_api import ControlApi, control_api
from farcast.cli.demo_routes import Told, film_way, read_told, status_of
from farcast.cli.dev_world import EGRESSES, ORIGIN
from farcast.cli.output import notes
from farcast.clients.ledger import FrameLedger
from farcast.clients.media.playback import PlaybackReport
from farcast.clients.media.testsrc import TestSource, TestSourceOptions
from farcast.clients.publish import PublishOptions, publish
from farcast.clients.server import Server
from farcast.clients.watch import Watcher, WatchOptions
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.urls import ServerUrl, split_host_port
from farcast.remote import Trust

REFRESH_SECONDS = 0.5
PLAIN_REFRESH_SECONDS = 5.0
"""Where stderr is no terminal, a line so often."""

ROUTES_SECONDS_MAX = 30.0
"""Routes have settled by then, or are shown as they are."""

SETTLED_SECONDS = 3.0
"""Routes have settled when they stayed the same for so long, with all links measured."""

HOPS_SECONDS = 3.0
"""How often edges are asked what their hops have repaired."""

GAP_SECONDS = 3.0
"""How long after a cut the viewers' stall is looked for."""


@dataclass(slots=True)
class Seat:
    """One viewer of the demo. ``arrivals``: when the last pictures came, seconds of a monotonic clock."""

    node_id: str
    ledger: FrameLedger = field(default_factory=FrameLedger)
    watcher: Watcher | None = None
    report: PlaybackReport | None = None
    last_picture: float = 0.0
    longest_gap: float = 0.0

    def gap_until(self, now: float) -> float:
        """The longest time without a picture, one that has not ended included; seconds."""
        return max(self.longest_gap, now - self.last_picture) if self.last_picture else self.longest_gap

    def received(self, track: str, group: int, object: int, payload: bytes) -> None:
        """A frame arrived."""
        self.ledger.received(track, group, object, payload)
        if track == "video":
            now = time.monotonic()
            if self.last_picture:
                self.longest_gap = max(self.longest_gap, now - self.last_picture)
            self.last_picture = now


@dataclass(slots=True)
class Cut:
    """One link that was cut: its ends, and how long each viewer's longest gap was then."""

    link: tuple[str, str]
    gap_ms: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HopFigures:
    """All hops together: chunks of media sent for the first time, and sent again."""

    chunks_sent: int = 0
    chunks_repaired: int = 0


@dataclass(slots=True)
class Demo:
    """The demo's state and figures. ``cut_after_s``: when to cut a link, counted from the first picture."""

    cluster: Cluster
    namespace: TrackNamespace
    cut_after_s: float
    seats: list[Seat] = field(default_factory=lambda: [Seat(node_id) for node_id in EGRESSES])
    cuts: list[Cut] = field(default_factory=list)
    told: Told = field(default_factory=Told)
    hops: HopFigures = field(default_factory=HopFigures)
    _playing: trio.CancelScope = field(default_factory=trio.CancelScope)
    _is_over: bool = False
    _is_nothing_cut: bool = False
    """The time for it had come, and no film came to the viewer."""

    @property
    def has_passed(self) -> bool:
        """Whether it showed what it is for: a cut, if it lasted so long, and all frames in spite of it."""
        return self.is_intact and not self._is_nothing_cut

    @property
    def is_intact(self) -> bool:
        """Whether every viewer got every frame once, in order, unchanged."""
        return all(seat.ledger.is_intact for seat in self.seats)

    def stop(self) -> None:
        """End the film in good order: what was published still arrives."""
        self._is_over = True
        self._playing.cancel()

    async def run(self, seconds: float | None) -> None:
        """Publish and watch until `stop` or for so long; returns when the last frame had its chance."""
        accepted = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._play, seconds, accepted)
            await accepted.wait()
            nursery.start_soon(self._show)
            nursery.start_soon(self._tell_and_cut)
            nursery.start_soon(self._count_hops)
            async with trio.open_nursery() as watching:
                for seat in self.seats:
                    watching.start_soon(self._watch, seat)
            nursery.cancel_scope.cancel()

    def figures(self) -> dict[str, Any]:
        """The result for programs."""
        return {
            "passed": self.has_passed,
            "viewers": {seat.node_id: _seat_figures(seat) for seat in self.seats},
            "hop_chunks_sent": self.hops.chunks_sent,
            "hop_chunks_repaired": self.hops.chunks_repaired,
            "routes": {route["node_id"]: route["path"] for route in self.told.routes},
            "cuts": [{"link": list(cut.link), "gap_ms": cut.gap_ms} for cut in self.cuts],
        }

    # ---- The film -----------------------------------------------------------------------------------

    async def _play(self, seconds: float | None, accepted: trio.Event) -> None:
        def published(track: str, group: int, object: int, payload: bytes) -> None:
            for seat in self.seats:
                seat.ledger.published(track, group, object, payload)

        source = TestSource(TestSourceOptions(), _wall_us)
        options = PublishOptions(self._server(ORIGIN), self.namespace, seconds=seconds, edge_list=False)
        await publish(
            source, options, note=_quiet, on_frame=published, accepted=accepted, playing=self._playing
        )
        self._is_over = True

    async def _watch(self, seat: Seat) -> None:
        options = WatchOptions(self._server(seat.node_id), self.namespace, edge_list=False)
        seat.watcher = Watcher(options, note=_quiet, on_frame=seat.received)
        seat.report = await seat.watcher.run()

    def _server(self, node_id: str) -> Server:
        host, port = split_host_port(self.cluster.listen(node_id))
        trust = Trust(fingerprints=(bytes.fromhex(self.cluster.cert_sha256(node_id)),))
        return Server(ServerUrl("quic", host, port, ""), trust)

    # ---- Routes, and the cut ------------------------------------------------------------------------

    async def _tell_and_cut(self) -> None:
        api = control_api(self.cluster.state_dir, None, None)
        await self._await_routes(api)
        seat = self.seats[0]
        self.told = await trio.to_thread.run_sync(read_told, api.get, ORIGIN, seat.node_id, EGRESSES)
        for line in self.told.lines():
            notes().print(line, highlight=False)
        await trio.sleep(self.cut_after_s)
        await self._cut(seat)

    async def _await_routes(self, api: ControlApi) -> None:
        """Until the routes to the viewers' edges have settled."""
        links_wanted = len(self.cluster.links.normal)
        routes: list[dict[str, Any]] = []
        same_since = trio.current_time()
        with trio.move_on_after(ROUTES_SECONDS_MAX):
            while trio.current_time() < same_since + SETTLED_SECONDS:
                await trio.sleep(REFRESH_SECONDS)
                links = (await trio.to_thread.run_sync(api.get, "/links"))["links"]
                answer = await trio.to_thread.run_sync(lambda: api.get("/routes", origin=ORIGIN))
                found = [route for route in answer["routes"] if route["node_id"] in EGRESSES]
                whole = len(links) == links_wanted and all(route["backups"] for route in found)
                if not whole or _ways(found) != _ways(routes) or len(found) < len(EGRESSES):
                    routes, same_since = found, trio.current_time()

    async def _cut(self, seat: Seat) -> None:
        """Cut the link that brings the film to a viewer's edge now, and mend it when all have gone on."""
        ops = self.cluster.edges[seat.node_id].ready["ops"]
        way = film_way(await trio.to_thread.run_sync(status_of, ops), seat.node_id)
        if len(way) < 2:
            self._is_nothing_cut = True
            notes().print(f"cut     none: no film comes to {seat.node_id} now", highlight=False)
            return
        cut = Cut((way[-2], way[-1]))
        notes().print(f"cut     {cut.link[0]} - {cut.link[1]}", highlight=False, style="bold")
        for each in self.seats:
            each.longest_gap = 0.0
        self.cluster.links.cut(*cut.link)
        await trio.sleep(GAP_SECONDS)
        now = time.monotonic()
        cut.gap_ms = {each.node_id: round(1000 * each.gap_until(now)) for each in self.seats}
        self.cuts.append(cut)
        told = ", ".join(f"{node_id} {gap_ms} ms" for node_id, gap_ms in cut.gap_ms.items())
        notes().print(f"longest time without a picture: {told}", highlight=False)
        self.cluster.links.mend(*cut.link)

    async def _count_hops(self) -> None:
        ops = [edge.ready["ops"] for edge in self.cluster.edges.values()]
        while True:
            await trio.sleep(HOPS_SECONDS)
            counted = [await trio.to_thread.run_sync(_hops_of, address) for address in ops]
            if None not in counted:
                found = [figures for figures in counted if figures is not None]
                sent, repaired = (sum(f.chunks_sent for f in found), sum(f.chunks_repaired for f in found))
                self.hops = HopFigures(sent, repaired)

    # ---- Live display -------------------------------------------------------------------------------

    async def _show(self) -> None:
        console = notes()
        if not console.is_terminal:
            while True:
                await trio.sleep(PLAIN_REFRESH_SECONDS)
                rows = [*(" ".join(row) for row in self._rows()), self._hops_text()]
                console.print("  ".join(rows), highlight=False)
        with Live(console=console, auto_refresh=False) as live:
            while True:
                live.update(self._picture(), refresh=True)
                await trio.sleep(REFRESH_SECONDS)

    def _picture(self) -> Group:
        table = Table(
            "watched in", "glass to glass", "frames", "stalls", "bit rate", box=None, pad_edge=False
        )
        for row in self._rows():
            table.add_row(*row)
        return Group(table, Text(self._hops_text()), Text("Ctrl-C ends it", style="dim"))

    def _hops_text(self) -> str:
        return f"hops {self.hops.chunks_sent} chunks, {self.hops.chunks_repaired} repaired"

    def _rows(self) -> list[tuple[str, ...]]:
        return [_seat_row(seat, is_over=self._is_over) for seat in self.seats]


def _hops_of(ops: str) -> HopFigures | None:
    """Of one edge, by its ops listener; ``None`` if it does not answer now."""
    status = status_of(ops)
    if status is None:
        return None
    hops = [session["hop"] for session in status["datapath"]["sessions"] if session["hop"] is not None]
    return HopFigures(sum(hop["chunks_sent"] for hop in hops), sum(hop["chunks_repaired"] for hop in hops))


def _ways(routes: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {route["node_id"]: route["path"] for route in routes}


def _seat_row(seat: Seat, *, is_over: bool) -> tuple[str, ...]:
    report = seat.watcher.report(is_over=is_over) if seat.watcher is not None else None
    if report is None or report.video_latency_ms.p50 is None:
        return seat.node_id, "waiting for the first picture", "", "", ""
    latency, ledger = report.video_latency_ms, seat.ledger
    wrong = ledger.frames_corrupt + ledger.frames_repeated + ledger.frames_disordered
    return (
        seat.node_id,
        f"p50 {latency.p50:.0f} ms, p99 {latency.p99:.0f} ms",
        f"{ledger.frames_intact} intact, {ledger.frames_missing} on their way, {wrong} wrong",
        f"{report.stalls}, {report.stalled_s:.2f} s",
        f"{(report.bitrate or 0) / 1e6:.2f} Mbit/s",
    )


def _seat_figures(seat: Seat) -> dict[str, Any]:
    ledger, report = seat.ledger, seat.report
    return {
        "frames": ledger.frames_intact,
        "frames_missing": ledger.frames_missing,
        "frames_corrupt": ledger.frames_corrupt,
        "frames_repeated": ledger.frames_repeated,
        "frames_disordered": ledger.frames_disordered,
        "frames_unknown": ledger.frames_unknown,
        "glass_to_glass_p50_ms": report and report.video_latency_ms.p50,
        "glass_to_glass_p99_ms": report and report.video_latency_ms.p99,
        "first_picture_ms": report and report.first_picture_ms,
        "stalls": report and report.stalls,
        "stalled_seconds": report and report.stalled_s,
        "bitrate": report and report.bitrate,
    }


def _quiet(_: str) -> None:
    """The demo shows figures in place of remarks."""


def _wall_us() -> int:
    return time.time_ns() // 1000
