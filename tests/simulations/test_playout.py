"""Players over arrivals whose outcome can be worked out by hand."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.clients.media.freezes import FreezeMeter
from farcast.simulations.constants import (
    BUFFER_MARGIN_US,
    BUFFER_SAMPLE_US,
    DECODE_VIDEO_US,
    RATE_CHANGE_MAX,
    REFRESH_US,
    RENDER_US,
    START_BEHIND_MAX_US,
    STOCK_BUFFER_US,
)
from farcast.simulations.playout import (
    NEVER,
    Feed,
    Player,
    Playout,
    Times,
    audio_delay,
    freezes,
    no_feed,
    play,
)

PLAYERS: tuple[Player, ...] = ("farcast", "stock")
SECOND = 1_000_000
FRAME = 33_333
SOUND = 20_000
GROUP = 60


def film(seconds: float, delay_us: Times | int, *, frame_us: int = FRAME, group: int = GROUP) -> Feed:
    """A feed that begins at 0 and whose frames take some time each."""
    capture = np.arange(0, int(seconds * SECOND), frame_us, dtype=np.int64)
    number = np.arange(capture.size)
    return Feed(
        capture_us=capture,
        arrival_us=capture + delay_us,
        segment=number // group,
        key=number % group == 0,
        quality=np.full(capture.shape, 720),
    )


def lose(feed: Feed, *numbers: int) -> Feed:
    arrival = feed.arrival_us.copy()
    arrival[list(numbers)] = NEVER
    return replace(feed, arrival_us=arrival)


def watch(
    video: Feed, audio: Feed | None = None, player: Player = "farcast", seconds: float = 30.0
) -> Playout:
    return play(player, video, audio or no_feed(), frame_us=FRAME, until_us=int(seconds * SECOND))


def test_a_steady_delay_is_shown_after_that_delay_and_the_margin() -> None:
    video = film(30, 200_000)
    seen = watch(video)
    late = seen.shown_us - video.capture_us[seen.shown] > 15 * SECOND
    assert not late.any()
    settled = seen.shown_us > 10 * SECOND
    delays = (seen.shown_us - video.capture_us[seen.shown])[settled]
    assert np.abs(delays - (200_000 + DECODE_VIDEO_US + BUFFER_MARGIN_US + RENDER_US)).max() <= 1
    assert settled.sum() == (video.capture_us > 10 * SECOND - 240_000).sum() - (
        (video.capture_us + 240_000 > 30 * SECOND).sum()
    )


def test_a_stock_player_keeps_its_fixed_buffer_above_the_smallest_delay() -> None:
    video = film(30, 200_000)
    seen = watch(video, player="stock")
    delays = seen.shown_us - video.capture_us[seen.shown]
    expected = 200_000 + DECODE_VIDEO_US + STOCK_BUFFER_US + FRAME + RENDER_US
    assert (delays[1:] == expected).all()


@pytest.mark.parametrize("player", ["farcast", "stock"])
def test_nothing_is_shown_after_a_hole_until_the_next_key_frame(player: Player) -> None:
    video = lose(film(10, 50_000), 130)
    seen = watch(video, player=player, seconds=10)
    assert {129, 180} <= set(seen.shown.tolist())
    assert not set(range(130, 180)) & set(seen.shown.tolist())


def test_a_lost_key_frame_costs_its_whole_group() -> None:
    video = lose(film(10, 50_000), 120)
    assert not set(range(120, 180)) & set(watch(video, seconds=10).shown.tolist())


def test_a_gap_is_one_freeze_of_its_length() -> None:
    video = film(20, 80_000)
    arrival = video.arrival_us.copy()
    held = (video.capture_us >= 10 * SECOND) & (video.capture_us < 10 * SECOND + 700_000)
    arrival[held] = 10 * SECOND + 700_000 + 80_000
    seen = watch(replace(video, arrival_us=arrival), seconds=20)
    frozen = freezes(seen.shown_us, 20 * SECOND - RENDER_US)
    assert frozen.length_us.size == 1
    assert abs(int(frozen.length_us[0]) - 700_000) < 3 * FRAME
    assert abs(int(frozen.begin_us[0]) - 10 * SECOND - 80_000) < 3 * FRAME


def test_the_first_picture_is_frozen_if_it_stays_for_long_whether_or_not_another_one_comes() -> None:
    shown = np.array([5, 5 + SECOND, 40_005 + SECOND], np.int64)
    assert freezes(shown, SECOND + 80_000).length_us.size == 0
    assert freezes(shown, SECOND + 80_000, SECOND).length_us.tolist() == [SECOND]
    assert freezes(shown, SECOND + 80_000, SECOND + 1).length_us.size == 0
    assert freezes(shown[:1], 9 * SECOND, SECOND).length_us.tolist() == [9 * SECOND - 5]


def test_what_comes_in_a_burst_too_late_is_skipped_but_the_newest_is_shown() -> None:
    video = film(10, 80_000)
    arrival = video.arrival_us.copy()
    arrival[150:160] = arrival[160]
    seen = watch(replace(video, arrival_us=arrival), seconds=10)
    assert np.isin(np.arange(150, 160), seen.shown).sum() <= 4
    assert 161 in seen.shown
    assert (np.diff(seen.shown) > 0).all()
    assert (np.diff(seen.shown_us) > 0).all()


def test_after_a_long_outage_our_player_leaves_out_what_is_far_too_late_and_a_stock_one_shows_it() -> None:
    video = film(20, 80_000)
    arrival = video.arrival_us.copy()
    held = (video.capture_us >= 10 * SECOND) & (video.capture_us < 13 * SECOND)
    arrival[held] = 13 * SECOND + np.arange(int(held.sum())) * 10_000
    outage = replace(video, arrival_us=arrival)
    latest: dict[Player, int] = {}
    for player in PLAYERS:
        seen = watch(outage, player=player, seconds=20)
        latest[player] = int((seen.shown_us - video.capture_us[seen.shown]).max())
    assert latest["farcast"] < 700_000
    assert latest["stock"] > 2_900_000


def test_the_delay_rises_within_seconds_when_the_path_gets_longer_and_falls_by_playing_faster() -> None:
    video = film(90, 80_000)
    longer = (video.capture_us >= 20 * SECOND) & (video.capture_us < 40 * SECOND)
    seen = watch(replace(video, arrival_us=video.arrival_us + longer * 150_000), seconds=90)

    def at(second: float) -> float:
        return float(np.interp(second * SECOND, seen.clock_us, seen.delay_us))

    assert at(19) == pytest.approx(80_000 + DECODE_VIDEO_US + BUFFER_MARGIN_US, abs=2)
    assert at(23) == pytest.approx(230_000 + DECODE_VIDEO_US + BUFFER_MARGIN_US, abs=2)
    assert at(41) == pytest.approx(at(39), abs=2)
    assert at(89) == pytest.approx(at(19), abs=2)
    falls = np.diff(seen.delay_us[seen.clock_us > 5 * SECOND])
    assert falls.min() >= -BUFFER_SAMPLE_US * RATE_CHANGE_MAX


def test_outages_that_come_back_do_not_make_the_player_wait() -> None:
    video = film(40, 60_000)
    dark = (video.capture_us % (10 * SECOND)) < 900_000
    after = video.capture_us - video.capture_us % (10 * SECOND) + 900_000
    arrival = np.where(dark & (video.capture_us > SECOND), after, video.arrival_us)
    seen = watch(replace(video, arrival_us=arrival), seconds=40)
    settled = seen.clock_us > 5 * SECOND
    decoding = 27 * DECODE_VIDEO_US  # of what has piled up, in front of the first live picture
    assert seen.delay_us[settled].max() <= 60_000 + decoding + BUFFER_MARGIN_US


def test_sound_waits_for_the_first_live_picture_of_a_join_and_both_catch_up_together() -> None:
    video, sound = film(30, 60_000), film(30, 60_000, frame_us=SOUND, group=1)
    begin = 10 * SECOND
    joined = video.capture_us // 2_000_000 * 2_000_000 >= begin - 2_000_000
    behind = np.maximum(START_BEHIND_MAX_US - np.maximum(video.capture_us - begin, 0) // 4, 0)
    arrival = np.where(joined, np.maximum(video.arrival_us + behind, begin + 20_000), NEVER)
    heard = np.where(sound.capture_us >= begin, sound.arrival_us, NEVER)
    seen = watch(replace(video, arrival_us=arrival), replace(sound, arrival_us=heard))
    live = video.capture_us[seen.shown] >= begin + SECOND // 2
    skew = (
        seen.shown_us
        - RENDER_US
        - video.capture_us[seen.shown]
        - audio_delay(seen, sound, seen.shown_us - RENDER_US)
    )
    assert np.nanmax(np.abs(skew[live])) < 45_000
    last = seen.shown_us > 25 * SECOND
    assert (seen.shown_us - video.capture_us[seen.shown])[last].max() < 150_000


def test_a_burst_that_comes_back_is_waited_for() -> None:
    video = film(60, 60_000)
    second = (video.capture_us // SECOND) % 3 == 0
    held = second & (video.capture_us % SECOND < 120_000)
    seen = watch(replace(video, arrival_us=video.arrival_us + held * 250_000), seconds=60)
    shown = seen.shown_us > 20 * SECOND
    assert (np.diff(seen.shown_us[shown]) < 2 * FRAME).all()


def test_sound_and_picture_stay_together_when_the_sound_is_slower() -> None:
    video, sound = film(30, 60_000), film(30, 160_000, frame_us=SOUND, group=1)
    seen = watch(video, sound)
    skew = (
        seen.shown_us
        - RENDER_US
        - video.capture_us[seen.shown]
        - audio_delay(seen, sound, seen.shown_us - RENDER_US)
    )
    settled = skew[seen.shown_us > 5 * SECOND]
    assert np.isfinite(settled).all()
    assert np.abs(settled).max() < SOUND


def test_sound_that_is_late_is_concealed() -> None:
    sound = film(10, 60_000, frame_us=SOUND, group=1)
    arrival = sound.arrival_us.copy()
    arrival[300:305] += 400_000
    seen = watch(film(10, 60_000), replace(sound, arrival_us=arrival), seconds=10)
    assert not seen.audio_played[300:305].any()
    assert seen.audio_played[305:480].all()


def test_a_late_joiner_sees_the_first_picture_at_once_and_then_hurries_to_what_is_on() -> None:
    video = film(20, 0)
    arrival = np.maximum(video.capture_us + 100_000, 3 * SECOND)
    seen = watch(replace(video, arrival_us=np.where(video.segment < 1, NEVER, arrival)), seconds=20)
    first_us = 3 * SECOND + DECODE_VIDEO_US + RENDER_US
    assert first_us <= seen.shown_us[0] < first_us + REFRESH_US
    caught_up = seen.shown_us > 3 * SECOND + 500_000
    assert (seen.shown_us - video.capture_us[seen.shown])[caught_up].max() < 250_000


def test_of_two_renditions_the_better_is_shown_while_it_is_in_time() -> None:
    high = film(20, 60_000)
    low = replace(high, quality=np.full(high.quality.shape, 360))
    arrival = high.arrival_us.copy()
    arrival[high.segment >= 5] = NEVER
    both = Feed(
        capture_us=np.concatenate([low.capture_us, high.capture_us]),
        arrival_us=np.concatenate([low.arrival_us, arrival]),
        segment=np.concatenate([low.segment, high.segment + 1_000]),
        key=np.concatenate([low.key, high.key]),
        quality=np.concatenate([low.quality, high.quality]),
    )
    seen = watch(both, seconds=20)
    quality = both.quality[seen.shown]
    captured = both.capture_us[seen.shown]
    assert (quality[captured < 5 * GROUP * FRAME] == 720).all()
    assert (quality[captured >= 5 * GROUP * FRAME] == 360).all()
    assert freezes(seen.shown_us, 20 * SECOND - 200_000).length_us.size == 0


def test_without_arrivals_nothing_is_seen_and_nothing_fails() -> None:
    for player in PLAYERS:
        seen = play(player, no_feed(), no_feed(), frame_us=FRAME, until_us=SECOND)
        assert seen.shown.size == 0
        lost = lose(film(1, 0), *range(31))
        assert play(player, lost, lost, frame_us=FRAME, until_us=SECOND).shown.size == 0


@settings(max_examples=60, deadline=None)
@given(
    delays=st.lists(st.one_of(st.integers(0, 900_000), st.just(NEVER)), min_size=300, max_size=300),
    player=st.sampled_from(["farcast", "stock"]),
    shift_us=st.integers(0, 10**9),
)
def test_what_is_shown_is_decodable_in_order_and_independent_of_the_clocks_zero(
    delays: list[int], player: Player, shift_us: int
) -> None:
    video = film(
        10, np.minimum(np.resize(np.array(delays), film(10, 0).capture_us.size), NEVER - 10 * SECOND)
    )
    video = replace(video, arrival_us=np.where(video.arrival_us > 60 * SECOND, NEVER, video.arrival_us))
    seen = watch(video, player=player, seconds=12)
    assert (np.diff(seen.shown) > 0).all()
    assert (np.diff(seen.shown_us) > 0).all()
    assert (seen.shown_us >= video.arrival_us[seen.shown] + DECODE_VIDEO_US + RENDER_US).all()
    for number in seen.shown[::7]:
        first = number - number % GROUP
        assert (video.arrival_us[first : number + 1] <= seen.shown_us[seen.shown == number][0]).all()
    later = replace(
        video,
        capture_us=video.capture_us + shift_us,
        arrival_us=np.where(video.arrival_us < NEVER, video.arrival_us + shift_us, NEVER),
    )
    again = play(player, later, no_feed(), frame_us=FRAME, until_us=12 * SECOND + shift_us)
    assert (again.shown == seen.shown).all()
    assert np.abs(again.shown_us - shift_us - seen.shown_us).max(initial=0) <= 1


@given(gaps=st.lists(st.integers(1, 600_000), min_size=0, max_size=200), tail_us=st.integers(0, 900_000))
def test_freezes_are_those_of_the_meter_of_the_tools(gaps: list[int], tail_us: int) -> None:
    shown = np.cumsum(np.array([5, *gaps], np.int64))
    end = int(shown[-1]) + tail_us
    meter = FreezeMeter()
    for at in shown:
        meter.handle_frame(int(at))
    running = meter.running_us(end)
    frozen = freezes(shown, end)
    assert int(frozen.length_us.sum()) == meter.total_us + running
    assert frozen.length_us.size == meter.count + (running > 0)


def test_twenty_viewers_of_thirty_seconds_take_well_under_a_second() -> None:
    draw = np.random.default_rng(1)
    video, sound = film(30, 0), film(30, 0, frame_us=SOUND, group=1)
    feeds = [
        (
            replace(
                video, arrival_us=video.capture_us + draw.integers(50_000, 150_000, video.capture_us.size)
            ),
            replace(
                sound, arrival_us=sound.capture_us + draw.integers(50_000, 150_000, sound.capture_us.size)
            ),
        )
        for _ in range(20)
    ]
    before = time.process_time()
    for pictures, heard in feeds:
        watch(pictures, heard)
    assert time.process_time() - before < 1.0
