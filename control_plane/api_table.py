"""The HTTP API as one table: what stands in an `Endpoint` is what is served, checked and described.

`routes` makes Starlette's routes of the table, `openapi` the OpenAPI 3.1 document, so the two cannot differ.
Of every request, in this order: who asks (401), how often (429, with ``Retry-After``), whether they may
(403), whether the query and the body are what the endpoint takes (400, naming the field; 413), and only then
the handler.

Bodies and queries are msgspec structs that know no other fields than theirs. Answers are JSON; a fault is
``{"error": "one sentence", "request_id": …}``, with ``field`` where one field is wrong. Handlers are plain
functions that return an answer or raise `Refused`; one that changes something returns `Changed`, which goes
into the audit log before the answer goes out. Where several control planes share a store, the answer also
waits for that: 503 where another one leads by now, a remark (`WARNING_HEADER`) where the store is away.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from farcast import __version__
from farcast.control_plane.api_limits import Buckets, LimitsConfig
from farcast.control_plane.api_tokens import TOKEN_FILE, ApiToken, ApiTokens, Scope
from farcast.control_plane.audit import AuditLog
from farcast.control_plane.sharing import Unshared, shared_by_nobody
from farcast.redaction import redact

BODY_BYTES_MAX: Final = 65_536
TEXT_CHARACTERS_MAX: Final = 512
"""Of what an entry of the audit log is about, and of a reason in it."""
JSON: Final = "application/json"
WARNING_HEADER: Final = "x-farcast-warning"
"""What is wrong with a change that is in force all the same."""
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_PLACE: Final = re.compile(r" - at `\$\.?([^`]*)`$")
_NAMED: Final = re.compile(r"(?:required|unknown) field `([^`]+)`")
_NOTED: Final = (403, 404, 409)
"""Refusals of changes that the audit log has: an attempt that made sense by itself."""
_PARAMETER: Final = re.compile(r"{(\w+)}")


class Refused(Exception):
    """An answer that is none: the status, one sentence, and the field that is wrong, if one is."""

    def __init__(self, status: int, reason: str, field: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.field, self.retry_after_s = status, reason, field, retry_after_s


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change answers, and what the audit log says of it. ``about``: what was changed."""

    answer: Any
    about: str
    before: Any = None
    after: Any = None


@dataclass(frozen=True, slots=True)
class Call:
    """One request that is right so far. ``path``: parameters out of the path; ``query`` and ``body`` as the
    endpoint declares them."""

    path: Mapping[str, str]
    query: Any
    body: Any
    token: ApiToken | None
    now_unix_s: int


def about_path(call: Call) -> str:
    """What stands in the path."""
    return "/".join(call.path.values())


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row. ``scope``: ``None`` is open to anybody. ``answer``: a type that msgspec can describe, or a
    media type. ``refusals``: statuses beside those that every request can get. ``action``: name of the change
    in the audit log; without one nothing is changed. ``about``: what a refused change was about, as far as
    known."""

    method: str
    path: str
    summary: str
    handle: Callable[[Call], Any]
    answer: Any
    scope: Scope | None = Scope.READ
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    refusals: tuple[int, ...] = ()
    action: str = ""
    about: Callable[[Call], str] = about_path

    @property
    def parameters(self) -> tuple[str, ...]:
        """In the path."""
        return tuple(_PARAMETER.findall(self.path))

    @property
    def statuses(self) -> tuple[int, ...]:
        """Those of faults."""
        common = () if self.scope is None else (401, 403, 429)
        own = (400,) if self.query is not None or self.body is not None else ()
        large = (413,) if self.body is not None else ()
        fenced = (503,) if self.action else ()
        return tuple(sorted({*common, *own, *large, *fenced, *self.refusals}))


@dataclass(frozen=True, slots=True)
class Change:
    """One row of what changes something, before it is known whose handlers are asked: ``handle`` is a method
    of those; the rest as in `Endpoint`, and what is ``None`` as `endpoint` says."""

    method: str
    path: str
    summary: str
    action: str
    handle: Callable[[Any, Call], Changed]
    answer: Any
    body: type[msgspec.Struct] | None = None
    query: type[msgspec.Struct] | None = None
    about: Callable[[Call], str] = about_path
    refusals: tuple[int, ...] | None = None

    def endpoint(self, handlers: object, scope: Scope, refusals: tuple[int, ...]) -> Endpoint:
        """The row, of these handlers."""
        return Endpoint(
            self.method,
            self.path,
            self.summary,
            partial(self.handle, handlers),
            self.answer,
            scope,
            self.query,
            self.body,
            refusals if self.refusals is None else self.refusals,
            self.action,
            self.about,
        )


@dataclass
class ApiAccess:
    """Who may ask what, how often, and who has changed what. ``clock``: seconds, any origin."""

    tokens: ApiTokens
    audit: AuditLog
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    clock: Callable[[], float] = time.monotonic
    unix_us: Callable[[], int] = lambda: time.time_ns() // 1_000
    settle: Callable[[], Awaitable[Unshared | None]] = shared_by_nobody
    """Waits until a change is where another control plane would find it."""

    def __post_init__(self) -> None:
        self._reads, self._changes = Buckets(self.limits.reads), Buckets(self.limits.changes)
        self._failures = Buckets(self.limits.failures)

    def identify(self, request: Request, endpoint: Endpoint) -> ApiToken | None:
        """Who asks, and not too often; raises `Refused`."""
        if endpoint.scope is None:
            return None
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        token = self.tokens.find(given, self.unix_us() // 1_000_000) if given else None
        if token is None:
            _check_rate(self._failures, address_of(request), self.clock())
            raise Refused(
                401,
                f"a bearer token is needed: that of {TOKEN_FILE} in the state directory, or an issued one",
            )
        _check_rate(self._changes if endpoint.action else self._reads, token.name, self.clock())
        return token


def routes(table: Sequence[Endpoint], access: ApiAccess) -> list[Route]:
    """The table as Starlette's routes."""
    return [Route(each.path, _served(each, access), methods=[each.method]) for each in table]


