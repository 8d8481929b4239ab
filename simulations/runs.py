"""One run: a scenario, a seed, a way to build the network; and what was measured of it.

This is what a process of the pool does. It takes and gives plain data.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from farcast.errors import UserError
from farcast.simulations.explain import Explainer, Explanation, Timeline
from farcast.simulations.flows.run import FlowRun
from farcast.simulations.measured import Measured
from farcast.simulations.outputs import measure
from farcast.simulations.packet_run import PacketRun
from farcast.simulations.pool import Progress
from farcast.simulations.raw import RawResult
from farcast.simulations.results import MapNode
from farcast.simulations.scenario import Scenario
from farcast.simulations.variants import ALL_VARIANTS, VariantName
from farcast.simulations.world_spec import WorldSpec
from farcast.simulations.worlds import build_world


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """``repeat`` tells apart runs of the same, which must leave the same trace."""

    scenario: Scenario
    seed: int
    variant: VariantName = "farcast"
    repeat: int = 0


@dataclass(frozen=True, slots=True)
class Ran:
    """What a run measured, how long it took, how large its world was."""

    measured: Measured
    wall_s: float
    edges: int
    viewers: int


def run_once(run: Run, progress: Progress) -> Ran:
    """Run it. `UserError` for a world that cannot be built."""
    began = time.monotonic()
    spec, raw = run_raw(run, progress)
    measured = replace(measure(raw), nodes=map_nodes(spec))
    return Ran(measured, time.monotonic() - began, len(spec.edges), len(spec.viewers))


def run_raw(run: Run, progress: Progress) -> tuple[WorldSpec, RawResult]:
    """The world and all that happened in it, unjudged."""
    spec, scenario = ALL_VARIANTS[run.variant].derive(build_world(run.scenario, run.seed), run.scenario)
    if scenario.scale == "flows":
        return spec, FlowRun(spec, scenario, run.seed).run(progress)
    return spec, PacketRun(spec, scenario, run.seed).run(progress)


def map_nodes(spec: WorldSpec) -> tuple[MapNode, ...]:
    """Edges and clients of a world, where they are."""
    edges = (
        MapNode(name=edge.node_id, kind="edge", region=edge.region, lat=edge.lat, lon=edge.lon)
        for edge in spec.edges
    )
    clients = (
        MapNode(
            name=client.name,
            kind=client.kind,
            region=client.region,
            lat=client.lat,
            lon=client.lon,
            market=client.market,
            stack=client.stack,
        )
        for client in spec.clients
    )
    return (*edges, *clients)


def timelines_once(group: int, number: int, run: Run, progress: Progress) -> list[Timeline]:
    """One picture's way to every viewer that was shown it. `UserError` as `explain_once`."""
    explainer = Explainer(_traced(run, progress))
    every = (timeline for viewer in explainer.viewers() for timeline in explainer.timelines(viewer))
    return [timeline for timeline in every if (timeline.group, timeline.object) == (group, number)]


def explain_once(run: Run, progress: Progress) -> list[Explanation]:
    """Where the time of every viewer's pictures went. Everything is traced, so this run takes more memory.

    `UserError` for a scenario of flows, which have no objects to follow.
    """
    explainer = Explainer(_traced(run, progress))
    return [each for viewer in explainer.viewers() for each in explainer.explain(viewer)]


def _traced(run: Run, progress: Progress) -> RawResult:
    if run.scenario.scale == "flows":
        raise UserError(f"{run.scenario.name}: at the level of flows nothing can be followed; try --short")
    spec = build_world(run.scenario, run.seed)
    names = (*(edge.node_id for edge in spec.edges), *(client.name for client in spec.clients))
    return PacketRun(spec, run.scenario, run.seed, traced=names).run(progress)
