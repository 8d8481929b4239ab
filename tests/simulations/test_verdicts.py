"""Judging promises over runs whose samples are known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.simulations import pools
from farcast.simulations.measured import WORLD, Measured, ViewerInfo, outputs_from_samples
from farcast.simulations.promises import parse_promise, render_promise
from farcast.simulations.results import Verdict
from farcast.simulations.verdicts import judge

VIEWERS = (
    ViewerInfo("v0", "farcast", "id", "jkt", "fra", access_rtt_ms=20, access_rate_mbps=10),
    ViewerInfo("v1", "stock", "id", "jkt", "fra", access_rtt_ms=90, access_rate_mbps=2),
    ViewerInfo("v2", "farcast", "ae", "dxb", "fra", access_rtt_ms=30, access_rate_mbps=20),
)


def latencies(seed: int, *by_viewer: Sequence[float]) -> Measured:
    values = [value for each in by_viewer for value in each]
    whose = [number for number, each in enumerate(by_viewer) for _ in each]
    return outputs_from_samples(seed, VIEWERS, samples={"glass_to_glass": (values, whose)})


def verdict(text: str, *runs: Measured) -> Verdict:
    return judge(text, parse_promise(text), runs)


def ends(found: Verdict) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def test_a_percentile_is_a_sample_that_the_share_does_not_exceed() -> None:
    run = latencies(1, list(range(1, 101)))
    found = verdict("glass_to_glass p99 < 100 ms", run)
    assert (found.status, found.value, found.limit, found.margin) == ("held", 99.0, 100.0, 1.0)
    assert found.margin_ratio == pytest.approx(0.01)
    assert verdict("glass_to_glass p99 < 99 ms", run).status == "broken"
    assert verdict("glass_to_glass p99 <= 99 ms", run).status == "held"
    assert verdict("glass_to_glass p100 < 101 ms", run).value == 100.0


def test_mean_min_max_and_total_are_what_they_say() -> None:
    run = latencies(1, [1, 2, 3], [10])
    assert verdict("glass_to_glass mean < 5 ms", run).value == 4.0
    assert verdict("glass_to_glass min > 0 ms", run).value == 1.0
    assert verdict("glass_to_glass max < 11 ms", run).value == 10.0
    assert verdict("glass_to_glass total < 17 ms", run, run).value == 16.0


def test_without_a_statistic_every_sample_has_to_keep_the_bound() -> None:
    run = latencies(1, [1, 2, 300])
    assert verdict("glass_to_glass < 300 ms", run).status == "broken"
    assert verdict("glass_to_glass > 0.5 ms", run).status == "held"
    assert verdict("glass_to_glass within 1..300 ms", run).status == "held"
    found = verdict("glass_to_glass within 1..299 ms", run)
    assert (found.status, found.value, found.limit, found.margin) == ("broken", 300.0, 299.0, -1.0)


def test_within_with_a_percentile_leaves_out_half_of_the_rest_on_either_side() -> None:
    run = latencies(1, [-500.0, *[0.0] * 98, 500.0])
    assert verdict("glass_to_glass p98 within -1..1 ms", run).status == "held"
    assert verdict("glass_to_glass p99 within -1..1 ms", run).status == "broken"


def test_within_of_a_single_figure_has_one_end() -> None:
    run = latencies(1, [1, 2, 30])
    assert verdict("glass_to_glass min within 0..1 ms", run).status == "held"
    assert verdict("glass_to_glass max within 29..31 ms", run).status == "held"
    assert verdict("glass_to_glass mean within 10.9..11 ms", run).status == "held"


def test_the_worst_market_decides_and_is_named() -> None:
    run = latencies(1, [10] * 100, [20] * 100, [50] * 10)
    found = verdict("glass_to_glass.worst_market p50 < 60 ms", run)
    assert (found.where_worst, found.value, found.samples, found.viewers) == ("ae", 50.0, 10, 1)
    assert verdict("glass_to_glass.worst_market p50 > 9 ms", run).where_worst == "id"
    assert verdict("glass_to_glass.worst_viewer p50 < 60 ms", run).where_worst == "v2"
    assert verdict("glass_to_glass.worst_pair.stock p50 < 60 ms", run).where_worst == "fra>jkt"


def test_scopes_and_conditions_choose_viewers() -> None:
    run = latencies(1, [10], [20], [50])
    assert verdict("glass_to_glass.stock max < 60 ms", run).value == 20
    assert verdict("glass_to_glass.market(id) max < 60 ms", run).value == 20
    assert verdict("glass_to_glass.pair(fra, dxb) max < 60 ms", run).value == 50
    assert verdict("glass_to_glass max < 60 ms where access_rtt <= 30 ms and market = id", run).value == 10
    assert verdict("glass_to_glass max < 60 ms where access_rate < 4 Mbit/s", run).value == 20
    assert verdict("glass_to_glass max < 60 ms where stack != stock and from_region = fra", run).value == 50


def test_no_data_is_never_held() -> None:
    run = latencies(1, [10], [20], [])
    for text in (
        "resume p99 < 500 ms",
        "stall_ratio < 0.5 %",
        "glass_to_glass.market(br) p99 < 500 ms",
        "glass_to_glass p99 < 500 ms where access_rtt > 1 s",
        "glass_to_glass.worst_market p99 < 500 ms",
    ):
        found = verdict(text, run)
        assert (found.status, found.value, found.samples) == ("no data", None, 0)
        assert "no sample" in found.note
    assert verdict("glass_to_glass.worst_market p99 < 500 ms", run).where_worst == "ae"
    assert verdict("glass_to_glass p99 < 500 ms").status == "no data"


def test_a_market_without_a_sample_does_not_hide_that_another_one_breaks_the_promise() -> None:
    viewers = (
        *VIEWERS,
        replace(VIEWERS[2], name="v3", market="qa"),
        replace(VIEWERS[2], name="v4", market="sa"),
    )
    run = outputs_from_samples(1, viewers, samples={"glass_to_glass": ([700.0, 650.0, 100.0], [0, 1, 3])})
    found = verdict("glass_to_glass.worst_market max < 600 ms", run)
    assert (found.status, found.value, found.where_worst) == ("broken", 700.0, "id")
    assert [(each.name, each.value) for each in found.missed_by] == [
        ("ae", None),
        ("sa", None),
        ("id", 700.0),
    ]
    assert "no sample of glass_to_glass for ae, sa, which have viewers" in found.note
    assert verdict("glass_to_glass.worst_market max < 800 ms", run).status == "no data"


def test_all_markets_that_miss_a_promise_are_named_the_worst_first() -> None:
    run = outputs_from_samples(1, VIEWERS, samples={"first_picture": ([700.0, 650.0, math.inf], [0, 1, 2])})
    found = verdict("first_picture.worst_market max < 600 ms", run)
    assert [(each.name, each.value, each.never) for each in found.missed_by] == [
        ("ae", None, 1),
        ("id", 700.0, 0),
    ]
    assert verdict("first_picture max < 600 ms", run).missed_by == ()
    assert verdict("first_picture.worst_viewer max < 680 ms", run).missed_by[1].name == "v0"


def test_what_never_happened_breaks_a_promise_and_is_counted() -> None:
    run = outputs_from_samples(1, VIEWERS, samples={"first_picture": ([200.0, 300.0, math.inf], [0, 1, 2])})
    found = verdict("first_picture p95 < 600 ms", run)
    assert (found.status, found.value, found.never) == ("broken", None, 1)
    assert "1 of 3 never happened" in found.note
    assert verdict("first_picture p50 < 600 ms", run).status == "held"
    assert verdict("first_picture mean < 600 ms", run).status == "broken"


def test_a_ratio_is_of_all_viewers_together_and_its_statistics_are_over_viewers() -> None:
    run = outputs_from_samples(1, VIEWERS, ratios={"stall_ratio": ([1, 0, 3], [100, 100, 200], [0, 1, 2])})
    assert verdict("stall_ratio <= 1 %", run).value == 1.0
    assert verdict("stall_ratio max < 2 %", run).value == 1.5
    assert verdict("stall_ratio.market(id) < 1 %", run).value == 0.5
    world = outputs_from_samples(1, VIEWERS, ratios={"bytes_over_direct": ([13], [10], [WORLD])})
    assert verdict("bytes_over_direct < 1.4 x", world).value == pytest.approx(1.3)
    assert verdict("bytes_over_direct.stock < 1.4 x", world).status == "no data"


def test_a_viewer_counts_as_often_as_it_stands_for_viewers() -> None:
    many = (replace(VIEWERS[0], weight=99.0), VIEWERS[1], VIEWERS[2])
    run = outputs_from_samples(1, many, samples={"connect": ([100.0, 900.0], [0, 1])})
    assert verdict("connect p99 < 500 ms", run).value == 100.0
    assert verdict("connect mean < 500 ms", run).value == pytest.approx(108.0)


def test_seeds_are_pooled_and_counted() -> None:
    runs = [latencies(seed, [100.0] * 99 + [400.0 + 100 * seed]) for seed in range(4)]
    found = verdict("glass_to_glass max < 600 ms", *runs)
    assert (found.status, found.seeds_held, found.seeds_total) == ("broken", 2, 4)
    found = verdict("glass_to_glass p99 < 600 ms", *runs)
    assert (found.status, found.seeds_held) == ("held", 4)
    assert found.seeds_held_share_low == pytest.approx(0.05 ** (1 / 4))


def test_a_seed_without_data_is_mentioned_and_does_not_count_as_held() -> None:
    found = verdict("glass_to_glass p99 < 600 ms", latencies(1, [10.0]), latencies(2, []))
    assert (found.status, found.seeds_held, found.seeds_total) == ("held", 1, 2)
    assert found.note == "1 of 2 seeds have no data"


def test_the_interval_is_over_seeds_where_there_are_enough_and_covers_their_differences() -> None:
    draw = np.random.default_rng(3)
    runs = [
        latencies(seed, (500 + draw.normal(0, 20) + draw.normal(0, 5, 300)).tolist()) for seed in range(20)
    ]
    found = verdict("glass_to_glass mean < 520 ms", *runs)
    assert found.interval_over == "seeds"
    assert found.value is not None
    low, high = ends(found)
    assert low < found.value < high
    assert 8 < high - low < 32
    sure = verdict("glass_to_glass mean < 600 ms", *runs)
    assert sure.sure
    assert not verdict(f"glass_to_glass mean < {found.value + 1:.3f} ms", *runs).sure
    assert verdict("glass_to_glass mean < 400 ms", *runs).sure


def test_with_few_seeds_the_interval_is_over_viewers_and_with_few_viewers_there_is_none() -> None:
    many = tuple(replace(VIEWERS[0], name=f"v{number}") for number in range(8))
    values = [float(100 * number) for number in range(8)]
    run = outputs_from_samples(1, many, samples={"connect": (values, list(range(8)))})
    found = verdict("connect p50 < 600 ms", run)
    assert found.interval_over == "viewers"
    low, high = ends(found)
    assert low <= 300 <= high
    assert verdict("glass_to_glass p99 < 600 ms", latencies(1, [1], [2], [3])).interval_over == "none"
    assert verdict("connect max < 900 ms", run).low is None


def test_a_verdict_is_the_same_every_time() -> None:
    draw = np.random.default_rng(5)
    runs = [latencies(seed, draw.lognormal(5, 1, 5_000).tolist()) for seed in range(6)]
    text = "glass_to_glass.worst_market p99.9 < 600 ms"
    assert verdict(text, *runs) == verdict(text, *runs)


@settings(deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60),
    stat=st.sampled_from(["mean", "min", "max", "p50", "p99", "p100"]),
    limits=st.tuples(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6)),
    op=st.sampled_from(["<", "<=", ">", ">="]),
)
def test_a_laxer_limit_never_breaks_what_a_stricter_one_holds(
    values: list[float], stat: str, limits: tuple[int, int], op: str
) -> None:
    run = latencies(1, values)
    strict, lax = sorted(limits, reverse=op.startswith(">"))
    held = verdict(f"glass_to_glass {stat} {op} {strict} ms", run)
    looser = verdict(f"glass_to_glass {stat} {op} {lax} ms", run)
    assert held.margin is not None
    assert looser.margin is not None
    assert looser.margin >= held.margin
    if held.status == "held":
        assert looser.status == "held"


@settings(deadline=None)
@given(
    values=st.lists(st.floats(0, 1e6), min_size=1, max_size=60),
    more=st.floats(0, 1e5),
    stat=st.sampled_from(["mean", "min", "max", "p50", "p90", "p99"]),
)
def test_a_larger_sample_never_lowers_a_statistic_and_order_does_not_matter(
    values: list[float], more: float, stat: str
) -> None:
    text = f"glass_to_glass {stat} < 1 s"
    before = verdict(text, latencies(1, values)).value
    after = verdict(text, latencies(1, [values[0] + more, *values[1:]])).value
    turned = verdict(text, latencies(1, values[::-1])).value
    assert before is not None
    assert after is not None
    assert after >= before - 1e-6
    assert turned == pytest.approx(before)


def test_the_drawn_quantiles_agree_with_those_of_the_samples_drawn() -> None:
    draw = np.random.default_rng(7)
    values = draw.lognormal(5, 1, 30_000)
    unit = np.repeat(np.arange(10), 3_000)
    pool = pools.Pool(values, np.ones(values.size), unit)
    drawn = pools.drawn_quantiles(pool, 0.99)
    weights = pools._draws(unit)
    exact = np.array(
        [pools.quantile(pools.Pool(values, row[unit] + 0.0, unit), 0.99) for row in weights[:40]]
    )
    assert np.abs(drawn[:40] / exact - 1).max() < 0.01


def test_the_bound_of_clopper_and_pearson_is_that_of_the_tables() -> None:
    assert pools.share_low(20, 20) == pytest.approx(0.05 ** (1 / 20), rel=1e-6)
    assert pools.share_low(0, 20) == 0.0
    assert pools.share_low(9, 10) == pytest.approx(0.6058, abs=1e-4)
    assert pools.share_low(95, 100) == pytest.approx(0.8977, abs=1e-4)


@given(st.integers(0, 50), st.integers(1, 50))
def test_more_seeds_held_never_lower_the_bound(held: int, total: int) -> None:
    held = min(held, total)
    assert 0 <= pools.share_low(held, total) <= held / total
    if held:
        assert pools.share_low(held, total) >= pools.share_low(held - 1, total)


def test_figures_of_outputs_that_do_not_exist_or_do_not_fit_are_refused() -> None:
    for samples in ({"no_such": ([1.0], [0])}, {"stall_ratio": ([1.0], [0])}, {"connect": ([1.0], [3])}):
        with pytest.raises(ValueError, match=r"no such output|kind|position"):
            outputs_from_samples(1, VIEWERS, samples=samples)
    with pytest.raises(ValueError, match="one length"):
        outputs_from_samples(1, VIEWERS, samples={"connect": ([1.0, 2.0], [0])})
    with pytest.raises(ValueError, match="no number"):
        outputs_from_samples(1, VIEWERS, samples={"connect": ([math.nan], [0])})


def test_a_verdict_keeps_the_words_of_the_scenario() -> None:
    text = "glass_to_glass   p99<600ms"
    assert verdict(text, latencies(1, [1.0])).promise == text
    assert render_promise(parse_promise(text)) == "glass_to_glass p99 < 600 ms"
