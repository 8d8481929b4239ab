"""Round trips between regions: measured matrices, and what is synthesised from them.

Sources and their limits: `simulations/data/README.md`. Everything that is drawn is drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.simulations.data_files import read_rows

Floats = NDArray[np.float64]

FIBRE_KM_PER_MS: Final = 200.0
"""Light in glass, one way."""

EARTH_RADIUS_KM: Final = 6_371.0

REGIONS: Final[Mapping[str, str]] = {
    "sin": "ap-southeast-1",
    "jkt": "ap-southeast-3",
    "bkk": "ap-southeast-7",
    "kul": "ap-southeast-5",
    "hkg": "ap-east-1",
    "nrt": "ap-northeast-1",
    "syd": "ap-southeast-2",
    "bom": "ap-south-1",
    "dxb": "me-central-1",
    "bah": "me-south-1",
    "fra": "eu-central-1",
    "lon": "eu-west-2",
    "iad": "us-east-1",
    "sfo": "us-west-1",
    "gru": "sa-east-1",
    "icn": "ap-northeast-2",
    "par": "eu-west-3",
}
"""Our short names for regions of the AWS matrix."""

STRETCH_QUANTILES: Final = ((0.0, 1.2), (0.1, 1.52), (0.5, 2.03), (0.9, 3.58), (1.0, 5.0))
"""RTT over that of light in fibre along the great circle, public Internet: p10, p50, p90 measured
(WonderProxy 2020, 213 cities, 45,156 directed pairs), the ends assumed."""

STRETCH_CHANCE: Final = 0.15
"""Chosen so that one relay makes as many pairs faster by a fifth as in the same measurement (13.4 %); with
independent stretches it would be 44 %, which no network has ever shown."""

ASYMMETRY_QUANTILES_MS: Final = ((0.0, 0.0), (0.5, 0.2), (0.9, 6.2), (1.0, 20.0))
"""Difference of the RTT measured from either end, same source; the longest tail (to 389 ms) cut off."""

LOSS_QUANTILES: Final = (
    (0.0, 1e-5),
    (0.8, 1e-4),
    (0.95, 0.0071),
    (0.99, 0.0588),
    (0.999, 0.1321),
    (1.0, 0.1321),
)
"""Loss between cloud regions over the public Internet: p95, p99, p99.9 measured (XRON, SIGCOMM 2023, table 3,
mean 0.18 %); that four of five links lose next to nothing is assumed, so that the mean comes near. Between
them logarithms are interpolated."""

LOSS_BURST: Final = 3.0
"""Packets lost in a row: 2 to 3 on average in measured bursts (Akamai cellular)."""


@dataclass(frozen=True, slots=True, eq=False)
class Matrix:
    """RTTs ``[src, dst]`` between regions; the diagonal is 0. ``rtt_p90_ms`` is ``rtt_ms`` where only medians
    are known. ``is_measured``: not drawn."""

    name: str
    regions: tuple[str, ...]
    rtt_ms: Floats
    rtt_p90_ms: Floats
    latitude: Floats
    longitude: Floats
    is_measured: bool = True

    def index(self, region: str) -> int:
        """Position of a region; ``KeyError`` names those that there are."""
        try:
            return self.regions.index(region)
        except ValueError:
            raise KeyError(f"{region!r} is none of {', '.join(self.regions)}") from None

    def between(self, regions: Sequence[str]) -> Matrix:
        """The part of it between some regions, in that order."""
        at = [self.index(region) for region in regions]
        block = np.ix_(at, at)
        return replace(
            self,
            regions=tuple(regions),
            rtt_ms=self.rtt_ms[block],
            rtt_p90_ms=self.rtt_p90_ms[block],
            latitude=self.latitude[at],
            longitude=self.longitude[at],
        )

    def renamed(self, names: Mapping[str, str]) -> Matrix:
        """Only the regions in ``names`` (new name to old), under their new names."""
        return replace(self.between(list(names.values())), regions=tuple(names))

    @property
    def distance_km(self) -> Floats:
        """Along great circles."""
        latitude, longitude = np.radians(self.latitude), np.radians(self.longitude)
        half = np.sin((latitude[:, None] - latitude) / 2) ** 2
        half += (
            np.cos(latitude)[:, None] * np.cos(latitude) * np.sin((longitude[:, None] - longitude) / 2) ** 2
        )
        distance: Floats = 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.clip(half, 0.0, 1.0)))
        return distance


@lru_cache(maxsize=1)
def aws() -> Matrix:
    """33 regions of AWS: median and p90 of a year."""
    places = {row["region"]: row for row in read_rows("aws_region_coordinates.csv")}
    rows = read_rows("aws_region_rtt_p50_p90_cloudping_1y.csv")
    regions = tuple(sorted(places))
    p50, p90 = (_matrix(regions, rows, column) for column in ("rtt_p50_ms", "rtt_p90_ms"))
    return Matrix("aws", regions, p50, p90, *_coordinates([places[region] for region in regions]))


@lru_cache(maxsize=1)
def azure() -> Matrix:
    """Regions of Azure between which every pair is known in one direction at least: medians."""
    places = {row["display_name"]: row for row in read_rows("azure_region_coordinates.csv")}
    rows = [row for row in read_rows("azure_region_rtt_p50_2026-03.csv") if row["src"] != row["dst"]]
    regions = tuple(sorted({row["src"] for row in rows} | {row["dst"] for row in rows}))
    rtt_ms = _matrix(regions, rows, "rtt_p50_ms")
    rtt_ms = np.where(np.isnan(rtt_ms), rtt_ms.T, rtt_ms)
    kept = list(range(len(regions)))
    while np.isnan(rtt_ms[np.ix_(kept, kept)]).any():
        missing = np.isnan(rtt_ms[np.ix_(kept, kept)]).sum(axis=1)
        del kept[int(np.argmax(missing))]
    names = tuple(regions[k] for k in kept)
    block = rtt_ms[np.ix_(kept, kept)]
    return Matrix("azure", names, block, block, *_coordinates([places[name] for name in names]))


def public_internet(cloud: Matrix, seed: int) -> Matrix:
    """SYNTHESISED: what the same cities might see over the public Internet.

    The ratio of RTT to that of light in fibre is drawn for each pair from `STRETCH_QUANTILES`; its rank is
    that of the pair in ``cloud`` (where routes of a backbone are long, others are as well) with a share
    `STRETCH_CHANCE` of chance. From either end RTTs differ by `ASYMMETRY_QUANTILES_MS`.
    """
    draw, count = np.random.default_rng(seed), len(cloud.regions)
    upper = np.triu_indices(count, 1)
    fibre_ms = np.maximum(2 * cloud.distance_km[upper] / FIBRE_KM_PER_MS, 1.0)
    rank = (1 - STRETCH_CHANCE) * _ranks(cloud.rtt_ms[upper] / fibre_ms)
    rank += STRETCH_CHANCE * draw.random(len(fibre_ms))
    symmetric = np.zeros((count, count))
    symmetric[upper] = fibre_ms * _at_quantiles(STRETCH_QUANTILES, _ranks(rank))
    apart = np.zeros((count, count))
    apart[upper] = _at_quantiles(ASYMMETRY_QUANTILES_MS, _ranks(draw.random(len(fibre_ms))))
    apart[upper] *= draw.choice([-0.5, 0.5], len(fibre_ms))
    rtt_ms = np.maximum(symmetric + symmetric.T + apart - apart.T, 0.5)
    np.fill_diagonal(rtt_ms, 0.0)
    return replace(cloud, name="public", rtt_ms=rtt_ms, rtt_p90_ms=rtt_ms, is_measured=False)


def drawn_loss(count: int, seed: int) -> Floats:
    """SYNTHESISED: loss of packets of each directed link, drawn from `LOSS_QUANTILES`."""
    shares, losses = zip(*LOSS_QUANTILES, strict=True)
    drawn = np.random.default_rng(seed).random((count, count))
    loss: Floats = np.exp(np.interp(drawn, shares, np.log(losses)))
    return loss


# ---- Files ----------------------------------------------------------------------------------------


def _matrix(regions: Sequence[str], rows: Sequence[Mapping[str, str]], column: str) -> Floats:
    at = {region: k for k, region in enumerate(regions)}
    matrix = np.full((len(regions), len(regions)), np.nan)
    for row in rows:
        matrix[at[row["src"]], at[row["dst"]]] = float(row[column])
    np.fill_diagonal(matrix, 0.0)
    return matrix


def _coordinates(places: Sequence[Mapping[str, str]]) -> tuple[Floats, Floats]:
    return (
        np.array([float(place["lat"]) for place in places]),
        np.array([float(place["lon"]) for place in places]),
    )


def _ranks(values: Floats) -> Floats:
    """Share of values below each, in the middle of its step."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = (np.arange(len(values)) + 0.5) / max(len(values), 1)
    return ranks


def _at_quantiles(quantiles: Sequence[tuple[float, float]], at: Floats) -> Floats:
    shares, values = zip(*quantiles, strict=True)
    drawn: Floats = np.interp(at, shares, values)
    return drawn
