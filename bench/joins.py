"""How many viewers one edge takes in a second, beside bare QUIC handshakes of the same library.

    make bench-joins

A join is all that a cold viewer does with its edge: QUIC handshake, MoQT SETUP, SUBSCRIBE_NAMESPACE and the
catalog, then SUBSCRIBE of the video until its first object, the keyframe, is whole; then the viewer goes and
another comes. Real: the edge, as its own process with default limits; UDP on loopback; every handshake,
its certificate verified; every message. The load generator is one process: our own client datapath with one
session per viewer. The first viewer runs the MoQT engine; all others repeat its messages byte by byte and
take the aliases that it was given, so that the generator costs the machine little.

Three parts, in one run: bare handshakes (`proto/rust/io/examples/handshakes.rs`: noq-proto and rustls alone,
a server and a client thread) before and after; as many joins as go through with ``--in-flight`` under way;
then joins at half that pace, from which the times to the first object come. Edge and generator share the
machine's cores, and so do server and client of the floor; the processor time per join of each of the edge's
threads says what an edge with cores of its own would take.

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from farcast.certificates import make_dev_identity
from farcast.proto._core import (
    CacheLimits,
    ClientTls,
    Command,
    DatapathConfig,
    Event,
    LargestCell,
    Runtime,
)
from farcast.proto.agent.config import Target
from farcast.proto.agent.link import ControlLink
from farcast.proto.client import Publisher, PublisherConfig
from farcast.proto.client.config import ConnectionConfig
from farcast.proto.client.connection import IMPLEMENTATION
from farcast.proto.moqt import events as moqt
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.values import SetupOptions

SPACE: Final = TrackNamespace((b"bench", b"joins"))
CATALOG, VIDEO = b"catalog", b"video"
CATALOG_BYTES: Final = 900
FRAMES_PER_SECOND: Final = 25
FRAMES_A_GROUP: Final = 50
KEYFRAME_BYTES: Final = 20_000
FRAME_BYTES: Final = 2_500
WARM_UP_S: Final = 2.0
JOIN_S_MAX: Final = 10.0
"""A join that takes longer has failed."""
FAILED_SHARE_MAX: Final = 0.01
JOINS_MAX: Final = 200_000
"""Of one run, whatever its time."""
EXAMPLE: Final = ("cargo", "run", "--quiet", "--locked", "--release", "-p", "farcast-io", "--example")
ROOT: Final = Path(__file__).resolve().parent.parent


@dataclass(slots=True)
class Script:
    """What a viewer sends at each step, as (command, arguments after the session), and its aliases."""

    opened: list[tuple[type, tuple[Any, ...]]] = field(default_factory=list)
    established: list[tuple[type, tuple[Any, ...]]] = field(default_factory=list)
    catalogued: list[tuple[type, tuple[Any, ...]]] = field(default_factory=list)
    aliases: dict[bytes, int] = field(default_factory=dict)


@dataclass(slots=True)
class Join:
    """One viewer under way. ``step``: 0 connects, 1 awaits SETUP, 2 the catalog, 3 the picture."""

    number: int
    started_us: int
    step: int = 0

    @property
    def session(self) -> int:
        return 2 * self.number + 1

    def id_of(self, name: bytes) -> int:
        """Of its track, and of the sink on it."""
        return 2 * self.number + 1 + (name == VIDEO)


class Source:
    """The publisher: a catalog and a video, driven by hand."""

    def __init__(self, address: str, tls: ClientTls) -> None:
        self.runtime = Runtime("127.0.0.1:0", DatapathConfig())
        self.engine = Publisher(
            PublisherConfig(ConnectionConfig(Target("quic", address, "localhost", tls)), SPACE)
        )
        for name in (CATALOG, VIDEO):
            self.engine.add_track(name)
        self.engine.start(self.runtime.now_us())
        self.engine.publish(CATALOG, 0, 0, bytes(CATALOG_BYTES), end_of_group=True)
        self._frames = 0

    @property
    def due_s(self) -> float:
        """Until the next frame."""
        return max(self._frames / FRAMES_PER_SECOND - self.runtime.now_us() / 1e6, 0.0)

    def turn(self) -> None:
        """Do what is due."""
        now_us = self.runtime.now_us()
        for event in self.runtime.drain_events(512):
            self.engine.handle_event(event, now_us)
        timeout_us = self.engine.poll_timeout()
        if timeout_us is not None and timeout_us <= now_us:
            self.engine.handle_timeout(now_us)
        while self.engine.poll_event() is not None:
            pass
        while self._frames / FRAMES_PER_SECOND <= now_us / 1e6:
            group, number = divmod(self._frames, FRAMES_A_GROUP)
            size = FRAME_BYTES if number else KEYFRAME_BYTES
            self.engine.publish(VIDEO, group, number, bytes(size), end_of_group=number == FRAMES_A_GROUP - 1)
            self._frames += 1
        commands = []
        while (command := self.engine.poll_command()) is not None:
            commands.append(command)
        if commands:
            self.runtime.execute(commands)


class Crowd:
    """All viewers, over one client datapath."""

    def __init__(self, address: str, tls: ClientTls) -> None:
        self.runtime = Runtime("127.0.0.1:0", DatapathConfig(sessions_max=65_536))
        self.script = Script()
        self.took_us: list[int] = []
        self.failures: list[str] = []
        self.joins: dict[int, Join] = {}
        self._address, self._tls = address, tls
        self._number = 0
        self._by_sink: dict[int, tuple[Join, bytes]] = {}
        self._commands: list[Command] = []
        self._rehearsal: ControlLink | None = None
        self._asked: dict[int, bytes] = {}

    def start(self) -> None:
        """Let another viewer come."""
        join = Join(self._number, self.runtime.now_us())
        self._number += 1
        self.joins[join.session] = join
        self._commands.append(Command.Connect(join.session, self._address, "localhost", "quic", self._tls))

    def turn(self) -> None:
        """Take what has come, answer it, and give up whom nobody answers."""
        for event in self.runtime.drain_events(4_096):
            self._take(event)
        now_us = self.runtime.now_us()
        while self.joins:
            oldest = next(iter(self.joins.values()))
            if now_us - oldest.started_us < JOIN_S_MAX * 1e6:
                break
            self._end(oldest, f"step {oldest.step} has no answer")
        if self._commands:
            self.runtime.execute(self._commands)
            self._commands = []

    def _take(self, event: Event) -> None:
        match event:
            case Event.Object(downstream=sink):
                found = self._by_sink.get(sink)
                if found is not None:
                    self._take_object(*found)
            case Event.SessionOpened(session=session):
                self._opened(self.joins[session], event)
            case Event.StreamData(session=session, kind=kind):
                join = self.joins.get(session)
                if join is None:
                    return
                if self._is_rehearsal(join):
                    self._rehearse(join, event)
                elif kind == "control" and join.step == 1:
                    self._established(join)
            case Event.SessionClosed(session=session, by=by, reason=reason):
                if (join := self.joins.get(session)) is not None:
                    self._end(join, f"{by}: {reason}")

    def _take_object(self, join: Join, name: bytes) -> None:
        if name == CATALOG and join.step == 2:
            join.step = 3
            if self._is_rehearsal(join) and self._rehearsal is not None:
                self._ask(self._rehearsal, VIDEO)
                self.script.catalogued = self._recorded(join, self._rehearsal)
            else:
                self._hold(join, VIDEO)
                self._say(join, self.script.catalogued)
        elif name == VIDEO:
            self._end(join, None)

    def _opened(self, join: Join, event: Event.SessionOpened) -> None:
        join.step = 1
        if self._is_rehearsal(join):
            self._rehearsal = ControlLink(event, SetupOptions(implementation=IMPLEMENTATION))
            self.script.opened = self._recorded(join, self._rehearsal)
        else:
            self._say(join, self.script.opened)

    def _established(self, join: Join) -> None:
        join.step = 2
        self._hold(join, CATALOG)
        self._say(join, self.script.established)

    def _hold(self, join: Join, name: bytes) -> None:
        """A track, a sink on it, and where it comes from."""
        at = join.id_of(name)
        self._by_sink[at] = join, name
        self._commands += (
            Command.AddTrack(at, LargestCell(), CacheLimits(1 << 20, 1_000, 2)),
            Command.AddSink(at, at, (0, 0)),
            Command.BindUpstream(join.session, self.script.aliases[name], at),
        )

    def _say(self, join: Join, steps: list[tuple[type, tuple[Any, ...]]]) -> None:
        self._commands += (make(join.session, *rest) for make, rest in steps)

    def _end(self, join: Join, failure: str | None) -> None:
        del self.joins[join.session]
        for name in (CATALOG, VIDEO):
            if self._by_sink.pop(join.id_of(name), None) is not None:
                self._commands.append(Command.RemoveTrack(join.id_of(name)))
        self._commands.append(Command.Close(join.session))
        if failure is not None:
            self.failures.append(failure)
        else:
            self.took_us.append(self.runtime.now_us() - join.started_us)

    # ---- The first viewer -------------------------------------------------------------------------

    def _is_rehearsal(self, join: Join) -> bool:
        return join.number == 0

    def _rehearse(self, join: Join, event: Event.StreamData) -> None:
        link = self._rehearsal
        assert link is not None
        link.feed(event)
        while (notice := link.engine.poll_event()) is not None:
            if isinstance(notice, moqt.Established):
                join.step = 2
                link.engine.subscribe_namespace(SPACE)
                self._ask(link, CATALOG)
                self.script.established = self._recorded(join, link)
            elif isinstance(notice, moqt.SubscribeAccepted):
                name = self._asked[notice.request]
                self.script.aliases[name] = notice.alias
                self._hold(join, name)

    def _ask(self, link: ControlLink, name: bytes) -> None:
        self._asked[link.engine.subscribe(FullTrackName(SPACE, name))] = name

    def _recorded(self, join: Join, link: ControlLink) -> list[tuple[type, tuple[Any, ...]]]:
        """What the engine has to say: said, and written down."""
        found: list[tuple[type, tuple[Any, ...]]] = []
        for command in link.commands():
            match command:
                case Command.OpenStream(_, stream, bidi):
                    found.append((Command.OpenStream, (stream, bidi)))
                case Command.Write(_, stream, data, fin):
                    found.append((Command.Write, (stream, data, fin)))
            self._commands.append(command)
        return found


class Bench:
    """An edge process with its publisher and its crowd."""

    def __init__(self, folder: Path) -> None:
        self._process = _start_edge(folder)
        self._sides: list[Source | Crowd] = []
        try:
            self._begin(folder)
        except BaseException:
            self.close()
            raise

    def _begin(self, folder: Path) -> None:
        """The publisher, and the viewer whose messages all others repeat."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit((folder / "edge.log").read_text())
        ready = json.loads(line)
        tls = ClientTls(fingerprints=[bytes.fromhex(ready["cert_sha256"])])
        self._source = Source(ready["listen"], tls)
        self._sides.append(self._source)
        self._pass_time(1.0)
        self.crowd = Crowd(ready["listen"], tls)
        self._sides.append(self.crowd)
        self.crowd.start()
        self._pass_time(JOIN_S_MAX, until_idle=True)
        if not self.crowd.took_us:
            raise SystemExit(f"the first viewer saw nothing: {self.crowd.failures}")

    def saturate(self, in_flight: int, seconds: float) -> tuple[float, dict[str, float]]:
        """Joins per second with so many under way, and the edge's processor time per join by thread, us."""
        self._run(WARM_UP_S, in_flight=in_flight)
        self.crowd.took_us.clear()
        before, started = thread_seconds(self._process.pid), time.monotonic()
        self._run(seconds, in_flight=in_flight)
        elapsed, count = time.monotonic() - started, len(self.crowd.took_us)
        after = thread_seconds(self._process.pid)
        used = {name: 1e6 * (after[name] - before.get(name, 0.0)) / max(count, 1) for name in after}
        self._pass_time(JOIN_S_MAX, until_idle=True)
        return count / elapsed, used

    def at_pace(self, per_second: float, seconds: float) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Times from connecting to the first object, ms, with joins that come in regular distances."""
        self.crowd.took_us.clear()
        self._run(seconds, per_second=per_second)
        self._pass_time(JOIN_S_MAX, until_idle=True)
        return np.array(self.crowd.took_us) / 1e3

    def close(self) -> None:
        """End the edge."""
        for side in self._sides:
            side.runtime.close()
        for _ in range(2):
            self._process.terminate()
            time.sleep(0.2)
        self._process.wait(20)

    def _run(self, seconds: float, *, in_flight: int = 0, per_second: float = 0.0) -> None:
        started, begun, crowd = time.monotonic(), 0, self.crowd
        while (elapsed := time.monotonic() - started) < seconds and len(crowd.took_us) < JOINS_MAX:
            wanted = int(elapsed * per_second) - begun if per_second else in_flight - len(crowd.joins)
            for _ in range(wanted):
                crowd.start()
                begun += 1
            self._turn(0.002 if per_second else 0.02)

    def _pass_time(self, seconds: float, *, until_idle: bool = False) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and (not until_idle or self.crowd.joins):
            self._turn(0.02)

    def _turn(self, wait_s: float) -> None:
        for side in self._sides:
            side.turn()
        readable = [side.runtime.event_fd for side in self._sides]
        select.select(readable, [], [], min(wait_s, self._source.due_s))


def thread_seconds(pid: int) -> dict[str, float]:
    """User and system time of each thread of a process so far; threads of one name together."""
    found: dict[str, float] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        head, _, rest = (task / "stat").read_text().rpartition(")")
        fields, name = rest.split(), head.partition("(")[2]
        name = "agent (Python)" if int(task.name) == pid else name
        found[name] = found.get(name, 0.0) + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return found


def handshakes(folder: Path, seconds: float, in_flight: int) -> tuple[float, float]:
    """Bare handshakes per second, and the server's processor time for one, us."""
    identity = make_dev_identity(datetime.now(UTC))
    (folder / "cert.der").write_bytes(identity.chain[0])
    (folder / "key.der").write_bytes(identity.key)
    command = [*EXAMPLE, "handshakes", "--", str(folder / "cert.der"), str(folder / "key.der")]
    ran = subprocess.run(
        [*command, str(seconds), str(in_flight)], cwd=ROOT, stdout=subprocess.PIPE, check=True, timeout=600
    )
    figures = json.loads(ran.stdout.splitlines()[-1])
    return figures["handshakes"] / figures["seconds"], 1e6 * figures["server_cpu_s"] / figures["handshakes"]


