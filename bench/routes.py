"""Where routing pays, and where not: planned routes against direct ones and against the best possible.

    make bench-routes

Every case is a network between the 33 regions of the AWS matrix (case a: also those of Azure), each region
one edge and one origin. For each ordered pair of regions four routes are compared:

- direct: one hop from the region of the publisher to that of the viewer;
- nearest: by geography alone, as cascades do that know regions and no measurements: by the region nearest to
  the viewer's that is nearer to the publisher's than the viewer's is;
- planned: the branch of the planner's tree;
- best: the cheapest of all paths with at most two relays, each pair by itself. No tree need contain them all.

Figures of a pair are the median and the p99 delay of its frames after repair, by the closed forms of
`farcast.control_plane.frame_delay` (no simulation): 12 packets a frame, one copy per repair, 1 ms per relay.
"p50" and "p99" below are those of the frames; over pairs, the median and the worst hundredth are told.

What is measured and what synthesised is said for each case. Cases:
a  round trips alone: what a year's medians of a cloud backbone leave to be gained
b  the same with losses by direction, drawn from published statistics of the public Internet
c  a public Internet synthesised between the same cities, with those losses
d  events of fault_scenarios.csv that change a round trip of the AWS matrix: the pairs that they touch; those
   that change none are named, with the reason
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from farcast.control_plane.costs import Costs, ancestors
from farcast.control_plane.frame_delay import repair_ms
from farcast.control_plane.network import Bools, Floats, Indices, Network, Node
from farcast.control_plane.plan import DEPTH_MAX
from farcast.control_plane.planner import Demand, PlannerConfig, PlannerMemory, plan
from farcast.simulations.fault_events import EFFECTS, SYNTHESISED, WITHOUT_EFFECT, during
from farcast.simulations.matrices import (
    LOSS_BURST,
    Matrix,
    aws,
    azure,
    drawn_loss,
    public_internet,
)

SEEDS = (1, 2, 3, 4, 5)
"""Of whatever is drawn; figures are over the pairs of all of them."""

CONFIG = PlannerConfig(delay_ms_max=10_000.0, loss_max=0.9)
"""Bounds so wide that they decide nothing: all four routes are judged by delay."""

ROUTES = ("direct", "nearest", "planned", "best")


@dataclass(frozen=True, slots=True)
class Delays:
    """Of many pairs of regions, ms, by route: median and p99 of frames."""

    p50_ms: Mapping[str, Floats]
    p99_ms: Mapping[str, Floats]

    def only(self, pairs: Bools) -> Delays:
        """Some of them."""
        return Delays(
            {route: delay[pairs] for route, delay in self.p50_ms.items()},
            {route: delay[pairs] for route, delay in self.p99_ms.items()},
        )


def main() -> int:
    """Print a table per case; the last line is JSON, an object per case."""
    figures: dict[str, object] = {}
    for name, inputs, delays in cases():
        case = summary(delays) | {"inputs": inputs}
        print_case(name, inputs, case)
        figures[name] = case
    print("\nevents of fault_scenarios.csv that change no round trip of the AWS matrix:")
    for event, reason in WITHOUT_EFFECT.items():
        print(f"  {event}: {reason}")
    print(json.dumps(figures | {"d_without_effect": WITHOUT_EFFECT}))
    return 0


def cases() -> Iterator[tuple[str, str, Delays]]:
    """Name, what is measured in it, and delays."""
    yield "a_aws", "RTT measured (AWS, medians of a year); no loss", compare(aws(), None)
    yield "a_azure", "RTT measured (Azure, medians); no loss", compare(azure(), None)
    yield (
        "b_loss",
        "RTT measured (AWS); loss by direction synthesised from published statistics",
        joined([compare(aws(), seed) for seed in SEEDS]),
    )
    yield (
        "c_public",
        "RTT synthesised (public Internet, measured stretch and asymmetry); loss synthesised",
        joined([compare(public_internet(aws(), seed), seed) for seed in SEEDS]),
    )
    yield (
        "c_public_no_loss",
        "RTT synthesised (public Internet, measured stretch and asymmetry); no loss",
        joined([compare(public_internet(aws(), seed), None) for seed in SEEDS]),
    )
    for event in EFFECTS:
        matrix, touched = during(event, aws())
        rise = "detour of the event, its RTT synthesised" if event in SYNTHESISED else "rise of the event"
        inputs = f"RTT measured (AWS) with the measured {rise}; no loss; {len(touched)} pairs touched"
        yield f"d_{event}", inputs, compare(matrix, None).only(mask_of(touched, len(matrix.regions)))


# ---- Routes ---------------------------------------------------------------------------------------


def compare(matrix: Matrix, loss_seed: int | None) -> Delays:
    """Delays of all ordered pairs, row by row without the diagonal."""
    network = network_of(matrix, loss_seed)
    costs = Costs(network, CONFIG)
    count = len(network.nodes)
    src, dst = np.nonzero(~np.eye(count, dtype=np.bool_))
    above = {
        "direct": column(src),
        "nearest": nearest(matrix, src, dst),
        "planned": planned(network, src, dst),
        "best": best(costs, src, dst),
    }
    p99 = {route: costs.judge(paths, dst).delay_ms for route, paths in above.items()}
    return Delays({route: median_ms(costs, paths, dst) for route, paths in above.items()}, p99)


def network_of(matrix: Matrix, loss_seed: int | None) -> Network:
    """One edge per region, in the order of the matrix."""
    count = len(matrix.regions)
    nodes = [Node(f"{k:02}", region) for k, region in enumerate(matrix.regions)]
    loss = np.zeros((count, count)) if loss_seed is None else drawn_loss(count, loss_seed)
    return Network.build(nodes, matrix.rtt_ms, loss=loss, burst=LOSS_BURST)


def planned(network: Network, src: Indices, dst: Indices) -> Indices:
    """Branches of the first plan's trees."""
    demand = {node_id: Demand() for node_id in network.node_ids}
    made, _ = plan(network, demand, PlannerMemory(), CONFIG)
    parents = np.stack([made.trees[node_id].parents for node_id in network.node_ids])
    above: Indices = ancestors(parents, np.arange(len(parents)))[:, src, dst]
    return above


