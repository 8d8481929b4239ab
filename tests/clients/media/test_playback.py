"""What a viewer sees, on hand-made timelines."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.clients.media.freezes import FreezeMeter
from farcast.clients.media.gaps import GapMeter
from farcast.clients.media.playback import Arrival, Playback
from farcast.clients.media.quantiles import Quantiles

FRAME_US = 33_333
START_US = 1_000_000_000


def picture(number: int, *, latency_us: int = 50_000, gop: int = 30, **changes: Any) -> Arrival:
    captured_us = START_US + number * FRAME_US
    arrival = Arrival(
        "video", "video", number // gop, number % gop, number * FRAME_US, FRAME_US, number % gop == 0, 1000,
        captured_us + latency_us, captured_us,
    )  # fmt: skip
    return replace(arrival, **changes)


def sound(number: int, *, latency_us: int = 50_000) -> Arrival:
    captured_us = START_US + number * 20_000
    return Arrival(
        "audio", "audio", number // 50, number % 50, number * 20_000, 20_000, True, 160,
        captured_us + latency_us, captured_us,
    )  # fmt: skip


def play(*arrivals: Arrival) -> Playback:
    playback = Playback(START_US)
    for arrival in arrivals:
        playback.handle_arrival(arrival)
    return playback


def test_a_smooth_film_has_no_stall_and_no_gap() -> None:
    report = play(*(picture(n) for n in range(90))).report()
    assert (report.frames, report.missing, report.stalls, report.stall_ratio) == (90, 0, 0, 0.0)
    assert report.latency_ms.p50 == pytest.approx(50, rel=0.01)
    assert report.latency_ms.max == 50.0


def test_join_and_first_picture_count_from_the_start() -> None:
    playback = Playback(START_US)
    playback.handle_joined(START_US + 30_000)
    playback.handle_joined(START_US + 90_000)
    playback.handle_arrival(picture(1))
    assert playback.report().first_picture_ms is None
    playback.handle_arrival(picture(30, latency_us=0))
    report = playback.report()
    assert (report.join_ms, report.first_picture_ms) == (30.0, 30 * FRAME_US / 1000)


def test_a_gap_of_183_ms_at_30_frames_a_second_is_a_stall_and_182_is_none() -> None:
    for gap_us, stalls in ((182_000, 0), (183_400, 1)):
        meter = FreezeMeter()
        for n in range(40):
            meter.handle_frame(n * FRAME_US)
        meter.handle_frame(39 * FRAME_US + gap_us)
        assert (meter.count, meter.total_us) == (stalls, stalls * gap_us)


def test_at_low_frame_rates_three_times_the_average_is_a_stall() -> None:
    meter = FreezeMeter()
    for n in range(10):
        meter.handle_frame(n * 100_000)
    meter.handle_frame(900_000 + 299_000)
    assert meter.count == 0
    meter.handle_frame(1_199_000 + 400_000)
    assert meter.count == 1


def test_a_stall_is_reported_with_its_length_and_share() -> None:
    frames = [picture(n, latency_us=50_000 if n < 30 else 550_000) for n in range(60)]
    report = play(*frames).report()
    assert report.stalls == 1
    assert report.stalled_s == pytest.approx(0.5 + 1 / 30, abs=1e-4)
    assert report.stall_ratio == pytest.approx(report.stalled_s / report.playing_s)
    assert report.longest_stall_ms == pytest.approx(533.333)


def test_a_picture_that_is_still_frozen_counts_when_asked_for_now() -> None:
    playback = play(*(picture(n) for n in range(60)))
    last_us = picture(59).arrival_us
    assert playback.report().stalls == 0
    assert playback.report(last_us + 100_000).stalls == 0
    frozen = playback.report(last_us + 2_000_000)
    assert (frozen.stalls, frozen.stalled_s) == (1, 2.0)


def test_missing_frames_are_counted_inside_and_between_groups() -> None:
    kept = [picture(n) for n in range(120) if n not in (5, 6, 20) and not 58 <= n < 63]
    report = play(*kept).report()
    assert (report.missing, report.gaps) == (8, 3)


def test_a_whole_lost_group_is_missing_and_late_frames_fill_the_hole() -> None:
    playback = play(*(picture(n) for n in range(30)), *(picture(n) for n in range(60, 70)))
    assert playback.report().missing == 30
    for n in range(30, 60):
        playback.handle_arrival(picture(n, latency_us=2_000_000))
    report = playback.report()
    assert (report.missing, report.tracks["video"].late) == (0, 30)


def test_b_frames_make_no_gap() -> None:
    meter = GapMeter()
    for group in range(3):
        for index, shown in enumerate((0, 3, 1, 2, 6, 4, 5)):
            meter.handle_frame(group, index, (group * 7 + shown) * 1000, 1000)
    assert (meter.missing, meter.gaps) == (0, 0)


def test_pictures_shown_before_their_key_frame_make_no_missing_frames() -> None:
    meter = GapMeter()
    for group in range(3):
        for index, shown in enumerate((2, 0, 1, 5, 3, 4)):
            meter.handle_frame(group, index, (group * 6 + shown) * 1000, 1000)
    assert meter.missing == 0


def test_duplicates_are_counted_and_not_measured() -> None:
    report = play(*(picture(n) for n in (0, 1, 1, 2, 2))).report()
    assert (report.frames, report.tracks["video"].duplicates) == (3, 2)


def test_a_publisher_that_starts_over_is_no_late_group() -> None:
    playback = play(*(picture(n) for n in range(60, 90)))
    playback.handle_restart()
    for n in range(30):
        playback.handle_arrival(picture(n, arrival_us=START_US + (90 + n) * FRAME_US))
    assert (playback.report().frames, playback.report().missing) == (60, 0)


def test_frames_from_before_the_start_are_backlog_not_latency() -> None:
    early = [picture(n, capture_time_us=START_US - 1_000_000, arrival_us=START_US + n) for n in range(20)]
    report = play(*early, *(picture(n) for n in range(20, 60))).report()
    assert (report.backlog_frames, report.latency_ms.max, report.stalls) == (20, 50.0, 0)


def test_skew_is_positive_when_sound_leads() -> None:
    arrivals = [sound(n, latency_us=20_000) for n in range(100)] + [picture(n) for n in range(60)]
    report = play(*sorted(arrivals, key=lambda a: a.arrival_us)).report()
    assert report.av_skew_ms.p50 == pytest.approx(30, rel=0.02)


def test_bit_rate_is_per_track_and_in_sum() -> None:
    report = play(*(picture(n) for n in range(31)), *(sound(n) for n in range(51))).report()
    assert report.tracks["video"].bitrate == pytest.approx(31 * 8000, rel=0.001)
    assert report.bitrate == sum(track.bitrate or 0 for track in report.tracks.values())


def test_an_empty_report_is_plain_json() -> None:
    report = Playback(0).report()
    assert json.loads(json.dumps(report.as_dict()))["latency_ms"]["p50"] is None
    full = play(picture(0), sound(0)).report().as_dict()
    assert json.loads(json.dumps(full)) == full


@given(st.lists(st.integers(-(10**9), 10**9), min_size=1, max_size=200), st.floats(0.01, 1.0))
def test_a_quantile_is_within_one_percent(values: list[int], ratio: float) -> None:
    quantiles = Quantiles()
    for value in values:
        quantiles.add(value)
    exact = sorted(values)[max(-int(-ratio * len(values) // 1), 1) - 1]
    assert quantiles.quantile(ratio) == pytest.approx(exact, rel=0.01, abs=0.5)
    assert quantiles.maximum == max(values)


@given(st.lists(st.integers(0, 2**60), max_size=50))
def test_the_memory_of_quantiles_is_bounded(values: list[int]) -> None:
    quantiles = Quantiles()
    for value in values:
        quantiles.add(value)
    assert all(-4_600 < bucket < 4_600 for bucket in quantiles._buckets)


@given(data=st.data())
def test_any_arrivals_give_a_report(data: Any) -> None:
    numbers = st.integers(0, 2**50)
    playback = Playback(data.draw(numbers))
    for _ in range(data.draw(st.integers(0, 8))):
        playback.handle_arrival(
            Arrival(
                data.draw(st.sampled_from("ab")), data.draw(st.sampled_from(["video", "audio"])),
                data.draw(numbers), data.draw(numbers), data.draw(st.integers(-(2**50), 2**50)),
                data.draw(numbers), data.draw(st.booleans()), data.draw(numbers), data.draw(numbers),
                data.draw(st.none() | numbers),
            )
        )  # fmt: skip
    json.dumps(playback.report(data.draw(st.none() | numbers)).as_dict())
