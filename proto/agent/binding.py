"""What the datapath knows of a track's upstreams: which one feeds it, and which ones stand by."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farcast.proto._core import Command
from farcast.proto.agent.downstream import cache_limits
from farcast.proto.properties import DEFAULT_PUBLISHER_PRIORITY, find_integer

if TYPE_CHECKING:
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.tracks import Source, Track, TrackTable

PRIORITY_DEFAULT = 128


class Bindings:
    """Binds and unbinds; every change is told to the datapath at once."""

    def __init__(self, hub: Hub, tracks: TrackTable) -> None:
        self._hub = hub
        self._tracks = tracks

    def bind(self, track: Track, source: Source, *, restart_allowed: bool) -> None:
        """Let a source feed the track; the one before is unbound after."""
        session, alias = self._free(source)
        if not track.held:
            track.held = True
            self._hub.command(Command.AddTrack(track.id, track.largest, cache_limits(self._hub.config.media)))
        before = track.bound
        self._tracks.bind(session, alias, track)
        self._hub.command(
            Command.BindUpstream(
                session=session,
                alias=alias,
                track=track.id,
                default_priority=_priority(track),
                restart_allowed=restart_allowed,
            )
        )
        if before is not None and before != track.bound:
            self._unbind_key(before)

    def stand_by(self, track: Track, source: Source, rank: int) -> None:
        """Let a source take over when the one that feeds the track fails."""
        session, alias = self._free(source)
        self._tracks.bind(session, alias, track, standby=True)
        self._hub.command(
            Command.BindStandby(
                session=session, alias=alias, track=track.id, default_priority=_priority(track), rank=rank
            )
        )

    def unbind(self, track: Track) -> None:
        """Objects of the alias that feeds the track are no longer wanted."""
        if track.bound is not None:
            self._unbind_key(track.bound)

    def unbind_source(self, source: Source) -> None:
        """Objects of this source are no longer wanted."""
        binding = source.binding
        if binding is not None and self._tracks.bound_to(*binding) is source.track:
            self._unbind_key(binding)

    def _free(self, source: Source) -> tuple[int, int]:
        """The source's session and alias, which no other track has any more."""
        assert source.binding is not None
        if self._tracks.bound_to(*source.binding) not in (None, source.track):
            self._unbind_key(source.binding)
        return source.binding

    def _unbind_key(self, binding: tuple[int, int]) -> None:
        self._tracks.unbind(*binding)
        self._hub.command(Command.UnbindUpstream(session=binding[0], alias=binding[1]))


def _priority(track: Track) -> int:
    priority = find_integer(track.properties, DEFAULT_PUBLISHER_PRIORITY)
    return PRIORITY_DEFAULT if priority is None else min(priority, 255)
