"""The routes in force: for each origin a tree over the edges, and what it takes to go from one to another.

A tree is a mapping of node to `Upstreams`; its root, the origin, is not in it. Two trees can be mixed: **if
the nodes that already follow the new tree are closed under its ancestors, the mixture is a tree again**.
Above such a node only new parents are met until the root; above any other node old parents, until the root or
until one of the closed set. So a change can be applied in slices, top down, and no slice makes a circle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import NamedTuple, TypeAlias


class Upstreams(NamedTuple):
    """Where one node takes what one origin publishes: the parent in the tree, then backups in order."""

    parent: str
    backups: tuple[str, ...] = ()


Tree: TypeAlias = Mapping[str, Upstreams]
"""Node to its upstreams, for one origin."""

Trees: TypeAlias = Mapping[str, Tree]
"""Origin to its tree."""


class Move(NamedTuple):
    """A node that would take an origin's tracks from another parent than now."""

    origin: str
    node: str
    old: str
    new: str


def path_to(tree: Tree, origin: str, node: str) -> tuple[str, ...] | None:
    """The branch from the origin to the node, both included; ``None`` where none leads there."""
    path = [node]
    while path[-1] != origin:
        upstreams = tree.get(path[-1])
        if upstreams is None or len(path) > len(tree) + 1:
            return None
        path.append(upstreams.parent)
    return tuple(reversed(path))


def paths(tree: Tree, origin: str) -> dict[str, tuple[str, ...]]:
    """The branch of every node that hangs on the origin, each after its parent's; in one pass."""
    children: dict[str, list[str]] = {}
    for node, upstreams in tree.items():
        children.setdefault(upstreams.parent, []).append(node)
    found: dict[str, tuple[str, ...]] = {origin: (origin,)}
    level = [origin]
    for node in level:
        path = found[node]
        for child in children.pop(node, ()):
            if child != origin:
                found[child] = (*path, child)
                level.append(child)
    del found[origin]
    return found


def top_down(tree: Tree, origin: str) -> list[str]:
    """All nodes that hang on the origin, each after its parent; in one order for equal trees."""
    children: dict[str, list[str]] = {}
    for node in sorted(tree):
        children.setdefault(tree[node].parent, []).append(node)
    found, order = [origin], []
    for node in found:
        below = children.pop(node, [])
        found += below
        order += below
    return order


def count_routes(trees: Trees) -> int:
    """Pairs of origin and node that have a route."""
    return sum(map(len, trees.values()))


def reached_everywhere(trees: Trees, nodes: Iterable[str]) -> set[str]:
    """Those of the nodes that every tree reaches which reaches anybody."""
    grown = [(origin, tree) for origin, tree in trees.items() if tree]
    return {node for node in nodes if all(node in tree for origin, tree in grown if origin != node)}


def moves_between(old: Trees, new: Trees) -> Iterator[Move]:
    """Nodes with another parent, each tree top down. Routes that come or go are no moves."""
    for origin in sorted(new):
        before, after = old.get(origin, {}), new[origin]
        if before == after:
            continue
        for node in top_down(after, origin):
            upstreams = before.get(node)
            if upstreams is not None and upstreams.parent != after[node].parent:
                yield Move(origin, node, upstreams.parent, after[node].parent)


def mix(old: Tree, new: Tree, origin: str, kept: Collection[str]) -> Tree:
    """``new``, except that the nodes of ``kept`` keep their old parents.

    A node below a kept one whose old and new parents differ must be in ``kept`` too unless all above it
    follow the new tree (see above). Backups are the new ones, without the parent.
    """
    if not kept:
        return new
    mixed = dict(new)
    for node in kept:
        if node in old and node in new:
            parent = old[node].parent
            spare = (new[node].parent, *new[node].backups)
            mixed[node] = Upstreams(parent, tuple(backup for backup in spare if backup != parent))
    reached = paths(mixed, origin)
    return {node: mixed[node] for node in mixed if node in reached}
