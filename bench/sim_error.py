"""How wrong the simulator is: against real time, and against data that it was not made of.

    python bench/sim_error.py [--seconds 60] [--seed 1] [--bad-hop]

- *Virtual against real*: one small world (`simulations/small_world.py`) runs in virtual time, and in real
  time as `farcast dev` does it: a control plane and edges as processes, real sockets, each link through a
  shaper. Compared is the time from a frame's hand-over at the publisher to its last byte at a viewer. The
  machine's own noise (schedulers, other processes) is part of the difference.
  ``--bad-hop``: this alone, over a hop of 200 ms that loses 5 % in bursts of three.
- *AWS against Azure*: round trips between the same cities, of the matrix that worlds are made of and of
  another one.
- *Flows against packets*: the same small crowd at both levels (`simulations/flows/error.py`).
- *Akamai good and median against poor*: what two conditions let one expect of the third.

The last line is JSON; ``virtual_vs_real_*`` are ratios minus one. Most frames are within a few milliseconds
of each other, so a machine that needs two of them to wake a process makes a large ``ks_distance`` of a small
``shift_ms``; ``ks_distance_medians_equal`` is what is left without it.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import trio

from farcast.cli.cluster import Cluster, ClusterOptions, Place, open_cluster
from farcast.cli.control_api import ControlApi, control_api
from farcast.clients.media.testsrc import TestSource, TestSourceOptions
from farcast.clients.publish import PublishOptions, publish
from farcast.clients.server import Server
from farcast.clients.viewing import OnFrame
from farcast.clients.watch import Watcher, WatchOptions
from farcast.proto._core import UdpShaper
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.urls import ServerUrl, split_host_port
from farcast.remote import Trust
from farcast.simulations.flows.error import flow_error
from farcast.simulations.media import AUDIO_FRAME_US, PACKAGING_BYTES
from farcast.simulations.scenario import Transport
from farcast.simulations.small_world import (
    AUDIO_BPS,
    FRAMERATE,
    HEIGHT,
    PLACES,
    PUBLISHER,
    PUBLISHER_EDGE,
    ROOM,
    UNDER_WAY_US,
    VIDEO_BPS,
    VIEWERS,
    FilmRates,
    Seen,
    access_links,
    hop_links,
    ks_distance,
    matrix_error,
    mobile_error,
    run_virtual,
)

NAMESPACE = TrackNamespace.parse(f"{ROOM}/{PUBLISHER}")
SETTLE_SECONDS_MAX = 40.0
SETTLED_SECONDS = 8.0
SHAPER_SEED = 1_000
SKIP_SECONDS = 5.0
"""Joining, and plans that still move, are not what is compared."""

MEDIA_TRACKS = ("video", "audio")
FLOWS_SEED = 2
"""Of the flow level's error: its constants were fitted to seed 1."""

QUANTILES = (0.01, 0.5, 0.9, 0.99, 0.999)


@dataclass(slots=True)
class _Clock:
    """When each object was handed over by the publisher, and when it came to each viewer, microseconds."""

    published: dict[tuple[str, int, int], int] = field(default_factory=dict)
    sizes: dict[tuple[str, int, int], int] = field(default_factory=dict)
    received: dict[str, dict[tuple[str, int, int], int]] = field(default_factory=dict)

    def note_published(self, track: str, group: int, object: int, payload: bytes) -> None:
        self.published[track, group, object] = _now_us()
        self.sizes[track, group, object] = len(payload)

    def noting(self, viewer: str) -> OnFrame:
        received = self.received.setdefault(viewer, {})

        def note(track: str, group: int, object: int, payload: bytes) -> None:
            received[track, group, object] = _now_us()

        return note

    def rates(self) -> FilmRates:
        """How large the film's frames were."""
        keys = [size for key, size in self.sizes.items() if key[0] == "video" and key[2] == 0]
        others = [size for key, size in self.sizes.items() if key[0] == "video" and key[2] != 0]
        sounds = [size for key, size in self.sizes.items() if key[0] == "audio"]
        video_bps = 8 * (mean(keys) + (FRAMERATE - 1) * mean(others))
        audio_bps = 8 * (mean(sounds) - PACKAGING_BYTES) * 1_000_000 / AUDIO_FRAME_US
        return FilmRates(round(video_bps), round(audio_bps), mean(keys) / mean(others))

    def latencies_ms(self, from_us: int, until_us: int) -> tuple[list[float], int]:
        """Of frames that were handed over in the time; and how many never came."""
        wanted = {
            key: at_us
            for key, at_us in self.published.items()
            if from_us <= at_us < until_us and key[0] in MEDIA_TRACKS
        }
        found = [
            (received[key] - at_us) / 1e3
            for received in self.received.values()
            for key, at_us in wanted.items()
            if key in received
        ]
        return found, len(wanted) * len(self.received) - len(found)


