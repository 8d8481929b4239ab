"""The edge's control link against the real datapath: meets the right one, leaves others, comes back."""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import structlog
import trio
import trio.testing

from farcast.certificates import CONTROL_DOMAIN, HopAuthority
from farcast.edge.control_connection import ConnectionLimits, ControlTls
from farcast.edge.control_link import ControlLink, ControlLinkOptions
from farcast.proto.control import events as e
from farcast.proto.control import messages as m
from farcast.proto.control.edge_channel import EdgeChannel, EdgeChannelConfig

from .control_server import EPOCH, Changes, ControlServer, Wire, make_authority

HELLO = m.Hello(
    versions=(1,), node_id="sin-1", region="sin", boot_id="b1", advertise="192.0.2.1:443", egress_bps_max=1
)
REPORT = m.Report(boot_id="b1", sequence=0, sent_us=0, interval_us=1_000_000, full=True)
FAST = ConnectionLimits(handshake_ms_max=300, ping_ms=100, idle_ms=600)
LAZY = ConnectionLimits(idle_ms=60_000)


class Edge:
    """An edge's link, what it was told, what it logged."""

    def __init__(
        self,
        authority: HopAuthority,
        addresses: list[str],
        changes: Changes,
        *,
        limits: ConnectionLimits = LAZY,
        cluster: str = "",
        identity_of: HopAuthority | None = None,
    ) -> None:
        identity = (identity_of or authority).issue("sin", "sin-1")
        tls = ControlTls(identity, (authority.certificate,), cluster)
        self.events: list[e.EdgeEvent] = []
        self.log: list[Any] = []
        self._changes = changes
        options = ControlLinkOptions(addresses, tls, limits, retry_ms=20, retry_ms_max=100)
        self.link = ControlLink(EdgeChannel(EdgeChannelConfig(HELLO)), options, self._on_event)

    def _on_event(self, event: e.EdgeEvent) -> None:
        self.events.append(event)
        if isinstance(event, e.PlanReceived):
            self.link.answer_plan(event.delta.version, None)
        self._changes.note()

    def heard(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def warnings(self) -> list[str]:
        return [line["reason"] for line in self.log if line["log_level"] == "warning"]

    async def while_running(self, scenario: Callable[[], Awaitable[None]]) -> None:
        def keep(_: Any, level: str, line: Any) -> Any:
            self.log.append({**line, "log_level": level})
            self._changes.note()
            raise structlog.DropEvent

        structlog.reset_defaults()
        structlog.configure(processors=[keep])
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.link.run)
                await scenario()
                nursery.cancel_scope.cancel()
        finally:
            structlog.reset_defaults()


def meet(server: ControlServer, edge: Edge, scenario: Callable[[], Awaitable[None]]) -> None:
    async def both() -> None:
        await server.while_running(lambda: edge.while_running(scenario))

    trio.run(both)


def test_edge_and_control_plane_exchange_their_records() -> None:
    authority, changes = make_authority(), Changes()
    server = ControlServer(authority, changes)
    edge = Edge(authority, [server.address], changes, cluster="dev")

    async def scenario() -> None:
        await changes.until(lambda: edge.link.joined)
        assert edge.events == [e.Joined(m.Welcome(version=1, epoch=EPOCH))]
        assert edge.link.control == ("dev", "c1")
        assert edge.link.send_report(REPORT) is None
        await changes.until(lambda: edge.heard(e.ReportAcked))
        server.push(plan(1))
        await changes.until(lambda: any(isinstance(event, e.PlanAcked) for event in server.engine.events))

    meet(server, edge, scenario)
    assert server.engine.names == [("sin", "sin-1")]
    assert [line["event"] for line in edge.log] == ["control plane connected", "control plane joined"]


def plan(sequence: int) -> m.PlanDelta:
    return m.PlanDelta(version=m.PlanVersion(epoch=EPOCH, sequence=sequence), issued_unix_us=1)


def test_a_plan_of_megabytes_arrives_whole() -> None:
    authority, changes = make_authority(), Changes()
    server = ControlServer(authority, changes)
    edge = Edge(authority, [server.address], changes)
    entries = tuple(
        m.DirectoryEntry(namespace=(b"live", b"%05d" % at + bytes(75)), origin="sin-1")
        for at in range(55_000)
    )
    large = msgspec.structs.replace(plan(1), directory=entries)
    assert len(msgspec.msgpack.encode(large)) > 5 << 20

    async def scenario() -> None:
        await changes.until(lambda: edge.link.joined)
        server.push(large)
        await changes.until(lambda: edge.heard(e.PlanReceived))

    meet(server, edge, scenario)
    [received] = edge.heard(e.PlanReceived)
    assert received.delta == large


