"""The edge that a film is published to is drained: processes, sockets, a control plane, regions' delays."""

from __future__ import annotations

import itertools
import signal
import time
from pathlib import Path

import pytest
import trio
from tests.chaos.arrivals import Arrivals

from farcast.cli.cluster import Cluster, ClusterOptions, Place, open_cluster
from farcast.clients.media.testsrc import TestSource, TestSourceOptions
from farcast.clients.publish import PublishOptions, publish
from farcast.clients.server import Server
from farcast.clients.watch import Watcher, WatchOptions
from farcast.proto._core import LinkConfig
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.urls import ServerUrl, split_host_port
from farcast.remote import Trust

NAMESPACE = TrackNamespace.parse("live/test")
ORIGIN = "jkt-1"
PLACES = tuple(Place(f"{region}-1", region) for region in ("jkt", "sin", "fra"))
DELAYS_MS = {("jkt", "sin"): 7, ("sin", "fra"): 76, ("jkt", "fra"): 84}
FILM_SECONDS = 16.0
TROUBLE_SECONDS = 5.3
"""After the last viewer's first picture; not where a group begins."""
DRAIN_MS = 6_000
GAP_SECONDS_MAX = 0.183
"""A pause that people notice."""
ALL_SECONDS_MAX = 90


def links() -> dict[tuple[str, str], LinkConfig]:
    pairs = itertools.permutations(PLACES, 2)
    delays = {**DELAYS_MS, **{(there, here): ms for (here, there), ms in DELAYS_MS.items()}}
    return {(a.node_id, b.node_id): LinkConfig(delay_us=1_000 * delays[a.region, b.region]) for a, b in pairs}


class Stage:
    """The film at its origin, and a viewer at every edge; each may go to any other edge."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.seats = [Arrivals(place.node_id) for place in PLACES]
        self.notes: list[str] = []
        self.drained_at = 0.0

    def server(self, node_id: str) -> Server:
        host, port = split_host_port(self.cluster.listen(node_id))
        return Server(ServerUrl("quic", host, port, ""), Trust(insecure=True))

    async def play(self) -> None:
        """The film from beginning to end; on the way its edge is told to go, and does."""
        accepted = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.publish, accepted)
            await accepted.wait()
            for seat in self.seats:
                nursery.start_soon(self.watch, seat)
            while not all(seat.times for seat in self.seats):
                await trio.sleep(0.05)
            await trio.sleep(TROUBLE_SECONDS)
            self.drained_at = time.monotonic()
            self.cluster.edges[ORIGIN].signal(signal.SIGTERM)
            await self.cluster.edges[ORIGIN].wait()

    async def publish(self, accepted: trio.Event) -> None:
        def published(track: str, group: int, object: int, payload: bytes) -> None:
            for seat in self.seats:
                seat.ledger.published(track, group, object, payload)

        options = TestSourceOptions(width=320, height=180, bitrate=400_000, duration_s=FILM_SECONDS)
        await publish(
            TestSource(options, lambda: time.time_ns() // 1_000),
            PublishOptions(self.server(ORIGIN), NAMESPACE),
            note=self.notes.append,
            on_frame=published,
            accepted=accepted,
        )

    async def watch(self, seat: Arrivals) -> None:
        others = tuple(self.server(place.node_id) for place in PLACES if place.node_id != seat.node_id)
        options = WatchOptions(self.server(seat.node_id), NAMESPACE, others=others)
        await Watcher(options, note=self.notes.append, on_frame=seat.received).run()


@pytest.mark.slow
def test_a_film_whose_own_edge_is_drained_goes_on_whole_and_without_a_pause(tmp_path: Path) -> None:
    async def main() -> Stage:
        with trio.fail_after(ALL_SECONDS_MAX):
            async with open_cluster(
                PLACES, links(), tmp_path, ClusterOptions(drain_ms_max=DRAIN_MS)
            ) as cluster:
                stage = Stage(cluster)
                await stage.play()
                return stage

    stage = trio.run(main)
    moves = [note for note in stage.notes if note.startswith("moved from")]
    assert len(moves) == 2, "of the publisher, and of its edge's viewer"
    for seat in stage.seats:
        ledger = seat.ledger
        counts = (
            ledger.frames_missing,
            ledger.frames_repeated,
            ledger.frames_disordered,
            ledger.frames_corrupt,
        )
        gap = seat.longest_gap(stage.drained_at, seat.times[-1])
        print(seat.node_id, f"{1e3 * gap.seconds:.0f} ms")
        assert counts == (0, 0, 0, 0), f"{seat.node_id}: lost, doubled, out of order, corrupt"
        assert gap.seconds < GAP_SECONDS_MAX, seat.node_id
