"""The simulator's own error: the figures of `make sim-error` that need no real time."""

from __future__ import annotations

import numpy as np
import pytest

from farcast.simulations.small_world import (
    FilmRates,
    Seen,
    access_links,
    hop_links,
    ks_distance,
    matrix_error,
    mobile_error,
    run_virtual,
)


def test_the_distance_of_a_distribution_to_itself_is_nothing_and_to_one_beyond_it_everything() -> None:
    a = np.sort(np.random.default_rng(1).normal(size=500))
    assert ks_distance(a, a) == 0.0
    assert ks_distance(a, a + 100.0) == 1.0
    assert ks_distance(a, np.sort(np.random.default_rng(2).normal(size=500))) < 0.1


def test_the_two_clouds_differ_as_their_data_say() -> None:
    found = matrix_error()
    assert found.pairs == 182
    assert 3.0 < found.error_ms_p50 < 10.0 < found.error_ms_p90 < 30.0
    assert found.ratio_p10 < 1.0 < found.ratio_p90


def test_poor_conditions_are_worse_than_good_and_median_ones_let_expect() -> None:
    found = mobile_error()
    assert -0.4 < found.window_loss_error < 0.0
    assert 0.0 < found.ks_distance < 0.5


@pytest.mark.parametrize(("lost", "is_within"), [(0.0049, True), (0.0, False), (0.02, False)])
def test_loss_is_within_its_interval_if_links_are_as_they_say(lost: float, is_within: bool) -> None:
    seen = Seen.of([1.0], 0, round(20_000 * lost), 20_000, [])
    low, high = seen.loss_interval()
    assert (low <= seen.loss <= high) is is_within


def test_the_way_by_singapore_is_shorter_than_the_straight_one() -> None:
    links = {ends: model.median_delay_us for ends, model in hop_links().items()}
    by_singapore = links["jkt-1", "sin-1"] + links["sin-1", "fra-1"]
    assert by_singapore < 0.9 * links["jkt-1", "fra-1"]


@pytest.mark.slow
def test_frames_of_the_virtual_run_take_what_links_take_and_none_is_lost() -> None:
    seen = run_virtual(8.0, 1.0, 1, FilmRates(video_bps=300_000, audio_bps=54_000))
    links, access = hop_links(), access_links()
    ends = access["host"][1].delay_us + access["viewer-1"][1].delay_us
    propagation_us = links["jkt-1", "sin-1"].delay_us + links["sin-1", "fra-1"].delay_us + ends
    assert seen.route == ("jkt-1", "sin-1", "fra-1")
    assert seen.missing == 0
    assert seen.latency_ms[0] > propagation_us / 1e3
    assert seen.quantile(0.5) < propagation_us / 1e3 + 15