@pytest.mark.parametrize("case", ["another authority", "edge", "edge by that name", "another cluster"])
def test_a_server_that_is_not_our_control_plane_is_refused_and_asked_again(case: str) -> None:
    authority, changes = make_authority(), Changes()
    identity, wanted = {
        "another authority": (make_authority().issue_control("c1"), "unable to get local issuer"),
        "edge": (authority.issue("sin", "sin-2"), "certificate is for edge 'sin-2'"),
        "edge by that name": (authority.issue("sin", "sin-2", [CONTROL_DOMAIN]), "is for edge 'sin-2'"),
        "another cluster": (authority.issue_control("c1"), "of cluster 'dev', this edge belongs to 'shows'"),
    }[case]
    server = ControlServer(authority, changes, identity=identity)
    cluster = "shows" if case == "another cluster" else ""
    edge = Edge(authority, [server.address], changes, cluster=cluster)

    async def scenario() -> None:
        await changes.until(lambda: [line for line in edge.log if line["log_level"] == "debug"])

    meet(server, edge, scenario)
    assert edge.events == []
    [line] = edge.warnings()
    assert wanted in line
    assert server.engine.events == []


def test_an_edge_whose_certificate_the_control_plane_refuses_says_so_once_and_goes_on() -> None:
    authority, changes = make_authority(), Changes()
    server = ControlServer(authority, changes)
    edge = Edge(authority, [server.address], changes, identity_of=make_authority())

    async def scenario() -> None:
        await changes.until(lambda: len(edge.heard(e.Broken)) > 3)

    meet(server, edge, scenario)
    assert server.engine.names == []
    assert not edge.heard(e.Joined)
    [line] = edge.warnings()
    assert "connection closed: invalid peer certificate" in line
    assert not [line for line in edge.log if line["log_level"] == "info"]


def test_only_the_link_speaks_of_a_broken_connection(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as in an edge; pytest's own would hide it
    authority, changes = make_authority(), Changes()
    server = ControlServer(authority, changes, identity=make_authority().issue_control("c1"))
    edge = Edge(authority, [server.address], changes)
    meet(server, edge, lambda: changes.until(lambda: edge.warnings()))
    assert capsys.readouterr() == ("", "")


def test_the_link_comes_back_when_the_control_plane_does() -> None:
    authority, changes = make_authority(), Changes()
    first = ControlServer(authority, changes)
    edge = Edge(authority, [first.address], changes, limits=FAST)

    async def scenario() -> None:
        await first.while_running(lambda: changes.until(lambda: edge.link.joined))
        await changes.until(lambda: edge.heard(e.Broken))
        await changes.until(lambda: "cannot be reached: Connection refused" in edge.warnings())
        second = ControlServer(authority, changes, listen=first.address)
        await second.while_running(lambda: changes.until(lambda: len(edge.heard(e.Joined)) == 2))

    trio.run(edge.while_running, scenario)


def test_a_control_plane_that_falls_silent_is_noticed() -> None:
    authority, changes = make_authority(), Changes()
    server = ControlServer(authority, changes)

    async def main() -> None:
        wire = Wire(server.address)
        await wire.open()
        edge = Edge(authority, [wire.address], changes, limits=FAST)

        async def scenario() -> None:
            await changes.until(lambda: edge.link.joined)
            wire.cut = True
            await changes.until(lambda: edge.heard(e.Broken))
            assert edge.events[-1] == e.Broken("connection closed: nothing heard in 600 ms")
            await changes.until(lambda: "no answer in 300 ms" in edge.warnings())
            wire.cut = False
            await changes.until(lambda: edge.link.joined)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.run)
            await server.while_running(lambda: edge.while_running(scenario))
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_pings_keep_an_idle_connection() -> None:
    authority, changes = make_authority(), Changes()
    server = ControlServer(authority, changes)
    edge = Edge(authority, [server.address], changes, limits=FAST)

    async def scenario() -> None:
        await changes.until(lambda: edge.link.joined)
        with trio.move_on_after(3 * FAST.idle_ms / 1e3):
            await changes.until(lambda: edge.heard(e.Broken))
        assert not edge.heard(e.Broken)

    meet(server, edge, scenario)


