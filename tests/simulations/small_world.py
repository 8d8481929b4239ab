"""A small world as plain data: a few edges, a publisher, some viewers; for tests of the run itself."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

from farcast.simulations.events import AnyEvent
from farcast.simulations.links import BurstLoss, LinkModel
from farcast.simulations.scenario import (
    EdgeGroup,
    FilmConfig,
    Load,
    Rendition,
    Scenario,
    Short,
    WorldConfig,
)
from farcast.simulations.worlds import Client, EdgePath, EdgeSite, Reach, WorldSpec

SECOND = 1_000_000
FILM = FilmConfig(
    name="show",
    renditions=(Rendition(height=720, bitrate_bps=2_500_000), Rendition(height=360, bitrate_bps=800_000)),
    audio_bps=64_000,
)
RTT_MS = {("sin", "jkt"): 14.0, ("sin", "fra"): 156.0, ("jkt", "fra"): 172.0, ("fra", "dxb"): 115.0}
RTT_MS_OTHERS = 90.0


def rtt_ms(a: str, b: str) -> float:
    """Between two regions."""
    if a == b:
        return 1.0
    return RTT_MS.get((a, b), RTT_MS.get((b, a), RTT_MS_OTHERS))


def small_spec(
    regions: tuple[str, ...] = ("sin", "jkt", "fra", "dxb"),
    *,
    viewers: tuple[str, ...] = ("fra", "fra", "dxb", "sin"),
    publisher: str = "jkt",
    loss: float = 0.002,
    access_loss: float = 0.002,
    joins_us: int = 200_000,
    film: FilmConfig = FILM,
    edges_per_region: int = 1,
) -> WorldSpec:
    """``viewers``: the region of each; they come 200 ms after one another."""
    node_ids = [f"{region}-{k + 1}" for region in regions for k in range(edges_per_region)]
    control = regions[0]
    edges = tuple(
        EdgeSite(
            node_id=node,
            region=node[:3],
            country="XX",
            provider="p",
            lat=0.0,
            lon=0.0,
            capacity_bps=0,
            control=LinkModel(delay_us=round(rtt_ms(node[:3], control) * 500)),
        )
        for node in node_ids
    )
    paths = tuple(
        EdgePath(
            src=a,
            dst=b,
            model=LinkModel(
                delay_us=round(rtt_ms(a[:3], b[:3]) * 500), jitter_us=500, losses=(BurstLoss(loss, 3.0),)
            ),
            rtt_ms=rtt_ms(a[:3], b[:3]),
        )
        for a, b in permutations(node_ids, 2)
    )
    clients = [_client("host", "publisher", publisher, 0, node_ids, access_loss, FILM.name)]
    clients += [
        _client(f"viewer-{k}", "viewer", region, k * joins_us, node_ids, access_loss, "")
        for k, region in enumerate(viewers)
    ]
    return WorldSpec(
        scenario="small",
        seed=1,
        edges=edges,
        paths=paths,
        clients=tuple(clients),
        risk_groups=(),
        films=(film,),
        control_region=control,
    )


def _client(
    name: str, kind: str, region: str, joins_us: int, node_ids: list[str], loss: float, film: str
) -> Client:
    near = sorted(node_ids, key=lambda node: (rtt_ms(region, node[:3]), node))
    access = LinkModel(delay_us=8_000, jitter_us=1_000, rate_bps=20_000_000, losses=(BurstLoss(loss, 1.0),))
    number = int(name[-1]) if name[-1].isdigit() else 0
    return Client(
        name=name,
        entry=name,
        kind="publisher" if kind == "publisher" else "viewer",
        stack="stock" if number % 2 else "farcast",
        transport="webtransport" if number % 2 else "quic",
        market=region.upper(),
        country="ID",
        region=region,
        lat=0.0,
        lon=0.0,
        room="live/room1",
        film=film,
        joins_us=joins_us,
        leaves_us=None,
        access_up=access,
        access_down=access,
        access_rtt_ms=16.0,
        access_rate_bps=20_000_000,
        reaches=tuple(
            Reach(
                node_id=node,
                rtt_ms=16.0 + rtt_ms(region, node[:3]),
                up=_beyond(region, node),
                down=_beyond(region, node),
            )
            for node in near
        ),
    )


def _beyond(region: str, node: str) -> LinkModel | None:
    """The way from a client's region to an edge of another one."""
    return None if region == node[:3] else LinkModel(delay_us=round(rtt_ms(region, node[:3]) * 500))


def small_scenario(seconds: float = 10.0, events: tuple[AnyEvent, ...] = ()) -> Scenario:
    """A scenario around `small_spec`; only its name, its length and its events matter to a run."""
    return Scenario(
        name="small",
        title="A small world",
        version=1,
        sources=(),
        measured=(),
        synthesised=(),
        seed=1,
        duration_us=round(seconds * SECOND),
        scale="packets",
        world=WorldConfig(edges=(EdgeGroup(region="sin"),), control_region="sin"),
        load=Load(films=(FILM,), publishers=(), viewers=()),
        events=events,
        promises=(),
        short=Short(),
        file=Path("small.toml"),
    )


def with_viewers(spec: WorldSpec, count: int) -> WorldSpec:
    """The same world with so many viewers, like those that it has in turn."""
    viewers = spec.viewers
    more = tuple(
        replace(viewers[k % len(viewers)], name=f"viewer-{k}", joins_us=k * 50_000) for k in range(count)
    )
    return replace(spec, clients=(*spec.publishers, *more))
