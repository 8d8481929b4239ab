"""Several renditions of one picture: what is asked for, how they are encoded, what the catalogs say."""

from __future__ import annotations

from pathlib import Path

import pytest

from farcast.clients.media.catalog import build_catalogs, parse_catalog
from farcast.clients.media.encoders import RenditionSpec, parse_renditions
from farcast.clients.media.errors import MediaError
from farcast.clients.media.sources import open_source
from farcast.clients.media.testfilm import FilmOptions, write_test_film
from farcast.clients.media.testsrc import TestSource, TestSourceOptions
from farcast.clients.media.tracks import Frame, TrackInfo
from farcast.clients.viewing import pick_rendition

LADDER = (RenditionSpec(288, 400_000), RenditionSpec(144, 100_000))


def test_renditions_are_read_best_first() -> None:
    assert parse_renditions("144p:100k, 1080p:4.5M") == (
        RenditionSpec(1080, 4_500_000),
        RenditionSpec(144, 100_000),
    )


@pytest.mark.parametrize("spec", ["", "720", "720p", "720p:1x", "721p:1M", "720p:1M,720p:2M", "720p:5k"])
def test_what_is_no_rendition_is_named(spec: str) -> None:
    with pytest.raises(MediaError, match="rendition"):
        parse_renditions(spec)


def groups(frames: list[Frame], name: str) -> list[list[int]]:
    found: list[list[int]] = []
    for frame in (frame for frame in frames if frame.track == name):
        if frame.group_start:
            found.append([])
        found[-1].append(frame.pts)
    return found


def test_the_test_film_has_groups_of_equal_times_in_every_rendition() -> None:
    options = TestSourceOptions(width=512, height=288, gop_s=0.5, duration_s=2, renditions=LADDER)
    source = TestSource(options, lambda: 0)
    frames = list(source)
    assert [track.name for track in source.tracks] == ["video-288p", "video-144p", "audio"]
    assert [track.alt_group for track in source.tracks] == [1, 1, None]
    assert (source.tracks[1].width, source.tracks[1].height) == (256, 144)
    assert groups(frames, "video-288p") == groups(frames, "video-144p")
    assert len(groups(frames, "video-144p")) == len(groups(frames, "audio")) == 4


def test_a_file_is_encoded_in_every_rendition(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    write_test_film(path, FilmOptions(duration_s=3))
    source = open_source(str(path), clock_us=lambda: 0, renditions=LADDER)
    frames = list(source)
    assert groups(frames, "video-288p") == groups(frames, "video-144p")
    assert len(groups(frames, "video-288p")) == 2


def test_a_rendition_larger_than_the_picture_is_refused() -> None:
    with pytest.raises(MediaError, match="720p is larger than the picture"):
        TestSource(TestSourceOptions(renditions=(RenditionSpec(720, 1_000_000),)), lambda: 0)


@pytest.mark.parametrize("catalog", ["catalog", "catalog.json"])
def test_catalogs_say_which_tracks_are_alternatives(catalog: str) -> None:
    source = TestSource(TestSourceOptions(width=512, height=288, renditions=LADDER), lambda: 0)
    offer = parse_catalog(catalog, build_catalogs(source.tracks)[catalog])
    assert {track.info.name: track.info.alt_group for track in offer.tracks} == {
        "video-288p": 1,
        "video-144p": 1,
        "audio": None,
    }


def test_layers_are_in_the_msf_catalog_and_leave_the_other_without_pictures() -> None:
    source = TestSource(TestSourceOptions(layers=2), lambda: 0)
    catalogs = build_catalogs(source.tracks)
    assert [track.info.layers for track in parse_catalog("catalog", catalogs["catalog"]).tracks] == [2, 1]
    hang = parse_catalog("catalog.json", catalogs["catalog.json"])
    assert [track.info.name for track in hang.tracks] == ["audio"]


@pytest.mark.parametrize(
    ("quality", "lines"), [("best", 1080), ("video-360p", 360), ("720p", 720), ("900p", 720), ("100p", 360)]
)
def test_a_rendition_is_picked_by_name_by_lines_or_as_the_best(quality: str, lines: int) -> None:
    ladder = [
        TrackInfo(f"video-{each}p", "video", "avc1", 90_000, height=each, bitrate=each * 1_000)
        for each in (360, 1080, 720)
    ]
    assert pick_rendition(ladder, quality).height == lines
