"""Edges as an operator runs them: real processes on loopback, with a throw-away authority for hops."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from farcast.certificates import HopAuthority

FARCAST = str(Path(sys.executable).parent / "farcast")
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 15
SIGNAL_SECONDS = 0.2
"""Between two signals: those that come together count as one."""


@dataclass
class Edge:
    """A running edge process."""

    process: subprocess.Popen[str]
    listen: str
    ops: str
    cert_sha256: str

    def get(self, path: str) -> httpx.Response:
        """Ask the ops listener."""
        return httpx.get(f"http://{self.ops}{path}", timeout=20)

    def status(self) -> dict[str, Any]:
        """What /status.json says."""
        status: dict[str, Any] = self.get("/status.json").json()
        return status

    def block(self, seconds: float) -> None:
        """Keep the edge's Python thread busy."""
        httpx.post(f"http://{self.ops}/test/block?seconds={seconds}", timeout=seconds + 20)

    def stop(self) -> int:
        """SIGTERM, and the exit code; SIGKILL if it does not end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def force(self) -> None:
        """SIGTERM until it has ended: the second one forces it."""
        until = time.monotonic() + STOP_SECONDS_MAX
        while self.process.poll() is None:
            assert time.monotonic() < until, "an edge does not end when it is forced"
            self.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(SIGNAL_SECONDS)


class Edges:
    """Starts edges that know one another's authority."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = HopAuthority(datetime.now(UTC))
        self._started: list[Edge] = []
        (folder / "ca.pem").write_bytes(self._authority.certificate_pem())

    @property
    def authority(self) -> HopAuthority:
        """Of their hops."""
        return self._authority

    def start(
        self,
        node_id: str,
        *arguments: str,
        listen: str = "127.0.0.1:0",
        auth: str = "open",
        hooks: bool = False,
    ) -> Edge:
        """An edge with a development certificate and a hop identity, on free ports, serving."""
        identity = self._authority.issue("local", node_id)
        cert, key = self._folder / f"{node_id}.pem", self._folder / f"{node_id}.key"
        cert.write_bytes(identity.chain_pem())
        key.write_bytes(identity.key_pem())
        hop = ["--hop-cert", str(cert), "--hop-key", str(key), "--hop-ca", str(self._folder / "ca.pem")]
        command = [FARCAST, "edge", "--listen", listen, "--ops", "127.0.0.1:0", "--dev-cert"]
        command += ["--auth", auth]
        log = (self._folder / f"{node_id}.log").open("w")
        with log:
            process = subprocess.Popen(
                [*command, "--ready-json", *hop, *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "FARCAST_TEST_HOOKS": "1" if hooks else ""},
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            process.wait(START_SECONDS_MAX)
            raise AssertionError((self._folder / f"{node_id}.log").read_text())
        ready = json.loads(line)
        edge = Edge(process, ready["listen"], ready["ops"], ready["cert_sha256"])
        self._started.append(edge)
        return edge

    def log(self, node_id: str) -> str:
        """What an edge has logged so far."""
        return (self._folder / f"{node_id}.log").read_text()

    def stop(self) -> None:
        """End all that still run, without a drain: their clients may have been killed."""
        for edge in self._started:
            edge.force()
            assert edge.process.stdout is not None
            edge.process.stdout.close()


@contextlib.contextmanager
def edges_in(folder: Path) -> Iterator[Edges]:
    """Edges that are stopped at the end of the block."""
    edges = Edges(folder)
    try:
        yield edges
    finally:
        edges.stop()
