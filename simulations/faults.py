"""Plays a scenario's events (`events`) on a network: finds the places they mean, does them, undoes them.

A method for each kind, in the table at the end. What changes a link is kept by `Paths` under its own key and
taken back under it, so faults may overlap in any order. A control link follows the path between its edge's
region and the control plane's: what cuts or lengthens that path does the same to it. What happens to clients
is in `client_faults`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from functools import partial
from random import Random
from typing import Any, Final

from farcast.simulations import events as e
from farcast.simulations.bad_plans import bad_plan
from farcast.simulations.client_faults import ClientFaults, at_rate
from farcast.simulations.dialects import Older
from farcast.simulations.links import BurstLoss, LinkModel
from farcast.simulations.network import LinkChangeFn, Network
from farcast.simulations.random_faults import draw_faults
from farcast.simulations.raw import Fault

CALM_LOOK_US: Final = 100_000
CALM_US: Final = 8_000_000
"""So long after the last thing that happened everybody must have come right: what is on is seen anew every
two seconds, own viewers give an edge up after less than one, hops theirs after five."""

DRAIN_END_US: Final = 1_000
"""From the end of a drain to that of the process: what it still says is on its way."""

NOT_FAULTS: Final = (e.Crowd, e.Drain, e.Upgrade, e.Mend, e.Restart, e.ControlStart)


class FaultPlayer:
    """Schedules events; ``played`` is what was done, in order of time."""

    def __init__(self, network: Network, seed: int) -> None:
        self.played: list[Fault] = []
        self._network = network
        self._seed = seed
        self._began_us = 0
        self._calm: list[int] = []
        self._stirred_us = 0
        """When the last thing that is known of is over, or began, where it has no end."""
        self._keys = 0
        self._clients = ClientFaults(network, seed)
        for edge in network.edges.values():
            edge.stopped = self._make_stopper(edge.config.node_id)

    # ---- Scheduling --------------------------------------------------------------------------------

    def schedule(self, event: e.AnyEvent, began_us: int) -> None:
        """Have it happen at its time; ``began_us`` is the scenario's 0."""
        self._began_us = began_us
        if isinstance(event, e.RandomFaults):
            for drawn in draw_faults(event, self._network.spec, self._seed):
                self.schedule(drawn, began_us)
            self._calm.append(began_us + event.at_us + event.for_us + event.calm_us)
        play = PLAYERS[type(event)]
        self._stirred_us = max(self._stirred_us, began_us + event.at_us + self._lasts_us(event))
        self._network.twin.at(began_us + event.at_us, lambda now_us: self._play(play, event, now_us))

    def prepare(self, events: Iterable[e.AnyEvent]) -> None:
        """Before anything runs: edges that are to be upgraded from the build before are of that build."""
        for event in events:
            if isinstance(event, e.Upgrade) and event.from_before:
                for node in self._nodes_of(event.nodes or ("all",)):
                    self._set_build(node, is_before=True)

    def is_calm(self, now_us: int) -> bool:
        """Whether a calm phase has just lasted long enough that everybody must have the newest group."""
        return any(calm_us <= now_us < calm_us + CALM_LOOK_US for calm_us in self._calm)

    def is_long_over(self, now_us: int) -> bool:
        """Whether everything that happens in this run did so at least `CALM_US` ago."""
        return now_us - self._stirred_us >= CALM_US

    def hampered(self) -> frozenset[str]:
        """Clients whose access is made worse by something that has no end."""
        return self._clients.hampered()

    def _lasts_us(self, event: e.AnyEvent) -> int:
        """How long an event goes on doing things; of one without an end, 0."""
        if isinstance(event, e.Upgrade):
            count = len(self._nodes_of(event.nodes or ("all",)))
            return (count - 1) * event.gap_us + event.drain_us + event.down_us
        if isinstance(event, e.Swizzle):
            return 2 * event.for_us + len(self._nodes_of(event.places)) * event.gap_us
        if isinstance(event, e.Crowd):
            return event.over_us
        return getattr(event, "for_us", None) or 0

    def _play(self, play: Any, event: e.AnyEvent, now_us: int) -> None:
        for_us = getattr(event, "for_us", None)
        until_us = None if for_us is None else now_us + for_us
        is_fault = not isinstance(event, NOT_FAULTS)
        self.played.append(Fault(now_us, until_us, e.kind_of(event), describe(event), is_fault))
        play(self, event, now_us)

    def _after(self, for_us: int | None, now_us: int, undo: Callable[[int], None]) -> None:
        """Take it back then, if ever."""
        if for_us is not None:
            self._network.twin.at(now_us + for_us, undo)

    def _new_key(self) -> int:
        self._keys += 1
        return self._keys

    # ---- Places ------------------------------------------------------------------------------------

    def _nodes(self, place: str) -> tuple[str, ...]:
        return self._network.spec.nodes_at(place)

    def _nodes_of(self, places: Iterable[str]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(node for place in places for node in self._nodes(place)))

    def _links(self, event: e.LinkEvent) -> list[tuple[str, str]]:
        """Directed pairs of node ids."""
        pairs: dict[tuple[str, str], None] = {}
        for a, b in event.links:
            for src in self._nodes(a):
                for dst in self._nodes(b):
                    if src != dst:
                        pairs[src, dst] = None
                        if not event.one_way:
                            pairs[dst, src] = None
        if event.group:
            for path in self._network.spec.paths:
                if event.group in path.groups:
                    pairs[path.src, path.dst] = None
        return list(pairs)

    def _paths(self, pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[int, int]]:
        """Host numbers of those pairs that have a path."""
        edges, paths = self._network.edges, self._network.paths
        for src, dst in pairs:
            ends = edges[src].host, edges[dst].host
            if ends in paths:
                yield ends

    def _pipes(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, bool]]:
        """Edges whose control link takes one of these ways, and whether the way up (else down) is meant."""
        control, regions = self._network.spec.control_region, self._network.spec.regions
        found: dict[tuple[str, bool], None] = {}
        for src, dst in pairs:
            if regions[dst] == control and regions[src] != control:
                found[src, True] = None
            elif regions[src] == control and regions[dst] != control:
                found[dst, False] = None
        return list(found)

    # ---- Links -------------------------------------------------------------------------------------

    def _cut_pairs(self, pairs: list[tuple[str, str]], now_us: int) -> Callable[[int], None]:
        """Cut ways between edges, and the control links over them; what takes it back."""
        key, ends, pipes = self._new_key(), list(self._paths(pairs)), self._pipes(pairs)
        for src, dst in ends:
            self._network.paths.cut(key, src, dst)
        self._cut_pipes(pipes, now_us)

        def undo(at_us: int) -> None:
            for src, dst in ends:
                self._network.paths.undo(key, src, dst)
            self._mend_pipes(pipes, at_us)

        return undo

    def _cut_pipes(self, pipes: Iterable[tuple[str, bool]], now_us: int) -> None:
        for node_id, is_up in pipes:
            pipe = self._network.edges[node_id].pipe
            if pipe is not None:
                pipe.cut(now_us, up=is_up, down=not is_up)

    def _mend_pipes(self, pipes: Iterable[tuple[str, bool]], now_us: int) -> None:
        for node_id, is_up in pipes:
            pipe = self._network.edges[node_id].pipe
            if pipe is not None:
                pipe.mend(now_us, up=is_up, down=not is_up)

    def _change_pairs(self, event: e.LinkEvent, how: LinkChangeFn, now_us: int, extra_us: int = 0) -> None:
        """Change ways, and access of clients, for as long as the event says; ``extra_us`` is what control
        links over them get."""
        if event.clients:
            up = _same if event.one_way else how
            self._clients.change(event.clients, up, how, event.for_us, now_us)
        key, pairs = self._new_key(), self._links(event)
        ends = list(self._paths(pairs))
        pipes = [self._network.edges[node].pipe for node, _ in self._pipes(pairs)] if extra_us else []
        for src, dst in ends:
            self._network.paths.change(key, src, dst, how)
        for pipe in pipes:
            if pipe is not None:
                pipe.extra_us[key] = extra_us

        def undo(at_us: int) -> None:
            for src, dst in ends:
                self._network.paths.undo(key, src, dst)
            for pipe in pipes:
                if pipe is not None:
                    pipe.extra_us.pop(key, None)

        self._after(event.for_us, now_us, undo)

    def _cut(self, event: e.Cut, now_us: int) -> None:
        if event.clients:
            self._clients.cut(event.clients, event.for_us, now_us, one_way=event.one_way)
        self._after(event.for_us, now_us, self._cut_pairs(self._links(event), now_us))

    def _mend(self, event: e.Mend, now_us: int) -> None:
        pairs = self._links(event)
        self._clients.mend(event.clients)
        for src, dst in self._paths(pairs):
            self._network.paths.mend(src, dst)
        for node_id, _ in self._pipes(pairs):
            pipe = self._network.edges[node_id].pipe
            if pipe is not None:
                pipe.extra_us.clear()
                pipe.mend_all(now_us)

    def _detour(self, event: e.Detour, now_us: int) -> None:
        extra_us = round(event.rise_ms * 500)
        self._change_pairs(event, lambda model: model.longer_by(extra_us), now_us, extra_us)

    def _clog(self, event: e.Clog, now_us: int) -> None:
        extra_us = round(event.delay_ms * 1_000)
        self._change_pairs(event, lambda model: model.longer_by(extra_us), now_us, extra_us)

    def _loss(self, event: e.LossFault, now_us: int) -> None:
        more = BurstLoss(event.loss, event.burst)
        self._change_pairs(event, lambda model: replace(model, losses=(*model.losses, more)), now_us)

    def _gray(self, event: e.Gray, now_us: int) -> None:
        self._change_pairs(
            event,
            lambda model: replace(model, large_bytes=event.large_bytes, large_loss=event.loss),
            now_us,
        )

    def _capacity(self, event: e.Capacity, now_us: int) -> None:
        self._change_pairs(event, lambda model: at_rate(model, event.rate_bps), now_us)

    def _mtu(self, event: e.MtuDrop, now_us: int) -> None:
        def smaller(model: LinkModel) -> LinkModel:
            return replace(model, mtu_bytes=min(model.mtu_bytes, event.mtu_bytes))

        self._change_pairs(event, smaller, now_us)

    def _partition(self, event: e.Partition, now_us: int) -> None:
        a, b = self._nodes_of(event.a), self._nodes_of(event.b)
        pairs = [(src, dst) for src in a for dst in b if src != dst]
        if not event.one_way:
            pairs += [(dst, src) for src, dst in pairs]
        self._after(event.for_us, now_us, self._cut_pairs(pairs, now_us))

    def _isolate(self, event: e.Isolate, now_us: int) -> None:
        undo = self._cut_off(self._nodes(event.place), now_us, one_way=event.one_way)
        self._after(event.for_us, now_us, undo)

    def _cut_off(
        self, inside: tuple[str, ...], now_us: int, *, one_way: bool = False
    ) -> Callable[[int], None]:
        """These edges from all others and from the control plane; what takes it back.

        The control plane is inside where all edges of its region are.
        """
        network = self._network
        outside = [node for node in network.edges if node not in inside]
        pairs = [(src, dst) for src in inside for dst in outside]
        if not one_way:
            pairs += [(dst, src) for src, dst in pairs]
        key, ends = self._new_key(), list(self._paths(pairs))
        home = network.spec.nodes_at(network.spec.control_region)
        lonely = [n for n in network.edges if n not in inside] if set(home) <= set(inside) else list(inside)
        goes_up = lonely == list(inside)
        pipes = [
            (node, is_up) for node in lonely for is_up in (True, False) if not one_way or is_up == goes_up
        ]
        for src, dst in ends:
            network.paths.cut(key, src, dst)
        self._cut_pipes(pipes, now_us)

        def undo(at_us: int) -> None:
            for src, dst in ends:
                network.paths.undo(key, src, dst)
            self._mend_pipes(pipes, at_us)

        return undo

    def _swizzle(self, event: e.Swizzle, now_us: int) -> None:
        nodes = self._nodes_of(event.places)
        order = Random(f"swizzle {self._seed} {event.at_us}").sample(nodes, len(nodes))
        twin = self._network.twin
        undone: dict[str, Callable[[int], None]] = {}

        def cut(node: str) -> Callable[[int], None]:
            return lambda at_us: undone.__setitem__(node, self._cut_off((node,), at_us))

        def mend(node: str) -> Callable[[int], None]:
            return lambda at_us: undone.pop(node)(at_us)

        for k, node in enumerate(nodes):
            twin.at(now_us + k * event.gap_us, cut(node))
        back_us = now_us + max(event.for_us - (len(nodes) - 1) * event.gap_us, len(nodes) * event.gap_us)
        for k, node in enumerate(order):
            twin.at(back_us + k * event.gap_us, mend(node))

    # ---- Edges -------------------------------------------------------------------------------------

    def _stop(self, node_id: str, now_us: int) -> None:
        edge = self._network.edges[node_id]
        if edge.is_running:
            edge.crash(now_us)
            self._network.twin.world.stop_host(edge.host)

    def _start(self, node_id: str, now_us: int) -> None:
        if not self._network.edges[node_id].is_running:
            self._network.restart_edge(node_id, now_us)

    def _make_stopper(self, node_id: str) -> Callable[[int], None]:
        twin = self._network.twin
        return lambda now_us: twin.at(now_us + DRAIN_END_US, lambda at_us: self._stop(node_id, at_us))

    def _crash(self, event: e.Crash, now_us: int) -> None:
        self._stop(event.node, now_us)
        self._after(event.for_us, now_us, partial(self._start, event.node))

    def _restart(self, event: e.Restart, now_us: int) -> None:
        if event.lost_disk:
            self._network.edges[event.node].plan_file = None
        self._start(event.node, now_us)

    def _pause(self, event: e.Pause, now_us: int) -> None:
        edge, until_us = self._network.edges[event.node], now_us + event.for_us
        if edge.is_running:
            if not event.agent_only:
                self._network.twin.world.pause_host(edge.host, until_us)
            edge.pause(until_us)
            self._network.twin.at(until_us, edge.resume, (edge.host,))

    def _clock_step(self, event: e.ClockStep, now_us: int) -> None:
        if event.place in ("control", "all"):
            self._network.control.clock_offset_us += event.step_us
        for node_id in self._nodes(event.place):
            self._network.edges[node_id].step_clock(event.step_us, event.drift_ppm, now_us)

    def _disk(self, event: e.DiskFault, now_us: int) -> None:
        edge = self._network.edges[event.node]
        data = edge.plan_file
        if data is None or event.what == "gone":
            edge.plan_file = None
        elif event.what == "truncated":
            edge.plan_file = data[: len(data) // 2]
        else:
            at = Random(f"disk {self._seed} {event.at_us}").randrange(len(data))
            edge.plan_file = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    def _drain(self, event: e.Drain, now_us: int) -> None:
        self._order_drain(event.node, None, now_us)
        self._after(event.for_us, now_us, partial(self._come_back, event.node))

    def _order_drain(self, node_id: str, drain_ms: int | None, now_us: int) -> None:
        """By the control plane; by a signal, where that is gone or does not know the edge."""
        edge = self._network.edges[node_id]
        why_not = self._network.control.drain(node_id, drain_ms, now_us)
        if why_not is not None or edge.pipe is None or not edge.pipe.connected:
            edge.drain(drain_ms, now_us)

    def _come_back(self, node_id: str, now_us: int) -> None:
        self._stop(node_id, now_us)
        self._network.control.undrain(node_id, now_us)
        self._start(node_id, now_us)

    def _upgrade(self, event: e.Upgrade, now_us: int) -> None:
        twin = self._network.twin
        for k, node in enumerate(self._nodes_of(event.nodes or ("all",))):
            at_us = now_us + k * event.gap_us
            stop_us = at_us + event.drain_us
            twin.at(at_us, partial(self._order_drain, node, event.drain_us // 1_000))
            twin.at(stop_us, partial(self._stop, node))
            twin.at(stop_us + event.down_us, partial(self._come_back_as, node, event.to_before))

    def _come_back_as(self, node_id: str, is_before: bool, now_us: int) -> None:
        self._stop(node_id, now_us)
        self._set_build(node_id, is_before=is_before)
        self._come_back(node_id, now_us)

    def _set_build(self, node_id: str, *, is_before: bool) -> None:
        pipe = self._network.edges[node_id].pipe
        if pipe is not None:
            pipe.older = Older() if is_before else None

    # ---- The control plane -------------------------------------------------------------------------

    def _control_stop(self, event: e.ControlStop, now_us: int) -> None:
        self._network.control.stop(now_us)
        self._after(event.for_us, now_us, self._network.control.start)

    def _control_start(self, event: e.ControlStart, now_us: int) -> None:
        self._network.control.start(now_us, lost_state=event.lost_state)

    def _bad_plan(self, event: e.BadPlan, now_us: int) -> None:
        for node_id in self._nodes_of(event.places or ("all",)):
            edge = self._network.edges[node_id]
            plan = edge.membership.plan if edge.is_running else None
            if plan is not None:
                edge.inject(bad_plan(event.what, plan), now_us)

    # ---- Clients -----------------------------------------------------------------------------------

    def _black_out(self, event: e.BlackOut, now_us: int) -> None:
        self._clients.black_out(event, now_us)

    def _rebind(self, event: e.Rebind, now_us: int) -> None:
        self._clients.rebind(event, now_us)

    def _slow(self, event: e.SlowViewer, now_us: int) -> None:
        self._clients.slow(event, now_us)

    def _hostile(self, event: e.Hostile, now_us: int) -> None:
        self._clients.hostile(event, now_us)

    def _names_gone(self, event: e.NamesGone, now_us: int) -> None:
        names = self._network.names
        names.outages += 1

        def undo(at_us: int) -> None:
            names.outages -= 1

        self._after(event.for_us, now_us, undo)

    def _nothing(self, event: e.AnyEvent, now_us: int) -> None:
        """Its effects are in the world, or were scheduled as events of their own."""


def describe(event: e.AnyEvent) -> str:
    """An event for people: its fields that are not as usual."""
    parts: list[str] = []
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name in ("at_us", "for_us") or value in ((), "", False, None):
            continue
        if isinstance(value, tuple):
            value = ", ".join("-".join(v) if isinstance(v, tuple) else str(v) for v in value)
        parts.append(f"{field.name} {value:.6g}" if isinstance(value, float) else f"{field.name} {value}")
    return "; ".join(parts) or e.kind_of(event)


def _same(model: LinkModel) -> LinkModel:
    return model


PLAYERS: Final[dict[type, Callable[..., None]]] = {
    e.Cut: FaultPlayer._cut,
    e.Mend: FaultPlayer._mend,
    e.Detour: FaultPlayer._detour,
    e.LossFault: FaultPlayer._loss,
    e.Gray: FaultPlayer._gray,
    e.Clog: FaultPlayer._clog,
    e.Capacity: FaultPlayer._capacity,
    e.MtuDrop: FaultPlayer._mtu,
    e.Partition: FaultPlayer._partition,
    e.Isolate: FaultPlayer._isolate,
    e.Swizzle: FaultPlayer._swizzle,
    e.Crash: FaultPlayer._crash,
    e.Restart: FaultPlayer._restart,
    e.Pause: FaultPlayer._pause,
    e.ClockStep: FaultPlayer._clock_step,
    e.DiskFault: FaultPlayer._disk,
    e.ControlStop: FaultPlayer._control_stop,
    e.ControlStart: FaultPlayer._control_start,
    e.BadPlan: FaultPlayer._bad_plan,
    e.Drain: FaultPlayer._drain,
    e.Upgrade: FaultPlayer._upgrade,
    e.BlackOut: FaultPlayer._black_out,
    e.Rebind: FaultPlayer._rebind,
    e.NamesGone: FaultPlayer._names_gone,
    e.Crowd: FaultPlayer._nothing,
    e.SlowViewer: FaultPlayer._slow,
    e.Hostile: FaultPlayer._hostile,
    e.RandomFaults: FaultPlayer._nothing,
}
"""The method for each kind of event."""
