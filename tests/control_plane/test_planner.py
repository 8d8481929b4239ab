"""What every plan must be, whatever the network."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from networks import all_origins, at, first_plan, line, network_of, with_links, with_nodes

from farcast.control_plane.costs import Costs, depths
from farcast.control_plane.network import Network, Node
from farcast.control_plane.plan import DEPTH_MAX, Tree
from farcast.control_plane.planner import Demand, Plan, PlannerConfig, PlannerMemory, plan

CONFIG = PlannerConfig()
SEEDS = st.integers(0, 2**32 - 1)
COUNTS = st.integers(2, 12)


def assert_trees(network: Network, made: Plan) -> None:
    """No circle, one parent each, of bounded depth, over links that are there, relays that may relay."""
    for origin, tree in made.trees.items():
        assert origin not in tree.parent
        for node, parent in tree.parent.items():
            path = tree.path(node)
            assert path[0] == origin
            assert path[-1] == node
            assert len(set(path)) == len(path)
            assert len(path) - 1 <= DEPTH_MAX
            assert network.usable[network.index[parent], network.index[node]]
            assert all(not network.node(relay).draining for relay in path[1:-1])


@given(SEEDS, COUNTS)
def test_a_plan_is_trees_of_bounded_depth(seed: int, count: int) -> None:
    network = network_of(seed, count)
    draining = {f"n{k}": {"draining": True} for k in range(count) if (seed >> k) % 4 == 0}
    network = with_nodes(network, **draining)
    assert_trees(network, first_plan(network)[0])


@given(SEEDS, COUNTS)
def test_what_has_a_path_is_reached(seed: int, count: int) -> None:
    network = network_of(seed, count, usable=np.random.default_rng(seed).random((count, count)) < 0.5)
    made, _ = first_plan(network)
    hops = network.usable.astype(int)
    for _ in range(DEPTH_MAX - 1):
        hops = ((hops @ network.usable + hops) > 0).astype(int)
    for i, origin in enumerate(network.node_ids):
        one_hop = {network.node_ids[j] for j in np.flatnonzero(network.usable[i])}
        assert one_hop <= set(made.trees[origin].parent)
        within = {network.node_ids[j] for j in np.flatnonzero(hops[i]) if j != i}
        assert set(made.trees[origin].parent) <= within


@given(SEEDS, COUNTS)
def test_same_input_gives_the_same_plan(seed: int, count: int) -> None:
    network = network_of(seed, count)
    one, memory_one = first_plan(network)
    other, memory_other = first_plan(network_of(seed, count))
    for origin in one.trees:
        for name in ("parents", "ranks", "shares", "costs_ms"):
            assert np.array_equal(
                getattr(one.trees[origin], name), getattr(other.trees[origin], name), equal_nan=True
            )
    assert np.array_equal(memory_one.parent, memory_other.parent)


@given(SEEDS, COUNTS)
def test_no_route_is_worse_than_the_direct_link(seed: int, count: int) -> None:
    network = network_of(seed, count)
    made, _ = first_plan(network)
    costs = Costs(network, CONFIG)
    origins = np.arange(count)
    direct = costs.direct(origins)
    chosen = costs.branches(np.stack([made.trees[o].parents for o in network.node_ids]), origins)
    usable = direct.within_bounds
    assert (chosen.cost_ms[usable] <= direct.cost_ms[usable] + 1e-6).all()


@given(SEEDS, COUNTS)
def test_bounds_are_kept_where_the_direct_way_keeps_them(seed: int, count: int) -> None:
    config = dataclasses.replace(CONFIG, delay_ms_max=120.0, loss_max=0.03)
    network = network_of(seed, count)
    made, _ = first_plan(network, config=config)
    costs = Costs(network, config)
    direct = costs.direct(np.arange(count))
    for i, origin in enumerate(network.node_ids):
        tree = made.trees[origin]
        for node, delay_ms in tree.delay_ms.items():
            within = delay_ms <= config.delay_ms_max and tree.loss[node] <= config.loss_max + 1e-12
            assert within or not direct.within_bounds[i, network.index[node]]


@given(SEEDS, st.integers(3, 8), st.data())
def test_a_worse_link_never_makes_a_route_over_it_cheaper(seed: int, count: int, data: st.DataObject) -> None:
    network = network_of(seed, count, usable=True)
    made, _ = first_plan(network)
    parents = np.stack([made.trees[o].parents for o in network.node_ids])
    origins = np.arange(count)
    src, dst = data.draw(st.permutations(network.node_ids))[:2]
    name, more = data.draw(st.sampled_from([("rtt_ms", 40.0), ("rtt_p99_ms", 60.0), ("loss_high", 0.1)]))
    i, j = network.index[src], network.index[dst]
    worse = with_links(network, name, getattr(network, name)[i, j] + more, (src, dst))
    if name == "rtt_ms":
        worse = with_links(worse, "rtt_p99_ms", network.rtt_p99_ms[i, j] + more, (src, dst))
    before = Costs(network, CONFIG).branches(parents, origins).cost_ms
    after = Costs(worse, CONFIG).branches(parents, origins).cost_ms
    reached = np.isfinite(before)
    assert (after[reached] >= before[reached] - 1e-6).all()


def heir(
    network: Network, tree: Tree, node: str, dead: str | None, cut: tuple[str, str] | None
) -> str | None:
    """Whom a node takes the track from when one relay is dead or one link is cut: its datapath's own rule."""
    for upstream in tree.upstreams(node):
        link = network.usable[network.index[upstream], network.index[node]]
        if link and upstream != dead and cut not in ((upstream, node), (node, upstream)):
            return upstream
    return None


