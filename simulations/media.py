"""The film of a publisher: which objects it publishes when, and how large they are.

Sizes are those of a really encoded film (`film_recording` made the file), cut to the renditions, rates and
lengths of groups that a scenario asks for; or a model, a key frame so many times larger than the rest.
The two catalogs are the real ones, made by the code that `farcast publish` uses, so that their size and the
round trips to read them are real. Payloads are zeros: nobody looks into a frame.

Tracks are one per rendition (``video-720p``) and ``audio``; a group is a group of pictures, sound has groups
of the same length; an object is a frame, as in `farcast.clients.film`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from random import Random

import numpy as np

from farcast.clients.film import (
    PRIORITY_CATALOG,
    STATUS_END_OF_GROUP,
    STATUS_NORMAL,
    FilmObject,
    companions_of,
    track_priorities,
)
from farcast.clients.media.catalog import build_catalogs
from farcast.clients.media.encoders import ALT_GROUP
from farcast.clients.media.tracks import TrackInfo as MediaTrack
from farcast.proto.properties import CAPTURE_TIME, encode_properties
from farcast.simulations.data_files import read_rows
from farcast.simulations.raw import FRAME_DTYPE, Array, TrackInfo
from farcast.simulations.scenario import FilmConfig

FRAMES_FILE = "film_frames.csv"
TRACKS_FILE = "film_tracks.csv"

AUDIO_TRACK = "audio"
AUDIO_FRAME_US = 20_000
PACKAGING_BYTES = 145
"""What CMAF adds to each frame: ``moof`` and the head of ``mdat``, as in the recorded film."""

MODEL_SPREAD = 0.2
"""Standard deviation of the logarithm of frame sizes, model only."""

FRAMES_MAX = 20_000_000
"""Frames that one film may have in a run."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of key frames and of the others, in order; both begin again at their ends."""

    keys: tuple[int, ...]
    others: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FilmTrack:
    """A track, and how its frames come: one every ``frame_us``, ``frames_a_group`` in a group."""

    info: TrackInfo
    frames_a_group: int
    sizes: Sizes

    def bytes_of(self, group: int, number: int) -> int:
        """Payload of a frame."""
        if number == 0:
            return self.sizes.keys[group % len(self.sizes.keys)]
        at = group * (self.frames_a_group - 1) + number - 1
        return self.sizes.others[at % len(self.sizes.others)]


