"""What a plan must be before an edge follows it: the rules, one function each, and how deltas apply.

A plan is the one thing that can take media down everywhere at once, so an edge trusts nothing about it but
its sender's certificate. Every rule looks at the plan as it would be after the delta, not at the delta: what
matters is what would be in force. Each returns one sentence, or ``None``. Known disasters stand behind them:
an empty plan over a good one (AWS, 2025-10-20), a doubled file (Cloudflare, 2025-11-18), blank fields
(Google Cloud, 2025-06-12).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

from farcast.proto.access.keys import BadKey
from farcast.proto.access.records import NO_RULES, AccessRules, ShareRecord, read_rules
from farcast.proto.control.messages import NodeInfo, PlanDelta, PlanVersion, RouteEntry
from farcast.proto.control.ranges import NAMESPACES_MAX, NODES_MAX
from farcast.proto.joining.revocations import Revocations

DIRECTORY_BYTES_MAX: Final = 8 << 20
"""Bytes of all namespaces in a directory."""

Fields = tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Tables:
    """The contents of a plan. Mappings are by node id, by origin, by the fields of a namespace."""

    nodes: dict[str, NodeInfo]
    routes: dict[str, RouteEntry]
    directory: dict[Fields, str]
    edge_list: str | None
    access: AccessRules | None = None
    revoked: Revocations | None = None
    shares: tuple[ShareRecord, ...] | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A plan of the edge ``node_id`` about to come into force: ``old`` and ``delta`` make ``new``."""

    node_id: str
    delta: PlanDelta
    old: Tables
    new: Tables


EMPTY: Final = Tables({}, {}, {}, None)


def apply_delta(base: Tables, delta: PlanDelta) -> Tables:
    """``base`` with the changes of ``delta``; the removal of what is not there does nothing."""
    return Tables(
        _apply(base.nodes, delta.nodes_removed, ((node.node_id, node) for node in delta.nodes)),
        _apply(base.routes, delta.routes_removed, ((route.origin, route) for route in delta.routes)),
        _apply(base.directory, delta.directory_removed, ((e.namespace, e.origin) for e in delta.directory)),
        base.edge_list if delta.edge_list is None else delta.edge_list,
        base.access if delta.access is None else delta.access,
        base.revoked if delta.revoked is None else delta.revoked,
        base.shares if delta.shares is None else delta.shares,
    )


def why_not_version(held: PlanVersion | None, cluster: str, delta: PlanDelta) -> str | None:
    """Why a plan of this version cannot follow the one held."""
    version, base = delta.version, delta.base
    if cluster and version.epoch.cluster != cluster:
        return f"plan {version} is of another cluster: this edge belongs to {cluster!r}"
    if held is not None:
        if version == held:
            return f"plan {version} is in force already"
        if _order(version) < _order(held):
            return f"plan {version} is older than {held}, which is in force"
    if base is not None and base != held:
        return f"plan {version} changes plan {base}, and {held or 'none'} is in force"
    return None


def why_not_delta(delta: PlanDelta) -> str | None:
    """Why a delta contradicts itself: something said twice, or both changed and removed."""
    told: tuple[tuple[str, list[Hashable]], ...] = (
        ("node", [*(node.node_id for node in delta.nodes), *delta.nodes_removed]),
        ("route to", [*(route.origin for route in delta.routes), *delta.routes_removed]),
        ("namespace", [*(_show(e.namespace) for e in delta.directory), *map(_show, delta.directory_removed)]),
    )
    for what, keys in told:
        if len(set(keys)) != len(keys):
            key, count = Counter(keys).most_common(1)[0]
            return f"plan {delta.version} speaks {count} times of {what} {key}"
    return None


def why_not_change(change: Change) -> str | None:
    """The first rule that a plan breaks, or ``None``."""
    for rule in _RULES:
        why_not = rule(change)
        if why_not is not None:
            return why_not
    return None


# ---- Rules ----------------------------------------------------------------------------------------