def assert_no_circle(
    network: Network, tree: Tree, dead: str | None = None, cut: tuple[str, str] | None = None
) -> None:
    """Every node gets to the origin by first live upstreams, or had nobody to turn to beside those below
    the dead relay."""
    for node in tree.parent:
        way = [node]
        while way[-1] not in (tree.origin, dead):
            following = heir(network, tree, way[-1], dead, cut)
            if following is None or following in way:
                break
            way.append(following)
        if way[-1] != tree.origin and node != dead:
            assert not any(_is_way_out(network, tree, orphan, dead, cut) for orphan in way)


def _is_way_out(
    network: Network, tree: Tree, node: str, dead: str | None, cut: tuple[str, str] | None
) -> bool:
    """Whether a node whose upstream is lost could take the track from somebody it does not fall with."""
    parent = tree.parent[node]
    if parent != dead and cut not in ((parent, node), (node, parent)):
        return False
    return any(
        network.usable[network.index[other], network.index[node]]
        and cut not in ((other, node), (node, other))
        and (other == tree.origin or not network.node(other).draining)
        and len(path := tree.path(other)) <= DEPTH_MAX
        and dead not in path
        and node not in path
        for other in (tree.origin, *tree.parent)
        if other not in (dead, node)
    )


@given(SEEDS, st.integers(3, 12), st.sampled_from([0.5, 0.8, 1.0]), st.sampled_from([60.0, 400.0]))
def test_no_single_failure_leads_standbys_round_in_a_circle(
    seed: int, count: int, density: float, delay_ms_max: float
) -> None:
    usable = np.random.default_rng(seed).random((count, count)) < density
    network = network_of(seed, count, usable=usable | usable.T)
    config = dataclasses.replace(CONFIG, delay_ms_max=delay_ms_max)
    made, _ = first_plan(network, config=config)
    for tree in made.trees.values():
        for relay in set(tree.parent.values()) - {tree.origin}:
            assert_no_circle(network, tree, dead=relay)
        for node, parent in tree.parent.items():
            assert_no_circle(network, tree, cut=(parent, node))


