"""Two `farcast control` processes, real edge links, and a real Consul agent (`make consul`)."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import commands
import pytest
import trio

from farcast.certificates import Authority, make_authority
from farcast.edge.control_connection import ControlTls
from farcast.edge.control_link import ControlLink, ControlLinkOptions
from farcast.proto.control import events as e
from farcast.proto.control import messages as m
from farcast.proto.control.edge_channel import EdgeChannel, EdgeChannelConfig
from farcast.proto.control.edge_plan import EdgePlan, PlanStore

THREE = ("fra-1", "jkt-1", "sin-1")
TAKEOVER_SECONDS_MAX = 15


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Consul:
    """A development agent: a server of its own."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port(socket.SOCK_STREAM)
        ports = [f"-http-port={self.port}", "-dns-port=-1", "-grpc-port=-1"]
        ports += [
            f"-{name}-port={free_port(socket.SOCK_STREAM)}" for name in ("server", "serf-lan", "serf-wan")
        ]
        local = ["-dev", "-bind=127.0.0.1", "-client=127.0.0.1"]
        self.process = subprocess.Popen(
            [os.environ["FARCAST_CONSUL"], "agent", *local, *ports], stdout=subprocess.DEVNULL
        )
        wait_for(lambda: self.ask("GET", "/v1/status/leader") not in (None, ""), 20)

    def ask(self, method: str, path: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=3) as response:
                return json.load(response)
        except OSError:
            return None

    def leader(self) -> Any:
        found = self.ask("GET", "/v1/kv/farcast/shows/leader")
        return found[0] if found else None

    def named(self) -> Any:
        """Who holds the lock."""
        key = self.leader()
        return json.loads(base64.b64decode(key["Value"]))["name"] if key and "Session" in key else None


def wait_for(holds: Callable[[], bool], seconds_max: float) -> None:
    deadline = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Edge:
    """A real control link that knows both control planes."""

    def __init__(self, authority: Authority, node_id: str, addresses: list[str]) -> None:
        region = node_id.partition("-")[0]
        self.node_id, self.sequence = node_id, 0
        self.store = PlanStore(node_id)
        self.epochs: list[int] = []
        self.refusals: list[str] = []
        hello = m.Hello(
            versions=(1,), node_id=node_id, region=region, boot_id="b1", advertise="192.0.2.1:443"
        )
        tls = ControlTls(authority.issue(region, node_id), (authority.certificate,))
        options = ControlLinkOptions(addresses, tls, retry_ms=50, retry_ms_max=500)
        self.link = ControlLink(EdgeChannel(EdgeChannelConfig(hello)), options, self._on_event)

    @property
    def routes(self) -> dict[str, tuple[str, ...]]:
        routes = self.store.plan.routes if self.store.plan else {}
        return {origin: tuple(route.upstreams) for origin, route in routes.items()}

    @property
    def plan_epoch(self) -> int:
        return self.store.plan.version.epoch.number if self.store.plan else 0

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.link.run)
            while True:
                await trio.sleep(1)
                if self.link.joined:
                    self.report(full=False)

    def report(self, full: bool) -> None:
        links = tuple(
            m.LinkReport(peer=peer, rtt_smoothed_us=80_000, rtt_min_us=80_000, rx_packets=25)
            for peer in THREE
            if peer != self.node_id
        )
        offered = (m.Offer(namespace=(b"live", b"film")),) if full and self.node_id == "jkt-1" else ()
        self.link.send_report(
            m.Report(
                boot_id="b1",
                sequence=self.sequence,
                sent_us=int(trio.current_time() * 1e6) % (1 << 50),
                interval_us=1_000_000,
                full=full,
                links=links,
                offered=offered,
            )
        )
        self.sequence += 1

    def _on_event(self, event: e.EdgeEvent) -> None:
        match event:
            case e.Joined(welcome):
                self.epochs.append(welcome.epoch.number)
                self.report(full=True)
            case e.Refused(reason):
                self.refusals.append(reason)
            case e.PlanReceived(delta):
                taken = self.store.consider(delta)
                refusal = None if isinstance(taken, EdgePlan) else taken.reason
                self.link.answer_plan(delta.version, refusal)
            case e.ReportAcked(_, True):
                self.report(full=True)