def _within_limits(change: Change) -> str | None:
    new = change.new
    for what, count, limit in (
        ("nodes", len(new.nodes), NODES_MAX),
        ("routes", len(new.routes), NODES_MAX),
        ("namespaces", len(new.directory), NAMESPACES_MAX),
        ("bytes of namespaces", sum(sum(map(len, fields)) for fields in new.directory), DIRECTORY_BYTES_MAX),
    ):
        if count > limit:
            return f"it has {count} {what}, at most {limit} are allowed"
    return None


def _not_emptied(change: Change) -> str | None:
    """Nothing takes all nodes, unless the last others are removed by name; nor all routes while another is
    left. A control plane that has lost its state, or was cut off, knows only who came back so far: what it
    leaves out is not gone."""
    old, new = change.old, change.new
    named = change.delta.base is not None and change.node_id not in old.nodes
    if old.nodes and not new.nodes and not named:
        return f"it is empty, and the one in force has {len(old.nodes)} nodes"
    others = len(new.nodes.keys() - {change.node_id})
    lost = len(old.nodes.keys() - {change.node_id})
    if change.delta.base is None and lost and not others:
        return f"it is whole and names no other edge, and the one in force has {lost} others"
    if others and old.routes and not new.routes:
        return f"it takes away all {len(old.routes)} routes while {others} other nodes are left"
    return None


def _nodes_known(change: Change) -> str | None:
    known = {change.node_id, *change.new.nodes}
    for route in change.new.routes.values():
        for named in (route.origin, *route.upstreams, *route.path):
            if named not in known:
                return f"route to {route.origin!r} names node {named!r}, which the plan does not know"
    if set(change.new.directory.values()) <= known:
        return None
    namespace, origin = next(item for item in change.new.directory.items() if item[1] not in known)
    return f"namespace {_show(namespace)} is at node {origin!r}, which the plan does not know"


def _routes_lead_here(change: Change) -> str | None:
    for route in change.new.routes.values():
        why_not = _why_not_upstreams(change.node_id, route) or _why_not_path(change.node_id, route)
        if why_not is not None:
            return f"route to {route.origin!r} {why_not}"
    return None


def _keys_are_keys(change: Change) -> str | None:
    try:
        read_rules(change.delta.access or NO_RULES, change.delta.version.epoch.cluster)
    except BadKey as error:
        return str(error)
    return None


_RULES: Final[tuple[Callable[[Change], str | None], ...]] = (
    _within_limits,
    _not_emptied,
    _nodes_known,
    _routes_lead_here,
    _keys_are_keys,
)


def _why_not_upstreams(node_id: str, route: RouteEntry) -> str | None:
    if node_id in route.upstreams:
        return "is a circle: this edge is its own upstream"
    if route.origin == node_id:
        return "is a circle: this edge is the origin and has upstreams" if route.upstreams else None
    if not route.upstreams:
        return "has no upstream"
    if len(set(route.upstreams)) != len(route.upstreams):
        return f"names an upstream twice: {_join(route.upstreams)}"
    return None


def _why_not_path(node_id: str, route: RouteEntry) -> str | None:
    path = route.path
    if not path:
        return None
    if len(set(path)) != len(path):
        return f"is a circle: {_join(path)}"
    if path[-1] != node_id:
        return f"does not end here: {_join(path)}"
    if path[0] != route.origin:
        return f"does not begin there: {_join(path)}"
    if len(path) > 1 and path[-2] != route.upstreams[0]:
        return f"comes by {path[-2]!r}, and its first upstream is {route.upstreams[0]!r}"
    return None


_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


def _apply(
    base: dict[_Key, _Value], removed: Iterable[_Key], changed: Iterable[tuple[_Key, _Value]]
) -> dict[_Key, _Value]:
    table = dict(base)
    for key in removed:
        table.pop(key, None)
    table.update(changed)
    return table


def _order(version: PlanVersion) -> tuple[int, int]:
    return version.epoch.number, version.sequence


def _join(node_ids: tuple[str, ...]) -> str:
    return " > ".join(node_ids)


def _show(namespace: Fields) -> str:
    return "/".join(field.decode("utf-8", "backslashreplace") for field in namespace) or "(empty)"
