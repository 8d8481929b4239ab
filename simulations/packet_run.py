"""One run of a scenario at the level of packets: the network stands up, the show goes on, faults come, and
what happened is handed back as a `RawResult`.

    set-up                        clock of the scenario at 0                            end
    ├─ control plane, edges ─► plan in force everywhere ─► shows that are on ─┼─ load and events ─┤

Until the clock is at 0 nothing counts: edges join, measure one another, get their plan and open their hops,
and publishers that are there from the beginning have been live for `LIVE_BEFORE_US`, because nobody taps on a
show in the moment in which it begins. Events and clients have their times from then on.

An exception in an engine ends the run, not the process: it is a violation in the result, with the place where
it was raised.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.simulations.client_host import Log, PublisherHost, ViewerHost
from farcast.simulations.faults import FaultPlayer
from farcast.simulations.invariants import Invariants
from farcast.simulations.network import Network
from farcast.simulations.object_traces import ObjectTraces
from farcast.simulations.raw import (
    FRAME_DTYPE,
    Array,
    ClientTrace,
    HopUse,
    LinkUse,
    RawResult,
    RouteChange,
    TrackInfo,
)
from farcast.simulations.scenario import Scenario
from farcast.simulations.worlds import Client, WorldSpec

TICK_US: Final = 100_000
"""So often records are read, what must become true is looked at, and `progress` is called."""

SETTLE_US_MAX: Final = 30_000_000
"""A network that does not stand by then is as it is."""

SETTLE_CALM_US: Final = 2_000_000
"""From the moment when it stands, for first measurements."""

LIVE_BEFORE_US: Final = 3_000_000
BOOT_GAP_US: Final = 20_000
"""Between the starts of two edges."""

NOTES_MAX: Final = 5_000

TRACE_ALL: Final = "all"

Progress = Callable[[float], None]
"""Told which share of the run is done, 0 to 1."""


class PacketRun:
    """One run; `run` may be called once.

    ``traced``: node ids of edges, and names of clients, at which the first and last byte of each object are
    noted (`RawResult.object_hops`); `TRACE_ALL` is all of them.
    """

    def __init__(
        self, spec: WorldSpec, scenario: Scenario, seed: int, *, traced: tuple[str, ...] = ()
    ) -> None:
        self.spec = spec
        self.scenario = scenario
        self.seed = seed
        self.began_us = 0
        """The scenario's 0, on the world's clock."""
        self._traced = traced
        self._notes: list[tuple[int, str, str]] = []
        self.network = Network(spec, seed, self._note)
        self.invariants = Invariants(self.network)
        self.faults = FaultPlayer(self.network, seed)
        self.faults.prepare(scenario.events)
        self._traces = ObjectTraces(self.network.twin.world, self._track_indices())
        self.network.twin.observe(self.invariants.look)

    def _note(self, at_us: int, who: str, what: str) -> None:
        if len(self._notes) < NOTES_MAX:
            self._notes.append((at_us, who, what))

    def run(self, progress: Progress | None = None) -> RawResult:
        """Everything, from the first packet to the result."""
        started = time.perf_counter()
        try:
            self._set_up()
            self._go_on(progress or (lambda share: None))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({where.filename.rsplit('/', 1)[-1]}:{where.lineno})"
            self._note(self.network.twin.now_us(), "run", "".join(traceback.format_exception(error))[-2_000:])
            self.invariants.report(self.network.twin.now_us(), "no-exception", [text])
        return replace(self._result(), wall_seconds=time.perf_counter() - started)

    # ---- Phases ------------------------------------------------------------------------------------

    def _set_up(self) -> None:
        network = self.network
        network.control.start(0)
        for index, edge in enumerate(network.edges.values()):
            network.twin.at(index * BOOT_GAP_US, edge.boot, (edge.host,))
        while network.twin.now_us() < SETTLE_US_MAX and not self._stands():
            network.twin.run_until(network.twin.now_us() + TICK_US)
        self.began_us = network.twin.now_us() + SETTLE_CALM_US + LIVE_BEFORE_US
        end_us = network.until_us = self.began_us + self.scenario.duration_us
        for client in self.spec.clients:
            early_us = LIVE_BEFORE_US if client.kind == "publisher" and client.joins_us <= 0 else 0
            tap_us = self.began_us + max(client.joins_us, 0) - early_us
            if tap_us < end_us:
                self._schedule_client(client, tap_us, end_us)
        for event in self.scenario.events:
            self.faults.schedule(event, self.began_us)
        network.twin.run_until(self.began_us)

    def _stands(self) -> bool:
        """Whether every edge follows a plan that knows all edges, and has a hop to each of them."""
        if self.spec.routing == "origin-streams":
            return self.network.twin.now_us() >= len(self.network.edges) * BOOT_GAP_US
        others = len(self.network.edges) - 1
        for edge in self.network.edges.values():
            plan = edge.agent.plan
            if plan is None or len(plan.nodes) <= others:
                return False
            if others and (not plan.routes or len(set(edge.agent.hop_peers().values())) < others):
                return False
        return True

    def _schedule_client(self, client: Client, tap_us: int, end_us: int) -> None:
        network = self.network
        leaves_us = None if client.leaves_us is None else self.began_us + client.leaves_us

        def tap(now_us: int) -> None:
            if client.kind == "publisher":
                until_us = end_us if leaves_us is None else min(leaves_us, end_us)
                publisher = network.add_publisher(client, now_us, until_us)
                self._trace(client.name, publisher.host, publisher.engine.track_names)
                publisher.start(now_us)
                return
            viewer = network.add_viewer(client, now_us)
            self._trace(client.name, viewer.host, viewer.track_names)
            viewer.start(now_us)
            if leaves_us is not None and leaves_us < end_us:
                network.twin.at(leaves_us, viewer.leave, (viewer.host,))

        network.twin.at(tap_us, tap, ())

    def _trace(self, name: str, host: int, names: Callable[[], dict[int, FullTrackName]]) -> None:
        if name in self._traced or TRACE_ALL in self._traced:
            self._traces.start(name, host, names)

    def _track_indices(self) -> dict[FullTrackName, int]:
        network = self.network
        return {
            FullTrackName(TrackNamespace.parse(track.info.namespace), track.info.name.encode()): first + k
            for name, first in network.first_track.items()
            for k, track in enumerate(network.films[name].tracks)
        }

    def _go_on(self, progress: Progress) -> None:
        twin, duration_us = self.network.twin, self.scenario.duration_us
        for node_id, edge in self.network.edges.items():
            self._trace(node_id, edge.host, edge.track_names)
        end_us = self.began_us + duration_us
        while twin.now_us() < end_us:
            if end_us - twin.now_us() <= TICK_US and self.faults.is_long_over(end_us):  # then films end, too
                self.invariants.check_newest(twin.now_us(), self.faults.hampered())
            twin.run_until(min(twin.now_us() + TICK_US, end_us))
            self.invariants.check_records()
            self._traces.take()
            if self.faults.is_calm(twin.now_us()):
                self.invariants.check_newest(twin.now_us(), self.faults.hampered())
            progress((twin.now_us() - self.began_us) / duration_us)
        self.invariants.check_links(end_us)

    # ---- Result ------------------------------------------------------------------------------------

    def _result(self) -> RawResult:
        network = self.network
        now_us = network.twin.now_us()
        tracks, frames, began = self._films(now_us)
        return RawResult(
            scenario=self.scenario.name,
            seed=self.seed,
            scale="packets",
            began_us=self.began_us,
            ended_us=now_us,
            tracks=tracks,
            frames=frames,
            clients=tuple(self._client(client, began, now_us) for client in self.spec.clients),
            trace_hash=network.twin.world.trace_hash(),
            route_changes=self._route_changes(),
            faults=tuple(self.faults.played),
            links=tuple(self._links()),
            hops=self._hops(),
            hosts=self._traces.hosts,
            object_hops=self._traces.rows(),
            violations=tuple(self.invariants.violations),
            counters=self._counters(),
            notes=tuple(self._notes),
        )

    def _films(self, now_us: int) -> tuple[tuple[TrackInfo, ...], Array, dict[int, int]]:
        """All tracks, all frames that were published until now, and when each track began."""
        tracks: list[TrackInfo] = []
        parts: list[Array] = []
        began: dict[int, int] = {}
        for client in self.spec.publishers:
            film, first = self.network.films[client.name], self.network.first_track[client.name]
            tracks += [track.info for track in film.tracks]
            publisher = self.network.publishers.get(client.name)
            if publisher is not None and publisher.began_us is not None:
                began.update((first + k, publisher.began_us) for k in range(len(film.tracks)))
                parts.append(film.frames(publisher.began_us, min(now_us, publisher.ends_us), first))
        whole = np.concatenate(parts) if parts else np.empty(0, FRAME_DTYPE)
        return tuple(tracks), whole[np.argsort(whole["capture_us"], kind="stable")], began

    def _client(self, client: Client, began: dict[int, int], now_us: int) -> ClientTrace:
        host = self.network.client_host(client.name)
        log = host.log if host is not None else Log(self.began_us + client.joins_us)
        trace = ClientTrace(
            client=client.name,
            kind=client.kind,
            stack=client.stack,
            market=client.market or client.country,
            region=client.region,
            room=client.room,
            transport=client.transport,
            access_rtt_ms=client.access_rtt_ms,
            access_rate_bps=client.access_rate_bps,
            tapped_us=log.tapped_us,
            connected_us=log.connected_us,
            catalog_us=log.catalog_us,
            left_us=log.left_us,
            edges=tuple(log.edges),
            moves=tuple(log.moves),
            errors=tuple(log.errors),
            connections_lost=log.connections_lost,
        )
        if isinstance(host, ViewerHost):
            arrivals = host.arrivals(began)
            first_us = int(arrivals["at_us"][0]) if len(arrivals) else None
            errors = (*trace.errors, *self._ended_early(host))
            return replace(
                trace, arrivals=arrivals, first_object_us=first_us, watched=host.watched(), errors=errors
            )
        if isinstance(host, PublisherHost):
            first = self.network.first_track[client.name]
            return replace(trace, published=tuple(range(first, first + len(host.film.tracks))))
        return trace

    def _ended_early(self, viewer: ViewerHost) -> list[str]:
        """Tracks that a viewer was told are over, while they went on."""
        going_on = {
            self.network.first_track[name] + k: track.info.name
            for name, publisher in self.network.publishers.items()
            if not publisher.ended
            for k, track in enumerate(publisher.film.tracks)
        }
        return [
            f"track {going_on[track]} was said to be over, and went on"
            for track in viewer.ended
            if track in going_on
        ]

    def _route_changes(self) -> tuple[RouteChange, ...]:
        found = [change for edge in self.network.edges.values() for change in edge.route_changes]
        return tuple(sorted(found, key=lambda change: (change.at_us, change.edge)))

    def _hops(self) -> tuple[HopUse, ...]:
        return tuple(use for edge in self.network.edges.values() for use in edge.hop_uses())

    def _links(self) -> list[LinkUse]:
        network = self.network
        names = {edge.host: node_id for node_id, edge in network.edges.items()}
        rtts = {(path.src, path.dst): path.rtt_ms for path in self.spec.paths}
        uses: list[LinkUse] = []
        for src, dst in network.paths:
            stats = network.twin.world.link_stats(src, dst)
            is_hop = src in names and dst in names
            if not is_hop and not stats["packets_in"]:
                continue
            uses.append(
                LinkUse(
                    names.get(src) or network.name_of(src),
                    names.get(dst) or network.name_of(dst),
                    "hop" if is_hop else "access",
                    stats["packets_in"],
                    stats["bytes_in"],
                    stats["packets_lost"] + stats["packets_lost_large"],
                    stats["packets_dropped_queue"],
                    stats["packets_dropped_policer"],
                    stats["packets_dropped_mtu"],
                    stats["packets_dropped_down"],
                    stats["queue_bytes_peak"],
                    rtts.get((names.get(src, ""), names.get(dst, "")), 0.0),
                )
            )
        return uses

    def _counters(self) -> dict[str, int]:
        network = self.network
        counters = {f"world_{key}": int(str(value)) for key, value in network.twin.world.stats().items()}
        counters |= {f"control_{key}": n for key, n in network.control.all_counters().items()}
        counters["turns"] = network.twin.turns
        counters["checks"] = self.invariants.checks
        counters["plans_applied"] = sum(e.membership.plans_applied for e in network.edges.values())
        counters["plans_refused"] = sum(e.membership.plans_refused for e in network.edges.values())
        return counters
