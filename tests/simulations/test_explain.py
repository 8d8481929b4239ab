"""Where the time went, for ways that were laid out by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.simulations.constants import (
    BUFFER_MARGIN_US,
    CAPTURE_US,
    DECODE_VIDEO_US,
    ENCODE_VIDEO_US,
    RENDER_US,
)
from farcast.simulations.explain import Explainer, Timeline
from farcast.simulations.outputs import measure
from farcast.simulations.raw import (
    ARRIVAL_DTYPE,
    FRAME_DTYPE,
    OBJECT_HOP_DTYPE,
    Array,
    ClientTrace,
    LinkUse,
    RawResult,
    TrackInfo,
    Watched,
)

SECOND = 1_000_000
FRAME_US = 33_333
GROUP = 60
COUNT = 300
LOST = (110, 140, 170, 200)
"""Frames that are repaired: often enough for a player to wait for them."""
HOSTS = ("pub", "e1", "e2", "v0", "e3")
LEGS_US = (5_000, 80_000, 10_000)
"""Publisher to e1, e1 to e2, e2 to the viewer."""
US_A_BYTE = 0.8
"""10 Mbit/s, on the last leg only."""


def film() -> Array:
    frames = np.zeros(COUNT, FRAME_DTYPE)
    number = np.arange(COUNT)
    frames["capture_us"] = number * FRAME_US
    frames["group"], frames["object"] = np.divmod(number, GROUP)
    frames["key"] = frames["object"] == 0
    frames["bytes"] = np.where(frames["key"], 20_000, 2_000)
    return frames


def run(extra: Callable[[int, int], int] = lambda leg, number: 0, order_us: int = 0) -> RawResult:
    """A run in which frame ``number`` takes ``extra`` longer on a leg."""
    frames = film()
    hops = []
    handed = frames["capture_us"] + ENCODE_VIDEO_US
    last = handed.copy()
    hops.append((0, handed, handed))
    for leg, leg_us in enumerate(LEGS_US):
        more = np.array([extra(leg, number) for number in range(COUNT)])
        first = last + leg_us + more
        last = first + (np.round(frames["bytes"] * US_A_BYTE).astype(np.int64) if leg == 2 else 0)
        hops.append((leg + 1, first, last))
    rows = np.zeros(COUNT * len(hops), OBJECT_HOP_DTYPE)
    for number, (host, first, done) in enumerate(hops):
        part = rows[number * COUNT : (number + 1) * COUNT]
        part["host"], part["first_us"], part["last_us"] = host, first, done
        part["group"], part["object"] = frames["group"], frames["object"]
    arrivals = np.zeros(COUNT, ARRIVAL_DTYPE)
    for name in ("capture_us", "group", "object", "bytes"):
        arrivals[name] = frames[name]
    arrivals["at_us"] = np.maximum.accumulate(last) + order_us
    publisher = client("pub", "publisher", edges=((0, "e1"),))
    viewer = client("v0", "viewer", edges=((0, "e2"),), watched=(Watched(0, 0),), arrivals=arrivals)
    return RawResult(
        scenario="test",
        seed=1,
        scale="packets",
        began_us=0,
        ended_us=COUNT * FRAME_US,
        tracks=(TrackInfo("pub", "live/a", "video", "video", 720, 1, FRAME_US, ENCODE_VIDEO_US),),
        frames=frames,
        clients=(publisher, viewer),
        trace_hash="",
        links=(
            LinkUse("e1", "e2", "hop", 1, 1, 0, 0, rtt_ms=160.0),
            LinkUse("e3", "e2", "hop", 1, 1, 0, 0, rtt_ms=10.0),
        ),
        hosts=HOSTS,
        object_hops=rows,
    )


def client(name: str, kind: str, **more: object) -> ClientTrace:
    made = ClientTrace(
        client=name,
        kind="viewer" if kind == "viewer" else "publisher",
        stack="farcast",
        market="id",
        region="jkt",
        room="a",
        transport="quic",
        access_rtt_ms=20.0,
        access_rate_bps=10_000_000,
        tapped_us=0,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def timelines(raw: RawResult) -> dict[int, Timeline]:
    return {each.group * GROUP + each.object: each for each in Explainer(raw).timelines("v0")}


def parts(timeline: Timeline) -> dict[tuple[str, str], int]:
    return {(part.where, part.what): part.length_us for part in timeline.parts}


def test_an_undisturbed_picture_is_distance_and_constants() -> None:
    found = parts(timelines(run())[250])
    sending = round(2_000 * US_A_BYTE)
    assert found == {
        ("pub", "camera"): CAPTURE_US,
        ("pub", "encoding"): ENCODE_VIDEO_US,
        ("pub > e1", "propagation"): 5_000,
        ("e1 > e2", "propagation"): 80_000,
        ("e2 > v0", "propagation"): 10_000,
        ("e2 > v0", "sending"): sending,
        ("v0", "decoding"): DECODE_VIDEO_US,
        ("v0", "jitter buffer"): found["v0", "jitter buffer"],
        ("v0", "screen"): RENDER_US,
    }
    slack = round(20_000 * US_A_BYTE) - sending
    assert found["v0", "jitter buffer"] == pytest.approx(slack + BUFFER_MARGIN_US, abs=2)


def test_a_large_picture_takes_longer_to_send_and_waits_less_in_the_buffer() -> None:
    found = parts(timelines(run())[240])
    assert found["e2 > v0", "sending"] == round(20_000 * US_A_BYTE)
    assert found["v0", "jitter buffer"] == pytest.approx(BUFFER_MARGIN_US, abs=2)


def test_a_wait_of_a_round_trip_that_hits_one_object_is_a_repair_and_where_it_was() -> None:
    lost = timelines(run(lambda leg, number: 170_000 if leg == 1 and number in LOST else 0))[200]
    assert parts(lost)["e1 > e2", "repair"] == 170_000
    assert ("e1 > e2", "queue") not in parts(lost)


def test_a_wait_shared_with_those_before_or_shorter_than_a_round_trip_is_a_queue() -> None:
    def queued(leg: int, number: int) -> int:
        return 170_000 if leg == 1 and 190 <= number <= 210 else 40_000 if leg == 1 and number == 150 else 0

    found = timelines(run(queued))
    assert parts(found[200])["e1 > e2", "queue"] == 170_000
    assert parts(found[150])["e1 > e2", "queue"] == 40_000
    repaired = [number for number, each in found.items() if any(part.what == "repair" for part in each.parts)]
    assert set(repaired) <= {190, 191, 192}


def test_what_waits_for_what_comes_before_is_told_apart() -> None:
    found = timelines(run(lambda leg, number: 170_000 if leg == 1 and number in LOST else 0))
    assert parts(found[202])["v0", "order"] == pytest.approx(170_000 - 2 * FRAME_US, abs=2)


def test_the_way_is_followed_over_the_path_that_explains_the_time() -> None:
    raw = run()
    rows = raw.object_hops[raw.object_hops["host"] == 1].copy()
    rows["host"] = 4
    raw = replace(raw, object_hops=np.concatenate([raw.object_hops, rows]))
    assert ("e1 > e2", "propagation") in parts(timelines(raw)[200])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), order_us=st.integers(0, 50_000), traced=st.sets(st.integers(0, 3)))
def test_the_parts_add_up_to_the_whole_and_none_is_negative(
    seed: int, order_us: int, traced: set[int]
) -> None:
    draw = np.random.default_rng(seed)
    more = draw.exponential(30_000, (3, COUNT)).astype(int) * draw.integers(0, 2, (3, COUNT))
    raw = run(lambda leg, number: int(more[leg, number]), order_us)
    kept = raw.object_hops[np.isin(raw.object_hops["host"], sorted(traced | {1}))]
    raw = replace(raw, object_hops=kept)
    explainer = Explainer(raw)
    found = list(explainer.timelines("v0"))
    for timeline in found:
        assert sum(part.length_us for part in timeline.parts) == timeline.total_us
        assert min(part.length_us for part in timeline.parts) >= 0
    latency = measure(raw).samples["glass_to_glass"].values
    assert np.allclose(np.array([timeline.total_us for timeline in found]) / 1e3, latency)
    for explanation in explainer.explain("v0"):
        assert explanation.pictures == len(found)
        assert sum(share.mean_us for share in explanation.shares) == pytest.approx(explanation.mean_us)
        assert sum(share.slowest_us for share in explanation.shares) == pytest.approx(explanation.slowest_us)


def test_without_traces_or_with_a_name_that_no_viewer_has_there_is_nothing_to_explain() -> None:
    with pytest.raises(ValueError, match="nothing was traced"):
        Explainer(replace(run(), object_hops=np.empty(0, OBJECT_HOP_DTYPE)))
    with pytest.raises(KeyError):
        list(Explainer(run()).timelines("pub"))
    assert Explainer(run()).viewers() == ["v0"]
