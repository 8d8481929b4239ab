"""HTTP API, the part about trust: join tokens, certificates, issuers' keys, tokens of the API itself.

The answers to ``POST /join-tokens`` and ``POST /api-tokens`` are the only places where those secrets can ever
be read; neither the state directory nor the audit log holds them.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET

from farcast.control_plane import api_requests as requests
from farcast.control_plane import api_trust_answers as trust_answers
from farcast.control_plane import reading
from farcast.control_plane.api_service import Service
from farcast.control_plane.api_table import ApiAccess, Call, Change, Changed, Endpoint, Refused
from farcast.control_plane.api_tokens import ApiToken, Scope
from farcast.control_plane.invitations import Invitee
from farcast.issuers import read_public_key
from farcast.proto.access.keys import BadKey
from farcast.proto.access.tokens import BadToken
from farcast.proto.joining.tokens import PREFIX, BadJoinToken, JoinToken
from farcast.proto.urls import split_host_port
from farcast.redaction import NOT_THE_TOKEN, looks_like_token

ACCESS_FORM: Final = (
    'body must be one of {"trust": JWK}, {"distrust": KEY_ID}, {"revoke_key": KEY_ID}, '
    '{"revoke_token": TOKEN_ID}'
)
TRUST_FORM: Final = (
    'body must be {"revoke_node": NODE}, {"revoke_serial": HEX} or {"revoke_join_token": TOKEN_ID}'
)


def trust_endpoints(service: Service, access: ApiAccess) -> list[Endpoint]:
    """All of them."""
    trust, tokens = _Trust(service), _Tokens(access)
    return [
        *(change.endpoint(trust, Scope.TRUST, (409,)) for change in _OF_TRUST),
        Endpoint(
            "GET",
            "/api-tokens",
            "Tokens of this API, without their text.",
            lambda _: tokens.told(),
            trust_answers.ApiTokensAnswer,
            scope=Scope.TRUST,
        ),
        *(change.endpoint(tokens, Scope.TRUST, (409,)) for change in _OF_TOKENS),
    ]


class _Trust:
    """Handlers about the cluster's trust."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def change_access(self, call: Call) -> Changed:
        order: requests.AccessOrder = call.body
        given = [name for name in order.__struct_fields__ if getattr(order, name) is not UNSET]
        if len(given) != 1:
            raise Refused(400, ACCESS_FORM, given[1] if given else "")
        if looks_like_token(str(order.revoke_token)):
            raise Refused(400, f"revoke_token: {NOT_THE_TOKEN}", "revoke_token")
        if order.trust is not UNSET:
            try:
                key = read_public_key(order.trust)
            except (BadKey, BadToken) as error:
                raise Refused(400, f"trust: {error}", "trust") from error
            why_not = self._service.trust(key)
        elif order.distrust is not UNSET:
            why_not = self._service.distrust(order.distrust)
        elif order.revoke_key is not UNSET:
            why_not = self._service.revoke_key(order.revoke_key)
        else:
            why_not = self._service.revoke_token(str(order.revoke_token))
        _check(why_not)
        return Changed(reading.access(self._service.controller), _about_access(order), after=given[0])

    def revoke(self, call: Call) -> Changed:
        order: requests.TrustOrder = call.body
        given = [name for name in order.__struct_fields__ if getattr(order, name) is not UNSET]
        if len(given) != 1:
            raise Refused(400, TRUST_FORM, given[1] if given else "")
        if order.revoke_node is not UNSET:
            about, why_not = order.revoke_node, self._service.revoke_node(order.revoke_node)
        elif order.revoke_join_token is not UNSET:
            about = order.revoke_join_token
            if about.startswith(PREFIX):
                raise Refused(400, f"revoke_join_token: {NOT_THE_TOKEN}", "revoke_join_token")
            why_not = self._service.revoke_join_token(about)
        else:
            about, why_not = str(order.revoke_serial), self._service.revoke_serial(str(order.revoke_serial))
        _check(why_not)
        return Changed(reading.trust(self._service.controller), about, after=given[0])

    def invite(self, call: Call) -> Changed:
        order: requests.JoinTokenOrder = call.body
        for at, address in enumerate(order.control):
            if not _is_endpoint(address):
                raise Refused(400, f"control[{at}]: {address[:80]!r} is not HOST:PORT", f"control[{at}]")
        made = self._service.invite(Invitee(order.region, order.node_id, order.valid_s, order.control))
        if isinstance(made, str):
            raise Refused(409, made)
        try:
            answer = {"token": made.encode(), "token_id": made.token_id, **_about(made)}
        except BadJoinToken as error:
            raise Refused(400, f"control: {error}", "control") from error
        return Changed(answer, made.token_id, after=_about(made))


