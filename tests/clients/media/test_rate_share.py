"""Encoders whose rate follows: how soon, and what stays as it was."""

from __future__ import annotations

from fractions import Fraction

import av
import numpy as np
import pytest

from farcast.clients.media.encoders import VIDEO_TIMESCALE, VideoEncoder, VideoSettings
from farcast.clients.media.testsrc import TestSource, TestSourceOptions
from farcast.clients.media.tracks import Sample

FPS = 30
SETTINGS = VideoSettings(320, 180, Fraction(FPS), 1_000_000, 1.0)


def noisy(encoder: VideoEncoder, first: int, count: int) -> list[Sample]:
    """Pictures that need every bit."""
    draw = np.random.default_rng(first)
    made: list[Sample] = []
    for number in range(first, first + count):
        pixels = draw.integers(0, 255, (270, 320), dtype=np.uint8)
        image = av.VideoFrame.from_ndarray(pixels, format="yuv420p")
        made += encoder.encode(image, number * VIDEO_TIMESCALE // FPS)
    return made


def bits(samples: list[Sample]) -> int:
    return sum(len(sample.data) for sample in samples) * 8


@pytest.mark.parametrize("layers", [1, 2])
def test_a_share_is_kept_from_the_next_group_on_and_groups_stay_where_they_are(layers: int) -> None:
    encoder = VideoEncoder("video", VideoSettings(320, 180, Fraction(FPS), 1_000_000, 1.0, layers))
    before = noisy(encoder, 0, 3 * FPS)
    encoder.set_rate_share(0.25)
    rest = noisy(encoder, 3 * FPS, 6 * FPS) + list(encoder.flush())
    made = before + rest
    assert 0.8 < bits(before) / 3_000_000 < 1.25
    assert bits(rest) / 6 < 320_000
    keys = [n for n, sample in enumerate(made) if sample.keyframe]
    assert keys == [n * FPS for n in range(9)]
    times = [sample.dts or 0 for sample in made]
    assert times == sorted(set(times)), "decode times go on"
    assert sorted(sample.pts for sample in made) == [
        n * VIDEO_TIMESCALE // FPS + encoder.delay for n in range(9 * FPS)
    ]


def test_the_rate_comes_back() -> None:
    encoder = VideoEncoder("video", SETTINGS)
    encoder.set_rate_share(0.25)
    noisy(encoder, 0, 3 * FPS)
    encoder.set_rate_share(1.0)
    noisy(encoder, 3 * FPS, FPS)
    assert bits(noisy(encoder, 4 * FPS, 4 * FPS)) > 3_000_000


def test_the_test_film_says_how_much_it_encodes_and_follows() -> None:
    source = TestSource(TestSourceOptions(bitrate=500_000, duration_s=2), lambda: 0)
    assert source.encoded_bps == 500_000
    source.set_rate_share(0.1)
    made = sum(len(frame.data) * 8 for frame in source if frame.track == "video")
    assert made < 250_000
