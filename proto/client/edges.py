"""The edges that a client knows, and in which order it tries them.

The order is that in which they were named, with these exceptions: edges that are draining, or that did not
answer or broke off within the last minute, come after the others; and the edge that is being left comes
last of all, where it comes at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from farcast.proto.agent.config import Target
from farcast.proto.urls import parse_url

EDGES_MAX = 16
"""Edges that a client keeps; of a longer list it takes the first."""

DISTRUST_US = 60_000_000
"""So long an edge that failed is tried after the others."""

EdgeKey: TypeAlias = tuple[str, str, str, str]
"""What makes two targets one edge."""


def edge_key(target: Target) -> EdgeKey:
    """Transport, address, server name and path; trust and drafts are the same for all edges."""
    return target.kind, target.remote, target.server_name, target.path or "/"


def edge_name(target: Target) -> str:
    """For people: the host and port that they know it by."""
    return target.authority or target.remote


class EdgeBook:
    """Up to `EDGES_MAX` edges, best first."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._named = tuple(targets)
        self._listed: tuple[Target, ...] = ()
        self._draining: frozenset[EdgeKey] = frozenset()
        self._failed_us: dict[EdgeKey, int] = {}

    @property
    def targets(self) -> list[Target]:
        """All edges, those that the user named first, each once."""
        found: dict[EdgeKey, Target] = {}
        for target in (*self._named, *self._listed):
            found.setdefault(edge_key(target), target)
        return list(found.values())[:EDGES_MAX]

    def find(self, uri: str) -> Target | None:
        """The edge that a URI means, if it is one of these."""
        try:
            url = parse_url(uri)
        except ValueError:
            return None
        wanted = (url.target, url.authority, url.path or "/")
        return next((t for t in self.targets if (t.kind, t.authority, t.path or "/") == wanted), None)

    def learn(self, targets: Sequence[Target], draining: Sequence[Target] = ()) -> None:
        """Take over an edge list in place of the one before; what the user named stays."""
        self._listed = tuple(targets)
        self._draining = frozenset(map(edge_key, draining))

    def add(self, target: Target) -> None:
        """An edge that another one sent us to."""
        if edge_key(target) not in map(edge_key, self.targets):
            self._listed = (target, *self._listed)

    def distrust(self, target: Target, now_us: int) -> None:
        """It did not answer, or broke off."""
        self._failed_us = {key: at for key, at in self._failed_us.items() if now_us - at < DISTRUST_US}
        self._failed_us[edge_key(target)] = now_us

    def trust(self, target: Target) -> None:
        """It answers."""
        self._failed_us.pop(edge_key(target), None)

    def others(self, leaving: Target, now_us: int, first: Target | None = None) -> list[Target]:
        """Where to go from ``leaving``; ``first`` is where it sent us, if it did."""
        key = edge_key(leaving)
        found = [target for target in self.order(now_us) if edge_key(target) != key]
        if first is not None and edge_key(first) != key:
            found = [first, *(target for target in found if edge_key(target) != edge_key(first))]
        return found

    def order(self, now_us: int) -> list[Target]:
        """All edges in the order in which to try them."""

        def rank(target: Target) -> tuple[bool, bool]:
            failed_us = self._failed_us.get(edge_key(target))
            distrusted = failed_us is not None and now_us - failed_us < DISTRUST_US
            return edge_key(target) in self._draining, distrusted

        return sorted(self.targets, key=rank)
