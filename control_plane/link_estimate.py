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
from itertools import chain
from operator import attrgetter
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.control_plane.network import Bools, Floats, Indices
from farcast.control_plane.sketch_quantiles import quantiles_of
from farcast.proto.control.messages import LinkReport

SECOND_US: Final = 1_000_000
SECONDS: Final = 10
"""Windows of one second that are kept; together the window of 10 s."""

TENS: Final = 6
"""Windows of ten seconds that are kept; together the window of 60 s."""

REPORTS_WAITING_MAX: Final = 32
"""So many are put into the table together."""

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

_PACKETS_MOST: Final = (1 << 31) // (SECONDS * TENS)

_RTT, _VARIATION, _TAIL, _LEAST, _LATEST, _SPACING, _TX, _RX, _LOSS = range(9)
"""What is kept of a link beside counts."""

_AVERAGED: Final = 3
_TIMES_US: Final = np.array([RTT_TIME_US, RTT_TIME_US, TAIL_TIME_US])
"""The first ones are moving averages."""

_FIGURES: Final = 9
_SILENT, _MEDIA, _PACKETS_SAID, _LOST_SAID = range(_FIGURES, _FIGURES + 4)
_fields_of = attrgetter(
    "rtt_smoothed_us",
    "rtt_variation_us",
    "rtt_smoothed_us",
    "rtt_min_us",
    "rtt_latest_us",
    "rx_spacing_us",
    "tx_bps",
    "rx_bps",
    "rx_lost",
    "silent",
    "media",
    "rx_packets",
    "rx_lost",
)
"""What a report says of a link in the order of the above; the third and the ninth are to be reckoned yet."""

_SAID: Final = _FIGURES + 4
_SCALES: Final = np.array([1e-3] * 6 + [1.0] * 7)


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


@dataclass(frozen=True, slots=True)
class _Said:
    """A report as it waits: ``peers`` are slots."""

    peers: Sequence[int]
    links: Sequence[LinkReport]
    now_us: int


