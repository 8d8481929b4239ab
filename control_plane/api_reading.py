"""HTTP API, the part that only looks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from starlette.responses import PlainTextResponse, Response

from farcast.control_plane import api_shapes as shapes
from farcast.control_plane import reading, reading_orders, reading_quotas, reading_usage
from farcast.control_plane.api_service import Service
from farcast.control_plane.api_table import ApiAccess, Call, Endpoint, Refused
from farcast.control_plane.audit import read_entries
from farcast.control_plane.controller import Controller
from farcast.control_plane.reading import NotKnown

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
TEXT_TYPE: Final = "text/plain; charset=utf-8"


def reading_endpoints(service: Service, access: ApiAccess) -> list[Endpoint]:
    """All of them."""

    def look(path: str, summary: str, answer: Any, tell: Callable[[Controller, int], Any]) -> Endpoint:
        return Endpoint("GET", path, summary, lambda _: tell(service.controller, service.now_us()), answer)

    return [
        *_open_endpoints(service),
        look("/status", "The cluster in one look.", shapes.Status, reading.status),
        look("/nodes", "All edges.", shapes.Nodes, lambda c, now: {"nodes": reading.nodes(c, now)}),
        look(
            "/links",
            "All links, as planned with.",
            shapes.Links,
            lambda c, now: {"links": reading.links(c, now)},
        ),
        Endpoint(
            "GET",
            "/links/history",
            "The last hour of links, a minute at a time.",
            lambda call: _history(service, call),
            shapes.LinkHistoryAnswer,
            query=shapes.HistoryQuery,
        ),
        Endpoint(
            "GET",
            "/routes",
            "Routes in force.",
            lambda call: _known(lambda: {"routes": reading.routes(service.controller, call.query.origin)}),
            shapes.Routes,
            query=shapes.RoutesQuery,
            refusals=(404,),
        ),
        Endpoint(
            "GET",
            "/why",
            "Why a route is as it is.",
            lambda call: _known(lambda: reading.why(service.controller, call.query.src, call.query.dst)),
            shapes.Why,
            query=shapes.WhyQuery,
            refusals=(404,),
        ),
        look(
            "/plan", "The plan in force, and who follows it.", shapes.PlanAnswer, lambda c, _: reading.plan(c)
        ),
        look(
            "/plan/versions",
            "The newest versions of the plan, and who acknowledged each.",
            shapes.Versions,
            lambda c, _: reading_orders.versions(c),
        ),
        look(
            "/drains", "Edges that drain.", shapes.Drains, lambda c, _: {"drains": reading_orders.drains(c)}
        ),
        look(
            "/pins",
            "Pins, and which are in force.",
            shapes.Pins,
            lambda c, _: {"pins": reading_orders.pins(c)},
        ),
        look(
            "/kept-out",
            "Edges that relay for nobody else.",
            shapes.KeptOuts,
            lambda c, _: {"kept_out": reading_orders.kept_out(c)},
        ),
        look(
            "/overrides",
            "Prices and capacities set by order.",
            shapes.Overrides,
            lambda c, _: {"overrides": reading_orders.overrides(c), "remark": reading_orders.remark(c)},
        ),
        look(
            "/edge-list",
            "What viewers are told.",
            shapes.EdgeListAnswer,
            lambda c, _: reading_orders.edge_list(c),
        ),
        look("/access", "Whose tokens open the cluster.", shapes.Access, lambda c, _: reading.access(c)),
        Endpoint(
            "GET",
            "/v1/usage",
            "Bytes and minutes that each issuer's key has used.",
            lambda call: _known(
                lambda: reading_usage.usage(
                    service.controller, call.query.key_id, call.query.days, service.now_us()
                )
            ),
            shapes.UsageAnswer,
            query=shapes.UsageQuery,
            refusals=(404,),
        ),
        Endpoint(
            "GET",
            "/v1/quotas",
            "Quotas of keys, and which edge holds how much of each.",
            lambda call: _known(lambda: reading_quotas.quotas(service.controller, call.query.key_id)),
            shapes.QuotasAnswer,
            query=shapes.QuotasQuery,
            refusals=(404,),
        ),
        look("/trust", "Certificates and join tokens.", shapes.Trust, lambda c, _: reading.trust(c)),
        Endpoint(
            "GET",
            "/audit",
            "Who changed what, the newest first.",
            lambda call: _audit(access, call),
            shapes.Audit,
            query=shapes.AuditQuery,
        ),
        Endpoint("GET", "/metrics", "For Prometheus.", lambda _: _metrics(service), METRICS_TYPE),
    ]


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


def _known(tell: Callable[[], Any]) -> Any:
    try:
        return tell()
    except NotKnown as error:
        raise Refused(404, str(error)) from error


def _history(service: Service, call: Call) -> Any:
    found = reading_orders.history(service.controller, call.query.src, call.query.dst)
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
