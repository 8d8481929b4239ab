"""Whether a scenario makes sense: everything it names exists, and everything happens within its time.

Paths of faults are those of `toml_tables`: ``load.viewers.1.country``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import numpy as np

from farcast.errors import UserError
from farcast.simulations import events as ev
from farcast.simulations.access import AccessError, draw_access
from farcast.simulations.export_file import read_export
from farcast.simulations.places import UnknownPlace, city, region
from farcast.simulations.promises import PromiseError, parse_promise
from farcast.simulations.scenario import PublisherGroup, Scenario, ViewerGroup
from farcast.simulations.toml_tables import Faults, hint
from farcast.simulations.world_spec import EDGES_WITH_PATHS_MAX

NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
EDGES_MAX: Final = 20_000
VIEWERS_MAX: Final = 2_000_000
PUBLISHERS_MAX: Final = 500
VIEWERS_OF_PACKETS_MAX: Final = 1_000
DURATION_US_MAX: Final = 7 * 86_400_000_000


def check_scenario(scenario: Scenario, faults: Faults) -> None:
    """Add everything that is wrong to ``faults``."""
    _check_head(scenario, faults)
    nodes = _check_world(scenario, faults)
    _check_load(scenario, faults)
    for text_at, text in enumerate(scenario.promises):
        try:
            parse_promise(text)
        except PromiseError as error:
            faults.add("promises", f"promise {text_at + 1}, {text!r}: {error}")
    if not nodes:
        return  # Nothing could be said of places.
    checker = _Events(scenario, nodes, faults)
    checker.check(scenario.events, scenario.duration_us, "")
    checker.check(scenario.short.events, scenario.short.duration_us, " in the short form")


def _check_head(scenario: Scenario, faults: Faults) -> None:
    if not NAME.fullmatch(scenario.name):
        faults.add("name", f"{scenario.name!r} must be of lower-case letters, digits and hyphens")
    if scenario.duration_us > DURATION_US_MAX:
        faults.add("duration_s", f"is longer than {DURATION_US_MAX // 1_000_000} s")
    if scenario.short.duration_us > scenario.duration_us:
        faults.add("short.duration_s", "the short form is longer than the full one")
    for key in ("sources", "measured", "synthesised", "promises"):
        if not getattr(scenario, key):
            faults.add(key, "is empty")
    viewers = sum(group.count for group in scenario.load.viewers)
    if scenario.short.viewers_max > VIEWERS_OF_PACKETS_MAX:
        faults.add("short.viewers_max", f"is above {VIEWERS_OF_PACKETS_MAX}")
    if scenario.scale == "packets" and viewers > VIEWERS_OF_PACKETS_MAX:
        faults.add("load", f"{viewers} viewers, at most {VIEWERS_OF_PACKETS_MAX} at the scale of packets")
    if viewers > VIEWERS_MAX:
        faults.add("load", f"{viewers} viewers, at most {VIEWERS_MAX}")


# ---- World ---------------------------------------------------------------------------------------


def _check_world(scenario: Scenario, faults: Faults) -> dict[str, str]:
    """Region by node id."""
    world, backbone = scenario.world, scenario.world.backbone
    if (backbone.kind == "import") != (backbone.file is not None):
        faults.add("world.backbone", "'file' and kind = \"import\" belong together")
        return {}
    if (backbone.kind == "flat") != (backbone.rtt_ms > 0):
        faults.add("world.backbone", "'rtt_ms' and kind = \"flat\" belong together")
    nodes = _nodes(scenario, faults)
    if not nodes:
        return {}
    regions = set(nodes.values())
    if world.control_region not in regions:
        faults.add("world.control_region", _unknown("region", world.control_region, regions))
    for at, change in enumerate(world.changes):
        for place in {place for pair in change.links for place in pair}:
            if place not in regions and place not in nodes:
                faults.add(f"world.changes.{at}.links", _unknown("region or edge", place, [*regions, *nodes]))
    for at, group in enumerate(world.groups):
        for name in sorted({name for pair in group.links for name in pair} - regions):
            faults.add(f"world.groups.{at}.links", _unknown("region", name, regions))
        for name in group.nodes:
            if name not in nodes:
                faults.add(f"world.groups.{at}.nodes", _unknown("edge", name, nodes))
    return nodes


def _nodes(scenario: Scenario, faults: Faults) -> dict[str, str]:
    world, backbone = scenario.world, scenario.world.backbone
    if backbone.file is not None:
        try:
            return {edge.node_id: edge.region for edge in read_export(backbone.file).edges}
        except UserError as error:
            faults.add("world.backbone.file", str(error))
            return {}
    nodes: dict[str, str] = {}
    numbers: dict[str, int] = {}
    for at, group in enumerate(world.edges):
        try:
            region(group.region, backbone.kind)
        except UnknownPlace as error:
            faults.add(f"world.edges.{at}.region", str(error))
            continue
        for _ in range(min(group.count, EDGES_MAX)):
            numbers[group.region] = numbers.get(group.region, 0) + 1
            nodes[f"{group.region}-{numbers[group.region]}"] = group.region
    count = sum(group.count for group in world.edges)
    most = EDGES_WITH_PATHS_MAX if scenario.scale == "packets" else EDGES_MAX
    if not 1 <= count <= most:
        faults.add("world.edges", f"{count} edges; 1 to {most} are possible at the scale of {scenario.scale}")
    return nodes


# ---- Load ----------------------------------------------------------------------------------------


def _check_load(scenario: Scenario, faults: Faults) -> None:
    load = scenario.load
    films = [film.name for film in load.films]
    for at, film in enumerate(load.films):
        if not film.renditions:
            faults.add(f"load.films.{at}", "has no renditions")
    for what, count, most in (
        ("publishers", sum(group.count for group in load.publishers), PUBLISHERS_MAX),
        ("viewers", len(load.viewers), VIEWERS_MAX),
    ):
        if not 1 <= count <= most:
            faults.add("load", f"{count} {what}; 1 to {most} are possible")
    names = [*films, *(p.name for p in load.publishers), *(v.name for v in load.viewers)]
    for name in sorted({name for name in names if names.count(name) > 1}):
        faults.add("load", f"two films, publishers or viewers are named {name!r}")
    rooms = {group.room for group in load.publishers}
    for at, publisher in enumerate(load.publishers):
        path = f"load.publishers.{at}"
        _check_group(publisher, path, faults)
        if publisher.film not in films:
            faults.add(f"{path}.film", _unknown("film", publisher.film, films))
        if publisher.at_us >= scenario.duration_us:
            faults.add(f"{path}.at_s", "is after the end")
    for at, viewer in enumerate(load.viewers):
        path = f"load.viewers.{at}"
        _check_group(viewer, path, faults)
        if viewer.room not in rooms:
            faults.add(f"{path}.room", _unknown("room with a publisher", viewer.room, rooms))
        if viewer.joins_us[1] >= scenario.duration_us:
            faults.add(f"{path}.joins_s", "is after the end")


def _check_group(group: PublisherGroup | ViewerGroup, path: str, faults: Faults) -> None:
    if not NAME.fullmatch(group.name):
        faults.add(f"{path}.name", f"{group.name!r} must be of lower-case letters, digits and hyphens")
    if not all(group.room.split("/")):
        faults.add(f"{path}.room", f"{group.room!r} is no namespace such as live/room1")
    try:
        city(group.country)
    except UnknownPlace as error:
        faults.add(f"{path}.country", str(error))
        return
    try:
        city(group.country, group.city)
    except UnknownPlace as error:
        faults.add(f"{path}.city", str(error))
    try:
        draw_access(group.access, group.country, np.random.default_rng(0))
    except AccessError as error:
        where = f"{path}.country" if error.key == "country" else f"{path}.access"
        faults.add(where, str(error) if error.key == "country" else f"{error.key}: {error}")


# ---- Events --------------------------------------------------------------------------------------


class _Events:
    """What events may name, and their times."""

    def __init__(self, scenario: Scenario, nodes: dict[str, str], faults: Faults) -> None:
        self._faults = faults
        self._nodes = nodes
        self._places = [*dict.fromkeys(nodes.values()), *nodes]
        self._groups = [group.name for group in scenario.world.groups if group.links]
        self._viewers = [group.name for group in scenario.load.viewers]
        self._clients = [*self._viewers, *(group.name for group in scenario.load.publishers)]

    def check(self, found: Sequence[ev.AnyEvent], duration_us: int, form: str) -> None:
        """Add what is wrong with events of a form of the scenario that lasts so long."""
        for at, event in enumerate(found):
            kind = ev.kind_of(event)
            if event.at_us >= duration_us:
                hint_short = "; give short = { at_s = … } or short = false" if form else ""
                self._faults.add(
                    "event", f"{kind} at {event.at_us / 1e6:g} s is after the end{form}{hint_short}"
                )
            for text in self._faults_of(event):
                self._faults.add("event" if form else f"event.{at}", f"{kind}: {text}")

    def _faults_of(self, event: ev.AnyEvent) -> Iterator[str]:
        if isinstance(event, ev.LinkEvent):
            yield from self._links(event)
        for attribute in ("node", "place"):
            name = getattr(event, attribute, None)
            known = [*self._nodes] if attribute == "node" else [*self._places]
            if isinstance(event, ev.ClockStep):
                known += ["control", "all"]
            what = "edge" if attribute == "node" else "region or edge"
            if name is not None and name not in known:
                yield f"{attribute}: {_unknown(what, name, known)}"
        for attribute in ("a", "b", "places", "nodes"):
            known = [*self._nodes] if attribute == "nodes" else self._places
            for name in getattr(event, attribute, ()):
                if name not in known:
                    yield f"{attribute}: {_unknown('place', name, known)}"
        for name in getattr(event, "clients", ()):
            if name not in self._clients and name.rpartition("-")[0] not in self._clients:
                yield f"clients: {_unknown('client', name, self._clients)}"
        if isinstance(event, ev.Crowd) and event.viewers not in self._viewers:
            yield f"viewers: {_unknown('entry', event.viewers, self._viewers)}"
        if isinstance(event, ev.RandomFaults) and not event.kinds:
            yield "kinds: names none"

    def _links(self, event: ev.LinkEvent) -> Iterator[str]:
        if event.group and event.group not in self._groups:
            yield f"group: {_unknown('group with links', event.group, self._groups)}"
        if not event.links and not event.group and not event.clients:
            yield "names no links: give links, group or clients"
        for name in dict.fromkeys(name for pair in event.links for name in pair):
            if name not in self._places:
                yield f"links: {_unknown('region or edge', name, self._places)}"


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    return f"no {what} {name!r}{hint(name, sorted(known)) if known else '; there are none'}"
