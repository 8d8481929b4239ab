"""What the fake datapath of `world` does about upstreams: the rules of the real one, without time or media.

The upstream of a track that is lost or silent is followed at once by its first standby that is heard, or by
the first that is heard again. A word on the hop makes the other end send, or stop; no engine hears of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from farcast.proto._core import Event

if TYPE_CHECKING:
    from .world import Host

Key: TypeAlias = tuple[int, int]
"""Session and alias."""


class Reroutes:
    """Upstreams of all tracks of one host."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._standbys: dict[int, list[tuple[int, Key]]] = {}
        self._failed: dict[int, tuple[Key, str]] = {}
        self.active: dict[int, Key] = {}
        self.silent: set[int] = set()
        self._starved: set[int] = set()
        self.mute: set[int] = set()
        """Sessions that deliver nothing: planned moves to them do not complete."""

    def standbys(self, track: int) -> list[Key]:
        """In their order."""
        return [key for _, key in self._standbys.get(track, ())]

    def stands_by(self, track: int, key: Key) -> bool:
        return key in self.standbys(track)

    # --- commands -----------------------------------------------------------------------------------

    def activated(self, track: int, key: Key) -> None:
        before = self._activate(track, key)
        self._mend(track)
        if before is not None and before in self._host.bindings:
            self._stand_by_last(track, before)

    def stood_by(self, track: int, key: Key, rank: int) -> None:
        if self.active.get(track) == key:
            return
        rest = [item for item in self._standbys.get(track, ()) if item[1] != key]
        self._standbys[track] = sorted([*rest, (rank, key)], key=lambda item: item[0])
        if track in self._failed and self._is_heard(key):
            self._switch(track, key, self._failed[track][1])

    def gone(self, track: int, key: Key) -> None:
        self._standbys[track] = [item for item in self._standbys.get(track, ()) if item[1] != key]
        if self.active.get(track) == key:
            del self.active[track]
            self._escape(track, key, "closed")

    def removed(self, track: int) -> None:
        for table in (self._standbys, self._failed, self.active):
            table.pop(track, None)

    def move(self, track: int, key: Key) -> None:
        if not self.stands_by(track, key):
            return
        self._forward(key, True)
        if key[0] not in self.mute:
            self._switch(track, key, "command")

    # --- what happens to hops -----------------------------------------------------------------------

    def silence(self, session: int, silent: bool = True) -> None:
        """The peer of a hop is silent, or heard again."""
        (self.silent.add if silent else self.silent.discard)(session)
        self._host.world.post(self._host, Event.HopSilent(session=session, silent=silent))
        for key, bound in list(self._host.bindings.items()):
            if key[0] != session:
                continue
            if silent and self.active.get(bound.track) == key:
                self._escape(bound.track, key, "silent")
            elif not silent and bound.track in self._failed:
                if self.active.get(bound.track) == key:
                    self._mend(bound.track)
                else:
                    self._switch(bound.track, key, self._failed[bound.track][1])

    # --- below --------------------------------------------------------------------------------------

    def _is_heard(self, key: Key) -> bool:
        return key[0] in self._host.wires and key[0] not in self.silent

    def _escape(self, track: int, key: Key, cause: str) -> None:
        self._failed.setdefault(track, (key, cause))
        to = next((standby for standby in self.standbys(track) if self._is_heard(standby)), None)
        if to is not None:
            self._switch(track, to, cause)
        elif key[0] not in self._host.wires or self._host.wires[key[0]].transport == "hop":
            self._tell_starved(track, True)

    def _mend(self, track: int) -> None:
        if self._failed.pop(track, None) is not None:
            self._tell_starved(track, False)

    def _tell_starved(self, track: int, starved: bool) -> None:
        if (track in self._starved) != starved:
            (self._starved.add if starved else self._starved.discard)(track)
            self._host.world.post(self._host, Event.TrackStarved(track=track, starved=starved))

    def _activate(self, track: int, key: Key) -> Key | None:
        self._standbys[track] = [item for item in self._standbys.get(track, ()) if item[1] != key]
        before = self.active.get(track)
        self.active[track] = key
        return before if before != key else None

    def _stand_by_last(self, track: int, key: Key) -> None:
        ranks = [rank for rank, _ in self._standbys.get(track, ())]
        self._standbys.setdefault(track, []).append((max(ranks, default=-1) + 1, key))

    def _switch(self, track: int, key: Key, cause: Any) -> None:
        failed = self._failed.get(track)
        before = self._activate(track, key)
        left = before or (failed[0] if failed is not None else key)
        if before is not None and before in self._host.bindings:
            self._stand_by_last(track, before)
            self._forward(before, False)
        self._forward(key, True)
        event = Event.UpstreamSwitched(
            track=track,
            from_session=left[0],
            from_alias=left[1],
            session=key[0],
            alias=key[1],
            cause=cause,
            silent_us=200_000 if cause == "silent" else 0,
        )
        self._host.world.post(self._host, event)
        self._mend(track)

    def _forward(self, key: Key, on: bool) -> None:
        """The word on the hop: from now on the downstream at its other end is fed, or not."""
        wire = self._host.wires.get(key[0])
        if wire is None or key[0] in self.silent:
            return
        other = wire.other(self._host)
        for downstream in other.downstreams.values():
            if (downstream.session, downstream.alias) == (wire.ends[other], key[1]):
                other.fed[downstream.downstream] = on
