"""Access is drawn as it was measured, and says what it cannot be."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from farcast.simulations.access import (
    MLAB_PERCENTILES,
    AccessError,
    at_quantile,
    draw_access,
    draw_quantiles,
    mlab,
    mobile_jitter,
    mobile_windows,
)
from farcast.simulations.links import DiurnalLoss, TimedBurstLoss, TwoLevelLoss
from farcast.simulations.scenario import Access

DRAWS = 3_000
KS = 1.63 / DRAWS**0.5
"""Kolmogorov's bound at one in a hundred."""


def _rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_losses_come_in_time_or_on_two_levels_where_that_is_asked_for() -> None:
    outages = draw_access(Access(loss=0.01, loss_burst_ms=200.0), "DE", _rng())
    assert outages.down.losses == outages.up.losses == (TimedBurstLoss(0.01, 200_000),)
    assert draw_access(Access(loss=0.0, loss_burst_ms=200.0), "DE", _rng()).down.losses == ()
    levels = Access(loss=0.001, loss_bad=0.2, bad_share=0.04, bad_packets=400.0, loss_burst=2.0)
    (loss,) = draw_access(levels, "DE", _rng()).down.losses
    assert isinstance(loss, TwoLevelLoss)
    assert loss.mean == pytest.approx(0.96 * 0.001 + 0.04 * 0.2)
    assert loss.bad_to_good == pytest.approx(1 / 400)
    assert draw_access(levels, "DE", _rng()).down.config is not None


def test_a_policer_stands_before_the_queue_where_it_is_asked_for() -> None:
    down = draw_access(Access(policer_bps=4_000_000), "DE", _rng()).down
    assert (down.policer_bps, down.policer_burst_bytes) == (4_000_000, 50_000)


@pytest.mark.parametrize("country", ["ID", "DE", "VN"])
def test_draws_have_the_countrys_percentiles(country: str) -> None:
    access, draw, figures = Access(quantile=(0.0, 1.0)), _rng(), mlab()[country]
    drawn = [draw_access(access, country, draw) for _ in range(DRAWS)]
    columns = (
        (figures.minrtt_ms, [one.up.delay_us / 500 for one in drawn], False),
        (figures.down_mbps, [(one.down.rate_bps or 0) / 1e6 for one in drawn], True),
        (figures.up_mbps, [(one.up.rate_bps or 0) / 1e6 for one in drawn], True),
    )
    for percentiles, values, _ in columns:
        for p, value in zip(MLAB_PERCENTILES[1:-1], percentiles[1:-1], strict=True):
            assert (np.array(values) <= value * 1.0001).mean() == pytest.approx(p / 100, abs=KS)


def test_loss_is_the_stated_part_of_retransmissions() -> None:
    drawn = draw_access(Access(quantile=(0.75, 0.75)), "ID", _rng())
    assert drawn.down.mean_loss == pytest.approx(0.1 * 0.0921, rel=0.01)
    drawn = draw_access(Access(quantile=(0.75, 0.75), loss_fraction=1.0), "ID", _rng())
    assert drawn.down.mean_loss == pytest.approx(0.0921, rel=0.01)


def test_the_third_quarter_is_slow_and_far_at_once() -> None:
    drawn = draw_access(Access(quantile=(0.75, 0.75)), "PH", _rng())
    assert drawn.down.rate_bps == pytest.approx(4.29e6, rel=0.01)
    assert drawn.up.rate_bps == pytest.approx(0.98e6, rel=0.01)
    assert drawn.rtt_ms == pytest.approx(77.4 + 2, abs=0.1)


def test_bad_in_one_thing_is_often_bad_in_another_as_far_as_asked() -> None:
    def correlation(weight: float) -> float:
        draw = _rng(5)
        access = Access(quantile=(0.0, 1.0), rank_correlation=weight)
        ranks = np.array([[q.rtt, q.rate] for q in (draw_quantiles(access, draw) for _ in range(DRAWS))])
        return float(np.corrcoef(ranks.T)[0, 1])

    assert correlation(0.0) == pytest.approx(0.0, abs=0.06)
    assert correlation(0.5) == pytest.approx(0.48, abs=0.06)
    assert correlation(1.0) == pytest.approx(1.0, abs=1e-9)


def test_nothing_is_made_up_beyond_the_measured_percentiles() -> None:
    rtt_ms = mlab()["DE"].minrtt_ms
    assert at_quantile(rtt_ms, 0.0) == rtt_ms[0]
    assert at_quantile(rtt_ms, 1.0) == rtt_ms[-1]


def test_countries_with_a_server_of_their_own_are_told_apart() -> None:
    assert all(mlab()[country].server_at_home for country in ("ID", "PH", "SG", "DE", "US", "SA"))
    assert not any(mlab()[country].server_at_home for country in ("TH", "VN", "AE", "TR"))


def test_the_saudi_haul_to_europe_is_taken_off() -> None:
    drawn = draw_access(Access(quantile=(0.5, 0.5)), "SA", _rng())
    assert drawn.up.delay_us == pytest.approx((113.54 - 86.8) * 500, abs=10)


