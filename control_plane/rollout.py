"""Which plan each edge has, and what is to be sent to it next.

An edge has one plan to answer at a time. A delta starts from what the edge acknowledged last; where that is
unknown (after a restart of either end, or after a refusal) the plan goes out whole. A refusal is answered by
a whole plan once; if that is refused too, the edge is left with what it has, and asked again after a growing
time: it runs on, and its reason stands in the status for somebody to read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from farcast.control_plane.views import same
from farcast.proto.control.messages import PlanVersion
from farcast.proto.control.plan_rules import Tables

Held = tuple[PlanVersion, Tables]
"""A version, and what it says to the edge."""


@dataclass(frozen=True, slots=True)
class RolloutConfig:
    """Patience with answers."""

    answer_ms_max: int = 10_000
    """A plan that is not answered by then ends the session; the edge comes back and says what it holds."""
    nack_backoff_ms_min: int = 5_000
    nack_backoff_ms_max: int = 60_000


@dataclass(slots=True)
class EdgeRollout:
    """The plan at one edge. Lives on while the edge is absent."""

    config: RolloutConfig = field(default_factory=RolloutConfig)
    acked: Held | None = None
    """The newest plan that the edge said is in force."""
    sent: Held | None = None
    """Sent and not answered."""
    sent_us: int = 0
    acked_us: int | None = None
    nacks: int = 0
    nacks_in_a_row: int = 0
    reason: str = ""
    """Of the newest refusal; empty once a plan was taken again."""
    retry_us: int = 0

    def handle_join(self, holds: PlanVersion | None) -> None:
        """The edge is connected anew and holds this plan."""
        known = [held for held in (self.acked, self.sent) if held is not None and held[0] == holds]
        self.acked, self.sent = (known[0] if known else None), None

    def wants(self, view: Tables, now_us: int) -> bool:
        """Whether ``view`` is to be sent now."""
        if self.sent is not None or now_us < self.retry_us:
            return False
        return self.acked is None or not same(self.acked[1], view)

    def hurry(self) -> None:
        """The edge has to move off what is dead or bad: no refusal of another plan holds that back."""
        self.retry_us = 0

    def handle_sent(self, version: PlanVersion, view: Tables, now_us: int) -> None:
        """The view is on its way."""
        self.sent, self.sent_us = (version, view), now_us

    def handle_ack(self, version: PlanVersion, now_us: int) -> bool:
        """The edge follows the plan; whether it was the one awaited."""
        if self.sent is None or self.sent[0] != version:
            return False
        self.acked, self.sent = self.sent, None
        self.acked_us = now_us
        self.nacks_in_a_row, self.reason = 0, ""
        return True

    def handle_nack(self, version: PlanVersion, reason: str, now_us: int) -> bool:
        """The edge refused the plan; whether it was the one awaited. The next one goes out whole."""
        if self.sent is None or self.sent[0] != version:
            return False
        self.sent = self.acked = None
        self.nacks += 1
        self.nacks_in_a_row += 1
        self.reason = reason
        if self.nacks_in_a_row > 1:
            doublings = min(self.nacks_in_a_row - 2, 16)
            backoff_ms = min(self.config.nack_backoff_ms_min << doublings, self.config.nack_backoff_ms_max)
            self.retry_us = now_us + backoff_ms * 1_000
        return True

    def is_overdue(self, now_us: int) -> bool:
        """Whether the answer to a plan is missing for too long."""
        return self.sent is not None and now_us >= self.sent_us + self.config.answer_ms_max * 1_000

    def is_current(self, view: Tables) -> bool:
        """Whether the edge follows ``view``."""
        return self.acked is not None and same(self.acked[1], view)
