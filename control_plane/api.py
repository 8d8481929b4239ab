"""HTTP API for operators: what the control plane knows, why, and drains; on loopback, behind a token.

``/livez`` and ``/readyz`` are open, everything else wants ``Authorization: Bearer TOKEN``. The token is made
at the first start and lies in the state directory (``api.token``, 0600); ``api.json`` beside it says where
the API listens, so that commands on this machine need nothing but the directory. Errors are
``{"error": "one sentence"}``.
"""

from __future__ import annotations

import asyncio
import errno
import hmac
import json
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from farcast.control_plane import reading
from farcast.control_plane.api_trust import TrustService, trust_routes
from farcast.control_plane.config import Address
from farcast.control_plane.reading import NotKnown
from farcast.errors import UserError
from farcast.issuers import read_public_key
from farcast.proto.access.keys import BadKey, TrustedKey
from farcast.proto.access.tokens import BadToken

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

    from farcast.control_plane.controller import Controller

TOKEN_FILE: Final = "api.token"
ADDRESS_FILE: Final = "api.json"
TOKEN_BYTES: Final = 32
BODY_BYTES_MAX: Final = 65_536
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Handler = Callable[[Request], Awaitable[Response]]


class Service(TrustService, Protocol):
    """What the API asks of the service."""

    @property
    def controller(self) -> Controller: ...
    @property
    def ready(self) -> bool: ...
    def now_us(self) -> int: ...
    def metrics(self) -> bytes: ...
    def drain(self, node_id: str, drain_ms: int | None) -> str | None: ...
    def undrain(self, node_id: str) -> str | None: ...
    def trust(self, key: TrustedKey) -> str | None: ...
    def distrust(self, key_id: str) -> str | None: ...
    def revoke_key(self, key_id: str) -> str | None: ...
    def revoke_token(self, token_id: str) -> str | None: ...


def load_token(directory: Path) -> str:
    """The token of the state directory, made if there is none. `UserError` if that cannot be done."""
    file = directory / TOKEN_FILE
    try:
        if file.exists() and (token := file.read_text().strip()):
            return token
        token = secrets.token_urlsafe(TOKEN_BYTES)
        write_private(file, f"{token}\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read or made: {error}") from error
    return token


def write_private(file: Path, text: str) -> None:
    """Replace a file whole; only its owner can read it. Raises `OSError`."""
    scratch = file.with_name(f".{file.name}.new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    scratch.replace(file)


def bind_api(host: str, port: int) -> socket.socket:
    """Take the API's address; as `bind_tcp`."""
    return bind_tcp(Address(host, port), "--api")


def bind_tcp(address: Address, option: str) -> socket.socket:
    """Take an address, or say in one line (`UserError`) why it is not to be had."""
    host, port = address.host, address.port
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        why = "it is in use" if error.errno == errno.EADDRINUSE else error.strerror
        raise UserError(f"cannot listen on TCP {host}:{port}: {why}; choose another with {option}") from error
    return listener


async def serve_api(app: Starlette, listener: socket.socket, stop: asyncio.Event) -> None:
    """Serve until ``stop``."""
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.errorlog = None
    config.graceful_timeout = 1.0
    await serve(cast("ASGIFramework", app), config, shutdown_trigger=stop.wait)


def api_app(service: Service, token: str) -> Starlette:
    """The application."""

    def guarded(handler: Callable[[Request], Any]) -> Handler:
        async def guard(request: Request) -> Response:
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            if not hmac.compare_digest(given.encode(), token.encode()):
                return _fault(401, f"a bearer token is needed: that of {TOKEN_FILE} in the state directory")
            try:
                answer = handler(request)
                return await answer if asyncio.iscoroutine(answer) else _json(answer)
            except NotKnown as error:
                return _fault(404, str(error))

        return guard

    def controller() -> Controller:
        return service.controller

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("ready\n") if service.ready else PlainTextResponse("not ready\n", 503)

    async def metrics(_: Request) -> Response:
        return Response(service.metrics(), media_type=METRICS_TYPE)

    def why(request: Request) -> Any:
        query = request.query_params
        if "src" not in query or "dst" not in query:
            raise NotKnown("say from where to where: /why?src=NODE&dst=NODE")
        return reading.why(controller(), query["src"], query["dst"])

    async def drain(request: Request) -> Response:
        return await _drain(service, request)

    async def change_access(request: Request) -> Response:
        return await _change_access(service, request)

    readings: dict[str, Callable[[Request], Any]] = {
        "/status": lambda _: reading.status(controller(), service.now_us()),
        "/nodes": lambda _: {"nodes": reading.nodes(controller(), service.now_us())},
        "/links": lambda _: {"links": reading.links(controller(), service.now_us())},
        "/routes": lambda r: {"routes": reading.routes(controller(), r.query_params.get("origin"))},
        "/plan": lambda _: reading.plan(controller()),
        "/why": why,
        "/access": lambda _: reading.access(controller()),
    }
    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            *(Route(path, guarded(handler)) for path, handler in readings.items()),
            Route("/metrics", guarded(metrics)),
            Route("/drain", guarded(drain), methods=["POST"]),
            Route("/access", guarded(change_access), methods=["POST"]),
            *trust_routes(service, guarded),
        ]
    )


