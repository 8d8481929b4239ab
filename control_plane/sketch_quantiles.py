"""Quantiles of many sketches at once: a control plane asks for thousands a second, of two or three buckets
each, where a call for each would cost more than its arithmetic. Edges only count, and need no numpy for it
(`farcast.proto.telemetry.sketch`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from farcast.control_plane.network import Floats
from farcast.proto.telemetry.sketch import BUCKET_MAX, value_of

_VALUES = np.array([value_of(bucket) for bucket in range(BUCKET_MAX + 1)])


def quantiles_of(sketches: Sequence[Mapping[int, int]], q: float) -> Floats:
    """Of each sketch, given as its counts, the value below which a share ``q`` (0 to 1) of all lies, to 2 %;
    NaN where it is empty. Counts below 1 are no counts; a bucket beyond either end is the outermost one."""
    lengths = np.fromiter(map(len, sketches), np.int64, len(sketches))
    buckets = np.fromiter(chain.from_iterable(sketches), np.int64, lengths.sum())
    counts = np.fromiter(chain.from_iterable(s.values() for s in sketches), np.int64, len(buckets))
    owners = np.repeat(np.arange(len(sketches)), lengths)
    order = np.lexsort((buckets, owners))
    order = order[counts[order] > 0]
    buckets, counts, owners = buckets[order], counts[order], owners[order]
    # Sums of all sketches may run over; their differences within one sketch are right all the same.
    ends = np.cumsum(counts)
    first = np.searchsorted(owners, np.arange(len(sketches)))
    last = np.searchsorted(owners, np.arange(len(sketches)), side="right")
    filled = last > first
    before = np.concatenate([[0], ends])
    totals = before[last] - before[first]
    ranks = min(max(q, 0.0), 1.0) * (totals - 1)
    not_yet = ends - before[first][owners] <= ranks[owners]
    found = first + np.bincount(owners[not_yet], minlength=len(sketches))
    # A rank is no whole number, and of counts beyond 2^53 it may be rounded up to their sum.
    found = np.minimum(found, last - 1)
    values = np.full(len(sketches), np.nan)
    values[filled] = _VALUES[np.clip(buckets[found[filled]], 0, BUCKET_MAX)]
    return values
