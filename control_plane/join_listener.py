"""Where edges join: TLS over TCP, on the control channel's port number. Shell of `proto.joining.records`.

Whoever connects is unknown, so everything is bounded: connections, bytes, time. What the engine decides is on
disk before it is answered: a token that is not durably used up is no answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from farcast.control_plane.issuing import Certificate, Joining
from farcast.control_plane.sharing import Unshared, shared_by_nobody
from farcast.errors import UserError
from farcast.proto.control.codec import BadMessage
from farcast.proto.control.ranges import as_text
from farcast.proto.joining.records import (
    ALPN,
    Greeting,
    JoinAnswer,
    JoinRequest,
    decode_request,
    encode_joining,
    joining_framer,
)
from farcast.signing import BadRequest, key_sha256, read_request

log: structlog.stdlib.BoundLogger = structlog.get_logger()

CONNECTIONS_MAX: Final = 64
EXCHANGE_SECONDS_MAX: Final = 10.0
READ_BYTES: Final = 16_384

Admit = Callable[[Joining], Certificate | str]


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """TLS of the listener: the control plane's own certificate, no client certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    context.set_alpn_protocols([ALPN])
    try:
        context.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as error:
        raise UserError(f"{cert}: cannot be used for TLS: {error}") from error
    return context


class JoinListener:
    """Serves joins on a bound socket; ``admit`` decides, and has made it durable when it returns; ``settle``
    waits until another control plane would know of it."""

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        authority: bytes,
        admit: Admit,
        settle: Callable[[], Awaitable[Unshared | None]] = shared_by_nobody,
    ) -> None:
        self._socket = sock
        self._context = context
        self._greeting = encode_joining(Greeting(authority=authority))
        self._admit = admit
        self._settle = settle
        self._connections: set[asyncio.Task[None]] = set()

    async def serve(self, stop: asyncio.Event) -> None:
        """Until ``stop``."""
        server = await asyncio.start_server(
            self._accept,
            sock=self._socket,
            ssl=self._context,
            ssl_handshake_timeout=EXCHANGE_SECONDS_MAX,
            ssl_shutdown_timeout=1.0,
            limit=READ_BYTES,
        )
        async with server:
            await stop.wait()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._connections.add(task)
        try:
            async with asyncio.timeout(EXCHANGE_SECONDS_MAX):
                await self._exchange(reader, writer)
        except (OSError, TimeoutError, ssl.SSLError):
            pass
        finally:
            self._connections.discard(task)
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self._greeting)
        await writer.drain()
        try:
            request = await self._read(reader)
        except BadMessage as bad:
            await _answer(writer, JoinAnswer(refusal=f"the request is damaged: {bad.reason}"))
            return
        answer = None if request is None else await self._decide(request)
        if answer is not None:
            await _answer(writer, answer)

    async def _read(self, reader: asyncio.StreamReader) -> JoinRequest | None:
        """The request; ``None`` where the edge went away, as it does after it has seen who we are."""
        framer = joining_framer()
        while (body := framer.next()) is None:
            data = await reader.read(READ_BYTES)
            if not data:
                return None
            framer.push(data)
        return decode_request(body)

    async def _decide(self, request: JoinRequest) -> JoinAnswer | None:
        """``None`` where another control plane leads: the edge asks the next one."""
        try:
            key = key_sha256(read_request(request.request))
        except BadRequest as error:
            return JoinAnswer(refusal=str(error))
        joining = Joining(request.token_id, request.secret, key, request.request, request.node_id)
        issued = self._admit(joining)
        if isinstance(issued, str):
            return JoinAnswer(refusal=as_text(issued))
        unshared = await self._settle()
        if unshared is not None:
            refusal = f"nobody but this control plane would know that the token is used: {unshared.reason}"
            return None if unshared.fenced else JoinAnswer(refusal=as_text(refusal))
        names = issued.certified
        return JoinAnswer(certificate=issued.der, region=names.region, node_id=names.node_id)


async def _answer(writer: asyncio.StreamWriter, answer: JoinAnswer) -> None:
    writer.write(encode_joining(answer))
    await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
        await writer.wait_closed()
