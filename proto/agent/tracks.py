"""The agent's tracks: what a track is made of, and the tables to find its parts.

A track lives as long as somebody watches it (and a little longer). Its life:

``seeking``   a source is looked for; the subscribers wait (``waiting``)
``live``      one source feeds it (``source``); each viewer is a ``Downstream``
``grace``     the source is lost; viewers stay, a new source is looked for (``candidate``)
``lingering`` nobody watches any more; the source is kept for the next viewer
``retired``   over: no longer found by its name, only waits for its last downstreams to finish

A source that is to replace a live one (``candidate`` while there is a ``source``) is bound before the
old one is let go, so that no object is missed in between. Where the source is an edge of the plan, another
edge stands by (``standbys``), and the datapath may make it the source at any moment (see `standby`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from farcast.proto._core import LargestCell
from farcast.proto.moqt.values import Location

if TYPE_CHECKING:
    from farcast.proto.moqt.errors import PublishDoneCode
    from farcast.proto.moqt.names import FullTrackName
    from farcast.proto.moqt.values import Filter, GroupOrder
    from farcast.proto.properties import Properties

SourceKey: TypeAlias = tuple[Literal["publication", "announcer", "upstream", "local"], int]
"""Whom a track can come from: a session that published it or announced its namespace, the upstream of
this index, or this edge itself."""


@dataclass(slots=True, eq=False)
class Publication:
    """One PUBLISH of a session: a track that it would send at once. ``forward``: as we told it last."""

    session: int
    request: int
    name: FullTrackName
    alias: int
    largest: Location | None
    properties: Properties
    forward: bool


@dataclass(slots=True, eq=False)
class Source:
    """One upstream subscription of a track, asked for or live.

    ``session`` and ``request`` are ``None`` until an upstream is connected. ``route``: the node ids
    between the publisher and us, its edge first; empty where the publisher is here. ``stale``: the edge above
    wants it to be asked for again, because its own route is another one now. ``is_whole``: asked for from its
    beginning, because it is behind what was held here; ``whole_from``: that of its running group then.
    ``begins``: the place from which it sends, as far as that is known.
    ``priority``: with which it was asked last (``None``: that of the drafts).
    ``sends``: a standby that the datapath has send beside the source, as a second path.
    """

    track: Track
    key: SourceKey
    session: int | None = None
    request: int | None = None
    alias: int | None = None
    publication: Publication | None = None
    rendezvous: bool = False
    resumed_from: Location | None = None
    route: tuple[str, ...] = ()
    incarnation: str = ""
    is_whole: bool = False
    whole_from: Location | None = None
    begins: Location | None = None
    stale: bool = False
    priority: int | None = None
    sends: bool = False

    @property
    def binding(self) -> tuple[int, int] | None:
        """Session and alias of its objects, once it is answered."""
        if self.session is None or self.alias is None:
            return None
        return self.session, self.alias


@dataclass(frozen=True, slots=True)
class PlannedMove:
    """A track is on its way from its source to one of its standbys; ``largest``: of the track, when it
    began."""

    to: Source
    largest: tuple[int, int] | None


@dataclass(slots=True, eq=False)
class Pending:
    """A SUBSCRIBE that waits for its track; ``rendezvous_until_us`` where the subscriber asked to wait."""

    session: int
    request: int
    track: Track
    filter: Filter | None
    priority: int
    group_order: GroupOrder | None
    forward: bool
    hop_path: tuple[str, ...]
    rendezvous_until_us: int | None = None


@dataclass(slots=True, eq=False)
class Downstream:
    """An accepted subscription. ``ending`` is what PUBLISH_DONE will say once the datapath has finished.

    ``forward``: whether it gets anything, as far as the subscriber told; a hop's standby is paused.
    ``route``: of the track, as the subscriber was told it (see `Track.route`).
    """

    id: int
    session: int
    request: int
    track: Track
    filter: Filter | None
    start: Location
    hop_path: tuple[str, ...]
    forward: bool = True
    route: tuple[str, ...] = ()
    ending: tuple[PublishDoneCode, str] | None = None


@dataclass(slots=True, eq=False)
class Track:
    """One track; see the module's text.

    ``reported``: largest location in the source's own words. ``held``: the datapath knows the track.
    ``bound``: session and alias that feed it. ``tried``: candidates that refused in this round.
    ``ending``: what its viewers will be told when late streams have had their time. ``lost_upstream``: the
    last source was an upstream, so that it may only be the way that is lost. ``local``: published by
    this edge. ``standbys``: asked or bound, beside the source. ``move``: the planned one under way.
    ``refused_until``: when those may be asked again, microseconds, that would not stand by. ``return_us``:
    before then the plan's parent is not taken again after ``escapes`` from it, the last at ``escaped_us``.
    ``starved``: no upstream edge can give it now, as the datapath says. ``ahead``: kept though nobody
    watches; ``idle_priority``: asked for with this subscriber priority meanwhile. ``below``: those of
    ``downstreams`` that are edges; there may be very many others.
    """

    id: int
    name: FullTrackName
    largest: LargestCell = field(default_factory=LargestCell)
    reported: Location | None = None
    properties: Properties = ()
    held: bool = False
    retired: bool = False
    source: Source | None = None
    candidate: Source | None = None
    bound: tuple[int, int] | None = None
    incarnation: str = ""
    lost_upstream: bool = False
    ending: tuple[PublishDoneCode, str] | None = None
    tried: set[SourceKey] = field(default_factory=set)
    retries: int = 0
    local: bool = False
    standbys: list[Source] = field(default_factory=list)
    move: PlannedMove | None = None
    refused_until: dict[SourceKey, int] = field(default_factory=dict)
    return_us: int = 0
    escapes: int = 0
    escaped_us: int = 0
    starved: bool = False
    ahead: bool = False
    idle_priority: int | None = None
    waiting: dict[tuple[int, int], Pending] = field(default_factory=dict)
    downstreams: dict[int, Downstream] = field(default_factory=dict)
    below: dict[int, Downstream] = field(default_factory=dict)

    def largest_location(self) -> Location | None:
        """The larger of what the source reported and what has arrived; the shared cell is read once."""
        arrived = self.largest.get()
        if arrived is None:
            return self.reported
        return max(Location(*arrived), self.reported or Location(0, 0))

    def active_downstreams(self) -> list[Downstream]:
        """Those that are not about to end."""
        return [d for d in self.downstreams.values() if d.ending is None]

    def is_watched(self) -> bool:
        """Whether anybody has or wants the track."""
        return bool(self.waiting) or any(d.ending is None for d in self.downstreams.values())

    def is_taken(self) -> bool:
        """Whether anybody gets the track now; those who only stand by do not."""
        return any(d.forward and d.ending is None for d in self.downstreams.values())

    def edges_below(self) -> list[Downstream]:
        """Those of edges that are not about to end."""
        return [d for d in self.below.values() if d.ending is None]

    def route(self) -> tuple[str, ...]:
        """The incarnation and the nodes on the way here: what an edge below has to know."""
        return (self.incarnation, *(self.source.route if self.source is not None else ()))

    def phase(self) -> str:
        """The word of the module's text."""
        if self.retired:
            return "retired"
        if self.source is not None:
            return "live" if self.is_watched() else "lingering"
        return "grace" if self.downstreams else "seeking"