def test_garbage_of_the_control_plane_ends_the_connection_and_not_the_link() -> None:
    authority, changes = make_authority(), Changes()
    server = ControlServer(authority, changes, garbage=b"\x00\x00\x00\x02\xff\xff")
    edge = Edge(authority, [server.address], changes)

    async def scenario() -> None:
        await changes.until(lambda: edge.link.joined)
        broken, joined = edge.events
        assert isinstance(broken, e.Broken)
        assert "sent what it must not" in broken.reason
        assert server.engine.closed == [broken.reason]
        assert isinstance(joined, e.Joined)
        assert edge.warnings() == [broken.reason]

    meet(server, edge, scenario)


def test_addresses_are_tried_in_turn() -> None:
    authority, changes = make_authority(), Changes()
    server = ControlServer(authority, changes)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{unused.getsockname()[1]}"
    port = server.address.rpartition(":")[2]
    no_name = ["no-such-name.invalid:4433", "no..name:4433", f"{'label' * 13}.invalid:4433"]
    edge = Edge(authority, [*no_name, nobody, f"localhost:{port}"], changes)

    async def scenario() -> None:
        await changes.until(lambda: edge.link.joined)

    meet(server, edge, scenario)
    assert edge.link.address == f"localhost:{port}"
    *unresolved, refused = edge.warnings()
    assert len(unresolved) == len(no_name)
    assert all("the name has no address: " in line for line in unresolved)
    assert "Connection refused" in refused


def test_an_edge_that_ends_says_goodbye() -> None:
    authority, changes = make_authority(), Changes()
    server = ControlServer(authority, changes)
    edge = Edge(authority, [server.address], changes)

    async def main() -> None:
        async def scenario() -> None:
            await edge.while_running(lambda: changes.until(lambda: edge.link.joined))
            await changes.until(lambda: server.engine.closed)

        await server.while_running(scenario)

    trio.run(main)
    assert not edge.link.joined
    assert edge.link.control is None
    assert edge.events[-1] == e.Broken("the edge ends")
    assert server.engine.closed == ["the edge ends"]


def test_control_planes_are_reached_by_ipv6() -> None:
    authority, changes = make_authority(), Changes()
    server = ControlServer(authority, changes, listen="[::1]:0")
    edge = Edge(authority, [server.address], changes)
    meet(server, edge, lambda: changes.until(lambda: edge.link.joined))
    assert [line["event"] for line in edge.log] == ["control plane connected", "control plane joined"]


def test_a_server_that_sends_no_quic_is_left() -> None:
    authority, changes = make_authority(), Changes()

    async def main() -> None:
        sock = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        await sock.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{sock.getsockname()[1]}"
        edge = Edge(authority, [address], changes, limits=ConnectionLimits(handshake_ms_max=200))

        async def babble() -> None:
            while True:
                data, sender = await sock.recvfrom(65_535)
                for answer in (b"", b"\x00", data, data[:40] + bytes(1_000), b"\xff" * 1_200):
                    await sock.sendto(answer, sender)

        async def scenario() -> None:
            await changes.until(lambda: edge.warnings())

        with sock:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(babble)
                await edge.while_running(scenario)
                nursery.cancel_scope.cancel()
        assert edge.events == []

    trio.run(main)


def test_waits_are_jittered_and_double_up_to_their_bound() -> None:
    waits: list[int] = []

    async def main() -> None:
        authority, changes = make_authority(), Changes()
        edge = Edge(authority, ["no-such-name.invalid:1", "no-such-name.invalid:2"], changes)
        tls = ControlTls(authority.issue("sin", "sin-1"), (authority.certificate,))
        options = ControlLinkOptions(["[::1]:1", "127.0.0.1:1"], tls)
        edge.link = ControlLink(
            EdgeChannel(EdgeChannelConfig(HELLO)), options, lambda event: None, uniform=lambda: 0.5
        )

        async def scenario() -> None:
            await changes.until(lambda: len(edge.log) == 14, seconds_max=100)

        await edge.while_running(scenario)
        waits.extend(line["retry_ms"] for line in edge.log)

    clock = trio.testing.MockClock(autojump_threshold=0.01)
    trio.run(main, clock=clock)
    assert waits == [250, 250, 500, 500, 1_000, 1_000, 2_000, 2_000, 4_000, 4_000, 5_000, 5_000, 5_000, 5_000]


def test_addresses_that_are_none_are_refused() -> None:
    authority = make_authority()
    tls = ControlTls(authority.issue("sin", "sin-1"), (authority.certificate,))
    with pytest.raises(ValueError, match="needs the address"):
        ControlLinkOptions([], tls)
    with pytest.raises(ValueError, match="not HOST:PORT"):
        ControlLinkOptions(["c1.example"], tls)
