"""A wire between machines with the delays of the world, for kernels that have none to give (netem).

Frames are taken from each machine's interface and put on the others' when their time has come. They carry the
kernel's notes on checksums and segments along (``PACKET_VNET_HDR``), so that offloading works as on a bridge.
"""

from __future__ import annotations

import heapq
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23

NOTES_BYTES = 10
"""What stands before each frame: struct virtio_net_hdr."""
FRAME_BYTES_MAX = NOTES_BYTES + 14 + (1 << 16)
BUFFER_BYTES = 8 << 20
BROADCAST_BIT = 1

DelayMs = Callable[[str, str], float]
"""One way, from one machine to another."""


class Wire:
    """Frames on their way: who gets them, and when. ``now``: seconds, whatever they count from."""

    def __init__(self, machines: Iterable[str], delay_ms: DelayMs) -> None:
        self._machines, self._delay_ms = tuple(machines), delay_ms
        self._known: dict[bytes, str] = {}
        self._under_way: list[tuple[float, int, str, bytes]] = []
        self._taken = 0

    def take(self, source: str, frame: bytes, now: float) -> None:
        """A frame that a machine sent, with the notes before it."""
        to, sender = frame[NOTES_BYTES : NOTES_BYTES + 6], frame[NOTES_BYTES + 6 : NOTES_BYTES + 12]
        self._known[sender] = source
        known = None if to[0] & BROADCAST_BIT else self._known.get(to)
        for sink in (known,) if known else self._machines:
            if sink != source:
                self._taken += 1
                due = now + self._delay_ms(source, sink) / 1e3
                heapq.heappush(self._under_way, (due, self._taken, sink, frame))

    def give(self, now: float) -> tuple[str, bytes] | None:
        """The next frame that has arrived by now, and where."""
        if not self._under_way or self._under_way[0][0] > now:
            return None
        _, _, sink, frame = heapq.heappop(self._under_way)
        return sink, frame

    def wait_s(self, now: float) -> float | None:
        """How long nothing arrives; ``None`` if nothing is under way."""
        return max(0.0, self._under_way[0][0] - now) if self._under_way else None


def lay(interfaces: dict[str, str], delay_ms: DelayMs) -> None:
    """Join interfaces, by machine, for as long as this process lives."""
    sockets = {machine: _open(interface) for machine, interface in interfaces.items()}
    wire = Wire(sockets, delay_ms)
    threading.Thread(target=_carry, args=(wire, sockets), daemon=True).start()


def _open(interface: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    end.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    end.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
    end.bind((interface, ETH_P_ALL))
    end.setblocking(False)
    return end


def _carry(wire: Wire, sockets: dict[str, socket.socket]) -> None:
    with selectors.DefaultSelector() as selector:
        for machine, end in sockets.items():
            selector.register(end, selectors.EVENT_READ, machine)
        while True:
            for key, _ in selector.select(wire.wait_s(time.monotonic())):
                _take_all(wire, sockets[key.data], key.data)
            while (arrived := wire.give(time.monotonic())) is not None:
                sink, frame = arrived
                try:
                    sockets[sink].send(frame)
                except OSError:  # A full queue, or an interface that is down: lost, as on any wire.
                    continue


def _take_all(wire: Wire, end: socket.socket, machine: str) -> None:
    while True:
        try:
            frame = end.recv(FRAME_BYTES_MAX)
        except OSError:
            return
        wire.take(machine, frame, time.monotonic())