class TrackTable:
    """Tracks, downstreams and publications by their keys."""

    def __init__(self) -> None:
        self.by_id: dict[int, Track] = {}
        self.by_name: dict[FullTrackName, Track] = {}
        self.downstreams: dict[int, Downstream] = {}
        self.publications: dict[FullTrackName, list[Publication]] = {}
        self.bindings: dict[int, dict[int, Track]] = {}
        self.publication_changes = 0
        self._next_track = 1
        self._next_downstream = 1

    def create(self, name: FullTrackName) -> Track:
        """A new track under a name that has none."""
        track = Track(self._next_track, name)
        self._next_track += 1
        self.by_id[track.id] = track
        self.by_name[name] = track
        return track

    def retire(self, track: Track) -> None:
        """The name is free for a new track; this one stays until its downstreams are gone."""
        track.retired = True
        if self.by_name.get(track.name) is track:
            del self.by_name[track.name]

    def remove(self, track: Track) -> None:
        """Forget a track altogether."""
        self.retire(track)
        self.by_id.pop(track.id, None)

    def bound_to(self, session: int, alias: int) -> Track | None:
        """The track that objects with this alias in this session feed."""
        return self.bindings.get(session, {}).get(alias)

    def bind(self, session: int, alias: int, track: Track, *, standby: bool = False) -> None:
        """Note that objects with this alias in this session feed the track, or would."""
        self.bindings.setdefault(session, {})[alias] = track
        if not standby:
            track.bound = (session, alias)

    def unbind(self, session: int, alias: int) -> None:
        """Forget a binding."""
        aliases = self.bindings.get(session, {})
        track = aliases.pop(alias, None)
        if not aliases:
            self.bindings.pop(session, None)
        if track is not None and track.bound == (session, alias):
            track.bound = None

    def new_downstream_id(self) -> int:
        """Ids are never used twice."""
        self._next_downstream += 1
        return self._next_downstream - 1

    def add_publication(self, publication: Publication) -> None:
        """The oldest publication of a name is the one in use."""
        self.publication_changes += 1
        self.publications.setdefault(publication.name, []).append(publication)

    def remove_publication(self, publication: Publication) -> None:
        """Forget a PUBLISH."""
        self.publication_changes += 1
        left = [p for p in self.publications.get(publication.name, ()) if p is not publication]
        if left:
            self.publications[publication.name] = left
        else:
            self.publications.pop(publication.name, None)
