"""What lies between edges, and between a client's city and far edges: links from matrices of round trips.

A measured pair of regions gives a median and a p90 of its round trip. A shifted lognormal has three
parameters, so one has to come from elsewhere: its shape is `LOG_SIGMA` as long as the shift stays above light
in fibre, and rises where the dispersion is too large for that. The round trip is the sum of both directions,
each with a lognormal of its own, so the fit is to the sum (`_sum_quantiles`), not to one direction. Each
direction gets half of the round trip that was measured from its own end: that is the asymmetry that the data
have, and all of it.

What is drawn comes from the seed alone, whatever else is in the world.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import Final, TypeAlias
from zlib import crc32

import numpy as np

from farcast.simulations.links import BurstLoss, LinkModel
from farcast.simulations.matrices import (
    FIBRE_KM_PER_MS,
    LOSS_BURST,
    LOSS_QUANTILES,
    STRETCH_QUANTILES,
    Floats,
    Matrix,
    drawn_loss,
    public_internet,
)
from farcast.simulations.places import SAME_PLACE_KM, City, Region, distance_km, matrix_of
from farcast.simulations.scenario import Backbone, BackboneKind

LOG_SIGMA: Final = 1.0
"""Shape of the delay's lognormal. Assumed: between P90 and P95 of clouds lies about half as much again as
between P50 and P90 (Azure 2026-07: P95 - P50 of 22 ms at the ninth tenth of pairs, AWS P90 - P50 of 13),
which this shape gives; where it is wrong it is wrong towards longer tails."""

LOG_SIGMA_MAX: Final = 3.0

SAME_REGION_RTT_MS: Final = 1.0
"""Between edges of one region. Assumed: AWS measures 1 to 5 ms with the handshake of its own probe."""

STRETCH: Final = dict(STRETCH_QUANTILES)[0.5]
"""RTT over light in fibre to a city that is no region's: the median of the public Internet."""

DISPERSION_MS: Final = 5.2
"""p90 - p50 of a round trip where the data have none: that of the median pair of AWS."""

_GRID: Final = 1_500


@dataclass(frozen=True, slots=True)
class DelayFit:
    """One direction: ``delay_us`` fixed, and a lognormal on top of it."""

    delay_us: int
    median_us: int
    sigma: float


def fit_round_trip(p50_ms: float, p90_ms: float, floor_ms: float = 0.0) -> DelayFit:
    """One direction of a round trip with these percentiles, if the other direction is like it.

    ``floor_ms``: the round trip of light in fibre, below which no packet comes.
    """
    spread_ms = p90_ms - p50_ms
    if spread_ms <= 0.0:
        return DelayFit(round(p50_ms * 500), 0, 0.0)
    room_ms = max(p50_ms - min(floor_ms, 0.9 * p50_ms), 1e-3)
    sigma = LOG_SIGMA
    while True:
        p50, p90 = _sum_quantiles(sigma)
        median_ms = spread_ms / (p90 - p50)
        if median_ms * p50 <= room_ms or sigma >= LOG_SIGMA_MAX:
            break
        sigma = round(sigma + 0.05, 2)
    median_ms = min(median_ms, room_ms / p50)
    return DelayFit(round((p50_ms - median_ms * p50) * 500), max(round(median_ms * 1_000), 1), sigma)


@lru_cache(maxsize=64)
def _sum_quantiles(sigma: float) -> tuple[float, float]:
    """p50 and p90 of the sum of two lognormals of median 1, independent of each other."""
    shares = (np.arange(_GRID) + 0.5) / _GRID
    one = np.exp(sigma * _normal_quantiles(shares))
    p50, p90 = np.quantile((one[:, None] + one).ravel(), [0.5, 0.9])
    return float(p50), float(p90)


def _normal_quantiles(shares: Floats) -> Floats:
    normal = NormalDist()
    return np.array([normal.inv_cdf(float(share)) for share in shares])


Way: TypeAlias = tuple[LinkModel, LinkModel]
"""There and back."""


