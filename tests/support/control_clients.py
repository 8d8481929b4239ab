"""The edge's end of a control session for tests: aioquic on asyncio, as bare as it can be."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import (
    ConnectionTerminated,
    QuicEvent,
    StopSendingReceived,
    StreamDataReceived,
)
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key

from farcast.certificates import Identity

ALPN = "farcast-control/1"


class ControlClient(QuicConnectionProtocol):
    """Keeps what comes; `until` waits for something to be so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.received: defaultdict[int, bytearray] = defaultdict(bytearray)
        self.ended: set[int] = set()
        self.stopped: list[int] = []
        self.terminated: ConnectionTerminated | None = None
        self._changed = asyncio.Event()

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            self.received[event.stream_id] += event.data
            if event.end_stream:
                self.ended.add(event.stream_id)
        elif isinstance(event, StopSendingReceived):
            self.stopped.append(event.stream_id)
        elif isinstance(event, ConnectionTerminated):
            self.terminated = event
        self._changed.set()

    def open(self, *, uni: bool = False) -> int:
        """The id of a new stream."""
        stream_id: int = self._quic.get_next_available_stream_id(is_unidirectional=uni)
        return stream_id

    def send(self, stream_id: int, data: bytes, *, fin: bool = False) -> None:
        self._quic.send_stream_data(stream_id, data, end_stream=fin)
        self.transmit()

    async def until(self, holds: Any) -> None:
        """Wait until ``holds(self)``, which is asked after each event."""
        while not holds(self):
            self._changed.clear()
            await self._changed.wait()


def configuration(authority: bytes, identity: Identity | None) -> QuicConfiguration:
    """``authority``: PEM of whom to trust. ``identity``: the certificate to show."""
    made = QuicConfiguration(
        is_client=True, alpn_protocols=[ALPN], server_name="localhost", cadata=authority, idle_timeout=30.0
    )
    if identity is not None:
        made.certificate = x509.load_der_x509_certificate(identity.chain[0])
        made.private_key = load_der_private_key(identity.key, password=None)
    return made


@asynccontextmanager
async def control_client(address: str, settings: QuicConfiguration) -> AsyncIterator[ControlClient]:
    """A client whose handshake has begun; closed in the end."""
    loop = asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    transport, client = await loop.create_datagram_endpoint(
        lambda: ControlClient(QuicConnection(configuration=settings)), local_addr=("127.0.0.1", 0)
    )
    try:
        client.connect((host, int(port)))
        yield client
        client.close()
        await client.wait_closed()
    finally:
        transport.close()
