"""Pins: what a plan is held to, when a pin is suspended, and what it leaves alone."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from networks import all_origins, at, line, network_of, with_links, with_nodes

from farcast.control_plane.intents import Pin
from farcast.control_plane.network import Network
from farcast.control_plane.pinning import PinState
from farcast.control_plane.plan import DEPTH_MAX, PIN, Demand, Plan
from farcast.control_plane.planner import PlannerConfig, PlannerMemory, explain, plan

CONFIG = PlannerConfig()
NEAR = line({("a", "b"): 100.0, ("a", "m"): 30.0, ("m", "b"): 30.0, ("a", "x"): 60.0, ("x", "b"): 60.0})
PINNED = (PinState(Pin(("a", "b"))),)


def planned(
    *networks: Network,
    pins: tuple[PinState, ...] = PINNED,
    start: PlannerMemory | None = None,
    second: int = 0,
) -> tuple[Plan, PlannerMemory]:
    """Plan one network a second; what came of the last."""
    memory, made = start or PlannerMemory(), Plan({})
    for each in networks:
        here = at(each, second)
        made, memory = plan(here, all_origins(here), memory, CONFIG, pins)
        second += 1
    return made, memory


@st.composite
def pinned_networks(draw: st.DrawFn) -> tuple[Network, tuple[PinState, ...]]:
    """A network, and pins that do not contradict each other (none shares a node but the origin)."""
    network = network_of(draw(st.integers(0, 2**32 - 1)), draw(st.integers(4, 10)))
    pins, nodes = [], list(network.node_ids)
    for origin in draw(st.lists(st.sampled_from(nodes), max_size=2, unique=True)):
        others = draw(st.permutations([node for node in nodes if node != origin]))
        pins.append(PinState(Pin((origin, *others[: draw(st.integers(1, 3))]))))
    return network, tuple(pins)


@given(pinned_networks())
def test_a_first_plan_holds_to_every_pin_that_can_be(given: tuple[Network, tuple[PinState, ...]]) -> None:
    network, pins = given
    made, _ = planned(network, pins=pins)
    assert [state.pin for state in made.pins] == [state.pin for state in pins]
    for state in made.pins:
        way = state.pin.way
        usable = all(network.usable[network.index[a], network.index[b]] for a, b in pairwise(way))
        assert usable is not bool(state.suspended)
        if usable:
            assert made.trees[way[0]].path(way[-1]) == way


@given(pinned_networks())
def test_a_pin_on_trees_in_force_moves_at_once_and_leaves_trees_behind(
    given: tuple[Network, tuple[PinState, ...]],
) -> None:
    network, pins = given
    before, memory = planned(network, pins=())
    made, after = planned(network, pins=pins, start=memory, second=1)
    for state in made.pins:
        if not state.suspended:
            assert made.trees[state.pin.origin].path(state.pin.node_id) == state.pin.way
    for origin, tree in made.trees.items():
        assert set(tree.parent) >= set(before.trees[origin].parent)
        assert all(1 < len(tree.path(node)) <= DEPTH_MAX + 1 for node in tree.parent)
    pinned_origins = {state.pin.origin for state in made.pins if not state.suspended}
    assert {move.origin for move in made.moves} <= pinned_origins
    again, _ = planned(network, pins=pins, start=after, second=2)
    assert again.moves == ()


def test_a_pin_wins_over_a_way_that_is_better_by_far() -> None:
    assert planned(NEAR, pins=())[0].trees["a"].path("b") == ("a", "m", "b")
    free = planned(NEAR, pins=())[1]
    made, _ = planned(*[NEAR] * 5, start=free, second=1)
    assert made.trees["a"].path("b") == ("a", "b")
    first, _ = planned(NEAR, start=free, second=1)
    assert [(m.origin, m.node, m.cause) for m in first.moves] == [("a", "b", PIN)]


def test_a_pin_holds_beyond_the_bounds() -> None:
    far = line({("a", "b"): 900.0, ("a", "m"): 30.0, ("m", "b"): 30.0})
    made, _ = planned(*[far] * 3)
    assert made.trees["a"].path("b") == ("a", "b")


def test_without_its_pin_a_route_goes_back_late_like_any_upgrade() -> None:
    _, memory = planned(NEAR)
    made, memory = planned(NEAR, start=memory, second=1, pins=())
    assert made.trees["a"].path("b") == ("a", "b")
    made, _ = planned(*[NEAR] * 40, start=memory, second=2, pins=())
    assert made.trees["a"].path("b") == ("a", "m", "b")


def test_a_pin_whose_link_is_silent_is_suspended_and_says_so() -> None:
    cut = with_links(NEAR, "usable", False, ("a", "b"))
    made, _ = planned(NEAR, cut)
    assert made.trees["a"].path("b") == ("a", "m", "b")
    assert made.pins[0].suspended == "the link a > b is silent"


def test_a_pin_over_a_dead_node_is_suspended() -> None:
    pins = (PinState(Pin(("a", "x", "b"))),)
    alone = line({("a", "b"): 100.0, ("a", "m"): 30.0, ("m", "b"): 30.0})
    made, _ = planned(NEAR, alone, pins=pins)
    assert made.pins[0].suspended == "x is not there"
    assert made.trees["a"].path("b") == ("a", "m", "b")


def test_a_relay_that_drains_or_is_kept_out_suspends_a_pin() -> None:
    pins = (PinState(Pin(("a", "x", "b"))),)
    for change, reason in (
        ({"draining": True}, "x is draining"),
        ({"transit": False}, "x is kept out of transit"),
    ):
        made, _ = planned(NEAR, with_nodes(NEAR, x=change), pins=pins)
        assert made.pins[0].suspended == reason
        assert made.trees["a"].path("b") == ("a", "m", "b")


def test_a_suspended_pin_comes_back_when_its_way_has_worked_for_the_hold_down() -> None:
    cut = with_links(NEAR, "usable", False, ("a", "b"))
    made, memory = planned(NEAR, cut, NEAR)
    assert "works again" in made.pins[0].suspended
    made, memory = planned(*[NEAR] * 27, start=memory, second=3)
    assert made.pins[0].suspended
    made, _ = planned(*[NEAR] * 5, start=memory, second=30)
    assert not made.pins[0].suspended
    assert made.trees["a"].path("b") == ("a", "b")


def test_a_link_that_comes_and_goes_does_not_move_a_pinned_route_each_time() -> None:
    cut = with_links(NEAR, "usable", False, ("a", "b"))
    memory, moves = PlannerMemory(), 0
    for second in range(60):
        here = at(cut if second % 5 == 4 else NEAR, second)
        made, memory = plan(here, all_origins(here), memory, CONFIG, PINNED)
        moves += sum(move.node == "b" and move.origin == "a" and second > 0 for move in made.moves)
    assert moves == 1


def test_a_given_reason_suspends_a_pin() -> None:
    made, memory = planned(NEAR, pins=(PinState(Pin(("a", "b")), "nobody publishes live/film"),))
    assert made.trees["a"].path("b") == ("a", "m", "b")
    made, _ = planned(NEAR, start=memory, second=1)
    assert not made.pins[0].suspended, "it has not failed, so nothing holds it down"


def test_an_overloaded_node_keeps_what_is_pinned_to_it() -> None:
    pins = (PinState(Pin(("a", "x", "b"))),)
    small = with_nodes(NEAR, x={"capacity_bps": 1_000})
    demand = {**all_origins(small), "a": Demand.from_loads({"b": 5_000_000})}
    made, _ = plan(small, demand, PlannerMemory(), CONFIG, pins)
    assert made.trees["a"].path("b") == ("a", "x", "b")
    assert made.overloaded == ("x",)


def test_nodes_kept_out_of_transit_relay_nothing_and_still_watch_and_publish() -> None:
    barred = with_nodes(NEAR, m={"transit": False})
    made, _ = planned(NEAR, barred, pins=())
    for origin, tree in made.trees.items():
        assert all("m" not in tree.path(node)[1:-1] for node in tree.parent)
        assert "m" in tree.parent or origin == "m"
        assert all("m" not in upstreams for node, upstreams in tree.backups.items() if origin != "m")


def test_a_link_price_moves_what_it_is_worth() -> None:
    config = dataclasses.replace(CONFIG, price_ms_per_unit=1_000.0)
    prices = np.zeros(NEAR.rtt_ms.shape)
    prices[NEAR.index["a"], NEAR.index["m"]] = 0.05
    dear = dataclasses.replace(NEAR, price_per_gb=prices)
    made, _ = plan(dear, all_origins(dear), PlannerMemory(), config)
    assert made.trees["a"].path("b") == ("a", "b")


def test_why_names_the_pin_in_force_and_the_better_way() -> None:
    made, memory = planned(NEAR)
    told = explain(at(NEAR, 0), made, memory, CONFIG, "a", "b")
    assert told.summary == "a > b at 50 ms by order, pinned; the best known is a > m > b at 31 ms"
    other = next(c for c in told.candidates if c.path == ("a", "m", "b"))
    assert other.why_not == "b is held to another way by the pin a > b"


def test_why_says_that_a_pin_is_suspended() -> None:
    cut = with_links(NEAR, "usable", False, ("a", "b"))
    made, memory = planned(NEAR, cut)
    told = explain(at(cut, 1), made, memory, CONFIG, "a", "b")
    assert told.summary.endswith("; the pin a > b is suspended: the link a > b is silent")


def test_the_better_way_that_why_names_is_one_that_could_be_taken() -> None:
    barred = with_nodes(NEAR, m={"transit": False})
    made, memory = planned(barred)
    told = explain(at(barred, 0), made, memory, CONFIG, "a", "b")
    assert told.summary == "a > b at 50 ms by order, pinned"
