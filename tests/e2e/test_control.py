"""`farcast control` as a process, real edge links over QUIC on loopback, and the commands that ask it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import commands
import pytest
import trio
from edges import FARCAST

from farcast.certificates import Authority, Identity, make_authority
from farcast.control_plane.edge_list import verify_edge_list
from farcast.edge.control_connection import ControlTls
from farcast.edge.control_link import ControlLink, ControlLinkOptions
from farcast.proto.control import events as e
from farcast.proto.control import messages as m
from farcast.proto.control.edge_channel import EdgeChannel, EdgeChannelConfig
from farcast.proto.control.edge_plan import EdgePlan, PlanStore

SECONDS_MAX = 20


@dataclass
class Cluster:
    """One control plane's files, and the process."""

    directory: Path
    authority: Authority
    process: subprocess.Popen[str] | None = None
    ready: dict[str, Any] | None = None

    @property
    def state_dir(self) -> Path:
        return self.directory / "state"

    def arguments(self, *more: str) -> list[str]:
        files = [f"--hop-{kind}={self.directory / name}" for kind, name in
                 (("cert", "c1.pem"), ("key", "c1.key"), ("ca", "ca.pem"))]  # fmt: skip
        listen = ["--listen=127.0.0.1:0", "--api=127.0.0.1:0", f"--state-dir={self.state_dir}"]
        return ["control", *listen, *files, *more]

    def start(self, *more: str) -> dict[str, Any]:
        self.process = commands.start(*self.arguments("--ready-json", *more))
        assert self.process.stdout is not None
        self.ready = json.loads(self.process.stdout.readline())
        return self.ready

    def stop(self, number: signal.Signals = signal.SIGTERM) -> commands.Outcome:
        assert self.process is not None
        self.process.send_signal(number)
        outcome = commands.end(self.process)
        self.process = None
        return outcome

    def ask(self, *tokens: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [FARCAST, *tokens, f"--state-dir={self.state_dir}"],
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    authority = make_authority("shows", datetime.now(UTC))
    identity = authority.issue_control("c1")
    (tmp_path / "c1.pem").write_bytes(identity.chain_pem())
    (tmp_path / "c1.key").write_bytes(identity.key_pem())
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem())
    made = Cluster(tmp_path, authority)
    yield made
    if made.process is not None:
        made.process.kill()
        made.process.communicate()


