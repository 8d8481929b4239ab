"""HTTP for operators: ``/livez /readyz /metrics /status.json``, ``POST /drain``, on an address of its own.

Also the one page that browsers need in development: ``/certificate.sha256`` over plain HTTP on the TCP
port of the same number as the public UDP port, where ``@moq/watch`` looks for it.

Sockets are bound before anything is served, so that a busy port is one line and no half-started edge.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

import trio
from hypercorn.config import Config
from hypercorn.trio import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from farcast.edge.driver import DriverClosed
from farcast.edge.settings import Address
from farcast.errors import UserError
from farcast.proto.control.ranges import DRAIN_MS_MAX

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

ANSWER_SECONDS_MAX = 5.0
"""A datapath that has not given its counters by then is reported as stuck."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Reporter(Protocol):
    """What the ops listener asks of the edge."""

    @property
    def ready(self) -> bool: ...
    async def metrics(self) -> bytes: ...
    async def status(self) -> dict[str, Any]: ...
    def order_drain(self, drain_ms: int | None) -> bool: ...
    def block(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class HttpListener:
    """A bound TCP socket on which an application will be served."""

    socket: socket.socket

    @property
    def address(self) -> Address:
        """The address as bound, its port no longer 0."""
        host, port = self.socket.getsockname()[:2]
        return Address(host, port)

    async def serve(self, app: Starlette) -> None:
        """Serve until cancelled."""
        config = Config()
        config.bind = [f"fd://{self.socket.detach()}"]
        config.errorlog = None
        config.graceful_timeout = 1.0
        await serve(cast("ASGIFramework", app), config, shutdown_trigger=trio.sleep_forever)


def bind_http(address: Address, flag: str) -> HttpListener:
    """Take the address, or say in one line (`UserError`) why it is not to be had; ``flag`` set it."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise UserError(cannot_listen(f"TCP {address}", flag, error)) from error
    return HttpListener(listener)


def cannot_listen(what: str, flag: str, error: OSError) -> str:
    """The sentence for an address that cannot be bound."""
    advice = {
        errno.EADDRINUSE: f"it is in use, perhaps by another edge; choose another with {flag}",
        errno.EACCES: f"ports below 1024 need a privilege; choose another with {flag}",
        errno.EADDRNOTAVAIL: f"this machine has no such address; choose another with {flag}",
    }
    return f"cannot listen on {what}: {advice.get(error.errno or 0, error.strerror)}"


def ops_app(reporter: Reporter, *, test_hooks: bool = False) -> Starlette:
    """The application of the ops listener."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("ready\n") if reporter.ready else PlainTextResponse("not ready\n", 503)

    async def metrics(_: Request) -> Response:
        return await _within_bound(reporter.metrics, lambda body: Response(body, media_type=METRICS_TYPE))

    async def status(_: Request) -> Response:
        return await _within_bound(reporter.status, JSONResponse)

    async def drain(request: Request) -> Response:
        if "origin" in request.headers:  # A page in somebody's browser is no operator.
            return PlainTextResponse("not for browsers\n", 403)
        text = request.query_params.get("ms")
        if text is not None and not (text.isascii() and text.isdigit() and int(text) <= DRAIN_MS_MAX):
            return PlainTextResponse(f"ms: must be a number from 0 to {DRAIN_MS_MAX}, not {text!r}\n", 400)
        begun = reporter.order_drain(None if text is None else int(text))
        return PlainTextResponse("draining\n" if begun else "draining already\n", 202)

    async def block(request: Request) -> Response:
        reporter.block(float(request.query_params["seconds"]))
        return PlainTextResponse("blocked\n")

    routes = [Route("/livez", livez), Route("/readyz", readyz), Route("/metrics", metrics)]
    routes += [Route("/status.json", status), Route("/drain", drain, methods=["POST"])]
    if test_hooks:
        routes.append(Route("/test/block", block, methods=["POST"]))
    return Starlette(routes=routes)


async def _within_bound(ask: Callable[[], Awaitable[Any]], answer: Callable[[Any], Response]) -> Response:
    try:
        with trio.move_on_after(ANSWER_SECONDS_MAX):
            return answer(await ask())
    except DriverClosed:
        return PlainTextResponse("the edge is ending\n", 503)
    return PlainTextResponse("the datapath does not answer\n", 503)


def certificate_app(sha256: bytes) -> Starlette:
    """The application that tells browsers the hash of a development certificate, in hex."""

    async def certificate(_: Request) -> Response:
        return PlainTextResponse(sha256.hex(), headers={"Access-Control-Allow-Origin": "*"})

    return Starlette(routes=[Route("/certificate.sha256", certificate)])
