"""The frame number in the pixels."""

from __future__ import annotations

from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.clients.media.framecode import NUMBER_MAX, draw_frame_number, read_frame_number
from farcast.clients.media.picture import Painter, clock_text
from farcast.clients.media.testsrc import TestSource, TestSourceOptions


def test_the_number_survives_h264_and_any_scaling() -> None:
    source = TestSource(TestSourceOptions(duration_s=1, bitrate=150_000, audio_bitrate=0), lambda: 10**15)
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.extradata = source.tracks[0].extradata
    images = [image for frame in source for image in decoder.decode(av.Packet(frame.data))]
    assert len(images) == 30
    for number, image in enumerate(images):
        for width, height in ((640, 360), (1280, 720), (333, 201), (1000, 400)):
            scaled = image.reformat(width, height, format="rgb24").to_ndarray()
            assert read_frame_number(scaled) == number


@given(st.integers(0, NUMBER_MAX), st.sampled_from([(512, 288), (640, 360), (854, 480)]))
def test_a_drawn_number_is_read(number: int, size: tuple[int, int]) -> None:
    luma = np.full((size[1], size[0]), 128, dtype=np.uint8)
    draw_frame_number(luma, number)
    assert read_frame_number(luma) == number
    assert read_frame_number(np.dstack([luma] * 4)) == number


@pytest.mark.parametrize("level", [0, 16, 128, 255])
def test_a_flat_picture_has_no_number(level: int) -> None:
    assert read_frame_number(np.full((360, 640), level, dtype=np.uint8)) is None


def test_a_picture_that_is_too_small_has_no_number() -> None:
    assert read_frame_number(np.zeros((36, 64, 3), dtype=np.uint8)) is None


def test_a_blend_of_two_numbers_is_not_read() -> None:
    first, second = (np.full((360, 640), 128, dtype=np.uint8) for _ in range(2))
    draw_frame_number(first, 0b101)
    draw_frame_number(second, 0b110)
    blend = ((first.astype(int) + second) // 2).astype(np.uint8)
    assert read_frame_number(blend) is None


def test_a_wrong_cell_is_noticed_by_the_checksum() -> None:
    luma = np.full((360, 640), 128, dtype=np.uint8)
    draw_frame_number(luma, 1234)
    cell = luma[:20, 20 * 20 : 21 * 20]
    cell[:] = 251 - cell
    assert read_frame_number(luma) is None


def test_the_clock_is_time_of_day_in_milliseconds() -> None:
    assert clock_text((3 * 86_400 + 45_296) * 1_000_000 + 789_999) == "12:34:56.789"


@pytest.mark.parametrize("size", [(128, 72), (130, 74), (640, 360), (1280, 720), (360, 640)])
def test_every_size_can_be_painted(size: tuple[int, int]) -> None:
    painter = Painter(*size)
    for number in (0, 77, 1_234_567):
        image = painter.paint(number, 10**15, flash=True)
        assert (image.width, image.height) == size
