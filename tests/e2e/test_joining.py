"""Joining on real processes: a token makes an edge, once; it renews its certificate, and is removed."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import Outcome, end, figures, killed_at_end, start
from edges import FARCAST

from farcast.certificates import make_authority
from farcast.proto.joining.tokens import JoinToken, decode_join_token

SECONDS_MAX = 30
FILM = "testsrc=size=320x180:gop=1"


def until(condition: Callable[[], object]) -> None:
    """Wait for what other processes do."""
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.05)


@dataclass
class Edge:
    """A running edge that joined."""

    process: subprocess.Popen[str]
    ready: dict[str, Any]

    def control(self) -> dict[str, Any]:
        status = httpx.get(f"http://{self.ready['ops']}/status.json", timeout=20).json()
        found: dict[str, Any] = status["control"]
        return found

    def hops(self) -> set[int]:
        """The sessions with other edges."""
        status = httpx.get(f"http://{self.ready['ops']}/status.json", timeout=20).json()
        return {s["session"] for s in status["datapath"]["sessions"] if s["transport"] == "hop"}

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.process.send_signal(number)
        self.process.wait(SECONDS_MAX)


@dataclass
class Network:
    """A control plane and the edges that joined it."""

    folder: Path
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def serve(self, name: str, *arguments: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        with (self.folder / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [FARCAST, *arguments, "--ready-json"], stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (self.folder / f"{name}.log").read_text()
        return process, json.loads(line)

    def control(self, *more: str, issues: bool = True, listen: str = "127.0.0.1:0") -> dict[str, Any]:
        files = [f"--hop-{kind}={self.folder / name}" for kind, name in
                 (("cert", "c1.pem"), ("key", "c1.key"), ("ca", "ca/ca.pem"))]  # fmt: skip
        issuing = [f"--ca-dir={self.folder / 'ca'}"] if issues else []
        addresses = [f"--listen={listen}", "--api=127.0.0.1:0", *self.state]
        return self.serve("control", "control", *addresses, *files, *issuing, *more)[1]

    @property
    def state(self) -> tuple[str]:
        return (f"--state-dir={self.folder / 'control'}",)

    def ask(self, *tokens: str) -> Outcome:
        return end(start(*tokens, *self.state))

    def done(self, *tokens: str) -> str:
        outcome = self.ask(*tokens)
        assert outcome.code == 0, outcome.err
        return outcome.out.strip()

    def token(self, *options: str, region: str = "sin") -> str:
        return self.done("join-token", "--region", region, *options)

    def edge_arguments(self, name: str, *options: str) -> list[str]:
        listen = ["--listen=127.0.0.1:0", "--ops=127.0.0.1:0", "--dev-cert", "--auth=open"]
        return ["edge", *listen, f"--state-dir={self.folder / name}", *options]

    def edge(self, name: str, *options: str) -> Edge:
        return Edge(*self.serve(name, *self.edge_arguments(name, *options)))

    def refused(self, name: str, *options: str) -> str:
        """The one line in which an edge says why it does not start."""
        outcome = end(start(*self.edge_arguments(name, *options)))
        assert outcome.code in (1, 2), outcome.err
        (line,) = outcome.complaints
        return line

    def nodes(self) -> list[str]:
        return [node["node_id"] for node in json.loads(self.ask("status", "--json").out)["edges"]]

    def logs(self) -> str:
        return "".join(file.read_text() for file in self.folder.glob("*.log"))


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    authority = make_authority("shows", datetime.now(UTC))
    identity = authority.issue_control("c1")
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "ca.pem").write_bytes(authority.certificate_pem())
    (tmp_path / "ca" / "ca.key").write_bytes(authority.key_pem())
    (tmp_path / "c1.pem").write_bytes(identity.chain_pem())
    (tmp_path / "c1.key").write_bytes(identity.key_pem())
    made = Network(tmp_path)
    try:
        yield made
    finally:
        with killed_at_end(*made.running):
            pass


def test_a_token_makes_an_edge_once_and_it_starts_without_one_from_then_on(network: Network) -> None:
    network.control()
    token = network.token()
    file = network.folder / "token"
    file.write_text(token + "\n")
    began = time.monotonic()
    edge = network.edge("sin", "--join", f"@{file}")
    until(lambda: network.nodes() == ["sin-1"])
    assert time.monotonic() - began < 15.0
    private = network.folder / "sin" / "identity.pem"
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert not (network.folder / "sin" / "joining.key").exists()

    line = network.refused("other", "--join", token)
    assert line.endswith(
        "refused by the control plane: the join token was used already, by sin-1; make another one"
    )
    edge.stop()
    again = network.edge("sin", "--join", f"@{file}")
    until(lambda: again.control()["connected"])
    again.stop()
    without = network.edge("sin")
    until(lambda: without.control()["connected"])
    second = network.edge("sin-two", "--join", network.token())
    until(lambda: network.nodes() == ["sin-1", "sin-2"])
    assert second.control()["cluster"] == "shows"

    secret = decode_join_token(token).secret
    database = (network.folder / "control" / "control.sqlite3").read_bytes()
    for text in (network.logs(), line, json.dumps(without.control())):
        assert token not in text
        assert secret.hex() not in text
    assert secret not in database
    assert secret.hex().encode() not in database


def test_what_cannot_join_is_told_why_in_one_line(network: Network) -> None:
    network.control("--regions", "sin,fra")
    token = network.token("--node-id", "sin-7")
    assert network.ask("join-token", "--region", "lon").complaints == [
        "farcast: region 'lon' is not of this cluster; its regions are fra, sin"
    ]
    line = network.refused("a", "--join", token, "--region", "fra")
    assert line == "farcast: region is set to 'fra', the join token is for 'sin'"
    line = network.refused("a", "--join", token, "--node-id", "sin-8")
    assert line.endswith("the join token is for sin-7, not for sin-8")

    held = decode_join_token(token)
    other = JoinToken(
        held.addresses, b"\1" * 32, held.region, held.node_id, held.token_id, held.secret, held.expires_unix_s
    )
    assert "belongs to another authority" in network.refused("a", "--join", other.encode())
    guess = JoinToken(
        held.addresses, held.authority_sha256, "sin", None, held.token_id, b"\2" * 32, held.expires_unix_s
    )
    assert network.refused("a", "--join", guess.encode()).endswith("is not one of this cluster's")
    assert "is cut off or damaged" in network.refused("a", "--join", token[:-9])
    nobody = network.folder / "nobody"
    assert f"@{nobody} cannot be read" in network.refused("a", "--join", f"@{nobody}")

    short = network.token("--valid", "1s")
    time.sleep(2.1)
    assert "the join token has expired" in network.refused("a", "--join", short)
    edge = network.edge("a", "--join", token)
    until(lambda: edge.control()["connected"])
    assert network.nodes() == ["sin-7"]
    line = network.refused("b", "--join", network.token(), "--node-id", "sin-7")
    assert "there is an edge sin-7 already" in line


def test_a_control_plane_without_the_authority_makes_no_tokens(network: Network) -> None:
    network.control(issues=False)
    (line,) = network.ask("join-token", "--region", "sin").complaints
    assert line.startswith("farcast: this control plane has no authority to issue certificates with")
    assert "--ca-dir" in line


@pytest.mark.slow
def test_certificates_are_renewed_under_a_running_film_and_no_frame_is_lost(network: Network) -> None:
    network.control("--cert-life", "15s")
    origin = network.edge("sin", "--join", network.token())
    egress = network.edge("fra", "--join", network.token(region="fra"))
    until(lambda: all(edge.control()["plan_version"] for edge in (origin, egress)))
    until(lambda: network.nodes() == ["fra-1", "sin-1"])
    publisher = start(
        "publish", FILM, f"moqt://{origin.ready['listen']}", "--namespace", "live/room1", "--insecure"
    )
    with killed_at_end(publisher):
        watcher = start(
            "watch", f"moqt://{egress.ready['listen']}", "--namespace", "live/room1", "--insecure",
            "--no-edge-list", "--seconds", "18", "--json",
        )  # fmt: skip
        with killed_at_end(watcher):
            until(egress.hops)
            hops = egress.hops()
            before = (network.folder / "fra" / "identity.pem").read_bytes()
            watched = figures(watcher, 60)
    assert origin.control()["certificates_renewed"] >= 2
    assert egress.control()["certificates_renewed"] >= 2
    assert (network.folder / "fra" / "identity.pem").read_bytes() != before
    assert watched["frames"] > 400
    assert (watched["missing"], watched["gaps"]) == (0, 0)
    assert hops <= egress.hops()
    # Whoever connects anew, after the first certificates' end, does it with renewed ones.
    egress.stop()
    back = network.edge("fra")
    until(lambda: back.control()["connected"])
    until(lambda: len(back.hops()) >= 2)


def test_a_removed_edge_leaves_the_plan_and_comes_back_only_with_a_new_token(network: Network) -> None:
    network.control()
    first = network.edge("sin", "--join", network.token())
    second = network.edge("fra", "--join", network.token(region="fra"))
    until(lambda: network.nodes() == ["fra-1", "sin-1"])

    until(first.hops)
    network.done("remove", "fra-1")
    until(lambda: network.nodes() == ["sin-1"])
    until(lambda: not second.control()["connected"])
    until(lambda: "comes back with a new join token" in (second.control()["last_failure"] or ""))
    until(lambda: not first.hops())
    assert network.ask("remove", "fra-1").complaints == ["farcast: no edge 'fra-1'; known are sin-1"]
    second.stop()

    still = network.edge("fra")
    until(lambda: "comes back with a new join token" in (still.control()["last_failure"] or ""))
    assert network.nodes() == ["sin-1"]
    still.stop()
    back = network.edge("fra", "--join", network.token("--node-id", "fra-1", region="fra"))
    until(lambda: back.control()["connected"])
    until(lambda: network.nodes() == ["fra-1", "sin-1"])
    until(first.hops)

    network.done("ca", "revoke", "sin-1")
    until(lambda: network.nodes() == ["fra-1"])
    until(lambda: not first.control()["connected"])
