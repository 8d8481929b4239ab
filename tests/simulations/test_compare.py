"""Comparisons: what counts as better, and what a variant leaves of a world."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from sim_results import broken_result, held_result
from tiny_scenario import write_tiny

from farcast.simulations.compare import (
    FIGURES,
    Figure,
    Line,
    compare_results,
    compare_runs,
    failures,
    in_words,
    interval,
    summary_text,
)
from farcast.simulations.events import kind_of
from farcast.simulations.measured import Measured, ViewerInfo, outputs_from_samples
from farcast.simulations.results import MapLink, MapNode
from farcast.simulations.scenario import Scenario
from farcast.simulations.scenario_file import load_scenario
from farcast.simulations.variants import VARIANTS, left_out
from farcast.simulations.worlds import build_world

LATENCY = next(figure for figure in FIGURES if figure.name == "glass to glass p99")
HD = next(figure for figure in FIGURES if figure.more_is_better)


def line(before: Sequence[float], after: Sequence[float], figure: Figure = LATENCY) -> Line:
    pooled = {"direct": sum(before) / len(before), "farcast": sum(after) / len(after)}
    return Line(figure, "stock", pooled, {"direct": before, "farcast": after})


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([400, 410, 405], [300, 311, 302], "better"),
        ([300, 311, 302], [400, 410, 405], "worse"),
        ([300, 311, 302], [301, 310, 303], "as good"),
        ([300, 500, 400], [500, 300, 310], "unclear"),
        ([400], [300], "unclear"),
    ],
)
def test_a_difference_counts_if_it_is_sure_and_worth_naming(
    before: list[float], after: list[float], verdict: str
) -> None:
    assert line(before, after).verdict("direct", "farcast") == verdict


def test_a_tail_that_is_always_shorter_is_better_however_much_it_varies() -> None:
    tails = [20_000, 900, 4_000, 1_100, 7_000, 1_500]
    assert line(tails, [400, 410, 390, 405, 398, 411]).verdict("direct", "farcast") == "better"


def test_times_are_compared_as_ratios_and_shares_as_differences() -> None:
    halved = line([400, 800, 1_600], [200, 400, 800]).difference("direct", "farcast")
    assert halved == pytest.approx((-0.5, -0.5, -0.5))
    more = line([80, 80, 80], [90, 90, 90], HD).difference("direct", "farcast")
    assert more == pytest.approx((10.0, 10.0, 10.0))


def test_more_hd_is_better() -> None:
    assert line([80, 81, 80], [99, 99, 98], HD).verdict("direct", "farcast") == "better"


def test_without_figures_nothing_is_said() -> None:
    bare = Line(LATENCY, "stock", {"direct": None, "farcast": 1.0}, {"direct": [None], "farcast": [1.0]})
    assert bare.verdict("direct", "farcast") == "no data"


def test_what_never_happened_is_no_reason_to_leave_a_seed_out() -> None:
    never = math.inf
    served, dead = [400.0, 410.0, 405.0, 402.0], [400.0, never, 405.0, never]
    assert line([never] * 4, served).verdict("direct", "farcast") == "better"
    assert line(served, [never] * 4).verdict("direct", "farcast") == "worse"
    assert line([never] * 4, [never] * 4).verdict("direct", "farcast") == "as bad"
    found = line(served, dead)
    assert (found.never("direct"), found.never("farcast")) == (0, 2)
    assert found.verdict("direct", "farcast") == "unclear"
    mean, _, _ = found.difference("direct", "farcast") or (0, 0, 0)
    assert mean > 1, "the two seeds count"


def test_a_seed_with_one_figure_of_two_is_not_compared() -> None:
    half = Line(
        LATENCY, "stock", {"direct": 400.0, "farcast": 300.0}, {"direct": [400, 401], "farcast": [300, None]}
    )
    assert half.verdict("direct", "farcast") == "no data"


def test_a_quantile_that_is_infinite_is_read_as_that_and_viewers_without_a_picture_are_counted() -> None:
    viewers = tuple(ViewerInfo(f"v{k}", "stock", "id", "jkt", "fra") for k in range(4))
    run = outputs_from_samples(
        1, viewers, samples={"first_picture": ([200.0, 300.0, 250.0, math.inf], [0, 1, 2, 3])}
    )
    fine = outputs_from_samples(
        1, viewers, samples={"first_picture": ([200.0, 300.0, 250.0, 280.0], [0, 1, 2, 3])}
    )
    found = {each.figure.name: each for each in compare_runs({"direct": [run], "farcast": [fine]})}
    assert found["first picture p95"].pooled == {"direct": math.inf, "farcast": 300.0}
    assert found["first picture p95"].by_seed["direct"] == (math.inf,)
    assert found["viewers without a picture"].pooled == {"direct": 25.0, "farcast": 0.0}


def test_invariants_and_runs_that_failed_are_said() -> None:
    assert failures(held_result()) == []
    (invariant,) = failures(broken_result())
    assert invariant.startswith("sea-to-eu, seed 3, 14.203 s: in order")
    seeds = (msgspec.structs.replace(held_result().seeds[0], failure="SIGKILL\nmore"),)
    crashed = msgspec.structs.replace(held_result(), seeds=seeds)
    assert failures(crashed) == ["eu-to-sea, seed 1: SIGKILL"]


def test_the_interval_is_students() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0]) or (0, 0, 0)
    half = 4.303 * 1.0 / math.sqrt(3)
    assert (mean, low, high) == pytest.approx((2.0, 2.0 - half, 2.0 + half))
    assert interval([]) is None


def test_where_nothing_is_gained_that_is_what_is_said() -> None:
    (said,) = summary_text(
        [line([300, 311, 302], [301, 310, 303])], "direct", "farcast", {"direct": "(b)", "farcast": "(c)"}
    )
    assert said == "stock viewers: (c) against (b): (b) as good in everything: nothing here needs it"


def test_who_is_better_is_named_for_each_measure_bytes_included_be_it_the_one_without_us() -> None:
    nodes = tuple(MapNode(name=name, kind="edge", region="fra") for name in ("a", "b"))

    def run(between_edges: int) -> Measured:
        links = (
            MapLink(src="a", dst="b", bytes=between_edges),
            MapLink(src="b", dst="viewer", bytes=5_000_000),
        )
        return replace(outputs_from_samples(1, (), samples={}), nodes=nodes, links=links)

    lines = compare_runs(
        {"one-relay": [run(0)] * 3, "direct": [run(10_000_000)] * 3, "farcast": [run(22_000_000)] * 3}
    )
    edges, clients = lines
    assert edges.pooled == {"one-relay": 0.0, "direct": 10.0, "farcast": 22.0}
    titles = {"one-relay": "(a)", "direct": "(b)", "farcast": "(c)"}
    for base, letter in (("direct", "(b)"), ("one-relay", "(a)")):
        assert edges.verdict(base, "farcast") == "worse"
        assert clients.verdict(base, "farcast") == "as good"
        assert summary_text(lines, base, "farcast", titles) == [
            f"bytes: (c) against {letter}: {letter} better in bytes between edges, a run; "
            f"{letter} as good in bytes from and to clients, a run"
        ]
    assert edges.difference("direct", "farcast") == pytest.approx((1.2, 1.2, 1.2))
    fewer = compare_runs({"direct": [run(22_000_000)] * 3, "farcast": [run(10_000_000)] * 3})[0]
    assert in_words(fewer.verdict("direct", "farcast"), "(b)", "(c)") == "(c) better"


@pytest.fixture
def scenario(tmp_path: Path) -> Scenario:
    events = """