def _start_edge(folder: Path) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("farcast")), "edge", "--listen", "127.0.0.1:0"]
    command += [
        "--ops",
        "127.0.0.1:0",
        "--dev-cert",
        "--auth",
        "open",
        "--node-id",
        "bench-1",
        "--log-level",
        "warning",
    ]
    with (folder / "edge.log").open("w") as log:
        return subprocess.Popen([*command, "--ready-json"], stdout=subprocess.PIPE, stderr=log, text=True)


def bench(seconds: float, in_flight: int) -> dict[str, float]:
    """Run it all; print a table; the figures."""
    with tempfile.TemporaryDirectory(prefix="farcast-bench-") as name:
        folder = Path(name)
        floors = [handshakes(folder, seconds / 3, in_flight)]
        running = Bench(folder)
        try:
            per_s, used_us = running.saturate(in_flight, seconds)
            took_ms = running.at_pace(per_s / 2, seconds / 2)
            crowd = running.crowd
            failed = len(crowd.failures)
            if failed > FAILED_SHARE_MAX * max(len(took_ms), 1):
                raise SystemExit(f"{failed} joins failed, such as: {crowd.failures[:3]}")
        finally:
            running.close()
        floors.append(handshakes(folder, seconds / 3, in_flight))
    floor, floor_us = np.mean(floors, axis=0).tolist()
    p50_ms, p99_ms = np.quantile(took_ms, (0.5, 0.99)).tolist()
    _show(per_s, used_us, floor, floor_us, in_flight)
    print(f"to the first object at {per_s / 2:.0f} joins/s: p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms")
    busiest_us = max(used_us.values())
    return {
        "joins_per_s": round(per_s, 1),
        "handshakes_per_s_floor": round(floor, 1),
        "ratio": round(per_s / floor, 3),
        "ms_to_first_object_p50": round(p50_ms, 2),
        "ms_to_first_object_p99": round(p99_ms, 2),
        "edge_cpu_us_per_join": round(sum(used_us.values()), 1),
        "floor_cpu_us_per_handshake": round(floor_us, 1),
        "joins_per_s_of_the_busiest_thread": round(1e6 / busiest_us, 1),
        "failed": failed,
    }


def _show(per_s: float, used_us: dict[str, float], floor: float, floor_us: float, in_flight: int) -> None:
    print(f"{in_flight} under way; edge and load generator share {os.cpu_count()} cores")
    print(f"{'':30} {'per second':>12} {'server us each':>16}")
    print(f"{'bare QUIC handshakes':30} {floor:12.0f} {floor_us:16.0f}")
    print(f"{'joins of one edge':30} {per_s:12.0f} {sum(used_us.values()):16.0f}")
    for name, each_us in sorted(used_us.items(), key=lambda item: -item[1]):
        if each_us >= 1:
            print(f"{'  its thread ' + name:30} {'':12} {each_us:16.0f}")


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=12.0, help="of the joins; the other parts follow")
    parser.add_argument("--in-flight", type=int, default=32, help="joins under way at once, at most 512")
    arguments = parser.parse_args()
    if not 1 <= arguments.in_flight <= 512 or not 1 <= arguments.seconds <= 120:
        parser.error("--in-flight is 1 to 512, --seconds 1 to 120")
    print(json.dumps(bench(arguments.seconds, arguments.in_flight)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
