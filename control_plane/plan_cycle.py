"""When the planner runs, and how its proposal becomes the trees in force.

It runs once a second, and at once when a link fell silent, an edge left or somebody drains; one run at a
time, and so that all of them together take no more than a share of the processor. After a restart of the
control plane it does not run before the edges of the run before are back and have reported, or had time to:
a plan out of half a network would move everybody (LiveKit 2024-02: track directors restarted together and
believed themselves cut off). Where the state of the run before was lost, nobody knows whom to wait for: it is
then the edges that say, by the plans they hold, that there was one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from farcast.control_plane.branches import Trees
from farcast.control_plane.directory import Directory
from farcast.control_plane.intents import Pin
from farcast.control_plane.journal import Journal
from farcast.control_plane.link_state import LinkState
from farcast.control_plane.members import Member, Members
from farcast.control_plane.move_gate import GateConfig, MoveGate, Step
from farcast.control_plane.pinning import PinState
from farcast.control_plane.plan import PlannerConfig
from farcast.control_plane.planning import (
    PlanJob,
    Planned,
    Reconciler,
    demand_for,
    is_escape,
    memory_from,
    without,
)


@dataclass(frozen=True, slots=True)
class CycleConfig:
    """Pace of planning."""

    planner: PlannerConfig = field(default_factory=PlannerConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    period_ms: int = 1_000
    cpu_share_max: float = 0.10
    """Of one core, by planning once a period; runs for an event are extra."""
    event_gap_ms: int = 100
    """Between two runs for events."""
    idle_origins_max: int = 64
    """Up to so many edges each is planned as an origin, whether or not it holds a namespace."""
    restart_hold_ms_max: int = 10_000
    gather_ms_max: int = 15_000
    """Without the state of the run before: from the first edge that holds a plan."""
    gather_quiet_ms: int = 5_000
    """The same, from the last edge that came."""


class PlanCycle:
    """Owns the trees in force."""

    def __init__(
        self, config: CycleConfig, links: LinkState, trees: Trees, journal: Journal, now_us: int
    ) -> None:
        self.trees = trees
        self.planned: Planned | None = None
        self.plan_us = 0
        """Of the newest run, from its start to its result."""
        self.runs = 0
        self.kept_back = 0
        """Upgrades that wait, by the newest run."""
        self._config = config
        self._links = links
        self._journal = journal
        self._gate = MoveGate(config.gate)
        self._reconciler = Reconciler()
        nodes = {node for origin in trees for node in (origin, *trees[origin])}
        self._memory = memory_from(trees, nodes, now_us)
        self._hold_until_us = now_us + config.restart_hold_ms_max * 1_000 if trees else now_us
        self._gathering_us: int | None = None
        self._may_gather = not trees
        self._due_us = now_us
        self._urgent = False
        self._started_us: int | None = None
        self._free_us = now_us
        self._pins: tuple[Pin, ...] = ()
        self._kept_out: frozenset[str] = frozenset()

    @property
    def canary(self) -> str | None:
        """The edge that tries out an upgrade now."""
        return self._gate.canary

    @property
    def why_kept_back(self) -> str:
        """Why better routes have to wait; empty if none has to."""
        return self._gate.why_kept_back

    def holding(self, now_us: int) -> bool:
        """Whether the routes of the run before are still kept as they are."""
        return now_us < self._hold_until_us

    def set_pins(self, pins: tuple[Pin, ...], kept_out: Collection[str]) -> None:
        """What operators hold routes to, and who may relay for nobody; from the next run on."""
        self._pins, self._kept_out = pins, frozenset(kept_out)

    def want(self) -> None:
        """Plan as soon as possible: something happened."""
        self._urgent = True

    def end_hold(self, now_us: int) -> None:
        """Everybody who was expected is back. Where nobody knows who is, it ends in its own time."""
        if self._gathering_us is None:
            self._hold_until_us = min(self._hold_until_us, now_us)

    def handle_newcomer(self, now_us: int, *, holds_plan: bool) -> None:
        """An edge came that was no member. One that holds a plan tells that others will follow it."""
        config = self._config
        if self._may_gather and self._gathering_us is None and holds_plan:
            self._gathering_us = self._hold_until_us = now_us
        if self._gathering_us is None or now_us > self._hold_until_us:
            return
        latest_us = self._gathering_us + config.gather_ms_max * 1_000
        self._hold_until_us = min(latest_us, now_us + config.gather_quiet_ms * 1_000)

    def poll_timeout(self) -> int | None:
        """When `poll_job` may have something."""
        if self._started_us is not None:
            return None
        return max(self._free_us if self._urgent else self._due_us, self._hold_until_us)

    def poll_job(self, members: Members, directory: Directory, now_us: int) -> PlanJob | None:
        """A run that is due; `handle_planned` or `handle_failed` must follow before there is another."""
        due_us = self.poll_timeout()
        if due_us is None or now_us < due_us:
            return None
        if not len(members):
            self._urgent, self._due_us = False, now_us + self._config.period_ms * 1_000
            return None
        self._started_us, self._urgent = now_us, False
        ids = [member.node_id for member in members]
        demand = demand_for(ids, directory.origins, _loads(members), self._config.idle_origins_max)
        network, pins = self._links.network(now_us), tuple(_state(pin, directory) for pin in self._pins)
        return PlanJob(network, demand, self._memory, self._config.planner, pins)

    def handle_failed(self, now_us: int) -> None:
        """The planner broke: the routes in force stay, and it is asked again in its time."""
        self._finish_run(now_us)

    def handle_planned(self, planned: Planned, members: Members, now_us: int) -> Step:
        """Take the proposal as far as it may come into force now."""
        self._finish_run(now_us)
        self.runs += 1
        self.planned = planned
        ids = {member.node_id for member in members}
        relays = {member.node_id for member in members if not member.draining} - self._kept_out
        old = {origin: tree for origin, tree in self.trees.items() if origin in ids}
        proposal = self._reconciler.trees(planned, old, ids)
        viewers = {member.node_id: member.load.viewers for member in members}
        step = self._gate.step(
            old, proposal, lambda move: is_escape(move, old, planned, relays), viewers, now_us
        )
        self.trees = step.trees
        self.kept_back = step.kept_back
        self._memory = planned.memory_of(step.trees)
        self._note(step)
        return step

    def remove(self, node_id: str, members: Members) -> None:
        """An edge was withdrawn; a plan follows at once."""
        self._gate.forget(node_id)
        self.trees = without(self.trees, node_id, {member.node_id for member in members})
        self.want()

    def handle_ack(self, node_id: str) -> None:
        """An edge follows the plan that is in force now."""
        self._gate.handle_ack(node_id)

    def handle_nack(self, node_id: str, members: Members, now_us: int) -> bool:
        """An edge refused its plan; whether it was the canary, and the trees in force are others now."""
        member = members.get(node_id)
        if member is None or node_id != self._gate.canary:
            return False
        return self._take_back(member, members, "the canary refused its plan", now_us)

    def handle_report(self, member: Member, members: Members, now_us: int) -> bool:
        """A report that can be trusted; whether the trees in force are others now."""
        if member.node_id != self._gate.canary:
            return False
        if self._gate.is_spoilt(member.node_id, member.silent):
            why = "the canary hears nothing from its new upstream"
            return self._take_back(member, members, why, now_us)
        if self._gate.handle_report(member.node_id, member.silent):
            self._journal.write("info", "canary passed", node_id=member.node_id)
            self.want()
        return False

    def _take_back(self, canary: Member, members: Members, why: str, now_us: int) -> bool:
        avoid = canary.silent | {member.node_id for member in members if member.draining}
        self.trees = self._gate.take_back(self.trees, now_us, avoid)
        if self.planned is not None:
            self._memory = self.planned.memory_of(self.trees)
        self._journal.count("canaries_failed")
        self._journal.write("warning", "upgrade taken back", node_id=canary.node_id, reason=why)
        return True

    def _finish_run(self, now_us: int) -> None:
        started_us = now_us if self._started_us is None else self._started_us
        self.plan_us = max(now_us - started_us, 0)
        period_us = max(self._config.period_ms * 1_000, int(self.plan_us / self._config.cpu_share_max))
        self._due_us = max(started_us + period_us, now_us)
        self._free_us = now_us + self._config.event_gap_ms * 1_000
        self._started_us = None

    def _note(self, step: Step) -> None:
        self._journal.count("routes_escaped", step.escapes)
        self._journal.count("routes_upgraded", step.upgrades)
        if step.refused:
            self._journal.count("plans_refused_by_guard")
            self._journal.write(
                "warning",
                "plan moves too many routes off hops that work; taken in slices",
                moved=step.upgrades,
                kept_back=step.kept_back,
            )
        if step.canary is not None:
            self._journal.count("canaries")
            self._journal.write("info", "canary", node_id=step.canary, routes=step.upgrades)


def _state(pin: Pin, directory: Directory) -> PinState:
    """A pin of a namespace counts while that has its origin where the way begins."""
    if not pin.namespace:
        return PinState(pin)
    origin = directory.table.get(tuple(field.encode() for field in pin.namespace.split("/")))
    if origin is None:
        return PinState(pin, f"nobody publishes {pin.namespace}")
    return PinState(pin, "" if origin == pin.origin else f"{pin.namespace} is published at {origin}")


def _loads(members: Members) -> Mapping[str, Mapping[str, int]]:
    """Origin to node to bits per second, out of what the nodes say they take."""
    loads: dict[str, dict[str, int]] = {}
    for member in members:
        for origin, bps in member.demand.items():
            if origin != member.node_id:
                loads.setdefault(origin, {})[member.node_id] = bps
    return loads
