"""Counts the frames of a track that never came.

Inside a group, object ids are consecutive: a jump is a hole of known size. Between groups they start over, so
there the presentation times tell: a group begins where the one before ended, give or take pictures that are
decoded after a key frame and shown before it. A frame that comes late fills a hole again.
"""

from __future__ import annotations


class GapMeter:
    """Watches one track. Times in microseconds."""

    def __init__(self) -> None:
        self._group: int | None = None
        self._object_id = 0
        self._group_pts_us = 0
        self._end_us = 0
        self.missing = 0
        self.gaps = 0
        self.late = 0
        self.duplicates = 0

    def handle_frame(self, group: int, object_id: int, pts_us: int, duration_us: int) -> bool:
        """Note a frame; False if it is a duplicate or came behind a newer group."""
        if self._group is None or group > self._group:
            self._begin_group(group, object_id, pts_us, duration_us)
        elif group < self._group:
            self.late += 1
            self.missing = max(self.missing - 1, 0)
            return False
        elif object_id <= self._object_id:
            self.duplicates += 1
            return False
        else:
            self._note(object_id - self._object_id - 1)
            if pts_us < self._group_pts_us:
                self.missing = max(self.missing - 1, 0)
        self._object_id = object_id
        self._end_us = max(self._end_us, pts_us + duration_us)
        return True

    def handle_restart(self) -> None:
        """The publisher started over: group numbers and times may begin anew."""
        self._group = None

    def _begin_group(self, group: int, object_id: int, pts_us: int, duration_us: int) -> None:
        if self._group is not None and duration_us > 0:
            hole_us = pts_us - self._end_us
            self._note(max(hole_us + duration_us // 2, 0) // duration_us)
        elif self._group is not None:
            self._note(object_id)
        self._group, self._group_pts_us = group, pts_us
        self._end_us = pts_us

    def _note(self, missing: int) -> None:
        if missing > 0:
            self.gaps += 1
            self.missing += missing
