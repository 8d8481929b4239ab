"""The control plane as shipped, over a fluid network: its members, its cycle, its gate and its planner.

Not in it: sessions and bytes of the control channel (a plan is in force one control path later, an edge's
acknowledgement comes one later still), rollout state, and the store. The time that a plan takes is what was
measured of the planner (`make bench-planner`), not what it takes here, so that runs repeat.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.branches import Trees
from farcast.control_plane.directory import Directory
from farcast.control_plane.journal import Journal
from farcast.control_plane.link_state import LinkState, LinkStateConfig
from farcast.control_plane.members import Members, MembersConfig
from farcast.control_plane.network import Network
from farcast.control_plane.plan_cycle import CycleConfig, PlanCycle
from farcast.proto.control.messages import Hello, Load, Offer, Report, TrackLoad

BOOT: Final = "b1"
PLAN_US_PER_PAIR: Final = 3.0
"""Of a plan for one origin, for each pair of nodes: 1,000 nodes take 2 to 3 s, 2,000 nodes 12 s."""


class _FluidLinks(LinkState):
    """Link state whose network comes from fluid counts instead of from reports of links."""

    current: Network | None = None

    def network(self, now_us: int) -> Network:
        if self.current is None:
            raise RuntimeError("no network has been counted yet")
        return self.current


class FluidControl:
    """One control plane. Times are microseconds."""

    def __init__(
        self, hellos: Sequence[Hello], publishing: Mapping[str, Sequence[tuple[bytes, ...]]]
    ) -> None:
        self._hellos = tuple(hellos)
        nodes_max = max(len(hellos), 1_024)
        self._members = Members(MembersConfig(nodes_max=nodes_max))
        self._directory = Directory()
        self._links = _FluidLinks(LinkStateConfig(nodes_max=nodes_max))
        self.cycle = PlanCycle(CycleConfig(), self._links, {}, Journal(), 0)
        self._sequence = 0
        self._publishing = publishing
        self._pending: list[tuple[int, Trees]] = []
        self.is_gone = False
        self.runs = 0
        for number, hello in enumerate(hellos):
            self._members.join(hello, number, 0)

    @property
    def trees(self) -> Trees:
        """As decided; edges follow a control path later."""
        return self.cycle.trees

    def report(
        self,
        now_us: int,
        viewers: NDArray[np.int64],
        egress_bps: NDArray[np.float64],
        demand: Sequence[Mapping[str, int]],
    ) -> None:
        """What every edge reports at once: its load, and what it takes of each origin."""
        if self.is_gone:
            return
        self._sequence += 1
        for hello, count, bps, taken in zip(
            self._hellos, viewers.tolist(), egress_bps.tolist(), demand, strict=True
        ):
            member = self._members.get(hello.node_id)
            if member is None:
                continue
            full = self._sequence == 1
            offered = tuple(
                Offer(namespace=name, age_us=now_us) for name in self._publishing.get(hello.node_id, ())
            )
            report = Report(
                boot_id=BOOT,
                sequence=self._sequence,
                sent_us=now_us,
                interval_us=1_000_000,
                full=full,
                load=Load(egress_bps=int(bps), viewers=int(count)),
                demand=tuple(
                    TrackLoad(origin=origin, tracks=1, bps=rate) for origin, rate in sorted(taken.items())
                ),
            )
            self._members.handle_report(member, report, now_us)
            if full:
                self._directory.handle_offers(hello.node_id, offered, (), now_us, full=True)
            self.cycle.handle_report(member, self._members, now_us)

    def is_due(self, now_us: int, *, urgent: bool = False) -> bool:
        """Whether the planner would run now; ``urgent``: something happened."""
        if self.is_gone:
            return False
        if urgent:
            self.cycle.want()
        due_us = self.cycle.poll_timeout()
        return due_us is not None and due_us <= now_us

    def plan(self, network: Network, now_us: int) -> Trees | None:
        """Run the planner if it is due; the trees now in force by its word, or ``None`` if nothing is new."""
        if self.is_gone:
            return None
        self._links.current = network
        job = self.cycle.poll_job(self._members, self._directory, now_us)
        if job is None:
            return None
        planned = job.run()
        self.runs += 1
        took_us = round(PLAN_US_PER_PAIR * len(self._hellos) ** 2)
        before = self.cycle.trees
        step = self.cycle.handle_planned(planned, self._members, now_us + took_us)
        for hello in self._hellos:
            self.cycle.handle_ack(hello.node_id)
        return None if step.trees == before else step.trees

    def drain(self, node_id: str, now_us: int, *, over: bool = False) -> None:
        """Order an edge to be emptied, or take it back."""
        member = self._members.get(node_id)
        if member is not None:
            member.drain_us = None if over else now_us
            self._links.set_draining(node_id, not over)
            self.cycle.want()
