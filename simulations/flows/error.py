"""How far the flow level is from the packet level, measured where both fit: one small world, run at both.

The world is a scenario's own, thinned out to a few edges and viewers. Both levels leave the same traces,
read by the same `measure`; compared are the quantiles of what viewers see. Connecting and first pictures are
by far the harder part: the closed forms know nothing of a handshake's lost packets but their timeouts. What
was fitted was fitted to seed 1; state the error of another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from farcast.simulations.flows.run import FlowRun
from farcast.simulations.measured import Measured
from farcast.simulations.outputs import measure
from farcast.simulations.packet_run import PacketRun
from farcast.simulations.scenario import Scenario
from farcast.simulations.scenario_file import load_scenario
from farcast.simulations.worlds import build_world

SCENARIO: Final = "flash-crowd-150k"
EDGES: Final = 6
VIEWERS: Final = 100
DURATION_US: Final = 30_000_000
OUTPUTS: Final = ("object_latency", "glass_to_glass", "connect", "first_picture")
QUANTILES: Final = ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
SHARES: Final = ("stall_ratio", "missing_frames", "hd_share")


def flow_error(seed: int = 2, edges: int = EDGES, viewers: int = VIEWERS) -> dict[str, float]:
    """By ``OUTPUT_QUANTILE``: flow level over packet level, minus one; by ``OUTPUT_ks``: the largest distance
    of both distribution functions; ratios as differences in per cent points."""
    scenario = small(load_scenario(SCENARIO), edges)
    spec = build_world(scenario, seed, viewers)
    packets = measure(PacketRun(spec, scenario, seed).run())
    flows = measure(FlowRun(spec, scenario, seed, exactly=True).run())
    return compared(packets, flows)


def small(scenario: Scenario, edges: int) -> Scenario:
    """The same in little: one edge in each of the first regions that are told apart by distance, no capacity
    that matters, everybody within five seconds."""
    groups = scenario.world.edges
    step = max(len(groups) // edges, 1)
    kept = tuple(replace(group, count=1) for group in groups[::step][:edges])
    regions = {group.region for group in kept}
    control = scenario.world.control_region
    world = replace(
        scenario.world, edges=kept, control_region=control if control in regions else kept[0].region
    )
    load = replace(
        scenario.load,
        viewers=tuple(replace(group, joins_us=(0, 5_000_000)) for group in scenario.load.viewers),
    )
    return replace(scenario, world=world, load=load, events=(), duration_us=DURATION_US)


def compared(packets: Measured, flows: Measured) -> dict[str, float]:
    """As `flow_error`."""
    found: dict[str, float] = {}
    for name in OUTPUTS:
        real, modelled = packets.samples[name].values, flows.samples[name].values
        for share, label in QUANTILES:
            a, b = (float(np.quantile(values, share, method="lower")) for values in (real, modelled))
            found[f"{name}_{label}"] = round(b / a - 1, 4)
        found[f"{name}_ks"] = round(ks_distance(real, modelled), 4)
    for name in SHARES:
        if name in packets.ratios and name in flows.ratios:
            a, b = (
                100 * ratio.part.sum() / max(ratio.whole.sum(), 1e-9)
                for ratio in (packets.ratios[name], flows.ratios[name])
            )
            found[f"{name}_points"] = round(float(b - a), 4)
    return found


def ks_distance(a: Sequence[float] | np.ndarray, b: Sequence[float] | np.ndarray) -> float:
    """Kolmogorov's and Smirnov's: the largest distance of two empirical distribution functions."""
    first, second = np.sort(np.asarray(a, np.float64)), np.sort(np.asarray(b, np.float64))
    points = np.concatenate([first, second])
    below = (np.searchsorted(values, points, side="right") / len(values) for values in (first, second))
    one, other = below
    return float(np.abs(one - other).max())
