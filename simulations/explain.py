"""Where the time went: a picture's way from light to light, hop by hop.

What is known of an object is when its first and its last byte came to each host that was traced
(`RawResult.object_hops`), and what the player made of it. Between two hosts the time from last byte to last
byte is taken apart, in this order:

- *propagation*: the fastest that any first byte took over that leg in the whole run;
- *sending*: what its size takes on that leg. How long the last byte of an object comes after its first grows
  with its size; the slope that one object in ten stays below is the leg's rate;
- *repair*: what is left, if it is a round trip or more (nothing is repaired in less) and the objects just
  before it did not wait like that: a queue grows, a loss comes out of nothing;
- *queue*: what is left otherwise. Jitter of the path counts here.

So the parts of a leg are exact in sum and an estimate one by one: what waits behind a repair on the same
stream counts as queue, and so does a path that got longer. The way is followed from the viewer's edge
upstream, over paths that carried bytes, to the host where the object was first, preferring the one whose
distance explains best when it came.

At the viewer: *order* (what came before was not there yet), *decoding*, *jitter buffer*, *screen*; at the
publisher: *camera* and *encoding*. All parts together are the time from glass to glass, exactly.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from farcast.simulations.constants import CAPTURE_US, RENDER_US
from farcast.simulations.raw import Array, LinkUse, RawResult
from farcast.simulations.views import FrameIndex, View, views_of

What = Literal[
    "camera",
    "encoding",
    "propagation",
    "sending",
    "repair",
    "queue",
    "order",
    "decoding",
    "jitter buffer",
    "screen",
]

LEGS_MAX: Final = 8
BEFORE: Final = 5
"""So many objects before one tell a queue from a repair."""
UPSTREAM_BYTES_SHARE: Final = 0.1
"""Of the bytes of the busiest path to an edge; paths that carried less brought it no media worth
following."""

SENDING_BYTES_MIN: Final = 4_000
"""Objects of less, three packets, say nothing about a leg's rate."""

RATE_QUANTILE: Final = 0.1
SLOWEST_SHARE: Final = 0.01

