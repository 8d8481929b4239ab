"""Whole runs at the level of flows: what edges, plans and faults do to viewers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flow_worlds import FILM, STEP_MS, scenario_of, world_of

from farcast.simulations.events import (
    AnyEvent,
    BlackOut,
    Capacity,
    ControlStop,
    Crash,
    Cut,
    Drain,
    LossFault,
)
from farcast.simulations.flows.error import ks_distance
from farcast.simulations.flows.run import FlowRun
from farcast.simulations.outputs import measure
from farcast.simulations.raw import ClientTrace, RawResult


def run_of(*events: AnyEvent, seed: int = 1, world: dict[str, Any] | None = None, **given: Any) -> RawResult:
    scenario = scenario_of(events=events, **given)
    return FlowRun(world_of(scenario, **(world or {})), scenario, seed).run()


def viewers(raw: RawResult, home: str | None = None) -> list[ClientTrace]:
    return [c for c in raw.clients if c.kind == "viewer" and home in (None, c.region)]


def gap_ms(client: ClientTrace) -> float:
    arrivals = client.arrivals[client.arrivals["track"] == 0]["at_us"]
    return float(np.diff(np.sort(arrivals)).max()) / 1e3


def frames_missing(raw: RawResult, client: ClientTrace) -> int:
    got = client.arrivals[client.arrivals["track"] == 0]["capture_us"]
    wanted = raw.frames[raw.frames["track"] == 0]["capture_us"]
    inside = (wanted > got.min()) & (wanted < raw.ended_us - 1_000_000)
    return int((~np.isin(wanted[inside], got)).sum())


def test_on_clean_links_a_frame_takes_the_ways_and_nothing_else() -> None:
    raw = run_of()
    for steps, home in enumerate(("r0", "r1", "r2", "r3")):
        for client in viewers(raw, home):
            video = client.arrivals[client.arrivals["track"] == 0]
            late = (video["at_us"] - video["capture_us"])[video["capture_us"] > 5_000_000]
            way_us = 2 * 5_000 + 500 * STEP_MS * steps
            assert late.tolist() == [way_us] * len(late)
            assert len(late) > 300


def test_the_same_seed_gives_the_same_hash_and_another_one_another() -> None:
    lossy = {"loss": 0.02, "access": {"jitter_us": 3_000}}
    hashes = [run_of(seed=seed, world=lossy, seconds=5).trace_hash for seed in (1, 1, 2)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_cut_link_tears_a_gap_and_loses_nothing() -> None:
    raw = run_of(Cut(at_us=8_000_000, links=(("r0", "r1"),)), ControlStop(at_us=1_000_000))
    for client in viewers(raw, "r1"):
        assert 180 < gap_ms(client) < 400
        assert frames_missing(raw, client) == 0
    assert all(gap_ms(client) < 60 for client in viewers(raw, "r0"))
    assert {change.cause for change in raw.route_changes} == {"silent"}


def test_an_edge_that_dies_sends_its_viewers_to_the_next_one() -> None:
    raw = run_of(Crash(at_us=8_000_000, node="r1-1"))
    for client in viewers(raw, "r1"):
        assert next(edge for _, edge in client.edges) == "r1-1"
        assert len(client.edges) == 2
        assert [move.cause for move in client.moves] == ["silent"]
        assert 600 < gap_ms(client) < 1_200
        assert frames_missing(raw, client) == 0
    assert all(frames_missing(raw, client) == 0 for client in viewers(raw, "r3"))


def test_a_drain_moves_viewers_without_a_gap() -> None:
    raw = run_of(Drain(at_us=8_000_000, node="r2-1"))
    for client in viewers(raw, "r2"):
        assert [move.cause for move in client.moves] == ["goaway"]
        assert gap_ms(client) < 150
        assert frames_missing(raw, client) == 0


def test_a_hop_that_loses_a_third_is_left() -> None:
    raw = run_of(LossFault(at_us=6_000_000, links=(("r0", "r1"),), loss=0.33))
    assert any(c.edge == "r1-1" and c.before == "r0-1" for c in raw.route_changes)


def test_ten_thousand_clients_that_drop_together_are_back_within_five_seconds() -> None:
    event = BlackOut(at_us=8_000_000, clients=("crowd",), for_us=2_000_000)
    raw = run_of(event, viewers=10_000, edges=4, seconds=20, joins_us=(0, 4_000_000))
    back = [client.edges[1][0] for client in viewers(raw) if len(client.edges) > 1]
    assert len(back) > 100
    assert max(back) < 15_000_000
    assert raw.counters["viewers_failed"] == 0


def test_an_edge_that_must_send_twice_what_it_can_loses_half() -> None:
    rate = FILM.renditions[0].bitrate_bps + FILM.audio_bps
    raw = run_of(viewers=200, edges=1, world={"capacity_bps": 100 * rate}, joins_us=(0, 100_000))
    missing = measure(raw).ratios["missing_frames"]
    assert missing.part.sum() / missing.whole.sum() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("seed", [1, 2])
def test_more_capacity_never_worsens_anything(seed: int) -> None:
    found = []
    for capacity_bps in (150_000_000, 300_000_000, 0):
        raw = run_of(viewers=400, edges=2, seed=seed, world={"capacity_bps": capacity_bps}, seconds=10)
        missing = measure(raw).ratios["missing_frames"]
        found.append(missing.part.sum() / missing.whole.sum())
    assert found == sorted(found, reverse=True)
    assert found[-1] == 0


def test_a_day_without_a_control_plane_is_looked_at_in_pieces_and_nobody_notices() -> None:
    events = (ControlStop(at_us=600_000_000), Crash(at_us=40_000_000_000, node="r1-1", for_us=600_000_000))
    raw = run_of(*events, seconds=86_400, viewers=200, joins_us=(0, 40_000_000_000))
    assert raw.counters["steps"] < 8_000
    measured = measure(raw)
    stalls = measured.ratios["stall_ratio"]
    assert stalls.part.sum() / stalls.whole.sum() < 0.01
    assert np.isfinite(measured.samples["first_picture"].values).all()


def test_the_distance_of_two_distributions() -> None:
    assert ks_distance([1, 2, 3, 4], [1, 2, 3, 4]) == 0
    assert ks_distance([1, 2], [3, 4]) == 1
    assert ks_distance([1, 2, 3, 4], [1, 2, 30, 40]) == 0.5


def test_a_link_that_became_too_narrow_is_left_by_plan() -> None:
    narrow = Capacity(at_us=6_000_000, links=(("r0", "r1"),), rate_bps=500_000)
    raw = run_of(narrow, seconds=30)
    assert any(c.edge == "r1-1" and c.before == "r0-1" and c.cause == "plan" for c in raw.route_changes)
    for client in viewers(raw, "r1"):
        video = client.arrivals[client.arrivals["track"] == 0]["capture_us"]
        late = raw.frames[(raw.frames["track"] == 0) & (raw.frames["capture_us"] > 20_000_000)]
        late = late[late["capture_us"] < 29_000_000]["capture_us"]
        assert np.isin(late, video).all()


def test_what_media_take_is_counted_once_on_each_hop_in_use() -> None:
    raw = run_of(viewers=2_000, edges=3)
    ratio = measure(raw).ratios["bytes_over_direct"]
    assert 1.0 < ratio.part.sum() / ratio.whole.sum() < 1.2
