"""The small world of `bench/sim_error.py` in real time: processes, sockets, shapers, wall clock."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import trio
from sim_error_world import EDGES, PUBLISHER_EDGE, VIEWERS, Seen, access_links, film_options, hop_links

from farcast.cli.cluster import Cluster, ClusterOptions, Place, open_cluster
from farcast.cli.control_api import ControlApi, control_api
from farcast.clients.media.testsrc import TestSource
from farcast.clients.publish import PublishOptions, publish
from farcast.clients.server import Server
from farcast.clients.viewing import OnFrame
from farcast.clients.watch import Watcher, WatchOptions
from farcast.proto._core import UdpShaper
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.urls import ServerUrl, split_host_port
from farcast.remote import Trust

NAMESPACE = TrackNamespace.parse("live/room1/host")
SETTLE_SECONDS_MAX = 40.0
SETTLED_SECONDS = 8.0
SHAPER_SEED = 1_000


@dataclass(slots=True)
class _Clock:
    """When each object was handed over by the publisher, and when it came to each viewer, microseconds."""

    published: dict[tuple[str, int, int], int] = field(default_factory=dict)
    received: dict[str, dict[tuple[str, int, int], int]] = field(default_factory=dict)

    def note_published(self, track: str, group: int, object: int, payload: bytes) -> None:
        self.published[track, group, object] = _now_us()

    def noting(self, viewer: str) -> OnFrame:
        received = self.received.setdefault(viewer, {})

        def note(track: str, group: int, object: int, payload: bytes) -> None:
            received[track, group, object] = _now_us()

        return note


def run(seconds: float, skip_s: float, seed: int) -> tuple[Seen, list[str]]:
    """What viewers saw of a film of so many seconds, its first ones left out; and the route it took."""
    with tempfile.TemporaryDirectory(prefix="farcast-sim-error-", ignore_cleanup_errors=True) as folder:
        return trio.run(_run, Path(folder), seconds, skip_s, seed)


async def _run(folder: Path, seconds: float, skip_s: float, seed: int) -> tuple[Seen, list[str]]:
    places = [Place(edge.node_id, edge.region) for edge in EDGES]
    links = {ends: model.config for ends, model in hop_links().items()}
    clock = _Clock()
    options = ClusterOptions(log_level="warning")
    with ExitStack() as shapers:
        async with open_cluster(places, links, folder, options) as cluster:
            shaped = _shape_access(cluster, seed, shapers)
            api = control_api(cluster.state_dir, None, None)
            accepted, watchers = trio.Event(), _watchers(cluster, shaped, clock)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_publish, cluster, shaped, clock, accepted, seconds + SETTLE_SECONDS_MAX)
                await accepted.wait()
                await _settle(api)
                for watcher in watchers:
                    nursery.start_soon(watcher.run)
                began_us = _now_us()
                await trio.sleep(seconds)
                ended_us = _now_us()
                route = await _route(api)
                nursery.cancel_scope.cancel()
            stats = {name: shaper.stats() for name, shaper in shaped.items()}
    lost = sum(each["backward"]["packets_lost"] for name, each in stats.items() if name in VIEWERS)
    sent = sum(each["backward"]["packets_in"] for name, each in stats.items() if name in VIEWERS)
    return _seen(clock, began_us + round(skip_s * 1e6), ended_us, lost, sent), route


def _shape_access(cluster: Cluster, seed: int, shapers: ExitStack) -> dict[str, UdpShaper]:
    """A shaper for each client, in front of its edge."""
    shaped = {}
    for number, (name, (edge, up, down)) in enumerate(access_links().items()):
        shaped[name] = UdpShaper(
            "127.0.0.1:0", cluster.listen(edge), up.config, down.config, seed + SHAPER_SEED + number
        )
        shapers.callback(shaped[name].close)
    return shaped


def _server(cluster: Cluster, shaper: UdpShaper, edge: str, transport: str) -> Server:
    host, port = split_host_port(shaper.local_addr)
    trust = Trust(fingerprints=(bytes.fromhex(cluster.cert_sha256(edge)),))
    return Server(ServerUrl("webtransport" if transport == "webtransport" else "quic", host, port, ""), trust)


async def _publish(
    cluster: Cluster, shaped: Mapping[str, UdpShaper], clock: _Clock, accepted: trio.Event, seconds: float
) -> None:
    source = TestSource(film_options(), lambda: time.time_ns() // 1000)
    server = _server(cluster, shaped["host"], PUBLISHER_EDGE, "quic")
    options = PublishOptions(server, NAMESPACE, seconds=seconds, edge_list=False)
    await publish(source, options, note=_quiet, on_frame=clock.note_published, accepted=accepted)


def _watchers(cluster: Cluster, shaped: Mapping[str, UdpShaper], clock: _Clock) -> list[Watcher]:
    made = []
    for name, (edge, transport) in VIEWERS.items():
        options = WatchOptions(_server(cluster, shaped[name], edge, transport), NAMESPACE, edge_list=False)
        made.append(Watcher(options, note=_quiet, on_frame=clock.noting(name)))
    return made


async def _settle(api: ControlApi) -> None:
    """Wait until all links are measured and the route to the viewers' edge has stayed the same for a
    while."""
    route: list[str] = []
    same_since = trio.current_time()
    with trio.move_on_after(SETTLE_SECONDS_MAX):
        while trio.current_time() < same_since + SETTLED_SECONDS:
            await trio.sleep(0.5)
            links = (await trio.to_thread.run_sync(api.get, "/links"))["links"]
            found = await _route(api)
            if found != route or not found or len(links) < len(hop_links()):
                route, same_since = found, trio.current_time()


async def _route(api: ControlApi) -> list[str]:
    """The route in force to the viewers' edge."""
    target = next(iter(VIEWERS.values()))[0]
    answer = await trio.to_thread.run_sync(lambda: api.get("/routes", origin=PUBLISHER_EDGE))
    return next((each["path"] for each in answer["routes"] if each["node_id"] == target), [])


def _seen(clock: _Clock, from_us: int, until_us: int, lost: int, sent: int) -> Seen:
    """Latencies of what was published in the time, the last two seconds left out: they may be under way."""
    wanted = {key: at_us for key, at_us in clock.published.items() if from_us <= at_us < until_us - 2_000_000}
    latencies: list[float] = []
    missing = 0
    for received in clock.received.values():
        for key, at_us in wanted.items():
            if key[0] not in ("video", "audio"):
                continue
            if key in received:
                latencies.append((received[key] - at_us) / 1e3)
            else:
                missing += 1
    return Seen.of(latencies, missing, lost, sent)


def _now_us() -> int:
    return time.monotonic_ns() // 1000


def _quiet(_: str) -> None:
    """Remarks of clients are of no interest here."""
