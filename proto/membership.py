"""An edge's part in a network, as an engine: it reports, takes plans and follows them, goes when told to.

    datapath's counters ─► Reporter ─► EdgeChannel ─► bytes to the control plane
    bytes from it ─► EdgeChannel ─► PlanStore ─► Agent.apply_plan ─► acknowledged or refused

The daemon drives it over QUIC and trio, the simulator over a modelled link. Everything here may fail without
a viewer noticing: the agent follows the plan that it was given last. What is not done is as important as what
is: no plan expires, no connection to the control plane is waited for, nothing is cleared because it is late.

A plan is in force when the agent has it, and is acknowledged then; that it is on the disk too matters only
for the next start, so the shell writes it when it can (`PlanTaken`), and of several the last one.

A report is due an interval after the one before, or as soon as there is news, but not more often than every
`MembershipConfig.report_early_us_min`. It needs the datapath's counters: `poll_event` gives `SnapshotWanted`,
the shell answers with `handle_snapshot`, or `handle_no_snapshot` where the datapath does not answer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from farcast.proto.access.metering import UsageMeter, Used
from farcast.proto.control import events as channel
from farcast.proto.control.edge_channel import EdgeChannel, EdgeChannelConfig
from farcast.proto.control.edge_plan import BadPlanFile, EdgePlan, PlanStore, Refused
from farcast.proto.control.messages import Hello, KeyUsage, PlanDelta, PlanVersion, Report
from farcast.proto.control.ranges import BPS_MAX, INTEGER_MAX
from farcast.proto.telemetry.reporter import Reporter, ReporterConfig

if TYPE_CHECKING:
    from farcast.proto._core import SnapshotDict
    from farcast.proto.agent import Agent
    from farcast.proto.control.messages import Load


@dataclass(frozen=True, slots=True)
class MembershipConfig:
    """Who the edge is (``hello``), and the only ``cluster`` to join (empty: any, until a plan names one)."""

    hello: Hello
    cluster: str = ""
    report_interval_us: int = 1_000_000
    """Until the control plane names another one."""
    report_early_us_min: int = 250_000
    """News are reported at once, but not more often than this."""


@dataclass(frozen=True, slots=True)
class SnapshotWanted:
    """A report is due: ask the datapath for its counters."""


@dataclass(frozen=True, slots=True)
class PlanTaken:
    """A plan is in force, and not on the disk yet."""

    plan: EdgePlan


@dataclass(frozen=True, slots=True)
class PlanRefused:
    """A plan was refused; ``holds`` stays."""

    version: PlanVersion
    reason: str
    holds: PlanVersion | None


@dataclass(frozen=True, slots=True)
class NodesUnusable:
    """The plan gives these edges no address that can be connected to."""

    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DrainWanted:
    """The control plane orders this edge to drain; ``None`` is for as long as the edge is configured to."""

    drain_ms: int | None


@dataclass(frozen=True, slots=True)
class ReportAcknowledged:
    """The control plane has this report."""

    sequence: int


MembershipEvent: TypeAlias = (
    SnapshotWanted | PlanTaken | PlanRefused | NodesUnusable | DrainWanted | ReportAcknowledged
)


class EdgeMembership:
    """One edge's membership. It calls ``agent``, whose commands the shell has to flush afterwards.

    The shell feeds `channel` with its connection's bytes, hands the channel's events to `handle_event`, and
    after every call sends what the channel has and takes what `poll_event` gives.
    """

    def __init__(self, config: MembershipConfig, agent: Agent) -> None:
        self.config = config
        self.channel = EdgeChannel(EdgeChannelConfig(hello=config.hello, cluster=config.cluster))
        self.reporter = Reporter(ReporterConfig(boot_id=config.hello.boot_id))
        self.usage = UsageMeter(config.hello.boot_id)
        self.store = PlanStore(config.hello.node_id, config.cluster)
        self.from_disk = False
        """Whether the plan in force is that of an earlier run."""
        self.plans_applied = 0
        self.plans_refused = 0
        self.plan_files_refused = 0
        self.last_refusal: str | None = None
        self.reports_sent = self.reports_acked = 0
        """Sequence numbers of the last ones."""
        self._agent = agent
        self._interval_us = config.report_interval_us
        self._began_us: int | None = None
        self._due_us: int | None = None
        self._asked = False
        self._offers_serial = -1
        self._rtt_us: dict[str, int] = {}
        self._unusable: tuple[str, ...] = ()
        self._events: deque[MembershipEvent] = deque()

    # ---- Getters ----------------------------------------------------------------------------------

    @property
    def plan(self) -> EdgePlan | None:
        """The plan in force."""
        return self.store.plan

    def next_url(self) -> str:
        """Where viewers go when this edge goes away: the nearest edge that they can reach; empty if none."""
        nearest = self.plan.nearest(rtt_us=self._rtt_us) if self.plan is not None else []
        return next((node.public_url for node in nearest if node.public_url), "")

    # ---- Commands ---------------------------------------------------------------------------------

    def start(self, now_us: int) -> None:
        """Begin to report."""
        if self._due_us is None:
            self._due_us = now_us

    def load_plan(self, data: bytes, now_us: int) -> EdgePlan:
        """Follow the plan of an earlier run, before anybody is served. Raises `BadPlanFile` for bytes that
        are none for this edge, and then nothing changes."""
        try:
            plan = self.store.load(data)
        except BadPlanFile:
            self.plan_files_refused += 1
            raise
        self.from_disk = True
        self.channel.set_holds(plan.version)
        self._follow(plan, now_us)
        return plan

    def report_soon(self) -> None:
        """There is something that the control plane should not wait a second for."""
        if self._due_us is not None and self._began_us is not None:
            self._due_us = min(self._due_us, self._began_us + self.config.report_early_us_min)

    def report_now(self, now_us: int) -> None:
        """Report at once, however short ago the last one was (a drain begins)."""
        self._due_us = now_us
        self.handle_timeout(now_us)

    # ---- Input ------------------------------------------------------------------------------------

    def handle_progress(self) -> None:
        """The agent had input: new namespaces are what others wait for."""
        if self._agent.offers_serial != self._offers_serial:
            self._offers_serial = self._agent.offers_serial
            self.report_soon()

    def handle_event(self, event: channel.EdgeEvent, now_us: int) -> None:
        """An event of the channel."""
        match event:
            case channel.Joined(welcome):
                self._interval_us = max(welcome.report_interval_us, self.config.report_early_us_min)
                self._resync()
                self.report_soon()
            case channel.PlanReceived(delta):
                self._consider(delta, now_us)
            case channel.ReportAcked(sequence, resync):
                self.reports_acked = sequence
                if not resync:
                    self.usage.acknowledged(sequence)
                self._events.append(ReportAcknowledged(sequence))
                if resync:
                    self._resync()
            case channel.DrainOrdered(drain_ms):
                self._events.append(DrainWanted(drain_ms))
            case _:
                pass

    def handle_snapshot(
        self,
        snapshot: SnapshotDict,
        meter: Callable[[SnapshotDict, int], Load],
        now_unix_us: int,
    ) -> Report | None:
        """The datapath's counters: report them, if the control plane is there; the report that was sent.

        ``meter`` makes the edge's load of them and of how many publish here (`edge.load.LoadMeter`);
        ``now_unix_us`` is this machine's wall clock.
        """
        self._asked = False
        agent, now_us = self._agent, snapshot["now_us"]
        agent.meter(now_us, snapshot)
        peers = agent.hop_peers()
        self._rtt_us = {
            peers[session["session"]]: session["hop"]["rtt_us"]
            for session in snapshot["sessions"]
            if session["hop"] is not None and not session["hop"]["is_silent"] and session["session"] in peers
        }
        report = self.reporter.handle_snapshot(
            snapshot,
            peers,
            meter(snapshot, agent.publishers),
            agent.offers(now_us),
            now_us,
            now_unix_us,
            demand=agent.measure_demand(now_us, snapshot),
            draining=agent.is_draining,
            usage=[_usage(used) for used in self.usage.tell(agent.quotas, self.reporter.next_sequence)],
        )
        return self._send(report, now_us)

    def handle_no_snapshot(self) -> None:
        """The datapath does not answer: no report this time."""
        self._asked = False

    def handle_timeout(self, now_us: int) -> None:
        """The time of `poll_timeout` has come; does nothing before it."""
        if self._due_us is None or now_us < self._due_us or self._asked:
            return
        self._asked = True
        self._began_us = now_us
        self._due_us = now_us + self._interval_us
        self._events.append(SnapshotWanted())

    # ---- Output -----------------------------------------------------------------------------------

    def poll_event(self) -> MembershipEvent | None:
        """What the shell has to do or may write down."""
        return self._events.popleft() if self._events else None

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is due, microseconds; ``None``: not before the next call. The channel has a
        timeout of its own."""
        return None if self._asked else self._due_us

    # ---- Below ------------------------------------------------------------------------------------

    def _send(self, report: Report, now_us: int) -> Report | None:
        if not self.channel.joined:
            return None
        if self.channel.send_report(report, now_us) is not None:
            self._resync()
            return None
        self.reports_sent = report.sequence
        return report

    def _resync(self) -> None:
        self.reporter.resync()
        self.usage.told_anew()

    def _consider(self, delta: PlanDelta, now_us: int) -> None:
        taken = self.store.consider(delta)
        if isinstance(taken, Refused):
            self.plans_refused += 1
            self.last_refusal = taken.reason
            self.channel.answer_plan(delta.version, taken.reason)
            self._events.append(PlanRefused(delta.version, taken.reason, self.store.version))
            return
        self.from_disk = False
        self._follow(taken, now_us)
        self.channel.answer_plan(delta.version, None)
        self._events.append(PlanTaken(taken))

    def _follow(self, plan: EdgePlan, now_us: int) -> None:
        self.plans_applied += 1
        self._agent.apply_plan(now_us, plan)
        unusable = self._agent.unusable_nodes
        if unusable and unusable != self._unusable:
            self._events.append(NodesUnusable(unusable))
        self._unusable = unusable


def _usage(used: Used) -> KeyUsage:
    """Kept within the ranges of the records, whatever was counted."""
    figures = {**used.totals._asdict(), **used.now._asdict(), "refused": used.refused}
    bounded = {name: min(figure, INTEGER_MAX) for name, figure in figures.items()}
    return KeyUsage(meter=used.meter, key_id=used.key_id, **{**bounded, "bps": min(used.now.bps, BPS_MAX)})