Place = tuple[int, int, int]
"""Track, group, object."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some of an object's time. ``where``: a leg (``fra-1 > sin-1``), a client."""

    where: str
    what: What
    length_us: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """One picture at one viewer; ``parts`` in the order of time, their sum is ``total_us``."""

    viewer: str
    publisher: str
    track: str
    group: int
    object: int
    captured_us: int
    shown_us: int
    total_us: int
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Share:
    """The mean of a part over all pictures, and over the slowest hundredth of them; microseconds."""

    where: str
    what: What
    mean_us: float
    slowest_us: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a viewer's pictures spent their time with; the means of ``shares`` add up to those of the
    whole."""

    viewer: str
    publisher: str
    pictures: int
    mean_us: float
    slowest_us: float
    shares: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class _Hop:
    first_us: int
    last_us: int


class Explainer:
    """Takes the times of one traced run apart. ``ValueError`` for a run without traces."""

    def __init__(self, raw: RawResult) -> None:
        if raw.object_hops.size == 0:
            raise ValueError("nothing was traced in this run: there are no times of objects at hosts")
        self._raw = raw
        self._index = FrameIndex(raw)
        places = _places(raw.frames)
        self._bytes = dict(zip(places, raw.frames["bytes"].tolist(), strict=True))
        self._captured_us = dict(zip(places, raw.frames["capture_us"].tolist(), strict=True))
        self._hops = _hops(raw)
        self._upstreams = _upstreams(raw)
        self._legs: dict[tuple[str, str], _Leg] = {}
        self._predecessors = _predecessors(raw)

    def viewers(self) -> list[str]:
        """Names of all viewers."""
        return [client.client for client in self._raw.clients if client.kind == "viewer"]

    def timelines(self, viewer: str) -> Iterator[Timeline]:
        """Every picture that a viewer was shown while live, in the order of showing.

        ``KeyError`` for a name that no viewer has.
        """
        client = next((each for each in self._raw.clients if each.client == viewer), None)
        if client is None or client.kind != "viewer":
            raise KeyError(viewer)
        for view in views_of(self._raw, client, self._index):
            for place, number in _shown_live(view):
                yield self._timeline(view, place, number)

    def explain(self, viewer: str) -> list[Explanation]:
        """All of a viewer's pictures together, by publisher. ``KeyError`` for a name that no viewer has."""
        by_publisher: dict[str, list[Timeline]] = defaultdict(list)
        for timeline in self.timelines(viewer):
            by_publisher[timeline.publisher].append(timeline)
        return [_explain(timelines) for timelines in by_publisher.values()]

    def _timeline(self, view: View, place: Place, number: int) -> Timeline:
        playout, feed = view.playout, view.video
        at = int(np.flatnonzero(playout.shown == number)[0])
        captured_us, arrived_us = int(feed.capture_us[number]), int(feed.arrival_us[number])
        decoded_us, shown_us = int(playout.decoded_us[at]), int(playout.shown_us[at])
        track = self._raw.tracks[place[0]]
        client, publisher = view.client.client, view.publisher
        parts = [Part(publisher, "camera", CAPTURE_US)]
        parts.append(Part(publisher, "encoding", track.encode_us + view.encode_us))
        handed_us = captured_us + track.encode_us
        parts += self._way(view, place, handed_us, arrived_us)
        parts.append(Part(client, "decoding", decoded_us - arrived_us))
        parts.append(Part(client, "jitter buffer", shown_us - RENDER_US - decoded_us))
        parts.append(Part(client, "screen", RENDER_US))
        return Timeline(
            viewer=client,
            publisher=publisher,
            track=track.name,
            group=place[1],
            object=place[2],
            captured_us=captured_us,
            shown_us=shown_us,
            total_us=shown_us - captured_us + CAPTURE_US + view.encode_us,
            parts=tuple(part for part in parts if part.length_us),
        )

    def _way(self, view: View, place: Place, handed_us: int, arrived_us: int) -> Iterator[Part]:
        """The legs from the publisher to the viewer; where nothing is known in between, one leg."""
        client = view.client.client
        hops = self._hops.get(place, {})
        there = hops.get(client, _Hop(arrived_us, arrived_us))
        chain: list[tuple[str, _Hop]] = [(client, there)]
        here = _edge_at(view, there.last_us)
        while here in hops and len(chain) < LEGS_MAX and here not in dict(chain):
            chain.append((here, hops[here]))
            here = self._upstream(here, hops) or ""
        chain.append((view.publisher, _Hop(handed_us, handed_us)))
        chain.reverse()
        before_us = handed_us
        for (src, source), (dst, target) in pairwise(chain):
            last_us = max(min(target.last_us, arrived_us), before_us)
            yield from self._leg(src, dst).parts(place, source, target, last_us - before_us)
            before_us = last_us
        yield Part(client, "order", arrived_us - before_us)

    def _upstream(self, edge: str, hops: dict[str, _Hop]) -> str | None:
        """The edge that an edge had an object from."""
        arrived_us = hops[edge].first_us
        found = [
            (abs(arrived_us - hops[link.src].first_us - round(link.rtt_ms * 500)), link.src)
            for link in self._upstreams.get(edge, ())
            if link.src in hops and hops[link.src].first_us < arrived_us
        ]
        return min(found)[1] if found else None

    def _leg(self, src: str, dst: str) -> _Leg:
        found = self._legs.get((src, dst))
        if found is None:
            found = self._legs[src, dst] = _Leg(src, dst, self._crossings(src, dst), self._predecessors)
        return found

    def _crossings(self, src: str, dst: str) -> dict[Place, _Crossing]:
        """Every object that both ends of a leg had, the source first."""
        found = {}
        for place, hops in self._hops.items():
            source = hops.get(src) or self._handed(src, place)
            target = hops.get(dst)
            if source is not None and target is not None and target.first_us >= source.first_us:
                found[place] = _Crossing(
                    first_us=target.first_us - source.first_us,
                    last_us=target.last_us - source.last_us,
                    spread_us=(target.last_us - target.first_us) - (source.last_us - source.first_us),
                    size_bytes=self._bytes.get(place, 0),
                )
        return found

    def _handed(self, publisher: str, place: Place) -> _Hop | None:
        track = self._raw.tracks[place[0]]
        captured_us = self._captured_us.get(place)
        if track.publisher != publisher or captured_us is None:
            return None
        return _Hop(captured_us + track.encode_us, captured_us + track.encode_us)


@dataclass(frozen=True, slots=True)
class _Crossing:
    """One object over one leg: what its first byte took, its last byte, by how much it was drawn out."""

    first_us: int
    last_us: int
    spread_us: int
    size_bytes: int