@pytest.mark.parametrize(("condition", "mean"), [("good", 0.0140), ("median", 0.0467), ("poor", 0.0990)])
def test_mobile_windows_lose_as_much_as_measured(condition: str, mean: float) -> None:
    windows = mobile_windows(condition, _rng())
    assert windows.mean == pytest.approx(mean, abs=0.0001)
    assert all(length == 70_000 for _, length, _ in windows.windows)
    starts = [start for start, _, _ in windows.windows]
    assert all(b - a >= 70_000 for a, b in pairwise(starts))
    assert windows != mobile_windows(condition, _rng(2))


def test_mobile_jitter_has_the_percentiles_of_its_source() -> None:
    median_us, sigma = mobile_jitter()
    assert median_us == pytest.approx((39 - 24) * 500, rel=0.1)
    assert 0.5 < sigma < 2.0


def test_a_mobile_rate_moves_about_the_countrys() -> None:
    drawn = draw_access(Access(profile="mobile-poor", quantile=(0.5, 0.5)), "ID", _rng())
    rates = np.array([bps for _, bps in drawn.down.rate_schedule])
    assert np.median(rates) == pytest.approx(14.75e6, rel=0.01)
    assert rates.min() >= 0.29 * 14.75e6
    assert rates.max() <= 1.51 * 14.75e6
    assert drawn.down.config is not None


def test_china_loses_inbound_and_not_outbound() -> None:
    drawn = draw_access(Access(profile="china-wired"), "CN", _rng())
    assert drawn.up.mean_loss == pytest.approx(0.0006)
    assert drawn.down.mean_loss == pytest.approx(0.15, abs=0.001)
    (inbound,) = drawn.down.losses
    assert isinstance(inbound, DiurnalLoss)
    assert inbound.high == 0.40
    assert drawn.rtt_ms == pytest.approx(104, abs=1)


def test_pantheons_paths_face_the_client() -> None:
    nepal = draw_access(Access(profile="pantheon:nepal_to_aws_india"), "NP", _rng())
    assert nepal.up.mean_loss == pytest.approx(0.0477)
    assert nepal.down.mean_loss == 0
    assert nepal.up.queue_bytes == 14 * 1_500
    korea = draw_access(Access(profile="pantheon:aws_korea_to_china"), "CN", _rng())
    assert korea.up.mean_loss == 0
    assert korea.down.mean_loss == pytest.approx(0.0006)


def test_the_schedule_of_rfc_8867_is_the_downlinks() -> None:
    drawn = draw_access(Access(profile="rfc8867:5.1"), "DE", _rng())
    assert drawn.down.rate_schedule == (
        (0, 1_000_000),
        (40_000_000, 2_500_000),
        (60_000_000, 600_000),
        (80_000_000, 1_000_000),
    )
    assert drawn.down.rate_repeat_us == 100_000_000
    assert drawn.up.rate_schedule == ()
    both = draw_access(Access(profile="rfc8867:5.3"), "DE", _rng())
    assert both.up.rate_schedule[1] == (35_000_000, 800_000)


def test_every_profile_makes_links_that_the_kernel_takes() -> None:
    profiles = (
        "mlab",
        "wifi-weak",
        "mobile-good",
        "mobile-median",
        "mobile-poor",
        "china-mobile",
        "pantheon:mexico_cell_to_aws_california",
        "atc:3G - Good",
        "rfc8867:5.2",
    )
    for profile in profiles:
        for country in ("ID", "DE"):
            drawn = draw_access(Access(profile=profile), country, _rng())
            assert drawn.up.config is not None
            assert drawn.down.config is not None


def test_what_is_given_beats_the_profile() -> None:
    access = Access(rtt_ms=30, down_bps=5_000_000, up_bps=1_000_000, loss=0.0, queue_ms=70, jitter_ms=4)
    drawn = draw_access(access, "CN", _rng())
    assert drawn.rtt_ms == 34
    assert (drawn.down.rate_bps, drawn.down.queue_bytes) == (5_000_000, 43_750)
    assert drawn.down.mean_loss == 0
    assert drawn.reaches_edge
    policed = draw_access(Access(policer_bps=2_000_000), "DE", _rng()).down
    assert (policed.policer_bps, policed.policer_burst_bytes) == (2_000_000, 25_000)


@pytest.mark.parametrize(
    ("access", "country", "key", "text"),
    [
        (Access(profile="mobil-poor"), "ID", "profile", "unknown profile 'mobil-poor'; known are mlab"),
        (Access(profile="pantheon:mars"), "ID", "profile", "known are nepal_to_aws_india"),
        (Access(profile="atc:5G"), "ID", "profile", "known are 2G - Developing Rural"),
        (Access(profile="rfc8867:9"), "ID", "profile", "known are 5.1, 5.2, 5.3"),
        (Access(profile="plain"), "ID", "rtt_ms", "needs rtt_ms"),
        (Access(loss_bad=0.2), "ID", "loss_bad", "there is no loss beside it"),
        (Access(loss_burst_ms=90), "ID", "loss_burst_ms", "there is no loss beside it"),
        (Access(loss=0.01, loss_bad=0.2, bad_share=1.0), "ID", "bad_share", "neither none nor all"),
        (Access(), "CN", "profile", "take the profile 'china-wired'"),
        (Access(), "XX", "country", "no country 'XX'"),
    ],
)
def test_what_there_is_not_is_said_with_its_key(access: Access, country: str, key: str, text: str) -> None:
    with pytest.raises(AccessError, match=text) as caught:
        draw_access(access, country, _rng())
    assert caught.value.key == key