def nearest(matrix: Matrix, src: Indices, dst: Indices) -> Indices:
    """By the region nearest to the viewer's among those nearer to the publisher's than that is."""
    distance = matrix.distance_km
    above = column(src)
    for k, (a, b) in enumerate(zip(src.tolist(), dst.tolist(), strict=True)):
        nearer = np.flatnonzero(distance[a] < distance[a, b])
        nearer = nearer[(nearer != a) & (nearer != b)]
        if len(nearer):
            relay = nearer[np.argmin(distance[nearer, b])]
            if distance[relay, b] < distance[a, b]:
                above[:2, k] = relay, a
    return above


def best(costs: Costs, src: Indices, dst: Indices) -> Indices:
    """The cheapest of all paths with at most two relays, pair by pair."""
    count = len(costs.network.nodes)
    relays = [(), *((r,) for r in range(count)), *permutations(range(count), 2)]
    ways = np.full((DEPTH_MAX - 1, len(relays)), -1)
    for k, way in enumerate(relays):
        ways[: len(way), k] = way
    chosen = np.empty((DEPTH_MAX, len(src)), np.int64)
    for k, (a, b) in enumerate(zip(src.tolist(), dst.tolist(), strict=True)):
        others = ways[:, ~((ways == a) | (ways == b)).any(axis=0)]
        above = np.full((DEPTH_MAX, others.shape[1]), -1)
        above[: DEPTH_MAX - 1] = others
        above[(others >= 0).sum(axis=0), np.arange(others.shape[1])] = a
        nodes = np.full(others.shape[1], b)
        now = costs.judge(above[:, :1], nodes[:1]).cost_ms[0]
        maybe = np.flatnonzero(costs.least_ms(costs.partial(above, nodes)) <= now + 1e-6)
        above, nodes = above[:, maybe], nodes[maybe]
        chosen[:, k] = above[:, np.argmin(costs.judge(above, nodes).cost_ms)]
    return chosen


def column(src: Indices) -> Indices:
    """Direct paths."""
    above = np.full((DEPTH_MAX, len(src)), -1)
    above[0] = src
    return above


