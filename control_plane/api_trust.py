"""HTTP API, the part about certificates: join tokens, revocations, leaving.

    GET  /trust         edges' certificates, join tokens (without secrets), what is revoked
    POST /join-tokens   {"region": …, "node_id": …, "valid_s": 3600, "control": ["HOST:PORT"]} -> {"token": …}
    POST /trust         {"revoke_node": NODE} or {"revoke_serial": HEX}
    POST /remove        {"node_id": NODE}

The answer to /join-tokens is the one place where the secret can ever be read.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from farcast.control_plane.invitations import Invitee
from farcast.control_plane.trust_book import VALID_SECONDS_MAX
from farcast.proto.control.ranges import is_node_id
from farcast.proto.joining.tokens import ADDRESSES_MAX, BadJoinToken, JoinToken
from farcast.proto.urls import split_host_port

if TYPE_CHECKING:
    from farcast.control_plane.controller import Controller

BODY_BYTES_MAX: Final = 65_536
VALID_SECONDS: Final = 3_600
"""Of a join token, unless said."""

JOIN_TOKEN_FORM: Final = (
    'body must be {"region": "sin", "node_id": "sin-1", "valid_s": 3600, "control": ["HOST:PORT"]}; '
    "all but the region may be left out"
)
TRUST_FORM: Final = 'body must be {"revoke_node": NODE} or {"revoke_serial": HEX}'

Guard = Callable[[Callable[[Request], Any]], Callable[[Request], Awaitable[Response]]]


class TrustService(Protocol):
    """What this part asks of the service."""

    @property
    def controller(self) -> Controller: ...
    def invite(self, wanted: Invitee) -> JoinToken | str: ...
    def revoke_node(self, node_id: str) -> str | None: ...
    def revoke_serial(self, serial: str) -> str | None: ...
    def remove(self, node_id: str) -> str | None: ...


def trust_routes(service: TrustService, guarded: Guard) -> list[Route]:
    """The routes, each behind the guard."""

    async def invite(request: Request) -> Response:
        invitee = _read_invitee(await _body(request))
        if isinstance(invitee, str):
            return _fault(400, invitee)
        made = service.invite(invitee)
        if isinstance(made, str):
            return _fault(409, made)
        try:
            return JSONResponse({"token": made.encode(), "token_id": made.token_id, **_about(made)})
        except BadJoinToken as error:
            return _fault(400, str(error))

    async def change(request: Request) -> Response:
        wanted = await _body(request)
        verbs = {"revoke_node": service.revoke_node, "revoke_serial": service.revoke_serial}
        if wanted is None or len(wanted) != 1:
            return _fault(400, TRUST_FORM)
        ((verb, about),) = wanted.items()
        if verb not in verbs or not isinstance(about, str):
            return _fault(400, TRUST_FORM)
        why_not = verbs[verb](about)
        return _fault(409, why_not) if why_not else JSONResponse(trust(service.controller))

    async def remove(request: Request) -> Response:
        node_id = (await _body(request) or {}).get("node_id")
        if not isinstance(node_id, str):
            return _fault(400, 'body must be {"node_id": "NODE"}')
        why_not = service.remove(node_id)
        return _fault(404, why_not) if why_not else JSONResponse({"node_id": node_id, "removed": True})

    return [
        Route("/trust", guarded(lambda _: trust(service.controller))),
        Route("/trust", guarded(change), methods=["POST"]),
        Route("/join-tokens", guarded(invite), methods=["POST"]),
        Route("/remove", guarded(remove), methods=["POST"]),
    ]


def trust(controller: Controller) -> dict[str, Any]:
    """For people: certificates and tokens, nothing secret."""
    book = controller.trust_book
    return {
        "certificates": [
            {"node_id": node_id, "region": i.region, "serial": i.serial, "expires_unix_us": i.expires_unix_us}
            for node_id, i in sorted(book.issued.items())
        ],
        "join_tokens": [
            {
                "token_id": i.token_id,
                "region": i.region,
                "node_id": i.node_id,
                "expires_unix_us": i.expires_unix_us,
                "joined": i.joined or None,
            }
            for i in book.invitations
        ],
        "revoked_nodes": [
            {"node_id": node.node_id, "until_unix_s": node.until_unix_s} for node in book.revocations().nodes
        ],
        "revoked_serials": list(book.revocations().serials),
    }


def _read_invitee(wanted: dict[str, Any] | None) -> Invitee | str:
    """Whom a body asks a token for, or what is wrong with it."""
    known = {"region", "node_id", "valid_s", "control"}
    if wanted is None or not wanted.keys() <= known or "region" not in wanted:
        return JOIN_TOKEN_FORM
    node_id, valid_s = wanted.get("node_id"), wanted.get("valid_s", VALID_SECONDS)
    addresses = wanted.get("control", [])
    for name, text in (("region", wanted["region"]), ("node_id", node_id)):
        if text is not None and not (isinstance(text, str) and is_node_id(text)):
            return (
                f"{name} {str(text)[:80]!r}: lower-case letters, digits and hyphens between them, 63 at most"
            )
    if wanted["region"] is None:
        return JOIN_TOKEN_FORM
    if type(valid_s) is not int or not 0 < valid_s <= VALID_SECONDS_MAX:
        return f"valid_s must be a whole number of seconds from 1 to {VALID_SECONDS_MAX}"
    if (
        not isinstance(addresses, list)
        or len(addresses) > ADDRESSES_MAX
        or not all(map(_is_endpoint, addresses))
    ):
        return f"control must be a list of at most {ADDRESSES_MAX} addresses HOST:PORT"
    return Invitee(wanted["region"], node_id, valid_s, tuple(addresses))


def _is_endpoint(text: object) -> bool:
    try:
        return isinstance(text, str) and split_host_port(text)[1] > 0
    except ValueError:
        return False


def _about(token: JoinToken) -> dict[str, Any]:
    return {
        "region": token.region,
        "node_id": token.node_id,
        "control": list(token.addresses),
        "authority_sha256": token.authority_sha256.hex(),
        "expires_unix_s": token.expires_unix_s,
    }


async def _body(request: Request) -> dict[str, Any] | None:
    """The JSON object in a request; ``None`` where it is none, or too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            return None
    try:
        wanted = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return wanted if isinstance(wanted, dict) else None


def _fault(code: int, text: str) -> Response:
    return JSONResponse({"error": text}, code)