class Edge:
    """A real control link whose links to the others are figures."""

    def __init__(
        self, cluster: Cluster, node_id: str, peers: tuple[str, ...], identity: Identity | None = None
    ) -> None:
        assert cluster.ready is not None
        region = node_id.partition("-")[0]
        self.node_id, self.peers = node_id, peers
        self.store = PlanStore(node_id)
        self.events: list[e.EdgeEvent] = []
        self.sequence = 0
        self.offers: tuple[m.Offer, ...] = ()
        """Said in every full report."""
        self._changed = trio.Event()
        hello = m.Hello(
            versions=(1,),
            node_id=node_id,
            region=region,
            boot_id="b1",
            advertise="192.0.2.1:443",
            public_url=f"https://{node_id}.example/",
        )
        tls = ControlTls(
            identity or cluster.authority.issue(region, node_id), (cluster.authority.certificate,)
        )
        options = ControlLinkOptions([cluster.ready["listen"]], tls, retry_ms=20, retry_ms_max=100)
        self.link = ControlLink(EdgeChannel(EdgeChannelConfig(hello)), options, self._on_event)

    def report(self, full: bool, **fields: Any) -> None:
        links = tuple(
            m.LinkReport(peer=peer, rtt_smoothed_us=80_000, rtt_min_us=80_000, rx_packets=25)
            for peer in self.peers
            if peer != self.node_id
        )
        if full:
            fields.setdefault("offered", self.offers)
        said: dict[str, Any] = {
            "boot_id": "b1",
            "sequence": self.sequence,
            "sent_us": int(trio.current_time() * 1e6) % (1 << 50),
            "interval_us": 1_000_000,
            "full": full,
            "links": links,
        }
        report = m.Report(**{**said, **fields})
        assert self.link.send_report(report) is None
        self.sequence += 1

    async def until(self, holds: Callable[[Edge], bool]) -> None:
        with trio.fail_after(SECONDS_MAX):
            while not holds(self):
                self._changed = trio.Event()
                await self._changed.wait()

    @property
    def directory(self) -> dict[tuple[bytes, ...], str]:
        return dict(self.store.plan.directory) if self.store.plan else {}

    def heard(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def _on_event(self, event: e.EdgeEvent) -> None:
        self.events.append(event)
        match event:
            case e.Joined():
                self.report(full=True)
            case e.PlanReceived(delta):
                taken = self.store.consider(delta)
                refusal = None if isinstance(taken, EdgePlan) else taken.reason
                assert refusal is None, refusal
                self.link.answer_plan(delta.version, refusal)
            case e.ReportAcked(_, True):
                self.report(full=True)
        self._changed.set()


def play(edges: list[Edge], scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for edge in edges:
                nursery.start_soon(edge.link.run)
            await scenario()
            nursery.cancel_scope.cancel()

    trio.run(main)


THREE = ("fra-1", "jkt-1", "sin-1")


def test_edges_join_get_plans_and_hear_of_namespaces_and_the_state_survives_a_kill(cluster: Cluster) -> None:
    ready = cluster.start()
    assert (ready["cluster"], ready["epoch"]) == ("shows", 1)
    edges = [Edge(cluster, node_id, THREE) for node_id in THREE]
    fra, jkt, _ = edges

    async def before() -> None:
        for edge in edges:
            await edge.until(lambda edge: edge.store.plan is not None and len(edge.store.plan.nodes) == 3)
        jkt.report(full=False, offered=(m.Offer(namespace=(b"live", b"film")),))
        await fra.until(lambda edge: edge.directory == {(b"live", b"film"): "jkt-1"})
        await fra.until(lambda edge: edge.store.plan is not None and "jkt-1" in edge.store.plan.routes)

    play(edges, before)
    plan = fra.store.plan
    assert plan is not None
    assert plan.edge_list is not None
    listed = verify_edge_list(plan.edge_list, [cluster.authority.certificate])
    assert [edge["url"] for edge in listed["edges"]] == [f"https://{node_id}.example/" for node_id in THREE]
    status = json.loads(cluster.ask("status", "--json").stdout)
    assert {edge["node_id"] for edge in status["edges"]} == set(THREE)
    cluster.stop(signal.SIGKILL)

    assert cluster.start()["epoch"] == 2
    newcomer = Edge(cluster, "sin-1", THREE)

    async def after() -> None:
        await newcomer.until(lambda edge: edge.directory == {(b"live", b"film"): "jkt-1"})

    play([newcomer], after)
    assert newcomer.store.plan is not None
    assert newcomer.store.plan.version.epoch.number == 2
    assert set(newcomer.store.plan.nodes) == set(THREE)
    assert cluster.stop().code == 0
    assert not (cluster.state_dir / "api.json").exists()


def test_a_drain_by_command_reaches_the_edge(cluster: Cluster) -> None:
    cluster.start()
    edges = [Edge(cluster, node_id, THREE) for node_id in THREE]

    async def scenario() -> None:
        await edges[0].until(lambda edge: edge.store.plan is not None and len(edge.store.plan.nodes) == 3)
        done = await trio.to_thread.run_sync(lambda: cluster.ask("drain", "fra-1", "--seconds", "7"))
        assert done.returncode == 0, done.stderr
        await edges[0].until(lambda edge: bool(edge.heard(e.DrainOrdered)))

    play(edges, scenario)
    assert edges[0].heard(e.DrainOrdered) == [e.DrainOrdered(7_000)]
    outcome = cluster.stop(signal.SIGINT)
    assert outcome.code == 130
    assert '"event": "edge told to drain"' in outcome.err


def test_a_certificate_of_another_role_or_region_is_refused_and_others_are_served(cluster: Cluster) -> None:
    cluster.start("--regions=fra,sin")
    wrong_role = Edge(cluster, "fra-2", THREE, cluster.authority.issue_control("c2"))
    wrong_region = Edge(cluster, "mars-1", THREE)
    right = Edge(cluster, "fra-1", THREE)

    async def scenario() -> None:
        await right.until(lambda edge: edge.link.joined)
        await wrong_region.until(lambda edge: bool(edge.heard(e.Refused)))
        with trio.fail_after(SECONDS_MAX):
            while wrong_role.link.last_failure is None:
                await trio.sleep(0.05)

    play([wrong_role, wrong_region, right], scenario)
    assert "region 'mars' is not of this cluster; its regions are fra, sin" in str(wrong_region.events)
    assert not wrong_role.heard(e.Joined)
    assert "certificate names no edge" in str(wrong_role.link.last_failure)
    status = json.loads(cluster.ask("status", "--json").stdout)
    assert [edge["node_id"] for edge in status["edges"]] == ["fra-1"]
    assert status["counters"]["sessions_refused"] >= 1
    assert status["counters"]["joins_refused"] >= 1
    cluster.stop()


def test_whatever_is_wrong_at_the_start_is_one_line(cluster: Cluster) -> None:
    edge = cluster.authority.issue("fra", "fra-1")
    (cluster.directory / "edge.pem").write_bytes(edge.chain_pem())
    (cluster.directory / "edge.key").write_bytes(edge.key_pem())
    (cluster.directory / "groups.toml").write_text('[[group]]\nname = "smw4"\nkind = "cable"\n')
    (cluster.directory / "cables.toml").write_text(
        '[[group]]\nname = "smw4"\nkind = "cable"\nlinks = [["sin", "frA"]]\n'
    )
    (cluster.directory / "broken").mkdir()
    (cluster.directory / "broken" / "control.sqlite3").write_bytes(b"\0" * 4_096)
    for more, code, text in (
        (
            [f"--hop-cert={cluster.directory / 'edge.pem'}", f"--hop-key={cluster.directory / 'edge.key'}"],
            2,
            "is for the edge 'fra-1'",
        ),
        ([f"--hop-key={cluster.directory / 'edge.key'}"], 2, "is not the key"),
        ([f"--risk-groups={cluster.directory / 'groups.toml'}"], 2, "name nobody"),
        (
            [f"--risk-groups={cluster.directory / 'cables.toml'}", "--regions=fra,sin"],
            2,
            "names region 'frA', which does not exist; did you mean 'fra'?",
        ),
        ([f"--state-dir={cluster.directory / 'broken'}"], 1, "control.sqlite3"),
        (["--listen=127.0.0.1:99999"], 2, "--listen"),
    ):
        outcome = commands.end(commands.start(*_replaced(cluster.arguments(), more)))
        assert outcome.code == code, outcome.err
        (line,) = outcome.complaints
        assert text in line


def _replaced(arguments: list[str], more: list[str]) -> list[str]:
    flags = {flag.partition("=")[0] for flag in more}
    return [a for a in arguments if a.partition("=")[0] not in flags] + more


STRANGER = m.LinkReport(peer="nobody-1", rx_packets=1)
TOO_LATE = {"interval_us": 1 << 60}
TOO_MANY = {"links": (STRANGER,) * 2_000}
WRONG_TYPE: dict[str, Any] = {"draining": "perhaps"}


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        (WRONG_TYPE, "draining"),
        (TOO_MANY, "links"),
        (TOO_LATE, "interval_us"),
        ({"boot_id": "another"}, "boot"),
    ],
    ids=["type", "size", "time", "foreign boot id"],
)
def test_a_report_that_cannot_be_is_refused_by_name_and_nobody_else_notices(
    cluster: Cluster, fields: dict[str, Any], word: str
) -> None:
    cluster.start()
    edges = [Edge(cluster, node_id, THREE) for node_id in THREE]
    bad, jkt, sin = edges

    async def scenario() -> None:
        for edge in edges:
            await edge.until(lambda edge: edge.store.plan is not None and len(edge.store.plan.nodes) == 3)
        bad.report(full=False, **fields)
        await bad.until(lambda edge: bool(edge.heard(e.Broken)))
        jkt.report(full=False, offered=(m.Offer(namespace=(b"live", b"film")),))
        await sin.until(lambda edge: edge.directory == {(b"live", b"film"): "jkt-1"})
        await bad.until(lambda edge: edge.directory == {(b"live", b"film"): "jkt-1"})
        assert not jkt.heard(e.Broken)
        assert not sin.heard(e.Broken)

    play(edges, scenario)
    status = json.loads(cluster.ask("status", "--json").stdout)
    assert status["counters"]["sessions_lost"] >= 1
    outcome = cluster.stop()
    logged = [json.loads(line) for line in outcome.err.splitlines() if "must not" in line]
    assert len(logged) == 1, outcome.err
    assert (logged[0]["node_id"], logged[0]["level"]) == ("fra-1", "warning")
    assert word in logged[0]["reason"]


def test_a_report_of_links_to_strangers_is_taken_without_them_and_they_are_counted(cluster: Cluster) -> None:
    cluster.start()
    fra = Edge(cluster, "fra-1", ("sin-1", "nobody-1"))
    edges = [fra, Edge(cluster, "sin-1", ("fra-1",))]

    async def scenario() -> None:
        for edge in edges:
            await edge.until(lambda edge: edge.store.plan is not None and len(edge.store.plan.nodes) == 2)
        fra.report(full=False, offered=(m.Offer(namespace=(b"live", b"film")),))
        await edges[1].until(lambda edge: edge.directory == {(b"live", b"film"): "fra-1"})
        assert not fra.heard(e.Broken)

    play(edges, scenario)
    status = json.loads(cluster.ask("status", "--json").stdout)
    assert status["counters"]["links_to_strangers"] >= 1
    cluster.stop()
