"""What repair makes of frames: against the table's closed form, and against datagrams drawn one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.control_plane.network import Bools, Floats
from farcast.control_plane.repair_rounds import CHUNKS_FOLLOWED, Losses, follow, lost_together, part_ends_ms
from farcast.control_plane.repair_stages import BURST_NODES, LOSS_NODES, NOTICED_MS, STAGES, stages
from farcast.proto.recovery.choice import choose, row_for
from farcast.proto.recovery.policy import COPIES_SHARE, SPANS_MS, Assumptions, Link, Row, table

USUAL = Assumptions()
PER_MS = USUAL.packets_per_s / 1_000
PACKETS = 12
DRAWN = 100_000


def at(
    rtt_ms: float, loss: float, burst: float, assumed: Assumptions = USUAL
) -> tuple[Floats, Floats, float]:
    """Ends of stages, shares that wait for each, extra bytes."""
    figures = (np.array([value]) for value in (rtt_ms, loss, burst))
    ends_ms, shares, extra = stages(PACKETS, assumed).at(*figures)
    return ends_ms[0], shares[0], float(extra[0])


def link(row: Row, loss: float, burst: float) -> Link:
    return Link(loss, burst, row.spacing_us / 1e3, row.span_us / 1e3, row.collect_us / 1e3, PER_MS)


@given(
    st.sampled_from(table()),
    st.floats(0.001, 0.5),
    st.floats(1, 8),
    st.integers(1, CHUNKS_FOLLOWED),
    st.integers(0, 3),
)
def test_a_round_fails_as_often_as_the_table_reckons(
    row: Row, loss: float, burst: float, chunks: int, parts: int
) -> None:
    lost = np.zeros((1, CHUNKS_FOLLOWED))
    lost[0, chunks - 1] = 1.0
    losses = Losses(np.array([loss]), np.array([burst]))
    waiting, lacking = follow(losses, PER_MS, [row], lost, parts)
    expected = link(row, loss, burst).failure(chunks, row.essential[chunks - 1])
    assert lacking.sum() == pytest.approx(expected, abs=1e-9)
    falling = [1.0, *(float(share[0]) for share in waiting), float(lacking.sum())]
    assert (np.diff(falling) <= 1e-9).all()


def drawn(draw: np.random.Generator, frames: int, share: float, rhos: Sequence[float]) -> Bools:
    """``[frame, datagram]``: what is lost, each datagram but the first correlated with the one before."""
    lost = np.empty((frames, len(rhos) + 1), np.bool_)
    lost[:, 0] = draw.random(frames) < share
    for at, rho in enumerate(rhos, 1):
        chance = np.where(lost[:, at - 1], share + (1 - share) * rho, share * (1 - rho))
        lost[:, at] = draw.random(frames) < chance
    return lost


def whole_ms(way: Link, lost: Bools, chunks: int) -> Floats:
    """How long after its copies each round of so many chunks has all; infinite where it fails."""
    further = lost.shape[1] - chunks
    first_ms = max(way.collect_ms, chunks * min(way.spacing_ms, way.span_ms / COPIES_SHARE / chunks))
    step_ms = min(way.spacing_ms, (way.span_ms - first_ms) / max(further - 1, 1))
    times_ms = np.array([0.0, *(first_ms + step_ms * at for at in range(further))])
    come = np.cumsum(~lost, axis=1)[:, chunks - 1 :] >= chunks
    return np.where(come.any(axis=1), times_ms[come.argmax(axis=1)], np.inf)


@pytest.mark.parametrize(("loss", "burst"), [(0.1, 3.0), (0.2, 1.5)])
def test_frames_wait_for_each_part_as_often_as_those_drawn_datagram_by_datagram(
    loss: float, burst: float
) -> None:
    row, draw = row_for(table(), loss, burst, 150.0, 100.0), np.random.default_rng(1)
    way, losses = link(row, loss, burst), Losses(np.array([loss]), np.array([burst]))
    chunks = drawn(draw, DRAWN, loss, [way.rho(0.0)] * (PACKETS - 1)).sum(axis=1)
    ends_ms = (0.0, *part_ends_ms(3, way.collect_ms, way.span_ms)[:2], 1e6)
    expected = np.zeros(len(ends_ms))
    for k in range(1, CHUNKS_FOLLOWED + 1):
        frames = int((np.minimum(chunks, CHUNKS_FOLLOWED) == k).sum())
        lost = drawn(draw, frames, loss, way.rhos(k, row.essential[k - 1]))
        expected += [(whole_ms(way, lost, k) > end_ms).sum() / DRAWN for end_ms in ends_ms]
    hit = lost_together(losses, PACKETS)
    waiting, lacking = follow(losses, PER_MS, [row], hit, 3)
    assert hit.sum() == pytest.approx((chunks > 0).mean(), abs=4 / np.sqrt(DRAWN))
    for share, drawn_share in zip([*waiting, lacking.sum(axis=1)], expected, strict=True):
        assert float(share[0]) == pytest.approx(drawn_share, abs=4 * np.sqrt(drawn_share / DRAWN))


@pytest.mark.parametrize("loss", LOSS_NODES)
@pytest.mark.parametrize("burst", BURST_NODES)
def test_frames_are_hit_as_the_closed_form_has_it(loss: float, burst: float) -> None:
    begins = min(loss / (burst * (1 - loss)), 1.0)
    hit = 1 - (1 - loss) * (1 - begins) ** (PACKETS - 1)
    if 1 - 1 / burst - begins >= 0:  # else losses cannot be so short
        assert at(80.0, loss, burst)[1][0] == pytest.approx(hit, rel=1e-9, abs=1e-12)


def test_more_packets_than_are_followed_count_as_so_many() -> None:
    losses = Losses(np.array([0.4]), np.array([2.0]))
    many = lost_together(losses, 40)
    assert many.shape == (1, CHUNKS_FOLLOWED)
    assert many.sum() == pytest.approx(1.0, abs=1e-3)


def test_plain_rounds_come_one_after_another() -> None:
    ends_ms = at(40.0, 0.05, 3.0)[0]
    assert np.diff(ends_ms[:3]) == pytest.approx(40 + NOTICED_MS, abs=1.0)


def test_the_last_round_takes_its_span() -> None:
    ends_ms = at(190.0, 0.05, 3.0)[0]
    assert ends_ms[0] == pytest.approx(190 + NOTICED_MS + SPANS_MS[0] / COPIES_SHARE, rel=0.02)
    assert ends_ms[STAGES - 2] == pytest.approx(190 + NOTICED_MS + SPANS_MS[0], rel=0.04)


def test_bytes_are_those_that_the_table_takes() -> None:
    for rtt_ms, loss in ((50.0, 0.05), (100.0, 0.02), (150.0, 0.05), (170.0, 0.1)):
        assert at(rtt_ms, loss, 3.0)[2] == pytest.approx(choose(loss, 3.0, rtt_ms).extra, rel=0.15)


def test_a_smaller_budget_means_fewer_rounds_and_more_bytes() -> None:
    short = dataclasses.replace(USUAL, budget_ms=250)
    assert at(100.0, 0.1, 3.0, short)[2] > 1.5 * at(100.0, 0.1, 3.0)[2]
    assert at(100.0, 0.1, 3.0, short)[0][1] < at(100.0, 0.1, 3.0)[0][1]


RTTS = st.floats(0.5, 600)


@given(RTTS, st.floats(0, 200), st.floats(0, 0.6), st.floats(0, 0.3), st.floats(1, 10))
def test_nothing_gets_better_with_loss_or_distance(
    rtt_ms: float, more_ms: float, loss: float, more: float, burst: float
) -> None:
    ends_ms, shares, extra = at(rtt_ms, loss, burst)
    for further_ms, lossier in ((more_ms, 0.0), (0.0, more), (more_ms, more)):
        worse_ms, worse, worse_extra = at(rtt_ms + further_ms, loss + lossier, burst)
        assert (worse_ms + further_ms / 2 >= ends_ms - 1e-9).all()
        assert (worse >= shares - 1e-12).all()
        assert worse_extra >= extra - 1e-12


def test_a_link_that_loses_nothing_waits_for_nothing_and_takes_no_bytes() -> None:
    _, shares, extra = at(100.0, 0.0, 1.0)
    assert not shares.any()
    assert extra == 0.0
