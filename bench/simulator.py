"""How fast the simulator is, beside QUIC alone on the same kernel, and beside simulators without protocols.

The world: publisher -> edge -> edge -> N viewers, 3 Mbit/s of video at 30 frames a second and sound 50 times
a second, 10 ms to and from the edges and 40 ms between them, nothing lost. On our side everything shipped is
in it: datapaths, agents, publisher and viewer engines; frames are scheduled a second ahead, and viewers'
objects recorded. The floor (``simulations/net/examples/bare_loop.rs``) moves the same bytes over QUIC, a
stream for each object, and knows nothing else. Anchors: a heap of events in plain Python, and ns-3, which
move datagrams of that size and number and have no protocol at all (`simulator_anchors.py`).

Every run is a process of its own; runs of one kind and the other take turns, and the median of their
processor time counts: the media phase alone, connecting left out. Noise is the spread of the rounds, stated
beside it. A goal that is missed is named and leaves the exit code 0: the machine may be busy with other work.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from bench import callgrind
from bench.simulator_anchors import rss_kib

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
INSTRUCTION_SECONDS = (20, 50)
"""Virtual, of the two runs whose difference counts."""
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


# ---- Runs ------------------------------------------------------------------------------------------

ANCHORS = {"heap": sys.executable, "ns3": os.environ.get("FARCAST_NS3", "")}
"""Which Python runs them; empty where there is none that has ns-3."""


def child(kind: str, viewers: int, seconds: int) -> dict[str, float]:
    """One run in a process of its own."""
    done = subprocess.run(
        command(kind, viewers, seconds), check=True, capture_output=True, text=True, timeout=600, cwd=ROOT
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def command(kind: str, viewers: int, seconds: int) -> list[str]:
    """What runs one."""
    numbers = [str(viewers), str(seconds)]
    if kind == "bare":
        return [str(BARE), *numbers]
    if kind in ANCHORS:
        return [ANCHORS[kind], str(Path(__file__).with_name("simulator_anchors.py")), kind, *numbers]
    return [sys.executable, "-m", "bench.simulator", "--child", *numbers]


def instructions(kind: str) -> float:
    """Of a virtual second with one viewer, Python included and what comes before the film left out."""
    short, long = (
        callgrind.instructions(command(kind, 1, seconds), cwd=ROOT) for seconds in INSTRUCTION_SECONDS
    )
    return (long - short) / (INSTRUCTION_SECONDS[1] - INSTRUCTION_SECONDS[0])


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
    for kind in (kind for kind, python in ANCHORS.items() if python):
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
        tell("ns3: not measured, for pip could not install it (`make bench-sim` does)")


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
    parser.add_argument("--instructions", action="store_true", help="count them, too (valgrind; minutes)")
    parser.add_argument("--child", nargs=2, metavar=("VIEWERS", "SECONDS"))
    options = parser.parse_args()
    if options.child:
        print(json.dumps(simulate(*map(int, options.child))))
        return 0
    if not BARE.exists():
        tell(f"{BARE} is missing: run this by `make bench-sim`, which builds it")
        return 2
    figures = measure(options.rounds)
    table(figures)
    result = summary(figures)
    for viewers in (VIEWERS[0], VIEWERS[-1]):
        ratio = result[f"ratio_to_bare_loop_{viewers}"]
        verdict = "reached" if ratio >= GOAL else "missed"
        tell(f"{verdict}: {ratio:.2f} of the bare loop with {viewers} viewers, the goal is {GOAL}")
    if options.instructions:
        bare, ours = instructions("bare"), instructions("simulator")
        millions = f"bare {bare / 1e6:.1f}, simulator {ours / 1e6:.1f}"
        tell(f"millions of instructions for a virtual second with 1 viewer: {millions}")
        result["instructions_ratio_to_bare_loop_1"] = round(bare / ours, 3)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
