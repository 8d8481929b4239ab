"""The film of ``farcast dev --demo``: published at one edge, watched at the other, compared by frame."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import trio
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from farcast.cli.dev_network import DevNetwork
from farcast.cli.output import notes
from farcast.clients.ledger import FrameLedger
from farcast.clients.media.playback import PlaybackReport
from farcast.clients.media.testsrc import TestSource, TestSourceOptions
from farcast.clients.publish import PublishOptions, publish
from farcast.clients.server import Server
from farcast.clients.watch import Watcher, WatchOptions
from farcast.edge.node import EdgeNode
from farcast.edge.settings import Address
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.urls import ServerUrl
from farcast.remote import Trust

REFRESH_SECONDS = 0.5
PLAIN_REFRESH_SECONDS = 5.0
"""Where stderr is no terminal, a line so often."""


@dataclass(slots=True)
class HopFigures:
    """The hop as both its ends count it."""

    chunks_sent: int = 0
    chunks_repaired: int = 0
    chunks_lost: int = 0
    chunks_given_up: int = 0
    rtt_ms: float = 0.0


@dataclass(slots=True)
class Demo:
    """The demo's state and figures."""

    network: DevNetwork
    namespace: TrackNamespace
    ledger: FrameLedger = field(default_factory=FrameLedger)
    hop: HopFigures = field(default_factory=HopFigures)
    _playing: trio.CancelScope = field(default_factory=trio.CancelScope)
    _watcher: Watcher | None = None
    _is_over: bool = False

    def stop(self) -> None:
        """End the film in good order: what was published still arrives."""
        self._is_over = True
        self._playing.cancel()

    async def run(self, seconds: float | None) -> PlaybackReport:
        """Publish and watch until `stop` or for so long; returns when the last frame had its chance."""
        source = TestSource(TestSourceOptions(), _wall_us)
        trust = Trust(fingerprints=(self.network.public.sha256,))
        options = PublishOptions(_server(self.network.origin.listen, trust), self.namespace, seconds=seconds)
        viewing = WatchOptions(_server(self.network.egress.listen, trust), self.namespace)
        self._watcher = Watcher(viewing, note=_quiet, on_frame=self.ledger.received)
        accepted = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._show)

            async def play() -> None:
                published = self.ledger.published
                playing = self._playing
                await publish(
                    source, options, note=_quiet, on_frame=published, accepted=accepted, playing=playing
                )
                self._is_over = True

            nursery.start_soon(play)
            await accepted.wait()
            report = await self._watcher.run()
            await self._look_at_hop()
            nursery.cancel_scope.cancel()
        return report

    def figures(self, report: PlaybackReport) -> dict[str, Any]:
        """The result for programs."""
        ledger = self.ledger
        return {
            "passed": ledger.is_intact,
            "seconds": round(report.playing_s, 3),
            "frames": ledger.frames_intact,
            "frames_missing": ledger.frames_missing,
            "frames_corrupt": ledger.frames_corrupt,
            "frames_repeated": ledger.frames_repeated,
            "frames_disordered": ledger.frames_disordered,
            "frames_unknown": ledger.frames_unknown,
            "glass_to_glass_p50_ms": report.video_latency_ms.p50,
            "glass_to_glass_p99_ms": report.video_latency_ms.p99,
            "first_picture_ms": report.first_picture_ms,
            "stalls": report.stalls,
            "stalled_seconds": report.stalled_s,
            "bitrate": report.bitrate,
            "hop_chunks_sent": self.hop.chunks_sent,
            "hop_chunks_repaired": self.hop.chunks_repaired,
            "hop_chunks_lost": self.hop.chunks_lost,
            "hop_chunks_given_up": self.hop.chunks_given_up,
            "hop_rtt_ms": self.hop.rtt_ms,
        }

    # ---- Live display -------------------------------------------------------------------------------

    async def _show(self) -> None:
        console = notes()
        if not console.is_terminal:
            while True:
                await trio.sleep(PLAIN_REFRESH_SECONDS)
                await self._look_at_hop()
                console.print(" ".join(f"{name} {value}" for name, value in self._rows()))
        with Live(console=console, auto_refresh=False) as live:
            while True:
                await self._look_at_hop()
                live.update(self._picture(), refresh=True)
                await trio.sleep(REFRESH_SECONDS)

    def _picture(self) -> Group:
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, value in self._rows():
            table.add_row(Text(name, style="dim"), value)
        return Group(table, Text("Ctrl-C ends it", style="dim"))

    def _rows(self) -> list[tuple[str, str]]:
        report = self._watcher.report(is_over=self._is_over) if self._watcher is not None else None
        if report is None or report.video_latency_ms.p50 is None:
            return [("film", "waiting for the first picture")]
        latency, ledger, hop = report.video_latency_ms, self.ledger, self.hop
        wrong = ledger.frames_corrupt + ledger.frames_repeated + ledger.frames_disordered
        return [
            ("glass to glass", f"p50 {latency.p50:.0f} ms, p99 {latency.p99:.0f} ms"),
            ("frames", f"{ledger.frames_intact} intact, {ledger.frames_missing} on their way, {wrong} wrong"),
            ("hop", f"{hop.chunks_sent} chunks, {hop.chunks_repaired} repaired, RTT {hop.rtt_ms:.0f} ms"),
            ("stalls", f"{report.stalls}, {report.stalled_s:.2f} s"),
            ("bit rate", f"{(report.bitrate or 0) / 1e6:.2f} Mbit/s"),
        ]

    async def _look_at_hop(self) -> None:
        for session in await _sessions(self.network.origin):
            if (hop := session["hop"]) is not None:
                self.hop.chunks_sent = hop["chunks_sent"]
                self.hop.chunks_repaired = hop["chunks_repaired"]
                self.hop.chunks_lost = hop["chunks_lost"]
                self.hop.chunks_given_up = hop["chunks_given_up"]
                self.hop.rtt_ms = hop["rtt_us"] / 1000


async def _sessions(node: EdgeNode) -> list[Any]:
    return list((await node.driver.snapshot())["sessions"])


def _server(address: Address, trust: Trust) -> Server:
    return Server(ServerUrl("quic", address.host, address.port, ""), trust)


def _quiet(_: str) -> None:
    """The demo shows figures in place of remarks."""


def _wall_us() -> int:
    return time.time_ns() // 1000
