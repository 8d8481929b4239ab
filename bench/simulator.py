"""How fast the simulator is, beside QUIC alone on the same kernel, and beside simulators without protocols.

The world: publisher -> edge -> edge -> N viewers, 3 Mbit/s of video at 30 frames a second and sound 50 times
a second, 10 ms to and from the edges and 40 ms between them, nothing lost. On our side everything shipped is
in it: datapaths, agents, publisher and viewer engines; frames are scheduled a second ahead, and viewers'
objects recorded. The floor (``simulations/net/examples/bare_loop.rs``) moves the same bytes over QUIC, a
stream for each object, and knows nothing else. Anchors: a heap of events in plain Python, and ns-3 (wheel
``ns3``, where it is installed), which move datagrams of that size and number and have no protocol at all.

Every run is a process of its own; runs of one kind and the other take turns, and the median of their
processor time counts: the media phase alone, connecting left out. Noise is the spread of the rounds, stated
beside it.
"""

from __future__ import annotations

import argparse
import heapq
import importlib
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from farcast.proto._core import Command, LinkConfig
from farcast.proto.agent import MediaLimits
from farcast.proto.client import Publisher, PublisherConfig, Viewer, ViewerConfig
from farcast.proto.client import events as client
from farcast.proto.moqt.names import TrackNamespace
from farcast.simulations.film_world import Access, FilmWorld
from farcast.simulations.records import RECORD_DTYPE

ROOT = Path(__file__).resolve().parent.parent
BARE = ROOT / "target" / "release" / "examples" / "bare_loop"
NAMESPACE = TrackNamespace.parse("bench/film")
ACCESS = Access("quic", (18,), LinkConfig(delay_us=10_000))
HOP = LinkConfig(delay_us=40_000)
SECOND = 1_000_000
BEGIN_US = 2 * SECOND
"""By then all are connected and subscribed."""
VIEWERS = (1, 10, 100)
SECONDS = {1: 120, 10: 30, 100: 6}
"""Virtual, per run: about half a second of processor time on the floor."""
GOAL = 0.6
VIEWER_MEDIA = MediaLimits(cache_bytes_max=1 << 20, cache_groups_max=2)
"""A viewer needs no cache for late joiners: the running group and the one before."""


@dataclass(frozen=True)
class Kind:
    """A track: frames a second, bytes each, frames a group."""

    name: bytes
    every_us: int
    bytes: int
    group: int


