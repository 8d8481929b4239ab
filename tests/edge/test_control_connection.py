"""One connection to a control plane, against aioquic's server in memory: whatever comes, it ends in words."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key
from hypothesis import given
from hypothesis import strategies as st

from farcast.certificates import Identity
from farcast.edge import control_connection
from farcast.edge.control_connection import ALPN, ConnectionLimits, ControlConnection, ControlTls

from .control_server import make_authority

AUTHORITY = make_authority()
TLS = ControlTls(AUTHORITY.issue("sin", "sin-1"), (AUTHORITY.certificate,))
CONTROL = AUTHORITY.issue_control("c1")
ADDRESS = ("192.0.2.1", 443)
STEP = 0.01


class Pair:
    """A connection and an aioquic server; `turn` carries datagrams both ways and moves the clock a little."""

    def __init__(self, near: socket.socket, far: socket.socket, identity: Identity, alpn: str) -> None:
        self.now = 100.0
        self.far = far
        self.connection = ControlConnection(near, ADDRESS, TLS, ConnectionLimits(), self.now)
        configuration = QuicConfiguration(
            is_client=False,
            alpn_protocols=[alpn],
            certificate=x509.load_der_x509_certificate(identity.chain[0]),
            private_key=load_der_private_key(identity.key, password=None),
        )
        self.server = QuicConnection(
            configuration=configuration,
            original_destination_connection_id=self.connection._quic.original_destination_connection_id,
        )

    def turn(self, *, lost: int = 0) -> None:
        """One turn; the first ``lost`` datagrams of the server do not arrive."""
        self.now += STEP
        self.connection.flush(self.now)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.server.receive_datagram(self.far.recv(65_535), ("192.0.2.9", 1), self.now)
        timer = self.server.get_timer()
        if timer is not None and timer <= self.now:
            self.server.handle_timer(self.now)
        for data, _ in self.server.datagrams_to_send(self.now)[lost:]:
            self.far.send(data)
        self.connection.advance(self.now)

    def turns(self, count: int = 20) -> None:
        for _ in range(count):
            self.turn()

    def stream(self) -> bytes:
        data = b""
        while (part := self.connection.poll_data()) is not None:
            data += part
        return data


@contextlib.contextmanager
def pair(identity: Identity = CONTROL, alpn: str = ALPN) -> Iterator[Pair]:
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        yield Pair(near, far, identity, alpn)


def test_bytes_go_both_ways_on_one_stream() -> None:
    with pair() as ends:
        ends.turns()
        assert ends.connection.control == ("dev", "c1")
        ends.connection.write(b"hello")
        ends.turns()
        ends.server.send_stream_data(0, b"x" * 300_000)
        ends.turns(100)
        assert ends.stream() == b"x" * 300_000
        assert ends.connection.ended is None


def test_a_server_of_another_protocol_is_left() -> None:
    with pair(alpn="h3") as ends:
        ends.turns()
        assert ends.connection.control is None
        assert ends.connection.ended == "connection closed: No common ALPN protocols"


def test_a_close_is_noticed_at_once() -> None:
    with pair() as ends:
        ends.turns()
        ends.server.close(error_code=7, reason_phrase="gone\nhome")
        ends.turn()
        assert ends.connection.ended == "connection closed: gone home"


def test_a_stream_of_the_control_planes_own_ends_the_connection() -> None:
    with pair() as ends:
        ends.turns()
        ends.server.send_stream_data(1, b"?")
        ends.turns()
        assert ends.connection.ended == "control plane opened stream 1, where there is but one, ours"


@pytest.mark.parametrize("manner", ["fin", "reset"])
def test_the_end_of_the_stream_ends_the_connection(manner: str) -> None:
    with pair() as ends:
        ends.turns()
        ends.connection.write(b"hello")
        ends.turns()
        if manner == "fin":
            ends.server.send_stream_data(0, b"last", end_stream=True)
        else:
            ends.server.reset_stream(0, 7)
        ends.turns()
        assert ends.connection.ended is not None
        assert "the stream" in ends.connection.ended
        assert ends.stream() == (b"last" if manner == "fin" else b"")


def test_data_beyond_a_gap_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_connection, "BACKLOG_BYTES_MAX", 3_000)
    with pair() as ends:
        ends.turns()
        ends.connection.write(b"hello")
        ends.turns()
        ends.server.send_stream_data(0, bytes(8_000))
        ends.turn(lost=1)
        assert ends.connection.ended == "control plane announced more than 3000 bytes that do not come"


def test_a_gap_within_the_bound_is_filled() -> None:
    with pair() as ends:
        ends.turns()
        ends.connection.write(b"hello")
        ends.turns()
        ends.server.send_stream_data(0, b"y" * 8_000)
        ends.turn(lost=1)
        ends.turns(100)
        assert ends.stream() == b"y" * 8_000
        assert ends.connection.ended is None


def test_no_answer_is_waited_for_only_so_long() -> None:
    with pair() as ends:
        limits = ConnectionLimits()
        assert ends.connection.deadline() <= ends.now + limits.handshake_ms_max / 1e3
        ends.connection.advance(ends.now + limits.handshake_ms_max / 1e3)
        assert ends.connection.ended == "no answer in 5000 ms"


def test_silence_ends_the_connection_and_pings_are_due_before() -> None:
    with pair() as ends:
        ends.turns()
        last = ends.now
        while ends.connection.ended is None and ends.now < last + 60:
            ends.now = max(ends.now + STEP, ends.connection.deadline())
            ends.connection.advance(ends.now)
            ends.connection.flush(ends.now)
        assert ends.connection.ended == "connection closed: nothing heard in 6000 ms"
        assert 6 <= ends.now - last < 9


@pytest.mark.parametrize("where", ["receive_datagram", "datagrams_to_send"])
def test_a_fault_inside_aioquic_ends_the_connection_only(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def fail(*_: Any) -> None:
        raise AssertionError("what\nis this")

    with pair() as ends:
        ends.turns()
        monkeypatch.setattr(ends.connection._quic, where, fail)
        ends.server.send_ping(1)
        ends.turns(2)
        assert ends.connection.ended == "QUIC failed: AssertionError: what is this"


@given(st.lists(st.one_of(st.binary(max_size=80), st.integers(0, 1_500)), max_size=8), st.integers(0, 6))
def test_no_datagram_raises(junk: list[bytes | int], after: int) -> None:
    """Random bytes, and the server's own datagrams cut short, at any time of a connection."""
    with pair() as ends:
        ends.turns(after)
        for item in junk:
            genuine = b"\xc0\x00\x00\x00\x01" + bytes(1_200)
            ends.far.send(item if isinstance(item, bytes) else genuine[:item])
        ends.turns(5)
        assert ends.connection.ended is None