def run_real(seconds: float, skip_s: float, seed: int, bad: bool = False) -> tuple[Seen, FilmRates]:
    """What viewers saw of so many seconds, the first ones left out, in real time; and their film. ``bad``:
    see `hop_links`."""
    with tempfile.TemporaryDirectory(prefix="farcast-sim-error-", ignore_cleanup_errors=True) as folder:
        return trio.run(_run, Path(folder), seconds, skip_s, seed, bad)


async def _run(folder: Path, seconds: float, skip_s: float, seed: int, bad: bool) -> tuple[Seen, FilmRates]:
    places = [Place(node_id, region) for node_id, (region, *_) in PLACES.items()]
    links = {ends: model.config for ends, model in hop_links(bad).items()}
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
    latencies, missing = clock.latencies_ms(began_us + round(skip_s * 1e6), ended_us - UNDER_WAY_US)
    return Seen.of(latencies, missing, lost, sent, route), clock.rates()


def _shape_access(cluster: Cluster, seed: int, shapers: ExitStack) -> dict[str, UdpShaper]:
    """A shaper for each client, in front of its edge."""
    shaped = {}
    for number, (name, (edge, model)) in enumerate(access_links().items()):
        shaped[name] = UdpShaper(
            "127.0.0.1:0", cluster.listen(edge), model.config, model.config, seed + SHAPER_SEED + number
        )
        shapers.callback(shaped[name].close)
    return shaped


def _server(cluster: Cluster, shaper: UdpShaper, edge: str, transport: Transport) -> Server:
    host, port = split_host_port(shaper.local_addr)
    trust = Trust(fingerprints=(bytes.fromhex(cluster.cert_sha256(edge)),))
    return Server(ServerUrl(transport, host, port, ""), trust)


