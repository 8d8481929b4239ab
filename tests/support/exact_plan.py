"""The best trees there are, by exhaustive paths and an exact solver (CP-SAT): small networks only.

Every path of at most `DEPTH_MAX` edges is a variable, so that its real cost, which does not add up edge by
edge, can be used. Paths of a tree contain each other's beginnings. Capacity counts a track once per tree
edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, permutations

import numpy as np
from ortools.sat.python import cp_model

from farcast.control_plane.costs import OUT_OF_BOUNDS_MS, Costs
from farcast.control_plane.network import Network
from farcast.control_plane.plan import DEPTH_MAX, Demand

NODES_MAX = 7
"""More nodes have more paths than a test should wait for."""

_SCALE = 1_000
_Path = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Exact:
    """``cost_ms``: sum over all branches of all trees. ``parents``: by origin and node, positions."""

    cost_ms: float
    parents: dict[tuple[int, int], int]


def exact_plan(network: Network, demand: Mapping[str, Demand], costs: Costs) -> Exact | None:
    """The cheapest trees that reach whatever can be reached, keep capacities, and break a bound only where
    that reaches a node at all; ``None`` where there are none."""
    if len(network.nodes) > NODES_MAX:
        raise ValueError(f"{len(network.nodes)} nodes, at most {NODES_MAX}")
    model, chosen = cp_model.CpModel(), {}
    price: dict[tuple[int, _Path], float] = {}
    for origin in sorted(network.index[name] for name in demand if name in network.index):
        for path, cost in _paths(network, costs, origin).items():
            chosen[origin, path] = model.new_bool_var(f"{origin}:{path}")
            price[origin, path] = cost
    _one_path_each(model, chosen)
    for (origin, path), variable in chosen.items():
        if len(path) > 2:
            model.add_implication(variable, chosen[origin, path[:-1]])
    _keep_capacities(model, chosen, network, demand)
    model.minimize(sum(round(price[key] * _SCALE) * variable for key, variable in chosen.items()))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    if solver.solve(model) != cp_model.OPTIMAL:
        return None
    taken = [key for key, variable in chosen.items() if solver.boolean_value(variable)]
    return Exact(sum(price[k] for k in taken), {(origin, path[-1]): path[-2] for origin, path in taken})


def _paths(network: Network, costs: Costs, origin: int) -> dict[_Path, float]:
    """Paths out of ``origin`` over usable links and nodes that may relay, with their costs, ms."""
    edges, relays = np.isfinite(costs.search_ms), costs.may_relay
    others = [v for v in range(len(network.nodes)) if v != origin]
    found: list[_Path] = []
    for length in range(1, DEPTH_MAX + 1):
        for rest in permutations(others, length):
            path = (origin, *rest)
            if all(edges[a, b] for a, b in pairwise(path)) and relays[list(rest[:-1])].all():
                found.append(path)
    if not found:
        return {}
    above = np.full((DEPTH_MAX, len(found)), -1)
    for row, path in enumerate(found):
        above[: len(path) - 1, row] = path[-2::-1]
    judged = costs.judge(above, np.array([path[-1] for path in found]))
    return dict(zip(found, judged.cost_ms.tolist(), strict=True))


def _one_path_each(model: cp_model.CpModel, chosen: dict[tuple[int, _Path], cp_model.IntVar]) -> None:
    """Every node that a path leads to has exactly one."""
    leading: dict[tuple[int, int], list[cp_model.IntVar]] = {}
    for (origin, path), variable in chosen.items():
        leading.setdefault((origin, path[-1]), []).append(variable)
    for variables in leading.values():
        model.add_exactly_one(variables)


def _keep_capacities(
    model: cp_model.CpModel,
    chosen: dict[tuple[int, _Path], cp_model.IntVar],
    network: Network,
    demand: Mapping[str, Demand],
) -> None:
    """Sum over all tracks of what each node sends and each link carries."""
    sent: dict[int, list[tuple[cp_model.IntVar, int]]] = {}
    carried: dict[tuple[int, int], list[tuple[cp_model.IntVar, int]]] = {}
    for name, wanted in demand.items():
        origin = network.index[name]
        for track, bps in enumerate(wanted.bps.tolist()):
            watchers = {
                network.index[n] for n, w in zip(wanted.nodes, wanted.watched[track], strict=True) if w
            }
            edges: dict[tuple[int, int], cp_model.IntVar] = {}
            for (root, path), variable in chosen.items():
                if root != origin or path[-1] not in watchers:
                    continue
                for edge in pairwise(path):
                    if edge not in edges:
                        edges[edge] = model.new_bool_var(f"{origin}:{track}:{edge}")
                    model.add_implication(variable, edges[edge])
            for (a, b), used in edges.items():
                sent.setdefault(a, []).append((used, round(bps)))
                carried.setdefault((a, b), []).append((used, round(bps)))
    for node, terms in sent.items():
        capacity = network.nodes[node].capacity_bps
        if capacity:
            room = capacity - network.nodes[node].egress_bps
            model.add(sum(used * bps for used, bps in terms) <= max(room, 0))
    for (a, b), terms in carried.items():
        if network.capacity_bps[a, b]:
            model.add(sum(used * bps for used, bps in terms) <= round(network.capacity_bps[a, b]))


__all__ = ["NODES_MAX", "OUT_OF_BOUNDS_MS", "Exact", "exact_plan"]
