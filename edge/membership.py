"""An edge's part in a network: it reports, takes plans and follows them, and goes when it is told to.

Everything here may fail without a viewer noticing. The agent follows the plan that it was given last; a plan
comes from the control plane, or at the start from the disk; a control plane that is gone, sends nonsense, or
belongs to somebody else is written down once and otherwise ignored. What is not done is as important as what
is: no plan expires, no connection to the control plane is waited for, nothing is cleared because it is late.

A plan is in force when the agent has it, and is acknowledged then; that it is on the disk too matters only
for the next start, so writing it holds nothing up, and of several the last one is written.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import structlog
import trio

from farcast import __version__
from farcast.driving import DriverClosed
from farcast.edge.control_connection import ControlTls
from farcast.edge.control_link import ControlLink, ControlLinkOptions
from farcast.edge.load import LoadMeter
from farcast.edge.plan_file import PlanFile
from farcast.proto.control.edge_channel import EdgeChannel, EdgeChannelConfig
from farcast.proto.control.edge_plan import BadPlanFile, EdgePlan, PlanStore, Refused
from farcast.proto.control.events import DrainOrdered, EdgeEvent, Joined, PlanReceived, ReportAcked
from farcast.proto.control.messages import VERSION, Hello
from farcast.proto.telemetry.reporter import Reporter, ReporterConfig

if TYPE_CHECKING:
    from farcast.edge.driver import Driver
    from farcast.proto._core import SnapshotDict
    from farcast.proto.agent import Agent
    from farcast.proto.control.messages import PlanDelta, Report

log: structlog.stdlib.BoundLogger = structlog.get_logger()

REPORT_EARLY_SECONDS_MIN = 0.25
"""News are reported at once, but not more often than this."""

SAY_DRAINING_SECONDS_MAX = 0.5
"""An edge that has nothing left waits this long for the control plane to have heard of its drain."""

RESTART_SECONDS = 5.0
"""After a fault of its own, membership begins again so much later."""

SNAPSHOT_SECONDS_MAX = 2.0
"""A datapath that has not given its counters by then is passed over in this report."""


class Node(Protocol):
    """What membership asks of the edge."""

    @property
    def driver(self) -> Driver[Agent]: ...
    def order_drain(self, drain_ms: int | None) -> bool: ...


@dataclass(frozen=True, slots=True)
class MembershipOptions:
    """Who the edge is, where its control planes are, and how it is reached (``advertise``: ``ip:port``)."""

    node_id: str
    region: str
    addresses: tuple[str, ...]
    tls: ControlTls
    advertise: str
    public_url: str = ""
    provider: str = ""
    egress_bps_max: int = 0


class Membership:
    """Runs beside the driver; `start_from_disk` before it."""

    def __init__(self, node: Node, options: MembershipOptions, file: PlanFile) -> None:
        self._node = node
        self._options = options
        self._file = file
        self._boot_id = secrets.token_hex(8)
        self._store = PlanStore(options.node_id, options.tls.cluster)
        self._reporter = Reporter(ReporterConfig(boot_id=self._boot_id))
        self._load = LoadMeter()
        self._interval_seconds = 1.0
        self._news = trio.Event()
        self._unwritten = trio.Event()
        self._sent = self._acked = 0
        self._acked_more = trio.Event()
        self._offers_serial = -1
        self._from_disk = False
        self._rtt_us: dict[str, int] = {}
        self._unusable: tuple[str, ...] = ()
        self.restarts = 0
        self.plans_applied = 0
        self.plans_refused = 0
        self.last_refusal: str | None = None
        channel = EdgeChannel(EdgeChannelConfig(hello=self._hello(), cluster=options.tls.cluster))
        link_options = ControlLinkOptions(options.addresses, options.tls)
        self.link = ControlLink(channel, link_options, self._handle, now_us=lambda: node.driver.now_us())
        node.driver.on_progress(self._look_for_news)

    def _hello(self) -> Hello:
        options = self._options
        return Hello(
            versions=(VERSION,),
            node_id=options.node_id,
            region=options.region,
            boot_id=self._boot_id,
            advertise=options.advertise,
            public_url=options.public_url,
            provider=options.provider,
            software=f"farcast/{__version__}",
            egress_bps_max=options.egress_bps_max,
        )

    # ---- Getters ----------------------------------------------------------------------------------

    @property
    def plan(self) -> EdgePlan | None:
        """The plan in force."""
        return self._store.plan

    @property
    def plan_age_seconds(self) -> float | None:
        """How long ago the plan was issued, by this machine's wall clock; never below 0."""
        plan = self.plan
        return None if plan is None else max(0.0, time.time() - plan.issued_unix_us / 1e6)

    def next_url(self) -> str:
        """Where viewers go when this edge goes away: the nearest edge that they can reach; empty if none."""
        nearest = self.plan.nearest(rtt_us=self._rtt_us) if self.plan is not None else []
        return next((node.public_url for node in nearest if node.public_url), "")

    def status(self) -> dict[str, Any]:
        """For ``/status.json``."""
        plan, control, age = self.plan, self.link.control, self.plan_age_seconds
        return {
            "connected": self.link.joined,
            "address": self.link.address,
            "cluster": control[0] if control else self._options.tls.cluster or None,
            "name": control[1] if control else None,
            "last_failure": self.link.last_failure,
            "plan_version": str(plan.version) if plan is not None else None,
            "plan_age_seconds": round(age, 3) if age is not None else None,
            "plan_from_disk": self._from_disk,
            "plans_applied": self.plans_applied,
            "plans_refused": self.plans_refused,
            "last_refusal": self.last_refusal,
            "channel": self.link.channel.counters,
            "telemetry": self._reporter.counters,
        }

    # ---- Life -------------------------------------------------------------------------------------

    def start_from_disk(self) -> None:
        """Follow the plan of the last run, if there is one, before anybody is served."""
        plan = self._load_plan()
        if plan is None:
            return
        self._from_disk = True
        self.link.channel.set_holds(plan.version)
        self._follow(plan)
        age = self.plan_age_seconds
        log.info(
            "plan taken from disk",
            plan=str(plan.version),
            age_seconds=round(age or 0.0),
            file=str(self._file.path),
        )

    def _load_plan(self) -> EdgePlan | None:
        without = "only what is published here, and configured upstreams, until the control plane sends one"
        try:
            data = self._file.read()
            if data is not None:
                return self._store.load(data)
            log.warning("no plan yet", file=str(self._file.path), serving=without)
        except OSError as error:
            reason = error.strerror or str(error)
            log.error("plan file cannot be read", file=str(self._file.path), reason=reason, serving=without)
        except (BadPlanFile, ValueError) as error:
            log.error("plan file refused", file=str(self._file.path), reason=str(error), serving=without)
        return None

    async def run(self) -> None:
        """Until cancelled. A fault in here is ours, and no reason to stop serving."""
        while True:
            try:
                await self._run()
            except Exception:
                log.exception("the part that talks to the control plane failed; it begins again")
                self.restarts += 1
                await trio.sleep(RESTART_SECONDS)

    async def _run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.link.run)
            nursery.start_soon(self._report_for_ever)
            nursery.start_soon(self._write_for_ever)

    def report_now(self) -> None:
        """There is something that the control plane should not wait a second for."""
        self._news.set()

    async def say_draining(self) -> None:
        """Tell the control plane, if there is one, and wait a moment until it knows: so that it sends nobody
        here any more, and finds the children another parent."""
        with trio.move_on_after(SAY_DRAINING_SECONDS_MAX):
            await self._report()
            sent = self._sent
            while self.link.joined and self._acked < sent:
                self._acked_more = trio.Event()
                await self._acked_more.wait()

    # ---- The channel ------------------------------------------------------------------------------

    def _handle(self, event: EdgeEvent) -> None:
        match event:
            case Joined(welcome):
                self._interval_seconds = max(welcome.report_interval_us / 1e6, REPORT_EARLY_SECONDS_MIN)
                self._reporter.resync()
                self.report_now()
            case PlanReceived(delta):
                self._consider(delta)
            case ReportAcked(sequence, resync):
                self._acked = sequence
                self._acked_more.set()
                if resync:
                    self._reporter.resync()
            case DrainOrdered(drain_ms):
                log.info("drain ordered by the control plane", drain_ms=drain_ms)
                self._node.order_drain(drain_ms)
            case _:
                pass

    def _consider(self, delta: PlanDelta) -> None:
        taken = self._store.consider(delta)
        if isinstance(taken, Refused):
            self.plans_refused += 1
            self.last_refusal = taken.reason
            held = self._store.version
            log.warning(
                "plan refused, the old one stays", reason=taken.reason, holds=str(held) if held else None
            )
            self.link.answer_plan(delta.version, taken.reason)
            return
        self._from_disk = False
        self._follow(taken)
        self.link.answer_plan(delta.version, None)
        self._unwritten.set()
        log.info(
            "plan applied", plan=str(taken.version), nodes=len(taken.nodes), namespaces=len(taken.directory)
        )

    def _follow(self, plan: EdgePlan) -> None:
        self.plans_applied += 1
        self._node.driver.call(lambda agent, now_us: agent.apply_plan(now_us, plan))
        unusable = self._node.driver.engine.unusable_nodes
        if unusable and unusable != self._unusable:
            log.warning("plan gives edges no address IP:PORT; they are not connected", nodes=list(unusable))
        self._unusable = unusable

    async def _write_for_ever(self) -> None:
        while True:
            await self._unwritten.wait()
            self._unwritten = trio.Event()
            data = self._store.dump()
            try:
                await trio.to_thread.run_sync(self._file.write, data)
            except OSError as error:
                path, reason = str(self._file.path), error.strerror
                log.error(
                    "plan cannot be kept; a restart would follow an older one", file=path, reason=reason
                )

    # ---- Reports ----------------------------------------------------------------------------------

    def _look_for_news(self) -> None:
        """New namespaces are what others wait for."""
        agent = self._node.driver.engine
        if agent.offers_serial != self._offers_serial:
            self._offers_serial = agent.offers_serial
            self._news.set()

    async def _report_for_ever(self) -> None:
        while True:
            with trio.move_on_after(self._interval_seconds):
                await self._news.wait()
            self._news = trio.Event()
            began = trio.current_time()
            await self._report()
            await trio.sleep_until(began + REPORT_EARLY_SECONDS_MIN)

    async def _report(self) -> None:
        try:
            with trio.move_on_after(SNAPSHOT_SECONDS_MAX) as scope:
                report = self._make_report(await self._node.driver.snapshot())
        except DriverClosed:
            return
        if scope.cancelled_caught:
            log.warning("the datapath does not answer: no report")
            return
        if not self.link.joined:
            return
        if self.link.send_report(report) is None:
            self._sent = report.sequence
        else:
            self._reporter.resync()

    def _make_report(self, snapshot: SnapshotDict) -> Report:
        agent = self._node.driver.engine
        now_us = snapshot["now_us"]
        peers = agent.hop_peers()
        self._rtt_us = {
            peers[session["session"]]: session["hop"]["rtt_us"]
            for session in snapshot["sessions"]
            if session["hop"] is not None and session["session"] in peers
        }
        return self._reporter.handle_snapshot(
            snapshot,
            peers,
            self._load.handle_snapshot(snapshot, agent.publishers),
            agent.offers(now_us),
            now_us,
            time.time_ns() // 1_000,
            demand=agent.measure_demand(now_us, snapshot),
            draining=agent.is_draining,
        )
