"""Links between regions reproduce what was measured between them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.simulations.backbone import LOG_SIGMA_MAX, Hauls, RegionLinks, fit_round_trip
from farcast.simulations.links import LinkModel
from farcast.simulations.matrices import FIBRE_KM_PER_MS, aws, azure
from farcast.simulations.places import City, city, known_regions, region
from farcast.simulations.scenario import Backbone

SAMPLES = 400_000


def _round_trip_ms(there: LinkModel, back: LinkModel, seed: int = 3) -> tuple[float, float]:
    """p50 and p90 of the sum of both directions, as the kernel draws them: independent, lognormal."""
    draw = np.random.default_rng(seed)
    total = np.zeros(SAMPLES)
    for model in (there, back):
        wander = np.exp(model.delay_log_sigma * draw.standard_normal(SAMPLES))
        total += model.delay_us + model.delay_log_median_us * wander
    p50, p90 = np.quantile(total, [0.5, 0.9]) / 1_000
    return float(p50), float(p90)


@settings(max_examples=40, deadline=None)
@given(
    p50_ms=st.floats(5, 400),
    spread=st.floats(0.0, 0.6),
    floor=st.floats(0.0, 0.95),
)
def test_a_fit_keeps_median_and_p90(p50_ms: float, spread: float, floor: float) -> None:
    fit = fit_round_trip(p50_ms, p50_ms * (1 + spread), p50_ms * floor)
    assert fit.delay_us >= 0
    assert fit.sigma <= LOG_SIGMA_MAX
    one_way = LinkModel(delay_us=fit.delay_us, delay_log_median_us=fit.median_us, delay_log_sigma=fit.sigma)
    p50, p90 = _round_trip_ms(one_way, one_way)
    assert p50 == pytest.approx(p50_ms, rel=0.01)
    if spread * p50_ms < 0.5 * (p50_ms - p50_ms * min(floor, 0.9)):
        assert p90 == pytest.approx(p50_ms * (1 + spread), rel=0.01)


def test_every_pair_of_the_aws_matrix_comes_out_within_a_hundredth() -> None:
    matrix, links = aws(), RegionLinks(Backbone(), seed=1)
    regions = known_regions("aws")
    short = ["sin", "jkt", "hkg", "nrt", "dxb", "bah", "bom", "fra", "lon", "iad", "sfo", "af-south-1"]
    worst = 0.0
    for k, a in enumerate(short):
        for b in short[k + 1 :]:
            i, j = regions[a].at, regions[b].at
            p50, p90 = _round_trip_ms(links.link(regions[a], regions[b]), links.link(regions[b], regions[a]))
            worst = max(worst, abs(p50 / ((matrix.rtt_ms[i, j] + matrix.rtt_ms[j, i]) / 2) - 1))
            worst = max(worst, abs(p90 / ((matrix.rtt_p90_ms[i, j] + matrix.rtt_p90_ms[j, i]) / 2) - 1))
    assert worst < 0.01


def test_no_packet_is_faster_than_light_in_fibre() -> None:
    matrix, links = aws(), RegionLinks(Backbone(), seed=1)
    regions = [known_regions("aws")[name] for name in matrix.regions]
    for a in regions:
        for b in regions:
            fibre_us = matrix.distance_km[a.at, b.at] / FIBRE_KM_PER_MS * 1_000
            if a.at != b.at and matrix.rtt_ms[a.at, b.at] * 450 > fibre_us:
                assert links.link(a, b).delay_us >= 0.99 * fibre_us


def test_each_direction_has_half_of_what_its_own_end_measured() -> None:
    matrix, links = aws(), RegionLinks(Backbone(dispersion=False), seed=1)
    sin, fra = region("sin", "aws"), region("fra", "aws")
    assert links.link(sin, fra).delay_us == round(matrix.rtt_ms[sin.at, fra.at] * 500)
    assert links.link(fra, sin).delay_us == round(matrix.rtt_ms[fra.at, sin.at] * 500)
    assert links.link(sin, fra) != links.link(fra, sin)


def test_losses_of_both_directions_differ_and_hang_on_the_seed_alone() -> None:
    sin, fra = region("sin", "aws"), region("fra", "aws")
    first, again, other = (RegionLinks(Backbone(), seed) for seed in (1, 1, 2))
    assert first.link(sin, fra).mean_loss != first.link(fra, sin).mean_loss
    assert first.link(sin, fra) == again.link(sin, fra)
    assert first.link(sin, fra).mean_loss != other.link(sin, fra).mean_loss
    assert RegionLinks(Backbone(loss=0.03), 1).link(sin, fra).mean_loss == pytest.approx(0.03)


def test_the_azure_world_takes_azures_figures() -> None:
    matrix, links = azure(), RegionLinks(Backbone(kind="azure"), seed=1)
    sin, fra = region("sin", "azure"), region("fra", "azure")
    at = matrix.index("Southeast Asia"), matrix.index("Germany West Central")
    assert links.rtt_ms(sin, fra) == pytest.approx((matrix.rtt_ms[at] + matrix.rtt_ms[at[::-1]]) / 2)


def test_the_public_internet_is_longer_than_the_cloud() -> None:
    cloud, public = (RegionLinks(Backbone(kind=kind), seed=1) for kind in ("aws", "public"))
    regions = [known_regions("aws")[name] for name in aws().regions]
    ratio = [public.rtt_ms(a, b) / cloud.rtt_ms(a, b) for a in regions for b in regions if a.at < b.at]
    assert np.median(ratio) > 1.05
    assert np.quantile(ratio, 0.9) > 1.25


def test_a_flat_backbone_is_the_same_everywhere() -> None:
    links = RegionLinks(Backbone(kind="flat", rtt_ms=40, loss=0.0), seed=1)
    sin, fra = region("sin", "flat"), region("fra", "flat")
    assert links.link(sin, fra) == LinkModel(delay_us=20_000)


def test_a_haul_begins_where_the_city_ends() -> None:
    hauls = Hauls("aws", seed=1)
    assert hauls.between(city("ID"), region("jkt", "aws")) is None
    there = hauls.between(city("ID"), region("fra", "aws"))
    assert there is not None
    up, down = there
    public = RegionLinks(Backbone(kind="public"), 1).rtt_ms(region("jkt", "aws"), region("fra", "aws"))
    assert sum(_round_trip_ms(up, down)[:1]) == pytest.approx(public, rel=0.02)
    assert hauls.between(city("ID"), region("fra", "aws")) == there


def test_a_city_without_a_region_is_as_far_as_the_public_internet_is_long() -> None:
    way = Hauls("aws", seed=1).between(city("VN"), region("sin", "aws"))
    assert way is not None
    p50, p90 = _round_trip_ms(*way)
    assert p50 == pytest.approx(1_094 / 100 * 2.03, rel=0.03)  # 1,094 km, 100 km of fibre a ms and round trip
    assert p90 - p50 == pytest.approx(5.2, rel=0.05)
    assert Hauls("aws", 1).between(City("Nowhere", "VN", 10.9, 106.7), region("sin", "aws")) != way
