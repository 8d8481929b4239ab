"""The HTTP API of a control plane that stands by: it lives, it is not ready, and it says who leads.

Tokens are those of this machine's state directory, as while it leads. Nothing is redirected: Consul holds the
leader's name, not where its API listens, and that is mostly loopback. ``/metrics`` says one thing, so that a
standby is no target that is down.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from farcast.control_plane.api_reading import METRICS_TYPE
from farcast.control_plane.api_table import ApiAccess, Endpoint, Refused, fault

METHODS: Final = ["GET", "POST", "PUT", "PATCH", "DELETE"]
METRICS: Final = """\
# HELP farcast_control_leading Whether this control plane leads, or is the only one.
# TYPE farcast_control_leading gauge
farcast_control_leading 0
"""
_ANYTHING: Final = Endpoint("GET", "/", "Anything that asks for a token.", lambda _: None, None)


def standby_text(leader: str | None) -> str:
    """What everybody hears who asks a standby; ``leader``: its name, as far as is known."""
    return f"this control plane stands by; the leader is {leader or 'not known yet'}"


def standby_app(leader: Callable[[], str | None], access: ApiAccess) -> Starlette:
    """Everything but ``/livez`` and ``/metrics`` is 503, and names the leader to who has a token."""

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        return PlainTextResponse("not ready: stands by\n", 503)

    async def metrics(request: Request) -> Response:
        return _known(request, lambda _: PlainTextResponse(METRICS, media_type=METRICS_TYPE))

    async def anything(request: Request) -> Response:
        return _known(request, refusal)

    def refusal(request_id: str) -> Response:
        told = {"error": standby_text(leader()), "request_id": request_id, "leader": leader()}
        return JSONResponse(told, 503, {"x-request-id": request_id})

    def _known(request: Request, answer: Callable[[str], Response]) -> Response:
        request_id = secrets.token_hex(8)
        try:
            access.identify(request, _ANYTHING)
        except Refused as refused:
            return fault(refused, request_id)
        return answer(request_id)

    return Starlette(
        routes=[
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/{path:path}", anything, methods=METHODS),
        ]
    )
