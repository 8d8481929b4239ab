"""Quantiles of many sketches at once: right to 2 %, and each as if it were alone."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from farcast.control_plane.sketch_quantiles import quantiles_of
from farcast.proto.telemetry.sketch import BUCKET_MAX, Sketch, value_of

_values = st.floats(1, 2.0**53) | st.integers(1, 60_000_000)
_counts = st.integers(-2, 3) | st.integers(0, 2**40)
_sketches = st.dictionaries(st.integers(-3, BUCKET_MAX + 3), _counts, max_size=5)


@given(st.lists(_values, min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_right_to_two_percent(values: list[float], q: float) -> None:
    exact = sorted(values)[math.floor(q * (len(values) - 1))]
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    got = float(quantiles_of([sketch.counts], q)[0])
    assert abs(got - exact) <= 0.02 * exact * (1 + 1e-9)


@given(st.lists(_sketches, max_size=8), st.floats(0, 1))
def test_quantiles_of_many_are_those_of_each(sketches: list[dict[int, int]], q: float) -> None:
    """By the rule that a quantile has, counted one by one."""
    got = quantiles_of(sketches, q)
    assert len(got) == len(sketches)
    for value, counts in zip(got.tolist(), sketches, strict=True):
        filled = sorted((bucket, count) for bucket, count in counts.items() if count > 0)
        rank = q * (sum(count for _, count in filled) - 1)
        below, wanted = 0, math.nan
        for bucket, count in filled:
            below += count
            if below > rank:
                wanted = value_of(min(max(bucket, 0), BUCKET_MAX))
                break
        assert value == wanted or (math.isnan(value) and math.isnan(wanted))


def test_sums_beyond_64_bits_spoil_no_quantile() -> None:
    full = dict.fromkeys(range(1_000), 2**53 - 1)
    got = quantiles_of([full, full, {100: 1, 200: 1}, full], 0.5)
    assert got[2] == value_of(100)


def test_a_rank_that_is_rounded_up_to_the_sum_stays_within_its_sketch() -> None:
    got = quantiles_of([{1: 2**53 - 1, 2: 5}, {300: 1}], 1.0)
    assert got.tolist() == [value_of(2), value_of(300)]
    assert quantiles_of([{1: 2**53 - 1, 2: 5}], 1.0).tolist() == [value_of(2)]


def test_no_sketches_have_no_quantiles_and_an_empty_one_none() -> None:
    assert len(quantiles_of([], 0.5)) == 0
    assert math.isnan(quantiles_of([{}], 0.5)[0])
