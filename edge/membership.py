"""Trio shell of an edge's part in a network: `EdgeMembership` decides, this connects it.

It brings the engine the datapath's counters and the wall clock, its channel a connection (`ControlLink`),
its plan a file, and writes down what happened. Writing the plan holds nothing up, and of several the last one
is written. A control plane that is gone, sends nonsense, or belongs to somebody else is written down once and
otherwise ignored; a fault in here is logged, and begins again.
"""

from __future__ import annotations

import math
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
from farcast.edge.renewal import Renewable, Renewal
from farcast.proto.access.metering import SAVE_SECONDS, BadUsageFile
from farcast.proto.control.edge_plan import BadPlanFile, EdgePlan
from farcast.proto.control.events import CertificateReceived, EdgeEvent, Joined
from farcast.proto.control.messages import VERSION, Hello
from farcast.proto.membership import (
    DrainWanted,
    EdgeMembership,
    MembershipConfig,
    MembershipEvent,
    NodesUnusable,
    PlanRefused,
    PlanTaken,
    ReportAcknowledged,
    SnapshotWanted,
)

if TYPE_CHECKING:
    from pathlib import Path

    from farcast.edge.driver import Driver
    from farcast.proto._core import SnapshotDict
    from farcast.proto.agent import Agent

log: structlog.stdlib.BoundLogger = structlog.get_logger()

SAY_DRAINING_SECONDS_MAX = 0.5
"""An edge that has nothing left waits this long for the control plane to have heard of its drain."""

RESTART_SECONDS = 5.0
"""After a fault of its own, membership begins again so much later."""

USAGE_NAME = "usage"
"""Of the file beside the plan in which meters are kept."""