async def _drain(service: Service, request: Request) -> Response:
    """``{"node_id": …, "drain_ms": …}``, or ``{"node_id": …, "undo": true}``."""
    wanted = await _body(request)
    if isinstance(wanted, Response):
        return wanted
    node_id = wanted.get("node_id")
    if not isinstance(node_id, str):
        return _fault(400, 'body must be {"node_id": "NODE", "drain_ms": 30000} or {..., "undo": true}')
    drain_ms, undo = wanted.get("drain_ms"), wanted.get("undo", False)
    if drain_ms is not None and type(drain_ms) is not int:
        return _fault(400, "drain_ms must be a whole number of milliseconds")
    why_not = service.undrain(node_id) if undo is True else service.drain(node_id, drain_ms)
    if why_not is not None:
        return _fault(404, why_not)
    return _json({"node_id": node_id, "draining": undo is not True})


ACCESS_FORM: Final = (
    'body must be one of {"trust": JWK}, {"distrust": KEY_ID}, {"revoke_key": KEY_ID}, '
    '{"revoke_token": TOKEN_ID}'
)


async def _change_access(service: Service, request: Request) -> Response:
    """See `ACCESS_FORM`; a JWK may have ``issuer`` and ``scope`` (`farcast.issuers.read_public_key`)."""
    wanted = await _body(request)
    if isinstance(wanted, Response):
        return wanted
    if len(wanted) != 1:
        return _fault(400, ACCESS_FORM)
    ((verb, about),) = wanted.items()
    commands = {
        "distrust": service.distrust,
        "revoke_key": service.revoke_key,
        "revoke_token": service.revoke_token,
    }
    if verb == "trust":
        try:
            key = read_public_key(about)
        except (BadKey, BadToken) as error:
            return _fault(400, str(error))
        why_not = service.trust(key)
    elif verb in commands and isinstance(about, str):
        why_not = commands[verb](about)
    else:
        return _fault(400, ACCESS_FORM)
    return _fault(409, why_not) if why_not is not None else _json(reading.access(service.controller))


async def _body(request: Request) -> dict[str, Any] | Response:
    """The JSON object in a request, or the answer to one that has none."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return _fault(413, f"body is longer than {BODY_BYTES_MAX} bytes")
    try:
        wanted = json.loads(body)
    except (ValueError, RecursionError):
        return _fault(400, "body is no JSON")
    return wanted if isinstance(wanted, dict) else _fault(400, "body is no JSON object")


def _json(content: Any) -> Response:
    return JSONResponse(content)


def _fault(code: int, text: str) -> Response:
    return JSONResponse({"error": text}, code)
