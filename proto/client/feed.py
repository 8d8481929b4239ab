"""What the datapath of a viewer holds: each watched track, its sink, and which sessions feed it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from farcast.proto._core import Command
from farcast.proto.agent.config import MediaLimits
from farcast.proto.agent.downstream import STREAM_CANCELLED, cache_limits
from farcast.proto.client.watched import PRIORITY_DEFAULT, Subscription, WatchedTrack
from farcast.proto.moqt import events as moqt
from farcast.proto.moqt.values import Location
from farcast.proto.properties import DEFAULT_PUBLISHER_PRIORITY, find_integer


class Feed:
    """Commands go to the queue it is given; ``new_id`` draws ids of downstreams."""

    def __init__(self, commands: deque[Command], new_id: Callable[[], int], media: MediaLimits) -> None:
        self._commands = commands
        self._new_id = new_id
        self._media = media
        self._by_sink: dict[int, WatchedTrack] = {}

    def track_of(self, sink: int) -> WatchedTrack | None:
        """The track that is handed over by a sink."""
        return self._by_sink.get(sink)

    def bind(self, track: WatchedTrack, here: Subscription, event: moqt.SubscribeAccepted) -> None:
        """What comes of an accepted subscription goes into the track, which is held from the first one on."""
        if track.sink is None:
            cache = cache_limits(self._media)
            self._commands.append(Command.AddTrack(track=track.id, cache=cache, largest=track.largest))
            self._add_sink(track)
        self.unbind(here)
        here.alias = event.alias
        priority = find_integer(event.track_properties, DEFAULT_PUBLISHER_PRIORITY)
        self._commands.append(
            Command.BindUpstream(
                session=here.session,
                alias=event.alias,
                track=track.id,
                default_priority=PRIORITY_DEFAULT if priority is None else min(priority, 255),
                restart_allowed=_may_restart(track, event.largest),
            )
        )
        track.restarts = False

    def unbind(self, bound: Subscription) -> None:
        """What comes of a subscription is not wanted any more."""
        if bound.alias is not None:
            self._commands.append(Command.UnbindUpstream(session=bound.session, alias=bound.alias))
        bound.alias = None
        bound.delivers = False

    def restart(self, sink: int, session: int | None) -> WatchedTrack | None:
        """The track of a sink began anew: it has another sink, and is fed by this session alone."""
        track = self._by_sink.pop(sink, None)
        if track is None:
            return None
        self._commands.append(Command.RemoveDownstream(downstream=sink, code=STREAM_CANCELLED))
        track.progress.restart()
        for other in track.bound():
            if other.session != session:
                self.unbind(other)
        self._add_sink(track)
        return track

    def remove(self, track: WatchedTrack) -> None:
        """Nothing of a track is held any more."""
        for bound in track.bound():
            self.unbind(bound)
        if track.sink is not None:
            self._by_sink.pop(track.sink, None)
            self._commands.append(Command.RemoveTrack(track=track.id))

    def _add_sink(self, track: WatchedTrack) -> None:
        track.sink = self._new_id()
        self._by_sink[track.sink] = track
        self._commands.append(Command.AddSink(downstream=track.sink, track=track.id, start=(0, 0)))


def _may_restart(track: WatchedTrack, largest: Location | None) -> bool:
    """After the server said so, or where the track is now behind what has arrived of it."""
    arrived = track.largest.get()
    return track.restarts or (arrived is not None and (largest is None or largest < arrived))
