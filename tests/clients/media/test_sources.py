"""Opening and reading sources."""

from __future__ import annotations

import io
import itertools
import socket
from pathlib import Path
from typing import Any, BinaryIO, cast

import av
import pytest

from farcast.clients.media import sources
from farcast.clients.media.errors import MediaError
from farcast.clients.media.interleave import WINDOW_US_MAX, Interleaver
from farcast.clients.media.sources import open_source
from farcast.clients.media.testsrc import TestSource, read_frame_number
from farcast.clients.media.tracks import Frame, TrackInfo


def open_it(spec: object, **options: Any) -> Any:
    return open_source(str(spec), clock_us=lambda: 0, **options)


def packets_of(path: Path, kind: str) -> list[bytes]:
    with av.open(str(path)) as film:
        return [bytes(p) for p in film.demux() if p.size and p.stream.type == kind]


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_frames_are_the_files_own_bytes_in_decode_order(name: str, make_film: Any, read_film: Any) -> None:
    path = make_film(name)
    _, frames = read_film(path)
    for kind in ("video", "audio"):
        assert [frame.data for frame in frames if frame.track == kind] == packets_of(path, kind)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.ts"])
def test_b_frames_keep_their_times(name: str, make_film: Any, read_film: Any) -> None:
    tracks, frames = read_film(make_film(name))
    video = [frame for frame in frames if frame.track == "video"]
    assert all(a.dts < b.dts for a, b in itertools.pairwise(video))
    assert all(frame.pts >= frame.dts >= 0 for frame in frames)
    scale = tracks[0].timescale
    shown = sorted(frame.pts / scale for frame in video)
    assert shown == pytest.approx([shown[0] + n / 30 for n in range(120)], abs=0.0011)
    assert tracks[0].reorder_ms in (66, 67)


def test_the_first_decode_time_lies_in_the_first_second(make_film: Any, read_film: Any) -> None:
    tracks, frames = read_film(make_film())
    assert 0 <= frames[0].dts < tracks[0].timescale


def test_a_transport_stream_becomes_length_prefixed_with_its_configuration_apart(
    make_film: Any, read_film: Any
) -> None:
    (video, audio), frames = read_film(make_film("film.ts"))
    assert video.codec.startswith("avc1.4d40")
    assert video.extradata is not None
    assert video.extradata[0] == 1
    assert (audio.codec, audio.extradata) == ("mp4a.40.2", bytes.fromhex("1190"))
    for frame in frames:
        if frame.track == "video":
            assert_length_prefixed(frame.data)
        else:
            assert frame.data[:2] != b"\xff\xf1"


def assert_length_prefixed(data: bytes) -> None:
    at = 0
    while at < len(data):
        at += 4 + int.from_bytes(data[at : at + 4], "big")
    assert at == len(data)


def test_groups_are_gops_and_groups_of_sound_go_with_them(make_film: Any, read_film: Any) -> None:
    tracks, frames = read_film(make_film())
    starts: dict[str, list[float]] = {"video": [], "audio": []}
    for frame in frames:
        if frame.group_start:
            track = next(track for track in tracks if track.name == frame.track)
            starts[frame.track].append(frame.pts / track.timescale)
    assert len(starts["video"]) == len(starts["audio"]) == 4
    assert all(-0.03 <= a - v < 0.03 for v, a in zip(starts["video"], starts["audio"], strict=True))


def test_sound_alone_has_a_group_a_second(make_film: Any, read_film: Any) -> None:
    _, frames = read_film(make_film(video=False))
    assert sum(frame.group_start for frame in frames) in (4, 5)


def test_frames_tell_when_they_are_due_from_the_first_one_on(make_film: Any) -> None:
    source = open_it(make_film())
    due = []
    while (at := source.next_time_us()) is not None:
        due.append(at)
        next(source)
    assert due[0] == 0
    assert due == sorted(due)
    assert due[-1] == pytest.approx(4_000_000, abs=100_000)
    with pytest.raises(StopIteration):
        next(source)


class Trickle(io.RawIOBase):
    """A pipe that gives 700 bytes at a time and cannot seek."""

    def __init__(self, data: bytes) -> None:
        self._rest = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read1(self, size: int) -> bytes:
        return self._rest.read(min(size, 700))


def test_a_fragmented_film_is_read_from_standard_input(make_film: Any, read_film: Any) -> None:
    path = make_film(fragmented=True)
    source = open_it("-", stdin=cast(BinaryIO, Trickle(path.read_bytes())))
    assert [frame.data for frame in source] == [frame.data for frame in read_film(path)[1]]


