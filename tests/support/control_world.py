"""A control plane and its edges in virtual time: real engines at both ends, bytes carried with a delay.

Links between edges are numbers in a table; each edge reports once a second what it would have measured. The
planner runs where it is due and takes ``plan_ms``. Nothing here is random.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from farcast.control_plane.controller import Controller, ControllerConfig
from farcast.control_plane.issuing import Certify
from farcast.control_plane.journal import Entry
from farcast.control_plane.store import Restored, Save
from farcast.proto.control.edge_channel import EdgeChannel, EdgeChannelConfig
from farcast.proto.control.edge_plan import EdgePlan, PlanStore
from farcast.proto.control.events import DrainOrdered, Joined, PlanReceived, Refused, ReportAcked
from farcast.proto.control.messages import (
    Epoch,
    Hello,
    KeyUsage,
    LinkReport,
    Load,
    Offer,
    PlanDelta,
    Report,
    TrackLoad,
)
from farcast.proto.telemetry.sketch import Sketch

SECOND = 1_000_000
UNIX_US = 1_790_000_000 * SECOND
PACKETS = 25
"""Of each link in a second: heartbeats."""


@dataclass(slots=True)
class Edge:
    """One edge: what it holds, what it offers, and what was done to it."""

    node_id: str
    boot_id: str = "b1"
    session: int = 0
    sequence: int = 0
    full: bool = True
    offers: dict[tuple[bytes, ...], int] = field(default_factory=dict)
    demand: dict[str, int] = field(default_factory=dict)
    viewers: int = 0
    draining: bool = False
    distrust: bool = False
    muted: bool = False
    """It sends no reports."""
    public_url: str = ""
    takes_shares: bool = False
    usage: tuple[KeyUsage, ...] = ()
    """Said in every report."""
    refuse: Callable[[PlanDelta], str | None] = lambda _: None
    plans: list[PlanDelta] = field(default_factory=list)
    drains: list[int] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    acked_at: list[int] = field(default_factory=list)
    channel: EdgeChannel = field(init=False)
    store: PlanStore = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    @property
    def region(self) -> str:
        """The first part of its name."""
        return self.node_id.partition("-")[0]

    @property
    def plan(self) -> EdgePlan:
        """In force here."""
        assert self.store.plan is not None
        return self.store.plan

    def restart(self, boot_id: str | None = None) -> None:
        """A new process; the plan is on its disk."""
        self.boot_id = boot_id or self.boot_id
        held = self.store if hasattr(self, "store") else PlanStore(self.node_id)
        self.store = held
        self.sequence = 0
        hello = Hello(
            versions=(1,),
            node_id=self.node_id,
            region=self.region,
            boot_id=self.boot_id,
            advertise="192.0.2.1:443",
            public_url=self.public_url,
            holds=held.version,
            takes_shares=self.takes_shares,
        )
        self.channel = EdgeChannel(EdgeChannelConfig(hello))


class World:
    """The whole. ``rtt_ms(a, b)`` is given once; ``cut``, ``lossy`` and ``slow`` change links."""

    def __init__(
        self,
        node_ids: Sequence[str],
        rtt_ms: Callable[[str, str], float] = lambda a, b: 100.0,
        *,
        config: ControllerConfig | None = None,
        restored: Restored | None = None,
        delay_ms: float = 50.0,
        edges: Iterable[Edge] = (),
        now_us: int = SECOND,
        clock_jump_us: int = 0,
        plan_ms: float = 0.0,
        sign: Callable[[bytes], str] | None = None,
        certify: Certify | None = None,
    ) -> None:
        self.now_us = now_us
        self.delay_us = int(delay_ms * 1_000)
        self.rtt_ms = rtt_ms
        self.cut: set[tuple[str, str]] = set()
        self.loss: dict[tuple[str, str], float] = {}
        self.saves: list[Save] = []
        self.log: list[Entry] = []
        self.errors: list[Entry] = []
        restored = restored or Restored(Epoch(cluster="shows", number=1))
        unix_us = UNIX_US + now_us + clock_jump_us
        self.controller = Controller(config or ControllerConfig(), restored, now_us, unix_us, sign, certify)
        self.edges = {edge.node_id: edge for edge in edges}
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._sessions = 0
        self.planner_down = False
        self.plan_us = int(plan_ms * 1_000)
        for k, node_id in enumerate(node_ids):
            edge = self.edges.setdefault(node_id, Edge(node_id))
            self.at(now_us + k * 7_000, lambda edge=edge: self.connect(edge))  # type: ignore[misc]
            first_us = now_us + 200_000 + k * 13_000
            self.at(first_us, lambda edge=edge: self._report(edge))  # type: ignore[misc]

    # ---- Time -------------------------------------------------------------------------------------

    def at(self, when_us: int, what: Callable[[], None]) -> None:
        """Have something done at a time."""
        self._count += 1
        heapq.heappush(self._events, (when_us, self._count, what))

    def run(self, seconds: float) -> World:
        """Let time pass."""
        end_us = self.now_us + int(seconds * SECOND)
        turns = 0
        while True:
            due_us = self.controller.poll_timeout()
            next_us = min(due_us, self._events[0][0] if self._events else end_us)
            if next_us > end_us:
                break
            turns += 1
            assert turns < 500_000, "the controller asks to be called without end"
            self.now_us = max(self.now_us, next_us)
            if self._events and self._events[0][0] <= due_us:
                heapq.heappop(self._events)[2]()
            else:
                self.controller.handle_timeout(self.now_us)
            self.flush()
        self.now_us = end_us
        return self

    def flush(self) -> None:
        """What the shell does after each turn."""
        while (save := self.controller.poll_save()) is not None:
            self.saves.append(save)
        while (sent := self.controller.poll_data()) is not None:
            session, data = sent
            edge = self._edge_of(session)
            if edge is not None:
                self.at(self.now_us + self.delay_us, lambda e=edge, d=data, s=session: self._down(e, d, s))  # type: ignore[misc]
        while (over := self.controller.poll_close()) is not None:
            edge = self._edge_of(over[0])
            if edge is not None:
                self.at(self.now_us + self.delay_us, lambda e=edge, s=over[0]: self._lost(e, s))  # type: ignore[misc]
        job = self.controller.poll_job(self.now_us)
        if job is not None:
            if self.planner_down:
                self.controller.handle_plan_failed("it is broken", self.now_us)
            elif self.plan_us:
                planned = job.run()
                self.at(
                    self.now_us + self.plan_us, lambda: self.controller.handle_planned(planned, self.now_us)
                )
            else:
                self.controller.handle_planned(job.run(), self.now_us)
            self.flush()
        while (entry := self.controller.poll_log()) is not None:
            self.log.append(entry)

    # ---- Edges ------------------------------------------------------------------------------------

    def connect(self, edge: Edge) -> None:
        """Open a control session."""
        self._sessions += 1
        edge.session, edge.full = self._sessions, True
        self.controller.handle_connected(edge.session, (edge.region, edge.node_id), self.now_us)
        edge.channel.handle_connected(self.now_us)
        self._pump(edge)

    def disconnect(self, *node_ids: str) -> None:
        """Lose control sessions."""
        for node_id in node_ids:
            edge = self.edges[node_id]
            session, edge.session = edge.session, 0
            edge.channel.handle_disconnected("cut", self.now_us)
            self.controller.handle_disconnected(session, "cut", self.now_us)
        self.flush()

    def cut_link(self, a: str, b: str) -> None:
        """Nothing passes between two edges."""
        self.cut |= {(a, b), (b, a)}

    def mend_link(self, a: str, b: str) -> None:
        """As before."""
        self.cut -= {(a, b), (b, a)}

    def isolate(self, node_id: str) -> None:
        """Nobody hears an edge, nor does it hear anybody."""
        for other in self.edges:
            if other != node_id:
                self.cut_link(node_id, other)

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Fields of all lines of one kind."""
        return [entry.fields for entry in self.log if entry.event == event]

    @property
    def counters(self) -> dict[str, int]:
        """Of the controller."""
        return dict(self.controller.journal.counters)

    def parents(self, origin: str) -> dict[str, str]:
        """Who takes what ``origin`` publishes from whom, as the edges themselves hold it."""
        found = {}
        for node_id, edge in self.edges.items():
            route = edge.store.plan.routes.get(origin) if edge.store.plan else None
            if route is not None:
                found[node_id] = route.upstreams[0]
        return found

    def report(self, edge: Edge, **fields: Any) -> Report:
        """What the edge would say now."""
        report = Report(
            boot_id=edge.boot_id,
            sequence=edge.sequence,
            sent_us=self.now_us,
            interval_us=SECOND,
            full=edge.full,
            distrust=edge.distrust,
            draining=edge.draining,
            links=tuple(self._link(edge, peer) for peer in sorted(self.edges) if peer != edge.node_id),
            load=Load(viewers=edge.viewers),
            usage=edge.usage,
            demand=tuple(TrackLoad(origin=o, tracks=1, bps=bps) for o, bps in edge.demand.items()),
            offered=tuple(
                Offer(namespace=namespace, age_us=self.now_us - since)
                for namespace, since in edge.offers.items()
            )
            if edge.full
            else (),
        )
        return Report(**{**{f: getattr(report, f) for f in report.__struct_fields__}, **fields})

    def offer(self, node_id: str, namespace: str, **more: Any) -> None:
        """A publisher announces a namespace; the edge says so at once."""
        edge = self.edges[node_id]
        fields = tuple(part.encode() for part in namespace.split("/"))
        edge.offers[fields] = self.now_us
        self.send(edge, self.report(edge, offered=(Offer(namespace=fields),), **more))

    def withdraw(self, node_id: str, namespace: str) -> None:
        """Its publisher has gone."""
        edge = self.edges[node_id]
        fields = tuple(part.encode() for part in namespace.split("/"))
        del edge.offers[fields]
        self.send(edge, self.report(edge, offered=(), withdrawn=(fields,)))

    def send(self, edge: Edge, report: Report) -> None:
        """Send a report."""
        if edge.channel.send_report(report, self.now_us) is None:
            edge.sequence += 1
            edge.full = False
        self._pump(edge)

    def _report(self, edge: Edge) -> None:
        self.at(self.now_us + SECOND, lambda: self._report(edge))
        if edge.channel.joined and not edge.muted:
            self.send(edge, self.report(edge))

    def _link(self, edge: Edge, peer: str) -> LinkReport:
        if (peer, edge.node_id) in self.cut or (edge.node_id, peer) in self.cut:
            return LinkReport(peer=peer, silent=True, rx_packets=PACKETS, rx_lost=PACKETS)
        rtt_us = int(self.rtt_ms(*sorted((edge.node_id, peer))) * 1_000)
        sketch = Sketch()
        sketch.add(rtt_us)
        return LinkReport(
            peer=peer,
            rtt_latest_us=rtt_us,
            rtt_min_us=rtt_us,
            rtt_smoothed_us=rtt_us,
            rtt_variation_us=rtt_us // 200,
            rtt_sketch=sketch.counts,
            rx_packets=PACKETS,
            rx_lost=round(PACKETS * self.loss.get((peer, edge.node_id), 0.0)),
            media=True,
        )

    # ---- Bytes ------------------------------------------------------------------------------------

    def _edge_of(self, session: int) -> Edge | None:
        return next((edge for edge in self.edges.values() if edge.session == session), None)

    def _pump(self, edge: Edge) -> None:
        session = edge.session
        while (data := edge.channel.poll_data()) is not None:
            self.at(self.now_us + self.delay_us, lambda d=data: self._up(session, d))  # type: ignore[misc]

    def _up(self, session: int, data: bytes) -> None:
        self.controller.handle_data(session, data, self.now_us)

    def _down(self, edge: Edge, data: bytes, session: int) -> None:
        if edge.session != session:
            return
        edge.channel.handle_data(data, self.now_us)
        while (event := edge.channel.poll_event()) is not None:
            match event:
                case Joined():
                    edge.full = True
                case PlanReceived(delta):
                    self._consider(edge, delta)
                case DrainOrdered(drain_ms):
                    edge.drains.append(drain_ms)
                case ReportAcked(_, resync):
                    edge.full |= resync
                    edge.acked_at.append(self.now_us)
                case Refused(reason):
                    edge.refusals.append(reason)
        self._pump(edge)

    def _consider(self, edge: Edge, delta: PlanDelta) -> None:
        edge.plans.append(delta)
        refusal = edge.refuse(delta)
        if refusal is None:
            taken = edge.store.consider(delta)
            refusal = None if isinstance(taken, EdgePlan) else taken.reason
        edge.channel.answer_plan(delta.version, refusal)
        if refusal is not None:
            edge.refusals.append(refusal)

    def _lost(self, edge: Edge, session: int) -> None:
        if edge.session == session:
            edge.session = 0
            edge.channel.handle_disconnected("closed", self.now_us)