async def _publish(
    cluster: Cluster, shaped: Mapping[str, UdpShaper], clock: _Clock, accepted: trio.Event, seconds: float
) -> None:
    film = TestSourceOptions(
        height=HEIGHT, framerate=FRAMERATE, bitrate=VIDEO_BPS, gop_s=1.0, audio_bitrate=AUDIO_BPS
    )
    source = TestSource(film, lambda: time.time_ns() // 1000)
    server = _server(cluster, shaped[PUBLISHER], PUBLISHER_EDGE, "quic")
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


def _now_us() -> int:
    return time.monotonic_ns() // 1000


def _quiet(_: str) -> None:
    """Remarks of clients are of no interest here."""


def main() -> None:
    """Both runs, then the data; a table, and one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bad-hop", action="store_true", help="only real against virtual, 200 ms, 5 % lost")
    options = parser.parse_args()
    real, film = run_real(options.seconds, SKIP_SECONDS, options.seed, options.bad_hop)
    virtual = run_virtual(options.seconds, SKIP_SECONDS, options.seed, film, options.bad_hop)
    rates = f"{film.video_bps / 1e3:.0f} + {film.audio_bps / 1e3:.0f} kbit/s"
    print(f"film of both: {rates}, a key frame {film.key_ratio:.1f} times another")
    _print_runs(real, virtual)
    figures = _apart(real, virtual)
    if not options.bad_hop:
        figures |= _of_data()
    print(json.dumps(figures, allow_nan=False))


def _apart(real: Seen, virtual: Seen) -> dict[str, float | None]:
    """How far the runs are apart."""
    shift_ms = virtual.quantile(0.5) - real.quantile(0.5)
    return {
        "virtual_vs_real_p50": round(virtual.quantile(0.5) / real.quantile(0.5) - 1, 4),
        "virtual_vs_real_p99": round(virtual.quantile(0.99) / real.quantile(0.99) - 1, 4),
        "ks_distance": round(ks_distance(virtual.latency_ms, real.latency_ms), 4),
        "ks_distance_medians_equal": round(ks_distance(virtual.latency_ms - shift_ms, real.latency_ms), 4),
        "shift_ms": round(shift_ms, 2),
        "loss_within_interval": all(_is_as_said(seen) for seen in (real, virtual)),
        "frames": real.latency_ms.size,
    }


def _of_data() -> dict[str, float | None]:
    """One source of data against another, and flows against packets."""
    matrix, mobile = matrix_error(), mobile_error()
    print(
        f"AWS against Azure, {matrix.pairs} directed pairs: differ by {matrix.error_ms_p50:.1f} ms (p50), "
        f"{matrix.error_ms_p90:.1f} ms (p90); ratio {matrix.ratio_p10:.2f} / {matrix.ratio_p50:.2f} / "
        f"{matrix.ratio_p90:.2f} (p10 / p50 / p90)"
    )
    print(
        f"Akamai, poor as expected from good and median: loss in a window {mobile.window_loss_error:+.0%}, "
        f"gap between windows {mobile.gap_error:+.0%}, KS distance {mobile.ks_distance:.2f}"
    )
    flows = flow_error(FLOWS_SEED)
    print("flows against packets: " + ", ".join(f"{name} {_percent(error)}" for name, error in shown(flows)))
    return {
        "matrix_error_ms_p50": round(matrix.error_ms_p50, 2),
        "matrix_error_ms_p90": round(matrix.error_ms_p90, 2),
        "akamai_window_loss": round(mobile.window_loss_error, 4),
        "akamai_gap": round(mobile.gap_error, 4),
        **{f"flows_vs_packets_{name}": _finite(error) for name, error in shown(flows)},
    }


def _percent(error: float) -> str:
    return f"{error:+.1%}" if math.isfinite(error) else "without bound"


def _finite(error: float) -> float | None:
    """``None`` where one level says that something never came."""
    return error if math.isfinite(error) else None


def shown(flows: Mapping[str, float]) -> list[tuple[str, float]]:
    """Of the flow level's errors those that are ratios minus one."""
    return [(name, error) for name, error in flows.items() if name.endswith(("_p50", "_p95", "_p99"))]


def _print_runs(real: Seen, virtual: Seen) -> None:
    head = "".join(f"{f'p{100 * q:g}':>9}" for q in QUANTILES)
    print(f"latency, ms   {head}   frames  missing   route")
    for name, seen in (("real", real), ("virtual", virtual)):
        shown = "".join(f"{seen.quantile(q):9.1f}" for q in QUANTILES)
        route = " > ".join(seen.route)
        print(f"{name:14}{shown}{seen.latency_ms.size:9}{seen.missing:9}   {route}")
    for name, seen in (("real", real), ("virtual", virtual)):
        low, high = seen.loss_interval()
        verdict = "within" if _is_as_said(seen) else "OUTSIDE"
        print(f"loss on the viewers' downlinks, {name}: {seen.loss:.3%}, {verdict} {low:.3%} to {high:.3%}")


def _is_as_said(seen: Seen) -> bool:
    low, high = seen.loss_interval()
    return low <= seen.loss <= high


if __name__ == "__main__":
    main()
