"""How long a plan takes, beside shortest paths by graph libraries, and how far it is from the best.

    make bench-planner

Networks of 64 and of 200 nodes, spread over the cities of the AWS and Azure matrices, with round trips and
losses synthesised from measured distributions (`farcast.simulations.matrices`); every node is an origin,
10,000 tracks are spread over all origins, each watched at a twentieth to a half of all nodes; every node has
a capacity. Timed are the first plan and the plan of a second later with every figure a little different,
which is what runs every second; dictionaries as they are pushed to edges included.

The distance to the optimum is that of networks of 4 to 6 nodes, where an exact solver (CP-SAT over all paths)
finds it: mean over all cases of cost / optimal cost - 1.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable

import igraph
import networkx
import numpy as np
from exact_plan import exact_plan
from networks import network_of

from farcast.control_plane.costs import Costs
from farcast.control_plane.network import Floats, Network, Node
from farcast.control_plane.planner import Demand, Plan, PlannerConfig, PlannerMemory, plan
from farcast.simulations.matrices import LOSS_BURST, Matrix, aws, azure, drawn_loss, public_internet

TRACKS = 10_000
TRACK_BPS = 3_000_000
CAPACITY_BPS = 40_000_000_000
GAP_CASES = 120
CONFIG = PlannerConfig()


def main() -> int:
    """Print figures; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="of each plan; the median counts")
    runs = parser.parse_args().runs
    print("Inputs synthesised from measured distributions; one process; plans: median (least to most)")
    print(f"{'nodes':>6} {'first plan':>27} {'every second':>27} {'igraph':>12} {'networkx':>12}  overloaded")
    took_ms = {count: timed(count, runs) for count in (64, 200)}
    mean, worst, exact = gaps()
    print(
        f"cost above the optimum, one origin, no capacities, {exact} networks of 4 to 6 nodes: "
        f"mean {mean:.3%}, most {worst:.2%}"
    )
    print("the JSON line has the median of the slower kind of plan, and its least and most")
    figures = {f"plan_ms_{count}_nodes": round(statistics.median(ms), 1) for count, ms in took_ms.items()}
    spread = {
        f"plan_ms_{count}_nodes_spread": [round(min(ms), 1), round(max(ms), 1)]
        for count, ms in took_ms.items()
    }
    print(json.dumps({**figures, **spread, "gap_to_optimum": round(mean, 5)}))
    return 0


def timed(count: int, runs: int) -> list[float]:
    """Times of the kind of plan that is slower in the median, ms."""
    network, demand = world(count, seed=1), demand_of(count, seed=1)
    first_ms, again_ms = [], []
    for run in range(runs):
        started = time.perf_counter()
        made, memory = plan(network, demand, PlannerMemory(), CONFIG)
        pushed(made)
        first_ms.append(1e3 * (time.perf_counter() - started))
        later = a_second_later(network, seed=run)
        started = time.perf_counter()
        pushed(plan(later, demand, memory, CONFIG)[0])
        again_ms.append(1e3 * (time.perf_counter() - started))
    weights = Costs(network, CONFIG).search_ms
    print(
        f"{count:6} {told(first_ms):>27} {told(again_ms):>27} {least_ms(by_igraph, weights):9.1f} ms"
        f" {least_ms(by_networkx, weights, runs=1):9.1f} ms  {len(made.overloaded)}",
        flush=True,
    )
    return max(first_ms, again_ms, key=statistics.median)


def told(times_ms: list[float]) -> str:
    """Median and spread."""
    return f"{statistics.median(times_ms):.1f} ({min(times_ms):.1f} to {max(times_ms):.1f}) ms"


def pushed(made: Plan) -> int:
    """What a controller reads of a plan."""
    return sum(len(tree.parent) + len(tree.backups) for tree in made.trees.values())


# ---- Networks -------------------------------------------------------------------------------------


def world(count: int, seed: int) -> Network:
    """``count`` nodes in the cities of both clouds, several in a city where there are more."""
    cities = public_internet(both_clouds(), seed)
    draw = np.random.default_rng(seed)
    at = np.resize(draw.permutation(len(cities.regions)), count)
    rtt_ms = cities.rtt_ms[np.ix_(at, at)] + 1.0
    nodes = [
        Node(f"n{k:03}", f"city-{city}", f"provider-{k % 4}", capacity_bps=CAPACITY_BPS)
        for k, city in enumerate(at.tolist())
    ]
    return Network.build(
        nodes, rtt_ms, loss=drawn_loss(count, seed), burst=LOSS_BURST, rtt_p99_ms=1.1 * rtt_ms
    )


