"""Which plan is in force at an edge: what is taken, what is refused, and what survives a restart."""

from __future__ import annotations

from dataclasses import dataclass

from farcast.proto.control.edge_plan import EdgePlan
from farcast.proto.control.messages import PlanDelta


@dataclass(frozen=True, slots=True)
class Refused:
    """A plan that was not taken; the one before stays. ``reason`` is one sentence."""

    reason: str


class BadPlanFile(Exception):
    """The bytes are no plan of this edge; ``reason`` is one sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class PlanStore:
    """The plan of the edge ``node_id``. ``cluster``: the only one whose plans are taken; empty is any, until
    the first plan names one."""

    def __init__(self, node_id: str, cluster: str = "") -> None:
        raise NotImplementedError

    @property
    def plan(self) -> EdgePlan | None:
        """The plan in force."""
        raise NotImplementedError

    def consider(self, delta: PlanDelta) -> EdgePlan | Refused:
        """Take the plan and return it, or leave everything as it is and say why."""
        raise NotImplementedError

    def dump(self) -> bytes:
        """The plan in force for a file, with version and checksum. Raises ``ValueError`` without a plan."""
        raise NotImplementedError

    def load(self, data: bytes) -> EdgePlan:
        """Put the plan of a file in force. Raises `BadPlanFile` and leaves everything as it is."""
        raise NotImplementedError
