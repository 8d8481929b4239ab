"""Plans that no edge may follow, made of the one that it follows: what incidents have pushed to whole fleets.

Empty (AWS 2025-10-20), doubled (Cloudflare 2025-11-18), an older one that arrives late, of another cluster, a
circle, one that knows nobody else, cut off, or no plan at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from farcast.proto.control.codec import encode
from farcast.proto.control.edge_plan import EdgePlan
from farcast.proto.control.messages import DirectoryEntry, Epoch, PlanDelta, PlanVersion, RouteEntry
from farcast.simulations.events import BadPlanKind

GARBAGE: Final = b"\x00\x00\x00\x08no plan!"
"""A message of eight bytes that is no record."""


def bad_plan(what: BadPlanKind, plan: EdgePlan) -> bytes:
    """Such a plan as it comes over the control channel; ``plan`` is the one in force."""
    if what == "garbage":
        return GARBAGE
    if what == "truncated":
        whole = encode(_whole(plan))
        body = whole[4:][: (len(whole) - 4) // 2]
        return len(body).to_bytes(4, "big") + body
    return encode(_MAKERS[what](_whole(plan)))


def _whole(plan: EdgePlan) -> PlanDelta:
    """The plan in force, as the control plane would send it next."""
    version = plan.version
    return PlanDelta(
        version=PlanVersion(epoch=version.epoch, sequence=version.sequence + 1),
        nodes=tuple(plan.nodes.values()),
        routes=tuple(plan.routes.values()),
        directory=tuple(DirectoryEntry(namespace=n, origin=o) for n, o in plan.directory.items()),
        edge_list=plan.edge_list,
        issued_unix_us=plan.issued_unix_us,
    )


def _empty(delta: PlanDelta) -> PlanDelta:
    return msgspec.structs.replace(delta, nodes=(), routes=(), directory=(), edge_list=None)


def _older(delta: PlanDelta) -> PlanDelta:
    version = PlanVersion(epoch=delta.version.epoch, sequence=max(delta.version.sequence - 3, 0))
    return msgspec.structs.replace(delta, version=version)


def _foreign(delta: PlanDelta) -> PlanDelta:
    epoch = Epoch(cluster="other", number=delta.version.epoch.number + 1)
    return msgspec.structs.replace(delta, version=PlanVersion(epoch=epoch, sequence=1))


def _circular(delta: PlanDelta) -> PlanDelta:
    """Every route goes over the edge itself, which stands first on its path."""
    ids = [node.node_id for node in delta.nodes]
    routes = tuple(RouteEntry(origin=route.origin, upstreams=(*ids,)) for route in delta.routes)
    return msgspec.structs.replace(delta, routes=routes)


def _nobody(delta: PlanDelta) -> PlanDelta:
    return msgspec.structs.replace(delta, nodes=delta.nodes[:1], routes=(), directory=())


def _doubled(delta: PlanDelta) -> PlanDelta:
    return msgspec.structs.replace(
        delta, nodes=delta.nodes * 2, routes=delta.routes * 2, directory=delta.directory * 2
    )


_MAKERS: Final[dict[str, Callable[[PlanDelta], PlanDelta]]] = {
    "empty": _empty,
    "older": _older,
    "foreign": _foreign,
    "circular": _circular,
    "nobody": _nobody,
    "doubled": _doubled,
}
