"""Lines at edges, and clients that race."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.simulations.flows.joining import (
    CONNECT_US_MAX,
    NEVER,
    ROUNDS_QUIC,
    SESSIONS_MAX,
    SETUP_SHARE,
    Crowd,
    Joins,
    Lines,
)

RTT_US = 20_000


def crowd(taps_us: list[int], edges: int = 3, loss: float = 0.0) -> Crowd:
    """Viewers of one kind, for whom all edges are equally near."""
    count = len(taps_us)
    choices = np.full((1, 6), -1)
    choices[0, :edges] = np.arange(edges)
    return Crowd(
        np.array(taps_us, np.int64),
        np.zeros(count, np.int64),
        choices,
        np.full((1, 6), RTT_US),
        np.array([loss]),
        np.array([ROUNDS_QUIC]),
    )


def slow_line(work_us: list[int], come_us: list[int]) -> list[int]:
    """The obvious way."""
    free, done = 0, []
    for come, work in zip(come_us, work_us, strict=True):
        free = max(free, come) + work
        done.append(free)
    return done


@given(st.lists(st.tuples(st.integers(0, 1_000), st.integers(1, 200)), min_size=1, max_size=40))
def test_a_line_is_worked_off_one_by_one(pieces: list[tuple[int, int]]) -> None:
    pieces.sort(key=lambda piece: piece[0])
    come, work = [piece[0] for piece in pieces], [piece[1] for piece in pieces]
    lines = Lines(2)
    edge = np.ones(len(pieces), np.int64)
    assert lines.serve(edge, np.array(come), np.array(work)).tolist() == slow_line(work, come)
    assert lines.work_us.tolist() == [0, sum(work)]


def test_lines_of_two_edges_do_not_wait_for_one_another() -> None:
    done = Lines(2).serve(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), np.array([10, 20, 10, 20]))
    assert done.tolist() == [10, 20, 20, 40]


def test_a_line_remembers_who_came_before() -> None:
    lines = Lines(1)
    lines.serve(np.array([0]), np.array([0]), 100)
    assert lines.serve(np.array([0]), np.array([50]), 100).tolist() == [200]
    assert lines.wait_us(150).tolist() == [50]


def test_a_lone_viewer_has_its_session_after_the_rounds_of_a_handshake() -> None:
    joins = Joins(crowd([0]), 3, seed=1, joins_per_s=1_000)
    joins.step(1_000_000)
    assert joins.established_us.tolist() == [round(ROUNDS_QUIC * RTT_US + 1_000 * SETUP_SHARE)]
    assert joins.edge.tolist() == [0]
    assert joins.attempts == 1
    assert joins.subscribed_us[0] == joins.established_us[0] + RTT_US // 2 + 400


def test_a_crowd_that_one_edge_cannot_take_spills_over_to_its_neighbour() -> None:
    joins = Joins(crowd(np.arange(0, 3_000_000, 500).tolist()), 3, seed=1, joins_per_s=1_000)
    joins.step(20_000_000)
    assert joins.sessions.sum() == 6_000
    assert (joins.sessions[:2] > 1_000).all()
    wait_us = joins.established_us - np.arange(0, 3_000_000, 500)
    assert np.quantile(wait_us, 0.95) < 1_500_000


def test_attempts_for_a_burst_that_lose_the_race_are_work_for_nothing() -> None:
    joins = Joins(crowd([0] * 600), 3, seed=1, joins_per_s=1_000)
    joins.step(20_000_000)
    assert joins.attempts > 1_000
    assert joins.sessions.tolist() == [600, 0, 0]


def test_joins_beyond_the_rate_wait_as_long_as_the_line_is() -> None:
    taps = np.arange(0, 2_000_000, 500).tolist()
    joins = Joins(crowd(taps, edges=1), 1, seed=1, joins_per_s=1_000)
    joins.step(60_000_000)
    assert joins.sessions.tolist() == [4_000]
    # 4,000 ms of work from 2 s of arrivals.
    assert joins.subscribed_us.max() == pytest.approx(4_000_000, rel=0.02)


def test_a_full_edge_refuses_and_the_next_one_is_tried_at_once() -> None:
    joins = Joins(crowd([0]), 3, seed=1)
    joins.sessions[0] = SESSIONS_MAX
    joins.step(1_000_000)
    assert joins.edge.tolist() == [1]
    assert joins.refused == 1
    assert joins.established_us[0] < 100_000


def test_nobody_answers_and_the_viewer_gives_up_after_ten_seconds() -> None:
    joins = Joins(crowd([0]), 3, seed=1)
    joins.alive[:] = False
    joins.step(CONNECT_US_MAX + 1_000_000)
    assert joins.failed.tolist() == [True]
    assert joins.established_us.tolist() == [NEVER]


def test_who_starts_again_leaves_its_edge() -> None:
    joins = Joins(crowd([0]), 3, seed=1)
    joins.step(1_000_000)
    joins.alive[0] = False
    joins.start(np.array([0]), np.array([2_000_000]))
    joins.step(4_000_000)
    assert joins.sessions.tolist() == [0, 1, 0]
    assert 2_150_000 < joins.established_us[0] < 2_250_000


def test_long_steps_and_short_ones_come_to_the_same() -> None:
    taps = np.arange(0, 1_000_000, 700).tolist()
    one, many = (Joins(crowd(taps, loss=0.02), 3, seed=4) for _ in range(2))
    one.step(30_000_000)
    for until_us in range(10_000, 30_000_001, 10_000):
        many.step(until_us)
    assert np.abs(one.established_us - many.established_us).max() < 1_500_000
    assert np.median(one.established_us) == pytest.approx(np.median(many.established_us), rel=0.02)
    assert one.sessions.sum() == many.sessions.sum() == len(taps)
