"""The recorder on streams that are not as clean as a file."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest

from farcast.clients.media.bitstream import split_annexb
from farcast.clients.media.errors import MediaError
from farcast.clients.media.recorder import Recorder, RecorderStats
from farcast.clients.media.testsrc import TestSource, TestSourceOptions, read_frame_number
from farcast.clients.media.tracks import Frame, Sample, TrackInfo


def record(path: Path, tracks: tuple[TrackInfo, ...], frames: list[Frame]) -> RecorderStats:
    with Recorder(path, tracks) as recorder:
        for frame in frames:
            recorder.handle_sample(frame.track, sample_of(frame))
    return recorder.stats


def sample_of(frame: Frame) -> Sample:
    return Sample(frame.dts, frame.pts, frame.duration, frame.keyframe, frame.data)


def numbers_in(path: Path) -> list[int | None]:
    with av.open(str(path)) as film:
        return [read_frame_number(image.to_ndarray(format="rgb24")) for image in film.decode(video=0)]


def times_in(path: Path, kind: str) -> list[float]:
    with av.open(str(path)) as opened:
        film: Any = opened
        packets = [packet for packet in film.demux() if packet.size and packet.stream.type == kind]
        return [float(packet.pts * packet.time_base) for packet in packets]


def test_a_late_join_starts_at_the_next_key_frame_with_its_sound(
    make_film: Any, read_film: Any, tmp_path: Path
) -> None:
    tracks, frames = read_film(make_film())
    stats = record(tmp_path / "o.mp4", tracks, frames[40:])
    assert numbers_in(tmp_path / "o.mp4") == list(range(30, 120))
    assert stats.before_start > 0
    assert times_in(tmp_path / "o.mp4", "video")[0] == 0
    first_s = next(
        tracks_s(tracks, frame) for frame in frames[40:] if frame.keyframe and frame.track == "video"
    )
    sound_s = min(at for at in (tracks_s(tracks, f) for f in frames if f.track == "audio") if at >= first_s)
    assert times_in(tmp_path / "o.mp4", "audio")[0] == pytest.approx(sound_s - first_s, abs=7e-5)


def test_a_gap_stays_a_gap(make_film: Any, read_film: Any, tmp_path: Path) -> None:
    tracks, frames = read_film(make_film())
    first_s = 1
    kept = [f for f in frames if not 1.0 <= tracks_s(tracks, f) - first_s < 2.0]
    record(tmp_path / "o.mp4", tracks, kept)
    assert numbers_in(tmp_path / "o.mp4") == [*range(30), *range(60, 120)]
    times = sorted(times_in(tmp_path / "o.mp4", "video"))
    assert max(b - a for a, b in itertools.pairwise(times)) == pytest.approx(1 + 1 / 30, abs=1e-3)


def tracks_s(tracks: tuple[TrackInfo, ...], frame: Frame) -> float:
    return frame.pts / next(track.timescale for track in tracks if track.name == frame.track)


def test_frames_that_come_too_late_are_left_out_and_counted(
    make_film: Any, read_film: Any, tmp_path: Path
) -> None:
    tracks, frames = read_film(make_film())
    stats = record(tmp_path / "o.mp4", tracks, [*frames, *frames[50:60]])
    assert stats.late == 10
    assert numbers_in(tmp_path / "o.mp4") == list(range(120))


def test_a_publisher_that_starts_over_is_appended(make_film: Any, read_film: Any, tmp_path: Path) -> None:
    tracks, frames = read_film(make_film())
    with Recorder(tmp_path / "o.mp4", tracks) as recorder:
        for frame in frames:
            recorder.handle_sample(frame.track, sample_of(frame))
        recorder.handle_restart()
        for frame in frames[20:]:
            recorder.handle_sample(frame.track, sample_of(frame))
    assert recorder.stats.late == 0
    assert numbers_in(tmp_path / "o.mp4") == [*range(120), *range(30, 120)]
    times = times_in(tmp_path / "o.mp4", "video")
    assert max(times) == pytest.approx((120 + 90 - 1) / 30, abs=0.05)


def test_decode_times_are_rebuilt_where_the_packaging_has_none(
    make_film: Any, read_film: Any, tmp_path: Path
) -> None:
    tracks, frames = read_film(make_film())
    with Recorder(tmp_path / "o.mp4", tracks) as recorder:
        for frame in frames:
            recorder.handle_sample(frame.track, replace(sample_of(frame), dts=None, duration=0))
    assert recorder.stats.late == 0
    video = [frame.pts / tracks[0].timescale for frame in frames if frame.track == "video"]
    times = times_in(tmp_path / "o.mp4", "video")
    assert times == pytest.approx([pts - video[0] for pts in video], abs=1e-6)
    assert numbers_in(tmp_path / "o.mp4") == list(range(120))


def test_a_browsers_annexb_stream_without_configuration_is_recorded(tmp_path: Path) -> None:
    source = TestSource(TestSourceOptions(duration_s=1, audio_bitrate=0), lambda: 0)
    parameter_sets = source.tracks[0].extradata
    assert parameter_sets is not None
    track = replace(source.tracks[0], extradata=None, timescale=1_000_000)
    with Recorder(tmp_path / "o.mp4", [track]) as recorder:
        for frame in source:
            data = (sets_of(parameter_sets) if frame.keyframe else b"") + to_annexb(frame.data)
            recorder.handle_sample("video", Sample(None, frame.pts * 100 // 9, 0, frame.keyframe, data))
    assert numbers_in(tmp_path / "o.mp4") == list(range(30))


def to_annexb(data: bytes) -> bytes:
    converted, at = b"", 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        converted += b"\0\0\0\1" + data[at + 4 : at + 4 + size]
        at += 4 + size
    assert list(split_annexb(converted))
    return converted


def sets_of(avcc: bytes) -> bytes:
    size = int.from_bytes(avcc[6:8], "big")
    sps, rest = avcc[8 : 8 + size], avcc[8 + size :]
    return b"\0\0\0\1" + sps + b"\0\0\0\1" + rest[3 : 3 + int.from_bytes(rest[1:3], "big")]


@pytest.mark.parametrize("options", [{"video": False}, {"audio": False}])
def test_a_film_of_one_track_is_recorded(
    options: dict[str, bool], make_film: Any, read_film: Any, tmp_path: Path
) -> None:
    tracks, frames = read_film(make_film(**options))
    assert record(tmp_path / "o.mp4", tracks, frames).written == len(frames)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("film.webm", {"video_codec": "libvpx-vp9", "audio_codec": "libopus"}),
        ("h265.ts", {"video_codec": "libx265"}),
    ],
)
def test_other_codecs_are_recorded(
    name: str, options: dict[str, str], make_film: Any, read_film: Any, tmp_path: Path
) -> None:
    tracks, frames = read_film(make_film(name, duration_s=1.0, width=256, height=144, **options))
    record(tmp_path / "o.mp4", tracks, frames)
    with av.open(str(tmp_path / "o.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 30


def test_a_path_that_is_not_writable_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"cannot write .*/missing/o.mp4: No such file or directory"):
        Recorder(tmp_path / "missing" / "o.mp4", [])


def test_sound_alone_is_recorded_if_the_picture_never_comes(
    make_film: Any, read_film: Any, tmp_path: Path
) -> None:
    tracks, frames = read_film(make_film())
    stats = record(tmp_path / "o.mp4", tracks, [frame for frame in frames if frame.track == "audio"])
    assert stats.written == 189


def test_recording_nothing_is_a_clear_error_and_leaves_no_file(
    make_film: Any, read_film: Any, tmp_path: Path
) -> None:
    tracks, frames = read_film(make_film())
    recorder = Recorder(tmp_path / "o.mp4", tracks)
    recorder.handle_sample("video", sample_of(next(frame for frame in frames if not frame.keyframe)))
    with pytest.raises(MediaError, match="no key frame came"):
        recorder.close()
    assert not (tmp_path / "o.mp4").exists()