class _Leg:
    """What crossed a leg, and what of that time was distance and size."""

    def __init__(
        self, src: str, dst: str, crossings: dict[Place, _Crossing], before: dict[Place, list[Place]]
    ) -> None:
        self._name = f"{src} > {dst}"
        self._crossings = crossings
        self._before = before
        self._propagation_us = min((each.first_us for each in crossings.values()), default=0)
        slopes = [
            max(each.spread_us, 0) / each.size_bytes
            for each in crossings.values()
            if each.size_bytes >= SENDING_BYTES_MIN
        ]
        self._us_a_byte = float(np.quantile(slopes, RATE_QUANTILE)) if slopes else 0.0

    def parts(self, place: Place, source: _Hop, target: _Hop, took_us: int) -> Iterator[Part]:
        """The parts of one object's time over this leg."""
        crossing = self._crossings.get(place)
        propagation_us = min(self._propagation_us or took_us, took_us)
        left_us = took_us - propagation_us
        size_bytes = 0 if crossing is None else crossing.size_bytes
        sending_us = min(round(self._us_a_byte * size_bytes), left_us)
        left_us -= sending_us
        repaired = left_us >= max(2 * self._propagation_us, 1) and not self._is_queue(place, left_us)
        yield Part(self._name, "propagation", propagation_us)
        yield Part(self._name, "sending", sending_us)
        yield Part(self._name, "repair" if repaired else "queue", left_us)

    def _is_queue(self, place: Place, waited_us: int) -> bool:
        """Whether the objects before one waited about as long."""
        waits = [
            self._crossings[other].last_us - self._propagation_us
            for other in self._before.get(place, ())
            if other in self._crossings
        ]
        return bool(waits) and float(np.median(waits)) > waited_us / 2


def _edge_at(view: View, at_us: int) -> str:
    """The edge that a viewer was with at a time."""
    name = ""
    for since_us, edge in view.client.edges:
        if since_us <= at_us or not name:
            name = edge
    return name


def _shown_live(view: View) -> Iterator[tuple[Place, int]]:
    """What a view was shown of what was captured live: what it is, and its place in the feed."""
    for number in view.playout.shown.tolist():
        if view.video.capture_us[number] >= view.playout.live_from_us:
            frame = view.pictures[number]
            yield (int(frame["track"]), int(frame["group"]), int(frame["object"])), number


def _places(rows: Array) -> list[Place]:
    return list(zip(rows["track"].tolist(), rows["group"].tolist(), rows["object"].tolist(), strict=True))


def _hops(raw: RawResult) -> dict[Place, dict[str, _Hop]]:
    """By object, the hosts that had it."""
    found: dict[Place, dict[str, _Hop]] = defaultdict(dict)
    rows = raw.object_hops
    times = zip(rows["host"].tolist(), rows["first_us"].tolist(), rows["last_us"].tolist(), strict=True)
    for place, (host, first_us, last_us) in zip(_places(rows), times, strict=True):
        found[place].setdefault(raw.hosts[host], _Hop(first_us, last_us))
    return dict(found)


def _upstreams(raw: RawResult) -> dict[str, list[LinkUse]]:
    """By edge, the paths over which it had media: those that carried more than heartbeats."""
    found: dict[str, list[LinkUse]] = defaultdict(list)
    most: dict[str, int] = defaultdict(int)
    hops = [link for link in raw.links if link.kind == "hop"]
    for link in hops:
        most[link.dst] = max(most[link.dst], link.bytes)
    for link in hops:
        if link.bytes and link.bytes >= UPSTREAM_BYTES_SHARE * most[link.dst]:
            found[link.dst].append(link)
    return dict(found)


def _predecessors(raw: RawResult) -> dict[Place, list[Place]]:
    """By object, those of its track just before it."""
    found: dict[Place, list[Place]] = {}
    frames = raw.frames[np.lexsort((raw.frames["capture_us"], raw.frames["track"]))]
    places = _places(frames)
    for number, place in enumerate(places):
        found[place] = [other for other in places[max(number - BEFORE, 0) : number] if other[0] == place[0]]
    return found


def _explain(timelines: Sequence[Timeline]) -> Explanation:
    totals = np.array([timeline.total_us for timeline in timelines], np.float64)
    slowest = np.argsort(-totals, kind="stable")[: max(int(len(timelines) * SLOWEST_SHARE), 1)]
    lengths: dict[tuple[str, What], NDArray[np.float64]] = {}
    for number, timeline in enumerate(timelines):
        for part in timeline.parts:
            key = part.where, part.what
            row = lengths.setdefault(key, np.zeros(len(timelines)))
            row[number] += part.length_us
    shares = (
        Share(where, what, float(row.mean()), float(row[slowest].mean()))
        for (where, what), row in lengths.items()
    )
    return Explanation(
        viewer=timelines[0].viewer,
        publisher=timelines[0].publisher,
        pictures=len(timelines),
        mean_us=float(totals.mean()),
        slowest_us=float(totals[slowest].mean()),
        shares=tuple(shares),
    )
