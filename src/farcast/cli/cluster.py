"""A whole network on one machine: a control plane and edges as processes of their own, on loopback.

Every two edges are joined by links shaped in user space, one shaper for each edge that dials, so that each
direction can be cut, made lossy and mended while real sockets carry real media. For `farcast dev` and for
the fault tests. Nothing here is secure: a throw-away authority, anybody may publish and watch.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from subprocess import PIPE
from typing import Any

import trio

from farcast.certificates import HopAuthority, Identity
from farcast.errors import UserError
from farcast.proto._core import LinkConfig, UdpShaper
from farcast.proto.urls import join_host_port, split_host_port

HOST = "127.0.0.1"
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 15.0
LINE_BYTES_MAX = 1 << 20
PORT_STEP = 10
"""From one edge's port to the next one's; an edge's ops port is its own next."""


@dataclass(frozen=True, slots=True)
class Place:
    """One edge of the network: its node id and region."""

    node_id: str
    region: str


@dataclass(slots=True)
class Links:
    """Shapers by (dialling node, dialled node), and what they are like when nothing is wrong."""

    shapers: dict[tuple[str, str], UdpShaper] = field(default_factory=dict)
    normal: dict[tuple[str, str], LinkConfig] = field(default_factory=dict)
    """Each direction (from, to)."""

    def address(self, dialling: str, dialled: str) -> str:
        """Where an edge reaches another one."""
        return self.shapers[dialling, dialled].local_addr

    def cut(self, source: str, destination: str, *, both: bool = True) -> None:
        """Nothing passes from one edge to another, or either way."""
        for dialling, dialled in ((source, destination), (destination, source)):
            forward = dialling == source
            self.shapers[dialling, dialled].set_up(not (forward or both), not (both or not forward))

    def mend(self, source: str, destination: str) -> None:
        """As it was at first, both ways."""
        for dialling, dialled in ((source, destination), (destination, source)):
            shaper = self.shapers[dialling, dialled]
            shaper.set_up(True, True)
            shaper.set_links(self.normal[dialling, dialled], self.normal[dialled, dialling])

    def worsen(self, source: str, destination: str, loss: float, burst: float) -> None:
        """Lose a share of what goes from one edge to another; the other direction stays."""
        bad = _with_loss(self.normal[source, destination], loss, burst)
        back = self.normal[destination, source]
        self.shapers[source, destination].set_links(bad, back)
        self.shapers[destination, source].set_links(back, bad)

    def lay(self, links: Mapping[tuple[str, str], LinkConfig]) -> None:
        """From now on all links are like these when nothing is wrong; each direction (from, to)."""
        self.normal = dict(links)
        for source, destination in links:
            self.mend(source, destination)

    def close(self) -> None:
        """Stop all shapers."""
        for shaper in self.shapers.values():
            shaper.close()


