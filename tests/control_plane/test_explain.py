"""Why a route is what it is, in terms that add up and sentences that say what holds a better one back."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import all_origins, at, first_plan, line, network_of, with_links, with_nodes

from farcast.control_plane.network import Network
from farcast.control_plane.planner import Explanation, PlannerConfig, PlannerMemory, explain, plan

CONFIG = PlannerConfig()
NEAR = line({("a", "b"): 100.0, ("a", "m"): 30.0, ("m", "b"): 30.0})
FAR = line({("a", "b"): 100.0, ("a", "m"): 100.0, ("m", "b"): 100.0})


def asked(network: Network, *before: Network, src: str = "a", dst: str = "b") -> Explanation:
    """Explain after planning ``before``, one a second, and then ``network``."""
    memory = PlannerMemory()
    for second, each in enumerate((*before, network)):
        here = at(each, second)
        made, memory = plan(here, all_origins(here), memory, CONFIG)
    return explain(here, made, memory, CONFIG, src, dst)


def why_not(explanation: Explanation, *path: str) -> str:
    (found,) = [c.why_not for c in explanation.candidates if c.path == path]
    return found


def test_the_chosen_way_and_what_the_direct_one_would_cost() -> None:
    explanation = asked(NEAR)
    assert explanation.summary == "a > m > b at 31 ms is the best known; direct it would be 50 ms"
    assert [c.path for c in explanation.candidates] == [("a", "m", "b"), ("a", "b")]
    assert explanation.candidates[0].chosen
    assert explanation.candidates[0].why_not == ""
    assert why_not(explanation, "a", "b") == "costs 19.0 ms more, by propagation (+20.0 ms)"
    assert explanation.backups == (("a", ()),)


def test_a_better_way_that_is_still_counted() -> None:
    explanation = asked(NEAR, FAR)
    assert why_not(explanation, "a", "m", "b") == "better for 1 of 3 reports in a row that it takes"
    assert "is better: better for 1 of 3 reports" in explanation.summary


def test_a_better_way_that_is_held_down() -> None:
    explanation = asked(FAR, FAR, NEAR, NEAR, NEAR)
    assert explanation.candidates[0].path == ("a", "b")
    assert "held down for" in why_not(explanation, "a", "b")


def test_a_better_way_that_is_not_better_by_enough() -> None:
    slightly = line({("a", "b"): 100.0, ("a", "m"): 47.0, ("m", "b"): 47.0})
    explanation = asked(slightly, FAR)
    assert why_not(explanation, "a", "m", "b").startswith("better by 2.0 ms (4%); a move needs 10 ms and 10%")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (with_nodes(NEAR, m={"draining": True}), "m is draining"),
        (with_nodes(NEAR, m={"connected": False}), "m has no control session and gets no new children"),
        (with_links(NEAR, "usable", False, ("m", "b")), "the link m > b is silent"),
        (with_links(NEAR, "fresh", False, ("m", "b")), "nothing new is known of the link m > b"),
    ],
)
def test_a_way_that_must_not_be_taken(changed: Network, reason: str) -> None:
    assert why_not(asked(changed), "a", "m", "b") == reason


def test_a_way_beyond_the_bounds() -> None:
    lossy = with_links(NEAR, "loss_high", 0.2, ("m", "b"))
    assert why_not(asked(lossy), "a", "m", "b").startswith("beyond the bound on loss: 20")
    slow = line({("a", "b"): 900.0, ("a", "m"): 100.0, ("m", "b"): 100.0})
    assert why_not(asked(slow), "a", "b") == "beyond the bound on delay: 450 of 400 ms"


def test_a_way_that_another_edge_does_not_go() -> None:
    """``x`` would be best by ``y`` by ``b``, and ``b`` takes the origin otherwise."""
    network = line({("a", "b"): 100.0, ("a", "m"): 30.0, ("m", "b"): 30.0, ("b", "x"): 20.0})
    explanation = asked(network, dst="x")
    assert explanation.candidates[0].path == ("a", "m", "b", "x")
    assert why_not(explanation, "a", "b", "x").startswith("costs 19.0 ms more")


def test_a_node_that_nothing_reaches_and_the_origin_itself() -> None:
    cut = with_links(line({("a", "b"): 20.0}), "usable", False, ("a", "b"))
    assert asked(cut).summary.startswith("nothing reaches b")
    assert asked(cut, dst="a").summary == "a is the origin itself"


def test_unknown_names_are_told() -> None:
    made, memory = first_plan(NEAR)
    with pytest.raises(KeyError, match="node 'x' is not in the network"):
        explain(NEAR, made, memory, CONFIG, "a", "x")
    only_a, memory = first_plan(NEAR, {"a": all_origins(NEAR)["a"]})
    with pytest.raises(KeyError, match="origin of no tree"):
        explain(NEAR, only_a, memory, CONFIG, "m", "b")


def test_a_network_that_has_changed_since_the_plan_is_no_trouble() -> None:
    made, memory = first_plan(NEAR)
    grown = line({("a", "b"): 100.0, ("a", "z"): 10.0, ("z", "b"): 10.0})
    explanation = explain(grown, made, memory, CONFIG, "a", "b")
    assert why_not(explanation, "a", "z", "b")
    assert explain(grown, made, memory, CONFIG, "a", "z").backups == ()


@given(st.integers(0, 2**32 - 1), st.integers(2, 10))
def test_terms_add_up_and_all_of_it_is_json(seed: int, count: int) -> None:
    network = network_of(seed, count)
    made, memory = first_plan(network)
    for dst in network.node_ids[1:]:
        explanation = explain(network, made, memory, CONFIG, network.node_ids[0], dst)
        assert sum(c.chosen for c in explanation.candidates) == (dst in made.trees["n0"].parent)
        for c in explanation.candidates:
            terms = c.propagation_ms + c.repair_ms + c.jitter_ms + c.relay_ms
            assert c.delay_ms == pytest.approx(terms)
            assert c.cost_ms == pytest.approx(terms + c.load_ms + c.price_ms)
            assert c.chosen == (c.why_not == "")
        json.dumps(dataclasses.asdict(explanation))