class LinkTable:
    """All links between nodes in slots ``0 … slots_max-1``. Arrays grow with the slots in use.

    Public arrays ``[src, dst]``: ``rtt_ms``, ``variation_ms`` (moving averages), ``tail_ms`` (that of p99
    RTTs), ``least_ms``, ``latest_ms``, ``loss_average``; 0 is not measured. ``heard_us``: when ``dst`` last
    spoke of the link; ``known``: it has, and has not said since that there is none; ``silent``; ``tx_bps``:
    what ``dst`` sends to ``src``; ``rx_bps``.

    They are views. In memory ``dst`` comes first and the figures of a link lie together, so that a report,
    which is about all links to one node, touches one row. Reports are put in several at a time, because most
    of what one costs is the same for one link and for a thousand: `settle` before the arrays are read.
    """

    def __init__(self, slots: int = 8) -> None:
        self._figures = np.zeros((slots, slots, _FIGURES))
        self._heard_us = np.zeros((slots, slots), np.int64)
        self._known, self._silent, self._media = (np.zeros((slots, slots), np.bool_) for _ in range(3))
        self._seconds = np.zeros((SECONDS, slots, slots, 3), np.uint32)
        self._tens = np.zeros((TENS, slots, slots, 3), np.uint32)
        self._interval = np.zeros((slots, slots, 3), np.uint32)
        self._second = 0
        self._waiting: dict[int, _Said] = {}
        self._show()

    def _show(self) -> None:
        of_figures = (self._figures[:, :, figure].T for figure in range(_FIGURES))
        self.rtt_ms, self.variation_ms, self.tail_ms, self.least_ms, self.latest_ms, *others = of_figures
        self.spacing_ms, self.tx_bps, self.rx_bps, self.loss_average = others
        self.heard_us, self.known = self._heard_us.T, self._known.T
        self.silent, self.media = self._silent.T, self._media.T

    @property
    def slots(self) -> int:
        """Rows and columns."""
        return len(self._known)

    def grow(self, slots: int) -> None:
        """Make room for so many."""
        self.settle()
        more = slots - self.slots
        if more <= 0:
            return
        here, none = (0, more), (0, 0)
        self._figures = np.pad(self._figures, (here, here, none))
        self._heard_us = np.pad(self._heard_us, (here, here))
        self._known, self._silent = np.pad(self._known, (here, here)), np.pad(self._silent, (here, here))
        self._media = np.pad(self._media, (here, here))
        self._seconds = np.pad(self._seconds, (none, here, here, none))
        self._tens = np.pad(self._tens, (none, here, here, none))
        self._interval = np.pad(self._interval, (here, here, none))
        self._show()

    def clear(self, slot: int) -> None:
        """Forget a node."""
        self.settle()
        of_links = (self._figures, self._heard_us, self._known, self._silent, self._media, self._interval)
        for array in of_links:
            array[slot] = array[:, slot] = 0
        for ring in (self._seconds, self._tens):
            ring[:, slot] = ring[:, :, slot] = 0

    def advance(self, now_us: int) -> None:
        """Let windows pass; time that goes back does nothing."""
        second = now_us // SECOND_US
        if second <= self._second:
            return
        self.settle()
        for at in range(max(self._second + 1, second - SECONDS + 1), second + 1):
            self._seconds[at % SECONDS] = 0
        first_ten, ten = self._second // SECONDS, second // SECONDS
        for at in range(max(first_ten + 1, ten - TENS + 1), ten + 1):
            self._tens[at % TENS] = 0
        self._second = second

    def take(self, reporter: int, peers: Sequence[int], links: Sequence[LinkReport], now_us: int) -> None:
        """Count what ``reporter`` says of links from ``peers``, at the latest when it says more."""
        self.advance(now_us)
        if reporter in self._waiting or len(self._waiting) >= REPORTS_WAITING_MAX:
            self.settle()
        self._waiting[reporter] = _Said(peers, links, now_us)

    def settle(self) -> None:
        """Put in what waits."""
        if not self._waiting:
            return
        reporters, reports = list(self._waiting), list(self._waiting.values())
        self._waiting.clear()
        lengths = [len(report.peers) for report in reports]
        at = (
            np.repeat(reporters, lengths),
            np.array([p for report in reports for p in report.peers], np.int64),
        )
        now_us = np.repeat([report.now_us for report in reports], lengths)
        self._put_in(at, [link for report in reports for link in report.links], now_us)

    def _put_in(
        self, at: tuple[Indices, Indices], links: Sequence[LinkReport], now_us: NDArray[np.int64]
    ) -> None:
        before, said, counts = self._figures[at], *_read(links)
        was_known = self._known[at]
        elapsed_us = np.where(was_known, np.maximum(now_us - self._heard_us[at], 0), 0)
        is_first = ~was_known | (before[:, _RTT] == 0)
        weight = np.where(is_first[:, None], 1.0, -np.expm1(-elapsed_us[:, None] / _TIMES_US))
        average, value = before[:, :_AVERAGED], said[:, :_AVERAGED]
        said[:, :_AVERAGED] = np.where(value > 0, average + weight * (value - average), average)
        ratio = counts[:, _LOST] / np.maximum(counts[:, _SENT], 1)
        weight_of_loss = -np.expm1(counts[:, _SENT] / -PRIOR_PACKETS)
        said[:, _LOSS] = before[:, _LOSS] + weight_of_loss * (ratio - before[:, _LOSS])
        self._figures[at] = said[:, :_FIGURES]
        self._silent[at], self._media[at] = said[:, _SILENT] > 0, said[:, _MEDIA] > 0
        self._seconds[self._second % SECONDS][at] += counts
        self._tens[self._second // SECONDS % TENS][at] += counts
        self._interval[at] += counts
        self._known[at] = True
        self._heard_us[at] = now_us

    def unlink(self, reporter: int, peers: Sequence[int]) -> None:
        """No session joins ``reporter`` to these any more: it hears nothing from them and sends nothing."""
        self.settle()
        gone = np.array(peers, np.int64)
        self._known[reporter, gone] = False
        self._figures[reporter][gone[:, None], (_TX, _RX)] = 0

    def take_interval(self) -> NDArray[np.uint32]:
        """``[packets / lost / runs, src, dst]`` since the last call, or since the beginning."""
        self.settle()
        interval, self._interval = self._interval, np.zeros_like(self._interval)
        return interval.T

    def counts(self, window_s: int, slots: Indices | None = None) -> Floats:
        """``[packets / lost / runs, src, dst]`` of the last 1, 10 or 60 seconds, the running one included;
        of links between all slots, or of these in their order."""
        self.settle()
        if window_s >= SECONDS * TENS:
            sums: Floats = self._tens.sum(axis=0, dtype=np.float64)
        elif window_s >= SECONDS:
            sums = self._seconds.sum(axis=0, dtype=np.float64)
        else:
            last = [self._seconds[(self._second - back) % SECONDS] for back in range(2)]
            sums = np.add(last[0], last[1], dtype=np.float64)
        # In the order of memory, and not by an index of both ends at once, which is slower.
        return (sums if slots is None else sums.take(slots, axis=0).take(slots, axis=1)).T


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


def _read(links: Sequence[LinkReport]) -> tuple[Floats, NDArray[np.uint32]]:
    """``[link, field]`` as of `_fields_of`, and ``[link, packets / lost / runs]``.

    More than fits a window is cut: nothing sends four billion packets in ten seconds.
    """
    said = np.fromiter(chain.from_iterable(map(_fields_of, links)), np.float64, _SAID * len(links))
    said = said.reshape(-1, _SAID) * _SCALES
    p99_us = quantiles_of([link.rtt_sketch for link in links], 0.99)
    smoothed = said[:, _RTT]
    guessed = smoothed + VARIATIONS_P99 * said[:, _VARIATION]
    said[:, _TAIL] = np.where(p99_us >= 0, np.maximum(p99_us / 1e3, smoothed), guessed)
    bursts = np.array([sum(link.rx_bursts) if link.rx_bursts else 1 for link in links], np.float64)
    counts = np.empty((len(links), 3), np.uint32)
    packets = np.minimum(said[:, _PACKETS_SAID], _PACKETS_MOST)
    lost = np.minimum(said[:, _LOST_SAID], packets)
    counts[:, _SENT], counts[:, _LOST], counts[:, _RUNS] = packets, lost, np.minimum(bursts, lost)
    return said, counts
