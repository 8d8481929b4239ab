"""Runs made by hand, whose figures are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.simulations.constants import (
    BUFFER_MARGIN_US,
    CAPTURE_US,
    DECODE_VIDEO_US,
    ENCODE_VIDEO_US,
    MICROPHONE_US,
    RENDER_US,
    SPEAKER_US,
    STOCK_BUFFER_US,
)
from farcast.simulations.measured import WORLD, Measured, ViewerInfo
from farcast.simulations.outputs import measure
from farcast.simulations.raw import (
    ARRIVAL_DTYPE,
    FRAME_DTYPE,
    Array,
    ClientTrace,
    Fault,
    LinkUse,
    Move,
    RawResult,
    RouteChange,
    Stack,
    TrackInfo,
    Violation,
    Watched,
)

SECOND = 1_000_000
BEGAN = 5 * SECOND
"""Runs are set up before they begin."""
LENGTH = 30 * SECOND
FRAME_US = {"video": 33_333, "audio": 20_000}
GROUP = 60
DELAY = 200_000

TRACKS = (
    TrackInfo("pub", "live/a", "video", "video", 720, 2_500_000, 33_333, ENCODE_VIDEO_US),
    TrackInfo("pub", "live/a", "audio", "audio", 0, 64_000, 20_000),
)

DEVICES_MS = (CAPTURE_US + RENDER_US - MICROPHONE_US - SPEAKER_US) / 1e3

Delay = Callable[[Array], Array]


def frames_of(track: int, length_us: int = LENGTH) -> Array:
    frame_us = TRACKS[track].frame_us
    number = np.arange(length_us // frame_us)
    frames = np.zeros(number.size, FRAME_DTYPE)
    frames["capture_us"] = BEGAN + number * frame_us
    frames["pts_us"] = number * frame_us
    frames["track"] = track
    frames["group"], frames["object"] = np.divmod(number, GROUP)
    frames["key"] = frames["object"] == 0
    frames["bytes"] = 1_000
    return frames


def steady(frames: Array) -> Array:
    return np.full(frames.size, DELAY)


def arrivals_of(tracks: Sequence[int], delay: Delay, drop: Callable[[Array], Array] | None = None) -> Array:
    parts = []
    for track in tracks:
        frames = frames_of(track)
        rows = np.zeros(frames.size, ARRIVAL_DTYPE)
        for name in ("capture_us", "track", "group", "object", "bytes"):
            rows[name] = frames[name]
        rows["at_us"] = frames["capture_us"] + delay(frames)
        rows["first_us"] = rows["at_us"] - 1_000
        parts.append(rows if drop is None else rows[~drop(frames)])
    joined = np.concatenate(parts)
    return joined[np.argsort(joined["at_us"], kind="stable")]


@dataclass(frozen=True)
class Seat:
    """A viewer of the test, by how its frames come."""

    name: str = "v0"
    delay: Delay = steady
    drop: Callable[[Array], Array] | None = None
    stack: Stack = "farcast"
    tracks: tuple[int, ...] = (0, 1)
    edge: str = "e2"
    market: str = "id"


def client_of(seat: Seat) -> ClientTrace:
    arrivals = arrivals_of(seat.tracks, seat.delay, seat.drop)
    arrivals = arrivals[arrivals["at_us"] < BEGAN + LENGTH]
    return ClientTrace(
        client=seat.name,
        kind="viewer",
        stack=seat.stack,
        market=seat.market,
        region="jkt",
        room="a",
        transport="quic",
        access_rtt_ms=20.0,
        access_rate_bps=10_000_000,
        tapped_us=BEGAN,
        connected_us=BEGAN + 40_000,
        catalog_us=BEGAN + 80_000,
        first_object_us=int(arrivals["at_us"][0]) if arrivals.size else None,
        arrivals=arrivals,
        watched=tuple(Watched(track, BEGAN) for track in seat.tracks),
        edges=((BEGAN + 40_000, seat.edge),),
    )


PUBLISHER = ClientTrace(
    client="pub",
    kind="publisher",
    stack="farcast",
    market="de",
    region="fra",
    room="a",
    transport="quic",
    access_rtt_ms=10.0,
    access_rate_bps=50_000_000,
    tapped_us=0,
    published=(0, 1),
    edges=((1, "e1"),),
)


def run_of(*seats: Seat, **more: object) -> RawResult:
    raw = RawResult(
        scenario="test",
        seed=7,
        scale="packets",
        began_us=BEGAN,
        ended_us=BEGAN + LENGTH,
        tracks=TRACKS,
        frames=np.concatenate([frames_of(0), frames_of(1)]),
        clients=(PUBLISHER, *(client_of(seat) for seat in seats)),
        trace_hash="abc",
    )
    return replace(raw, **more)  # type: ignore[arg-type]


def values(measured: Measured, output: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    found = measured.samples.get(output)
    return np.empty(0) if found is None else found.values


def share(measured: Measured, output: str) -> float:
    found = measured.ratios[output]
    return float(found.part.sum() / found.whole.sum())


def after(at_s: float, length_s: float) -> Callable[[Array], Array]:
    """Frames captured in a span of the film."""
    from_us, until_us = BEGAN + at_s * SECOND, BEGAN + (at_s + length_s) * SECOND
    return lambda frames: (frames["capture_us"] >= from_us) & (frames["capture_us"] < until_us)


def held_up(at_s: float, length_s: float) -> Delay:
    """Everything captured in a span comes at its end, and takes its usual time from there."""

    def delay(frames: Array) -> Array:
        inside = after(at_s, length_s)(frames)
        end_us = BEGAN + int((at_s + length_s) * SECOND)
        return np.where(inside, end_us - frames["capture_us"], 0) + DELAY

    return delay


def test_a_steady_delay_gives_that_delay_and_the_constants() -> None:
    measured = measure(run_of(Seat()))
    known = (CAPTURE_US + DELAY + DECODE_VIDEO_US + BUFFER_MARGIN_US + RENDER_US) / 1e3
    latency = values(measured, "glass_to_glass")
    assert np.median(latency) == pytest.approx(known, abs=0.01)
    assert latency.min() >= known - BUFFER_MARGIN_US / 1e3 - 0.01
    assert latency[150:].max() == pytest.approx(known, abs=0.01)
    assert np.unique(values(measured, "object_latency")).tolist() == [DELAY / 1e3]
    waited = values(measured, "player_delay")
    assert np.median(waited) == pytest.approx((DECODE_VIDEO_US + BUFFER_MARGIN_US) / 1e3, abs=0.01)


def test_a_stock_viewer_has_the_fixed_buffer_instead() -> None:
    measured = measure(run_of(Seat(stack="stock")))
    known = CAPTURE_US + DELAY + DECODE_VIDEO_US + STOCK_BUFFER_US + FRAME_US["video"] + RENDER_US
    sound_first = DECODE_VIDEO_US - 1_000
    assert np.median(values(measured, "glass_to_glass")) == pytest.approx(
        known / 1e3, abs=sound_first / 1e3 + 1
    )


def test_encoding_counts_once_whether_or_not_the_run_had_it() -> None:
    tracks = (replace(TRACKS[0], encode_us=0), TRACKS[1])
    without = measure(run_of(Seat(), tracks=tracks))
    within = measure(run_of(Seat()))
    difference = np.median(values(without, "glass_to_glass")) - np.median(values(within, "glass_to_glass"))
    assert difference == pytest.approx(ENCODE_VIDEO_US / 1e3)


def test_times_from_the_tap_are_those_of_the_trace() -> None:
    measured = measure(run_of(Seat()))
    assert values(measured, "connect").tolist() == [40.0]
    first = (DELAY + DECODE_VIDEO_US + RENDER_US) / 1e3
    assert first <= values(measured, "first_picture")[0] < first + 17


def test_a_viewer_that_comes_before_the_film_waits_for_the_picture_from_its_beginning() -> None:
    early = replace(client_of(Seat()), tapped_us=BEGAN - 2 * SECOND)
    measured = measure(run_of(clients=(PUBLISHER, early)))
    assert values(measured, "first_picture")[0] < 300


def test_a_calm_run_has_no_stall_no_loss_and_all_of_it_in_hd() -> None:
    measured = measure(run_of(Seat()))
    assert values(measured, "stalls").tolist() == [0.0]
    for output in ("stall_ratio", "missing_frames", "unshown_frames", "audio_gaps"):
        assert share(measured, output) == 0.0, output
    assert share(measured, "hd_share") == 1.0
    skew = values(measured, "av_skew")
    assert skew.size >= 27
    assert np.abs(skew - DEVICES_MS).max() < 20


def test_skew_has_the_devices_of_both_in_it() -> None:
    """Sound and picture that come alike differ by camera and screen less microphone and speaker."""
    skew = values(measure(run_of(Seat())), "av_skew")
    assert np.median(skew) == pytest.approx(DEVICES_MS, abs=FRAME_US["audio"] / 2e3 + 1)


@pytest.mark.parametrize("gap_s", [0.5, 1.0, 2.5])
def test_a_gap_is_one_stall_of_the_right_length(gap_s: float) -> None:
    measured = measure(run_of(Seat(delay=held_up(10, gap_s))))
    assert values(measured, "stalls").tolist() == [1.0]
    length = values(measured, "stall_length")
    assert length.size == 1
    assert length[0] == pytest.approx(gap_s * 1e3, abs=100)
    playing_s = (BEGAN + LENGTH - FRAME_US["video"] - (BEGAN + DELAY + DECODE_VIDEO_US + RENDER_US)) / 1e6
    assert share(measured, "stall_ratio") == pytest.approx(length[0] / 1e3 / playing_s, rel=0.01)
    assert share(measured, "hd_share") == pytest.approx(1 - length[0] / 1e3 / playing_s, rel=0.01)
    stalls = [entry for entry in measured.timeline if entry.kind == "stall"]
    assert [entry.length_us for entry in stalls] == [int(length[0] * 1e3)]
    assert stalls[0].who == "v0"


def test_lost_frames_are_missing_and_the_rest_of_their_group_is_not_shown() -> None:
    lost = after(10.0, 0.3)
    measured = measure(run_of(Seat(drop=lost, tracks=(0,))))
    frames = frames_of(0)
    missing = int(lost(frames).sum())
    ratio = measured.ratios["missing_frames"]
    assert (ratio.part.tolist(), missing) == ([float(missing)], 9)
    first = int(np.flatnonzero(lost(frames))[0])
    assert measured.ratios["unshown_frames"].part[0] == GROUP - first % GROUP


def counts_at_its_worst(measured: Measured) -> None:
    assert values(measured, "first_picture").tolist() == [np.inf]
    assert np.isinf(values(measured, "glass_to_glass")).all()
    assert values(measured, "glass_to_glass").size > 700
    assert values(measured, "stalls").tolist() == [1.0]
    assert values(measured, "stall_length") == pytest.approx([LENGTH / 1e3], abs=50)
    for output, worst in (("stall_ratio", 1.0), ("hd_share", 0.0), ("unshown_frames", 1.0)):
        assert share(measured, output) == worst, output


def test_a_viewer_without_a_picture_counts_at_its_worst() -> None:
    measured = measure(run_of(Seat(drop=lambda frames: frames["track"] == 0)))
    counts_at_its_worst(measured)
    assert values(measured, "av_skew").size == 0
    assert share(measured, "missing_frames") > 0.3
    assert share(measured, "audio_gaps") == 0.0
    assert [entry.kind for entry in measured.timeline] == ["stall"]


def test_a_viewer_that_never_got_a_catalog_counts_at_its_worst() -> None:
    """It knows no track, so it watches none; it sits in the room all the same."""
    nothing = replace(
        client_of(Seat()), watched=(), catalog_us=None, arrivals=np.empty(0, ARRIVAL_DTYPE), edges=()
    )
    measured = measure(run_of(clients=(PUBLISHER, nothing), faults=()))
    counts_at_its_worst(measured)
    assert (share(measured, "missing_frames"), share(measured, "audio_gaps")) == (1.0, 1.0)
    assert [(viewer.from_region, viewer.track) for viewer in measured.viewers] == [("fra", "cold")]


def test_a_viewer_of_two_hosts_that_knows_one_lacks_the_other() -> None:
    tracks = (*TRACKS, *(replace(track, publisher="pub2") for track in TRACKS))
    others = [frames_of(0), frames_of(1)]
    for k, rows in enumerate(others):
        rows["track"] = 2 + k
    second = replace(PUBLISHER, client="pub2", region="sin", published=(2, 3))
    elsewhere = replace(second, client="pub3", room="another")
    measured = measure(
        run_of(
            tracks=tracks,
            frames=np.concatenate([frames_of(0), frames_of(1), *others]),
            clients=(PUBLISHER, second, elsewhere, client_of(Seat())),
        )
    )
    assert [viewer.pair for viewer in measured.viewers] == ["fra>jkt", "sin>jkt"]
    assert measured.ratios["stall_ratio"].part.tolist()[0] == 0.0
    assert measured.ratios["stall_ratio"].part[1] == measured.ratios["stall_ratio"].whole[1]


def test_a_picture_that_stops_for_good_is_frozen_and_what_it_misses_never_comes() -> None:
    measured = measure(run_of(Seat(drop=after(20, 60))))
    assert share(measured, "stall_ratio") == pytest.approx(1 / 3, abs=0.01)
    assert share(measured, "hd_share") == pytest.approx(2 / 3, abs=0.01)
    never = np.isinf(values(measured, "glass_to_glass"))
    assert never.mean() == pytest.approx(8 / 28, abs=0.01)


def test_a_single_picture_that_stays_is_frozen() -> None:
    measured = measure(run_of(Seat(drop=lambda frames: (frames["group"] > 0) | (frames["object"] > 0))))
    assert values(measured, "stalls").tolist() == [1.0]
    assert share(measured, "stall_ratio") == 1.0
    assert share(measured, "hd_share") == 0.0
    assert np.isinf(values(measured, "glass_to_glass")).mean() > 0.99


def test_a_viewer_that_left_at_once_says_nothing_about_the_first_picture() -> None:
    client = replace(client_of(Seat(drop=lambda frames: frames["track"] < 9)), left_us=BEGAN + SECOND)
    measured = measure(run_of(clients=(PUBLISHER, client)))
    assert values(measured, "first_picture").size == 0


def test_what_was_never_connected_is_infinite() -> None:
    client = replace(client_of(Seat(drop=lambda frames: frames["track"] < 9)), connected_us=None)
    measured = measure(run_of(clients=(PUBLISHER, client)))
    assert np.isinf(values(measured, "connect")).all()


def test_a_rendition_below_hd_is_no_hd() -> None:
    low = replace(TRACKS[0], name="low", height=360)
    frames = np.concatenate([frames_of(0), frames_of(1)])
    other = frames_of(0)
    other["track"] = 2
    client = client_of(Seat(tracks=(0,)))
    switched = BEGAN + 15 * SECOND
    arrivals = client.arrivals.copy()
    later = arrivals["group"] >= 8
    arrivals["track"][later] = 2
    client = replace(client, arrivals=arrivals, watched=(Watched(0, BEGAN, switched), Watched(2, switched)))
    measured = measure(
        run_of(tracks=(*TRACKS, low), frames=np.concatenate([frames, other]), clients=(PUBLISHER, client))
    )
    assert share(measured, "hd_share") == pytest.approx(16 / 29.7, abs=0.02)
    assert share(measured, "stall_ratio") == 0.0


def test_without_any_rendition_in_hd_there_is_no_share_of_it() -> None:
    tracks = (replace(TRACKS[0], height=360), TRACKS[1])
    assert "hd_share" not in measure(run_of(Seat(), tracks=tracks)).ratios


def test_resume_is_the_gap_that_a_fault_tore_for_those_it_hit() -> None:
    fault = Fault(BEGAN + 10 * SECOND, None, "cut", "cut e1 to e2")
    hit, other = Seat("v0", held_up(10, 0.4)), Seat("v1")
    measured = measure(run_of(hit, other, faults=(fault,)))
    resume = measured.samples["resume"]
    assert resume.viewer.tolist() == [0]
    assert resume.values[0] == pytest.approx(400, abs=35)


def test_a_gap_long_after_a_fault_is_not_its_work() -> None:
    fault = Fault(BEGAN + 10 * SECOND, None, "cut", "cut e1 to e2")
    resume = values(measure(run_of(Seat("v0", held_up(15, 0.4)), faults=(fault,))), "resume")
    assert resume.tolist() == pytest.approx([33.333])


def test_a_fault_that_hits_nobody_gives_the_gaps_of_all() -> None:
    fault = Fault(BEGAN + 10 * SECOND, None, "cut", "cut e1 to e2")
    resume = values(measure(run_of(Seat("v0"), Seat("v1"), faults=(fault,))), "resume")
    assert resume.tolist() == pytest.approx([33.333, 33.333])


def test_a_viewer_that_never_resumes_is_infinite_and_what_is_no_fault_is_not_judged() -> None:
    gone = Seat("v0", drop=after(9.8, 60))
    crash = Fault(BEGAN + 10 * SECOND, None, "crash", "crash e1")
    assert np.isinf(values(measure(run_of(gone, faults=(crash,))), "resume")).all()
    crowd = replace(crash, kind="crowd", is_fault=False)
    assert values(measure(run_of(gone, faults=(crowd,))), "resume").size == 0


def test_a_black_out_is_judged_from_its_end() -> None:
    dark = Fault(BEGAN + 10 * SECOND, BEGAN + 14 * SECOND, "black-out", "no signal")
    measured = measure(run_of(Seat(delay=held_up(10 - DELAY / 1e6, 4.3)), faults=(dark,)))
    assert values(measured, "resume")[0] == pytest.approx(300, abs=35)


def test_a_fault_that_another_one_follows_within_seconds_is_judged_all_the_same() -> None:
    """As in ``red-sea-cut``: the cut, and 3 s later the way round."""
    cut = Fault(BEGAN + 10 * SECOND, BEGAN + 13 * SECOND, "cut", "cut e1 to e2")
    detour = Fault(BEGAN + 13 * SECOND, None, "detour", "the long way round")
    measured = measure(run_of(Seat("v0", held_up(10, 0.4)), Seat("v1"), faults=(cut, detour)))
    resume = measured.samples["resume"]
    assert resume.viewer.tolist() == [0, 0, 1]
    assert resume.values == pytest.approx([400, 33, 33], abs=35)


def test_a_gap_that_is_still_open_when_the_next_fault_comes_goes_on_counting() -> None:
    first = Fault(BEGAN + 10 * SECOND, None, "cut", "cut e1 to e2")
    second = Fault(BEGAN + 12 * SECOND, None, "crash", "crash e1")
    resume = values(measure(run_of(Seat("v0", held_up(10, 3)), faults=(first, second))), "resume")
    assert resume == pytest.approx([3_100, 1_300], abs=35)


def test_what_the_next_fault_tears_is_not_the_work_of_the_first() -> None:
    first = Fault(BEGAN + 10 * SECOND, None, "detour", "the long way round")
    second = Fault(BEGAN + 14 * SECOND, None, "crash", "crash e1")
    gone = Seat("v0", drop=after(14, 60))
    resume = values(measure(run_of(gone, faults=(first, second))), "resume")
    assert resume.tolist() == pytest.approx([33.333, np.inf])


def test_frames_that_come_and_cannot_be_shown_are_no_picture() -> None:
    """The key frame is lost: all of its group arrives in time and nothing of it is seen."""
    fault = Fault(BEGAN + 10 * SECOND, None, "cut", "cut e1 to e2")

    def key_is_lost(frames: Array) -> Array:
        lost: Array = np.logical_and(frames["group"] == 5, frames["object"] == 0)
        return lost

    measured = measure(run_of(Seat("v0", drop=key_is_lost, tracks=(0,)), faults=(fault,)))
    assert values(measured, "resume")[0] == pytest.approx((GROUP + 1) * FRAME_US["video"] / 1e3, abs=20)


def test_a_viewer_that_is_dark_when_the_run_ends_counts_with_the_time_until_then() -> None:
    fault = Fault(BEGAN + 27 * SECOND, None, "cut", "cut e1 to e2")
    resume = values(measure(run_of(Seat("v0", held_up(27, 0.4)), faults=(fault,))), "resume")
    assert resume == pytest.approx([400], abs=35)
    dark = measure(run_of(Seat("v0", drop=after(27, 9)), faults=(fault,)))
    assert values(dark, "resume") == pytest.approx([3_000], abs=350)


def test_bytes_over_direct_compares_with_one_copy_to_each_edge_that_is_watched() -> None:
    links = (
        LinkUse("e1", "e2", "hop", 10, 3_600_000, 1, 0),
        LinkUse("e2", "v0", "access", 10, 9_999_999, 0, 0),
    )
    seats = (Seat("v0"), Seat("v1"), Seat("v2", edge="e1"))
    measured = measure(run_of(*seats, links=links))
    direct = (frames_of(0).size + frames_of(1).size) * 1_000
    early = sum(
        int((frames["capture_us"] < BEGAN + 40_000).sum()) * 1_000 for frames in (frames_of(0), frames_of(1))
    )
    ratio = measured.ratios["bytes_over_direct"]
    assert ratio.viewer.tolist() == [WORLD]
    assert (ratio.part[0], ratio.whole[0]) == (3_600_000, direct - early)
    assert measured.links[0].loss == pytest.approx(1 / 11)


def test_two_publishers_are_two_views_and_the_viewer_counts_once() -> None:
    tracks = (TRACKS[0], replace(TRACKS[1], kind="video", height=720, publisher="pub2", frame_us=20_000))
    other = replace(PUBLISHER, client="pub2", region="sin", published=(1,), edges=((1, "e3"),))
    measured = measure(run_of(tracks=tracks, clients=(PUBLISHER, other, client_of(Seat()))))
    assert [viewer.pair for viewer in measured.viewers] == ["fra>jkt", "sin>jkt"]
    assert values(measured, "connect").size == 1
    assert values(measured, "first_picture").size == 2


def test_the_timeline_holds_faults_routes_and_moves_in_order() -> None:
    client = replace(client_of(Seat()), moves=(Move(BEGAN + 9, "e2", "e1", "silent"),), errors=("x",))
    measured = measure(
        run_of(
            clients=(PUBLISHER, client),
            faults=(Fault(BEGAN + 5, BEGAN + 8, "cut", "cut e1 to e2"),),
            route_changes=(RouteChange(BEGAN + 7, "e2", "e1", "e3", "silent", 1_000),),
            violations=(Violation(BEGAN, "no circle", "e1 e2 e1"),),
        )
    )
    assert [entry.kind for entry in measured.timeline] == ["fault", "route", "move"]
    assert measured.timeline[0].length_us == 3
    assert measured.invariant_failures[0].invariant == "no circle"
    assert values(measured, "moves").tolist() == values(measured, "errors").tolist() == [1.0]


def test_groups_may_be_numbered_like_clocks_and_objects_may_come_twice() -> None:
    raw = run_of(Seat())
    frames, client = raw.frames.copy(), raw.clients[1]
    arrivals = np.concatenate([client.arrivals, client.arrivals])
    arrivals["at_us"][client.arrivals.size :] += SECOND
    for rows in (frames, arrivals):
        rows["group"] += np.uint64(2**62)
    shifted = replace(client, arrivals=arrivals)
    again = measure(replace(raw, frames=frames, clients=(PUBLISHER, shifted)))
    assert np.array_equal(values(again, "glass_to_glass"), values(measure(raw), "glass_to_glass"))


def test_objects_that_nobody_published_are_ignored() -> None:
    raw = run_of(Seat())
    client = raw.clients[1]
    strange = client.arrivals[:3].copy()
    strange["group"], strange["object"] = [1, 9_999, 3], [7_777, 0, 2**20]
    odd = replace(client, arrivals=np.concatenate([strange, client.arrivals]))
    again = measure(replace(raw, clients=(PUBLISHER, odd)))
    assert np.array_equal(values(again, "glass_to_glass"), values(measure(raw), "glass_to_glass"))


def test_a_run_without_viewers_or_frames_measures_nothing() -> None:
    empty = run_of(frames=np.empty(0, FRAME_DTYPE))
    assert measure(empty).viewers == ()
    nothing = replace(
        empty, clients=(PUBLISHER, replace(client_of(Seat()), arrivals=np.empty(0, ARRIVAL_DTYPE)))
    )
    assert values(measure(nothing), "glass_to_glass").size == 0


@settings(max_examples=20, deadline=None)
@given(delay_us=st.integers(1_000, 600_000), more_us=st.integers(0, 300_000))
def test_a_longer_path_is_a_longer_latency_by_as_much(delay_us: int, more_us: int) -> None:
    near = measure(run_of(Seat(delay=lambda frames: np.full(frames.size, delay_us), tracks=(0,))))
    far = measure(run_of(Seat(delay=lambda frames: np.full(frames.size, delay_us + more_us), tracks=(0,))))
    difference = np.median(values(far, "glass_to_glass")) - np.median(values(near, "glass_to_glass"))
    assert difference == pytest.approx(more_us / 1e3, abs=0.01)
    assert values(far, "stalls").tolist() == [0.0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_order_of_viewers_does_not_matter(seed: int) -> None:
    draw = np.random.default_rng(seed)
    noise = draw.integers(0, 80_000, 2_000)
    seats = (Seat("v0", lambda frames: DELAY + noise[: frames.size]), Seat("v1"), Seat("v2", held_up(12, 1)))
    forward, backward = measure(run_of(*seats)), measure(run_of(*seats[::-1]))
    for output, found in forward.samples.items():
        assert np.array_equal(np.sort(found.values), np.sort(backward.samples[output].values)), output


def test_a_track_is_warm_where_somebody_watches_it_at_the_tap_or_the_publisher_is() -> None:
    late = BEGAN + 5 * SECOND

    def seen(name: str, edge: str, tapped_us: int, track: int = 0) -> ClientTrace:
        client = client_of(Seat(name, edge=edge, tracks=(track,)))
        kept = client.arrivals[client.arrivals["at_us"] > tapped_us + 100_000]
        return replace(client, tapped_us=tapped_us, arrivals=kept, edges=((tapped_us + 40_000, edge),))

    first, second = seen("first", "e2", BEGAN), seen("second", "e2", late)
    alone, at_home = seen("alone", "e3", late), seen("at-home", "e1", late)
    publisher = replace(
        client_of(Seat("pub")),
        kind="publisher",
        published=(0, 1),
        edges=((BEGAN - SECOND, "e1"),),
        arrivals=first.arrivals[:0],
        watched=(),
    )
    left = replace(first, client="left", left_us=BEGAN + 2 * SECOND, edges=((BEGAN + 40_000, "e3"),))

    viewers = measure_clients(publisher, first, second, alone, at_home, left)

    found = {viewer.name: viewer.track for viewer in viewers}
    assert found == {"first": "cold", "second": "warm", "alone": "cold", "at-home": "warm", "left": "cold"}


def measure_clients(*clients: ClientTrace) -> tuple[ViewerInfo, ...]:
    frames = np.concatenate([frames_of(track) for track in range(len(TRACKS))])
    raw = RawResult("test", 1, "packets", BEGAN, BEGAN + LENGTH, TRACKS, frames, clients, "hash")
    return measure(raw).viewers
