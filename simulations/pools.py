"""Statistics of samples that come in clusters, and how far they would move had other clusters been drawn.

Samples of one run are anything but independent: neighbouring frames share a queue, viewers of a region share
a path. The independent unit is the run, so intervals come from a cluster bootstrap (Davison and Hinkley,
*Bootstrap Methods and Their Application*, 1997, section 3.8): whole runs are drawn with replacement, the
statistic is taken of the samples of all runs drawn, and the interval is that of the middle 95 % of many such
draws. With fewer than `UNITS_MIN` runs viewers are drawn instead; that says how much viewers differ, not how
much runs do, and verdicts say which of the two it was. Draws come from a fixed seed, so a verdict is the same
every time.

Of quantiles, the samples are put into at most `BINS_MAX` bins, finest in the tails, each standing for its
largest sample; the statistic of the samples themselves is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.simulations.measured import Floats

DRAWS: Final = 500
UNITS_MIN: Final = 5
"""Fewer clusters than this say nothing about others."""

BINS_MAX: Final = 2_048
TAIL: Final = 0.02
"""Share of samples at either end with bins of their own."""

INTERVAL: Final = (0.025, 0.975)
_SEED: Final = 20_241_125

Units = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pool:
    """Samples with their weights and clusters; arrays of one length. ``unit`` numbers clusters from 0."""

    values: Floats
    weights: Floats
    unit: Units

    @property
    def units(self) -> int:
        """How many clusters there are."""
        return int(np.unique(self.unit).size)


@dataclass(frozen=True, slots=True)
class RatioPool:
    """What counts and what it counts of, with clusters; arrays of one length."""

    part: Floats
    whole: Floats
    unit: Units

    @property
    def units(self) -> int:
        """How many clusters there are."""
        return int(np.unique(self.unit).size)


def mean(pool: Pool) -> float:
    """The weighted mean; infinite if a sample is."""
    return float(np.sum(pool.values * pool.weights) / np.sum(pool.weights))


def total(pool: Pool) -> float:
    """The weighted sum."""
    return float(np.sum(pool.values * pool.weights))


def ratio(pool: RatioPool) -> float:
    """All that counts by all that it counts of."""
    return float(pool.part.sum() / pool.whole.sum())


def quantile(pool: Pool, share: float) -> float:
    """The smallest sample that a share (by weight) of all do not exceed."""
    order = np.argsort(pool.values, kind="stable")
    sums = np.cumsum(pool.weights[order])
    place = int(np.searchsorted(sums, share * sums[-1] * (1 - 1e-12), side="left"))
    return float(pool.values[order[min(place, order.size - 1)]])


def drawn_means(pool: Pool) -> Floats:
    """The mean for each of `DRAWS` draws of clusters."""
    draws = _draws(pool.unit)
    return _by(draws, pool.unit, pool.values * pool.weights) / _by(draws, pool.unit, pool.weights)


def drawn_totals(pool: Pool) -> Floats:
    """The sum for each draw."""
    return _by(_draws(pool.unit), pool.unit, pool.values * pool.weights)


def drawn_ratios(pool: RatioPool) -> Floats:
    """The ratio for each draw; a draw without anything to count of has that of all."""
    draws = _draws(pool.unit)
    whole = _by(draws, pool.unit, pool.whole)
    part = _by(draws, pool.unit, pool.part)
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), ratio(pool))


def drawn_quantiles(pool: Pool, share: float) -> Floats:
    """The quantile for each draw, as exact as the bins are fine."""
    edges, bins = _binned(pool.values)
    _, unit = np.unique(pool.unit, return_inverse=True)
    units = int(unit.max()) + 1
    counts = np.bincount(unit * edges.size + bins, pool.weights, units * edges.size)
    sums = np.cumsum(_draws(pool.unit) @ counts.reshape(units, edges.size), axis=1)
    places = np.argmax(sums >= share * sums[:, -1:] * (1 - 1e-12), axis=1)
    return np.asarray(edges[places], np.float64)


def interval(drawn: Floats) -> tuple[float, float]:
    """The middle 95 % of some draws."""
    ordered = np.sort(drawn)
    places = [min(int(share * ordered.size), ordered.size - 1) for share in INTERVAL]
    return float(ordered[places[0]]), float(ordered[places[1]])


def share_low(held: int, total: int, confidence: float = 0.95) -> float:
    """The smallest share of successes with which ``held`` of ``total`` are not a rare piece of luck.

    One-sided bound of Clopper and Pearson (Biometrika 26, 1934), found by bisection.
    """
    if held == 0:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _at_least(held, total, middle) < 1 - confidence:
            low = middle
        else:
            high = middle
    return low


def _at_least(held: int, total: int, share: float) -> float:
    """The probability of that many successes or more."""
    if share <= 0:
        return 0.0
    number = np.arange(1, total + 1, dtype=np.float64)
    choose = np.concatenate(([0.0], np.cumsum(np.log(total - number + 1) - np.log(number))))
    successes = np.arange(total + 1)
    log = choose + successes * np.log(share) + (total - successes) * np.log1p(-min(share, 1 - 1e-15))
    return float(np.exp(log[held:]).sum())


def _draws(unit: Units) -> Floats:
    """How often each cluster was drawn, a row a draw."""
    units = int(np.unique(unit).size)
    rng = np.random.default_rng(_SEED)
    return rng.multinomial(units, np.full(units, 1 / units), DRAWS).astype(np.float64)


def _by(draws: Floats, unit: Units, values: Floats) -> Floats:
    _, place = np.unique(unit, return_inverse=True)
    return np.asarray(draws @ np.bincount(place, values, draws.shape[1]), np.float64)


def _binned(values: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """The largest value of each bin, and each value's bin."""
    ordered = np.sort(values)
    if ordered.size > BINS_MAX:
        last, tail = ordered.size - 1, ordered.size * TAIL
        fine = np.linspace(0, tail, BINS_MAX // 4)
        ranks = np.concatenate((np.linspace(0, last, BINS_MAX // 2), fine, last - fine)).astype(np.int64)
        ordered = ordered[np.unique(ranks)]
    edges = np.unique(ordered)
    return edges, np.searchsorted(edges, values, side="left").astype(np.int64)