class FilmModel:
    """One publisher's film. ``unix_us``: the wall clock at virtual time 0, which stamps frames."""

    def __init__(self, config: FilmConfig, publisher: str, namespace: str, unix_us: int, seed: int) -> None:
        self.config = config
        self.tracks = tuple(_make_tracks(config, publisher, namespace, Random(seed)))
        of_several = len(config.renditions) > 1
        entries = [_catalog_entry(track.info, of_several=of_several) for track in self.tracks]
        self.catalogs = build_catalogs(entries)
        self.priorities: dict[str, int] = {
            **dict.fromkeys(self.catalogs, PRIORITY_CATALOG),
            **track_priorities(entries),
        }
        """Every track that is published, and its priority."""
        self.properties = dict.fromkeys(self.catalogs, companions_of(track_priorities(entries)))
        """Of the tracks that have any."""
        self._unix_us = unix_us

    def catalog_objects(self) -> list[FilmObject]:
        """What is published first."""
        return [
            FilmObject(track, 0, 0, payload, end_of_group=True) for track, payload in self.catalogs.items()
        ]

    def objects(self, began_us: int, from_us: int, until_us: int) -> list[tuple[int, FilmObject]]:
        """Objects that are captured from one time until before another, of a film that began at
        ``began_us``, in order; each with its time."""
        found: list[tuple[int, int, FilmObject]] = []
        for order, track in enumerate(self.tracks):
            for number in _numbers(track.info.frame_us, began_us, from_us, until_us):
                at_us = began_us + number * track.info.frame_us
                found += [(at_us, order, made) for made in self._objects_of(track, number, at_us)]
        found.sort(key=lambda item: item[:2])
        return [(at_us, made) for at_us, _, made in found]

    def _objects_of(self, track: FilmTrack, number: int, at_us: int) -> Iterator[FilmObject]:
        group, position = divmod(number, track.frames_a_group)
        name = track.info.name
        if position == 0 and group:
            yield FilmObject(name, group - 1, track.frames_a_group, b"", status=STATUS_END_OF_GROUP)
        properties = encode_properties([(CAPTURE_TIME, self._unix_us + at_us)])
        payload = bytes(track.bytes_of(group, position))
        yield FilmObject(name, group, position, payload, properties, STATUS_NORMAL)

    def frames(self, began_us: int, until_us: int, first_track: int) -> Array:
        """Every frame until a time as an array of `FRAME_DTYPE`; tracks count from ``first_track``."""
        parts = [
            self._frames_of(track, began_us, until_us, first_track + k) for k, track in enumerate(self.tracks)
        ]
        whole = np.concatenate(parts) if parts else np.empty(0, FRAME_DTYPE)
        return whole[np.argsort(whole["capture_us"], kind="stable")]

    def _frames_of(self, track: FilmTrack, began_us: int, until_us: int, index: int) -> Array:
        numbers = np.arange(max(0, -((began_us - until_us) // track.info.frame_us)), dtype=np.int64)
        if len(numbers) > FRAMES_MAX:
            raise ValueError(f"a film has at most {FRAMES_MAX} frames")
        frames = np.zeros(len(numbers), FRAME_DTYPE)
        groups, positions = np.divmod(numbers, track.frames_a_group)
        frames["pts_us"] = numbers * track.info.frame_us
        frames["capture_us"] = began_us + frames["pts_us"]
        frames["track"], frames["group"], frames["object"] = index, groups, positions
        frames["key"] = (positions == 0) | (track.info.kind == "audio")
        keys, others = np.array(track.sizes.keys), np.array(track.sizes.others)
        at = groups * (track.frames_a_group - 1) + positions - 1
        frames["bytes"] = np.where(positions == 0, keys[groups % len(keys)], others[at % len(others)])
        return frames


def _numbers(frame_us: int, began_us: int, from_us: int, until_us: int) -> range:
    first = max(0, -((began_us - from_us) // frame_us))
    return range(first, max(first, -((began_us - until_us) // frame_us)))


def _make_tracks(config: FilmConfig, publisher: str, namespace: str, draw: Random) -> Iterator[FilmTrack]:
    for rendition in config.renditions:
        frames = max(1, round(rendition.fps * config.gop_ms / 1_000))
        info = TrackInfo(
            publisher,
            namespace,
            f"video-{rendition.height}p",
            "video",
            rendition.height,
            rendition.bitrate_bps,
            round(1_000_000 / rendition.fps),
        )
        group_bytes = rendition.bitrate_bps * config.gop_ms / 8_000
        if config.sizes == "model":
            sizes = _modelled(group_bytes, frames, config.key_ratio, draw)
        else:
            sizes = _scaled(_recorded(_nearest(rendition.height)), group_bytes, frames)
        yield FilmTrack(info, frames, sizes)
    if config.audio_bps:
        frames = max(1, config.gop_ms * 1_000 // AUDIO_FRAME_US)
        info = TrackInfo(publisher, namespace, AUDIO_TRACK, "audio", 0, config.audio_bps, AUDIO_FRAME_US)
        frame_bytes = max(1, round(config.audio_bps * AUDIO_FRAME_US / 8e6)) + PACKAGING_BYTES
        yield FilmTrack(info, frames, Sizes((frame_bytes,), (frame_bytes,)))


def _scaled(recorded: Sizes, group_bytes: float, frames: int) -> Sizes:
    """The recorded sizes at another rate and length of group: their mean over a group is as told."""
    mean = sum(recorded.keys) / len(recorded.keys)
    mean += (frames - 1) * sum(recorded.others) / len(recorded.others)
    scale = group_bytes / mean
    return Sizes(
        *(tuple(max(1, round(size * scale)) for size in part) for part in (recorded.keys, recorded.others))
    )


def _modelled(group_bytes: float, frames: int, key_ratio: float, draw: Random) -> Sizes:
    other = group_bytes / (frames - 1 + key_ratio)
    bias = math.exp(-(MODEL_SPREAD**2) / 2)

    def around(size: float) -> int:
        return max(1, round(size * bias * draw.lognormvariate(0.0, MODEL_SPREAD)))

    return Sizes(
        tuple(around(other * key_ratio) for _ in range(50)), tuple(around(other) for _ in range(1_000))
    )


# ---- Files ----------------------------------------------------------------------------------------


@cache
def _recorded(track: str) -> Sizes:
    keys: list[int] = []
    others: list[int] = []
    for row in read_rows(FRAMES_FILE):
        if row["track"] == track:
            (keys if row["key"] == "1" else others).append(int(row["bytes"]))
    return Sizes(tuple(keys), tuple(others))


@cache
def _recorded_tracks() -> dict[str, MediaTrack]:
    found: dict[str, MediaTrack] = {}
    for row in read_rows(TRACKS_FILE):
        number = {key: int(float(row[key])) if row[key] else None for key in _NUMBERS}
        found[row["name"]] = MediaTrack(
            row["name"],
            "audio" if row["kind"] == "audio" else "video",
            row["codec"],
            int(row["timescale"]),
            width=number["width"],
            height=number["height"],
            framerate=float(row["framerate"]) if row["framerate"] else None,
            samplerate=number["samplerate"],
            channels=number["channels"],
            extradata=bytes.fromhex(row["extradata"]),
            bitrate=number["bitrate"],
        )
    return found


_NUMBERS = ("width", "height", "samplerate", "channels", "bitrate")


def _nearest(height: int) -> str:
    """The recorded track whose picture is nearest in height."""
    pictures = [track for track in _recorded_tracks().values() if track.kind == "video"]
    return min(pictures, key=lambda track: (abs((track.height or 0) - height), track.name)).name


def _catalog_entry(info: TrackInfo, *, of_several: bool) -> MediaTrack:
    """What the catalogs say of a track: as the recorded one's, under its own name, size and rate."""
    if info.kind == "audio":
        return replace(_recorded_tracks()[AUDIO_TRACK], bitrate=info.bitrate_bps)
    return replace(
        _recorded_tracks()[_nearest(info.height)],
        name=info.name,
        height=info.height,
        width=info.height * 16 // 9 // 2 * 2,
        framerate=1e6 / info.frame_us,
        bitrate=info.bitrate_bps,
        alt_group=ALT_GROUP if of_several else None,
    )