class Process:
    """A child that says on stdout, in one JSON line, when it serves; its log goes to a file."""

    def __init__(
        self, name: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        self.ready: dict[str, Any] = {}
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._process: trio.Process | None = None

    @property
    def pid(self) -> int:
        """Of the running child."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Run it until it serves; `UserError` with the end of its log if it does not."""
        with self.log.open("a") as log:
            self._process = await trio.lowlevel.open_process(
                [str(Path(sys.executable).parent / "farcast"), *self._arguments],
                stdout=PIPE,
                stderr=log,
                env={**os.environ, **self._environment},
                start_new_session=True,
            )
        line = b""
        with trio.move_on_after(START_SECONDS_MAX):
            assert self._process.stdout is not None
            while not line.endswith(b"\n") and len(line) < LINE_BYTES_MAX:
                chunk = await self._process.stdout.receive_some(LINE_BYTES_MAX)
                if not chunk:
                    break
                line += chunk
        if not line.endswith(b"\n"):
            self.kill()
            raise UserError(f"{self.name} did not start: {self._log_tail()}")
        self.ready = json.loads(line)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL."""
        self.signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is left after a while."""
        if self._process is None:
            return
        with trio.CancelScope(shield=True):
            self.signal(signal.SIGCONT)
            self.signal(signal.SIGTERM)
            with trio.move_on_after(STOP_SECONDS_MAX):
                await self._process.wait()
            self.kill()
            await self._process.wait()
            if self._process.stdout is not None:
                await self._process.stdout.aclose()

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return lines[-1] if lines else "it wrote nothing"


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """``port`` of the first edge, 0 for free ones; ``environment`` is added to that of the children."""

    port: int = 0
    log_level: str = "info"
    drain_ms_max: int = 3_000
    environment: Mapping[str, str] = field(default_factory=dict)


class Cluster:
    """The running network. ``links`` joins every two of ``places``; see `open_cluster`."""

    def __init__(self, places: Sequence[Place], folder: Path, options: ClusterOptions) -> None:
        self.places = tuple(places)
        self.folder = folder
        self.links = Links()
        self.edges: dict[str, Process] = {}
        self.control: Process
        self._options = options
        self._ports = _ports(len(self.places), options.port)
        self._authority = HopAuthority(datetime.now(UTC))

    @property
    def state_dir(self) -> Path:
        """Of the control plane: where its API's address and token are."""
        return self.folder / "control"

    def listen(self, node_id: str) -> str:
        """``host:port`` of an edge, as clients beside it reach it."""
        index = [place.node_id for place in self.places].index(node_id)
        return f"{HOST}:{self._ports[index]}"

    def cert_sha256(self, node_id: str) -> str:
        """Of an edge's throw-away public certificate."""
        digest: str = self.edges[node_id].ready["cert_sha256"]
        return digest

    def join(self, links: Mapping[tuple[str, str], LinkConfig], seed: int = 0) -> None:
        """Lay the links, each direction (from, to); call before `start`."""
        self.links.normal = dict(links)
        for number, (dialling, dialled) in enumerate(links):
            self.links.shapers[dialling, dialled] = UdpShaper(
                f"{HOST}:0",
                self.listen(dialled),
                links[dialling, dialled],
                links[dialled, dialling],
                seed + number,
            )

    async def start(self) -> None:
        """Start the control plane, then all edges side by side."""
        self.state_dir.mkdir()
        (self.folder / "ca.pem").write_bytes(self._authority.certificate_pem())
        self._write("control", self._authority.issue_control("control"))
        await self.start_control()
        async with trio.open_nursery() as nursery:
            for place in self.places:
                self._write(place.node_id, self._authority.issue(place.region, place.node_id))
                nursery.start_soon(self.start_edge, place.node_id)

    async def start_control(self, listen: str = f"{HOST}:0") -> None:
        """Start the control plane, or start it again where it listened before."""
        arguments = [
            "control",
            "--listen",
            listen,
            "--state-dir",
            str(self.state_dir),
            "--api",
            f"{HOST}:0",
            "--ready-json",
        ]
        self.control = self._process("control", [*arguments, *self._hop_options("control")])
        await self.control.start()

    async def start_edge(self, node_id: str) -> None:
        """Start an edge, or start it again after it has gone."""
        (self.folder / f"{node_id}.toml").write_text(self._edge_config(node_id))
        arguments = ["edge", "--config", str(self.folder / f"{node_id}.toml"), "--ready-json"]
        self.edges[node_id] = self._process(node_id, arguments)
        await self.edges[node_id].start()

    async def stop(self) -> None:
        """End all that runs."""
        async with trio.open_nursery() as nursery:
            for process in [*self.edges.values(), *([self.control] if hasattr(self, "control") else [])]:
                nursery.start_soon(process.stop)
        self.links.close()

    def _process(self, name: str, arguments: Sequence[str]) -> Process:
        return Process(name, arguments, self.folder / f"{name}.log", self._options.environment)

    def _write(self, name: str, identity: Identity) -> None:
        (self.folder / f"{name}.pem").write_bytes(identity.chain_pem())
        key = self.folder / f"{name}.key"
        key.touch(mode=0o600)
        key.write_bytes(identity.key_pem())

    def _hop_options(self, name: str) -> list[str]:
        files = {"--hop-cert": f"{name}.pem", "--hop-key": f"{name}.key", "--hop-ca": "ca.pem"}
        return [part for option, file in files.items() for part in (option, str(self.folder / file))]

    def _edge_config(self, node_id: str) -> str:
        others = [place.node_id for place in self.places if place.node_id != node_id]
        peers = {other: self.links.address(node_id, other) for other in others}
        listen = self.listen(node_id)
        return "\n".join(
            [
                f"listen = {json.dumps(listen)}",
                f"ops = {json.dumps(_next_port(listen))}",
                "dev_cert = true",
                f"log_level = {json.dumps(self._options.log_level)}",
                f"drain_ms_max = {self._options.drain_ms_max}",
                "[hop]",
                f"cert = {json.dumps(f'{node_id}.pem')}",
                f"key = {json.dumps(f'{node_id}.key')}",
                'ca = "ca.pem"',
                "[auth]",
                'mode = "open"',
                "[control]",
                f"addresses = [{json.dumps(self.control.ready['listen'])}]",
                f"advertise = {json.dumps(listen)}",
                f"public_url = {json.dumps(f'moqt://{listen}')}",
                f"state_dir = {json.dumps(f'{node_id}.state')}",
                "[control.peer_addresses]",
                *(f"{json.dumps(other)} = {json.dumps(address)}" for other, address in peers.items()),
                "",
            ]
        )


@asynccontextmanager
async def open_cluster(
    places: Sequence[Place],
    links: Mapping[tuple[str, str], LinkConfig],
    folder: Path,
    options: ClusterOptions | None = None,
) -> AsyncIterator[Cluster]:
    """Run the network for the length of the block; all of it is ended at the end.

    ``links``: each direction (from, to) of every two places. ``folder`` is an empty one, for certificates,
    state and logs. `UserError` if a part does not start.
    """
    cluster = Cluster(places, folder, options or ClusterOptions())
    try:
        cluster.join(links)
        await cluster.start()
        yield cluster
    finally:
        with trio.CancelScope(shield=True):
            await cluster.stop()


def _ports(count: int, first: int) -> list[int]:
    """Where edges listen: each needs a port and the one after it, for UDP and TCP alike."""
    if first:
        return [first + PORT_STEP * number for number in range(count)]
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            if (port := _free_pair(held)) is not None:
                ports.append(port)
    return ports


def _free_pair(held: ExitStack) -> int | None:
    """A port that is free together with the next one; both stay held until the stack is left."""
    first = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    first.bind((HOST, 0))
    port: int = first.getsockname()[1]
    try:
        for number, kind in ((port, socket.SOCK_STREAM), (port + 1, socket.SOCK_STREAM)):
            held.enter_context(socket.socket(socket.AF_INET, kind)).bind((HOST, number))
    except OSError:
        return None
    return port


def _next_port(address: str) -> str:
    host, port = split_host_port(address)
    return join_host_port(host, port + 1)


def _with_loss(link: LinkConfig, loss: float, burst: float) -> LinkConfig:
    return LinkConfig(
        delay_us=link.delay_us,
        jitter_us=link.jitter_us,
        rate_bps=link.rate_bps,
        queue_bytes=link.queue_bytes,
        loss=loss,
        loss_burst=burst,
    )