@given(SEEDS, st.integers(3, 12))
def test_backups_are_no_descendants_and_the_origin_is_always_among_them(seed: int, count: int) -> None:
    network = network_of(seed, count)
    made, _ = first_plan(network)
    for origin, tree in made.trees.items():
        for node in network.node_ids:
            if node == origin:
                continue
            backups, parent = tree.backups[node], tree.parent.get(node)
            assert parent == origin or origin in backups
            assert node not in backups
            assert parent not in backups
            assert len(set(backups)) == len(backups) <= CONFIG.backups_max
            for backup in backups:
                assert node not in tree.path(backup)
                assert backup == origin or len(tree.path(backup)) <= DEPTH_MAX
            assert tree.upstreams(node) == ((parent,) if parent else ()) + backups


def test_a_fast_relay_beats_a_slow_direct_link() -> None:
    network = line({("a", "b"): 200.0, ("a", "m"): 40.0, ("m", "b"): 50.0})
    made, _ = first_plan(network)
    assert made.trees["a"].path("b") == ("a", "m", "b")
    assert made.trees["a"].delay_ms["b"] == pytest.approx(45 + CONFIG.relay_ms)
    assert made.trees["b"].path("a") == ("b", "m", "a")


def test_directions_are_routed_apart() -> None:
    network = line({("a", "b"): 100.0, ("a", "m"): 60.0, ("m", "b"): 60.0})
    network = with_links(network, "loss_high", 0.05, ("a", "b"))
    made, _ = first_plan(network)
    assert made.trees["a"].path("b") == ("a", "m", "b")
    assert made.trees["b"].path("a") == ("b", "a")


def test_a_relay_splits_a_loss_and_repairs_faster() -> None:
    loss = np.array([[0, 0.04, 0.02], [0.04, 0, 0.02], [0.02, 0.02, 0]])
    network = line({("a", "b"): 200.0, ("a", "m"): 102.0, ("m", "b"): 102.0}, loss=loss, burst=2.0)
    made, _ = first_plan(network)
    assert made.trees["a"].path("b") == ("a", "m", "b")


def test_at_most_two_relays_stand_between_origin_and_egress() -> None:
    chain = {("a", "b"): 10.0, ("b", "c"): 10.0, ("c", "d"): 10.0, ("d", "e"): 10.0}
    made, _ = first_plan(line({**chain, ("a", "e"): 300.0}))
    assert made.trees["a"].path("d") == ("a", "b", "c", "d")
    assert made.trees["a"].path("e") == ("a", "e")


def test_draining_and_disconnected_nodes_relay_nothing_new() -> None:
    network = line({("a", "b"): 200.0, ("a", "m"): 40.0, ("m", "b"): 50.0})
    for change in ({"draining": True}, {"connected": False}):
        made, _ = first_plan(with_nodes(network, m=change))
        assert made.trees["a"].path("b") == ("a", "b")
        assert made.trees["a"].path("m") == ("a", "m")


def test_a_draining_origin_still_serves_what_it_holds() -> None:
    network = with_nodes(line({("a", "b"): 20.0}), a={"draining": True})
    assert first_plan(network)[0].trees["a"].path("b") == ("a", "b")


def test_an_origin_that_nothing_knows_is_left_out() -> None:
    network = line({("a", "b"): 20.0})
    made, _ = first_plan(network, {"a": Demand(), "elsewhere": Demand()})
    assert set(made.trees) == {"a"}


def test_a_node_that_nothing_reaches_has_no_parent_and_the_origin_as_backup() -> None:
    network = with_links(line({("a", "b"): 20.0, ("a", "c"): 20.0}), "usable", False, ("a", "b"), ("c", "b"))
    tree = first_plan(network)[0].trees["a"]
    assert tree.path("b") == ()
    assert "b" not in tree.parent
    assert tree.upstreams("b") == ("a",)


