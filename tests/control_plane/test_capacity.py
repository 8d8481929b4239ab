"""Capacities: tracks counted once per tree edge, kept where that can be done, and distance to the optimum."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from exact_plan import exact_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import all_origins, at, first_plan, line, network_of, with_links, with_nodes

from farcast.control_plane.capacity import Loads, Wanted
from farcast.control_plane.costs import Costs
from farcast.control_plane.network import Network
from farcast.control_plane.plan import CAPACITY
from farcast.control_plane.planner import Demand, Plan, PlannerConfig, PlannerMemory, plan

CONFIG = PlannerConfig()
MBIT = 1_000_000


def everywhere(network: Network, bps: float) -> Demand:
    """One track that everybody watches."""
    return Demand(network.node_ids, np.array([bps]), np.ones((1, len(network.nodes)), np.bool_))


def loads_of(network: Network, made: Plan, demand: dict[str, Demand]) -> Loads:
    origins = tuple(sorted(demand))
    parents = np.stack([made.trees[origin].parents for origin in origins])
    return Loads(network, Wanted.of(network, demand, origins), parents)


STAR = line({("o", name): 20.0 for name in "abc"} | {("a", "b"): 20.0, ("a", "c"): 20.0, ("b", "c"): 20.0})


def test_a_track_is_counted_once_on_an_edge_however_many_watch_below() -> None:
    chain = line({("o", "m"): 20.0, ("m", "x"): 20.0, ("m", "y"): 20.0})
    demand = {"o": everywhere(chain, 5 * MBIT)}
    loads = loads_of(chain, first_plan(chain, demand)[0], demand)
    assert loads.node_bps.tolist() == [10 * MBIT, 5 * MBIT, 0, 0]
    assert loads.link_bps[chain.index["o"], chain.index["m"]] == 5 * MBIT


def test_only_what_is_watched_below_crosses_an_edge() -> None:
    chain = line({("o", "m"): 20.0, ("m", "x"): 20.0, ("m", "y"): 20.0})
    demand = {"o": Demand(("x", "m", "gone"), np.array([1.0, 2.0, 4.0]), np.eye(3, dtype=np.bool_))}
    loads = loads_of(chain, first_plan(chain, demand)[0], demand)
    assert loads.link_bps[chain.index["o"], chain.index["m"]] == 3.0
    assert loads.link_bps[chain.index["m"], chain.index["x"]] == 1.0


def test_an_origin_that_can_send_once_has_its_tree_fanned_out_by_others() -> None:
    network = with_nodes(STAR, o={"capacity_bps": 5 * MBIT})
    made, _ = first_plan(network, {"o": everywhere(network, 5 * MBIT)})
    assert made.overloaded == ()
    assert list(made.trees["o"].parent.values()).count("o") == 1


def test_a_full_link_is_gone_around() -> None:
    network = with_links(STAR, "capacity_bps", 4.0 * MBIT, ("o", "a"))
    made, _ = first_plan(network, {"o": everywhere(network, 5 * MBIT)})
    assert made.overloaded == ()
    assert made.trees["o"].parent["a"] != "o"


def test_egress_to_viewers_counts_as_well() -> None:
    relayed = line({("o", "x"): 200.0, ("o", "m"): 20.0, ("m", "x"): 20.0})
    busy = with_nodes(relayed, m={"capacity_bps": 8 * MBIT, "egress_bps": 5 * MBIT})
    made, _ = first_plan(busy, {"o": everywhere(busy, 5 * MBIT)})
    assert made.trees["o"].path("x") == ("o", "x")


def test_what_cannot_be_kept_is_named() -> None:
    network = with_nodes(line({("o", "x"): 20.0}), o={"capacity_bps": MBIT})
    made, _ = first_plan(network, {"o": everywhere(network, 5 * MBIT)})
    assert made.overloaded == ("o",)
    assert made.trees["o"].path("x") == ("o", "x")


def test_a_resource_that_fills_up_costs_more_before_it_is_full() -> None:
    near = line({("o", "x"): 60.0, ("o", "m"): 20.0, ("m", "x"): 20.0})
    busy = with_nodes(near, m={"capacity_bps": 10 * MBIT, "egress_bps": 9 * MBIT})
    assert first_plan(near)[0].trees["o"].path("x") == ("o", "m", "x")
    assert first_plan(busy)[0].trees["o"].path("x") == ("o", "x")


def test_overload_moves_at_once_and_stays_put_afterwards() -> None:
    demand = {"o": everywhere(STAR, 5 * MBIT)}
    _, memory = plan(STAR, demand, PlannerMemory(), CONFIG)
    full = with_nodes(STAR, o={"capacity_bps": 11 * MBIT})
    made, memory = plan(at(full, 0.1), demand, memory, CONFIG)
    assert [move.cause for move in made.moves] == [CAPACITY]
    assert made.overloaded == ()
    for second in range(1, 60):
        made, memory = plan(at(full, second), demand, memory, CONFIG)
        assert made.moves == ()


def test_an_upgrade_that_would_overload_is_not_made() -> None:
    """Nor made and taken back: relief is off."""
    config = dataclasses.replace(CONFIG, relief_moves_max=0)
    slow = line({("o", "x"): 200.0, ("o", "m"): 100.0, ("m", "x"): 100.0})
    fast = line({("o", "x"): 200.0, ("o", "m"): 20.0, ("m", "x"): 20.0})
    demand = {"o": everywhere(slow, 5 * MBIT)}
    small = {"m": {"capacity_bps": 4 * MBIT}}
    _, memory = plan(with_nodes(slow, **small), demand, PlannerMemory(), config)
    for second in range(1, 8):
        made, memory = plan(at(with_nodes(fast, **small), second), demand, memory, config)
        assert made.moves == ()


# ---- Against the optimum --------------------------------------------------------------------------------


def demand_of(network: Network, seed: int) -> dict[str, Demand]:
    draw = np.random.default_rng(seed)
    count = len(network.nodes)
    origins = [network.node_ids[k] for k in draw.permutation(count)[:2]]
    return {
        origin: Demand(
            network.node_ids,
            draw.integers(1, 5, 2).astype(float) * MBIT,
            draw.random((2, count)) < 0.6,
        )
        for origin in origins
    }


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(3, 6))
def test_trees_without_capacities_are_as_good_as_the_optimum(seed: int, count: int) -> None:
    network = network_of(seed, count)
    origin = network.node_ids[seed % count]
    made, _ = first_plan(network, {origin: Demand()})
    exact = exact_plan(network, {origin: Demand()}, Costs(network, CONFIG))
    assert exact is not None
    tree = made.trees[origin]
    judged = Costs(network, CONFIG).branches(tree.parents[None], np.array([network.index[origin]]))
    cost_ms = judged.cost_ms[np.isfinite(judged.cost_ms)].sum()
    assert cost_ms <= 1.02 * exact.cost_ms + 1e-3


def packed(seed: int, count: int) -> tuple[Network, dict[str, Demand]]:
    """Nodes that can send a few tracks each."""
    draw, network = np.random.default_rng(seed + 1), network_of(seed, count)
    capacities = {node: {"capacity_bps": int(draw.integers(4, 16)) * MBIT} for node in network.node_ids}
    return with_nodes(network, **capacities), demand_of(network, seed)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(3, 6))
def test_a_plan_says_which_nodes_it_overloads(seed: int, count: int) -> None:
    network, demand = packed(seed, count)
    made, _ = first_plan(network, demand)
    assert bool(made.overloaded) == (loads_of(network, made, demand).overload() > 1e-9)


def keeps_capacities(seed: int, count: int) -> bool:
    """Whether all is carried, where an exact solver can with a fifth to spare."""
    network, demand = packed(seed, count)
    spare = {n.node_id: {"capacity_bps": n.capacity_bps * 4 // 5} for n in network.nodes}
    is_feasible = exact_plan(with_nodes(network, **spare), demand, Costs(network, CONFIG)) is not None
    return not is_feasible or first_plan(network, demand)[0].overloaded == ()


def test_capacities_are_kept_where_that_is_feasible_with_a_fifth_to_spare_but_for_few_networks() -> None:
    """The search is local: of networks of five and six nodes it leaves 1 and 3 in a hundred overloaded."""
    assert all(keeps_capacities(seed, count) for seed in range(60) for count in (3, 4))
    assert sum(keeps_capacities(seed, 6) for seed in range(120)) >= 114


def test_most_of_what_fits_only_just_is_packed_as_well() -> None:
    feasible = packed_well = 0
    for seed in range(120):
        network, demand = packed(seed, 3 + seed % 4)
        if exact_plan(network, demand, Costs(network, CONFIG)) is not None:
            feasible += 1
            packed_well += not first_plan(network, demand)[0].overloaded
    assert feasible > 80
    assert packed_well >= 0.95 * feasible


def test_the_exact_solver_refuses_what_it_cannot_do() -> None:
    with pytest.raises(ValueError, match="at most"):
        exact_plan(network_of(1, 8), {}, Costs(network_of(1, 8), CONFIG))
    one = with_nodes(line({("o", "x"): 20.0}), o={"capacity_bps": 1})
    assert exact_plan(one, {"o": everywhere(one, MBIT)}, Costs(one, CONFIG)) is None
    reached = exact_plan(one, all_origins(one), Costs(one, CONFIG))
    assert reached is not None
    assert reached.parents == {(0, 1): 0, (1, 0): 1}


def test_relief_is_bounded() -> None:
    network = with_nodes(STAR, o={"capacity_bps": 5 * MBIT})
    none = dataclasses.replace(CONFIG, relief_moves_max=0)
    made, _ = first_plan(network, {"o": everywhere(network, 5 * MBIT)}, none)
    assert made.overloaded in ((), ("o",))