def both_clouds() -> Matrix:
    """Cities of both; only their places matter, and between clouds no round trip was measured."""
    one, other = aws(), azure()
    latitude = np.concatenate([one.latitude, other.latitude])
    longitude = np.concatenate([one.longitude, other.longitude])
    size = len(latitude)
    cities = Matrix(
        "",
        (*one.regions, *other.regions),
        np.zeros((size, size)),
        np.zeros((size, size)),
        latitude,
        longitude,
    )
    return dataclasses.replace(cities, rtt_ms=cities.distance_km / 100)


def demand_of(count: int, seed: int) -> dict[str, Demand]:
    """10,000 tracks spread over all origins."""
    draw = np.random.default_rng(seed)
    names = tuple(f"n{k:03}" for k in range(count))
    demand = {}
    for k, name in enumerate(names):
        tracks = TRACKS // count + (k < TRACKS % count)
        popular = draw.choice([0.05, 0.1, 0.5], (tracks, 1), p=[0.6, 0.3, 0.1])
        demand[name] = Demand(
            names, np.full(tracks, float(TRACK_BPS)), draw.random((tracks, count)) < popular
        )
    return demand


def a_second_later(network: Network, seed: int) -> Network:
    """Every round trip and loss a little different."""
    draw = np.random.default_rng(seed)
    shape = network.rtt_ms.shape
    rtt_ms = network.rtt_ms * draw.uniform(0.98, 1.02, shape)
    loss = network.loss_high * draw.uniform(0.9, 1.1, shape)
    return dataclasses.replace(
        network,
        now_us=network.now_us + 1_000_000,
        rtt_ms=rtt_ms,
        rtt_p99_ms=1.1 * rtt_ms,
        loss=loss,
        loss_high=loss,
        loss_low=0.8 * loss,
    )


# ---- Others on the same input ---------------------------------------------------------------------


def by_igraph(weights: Floats) -> None:
    """Shortest paths from every node to every other, one by one origin."""
    count = len(weights)
    src, dst = np.nonzero(np.isfinite(weights))
    graph = igraph.Graph(n=count, edges=list(zip(src.tolist(), dst.tolist(), strict=True)), directed=True)
    costs = weights[src, dst].tolist()
    for origin in range(count):
        graph.get_shortest_paths(origin, weights=costs, output="vpath")


def by_networkx(weights: Floats) -> None:
    """The same."""
    graph = networkx.DiGraph()
    src, dst = np.nonzero(np.isfinite(weights))
    costs = weights[src, dst].tolist()
    graph.add_weighted_edges_from(zip(src.tolist(), dst.tolist(), costs, strict=True))
    for _ in networkx.all_pairs_dijkstra_path(graph):
        pass


def least_ms(work: Callable[[Floats], None], weights: Floats, runs: int = 3) -> float:
    """Least time of a few runs, ms."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        work(weights)
        times.append(1e3 * (time.perf_counter() - started))
    return min(times)


# ---- Distance to the optimum ----------------------------------------------------------------------


def gaps() -> tuple[float, float, int]:
    """Mean and greatest relative distance to the optimum, and of how many networks."""
    found = []
    for seed in range(GAP_CASES):
        network = network_of(10_000 + seed, 4 + seed % 3)
        origin = network.node_ids[seed % len(network.nodes)]
        costs = Costs(network, CONFIG)
        best = exact_plan(network, {origin: Demand()}, costs)
        if best is None or not best.parents:
            continue
        made, _ = plan(network, {origin: Demand()}, PlannerMemory(), CONFIG)
        at = np.array([network.index[origin]])
        cost_ms = costs.branches(made.trees[origin].parents[None], at).cost_ms
        found.append(float(cost_ms[np.isfinite(cost_ms)].sum()) / best.cost_ms - 1)
    return max(statistics.fmean(found), 0.0), max(found), len(found)


if __name__ == "__main__":
    sys.exit(main())
