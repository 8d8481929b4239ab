"""Sends each edge what it does not have yet of the plan in force.

Order is make before break: an edge that is to take tracks from a new parent is told after that parent has
acknowledged its own change, or after `PushConfig.order_ms_max`. An edge with an escape does not wait; its new
parents are only told first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field

from farcast.control_plane.branches import Trees, moves_between
from farcast.control_plane.journal import Journal
from farcast.control_plane.rollout import EdgeRollout, RolloutConfig
from farcast.control_plane.views import Differ, Views
from farcast.proto.control.messages import Epoch, PlanVersion
from farcast.proto.control.server_channel import ServerChannel

SEQUENCE_JUMP_MAX = 1 << 40
"""Further ahead no edge of ours can be; what one says must not use up the numbers."""


@dataclass(frozen=True, slots=True)
class PushConfig:
    """Order and patience."""

    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    order_ms_max: int = 500
    """A new parent has so long to acknowledge before its children are told."""


class Pushes:
    """The plan in force as versions, and how far each edge has come."""

    def __init__(self, config: PushConfig, epoch: Epoch, journal: Journal) -> None:
        self.views = Views()
        self.sequence = 0
        self._config = config
        self._epoch = epoch
        self._journal = journal
        self._differ = Differ()
        self._rollouts: dict[str, EdgeRollout] = {}
        self._pending: dict[str, None] = {}
        self._waits: dict[str, tuple[frozenset[str], int]] = {}

    @property
    def version(self) -> PlanVersion:
        """Of the plan in force."""
        return PlanVersion(epoch=self._epoch, sequence=self.sequence)

    def rollout(self, node_id: str) -> EdgeRollout:
        """How far an edge has come."""
        return self._rollouts.setdefault(node_id, EdgeRollout(self._config.rollout))

    def is_current(self, node_id: str) -> bool:
        """Whether the edge follows the plan in force."""
        rollout = self._rollouts.get(node_id)
        return rollout is not None and rollout.is_current(self.views.of(node_id))

    def forget(self, node_id: str) -> None:
        """The edge is no member any more."""
        self._rollouts.pop(node_id, None)
        self._pending.pop(node_id, None)
        self._waits.pop(node_id, None)

    def commit_trees(self, trees: Trees, now_us: int, *, hurried: Collection[str] | None = None) -> bool:
        """Put trees in force; whether anything changed. Children wait for their new parents, but those in
        ``hurried``; ``None``: nobody waits."""
        old = self.views.trees
        if not self.views.set_trees(trees):
            return False
        self._order(old, trees, now_us, hurried)
        self.commit()
        return True

    def commit(self) -> None:
        """Something of the plan is new: the next version, and everybody is looked at."""
        self.sequence += 1
        self._pending.update(dict.fromkeys(self._rollouts))

    def overtake(self, held: PlanVersion) -> None:
        """An edge holds a plan that this run did not send it. Where it is of our own epoch (a copy of the
        state was put back), the next one goes beyond it, or the edge would take none."""
        ahead = held.sequence - self.sequence
        if held.epoch == self._epoch and 0 <= ahead <= SEQUENCE_JUMP_MAX:
            self.sequence = held.sequence + 1
            self._pending.update(dict.fromkeys(self._rollouts))

    def look_at(self, node_ids: Iterable[str]) -> None:
        """Look at these edges again at the next `push_all`."""
        self._pending.update(dict.fromkeys(node_ids))

    def push_all(
        self, channel_of: Callable[[str], ServerChannel | None], now_us: int, unix_us: int
    ) -> list[str]:
        """Send what is due to the edges that are connected; whom something was sent to."""
        told = []
        for node_id in list(self._pending):
            channel = channel_of(node_id)
            if channel is None or not channel.joined:
                del self._pending[node_id]
            elif not self._must_wait(node_id, now_us):
                del self._pending[node_id]
                if self._push(node_id, channel, now_us, unix_us):
                    told.append(node_id)
        return told

    def retry(self, now_us: int) -> None:
        """Edges whose time to be asked again has come."""
        for node_id, rollout in self._rollouts.items():
            if rollout.sent is None and rollout.wants(self.views.of(node_id), now_us):
                self._pending[node_id] = None

    def overdue(self, now_us: int) -> list[str]:
        """Edges that owe the answer to a plan for too long."""
        return [node_id for node_id, rollout in self._rollouts.items() if rollout.is_overdue(now_us)]

    def poll_timeout(self) -> int | None:
        """When a child need not wait for its new parent any longer."""
        waiting = [due_us for node_id, (_, due_us) in self._waits.items() if node_id in self._pending]
        return min(waiting, default=None)

    def _push(self, node_id: str, channel: ServerChannel, now_us: int, unix_us: int) -> bool:
        rollout, view = self.rollout(node_id), self.views.of(node_id)
        if not rollout.wants(view, now_us):
            return False
        base = rollout.acked
        if base is None and rollout.nacks_in_a_row:
            self.sequence += 1
        version = self.version
        why_not = channel.push(self._differ.delta(version, base, view, unix_us))
        if why_not is not None:
            self._journal.count("pushes_not_sent")
            self._journal.write("warning", "plan not sent", node_id=node_id, reason=why_not)
            rollout.retry_us = now_us + self._config.rollout.nack_backoff_ms_min * 1_000
            return False
        self._journal.count("plans_pushed_whole" if base is None else "plans_pushed_as_delta")
        rollout.handle_sent(version, view, now_us)
        return True

    def _order(self, old: Trees, new: Trees, now_us: int, hurried: Collection[str] | None) -> None:
        parents: dict[str, set[str]] = {}
        for move in moves_between(old, new):
            parents.setdefault(move.node, set()).add(move.new)
        first = {parent for above in parents.values() for parent in above}
        self._pending = dict.fromkeys([*sorted(first), *self._pending])
        due_us = now_us + self._config.order_ms_max * 1_000
        for node_id, above in parents.items():
            if hurried is None or node_id in hurried:
                self._waits.pop(node_id, None)
                for each in (node_id, *above):
                    self.rollout(each).hurry()
            else:
                self._waits[node_id] = (frozenset(above), due_us)

    def _must_wait(self, node_id: str, now_us: int) -> bool:
        wait = self._waits.get(node_id)
        if wait is None:
            return False
        above, due_us = wait
        if now_us >= due_us or all(self._is_ahead(parent, node_id) for parent in above):
            del self._waits[node_id]
            return False
        return True

    def _is_ahead(self, parent: str, child: str) -> bool:
        """Whether a new parent has what it needs, or waits for this very child."""
        wait = self._waits.get(parent)
        return self.is_current(parent) or (wait is not None and child in wait[0])
