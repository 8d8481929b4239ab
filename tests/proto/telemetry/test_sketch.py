"""Sketches: a bucket stands for its values to 2 %, and adding up does not depend on the order."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.telemetry.sketch import BUCKET_MAX, GAMMA, Sketch, bucket_of

_values = st.floats(1, 2.0**53) | st.integers(1, 60_000_000)
_lists = st.lists(_values, max_size=60)


def sketch_of(values: list[float]) -> Sketch:
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    return sketch


@given(_lists, _lists, _lists)
def test_merging_is_associative_and_commutative_and_adds_values(
    a: list[float], b: list[float], c: list[float]
) -> None:
    def merged(*parts: Sketch | dict[int, int]) -> Sketch:
        total = Sketch()
        for part in parts:
            total.merge(part)
        return total

    x, y, z = sketch_of(a), sketch_of(b), sketch_of(c)
    assert merged(merged(x, y), z) == merged(x, merged(y, z)) == merged(z, y, x) == sketch_of(a + b + c)
    assert merged(x.counts, y.counts) == merged(y, x)
    assert merged(x, y).count == len(a) + len(b)


def test_gamma_is_that_of_two_percent() -> None:
    assert pytest.approx(1.02 / 0.98) == GAMMA


@pytest.mark.parametrize(("value", "bucket"), [(0, 0), (1, 0), (1.01, 1), (1_000, 173), (160_000, 300)])
def test_buckets_are_those_of_the_datapath(value: float, bucket: int) -> None:
    assert bucket_of(value) == bucket
    assert bucket == 0 or GAMMA ** (bucket - 1) < value <= GAMMA**bucket


@pytest.mark.parametrize("value", [-1, -math.inf, 0.5])
def test_what_is_below_one_shares_the_first_bucket(value: float) -> None:
    assert bucket_of(value) == 0


@pytest.mark.parametrize("value", [1e300, math.inf])
def test_what_is_beyond_all_measure_shares_the_last_bucket(value: float) -> None:
    assert bucket_of(value) == BUCKET_MAX
    assert bucket_of(2**53) < BUCKET_MAX


def test_nan_is_no_value() -> None:
    with pytest.raises(ValueError, match="NaN"):
        Sketch().add(math.nan)


def test_foreign_counts_cannot_do_harm() -> None:
    sketch = Sketch({-5: 1, 9_999: 2, 10: -3, 11: 0})
    assert sketch.counts == {0: 1, BUCKET_MAX: 2}
    assert sketch.count == 3


def test_counts_are_a_copy_and_make_the_same_sketch() -> None:
    sketch = sketch_of([5.0, 7.0, 5.0])
    counts = sketch.counts
    assert Sketch(counts) == sketch
    counts.clear()
    assert sketch.count == 3
