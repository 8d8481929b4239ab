"""A film with B-frames through catalog, packaging and recorder, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import pytest

from farcast.clients.media.catalog import MSF_TRACK, build_catalogs, parse_catalog
from farcast.clients.media.packaging import Packager, unpack
from farcast.clients.media.recorder import Recorder
from farcast.clients.media.tracks import Frame, Sample, TrackInfo


def carry(tracks: tuple[TrackInfo, ...], frames: list[Frame], packaging: Any) -> list[tuple[str, Sample]]:
    """Publish frames and receive them: the samples that a viewer gets, by track."""
    offer = parse_catalog(MSF_TRACK, build_catalogs(tracks, packaging)[MSF_TRACK])
    offered = {track.info.name: track for track in offer.tracks}
    packagers = {track.name: Packager(track, packaging) for track in tracks}
    object_ids: dict[str, int] = {}
    received = []
    for frame in frames:
        object_ids[frame.track] = 0 if frame.group_start else object_ids[frame.track] + 1
        packed = packagers[frame.track].pack(frame)
        samples = unpack(offered[frame.track], packed.payload, packed.properties, object_ids[frame.track])
        received += [(frame.track, sample) for sample in samples]
    return received


def packets_of(path: Path, kind: str) -> list[tuple[bytes, int, int]]:
    """Bytes, dts and pts (microseconds) of the packets of one kind."""
    with av.open(str(path)) as opened:
        film: Any = opened
        stream = next(stream for stream in film.streams if stream.type == kind)
        ticks = 1_000_000 * stream.time_base
        return [
            (bytes(packet), round(packet.dts * ticks), round(packet.pts * ticks))
            for packet in film.demux(stream)
            if packet.size
        ]


@pytest.mark.parametrize("packaging", ["cmaf", "loc"])
def test_every_sample_arrives_byte_for_byte_with_its_times(
    packaging: str, make_film: Any, read_film: Any
) -> None:
    tracks, frames = read_film(make_film())
    received = carry(tracks, frames, packaging)
    assert any(frame.pts != frame.dts for frame in frames)
    assert [
        (frame.track, Sample(frame.dts, frame.pts, frame.duration, frame.keyframe, frame.data))
        for frame in frames
    ] == received


@pytest.mark.parametrize("packaging", ["cmaf", "loc"])
@pytest.mark.parametrize("name", ["film.mp4", "film.ts", "film.mkv"])
def test_the_recorded_film_has_the_packets_and_times_of_the_original(
    name: str, packaging: str, make_film: Any, read_film: Any, tmp_path: Path
) -> None:
    tracks, frames = read_film(make_film(name))
    recorded = tmp_path / "out.mp4"
    with Recorder(recorded, tracks) as recorder:
        for track, sample in carry(tracks, frames, packaging):
            recorder.handle_sample(track, sample)
    assert recorder.stats.late == 0
    video = [frame for frame in frames if frame.track == "video"]
    packets = packets_of(recorded, "video")
    assert [packet[0] for packet in packets] == [frame.data for frame in video]
    start = tracks[0].to_us(video[0].pts)
    assert all(
        abs(packet[2] - (tracks[0].to_us(frame.pts) - start)) <= 1
        for packet, frame in zip(packets, video, strict=True)
    )
    audio = [frame for frame in frames if frame.track == "audio"]
    sound = packets_of(recorded, "audio")
    assert len(audio) - len(sound) <= 3
    kept = audio[len(audio) - len(sound) :]
    assert [packet[0] for packet in sound] == [frame.data for frame in kept]
    scale = tracks[1].timescale
    drift = [
        packet[2] - (frame.pts * 1_000_000 / scale - start) for packet, frame in zip(sound, kept, strict=True)
    ]
    assert max(map(abs, drift)) < 60


def test_the_recorded_film_decodes_to_every_picture(make_film: Any, read_film: Any, tmp_path: Path) -> None:
    from farcast.clients.media.testsrc import read_frame_number

    tracks, frames = read_film(make_film())
    with Recorder(tmp_path / "out.mp4", tracks) as recorder:
        for track, sample in carry(tracks, frames, "cmaf"):
            recorder.handle_sample(track, sample)
    with av.open(str(tmp_path / "out.mp4")) as film:
        numbers = [read_frame_number(image.to_ndarray(format="rgb24")) for image in film.decode(video=0)]
    assert numbers == list(range(120))