def _served(endpoint: Endpoint, access: ApiAccess) -> Callable[[Request], Any]:
    async def serve(request: Request) -> Response:
        given = request.headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        token: ApiToken | None = None
        about = ""
        try:
            token = access.identify(request, endpoint)
            about = "/".join(str(value) for value in request.path_params.values())
            _check_scope(token, endpoint)
            query, body = _query(request, endpoint), await _body(request, endpoint)
            call = Call(request.path_params, query, body, token, access.unix_us() // 1_000_000)
            about = endpoint.about(call) if endpoint.action else ""
            answer = endpoint.handle(call)
        except Refused as refusal:
            if endpoint.action and token is not None and refusal.status in _NOTED:
                _note(access, endpoint, token, request, request_id, Changed(None, about), refusal.reason)
            return _ending(fault(refusal, request_id), request)
        unshared = None
        if isinstance(answer, Changed):
            _note(access, endpoint, token, request, request_id, answer)
            answer, unshared = answer.answer, await access.settle()
        if unshared is not None and unshared.fenced:
            return _ending(fault(Refused(503, unshared.reason), request_id), request)
        response = answer if isinstance(answer, Response) else JSONResponse(answer)
        response.headers["x-request-id"] = request_id
        if unshared is not None:
            response.headers[WARNING_HEADER] = f"in force here, but no standby knows of it: {unshared.reason}"
        return _ending(response, request)

    return serve


def _ending(response: Response, request: Request) -> Response:
    """Say that the connection ends where a body was not read to its end: the server closes it then, and a
    client that sends its next request into that would get no answer."""
    has_body = request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers
    if has_body and not getattr(request.state, "read", False) and request.scope["http_version"] != "2":
        response.headers["connection"] = "close"
    return response


def fault(refusal: Refused, request_id: str) -> Response:
    """The answer that says what is wrong."""
    told: dict[str, Any] = {"error": redact(refusal.reason), "request_id": request_id}
    if refusal.field:
        told["field"] = redact(refusal.field)
    headers = {"x-request-id": request_id}
    if refusal.retry_after_s is not None:
        headers["retry-after"] = str(max(int(refusal.retry_after_s + 0.999), 1))
    return JSONResponse(told, refusal.status, headers)


def address_of(request: Request) -> str:
    """Where a request comes from, without its port."""
    return request.client.host if request.client else ""


def _note(
    access: ApiAccess,
    endpoint: Endpoint,
    token: ApiToken | None,
    request: Request,
    request_id: str,
    changed: Changed,
    refusal: str = "",
) -> None:
    """Write a change, or the attempt, into the audit log."""
    access.audit.append(
        access.unix_us(),
        who=token.name if token else "",
        action=endpoint.action,
        about=redact(changed.about)[:TEXT_CHARACTERS_MAX],
        request_id=request_id,
        outcome="refused" if refusal else "done",
        before=changed.before,
        after=changed.after,
        reason=redact(refusal)[:TEXT_CHARACTERS_MAX],
        address=address_of(request),
    )


def _check_scope(token: ApiToken | None, endpoint: Endpoint) -> None:
    if endpoint.scope is None or (token is not None and token.allows(endpoint.scope)):
        return
    may = f"token {token.name!r} may {', '.join(sorted(token.scopes))}" if token else "nobody may"
    raise Refused(403, f"{may}; this takes the scope {endpoint.scope}")


def _check_rate(buckets: Buckets, asker: str, now_s: float) -> None:
    wait_s = buckets.take(asker, now_s)
    if wait_s is not None:
        rate = buckets.rate
        raise Refused(
            429, f"too many requests; {rate.per_second:g} a second are allowed", retry_after_s=wait_s
        )


def _query(request: Request, endpoint: Endpoint) -> Any:
    if endpoint.query is None:
        return None
    return _converted(dict(request.query_params), endpoint.query, strict=False)


async def _body(request: Request, endpoint: Endpoint) -> Any:
    """The body, as the endpoint wants it."""
    if endpoint.body is None:
        return None
    data = b""
    async for chunk in request.stream():
        data += chunk
        if len(data) > BODY_BYTES_MAX:
            raise Refused(413, f"body is longer than {BODY_BYTES_MAX} bytes")
    request.state.read = True
    try:
        wanted = json.loads(data)
    except (ValueError, RecursionError):
        raise Refused(400, "body is no JSON") from None
    if not isinstance(wanted, dict):
        raise Refused(400, "body is no JSON object")
    return _converted(wanted, endpoint.body, strict=True)


def _converted(value: dict[str, Any], into: type[msgspec.Struct], *, strict: bool) -> Any:
    """``value`` as a struct; `Refused` names the field that is wrong."""
    try:
        return msgspec.convert(value, into, strict=strict)
    except (msgspec.ValidationError, RecursionError) as error:
        text = str(error)
        place = _PLACE.search(text)
        named = _NAMED.search(text)
        at = place[1] if place else ""
        if named is not None:
            at = f"{at}.{named[1]}" if at else named[1]
        reason = _PLACE.sub("", text).replace("Object", "body" if strict else "query", 1)
        raise Refused(400, f"{at}: {reason}" if at else reason, at) from None


# ---- OpenAPI --------------------------------------------------------------------------------------


class Fault(msgspec.Struct):
    """What every fault answers."""

    error: str
    request_id: str
    field: str | msgspec.UnsetType = msgspec.UNSET


_FAULTS: Final = {
    400: "A field of the query or the body is wrong; `field` names it.",
    401: "No token, one that nobody knows, or one that has ended.",
    403: "The token lacks the scope.",
    404: "There is no such thing; the sentence says what there is.",
    409: "It is refused as things stand.",
    413: "The body is too long.",
    429: "Too many requests; `Retry-After` says when again.",
    503: "Not now.",
}


def openapi(table: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of the table."""
    types = [
        each
        for row in table
        for each in (row.answer, row.body, row.query)
        if not isinstance(each, str | None)
    ]
    unique = list({id(each): each for each in [*types, Fault]}.values())
    schemas, components = msgspec.json.schema_components(unique, ref_template="#/components/schemas/{name}")
    schema_of = {id(each): schema for each, schema in zip(unique, schemas, strict=True)}
    paths: dict[str, Any] = {}
    for row in table:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, schema_of, components)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Farcast control plane",
            "version": __version__,
            "summary": "What the control plane knows, why, and what operators want.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }
    plain: dict[str, Any] = _tidied(json.loads(msgspec.json.encode(document)))
    return plain


def _tidied(part: Any) -> Any:
    """Docstrings as one line, and patterns as JSON Schema has them (ECMA-262 knows no ``\\Z``)."""
    if isinstance(part, list):
        return [_tidied(each) for each in part]
    if not isinstance(part, dict):
        return part
    tidied = {name: _tidied(each) for name, each in part.items()}
    if isinstance(text := tidied.get("description"), str):
        tidied["description"] = " ".join(text.replace("``", "`").split())
    if isinstance(pattern := tidied.get("pattern"), str):
        tidied["pattern"] = pattern.replace("\\Z", "$")
    return tidied


def _operation(row: Endpoint, schema_of: Mapping[int, Any], components: Mapping[str, Any]) -> dict[str, Any]:
    media = row.answer if isinstance(row.answer, str) else JSON
    content = {} if isinstance(row.answer, str) else {"schema": schema_of[id(row.answer)]}
    named = re.sub(r"\W+", "_", row.path).strip("_")
    operation: dict[str, Any] = {
        "operationId": f"{row.method.lower()}_{named}",
        "summary": row.summary,
        "responses": {
            "200": {"description": "Done.", "content": {media: content}},
            **{
                str(status): {
                    "description": _FAULTS[status],
                    "content": {JSON: {"schema": schema_of[id(Fault)]}},
                }
                for status in row.statuses
            },
        },
        "security": [] if row.scope is None else [{"bearer": [str(row.scope)]}],
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in row.parameters
    ]
    if row.query is not None:
        schema = components[row.query.__name__]
        parameters += [
            {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": each}
            for name, each in schema["properties"].items()
        ]
    if parameters:
        operation["parameters"] = parameters
    if row.body is not None:
        operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema_of[id(row.body)]}}}
    return operation