[[event]]
at_s = 1
kind = "cut"
links = [["sin", "fra"]]

[[event]]
at_s = 2
kind = "control-stop"

[[event]]
at_s = 3
kind = "slow-viewer"
clients = ["watching-1"]
rate_mbps = 1
"""
    return load_scenario(write_tiny(tmp_path, more=events))


def test_one_relay_is_the_publishers_and_everybody_else_comes_over_the_internet(scenario: Scenario) -> None:
    spec = build_world(scenario, 5)
    world, kept = VARIANTS["one-relay"].derive(spec, scenario)
    assert [edge.node_id for edge in world.edges] == ["sin-1"]
    assert world.paths == ()
    assert all(client.edges == ("sin-1",) for client in world.clients)
    assert min(client.access_rtt_ms for client in world.viewers) > 100, "from Germany to Singapore"
    assert [client.access_down for client in world.clients] == [client.access_down for client in spec.clients]
    assert [kind_of(event) for event in kept.events] == ["slow-viewer"]
    assert [kind_of(event) for event in left_out(scenario, spec, "one-relay")] == ["cut", "control-stop"]


def test_direct_is_the_same_world_without_a_control_plane(scenario: Scenario) -> None:
    spec = build_world(scenario, 5)
    world, kept = VARIANTS["direct"].derive(spec, scenario)
    assert (world.edges, world.paths, world.clients) == (spec.edges, spec.paths, spec.clients)
    assert world.routing == "origin-streams"
    assert [kind_of(event) for event in kept.events] == ["cut", "slow-viewer"]


def test_farcast_is_the_world_as_it_is(scenario: Scenario) -> None:
    spec = build_world(scenario, 5)
    assert VARIANTS["farcast"].derive(spec, scenario) == (spec, scenario)


def test_a_promise_is_shown_as_it_was_and_as_it_is() -> None:
    held, broken = held_result(), broken_result()
    changes = {change.promise: change for change in compare_results(held, broken)}
    assert len(changes) == len(held.verdicts)
    latency = changes[broken.verdicts[0].promise]
    assert (latency.status_before, latency.status_after) == ("held", "broken")
    assert (latency.before, latency.after) == (512.0, 742.4)