CLOCK_OFFSET_SECONDS_MAX = 60.0
"""Half of what a token's issuer may be ahead; more than a message takes."""

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
        self.renewal: Renewal | None = None
        self._options = options
        self._file = file
        self._oversized_files = 0
        self._usage_file = PlanFile(file.path.parent, USAGE_NAME)
        self._usage_unwritten = False
        self._plan_unwritten = False
        self._load = LoadMeter()
        self._woken = trio.Event()
        self._unwritten = trio.Event()
        self._acked_more = trio.Event()
        self.restarts = 0
        self.clock_offset_seconds: float | None = None
        """How far this machine's clock is ahead of the control plane's, when that was last joined."""
        config = MembershipConfig(_hello(options), options.tls.cluster)
        self.engine = EdgeMembership(config, node.driver.engine)
        link_options = ControlLinkOptions(options.addresses, options.tls)
        self.link = ControlLink(
            self.engine.channel, link_options, self._handle, now_us=lambda: node.driver.now_us()
        )
        node.driver.on_progress(self._look_for_news)

    # ---- Getters ----------------------------------------------------------------------------------

    @property
    def plan(self) -> EdgePlan | None:
        """The plan in force."""
        return self.engine.plan

    @property
    def plans_applied(self) -> int:
        """Plans that came into force."""
        return self.engine.plans_applied

    @property
    def plans_refused(self) -> int:
        """Plans that did not."""
        return self.engine.plans_refused

    @property
    def plan_files_refused(self) -> int:
        """Files with a plan that were damaged, too large, or of another edge, at the start."""
        return self.engine.plan_files_refused + self._oversized_files

    @property
    def plan_age_seconds(self) -> float | None:
        """How long ago the plan was issued, by this machine's wall clock; never below 0."""
        plan = self.plan
        return None if plan is None else max(0.0, time.time() - plan.issued_unix_us / 1e6)

    def next_url(self) -> str:
        """Where viewers go when this edge goes away: the nearest edge that they can reach; empty if none."""
        return self.engine.next_url()

    def status(self) -> dict[str, Any]:
        """For ``/status.json``."""
        plan, control, age = self.plan, self.link.control, self.plan_age_seconds
        return {
            "connected": self.link.joined,
            "address": self.link.address,
            "cluster": control[0] if control else self._options.tls.cluster or None,
            "name": control[1] if control else None,
            "last_failure": self.link.last_failure,
            "clock_offset_seconds": _rounded(self.clock_offset_seconds),
            "certificate_ends_unix_s": round(self.renewal.ends_unix_s) if self.renewal else None,
            "certificates_renewed": self.renewal.renewals if self.renewal else 0,
            "plan_version": str(plan.version) if plan is not None else None,
            "plan_age_seconds": round(age, 3) if age is not None else None,
            "plan_from_disk": self.engine.from_disk,
            "plans_applied": self.plans_applied,
            "plans_refused": self.plans_refused,
            "plan_files_refused": self.plan_files_refused,
            "last_refusal": self.engine.last_refusal,
            "channel": self.link.channel.counters,
            "telemetry": self.engine.reporter.counters,
        }

    def keep_renewed(self, node: Renewable, folder: Path) -> None:
        """Ask for certificates in time: those of an edge that joined by token."""
        self.renewal = Renewal(node, folder, self._ask_certificate)

    def _ask_certificate(self, request: bytes) -> str | None:
        why_not = self.engine.channel.want_certificate(request)
        self.link.wake()
        return why_not

    # ---- Life -------------------------------------------------------------------------------------

    def start_from_disk(self) -> None:
        """Follow the plan of the last run, if there is one, before anybody is served."""
        self._load_usage()
        plan = self._load_plan()
        self._take_events()
        if plan is None:
            return
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
                return self._node.driver.call(lambda _, now_us: self.engine.load_plan(data, now_us))
            log.warning("no plan yet", file=str(self._file.path), serving=without)
        except OSError as error:
            reason = error.strerror or str(error)
            log.error("plan file cannot be read", file=str(self._file.path), reason=reason, serving=without)
        except (BadPlanFile, ValueError) as error:
            self._oversized_files += not isinstance(error, BadPlanFile)
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
                self.engine.handle_no_snapshot()
                await trio.sleep(RESTART_SECONDS)

    async def _run(self) -> None:
        self.engine.start(self._node.driver.now_us())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.link.run)
            nursery.start_soon(self._report_for_ever)
            nursery.start_soon(self._write_for_ever)
            nursery.start_soon(self._keep_usage_for_ever)
            if self.renewal is not None:
                nursery.start_soon(self.renewal.run)

    async def say_draining(self) -> None:
        """Tell the control plane, if there is one, and wait a moment until it knows: so that it sends nobody
        here any more, and finds the children another parent."""
        with trio.move_on_after(SAY_DRAINING_SECONDS_MAX):
            await self._report()
            sent = self.engine.reports_sent
            while self.link.joined and self.engine.reports_acked < sent:
                self._acked_more = trio.Event()
                await self._acked_more.wait()

    # ---- The channel ------------------------------------------------------------------------------

    def _handle(self, event: EdgeEvent) -> None:
        if isinstance(event, CertificateReceived):
            if self.renewal is not None:
                self.renewal.handle(event)
            return
        if isinstance(event, Joined):
            self._compare_clocks(event.welcome.unix_us)
        self._node.driver.call(lambda _, now_us: self.engine.handle_event(event, now_us))
        self.link.wake()
        self._take_events()

    def _compare_clocks(self, theirs_unix_us: int) -> None:
        """Tokens and certificates are judged by the wall clock; one that is off turns everybody away."""
        if not theirs_unix_us:
            return
        self.clock_offset_seconds = time.time() - theirs_unix_us / 1e6
        if abs(self.clock_offset_seconds) > CLOCK_OFFSET_SECONDS_MAX:
            log.warning(
                "clock differs from the control plane's; set the one that is wrong (NTP)",
                ahead_seconds=round(self.clock_offset_seconds, 1),
                because="tokens and certificates are judged by it",
            )

    def _take_events(self) -> None:
        while (event := self.engine.poll_event()) is not None:
            self._take_event(event)

    def _take_event(self, event: MembershipEvent) -> None:
        match event:
            case PlanTaken(plan):
                self._unwritten.set()
                log.info(
                    "plan applied",
                    plan=str(plan.version),
                    nodes=len(plan.nodes),
                    namespaces=len(plan.directory),
                )
            case PlanRefused(_, reason, holds):
                log.warning(
                    "plan refused, the old one stays", reason=reason, holds=str(holds) if holds else None
                )
            case NodesUnusable(nodes):
                log.warning("plan gives edges no address IP:PORT; they are not connected", nodes=list(nodes))
            case DrainWanted(drain_ms):
                log.info("drain ordered by the control plane", drain_ms=drain_ms)
                self._node.order_drain(drain_ms)
            case ReportAcknowledged():
                self._acked_more.set()
            case _:
                pass
        self._woken.set()

    async def _write_for_ever(self) -> None:
        while True:
            await self._unwritten.wait()
            self._unwritten = trio.Event()
            data = self.engine.store.dump()
            try:
                await trio.to_thread.run_sync(self._file.write, data)
            except OSError as error:
                if not self._plan_unwritten:
                    path, reason = str(self._file.path), error.strerror
                    log.error("plan cannot be kept; a restart would follow an older one", file=path,
                              reason=reason)  # fmt: skip
                self._plan_unwritten = True
            else:
                if self._plan_unwritten:
                    log.info("plan is kept again", file=str(self._file.path))
                self._plan_unwritten = False

    def _load_usage(self) -> None:
        """What earlier processes have metered and not reported."""
        try:
            data = self._usage_file.read()
            if data is not None:
                self.engine.usage.load(data)
        except (OSError, ValueError, BadUsageFile) as error:
            reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
            log.error("metered usage is lost", file=str(self._usage_file.path), reason=reason)

    async def _keep_usage_for_ever(self) -> None:
        """Keep on disk what a later process has to report if this one dies; at its end too."""
        try:
            while True:
                await trio.sleep(SAVE_SECONDS)
                data = self.engine.usage.dump(self._node.driver.engine.quotas)
                if data is not None:
                    await trio.to_thread.run_sync(self._write_usage, data)
        finally:
            if (data := self.engine.usage.dump(self._node.driver.engine.quotas)) is not None:
                self._write_usage(data)

    def _write_usage(self, data: bytes) -> None:
        try:
            self._usage_file.write(data)
        except OSError as error:
            if not self._usage_unwritten:
                path = str(self._usage_file.path)
                log.error("metered usage cannot be kept; what is not reported may be lost", file=path,
                          reason=error.strerror)  # fmt: skip
            self._usage_unwritten = True
        else:
            self._usage_unwritten = False

    # ---- Reports ----------------------------------------------------------------------------------

    def _look_for_news(self) -> None:
        self.engine.handle_progress()
        self._woken.set()

    async def _report_for_ever(self) -> None:
        while True:
            self._woken = trio.Event()
            with trio.CancelScope(deadline=self._report_due()):
                await self._woken.wait()
            self.engine.handle_timeout(self._node.driver.now_us())
            due = False
            while (event := self.engine.poll_event()) is not None:
                due |= isinstance(event, SnapshotWanted)
                self._take_event(event)
            if due:
                await self._report()

    def _report_due(self) -> float:
        """When the engine wants to report, on trio's clock."""
        due_us = self.engine.poll_timeout()
        if due_us is None:
            return math.inf
        return trio.current_time() + (due_us - self._node.driver.now_us()) / 1e6

    async def _report(self) -> None:
        try:
            with trio.move_on_after(SNAPSHOT_SECONDS_MAX) as scope:
                self._make_report(await self._node.driver.snapshot())
        except DriverClosed:
            self.engine.handle_no_snapshot()
            return
        if scope.cancelled_caught:
            self.engine.handle_no_snapshot()
            log.warning("the datapath does not answer: no report")

    def _make_report(self, snapshot: SnapshotDict) -> None:
        self.engine.handle_snapshot(snapshot, self._load.handle_snapshot, time.time_ns() // 1_000)
        self.link.wake()


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _hello(options: MembershipOptions) -> Hello:
    return Hello(
        versions=(VERSION,),
        node_id=options.node_id,
        region=options.region,
        boot_id=secrets.token_hex(8),
        advertise=options.advertise,
        public_url=options.public_url,
        provider=options.provider,
        software=f"farcast/{__version__}",
        egress_bps_max=options.egress_bps_max,
        takes_shares=True,
    )
