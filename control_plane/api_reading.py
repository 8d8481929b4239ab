"""HTTP API, the part that only looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec
from starlette.responses import PlainTextResponse, Response

from farcast.control_plane import api_answers as answers
from farcast.control_plane import api_requests as requests
from farcast.control_plane import api_trust_answers as trust_answers
from farcast.control_plane import reading, reading_orders, reading_quotas, reading_usage
from farcast.control_plane.api_service import Service
from farcast.control_plane.api_table import ApiAccess, Call, Endpoint, Refused
from farcast.control_plane.audit import read_entries
from farcast.control_plane.controller import Controller
from farcast.control_plane.reading import NotKnown, NotYet

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
TEXT_TYPE: Final = "text/plain; charset=utf-8"


def reading_endpoints(service: Service, access: ApiAccess) -> list[Endpoint]:
    """All of them."""
    return [
        *_open_endpoints(service),
        *(_endpoint(service, look) for look in _LOOKS),
        Endpoint(
            "GET",
            "/audit",
            "Who changed what, the newest first.",
            lambda call: _audit(access, call),
            answers.Audit,
            query=requests.AuditQuery,
        ),
        Endpoint("GET", "/metrics", "For Prometheus.", lambda _: _metrics(service), METRICS_TYPE),
    ]


class _Look(NamedTuple):
    """One row: ``tell`` makes the answer of the controller, the time and the query."""

    path: str
    summary: str
    answer: Any
    tell: Callable[[Controller, int, Any], Any]
    query: type[msgspec.Struct] | None = None
    refusals: tuple[int, ...] = ()


def _endpoint(service: Service, look: _Look) -> Endpoint:
    def handle(call: Call) -> Any:
        try:
            return look.tell(service.controller, service.now_us(), call.query)
        except NotKnown as error:
            raise Refused(404, str(error)) from error
        except NotYet as error:
            raise Refused(409, str(error)) from error

    path, summary, answer, _, query, refusals = look
    return Endpoint("GET", path, summary, handle, answer, query=query, refusals=refusals)


def _open_endpoints(service: Service) -> list[Endpoint]:
    def readyz(_: Call) -> Response:
        ready = service.ready
        return PlainTextResponse("ready\n" if ready else "not ready\n", 200 if ready else 503)

    return [
        Endpoint(
            "GET",
            "/livez",
            "The process answers.",
            lambda _: PlainTextResponse("ok\n"),
            TEXT_TYPE,
            scope=None,
        ),
        Endpoint("GET", "/readyz", "Edges can join.", readyz, TEXT_TYPE, scope=None, refusals=(503,)),
    ]


def _history(controller: Controller, query: requests.HistoryQuery) -> Any:
    found = reading_orders.history(controller, query.src, query.dst)
    if found is None:
        most = reading_orders.HISTORY_LINKS_MAX
        raise Refused(400, f"src: there are more than {most} links; name src or dst", "src")
    return found


def _audit(access: ApiAccess, call: Call) -> Any:
    entries: list[dict[str, Any]] = []
    for entry in read_entries(access.audit.file.parent, call.query.before):
        if len(entries) >= call.query.limit:
            break
        entries.append({name: getattr(entry, name) for name in entry.__struct_fields__})
    return {"entries": msgspec.to_builtins(entries), "failure": access.audit.failure or ""}


def _metrics(service: Service) -> Response:
    return Response(service.metrics(), media_type=METRICS_TYPE)


_LOOKS: Final = (
    _Look("/status", "The cluster in one look.", answers.Status, lambda c, now, _: reading.status(c, now)),
    _Look("/nodes", "All edges.", answers.Nodes, lambda c, now, _: {"nodes": reading.nodes(c, now)}),
    _Look(
        "/links",
        "All links, as planned with.",
        answers.Links,
        lambda c, now, _: {"links": reading.links(c, now)},
    ),
    _Look(
        "/links/history",
        "The last hour of links, a minute at a time.",
        answers.LinkHistoryAnswer,
        lambda c, _, query: _history(c, query),
        requests.HistoryQuery,
    ),
    _Look(
        "/routes",
        "Routes in force.",
        answers.Routes,
        lambda c, _, query: {"routes": reading.routes(c, query.origin)},
        requests.RoutesQuery,
        (404,),
    ),
    _Look(
        "/why",
        "Why a route is as it is.",
        answers.Why,
        lambda c, _, query: reading.why(c, query.src, query.dst),
        requests.WhyQuery,
        (404, 409),
    ),
    _Look(
        "/plan",
        "The plan in force, and who follows it.",
        answers.PlanAnswer,
        lambda c, *_: reading.plan(c),
    ),
    _Look(
        "/plan/versions",
        "The newest versions of the plan, and who acknowledged each.",
        answers.Versions,
        lambda c, *_: reading_orders.versions(c),
    ),
    _Look("/drains", "Edges that drain.", answers.Drains, lambda c, *_: {"drains": reading_orders.drains(c)}),
    _Look(
        "/pins",
        "Pins, and which are in force.",
        answers.Pins,
        lambda c, *_: {"pins": reading_orders.pins(c)},
    ),
    _Look(
        "/kept-out",
        "Edges that relay for nobody else.",
        answers.KeptOuts,
        lambda c, *_: {"kept_out": reading_orders.kept_out(c)},
    ),
    _Look(
        "/overrides",
        "Prices and capacities set by order.",
        answers.Overrides,
        lambda c, *_: {"overrides": reading_orders.overrides(c), "remark": reading_orders.remark(c)},
    ),
    _Look(
        "/edge-list",
        "What viewers are told.",
        answers.EdgeListAnswer,
        lambda c, *_: reading_orders.edge_list(c),
    ),
    _Look("/access", "Whose tokens open the cluster.", trust_answers.Access, lambda c, *_: reading.access(c)),
    _Look(
        "/v1/usage",
        "Bytes and minutes that each issuer's key has used.",
        trust_answers.UsageAnswer,
        lambda c, now, query: reading_usage.usage(c, query.key_id, query.days, now),
        requests.UsageQuery,
        (404,),
    ),
    _Look(
        "/v1/quotas",
        "Quotas of keys, and which edge holds how much of each.",
        trust_answers.QuotasAnswer,
        lambda c, _, query: reading_quotas.quotas(c, query.key_id),
        requests.QuotasQuery,
        (404,),
    ),
    _Look("/trust", "Certificates and join tokens.", trust_answers.Trust, lambda c, *_: reading.trust(c)),
)
