"""A viewer whose edge dies or is drained: processes, sockets, 100 ms round trips; every frame is counted."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable

import pytest
import trio
from edges import Edge, Edges

from farcast.clients.ledger import FrameLedger
from farcast.clients.media.testsrc import TestSource, TestSourceOptions
from farcast.clients.moves import MovesReport
from farcast.clients.publish import PublishOptions, publish
from farcast.clients.server import Server
from farcast.clients.watch import Watcher, WatchOptions
from farcast.proto._core import LinkConfig, UdpShaper
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.urls import parse_url
from farcast.remote import Trust

NAMESPACE = TrackNamespace.parse("live/test")
FILM_SECONDS = 8.0
FRAMES = int(FILM_SECONDS * 30)
TROUBLE_SECONDS = 3.3
"""After the start of the film; not where a group begins."""
ACCESS = LinkConfig(delay_us=50_000)

RESUMED_MS_MAX = 1_500
GAP_MS_MAX = 183
"""A pause in sound or picture that people notice."""


def film() -> TestSource:
    options = TestSourceOptions(width=320, height=180, gop_s=1.0, duration_s=FILM_SECONDS)
    return TestSource(options, lambda: time.time_ns() // 1000)


class Stage:
    """An origin edge with the publisher, and two edges behind shaped paths that can both serve the viewer."""

    def __init__(self, edges: Edges) -> None:
        self.origin = edges.start("origin")
        self.near = edges.start("near", "--upstream", f"=farcast://{self.origin.listen}")
        self.far = edges.start("far", "--upstream", f"=farcast://{self.origin.listen}")
        serving = (self.near, self.far)
        self.shapers = [UdpShaper("127.0.0.1:0", edge.listen, ACCESS, ACCESS) for edge in serving]
        self.trust = Trust(fingerprints=tuple(bytes.fromhex(e.cert_sha256) for e in (self.origin, *serving)))
        self.ledger = FrameLedger()
        self.notes: list[str] = []

    def server(self, address: str, scheme: str = "moqt") -> Server:
        return Server(parse_url(f"{scheme}://{address}/"), self.trust)

    def watcher(self, scheme: str) -> Watcher:
        near, far = (self.server(shaper.local_addr, scheme) for shaper in self.shapers)
        options = WatchOptions(near, NAMESPACE, others=(far,))
        return Watcher(options, note=self.notes.append, on_frame=self.ledger.received)

    def play(self, scheme: str, trouble: Callable[[Edge], None]) -> MovesReport:
        """The film from beginning to end, with trouble on the way."""
        watcher = self.watcher(scheme)

        async def main() -> None:
            options = PublishOptions(self.server(self.origin.listen), NAMESPACE)
            accepted = trio.Event()

            async def publisher() -> None:
                await publish(film(), options, note=print, on_frame=self.ledger.published, accepted=accepted)

            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(publisher)
                    await accepted.wait()
                    nursery.start_soon(watcher.run)
                    await trio.sleep(TROUBLE_SECONDS)
                    trouble(self.near)

        trio.run(main)
        for shaper in self.shapers:
            shaper.close()
        for edge in (self.near, self.far):
            edge.stop()
        print(self.notes, json.dumps(watcher.moves.edges), watcher.moves)
        return watcher.moves


def check_all_arrived(stage: Stage, moves: MovesReport) -> None:
    ledger = stage.ledger
    counts = (ledger.frames_missing, ledger.frames_repeated, ledger.frames_disordered, ledger.frames_corrupt)
    assert counts == (0, 0, 0, 0), "lost, doubled, out of order, corrupt"
    assert ledger.is_intact
    assert ledger.frames_intact > FRAMES
    assert moves.moves == 1
    assert moves.edges == tuple(shaper.local_addr for shaper in stage.shapers)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["moqt", "https"])
def test_a_viewer_of_a_killed_edge_goes_on_at_the_next_one_where_it_was(edges: Edges, scheme: str) -> None:
    stage = Stage(edges)
    moves = stage.play(scheme, lambda edge: os.kill(edge.process.pid, signal.SIGKILL))
    check_all_arrived(stage, moves)
    assert moves.move_gap_ms_max is not None
    assert moves.move_gap_ms_max <= RESUMED_MS_MAX


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["moqt", "https"])
def test_a_viewer_of_a_drained_edge_notices_nothing(edges: Edges, scheme: str) -> None:
    stage = Stage(edges)
    moves = stage.play(scheme, lambda edge: os.kill(edge.process.pid, signal.SIGTERM))
    check_all_arrived(stage, moves)
    assert moves.move_gap_ms_max is not None
    assert moves.move_gap_ms_max < GAP_MS_MAX
