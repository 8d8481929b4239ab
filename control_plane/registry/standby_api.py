"""The HTTP API of a control plane that stands by: it lives, it is not ready, and it says who leads.

Nothing is redirected: Consul holds the leader's name, not where its API listens, and that is mostly loopback.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def standby_app(leader: Callable[[], str | None], token: str) -> Starlette:
    """``leader``: its name, as far as is known. Everything but ``/livez`` is 503."""

    def text() -> str:
        return f"this control plane stands by; the leader is {leader() or 'not known yet'}"

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("not ready: stands by\n", 503)

    async def anything(request: Request) -> Response:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), token.encode()):
            fault = "a bearer token is needed: that of api.token in the state directory"
            return JSONResponse({"error": fault}, 401)
        return JSONResponse({"error": text(), "leader": leader()}, 503)

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/{path:path}", anything, methods=METHODS),
        ]
    )
