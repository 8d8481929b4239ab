"""What edges tell each other about the way a track takes, so that it never runs in a circle.

Up the tree, SUBSCRIBE carries HOP_PATH: the nodes that ask, so that an edge which finds itself in it
refuses. That is not enough once subscriptions are shared: an edge that already has the track does not
ask on. So SUBSCRIBE_OK carries, down the tree, the route: the nodes between the publisher and the
answering edge, in a track property that exists on hops only. An edge refuses a subscriber whose path
meets the route of the track's source.

With the route comes the incarnation of the track: it changes when the publisher is another one. An edge
that subscribes again after a broken hop sees by it whether group numbers may have started over.
"""

from __future__ import annotations

from dataclasses import dataclass

from farcast.proto.moqt.parameters import HOP_PATH_NODES_MAX
from farcast.proto.properties import Properties, Property

HOP_ROUTE = 0x3FC5
"""Track property on hops (of the range for private use, draft-18 section 2.5): incarnation and node
ids of the route, publisher's edge first, UTF-8, separated by line feeds."""

_ROUTE_BYTES_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Route:
    """Where a track comes from: ``nodes`` from the publisher's edge on."""

    incarnation: str = ""
    nodes: tuple[str, ...] = ()


def attach_route(properties: Properties, route: Route) -> Properties:
    """The track properties with the route among them, for an answer over a hop."""
    text = "\n".join((route.incarnation, *route.nodes))
    return (*properties, Property(HOP_ROUTE, text.encode()))


def detach_route(properties: Properties) -> tuple[Properties, Route]:
    """The track properties without the route, and the route; an unreadable one counts as absent."""
    rest = tuple(pair for pair in properties if pair.type != HOP_ROUTE)
    value = next((pair.value for pair in properties if pair.type == HOP_ROUTE), None)
    if not isinstance(value, bytes) or len(value) > _ROUTE_BYTES_MAX:
        return rest, Route()
    incarnation, *nodes = value.decode("utf-8", "replace").split("\n")
    if len(nodes) > HOP_PATH_NODES_MAX:
        return rest, Route()
    return rest, Route(incarnation, tuple(nodes))


def obstacle_in_path(path: tuple[str, ...], node_id: str) -> str | None:
    """Why what came through these nodes must not go on from ``node_id``; ``None`` if it may."""
    if node_id in path:
        return f"circle: {node_id} is already on the way {' > '.join(path)}"
    if len(path) >= HOP_PATH_NODES_MAX:
        return f"too many hops: {' > '.join(path)}"
    return None


def obstacle_in_route(path: tuple[str, ...], route: tuple[str, ...]) -> str | None:
    """Why an edge that asks over ``path`` cannot be fed from a source with this route; ``None`` if it can."""
    meeting = next((node for node in route if node in path), None)
    if meeting is not None:
        return f"circle: the track comes through {meeting}, which asks for it"
    if len(route) >= HOP_PATH_NODES_MAX:
        return f"too many hops: {' > '.join(route)}"
    return None
