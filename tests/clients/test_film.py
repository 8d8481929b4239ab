"""A film's objects: a group a GOP, an object a frame, an end to each group, capture times."""

from __future__ import annotations

from dataclasses import replace

from farcast.clients.film import PRIORITY, STATUS_END_OF_GROUP, Film, FilmObject, track_priorities
from farcast.clients.media.layers import LAYERS_MAX, in_layers
from farcast.clients.media.tracks import Frame, TrackInfo
from farcast.proto.properties import CAPTURE_TIME, decode_properties, find_integer

OPUS_HEAD = b"OpusHead\x01\x02" + bytes(9)
AUDIO = TrackInfo("audio", "audio", "opus", 48_000, samplerate=48_000, channels=2, extradata=OPUS_HEAD)
NOW_US = 1_700_000_000_000_000


def frame(number: int, *, group_start: bool, captured_us: int | None = None) -> Frame:
    return Frame("audio", number * 960, number * 960, 960, True, b"sound", group_start, captured_us)


def places(objects: list[FilmObject]) -> list[tuple[int, int, int]]:
    return [(made.group, made.object, made.status) for made in objects]


def test_groups_are_numbered_and_each_is_ended_when_the_next_begins() -> None:
    film = Film([AUDIO])
    starts = [True, False, False, True, False]
    made = [film.objects(frame(n, group_start=start), NOW_US) for n, start in enumerate(starts)]
    assert [places(objects) for objects in made] == [
        [(0, 0, 0)],
        [(0, 1, 0)],
        [(0, 2, 0)],
        [(0, 3, STATUS_END_OF_GROUP), (1, 0, 0)],
        [(1, 1, 0)],
    ]
    assert made[3][0].payload == b""


def test_the_last_group_is_ended_when_the_film_is() -> None:
    film = Film([AUDIO])
    assert film.last_objects() == []
    film.objects(frame(0, group_start=True), NOW_US)
    assert places(film.last_objects()) == [(0, 1, STATUS_END_OF_GROUP)]


def test_the_first_frame_begins_a_group_even_if_its_source_does_not_say_so() -> None:
    assert places(Film([AUDIO]).objects(frame(0, group_start=False), NOW_US)) == [(0, 0, 0)]


def test_a_frame_carries_its_capture_time_or_else_the_present() -> None:
    film = Film([AUDIO])
    for captured_us, expected in ((NOW_US - 5, NOW_US - 5), (None, NOW_US)):
        (made,) = film.objects(frame(0, group_start=False, captured_us=captured_us), NOW_US)
        assert find_integer(decode_properties(made.properties), CAPTURE_TIME) == expected


def test_both_catalogs_are_whole_groups_and_come_before_all_else() -> None:
    film = Film([AUDIO])
    assert {made.track for made in film.catalog_objects()} == {"catalog", "catalog.json"}
    assert all(made.end_of_group and made.payload for made in film.catalog_objects())
    assert film.priorities["catalog"] < film.priorities["audio"]


VIDEO = TrackInfo(
    "video", "video", "avc1.4d401e", 90_000, 320, 180, extradata=bytes((1, 0x4D, 0x40, 0x1E, 0xFF, 0xE1))
)


def picture(number: int, head: int, *, keyframe: bool = False) -> Frame:
    data = bytes((0, 0, 0, 2, head, 0))
    return Frame("video", number * 3000, number * 3000, 3000, keyframe, data, keyframe)


def test_frames_that_nothing_refers_to_have_a_subgroup_of_their_own_and_a_later_priority() -> None:
    film = Film([in_layers(VIDEO)], "loc")
    heads = [0x65, 0x41, 0x01, 0x41, 0x01]
    made = [
        each
        for number, head in enumerate(heads)
        for each in film.objects(picture(number, head, keyframe=head == 0x65), NOW_US)
    ]
    assert [(each.subgroup, each.object) for each in made] == [(0, 0), (0, 1), (1, 2), (0, 3), (1, 4)]
    assert [each.priority for each in made] == [
        None,
        None,
        PRIORITY["video"] + 1,
        None,
        PRIORITY["video"] + 1,
    ]
    (end,) = film.last_objects()
    assert (end.subgroup, end.object, end.status) == (0, 5, STATUS_END_OF_GROUP)


def test_a_track_that_is_not_said_to_have_layers_keeps_one_subgroup() -> None:
    film = Film([VIDEO], "loc")
    made = [film.objects(picture(n, head, keyframe=n == 0), NOW_US)[0] for n, head in enumerate((0x65, 0x01))]
    assert [each.subgroup for each in made] == [0, 0]


def test_of_renditions_the_lowest_rate_is_first_and_sound_before_all() -> None:
    tracks = [replace(VIDEO, name=f"v{rate}", bitrate=rate, alt_group=1) for rate in (3_000, 1_000, 2_000)]
    priorities = track_priorities([*tracks, AUDIO])
    assert sorted(priorities, key=priorities.__getitem__) == ["audio", "v1000", "v2000", "v3000"]
    assert priorities["v1000"] == PRIORITY["video"]
    assert priorities["v2000"] - priorities["v1000"] > LAYERS_MAX - 1
