"""One run at the level of flows: time goes by in steps, short while anything happens and long while not.

At every step: events begin and end, edges notice what has failed (`routes`), viewers get in and go
(`seats`, `joining`), media load links and nodes (`fluid`), edges count what links lose and the control plane
plans (`network`, `control`). At the end the viewers with a seat are followed frame by frame over the routes
that there were (`traces`), and the result is what a run of packets leaves: `measure` reads both alike.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.branches import Trees
from farcast.control_plane.network import Network
from farcast.proto.control.messages import Hello
from farcast.simulations import events as happenings
from farcast.simulations.flows.control import BOOT, FluidControl
from farcast.simulations.flows.fluid import Fluid, below
from farcast.simulations.flows.joining import JOINS_PER_S
from farcast.simulations.flows.load import audience_of
from farcast.simulations.flows.network import FlowNetwork, LinkCounts
from farcast.simulations.flows.routes import Routes
from farcast.simulations.flows.seats import Attendance
from farcast.simulations.flows.traces import Follower, link_uses, publisher_traces
from farcast.simulations.flows.tracks import Tracks
from farcast.simulations.raw import Fault, RawResult
from farcast.simulations.scenario import Scenario
from farcast.simulations.worlds import WorldSpec

Progress = Callable[[float], None]
"""Told the share of the run that is done, 0 to 1."""

STEP_US: Final = 100_000
QUIET_STEP_US: Final = 60_000_000
AFTERMATH_US: Final = 20_000_000
"""So long after anything happened steps are short."""

PLAN_US: Final = 1_000_000
QUIET_PLAN_US: Final = 60_000_000
CROWD_PER_S: Final = 50
"""More viewers a second than this are something that happens."""

WAIT_US_NOTED: Final = 50_000
"""A line as long as this is something that happens."""

STEPS_SHARE: Final = 0.6
"""Of the progress that is told; the rest is following viewers."""


class FlowRun:
    """``exactly``: the viewers of the world and no more, as the packet level runs them. ``joins_per_s``: what
    one edge takes."""

    def __init__(
        self,
        spec: WorldSpec,
        scenario: Scenario,
        seed: int,
        *,
        joins_per_s: float = JOINS_PER_S,
        exactly: bool = False,
    ) -> None:
        self._scenario, self._seed = scenario, seed
        self.network = FlowNetwork.of(spec)
        audience = audience_of(spec, scenario, self.network, seed, exactly=exactly)
        self.attendance = Attendance(audience, len(self.network.sites), seed, joins_per_s)
        self.tracks = Tracks.of(spec, self.network, audience.windows, seed)
        self.routes = Routes(self.network, self.tracks.origins)
        capacity_bps = np.array([site.capacity_bps for site in self.network.sites], np.float64)
        self.fluid = Fluid(capacity_bps, self.network.link_bps, np.array(self.tracks.origins, np.int64))
        self._hellos = _hellos(self.network)
        self.control = FluidControl(self._hellos, self._namespaces())
        self._counts = LinkCounts(len(self.network.sites), seed)
        self._taps = np.sort(audience.crowd.tap_us)
        self._timed = _timed(scenario)
        self._plans: list[tuple[int, Trees]] = []
        self._faults: list[Fault] = []
        self._shares: list[tuple[int, NDArray[np.float64]]] = []
        self._wanted_bps = np.zeros((len(self.tracks.origins), len(self.network.sites)))
        self._offered = self._sent = np.zeros(self.network.delay_ms.shape)
        self._counted_us = 0
        self._busy_until_us, self._changed_us, self._plan_us = AFTERMATH_US, -AFTERMATH_US, 0
        self._hash = hashlib.blake2b(digest_size=16)
        self.steps = 0
        self.wait_us_max = 0
        """The longest line at an edge."""

    def run(self, progress: Progress | None = None) -> RawResult:
        """Run it."""
        began, end_us, now_us = time.perf_counter(), self._scenario.duration_us, 0
        self._first_plan()
        while now_us < end_us:
            until_us = min(self._next_step(now_us), end_us)
            self._step(now_us, until_us)
            now_us = until_us
            self.steps += 1
            if progress is not None:
                progress(STEPS_SHARE * now_us / end_us)
        return replace(self._result(progress), wall_seconds=time.perf_counter() - began)

    # ---- Time -------------------------------------------------------------------------------------

    def _next_step(self, now_us: int) -> int:
        if now_us < self._busy_until_us or self._is_crowded(now_us):
            return now_us + STEP_US
        times = [now_us + QUIET_STEP_US, self._next_crowd_us(now_us)]
        times += [at_us for at_us, *_ in self._timed[:1]]
        times += [at_us for at_us, _ in self._plans[:1]]
        if (moves_us := self.routes.next_us) is not None:
            times.append(moves_us)
        return max(min(times), now_us + STEP_US)

    def _is_crowded(self, now_us: int) -> bool:
        first, last = np.searchsorted(self._taps, (now_us, now_us + PLAN_US))
        waits_us = self.attendance.joins.lines.wait_us(now_us)
        return int(last - first) > CROWD_PER_S or bool((waits_us > WAIT_US_NOTED).any())

    def _next_crowd_us(self, now_us: int) -> int:
        """When more viewers come within a second than can be left to one long step."""
        later = self._taps[np.searchsorted(self._taps, now_us) :]
        close = np.flatnonzero(later[CROWD_PER_S:] - later[:-CROWD_PER_S] < PLAN_US)
        return int(later[close[0]]) if len(close) else now_us + QUIET_STEP_US

    def _step(self, now_us: int, until_us: int) -> None:
        self._take_events(now_us)
        while self._plans and self._plans[0][0] <= now_us:
            self.routes.follow(self._plans.pop(0)[1], now_us)
        self.routes.step(now_us, self._changed_us)
        self.attendance.step(until_us)
        self._flow(now_us, until_us)
        if until_us >= self._plan_us:
            self._plan_us = until_us + (PLAN_US if until_us < self._busy_until_us else QUIET_PLAN_US)
            self._plan(until_us)

    # ---- Media ------------------------------------------------------------------------------------

    def _flow(self, now_us: int, until_us: int) -> None:
        """Media from now on, as everybody is placed now."""
        joins, tracks, parents = self.attendance.joins, self.tracks, self.routes.parents
        who = self.attendance.watching(until_us)
        counts = tracks.watching(self.attendance.audience.crowd.kind[who], joins.edge[who])
        wanted_bps = np.zeros(self._wanted_bps.shape)
        for track, row in enumerate(tracks.row.tolist()):
            watched = below(parents[row : row + 1], (counts[track : track + 1] > 0).astype(np.float64))
            wanted_bps[row] += watched[0] * tracks.rate_bps[track]
        wanted_bps[np.arange(len(tracks.origins)), list(tracks.origins)] = 0.0
        self._wanted_bps = wanted_bps
        seconds = (until_us - now_us) / 1e6
        self.fluid.step(parents, wanted_bps, tracks.to_viewers_bps(counts), self.network.usable, seconds)
        through = np.where(wanted_bps > 0, self.fluid.fitting, 1.0) * self.fluid.node_share[None, :]
        if not self._shares or not np.array_equal(self._shares[-1][1], through):
            self._shares.append((now_us, through))
        waits_us = joins.lines.wait_us(until_us)
        self.wait_us_max = max(self.wait_us_max, int(waits_us.max(initial=0)))
        self._hash.update(np.int64(until_us).tobytes())
        self._hash.update(joins.sessions.tobytes() + self.fluid.node_bps.tobytes() + parents.tobytes())

    # ---- The control plane ------------------------------------------------------------------------

    def _namespaces(self) -> Mapping[str, list[tuple[bytes, ...]]]:
        found: dict[str, list[tuple[bytes, ...]]] = {}
        for each in self.tracks.published:
            fields = tuple(part.encode() for part in (*each.client.room.split("/"), each.client.name))
            found.setdefault(self.network.node_ids[each.origin], []).append(fields)
        return found

    def _first_plan(self) -> None:
        """The network stands before the first viewer comes: its first plan is in force everywhere."""
        self._counts.count(self.network, np.zeros(self.network.delay_ms.shape), 1.0, 60.0)
        self._report(0)
        trees = self.control.plan(self._seen(0), 0)
        if trees is not None:
            self.routes.follow(trees, 0)

    def _plan(self, now_us: int) -> None:
        if not self.control.is_due(now_us, urgent=self._changed_us > now_us - 2 * PLAN_US):
            return
        self._report(now_us)
        self._count(now_us)
        trees = self.control.plan(self._seen(now_us), now_us)
        if trees is not None:
            way_us = max(site.control.median_delay_us for site in self.network.sites)
            self._plans.append((now_us + way_us, trees))
            self._busy_until_us = max(self._busy_until_us, now_us + 5 * PLAN_US)

    def _count(self, now_us: int) -> None:
        """What links have carried and lost since the last plan."""
        account = self.fluid.account
        offered, sent = account.link_offered - self._offered, account.link_sent - self._sent
        fits = np.divide(sent, offered, out=np.ones_like(sent), where=offered > 0)
        fits[~self.network.usable] = 1.0
        self._counts.count(self.network, 8 * offered, fits, max(now_us - self._counted_us, 1) / 1e6)
        self._offered, self._sent = account.link_offered.copy(), account.link_sent.copy()
        self._counted_us = now_us

    def _report(self, now_us: int) -> None:
        ids = self.network.node_ids
        taken: list[dict[str, int]] = [{} for _ in ids]
        rows, nodes = np.nonzero(self._wanted_bps > 0)
        for row, node in zip(rows.tolist(), nodes.tolist(), strict=True):
            taken[node][ids[self.tracks.origins[row]]] = int(self._wanted_bps[row, node])
        self.control.report(now_us, self.attendance.joins.sessions, self.fluid.node_bps, taken)

    def _seen(self, now_us: int) -> Network:
        full = np.zeros(self.network.delay_ms.shape, np.bool_)
        links, bounds = self.fluid.links, self.network.link_bps.ravel()
        full.ravel()[links] = (bounds[links] > 0) & (self.fluid.links_bps >= bounds[links])
        return self._counts.network(self.network, self._hellos, self.fluid.viewers_bps, full, now_us)

    # ---- Events -----------------------------------------------------------------------------------

    def _take_events(self, now_us: int) -> None:
        while self._timed and self._timed[0][0] <= now_us:
            at_us, _, begins, event = self._timed.pop(0)
            self._busy_until_us, self._changed_us = now_us + AFTERMATH_US, at_us
            known = self._begin(event, at_us) if begins else self._end(event, at_us)
            self.network.remember(at_us)
            if begins:
                self._faults.append(_fault(event, known))

    def _begin(self, event: happenings.AnyEvent, at_us: int) -> bool:
        """Whether the event means anything at this level."""
        match event:
            case happenings.ControlStop():
                self.control.is_gone = True
            case happenings.ControlStart():
                self.control.is_gone = False
            case happenings.Drain(node=node):
                self.control.drain(node, at_us)
                self.attendance.send_away(self.network.nodes_of(node), at_us)
            case happenings.BlackOut(clients=clients, for_us=for_us):
                self.attendance.black_out(clients, at_us, at_us + for_us)
            case happenings.Crowd():
                return True
            case happenings.Crash(node=node):
                self.network.apply(event)
                self.attendance.lose_edge(self.network.nodes_of(node), at_us)
            case _:
                return self.network.apply(event)
        return True

    def _end(self, event: happenings.AnyEvent, at_us: int) -> bool:
        match event:
            case happenings.ControlStop():
                self.control.is_gone = False
            case happenings.Drain(node=node):
                self.control.drain(node, at_us, over=True)
                self.attendance.revive(self.network.nodes_of(node))
            case happenings.Crash(node=node):
                self.network.undo(event)
                self.attendance.revive(self.network.nodes_of(node))
            case _:
                self.network.undo(event)
        return True

    # ---- The result -------------------------------------------------------------------------------

    def _result(self, progress: Progress | None) -> RawResult:
        attendance = self.attendance
        audience, joins = attendance.audience, attendance.joins
        follower = Follower(self.network, self.tracks, self.routes, audience, self._shares, self._seed)
        clients, stays = publisher_traces(self.tracks, self.network), []
        for number, seat in enumerate(audience.seats):
            of_seat = attendance.stays(seat.viewer)
            stays.append((seat, of_seat))
            trace = follower.follow(seat, of_seat, bool(joins.failed[seat.viewer]))
            self._hash.update(trace.arrivals["at_us"].tobytes())
            clients.append(trace)
            if progress is not None:
                progress(STEPS_SHARE + (1 - STEPS_SHARE) * (number + 1) / len(audience.seats))
        return RawResult(
            scenario=self._scenario.name,
            seed=self._seed,
            scale="flows",
            began_us=0,
            ended_us=self._scenario.duration_us,
            tracks=self.tracks.infos,
            frames=self.tracks.frames,
            clients=tuple(clients),
            trace_hash=self._hash.hexdigest(),
            route_changes=tuple(self.routes.changes),
            faults=tuple(self._faults),
            links=link_uses(self.network, self.tracks, self.routes, stays),
            counters={
                "viewers": audience.viewers,
                "viewers_failed": int(joins.failed.sum()),
                "viewers_followed": len(audience.seats),
                "join_attempts": joins.attempts,
                "joins_refused": joins.refused,
                "join_wait_us_max": self.wait_us_max,
                "sessions_max": int(joins.sessions.max(initial=0)),
                "plans": self.control.runs,
                "steps": self.steps,
            },
        )


def _hellos(network: FlowNetwork) -> list[Hello]:
    return [
        Hello(
            versions=(1,),
            node_id=site.node_id,
            region=site.region,
            boot_id=BOOT,
            provider=site.provider,
            advertise="192.0.2.1:443",
            public_url=f"https://{site.node_id}.example/",
            egress_bps_max=site.capacity_bps,
        )
        for site in network.sites
    ]


def _timed(scenario: Scenario) -> list[tuple[int, int, bool, happenings.AnyEvent]]:
    """Beginnings and ends of events, in order."""
    timed: list[tuple[int, int, bool, happenings.AnyEvent]] = []
    for number, event in enumerate(scenario.events):
        timed.append((event.at_us, number, True, event))
        length_us = getattr(event, "for_us", None)
        if length_us is not None and not isinstance(event, happenings.BlackOut):
            timed.append((event.at_us + length_us, number, False, event))
    return sorted(timed, key=lambda item: item[:2])


def _fault(event: happenings.AnyEvent, known: bool) -> Fault:
    kind = happenings.kind_of(event)
    length_us = getattr(event, "for_us", None)
    what = getattr(event, "node", "") or getattr(event, "group", "") or getattr(event, "place", "")
    links = ", ".join(f"{a} - {b}" for a, b in getattr(event, "links", ()))
    text = " ".join(part for part in (kind, what, links, "" if known else "(not at this level)") if part)
    harmless = happenings.Crowd | happenings.Drain | happenings.ControlStart | happenings.Mend
    is_fault = known and not isinstance(event, harmless)
    return Fault(event.at_us, None if length_us is None else event.at_us + length_us, kind, text, is_fault)
