"""The control plane in virtual time: the shipped `Controller`, driven as its service drives it.

After every input, in the order that the engine asks for: what must be durable is kept, bytes go out, sessions
are closed, a due run of the planner is carried out (at once; its result is handed over a modelled planning
time later), the log is read. What the service has on disk is in `KeptState` here; it survives `stop`.

Wall clock: `unix_us` at virtual time 0, plus the host's own offset, which faults may step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from farcast.control_plane.access_book import NOTHING_KEPT, KeptAccess
from farcast.control_plane.branches import Tree
from farcast.control_plane.controller import Controller, ControllerConfig
from farcast.control_plane.directory import Fields
from farcast.control_plane.edge_list import Sign
from farcast.control_plane.intents import NO_INTENTS, Intents
from farcast.control_plane.planning import PlanJob
from farcast.control_plane.store import Restored, Save
from farcast.proto.control.messages import Epoch, Hello
from farcast.simulations.control_link import ControlPipe
from farcast.simulations.twin import Twin

PLAN_US_BASE = 20_000
PLAN_US_PER_PAIR = 15
"""How long a run of the planner takes: measured on 2 shared cores, 64 ms for 64 nodes and 565 ms for 200
(`make bench-planner`), mostly by pairs of nodes."""

Note = Callable[[int, str, str], None]
"""Takes a line of a log: time, who, what."""


@dataclass(slots=True)
class KeptState:
    """What the service keeps on disk."""

    cluster: str
    epoch: int = 0
    members: tuple[Hello, ...] = ()
    intents: Intents = NO_INTENTS
    trees: dict[str, Tree] = field(default_factory=dict)
    offers: dict[tuple[Fields, str], int] = field(default_factory=dict)
    access: KeptAccess = NOTHING_KEPT

    def open_reign(self) -> Restored:
        """What is known, with an epoch above all earlier ones; as `Store.open_reign`."""
        self.epoch += 1
        return Restored(
            Epoch(cluster=self.cluster, number=self.epoch),
            members=self.members,
            intents=self.intents,
            trees=dict(self.trees),
            offers=tuple((namespace, node, since) for (namespace, node), since in self.offers.items()),
            access=self.access,
        )

    def save(self, save: Save) -> None:
        """As `Store.save`."""
        if save.members is not None:
            self.members = save.members
        self.access = save.access or self.access
        self.intents = save.intents or self.intents
        for origin, tree in save.trees.items():
            if tree is None:
                self.trees.pop(origin, None)
            else:
                self.trees[origin] = tree
        for offer in save.offers:
            key = (offer.namespace, offer.node_id)
            if offer.since_us is None:
                self.offers.pop(key, None)
            else:
                self.offers[key] = offer.since_us


class ControlHost:
    """One control plane and its sessions; see `ControlEnd` for what pipes call."""

    def __init__(
        self,
        twin: Twin,
        config: ControllerConfig,
        cluster: str,
        unix_us: int,
        note: Note,
        sign: Sign | None = None,
        region: str = "",
    ) -> None:
        self.region = region
        self.controller: Controller | None = None
        self.clock_offset_us = 0
        self._twin = twin
        self._config = config
        self._cluster = cluster
        self._unix_us = unix_us
        self._note = note
        self._sign = sign
        self._state = KeptState(cluster)
        self._pipes: dict[int, ControlPipe] = {}
        self._identities: dict[ControlPipe, tuple[str, str]] = {}
        self._next_session = 0
        self._timer_us: int | None = None
        self._reign = 0
        """Counts starts: what an earlier one had scheduled does nothing."""
        self.counters: dict[str, int] = {}
        """Of the controllers that have ended."""

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return self.controller is not None

    def register(self, pipe: ControlPipe, region: str, node_id: str) -> None:
        """Whose certificate the edge at the other end of a pipe shows."""
        self._identities[pipe] = (region, node_id)

    # ---- Faults ------------------------------------------------------------------------------------

    def start(self, now_us: int, *, lost_state: bool = False) -> None:
        """Begin, with what an earlier run has kept unless that is lost."""
        if self.controller is not None:
            return
        if lost_state:
            self._state = KeptState(self._cluster)
        self._reign += 1
        self._timer_us = None
        restored = self._state.open_reign()
        self.controller = Controller(self._config, restored, now_us, self._unix(now_us), self._sign)
        self._progress(now_us)

    def stop(self, now_us: int) -> None:
        """End without a word; edges find out by themselves."""
        controller = self.controller
        if controller is not None:
            self._count(controller)
        self.controller = None
        self._pipes.clear()
        self._reign += 1

    def drain(self, node_id: str, drain_ms: int | None, now_us: int) -> str | None:
        """As an operator orders it; ``None``, or why not."""
        if self.controller is None:
            return "the control plane is gone"
        result = self.controller.drain(node_id, drain_ms, now_us)
        self._progress(now_us)
        return result

    def undrain(self, node_id: str, now_us: int) -> str | None:
        """Take it back; ``None``, or why not."""
        if self.controller is None:
            return "the control plane is gone"
        result = self.controller.undrain(node_id, now_us)
        self._progress(now_us)
        return result

    # ---- Pipes -------------------------------------------------------------------------------------

    def knows(self, session: int) -> bool:
        """Whether this run of the control plane has the session."""
        return session in self._pipes

    def accept(self, pipe: ControlPipe, now_us: int) -> int:
        """A connection stands."""
        self._next_session += 1
        session = self._next_session
        if self.controller is not None:
            self._pipes[session] = pipe
            self.controller.handle_connected(session, self._identities[pipe], now_us)
            self._progress(now_us)
        return session

    def data(self, session: int, data: bytes, now_us: int) -> None:
        """Bytes of an edge."""
        if self.controller is not None and session in self._pipes:
            self.controller.handle_data(session, data, now_us)
            self._progress(now_us)

    def closed(self, session: int, reason: str, now_us: int) -> None:
        """An edge ended its connection."""
        if self._pipes.pop(session, None) is not None and self.controller is not None:
            self.controller.handle_disconnected(session, reason, now_us)
            self._progress(now_us)

    # ---- Driving -----------------------------------------------------------------------------------

    def _progress(self, now_us: int) -> None:
        """One turn of the service."""
        controller = self.controller
        if controller is None:
            return
        while (save := controller.poll_save()) is not None:
            self._state.save(save)
        while (sent := controller.poll_data()) is not None:
            session, data = sent
            if (pipe := self._pipes.get(session)) is not None:
                pipe.send_down(session, data, now_us)
        while (over := controller.poll_close()) is not None:
            session, reason = over
            if (pipe := self._pipes.pop(session, None)) is not None:
                pipe.close_down(session, reason or "the control plane ended it", now_us)
        job = controller.poll_job(now_us)
        if job is not None:
            self._plan(job, now_us)
        while (entry := controller.journal.poll()) is not None:
            fields = ", ".join(f"{key} {value}" for key, value in entry.fields.items())
            self._note(now_us, "control", f"{entry.event}: {fields}" if fields else entry.event)
        self._arm(controller, now_us)

    def _plan(self, job: PlanJob, now_us: int) -> None:
        reign = self._reign
        planned = job.run()

        def hand_over(at_us: int) -> None:
            if reign == self._reign and self.controller is not None:
                self.controller.handle_planned(planned, at_us)
                self._progress(at_us)

        nodes = len(job.network.node_ids)
        self._twin.at(now_us + PLAN_US_BASE + PLAN_US_PER_PAIR * nodes * nodes, hand_over, ())

    def _arm(self, controller: Controller, now_us: int) -> None:
        """Sleep until the engine wants something, but no longer than it says."""
        due_us = max(controller.poll_timeout(), now_us)
        if self._timer_us is not None and now_us < self._timer_us <= due_us:
            return
        self._timer_us = due_us
        reign = self._reign

        def tick(at_us: int) -> None:
            if reign == self._reign and self.controller is not None and self._timer_us == at_us:
                self._timer_us = None
                self.controller.handle_timeout(at_us)
                self._progress(at_us)

        self._twin.at(due_us if due_us > now_us else now_us + 1, tick, ())
        self._timer_us = due_us if due_us > now_us else now_us + 1

    def _count(self, controller: Controller) -> None:
        for name, value in controller.journal.counters.items():
            self.counters[name] = self.counters.get(name, 0) + value

    def all_counters(self) -> dict[str, int]:
        """What happened how often, over all runs."""
        counted = dict(self.counters)
        if self.controller is not None:
            for name, value in self.controller.journal.counters.items():
                counted[name] = counted.get(name, 0) + value
        return dict(sorted(counted.items()))

    def _unix(self, now_us: int) -> int:
        return self._unix_us + now_us + self.clock_offset_us