def median_ms(costs: Costs, above: Indices, nodes: Indices) -> Floats:
    """Median delay of frames along paths given from below."""
    lower = np.concatenate([nodes[None], above[:-1]])
    there = above >= 0
    at = np.where(there, above, 0), np.where(there, lower, 0)
    tails = costs.hops.tails[at] * there[..., None]
    repaired = repair_ms(costs.hops.round_ms[at] * there, tails, tail=0.5)
    base: Floats = (costs.hops.base_ms[at] * there).sum(axis=0)
    median: Floats = base + repaired + CONFIG.relay_ms * (there.sum(axis=0) - 1)
    return median


# ---- Figures --------------------------------------------------------------------------------------


def joined(delays: list[Delays]) -> Delays:
    """All pairs of several runs."""
    return Delays(
        {route: np.concatenate([d.p50_ms[route] for d in delays]) for route in ROUTES},
        {route: np.concatenate([d.p99_ms[route] for d in delays]) for route in ROUTES},
    )


def mask_of(touched: frozenset[tuple[int, int]], count: int) -> Bools:
    """Which of the ordered pairs without the diagonal."""
    touches = np.zeros((count, count), np.bool_)
    for pair in touched:
        touches[pair] = True
    return touches[~np.eye(count, dtype=np.bool_)]


def summary(delays: Delays) -> dict[str, object]:
    """``improved``: share of pairs whose frames at p99 come at least 1 ms earlier than direct;
    ``improved_10``: by a tenth and 10 ms; ``improved_20``: by a fifth; ``worse``: share of pairs that come
    later at p99; ``gain_ms_mean``: over all pairs; ``gain_ms_mean_improved``: over those improved."""
    direct, made = delays.p99_ms["direct"], delays.p99_ms["planned"]
    gain = direct - made
    over = {
        frames: {
            route: {
                "pairs_p50": rounded(np.quantile(of[route], 0.5)),
                "pairs_p99": rounded(np.quantile(of[route], 0.99)),
            }
            for route in ROUTES
        }
        for frames, of in (("frame_p50_ms", delays.p50_ms), ("frame_p99_ms", delays.p99_ms))
    }
    return {
        "pairs": len(direct),
        "improved": rounded(np.mean(gain >= 1), 4),
        "improved_10": rounded(np.mean((gain >= 10) & (gain >= 0.1 * direct)), 4),
        "improved_20": rounded(np.mean(gain >= 0.2 * direct), 4),
        "worse": rounded(np.mean(gain < -1e-6), 4),
        "gain_ms_mean": rounded(gain.mean()),
        "gain_ms_mean_improved": rounded(gain[gain >= 1].mean()) if (gain >= 1).any() else 0.0,
        **over,
        "above_best_ms_mean": rounded((made - delays.p99_ms["best"]).mean(), 3),
    }


def rounded(value: float | np.floating[Any], digits: int = 1) -> float:
    """For JSON."""
    return round(float(value), digits)


def print_case(name: str, inputs: str, figures: dict[str, object]) -> None:
    """A table."""
    print(f"\n{name}: {inputs}")
    print(
        f"  {figures['pairs']} pairs; earlier than direct at frame p99: {figures['improved']:.1%} by 1 ms,"
        f" {figures['improved_10']:.1%} by a tenth and 10 ms, {figures['improved_20']:.1%} by a fifth;"
        f" later: {figures['worse']:.1%}"
    )
    print(
        f"  mean gain {figures['gain_ms_mean']} ms over all pairs, {figures['gain_ms_mean_improved']} ms over"
        f" those earlier by 1 ms; above the best {figures['above_best_ms_mean']} ms"
    )
    head = " ".join(f"{route:>16}" for route in ROUTES)
    print(f"  {'ms':>14} {head}   (median pair / worst hundredth)")
    for frames in ("frame_p50_ms", "frame_p99_ms"):
        of = figures[frames]
        assert isinstance(of, dict)
        cells = (f"{of[route]['pairs_p50']:.1f} / {of[route]['pairs_p99']:.1f}" for route in ROUTES)
        print(f"  {frames[:-3]:>14} " + " ".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    sys.exit(main())
