"""Closed forms of frame delay, against their definitions and against packets drawn one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.control_plane.edge_table import EdgeTable
from farcast.control_plane.frame_delay import (
    ROUNDS_MAX,
    FrameModel,
    HopDelays,
    hop_delays,
    repair_ms,
    round_tails,
    search_ms,
)
from farcast.control_plane.network import Floats

MODEL = FrameModel()


def hop(rtt_ms: float, loss: float = 0.0, burst: float = 1.0, rtt_p99_ms: float | None = None) -> HopDelays:
    tail = rtt_ms if rtt_p99_ms is None else rtt_p99_ms
    return hop_delays(MODEL, *(np.array([value]) for value in (rtt_ms, tail, loss, burst)))


def delay_ms(*hops: HopDelays) -> float:
    return float(table(*hops).judge(np.arange(len(hops))[:, None])[0][0])


def table(*hops: HopDelays) -> EdgeTable:
    fields = ("base_ms", "round_ms", "tails", "jitter_ms")
    all_of_them = HopDelays(*(np.concatenate([getattr(h, name) for h in hops]) for name in fields))
    return EdgeTable(all_of_them, np.zeros(len(hops)))


def test_without_loss_a_frame_takes_half_a_round_trip() -> None:
    assert delay_ms(hop(100.0)) == pytest.approx(50.0)
    assert float(search_ms(hop(100.0))[0]) == pytest.approx(50.0)


def test_a_lossy_hop_costs_one_round_of_repair() -> None:
    assert delay_ms(hop(200.0, 0.01)) == pytest.approx(100 + 1.125 * 200 + MODEL.round_ms)


def test_loss_too_rare_to_hit_one_frame_in_a_hundred_costs_nothing_at_p99() -> None:
    assert delay_ms(hop(200.0, 0.0005)) == pytest.approx(100.0)


def test_two_hops_that_share_a_loss_repair_in_half_the_time() -> None:
    whole = delay_ms(hop(200.0, 0.04, 2.0))
    halves = delay_ms(hop(100.0, 0.02, 2.0), hop(100.0, 0.02, 2.0))
    assert halves < 0.75 * whole


def test_hops_that_are_rarely_hit_are_hit_often_enough_together() -> None:
    rare = hop(100.0, 0.0005)
    assert delay_ms(rare) == pytest.approx(50.0)
    assert delay_ms(rare, rare) > 150.0


def test_variations_of_independent_hops_add_up_as_squares() -> None:
    varying = hop(100.0, rtt_p99_ms=100 + 30 * np.sqrt(2))
    assert delay_ms(varying, varying) == pytest.approx(100 + 30 * np.sqrt(2))


def test_tails_are_those_of_packets_drawn_one_by_one() -> None:
    loss, burst, frames = 0.05, 3.0, 40_000
    draw = np.random.default_rng(1)
    leave, enter = 1 / burst, loss / burst / (1 - loss)
    states = np.empty((frames, MODEL.packets_per_frame), np.bool_)
    states[:, 0] = draw.random(frames) < loss
    for k in range(1, MODEL.packets_per_frame):
        drawn = draw.random(frames)
        states[:, k] = np.where(states[:, k - 1], drawn > leave, drawn < enter)
    expected = states.any(axis=1).mean()
    tails = round_tails(MODEL, np.array([loss]), np.array([burst]), np.array([235.0]))[0]
    assert tails[0] == pytest.approx(expected, rel=0.03)


def test_tails_of_independent_losses_are_binomial() -> None:
    loss = 0.1
    tails = round_tails(MODEL, np.array([loss]), np.array([1.0]), np.array([1e6]))[0]
    assert tails[0] == pytest.approx(1 - (1 - loss) * (1 - loss / (1 - loss)) ** 11, rel=1e-6)
    assert (np.diff(tails) < 0).all()


def test_quantile_is_that_of_rounds_drawn_at_random() -> None:
    draw = np.random.default_rng(2)
    hops = [hop(80.0, 0.03, 2.0), hop(150.0, 0.02, 1.5), hop(40.0, 0.08, 1.0)]
    rounds_ms = np.zeros(400_000)
    for h in hops:
        drawn = draw.random((len(rounds_ms), 1))
        rounds_ms += (drawn < h.tails).sum(axis=1) * float(h.round_ms[0])
    stacked = np.stack([h.round_ms for h in hops]), np.stack([h.tails for h in hops])
    assert float(repair_ms(*stacked)[0]) == pytest.approx(float(np.quantile(rounds_ms, 0.99)), abs=1e-6)


RTTS = st.floats(1, 400)
LOSSES = st.floats(0, 0.5)
BURSTS = st.floats(1, 20)


@given(RTTS, LOSSES, BURSTS, st.floats(0, 0.4), st.floats(0, 200))
def test_a_worse_hop_is_never_cheaper(
    rtt_ms: float, loss: float, burst: float, more_loss: float, more_ms: float
) -> None:
    before = hop(rtt_ms, loss, burst)
    for after in (hop(rtt_ms, loss + more_loss, burst), hop(rtt_ms + more_ms, loss, burst)):
        assert delay_ms(after) >= delay_ms(before) - 1e-6
        assert float(search_ms(after)[0]) >= float(search_ms(before)[0]) - 1e-6
    varying = hop(rtt_ms, loss, burst, rtt_ms + more_ms)
    assert delay_ms(varying) >= delay_ms(before) - 1e-6


@given(RTTS, LOSSES, BURSTS)
def test_tails_are_shares_that_fall(rtt_ms: float, loss: float, burst: float) -> None:
    tails: Floats = hop(rtt_ms, loss, burst).tails[0]
    assert len(tails) == ROUNDS_MAX
    assert (tails >= 0).all()
    assert (tails <= 1).all()
    assert (np.diff(tails) <= 1e-12).all()


HOPS = st.builds(
    lambda rtt_ms, loss, burst, more_ms: hop(rtt_ms, loss, burst, rtt_ms + more_ms),
    RTTS, LOSSES, BURSTS, st.floats(0, 100),
)  # fmt: skip


@given(st.lists(HOPS, min_size=1, max_size=3))
def test_what_is_known_without_repairing_together_is_never_above_the_delay(hops: list[HopDelays]) -> None:
    edges = np.arange(len(hops))[:, None]
    assert table(*hops).partial(edges).least_ms[0] <= delay_ms(*hops) + 1e-6


@given(HOPS)
def test_of_one_hop_the_whole_delay_is_known(one: HopDelays) -> None:
    assert table(one).partial(np.array([[0]])).least_ms[0] == pytest.approx(delay_ms(one))


@given(HOPS, HOPS, HOPS)
def test_parts_of_a_path_join_to_the_whole(a: HopDelays, b: HopDelays, c: HopDelays) -> None:
    of = table(a, b, c)
    joined = of.partial(np.array([[0], [1]])).then(of.partial(np.array([[2]])))
    assert joined.least_ms[0] == pytest.approx(of.partial(np.arange(3)[:, None]).least_ms[0])


def test_a_place_of_no_edge_changes_nothing() -> None:
    of = table(hop(80.0, 0.03, 2.0, 90.0), hop(150.0, 0.02))
    (short,), (lost,) = of.judge(np.array([[0], [1]]))
    (filled,), (lost_too,) = of.judge(np.array([[0], [1], [of.no_edge]]))
    assert (short, lost) == (filled, lost_too)
    assert of.partial(np.array([[of.no_edge]])).least_ms[0] == 0.0
