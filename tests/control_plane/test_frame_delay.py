"""Frame delay over hops and paths, against its definition and against frames drawn one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.control_plane.edge_table import EdgeTable
from farcast.control_plane.frame_delay import FrameModel, HopDelays, hop_delays, repair_ms, search_ms
from farcast.control_plane.network import Floats
from farcast.control_plane.repair_stages import NOTICED_MS, STAGES
from farcast.proto.recovery.policy import COPIES_SHARE, SPANS_MS

MODEL = FrameModel()


def hop(rtt_ms: float, loss: float = 0.0, burst: float = 1.0, rtt_p99_ms: float | None = None) -> HopDelays:
    tail = rtt_ms if rtt_p99_ms is None else rtt_p99_ms
    return hop_delays(MODEL, *(np.array([value]) for value in (rtt_ms, tail, loss, burst)))


def delay_ms(*hops: HopDelays) -> float:
    return float(table(*hops).judge(np.arange(len(hops))[:, None])[0][0])


def table(*hops: HopDelays) -> EdgeTable:
    fields = ("base_ms", "repair_ms", "tails", "jitter_ms", "extra")
    all_of_them = HopDelays(*(np.concatenate([getattr(h, name) for h in hops]) for name in fields))
    return EdgeTable(all_of_them, np.zeros(len(hops)))


def test_without_loss_a_frame_takes_half_a_round_trip() -> None:
    assert delay_ms(hop(100.0)) == pytest.approx(50.0)
    assert float(search_ms(hop(100.0))[0]) == pytest.approx(50.0)


def test_a_lossy_hop_costs_one_round_of_repair() -> None:
    copies_ms = SPANS_MS[0] / COPIES_SHARE
    assert delay_ms(hop(200.0, 0.01)) == pytest.approx(100 + 200 + NOTICED_MS + copies_ms, rel=0.01)


@pytest.mark.parametrize("loss", [0.02, 0.05, 0.1, 0.2])
@pytest.mark.parametrize("burst", [1.0, 3.0, 6.0])
def test_where_one_round_fits_no_frame_at_p99_waits_for_a_second(loss: float, burst: float) -> None:
    assert delay_ms(hop(200.0, loss, burst)) <= 100 + 200 + NOTICED_MS + SPANS_MS[0] + 5


def test_where_several_rounds_fit_the_first_are_plain_and_frames_wait_for_a_second() -> None:
    assert delay_ms(hop(40.0, 0.02, 3.0)) < 20 + 2 * (40 + NOTICED_MS)
    assert delay_ms(hop(40.0, 0.05, 3.0)) > 20 + 2 * (40 + NOTICED_MS)


@pytest.mark.parametrize(
    ("rtt_ms", "loss", "measured_ms", "extra"),
    [
        (50.0, 0.02, 92, 0.026),
        (50.0, 0.05, 140, 0.063),
        (50.0, 0.10, 170, 0.122),
        (100.0, 0.02, 170, 0.028),
        (100.0, 0.05, 273, 0.070),
        (200.0, 0.02, 333, 0.045),
        (200.0, 0.05, 343, 0.133),
        (200.0, 0.10, 352, 0.274),
        (200.0, 0.20, 367, 0.646),
    ],
)
def test_delay_and_bytes_are_near_those_of_hops(
    rtt_ms: float, loss: float, measured_ms: float, extra: float
) -> None:
    """As ``make bench-hop-model`` measures them, bursts of three."""
    one = hop(rtt_ms, loss, 3.0)
    assert delay_ms(one) == pytest.approx(measured_ms, rel=0.105)
    assert float(one.extra[0]) == pytest.approx(extra, rel=0.27)


def test_loss_too_rare_to_hit_one_frame_in_a_hundred_costs_nothing_at_p99() -> None:
    assert delay_ms(hop(200.0, 0.0005)) == pytest.approx(100.0)


def test_two_hops_that_share_a_loss_repair_in_half_the_time() -> None:
    whole = delay_ms(hop(200.0, 0.02, 3.0))
    halves = delay_ms(hop(100.0, 0.01, 3.0), hop(100.0, 0.01, 3.0))
    assert halves < 0.75 * whole


def test_two_hops_that_share_a_loss_repair_with_fewer_bytes() -> None:
    """Where the whole has time for one round, and the halves for two."""
    assert float(hop(100.0, 0.025, 3.0).extra[0]) < 0.3 * float(hop(200.0, 0.05, 3.0).extra[0])


def test_hops_that_are_rarely_hit_are_hit_often_enough_together() -> None:
    rare = hop(100.0, 0.0005)
    assert delay_ms(rare) == pytest.approx(50.0)
    assert delay_ms(rare, rare) > 150.0


def test_variations_of_independent_hops_add_up_as_squares() -> None:
    varying = hop(100.0, rtt_p99_ms=100 + 30 * np.sqrt(2))
    assert delay_ms(varying, varying) == pytest.approx(100 + 30 * np.sqrt(2))


def test_quantile_is_that_of_stages_drawn_at_random() -> None:
    draw = np.random.default_rng(2)
    hops = [hop(80.0, 0.03, 2.0), hop(150.0, 0.02, 1.5), hop(40.0, 0.08, 1.0)]
    waits_ms = np.zeros(400_000)
    for h in hops:
        stage = (draw.random((len(waits_ms), 1)) < h.tails).sum(axis=1)
        waits_ms += np.append(0.0, h.repair_ms[0])[stage]
    stacked = np.stack([h.repair_ms for h in hops]), np.stack([h.tails for h in hops])
    assert float(repair_ms(*stacked)[0]) == pytest.approx(float(np.quantile(waits_ms, 0.99)), abs=1e-6)


def test_without_loss_repair_takes_no_bytes() -> None:
    assert float(hop(200.0).extra[0]) == 0.0


def test_a_hop_with_less_time_for_repair_takes_more_bytes() -> None:
    assert float(hop(200.0, 0.05, 3.0).extra[0]) > 1.5 * float(hop(100.0, 0.05, 3.0).extra[0])


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
        assert float(after.extra[0]) >= float(before.extra[0]) - 1e-12
    varying = hop(rtt_ms, loss, burst, rtt_ms + more_ms)
    assert delay_ms(varying) >= delay_ms(before) - 1e-6


@given(RTTS, LOSSES, BURSTS)
def test_tails_fall_while_stages_end_one_after_another(rtt_ms: float, loss: float, burst: float) -> None:
    one = hop(rtt_ms, loss, burst)
    tails: Floats = one.tails[0]
    assert len(tails) == STAGES
    assert (tails >= 0).all()
    assert (tails <= 1).all()
    assert (np.diff(tails) <= 1e-12).all()
    assert (np.diff(one.repair_ms[0]) >= -1e-9).all()


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