class Cluster:
    """Consul and two control planes; the first one leads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = make_authority("shows", datetime.now(UTC))
        (directory / "ca.pem").write_bytes(self.authority.certificate_pem())
        self.consul = Consul()
        self.addresses = [f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}" for _ in range(2)]
        self.controls: list[subprocess.Popen[str]] = []
        for number, listen in enumerate(self.addresses, 1):
            self.controls.append(self._start(f"c{number}", listen))
            wait_for(lambda: self.consul.leader() is not None, 15)

    def _start(self, name: str, listen: str) -> subprocess.Popen[str]:
        identity = self.authority.issue_control(name)
        cert, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        cert.write_bytes(identity.chain_pem())
        key.write_bytes(identity.key_pem())
        files = [f"--hop-cert={cert}", f"--hop-key={key}", f"--hop-ca={self.directory / 'ca.pem'}"]
        registry = ["--registry=consul", f"--consul=127.0.0.1:{self.consul.port}"]
        state = [f"--state-dir={self.directory / name}", "--api=127.0.0.1:0", f"--listen={listen}"]
        return commands.start("control", *files, *registry, *state)

    def close(self) -> None:
        processes: list[subprocess.Popen[Any]] = [*self.controls, self.consul.process]
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


async def until(holds: Callable[[], bool], seconds_max: float = 25) -> float:
    begun = time.monotonic()
    with trio.fail_after(seconds_max):
        while not holds():
            await trio.sleep(0.05)
    return time.monotonic() - begun


async def settled(edges: list[Edge]) -> None:
    """Until every other edge has a way to the film, and no route has changed for four seconds."""
    await until(lambda: all("jkt-1" in edge.routes for edge in (edges[0], edges[2])))
    with trio.fail_after(40):
        before: list[dict[str, tuple[str, ...]]] = []
        while before != [edge.routes for edge in edges]:
            before = [edge.routes for edge in edges]
            await trio.sleep(4)


def play(cluster: Cluster, scenario: Callable[[list[Edge]], Awaitable[None]]) -> None:
    edges = [Edge(cluster.authority, node_id, cluster.addresses) for node_id in THREE]

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for edge in edges:
                nursery.start_soon(edge.run)
            await settled(edges)
            await scenario(edges)
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_leader_killed_the_standby_leads_in_time_and_routes_stay(cluster: Cluster) -> None:
    async def scenario(edges: list[Edge]) -> None:
        before = [edge.routes for edge in edges]
        epoch = edges[0].plan_epoch
        cluster.controls[0].kill()
        took_s = await until(lambda: all(edge.epochs[-1] > epoch for edge in edges), TAKEOVER_SECONDS_MAX)
        await until(lambda: all(edge.plan_epoch > epoch for edge in edges))
        assert [edge.routes for edge in edges] == before
        assert any("stands by; the leader is c1" in text for edge in edges for text in edge.refusals)
        print(json.dumps({"takeover_s": round(took_s, 2)}))

    play(cluster, scenario)


def test_consul_lost_the_leader_leads_on_and_nobody_else_is_elected(cluster: Cluster) -> None:
    async def scenario(edges: list[Edge]) -> None:
        epochs = [list(edge.epochs) for edge in edges]
        cluster.consul.process.kill()
        await trio.sleep(8)
        assert [edge.epochs for edge in edges] == epochs
        assert all(edge.link.joined for edge in edges)

    play(cluster, scenario)


def test_key_deleted_a_new_leader_is_not_of_a_lower_epoch(cluster: Cluster) -> None:
    async def scenario(edges: list[Edge]) -> None:
        epoch = edges[0].plan_epoch
        cluster.consul.ask("DELETE", "/v1/kv/farcast?recurse=true")
        await until(lambda: bool((cluster.consul.leader() or {}).get("Session")))
        await until(lambda: all(edge.link.joined and edge.epochs[-1] >= epoch for edge in edges))

    play(cluster, scenario)


def test_session_lost_one_leads_again(cluster: Cluster) -> None:
    async def scenario(edges: list[Edge]) -> None:
        lost = cluster.consul.leader()["Session"]
        cluster.consul.ask("PUT", f"/v1/session/destroy/{lost}")
        await until(lambda: (cluster.consul.leader() or {}).get("Session") not in (None, lost))
        await until(lambda: all(edge.link.joined for edge in edges))

    play(cluster, scenario)


def test_two_leaders_the_older_one_stands_down_and_no_edge_follows_it(cluster: Cluster) -> None:
    async def scenario(edges: list[Edge]) -> None:
        epoch = edges[0].plan_epoch
        cluster.controls[0].send_signal(signal.SIGSTOP)
        await until(lambda: cluster.consul.named() == "c2")
        cluster.controls[0].send_signal(signal.SIGCONT)
        await until(lambda: all(edge.epochs[-1] > epoch for edge in edges))
        await trio.sleep(3)
        assert cluster.consul.named() == "c2"
        assert all(edge.link.joined and edge.epochs == sorted(edge.epochs) for edge in edges)
        assert cluster.controls[0].poll() is None

    play(cluster, scenario)


def test_consul_restarted_empty_one_leads_and_epochs_never_fall(cluster: Cluster) -> None:
    async def scenario(edges: list[Edge]) -> None:
        cluster.consul.process.kill()
        cluster.consul.process.wait()
        cluster.consul = await trio.to_thread.run_sync(Consul, cluster.consul.port)
        await until(lambda: bool((cluster.consul.leader() or {}).get("Session")))
        await trio.sleep(3)
        await until(lambda: all(edge.link.joined for edge in edges))
        assert all(edge.epochs == sorted(edge.epochs) for edge in edges)

    play(cluster, scenario)
