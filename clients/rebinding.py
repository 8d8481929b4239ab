"""A relay on this machine between a client and its server, which changes its port as a NAT does."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from farcast.proto.urls import join_host_port, split_host_port

DATAGRAM_BYTES_MAX: Final = 65_535
HEARD_ANEW: Final = 3
"""So many datagrams at the new port say that the server goes on there: the first may be a challenge only."""


class Rebinding:
    """Carries datagrams of one client; see `to`."""

    def __init__(self, remote: str, inner: trio.socket.SocketType, nursery: trio.Nursery) -> None:
        self._remote = split_host_port(remote)
        self._family = inner.family
        self._inner = inner
        self._nursery = nursery
        self._outer: trio.socket.SocketType | None = None
        self._scope = trio.CancelScope()
        self._client: tuple[str, int] | None = None
        self._heard = 0
        self._goes_on = trio.Event()

    @classmethod
    @asynccontextmanager
    async def to(cls, remote: str) -> AsyncIterator[Rebinding]:
        """A relay to ``ip:port`` for the length of the block."""
        is_v6 = ipaddress.ip_address(split_host_port(remote)[0]).version == 6
        inner = trio.socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_DGRAM)
        with inner:
            await inner.bind(("::1" if is_v6 else "127.0.0.1", 0))
            async with trio.open_nursery() as nursery:
                relay = cls(remote, inner, nursery)
                await relay.rebind()
                nursery.start_soon(relay._outwards)
                try:
                    yield relay
                finally:
                    nursery.cancel_scope.cancel()
                    if relay._outer is not None:
                        relay._outer.close()

    @property
    def address(self) -> str:
        """Where the client is to send to."""
        host, port = self._inner.getsockname()[:2]
        return join_host_port(host, port)

    async def rebind(self) -> None:
        """Go on from another port; what comes to the one before is lost."""
        outer = trio.socket.socket(self._family, socket.SOCK_DGRAM)
        await outer.connect(self._remote)
        self._scope.cancel()
        if self._outer is not None:
            self._outer.close()
        self._outer, self._scope = outer, trio.CancelScope()
        self._heard, self._goes_on = 0, trio.Event()
        self._nursery.start_soon(self._inwards, outer, self._scope)

    async def heard_anew(self) -> None:
        """Wait until the server goes on at the newest port."""
        await self._goes_on.wait()

    async def _outwards(self) -> None:
        while True:
            datagram, self._client = await self._inner.recvfrom(DATAGRAM_BYTES_MAX)
            if self._outer is not None:
                await _send(self._outer, datagram)

    async def _inwards(self, outer: trio.socket.SocketType, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                try:
                    datagram = await outer.recv(DATAGRAM_BYTES_MAX)
                except OSError:
                    return
                self._heard += 1
                if self._heard == HEARD_ANEW:
                    self._goes_on.set()
                if self._client is not None:
                    await self._inner.sendto(datagram, self._client)


async def _send(outer: trio.socket.SocketType, datagram: bytes) -> None:
    try:
        await outer.send(datagram)
    except OSError:
        return  # refused or closed: a lost datagram
