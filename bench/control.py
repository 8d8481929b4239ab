"""How long a report waits for its acknowledgement, and what a control plane costs, with many edges.

    python bench/control.py [--edges 200] [--seconds 60]

Real: the control plane, as its own process with its Rust QUIC endpoint, mutual TLS, SQLite file and planner;
one QUIC connection for each edge over loopback with a certificate of its own; both engines of the control
channel; plans that are considered by the plan store of every tenth edge (the others only answer: 200 stores
in one process would keep each other waiting, as edges on machines of their own do not). Not real: the edges'
end is the Rust datapath in one process, not one aioquic client per machine; what is reported is drawn from a
seeded model (edges on a plane, light loss), in the shape of a network at rest: of each edge's links 16 carry
media and are in every report, the others are repeated every four seconds, as `farcast.proto.telemetry` does.
Every tenth edge publishes too and is planned as an origin; everybody takes from all.

The last line is JSON: ``report_to_ack_ms_p99`` over all reports of the measured time, ``cpu_share`` of one
core (user and system time of the control plane's process, all its threads) and ``rss_mib`` (its peak).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from farcast.certificates import CONTROL_DOMAIN, Authority, make_authority
from farcast.control_plane.driver import Driver
from farcast.proto._core import LOCAL_STREAM_BIT, ClientTls, Command, DatapathConfig, Event, Runtime
from farcast.proto.control.edge_channel import EdgeChannel, EdgeChannelConfig
from farcast.proto.control.edge_plan import EdgePlan, PlanStore
from farcast.proto.control.events import Joined, PlanReceived, ReportAcked
from farcast.proto.control.messages import Hello, LinkReport, Load, Offer, PlanDelta, Report, TrackLoad
from farcast.proto.telemetry.sketch import Sketch

SECOND_US = 1_000_000
REGIONS = 12
MEDIA_LINKS = 16
REPEAT_S = 4
PUBLISHERS_EVERY = 10
STORES_EVERY = 10
PACKETS_MEDIA = 400
PACKETS_IDLE = 4
STREAM = LOCAL_STREAM_BIT
RAMP_SECONDS_MAX = 60.0
SETTLE_SECONDS = 10.0


@dataclass(slots=True)
class Edge:
    """One simulated edge."""

    number: int
    node_id: str
    x: float
    y: float
    channel: EdgeChannel
    store: PlanStore
    due_us: int = 0
    sequence: int = 0
    full: bool = True
    sent_us: dict[int, int] = field(default_factory=dict)
    plans: int = 0
    refused: int = 0

    @property
    def session(self) -> int:
        return 2 * self.number + 1


class Crowd:
    """The engine of all edges over one datapath."""

    def __init__(self, edges: int, seed: int) -> None:
        self._random = random.Random(seed)
        self.edges = [self._edge(number) for number in range(edges)]
        self._by_session = {edge.session: edge for edge in self.edges}
        self._commands: deque[Command] = deque()
        self._open: set[int] = set()
        self.measuring = False
        self.waits_us: list[int] = []
        self.closed: list[str] = []

    @property
    def joined(self) -> int:
        """Edges that were welcomed and follow a plan."""
        return sum(edge.channel.joined and edge.plans > 0 for edge in self.edges)

    def connect(self, now_us: int, address: str, authority: Authority) -> None:
        """Open a connection for each edge."""
        for edge in self.edges:
            identity = authority.issue(edge.node_id.partition("-")[0], edge.node_id)
            tls = ClientTls(roots=(authority.certificate,), chain=identity.chain, key=identity.key)
            self._commands.append(Command.Connect(edge.session, address, CONTROL_DOMAIN, "control", tls))
            edge.due_us = now_us + SECOND_US * edge.number // len(self.edges)

    def handle_event(self, event: Event, now_us: int) -> None:
        match event:
            case Event.SessionOpened(session=session):
                edge = self._by_session[session]
                self._open.add(session)
                self._commands.append(Command.OpenStream(session, STREAM, True))
                edge.channel.handle_connected(now_us)
                self._pump(edge, now_us)
            case Event.StreamData(session=session, data=data):
                edge = self._by_session[session]
                edge.channel.handle_data(data, now_us)
                self._pump(edge, now_us)
            case Event.SessionClosed(session=session, by=by, reason=reason):
                self._open.discard(session)
                self.closed.append(f"{self._by_session[session].node_id}: {by}: {reason}")

    def handle_timeout(self, now_us: int) -> None:
        for edge in self.edges:
            if edge.due_us > now_us:
                continue
            edge.due_us += SECOND_US
            if edge.channel.joined:
                report = self._report(edge, now_us)
                edge.sent_us[report.sequence] = now_us
                if edge.channel.send_report(report, now_us) is None:
                    edge.sequence += 1
                    edge.full = False
                self._pump(edge, now_us)

    def poll_command(self) -> Command | None:
        return self._commands.popleft() if self._commands else None

    def poll_timeout(self) -> int | None:
        return min(edge.due_us for edge in self.edges)

    def _pump(self, edge: Edge, now_us: int) -> None:
        while (event := edge.channel.poll_event()) is not None:
            match event:
                case Joined():
                    edge.full = True
                case PlanReceived(delta):
                    edge.plans += 1
                    edge.channel.answer_plan(delta.version, self._consider(edge, delta))
                case ReportAcked(sequence, resync):
                    edge.full |= resync
                    sent_us = edge.sent_us.pop(sequence, None)
                    if self.measuring and sent_us is not None:
                        self.waits_us.append(now_us - sent_us)
        while (data := edge.channel.poll_data()) is not None:
            if edge.session in self._open:
                self._commands.append(Command.Write(edge.session, STREAM, data))

    def _consider(self, edge: Edge, delta: PlanDelta) -> str | None:
        if edge.number % STORES_EVERY:
            return None
        taken = edge.store.consider(delta)
        if isinstance(taken, EdgePlan):
            return None
        edge.refused += 1
        return taken.reason

    # ---- The modelled network -----------------------------------------------------------------------

    def _edge(self, number: int) -> Edge:
        node_id = f"r{number % REGIONS}-{number}"
        hello = Hello(
            versions=(1,),
            node_id=node_id,
            region=f"r{number % REGIONS}",
            boot_id="b1",
            advertise=f"192.0.2.{number % 250 + 1}:443",
            public_url=f"https://{node_id}.example/",
            egress_bps_max=10**10,
        )
        channel = EdgeChannel(EdgeChannelConfig(hello))
        draw = self._random.random
        return Edge(number, node_id, draw() * 150, draw() * 60, channel, PlanStore(node_id))

    def _report(self, edge: Edge, now_us: int) -> Report:
        turn = edge.sequence % REPEAT_S
        count = len(self.edges)
        chosen = [
            other
            for other in self.edges
            if other is not edge
            and (
                edge.full
                or (other.number - edge.number) % count <= MEDIA_LINKS
                or other.number % REPEAT_S == turn
            )
        ]
        publishes = edge.number % PUBLISHERS_EVERY == 0
        return Report(
            boot_id="b1",
            sequence=edge.sequence,
            sent_us=now_us,
            interval_us=SECOND_US,
            full=edge.full,
            links=tuple(self._link(edge, other) for other in chosen),
            load=Load(cpu=0.2, egress_bps=10**8, viewers=100, tracks=40),
            demand=tuple(
                TrackLoad(origin=other.node_id, tracks=2, bps=3_000_000)
                for other in self.edges[::PUBLISHERS_EVERY]
                if other is not edge
            )
            if edge.full
            else None,
            offered=(Offer(namespace=(b"live", edge.node_id.encode()), age_us=now_us),)
            if edge.full and publishes
            else (),
        )

    def _link(self, edge: Edge, other: Edge) -> LinkReport:
        media = (other.number - edge.number) % len(self.edges) <= MEDIA_LINKS
        distance_ms = 2.0 + ((edge.x - other.x) ** 2 + (edge.y - other.y) ** 2) ** 0.5 * 1.6
        rtt_us = int(1_000 * distance_ms * (1 + 0.01 * self._random.random()))
        packets = PACKETS_MEDIA if media else PACKETS_IDLE
        lost = int(self._random.random() * 3) if media and self._random.random() < 0.1 else 0
        sketch = Sketch()
        sketch.add(rtt_us, packets - packets // 3)
        sketch.add(rtt_us * 1.03, packets // 3)
        return LinkReport(
            peer=other.node_id,
            rtt_latest_us=rtt_us,
            rtt_min_us=int(1_000 * distance_ms),
            rtt_smoothed_us=rtt_us,
            rtt_variation_us=rtt_us // 100,
            rtt_sketch=sketch.counts,
            rx_packets=packets,
            rx_lost=lost,
            rx_bursts=(lost, 0, 0, 0, 0, 0, 0, 0) if lost else (),
            rx_spacing_us=90,
            rx_bps=2_000_000 if media else 800,
            tx_bps=2_000_000 if media else 800,
            media=media,
        )


async def bench(edges: int, seconds: float) -> dict[str, Any]:
    """Run it; the figures."""
    with tempfile.TemporaryDirectory(prefix="farcast-bench-") as folder:
        authority = make_authority("bench", datetime.now(UTC))
        process = _start_control(Path(folder), authority)
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            return await _measure(process.pid, ready["listen"], authority, edges, seconds)
        finally:
            process.terminate()
            process.wait(20)


async def _measure(
    pid: int, address: str, authority: Authority, edges: int, seconds: float
) -> dict[str, Any]:
    runtime = Runtime("127.0.0.1:0", DatapathConfig(sessions_max=edges + 8))
    engine = Crowd(edges, seed=7)
    driver = Driver(runtime, engine)
    running = asyncio.create_task(driver.run())
    driver.call(Crowd.connect, address, authority)
    await _until_joined(engine, edges)
    await asyncio.sleep(SETTLE_SECONDS)
    engine.measuring = True
    plans_before = sum(edge.plans for edge in engine.edges)
    cpu_before, started = _cpu_seconds(pid), asyncio.get_running_loop().time()
    await asyncio.sleep(seconds)
    elapsed = asyncio.get_running_loop().time() - started
    cpu = (_cpu_seconds(pid) - cpu_before) / elapsed
    waits = sorted(engine.waits_us)
    figures = {
        "edges": edges,
        "report_to_ack_ms_p50": round(waits[len(waits) // 2] / 1e3, 2),
        "report_to_ack_ms_p99": round(waits[int(len(waits) * 0.99)] / 1e3, 2),
        "report_to_ack_ms_max": round(waits[-1] / 1e3, 2),
        "reports": len(waits),
        "plans_pushed": sum(edge.plans for edge in engine.edges) - plans_before,
        "plans_refused": sum(edge.refused for edge in engine.edges),
        "sessions_lost": len(engine.closed),
        "cpu_share": round(cpu, 3),
        "rss_mib": round(_peak_mib(pid), 1),
        "seconds": round(elapsed, 1),
    }
    driver.close()
    await running
    return figures


async def _until_joined(engine: Crowd, edges: int) -> None:
    async with asyncio.timeout(RAMP_SECONDS_MAX):
        while engine.joined < edges:
            await asyncio.sleep(0.2)
            if engine.closed:
                raise SystemExit(f"sessions closed: {engine.closed[:3]}")


def _start_control(folder: Path, authority: Authority) -> subprocess.Popen[bytes]:
    identity = authority.issue_control("c1")
    for name, content in (
        ("c1.pem", identity.chain_pem()),
        ("c1.key", identity.key_pem()),
        ("ca.pem", authority.certificate_pem()),
    ):
        (folder / name).write_bytes(content)
    flags = ["--listen=127.0.0.1:0", "--api=127.0.0.1:0", f"--state-dir={folder / 'state'}", "--ready-json"]
    flags += [
        f"--hop-cert={folder / 'c1.pem'}",
        f"--hop-key={folder / 'c1.key'}",
        f"--hop-ca={folder / 'ca.pem'}",
    ]
    command = [str(Path(sys.executable).with_name("farcast")), "control", *flags]
    with (folder / "control.log").open("wb") as log:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _peak_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1_024
    return 0.0


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Load one control plane with many edges.")
    parser.add_argument("--edges", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    figures = asyncio.run(bench(arguments.edges, arguments.seconds))
    for name, value in figures.items():
        print(f"{name:22} {value}", file=sys.stderr)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
