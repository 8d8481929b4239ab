"""What must hold at every moment of every run (reliability.md §4), whatever the scenario promises.

====================  ==============================================================================
no-cycle              no track goes round in a circle of edges, but while they cannot know it (`Rounds`);
                      edges that wait for one another know that nothing comes
once-in-order         each object at most once per subscription, and in order inside its subgroup
queues-bounded        what edges hold for others, and what waits on links, stays within its named limits
plans-rise            an edge never takes an older plan, nor one twice
never-without-routes  an edge that had routes never follows a plan without any
authorised-only       who has no token for it gets no object, no track, and may announce nothing
newest-group          when all faults have long been over, every viewer that an edge can serve has the
                      newest group, or a catalog at least; also one that never got anything
no-exception          no engine raises
====================  ==============================================================================

When each is looked at:

- After every return to Python (`look`), so at each event of an agent, each timeout of an engine, each
  message of the control channel and each plan: *no-cycle*, *plans-rise*, *never-without-routes*,
  *authorised-only*. What they judge changes at no other moment: whoever switches an upstream, takes a plan
  or answers an intruder returns.
- For every object, at its own time: *once-in-order*. The kernel keeps a record of each; those are read in
  one go ten times a second and at the end (`check_records`), for a return to Python for each object would
  cost more than all else.
- For every packet: what waits on links. The kernel keeps the peak of each link, judged at the end
  (`check_links`).
- At every look that the datapath itself takes at a queue that is blocked (every 100 ms, where it enforces
  the limit), and at every byte of the caches: the rest of *queues-bounded*. The datapath keeps both peaks,
  and tells them with each report of its edge, once a second; an edge that crashes takes with it what it has
  not told.
- Ten times a second while all is calm, and at the end: *newest-group*. It says what must become true, not
  what must always be.
- At once: *no-exception*; it ends the run.

That the same seed gives the same trace is for whoever runs twice. Each check takes plain data, so that a test
can show it a violation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from farcast.proto.agent.config import MediaLimits
from farcast.proto.client import events as client
from farcast.proto.moqt.names import FullTrackName
from farcast.simulations.raw import Array, Violation

if TYPE_CHECKING:
    from farcast.simulations.edge_host import EdgeHost
    from farcast.simulations.network import Network

VIOLATIONS_MAX: Final = 200
GROUPS_BEHIND_MAX: Final = 3
"""After a calm phase a viewer is at most so many groups behind what is being published."""

LOSSY: Final = 0.06
"""An access that loses as much (of RFC 8868's set nothing is promised there) may starve for a while and is
not cut off: a viewer there is found when it is `LOSSY_BEHIND_US` behind. Its stalls say what it suffers."""

LOSSY_BEHIND_US: Final = 15_000_000

JOINED_US: Final = 8_000_000
"""Who came more lately than this is not asked for the newest group yet."""

ASKED_US: Final = 3_000_000
"""A rendition that was asked for more lately than this may still be on its way."""

CACHE_BYTES_MAX: Final = 1 << 30
"""`DatapathConfig.cache_total_bytes_max` of an edge as configured here."""

CIRCLE_MARGIN_US: Final = 50_000
"""A heartbeat, by which an edge may learn what its peer is fed by."""

QUEUE_SLACK_BYTES: Final = 1 << 20
"""A limit is looked at when an object comes: one object may stand above it."""


class Invariants:
    """Watches one network; ``violations`` are the first `VIOLATIONS_MAX` of each run, once each."""

    def __init__(self, network: Network) -> None:
        self.violations: list[Violation] = []
        self.checks = 0
        """Looks so far."""
        self._network = network
        self._seen: set[tuple[str, str]] = set()
        self._feeds: dict[str, Feeds] = {}
        self._plans_seen: dict[str, int] = {}
        self._turning = Rounds(self._way_us)
        """Circles in which nobody has given way."""
        self._believed = Rounds(self._way_us, ways_max=2)
        """Circles in which not everybody knows that nothing comes."""

    def report(self, at_us: int, invariant: str, texts: Iterable[str]) -> None:
        """Keep what did not hold."""
        for text in texts:
            if (invariant, text) not in self._seen and len(self.violations) < VIOLATIONS_MAX:
                self._seen.add((invariant, text))
                self.violations.append(Violation(at_us, invariant, text))

    def look(self, now_us: int) -> None:
        """After a return to Python: what may have changed by it."""
        self.checks += 1
        changed = False
        for node_id, edge in self._network.edges.items():
            if not edge.is_running:
                changed |= self._feeds.pop(node_id, None) is not None
                self._plans_seen.pop(node_id, None)
                continue
            if self._plans_seen.get(node_id) != len(edge.plans):
                self._plans_seen[node_id] = len(edge.plans)
                self._look_at_plans(node_id, edge, now_us)
            before = self._feeds.get(node_id)
            if before is None or before.changes != edge.changes:
                self._feeds[node_id] = Feeds(edge.changes, edge.agent.feeds(), edge.agent.starved())
                self.report(now_us, "queues-bounded", edge.take_overflows())
                changed = True
        if changed:
            found = cycles({node_id: feeds.sources for node_id, feeds in self._feeds.items()})
            starved = {node_id: feeds.starved for node_id, feeds in self._feeds.items()}
            self._turning.note([circle for circle in found if not any(aware(circle, starved))], now_us)
            self._believed.note([circle for circle in found if not all(aware(circle, starved))], now_us)
        for rounds in (self._turning, self._believed):
            self.report(now_us, "no-cycle", rounds.lasting(now_us))
        for name, intruder in self._network.intruders:
            self.report(now_us, "authorised-only", served(name, iter(intruder.poll_event, None)))

    def _look_at_plans(self, node_id: str, edge: EdgeHost, now_us: int) -> None:
        """The edge has taken a plan."""
        self.report(now_us, "plans-rise", falling_plans(node_id, edge.plans))
        plan = edge.agent.plan
        if plan is not None:
            edge.had_routes |= bool(plan.routes)
            if edge.had_routes and not plan.routes:
                self.report(now_us, "never-without-routes", [f"{node_id} follows {plan.version}"])

    def _way_us(self, src: str, dst: str) -> int:
        """One way between two edges, as it is now."""
        edges, paths = self._network.edges, self._network.paths
        ends = edges[src].host, edges[dst].host
        return paths.model(*ends).median_delay_us if ends in paths else 0

    def check_records(self) -> None:
        """Every object that viewers got since the last call."""
        for name, viewer in self._network.viewers.items():
            viewer.take_records()
            for chunk in viewer.take_unchecked():
                for at_us, text in viewer.order.disorder(name, chunk):
                    self.report(at_us, "once-in-order", [text])

    def check_links(self, now_us: int) -> None:
        """What waited on links at most (at the end of a run)."""
        paths, world = self._network.paths, self._network.twin.world
        for src, dst in paths:
            model = paths.model(src, dst)
            peak = world.link_stats(src, dst)["queue_bytes_peak"]
            if not model.rate_schedule and model.rate_bps is not None and peak > model.queue_bytes:
                text = f"link {src} to {dst}: {peak} bytes waited, its queue is {model.queue_bytes}"
                self.report(now_us, "queues-bounded", [text])

    def check_newest(self, now_us: int, hampered: Collection[str] = ()) -> None:
        """Whether every viewer has the newest group of all that it watches, and has a catalog in the first
        place. Not asked of who came within `JOINED_US`, knows no edge that runs, or is among the
        ``hampered``, whose access is still broken. Who was told that a track is over (its publisher was away
        longer than an edge waits) watches no more; its trace says so.
        """
        network = self._network
        newest = {
            network.first_track[name] + k: publisher.newest(now_us).get(track.info.name, 0)
            for name, publisher in network.publishers.items()
            if publisher.began_us is not None and not publisher.ended
            for k, track in enumerate(publisher.film.tracks)
        }
        for name, viewer in network.viewers.items():
            log = viewer.log
            if log.left_us is not None or now_us - log.tapped_us < JOINED_US or name in hampered:
                continue
            if not self._can_be_served(name):
                continue
            self.report(now_us, "newest-group", unserved(name, viewer.without_catalog(), newest))
            asked = viewer.wanted_since(now_us - ASKED_US)
            wanted = [track for track in asked if track not in viewer.ended]
            got = {track: group for track, (group, _) in viewer.newest.items()}
            self.report(now_us, "newest-group", behind(name, wanted, got, newest, self._groups_behind(name)))

    def _groups_behind(self, name: str) -> int:
        """How many groups a viewer may be behind."""
        client = self._network.clients[name]
        if client.access_down.mean_loss < LOSSY:
            return GROUPS_BEHIND_MAX
        films = [self._network.films[p.name] for p in self._network.spec.publishers if p.room == client.room]
        longest_us = [t.info.frame_us * t.frames_a_group for film in films for t in film.tracks]
        return max(GROUPS_BEHIND_MAX, LOSSY_BEHIND_US // max(longest_us))

    def _can_be_served(self, name: str) -> bool:
        """Whether one of the edges that a viewer can come to runs: of a stock one, the one that it knows."""
        client = self._network.clients[name]
        known = client.edges if client.stack == "farcast" else client.edges[:1]
        return any(self._network.edges[node].is_running for node in known)


# ---- Checks ----------------------------------------------------------------------------------------


Circle: TypeAlias = tuple[FullTrackName, tuple[str, ...]]
"""A track, and the edges it goes round over, each fed by the next one and the last by the first."""


class Feeds(NamedTuple):
    """One edge's tracks, as of a number of its changes: where they come from, and which ones do not come."""

    changes: int
    sources: Mapping[FullTrackName, str]
    starved: Collection[FullTrackName]


def cycles(feeds: Mapping[str, Mapping[FullTrackName, str]]) -> list[Circle]:
    """``feeds``: by edge and track, which edge it comes from."""
    found: list[Circle] = []
    tracks: dict[FullTrackName, dict[str, str]] = {}
    for node_id, sources in feeds.items():
        for track, source in sources.items():
            tracks.setdefault(track, {})[node_id] = source
    for track, parents in tracks.items():
        for start in parents:
            path = [start]
            while (above := parents.get(path[-1])) is not None and above not in path:
                path.append(above)
            if above == start and start == min(path):
                found.append((track, tuple(path)))
    return found


def aware(circle: Circle, starved: Mapping[str, Collection[FullTrackName]]) -> list[bool]:
    """For each edge of a circle, whether it knows that nothing comes. ``starved``: by edge, such tracks."""
    track, path = circle
    return [track in starved[node_id] for node_id in path]


class Rounds:
    """Circles, and since when. Two edges that lose their upstreams in one moment may each ask the other: no
    message can have told them. As soon as one has crossed, one of them has to give way: it leaves the circle
    or, where it has no other upstream, tells those below that nothing comes. So a circle counts when nobody
    has given way for longer than a message takes once round, and `CIRCLE_MARGIN_US`. Who has given way keeps
    the subscription, for it may be fed again, but what it says goes round too: a circle also counts when
    after two rounds anybody in it still takes itself for fed.

    ``way_us(a, b)``: from one edge to another; ``ways_max``: rounds of a message that a circle may last.
    """

    def __init__(self, way_us: Callable[[str, str], int], ways_max: int = 1) -> None:
        self._way_us = way_us
        self._ways_max = ways_max
        self._since: dict[Circle, int] = {}

    def note(self, circles: Sequence[Circle], now_us: int) -> None:
        """These are there now, and no others."""
        self._since = {circle: self._since.get(circle, now_us) for circle in circles}

    def lasting(self, now_us: int) -> list[str]:
        """One line for each circle that lasts too long."""
        found: list[str] = []
        for (track, path), since_us in self._since.items():
            ring = (*path, path[0])
            round_us = sum(self._way_us(src, dst) for src, dst in pairwise(ring))
            if now_us - since_us > self._ways_max * round_us + CIRCLE_MARGIN_US:
                name = f"{track.namespace.path()}/{track.name.decode('utf-8', 'backslashreplace')}"
                found.append(f"{name} goes round: {' from '.join(ring)}")
        return found


def falling_plans(node_id: str, plans: Sequence[tuple[int, int, int]]) -> list[str]:
    """``plans``: when which epoch and sequence came into force, in order."""
    return [
        f"{node_id} took plan {after[1]}.{after[2]} after {before[1]}.{before[2]}"
        for before, after in pairwise(plans)
        if after[1:] <= before[1:]
    ]


class Order:
    """What one viewer has got: for each sink and group the objects, as far as they may still come."""

    def __init__(self) -> None:
        self._last: dict[tuple[int, int, int], int] = {}

    def disorder(self, name: str, records: Array) -> list[tuple[int, str]]:
        """Objects of these records (`RECORD_DTYPE`) that came twice or out of order, each with its time."""
        found: list[tuple[int, str]] = []
        rows = zip(
            records["downstream"].tolist(),
            records["group"].tolist(),
            records["subgroup"].tolist(),
            records["object"].tolist(),
            records["at_us"].tolist(),
            strict=True,
        )
        for sink, group, subgroup, number, at_us in rows:
            key = (sink, group, subgroup)
            last = self._last.get(key, -1)
            if number <= last:
                text = f"{name}: sink {sink} got object {group}/{number} after {group}/{last}"
                found.append((at_us, text))
            self._last[key] = max(last, number)
        return found


def overflows(
    node_id: str,
    queue_bytes_peak: int,
    cache_bytes_peak: int,
    *,
    queue_bytes_max: int = MediaLimits().queue_bytes_max,
) -> list[str]:
    """The longest queue of a downstream and the caches of an edge, if they have been above their limits."""
    peaks = (
        ("a viewer's queue", queue_bytes_peak, queue_bytes_max),
        ("the caches", cache_bytes_peak, CACHE_BYTES_MAX),
    )
    return [
        f"{node_id}: {what} had {peak} bytes, at most {most} are allowed"
        for what, peak, most in peaks
        if peak > most + QUEUE_SLACK_BYTES
    ]


def served(name: str, events: Iterable[object]) -> list[str]:
    """What an edge gave to somebody who may have nothing."""
    given = (client.ObjectReceived, client.TrackReady, client.NamespaceAccepted)
    return [f"{name}: {type(event).__name__}" for event in events if isinstance(event, given)]


def behind(
    name: str,
    wanted: Iterable[int],
    got: Mapping[int, int],
    newest: Mapping[int, int],
    groups_max: int = GROUPS_BEHIND_MAX,
) -> list[str]:
    """Tracks of which a viewer has not the newest group, nor one shortly before it."""
    return [
        f"{name}: track {track} is at group {got.get(track, -1)}, published is {newest[track]}"
        for track in wanted
        if track in newest and got.get(track, -1) < newest[track] - groups_max
    ]


def unserved(name: str, films: Iterable[int], newest: Mapping[int, int]) -> list[str]:
    """Films that are on, by their first track, of which a viewer has no catalog."""
    return [f"{name}: has no catalog of what track {track} is of" for track in films if track in newest]


def differing_hashes(hashes: Sequence[str]) -> list[str]:
    """One line where runs of one seed and build differ."""
    different = [other for other in hashes[1:] if other != hashes[0]]
    return [f"one seed gave trace {hashes[0]} and then {other}" for other in different]
