"""Round trips, loss and path MTU to any QUIC server, over plain UDP and without a certificate.

Every QUIC server answers a long-header packet of a version that it does not know with a Version Negotiation
packet (RFC 9000 §6.1), at once and without any state: an echo that is there already. The answer carries our
connection id back, which says whose it is. It is shorter than the question, so that nobody can use it to
amplify anything, and nothing had to be added to the edge. Versions of the form 0x?a?a?a?a are kept for just
this (§15).

Sizes are asked with "don't fragment" set, so a question that arrives says that the way out carries datagrams
of its size; of the way back it says nothing, because answers are short.

Rejected: QUIC PING, whose acknowledgement a peer may delay by 25 ms; an echo service of our own, one more
thing that answers strangers.
"""

from __future__ import annotations

import errno
import ipaddress
import secrets
import socket
import statistics
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import trio

from farcast.proto.urls import split_host_port

DATAGRAM_BYTES_MIN: Final = 1_200
"""What a server must answer at least (RFC 9000 §14.1); shorter questions may be dropped."""

ANSWER_BYTES_MAX: Final = 2_048
VERSION_UNKNOWN: Final = b"\x1a\x2a\x3a\x4a"
ID_BYTES: Final = 8
PROBES_MAX: Final = 100
SIZES: Final = (1_200, 1_252, 1_312, 1_372, 1_412, 1_432, 1_452, 1_472, 2_972, 8_972)
"""UDP payloads that are tried: 1,472 is an Ethernet's 1,500 over IPv4, 1,452 over IPv6 or PPPoE's 1,480."""

SIZE_TRIES: Final = 2
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3


@dataclass(frozen=True, slots=True)
class EchoPlan:
    """How much is asked: so many probes, so far apart, each waited for so long."""

    probes: int = 10
    spacing_s: float = 0.05
    timeout_s: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.probes <= PROBES_MAX:
            raise ValueError(f"probes must be from 1 to {PROBES_MAX}, not {self.probes}")


@dataclass(frozen=True, slots=True)
class EchoReport:
    """What came back. ``refused``: the machine said by ICMP that nothing listens there; ``unreachable``: why
    nothing could be sent at all. ``rtts_ms`` in order of sending."""

    sent: int
    rtts_ms: tuple[float, ...] = ()
    refused: bool = False
    unreachable: str = ""

    @property
    def loss(self) -> float:
        """Share of the probes that no answer came for."""
        return 1 - len(self.rtts_ms) / self.sent if self.sent else 1.0

    @property
    def rtt_ms(self) -> float | None:
        """The median."""
        return statistics.median(self.rtts_ms) if self.rtts_ms else None

    @property
    def rtt_min_ms(self) -> float | None:
        """The shortest."""
        return min(self.rtts_ms, default=None)

    @property
    def rtt_max_ms(self) -> float | None:
        """The longest."""
        return max(self.rtts_ms, default=None)

    @property
    def jitter_ms(self) -> float | None:
        """Mean difference of two that follow one another; None below two."""
        steps = [abs(b - a) for a, b in zip(self.rtts_ms, self.rtts_ms[1:], strict=False)]
        return statistics.fmean(steps) if steps else None


@dataclass(slots=True)
class _Ledger:
    sent_s: dict[bytes, float] = field(default_factory=dict)
    back_s: dict[bytes, float] = field(default_factory=dict)
    refused: bool = False


def question(connection_id: bytes, size_bytes: int = DATAGRAM_BYTES_MIN) -> bytes:
    """A long-header packet of an unknown version, padded."""
    packet = b"\xc0" + VERSION_UNKNOWN + bytes([ID_BYTES]) + secrets.token_bytes(ID_BYTES)
    return (packet + bytes([len(connection_id)]) + connection_id).ljust(size_bytes, b"\0")


