"""Tracks that nobody watches: kept for a while, then let go with whatever they hold upstream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farcast.proto._core import Command

if TYPE_CHECKING:
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sourcing import Sourcing
    from farcast.proto.agent.tracks import Track, TrackTable

_TIMERS = (
    "linger",
    "grace",
    "retry",
    "answer",
    "finish",
    "standby",
    "refused",
    "move",
    "return",
    "reroute",
    "whole",
)
"""Kinds of timers that a track may have running."""


class IdleTracks:
    """Looks at tracks whose viewers come and go."""

    def __init__(self, hub: Hub, tracks: TrackTable, sourcing: Sourcing) -> None:
        self._hub = hub
        self._tracks = tracks
        self._sourcing = sourcing

    def look(self, track: Track) -> None:
        """Somebody may have been the last one."""
        if track.local:
            return
        if track.retired:
            self.remove(track)
        elif not track.is_watched():
            self._hub.cancel_timer("grace", track.id)
            if track.source is None and track.candidate is None:
                self.remove(track)
            elif not track.ahead:
                key = ("linger", track.id, 0)
                after_us = self._hub.config.timing.track_linger_ms * 1_000
                self._hub.timers.set_if_unset(key, self._hub.now_us + after_us)

    def linger_due(self, track_id: int) -> None:
        """Nobody came back for a track: its upstream subscription ends."""
        track = self._tracks.by_id.get(track_id)
        if track is not None and not track.is_watched() and not track.ahead:
            self._sourcing.release(track)
            self.remove(track)

    def remove(self, track: Track) -> None:
        """Forget a track that has no viewer, not even one that is about to end, and no source."""
        if track.id not in self._tracks.by_id or track.waiting or track.downstreams or track.ending:
            return
        if track.local:
            return
        if track.source is not None or track.candidate is not None:
            return
        self._sourcing.release(track)
        for kind in _TIMERS:
            self._hub.cancel_timer(kind, track.id)
        self._tracks.remove(track)
        if track.held:
            self._hub.command(Command.RemoveTrack(track=track.id))
