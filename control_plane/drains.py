"""When an edge that is to drain may be told so: once nobody takes by it what another could give.

Then its viewers are sent away while everything that it relayed runs elsewhere already. What it publishes
itself cannot be moved and does not count. The wait has a bound, so that a child which does not follow its
plan cannot keep an edge from being drained.
"""

from __future__ import annotations

from farcast.control_plane.members import Member, Members
from farcast.control_plane.plan_cycle import PlanCycle
from farcast.control_plane.pushes import Pushes


def is_relieved(member: Member, members: Members, cycle: PlanCycle, pushes: Pushes) -> bool:
    """Whether the planner has run with the drain in mind, and all connected edges follow what came of it."""
    planned = cycle.planned
    if planned is None or planned.job.network.now_us < (member.drain_us or 0):
        return False
    return all(
        _takes_nothing_by(pushes, other.node_id, member.node_id)
        for other in members
        if other.session is not None and other is not member
    )


def _takes_nothing_by(pushes: Pushes, node_id: str, relay: str) -> bool:
    acked = pushes.rollout(node_id).acked
    return acked is not None and not any(
        route.upstreams[:1] == (relay,) and origin != relay for origin, route in acked[1].routes.items()
    )