def test_price_moves_routes_off_dear_relays_if_asked_to() -> None:
    network = line({("a", "b"): 100.0, ("a", "m"): 40.0, ("m", "b"): 40.0})
    network = with_nodes(network, m={"price_per_gb": 0.08})
    assert first_plan(network)[0].trees["a"].path("b") == ("a", "m", "b")
    dear = dataclasses.replace(CONFIG, price_ms_per_unit=500.0)
    assert first_plan(network, config=dear)[0].trees["a"].path("b") == ("a", "b")


# ---- Backups ----------------------------------------------------------------------------------------


def spread_nodes() -> Network:
    """``o`` to ``e`` by relays ``m``, ``n``, ``q``, fastest first; direct is slow."""
    return line(
        {("o", "e"): 300.0, ("o", "m"): 20.0, ("m", "e"): 20.0, ("o", "n"): 25.0, ("n", "e"): 25.0}
        | {("o", "q"): 40.0, ("q", "e"): 40.0}
    )


def test_the_next_fastest_relay_is_the_first_backup() -> None:
    tree = first_plan(spread_nodes())[0].trees["o"]
    assert tree.upstreams("e") == ("m", "n", "q", "o")
    assert tree.shared("e") == ((), (), ())


@pytest.mark.parametrize(("watched", "first"), [((), "o"), (("n",), "n"), (("x",), "n"), (("m",), "o")])
def test_a_near_backup_that_has_the_media_comes_before_a_far_one_whose_branch_is_a_little_shorter(
    watched: tuple[str, ...], first: str
) -> None:
    network = line(
        {("o", "m"): 40.0, ("m", "e"): 40.0, ("o", "e"): 120.0, ("o", "n"): 100.0, ("n", "e"): 30.0}
        | {("n", "x"): 10.0}
    )
    demand = Demand.from_loads({"e": 2_000_000, **dict.fromkeys(watched, 2_000_000)})
    tree = first_plan(network, {"o": demand})[0].trees["o"]
    assert (tree.parent["e"], tree.parent["x"]) == ("m", "n")
    assert tree.backups["e"][:2] == (first, "n" if first == "o" else "o")


@pytest.mark.parametrize(
    ("shared", "named"),
    [
        ({"provider": "p"}, "provider"),
        ({"region": "r"}, "region"),
        ({"groups": frozenset({"g"})}, "risk group"),
    ],
)
def test_a_backup_that_would_fail_with_the_branch_comes_later(shared: dict[str, object], named: str) -> None:
    tree = first_plan(with_nodes(spread_nodes(), m=shared, n=shared))[0].trees["o"]
    assert tree.parent["e"] == "m"
    assert tree.backups["e"] == ("q", "n", "o") or tree.backups["e"] == ("q", "o", "n")
    assert (named,) in tree.shared("e")


def test_sharing_a_provider_is_given_in_to_before_sharing_a_region() -> None:
    network = with_nodes(
        spread_nodes(), m={"provider": "p", "region": "r"}, n={"region": "r"}, q={"provider": "p"}
    )
    tree = first_plan(network)[0].trees["o"]
    by_node = dict(zip(tree.backups["e"], tree.shared("e"), strict=True))
    assert tree.backups["e"].index("q") < tree.backups["e"].index("n")
    assert by_node["q"] == ("provider",)
    assert by_node["n"] == ("region",)


def test_a_cable_that_two_links_share_makes_their_branches_fail_together() -> None:
    plain = spread_nodes()
    network = Network.build(
        plain.nodes,
        np.where(plain.rtt_ms > 0, plain.rtt_ms, np.nan),
        link_groups={("at-o", "at-m"): ["cable"], ("at-o", "at-n"): ["cable"]},
    )
    tree = first_plan(network)[0].trees["o"]
    by_node = dict(zip(tree.backups["e"], tree.shared("e"), strict=True))
    assert tree.backups["e"][0] == "q"
    assert by_node["n"] == ("risk group",)


