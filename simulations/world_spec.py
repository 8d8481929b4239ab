"""What a world is made of, as plain data; `worlds.build_world` draws it.

Large worlds (the flow level): with more than `EDGES_WITH_PATHS_MAX` edges there is one path for each pair of
regions instead of one for each pair of edges (`WorldSpec.path` finds either), a client reaches the nearest
`REACHES_MAX` edges, and beyond `CLIENTS_MAX` viewers a client stands for several (`Client.weight`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, Literal

from farcast.proto._core import LinkConfig
from farcast.proto.recovery.second_path import Which
from farcast.simulations.links import LinkModel, in_series
from farcast.simulations.scenario import FilmConfig, RiskGroupConfig, Stack, Transport

EDGES_WITH_PATHS_MAX: Final = 200
REACHES_MAX: Final = 64
CLIENTS_MAX: Final = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeSite:
    """One edge. ``capacity_bps``: what it may send, 0 for no bound. ``control``: its path to the control
    plane, each direction alike."""

    node_id: str
    region: str
    country: str
    provider: str
    lat: float
    lon: float
    capacity_bps: int
    control: LinkModel


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgePath:
    """One direction between two edges (node ids). ``rtt_ms``: the median round trip. ``groups``: risk groups
    that it is in."""

    src: str
    dst: str
    model: LinkModel
    rtt_ms: float
    groups: tuple[str, ...] = ()

    @property
    def config(self) -> LinkConfig:
        """As the kernel takes it."""
        return self.model.config


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """An edge as a client reaches it: over its access, and over ``up``/``down`` beyond it (``None``: nothing
    more). ``rtt_ms``: median round trip over both."""

    node_id: str
    rtt_ms: float
    up: LinkModel | None = None
    down: LinkModel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A publisher or a viewer. ``access_up``, ``access_down``: its own links, without what lies beyond.
    ``reaches``: edges, nearest first. ``access_rtt_ms``: median round trip to the nearest.

    ``entry``: name of its group in the scenario. ``region``: of its nearest edge. ``film``: what a publisher
    sends, empty for viewers. ``access_rate_bps``: downwards, a publisher's upwards. ``weight``: for how many
    it stands. ``adapts``: it chooses renditions by what arrives.
    """

    name: str
    entry: str
    kind: Literal["publisher", "viewer"]
    stack: Stack
    transport: Transport
    market: str
    country: str
    region: str
    lat: float
    lon: float
    room: str
    film: str
    joins_us: int
    leaves_us: int | None
    access_up: LinkModel
    access_down: LinkModel
    access_rtt_ms: float
    access_rate_bps: int
    reaches: tuple[Reach, ...]
    weight: float = 1.0
    adapts: bool = False

    @property
    def edges(self) -> tuple[str, ...]:
        """Node ids, nearest first."""
        return tuple(reach.node_id for reach in self.reaches)

    @property
    def up(self) -> LinkConfig:
        """To its nearest edge."""
        return self.links_to(self.reaches[0].node_id)[0]

    @property
    def down(self) -> LinkConfig:
        """From its nearest edge."""
        return self.links_to(self.reaches[0].node_id)[1]

    def models_to(self, node_id: str) -> tuple[LinkModel, LinkModel]:
        """Up and down between it and an edge. ``KeyError`` for an edge that it does not reach."""
        for reach in self.reaches:
            if reach.node_id == node_id:
                up, down = self.access_up, self.access_down
                return (
                    in_series(up, reach.up) if reach.up else up,
                    in_series(down, reach.down) if reach.down else down,
                )
        raise KeyError(node_id)

    def links_to(self, node_id: str) -> tuple[LinkConfig, LinkConfig]:
        """As `models_to`, as the kernel takes it."""
        up, down = self.models_to(node_id)
        return up.config, down.config


@dataclass(frozen=True, kw_only=True)
class WorldSpec:
    """Everything that a run needs to know of its world. ``notes``: what people should know of it.

    ``routing``: how edges get tracks: over hops, as the control plane plans; or straight from the edge that
    is nearest to the publisher, in plain QUIC streams and without a control plane (`variants`).
    ``repair``: what hops do for losses: what the table says, or send each lost chunk once more;
    ``second_paths``: which tracks may come over two paths at the same time.
    """

    scenario: str
    seed: int
    edges: tuple[EdgeSite, ...]
    paths: tuple[EdgePath, ...]
    clients: tuple[Client, ...]
    risk_groups: tuple[RiskGroupConfig, ...]
    films: tuple[FilmConfig, ...]
    control_region: str
    notes: tuple[str, ...] = ()
    routing: Literal["planned", "origin-streams"] = "planned"
    repair: Literal["planned", "plain"] = "planned"
    second_paths: Which = "all"
    access: Literal["open", "tokens"] = "open"
    """Of a planned network: edges that pull from one another as strangers have no tokens."""

    @cached_property
    def by_ends(self) -> Mapping[tuple[str, str], EdgePath]:
        """Paths by their ends, as in ``paths``."""
        return {(path.src, path.dst): path for path in self.paths}

    @cached_property
    def regions(self) -> Mapping[str, str]:
        """Region by node id."""
        return {edge.node_id: edge.region for edge in self.edges}

    @property
    def publishers(self) -> tuple[Client, ...]:
        """Those who send."""
        return tuple(client for client in self.clients if client.kind == "publisher")

    @property
    def viewers(self) -> tuple[Client, ...]:
        """Those who watch."""
        return tuple(client for client in self.clients if client.kind == "viewer")

    def path(self, src: str, dst: str) -> EdgePath:
        """From one edge to another; ``KeyError`` if there is none. In a large world its ends are regions."""
        found = self.by_ends.get((src, dst))
        return found or self.by_ends[self.regions[src], self.regions[dst]]

    def film(self, name: str) -> FilmConfig:
        """By name; ``KeyError`` if there is none."""
        for film in self.films:
            if film.name == name:
                return film
        raise KeyError(name)

    def nodes_at(self, place: str) -> tuple[str, ...]:
        """Node ids of a place: an edge, or all edges of a region, or of everywhere for ``all``."""
        return tuple(e.node_id for e in self.edges if place in ("all", e.node_id, e.region))

    def with_edges(self, node_ids: Collection[str]) -> WorldSpec:
        """The same world with only some of its edges; clients go to the nearest that is left.

        ``ValueError`` if a client reaches none of them.
        """
        clients = []
        for client in self.clients:
            reaches = tuple(reach for reach in client.reaches if reach.node_id in node_ids)
            if not reaches:
                raise ValueError(f"{client.name} reaches none of {', '.join(sorted(node_ids))}")
            first = reaches[0]
            region = self.regions[first.node_id]
            clients.append(replace(client, reaches=reaches, region=region, access_rtt_ms=first.rtt_ms))
        edges = tuple(edge for edge in self.edges if edge.node_id in node_ids)
        ends = {*node_ids, *(edge.region for edge in edges)}
        paths = tuple(path for path in self.paths if path.src in ends and path.dst in ends)
        return replace(self, edges=edges, paths=paths, clients=tuple(clients))
