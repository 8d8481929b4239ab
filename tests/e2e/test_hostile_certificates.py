"""The table of hostile certificates (`hostile_certificates`) against real listeners: an edge's hops, a
control plane's channel. Whoever is refused hears why; who is in order is served beside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hostile_certificates as hostile
import pytest
import trio
from commands import end, start
from edges import Edge as EdgeProcess
from edges import Edges

from farcast.certificates import Identity
from farcast.edge.driver import Driver
from farcast.proto._core import ClientTls, DatapathConfig, Event, Runtime
from farcast.proto.agent import Agent
from farcast.proto.agent.config import AgentConfig, Target, Upstream
from farcast.proto.control import events as e
from farcast.proto.moqt.names import TrackNamespace

from .test_control import SECONDS_MAX, THREE, Cluster, Edge, cluster, play

__all__ = ["cluster"]

# ---- Hops -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dialled:
    """How a hop to a real edge ended: by whom and why, or that it stood."""

    stood: bool
    by: str = ""
    reason: str = ""


async def dial(listen: str, root: bytes, identity: Identity | None, region: str, node_id: str) -> Dialled:
    """A hop with this certificate, by an agent that calls itself so."""
    tls = ClientTls(
        roots=[root],
        chain=identity.chain if identity else None,
        key=identity.key if identity else None,
    )
    target = Target("hop", listen, "127.0.0.1", tls, authority=listen)
    agent = Agent(AgentConfig(node_id, region, upstreams=(Upstream(TrackNamespace(), target),)))
    driver = Driver(Runtime("127.0.0.1:0", DatapathConfig()), agent)
    ended: list[Dialled] = []
    changed = trio.Event()

    def see(event: Event) -> None:
        if isinstance(event, Event.SessionClosed) and not ended:
            ended.append(Dialled(False, event.by, event.reason))
            changed.set()

    def look() -> None:
        if agent.hop_peers() and not ended:
            changed.set()

    driver.on_event(see)
    driver.on_progress(look)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        driver.call(
            lambda agent, now_us: agent._upstreams.ensure(next(iter(agent._upstreams.links.values())))
        )
        with trio.fail_after(SECONDS_MAX):
            await changed.wait()
            with trio.move_on_after(0.5):  # With TLS 1.3 a client is connected before it is judged.
                while not ended:
                    await trio.sleep(0.01)
        driver.close()
    return ended[0] if ended else Dialled(True)


def count(edge: EdgeProcess, metric: str) -> int:
    line = next(line for line in edge.get("/metrics").text.splitlines() if line.startswith(f"{metric} "))
    return int(float(line.split()[1]))


def logged(edges: Edges, node_id: str, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in edges.log(node_id).splitlines()]
    return [line for line in lines if line["event"] == event]


def test_a_hop_needs_a_certificate_that_is_good_now_of_our_authority(edges: Edges) -> None:
    edge = edges.start("fra-1")
    authority = edges.authority
    rows = hostile.refused_by_tls(authority, "sin", "sin-1")
    found: dict[str, Dialled] = {}

    async def ask(name: str) -> None:
        found[name] = await dial(edge.listen, authority.certificate, rows[name], "sin", "sin-1")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for name in rows:
                nursery.start_soon(ask, name)

    trio.run(main)
    for name, dialled in found.items():
        assert not dialled.stood, name
        assert dialled.by == "tls", (name, dialled)
        assert "ertificate" in dialled.reason, (name, dialled)
    assert count(edge, "farcast_tls_handshakes_failed_total") == len(rows)
    assert count(edge, "farcast_hops_refused_total") == 0
    assert not logged(edges, "fra-1", "hop opened")
    good = authority.issue("sin", "sin-1")
    assert trio.run(dial, edge.listen, authority.certificate, good, "sin", "sin-1").stood


@pytest.mark.parametrize(
    ("issue", "said"),
    [
        (lambda a: a.issue_control("c1"), "SETUP says sin-1, the certificate says None"),
        (lambda a: a.issue("sin", "sin-2"), "SETUP says sin-1, the certificate says sin-2"),
        (lambda a: a.issue("fra", "sin-1"), "SETUP says region sin, the certificate says fra"),
        (lambda a: a.issue("sin", "fra-1"), "SETUP says sin-1, the certificate says fra-1"),
    ],
    ids=["role", "node", "region", "the edge itself"],
)
def test_a_hop_is_who_its_certificate_says(edges: Edges, issue: Callable[[Any], Identity], said: str) -> None:
    edge = edges.start("fra-1")
    authority = edges.authority
    dialled = trio.run(dial, edge.listen, authority.certificate, issue(authority), "sin", "sin-1")
    assert dialled == Dialled(False, "peer", said)
    assert count(edge, "farcast_hops_refused_total") == 1
    (line,) = logged(edges, "fra-1", "hop closed")
    assert (line["level"], line["reason"]) == ("warning", said)


# ---- Control channel --------------------------------------------------------------------------------


def status(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cluster.ask("status", "--json").stdout)
    return found


def test_a_control_session_needs_a_certificate_that_is_good_now_of_our_authority(cluster: Cluster) -> None:
    cluster.start()
    rows = hostile.refused_by_tls(cluster.authority, "sin", "sin-1")
    shown = {name: identity for name, identity in rows.items() if identity is not None}
    edges = {name: Edge(cluster, "sin-1", THREE, identity) for name, identity in shown.items()}
    right = Edge(cluster, "fra-1", THREE)

    async def scenario() -> None:
        await right.until(lambda edge: edge.link.joined)
        with trio.fail_after(SECONDS_MAX):
            while any(edge.link.last_failure is None for edge in edges.values()):
                await trio.sleep(0.02)

    play([*edges.values(), right], scenario)
    for name, edge in edges.items():
        assert not edge.heard(e.Joined), name
        assert "certificate" in str(edge.link.last_failure).lower(), (name, edge.link.last_failure)
    told = status(cluster)
    assert [edge["node_id"] for edge in told["edges"]] == ["fra-1"]
    assert told["counters"]["handshakes_failed"] >= len(shown)


@pytest.mark.parametrize(
    ("node_id", "certificate", "said"),
    [
        ("sin-1", ("sin", "sin-2"), "Hello says node 'sin-1', the certificate 'sin-2'"),
        ("sin-1", ("fra", "sin-1"), "Hello says region 'sin', the certificate 'fra'"),
    ],
    ids=["node", "region"],
)
def test_an_edge_joins_as_who_its_certificate_says(
    cluster: Cluster, node_id: str, certificate: tuple[str, str], said: str
) -> None:
    cluster.start()
    edge = Edge(cluster, node_id, THREE, cluster.authority.issue(*certificate))

    async def scenario() -> None:
        await edge.until(lambda edge: bool(edge.heard(e.Refused)))

    play([edge], scenario)
    assert edge.heard(e.Refused)[0] == e.Refused(said)
    assert status(cluster)["edges"] == []
    outcome = cluster.stop()
    assert said in outcome.err, "the operator reads the same"


def test_a_revoked_certificate_opens_no_session_and_a_newer_one_of_the_node_does(cluster: Cluster) -> None:
    cluster.start()
    revoked = cluster.authority.issue("sin", "sin-1")
    serial = hostile.serial(revoked)
    done = end(start("ca", "revoke", "--serial", serial, f"--state-dir={cluster.state_dir}"))
    assert done.code == 0, done.err
    edge, newer = Edge(cluster, "sin-1", THREE, revoked), Edge(cluster, "sin-1", THREE)

    async def scenario() -> None:
        with trio.fail_after(SECONDS_MAX):
            while edge.link.last_failure is None:
                await trio.sleep(0.02)
        await newer.until(lambda edge: edge.link.joined)

    play([edge, newer], scenario)
    assert "its certificate revoked; it comes back with a new join token" in str(edge.link.last_failure)
    assert not edge.heard(e.Joined)


def test_an_edge_gives_its_certificate_to_no_server_but_a_control_plane(
    edges: Edges, cluster: Cluster, tmp_path: Path
) -> None:
    """The other way round: an edge that is sent to something that is no control plane of its cluster."""
    cluster.ready = {"listen": edges.start("fra-1").listen}
    lost = Edge(cluster, "sin-1", THREE)

    async def scenario() -> None:
        with trio.fail_after(SECONDS_MAX):
            while lost.link.last_failure is None:
                await trio.sleep(0.02)

    play([lost], scenario)
    assert not lost.heard(e.Joined)
    assert lost.link.last_failure == "connection closed: peer doesn't support any known protocol"
