"""One QUIC connection of an edge to a control plane: aioquic over a UDP socket of its own.

The datapath's socket and threads are not used on purpose: whatever the control plane does, media must not
notice. aioquic is a state machine without I/O; here are its socket, its timers, and who may be at the other
end. The link (`farcast.edge.control_link`) decides when and whereto, and what is said.

Who is at the other end: aioquic verifies the chain against the cluster's authority, and that the certificate
is good for the name ``control.farcast.internal``, which every control plane has. Only then, and before
anything of ours is sent, its URI must say the role ``control`` and, where known, our cluster. The address
proves nothing and is not looked at.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from aioquic.quic import events as quic_events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from farcast.certificates import CONTROL_DOMAIN, Identity, control_name, edge_name
from farcast.proto.control.ranges import as_text

logging.getLogger("quic").addHandler(logging.NullHandler())
"""aioquic's words about a peer's faults are in ``ended``; without a handler they would go to stderr too."""

ALPN = "farcast-control/1"

DATAGRAMS_PER_TURN_MAX = 64
"""Datagrams taken from the socket before other tasks get a turn."""

DATAGRAM_BYTES_MAX = 65_535

WINDOW_BYTES = 1 << 20
"""What the control plane may send before it hears from us; aioquic widens it as data arrives."""

BACKLOG_BYTES_MAX = 24 << 20
"""Stream data announced beyond what has arrived in order: more than the largest message, and no network's."""

REASON_CHARACTERS_MAX = 200
"""Of why we close, as the control plane is told; it has to fit a packet."""

