"""Real Consul servers, ``farcast control`` processes beside them, and real control links of edges."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import trio
from edges import FARCAST

from farcast.certificates import Authority, make_authority
from farcast.cli.control_api import ControlApi, control_api
from farcast.edge.control_connection import ControlTls
from farcast.edge.control_link import ControlLink, ControlLinkOptions
from farcast.errors import UserError
from farcast.proto.control import events as e
from farcast.proto.control import messages as m
from farcast.proto.control.edge_channel import EdgeChannel, EdgeChannelConfig
from farcast.proto.control.edge_plan import EdgePlan, PlanStore

SETUP_SECONDS_MAX = 60
"""Until everything runs, on a machine that is busy; nothing is measured meanwhile."""
THREE = ("fra-1", "jkt-1", "sin-1")
ORIGIN = "jkt-1"
Routes = dict[str, tuple[str, ...]]


_given: set[int] = set()
"""Ports that were given away: the system may offer the same one again before it is in use."""


def free_port(kind: socket.SocketKind) -> int:
    while True:
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.bind(("127.0.0.1", 0))
            port: int = sock.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port


def wait_for(holds: Callable[[], bool], seconds_max: float) -> None:
    deadline = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Consul:
    """One server. ``directory``: where it keeps what it knows; without one it forgets all at its end.
    ``hcl``: more of its configuration; ``token``: by which `ask` asks."""

    def __init__(
        self,
        directory: Path | None = None,
        *,
        peers: int = 1,
        join: int | None = None,
        hcl: Sequence[str] = (),
        token: str = "",
    ) -> None:
        self._headers = {"X-Consul-Token": token} if token else {}
        self.port, self.serf_port = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM)
        ports = [f"-http-port={self.port}", "-dns-port=-1", "-grpc-port=-1"]
        ports += [f"-serf-lan-port={self.serf_port}"]
        ports += [f"-{name}-port={free_port(socket.SOCK_STREAM)}" for name in ("server", "serf-wan")]
        local = ["-bind=127.0.0.1", "-client=127.0.0.1", f"-node=n{self.port}", "-log-level=err"]
        quiet = "-hcl=disable_update_check = true"
        more = [f"-hcl={each}" for each in hcl]
        self._arguments = [os.environ["FARCAST_CONSUL"], "agent", quiet, *more, *local, *ports]
        if directory is None:
            self._arguments.append("-dev")
        else:
            self._arguments += ["-server", f"-bootstrap-expect={peers}", f"-data-dir={directory}"]
            self._arguments += ["-hcl=performance { raft_multiplier = 1 }"]
        if join is not None:
            self._arguments += [f"-retry-join=127.0.0.1:{join}", "-retry-interval=1s"]
        self.start()

    def start(self) -> None:
        """Also again."""
        self.process = subprocess.Popen(self._arguments, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """Without a word."""
        self.process.kill()
        self.process.wait()

    @property
    def has_leader(self) -> bool:
        """Whether there is a quorum that it knows of."""
        return self.ask("GET", "/v1/status/leader") not in (None, "")

    def ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        """The answer, or ``None``."""
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, body, self._headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=3) as response:
                return json.load(response)
        except (OSError, ValueError):
            return None

    def lock(self) -> dict[str, Any]:
        """The leader's key; empty where there is none."""
        found = self.ask("GET", "/v1/kv/farcast/shows/leader")
        return found[0] if found else {}

    def edges(self) -> dict[str, str]:
        """State of each edge's service by node id; the best, where several control planes tell of one."""
        found: dict[str, str] = {}
        for row in self.ask("GET", "/v1/health/service/farcast-edge") or ():
            (state,) = {c["Status"] for c in row["Checks"] if c["CheckID"].startswith("service:")}
            node_id = row["Service"]["Meta"]["node_id"]
            found[node_id] = max(found.get(node_id, ""), state)  # critical < passing < warning
        return found

    def named(self) -> str | None:
        """Who holds the lock."""
        key = self.lock()
        if "Session" not in key:
            return None
        name: str = json.loads(base64.b64decode(key["Value"]))["name"]
        return name


