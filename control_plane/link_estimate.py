"""What many reports say of many links: windows of counts, moving averages, and how sure one can be.

One table holds all directed links as arrays ``[src, dst]``, so that what happens every second for tens of
thousands of links (a report in, the network out) is a few numpy calls. A report of node X about peer P fills
``[P, X]``: X is who receives, and who receives is who knows.

Loss is reckoned with as counts, not as ratios: one packet lost out of 20 probes may be 0.3 % or 20 %.

- Estimate: the losses of the last minute; those of the last 10 s where even their lower bound is worse than
  the estimate of the minute. So it gets worse at once and better only with evidence.
- Few packets tell little. The estimate leans on what links are like on the whole (`LOSS_PRIOR`, worth
  `PRIOR_PACKETS` packets), so that an idle link with 60 probes and none lost is not taken to lose the 4 %
  that it might, and nothing would ever move onto it.
- Where losses have been seen (two or more) and packets are few, what to reckon with is the upper bound of
  Wilson's interval; from `PACKETS_ENOUGH` packets on it is the estimate itself.
- The lower bound of Wilson's interval is what a link loses beyond doubt: only that may throw a route out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.network import Bools, Floats
from farcast.proto.control.messages import LinkReport
from farcast.proto.telemetry.sketch import quantile_of

SECOND_US: Final = 1_000_000
SECONDS: Final = 10
"""Windows of one second that are kept; together the window of 10 s."""

TENS: Final = 6
"""Windows of ten seconds that are kept; together the window of 60 s."""

LOSS_PRIOR: Final = 0.0002
"""So little that a branch of three unknown links is not taken to need repair in one frame of a hundred."""

PRIOR_PACKETS: Final = 500
PACKETS_ENOUGH: Final = 1_000
LOST_LEAST: Final = 2
Z: Final = 1.645
"""One-sided 95 %: what to reckon with."""

Z_DOUBT: Final = 3.0
"""One-sided 99.9 %: beyond doubt. Thousands of links are looked at every second; at 95 % some always seem to
have become worse."""

RTT_TIME_US: Final = 3_000_000
"""Time constant of the moving averages of RTT and its variation."""

TAIL_TIME_US: Final = 30_000_000
"""That of p99 RTTs."""

VARIATIONS_P99: Final = 2.9
"""p99 of a normal distribution in mean deviations: 2.326 * 1.25."""

_SENT, _LOST, _RUNS = range(3)


@dataclass(frozen=True, slots=True)
class LossEstimate:
    """Arrays of one shape. ``burst``: mean length of a run of losses."""

    loss: Floats
    low: Floats
    high: Floats
    burst: Floats


def wilson(lost: Floats, sent: Floats, z: Floats | float = Z) -> tuple[Floats, Floats]:
    """Bounds of the ratio lost / sent (Wilson 1927); 0 and 1 where nothing was sent."""
    n = np.maximum(sent, 1e-9)
    p = np.clip(lost / n, 0.0, 1.0)
    z2 = np.square(z)
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * np.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    none = sent <= 0
    low: Floats = np.where(none, 0.0, np.clip(middle - half, 0.0, p))
    high: Floats = np.where(none, 1.0, np.clip(middle + half, p, 1.0))
    return low, high


def estimate_loss(ten: Floats, minute: Floats) -> LossEstimate:
    """By counts ``[packets, lost, runs]`` of the last 10 s and of the last minute."""
    of_minute = _leaning(minute[_LOST], minute[_SENT])
    worse = wilson(ten[_LOST], ten[_SENT], Z_DOUBT)[0] > of_minute
    sent, lost = np.where(worse, ten[_SENT], minute[_SENT]), np.where(worse, ten[_LOST], minute[_LOST])
    loss = _leaning(lost, sent)
    # The confidence asked for shrinks as counts grow, so that nothing jumps where they are enough.
    z = Z * np.clip(1 - sent / PACKETS_ENOUGH, 0.0, 1.0)
    upper = np.where(lost >= LOST_LEAST, wilson(lost, sent, z)[1], loss)
    runs = minute[_RUNS]
    burst = np.where(runs > 0, minute[_LOST] / np.maximum(runs, 1), 1.0)
    low = np.minimum(wilson(lost, sent, Z_DOUBT)[0], loss)
    return LossEstimate(loss, low, np.maximum(upper, loss), burst)


class LinkTable:
    """All links between nodes in slots ``0 … slots_max-1``. Arrays grow with the slots in use.

    Public arrays ``[src, dst]``: ``rtt_ms``, ``variation_ms`` (moving averages), ``tail_ms`` (that of p99
    RTTs), ``least_ms``, ``latest_ms``, ``loss_average``; 0 is not measured. ``heard_us``: when ``dst`` last
    spoke of the link; ``known``: it has, and has not said since that there is none; ``silent``; ``tx_bps``:
    what ``dst`` sends to ``src``; ``rx_bps``.
    """

    _FIGURES: Final = ("rtt_ms", "variation_ms", "tail_ms", "least_ms", "latest_ms", "loss_average")
    _RATES: Final = ("tx_bps", "rx_bps", "spacing_ms")

    def __init__(self, slots: int = 8) -> None:
        self.rtt_ms, self.variation_ms, self.tail_ms, self.least_ms = (_zeros(slots) for _ in range(4))
        self.latest_ms, self.loss_average, self.tx_bps, self.rx_bps = (_zeros(slots) for _ in range(4))
        self.spacing_ms = _zeros(slots)
        self.heard_us = np.zeros((slots, slots), np.int64)
        self.known, self.silent, self.media = (np.zeros((slots, slots), np.bool_) for _ in range(3))
        self._seconds = np.zeros((SECONDS, 3, slots, slots), np.uint32)
        self._tens = np.zeros((TENS, 3, slots, slots), np.uint32)
        self._second = 0

    @property
    def slots(self) -> int:
        """Rows and columns."""
        return len(self.known)

    def grow(self, slots: int) -> None:
        """Make room for so many."""
        more = slots - self.slots
        if more <= 0:
            return
        for name in (*self._FIGURES, *self._RATES, "heard_us", "known", "silent", "media"):
            setattr(self, name, np.pad(getattr(self, name), ((0, more), (0, more))))
        last = ((0, 0), (0, 0), (0, more), (0, more))
        self._seconds, self._tens = np.pad(self._seconds, last), np.pad(self._tens, last)

    def clear(self, slot: int) -> None:
        """Forget a node."""
        for name in (*self._FIGURES, *self._RATES, "heard_us", "known", "silent", "media"):
            array = getattr(self, name)
            array[slot, :] = array[:, slot] = 0
        for ring in (self._seconds, self._tens):
            ring[:, :, slot, :] = ring[:, :, :, slot] = 0

    def advance(self, now_us: int) -> None:
        """Let windows pass; time that goes back does nothing."""
        second = now_us // SECOND_US
        for at in range(max(self._second + 1, second - SECONDS + 1), second + 1):
            self._seconds[at % SECONDS] = 0
        first_ten, ten = self._second // SECONDS, second // SECONDS
        for at in range(max(first_ten + 1, ten - TENS + 1), ten + 1):
            self._tens[at % TENS] = 0
        self._second = max(self._second, second)

    def take(self, reporter: int, peers: Sequence[int], links: Sequence[LinkReport], now_us: int) -> None:
        """Count what ``reporter`` says of links from ``peers``."""
        self.advance(now_us)
        at = np.array(peers, np.int64), reporter
        elapsed_us = np.where(self.known[at], np.maximum(now_us - self.heard_us[at], 0), 0)
        first = ~self.known[at] | (self.rtt_ms[at] == 0)
        figures = np.array([_figures(link) for link in links], np.float64)
        for name, column, time_us in (
            ("rtt_ms", 0, RTT_TIME_US),
            ("variation_ms", 1, RTT_TIME_US),
            ("tail_ms", 2, TAIL_TIME_US),
        ):
            weight = np.where(first, 1.0, -np.expm1(-elapsed_us / time_us))
            average, value = getattr(self, name), figures[:, column]
            average[at] = np.where(value > 0, average[at] + weight * (value - average[at]), average[at])
        self.least_ms[at], self.latest_ms[at] = figures[:, 3], figures[:, 4]
        self.tx_bps[at], self.rx_bps[at], self.spacing_ms[at] = figures[:, 5:8].T
        self.silent[at], self.media[at] = figures[:, 8] > 0, figures[:, 9] > 0
        counts = np.array([_counts(link) for link in links], np.uint32).T
        for ring, slot in (
            (self._seconds, self._second % SECONDS),
            (self._tens, self._second // SECONDS % TENS),
        ):
            ring[slot, :, at[0], reporter] += counts.T
        ratio = counts[_LOST] / np.maximum(counts[_SENT], 1)
        weight = -np.expm1(counts[_SENT] / -PRIOR_PACKETS)
        self.loss_average[at] += weight * (ratio - self.loss_average[at])
        self.known[at] = True
        self.heard_us[at] = now_us

    def unlink(self, reporter: int, peers: Sequence[int]) -> None:
        """No session joins ``reporter`` to these any more: it hears nothing from them and sends nothing."""
        gone = np.array(peers, np.int64)
        self.known[gone, reporter] = False
        self.tx_bps[gone, reporter] = self.rx_bps[gone, reporter] = 0

    def counts(self, window_s: int) -> Floats:
        """``[packets / lost / runs, src, dst]`` of the last 1, 10 or 60 seconds, the running one included."""
        if window_s >= SECONDS * TENS:
            minute: Floats = self._tens.sum(axis=0, dtype=np.float64)
            return minute
        if window_s >= SECONDS:
            ten: Floats = self._seconds.sum(axis=0, dtype=np.float64)
            return ten
        last = [self._seconds[(self._second - back) % SECONDS] for back in range(2)]
        one: Floats = np.add(last[0], last[1], dtype=np.float64)
        return one


def both_ways(of_link: Floats) -> Floats:
    """A figure of round trips, which both ends measure: their mean, or that of the one that has any."""
    back = of_link.T
    measured = (of_link > 0).astype(np.float64) + (back > 0)
    mean: Floats = (of_link + back) / np.maximum(measured, 1)
    return mean


def usable(table: LinkTable, slots: NDArray[np.int64]) -> Bools:
    """Links that the receiving end knows and hears."""
    block = np.ix_(slots, slots)
    heard: Bools = np.logical_and(table.known[block], ~table.silent[block])
    return heard


def _leaning(lost: Floats, sent: Floats) -> Floats:
    leaning: Floats = (lost + LOSS_PRIOR * PRIOR_PACKETS) / (sent + PRIOR_PACKETS)
    return leaning


def _figures(link: LinkReport) -> tuple[float, ...]:
    smoothed, variation = link.rtt_smoothed_us / 1e3, link.rtt_variation_us / 1e3
    tail = smoothed + VARIATIONS_P99 * variation
    if link.rtt_sketch:
        tail = max((quantile_of(link.rtt_sketch, 0.99) or 0.0) / 1e3, smoothed)
    return (
        smoothed,
        variation,
        tail,
        link.rtt_min_us / 1e3,
        link.rtt_latest_us / 1e3,
        link.tx_bps,
        link.rx_bps,
        link.rx_spacing_us / 1e3,
        link.silent,
        link.media,
    )


def _counts(link: LinkReport) -> tuple[int, int, int]:
    """More than fits a window is cut: nothing sends four billion packets in ten seconds."""
    most = (1 << 31) // (SECONDS * TENS)
    packets = min(link.rx_packets, most)
    lost = min(link.rx_lost, packets)
    return packets, lost, min(sum(link.rx_bursts), lost) if link.rx_bursts else min(lost, 1)


def _zeros(slots: int) -> Floats:
    return np.zeros((slots, slots))
