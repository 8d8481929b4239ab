"""An edge in virtual time: its datapath in the kernel, and the engines that command it, as in the daemon.

    Twin ─ events, timeouts ─► Agent            Agent ─ commands ─► datapath
    ControlPipe ─ bytes ─► EdgeMembership ─► Agent.apply_plan

What the daemon's shell does is done here without I/O: reports get the datapath's counters and a wall clock
(that faults may step), the last plan lies in a file made of bytes, and a drain goes the daemon's way:
GOAWAY, a report, the end when everybody has gone or the time is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from farcast import __version__
from farcast.edge.credentials import peer_node_id
from farcast.edge.load import LoadMeter
from farcast.proto._core import Command, DatapathConfig, Event
from farcast.proto.access.gate import AccessPolicy
from farcast.proto.agent import Agent, AgentConfig, PlanHops, Upstream
from farcast.proto.agent.config import TRACKS_AHEAD
from farcast.proto.control.edge_plan import BadPlanFile
from farcast.proto.control.messages import VERSION, Hello
from farcast.proto.membership import (
    DrainWanted,
    EdgeMembership,
    MembershipConfig,
    MembershipEvent,
    NodesUnusable,
    PlanRefused,
    PlanTaken,
    SnapshotWanted,
)
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.recovery.policy import Assumptions
from farcast.proto.recovery.second_path import SecondPaths
from farcast.simulations.control_host import Note
from farcast.simulations.control_link import ControlPipe
from farcast.simulations.invariants import overflows
from farcast.simulations.raw import HopUse, RouteChange

DRAIN_MS_MAX = 10_000
"""`farcast edge --drain-ms-max`."""

SNAPSHOT_TOKEN = 1
ROUTE_CHANGES_MAX = 100_000


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """What an edge is told at each start. ``seed`` is the edge's own; ``unix_us`` the wall clock at 0;
    ``upstreams`` are those of its own configuration, for worlds without a control plane."""

    node_id: str
    region: str
    provider: str
    advertise: str
    public_url: str
    cluster: str
    egress_bps_max: int
    datapath: DatapathConfig
    plan_hops: PlanHops
    seed: int
    unix_us: int
    upstreams: tuple[Upstream, ...] = ()
    access: AccessPolicy | None = None
    recovery: Assumptions = field(default_factory=Assumptions)
    second_paths: SecondPaths = field(default_factory=SecondPaths)


class EdgeHost:
    """The engine of one edge's host. Dead from `crash` (or the end of a drain) until `boot`."""

    def __init__(self, config: EdgeConfig, note: Note) -> None:
        self.config = config
        self.host = -1
        """Its number in the twin."""
        self.pipe: ControlPipe | None = None
        self.plan_file: bytes | None = None
        self.is_running = False
        self.clock_offset_us = 0
        self.clock_ppm = 0.0
        self.route_changes: list[RouteChange] = []
        self.plans: list[tuple[int, int, int]] = []
        """When which epoch and sequence came into force, since the last boot."""
        self.hops: dict[str, HopUse] = {}
        self.changes = 0
        """Rises with everything that may have changed what the agent does."""
        self.had_routes = False
        """Whether it has followed a plan with routes, in any of its lives."""
        self.stopped: Callable[[int], None] | None = None
        """Called when a drain is over."""
        self._note = note
        self.boots = 0
        """Starts so far."""
        self._drain_until_us: int | None = None
        self._commands: deque[Command] = deque()
        self._hop_totals: dict[int, HopUse] = {}
        self._peers: dict[int, str] = {}
        self._clock_since_us = 0
        self._overflows: list[str] = []
        self._paused_until_us = 0
        self._unheard: list[tuple[Callable[..., None], tuple[object, ...]]] = []
        """What the control pipe and the datapath brought while the agent was stopped."""
        self._new_engines()

    # ---- Life --------------------------------------------------------------------------------------

    def _new_engines(self) -> None:
        config = self.config
        self.agent = Agent(
            AgentConfig(
                node_id=config.node_id,
                region=config.region,
                upstreams=config.upstreams,
                seed=config.seed + self.boots * 1_000_003,
                peer_identity=peer_node_id,
                plan_hops=config.plan_hops,
                access=config.access,
                ahead=TRACKS_AHEAD,
                recovery=config.recovery,
                second_paths=config.second_paths,
            )
        )
        self.membership = EdgeMembership(MembershipConfig(self._hello(), config.cluster), self.agent)
        self._load = LoadMeter(lambda: 0, 1)
        self._drain_until_us = None
        self._paused_until_us = 0
        self._unheard.clear()
        self._commands.clear()
        self._peers = {}
        self.plans = []

    def _hello(self) -> Hello:
        config = self.config
        return Hello(
            versions=(VERSION,),
            node_id=config.node_id,
            region=config.region,
            boot_id=f"{(config.seed * 1_000_003 + self.boots) & (1 << 64) - 1:016x}",
            advertise=config.advertise,
            public_url=config.public_url,
            provider=config.provider,
            software=f"farcast/{__version__}",
            egress_bps_max=config.egress_bps_max,
        )

    def boot(self, now_us: int) -> None:
        """Start, from the plan file if there is one. After a crash the datapath must be a new one."""
        if self.boots:
            self._new_engines()
        self.boots += 1
        self.is_running = True
        self.agent.set_wall_clock(now_us, self.unix_us(now_us))
        if self.plan_file is not None:
            try:
                plan = self.membership.load_plan(self.plan_file, now_us)
                self._note_plan(plan.version.epoch.number, plan.version.sequence, now_us)
            except BadPlanFile as error:
                self._note(now_us, self.config.node_id, f"plan file refused: {error.reason}")
        self.membership.start(now_us)
        if self.pipe is not None:
            self.pipe.start(now_us)
        self._progress(now_us)

    def crash(self, now_us: int) -> None:
        """Gone without a word."""
        self._keep_hops()
        self.is_running = False
        self._commands.clear()
        if self.pipe is not None:
            self.pipe.stop(now_us)

    def pause(self, until_us: int) -> None:
        """The process is stopped (SIGSTOP); its datapath has to be paused beside, unless it is only the agent
        that comes to nothing. Call `resume` then."""
        self._paused_until_us = until_us

    def resume(self, now_us: int) -> None:
        """It goes on: everything that waited comes at once."""
        waited, self._unheard = self._unheard, []
        for take, arguments in waited:
            take(*arguments, now_us)

    def inject(self, data: bytes, now_us: int) -> None:
        """Bytes as if the control plane had sent them; what the edge answers does not reach it."""
        if not self.is_running or not self.membership.channel.joined:
            return
        self.membership.channel.handle_data(data, now_us)
        while (said := self.membership.channel.poll_event()) is not None:
            self.membership.handle_event(said, now_us)
        while self.membership.channel.poll_data() is not None:
            pass
        self._progress(now_us)

    def drain(self, drain_ms: int | None, now_us: int) -> None:
        """As SIGTERM does it, or an operator's order."""
        if not self.is_running or self._drain_until_us is not None:
            return
        bound_ms = DRAIN_MS_MAX if drain_ms is None else drain_ms
        self._drain_until_us = now_us + bound_ms * 1_000
        self._note(now_us, self.config.node_id, f"draining for {bound_ms} ms at most")
        self.agent.drain(now_us, bound_ms, self.membership.next_url())
        self.membership.report_now(now_us)
        self._progress(now_us)

    def _end_drain(self, now_us: int) -> None:
        """Everybody has gone, or the time is over; the daemon ends."""
        self.agent.handle_timeout(now_us)
        self._drain_until_us = None
        self._note(now_us, self.config.node_id, "drained")
        if self.stopped is not None:
            self.stopped(now_us)

    # ---- Clocks ------------------------------------------------------------------------------------

    def step_clock(self, step_us: int, drift_ppm: float, now_us: int) -> None:
        """The wall clock jumps, and runs so much fast from now on."""
        self.clock_offset_us = self.unix_us(now_us) - self.config.unix_us - now_us + step_us
        self.clock_ppm, self._clock_since_us = drift_ppm, now_us
        if self.is_running:
            self.agent.set_wall_clock(now_us, self.unix_us(now_us))

    def unix_us(self, now_us: int) -> int:
        """The wall clock of this machine."""
        drift_us = round((now_us - self._clock_since_us) * self.clock_ppm / 1e6)
        return max(0, self.config.unix_us + now_us + self.clock_offset_us + drift_us)

    def track_names(self) -> dict[int, FullTrackName]:
        """The tracks that its datapath holds, by their numbers there."""
        return self.agent.track_names() if self.is_running else {}

    # ---- An engine, for the twin ---------------------------------------------------------------------

    def handle_event(self, event: Event, now_us: int) -> None:
        """Something of the datapath."""
        if not self.is_running:
            return
        if now_us < self._paused_until_us:
            self._unheard.append((self.handle_event, (event,)))
            return
        if isinstance(event, Event.Snapshot):
            self._take_snapshot(event, now_us)
        else:
            if isinstance(event, Event.UpstreamSwitched | Event.UpstreamResumed):
                self._note_route(event, now_us)
            self.agent.handle_event(event, now_us)
        self._progress(now_us)

    def handle_timeout(self, now_us: int) -> None:
        """The time of `poll_timeout` has come."""
        if not self.is_running:
            return
        if _is_due(self.agent.poll_timeout(), now_us):
            self.agent.handle_timeout(now_us)
        if _is_due(self.membership.poll_timeout(), now_us):
            self.membership.handle_timeout(now_us)
        if _is_due(self.membership.channel.poll_timeout(), now_us):
            self.membership.channel.handle_timeout(now_us)
        if _is_due(self._drain_until_us, now_us):
            self._end_drain(now_us)
        self._progress(now_us)

    def poll_command(self) -> Command | None:
        """The next command to the datapath."""
        if not self.is_running:
            return None
        command = self.agent.poll_command()
        if command is None and self._commands:
            return self._commands.popleft()
        return command

    def poll_timeout(self) -> int | None:
        """When `handle_timeout` is due."""
        if not self.is_running:
            return None
        times = (
            self.agent.poll_timeout(),
            self.membership.poll_timeout(),
            self.membership.channel.poll_timeout(),
            self._drain_until_us,
        )
        due_us = min((time for time in times if time is not None), default=None)
        return None if due_us is None else max(due_us, self._paused_until_us)

    # ---- An end of the control pipe -------------------------------------------------------------------

    def control_opened(self, now_us: int) -> None:
        """See `EdgeEnd`."""
        if now_us < self._paused_until_us:
            self._unheard.append((self.control_opened, ()))
            return
        self.membership.channel.handle_connected(now_us)
        self._progress(now_us)

    def control_data(self, data: bytes, now_us: int) -> None:
        """See `EdgeEnd`."""
        if now_us < self._paused_until_us:
            self._unheard.append((self.control_data, (data,)))
            return
        self.membership.channel.handle_data(data, now_us)
        self._progress(now_us)

    def control_closed(self, reason: str, now_us: int) -> None:
        """See `EdgeEnd`."""
        if now_us < self._paused_until_us:
            self._unheard.append((self.control_closed, (reason,)))
            return
        self.membership.channel.handle_disconnected(reason, now_us)
        self._progress(now_us)

    # ---- What the daemon's shell does -------------------------------------------------------------------

    def _progress(self, now_us: int) -> None:
        self.changes += 1
        membership, channel = self.membership, self.membership.channel
        membership.handle_progress()
        while True:
            while (said := channel.poll_event()) is not None:
                membership.handle_event(said, now_us)
            event = membership.poll_event()
            if event is None:
                break
            self._take(event, now_us)
        if self.pipe is not None and self.pipe.connected:
            while (data := channel.poll_data()) is not None:
                self.pipe.send_up(data, now_us)
            if channel.should_close:
                self.pipe.close_up("the channel has ended", now_us)
        if self._drain_until_us is not None and self.agent.is_drained:
            self._drain_until_us = now_us

    def _take(self, event: MembershipEvent, now_us: int) -> None:
        match event:
            case SnapshotWanted():
                self._commands.append(Command.Snapshot(token=SNAPSHOT_TOKEN))
            case PlanTaken(plan):
                self.plan_file = self.membership.store.dump()
                self._note_plan(plan.version.epoch.number, plan.version.sequence, now_us)
            case PlanRefused(version, reason, _):
                self._note(now_us, self.config.node_id, f"plan {version} refused: {reason}")
            case DrainWanted(drain_ms):
                self.drain(drain_ms, now_us)
            case NodesUnusable(nodes):
                self._note(now_us, self.config.node_id, f"edges without an address: {', '.join(nodes)}")
            case _:
                pass

    def _take_snapshot(self, event: Event.Snapshot, now_us: int) -> None:
        peers = self.agent.hop_peers()
        for session in event.snapshot["sessions"]:
            hop = session["hop"]
            if hop is not None and session["session"] in peers:
                self._hop_totals[session["session"]] = HopUse(
                    self.config.node_id,
                    peers[session["session"]],
                    hop["chunks_sent"],
                    hop["chunks_repaired"],
                    hop["chunks_lost"],
                    hop["chunks_given_up"],
                    hop["tx_bytes"],
                    hop["rx_bytes"],
                )
        totals = event.snapshot["totals"]
        self._overflows += overflows(
            self.config.node_id, totals["queue_bytes_peak"], totals["cache_bytes_peak"]
        )
        self.membership.handle_snapshot(event.snapshot, self._load.handle_snapshot, self.unix_us(now_us))

    # ---- What is kept of it -----------------------------------------------------------------------------

    def hop_uses(self) -> list[HopUse]:
        """The recovery layer of each hop, over all boots."""
        self._keep_hops()
        return [self.hops[peer] for peer in sorted(self.hops)]

    def take_overflows(self) -> list[str]:
        """Limits that its datapath was seen to exceed since the last call."""
        found, self._overflows = self._overflows, []
        return found

    def _keep_hops(self) -> None:
        for use in self._hop_totals.values():
            before = self.hops.get(use.peer)
            self.hops[use.peer] = use if before is None else _sum(before, use)
        self._hop_totals.clear()

    def _note_plan(self, epoch: int, sequence: int, now_us: int) -> None:
        self.plans.append((now_us, epoch, sequence))

    def _note_route(self, event: Event.UpstreamSwitched | Event.UpstreamResumed, now_us: int) -> None:
        self._peers.update(self.agent.hop_peers())
        if len(self.route_changes) >= ROUTE_CHANGES_MAX:
            return
        node, after = self.config.node_id, self._peers.get(event.session, "")
        if isinstance(event, Event.UpstreamSwitched):
            before = self._peers.get(event.from_session, "")
            self.route_changes.append(RouteChange(now_us, node, before, after, event.cause))
        elif self.route_changes and self.route_changes[-1].gap_us is None:
            last = self.route_changes[-1]
            self.route_changes[-1] = RouteChange(
                last.at_us, node, last.before, last.after, last.cause, event.gap_us
            )


def _is_due(due_us: int | None, now_us: int) -> bool:
    return due_us is not None and due_us <= now_us


def _sum(a: HopUse, b: HopUse) -> HopUse:
    return HopUse(
        a.edge,
        a.peer,
        a.chunks_sent + b.chunks_sent,
        a.chunks_repaired + b.chunks_repaired,
        a.chunks_lost + b.chunks_lost,
        a.chunks_given_up + b.chunks_given_up,
        a.tx_bytes + b.tx_bytes,
        a.rx_bytes + b.rx_bytes,
    )
