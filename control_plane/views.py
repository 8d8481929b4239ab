"""The plan as each edge gets it, and the difference between two of them.

All edges share the nodes, the directory and the edge list; the routes are an edge's own. Tables are never
changed in place, so that "the same" can mostly be seen by identity: 200 edges are compared in microseconds
when nothing changed.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

from farcast.control_plane.branches import Tree, Trees, paths
from farcast.control_plane.directory import Fields
from farcast.proto.access.records import AccessRules, ShareRecord
from farcast.proto.control.messages import DirectoryEntry, NodeInfo, PlanDelta, PlanVersion, RouteEntry
from farcast.proto.control.plan_rules import EMPTY, Tables
from farcast.proto.joining.revocations import Revocations

Routes = dict[str, RouteEntry]
"""Origin to route, of one edge."""

MEMO_ENTRIES_MAX = 8
"""Differences between shared tables that are kept: edges are few versions apart."""

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Views:
    """What the plan in force says to each edge."""

    def __init__(self) -> None:
        self.nodes: dict[str, NodeInfo] = {}
        self.directory: dict[Fields, str] = {}
        self.edge_list: str | None = None
        self.access: AccessRules | None = None
        self.revoked: Revocations | None = None
        self.shares: dict[str, tuple[ShareRecord, ...]] = {}
        self.trees: Trees = {}
        self._entries: dict[str, Routes] = {}
        self._planned: dict[str, Routes] = {}
        self._routes: dict[str, Routes] = {}

    def set_nodes(self, nodes: dict[str, NodeInfo]) -> bool:
        """Replace the nodes; whether they are others."""
        if nodes == self.nodes:
            return False
        self.nodes = nodes
        self._routes = {node: self._usable(node) for node in nodes}
        return True

    def set_directory(self, directory: dict[Fields, str]) -> bool:
        """Replace the directory; whether it is another."""
        if directory is self.directory:
            return False
        self.directory = directory
        return True

    def set_edge_list(self, edge_list: str | None) -> bool:
        """Replace the signed list; whether it is another."""
        changed = edge_list != self.edge_list
        self.edge_list = edge_list
        return changed

    def set_access(self, access: AccessRules) -> bool:
        """Replace keys and revocations; whether they are others."""
        changed = access != self.access
        self.access = access if changed else self.access
        return changed

    def set_revoked(self, revoked: Revocations) -> bool:
        """Replace what is revoked; whether that is something else."""
        changed = revoked != self.revoked
        self.revoked = revoked if changed else self.revoked
        return changed

    def set_shares(self, shares: dict[str, tuple[ShareRecord, ...]]) -> bool:
        """Replace the shares of all edges; whether any are others."""
        changed = shares != self.shares
        self.shares = shares if changed else self.shares
        return changed

    def set_trees(self, trees: Trees) -> bool:
        """Replace all trees; whether any edge has another route."""
        fresh: dict[str, dict[str, RouteEntry | None]] = {}
        for origin in self.trees.keys() | trees.keys():
            old, new = self.trees.get(origin), trees.get(origin)
            if old is new or old == new:
                continue
            entries = _entries(origin, new or {})
            before = self._entries.get(origin, {})
            for node in before.keys() | entries.keys():
                entry = entries.get(node)
                if entry != before.get(node):
                    fresh.setdefault(node, {})[origin] = entry
            self._entries[origin] = entries
            if not entries:
                del self._entries[origin]
        self.trees = trees
        for node, changes in fresh.items():
            routes = {o: e for o, e in self._planned.get(node, {}).items() if o not in changes}
            routes.update((origin, entry) for origin, entry in changes.items() if entry is not None)
            self._planned[node] = routes
            self._routes[node] = self._usable(node)
            if not routes:
                del self._planned[node]
        return bool(fresh)

    def of(self, node_id: str) -> Tables:
        """The plan of one edge."""
        routes = self._routes.get(node_id, {})
        shares = self.shares.get(node_id)
        return Tables(self.nodes, routes, self.directory, self.edge_list, self.access, self.revoked, shares)

    def _usable(self, node_id: str) -> Routes:
        """The planned routes that name nobody unknown. An edge refuses a plan that takes its last route while
        other edges are left: it keeps a direct one to one of them, which means nothing as long as nobody
        publishes there."""
        planned = self._planned.get(node_id, {})
        routes = {o: e for o, e in planned.items() if e.upstreams and _known(e, node_id, self.nodes)}
        if not routes and (other := min(self.nodes.keys() - {node_id}, default=None)) is not None:
            routes[other] = RouteEntry(origin=other, upstreams=(other,), path=(other, node_id))
        held = self._routes.get(node_id)
        return held if held == routes else routes


class Differ:
    """Deltas between plans, with a memory for the tables that edges share."""

    def __init__(self) -> None:
        self._memo: dict[tuple[int, int], tuple[object, object, object]] = {}

    def delta(
        self, version: PlanVersion, base: tuple[PlanVersion, Tables] | None, new: Tables, issued_unix_us: int
    ) -> PlanDelta:
        """What leads from ``base`` to ``new``; all of ``new`` without one."""
        old = EMPTY if base is None else base[1]
        nodes, nodes_removed = self._shared(old.nodes, new.nodes)
        routes, routes_removed = _difference(old.routes, new.routes)
        directory, directory_removed = self._shared(old.directory, new.directory)
        return PlanDelta(
            version=version,
            base=None if base is None else base[0],
            nodes=tuple(nodes.values()),
            nodes_removed=tuple(nodes_removed),
            routes=tuple(routes.values()),
            routes_removed=tuple(routes_removed),
            directory=tuple(DirectoryEntry(namespace=n, origin=o) for n, o in directory.items()),
            directory_removed=tuple(directory_removed),
            edge_list=new.edge_list if new.edge_list != old.edge_list else None,
            access=new.access if new.access != old.access else None,
            revoked=new.revoked if new.revoked != old.revoked else None,
            shares=new.shares if new.shares != old.shares else None,
            issued_unix_us=issued_unix_us,
        )

    def _shared(self, old: dict[K, V], new: dict[K, V]) -> tuple[dict[K, V], list[K]]:
        if old is new:
            return {}, []
        key = (id(old), id(new))
        held = self._memo.get(key)
        if held is None:
            held = (old, new, _difference(old, new))
            while len(self._memo) >= MEMO_ENTRIES_MAX:
                del self._memo[next(iter(self._memo))]
            self._memo[key] = held
        return held[2]  # type: ignore[return-value]  # the memo holds tables of several types


def same(one: Tables, other: Tables) -> bool:
    """Whether two plans say the same."""
    return (
        one.edge_list == other.edge_list
        and (one.shares is other.shares or one.shares == other.shares)
        and (one.access is other.access or one.access == other.access)
        and (one.revoked is other.revoked or one.revoked == other.revoked)
        and (one.nodes is other.nodes or one.nodes == other.nodes)
        and (one.routes is other.routes or one.routes == other.routes)
        and (one.directory is other.directory or one.directory == other.directory)
    )


def _entries(origin: str, tree: Tree) -> Routes:
    """Routes out of a tree. A backup that is fed by the node itself would be a circle and is left out: a tree
    that is mixed of two, or repaired, has backups that were planned for another one."""
    entries: Routes = {}
    found = paths(tree, origin)
    for node, path in found.items():
        parent, backups = tree[node]
        spare = tuple(b for b in backups if b not in (node, parent) and node not in found.get(b, ()))
        if backups and not spare and parent != origin:
            spare = (origin,)
        entries[node] = RouteEntry(origin=origin, upstreams=(parent, *spare), path=path)
    return entries


def _known(entry: RouteEntry, node_id: str, nodes: Mapping[str, NodeInfo]) -> bool:
    return all(name in nodes or name == node_id for name in (entry.origin, *entry.upstreams, *entry.path))


def _difference(old: Mapping[K, V], new: Mapping[K, V]) -> tuple[dict[K, V], list[K]]:
    """Items that are new or others, and keys that have gone."""
    changed = {key: value for key, value in new.items() if old.get(key) != value}
    return changed, [key for key in old if key not in new]