@contextlib.contextmanager
def three_servers(directory: Path) -> Iterator[list[Consul]]:
    """Three of them, with a quorum."""
    first = Consul(directory / "consul-1", peers=3)
    others = [Consul(directory / f"consul-{n}", peers=3, join=first.serf_port) for n in (2, 3)]
    servers = [first, *others]
    try:
        wait_for(lambda: all(server.has_leader for server in servers), SETUP_SECONDS_MAX)
        yield servers
    finally:
        for server in servers:
            server.kill()


class Gate:
    """Stands before a Consul and lets through, or answers 500 to everything (``failing``)."""

    def __init__(self, to_port: int) -> None:
        self.failing = False
        self._to = ("127.0.0.1", to_port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """No more."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self.failing:
                client.recv(65_536)
                client.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 9\r\n\r\nno quorum")
                return
            with socket.create_connection(self._to) as server:
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


class Edge:
    """A real control link that knows all control planes, and reports what `rtt_ms` says."""

    def __init__(self, authority: Authority, node_id: str, addresses: Sequence[str]) -> None:
        region = node_id.partition("-")[0]
        self.node_id, self.sequence = node_id, 0
        self.rtt_ms: dict[str, int] = {}
        """To others; 80 unless it is here."""
        self.store = PlanStore(node_id)
        self.routes_since: list[Routes] = []
        """What each plan in force has said, the newest last; whoever looks empties it."""
        self.epochs: list[int] = []
        self.refusals: list[str] = []
        self.drained = False
        self.usage: tuple[m.KeyUsage, ...] = ()
        """Told with every report."""
        hello = m.Hello(
            versions=(1,), node_id=node_id, region=region, boot_id="b1", advertise="192.0.2.1:443"
        )
        tls = ControlTls(authority.issue(region, node_id), (authority.certificate,))
        channel = EdgeChannel(EdgeChannelConfig(hello))
        self.link = ControlLink(channel, ControlLinkOptions(addresses, tls), self._on_event)

    @property
    def routes(self) -> Routes:
        """Upstreams by origin, of the plan in force."""
        routes = self.store.plan.routes if self.store.plan else {}
        return {origin: tuple(route.upstreams) for origin, route in routes.items()}

    @property
    def epoch(self) -> int:
        """Of the plan in force."""
        return self.store.plan.version.epoch.number if self.store.plan else 0

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.link.run)
            while True:
                await trio.sleep(1)
                if self.link.joined:
                    self._report(full=False)

    def _report(self, full: bool) -> None:
        links = tuple(self._measured(peer) for peer in THREE if peer != self.node_id)
        offered = (m.Offer(namespace=(b"live", b"film")),) if full and self.node_id == ORIGIN else ()
        self.link.send_report(
            m.Report(
                boot_id="b1",
                sequence=self.sequence,
                sent_us=int(trio.current_time() * 1e6) % (1 << 50),
                interval_us=1_000_000,
                full=full,
                links=links,
                offered=offered,
                usage=self.usage,
            )
        )
        self.sequence += 1

    def _measured(self, peer: str) -> m.LinkReport:
        rtt_us = self.rtt_ms.get(peer, 80) * 1_000
        return m.LinkReport(peer=peer, rtt_smoothed_us=rtt_us, rtt_min_us=rtt_us, rx_packets=25)

    def _on_event(self, event: e.EdgeEvent) -> None:
        match event:
            case e.Joined(welcome):
                self.epochs.append(welcome.epoch.number)
                self._report(full=True)
            case e.Refused(reason):
                self.refusals.append(reason)
            case e.PlanReceived(delta):
                taken = self.store.consider(delta)
                refusal = None if isinstance(taken, EdgePlan) else taken.reason
                self.routes_since.append(self.routes)
                self.link.answer_plan(delta.version, refusal)
            case e.ReportAcked(_, True):
                self._report(full=True)
            case e.DrainOrdered():
                self.drained = True


class Control:
    """One ``farcast control`` process."""

    def __init__(self, directory: Path, name: str, command: list[str], **environ: str) -> None:
        self._environ = {**os.environ, **environ}
        self.name, self.state_dir = name, directory / name
        self._log = (directory / f"{name}.log").open("wb")
        self._command = [*command, f"--state-dir={self.state_dir}"]
        self.start()

    def start(self) -> None:
        """Also again."""
        arguments = [FARCAST, "control", *self._command]
        self.process = subprocess.Popen(arguments, stdout=self._log, stderr=self._log, env=self._environ)

    @property
    def api(self) -> ControlApi:
        """Its API, as commands on its machine find it."""
        return control_api(self.state_dir, None, None)

    def says(self) -> str:
        """What it answers to who asks for its status: that it leads, or who does."""
        try:
            return f"leads in epoch {self.api.get('/status')['epoch']}"
        except UserError as error:
            return error.message

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> None:
        """Whatever state it is in."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self._log.close()


def _says(control: Control, text: str) -> bool:
    return control.says() == text


class Cluster:
    """Control planes c1, which leads, and c2, which stands by; three edges that know both. ``flags``: more of
    each control plane."""

    def __init__(self, directory: Path, consul_ports: Sequence[int], flags: Sequence[str] = ()) -> None:
        self.directory, self._flags = directory, flags
        self.authority = make_authority("shows", datetime.now(UTC))
        (directory / "ca").mkdir()
        (directory / "ca" / "ca.pem").write_bytes(self.authority.certificate_pem())
        (directory / "ca" / "ca.key").write_bytes(self.authority.key_pem())
        self.addresses = [f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}" for _ in range(2)]
        self.controls: list[Control] = []
        try:
            for number, port in enumerate(consul_ports, 1):
                self.add(f"c{number}", self.addresses[number - 1], port)
                wait_for(lambda: self.controls[0].says().startswith("leads"), SETUP_SECONDS_MAX)
            stands_by = "this control plane stands by; the leader is c1"
            for control in self.controls[1:]:
                wait_for(partial(_says, control, stands_by), SETUP_SECONDS_MAX)
        except BaseException:
            self.close()
            raise
        self.edges = [Edge(self.authority, node_id, self.addresses) for node_id in THREE]

    def add(self, name: str, listen: str, consul_port: int, **environ: str) -> Control:
        """One more control plane."""
        self.controls.append(self._control(name, listen, consul_port, **environ))
        return self.controls[-1]

    def _control(self, name: str, listen: str, consul_port: int, **environ: str) -> Control:
        identity = self.authority.issue_control(name)
        cert, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        cert.write_bytes(identity.chain_pem())
        key.write_bytes(identity.key_pem())
        ca = self.directory / "ca"
        command = [f"--hop-cert={cert}", f"--hop-key={key}", f"--hop-ca={ca / 'ca.pem'}", f"--ca-dir={ca}"]
        command.append("--registry=consul")
        if not any(flag.startswith("--consul=") for flag in self._flags):
            command.append(f"--consul=127.0.0.1:{consul_port}")
        command += ["--api=127.0.0.1:0", f"--listen={listen}", *self._flags]
        command += [f"--advertise={address}" for address in self.addresses]
        return Control(self.directory, name, command, **environ)

    def close(self) -> None:
        """End all processes."""
        for control in self.controls:
            control.end()

    @property
    def leader(self) -> Control:
        """The control plane that leads."""
        return next(control for control in self.controls if control.says().startswith("leads"))

    @property
    def routes(self) -> list[Routes]:
        """Those of all edges."""
        return [edge.routes for edge in self.edges]

    def all_joined(self, epoch_min: int = 0) -> bool:
        """Whether all edges follow a leader of such an epoch."""
        return all(edge.link.joined and edge.epochs[-1] >= epoch_min for edge in self.edges)


async def until(holds: Callable[[], bool], seconds_max: float = 25) -> float:
    """Wait for it; how long that took."""
    begun = time.monotonic()
    with trio.fail_after(seconds_max):
        while not holds():
            await trio.sleep(0.05)
    return time.monotonic() - begun
