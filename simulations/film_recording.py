"""Makes `simulations/data/film_frames.csv` and `film_tracks.csv`: the frame sizes of a really encoded film.

    python -m farcast.simulations.film_recording

A synthetic picture of FFmpeg (``testsrc2`` with grain) is encoded as our own sources encode, H.264 without
look-ahead in groups of one second beside Opus in frames of 20 ms, and packed as CMAF, as ``farcast publish``
packs it. What is kept of each object is its size and whether it begins a group; of each track, what a catalog
says. The first groups are left out: an encoder that begins overshoots.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.filter

from farcast.clients.film import Film
from farcast.clients.media.encoders import (
    AUDIO_FRAME_SAMPLES,
    VIDEO_TIMESCALE,
    AudioEncoder,
    VideoEncoder,
    VideoSettings,
)
from farcast.clients.media.testsrc import make_tone
from farcast.clients.media.tracks import Frame, TrackInfo

DATA = Path(__file__).parent / "data"
FRAMES_FILE = "film_frames.csv"
TRACKS_FILE = "film_tracks.csv"

RENDITIONS = ((1920, 1080, 4_500_000), (1280, 720, 2_500_000), (640, 360, 800_000))
FRAMERATE = 25
GRAIN = 14
AUDIO_BPS = 96_000
SECONDS = 20
SECONDS_LEFT_OUT = 3


def main() -> None:
    """Encode and write both files."""
    rows: list[tuple[object, ...]] = []
    tracks: list[TrackInfo] = []
    for width, height, bitrate in RENDITIONS:
        settings = VideoSettings(width, height, Fraction(FRAMERATE), bitrate, 1.0)
        encoder = VideoEncoder(f"video-{height}p", settings)
        tracks.append(encoder.track)
        rows += _sizes(encoder.track, _pictures(encoder, width, height))
    audio = AudioEncoder("audio", AUDIO_BPS)
    tracks.append(audio.track)
    rows += _sizes(audio.track, _sounds(audio))
    _write(FRAMES_FILE, ("track", "frame", "key", "bytes"), rows)
    fields = ("name", "kind", "codec", "timescale", "width", "height", "framerate", "samplerate")
    head = (*fields, "channels", "bitrate", "extradata")
    _write(TRACKS_FILE, head, [_row(track, head) for track in tracks])


def _pictures(encoder: VideoEncoder, width: int, height: int) -> Iterator[Frame]:
    graph = av.filter.Graph()
    source: Any = graph.add("testsrc2", f"size={width}x{height}:rate={FRAMERATE}")
    for name, options in (
        ("noise", f"alls={GRAIN}:allf=t:all_seed=1"),
        ("format", "yuv420p"),
        ("buffersink", ""),
    ):
        sink: Any = graph.add(name, options) if options else graph.add(name)
        source.link_to(sink)
        source = sink
    graph.configure()
    for number in range((SECONDS + SECONDS_LEFT_OUT) * FRAMERATE):
        picture: Any = graph.pull()
        for sample in encoder.encode(picture, number * VIDEO_TIMESCALE // FRAMERATE):
            key = sample.keyframe
            yield Frame(encoder.track.name, sample.pts, sample.pts, sample.duration, key, sample.data, key)


def _sounds(encoder: AudioEncoder) -> Iterator[Frame]:
    tone = make_tone()
    a_second = encoder.track.timescale // AUDIO_FRAME_SAMPLES
    for number in range((SECONDS + SECONDS_LEFT_OUT) * a_second):
        at = number % a_second * AUDIO_FRAME_SAMPLES
        for sample in encoder.encode(
            tone[:, at * 2 : (at + AUDIO_FRAME_SAMPLES) * 2], number * AUDIO_FRAME_SAMPLES
        ):
            first = number % a_second == 0
            yield Frame(encoder.track.name, sample.pts, sample.pts, sample.duration, True, sample.data, first)


def _sizes(track: TrackInfo, frames: Iterator[Frame]) -> list[tuple[object, ...]]:
    film = Film((track,))
    rows: list[tuple[object, ...]] = []
    for frame in frames:
        if frame.pts < SECONDS_LEFT_OUT * track.timescale:
            film.objects(frame, 0)
            continue
        made = film.objects(frame, 0)[-1]
        rows.append((track.name, len(rows), int(frame.group_start), len(made.payload)))
    return rows


def _row(track: TrackInfo, head: tuple[str, ...]) -> tuple[object, ...]:
    values = (getattr(track, name) for name in head)
    return tuple(
        value.hex() if isinstance(value, bytes) else "" if value is None else value for value in values
    )


def _write(name: str, head: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    with (DATA / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
