"""``python -m tests.chaos [RUNS]``: break a real network at random moments and measure what viewers notice.

A control plane and edges of six regions run as processes on loopback, the links between them shaped to their
measured round trips. A film from Jakarta is watched at four edges. Each run breaks something on the branch
that brings it to one of them: a link, one direction of it, 20 % loss in one direction, the relay's process
killed or stopped; then mends it. After that a relay and a viewer's edge are drained, twice, and all that goes
on without a control plane is tried: an edge starts again, a viewer joins it, a link is cut.

``noticed`` is from the fault until the edge writes in its log that it takes the upstream for dead, less the
delay of what was still under way: one way, or, where the way towards the upstream is cut, a round trip,
since the upstream answers all that reached it; ``resumed`` is from the fault to the first new picture at the
viewer, and ``propagation`` what of that no edge can avoid: the last packet's way to the edge that notices,
the round trip to its new upstream, and the ways from there to the viewer's edge.

A link that loses a fifth breaks nothing off: there is no moment at which it must be noticed or media resumes.
It is judged by what viewers see while it lasts: of each such run the longest gap of any viewer
(``lossy_link_gap_ms_p99``), repairs, moves and all, is to be no longer than after a link is dead.

A viewer whose branch a fault does not touch has nothing to resume. What a random loss costs him meanwhile is
told apart (``bystander_gap_ms_p99``), with the same bound.

A packet that is lost at random is repaired a round trip later, up to 236 ms here, with or without a drain. So
what is promised of drains is judged over links of the same delays and jitter that lose nothing
(``drain_gap_ms_max``), and they are drained over the lossy links as well (``lossy_drain_gap_ms_max``).
Beside each stands the longest gap that the same viewers saw in as long a time without a drain. Nothing may
be lost or doubled in either. Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import trio
from rich.console import Console
from rich.table import Table

from farcast.cli.cluster import Cluster, ClusterOptions, open_cluster
from farcast.cli.dev_world import ORIGIN, PLACES, Conditions, dev_links

from .faults import KINDS
from .judge import Drain, Judge, Outcome
from .show import Show
from .switches import SwitchLog
from .tree import Branches, fed_by, propagation, untouched

SEATS = ["fra-1", "dxb-1", "iad-1", "lon-1"]
RUNS_DEFAULT = 50
BYSTANDER = "sin-1"
"""Starts again while the control plane is gone, and gets a viewer then."""

SETTLE_SECONDS = 12.0
"""From the first picture until links are measured, routes are in force and standbys stand."""

BREAK_SECONDS = 2.5
MEND_SECONDS = 4.0
"""How long a fault lasts, and how long things may settle after it."""

CALM_SECONDS = 1.0
"""Before a fault; an edge that takes its upstream for dead in it raises a false alarm."""

RUN_SECONDS_MAX = 60.0

ON_THE_WAY_SECONDS_MAX = 0.25
"""Pictures that were on their way when something broke still arrive; a gap that begins later has another
cause (a repair, a planned move)."""


async def chaos(runs: int, seed: int, folder: Path) -> Judge:
    """All runs and drains; what they came to."""
    draw = random.Random(seed)
    judge = Judge()
    options = ClusterOptions(drain_ms_max=8_000)
    async with open_cluster(PLACES, dev_links(Conditions()), folder, options) as cluster:
        show = Show(cluster, ORIGIN)
        log, branches = SwitchLog(cluster), Branches(cluster, ORIGIN)
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda task_status: show.run(SEATS, task_status=task_status))
            await trio.sleep(SETTLE_SECONDS)
            for number in range(runs):
                with trio.fail_after(RUN_SECONDS_MAX):
                    outcome = await one_run(cluster, show, log, branches, draw, number)
                judge.add(outcome)
                print(outcome.line(number + 1, runs), file=sys.stderr, flush=True)
            judge.must_drain = True
            for conditions in (Conditions(), Conditions(loss=0.0, loss_far=0.0)):
                cluster.links.lay(dev_links(conditions))
                await trio.sleep(MEND_SECONDS)
                for drained, feeds in await branches.drainable(SEATS):
                    lossy = conditions.loss > 0
                    judge.drains.append(await drain(cluster, show, drained, feeds=feeds, lossy=lossy))
            cluster.links.lay(dev_links(Conditions()))
            judge.control_gone = await without_control(cluster, show, branches, draw)
            show.stop()
        judge.finish(show.seats)
        for loss in show.losses():
            print(loss, file=sys.stderr)
    return judge


async def one_run(
    cluster: Cluster, show: Show, log: SwitchLog, branches: Branches, draw: random.Random, number: int
) -> Outcome:
    """Break something, look, and mend it."""
    log.take()
    await trio.sleep(CALM_SECONDS + draw.random())
    quiet = log.take()
    kind = KINDS[number % len(KINDS)]
    fault = await branches.pick(kind, SEATS, draw)
    stranded = show.at_edge(fault.dead_edge) if fault.dead_edge else frozenset()
    edges = show.edges()
    alive = sorted({*edges.values()} - {fault.dead_edge})
    routes = await branches.of(alive)
    before, before_by_logs = time.monotonic(), time.time()
    fault.begin(cluster)
    await trio.sleep(BREAK_SECONDS)
    after = time.monotonic()
    moved = log.take()
    rerouted = await branches.of(alive)
    await fault.end(cluster)
    await trio.sleep(MEND_SECONDS)
    gaps = {seat.node_id: seat.longest_gap(before, after) for seat in show.seats}
    begun_by = before + ON_THE_WAY_SECONDS_MAX
    breaks = {seat.node_id: seat.longest_gap(before, after, begun_by) for seat in show.seats}
    propagation_ms = {
        seat: propagation(routes[edge], rerouted[edge], cluster.links.normal)
        for seat, edge in edges.items()
        if edge in routes and edge in rerouted
    }
    whole = untouched(fault, routes, rerouted)
    return Outcome(
        fault,
        before,
        before_by_logs,
        fed_by(fault, routes),
        gaps,
        breaks,
        stranded,
        moved,
        false_alarms=quiet,
        ways_ms=fault.ways_ms(cluster),
        propagation_ms=propagation_ms,
        bystanders=frozenset(seat for seat, edge in edges.items() if edge in whole),
    )


async def drain(cluster: Cluster, show: Show, node_id: str, *, feeds: bool, lossy: bool) -> Drain:
    """Drain an edge under load and start it again; the longest gap any viewer saw, and the longest in as
    long a time after it, before the edge is back."""
    before = time.monotonic()
    cluster.edges[node_id].signal(signal.SIGTERM)
    await cluster.edges[node_id].wait()
    await trio.sleep(1.0)
    after = time.monotonic()
    gap, seat = max((seat.longest_gap(before, after).seconds, seat.node_id) for seat in show.seats)
    await trio.sleep(after - before)
    without = max(seat.longest_gap(after, time.monotonic()).seconds for seat in show.seats)
    await cluster.start_edge(node_id)
    await trio.sleep(MEND_SECONDS)
    drained = Drain(node_id, lossy, seat, gap, without, feeds)
    print(drained.line(), file=sys.stderr, flush=True)
    return drained


async def without_control(
    cluster: Cluster, show: Show, branches: Branches, draw: random.Random
) -> dict[str, float | None]:
    """Kill the control plane; then an edge starts again, a viewer joins there, and a link is cut."""
    fault = await branches.pick("link cut", SEATS, draw)
    listen = cluster.control.ready["listen"]
    cluster.control.kill()
    await cluster.control.wait()
    cluster.edges[BYSTANDER].kill()
    await cluster.edges[BYSTANDER].wait()
    await cluster.start_edge(BYSTANDER)
    await trio.sleep(MEND_SECONDS)
    first_picture = await show.join(BYSTANDER)
    before = time.monotonic()
    fault.begin(cluster)
    await trio.sleep(BREAK_SECONDS)
    victim = next(seat for seat in show.seats if seat.node_id == fault.victim)
    gap = victim.longest_gap(before, time.monotonic(), before + ON_THE_WAY_SECONDS_MAX)
    await fault.end(cluster)
    await cluster.start_control(listen)
    await trio.sleep(MEND_SECONDS)
    return {"first_picture_ms": round(1000 * first_picture, 1), "gap_ms": round(1000 * gap.seconds, 1)}


def main() -> int:
    """Exit code 0 if nothing was lost or doubled and the time bounds were kept, else 99."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=int, nargs="?", default=RUNS_DEFAULT)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--no-time-bounds",
        action="store_true",
        help="report times and do not judge them: for a machine that does other things meanwhile",
    )
    parser.add_argument("--keep", type=Path, help="folder for certificates, state and logs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="farcast-chaos-", ignore_cleanup_errors=True) as scratch:
        folder = arguments.keep or Path(scratch)
        folder.mkdir(exist_ok=True)
        judge = trio.run(chaos, arguments.runs, arguments.seed, folder)
    table = Table(
        "fault", "runs", "noticed p50/p99 ms", "resumed p50/p99 ms", "longest gap p50/p99 ms", box=None
    )
    for row in judge.rows():
        table.add_row(*row)
    Console(stderr=True).print(table)
    for broken in judge.broken_promises():
        print(f"not kept: {broken}", file=sys.stderr)
    print(json.dumps(judge.figures(), separators=(",", ":")))
    return 0 if judge.is_whole and (arguments.no_time_bounds or judge.is_in_time) else 99


if __name__ == "__main__":
    sys.exit(main())
