"""The modelled control channel: a reliable, ordered pipe between an edge and the control plane.

In the daemons this is a QUIC connection of its own (aioquic at the edge, our datapath at the other end). The
simulator keeps what matters of it to the engines at both ends: bytes come whole and in order, after the delay
of the way; a lost packet delays what follows it by a round trip and a probe timeout; while the way is cut in
either direction nothing comes and nothing is lost; a connection over which the edge hears nothing for
`IDLE_US_MAX` ends at the edge, the control plane notices by its own deadlines; and an edge that lost its
connection comes back after the waits of `Retries`, the same class that the daemon uses.

Not in it: the connection's own congestion control. Reports and plans are small against what it allows, but
for the first full plan of a very large network.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from farcast.proto.control.retries import Retries
from farcast.simulations.dialects import Older
from farcast.simulations.twin import Twin

IDLE_US_MAX = 6_000_000
"""`edge.control_connection.ConnectionLimits.idle_ms`."""

PING_US = 2_000_000
"""`ConnectionLimits.ping_ms`: a sign of life, and what finds out that the other end is gone."""

HANDSHAKE_US_MAX = 5_000_000
HANDSHAKE_ROUND_TRIPS = 2
"""QUIC's handshake, and the half round trip until each end may speak, rounded up."""

PACKET_BYTES = 1_200
REPAIR_ROUND_TRIPS = 1.25
"""A lost packet is noticed by the next acknowledgement, and sent again."""

WAITING_BYTES_MAX = 64 << 20
"""Bytes of one direction that wait for a way that is cut."""


class EdgeEnd(Protocol):
    """The edge's side of a pipe."""

    def control_opened(self, now_us: int) -> None: ...
    def control_data(self, data: bytes, now_us: int) -> None: ...
    def control_closed(self, reason: str, now_us: int) -> None: ...


class ControlEnd(Protocol):
    """The control plane's side, for all its edges."""

    @property
    def is_up(self) -> bool: ...
    def knows(self, session: int) -> bool: ...
    def accept(self, pipe: ControlPipe, now_us: int) -> int: ...
    def data(self, session: int, data: bytes, now_us: int) -> None: ...
    def closed(self, session: int, reason: str, now_us: int) -> None: ...


@dataclass(frozen=True, slots=True)
class ControlWay:
    """What the way is like: each direction's delay, and the share of packets lost."""

    delay_us: int
    loss: float = 0.0


@dataclass(slots=True)
class _Direction:
    """Bytes of one direction. ``cuts``: how many faults cut it at present."""

    cuts: int = 0
    free_us: int = 0
    """Nothing arrives before what was sent before it."""
    held: deque[bytes] = field(default_factory=deque)
    held_bytes: int = 0
    heard_us: int = 0
    """When its receiver last heard anything."""


