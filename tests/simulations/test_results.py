"""Results as JSON and back, and what is refused."""

from __future__ import annotations

import json
import math

import msgspec
import numpy as np
import pytest

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations import results
from farcast.simulations.measured import WORLD, Measured, ViewerInfo, outputs_from_samples
from farcast.simulations.results import (
    CDF_POINTS_MAX,
    RESULT_VERSION,
    TIMELINE_ENTRIES_MAX,
    BuildInfo,
    InvariantFailure,
    MapLink,
    MapNode,
    Result,
    ScenarioInfo,
    SeedResult,
    TimelineEntry,
    from_json,
    to_json,
)
from farcast.simulations.summaries import make_result, summarise

SCENARIO = ScenarioInfo(name="sea-to-eu", title="SEA to Europe", version=1, duration_s=30.0, sources=("AWS",))
BUILD = BuildInfo(version="0.1", commit="abc", python="3.11", machine="x86_64")
VIEWERS = (
    ViewerInfo("v0", "farcast", "id", "jkt", "fra"),
    ViewerInfo("v1", "stock", "ae", "dxb", "fra"),
)
PROMISES = ("glass_to_glass p99 < 600 ms", "first_picture p95 < 600 ms", "resume p99 < 500 ms")


def run(seed: int = 1, entries: int = 3) -> Measured:
    values = np.linspace(100, 400, 1_000)
    measured = outputs_from_samples(
        seed,
        VIEWERS,
        samples={
            "glass_to_glass": (np.append(values, values + 100), np.repeat([0, 1], 1_000)),
            "first_picture": ([300.0, math.inf], [0, 1]),
        },
        ratios={"stall_ratio": ([1, 3], [100, 100], [0, 1]), "bytes_over_direct": ([13], [10], [WORLD])},
        trace_hash="feed",
        timeline=[
            TimelineEntry(seed=seed, at_us=number, kind="route" if number else "fault", what="cut")
            for number in range(entries)
        ],
    )
    return Measured(
        seed=measured.seed,
        trace_hash=measured.trace_hash,
        virtual_s=30.0,
        viewers=measured.viewers,
        samples=measured.samples,
        ratios=measured.ratios,
        timeline=measured.timeline,
        nodes=(MapNode(name="e1", kind="edge", region="fra", lat=50.1, lon=8.7),),
        links=(MapLink(src="e1", dst="e2", rtt_ms=160.0, bytes=10, loss=0.01),),
    )


def result(*runs: Measured) -> Result:
    seeds = [
        SeedResult(seed=each.seed, trace_hash="feed", replay="farcast sim replay", virtual_s=30.0)
        for each in runs
    ]
    return make_result(SCENARIO, BUILD, PROMISES, seeds, runs)


def test_a_result_that_is_written_and_read_is_the_same_and_has_no_infinity() -> None:
    made = result(run(1), run(2))
    text = to_json(made)
    assert from_json(text) == made
    assert from_json(text.decode()) == made

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    json.loads(text, parse_constant=refuse)


def test_the_promises_are_judged_and_infinity_is_a_null_with_a_note() -> None:
    held, broken, none = result(run()).verdicts
    assert [held.status, broken.status, none.status] == ["held", "broken", "no data"]
    assert (broken.value, broken.never, broken.margin) == (None, 1, None)
    assert broken.note == "1 of 2 never happened"
    assert not result(run()).held


def test_summaries_are_by_all_stack_market_and_pair() -> None:
    found = {(each.output, each.scope): each for each in summarise([run()])}
    scopes = [scope for output, scope in found if output == "glass_to_glass"]
    assert scopes == [
        "all",
        "stack:farcast",
        "stack:stock",
        "market:ae",
        "market:id",
        "pair:fra>dxb",
        "pair:fra>jkt",
    ]
    everything = found["glass_to_glass", "all"]
    assert (everything.count, everything.viewers, everything.unit) == (2_000, 2, "ms")
    assert everything.quantiles["0.5"] == pytest.approx(300, abs=1)
    assert found["glass_to_glass", "market:ae"].minimum == 200.0
    assert found["stall_ratio", "all"].ratio == 2.0
    assert found["stall_ratio", "market:ae"].ratio == 3.0
    assert [scope for output, scope in found if output == "bytes_over_direct"] == ["all"]
    assert found["bytes_over_direct", "all"].ratio == pytest.approx(1.3)


def test_a_distribution_function_rises_to_one_or_to_the_share_that_happened() -> None:
    found = {(each.output, each.scope): each for each in summarise([run()])}
    points = found["glass_to_glass", "all"].cdf
    assert len(points) <= CDF_POINTS_MAX
    assert list(points) == sorted(points)
    assert points[-1] == (500.0, 1.0)
    assert found["first_picture", "all"].cdf == ((300.0, 0.5),)
    assert found["first_picture", "all"].never == 1


def test_a_long_timeline_keeps_what_matters_and_says_how_much_it_left_out() -> None:
    made = result(run(entries=TIMELINE_ENTRIES_MAX + 10))
    assert len(made.timeline) == TIMELINE_ENTRIES_MAX
    assert made.timeline_left_out == 10
    assert made.timeline[0].kind == "fault"


def test_a_failed_run_or_invariant_is_not_held() -> None:
    fine = make_result(SCENARIO, BUILD, PROMISES[:1], [], [run()])
    assert fine.held
    failed = SeedResult(seed=2, trace_hash="", replay="r", virtual_s=0.0, failure="KeyError")
    assert not make_result(SCENARIO, BUILD, PROMISES[:1], [failed], [run()]).held
    broken = InvariantFailure(seed=1, at_us=5, invariant="no circle", what="e1 e2 e1")
    assert not msgspec.structs.replace(fine, invariant_failures=(broken,)).held


def test_without_runs_there_is_a_result_in_which_nothing_is_held() -> None:
    made = make_result(SCENARIO, BUILD, PROMISES, [], [])
    assert {verdict.status for verdict in made.verdicts} == {"no data"}
    assert from_json(to_json(made)) == made


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "not a simulation's result"),
        (b"[1, 2]", "not a simulation's result"),
        (b"{}", "no version"),
        (b'{"version": 2}', "version 2, and this build reads version 1"),
        (b'{"version": 1}', "missing required field"),
        (b"\xff\xfe", "not a simulation's result"),
        (b"[" * 100_000, "not a simulation's result"),
    ],
)
def test_what_is_no_result_of_this_version_is_one_clear_error(text: bytes, words: str) -> None:
    assert RESULT_VERSION == 1
    with pytest.raises(UserError) as caught:
        from_json(text, "old.json")
    assert caught.value.exit_code == EXIT_USAGE
    assert caught.value.message.startswith("old.json: ")
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_a_huge_file_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "RESULT_BYTES_MAX", 10)
    with pytest.raises(UserError, match="larger than"):
        from_json(b"x" * 11, "big.json")
