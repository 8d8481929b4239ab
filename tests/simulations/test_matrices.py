"""The data files are read whole, and what is synthesised keeps to the distributions it is drawn from."""

from __future__ import annotations

import numpy as np
import pytest

from farcast.simulations.fault_events import EFFECTS, SYNTHESISED, WITHOUT_EFFECT, during, known_events
from farcast.simulations.matrices import (
    FIBRE_KM_PER_MS,
    REGIONS,
    aws,
    azure,
    drawn_loss,
    public_internet,
)


def test_the_aws_matrix_is_whole() -> None:
    matrix = aws()
    assert len(matrix.regions) == 33
    off = ~np.eye(33, dtype=bool)
    assert (matrix.rtt_ms[off] > 0).all()
    assert (matrix.rtt_p90_ms[off] >= matrix.rtt_ms[off]).all()
    sin, jkt = matrix.index("ap-southeast-1"), matrix.index("ap-southeast-3")
    assert matrix.rtt_ms[sin, jkt] == pytest.approx(17.6, abs=1)
    assert (np.diag(matrix.rtt_ms) == 0).all()


def test_the_azure_matrix_has_no_holes() -> None:
    matrix = azure()
    assert len(matrix.regions) >= 48
    assert (matrix.rtt_ms[~np.eye(len(matrix.regions), dtype=bool)] > 0).all()


def test_regions_have_short_names() -> None:
    matrix = aws().renamed(REGIONS)
    assert matrix.regions[:2] == ("sin", "jkt")
    assert matrix.between(["fra", "sin"]).rtt_ms[0, 1] == pytest.approx(161, abs=6)
    with pytest.raises(KeyError, match="'mars' is none of sin, jkt"):
        matrix.index("mars")


def test_distances_are_along_great_circles() -> None:
    matrix = aws().renamed(REGIONS)
    assert matrix.distance_km[matrix.index("lon"), matrix.index("sin")] == pytest.approx(10_850, rel=0.02)


def test_the_public_internet_is_as_stretched_as_measured_and_the_same_for_a_seed() -> None:
    cloud = aws()
    public = public_internet(cloud, 1)
    upper = np.triu_indices(len(cloud.regions), 1)
    fibre_ms = 2 * cloud.distance_km[upper] / FIBRE_KM_PER_MS
    mean_ms = (public.rtt_ms + public.rtt_ms.T)[upper] / 2
    ratio = (mean_ms / fibre_ms)[fibre_ms > 5]
    assert np.quantile(ratio, [0.1, 0.5, 0.9]) == pytest.approx([1.52, 2.03, 3.58], rel=0.08)
    apart = np.abs(public.rtt_ms - public.rtt_ms.T)[upper]
    assert np.quantile(apart, 0.9) == pytest.approx(6.2, rel=0.25)
    assert not public.is_measured
    assert np.array_equal(public.rtt_ms, public_internet(cloud, 1).rtt_ms)
    assert not np.array_equal(public.rtt_ms, public_internet(cloud, 2).rtt_ms)


def test_one_relay_gains_as_often_in_the_synthesised_internet_as_in_the_measured_one() -> None:
    shares = []
    for seed in range(5):
        rtt_ms = public_internet(aws(), seed).rtt_ms
        relayed = rtt_ms[:, :, None] + rtt_ms[None, :, :] + 2
        at = np.arange(len(rtt_ms))
        relayed[at, at, :] = relayed[:, at, at] = np.inf
        off = ~np.eye(len(rtt_ms), dtype=bool)
        shares.append((relayed.min(axis=1)[off] <= 0.8 * rtt_ms[off]).mean())
    assert np.mean(shares) == pytest.approx(0.134, abs=0.02)


def test_loss_is_as_skewed_as_measured() -> None:
    loss = drawn_loss(400, 1)
    assert np.quantile(loss, [0.95, 0.99]) == pytest.approx([0.0071, 0.0588], rel=0.1)
    assert loss.mean() == pytest.approx(0.0018, rel=0.25)


@pytest.mark.parametrize("event", sorted(EFFECTS))
def test_events_are_of_the_file_and_touch_what_they_name(event: str) -> None:
    assert event in known_events()
    matrix, touched = during(event, aws())
    changed = {(int(i), int(j)) for i, j in np.argwhere(matrix.rtt_ms != aws().rtt_ms)}
    assert changed == touched
    assert touched


def test_every_event_of_the_file_changes_the_matrix_or_says_why_it_does_not() -> None:
    assert EFFECTS.keys() | WITHOUT_EFFECT.keys() == set(known_events())
    assert not EFFECTS.keys() & WITHOUT_EFFECT.keys()
    assert EFFECTS.keys() > SYNTHESISED


def test_a_detour_takes_as_long_as_its_two_parts() -> None:
    matrix, _ = during("red_sea_2025_09_india", aws())
    fra, bom, sfo = (aws().index(REGIONS[name]) for name in ("fra", "bom", "sfo"))
    assert matrix.rtt_ms[bom, fra] == pytest.approx(aws().rtt_ms[bom, sfo] + aws().rtt_ms[sfo, fra])
