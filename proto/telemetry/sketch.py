"""Distributions that can be added up: DDSketch (Masson, Rim, Lee, "DDSketch", PVLDB 12(12), 2019).

A value v > 1 is counted in bucket ceil(log_gamma(v)) with gamma = (1 + a) / (1 - a); everything in a bucket
is within a share of a of the bucket's representative 2 * gamma^i / (gamma + 1). So a quantile is right to
a = 2 % whatever the distribution, and two sketches add up by adding counts: sums of edges, of seconds, in
any order. The datapath counts RTTs by the same rule, in microseconds. Values up to 1 share bucket 0, values
above 2^53 the last one; the number of buckets is bounded by that, so nothing is ever collapsed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from farcast.proto.control.ranges import SKETCH_BUCKETS_MAX

RELATIVE_ACCURACY: Final = 0.02
GAMMA: Final = (1 + RELATIVE_ACCURACY) / (1 - RELATIVE_ACCURACY)
BUCKET_MAX: Final = SKETCH_BUCKETS_MAX - 1
"""Index of the last bucket; 2^53 is in bucket 919."""

_LN_GAMMA = math.log(GAMMA)


def bucket_of(value: float) -> int:
    """Index of the bucket that ``value`` belongs to. NaN has none and raises ``ValueError``."""
    if value <= 1:
        return 0
    if math.isinf(value):
        return BUCKET_MAX
    return min(math.ceil(math.log(value) / _LN_GAMMA), BUCKET_MAX)


def value_of(bucket: int) -> float:
    """The value that stands for a bucket: at most 2 % from everything in it."""
    return 2 * GAMMA**bucket / (GAMMA + 1)


class Sketch:
    """Counts per bucket. Empty at first, or with the counts of a report."""

    __slots__ = ("_count", "_counts")

    def __init__(self, counts: Mapping[int, int] | None = None) -> None:
        self._counts: dict[int, int] = {}
        self._count = 0
        if counts:
            self.merge(counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sketch) and self._counts == other._counts

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Sketch({self.counts})"

    @property
    def count(self) -> int:
        """Values counted."""
        return self._count

    @property
    def counts(self) -> dict[int, int]:
        """Bucket to count, in the order of the buckets; a copy."""
        return dict(sorted(self._counts.items()))

    def add(self, value: float, count: int = 1) -> None:
        """Count ``value`` that many times."""
        self._put(bucket_of(value), count)

    def merge(self, other: Sketch | Mapping[int, int]) -> None:
        """Add the counts of another sketch, or of a report's ``rtt_sketch``.

        Buckets beyond either end go into the outermost one; counts below 1 are no counts and are ignored.
        """
        for bucket, count in (other._counts if isinstance(other, Sketch) else other).items():
            self._put(min(max(bucket, 0), BUCKET_MAX), count)

    def _put(self, bucket: int, count: int) -> None:
        if count > 0:
            self._counts[bucket] = self._counts.get(bucket, 0) + count
            self._count += count
