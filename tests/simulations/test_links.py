"""Link models say of themselves what the kernel's links do."""

from __future__ import annotations

import numpy as np
import pytest

from farcast.proto._core import LinkConfig, Loss
from farcast.simulations.links import (
    BurstLoss,
    DiurnalLoss,
    LinkModel,
    LossModel,
    TimedBurstLoss,
    TwoLevelLoss,
    WindowLoss,
    in_series,
)

LOSSES: tuple[tuple[LossModel, float, Loss], ...] = (
    (BurstLoss(0.02), 0.02, Loss.random(0.02)),
    (BurstLoss(0.02, 3.0), 0.02, Loss.gilbert_elliott(0.02, 3.0)),
    (BurstLoss(1.0, 3.0), 1.0, Loss.random(1.0)),
    (TimedBurstLoss(0.1, 70_000), 0.1, Loss.gilbert_elliott_time(0.1, 70_000)),
    (
        TwoLevelLoss(BurstLoss(0.001), BurstLoss(0.2, 4.0), 0.01, 0.03),
        0.75 * 0.001 + 0.25 * 0.2,
        Loss.two_level(0.001, 0.2, 0.01, 0.03, burst_bad_packets=4.0),
    ),
    (
        WindowLoss(((0, 70_000, 0.5), (200_000, 70_000, 1.0)), 1_000_000),
        0.105,
        Loss.windows(((0, 70_000, 0.5), (200_000, 70_000, 1.0)), 1_000_000),
    ),
    (DiurnalLoss(0.05, 0.4, 86_400, 0.286, 7), 0.1501, Loss.diurnal(0.05, 0.4, 86_400, 0.286, 7)),
)


@pytest.mark.parametrize(("model", "mean", "kernel"), LOSSES)
def test_losses_know_their_mean_and_their_kernel_object(model: LossModel, mean: float, kernel: Loss) -> None:
    assert model.mean == pytest.approx(mean)
    assert model.kernel == kernel


def test_a_model_becomes_the_kernels_link_field_by_field() -> None:
    model = LinkModel(
        delay_us=5_000,
        delay_log_median_us=400,
        delay_log_sigma=1.0,
        rate_bps=2_000_000,
        queue_bytes=75_000,
        policer_bps=1_000_000,
        policer_burst_bytes=10_000,
        mtu_bytes=1_280,
        losses=(BurstLoss(0.01, 3.0), BurstLoss(0.02)),
    )
    assert model.config == LinkConfig(
        5_000,
        rate_bps=2_000_000,
        queue_bytes=75_000,
        delay_log_median_us=400,
        delay_log_sigma=1.0,
        policer_bps=1_000_000,
        policer_burst_bytes=10_000,
        mtu_bytes=1_280,
        loss_model=Loss.any_of((Loss.gilbert_elliott(0.01, 3.0), Loss.random(0.02))),
    )
    assert model.mean_loss == pytest.approx(1 - 0.99 * 0.98)


def test_what_no_link_can_be_names_the_field() -> None:
    with pytest.raises(ValueError, match="queue_bytes"):
        LinkModel(queue_bytes=0).config  # noqa: B018


def test_links_in_series_add_up_and_keep_the_accesss_rate() -> None:
    access = LinkModel(delay_us=10_000, rate_bps=5_000_000, queue_bytes=9, losses=(BurstLoss(0.1),))
    haul = LinkModel(delay_us=30_000, mtu_bytes=1_400, losses=(BurstLoss(0.2),))
    path = in_series(access, haul)
    assert (path.delay_us, path.rate_bps, path.queue_bytes, path.mtu_bytes) == (40_000, 5_000_000, 9, 1_400)
    assert path.mean_loss == pytest.approx(1 - 0.9 * 0.8)


def test_wandering_delays_in_series_wander_like_both_together() -> None:
    draw = np.random.default_rng(1)
    first = LinkModel(delay_log_median_us=4_900, delay_log_sigma=1.0)
    then = LinkModel(delay_log_median_us=2_900, delay_log_sigma=0.8)
    path = in_series(first, then)
    both = 4_900 * np.exp(draw.standard_normal(200_000)) + 2_900 * np.exp(0.8 * draw.standard_normal(200_000))
    one = path.delay_log_median_us * np.exp(path.delay_log_sigma * draw.standard_normal(200_000))
    assert one.mean() == pytest.approx(both.mean(), rel=0.02)
    assert np.quantile(one, [0.5, 0.9, 0.99]) == pytest.approx(np.quantile(both, [0.5, 0.9, 0.99]), rel=0.1)
    assert in_series(first, LinkModel()).delay_log_median_us == 4_900
