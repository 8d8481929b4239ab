"""The synthetic film."""

from __future__ import annotations

import time
from itertools import count, islice
from typing import Any

import av
import pytest

from farcast.clients.media.errors import MediaError
from farcast.clients.media.testsrc import TestSource, TestSourceOptions, parse_testsrc


def make_source(**options: Any) -> TestSource:
    ticks = count(1_000_000)
    return TestSource(TestSourceOptions(**options), lambda: next(ticks))


def test_frames_come_in_order_of_time_and_tell_when_they_are_due() -> None:
    source = make_source(duration_s=2)
    last = -1
    while (due := source.next_time_us()) is not None:
        frame = next(source)
        track = next(track for track in source.tracks if track.name == frame.track)
        assert due >= last
        assert abs(track.to_us(frame.dts) - due) <= 12
        last = due


def test_a_second_has_its_pictures_and_sounds_and_ends() -> None:
    frames = list(make_source(duration_s=1, framerate=25))
    assert sum(frame.track == "video" for frame in frames) == 25
    assert sum(frame.track == "audio" for frame in frames) == 50


def test_each_frame_bears_the_time_of_the_clock_when_it_was_drawn() -> None:
    captured = [frame.capture_time_us for frame in islice(make_source(), 20)]
    assert captured == list(range(1_000_000, 1_000_020))


def test_nothing_is_drawn_before_it_is_asked_for() -> None:
    source = make_source()
    source.next_time_us()
    source.next_time_us()
    assert next(source).capture_time_us == 1_000_000


def test_groups_of_sound_start_with_groups_of_pictures() -> None:
    starts = [
        (frame.track, frame.pts / {"video": 90_000, "audio": 48_000}[frame.track])
        for frame in make_source(duration_s=4, gop_s=2)
        if frame.group_start
    ]
    assert starts == [("video", 0.0), ("audio", 0.0), ("video", 2.0), ("audio", 2.0)]


def test_only_key_frames_open_groups_of_pictures() -> None:
    frames = [frame for frame in make_source(duration_s=3) if frame.track == "video"]
    assert [frame.group_start for frame in frames] == [frame.keyframe for frame in frames]
    assert [index for index, frame in enumerate(frames) if frame.keyframe] == [0, 30, 60]


def test_the_codecs_are_ones_that_every_browser_decodes() -> None:
    video, audio = make_source().tracks
    assert (video.codec, audio.codec) == ("avc1.42c01e", "opus")


def test_the_sound_decodes_to_a_tone() -> None:
    source = make_source(duration_s=1)
    decoder: Any = av.CodecContext.create("opus", "r")
    decoder.sample_rate, decoder.layout, decoder.extradata = 48_000, "stereo", source.tracks[1].extradata
    sound = [f for frame in source if frame.track == "audio" for f in decoder.decode(av.Packet(frame.data))]
    assert sum(frame.samples for frame in sound) > 46_000
    assert abs(sound[25].to_ndarray()).max() > 0.03


def test_it_costs_far_less_than_real_time() -> None:
    source = make_source(duration_s=4)
    started = time.process_time()
    assert sum(1 for _ in source) == 320
    assert time.process_time() - started < 2.0


def test_options_are_read_from_the_command_line() -> None:
    options = parse_testsrc("testsrc=size=1280x720:fps=60:bitrate=2000000:gop=2:duration=10:audio-bitrate=0")
    assert options == TestSourceOptions(1280, 720, 60, 2_000_000, 2.0, 10.0, 0)
    assert parse_testsrc("testsrc", options) == options


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("testsrc=colour=red", "testsrc has no option 'colour'; it has size, fps"),
        ("testsrc=size=big", "testsrc: 'big' is not a value for size"),
        ("testsrc=fps=", "testsrc: '' is not a value for fps"),
        ("testsrc=size=641x360", "size 641x360 is not even"),
        ("testsrc=fps=1000", "1000 frames per second is not from 1 to 240"),
        ("testsrc=gop=0", "GOP from above 0"),
        ("testsrc=audio-bitrate=5", "audio bit rate must be 0 or from 6000"),
    ],
)
def test_a_wrong_option_is_a_clear_error(spec: str, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        TestSource(parse_testsrc(spec), lambda: 0)
