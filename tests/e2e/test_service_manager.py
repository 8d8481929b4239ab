"""What systemd hears of real processes: that they serve, live, and stop; silence when an edge hangs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import killed_at_end
from edges import FARCAST

WATCHDOG_SECONDS = 0.6


@pytest.fixture
def heard(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(30)
        yield listener


def serve(heard: socket.socket, *arguments: str | Path) -> subprocess.Popen[str]:
    environ = {**os.environ, "NOTIFY_SOCKET": heard.getsockname()}
    environ["WATCHDOG_USEC"] = str(int(WATCHDOG_SECONDS * 1e6))
    return subprocess.Popen(
        [FARCAST, *map(str, arguments)], env=environ, stderr=subprocess.DEVNULL, text=True
    )


def is_silent_at_last(heard: socket.socket) -> bool:
    """Nothing more comes within the socket's timeout, of at most what was on its way."""
    for _ in range(3):
        try:
            heard.recv(100)
        except TimeoutError:
            return True
    return False


def stops(process: subprocess.Popen[str], heard: socket.socket) -> None:
    """It says so before it ends, and ends well."""
    process.send_signal(signal.SIGTERM)
    while (state := heard.recv(100)) == b"WATCHDOG=1":
        pass
    assert state == b"STOPPING=1"
    assert process.wait(30) == 0


def test_an_edge_tells_that_it_serves_lives_and_stops(heard: socket.socket) -> None:
    listening = ("--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--dev-cert", "--auth", "open")
    edge = serve(heard, "edge", *listening)
    with killed_at_end(edge):
        assert [heard.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        stops(edge, heard)


def test_an_edge_that_hangs_says_nothing(heard: socket.socket) -> None:
    listening = ("--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--dev-cert", "--auth", "open")
    edge = serve(heard, "edge", *listening)
    with killed_at_end(edge):
        assert [heard.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]
        edge.send_signal(signal.SIGSTOP)
        heard.settimeout(3 * WATCHDOG_SECONDS)
        assert is_silent_at_last(heard)
        edge.send_signal(signal.SIGCONT)
        heard.settimeout(30)
        assert heard.recv(100) == b"WATCHDOG=1"
        stops(edge, heard)


def test_a_control_plane_tells_it_too(heard: socket.socket, tmp_path: Path) -> None:
    ca, certs = tmp_path / "ca", tmp_path / "certs"
    issue = ("issue", "--dir", ca, "--role", "control", "--name", "c1", "--out", certs)
    for arguments in (("init", "--dir", ca, "--cluster", "shows"), issue):
        subprocess.run([FARCAST, "ca", *map(str, arguments)], check=True, capture_output=True, timeout=30)
    hop = ("--hop-cert", certs / "c1.pem", "--hop-key", certs / "c1.key", "--hop-ca", certs / "ca.pem")
    state = ("--state-dir", tmp_path / "state", "--api", "127.0.0.1:0", "--listen", "127.0.0.1:0")
    control = serve(heard, "control", *state, *hop)
    with killed_at_end(control):
        assert [heard.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        stops(control, heard)
