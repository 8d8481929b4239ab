"""Temporal layers told from what is in the frames."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.clients.media.encoders import VideoEncoder, VideoSettings
from farcast.clients.media.errors import MediaError
from farcast.clients.media.layers import LAYERS_MAX, LayerReader
from farcast.clients.media.picture import Painter
from farcast.clients.media.sources import open_source
from farcast.clients.media.testfilm import FilmOptions, write_test_film
from farcast.clients.media.testsrc import TestSource, TestSourceOptions
from farcast.clients.media.tracks import Frame, TrackInfo

AVCC = bytes((1, 0x4D, 0x40, 0x1E, 0xFF, 0xE1))
HVCC = bytes(21) + bytes((1 << 3 | 3,)) + bytes(1)


def frame(data: bytes, *, keyframe: bool = False) -> Frame:
    return Frame("video", 0, 0, 0, keyframe, data, False)


def reader(codec: str, extradata: bytes | None = None) -> LayerReader:
    return LayerReader(TrackInfo("video", "video", codec, 90_000, extradata=extradata))


def units(*payloads: bytes) -> bytes:
    return b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)


def test_h264_slices_that_nothing_refers_to_are_a_layer() -> None:
    h264 = reader("avc1.4d401e", AVCC)
    assert h264.layers == 2
    assert h264.layer_of(frame(units(b"\x06sei", b"\x01slice"))) == 1
    assert h264.layer_of(frame(units(b"\x41slice"))) == 0
    assert h264.layer_of(frame(units(b"\x01slice", b"\x21slice"))) == 0
    assert h264.layer_of(frame(units(b"\x06sei"))) == 0


def test_a_length_that_looks_like_a_start_code_is_a_length() -> None:
    assert reader("avc1.4d401e", AVCC).layer_of(frame(units(b"\x01" + bytes(400)))) == 1


def test_annex_b_is_read_where_the_track_has_no_configuration() -> None:
    assert reader("avc3.4d401e").layer_of(frame(b"\x00\x00\x00\x01\x01slice")) == 1
    assert reader("avc3.4d401e").layer_of(frame(b"\x00\x00\x01\x61slice")) == 0


def test_hevc_non_reference_pictures_of_the_highest_sub_layer_are_a_layer() -> None:
    hevc = reader("hvc1.1.6.L93.B0", HVCC)
    assert hevc.layer_of(frame(units(b"\x00\x01slice"))) == 1  # TRAIL_N
    assert hevc.layer_of(frame(units(b"\x02\x01slice"))) == 0  # TRAIL_R
    two = HVCC[:21] + bytes((2 << 3 | 3,)) + bytes(1)
    assert reader("hvc1.1.6.L93.B0", two).layer_of(frame(units(b"\x00\x01slice"))) == 0
    assert reader("hvc1.1.6.L93.B0", two).layer_of(frame(units(b"\x00\x02slice"))) == 1


def test_av1_says_its_temporal_id() -> None:
    av1 = reader("av01.0.04M.08")
    delimiter = b"\x12\x00"
    for temporal_id, layer in ((0, 0), (1, 1), (2, 2), (5, 2)):
        obu = bytes((6 << 3 | 4 | 2, temporal_id << 5, 1, 0))
        assert av1.layer_of(frame(delimiter + obu)) == layer
    assert av1.layer_of(frame(delimiter + bytes((6 << 3 | 2, 1, 0)))) == 0


def test_vp9_frames_that_change_nothing_are_a_layer() -> None:
    vp9 = reader("vp09.00.10.08")
    shown_inter_resilient = 0b10_00_0_1_1_1
    assert vp9.layer_of(frame(bytes((shown_inter_resilient, 0, 9)))) == 1
    assert vp9.layer_of(frame(bytes((shown_inter_resilient, 4, 9)))) == 0
    assert vp9.layer_of(frame(bytes((shown_inter_resilient - 1, 0, 9)))) == 0
    assert vp9.layer_of(frame(bytes((shown_inter_resilient, 0, 0xC1)))) == 0


def test_key_frames_and_sound_are_base() -> None:
    assert reader("avc1.4d401e", AVCC).layer_of(frame(units(b"\x01slice"), keyframe=True)) == 0
    sound = LayerReader(TrackInfo("audio", "audio", "opus", 48_000))
    assert sound.layers == 1
    assert sound.layer_of(frame(b"\x01")) == 0


@given(
    st.sampled_from(["avc1.4d401e", "hvc1.1.6.L93.B0", "av01.0.04M.08", "vp09.00.10.08"]),
    st.one_of(st.none(), st.binary(max_size=30)),
    st.binary(max_size=200),
)
def test_whatever_a_frame_holds_it_has_a_layer(codec: str, config: bytes | None, data: bytes) -> None:
    read = reader(codec, config)
    assert 0 <= read.layer_of(frame(data)) < read.layers <= LAYERS_MAX


def _decoded(track: TrackInfo, frames: list[Frame]) -> int:
    context = av.CodecContext.create("h264", "r")
    context.extradata = track.extradata
    pictures = 0
    for each in frames:
        packet = av.Packet(each.data)
        packet.pts, packet.dts, packet.time_base = each.pts, each.dts, Fraction(1, track.timescale)
        pictures += len(context.decode(packet))
    return pictures + len(context.decode(None))


def test_the_encoder_makes_every_other_picture_one_that_can_be_left_out() -> None:
    settings = VideoSettings(256, 144, Fraction(30), 300_000, 1.0, layers=2)
    encoder, painter = VideoEncoder("video", settings), Painter(256, 144)
    samples = [
        sample
        for number in range(60)
        for sample in encoder.encode(painter.paint(number, number * 33_333, flash=False), number * 3_000)
    ]
    samples += list(encoder.flush())
    frames = [Frame("video", s.dts or 0, s.pts, s.duration, s.keyframe, s.data, s.keyframe) for s in samples]
    read = LayerReader(encoder.track)
    layers = [read.layer_of(each) for each in frames]
    assert len(frames) == 60
    assert Counter(layers)[1] >= 28
    assert all(earlier.dts < later.dts for earlier, later in pairwise(frames))
    assert all(each.pts >= each.dts for each in frames)
    base = [each for each, layer in zip(frames, layers, strict=True) if layer == 0]
    assert _decoded(encoder.track, base) == len(base)
    assert _decoded(encoder.track, frames) == 60


def test_a_film_with_b_pictures_has_a_layer_and_its_base_plays(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_test_film(path, FilmOptions(duration_s=2, width=256, height=144, b_frames=2, audio=False))
    source = open_source(str(path), clock_us=lambda: 0)
    frames = list(source)
    read = LayerReader(source.tracks[0])
    base = [each for each in frames if read.layer_of(each) == 0]
    assert 10 < len(base) < len(frames) - 10
    assert _decoded(source.tracks[0], base) == len(base)


def test_the_test_film_in_layers_is_whole_and_each_frame_is_stamped_with_its_own_time() -> None:
    clock = iter(range(0, 10**9, 10))
    options = TestSourceOptions(width=256, height=144, duration_s=1, audio_bitrate=0, layers=2)
    frames = list(TestSource(options, lambda: next(clock)))
    assert len(frames) == 30
    assert sorted(each.pts for each in frames) == [3_000 * number for number in range(1, 31)]
    assert all(earlier.dts < later.dts for earlier, later in pairwise(frames))
    stamps = [each.capture_time_us or 0 for each in sorted(frames, key=lambda each: each.pts)]
    assert len(set(stamps)) == 30
    assert stamps == sorted(stamps)


def test_layers_are_one_or_two() -> None:
    with pytest.raises(MediaError, match="layers"):
        TestSource(TestSourceOptions(layers=3), lambda: 0)
