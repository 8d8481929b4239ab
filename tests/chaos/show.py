"""A film over the network, published in Jakarta and watched at several edges, in the process that breaks
things, so that one clock measures it all."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import trio

from farcast.cli.cluster import Cluster
from farcast.clients.media.testsrc import TestSource, TestSourceOptions
from farcast.clients.publish import PublishOptions, publish
from farcast.clients.server import Server
from farcast.clients.watch import Watcher, WatchOptions
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.urls import ServerUrl, split_host_port
from farcast.remote import Trust

from .arrivals import Arrivals

NAMESPACE = TrackNamespace.parse("live/chaos")
FILM = TestSourceOptions(width=320, height=180, bitrate=400_000)
"""Small pictures: what is measured is the network, on a machine that runs all of it."""

FIRST_PICTURE_SECONDS_MAX = 30.0


@dataclass
class Show:
    """The film and its viewers; ``elsewhere``: further edges for a viewer whose edge dies."""

    cluster: Cluster
    origin: str
    seats: list[Arrivals] = field(default_factory=list)
    published_at: dict[tuple[str, int, int], float] = field(default_factory=dict)
    """By track, group and object; seconds of the machine's clock, as in logs."""

    _playing: trio.CancelScope = field(default_factory=trio.CancelScope)
    _nursery: trio.Nursery | None = None
    _watchers: dict[str, Watcher] = field(default_factory=dict)

    async def run(self, seats: list[str], *, task_status: trio.TaskStatus[None]) -> None:
        """Play until `stop`; started when every viewer has had its first picture."""
        self.seats = [Arrivals(node_id) for node_id in seats]
        accepted = trio.Event()
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._play, accepted)
            await accepted.wait()
            for seat in self.seats:
                nursery.start_soon(self._watch, seat)
            with trio.fail_after(FIRST_PICTURE_SECONDS_MAX):
                while not all(seat.times for seat in self.seats):
                    await trio.sleep(0.05)
            task_status.started()

    async def join(self, node_id: str) -> float:
        """One more viewer; seconds until its first picture."""
        assert self._nursery is not None
        seat = Arrivals(node_id)
        begun = time.monotonic()
        self.seats.append(seat)
        self._nursery.start_soon(self._watch, seat)
        with trio.fail_after(FIRST_PICTURE_SECONDS_MAX):
            while not seat.times:
                await trio.sleep(0.01)
        return time.monotonic() - begun

    def losses(self) -> Iterator[str]:
        """For whoever looks for the cause in the logs: what did not come to whom, and when it was sent."""
        for seat in self.seats:
            for track, group, object in seat.ledger.missing():
                sent = datetime.fromtimestamp(self.published_at[track, group, object], UTC)
                what = f"{track}, group {group}, object {object}, sent {sent:%H:%M:%S.%f}"
                yield f"lost for {seat.node_id}: {what}"

    def stop(self) -> None:
        """End the film in good order."""
        self._playing.cancel()

    async def _play(self, accepted: trio.Event) -> None:
        def published(track: str, group: int, object: int, payload: bytes) -> None:
            self.published_at[track, group, object] = time.time()
            for seat in self.seats:
                seat.ledger.published(track, group, object, payload)

        source = TestSource(FILM, lambda: time.time_ns() // 1000)
        options = PublishOptions(self._server(self.origin), NAMESPACE, edge_list=False)
        await publish(
            source,
            options,
            note=lambda _: None,
            on_frame=published,
            accepted=accepted,
            playing=self._playing,
        )

    def at_edge(self, node_id: str) -> frozenset[str]:
        """The viewers (by their first edge) that this edge serves now."""
        address = self.cluster.listen(node_id)
        return frozenset(seat for seat, watcher in self._watchers.items() if watcher.moves.edge == address)

    def edges(self) -> dict[str, str]:
        """The edge that serves each viewer now (by its first edge)."""
        node_ids = [place.node_id for place in self.cluster.places]
        return {seat: node_id for node_id in node_ids for seat in self.at_edge(node_id)}

    async def _watch(self, seat: Arrivals) -> None:
        options = WatchOptions(self._server(seat.node_id), NAMESPACE, others=self._others(seat.node_id))
        watcher = Watcher(options, note=lambda _: None, on_frame=seat.received)
        self._watchers[seat.node_id] = watcher
        await watcher.run()

    def _others(self, node_id: str) -> tuple[Server, ...]:
        places = (place.node_id for place in self.cluster.places)
        return tuple(self._server(other) for other in places if other not in (node_id, self.origin))

    def _server(self, node_id: str) -> Server:
        host, port = split_host_port(self.cluster.listen(node_id))
        return Server(ServerUrl("quic", host, port, ""), Trust(insecure=True))
