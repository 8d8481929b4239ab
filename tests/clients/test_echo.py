"""The echo that every QUIC server has: what counts as an answer, and what links do to it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from edges import Edge, edges_in
from hypothesis import given
from hypothesis import strategies as st

from farcast.clients.echo import DATAGRAM_BYTES_MIN, EchoPlan, answered, echo, path_mtu, question
from farcast.clients.rebinding import Rebinding
from farcast.proto._core import LinkConfig, UdpShaper

QUICK = EchoPlan(probes=10, spacing_s=0.01, timeout_s=0.5)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    folder: Path = tmp_path_factory.mktemp("echo")
    with edges_in(folder) as edges:
        yield edges.start("local-1")


def test_a_question_is_as_long_as_servers_want_it() -> None:
    assert len(question(b"12345678")) == DATAGRAM_BYTES_MIN


@given(st.binary(max_size=64))
def test_any_datagram_is_an_answer_or_none(datagram: bytes) -> None:
    key = answered(datagram)
    assert key is None or (len(key) == 8 and key in datagram)


def test_a_version_negotiation_names_the_question_that_it_answers() -> None:
    key = b"abcdefgh"
    assert answered(b"\x80\0\0\0\0\x08" + key + b"\x08" + b"serverid" + b"\0\0\0\1") == key
    assert answered(b"\x80\0\0\0\1\x08" + key + b"\x08" + b"serverid") is None
    assert answered(b"\x00\0\0\0\0\x08" + key) is None


def test_an_edge_answers_every_probe(edge: Edge) -> None:
    report = trio.run(echo, edge.listen, QUICK)
    assert (report.sent, len(report.rtts_ms), report.loss, report.refused) == (10, 10, 0.0, False)
    assert report.rtt_ms is not None
    assert report.jitter_ms is not None
    assert 0 < report.rtt_ms < 500


def test_a_long_link_is_seen_in_the_round_trip(edge: Edge) -> None:
    shaper = UdpShaper("127.0.0.1:0", edge.listen, LinkConfig(delay_us=30_000), LinkConfig(delay_us=20_000))
    try:
        report = trio.run(echo, shaper.local_addr, QUICK)
    finally:
        shaper.close()
    assert report.rtt_min_ms is not None
    assert 50 <= report.rtt_min_ms < 300


def test_a_lossy_link_is_seen_in_the_loss(edge: Edge) -> None:
    plan = EchoPlan(probes=100, spacing_s=0.002, timeout_s=0.5)
    shaper = UdpShaper("127.0.0.1:0", edge.listen, LinkConfig(loss=0.3), LinkConfig(), 7)
    try:
        report = trio.run(echo, shaper.local_addr, plan)
    finally:
        shaper.close()
    assert 0.1 < report.loss < 0.5


def test_the_largest_datagram_that_passes_is_found(edge: Edge) -> None:
    shaper = UdpShaper("127.0.0.1:0", edge.listen, LinkConfig(mtu_bytes=1_400), LinkConfig())
    try:
        assert trio.run(path_mtu, shaper.local_addr, (1_200, 1_372, 1_452, 1_472), 0.3) == 1_372
    finally:
        shaper.close()


def test_nobody_there_is_told_from_nothing_coming_back() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        port = mute.getsockname()[1]
        silent = trio.run(echo, f"127.0.0.1:{port}", EchoPlan(2, 0.01, 0.2))
    gone = trio.run(echo, f"127.0.0.1:{port}", EchoPlan(5, 0.01, 0.2))
    assert (silent.refused, silent.loss) == (False, 1.0)
    assert (gone.refused, gone.loss) == (True, 1.0)


@pytest.mark.parametrize("probes", [0, 101])
def test_probes_are_bounded(probes: int) -> None:
    with pytest.raises(ValueError, match="from 1 to 100"):
        EchoPlan(probes=probes)


@pytest.mark.parametrize("follows", [True, False])
def test_a_server_is_heard_anew_only_if_it_follows_to_the_new_port(follows: bool) -> None:
    async def serve(server: trio.socket.SocketType) -> None:
        first = None
        while True:
            datagram, peer = await server.recvfrom(100)
            first = first or peer
            await server.sendto(datagram, peer if follows else first)

    async def ask(client: trio.socket.SocketType, address: str) -> None:
        host, port = address.split(":")
        for _ in range(5):
            await client.sendto(b"ping", (host, int(port)))

    async def use() -> bool:
        with (
            trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
            trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
        ):
            await server.bind(("127.0.0.1", 0))
            port = server.getsockname()[1]
            async with Rebinding.to(f"127.0.0.1:{port}") as relay, trio.open_nursery() as nursery:
                nursery.start_soon(serve, server)
                await ask(client, relay.address)
                await relay.heard_anew()
                await relay.rebind()
                await ask(client, relay.address)
                with trio.move_on_after(5.0 if follows else 0.3) as waiting:
                    await relay.heard_anew()
                nursery.cancel_scope.cancel()
        return not waiting.cancelled_caught

    assert trio.run(use) is follows
