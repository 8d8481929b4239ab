"""The plan as one edge holds it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from farcast.proto.control.messages import NodeInfo, PlanVersion, RouteEntry
from farcast.proto.moqt.names import TrackNamespace


class Route(NamedTuple):
    """Where a namespace comes from: its origin, and the node ids to ask, in their order."""

    origin: str
    upstreams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EdgePlan:
    """A plan in force. Mappings are by node id, by origin and by the fields of a namespace; read only."""

    node_id: str
    version: PlanVersion
    nodes: Mapping[str, NodeInfo]
    routes: Mapping[str, RouteEntry]
    directory: Mapping[tuple[bytes, ...], str]
    edge_list: str | None = None
    issued_unix_us: int = 0

    def route_for(self, namespace: TrackNamespace) -> Route | None:
        """The route to the origin whose announced namespace is the longest prefix, or ``None``.

        Where this edge itself is the origin there are no upstreams.
        """
        raise NotImplementedError

    def candidates(self, origin: str) -> tuple[str, ...]:
        """Node ids to take an origin's tracks from: parent, backups, and at last the origin itself.

        Empty for our own tracks and for an origin that is no node of the plan.
        """
        raise NotImplementedError

    def nearest(
        self, exclude: Collection[str] = (), rtt_us: Mapping[str, int] | None = None
    ) -> list[NodeInfo]:
        """The other nodes that do not drain: own region first, then by measured RTT, then by id."""
        raise NotImplementedError
