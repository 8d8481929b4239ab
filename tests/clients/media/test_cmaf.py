"""CMAF init segments and fragments."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.clients.media import cmaf
from farcast.clients.media.boxes import box, full_box
from farcast.clients.media.errors import MediaError
from farcast.clients.media.tracks import Frame, Sample, TrackInfo

AVCC = bytes.fromhex("0142c01effe1000a6742c01e8c8d4028021001000568ce3c80")
VIDEO = TrackInfo("video", "video", "avc1.42c01e", 90_000, 640, 360, extradata=AVCC)
INIT = cmaf.read_init(cmaf.write_init(VIDEO), "video")

frames = st.builds(
    Frame,
    track=st.just("video"),
    dts=st.integers(0, 2**31 - 1),
    pts=st.integers(0, 2**31 - 1),
    duration=st.integers(0, 2**32 - 1),
    keyframe=st.booleans(),
    data=st.binary(min_size=1, max_size=200),
    group_start=st.booleans(),
)


def test_an_init_segment_tells_what_it_was_made_from() -> None:
    assert INIT.track == VIDEO


@pytest.mark.parametrize(
    ("codec", "extradata"),
    [
        ("mp4a.40.2", bytes.fromhex("119056e500")),
        ("opus", bytes.fromhex("4f707573486561640102380180bb0000000000")),
    ],
)
def test_an_audio_init_segment_keeps_the_decoder_configuration(codec: str, extradata: bytes) -> None:
    track = TrackInfo("a", "audio", codec, 48_000, samplerate=48_000, channels=2, extradata=extradata)
    assert cmaf.read_init(cmaf.write_init(track), "a").track == track


@given(
    frame=frames,
    dts=st.integers(0, 2**64 - 1),
    offset=st.integers(-(2**31), 2**31 - 1),
    sequence_number=st.integers(0, 2**40),
)
def test_a_fragment_gives_its_frame_back(frame: Frame, dts: int, offset: int, sequence_number: int) -> None:
    written = replace(frame, dts=dts, pts=dts + offset)
    samples = cmaf.read_fragments(cmaf.write_fragment(written, sequence_number), INIT)
    assert samples == [Sample(dts, dts + offset, frame.duration, frame.keyframe, frame.data)]


@pytest.mark.parametrize("times", [{"dts": -1}, {"pts": 2**40}, {"duration": 2**32}])
def test_times_that_do_not_fit_are_a_media_error(times: dict[str, int]) -> None:
    frame = replace(Frame("video", 0, 0, 0, True, b"x", True), **times)  # type: ignore[arg-type]
    with pytest.raises(MediaError, match="track video: a frame with dts"):
        cmaf.write_fragment(frame, 1)


def test_a_fragment_costs_112_bytes() -> None:
    frame = Frame("video", 0, 0, 3000, True, b"x" * 1000, True)
    assert len(cmaf.write_fragment(frame, 1)) == 1112


@given(st.lists(frames, min_size=1, max_size=4))
def test_several_fragments_in_one_object_are_read_in_order(several: list[Frame]) -> None:
    payload = b"".join(cmaf.write_fragment(frame, n) for n, frame in enumerate(several))
    assert [sample.data for sample in cmaf.read_fragments(payload, INIT)] == [frame.data for frame in several]


def test_a_run_of_samples_takes_what_it_does_not_say_from_the_track_defaults() -> None:
    tfhd = full_box(b"tfhd", 0, 0x020008, (1).to_bytes(4, "big"), (512).to_bytes(4, "big"))
    tfdt = full_box(b"tfdt", 0, 0, (1000).to_bytes(4, "big"))
    sizes = b"".join(size.to_bytes(4, "big") for size in (3, 2))
    trun = full_box(b"trun", 0, 0x000200, (2).to_bytes(4, "big"), sizes)
    payload = box(b"styp", b"cmfc") + box(b"moof", box(b"traf", tfhd, tfdt, trun)) + box(b"mdat", b"abcde")
    samples = cmaf.read_fragments(payload, INIT)
    assert samples == [Sample(1000, 1000, 512, True, b"abc"), Sample(1512, 1512, 512, True, b"de")]


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_garbage_is_a_media_error(garbage: bytes) -> None:
    for read in (lambda data: cmaf.read_fragments(data, INIT), lambda data: cmaf.read_init(data, "x")):
        with pytest.raises(MediaError):
            read(garbage)


@settings(max_examples=300)
@given(data=st.data())
def test_a_damaged_object_is_read_or_is_a_media_error(data: Any) -> None:
    good = bytearray(cmaf.write_fragment(Frame("video", 5, 7, 9, True, b"frame", True), 1))
    init = bytearray(cmaf.write_init(VIDEO))
    for damaged, read in (
        (good, lambda d: cmaf.read_fragments(d, INIT)),
        (init, lambda d: cmaf.read_init(d, "x")),
    ):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at] = data.draw(st.integers(0, 255))
        cut = data.draw(st.integers(0, len(damaged)))
        with contextlib.suppress(MediaError):
            read(bytes(damaged[:cut]))


def test_a_count_of_samples_beyond_the_limit_is_refused() -> None:
    tfhd = full_box(b"tfhd", 0, 0x020010, (1).to_bytes(4, "big"), (1).to_bytes(4, "big"))
    trun = full_box(b"trun", 0, 0, (2**32 - 1).to_bytes(4, "big"))
    traf = box(b"traf", tfhd, full_box(b"tfdt", 0, 0, bytes(4)), trun)
    with pytest.raises(MediaError, match="more than 10000 samples"):
        cmaf.read_fragments(box(b"moof", traf) + box(b"mdat", b"x"), INIT)
