"""The MSF and the hang catalog."""

from __future__ import annotations

import base64
import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.clients.media.catalog import HANG_TRACK, MSF_TRACK, build_catalogs, parse_catalog
from farcast.clients.media.cmaf import write_init
from farcast.clients.media.errors import MediaError
from farcast.clients.media.tracks import TrackInfo

AVCC = bytes.fromhex("0142c01effe1000a6742c01e8c8d4028021001000568ce3c80")
VIDEO = TrackInfo("video", "video", "avc1.42c01e", 15_360, 640, 360, 30.0, extradata=AVCC, bitrate=800_000)
AUDIO = TrackInfo(
    "audio", "audio", "mp4a.40.2", 48_000, samplerate=48_000, channels=2,
    extradata=bytes.fromhex("119056e500"), bitrate=128_000,
)  # fmt: skip
BROWSER_CATALOG = {
    "video": {"renditions": {"video": {
        "codec": "avc1.42c01e", "description": AVCC.hex(), "codedWidth": 640, "codedHeight": 360,
        "framerate": 30.0, "container": {"kind": "legacy"}}}},
    "audio": {"renditions": {"audio": {
        "codec": "mp4a.40.2", "sampleRate": 48000, "numberOfChannels": 2, "description": "119056e500",
        "container": {"kind": "legacy"}}}},
}  # fmt: skip


@pytest.mark.parametrize("packaging", ["cmaf", "loc"])
def test_the_msf_catalog_gives_the_tracks_back(packaging: Any) -> None:
    offer = parse_catalog(MSF_TRACK, build_catalogs([VIDEO, AUDIO], packaging)[MSF_TRACK])
    assert [track.info for track in offer.tracks] == [VIDEO, AUDIO]
    assert {track.packaging for track in offer.tracks} == {packaging}


def test_the_hang_catalog_gives_the_tracks_back() -> None:
    offer = parse_catalog(HANG_TRACK, build_catalogs([VIDEO, AUDIO])[HANG_TRACK])
    assert [track.info for track in offer.tracks] == [VIDEO, AUDIO]


def test_the_hang_catalog_has_what_the_browsers_player_needs() -> None:
    catalog = json.loads(build_catalogs([VIDEO, AUDIO])[HANG_TRACK])
    video, audio = (catalog[kind]["renditions"][kind] for kind in ("video", "audio"))
    assert (video["codec"], video["codedWidth"], video["codedHeight"]) == ("avc1.42c01e", 640, 360)
    assert (audio["codec"], audio["sampleRate"], audio["numberOfChannels"]) == ("mp4a.40.2", 48_000, 2)
    assert bytes.fromhex(video["description"]) == AVCC
    assert video["container"] == {"kind": "cmaf", "init": base64.b64encode(write_init(VIDEO)).decode()}
    assert "jitter" not in video


def test_the_hang_catalog_states_the_delay_of_b_frames_in_whole_milliseconds() -> None:
    track = TrackInfo("video", "video", "avc1.42c01e", 15_360, 640, 360, 29.97, extradata=AVCC, reorder_ms=67)
    jitter = json.loads(build_catalogs([track])[HANG_TRACK])["video"]["renditions"]["video"]["jitter"]
    assert jitter == 67 + 35
    assert isinstance(jitter, int)


def test_the_msf_catalog_has_every_mandatory_field() -> None:
    catalog = json.loads(build_catalogs([VIDEO, AUDIO], target_latency_ms=500)[MSF_TRACK])
    assert catalog["version"] == "draft-01"
    video, audio = catalog["tracks"]
    for track in (video, audio):
        assert {"name", "packaging", "isLive", "role", "codec", "bitrate", "renderGroup"} <= track.keys()
        assert track["targetLatency"] == 500
    assert (audio["samplerate"], audio["channelConfig"]) == (48_000, "2")
    data = {entry["id"]: entry["data"] for entry in catalog["initDataList"]}
    assert base64.b64decode(data[video["initRef"]]) == write_init(VIDEO)
    assert list(catalog)[-1] == "initDataList"


def test_with_loc_the_browsers_catalog_is_empty_because_they_cannot_read_properties() -> None:
    assert parse_catalog(HANG_TRACK, build_catalogs([VIDEO], "loc")[HANG_TRACK]).tracks == ()


def test_a_browsers_catalog_is_read() -> None:
    offer = parse_catalog(HANG_TRACK, json.dumps(BROWSER_CATALOG | {"chat": {"x": 1}}).encode())
    video, audio = offer.tracks
    assert (video.packaging, video.info.extradata, video.info.timescale) == ("legacy", AVCC, 1_000_000)
    assert (audio.info.samplerate, audio.info.channels) == (48_000, 2)


def test_a_draft_00_catalog_with_inline_init_data_is_read() -> None:
    track = {"name": "v", "packaging": "cmaf", "role": "video", "codec": "avc1.42c01e", "future": [],
             "initData": base64.b64encode(write_init(VIDEO)).decode()}  # fmt: skip
    offer = parse_catalog(MSF_TRACK, json.dumps({"version": 1, "tracks": [track]}).encode())
    assert offer.tracks[0].info.timescale == VIDEO.timescale


def test_tracks_that_cannot_be_played_are_named_not_fatal() -> None:
    tracks = [
        {"name": "subs", "packaging": "eventtimeline"},
        {"name": "tv", "packaging": "loc", "role": "audio", "codec": "ac-3"},
        {"name": "bare", "packaging": "cmaf", "role": "video", "codec": "avc1.42c01e"},
        {"name": "ok", "packaging": "loc", "role": "audio", "codec": "opus", "samplerate": 48000},
    ]
    offer = parse_catalog(MSF_TRACK, json.dumps({"version": "draft-02", "tracks": tracks}).encode())
    assert [track.info.name for track in offer.tracks] == ["ok"]
    assert [line.split(":")[0] for line in offer.ignored] == ["track subs", "track tv", "track bare"]


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"{", "MSF catalog is not JSON"),
        (b"[]", "MSF catalog is not a JSON object"),
        (b'{"tracks": []}', "version None"),
        (b'{"version": 2, "tracks": []}', "version 2"),
        (b'{"version": "draft-01", "tracks": {}}', "'tracks' is not an array"),
        (b'{"version": "draft-01", "deltaUpdate": []}', "delta update"),
        (b'{"version": "draft-01", "tracks": [{}]}', r"tracks\[0\]: field 'name' is missing"),
        (b'{"version": "draft-01", "tracks": [{"name": "a", "packaging": "loc", "role": "video", '
         b'"codec": "opus", "width": 1.5}]}', "'width' is 1.5, not a whole number"),
    ],
)  # fmt: skip
def test_a_malformed_catalog_is_one_clear_line(payload: bytes, message: str) -> None:
    with pytest.raises(MediaError, match=message):
        parse_catalog(MSF_TRACK, payload)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(data=st.data())
def test_any_json_in_any_place_is_read_or_is_a_media_error(data: Any) -> None:
    for name, whole in (
        (MSF_TRACK, json.loads(build_catalogs([VIDEO, AUDIO])[MSF_TRACK])),
        (HANG_TRACK, BROWSER_CATALOG),
    ):
        changed = json.loads(json.dumps(whole))
        place, key = _some_place(changed, data)
        place[key] = data.draw(json_values)
        with contextlib.suppress(MediaError):
            parse_catalog(name, json.dumps(changed).encode())


def _some_place(value: Any, data: Any) -> tuple[Any, Any]:
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(value[key], dict | list) or not value[key] or data.draw(st.booleans()):
            return value, key
        value = value[key]
