"""What frames meet on their way, against what can be reckoned by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.control_plane.frame_delay import FrameModel, round_tails
from farcast.simulations.flows.delays import (
    HOP_ROUND_MS,
    HOP_ROUND_RTT,
    WIRE_OVERHEAD,
    Losses,
    congestion_rate_bps,
    in_order,
    losses_of,
    packets_of,
    propagation_us,
    repair_us,
    through_rate,
)
from farcast.simulations.flows.joining import NEVER
from farcast.simulations.links import BurstLoss, LinkModel, WindowLoss

FRAMES = 40_000
"""Four standard deviations of a share drawn so often are allowed."""


def test_the_share_of_frames_that_wait_for_repair_is_the_planner_s() -> None:
    packets = np.full(FRAMES, 12, np.int64)
    draw = np.random.default_rng(1)
    waits = repair_us(packets, Losses(0.01, 3.0), 100.0, 0.3, draw, is_hop=True)
    round_ms = HOP_ROUND_RTT * 100 + HOP_ROUND_MS
    model = FrameModel(12, 0.3, 1, HOP_ROUND_RTT, HOP_ROUND_MS)
    tails = round_tails(model, np.array([0.01]), np.array([3.0]), np.array([round_ms]))[0]
    for rounds, tail in enumerate(tails[:2], 1):
        assert (waits >= rounds * round_ms * 1e3 - 1).mean() == pytest.approx(
            tail, abs=4 * np.sqrt(tail / FRAMES)
        )


def test_without_loss_nothing_is_repaired() -> None:
    draw = np.random.default_rng(1)
    assert not repair_us(np.full(9, 5), Losses(0.0, 1.0), 100.0, 0.3, draw, is_hop=False).any()


def test_a_shifted_lognormal_has_its_median() -> None:
    model = LinkModel(delay_us=10_000, delay_log_median_us=5_000, delay_log_sigma=0.5, delay_redraw_us=1_000)
    delays = propagation_us(model, np.arange(FRAMES, dtype=np.int64) * 1_000, np.random.default_rng(2))
    assert np.median(delays) == pytest.approx(15_000, rel=0.02)
    assert delays.min() > 10_000


def test_frames_leave_a_line_one_after_another() -> None:
    rate_bps = 8e6 * WIRE_OVERHEAD
    done, waited = through_rate(np.array([0, 0, 5_000]), np.array([1_000, 1_000, 1_000]), rate_bps)
    assert done.tolist() == [1_000, 2_000, 6_000]
    assert waited.tolist() == [0, 1_000, 0]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10_000)), min_size=1, max_size=50))
def test_frames_of_a_group_come_in_order_and_groups_do_not_wait_for_one_another(
    frames: list[tuple[int, int]],
) -> None:
    group = np.array([frame[0] for frame in frames])
    at_us = np.array([frame[1] for frame in frames])
    ordered = in_order(at_us, group)
    for number in set(group.tolist()):
        mine = group == number
        assert ordered[mine].tolist() == np.maximum.accumulate(at_us[mine]).tolist()


def test_what_never_comes_holds_up_its_own_group_only() -> None:
    ordered = in_order(np.array([NEVER, 5, 7, 8]), np.array([0, 0, 1, 1]))
    assert ordered.tolist() == [NEVER, NEVER, 7, 8]


def test_losses_in_series_and_in_windows_have_their_mean() -> None:
    two = LinkModel(losses=(BurstLoss(0.1, 2.0), BurstLoss(0.1, 4.0)))
    assert losses_of(two, 100).share == pytest.approx(0.19)
    assert losses_of(two, 100).burst == pytest.approx(3.0)
    windows = LinkModel(losses=(WindowLoss(((0, 70_000, 0.3), (500_000, 70_000, 0.4)), 1_000_000),))
    assert losses_of(windows, 300).share == pytest.approx(0.07 * 0.7)
    assert losses_of(windows, 300).burst_ms == pytest.approx(70)


def test_twice_the_round_trip_is_half_of_what_congestion_control_lets_through() -> None:
    near, far = (congestion_rate_bps(Losses(0.01, 1.0), rtt_ms) for rtt_ms in (50, 100))
    assert near == pytest.approx(2 * far)
    assert far == pytest.approx(1.22 * 9_600 / 0.1 / 0.1)


def test_a_frame_is_at_least_one_packet() -> None:
    assert packets_of(np.array([0, 1, 1_140, 1_141])).tolist() == [1, 1, 1, 2]
