"""Version N and N-1 of the control channel together, on real processes and real sockets.

The records have had one version so far. What N+1 will offer and write is made here: (2, 1), or with 1
forgotten (3, 2), and records with fields that nobody knows yet; what N-1 writes lacks those that came since.
An end that has a version in common works; one that has none is told by name which ones there are, and media
goes on. The same of what lies on disk: an upgrade, and the way back, start on the state directory there is.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from access_tokens import X
from commands import killed_at_end
from edges import FARCAST
from tests.edge.control_server import EPOCH, Changes, ControlServer, make_authority
from version_states import (
    as_earlier_control_plane,
    as_later_control_plane,
    rewrite_plan,
    what_only_a_later_version_knows,
)
from versions import NEWER, OLDER, earlier, frame_of, later, record_in

from farcast.cli.control_api import control_api
from farcast.proto.control import events as e
from farcast.proto.control import messages as m
from farcast.proto.control.edge_channel import EdgeChannel, EdgeChannelConfig

from .test_control import THREE, Cluster, Edge, cluster, play

__all__ = ["cluster"]

SECONDS_MAX = 30


class OtherVersion(EdgeChannel):
    """An edge's end that offers other versions, and writes records as those would."""

    def __init__(self, config: EdgeChannelConfig, rewrite: Callable[[Any], Any]) -> None:
        super().__init__(config)
        self._rewrite = rewrite

    def poll_data(self) -> bytes | None:
        frame = super().poll_data()
        return None if frame is None else frame_of(self._rewrite(record_in(frame)))


def edge_of(cluster: Cluster, node_id: str, versions: tuple[int, ...], rewrite: Callable[[Any], Any]) -> Edge:
    edge = Edge(cluster, node_id, THREE)
    edge.link.channel = OtherVersion(
        EdgeChannelConfig(edge.link.channel._config.hello, versions=versions), rewrite
    )
    return edge


def test_a_control_plane_serves_edges_of_three_versions_together_and_refuses_a_fourth_by_name(
    cluster: Cluster,
) -> None:
    cluster.start()
    served = [
        edge_of(cluster, "fra-1", NEWER, later),
        edge_of(cluster, "jkt-1", OLDER, earlier),
        Edge(cluster, "sin-1", THREE),
    ]
    too_new = edge_of(cluster, "lon-1", (3, 2), later)

    async def scenario() -> None:
        for edge in served:
            await edge.until(lambda edge: edge.store.plan is not None and len(edge.store.plan.nodes) == 3)
        served[0].report(full=False, offered=(m.Offer(namespace=(b"live", b"film")),))
        for edge in served:
            await edge.until(lambda edge: edge.directory == {(b"live", b"film"): "fra-1"})
        await too_new.until(lambda edge: bool(edge.heard(e.Refused)))
        done = await trio.to_thread.run_sync(lambda: cluster.ask("drain", "jkt-1", "--seconds", "7"))
        assert done.returncode == 0, done.stderr
        await served[1].until(lambda edge: bool(edge.heard(e.DrainOrdered)))

    play([*served, too_new], scenario)
    assert [edge.heard(e.Joined)[0].welcome.version for edge in served] == [1, 1, 1]
    said = "edge speaks versions 3, 2 of the control channel, the control plane 1"
    assert too_new.heard(e.Refused)[0].reason == said
    assert said in cluster.stop().err, "the operator of the control plane reads it too"


