"""How busy an edge is by its own word, and what the planner makes of that."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import SECOND_US, all_origins, at, first_plan, line, network_of, with_nodes
from reports import hello, report

from farcast.control_plane.costs import Costs
from farcast.control_plane.link_state import LinkState, LinkStateConfig
from farcast.control_plane.network import Network
from farcast.control_plane.planner import PlannerConfig, PlannerMemory, explain, plan
from farcast.control_plane.pressure import AVERAGE_SECONDS, QUEUE_SHARE_MAX, STEP, Pressure
from farcast.proto.control.messages import Load

CONFIG = PlannerConfig()
LONG = 20 * int(AVERAGE_SECONDS)
"""Seconds after which an average is what it will be."""


def pressure_of(*loads: Load) -> Pressure:
    pressure = Pressure()
    for second, load in enumerate(loads):
        pressure.handle_load(load, second * SECOND_US)
    return pressure


def two_relays(second_ms: float) -> Network:
    """From ``a`` to ``b`` 60 ms by ``m``, or so much by ``n``; direct it is far."""
    half = second_ms / 2
    return line(
        {("a", "m"): 60.0, ("m", "b"): 60.0, ("a", "n"): 2 * half, ("n", "b"): 2 * half, ("a", "b"): 600.0}
    )


def test_a_full_processor_counts_in_full_and_none_at_all_counts_nothing() -> None:
    assert pressure_of(*[Load(cpu=1.0)] * LONG).share == pytest.approx(1.0)
    assert pressure_of(*[Load(egress_bps=10**9, viewers=1_000)] * LONG).share == 0.0


def test_one_busy_second_is_nothing() -> None:
    assert pressure_of(*[Load(cpu=0.3)] * LONG, Load(cpu=1.0)).share == pytest.approx(0.3)


@given(st.floats(0.0, 1.0), st.lists(st.floats(-0.05, 0.05), min_size=60, max_size=60))
def test_noise_moves_it_by_one_step_at_most_and_not_to_and_fro(cpu: float, noise: list[float]) -> None:
    pressure = pressure_of(*[Load(cpu=cpu)] * LONG)
    told = []
    for second, by in enumerate(noise, LONG):
        pressure.handle_load(Load(cpu=min(max(cpu + by, 0.0), 1.0)), second * SECOND_US)
        told.append(pressure.share)
    assert abs(told[-1] - cpu) <= 2 * STEP
    assert sum(a != b for a, b in pairwise(told)) <= 1


def test_a_queue_counts_by_how_long_it_takes_to_send_and_never_in_full() -> None:
    long_queue = Load(egress_bps=8_000_000, queue_bytes=10**9)
    assert pressure_of(*[long_queue] * LONG).share == pytest.approx(QUEUE_SHARE_MAX)
    short_queue = Load(egress_bps=8_000_000_000, queue_bytes=10_000_000)
    assert pressure_of(*[short_queue] * LONG).share == 0.0
    nothing_sent = Load(queue_bytes=10_000)
    assert pressure_of(*[nothing_sent] * LONG).share <= QUEUE_SHARE_MAX / 2


def test_a_queue_alone_is_worth_less_than_an_upgrade() -> None:
    busy = with_nodes(two_relays(60.0), m={"pressure": QUEUE_SHARE_MAX})
    load_ms = Costs(busy, CONFIG).load_ms[busy.index["m"]].max()
    assert 0 < load_ms < CONFIG.upgrade_ms


def test_reports_bring_it_to_the_network_distrusted_ones_do_not_and_a_new_process_starts_anew() -> None:
    state = LinkState(LinkStateConfig())
    state.join(hello("a"), 0)
    for second in range(LONG):
        state.handle_report("a", report(second, (), load=Load(cpu=0.9)), second * SECOND_US)
    now_us = LONG * SECOND_US
    assert state.network(now_us).node("a").pressure == pytest.approx(0.9)
    for second in range(LONG, 2 * LONG):
        said = report(second, (), load=Load(cpu=0.0), distrust=True)
        state.handle_report("a", said, second * SECOND_US)
    assert state.network(2 * now_us).node("a").pressure == pytest.approx(0.9)
    state.join(hello("a", boot_id="boot-2"), 2 * now_us)
    assert state.network(2 * now_us).node("a").pressure == 0.0


def test_a_busy_edge_gets_no_new_branch_where_another_costs_little_more() -> None:
    for second_ms, busy_way, way in ((90.0, "n", "m"), (190.0, "m", "m")):
        network = two_relays(second_ms)
        assert first_plan(network)[0].trees["a"].path("b") == ("a", way, "b")
        busy = with_nodes(network, m={"pressure": 1.0})
        assert first_plan(busy)[0].trees["a"].path("b") == ("a", busy_way, "b")


def test_why_tells_it_as_load() -> None:
    busy = with_nodes(two_relays(90.0), m={"pressure": 1.0})
    made, memory = first_plan(busy)
    explanation = explain(busy, made, memory, CONFIG, "a", "b")
    by_path = {candidate.path: candidate for candidate in explanation.candidates}
    assert by_path["a", "m", "b"].load_ms == pytest.approx(CONFIG.fill_penalty_ms)
    assert by_path["a", "n", "b"].load_ms == 0.0
    assert "by load (+40.0 ms)" in by_path["a", "m", "b"].why_not


@given(st.integers(0, 2**32 - 1))
def test_where_no_load_is_reported_it_costs_nothing(seed: int) -> None:
    costs = Costs(network_of(seed, 8), CONFIG)
    assert not costs.load_ms.any()


@pytest.mark.parametrize("seed", range(3))
def test_a_relay_that_is_busy_more_or_less_moves_nobody(seed: int) -> None:
    noise = np.random.default_rng(seed).uniform(-0.08, 0.08, 60)
    network, memory, pressure = two_relays(75.0), PlannerMemory(), Pressure()
    moves = 0
    for second, by in enumerate([*[0.0] * LONG, *noise.tolist()]):
        pressure.handle_load(Load(cpu=0.82 + by), second * SECOND_US)
        if second < LONG - 1:
            continue
        here = at(with_nodes(network, m={"pressure": pressure.share}), second)
        made, memory = plan(here, all_origins(here), memory, CONFIG)
        moves += len(made.moves) if second >= LONG else 0
    assert moves == 0
    assert np.isclose(pressure.share, 0.8)


def test_a_report_after_a_silence_counts_for_no_longer_than_two_seconds() -> None:
    pressure = pressure_of(Load(cpu=0.0), Load(cpu=0.0))
    pressure.handle_load(Load(cpu=1.0), 31 * SECOND_US)
    assert pressure.share <= 2 * STEP
