"""Quantiles of a stream of integers in bounded memory.

A histogram with buckets that grow with the value: 64 per octave, so a quantile is off by at most 0.8 % (and
exact up to 127). Minimum, maximum and mean are exact.
"""

from __future__ import annotations

_SUB_BITS = 6
_SUB = 1 << _SUB_BITS
VALUE_MAX = 1 << 40
"""Magnitudes beyond are counted as this: the number of buckets is bounded by about 4,500."""


class Quantiles:
    """Collects values of either sign."""

    def __init__(self) -> None:
        self._buckets: dict[int, int] = {}
        self._sum = 0
        self.count = 0
        self.minimum: int | None = None
        self.maximum: int | None = None

    def add(self, value: int) -> None:
        """Count one value."""
        bucket = _bucket(min(value, VALUE_MAX)) if value >= 0 else -1 - _bucket(min(-value, VALUE_MAX))
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self._sum += value
        self.count += 1
        self.minimum = value if self.minimum is None else min(self.minimum, value)
        self.maximum = value if self.maximum is None else max(self.maximum, value)

    def mean(self) -> float | None:
        """The mean, None without values."""
        return self._sum / self.count if self.count else None

    def quantile(self, ratio: float) -> int | None:
        """The smallest value not below which lies ``ratio`` (0 to 1) of all; None without values."""
        if self.minimum is None or self.maximum is None:
            return None
        rank = max(-int(-ratio * self.count // 1), 1)
        for bucket in sorted(self._buckets):
            rank -= self._buckets[bucket]
            if rank <= 0:
                return min(max(_middle(bucket), self.minimum), self.maximum)
        return self.maximum


def _bucket(magnitude: int) -> int:
    shift = max(magnitude.bit_length() - _SUB_BITS - 1, 0)
    return (shift << _SUB_BITS) + (magnitude >> shift)


def _middle(bucket: int) -> int:
    if bucket < 0:
        return -_middle(-1 - bucket)
    shift = max((bucket >> _SUB_BITS) - 1, 0)
    low = (bucket - (shift << _SUB_BITS)) << shift
    return low + ((1 << shift) - 1) // 2