_OUT_OF_TIME = ("Certificate is no longer valid", "Certificate is not valid yet")
"""aioquic's words about the peer's certificate."""

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class ControlTls:
    """Who we are, the authorities (DER) that a control plane must chain to, and its cluster (empty: any)."""

    identity: Identity
    roots: tuple[bytes, ...]
    cluster: str = ""

    def quic_configuration(self, idle_ms: int) -> QuicConfiguration:
        """What aioquic wants to know."""
        chain = [x509.load_der_x509_certificate(der) for der in self.identity.chain]
        return QuicConfiguration(
            alpn_protocols=[ALPN],
            is_client=True,
            server_name=CONTROL_DOMAIN,
            cadata=Identity(self.roots, b"").chain_pem(),
            certificate=chain[0],
            certificate_chain=chain[1:],
            private_key=serialization.load_der_private_key(self.identity.key, password=None),
            idle_timeout=idle_ms / 1e3,
            max_data=WINDOW_BYTES,
            max_stream_data=WINDOW_BYTES,
        )


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Times of one connection, milliseconds."""

    handshake_ms_max: int = 5_000
    ping_ms: int = 2_000
    """Keeps the connection alive through NATs, and asks whether the control plane is."""
    idle_ms: int = 6_000
    """Nothing heard this long: it is gone, or another process answers at its address by now.

    A control plane that restarts at once knows nothing of the connection and cannot say so (aioquic does not
    read stateless resets). It forgets edges that do not come back within 15 s.
    """


class ControlConnection:
    """From the first packet to the end; all times in seconds of any one clock that never goes back.

    After each of `advance`, `write` and `close` the caller calls `flush`. Nothing that the network or the
    peer does raises: it ends the connection, and ``ended`` says why. The socket is the caller's.
    """

    def __init__(
        self, sock: socket.socket, peer: SocketAddress, tls: ControlTls, limits: ConnectionLimits, now: float
    ) -> None:
        self.ended: str | None = None
        self.control: tuple[str, str] | None = None
        """Cluster and name of the control plane, once it has proved them."""
        self._socket = sock
        self._peer = peer
        self._tls = tls
        self._limits = limits
        self._ready_due = now + limits.handshake_ms_max / 1e3
        self._ping_due = 0.0
        self._pings = 0
        self._stream = 0
        self._received: deque[bytes] = deque()
        self._received_bytes = 0
        self._quic = QuicConnection(configuration=tls.quic_configuration(limits.idle_ms))
        self._quic.connect(peer, now)

    # ---- Input ------------------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Take what has come in, and do what is due."""
        with self._faults_end_it():
            self._receive(now)
            self._keep_time(now)

    def write(self, data: bytes) -> None:
        """Send bytes on the stream; only once ``control`` is known. Bounded by who writes (`EdgeChannel`)."""
        if self.ended is None:
            self._quic.send_stream_data(self._stream, data)

    def end(self, reason: str) -> None:
        """Close the connection for this reason; the first one counts. Our control plane is told it."""
        if self.ended is None:
            self.ended = reason
            told = "" if self.control is None else as_text(reason)[:REASON_CHARACTERS_MAX]
            self._quic.close(error_code=QuicErrorCode.NO_ERROR, reason_phrase=told)

    # ---- Output -----------------------------------------------------------------------------------

    def poll_data(self) -> bytes | None:
        """Bytes of the stream, in order, or ``None``."""
        return self._received.popleft() if self._received else None

    def deadline(self) -> float:
        """When `advance` is due."""
        ours = self._ready_due if self.control is None else self._ping_due
        timer = self._quic.get_timer()
        return ours if timer is None else min(ours, timer)

    def flush(self, now: float) -> None:
        """Send what aioquic has ready. A full socket buffer is a lost packet, which QUIC repairs."""
        with self._faults_end_it(), contextlib.suppress(BlockingIOError):
            for data, _ in self._quic.datagrams_to_send(now):
                self._socket.send(data)

    # ---- Parts ------------------------------------------------------------------------------------

    def _receive(self, now: float) -> None:
        for _ in range(DATAGRAMS_PER_TURN_MAX):
            try:
                data = self._socket.recv(DATAGRAM_BYTES_MAX)
            except BlockingIOError:
                return
            self._quic.receive_datagram(data, self._peer, now)
            self._take_events(now)
            if self.ended is not None:
                return

    def _keep_time(self, now: float) -> None:
        timer = self._quic.get_timer()
        if timer is not None and timer <= now:
            self._quic.handle_timer(now)
            self._take_events(now)
        if self.control is None and self._ready_due <= now:
            self.end(f"no answer in {self._limits.handshake_ms_max} ms")
        elif self.control is not None and self._ping_due <= now:
            self._ping_due = now + self._limits.ping_ms / 1e3
            self._pings += 1
            self._quic.send_ping(self._pings)

    def _take_events(self, now: float) -> None:
        while (event := self._quic.next_event()) is not None:
            match event:
                case quic_events.HandshakeCompleted():
                    self._handle_handshake(event.alpn_protocol, now)
                case quic_events.ConnectionTerminated():
                    self._handle_terminated(event)
                case quic_events.StreamDataReceived(stream_id=stream):
                    self._handle_stream(stream, event.data, fin=event.end_stream)
                case quic_events.StreamReset() | quic_events.StopSendingReceived():
                    self.end(f"control plane gave up the stream (code {event.error_code:#x})")
                case _:
                    pass
        if (closing := self._quic._close_event) is not None:
            # aioquic tells it only after the draining period, three probe timeouts later.
            self._handle_terminated(closing)
        if self._backlog_bytes() > BACKLOG_BYTES_MAX:
            self.end(f"control plane announced more than {BACKLOG_BYTES_MAX} bytes that do not come")

    def _handle_handshake(self, alpn: str | None, now: float) -> None:
        named = self._certified()
        wanted = self._tls.cluster
        if alpn != ALPN:
            self.end(f"server does not speak {ALPN}")
        elif named is None:
            self.end(self._whose_certificate())
        elif wanted and named[0] != wanted:
            self.end(f"control plane is of cluster {named[0]!r}, this edge belongs to {wanted!r}")
        else:
            self.control = named
            self._stream = self._quic.get_next_available_stream_id()
            self._ping_due = now + self._limits.ping_ms / 1e3

    def _handle_terminated(self, event: quic_events.ConnectionTerminated) -> None:
        reason = as_text(event.reason_phrase) or f"QUIC error {event.error_code:#x}"
        if event.reason_phrase == "Idle timeout":
            reason = f"nothing heard in {self._limits.idle_ms} ms"
        elif event.reason_phrase in _OUT_OF_TIME:
            reason = f"the control plane's {reason[0].lower()}{reason[1:]}, by the clock of this machine"
        elif self.control is None and self._leaf() is not None and self._certified() is None:
            reason = f"{reason}; {self._whose_certificate()}"
        if self.ended is None:
            self.ended = f"connection closed: {reason}"

    def _handle_stream(self, stream: int, data: bytes, *, fin: bool) -> None:
        if self.control is None or stream != self._stream:
            self.end(f"control plane opened stream {stream}, where there is but one, ours")
            return
        self._received_bytes += len(data)
        if data:
            self._received.append(data)
        if fin:
            self.end("control plane ended the stream")

    @contextlib.contextmanager
    def _faults_end_it(self) -> Iterator[None]:
        """What a peer's bytes can raise inside aioquic is not written down, and must not end the edge."""
        try:
            yield
        except OSError as error:
            self._handle_socket_error(error)
        except Exception as error:
            self.end(f"QUIC failed: {type(error).__name__}: {as_text(str(error))}")

    def _handle_socket_error(self, error: OSError) -> None:
        """Nobody at that port, or no way there at all, is an answer; later a missing route may come back."""
        if self.control is None or error.errno == errno.ECONNREFUSED:
            self.end(f"cannot be reached: {error.strerror}")

    def _backlog_bytes(self) -> int:
        """Bytes up to the highest offsets of all streams, less what was delivered.

        aioquic doubles its windows by what is announced, not by what was read; and keeps room for gaps. So
        without this bound a few packets at ever higher offsets would take any amount of memory.
        """
        return self._quic._local_max_data.used - self._received_bytes

    def _leaf(self) -> bytes | None:
        certificate = self._quic.tls._peer_certificate
        return None if certificate is None else certificate.public_bytes(serialization.Encoding.DER)

    def _certified(self) -> tuple[str, str] | None:
        leaf = self._leaf()
        return None if leaf is None else control_name(leaf)

    def _whose_certificate(self) -> str:
        edge = edge_name(self._leaf() or b"")
        whose = "nobody of ours" if edge is None else f"edge {edge[1]!r} of region {edge[0]!r}"
        return f"server's certificate is for {whose}, not for a control plane"
