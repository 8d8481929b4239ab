"""Tracks that this edge itself publishes in ``.farcast``: the list of edges (``edges``), and what its wall
clock shows (``clock``, told to who asks: an object as JSON, ``{"unix_us": N}``).

The namespace ``.farcast`` belongs to the edges: nobody may publish under it, and it is never asked of
others, because every edge has its own copy of what is in it. Each object is a group of its own and replaces
the one before, so who subscribes gets the newest at once, whatever its filter says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from farcast.proto._core import CacheLimits, Command
from farcast.proto.agent.tracks import Source
from farcast.proto.moqt.names import FullTrackName, TrackNamespace

if TYPE_CHECKING:
    from farcast.proto.agent.hub import Hub
    from farcast.proto.agent.sourcing import Sourcing
    from farcast.proto.agent.tracks import TrackTable

OWN_NAMESPACE = TrackNamespace((b".farcast",))
EDGE_LIST = FullTrackName(OWN_NAMESPACE, b"edges")
CLOCK = FullTrackName(OWN_NAMESPACE, b"clock")
CLOCK_US_MAX = 50_000
"""What the clock shows may be so old: who asks more often costs nothing."""

PRIORITY = 0
"""Goes before all media: it is small and rare."""

CACHE_BYTES_MAX = 8 << 20
"""Of one local track: two of the largest edge lists, and room."""


def is_own_namespace(namespace: TrackNamespace) -> bool:
    """Whether nobody but an edge may publish there."""
    return namespace.starts_with(OWN_NAMESPACE)


class LocalTracks:
    """The newest object of each local track, held in the datapath."""

    def __init__(self, hub: Hub, tracks: TrackTable, sourcing: Sourcing) -> None:
        self._hub = hub
        self._tracks = tracks
        self._sourcing = sourcing
        self._newest: dict[FullTrackName, tuple[int, bytes]] = {}
        self._clock_told_us: int | None = None

    def tell_clock(self) -> None:
        """Somebody asks for `CLOCK`: what it shows now."""
        now_us, told_us = self._hub.now_us, self._clock_told_us
        if told_us is None or now_us - told_us > CLOCK_US_MAX:
            self._clock_told_us = now_us
            self.publish(CLOCK, b'{"unix_us": %d}' % (now_us + self._hub.unix_minus_clock_us))

    def publish(self, name: FullTrackName, payload: bytes) -> None:
        """Replace the object of a track; the same again is no news."""
        group, before = self._newest.get(name, (-1, b""))
        if before == payload and group >= 0:
            return
        group += 1
        self._newest[name] = (group, payload)
        track = self._tracks.by_name.get(name) or self._tracks.create(name)
        if not track.local:
            track.local = track.held = True
            limits = CacheLimits(cache_bytes_max=CACHE_BYTES_MAX, cache_groups_max=2)
            self._hub.command(Command.AddTrack(track.id, track.largest, limits))
            self._sourcing.take_local(track, Source(track, ("local", 0)))
        self._hub.command(
            Command.Publish(
                track=track.id,
                group=group,
                subgroup=0,
                object=0,
                payload=payload,
                priority=PRIORITY,
                end_of_subgroup=True,
                end_of_group=True,
            )
        )
