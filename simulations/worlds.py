"""The world of one scenario and seed, as plain data: every edge, path and client with its links.

`build_world` draws all of it from the seed; whoever runs it, at the level of packets or of flows, draws
nothing about the world any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from farcast.proto._core import LinkConfig
from farcast.simulations.links import LinkModel
from farcast.simulations.scenario import FilmConfig, RiskGroupConfig, Scenario, Stack, Transport


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
    """An edge as a client reaches it: over its access and ``extra_us`` more each way."""

    node_id: str
    extra_us: int
    rtt_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A publisher or a viewer. ``access_up``/``access_down``: its own links; ``reaches``: all edges, nearest
    first. ``access_rtt_ms``: median round trip to the nearest edge."""

    name: str
    entry: str
    """Name of its group in the scenario."""
    kind: Literal["publisher", "viewer"]
    stack: Stack
    transport: Transport
    market: str
    country: str
    region: str
    """Of its nearest edge."""
    lat: float
    lon: float
    room: str
    film: str
    """Name of what a publisher sends; empty for viewers."""
    joins_us: int
    leaves_us: int | None
    access_up: LinkModel
    access_down: LinkModel
    access_rtt_ms: float
    access_rate_bps: int
    """Downwards; for a publisher upwards."""
    reaches: tuple[Reach, ...]

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
                return self.access_up.longer_by(reach.extra_us), self.access_down.longer_by(reach.extra_us)
        raise KeyError(node_id)

    def links_to(self, node_id: str) -> tuple[LinkConfig, LinkConfig]:
        """As `models_to`, as the kernel takes it."""
        up, down = self.models_to(node_id)
        return up.config, down.config


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldSpec:
    """Everything that a run needs to know of its world."""

    scenario: str
    seed: int
    edges: tuple[EdgeSite, ...]
    paths: tuple[EdgePath, ...]
    clients: tuple[Client, ...]
    risk_groups: tuple[RiskGroupConfig, ...]
    films: tuple[FilmConfig, ...]
    control_region: str
    routing: Literal["planned", "origin-streams"] = "planned"
    """How edges get tracks: over hops, as the control plane plans; or straight from the edge of the
    publisher, in plain QUIC streams and without a control plane."""
    notes: tuple[str, ...] = field(default=())
    """What people should know of how it was drawn."""

    @property
    def publishers(self) -> tuple[Client, ...]:
        return tuple(client for client in self.clients if client.kind == "publisher")

    @property
    def viewers(self) -> tuple[Client, ...]:
        return tuple(client for client in self.clients if client.kind == "viewer")

    def path(self, src: str, dst: str) -> EdgePath:
        """From one edge to another; ``KeyError`` if there is none."""
        for path in self.paths:
            if path.src == src and path.dst == dst:
                return path
        raise KeyError(f"{src} to {dst}")

    def film(self, name: str) -> FilmConfig:
        """By name; ``KeyError`` if there is none."""
        for film in self.films:
            if film.name == name:
                return film
        raise KeyError(name)


def build_world(scenario: Scenario, seed: int, viewers_max: int | None = None) -> WorldSpec:
    """Draw the world of a scenario. ``viewers_max`` beats the scenario's own.

    `UserError` for what the data do not have (regions, countries, files) and for links that cannot be.
    """
    raise NotImplementedError


def world_from_export(file: Path) -> WorldSpec:
    """The edges and paths that real edges measured (``farcast sim import``), without clients."""
    raise NotImplementedError