def start_edge(
    tmp_path: Path, server: ControlServer, authority: Any
) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    identity = authority.issue("sin", "sin-1")
    for name, content in (
        ("cert", identity.chain_pem()),
        ("key", identity.key_pem()),
        ("ca", authority.certificate_pem()),
    ):
        (tmp_path / name).write_bytes(content)
    files = [f"--hop-{name}={tmp_path / name}" for name in ("cert", "key", "ca")]
    listen = ["--listen=127.0.0.1:0", "--ops=127.0.0.1:0", "--dev-cert", "--auth=open", "--ready-json"]
    state = [f"--state-dir={tmp_path / 'state'}", f"--control={server.address}"]
    with (tmp_path / "edge.log").open("w") as log:
        process = subprocess.Popen(
            [FARCAST, "edge", *listen, *state, *files], stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, (tmp_path / "edge.log").read_text()
    return process, json.loads(line)


def run(
    tmp_path: Path, prepare: Callable[[ControlServer], None],
    scenario: Callable[[ControlServer, Changes, dict[str, Any]], Any],
) -> list[dict[str, Any]]:  # fmt: skip
    """A real edge process and a control plane of another version; what the edge complained of in its log."""
    authority, changes = make_authority(), Changes()
    server = ControlServer(authority, changes)
    prepare(server)

    async def main() -> None:
        async def serve() -> None:
            process, ready = await trio.to_thread.run_sync(start_edge, tmp_path, server, authority)
            with killed_at_end(process):
                with trio.fail_after(SECONDS_MAX):
                    await scenario(server, changes, ready)
                process.send_signal(signal.SIGTERM)
                assert await trio.to_thread.run_sync(process.wait) == 0

        await server.while_running(serve)

    trio.run(main)
    lines = [json.loads(line) for line in (tmp_path / "edge.log").read_text().splitlines()]
    return [
        line
        for line in lines
        if line["level"] in ("warning", "error") and "version" in line.get("reason", "")
    ]


@pytest.mark.parametrize(
    ("versions", "rewrite"), [(NEWER, later), (OLDER, earlier)], ids=["control N+1", "control N-1"]
)
def test_an_edge_follows_a_control_plane_of_another_version(
    tmp_path: Path, versions: tuple[int, ...], rewrite: Callable[[Any], Any]
) -> None:
    def prepare(server: ControlServer) -> None:
        server.engine.versions = versions
        server.engine.rewrite = lambda frame: frame_of(rewrite(record_in(frame)))

    async def scenario(server: ControlServer, changes: Changes, ready: dict[str, Any]) -> None:
        def heard(kind: type) -> list[Any]:
            return [event for event in server.engine.events if isinstance(event, kind)]

        await changes.until(lambda: heard(e.ReportReceived))
        node = m.NodeInfo(node_id="sin-1", region="sin", address="127.0.0.1:1")
        server.push(m.PlanDelta(version=m.PlanVersion(epoch=EPOCH, sequence=1), nodes=(node,)))
        await changes.until(lambda: heard(e.PlanAcked))
        assert heard(e.HelloReceived)[0].hello.versions == (1,)

    assert run(tmp_path, prepare, scenario) == []


def test_an_edge_and_a_control_plane_without_a_common_version_say_which_they_speak_and_the_edge_serves(
    tmp_path: Path,
) -> None:
    def prepare(server: ControlServer) -> None:
        server.engine.versions = (3, 2)

    async def scenario(server: ControlServer, changes: Changes, ready: dict[str, Any]) -> None:
        await changes.until(lambda: len(server.engine.closed) >= 2)
        answer = await trio.to_thread.run_sync(lambda: httpx.get(f"http://{ready['ops']}/readyz"))
        assert answer.status_code == 200

    (line,) = run(tmp_path, prepare, scenario)
    assert line["event"] == "control plane not connected"
    assert line["reason"] == "edge speaks versions 1 of the control channel, the control plane 3, 2"


def test_a_welcome_of_a_version_that_was_not_offered_is_not_believed(tmp_path: Path) -> None:
    def of_version_2(frame: bytes) -> bytes:
        record = record_in(frame)
        return frame_of({**record, "version": 2} if record["is"] == "welcome" else record)

    def prepare(server: ControlServer) -> None:
        server.engine.rewrite = of_version_2

    async def scenario(server: ControlServer, changes: Changes, ready: dict[str, Any]) -> None:
        await changes.until(lambda: len(server.engine.closed) >= 1)

    lines = run(tmp_path, prepare, scenario)
    assert {line["event"] for line in lines} == {"control plane not connected"}
    assert any("version 2, this edge offered 1" in line["reason"] for line in lines)


# ---- Upgrade and rollback on one state directory ------------------------------------------------------


def served_by(cluster: Cluster, *commands: tuple[str, ...]) -> None:
    """Three edges join, and orders are given."""
    edges = [Edge(cluster, node_id, THREE) for node_id in THREE]

    async def scenario() -> None:
        for edge in edges:
            await edge.until(lambda edge: edge.store.plan is not None and len(edge.store.plan.nodes) == 3)
        for command in commands:
            done = await trio.to_thread.run_sync(cluster.ask, *command)
            assert done.returncode == 0, done.stderr

    play(edges, scenario)


def holds(cluster: Cluster) -> dict[str, list[str]]:
    """What is known, and what was ordered and is in force."""
    api = control_api(cluster.state_dir, None, None)
    access = api.get("/access")
    return {
        "edges": sorted(edge["node_id"] for edge in api.get("/status")["edges"]),
        "drains": [drain["node_id"] for drain in api.get("/drains")["drains"]],
        "priced": [override["src"] for override in api.get("/overrides")["overrides"]],
        "keys": [key["key_id"] for key in access["keys"]],
        "revoked": [token["token_id"] for token in access["revoked_tokens"]],
    }


def test_a_control_plane_is_upgraded_and_put_back_on_one_state_directory_and_forgets_no_order(
    cluster: Cluster,
) -> None:
    file = cluster.state_dir / "control.sqlite3"
    key = cluster.directory / "shop.json"
    key.write_text(json.dumps({"kty": "OKP", "crv": "Ed25519", "x": X, "kid": "k1"}))
    cluster.start()
    served_by(
        cluster,
        ("drain", "sin-1", "--seconds", "600"),
        ("price", "fra-1", "--set", "0.02"),
        ("token", "trust", str(key)),
        ("token", "revoke", "--token-id", "t1"),
    )
    ordered = holds(cluster)
    assert ordered == {
        "edges": list(THREE),
        "drains": ["sin-1"],
        "priced": ["fra-1"],
        "keys": ["k1"],
        "revoked": ["t1"],
    }
    cluster.stop()
    as_later_control_plane(file)

    assert cluster.start()["epoch"] == 2, "put back: this version, on what the next one wrote"
    assert holds(cluster) == ordered
    served_by(cluster, ("token", "revoke", "--token-id", "t2"))
    cluster.stop()
    assert list(what_only_a_later_version_knows(file)) == ["later", "kept"], "upgraded again, all is there"

    assert cluster.start()["epoch"] == 3
    assert holds(cluster) == {**ordered, "revoked": ["t1", "t2"]}
    cluster.stop()


def test_a_control_plane_starts_on_what_an_earlier_version_wrote(cluster: Cluster) -> None:
    cluster.start()
    served_by(cluster, ("drain", "sin-1", "--seconds", "600"))
    cluster.stop()
    as_earlier_control_plane(cluster.state_dir / "control.sqlite3")
    assert cluster.start()["epoch"] == 2
    served_by(cluster, ("price", "fra-1", "--set", "0.02"))
    assert holds(cluster) == {
        "edges": list(THREE),
        "drains": ["sin-1"],
        "priced": ["fra-1"],
        "keys": [],
        "revoked": [],
    }
    cluster.stop()


@pytest.mark.parametrize("rewrite", [later, earlier], ids=["put back from N+1", "upgraded from N-1"])
def test_an_edge_starts_on_the_plan_that_another_version_wrote_and_follows_it(
    tmp_path: Path, rewrite: Callable[[Any], Any]
) -> None:
    plan = tmp_path / "state" / "plan"
    node = m.NodeInfo(node_id="sin-1", region="sin", address="127.0.0.1:1")

    async def planned(server: ControlServer, changes: Changes, ready: dict[str, Any]) -> None:
        def heard(kind: type) -> list[Any]:
            return [event for event in server.engine.events if isinstance(event, kind)]

        await changes.until(lambda: heard(e.ReportReceived))
        version = m.PlanVersion(epoch=EPOCH, sequence=7)
        server.push(m.PlanDelta(version=version, nodes=(node,), issued_unix_us=1_700_000_000_000_000))
        await changes.until(lambda: heard(e.PlanAcked))

    async def alone(server: ControlServer, changes: Changes, ready: dict[str, Any]) -> None:
        answer = await trio.to_thread.run_sync(lambda: httpx.get(f"http://{ready['ops']}/status.json"))
        told = answer.json()["control"]
        assert told["plan_from_disk"] is True
        assert told["plan_version"] == str(m.PlanVersion(epoch=EPOCH, sequence=7))

    def refuse(server: ControlServer) -> None:
        server.engine.versions = (3, 2)

    run(tmp_path, lambda server: None, planned)
    rewrite_plan(plan, rewrite)
    run(tmp_path, refuse, alone)
