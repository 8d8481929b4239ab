"""HTTP API for operators and their tools; behind a token, on loopback unless told otherwise.

`api_table` says how requests are checked, `api_reading`, `api_operate` and `api_trust` what there is,
`api_requests`, `api_answers` and `api_trust_answers` of what form it is; ``/openapi.json`` describes it all.
``/livez``, ``/readyz`` and ``/openapi.json`` are open, everything else wants ``Authorization: Bearer TOKEN``
(`farcast.control_plane.api_tokens`). ``api.json`` in the state directory says where the API listens, so that
commands on this machine need nothing but the directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from hypercorn.asyncio import serve
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from farcast.control_plane.api_operate import operate_endpoints
from farcast.control_plane.api_reading import reading_endpoints
from farcast.control_plane.api_service import Service
from farcast.control_plane.api_table import ApiAccess, Endpoint, Refused, fault, openapi, routes
from farcast.control_plane.api_tokens import ApiTokens, write_private
from farcast.control_plane.api_trust import trust_endpoints
from farcast.control_plane.audit import AuditLog
from farcast.control_plane.config import Address
from farcast.errors import UserError

if TYPE_CHECKING:
    from hypercorn.typing import ASGIFramework

log: structlog.stdlib.BoundLogger = structlog.get_logger()

ADDRESS_FILE: Final = "api.json"


def open_access(directory: Path, **more: Any) -> ApiAccess:
    """Tokens and audit log of a state directory; ``more`` as for `ApiAccess`. Raises `UserError`."""
    return ApiAccess(ApiTokens(directory), AuditLog(directory), **more)


def write_address(directory: Path, api: Address) -> None:
    """Say to commands on this machine where the API listens; a disk that does not take it is a log line."""
    file = directory / ADDRESS_FILE
    try:
        write_private(file, json.dumps({"api": f"http://{api}"}) + "\n")
    except OSError as error:
        log.error("the API's address is not written; commands need --api", reason=f"{file}: {error}")


def forget_address(directory: Path) -> None:
    """The API does not listen any more."""
    with contextlib.suppress(OSError):
        (directory / ADDRESS_FILE).unlink(missing_ok=True)


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


def api_table(service: Service, access: ApiAccess) -> list[Endpoint]:
    """Everything that there is."""
    table = [
        *reading_endpoints(service, access),
        *operate_endpoints(service),
        *trust_endpoints(service, access),
    ]
    document: dict[str, Any] = {}
    describes = Endpoint(
        "GET", "/openapi.json", "This document.", lambda _: document, dict[str, Any], scope=None
    )
    table.append(describes)
    document.update(openapi(table))
    return table


def api_app(service: Service, access: ApiAccess) -> Starlette:
    """The application."""

    def nothing_there(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        reason = {
            404: f"there is no {request.url.path[:200]}; /openapi.json says what there is",
            405: f"{request.url.path[:200]} takes no {request.method}; /openapi.json says what it takes",
        }.get(status, "a defect of the control plane; its log has more")
        return fault(Refused(status, reason), secrets.token_hex(8))

    return Starlette(
        routes=list(routes(api_table(service, access), access)),
        exception_handlers={404: nothing_there, 405: nothing_there, 500: nothing_there},
    )
