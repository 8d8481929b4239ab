"""From frames to objects and back, whatever the packaging."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from farcast.clients.media import cmaf, loc
from farcast.clients.media.errors import MediaError
from farcast.clients.media.loc import config_of
from farcast.clients.media.offer import OfferedTrack, PublishedPackaging
from farcast.clients.media.tracks import Frame, Sample, TrackInfo

__all__ = ["Packager", "PackedObject", "config_of", "unpack"]


@dataclass(frozen=True, slots=True)
class PackedObject:
    """An object's payload and its properties (type to value; the publisher adds the capture time)."""

    payload: bytes
    properties: Mapping[int, int | bytes] = field(default_factory=dict)


class Packager:
    """Makes the objects of one track."""

    def __init__(self, track: TrackInfo, packaging: PublishedPackaging = "cmaf") -> None:
        self._track = track
        self._packaging = packaging
        self._sequence_number = 0

    def pack(self, frame: Frame) -> PackedObject:
        """The object of the next frame of this track."""
        self._sequence_number += 1
        if self._packaging == "cmaf":
            return PackedObject(cmaf.write_fragment(frame, self._sequence_number))
        payload, properties = loc.write_loc(frame, self._track)
        return PackedObject(payload, properties)


def unpack(
    track: OfferedTrack, payload: bytes, properties: Mapping[int, int | bytes], object_id: int
) -> list[Sample]:
    """The samples of an object of ``track``, in decode order; none for a mark that carries no media.

    The first object of a group is a key frame where the packaging does not say (MSF and hang demand it);
    audio frames always are. Raises :class:`MediaError` if the object is malformed.
    """
    if track.packaging == "cmaf":
        if track.init is None:
            raise MediaError(f"track {track.info.name}: CMAF without an init segment")
        return cmaf.read_fragments(payload, track.init)
    keyframe = object_id == 0 or track.info.kind == "audio"
    timescale = track.info.timescale
    if track.packaging == "loc":
        return loc.read_loc(payload, properties, keyframe, timescale)
    if track.packaging == "hang-loc":
        return loc.read_hang_loc(payload, keyframe, timescale)
    return loc.read_legacy(payload, keyframe, timescale)
