"""Films of the simulator: sizes, numbers and times of what they publish."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.clients.film import STATUS_END_OF_GROUP, STATUS_NORMAL
from farcast.clients.media.catalog import parse_catalog
from farcast.simulations.media import PACKAGING_BYTES, FilmModel
from farcast.simulations.scenario import FilmConfig, Rendition

BOTH = (Rendition(height=720, bitrate_bps=2_500_000), Rendition(height=360, bitrate_bps=800_000, fps=30))
UNIX_US = 1_700_000_000_000_000


def film(**changes: object) -> FilmModel:
    config = FilmConfig(name="f", renditions=BOTH, **changes)  # type: ignore[arg-type]
    return FilmModel(config, "host", "live/room/host", UNIX_US, 1)


@pytest.mark.parametrize("sizes", ["recorded", "model"])
@pytest.mark.parametrize("gop_ms", [1_000, 2_000])
def test_renditions_have_the_rate_that_was_asked_for(sizes: str, gop_ms: int) -> None:
    made = film(sizes=sizes, gop_ms=gop_ms)
    frames = made.frames(0, 40_000_000, 0)
    for index, rendition in enumerate(BOTH):
        mine = frames[frames["track"] == index]
        assert mine["bytes"].sum() * 8 / 40 == pytest.approx(rendition.bitrate_bps, rel=0.02)
        keys = mine[mine["key"]]
        assert len(keys) == pytest.approx(40_000 // gop_ms, abs=1)
        assert keys["bytes"].mean() > 3 * mine[~mine["key"]]["bytes"].mean()


def test_sound_is_as_large_as_its_frames_and_their_packaging() -> None:
    frames = film(audio_bps=64_000).frames(0, 1_000_000, 0)
    sound = frames[frames["track"] == 2]
    assert len(sound) == 50
    assert set(sound["bytes"].tolist()) == {160 + PACKAGING_BYTES}


def test_catalogs_name_every_track_and_its_rate() -> None:
    made = film()
    for name, payload in made.catalogs.items():
        offer = parse_catalog(name, payload)
        found = {track.info.name: track.info.bitrate for track in offer.tracks}
        assert found == {"video-720p": 2_500_000, "video-360p": 800_000, "audio": 96_000}


def test_groups_end_where_the_next_one_begins() -> None:
    objects = film().objects(500, 500, 2_000_500)
    ends = [(at_us, made) for at_us, made in objects if made.status == STATUS_END_OF_GROUP]
    assert {at_us for at_us, made in ends if made.track != "video-360p"} == {1_000_500}
    assert sorted((made.track, made.group, made.object) for at_us, made in ends if at_us < 1_500_000) == [
        ("audio", 0, 50),
        ("video-360p", 0, 30),
        ("video-720p", 0, 25),
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3_000_000), min_size=1, max_size=6), st.integers(0, 1_000_000))
def test_a_film_is_the_same_in_whatever_pieces_it_is_taken(cuts: list[int], began_us: int) -> None:
    made = film()
    edges = sorted({began_us, began_us + 3_000_000, *(began_us + cut for cut in cuts)})
    pieces = [item for start, end in pairwise(edges) for item in made.objects(began_us, start, end)]
    assert pieces == made.objects(began_us, began_us, began_us + 3_000_000)
    frames = made.frames(began_us, began_us + 3_000_000, 0)
    sizes = [len(item.payload) for _, item in pieces if item.status == STATUS_NORMAL]
    assert sorted(sizes) == sorted(frames["bytes"].tolist())
    assert np.all(np.diff(frames["capture_us"]) >= 0)