def test_testsrc_is_a_source_with_options() -> None:
    source = open_it("testsrc=size=320x180:fps=25")
    assert isinstance(source, TestSource)
    assert (source.tracks[0].width, source.tracks[0].framerate) == (320, 25.0)


def test_transcoding_gives_codecs_for_browsers_without_b_frames(make_film: Any) -> None:
    source = open_it(make_film("film.avi", video_codec="mpeg4", audio_codec="libmp3lame"), transcode=True)
    tracks: tuple[TrackInfo, ...] = source.tracks
    frames: list[Frame] = list(source)
    assert [track.codec[:7] for track in tracks] == ["avc1.42", "opus"]
    assert all(frame.pts == frame.dts for frame in frames)
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.extradata = tracks[0].extradata
    images = [i for f in frames if f.track == "video" for i in decoder.decode(av.Packet(f.data))]
    numbers = [read_frame_number(image.to_ndarray(format="rgb24")) for image in images]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= 118


def test_a_stream_that_cannot_be_carried_is_named_and_the_rest_is_carried(make_film: Any) -> None:
    source = open_it(make_film("film.mkv", audio_codec="libmp3lame", duration_s=1.0))
    assert [track.name for track in source.tracks] == ["video"]
    assert source.skipped == ("stream 1 (audio mp3): this codec cannot be carried without transcoding",)


def test_a_file_with_nothing_to_carry_is_a_clear_error(make_film: Any) -> None:
    path = make_film("film.avi", video_codec="mpeg4", audio_codec="libmp3lame")
    message = f"no audio or video stream that can be carried in {path}: found video mpeg4, audio mp3"
    with pytest.raises(MediaError) as error:
        open_it(path)
    assert str(error.value) == message


def test_what_cannot_be_opened_is_a_clear_error(tmp_path: Path, make_film: Any) -> None:
    (tmp_path / "notes.txt").write_text("no film")
    (tmp_path / "empty.mp4").touch()
    film = make_film().read_bytes()
    (tmp_path / "half.mp4").write_bytes(film[: len(film) // 2])
    for name, reason in (
        ("missing.mp4", "No such file or directory"),
        ("", "it is a directory"),
        ("notes.txt", "it is not a media file"),
        ("empty.mp4", "it is not a media file"),
        ("half.mp4", "or not all of one"),
    ):
        with pytest.raises(MediaError, match=f"cannot open .*{reason}") as error:
            open_it(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(MediaError, match="cannot open standard input"):
        open_it("-", stdin=io.BytesIO(b"no film either"))
    with pytest.raises(MediaError, match="Connection refused"):
        open_it("http://127.0.0.1:1/film.mp4")


def test_a_url_that_does_not_answer_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "OPEN_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/film.mp4"
        with pytest.raises(MediaError, match="no answer within"):
            open_it(url)


class Breaking(Trickle):
    """A pipe whose other end goes away with an error."""

    def read1(self, size: int) -> bytes:
        if not (data := super().read1(size)):
            raise ConnectionResetError(104, "Connection reset by peer")
        return data


def test_an_input_that_breaks_off_gives_what_came_and_then_a_clear_error(make_film: Any) -> None:
    data = make_film(fragmented=True).read_bytes()
    source = open_it("-", stdin=cast(BinaryIO, Breaking(data[: len(data) // 2])))
    frames = []
    while source.next_time_us() is not None:
        frames.append(next(source).track)
    assert frames.count("video") >= 30
    with pytest.raises(MediaError, match="standard input breaks off: Connection reset by peer"):
        next(source)


def test_a_loosely_interleaved_input_is_put_in_order_of_time() -> None:
    merge: Interleaver[str] = Interleaver(["a", "b"])
    for at in (0, 10, 20):
        merge.push("a", at, f"a{at}")
    assert merge.peek_us() is None
    merge.push("b", 5, "b5")
    assert [merge.pop(), merge.pop()] == ["a0", "b5"]
    assert merge.peek_us() is None
    merge.end()
    assert [merge.pop(), merge.pop(), merge.peek_us()] == ["a10", "a20", None]


def test_a_silent_track_does_not_hold_the_others_for_long() -> None:
    merge: Interleaver[int] = Interleaver(["a", "b"])
    merge.push("a", 0, 0)
    merge.push("a", WINDOW_US_MAX, 1)
    assert merge.peek_us() is None
    merge.push("a", WINDOW_US_MAX + 1, 2)
    assert merge.peek_us() == 0