class _Tokens:
    """Handlers about the API's own tokens."""

    def __init__(self, access: ApiAccess) -> None:
        self._access = access

    def told(self) -> dict[str, Any]:
        """All of them."""
        return {"tokens": [_row(token) for token in self._access.tokens.issued]}

    def issue(self, call: Call) -> Changed:
        order: requests.ApiTokenOrder = call.body
        tokens = self._access.tokens
        _check(tokens.why_not_issue(order.name, order.scopes, call.now_unix_s))
        expires_s = None if order.valid_s is None else call.now_unix_s + order.valid_s
        try:
            text = tokens.issue(order.name, order.scopes, expires_s, call.now_unix_s)
        except OSError as error:
            raise Refused(503, f"the token cannot be written down: {error.strerror}") from error
        row = _row(ApiToken(order.name, frozenset(order.scopes), call.now_unix_s, expires_s))
        return Changed({"token": text, **row}, order.name, after=row)

    def revoke(self, call: Call) -> Changed:
        name = call.path["name"]
        before = next((_row(token) for token in self._access.tokens.issued if token.name == name), None)
        try:
            if not self._access.tokens.revoke(name):
                known = ", ".join(token.name for token in self._access.tokens.issued) or "none"
                raise Refused(404, f"no token {name[:80]!r}; issued are {known}")
        except OSError as error:
            raise Refused(503, f"the token's end cannot be written down: {error.strerror}") from error
        return Changed({"name": name, "revoked": True}, name, before)


def _check(why_not: str | None) -> None:
    if why_not is not None:
        raise Refused(409, why_not)


def _row(token: ApiToken) -> dict[str, Any]:
    return {
        "name": token.name,
        "scopes": [scope.value for scope in Scope if scope in token.scopes],
        "created_unix_s": token.created_unix_s,
        "expires_unix_s": token.expires_unix_s,
    }


def _about_access(order: requests.AccessOrder) -> str:
    """The key or token that an order is about; never the key itself."""
    if order.trust is not UNSET:
        return str(order.trust.get("kid", ""))
    return str(next((each for each in (order.distrust, order.revoke_key, order.revoke_token) if each), ""))


def _about_trust(order: requests.TrustOrder) -> str:
    """What an order is about; never a join token itself."""
    named = order.revoke_node or order.revoke_serial or order.revoke_join_token or ""
    return "" if str(named).startswith(PREFIX) else str(named)


def _is_endpoint(text: str) -> bool:
    try:
        return split_host_port(text)[1] > 0
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


_OF_TRUST: Final = (
    Change(
        "POST",
        "/access",
        "Trust an issuer's key, or end keys and tokens.",
        "access",
        _Trust.change_access,
        trust_answers.Access,
        body=requests.AccessOrder,
        about=lambda call: _about_access(call.body),
    ),
    Change(
        "POST",
        "/trust",
        "End certificates, or a join token that nobody has used.",
        "revoke_certificate",
        _Trust.revoke,
        trust_answers.Trust,
        body=requests.TrustOrder,
        about=lambda call: _about_trust(call.body),
    ),
    Change(
        "POST",
        "/join-tokens",
        "A token by which one edge joins.",
        "join_token",
        _Trust.invite,
        trust_answers.JoinTokenAnswer,
        body=requests.JoinTokenOrder,
        about=lambda call: call.body.region,
    ),
)
_OF_TOKENS: Final = (
    Change(
        "POST",
        "/api-tokens",
        "A new token of this API.",
        "api_token",
        _Tokens.issue,
        trust_answers.ApiTokenMade,
        refusals=(409, 503),
        body=requests.ApiTokenOrder,
        about=lambda call: call.body.name,
    ),
    Change(
        "DELETE",
        "/api-tokens/{name}",
        "End a token of this API.",
        "revoke_api_token",
        _Tokens.revoke,
        trust_answers.ApiTokenRevoked,
        refusals=(404, 503),
    ),
)
