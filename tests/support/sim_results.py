"""Results as a run would leave them, for tests of reports: one that is broken, one that holds."""

from __future__ import annotations

from typing import Literal

import numpy as np

from farcast.simulations.results import (
    BuildInfo,
    InvariantFailure,
    MapLink,
    MapNode,
    OutputSummary,
    Result,
    ScenarioInfo,
    SeedResult,
    TimelineEntry,
    Verdict,
)

LATENCY = "glass_to_glass.worst_market p99 < 600 ms"
STALLS = "stall_ratio < 0.5 %"
TimelineKind = Literal["fault", "route", "stall", "move", "error"]
BUILD = BuildInfo(version="0.5.0", commit="316b6bb0d4c1", python="3.11.2", machine="x86_64, 2 cores")
PLACES = {
    "jkt-1": ("edge", "jkt", -6.2, 106.8),
    "sin-1": ("edge", "sin", 1.35, 103.8),
    "dxb-1": ("edge", "dxb", 25.2, 55.3),
    "fra-1": ("edge", "fra", 50.1, 8.7),
}


def broken_result(seeds: int = 3) -> Result:
    """``sea-to-eu``: latency is broken by seed 2, one invariant failed in seed 3."""
    latency = Verdict(
        promise=LATENCY,
        status="broken",
        unit="ms",
        value=742.4,
        limit=600.0,
        low=688.0,
        high=801.0,
        interval_over="seeds",
        sure=True,
        margin=-142.4,
        margin_ratio=-0.2373,
        samples=53_912,
        viewers=60,
        where_worst="DE",
        seeds_held=1,
        seeds_total=seeds,
    )
    stalls = Verdict(
        promise=STALLS, status="held", unit="%", value=0.21, limit=0.5, low=0.1, high=0.34,
        interval_over="seeds", sure=True, margin=0.29, margin_ratio=0.58, samples=60, viewers=60,
        seeds_held=seeds, seeds_total=seeds,
    )  # fmt: skip
    return Result(
        scenario=_scenario("sea-to-eu", "Jakarta to viewers in Germany, Britain and the Emirates"),
        build=BUILD,
        seeds=tuple(
            _seed("sea-to-eu", seed, (LATENCY,) if seed == 2 else ()) for seed in range(1, seeds + 1)
        ),
        verdicts=(latency, stalls),
        outputs=tuple(_latency(market, ms) for market, ms in (("DE", 330), ("GB", 345), ("AE", 250))),
        timeline=_timeline(),
        nodes=_nodes(),
        links=(
            MapLink(src="jkt-1", dst="sin-1", rtt_ms=17.6, bytes=9_000_000, loss=0.001),
            MapLink(src="sin-1", dst="fra-1", rtt_ms=161.2, bytes=8_800_000, loss=0.021),
            MapLink(src="sin-1", dst="dxb-1", rtt_ms=90.1, bytes=4_100_000, loss=0.002),
        ),
        invariant_failures=(
            InvariantFailure(
                seed=3, at_us=14_203_118, invariant="in order", what="viewer-7: group 6 object 3 after 4"
            ),
        ),
    )


def held_result() -> Result:
    """``eu-to-sea``: everything holds."""
    broken = broken_result(2)
    verdicts = tuple(
        Verdict(
            promise=promise, status="held", unit=unit, value=value, limit=limit, sure=True,
            margin=limit - value, margin_ratio=(limit - value) / limit, samples=100, viewers=40,
            seeds_held=2, seeds_total=2,
        )
        for promise, unit, value, limit in ((LATENCY, "ms", 512.0, 600.0), (STALLS, "%", 0.1, 0.5))
    )  # fmt: skip
    return Result(
        scenario=_scenario("eu-to-sea", "Frankfurt to viewers in South-East Asia"),
        build=BUILD,
        seeds=tuple(_seed("eu-to-sea", seed, ()) for seed in (1, 2)),
        verdicts=verdicts,
        outputs=broken.outputs,
        nodes=broken.nodes,
        links=broken.links,
    )


def _scenario(name: str, title: str) -> ScenarioInfo:
    return ScenarioInfo(
        name=name,
        title=title,
        version=1,
        duration_s=30.0,
        short=True,
        viewers=20,
        edges=4,
        sources=("AWS matrix, cloudping.co, one year to 2025-07",),
        measured=("round trips between regions",),
        synthesised=("loss on long hauls",),
    )


def _seed(name: str, seed: int, broken: tuple[str, ...]) -> SeedResult:
    return SeedResult(
        seed=seed,
        trace_hash=f"{seed:02x}" * 32,
        replay=f"farcast sim replay {name} --seed {seed} --short",
        virtual_s=30.0,
        wall_s=4.2 + seed,
        broken=broken,
    )


def _latency(market: str, ms: float) -> OutputSummary:
    samples = np.random.default_rng(1).lognormal(np.log(ms), 0.16 if market != "DE" else 0.3, 20_000)
    shares = np.linspace(0, 1, 101)
    values = np.quantile(samples, shares)
    quantiles = {str(q): float(np.quantile(samples, q)) for q in (0.5, 0.9, 0.95, 0.99, 0.999)}
    return OutputSummary(
        output="glass_to_glass",
        scope=f"market:{market}",
        unit="ms",
        count=samples.size,
        viewers=20,
        mean=float(samples.mean()),
        quantiles={**quantiles},
        cdf=tuple((float(value), float(share)) for value, share in zip(values, shares, strict=True)),
    )


def _timeline() -> tuple[TimelineEntry, ...]:
    def entry(
        at_s: float, kind: TimelineKind, what: str, who: str | None = None, s: float | None = None
    ) -> TimelineEntry:
        length_us = None if s is None else round(s * 1e6)
        return TimelineEntry(
            seed=2,
            at_us=round(at_s * 1e6),
            kind=kind,
            what=what,
            who=who,
            length_us=length_us,
        )

    return (
        entry(10.0, "fault", "cut sin-1 and fra-1", s=8.0),
        entry(10.21, "route", "fra-1: jkt-1 > sin-1 > fra-1 becomes jkt-1 > dxb-1 > fra-1", "fra-1"),
        entry(10.05, "stall", "picture frozen", "viewer-3", 0.41),
        entry(10.09, "stall", "picture frozen", "viewer-7", 0.55),
        entry(21.4, "stall", "picture frozen", "viewer-7", 0.21),
        entry(18.3, "route", "fra-1: back to jkt-1 > sin-1 > fra-1", "fra-1"),
        entry(12.0, "move", "fra-1 to lon-1", "viewer-9"),
    )


def _nodes() -> tuple[MapNode, ...]:
    edges = tuple(
        MapNode(name=name, kind="edge", region=region, lat=lat, lon=lon)
        for name, (_, region, lat, lon) in PLACES.items()
    )
    clients = tuple(
        MapNode(
            name=f"viewer-{number}", kind="viewer", region="fra" if number % 3 else "dxb",
            lat=50.1 if number % 3 else 25.2, lon=8.7 if number % 3 else 55.3,
            market="DE" if number % 3 else "AE", stack="stock" if number % 2 else "farcast",
        )
        for number in range(20)
    )  # fmt: skip
    publisher = MapNode(name="host", kind="publisher", region="jkt", lat=-6.2, lon=106.8, market="ID")
    return (*edges, publisher, *clients)
