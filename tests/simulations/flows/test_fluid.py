"""Media as rates: what is offered is sent or dropped, and nothing sends more than it can."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.simulations.flows.fluid import Fluid, below

CHAIN = np.array([[-1, 0, 1, 1]])
"""0 feeds 1, which feeds 2 and 3."""

UP = np.ones((4, 4), np.bool_)


def fluid(node_bps: list[float], link_bps: float = 0.0) -> Fluid:
    return Fluid(np.array(node_bps, np.float64), np.full((4, 4), link_bps), np.array([0]))


def settled(flow: Fluid, wanted: float, viewers: list[float], steps: int = 6) -> Fluid:
    for _ in range(steps):
        flow.step(CHAIN, np.array([[0.0, wanted, wanted, wanted]]), np.array([viewers]), UP, 0.1)
    return flow


def test_without_bounds_everything_arrives() -> None:
    flow = settled(fluid([0, 0, 0, 0]), 8.0, [0, 0, 80, 80])
    assert flow.arriving.tolist() == [[1, 1, 1, 1]]
    assert flow.node_bps.tolist() == [8, 16, 80, 80]


def test_a_node_that_can_send_half_of_its_children_s_media_passes_on_half() -> None:
    flow = settled(fluid([0, 8, 0, 0]), 8.0, [0, 0, 80, 80])
    assert flow.arriving[0].tolist() == [1, 1, 0.5, 0.5]
    assert flow.node_bps.tolist() == [8, 8, 40, 40]


def test_a_narrow_link_is_felt_by_everybody_behind_it() -> None:
    flow = fluid([0, 0, 0, 0])
    flow.link_bps[0, 1] = 6.0
    settled(flow, 8.0, [0, 0, 80, 80])
    assert flow.arriving[0].tolist() == [1, 0.75, 0.75, 0.75]


def test_what_is_cut_off_gets_nothing_though_it_would_fit() -> None:
    flow, cut = fluid([0, 0, 0, 0]), UP.copy()
    cut[1, 2] = False
    for _ in range(6):
        flow.step(CHAIN, np.array([[0.0, 8, 8, 8]]), np.zeros((1, 4)), cut, 0.1)
    assert flow.arriving[0].tolist() == [1, 1, 0, 1]
    assert flow.fitting[0].tolist() == [1, 1, 1, 1]


capacities = st.lists(st.floats(0.5, 50) | st.just(0.0), min_size=4, max_size=4)


@given(
    capacities,
    st.floats(0, 30) | st.just(0.0),
    st.floats(0.1, 20),
    st.lists(st.floats(0, 60), min_size=4, max_size=4),
)
def test_bytes_offered_are_sent_or_dropped_and_no_capacity_is_exceeded(
    node_bps: list[float], link_bps: float, wanted: float, viewers: list[float]
) -> None:
    flow = fluid(node_bps, link_bps)
    for _ in range(8):
        flow.step(CHAIN, np.array([[0.0, wanted, wanted, wanted]]), np.array([viewers]), UP, 0.1)
        bounded = flow.capacity_bps > 0
        assert (flow.node_bps[bounded] <= flow.capacity_bps[bounded] * (1 + 1e-9)).all()
        if link_bps:
            assert (flow.links_bps <= link_bps * (1 + 1e-9)).all()
    account = flow.account
    dropped = account.node_offered - account.node_sent
    assert (dropped >= -1e-9).all()
    # What nodes sent is what links were offered and what viewers got.
    to_viewers = account.node_sent.sum() - account.link_offered.sum()
    assert to_viewers == pytest.approx(
        0.1 / 8 * sum_of_viewers(node_bps, link_bps, wanted, viewers), rel=1e-6, abs=1e-9
    )


def sum_of_viewers(node_bps: list[float], link_bps: float, wanted: float, viewers: list[float]) -> float:
    """What viewers got, counted by themselves in a second run."""
    flow, got = fluid(node_bps, link_bps), 0.0
    for _ in range(8):
        flow.step(CHAIN, np.array([[0.0, wanted, wanted, wanted]]), np.array([viewers]), UP, 0.1)
        got += float(flow.viewers_bps.sum())
    return got


@given(capacities, st.floats(0.1, 20), st.integers(0, 3), st.floats(1.0, 5.0))
def test_more_capacity_of_a_link_never_worsens_what_arrives(
    node_bps: list[float], wanted: float, which: int, factor: float
) -> None:
    less, more = fluid(node_bps, 5.0), fluid(node_bps, 5.0)
    more.link_bps[:, which] *= factor
    viewers = [0.0, 4.0, 4.0, 4.0]
    settled(less, wanted, viewers)
    settled(more, wanted, viewers)
    own = more.arriving[0, which] >= less.arriving[0, which] - 1e-9
    assert own


def test_a_node_must_take_what_anybody_below_wants() -> None:
    assert below(CHAIN, np.array([[0.0, 0, 0, 1]])).tolist() == [[1, 1, 0, 1]]
