"""What one direction of a path is like, as plain data: the kernel's `LinkConfig` with names for its losses.

Worlds are made, changed by faults, counted by the flow level and written to files; all that needs values that
can be read and replaced. `LinkModel.config` makes the kernel's object of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

from farcast.proto._core import LinkConfig


@dataclass(frozen=True, slots=True)
class BurstLoss:
    """Gilbert's model: the share ``loss`` of packets, in runs of ``burst_packets`` on average (1: on their
    own account)."""

    loss: float
    burst_packets: float = 1.0

    @property
    def mean(self) -> float:
        """Share of packets lost in the long run."""
        return self.loss


@dataclass(frozen=True, slots=True)
class TimedBurstLoss:
    """Gilbert's model in time: out for ``burst_us`` on average, and for the share ``loss`` of all time."""

    loss: float
    burst_us: int

    @property
    def mean(self) -> float:
        """Share of packets lost in the long run, if they are sent evenly."""
        return self.loss


@dataclass(frozen=True, slots=True)
class TwoLevelLoss:
    """Two-level Markov (Ellis, Pezaros et al. 2014): a good and a bad state, each with bursts of its own.

    Per packet: chance to go from good to bad and back; in each state a Gilbert model (loss, run length)."""

    good: BurstLoss
    bad: BurstLoss
    good_to_bad: float
    bad_to_good: float

    @property
    def mean(self) -> float:
        """Share of packets lost in the long run."""
        bad = self.good_to_bad / (self.good_to_bad + self.bad_to_good)
        return (1 - bad) * self.good.mean + bad * self.bad.mean


@dataclass(frozen=True, slots=True)
class WindowLoss:
    """Measured windows (Akamai): from ``start_us``, for ``length_us``, the share ``share`` is lost; all of it
    again every ``repeat_us``. ``windows``: (start_us, length_us, share), in order."""

    windows: tuple[tuple[int, int, float], ...]
    repeat_us: int

    @property
    def mean(self) -> float:
        """Share of packets lost in the long run, if they are sent evenly."""
        return sum(length * share for _, length, share in self.windows) / self.repeat_us


@dataclass(frozen=True, slots=True)
class DiurnalLoss:
    """``high`` for the share ``high_share`` of each ``period_us``, ``low`` for the rest; time 0 is ``phase_us``
    into a period."""

    low: float
    high: float
    period_us: int
    high_share: float
    phase_us: int = 0

    @property
    def mean(self) -> float:
        """Share of packets lost over a whole period."""
        return self.high_share * self.high + (1 - self.high_share) * self.low


LossModel: TypeAlias = BurstLoss | TimedBurstLoss | TwoLevelLoss | WindowLoss | DiurnalLoss


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkModel:
    """One direction of a path. Fields as those of `LinkConfig`; ``losses`` act in series."""

    delay_us: int = 0
    jitter_us: int = 0
    delay_log_median_us: int = 0
    delay_log_sigma: float = 0.0
    delay_redraw_us: int = 1_000_000
    rate_bps: int | None = None
    rate_schedule: tuple[tuple[int, int], ...] = ()
    rate_repeat_us: int = 0
    queue_bytes: int = 262_144
    policer_bps: int | None = None
    policer_burst_bytes: int = 0
    mtu_bytes: int = 65_535
    large_bytes: int = 0
    large_loss: float = 0.0
    losses: tuple[LossModel, ...] = ()
    duplicate: float = 0.0
    reorder: float = 0.0
    reorder_us: int = 0

    @property
    def mean_loss(self) -> float:
        """Share of packets lost in the long run, without queue and policer."""
        kept = 1.0
        for loss in self.losses:
            kept *= 1.0 - loss.mean
        return 1.0 - kept

    @property
    def median_delay_us(self) -> int:
        """Delay of a small packet on an empty link, in the median."""
        return self.delay_us + self.delay_log_median_us + self.jitter_us // 2

    def longer_by(self, extra_us: int) -> LinkModel:
        """The same with so much more (or less, down to 0) of propagation."""
        return replace(self, delay_us=max(self.delay_us + extra_us, 0))

    @property
    def config(self) -> LinkConfig:
        """As the kernel takes it. ``ValueError`` names the field if no link can be like that."""
        raise NotImplementedError


def in_series(first: LinkModel, then: LinkModel) -> LinkModel:
    """A path made of two: delays and losses add up, the lower rate with its queue counts."""
    raise NotImplementedError


def log_fit(p50_us: float, p90_us: float) -> tuple[float, float]:
    """Median and sigma of the lognormal with these percentiles; sigma 0 where they are equal."""
    raise NotImplementedError
