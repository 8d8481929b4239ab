"""What one direction of a path is like, as plain data: the kernel's `LinkConfig` with names for its losses.

Worlds are made, changed by faults, counted by the flow level and written to files; all that needs values that
can be read and replaced. `LinkModel.config` makes the kernel's object of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TypeAlias

from farcast.proto._core import LinkConfig, Loss


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

    @property
    def kernel(self) -> Loss:
        """As the kernel takes it."""
        if self.burst_packets <= 1.0 or not 0.0 < self.loss < 1.0:
            return Loss.random(self.loss)
        return Loss.gilbert_elliott(self.loss, self.burst_packets)


@dataclass(frozen=True, slots=True)
class TimedBurstLoss:
    """Gilbert's model in time: out for ``burst_us`` on average, and for the share ``loss`` of all time."""

    loss: float
    burst_us: int

    @property
    def mean(self) -> float:
        """Share of packets lost in the long run, if they are sent evenly."""
        return self.loss

    @property
    def kernel(self) -> Loss:
        """As the kernel takes it."""
        return Loss.gilbert_elliott_time(self.loss, self.burst_us)


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

    @property
    def kernel(self) -> Loss:
        """As the kernel takes it."""
        return Loss.two_level(
            self.good.loss,
            self.bad.loss,
            self.good_to_bad,
            self.bad_to_good,
            burst_good_packets=self.good.burst_packets if self.good.burst_packets > 1.0 else None,
            burst_bad_packets=self.bad.burst_packets if self.bad.burst_packets > 1.0 else None,
        )


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

    @property
    def kernel(self) -> Loss:
        """As the kernel takes it."""
        return Loss.windows(self.windows, self.repeat_us)


@dataclass(frozen=True, slots=True)
class DiurnalLoss:
    """``high`` in the busy part of every period, ``low`` in the rest. The busy part is ``high_share`` of the
    period and begins ``phase_us`` into it."""

    low: float
    high: float
    period_us: int
    high_share: float
    phase_us: int = 0

    @property
    def mean(self) -> float:
        """Share of packets lost over a whole period."""
        return self.high_share * self.high + (1 - self.high_share) * self.low

    @property
    def kernel(self) -> Loss:
        """As the kernel takes it."""
        return Loss.diurnal(self.low, self.high, self.period_us, self.high_share, self.phase_us)


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

    @property
    def config(self) -> LinkConfig:
        """As the kernel takes it. ``ValueError`` names the field if no link can be like that."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "losses"}
        losses = [model.kernel for model in self.losses]
        loss = losses[0] if len(losses) == 1 else Loss.any_of(losses) if losses else None
        return LinkConfig(**given, loss_model=loss)

    def longer_by(self, extra_us: int) -> LinkModel:
        """The same with so much more (or less, down to 0) of propagation."""
        return replace(self, delay_us=max(self.delay_us + extra_us, 0))

    def with_loss(self, loss: LossModel) -> LinkModel:
        """The same with a further loss in series."""
        return replace(self, losses=(*self.losses, loss))


def in_series(access: LinkModel, haul: LinkModel) -> LinkModel:
    """A path made of a client's access and a long haul: delays and losses add up, rate, queue and limits are
    those of the access (nobody fills the long haul)."""
    median_us, sigma = _log_sum(
        (access.delay_log_median_us, access.delay_log_sigma),
        (haul.delay_log_median_us, haul.delay_log_sigma),
    )
    return replace(
        access,
        delay_us=access.delay_us + haul.delay_us,
        jitter_us=access.jitter_us + haul.jitter_us,
        delay_log_median_us=median_us,
        delay_log_sigma=sigma,
        mtu_bytes=min(access.mtu_bytes, haul.mtu_bytes),
        losses=access.losses + haul.losses,
    )


def _log_sum(a: tuple[int, float], b: tuple[int, float]) -> tuple[int, float]:
    """Median and sigma of a lognormal with the mean and the variance of the sum of two (Fenton, 1960)."""
    if not a[0] or not b[0]:
        return b if not a[0] else a
    mean = variance = 0.0
    for median_us, sigma in (a, b):
        square = math.exp(sigma * sigma)
        mean += median_us * math.sqrt(square)
        variance += median_us**2 * square * (square - 1.0)
    square = 1.0 + variance / mean**2
    return round(mean / math.sqrt(square)), math.sqrt(math.log(square))