class ControlPipe:
    """One edge's control connection, over all its attempts; `start` keeps it connected until `stop`."""

    def __init__(
        self, twin: Twin, host: int, edge: EdgeEnd, control: ControlEnd, way: ControlWay, seed: int
    ) -> None:
        self.older: Older | None = None
        """The edge is of the build before, and this is how it speaks."""
        self.extra_us: dict[object, int] = {}
        """What faults add to each direction's delay, by a key of theirs."""
        self._way = way
        self._twin = twin
        self._host = host
        self._edge = edge
        self._control = control
        self._random = Random(seed)
        self._retries = Retries(self._random.random)
        self._up, self._down = _Direction(), _Direction()
        self._session: int | None = None
        self._opened_us = 0
        self._generation = 0
        """Whatever was scheduled by an earlier connection does nothing any more."""
        self._running = False

    @property
    def connected(self) -> bool:
        """Whether bytes can be sent."""
        return self._session is not None

    # ---- The edge ----------------------------------------------------------------------------------

    def start(self, now_us: int) -> None:
        """Connect, and connect again."""
        if not self._running:
            self._running = True
            self._attempt(now_us)

    def stop(self, now_us: int) -> None:
        """The edge is gone, without a word: the control plane finds out by itself."""
        self._running = False
        self._session = None
        self._generation += 1
        self._forget_bytes()

    def send_up(self, data: bytes, now_us: int) -> None:
        """Bytes of the edge."""
        if self._session is not None:
            self._send(self._up, self.older.up(data) if self.older else data, now_us)

    def close_up(self, reason: str, now_us: int) -> None:
        """The edge ends the connection, once its bytes are out; the next attempt follows."""
        session = self._session
        if session is not None:
            self._twin.at(
                now_us + self.delay_us, lambda at_us: self._control.closed(session, reason, at_us), ()
            )
            self._over(reason, now_us)

    # ---- The control plane ---------------------------------------------------------------------------

    def send_down(self, session: int, data: bytes, now_us: int) -> None:
        """Bytes of the control plane, for the connection that it knows by this session."""
        if session == self._session:
            self._send(self._down, self.older.down(data) if self.older else data, now_us)

    def close_down(self, session: int, reason: str, now_us: int) -> None:
        """The control plane ends it, once its bytes are out."""
        if session == self._session and not self._down.cuts:
            self._after(
                max(self.delay_us, self._down.free_us - now_us), lambda at_us: self._over(reason, at_us)
            )

    # ---- The way -------------------------------------------------------------------------------------

    @property
    def delay_us(self) -> int:
        """One way, now."""
        return self._way.delay_us + sum(self.extra_us.values())

    def cut(self, now_us: int, *, up: bool = True, down: bool = True) -> None:
        """Nothing passes any more in these directions; cuts count."""
        for direction, concerned in ((self._up, up), (self._down, down)):
            direction.cuts += concerned

    def mend(self, now_us: int, *, up: bool = True, down: bool = True) -> None:
        """One cut less; what waited arrives after a probe."""
        for direction, concerned in ((self._up, up), (self._down, down)):
            direction.cuts -= concerned and direction.cuts > 0
            if concerned and not direction.cuts and self._session is not None:
                waiting = b"".join(direction.held)
                direction.held.clear()
                direction.held_bytes = 0
                direction.free_us = max(direction.free_us, now_us + self._round_trip_us())
                if waiting:
                    self._send(direction, waiting, now_us)

    def mend_all(self, now_us: int) -> None:
        """As the world made it, whatever cut it."""
        for is_up, direction in ((True, self._up), (False, self._down)):
            direction.cuts = min(direction.cuts, 1)
            self.mend(now_us, up=is_up, down=not is_up)

    def _round_trip_us(self) -> int:
        return 2 * self.delay_us

    def _attempt(self, now_us: int) -> None:
        self._generation += 1
        if self._up.cuts or self._down.cuts or not self._control.is_up:
            self._after(HANDSHAKE_US_MAX, lambda at_us: self._retry(0.0, at_us))
        else:
            self._after(HANDSHAKE_ROUND_TRIPS * self._round_trip_us() + self._repair_us(2), self._opened)

    def _opened(self, now_us: int) -> None:
        if self._up.cuts or self._down.cuts or not self._control.is_up:
            self._retry(0.0, now_us)
            return
        self._opened_us = now_us
        if self.older is not None:
            self.older.reset()
        for direction in (self._up, self._down):
            direction.free_us, direction.heard_us = now_us, now_us
        self._session = self._control.accept(self, now_us)
        self._edge.control_opened(now_us)
        self._after(PING_US, self._ping)

    def _ping(self, now_us: int) -> None:
        """The edge asks whether anybody is there, and ends what has been silent too long."""
        is_whole = not (self._up.cuts or self._down.cuts)
        if is_whole and self._session is not None and self._control.knows(self._session):
            self._down.heard_us = now_us
        if now_us - self._down.heard_us >= IDLE_US_MAX:
            self._over(f"nothing heard for {IDLE_US_MAX // 1_000} ms", now_us)
        else:
            self._after(PING_US, self._ping)

    def _over(self, reason: str, now_us: int) -> None:
        self._session = None
        self._generation += 1
        self._forget_bytes()
        self._edge.control_closed(reason, now_us)
        if self._running:
            self._retry((now_us - self._opened_us) / 1e3, now_us)

    def _retry(self, lasted_ms: float, now_us: int) -> None:
        if self._running:
            self._after(round(self._retries.next_wait_ms(lasted_ms) * 1e3), self._attempt)

    def _send(self, direction: _Direction, data: bytes, now_us: int) -> None:
        if direction.cuts:
            if direction.held_bytes + len(data) <= WAITING_BYTES_MAX:
                direction.held.append(data)
                direction.held_bytes += len(data)
            return
        packets = 1 + len(data) // PACKET_BYTES
        arrival_us = max(direction.free_us, now_us + self.delay_us) + self._repair_us(packets)
        direction.free_us = arrival_us
        session = self._session
        if direction is self._up:
            if session is not None:
                self._after(arrival_us - now_us, lambda at_us: self._control.data(session, data, at_us))
        else:
            self._after(arrival_us - now_us, lambda at_us: self._arrived(data, at_us))

    def _arrived(self, data: bytes, now_us: int) -> None:
        self._down.heard_us = now_us
        self._edge.control_data(data, now_us)

    def _repair_us(self, packets: int) -> int:
        """How much longer it takes because of losses, which the seed decides."""
        if self._way.loss <= 0.0:
            return 0
        losses = sum(self._random.random() < self._way.loss for _ in range(min(packets, 1_000)))
        return round(losses and REPAIR_ROUND_TRIPS * self._round_trip_us())

    def _after(self, wait_us: int, action: Callable[[int], None]) -> None:
        generation = self._generation

        def act(now_us: int) -> None:
            if generation == self._generation:
                action(now_us)

        self._twin.at(self._twin.now_us() + max(wait_us, 0), act, (self._host,))

    def _forget_bytes(self) -> None:
        for direction in (self._up, self._down):
            direction.held.clear()
            direction.held_bytes = 0