class RegionLinks:
    """Links between regions of one kind of backbone, for one seed."""

    def __init__(self, backbone: Backbone, seed: int) -> None:
        self._backbone = backbone
        self._matrix = _matrix(backbone.kind, seed)
        self._floor_ms = 2 * self._matrix.distance_km / FIBRE_KM_PER_MS
        self._loss = _losses(backbone, len(self._matrix.regions), seed)

    def rtt_ms(self, a: Region, b: Region) -> float:
        """Median round trip: the mean of what was measured from either end."""
        if a.at == b.at:
            return SAME_REGION_RTT_MS
        if self._backbone.kind == "flat":
            return self._backbone.rtt_ms
        return float(self._matrix.rtt_ms[a.at, b.at] + self._matrix.rtt_ms[b.at, a.at]) / 2

    def link(self, a: Region, b: Region) -> LinkModel:
        """The direction from one region to another."""
        if a.at == b.at:
            return self._with_rate(LinkModel(delay_us=round(SAME_REGION_RTT_MS * 500)))
        fit = self._fit(a.at, b.at)
        loss = float(self._loss[a.at, b.at])
        model = LinkModel(
            delay_us=fit.delay_us,
            delay_log_median_us=fit.median_us,
            delay_log_sigma=fit.sigma,
            losses=(BurstLoss(loss, self._backbone.loss_burst),) if loss else (),
        )
        return self._with_rate(model)

    def _fit(self, a: int, b: int) -> DelayFit:
        if self._backbone.kind == "flat":
            return DelayFit(round(self._backbone.rtt_ms * 500), 0, 0.0)
        p50_ms = float(self._matrix.rtt_ms[a, b])
        p90_ms = float(self._matrix.rtt_p90_ms[a, b]) if self._backbone.dispersion else p50_ms
        return fit_round_trip(p50_ms, p90_ms, float(self._floor_ms[a, b]))

    def _with_rate(self, model: LinkModel) -> LinkModel:
        rate_bps = self._backbone.rate_bps
        if rate_bps is None:
            return model
        return replace(model, rate_bps=rate_bps, queue_bytes=queue_bytes(rate_bps, self._backbone.queue_ms))


class Hauls:
    """The public Internet between clients' cities and regions, for one seed: what access does not cover."""

    def __init__(self, kind: BackboneKind, seed: int) -> None:
        self._matrix = _matrix("azure" if kind == "azure" else "aws", seed)
        self._public = _public(self._matrix.name, seed)
        self._seed = seed
        self._known: dict[tuple[City, Region], Way | None] = {}

    def between(self, city: City, region: Region) -> Way | None:
        """From the city to the region, and back; ``None`` where they are one place."""
        key = (city, region)
        if key not in self._known:
            self._known[key] = self._draw(city, region)
        return self._known[key]

    def _draw(self, city: City, region: Region) -> Way | None:
        away_km = distance_km((city.lat, city.lon), (region.lat, region.lon))
        if away_km < SAME_PLACE_KM:
            return None
        home = self._region_at(city)
        if home is None or region.at < 0 or home == region.at:
            rtt_ms = max(STRETCH * 2 * away_km / FIBRE_KM_PER_MS, 0.5)
            there, back = ((rtt_ms, rtt_ms + DISPERSION_MS),) * 2
        else:
            there, back = self._pair(home, region.at), self._pair(region.at, home)
        floor_ms = 2 * away_km / FIBRE_KM_PER_MS
        losses = self._losses(city, region)
        up, down = (
            _haul(fit_round_trip(*rtt, floor_ms), loss)
            for rtt, loss in zip((there, back), losses, strict=True)
        )
        return up, down

    def _pair(self, a: int, b: int) -> tuple[float, float]:
        rtt_ms = float(self._public.rtt_ms[a, b])
        return rtt_ms, rtt_ms + max(float(self._matrix.rtt_p90_ms[a, b] - self._matrix.rtt_ms[a, b]), 0.0)

    def _region_at(self, city: City) -> int | None:
        for at, place in enumerate(zip(self._matrix.latitude, self._matrix.longitude, strict=True)):
            if distance_km((city.lat, city.lon), (float(place[0]), float(place[1]))) < SAME_PLACE_KM:
                return at
        return None

    def _losses(self, city: City, region: Region) -> Floats:
        key = crc32(f"{city.country}/{city.name}>{region.lat:.2f},{region.lon:.2f}".encode())
        shares, losses = zip(*LOSS_QUANTILES, strict=True)
        drawn = np.random.default_rng([self._seed, key]).random(2)
        lost: Floats = np.exp(np.interp(drawn, shares, np.log(losses)))
        return lost


def queue_bytes(rate_bps: int, queue_ms: float) -> int:
    """What a drop-tail queue of so many milliseconds holds: ten packets at least."""
    return max(round(rate_bps * queue_ms / 8_000), 15_000)


def _haul(fit: DelayFit, loss: float) -> LinkModel:
    return LinkModel(
        delay_us=fit.delay_us,
        delay_log_median_us=fit.median_us,
        delay_log_sigma=fit.sigma,
        losses=(BurstLoss(float(loss), LOSS_BURST),),
    )


def _matrix(kind: BackboneKind, seed: int) -> Matrix:
    if kind != "public":
        return matrix_of(kind)
    cloud = matrix_of(kind)
    public = _public(cloud.name, seed)
    spread_ms = np.maximum(cloud.rtt_p90_ms - cloud.rtt_ms, 0.0)
    return replace(public, rtt_p90_ms=public.rtt_ms + spread_ms)


@lru_cache(maxsize=32)
def _public(name: str, seed: int) -> Matrix:
    return public_internet(matrix_of("azure" if name == "azure" else "aws"), seed)


def _losses(backbone: Backbone, count: int, seed: int) -> Floats:
    if backbone.loss is None:
        return drawn_loss(count, seed)
    return np.full((count, count), backbone.loss)
