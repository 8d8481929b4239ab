"""Small worlds for the tests of the flow level, made by hand: edges on a line, viewers near them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from farcast.simulations.events import AnyEvent
from farcast.simulations.links import BurstLoss, LinkModel
from farcast.simulations.scenario import (
    EdgeGroup,
    FilmConfig,
    Load,
    PublisherGroup,
    Rendition,
    Scenario,
    Short,
    ViewerGroup,
    WorldConfig,
)
from farcast.simulations.worlds import Client, EdgePath, EdgeSite, Reach, WorldSpec

STEP_MS = 20.0
"""Round trip between neighbours on the line."""

FILM = FilmConfig(name="film", renditions=(Rendition(height=720, bitrate_bps=2_000_000),))


def scenario_of(
    *,
    edges: int = 4,
    viewers: int = 20,
    seconds: float = 20.0,
    joins_us: tuple[int, int] = (0, 1_000_000),
    events: Sequence[AnyEvent] = (),
) -> Scenario:
    """A scenario of one room, published at the first edge."""
    group = ViewerGroup(name="crowd", room="live/one", country="SG", count=viewers, joins_us=joins_us)
    publisher = PublisherGroup(name="star", room="live/one", country="SG", film="film")
    return Scenario(
        name="small",
        title="A small world",
        version=1,
        sources=(),
        measured=(),
        synthesised=(),
        seed=1,
        duration_us=round(seconds * 1e6),
        scale="flows",
        world=WorldConfig(edges=(EdgeGroup(region="sin", count=edges),), control_region="r0"),
        load=Load(films=(FILM,), publishers=(publisher,), viewers=(group,)),
        events=tuple(events),
        promises=(),
        short=Short(),
        file=Path("small.toml"),
    )


def world_of(
    scenario: Scenario,
    *,
    kinds: int = 20,
    capacity_bps: int = 0,
    loss: float = 0.0,
    access: Mapping[str, Any] | None = None,
    link: Mapping[str, Any] | None = None,
) -> WorldSpec:
    """Its world: ``kinds`` viewers, dealt over all edges."""
    count = scenario.world.edges[0].count
    ids = [f"r{k}-1" for k in range(count)]
    sites = tuple(
        EdgeSite(
            node_id=name,
            region=f"r{k}",
            country="SG",
            provider="",
            lat=0.0,
            lon=float(k),
            capacity_bps=capacity_bps,
            control=LinkModel(delay_us=10_000),
        )
        for k, name in enumerate(ids)
    )
    losses = (BurstLoss(loss, 2.0),) if loss else ()
    paths = tuple(
        EdgePath(
            src=a,
            dst=b,
            model=LinkModel(delay_us=round(500 * STEP_MS * abs(i - j)), losses=losses, **(link or {})),
            rtt_ms=STEP_MS * abs(i - j),
        )
        for i, a in enumerate(ids)
        for j, b in enumerate(ids)
        if i != j
    )
    (group,) = scenario.load.viewers
    joins = np.linspace(*group.joins_us, kinds).astype(int).tolist()
    weight = max(group.count / kinds, 1.0)
    leg = LinkModel(**{"delay_us": 5_000, **(access or {})})
    clients = [_client("star", "publisher", 0, ids, 0, leg, "film", 1.0)]
    clients += [
        _client(f"crowd-{k}", "viewer", k % count, ids, joins[k], leg, "", weight) for k in range(kinds)
    ]
    return WorldSpec(
        scenario=scenario.name,
        seed=1,
        edges=sites,
        paths=paths,
        clients=tuple(clients),
        risk_groups=(),
        films=scenario.load.films,
        control_region="r0",
    )


def _haul(steps: int) -> LinkModel | None:
    return LinkModel(delay_us=round(500 * STEP_MS * steps)) if steps else None


def _client(
    name: str,
    kind: Any,
    home: int,
    ids: Sequence[str],
    joins_us: int,
    leg: LinkModel,
    film: str,
    weight: float,
) -> Client:
    near = sorted(range(len(ids)), key=lambda k: (abs(k - home), k))
    rtt_ms = 2 * leg.median_delay_us / 1e3
    reaches = tuple(
        Reach(
            node_id=ids[k],
            up=_haul(abs(k - home)),
            down=_haul(abs(k - home)),
            rtt_ms=rtt_ms + STEP_MS * abs(k - home),
        )
        for k in near
    )
    return Client(
        name=name,
        entry=name.partition("-")[0],
        kind=kind,
        stack="farcast",
        transport="quic",
        market="SG",
        country="SG",
        region=f"r{home}",
        lat=0.0,
        lon=float(home),
        room="live/one",
        film=film,
        joins_us=joins_us,
        leaves_us=None,
        access_up=leg,
        access_down=leg,
        access_rtt_ms=rtt_ms,
        access_rate_bps=leg.rate_bps or 50_000_000,
        reaches=reaches,
        weight=weight,
    )
