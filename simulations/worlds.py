"""Draws the world of a scenario from a seed: edges, the links between them, clients with their access.

Whoever runs the world, at the level of packets or of flows, draws nothing about it any more. Each client is
drawn from the seed and its own name, so that one more of them changes no other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import numpy as np

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations.access import AccessError, DrawnAccess, draw_access
from farcast.simulations.backbone import Hauls, RegionLinks, Way, queue_bytes
from farcast.simulations.events import Crowd
from farcast.simulations.export_file import read_export
from farcast.simulations.links import BurstLoss, LinkModel
from farcast.simulations.places import City, Region, UnknownPlace, city, region
from farcast.simulations.scenario import (
    Access,
    LinkChange,
    PublisherGroup,
    RiskGroupConfig,
    Scenario,
    Stack,
    Transport,
    ViewerGroup,
    WorldConfig,
)
from farcast.simulations.world_spec import (
    CLIENTS_MAX,
    EDGES_WITH_PATHS_MAX,
    REACHES_MAX,
    Client,
    EdgePath,
    EdgeSite,
    Reach,
    WorldSpec,
)

__all__ = [
    "Client",
    "EdgePath",
    "EdgeSite",
    "Reach",
    "WorldSpec",
    "build_world",
    "world_from_export",
]

UNLIMITED_BPS: Final = 10_000_000_000
"""The rate of an access that nothing limits, for whoever compares rates."""

CONTROL_STREAM_MIN_US: Final = 500
"""One way between an edge and a control plane in the same region."""


def build_world(scenario: Scenario, seed: int, viewers_max: int | None = None) -> WorldSpec:
    """Draw the world of a scenario. ``viewers_max`` beats the scenario's own.

    `UserError` for what the data do not have (regions, countries, files) and for links that cannot be.
    """
    try:
        ground = _imported(scenario) if scenario.world.backbone.file else _drawn(scenario.world, seed)
        most = viewers_max if viewers_max is not None else scenario.viewers_max
        clients = tuple(_clients(scenario, ground, seed, most))
        spec = WorldSpec(
            scenario=scenario.name,
            seed=seed,
            edges=ground.edges,
            paths=ground.paths,
            clients=clients,
            risk_groups=scenario.world.groups,
            films=scenario.load.films,
            control_region=scenario.world.control_region,
            notes=_notes(scenario),
            access=scenario.world.access,
        )
        _check(spec)
    except (UnknownPlace, AccessError, ValueError) as error:
        raise UserError(f"{scenario.file}: {error}", EXIT_USAGE) from error
    return spec


def world_from_export(file: Path) -> WorldSpec:
    """The edges and paths that real edges measured (``farcast sim import``), without clients.

    `UserError` names the file and the place in it that is wrong.
    """
    export = read_export(file)
    return WorldSpec(
        scenario=file.stem,
        seed=0,
        edges=export.sites(),
        paths=export.paths(),
        clients=(),
        risk_groups=(),
        films=(),
        control_region=export.edges[0].region,
        notes=(f"links as measured by edges, {export.source}",),
    )


# ---- Edges and paths -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ground:
    """Edges with their regions, and what lies between. ``nodes``: node ids by region."""

    edges: tuple[EdgeSite, ...]
    paths: tuple[EdgePath, ...]
    places: Mapping[str, Region]
    nodes: Mapping[str, Sequence[str]]


def _drawn(world: WorldConfig, seed: int) -> _Ground:
    links = RegionLinks(world.backbone, seed)
    places = {group.region: region(group.region, world.backbone.kind) for group in world.edges}
    if world.control_region not in places:
        raise UnknownPlace(
            f"control_region {world.control_region!r} has no edge; known are {', '.join(places)}"
        )
    home = places[world.control_region]
    sites: list[EdgeSite] = []
    numbers: dict[str, int] = {}
    for group in world.edges:
        place = places[group.region]
        delay_us = round(links.rtt_ms(place, home) * 500)
        for _ in range(group.count):
            numbers[group.region] = numbers.get(group.region, 0) + 1
            sites.append(
                EdgeSite(
                    node_id=f"{group.region}-{numbers[group.region]}",
                    region=group.region,
                    country=place.country,
                    provider=group.provider,
                    lat=place.lat,
                    lon=place.lon,
                    capacity_bps=group.capacity_bps,
                    control=LinkModel(delay_us=max(delay_us, CONTROL_STREAM_MIN_US)),
                )
            )
    pairs = {
        (a, b): (links.link(places[a], places[b]), links.rtt_ms(places[a], places[b]))
        for a in places
        for b in places
    }
    return _Ground(tuple(sites), tuple(_paths(world, sites, pairs)), places, _nodes_by_region(sites))


def _nodes_by_region(sites: Sequence[EdgeSite]) -> Mapping[str, Sequence[str]]:
    nodes: dict[str, list[str]] = {}
    for site in sites:
        nodes.setdefault(site.region, []).append(site.node_id)
    return nodes


def _paths(
    world: WorldConfig, sites: Sequence[EdgeSite], pairs: Mapping[tuple[str, str], tuple[LinkModel, float]]
) -> Iterator[EdgePath]:
    groups = _groups_by_pair(world.groups)
    if len(sites) > EDGES_WITH_PATHS_MAX:
        ends = [(name, name) for name in dict.fromkeys(site.region for site in sites)]
    else:
        ends = [(site.node_id, site.region) for site in sites]
    for src, a in ends:
        for dst, b in ends:
            if src == dst and len(ends) == len(sites):
                continue
            model, rtt_ms = pairs[a, b]
            for change in world.changes:
                if _touches(change, (src, a), (dst, b)):
                    model, rtt_ms = _changed(model, rtt_ms, change)
            yield EdgePath(src=src, dst=dst, model=model, rtt_ms=rtt_ms, groups=groups.get((a, b), ()))


def _groups_by_pair(groups: Sequence[RiskGroupConfig]) -> Mapping[tuple[str, str], tuple[str, ...]]:
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for group in groups:
        for a, b in group.links:
            for pair in dict.fromkeys(((a, b), (b, a))):
                found[pair] = (*found.get(pair, ()), group.name)
    return found


def _touches(change: LinkChange, src: tuple[str, str], dst: tuple[str, str]) -> bool:
    """Whether a change is about a direction; ends by node id and region."""

    def is_about(a: str, b: str) -> bool:
        return (a in src and b in dst) or (not change.one_way and b in src and a in dst)

    return any(is_about(a, b) for a, b in change.links)


def _changed(model: LinkModel, rtt_ms: float, change: LinkChange) -> tuple[LinkModel, float]:
    fields: dict[str, Any] = {}
    if change.rtt_ms is not None:
        fields["delay_us"] = max(round(change.rtt_ms * 500) - model.delay_log_median_us, 0)
        rtt_ms = change.rtt_ms
    if change.loss is not None:
        losses = (BurstLoss(change.loss, change.loss_burst or 1.0),) if change.loss else ()
        fields["losses"] = losses
    if change.rate_bps is not None:
        fields["rate_bps"] = change.rate_bps
        fields["queue_bytes"] = queue_bytes(change.rate_bps, change.queue_ms or 100.0)
    if change.policer_bps is not None:
        fields["policer_bps"] = change.policer_bps
        fields["policer_burst_bytes"] = change.policer_burst_bytes or max(change.policer_bps // 80, 1_500)
    if change.mtu_bytes is not None:
        fields["mtu_bytes"] = change.mtu_bytes
    return replace(model, **fields), rtt_ms


def _imported(scenario: Scenario) -> _Ground:
    export = read_export(scenario.world.backbone.file or Path())
    sites = export.sites()
    at = {site.region: site for site in sites}
    places = {name: Region(name, site.country, site.lat, site.lon, -1) for name, site in at.items()}
    return _Ground(sites, export.paths(), places, _nodes_by_region(sites))


def _check(spec: WorldSpec) -> None:
    """Every link has to be one that the kernel takes; `ValueError` names link and field."""
    for path in spec.paths:
        try:
            path.model.config  # noqa: B018
        except (ValueError, OverflowError) as error:
            raise ValueError(
                f"the link from {path.src} to {path.dst} cannot be like that: {error}"
            ) from error
    for client in spec.clients:
        try:
            client.links_to(client.reaches[0].node_id)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"the access of {client.name} cannot be like that: {error}") from error


# ---- Clients -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Seat:
    """One client before its access is drawn."""

    name: str
    group: PublisherGroup | ViewerGroup
    stack: Stack
    transport: Transport
    joins_us: int
    leaves_us: int | None
    weight: float = 1.0


def _clients(scenario: Scenario, ground: _Ground, seed: int, viewers_max: int | None) -> Iterator[Client]:
    hauls = Hauls(scenario.world.backbone.kind, seed)
    seats = [seat for group in scenario.load.publishers for seat in _publishers(group)]
    seats += _viewers(scenario, viewers_max)
    for seat in seats:
        yield _client(seat, ground, hauls, seed)


def _publishers(group: PublisherGroup) -> Iterator[_Seat]:
    for number in range(1, group.count + 1):
        name = group.name if group.count == 1 else f"{group.name}-{number}"
        yield _Seat(name, group, "farcast", group.transport, group.at_us, group.until_us)


def _viewers(scenario: Scenario, viewers_max: int | None) -> list[_Seat]:
    """All viewers, crowds of events included, thinned out to ``viewers_max``."""
    groups = list(scenario.load.viewers)
    by_name = {group.name: group for group in groups}
    for event in scenario.events:
        if isinstance(event, Crowd):
            joins = (event.at_us, event.at_us + event.over_us)
            groups.append(replace(by_name[event.viewers], count=event.count, joins_us=joins))
    counts = [group.count for group in groups]
    most = CLIENTS_MAX if viewers_max is None else min(viewers_max, CLIENTS_MAX)
    kept = thinned(counts, most)
    seats: list[_Seat] = []
    numbers: dict[str, int] = {}
    for group, count in zip(groups, kept, strict=True):
        weight = group.count / count if viewers_max is None and count else 1.0
        first = numbers.get(group.name, 0)
        numbers[group.name] = first + count
        seats += _seats(group, first, count, weight)
    return seats


def _seats(group: ViewerGroup, first: int, count: int, weight: float) -> Iterator[_Seat]:
    came, last = group.joins_us
    stock = 0
    for number in range(count):
        is_stock = _is_chosen(number, group.stock_share)
        place = stock if is_stock else number - stock
        stock += is_stock
        yield _Seat(
            name=f"{group.name}-{first + number + 1}",
            group=group,
            stack="stock" if is_stock else "farcast",
            transport="webtransport" if _is_chosen(place, group.webtransport_share) else "quic",
            joins_us=came + round((last - came) * (number + 0.5) / count),
            leaves_us=group.leaves_us,
            weight=weight,
        )


def _is_chosen(number: int, share: float) -> bool:
    """Whether the ``number``-th of a row belongs to a share of it that is spread evenly."""
    return int((number + 1) * share + 1e-9) > int(number * share + 1e-9)


def thinned(counts: Sequence[int], most: int) -> list[int]:
    """Counts in the same proportions, of ``most`` together; one of each at least, if there was one."""
    total = sum(counts)
    if total <= most:
        return list(counts)
    kept = [min(count, 1) for count in counts]
    left = most - sum(kept)
    if left <= 0:
        return kept
    shares = [
        (count - one) * left / max(total - sum(kept), 1) for count, one in zip(counts, kept, strict=True)
    ]
    kept = [one + int(share) for one, share in zip(kept, shares, strict=True)]
    by_rest = sorted(range(len(counts)), key=lambda k: (int(shares[k]) - shares[k], k))
    for k in by_rest[: most - sum(kept)]:
        kept[k] += 1
    return kept


def _client(seat: _Seat, ground: _Ground, hauls: Hauls, seed: int) -> Client:
    group = seat.group
    home = city(group.country, group.city)
    draw = np.random.default_rng([seed, crc32(seat.name.encode())])
    drawn = _access_of(group.access, group, seat.name, draw)
    reaches = _reaches(home, drawn, ground, hauls, crc32(seat.name.encode()))
    nearest = next(name for name, nodes in ground.nodes.items() if reaches[0].node_id in nodes)
    viewing = isinstance(group, ViewerGroup)
    access = drawn.down if viewing else drawn.up
    return Client(
        name=seat.name,
        entry=group.name,
        kind="viewer" if viewing else "publisher",
        stack=seat.stack,
        transport=seat.transport,
        market=group.market or group.country,
        country=group.country,
        region=nearest,
        lat=home.lat,
        lon=home.lon,
        room=group.room,
        film="" if isinstance(group, ViewerGroup) else group.film,
        joins_us=seat.joins_us,
        leaves_us=seat.leaves_us,
        access_up=drawn.up,
        access_down=drawn.down,
        access_rtt_ms=reaches[0].rtt_ms,
        access_rate_bps=_rate_of(access),
        reaches=reaches,
        weight=seat.weight,
        adapts=isinstance(group, ViewerGroup) and group.quality == "auto" and seat.stack == "farcast",
    )


def _access_of(
    access: Access, group: PublisherGroup | ViewerGroup, name: str, draw: np.random.Generator
) -> DrawnAccess:
    try:
        return draw_access(access, group.country, draw)
    except AccessError as error:
        raise AccessError(error.key, f"{name}: access: {error.key}: {error}") from error


def _rate_of(model: LinkModel) -> int:
    """The rate of a link, of a moving one its median."""
    if model.rate_schedule:
        return int(np.median([bps for _, bps in model.rate_schedule]))
    return model.rate_bps or UNLIMITED_BPS


def _reaches(home: City, drawn: DrawnAccess, ground: _Ground, hauls: Hauls, turn: int) -> tuple[Reach, ...]:
    """Edges by median round trip; those of one region in an order that differs from client to client.

    Where the access's delay is that to the nearest edge already, only what is further counts. Loss on the way
    to the nearest region is that of the access, which was measured to a server about as far.
    """
    ways = {name: hauls.between(home, place) for name, place in ground.places.items()}
    far_us = {name: _median_us(way) for name, way in ways.items()}
    nearest = min(far_us, key=lambda name: (far_us[name], name))
    ways[nearest] = _lossless(ways[nearest])
    if drawn.reaches_edge:
        ways = {name: _beyond(way, ways[nearest]) for name, way in ways.items()}
    order = sorted(ground.places, key=lambda name: (far_us[name], name))
    found: list[Reach] = []
    for name in order:
        way = ways[name]
        up, down = way or (None, None)
        rtt_ms = drawn.rtt_ms + _median_us(way) / 1_000
        nodes = [*ground.nodes[name]]
        first = turn % len(nodes)
        found += [Reach(node_id=n, rtt_ms=rtt_ms, up=up, down=down) for n in nodes[first:] + nodes[:first]]
        if len(found) >= REACHES_MAX:
            break
    return tuple(found[:REACHES_MAX])


def _median_us(way: Way | None) -> int:
    return sum(model.median_delay_us for model in way) if way else 0


def _lossless(way: Way | None) -> Way | None:
    if way is None:
        return None
    up, down = (replace(model, losses=()) for model in way)
    return up, down


def _beyond(way: Way | None, nearest: Way | None) -> Way | None:
    """What a way has more than that to the nearest region; nothing for the nearest itself."""
    if way is None or way == nearest:
        return None
    if nearest is None:
        return way
    up, down = (a.longer_by(-b.median_delay_us) for a, b in zip(way, nearest, strict=True))
    return up, down


def _notes(scenario: Scenario) -> tuple[str, ...]:
    return (
        *(f"measured: {line}" for line in scenario.measured),
        *(f"synthesised: {line}" for line in scenario.synthesised),
    )
