"""From frames to MoQT objects: a group a GOP, an object a frame, and the two catalogs.

Pure bookkeeping, for the publisher's shell and for the simulator alike. Each media track has one subgroup a
group. A group's last object is known only when the next group begins, and waiting for it would cost the
latency of a frame; so a group ends with an object of status END_OF_GROUP, without payload.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from farcast.clients.media.catalog import build_catalogs
from farcast.clients.media.offer import PublishedPackaging
from farcast.clients.media.packaging import Packager
from farcast.clients.media.tracks import Frame, Kind, TrackInfo
from farcast.proto.client import Publisher
from farcast.proto.properties import CAPTURE_TIME, encode_properties

STATUS_NORMAL = 0
STATUS_END_OF_GROUP = 3
"""Object status (draft-18 §11.2.1.2, the same in draft 16)."""

PRIORITY_CATALOG = 16
PRIORITY: dict[Kind, int] = {"audio": 64, "video": 128}
"""Publisher priorities: catalogs, then sound, then pictures."""


@dataclass(frozen=True, slots=True)
class FilmObject:
    """One object to publish; ``properties`` encoded."""

    track: str
    group: int
    object: int
    payload: bytes
    properties: bytes = b""
    status: int = STATUS_NORMAL
    end_of_group: bool = False


class Film:
    """Numbers the objects of one publication."""

    def __init__(self, tracks: Sequence[TrackInfo], packaging: PublishedPackaging = "cmaf") -> None:
        self._catalogs = build_catalogs(tracks, packaging)
        self._tracks = {track.name: _FilmTrack(track, packaging) for track in tracks}
        self.priorities: dict[str, int] = {
            **dict.fromkeys(self._catalogs, PRIORITY_CATALOG),
            **{track.name: PRIORITY[track.kind] for track in tracks},
        }
        """Every track that is published, and its priority."""

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


class _FilmTrack:
    def __init__(self, info: TrackInfo, packaging: PublishedPackaging) -> None:
        self._name = info.name
        self._packager = Packager(info, packaging)
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
        made = FilmObject(self._name, self._group, self._object, packed.payload, properties)
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
            properties=made.properties,
            status=made.status,
            end_of_subgroup=made.end_of_group or made.status != STATUS_NORMAL,
            end_of_group=made.end_of_group,
        )