def answered(datagram: bytes) -> bytes | None:
    """The connection id that a Version Negotiation packet answers; None for anything else."""
    if len(datagram) < 7 or not datagram[0] & 0x80 or struct.unpack_from("!I", datagram, 1)[0] != 0:
        return None
    length = datagram[5]
    connection_id = datagram[6 : 6 + length]
    return connection_id if len(connection_id) == length == ID_BYTES else None


async def echo(remote: str, plan: EchoPlan | None = None) -> EchoReport:
    """Probe ``ip:port``. Never raises for the network's sake; takes at most its plan's time."""
    plan = plan or EchoPlan()
    ledger = _Ledger()
    try:
        with await _connected(remote) as sock:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_receive, sock, ledger)
                await _send(sock, plan, ledger)
                with trio.move_on_after(plan.timeout_s):
                    while len(ledger.back_s) < len(ledger.sent_s) and not ledger.refused:
                        await trio.sleep(0.005)
                nursery.cancel_scope.cancel()
    except OSError as error:
        return EchoReport(len(ledger.sent_s), unreachable=error.strerror or str(error))
    rtts = tuple(
        (ledger.back_s[key] - sent_s) * 1_000 for key, sent_s in ledger.sent_s.items() if key in ledger.back_s
    )
    return EchoReport(len(ledger.sent_s), rtts, ledger.refused)


async def path_mtu(remote: str, sizes: Sequence[int] = SIZES, timeout_s: float = 1.0) -> int | None:
    """The largest of ``sizes`` (UDP payload, bytes) that gets there unfragmented; None if none does.

    All are asked for at once, those without an answer once more.
    """
    passed: set[int] = set()
    try:
        with await _connected(remote) as sock:
            _forbid_fragments(sock)
            for _ in range(SIZE_TRIES):
                if missing := [size for size in sizes if size not in passed]:
                    await _try_sizes(sock, missing, passed, timeout_s)
    except OSError:
        return max(passed, default=None)
    return max(passed, default=None)


async def _try_sizes(
    sock: trio.socket.SocketType, sizes: Sequence[int], passed: set[int], timeout_s: float
) -> None:
    ledger, of_key = _Ledger(), {}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_receive, sock, ledger)
        for size in sizes:
            key = secrets.token_bytes(ID_BYTES)
            try:
                await sock.send(question(key, size))
                of_key[key] = size
                ledger.sent_s[key] = trio.current_time()
            except OSError as error:
                if error.errno != errno.EMSGSIZE:  # larger than this machine's own link
                    raise
        with trio.move_on_after(timeout_s):
            while len(ledger.back_s) < len(of_key) and not ledger.refused:
                await trio.sleep(0.005)
        nursery.cancel_scope.cancel()
    passed.update(of_key[key] for key in ledger.back_s)


async def _connected(remote: str) -> trio.socket.SocketType:
    host, port = split_host_port(remote)
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    sock = trio.socket.socket(family, socket.SOCK_DGRAM)
    try:
        await sock.connect((host, port))
    except OSError:
        sock.close()
        raise
    return sock


async def _send(sock: trio.socket.SocketType, plan: EchoPlan, ledger: _Ledger) -> None:
    for number in range(plan.probes):
        if number:
            await trio.sleep(plan.spacing_s)
        key = secrets.token_bytes(ID_BYTES)
        ledger.sent_s[key] = trio.current_time()
        try:
            await sock.send(question(key))
        except ConnectionRefusedError:
            ledger.refused = True
        if ledger.refused:
            return


async def _receive(sock: trio.socket.SocketType, ledger: _Ledger) -> None:
    while True:
        try:
            datagram = await sock.recv(ANSWER_BYTES_MAX)
        except ConnectionRefusedError:
            ledger.refused = True
            return
        key = answered(datagram)
        if key in ledger.sent_s and key not in ledger.back_s:
            ledger.back_s[key] = trio.current_time()


def _forbid_fragments(sock: trio.socket.SocketType) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
