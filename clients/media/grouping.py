"""Which frame opens a group.

Video: every key frame, so a group is a GOP and a viewer can join at each.

Audio: the first frame at or after the presentation time of each video key frame. Then groups of equal number
cover the same time (what MSF calls time-aligned), a viewer who joins gets picture and sound from the same
moment on, and there is one stream per second or two instead of fifty. Without video, or while a GOP lasts
longer, an audio group is closed after ``AUDIO_GROUP_US_MAX``.
"""

from __future__ import annotations

from collections import deque

from farcast.clients.media.tracks import Sample, TrackInfo

AUDIO_GROUP_US_MAX = 5_000_000
"""Longest audio group beside video."""
AUDIO_ONLY_GROUP_US = 1_000_000
"""Length of an audio group without video."""
_BOUNDARIES_MAX = 64


class Grouper:
    """Decides for frames in decode order, one video and one audio track mixed."""

    def __init__(self, has_video: bool) -> None:
        self._audio_limit_us = AUDIO_GROUP_US_MAX if has_video else AUDIO_ONLY_GROUP_US
        self._boundaries_us: deque[int] = deque(maxlen=_BOUNDARIES_MAX)
        self._first_boundary_open = has_video
        self._audio_started_us: int | None = None

    def starts_group(self, track: TrackInfo, sample: Sample) -> bool:
        """Whether ``sample`` opens a group of ``track``."""
        pts_us = track.to_us(sample.pts)
        if track.kind == "audio":
            return self._starts_audio_group(pts_us)
        if sample.keyframe:
            self._boundaries_us.append(pts_us)
        return sample.keyframe

    def _starts_audio_group(self, pts_us: int) -> bool:
        started_us = self._audio_started_us
        due = started_us is None or pts_us - started_us >= self._audio_limit_us
        while self._boundaries_us and self._boundaries_us[0] <= pts_us:
            self._boundaries_us.popleft()
            # Sound often starts a little before the first picture: that group goes with it.
            due = due or not self._first_boundary_open
            self._first_boundary_open = False
        if due:
            self._audio_started_us = pts_us
        return due
