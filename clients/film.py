"""From frames to MoQT objects: a group a GOP, an object a frame, and the two catalogs.

Pure bookkeeping, for the publisher's shell and for the simulator alike. Each media track has one subgroup a
group, or one for each temporal layer that it is said to have (`TrackInfo.layers`). A group's last object is
known only when the next group begins, and waiting for it would cost the latency of a frame; so a group ends
with an object of status END_OF_GROUP in subgroup 0, without payload, which ends the other subgroups too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from farcast.clients.media.catalog import build_catalogs
from farcast.clients.media.layers import LayerReader
from farcast.clients.media.offer import PublishedPackaging
from farcast.clients.media.packaging import Packager
from farcast.clients.media.tracks import Frame, Kind, TrackInfo
from farcast.proto.client import Publisher
from farcast.proto.properties import CAPTURE_TIME, COMPANIONS, Properties, Property, encode_properties

STATUS_NORMAL = 0
STATUS_END_OF_GROUP = 3
"""Object status (draft-18 §11.2.1.2, the same in draft 16)."""

PRIORITY_CATALOG = 16
PRIORITY: dict[Kind, int] = {"audio": 64, "video": 128}
"""Publisher priorities: catalogs, then sound, then pictures: of several renditions the one of the lowest rate
first, and each layer of a track one later than the layer below."""

PRIORITY_MAX = 255

RENDITION_STEP = 4
"""Priorities between one rendition and the next, so that the `LAYERS_MAX` layers of each fit between."""


@dataclass(frozen=True, slots=True)
class FilmObject:
    """One object to publish; ``properties`` encoded. ``subgroup`` is the frame's layer; ``priority`` None is
    that of the track."""

    track: str
    group: int
    object: int
    payload: bytes
    properties: bytes = b""
    status: int = STATUS_NORMAL
    end_of_group: bool = False
    subgroup: int = 0
    priority: int | None = None


class Film:
    """Numbers the objects of one publication."""

    def __init__(self, tracks: Sequence[TrackInfo], packaging: PublishedPackaging = "cmaf") -> None:
        self._catalogs = build_catalogs(tracks, packaging)
        priorities = track_priorities(tracks)
        self._tracks = {track.name: _FilmTrack(track, packaging, priorities[track.name]) for track in tracks}
        self.priorities: dict[str, int] = {
            **dict.fromkeys(self._catalogs, PRIORITY_CATALOG),
            **priorities,
        }
        """Every track that is published, and its priority."""
        self.properties: dict[str, Properties] = dict.fromkeys(self._catalogs, companions_of(priorities))
        """Of tracks that have any: catalogs name the tracks that an edge may take beside them."""

    def catalog_objects(self) -> list[FilmObject]:
        """What to publish first; once is enough, late joiners get it from caches."""
        return [
            FilmObject(track, 0, 0, payload, end_of_group=True) for track, payload in self._catalogs.items()
        ]

    def objects(self, frame: Frame, now_us: int) -> list[FilmObject]:
        """What to publish for a frame; ``now_us`` (Unix epoch) stamps it where the source did not."""
        track = self._tracks[frame.track]
        captured_us = now_us if frame.capture_time_us is None else frame.capture_time_us
        return track.objects(frame, captured_us)

    def last_objects(self) -> list[FilmObject]:
        """What to publish at the end: a group that is not ended counts as broken off."""
        return [track.end_of_group() for track in self._tracks.values() if track.is_in_group]


def companions_of(priorities: Mapping[str, int]) -> Properties:
    """The property of a catalog that names the media tracks of these priorities."""
    names = sorted(priorities, key=priorities.__getitem__)
    return (Property(COMPANIONS, b"\n".join(name.encode() for name in names)),)


def layer_priority(priority: int, layer: int) -> int | None:
    """Publisher priority of a layer's objects; None, that of the track, for the base."""
    return min(priority + layer, PRIORITY_MAX) if layer else None


def track_priorities(tracks: Sequence[TrackInfo]) -> dict[str, int]:
    """Publisher priority by track: `PRIORITY`, of renditions the lowest rate first."""
    rank: dict[tuple[Kind, int | None], int] = {}
    priorities: dict[str, int] = {}
    for track in sorted(tracks, key=lambda track: (track.bitrate or 0, track.name)):
        alternatives = (track.kind, track.alt_group)
        step = rank.get(alternatives, 0) if track.alt_group is not None else 0
        rank[alternatives] = step + 1
        priorities[track.name] = min(PRIORITY[track.kind] + RENDITION_STEP * step, PRIORITY_MAX)
    return priorities


class _FilmTrack:
    def __init__(self, info: TrackInfo, packaging: PublishedPackaging, priority: int) -> None:
        self._name = info.name
        self._priority = priority
        self._packager = Packager(info, packaging)
        self._layers = LayerReader(info) if info.layers > 1 else None
        self._highest = info.layers - 1
        self._group = -1
        self._object = 0

    @property
    def is_in_group(self) -> bool:
        return self._group >= 0

    def objects(self, frame: Frame, captured_us: int) -> list[FilmObject]:
        ended = []
        if frame.group_start or self._group < 0:
            if self.is_in_group:
                ended.append(self.end_of_group())
            self._group += 1
            self._object = 0
        packed = self._packager.pack(frame)
        properties = encode_properties(sorted([*packed.properties.items(), (CAPTURE_TIME, captured_us)]))
        layer = 0 if self._layers is None else min(self._layers.layer_of(frame), self._highest)
        made = FilmObject(
            self._name,
            self._group,
            self._object,
            packed.payload,
            properties,
            subgroup=layer,
            priority=layer_priority(self._priority, layer),
        )
        self._object += 1
        return [*ended, made]

    def end_of_group(self) -> FilmObject:
        return FilmObject(self._name, self._group, self._object, b"", status=STATUS_END_OF_GROUP)


def hand_over(engine: Publisher, objects: Iterable[FilmObject]) -> None:
    """Give the engine what is to be published now."""
    for made in objects:
        engine.publish(
            made.track.encode(),
            made.group,
            made.object,
            made.payload,
            subgroup=made.subgroup,
            priority=made.priority,
            properties=made.properties,
            status=made.status,
            end_of_subgroup=made.end_of_group or made.status != STATUS_NORMAL,
            end_of_group=made.end_of_group,
        )
