"""Proof that every frame arrived: what was published against what was received.

An entry lives from the moment a frame is published until it is received, so that a demo may run for days.
Frames from before the viewer joined do not count.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

GROUPS_REMEMBERED_MAX = 64
"""Groups per track whose progress is remembered to tell a repeated frame from an unknown one."""

_DIGEST_BYTES = 8


@dataclass(slots=True)
class _Track:
    outstanding: dict[tuple[int, int], bytes] = field(default_factory=dict)
    next_object: dict[int, int] = field(default_factory=dict)
    joined_at: tuple[int, int] | None = None


class FrameLedger:
    """Both sides report here; the counters say how well they agree."""

    def __init__(self) -> None:
        self.frames_intact = 0
        self.frames_corrupt = 0
        self.frames_repeated = 0
        self.frames_disordered = 0
        self.frames_unknown = 0
        self._tracks: dict[str, _Track] = {}

    @property
    def frames_missing(self) -> int:
        """Published after the viewer joined, and not there (yet)."""
        return sum(len(track.outstanding) for track in self._tracks.values() if track.joined_at is not None)

    def missing(self) -> list[tuple[str, int, int]]:
        """Which ones: track, group and object, in order."""
        joined = {name: track for name, track in self._tracks.items() if track.joined_at is not None}
        return sorted((name, *key) for name, track in joined.items() for key in track.outstanding)

    @property
    def is_intact(self) -> bool:
        """Every frame arrived once, in order, unchanged; and there was at least one."""
        faults = (
            self.frames_missing
            + self.frames_corrupt
            + self.frames_repeated
            + self.frames_disordered
            + self.frames_unknown
        )
        return self.frames_intact > 0 and faults == 0

    def published(self, track: str, group: int, object: int, payload: bytes) -> None:
        """A frame leaves the publisher."""
        self._track(track).outstanding[group, object] = _digest(payload)

    def received(self, track: str, group: int, object: int, payload: bytes) -> None:
        """A frame reached the viewer."""
        entry = self._track(track)
        if entry.joined_at is None:
            self._join(entry, (group, object))
        expected = entry.outstanding.pop((group, object), None)
        next_object = entry.next_object.get(group, object)
        if expected is None:
            repeated = object < next_object
            self.frames_repeated += repeated
            self.frames_unknown += not repeated
            return
        self.frames_intact += expected == _digest(payload)
        self.frames_corrupt += expected != _digest(payload)
        self.frames_disordered += object != next_object
        entry.next_object[group] = object + 1
        if len(entry.next_object) > GROUPS_REMEMBERED_MAX:
            del entry.next_object[min(entry.next_object)]

    def _track(self, name: str) -> _Track:
        return self._tracks.setdefault(name, _Track())

    @staticmethod
    def _join(track: _Track, location: tuple[int, int]) -> None:
        track.joined_at = location
        for earlier in [key for key in track.outstanding if key < location]:
            del track.outstanding[earlier]


def _digest(payload: bytes) -> bytes:
    return hashlib.blake2b(payload, digest_size=_DIGEST_BYTES).digest()