TRACKS = (Kind(b"video", SECOND // 30, 12_500, 60), Kind(b"audio", SECOND // 50, 160, 50))
PAYLOADS = {kind.name: bytes(kind.bytes) for kind in TRACKS}
"""The same for every frame of a track, as on the floor."""

# ---- The simulator ---------------------------------------------------------------------------------


class ScheduledPublisher(Publisher):
    """Hands frames to the kernel ahead of time."""

    host = -1

    def frames(self, from_us: int, until_us: int) -> list[tuple[int, Command]]:
        """The frames of a stretch of time, each with its own."""
        commands: list[tuple[int, Command]] = []
        for kind in TRACKS:
            first = -(-(from_us - BEGIN_US) // kind.every_us)
            for number in count(first):
                at_us = BEGIN_US + number * kind.every_us
                if at_us >= until_us:
                    break
                group, place = divmod(number, kind.group)
                last = place == kind.group - 1
                self.publish(kind.name, group, place, PAYLOADS[kind.name], end_of_group=last)
                command = self.poll_command()
                assert command is not None
                commands.append((at_us, command))
        return commands


class RecordedViewer(Viewer):
    """Leaves its objects in the kernel."""

    record: Callable[[int], None]

    def poll_command(self) -> Command | None:
        """See `Viewer`."""
        command = super().poll_command()
        if isinstance(command, Command.AddSink):
            self.record(command.downstream)
        return command


def drain(engine: Publisher | Viewer) -> None:
    """Nobody asks."""
    while (event := engine.poll_event()) is not None:
        assert not isinstance(event, (client.Failed, client.Refused)), event


def add_viewer(world: FilmWorld, edge: Any) -> int:
    """A viewer that subscribes both tracks; its host."""
    viewer = RecordedViewer(ViewerConfig(world.connection(edge, ACCESS), NAMESPACE, media=VIEWER_MEDIA))
    host = world.add_client(viewer, ACCESS, lambda _: drain(viewer), (edge,))
    viewer.record = lambda sink: world.twin.world.record(host, sink)

    def start(now_us: int) -> None:
        viewer.start(now_us)
        for kind in TRACKS:
            viewer.subscribe(kind.name, now_us)

    world.twin.at(SECOND, start)
    return host


def simulate(viewers: int, seconds: int) -> dict[str, float]:
    """One run; figures of the media phase."""
    world = FilmWorld(1)
    origin = world.add_edge("origin")
    egress = world.add_edge("egress", upstream=origin, hop=HOP)
    publisher = ScheduledPublisher(PublisherConfig(world.connection(origin, ACCESS), NAMESPACE))
    for kind in TRACKS:
        publisher.add_track(kind.name)
    host = world.add_client(publisher, ACCESS, lambda _: drain(publisher), (origin,))
    world.twin.at(0, publisher.start)
    hosts = [add_viewer(world, egress) for _ in range(viewers)]
    kernel = world.twin.world
    world.run_until(BEGIN_US)
    datagrams, begin = kernel.stats()["datagrams"], time.thread_time()
    for now_us in range(BEGIN_US, BEGIN_US + seconds * SECOND, SECOND):
        kernel.schedule(host, publisher.frames(now_us, now_us + SECOND))
        world.run_until(now_us + SECOND)
    processor_s = time.thread_time() - begin  # as the floor: other libraries' threads do not count
    records = [kernel.take_record(host) for host in hosts]
    return {
        "processor_s": processor_s,
        "datagrams": kernel.stats()["datagrams"] - datagrams,
        "objects": sum(map(len, records)) // RECORD_DTYPE.itemsize,
        "rss_kib": rss_kib(),
    }


def rss_kib() -> int:
    """Resident memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


# ---- Anchors: simulators without protocols ---------------------------------------------------------

DATAGRAM_BYTES = 1_452
DATAGRAMS_OF_VIDEO = -(-12_500 // 1_400)
ACK_EVERY = 2
"""Datagrams per acknowledgement, about as QUIC sends them."""


def plain_heap(viewers: int, seconds: int) -> dict[str, float]:
    """Datagrams over the same links from a heap of Python tuples; acknowledgements, and nothing else."""
    heap: list[tuple[int, int, int, int]] = []
    order = count()
    sent = 0
    begin = time.process_time()

    def send(now_us: int, host: int, is_ack: bool) -> None:
        nonlocal sent
        sent += 1
        delay_us = 40_000 if host == 2 else 10_000
        heapq.heappush(heap, (now_us + delay_us, next(order), host, is_ack))

    for every_us, datagrams in ((SECOND // 30, DATAGRAMS_OF_VIDEO), (SECOND // 50, 1)):
        for at_us in range(0, seconds * SECOND, every_us):
            for _ in range(datagrams):
                heapq.heappush(heap, (at_us, next(order), 0, 0))
    got = [0] * (3 + viewers)
    while heap:
        now_us, _, host, is_ack = heapq.heappop(heap)
        if is_ack:
            continue
        if host < 2:
            send(now_us, host + 1, False)
        elif host == 2:
            for viewer in range(viewers):
                send(now_us, 3 + viewer, False)
        if host > 0:
            got[host] += 1
            if got[host] % ACK_EVERY == 0:
                send(now_us, 0, True)
    return {"processor_s": time.process_time() - begin, "datagrams": sent, "objects": 0, "rss_kib": rss_kib()}


def ns3(viewers: int, seconds: int) -> dict[str, float]:
    """ns-3's own UDP echo over point-to-point links: datagrams of this size, one way and back."""
    ns = importlib.import_module("ns").ns

    nodes = ns.NodeContainer()
    nodes.Create(2)
    link = ns.PointToPointHelper()
    link.SetDeviceAttribute("DataRate", ns.StringValue("10Gbps"))
    link.SetChannelAttribute("Delay", ns.StringValue("10ms"))
    devices = link.Install(nodes)
    ns.InternetStackHelper().Install(nodes)
    addresses = ns.Ipv4AddressHelper()
    addresses.SetBase(ns.Ipv4Address("10.1.0.0"), ns.Ipv4Mask("255.255.255.0"))
    interfaces = addresses.Assign(devices)
    per_second = 350 * viewers
    server = ns.UdpEchoServerHelper(9).Install(nodes.Get(1))
    server.Start(ns.Seconds(0))
    echo = ns.UdpEchoClientHelper(interfaces.GetAddress(1).ConvertTo(), 9)
    echo.SetAttribute("MaxPackets", ns.UintegerValue(per_second * seconds))
    echo.SetAttribute("Interval", ns.TimeValue(ns.Seconds(1 / per_second)))
    echo.SetAttribute("PacketSize", ns.UintegerValue(DATAGRAM_BYTES))
    echo.Install(nodes.Get(0)).Start(ns.Seconds(0))
    ns.Simulator.Stop(ns.Seconds(seconds + 1))
    begin = time.process_time()
    ns.Simulator.Run()
    processor_s = time.process_time() - begin
    ns.Simulator.Destroy()
    datagrams = 2 * per_second * seconds
    return {"processor_s": processor_s, "datagrams": datagrams, "objects": 0, "rss_kib": rss_kib()}


# ---- Runs ------------------------------------------------------------------------------------------

CHILDREN = {"simulator": simulate, "heap": plain_heap, "ns3": ns3}


def child(kind: str, viewers: int, seconds: int) -> dict[str, float]:
    """One run in a process of its own."""
    if kind == "bare":
        command = [str(BARE), str(viewers), str(seconds)]
    else:
        command = [sys.executable, __file__, "--child", kind, str(viewers), str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


@dataclass(frozen=True)
class Figures:
    """Medians over rounds."""

    processor_s: float
    spread: float
    """Of the rounds: greatest over least."""
    datagrams: float
    objects: float
    rss_kib: float
    seconds: int

    @classmethod
    def of(cls, runs: list[dict[str, float]], seconds: int) -> Figures:
        """From the runs of one kind and number of viewers."""
        times = [run["processor_s"] for run in runs]

        def median(name: str) -> float:
            return statistics.median(run[name] for run in runs)

        return cls(
            processor_s=median("processor_s"),
            spread=max(times) / min(times),
            datagrams=median("datagrams"),
            objects=median("objects"),
            rss_kib=median("rss_kib"),
            seconds=seconds,
        )

    @property
    def x_real_time(self) -> float:
        """Virtual seconds in one of a processor's."""
        return self.seconds / self.processor_s

    @property
    def us_per_datagram(self) -> float:
        """Processor time, both ends and all between."""
        return self.processor_s * 1e6 / self.datagrams


def measure(rounds: int) -> dict[tuple[str, int], Figures]:
    """Simulator and floor in turns, then the anchors once each."""
    runs: dict[tuple[str, int], list[dict[str, float]]] = {}
    for number in range(rounds):
        for viewers in VIEWERS:
            for kind in ("bare", "simulator") if number % 2 else ("simulator", "bare"):
                run = child(kind, viewers, SECONDS[viewers])
                runs.setdefault((kind, viewers), []).append(run)
                tell(f"round {number + 1}, {kind}, {viewers} viewers: {run['processor_s']:.3f} s")
    for kind in ("heap", *(["ns3"] if importlib.util.find_spec("ns") else [])):
        runs[kind, 10] = [child(kind, 10, SECONDS[10]) for _ in range(min(rounds, 3))]
    return {key: Figures.of(of, SECONDS[key[1]]) for key, of in runs.items()}


def tell(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def table(figures: dict[tuple[str, int], Figures]) -> None:
    """For people, on stderr."""
    tell("\nkind       viewers  x real time  us/datagram  datagrams/s  objects/s  RSS MiB  spread")
    for (kind, viewers), f in figures.items():
        tell(
            f"{kind:10} {viewers:7} {f.x_real_time:12.1f} {f.us_per_datagram:12.2f}"
            f" {f.datagrams / f.seconds:12.0f} {f.objects / f.seconds:10.0f} {f.rss_kib / 1024:8.1f}"
            f" {f.spread:7.2f}"
        )
    if ("ns3", 10) not in figures:
        tell("ns3: not measured, the wheel `ns3` is not installed")


def summary(figures: dict[tuple[str, int], Figures]) -> dict[str, float]:
    """The last line."""

    def ratio(viewers: int) -> float:
        return figures["bare", viewers].processor_s / figures["simulator", viewers].processor_s

    sim = {viewers: figures["simulator", viewers] for viewers in VIEWERS}
    few, many = VIEWERS[0], VIEWERS[-1]
    per_viewer_kib = (sim[many].rss_kib - sim[few].rss_kib) / (many - few)
    result = {f"ratio_to_bare_loop_{n}": ratio(n) for n in (few, many)}
    result |= {f"x_real_time_{n}": sim[n].x_real_time for n in VIEWERS}
    result["us_per_datagram"] = sim[many].us_per_datagram
    result["rss_per_viewer_kib"] = per_viewer_kib
    for name, key in (("heap_us_per_datagram", ("heap", 10)), ("ns3_us_per_datagram", ("ns3", 10))):
        if key in figures:
            result[name] = figures[key].us_per_datagram
    return {name: round(value, 3) for name, value in result.items()}


def main() -> int:
    """Run all, or one child."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--child", nargs=3, metavar=("KIND", "VIEWERS", "SECONDS"))
    options = parser.parse_args()
    if options.child:
        kind, viewers, seconds = options.child
        print(json.dumps(CHILDREN[kind](int(viewers), int(seconds))))
        return 0
    if not BARE.exists():
        tell(f"{BARE} is missing: run this by `make bench-sim`, which builds it")
        return 2
    figures = measure(options.rounds)
    table(figures)
    result = summary(figures)
    reached = all(result[f"ratio_to_bare_loop_{n}"] >= GOAL for n in (VIEWERS[0], VIEWERS[-1]))
    verdict = "reached" if reached else "missed"
    tell(f"goal, {GOAL} of the bare loop with {VIEWERS[0]} and {VIEWERS[-1]} viewers: {verdict}")
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
