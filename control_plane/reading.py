"""What the API tells people and programs: plain dictionaries made out of a controller, nothing kept.

Times are milliseconds of age, so that nobody has to compare clocks; link figures are those that the planner
plans with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, Final

from farcast import __version__
from farcast.control_plane import reading_orders
from farcast.control_plane.branches import count_routes
from farcast.control_plane.controller import Controller
from farcast.control_plane.link_state import LinkView
from farcast.control_plane.members import Member
from farcast.control_plane.network import Network
from farcast.control_plane.planner import explain
from farcast.proto.access.keys import TrustedKey
from farcast.proto.access.records import AccessRules, read_rules
from farcast.proto.access.tokens import write_scope

_MEASURED: Final = (
    "rtt_latest_ms", "rtt_min_ms", "rtt_variation_ms", "spacing_ms", "age_ms",
    "packets_60s", "lost_60s", "rx_bps", "loss_average", "media",
)  # fmt: skip


class NotKnown(LookupError):
    """Something was asked that is not there; the text says what and what to do."""


class NotYet(LookupError):
    """Something was asked that has no answer yet; the text says why."""


def status(controller: Controller, now_us: int) -> dict[str, Any]:
    """The whole cluster in one look."""
    cycle, pushes = controller.cycle, controller.pushes
    edges = nodes(controller, now_us)
    return {
        "version": __version__,
        "cluster": controller.epoch.cluster,
        "epoch": controller.epoch.number,
        "sequence": pushes.sequence,
        "uptime_seconds": round((now_us - controller.started_us) / 1e6, 3),
        "edges": edges,
        "connected": sum(edge["state"] == "connected" for edge in edges),
        "behind": [edge["node_id"] for edge in edges if not edge["current"]],
        "namespaces": len(controller.directory.table),
        "routes": count_routes(cycle.trees),
        "canary": cycle.canary,
        "kept_back": cycle.kept_back,
        "holding": cycle.holding(now_us),
        "plan_ms": round(cycle.plan_us / 1_000, 3),
        "plans": cycle.runs,
        "risk_groups_naming_nobody": _unknown_in_risk_groups(controller),
        "overloaded": list(cycle.planned.plan.overloaded) if cycle.planned else [],
        "counters": dict(sorted(controller.journal.counters.items())),
    }


def _unknown_in_risk_groups(controller: Controller) -> list[str]:
    groups = controller.config.links.risk_groups
    members = list(controller.members)
    return groups.unknown({m.node_id for m in members}, {m.region for m in members}) if members else []


def nodes(controller: Controller, now_us: int) -> list[dict[str, Any]]:
    """All edges of the cluster by node id."""
    members = sorted(controller.members, key=lambda member: member.node_id)
    return [_node(controller, member, now_us) for member in members]


def _node(controller: Controller, member: Member, now_us: int) -> dict[str, Any]:
    rollout, load = controller.pushes.rollout(member.node_id), member.load
    state = "connected" if member.session is not None else "awaited" if member.restored else "absent"
    return {
        "node_id": member.node_id,
        "region": member.region,
        "provider": member.hello.provider,
        "address": member.hello.advertise,
        "public_url": member.hello.public_url,
        "software": member.hello.software,
        "state": state,
        "draining": member.draining,
        "state_ms": _age_ms(member.since_us if member.absent_us is None else member.absent_us, now_us),
        "report_ms": _age_ms(member.reported_us, now_us),
        "current": controller.pushes.is_current(member.node_id),
        "acked_sequence": rollout.acked[0].sequence if rollout.acked else None,
        "refusals": rollout.nacks,
        "refused_because": rollout.reason,
        "namespaces": controller.directory.offers_of(member.node_id),
        "viewers": load.viewers,
        "publishers": load.publishers,
        "tracks": load.tracks,
        "egress_bps": load.egress_bps,
        "egress_bps_max": member.hello.egress_bps_max,
        "cpu": round(load.cpu, 4),
    }


def links(controller: Controller, now_us: int) -> list[dict[str, Any]]:
    """All directed links that anybody has measured."""
    network = controller.links.network(now_us)
    return list(_links(network, {(v.src, v.dst): v for v in controller.links.links(now_us, network)}))


def _links(network: Network, views: Mapping[tuple[str, str], LinkView]) -> Iterator[dict[str, Any]]:
    for i, src in enumerate(network.node_ids):
        for j, dst in enumerate(network.node_ids):
            if i == j or not network.rtt_ms[i, j] > 0:
                continue
            yield {
                "src": src,
                "dst": dst,
                "rtt_ms": _number(network.rtt_ms[i, j]),
                "rtt_p99_ms": _number(network.rtt_p99_ms[i, j]),
                "loss": _number(network.loss[i, j], 6),
                "loss_low": _number(network.loss_low[i, j], 6),
                "loss_high": _number(network.loss_high[i, j], 6),
                "burst": _number(network.burst[i, j]),
                "usable": bool(network.usable[i, j]),
                "fresh": bool(network.fresh[i, j]),
                **_measured(views.get((src, dst))),
            }


def _measured(view: LinkView | None) -> dict[str, Any]:
    """What the receiving end measured beyond what is planned with; nothing where it never spoke of it."""
    if view is None:
        return dict.fromkeys(_MEASURED)
    times = {name: _number(getattr(view, name)) for name in _MEASURED if name.endswith("_ms")}
    counts = {"packets_60s": view.packets[2], "lost_60s": view.lost[2], "rx_bps": view.rx_bps}
    return {**times, **counts, "loss_average": _number(view.loss_average, 6), "media": view.media}


def routes(controller: Controller, origin: str | None = None) -> list[dict[str, Any]]:
    """Every route in force: origin, node, the branch, the backups, and what it costs by the newest plan."""
    if origin is not None and origin not in controller.members:
        raise NotKnown(_no_edge(controller, origin))
    planned = controller.cycle.planned
    told = []
    for node_id in sorted(member.node_id for member in controller.members):
        for source, route in sorted(controller.pushes.views.of(node_id).routes.items()):
            if origin is not None and source != origin:
                continue
            tree = planned.plan.trees.get(source) if planned else None
            as_planned = tree is not None and tree.path(node_id) == route.path
            told.append(
                {
                    "origin": source,
                    "node_id": node_id,
                    "path": list(route.path),
                    "backups": list(route.upstreams[1:]),
                    "delay_p99_ms": _number(tree.delay_ms.get(node_id)) if tree and as_planned else None,
                    "loss": _number(tree.loss.get(node_id), 6) if tree and as_planned else None,
                }
            )
    return told


def directory(controller: Controller) -> list[dict[str, Any]]:
    """Every namespace and the edges that offer it, the one that counts first."""
    return [
        {
            "namespace": "/".join(field.decode("utf-8", "backslashreplace") for field in namespace),
            "origin": origin,
            "holders": list(controller.directory.holders(namespace)),
        }
        for namespace, origin in sorted(controller.directory.table.items())
    ]


def why(controller: Controller, src: str, dst: str) -> dict[str, Any]:
    """Why ``dst`` takes what ``src`` publishes the way it does. Raises `NotKnown` and `NotYet`."""
    for node_id in (src, dst):
        if node_id not in controller.members:
            raise NotKnown(_no_edge(controller, node_id))
    if src == dst:
        raise NotKnown(f"{src} is both ends; name two edges")
    planned = controller.cycle.planned
    if planned is None:
        raise NotYet("no plan has been made yet; wait until edges have reported")
    try:
        explanation = explain(planned.job.network, planned.plan, planned.memory, planned.job.config, src, dst)
    except KeyError as error:
        raise NotYet(
            f"the newest plan has no tree from {src} to {dst}: nothing is known of {error}"
        ) from error
    route = controller.pushes.views.of(dst).routes.get(src)
    in_force = list(route.path) if route else []
    told = _plain(asdict(explanation))
    assert isinstance(told, dict)
    told["pins"] = [
        reading_orders.pin_row(controller, pin)
        for pin in controller.orders.book.pins
        if pin.origin == src and dst in pin.way
    ]
    ways = [in_force, *(candidate.path for candidate in explanation.candidates)]
    told["overrides"] = reading_orders.bearing_on(controller, ways)
    told["in_force"] = in_force
    told["kept_back"] = bool(in_force) and list(planned.plan.trees[src].path(dst)) != in_force
    told["why_kept_back"] = controller.cycle.why_kept_back if told["kept_back"] else ""
    return told


def plan(controller: Controller) -> dict[str, Any]:
    """The plan in force as parents by origin and node, and who has which version."""
    pushes = controller.pushes
    return {
        "cluster": controller.epoch.cluster,
        "epoch": controller.epoch.number,
        "sequence": pushes.sequence,
        "trees": {
            origin: {
                node: {"parent": u.parent, "backups": list(u.backups)} for node, u in sorted(tree.items())
            }
            for origin, tree in sorted(controller.cycle.trees.items())
        },
        "directory": directory(controller),
        "edge_list": pushes.views.edge_list,
        "acked": {
            member.node_id: held[0].sequence
            for member in controller.members
            if (held := pushes.rollout(member.node_id).acked) is not None
        },
    }


def _no_edge(controller: Controller, node_id: str) -> str:
    known = ", ".join(sorted(member.node_id for member in controller.members)) or "none"
    return f"no edge {node_id!r}; known are {known}"


def _age_ms(since_us: int | None, now_us: int) -> int | None:
    return None if since_us is None else max(now_us - since_us, 0) // 1_000


def _number(value: Any, digits: int = 3) -> float | None:
    """A finite number, rounded; JSON has no others."""
    if value is None or not math.isfinite(value):
        return None
    return round(float(value), digits)


def _plain(value: Any) -> Any:
    """Tuples as lists, and numbers that JSON has."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return _number(value, 6)
    return value


def access(controller: Controller) -> dict[str, Any]:
    """The keys whose tokens open the cluster, and what was revoked."""
    book = controller.access
    keys = read_rules(AccessRules(keys=tuple(book.keys.values())), controller.epoch.cluster).keys
    return {
        "cluster": controller.epoch.cluster,
        "keys": [_key(key) for _, key in sorted(keys.items())],
        "revoked_keys": list(book.revoked_keys),
        "revoked_tokens": [
            {"token_id": token_id, "revoked_unix_us": at_us}
            for token_id, at_us in sorted(book.revoked_tokens.items())
        ],
    }


def trust(controller: Controller) -> dict[str, Any]:
    """Certificates and join tokens, nothing secret."""
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


def _key(key: TrustedKey) -> dict[str, Any]:
    scopes = [write_scope(scope) for scope in key.scopes]
    return {
        "key_id": key.key_id,
        "x": key.x,
        "issuer": key.issuer,
        "scope": scopes,
        "quotas": asdict(key.quotas),
    }
