"""Trio shell of the edge's control channel: finds a control plane, stays connected, comes back.

    waiting --> resolving --> connecting --> connected --> waiting …

One connection at a time, to one of the addresses; each failure moves on to the next one. Names are resolved
for every attempt, because control planes move. How long it waits after a failure is the business of
`Retries`.

The link has no say about plans and reports: `EdgeChannel` is the engine, and its events go to whoever runs
the link. Losing the control plane changes nothing else at the edge.
"""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import structlog
import trio

from farcast.certificates import Identity
from farcast.edge.control_connection import ConnectionLimits, ControlConnection, ControlTls, SocketAddress
from farcast.proto.control.edge_channel import EdgeChannel
from farcast.proto.control.events import Broken, EdgeEvent, Joined, Refused
from farcast.proto.control.messages import Epoch, PlanVersion, Report
from farcast.proto.control.retries import Retries
from farcast.proto.urls import split_host_port

log: structlog.stdlib.BoundLogger = structlog.get_logger()

RESOLVED_PER_NAME_MAX = 4
"""Addresses of one name that are tried in one attempt."""

Found: TypeAlias = tuple[socket.AddressFamily, SocketAddress]


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How an attempt ended; ``connected``: a control plane was there, for ``lasted_ms``, and asked to be
    tried again within ``asked_ms`` (0: did not ask)."""

    reason: str
    connected: bool = False
    lasted_ms: float = 0.0
    asked_ms: int = 0


@dataclass(frozen=True, slots=True)
class ControlLinkOptions:
    """Where control planes are, who they must be, and how patient we are.

    ``addresses``: ``HOST:PORT``, tried in turn; `ValueError` for what is none.
    """

    addresses: Sequence[str]
    tls: ControlTls
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    resolve_ms_max: int = 5_000
    retry_ms: int = 500
    """The first wait is shorter than that."""
    retry_ms_max: int = 10_000
    stable_ms: int = 5_000
    """A connection that lasted this long counts as a success."""

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ValueError("a control link needs the address of a control plane")
        for address in self.addresses:
            split_host_port(address)


class ControlLink:
    """Runs ``channel`` over connections to control planes, for ever.

    ``on_event`` gets the channel's events in the trio thread, and may call the link's commands. Times for
    the channel come from ``now_us``, by default of trio's clock; ``uniform`` gives numbers from 0 to 1.
    """

    def __init__(
        self,
        channel: EdgeChannel,
        options: ControlLinkOptions,
        on_event: Callable[[EdgeEvent], None],
        *,
        now_us: Callable[[], int] | None = None,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self.channel = channel
        self._options = options
        self._on_event = on_event
        self._now_us = now_us or _trio_now_us
        self._retries = Retries(
            uniform,
            addresses=len(options.addresses),
            retry_ms=options.retry_ms,
            retry_ms_max=options.retry_ms_max,
            stable_ms=options.stable_ms,
        )
        self._said: dict[str, str] = {}
        self._connection: ControlConnection | None = None
        self._waiting: trio.CancelScope | None = None
        self._verdict: str | None = None
        self._asked_ms = 0
        self.address: str | None = None
        """The configured address in use or tried last."""
        self.last_failure: str | None = None
        """Why the last connection or attempt ended."""

    @property
    def control(self) -> tuple[str, str] | None:
        """Cluster and name of the control plane that is connected."""
        return None if self._connection is None else self._connection.control

    @property
    def joined(self) -> bool:
        """Whether reports can be sent now."""
        return self.channel.joined

    # ---- Commands ---------------------------------------------------------------------------------

    def send_report(self, report: Report) -> str | None:
        """Send a report; ``None``, or why it was not sent (then a full one must follow)."""
        why_not = self.channel.send_report(report, self._now_us())
        self.wake()
        return why_not

    def answer_plan(self, version: PlanVersion, refusal: str | None) -> None:
        """The plan is in force (``None``), or was refused for this reason."""
        self.channel.answer_plan(version, refusal)
        self.wake()

    def wake(self) -> None:
        """The channel was called from elsewhere: send what it has now."""
        if self._waiting is not None:
            self._waiting.cancel()

    def renew(self, identity: Identity) -> None:
        """Show another certificate from the next connection on."""
        self._options = replace(self._options, tls=replace(self._options.tls, identity=identity))

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        addresses = self._options.addresses
        attempt = 0
        while True:
            self.address = addresses[attempt % len(addresses)]
            await self._wait_to_retry(await self._attempt(self.address))
            attempt += 1

    # ---- Attempts ---------------------------------------------------------------------------------

    async def _attempt(self, address: str) -> _Outcome:
        """One connection, from its first packet to its end."""
        try:
            found = await self._resolve(address)
        except (OSError, UnicodeError) as error:
            # UnicodeError: what no name can be, such as an empty or overlong label.
            return _Outcome(f"the name has no address: {getattr(error, 'strerror', None) or error}")
        outcome = _Outcome(f"the name was not resolved in {self._options.resolve_ms_max} ms")
        for family, peer in found[:RESOLVED_PER_NAME_MAX]:
            outcome = await self._connect(family, peer)
            if outcome.connected:
                break
        return outcome

    async def _resolve(self, address: str) -> list[Found]:
        host, port = split_host_port(address)
        entries: list[Any] = []
        with trio.move_on_after(self._options.resolve_ms_max / 1e3):
            entries = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        families = (socket.AF_INET, socket.AF_INET6)
        return [(entry[0], entry[4]) for entry in entries if entry[0] in families]

    async def _connect(self, family: socket.AddressFamily, peer: SocketAddress) -> _Outcome:
        with contextlib.ExitStack() as stack:
            try:
                sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                sock.setblocking(False)
                sock.connect(peer)
            except OSError as error:
                return _Outcome(f"cannot be reached: {error.strerror}")
            options = self._options
            connection = ControlConnection(sock, peer, options.tls, options.limits, trio.current_time())
            greeted_at = await self._serve(sock, connection)
            reason = self._verdict or connection.ended or ""
            if greeted_at is None:
                return _Outcome(reason)
            lasted_ms = (trio.current_time() - greeted_at) * 1e3
            return _Outcome(reason, connected=True, lasted_ms=lasted_ms, asked_ms=self._asked_ms)

    async def _serve(self, sock: socket.socket, connection: ControlConnection) -> float | None:
        """Carry bytes between connection and channel until one of them ends; when they met, if they did."""
        self._connection, self._verdict, self._asked_ms = connection, None, 0
        greeted_at = None
        try:
            while connection.ended is None:
                connection.flush(trio.current_time())
                await self._wait(sock, connection)
                connection.advance(trio.current_time())
                if connection.control is not None and greeted_at is None:
                    greeted_at = trio.current_time()
                    self._greet(connection.control)
                if greeted_at is not None:
                    self._exchange(connection)
        finally:
            connection.end("the edge ends")
            connection.flush(trio.current_time())
            self._connection = None
            if greeted_at is not None:
                self.channel.handle_disconnected(connection.ended or "", self._now_us())
                self._hand_on_events()
        return greeted_at

    async def _wait(self, sock: socket.socket, connection: ControlConnection) -> None:
        """Sleep until a datagram is there, something is due, or a command wants to be sent."""
        deadline = connection.deadline()
        due_us = self.channel.poll_timeout()
        if due_us is not None:
            deadline = min(deadline, trio.current_time() + (due_us - self._now_us()) / 1e6)
        with trio.CancelScope(deadline=deadline) as self._waiting:
            await trio.lowlevel.wait_readable(sock)
        self._waiting = None

    # ---- The channel ------------------------------------------------------------------------------

    def _greet(self, control: tuple[str, str]) -> None:
        # Not yet a change of state: TLS 1.3 refuses our certificate only after the client is done.
        log.debug("control plane connected", address=self.address, cluster=control[0], name=control[1])
        self.channel.handle_connected(self._now_us())

    def _exchange(self, connection: ControlConnection) -> None:
        now_us = self._now_us()
        while (data := connection.poll_data()) is not None and not self.channel.should_close:
            self.channel.handle_data(data, now_us)
            self._hand_on_events()
        due_us = self.channel.poll_timeout()
        if due_us is not None and due_us <= now_us:
            self.channel.handle_timeout(now_us)
            self._hand_on_events()
        while (data := self.channel.poll_data()) is not None:
            connection.write(data)
        if self.channel.should_close:
            connection.end(self._verdict or "the channel has ended")

    def _hand_on_events(self) -> None:
        while (event := self.channel.poll_event()) is not None:
            match event:
                case Joined(welcome):
                    self._say_joined(welcome.epoch)
                case Refused(reason, retry_ms):
                    self._verdict, self._asked_ms = reason, retry_ms
                case Broken(reason):
                    self._verdict = reason
                case _:
                    pass
            self._on_event(event)

    def _say_joined(self, epoch: Epoch) -> None:
        self._said.clear()
        name = self.control[1] if self.control else ""
        log.info(
            "control plane joined", address=self.address, cluster=epoch.cluster, name=name, epoch=epoch.number
        )

    # ---- Failures ---------------------------------------------------------------------------------

    async def _wait_to_retry(self, outcome: _Outcome) -> None:
        self.last_failure = outcome.reason
        wait_ms = self._retries.next_wait_ms(outcome.lasted_ms, outcome.asked_ms)
        self._say(outcome.reason, round(wait_ms))
        await trio.sleep(wait_ms / 1e3)

    def _say(self, reason: str, retry_ms: int) -> None:
        """One line per change; that it is still the same is for developers."""
        address = self.address or ""
        if self._said.get(address) == reason:
            log.debug("control plane still not connected", address=address, reason=reason, retry_ms=retry_ms)
            return
        self._said[address] = reason
        log.warning("control plane not connected", address=address, reason=reason, retry_ms=retry_ms)


def _trio_now_us() -> int:
    return int(trio.current_time() * 1e6)