def neighbours() -> Network:
    """``e`` and ``f`` of one region, both fed by ``o`` far away; ``m`` is a detour."""
    network = line(
        {("o", "e"): 100.0, ("o", "f"): 100.0, ("e", "f"): 2.0, ("o", "m"): 70.0, ("m", "e"): 70.0}
        | {("m", "f"): 70.0}
    )
    return with_nodes(network, e={"region": "r"}, f={"region": "r"})


def test_a_neighbour_that_is_fed_over_the_same_way_between_regions_comes_later() -> None:
    tree = first_plan(neighbours())[0].trees["o"]
    assert (tree.parent["e"], tree.parent["f"]) == ("o", "o")
    assert tree.backups["e"] == ("m", "f", "o")[:2]
    assert tree.shared("e") == ((), ("way between regions",))


def test_a_neighbour_that_is_fed_over_another_way_shares_nothing() -> None:
    network = line({("o", "e"): 100.0, ("o", "m"): 20.0, ("m", "f"): 20.0, ("e", "f"): 70.0})
    tree = first_plan(with_nodes(network, e={"region": "r"}, f={"region": "r"}))[0].trees["o"]
    assert (tree.parent["e"], tree.parent["f"]) == ("o", "m")
    assert tree.backups["e"][0] == "f"
    assert tree.shared("e")[0] == ()


def test_what_belongs_to_both_ends_anyway_is_not_shared() -> None:
    nodes = {name: {"provider": "p"} for name in ("o", "m", "n", "q", "e")}
    tree = first_plan(with_nodes(spread_nodes(), **nodes))[0].trees["o"]
    assert tree.backups["e"] == ("n", "q", "o")
    assert tree.shared("e") == ((), (), ())


# ---- Inputs ------------------------------------------------------------------------------------------


def test_networks_are_the_same_in_whatever_order_nodes_are_given() -> None:
    nodes = [Node("b", "r"), Node("a", "r"), Node("c", "r")]
    rtt = np.array([[0, 1, 2], [1, 0, 3], [2, 3, 0]], float)
    network = Network.build(nodes, rtt)
    assert network.node_ids == ("a", "b", "c")
    assert network.rtt_ms[network.index["a"], network.index["c"]] == 3
    with pytest.raises(ValueError, match="one node id"):
        Network.build([Node("a", "r"), Node("a", "r")], np.ones((2, 2)))


def test_loads_become_layers_in_which_popular_tracks_are_shared() -> None:
    demand = Demand.from_loads({"x": 3_000_000, "y": 1_000_000, "z": 0})
    assert demand.nodes == ("x", "y")
    assert demand.bps.tolist() == [1_000_000, 2_000_000]
    assert demand.watched.tolist() == [[True, True], [True, False]]
    with pytest.raises(ValueError, match="tracks"):
        Demand(("x",), np.zeros(2), np.zeros((1, 1), np.bool_))


@settings(max_examples=20)
@given(SEEDS)
def test_an_empty_and_a_lonely_network_have_plans(seed: int) -> None:
    assume(seed >= 0)
    assert first_plan(Network.build([], np.zeros((0, 0))))[0].trees == {}
    alone, memory = first_plan(Network.build([Node("a", "r")], np.zeros((1, 1))))
    assert alone.trees["a"].parent == {}
    assert plan(Network.build([Node("a", "r")], np.zeros((1, 1))), {}, memory, CONFIG)[0].trees == {}


def test_depths_count_edges_and_mark_what_hangs_nowhere() -> None:
    parents = np.array([[-1, 0, 1, -1, 3]])
    assert depths(parents, np.array([0])).tolist() == [[0, 1, 2, -1, -1]]


def test_a_plan_of_twelve_nodes_holds_through_time() -> None:
    network = network_of(5, 12)
    demand = all_origins(network)
    made, memory = plan(network, demand, PlannerMemory(), CONFIG)
    for second in range(1, 5):
        made, memory = plan(at(network, second), demand, memory, CONFIG)
        assert made.moves == ()
    assert_trees(network, made)
