"""A small world that can run twice, in virtual and in real time, and how far the two are apart.

Three edges: Jakarta, Singapore, Frankfurt. The way from Jakarta straight to Frankfurt is so long and loses so
much that the plan goes by Singapore, in both runs. The host publishes in Jakarta; two viewers watch in
Frankfurt, over raw QUIC and over WebTransport, each over an access of its own. Figures are chosen, not
measured: here the simulator is compared with the machine it models, not with the world. Both runs have the
same links from the same `LinkModel`; `bench/sim_error.py` has the real one, with processes, sockets and
shapers.

Also here: how far apart two sources of one sort of data are, if what is fitted on one is tried on the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from farcast.simulations.access import MOBILE_WINDOW_US, mobile_windows
from farcast.simulations.links import BurstLoss, LinkModel
from farcast.simulations.matrices import REGIONS, aws, azure
from farcast.simulations.packet_run import PacketRun
from farcast.simulations.places import AZURE_REGIONS
from farcast.simulations.raw import RawResult
from farcast.simulations.scenario import (
    EdgeGroup,
    FilmConfig,
    Load,
    Rendition,
    Scenario,
    Short,
    Transport,
    WorldConfig,
)
from farcast.simulations.world_spec import Client, EdgePath, EdgeSite, Reach, WorldSpec

Floats = NDArray[np.float64]

FRAMERATE: Final = 30
HEIGHT: Final = 360
VIDEO_BPS: Final = 800_000
AUDIO_BPS: Final = 64_000
ROOM: Final = "live/room1"
PUBLISHER: Final = "host"
PUBLISHER_EDGE: Final = "jkt-1"
VIEWERS: Final[Mapping[str, tuple[str, Transport]]] = {
    "viewer-1": ("fra-1", "quic"),
    "viewer-2": ("fra-1", "webtransport"),
}
"""By name: the edge and the transport."""

PLACES: Final = {
    "jkt-1": ("jkt", "ID", -6.2, 106.8),
    "sin-1": ("sin", "SG", 1.35, 103.8),
    "fra-1": ("fra", "DE", 50.1, 8.7),
}
"""By edge: region, country, latitude, longitude."""

SETTLE_SECONDS: Final = 20.0
"""Until then the plan may still go the straight way: routes are changed with care. The real run waits for its
route, too."""

UNDER_WAY_US: Final = 2_000_000
"""What is published last may not have arrived: it does not count."""


def _way(rtt_ms: float, jitter_ms: float, loss: float) -> LinkModel:
    return LinkModel(
        delay_us=round(rtt_ms * 500), jitter_us=round(jitter_ms * 1_000), losses=(BurstLoss(loss, 3.0),)
    )


def hop_links(bad: bool = False) -> dict[tuple[str, str], LinkModel]:
    """Each direction between every two edges; ``bad``: the straight way is best, has 200 ms, and loses 5 % in
    bursts of three."""
    ways = (
        {
            ("jkt-1", "sin-1"): _way(600, 0, 0.0),
            ("sin-1", "fra-1"): _way(900, 0, 0.0),
            ("jkt-1", "fra-1"): _way(200, 0, 0.05),
        }
        if bad
        else {
            ("jkt-1", "sin-1"): _way(18, 2, 0.002),
            ("sin-1", "fra-1"): _way(161, 4, 0.01),
            ("jkt-1", "fra-1"): _way(260, 8, 0.03),
        }
    )
    return {**ways, **{(b, a): model for (a, b), model in ways.items()}}


def access_links() -> dict[str, tuple[str, LinkModel]]:
    """By client: its edge, and its access, up and down alike."""
    uplink = LinkModel(delay_us=5_000, jitter_us=1_000, rate_bps=20_000_000, losses=(BurstLoss(0.001, 2.0),))
    viewer = LinkModel(delay_us=10_000, jitter_us=4_000, rate_bps=10_000_000, losses=(BurstLoss(0.005, 2.0),))
    return {
        PUBLISHER: (PUBLISHER_EDGE, uplink),
        **{name: (edge, viewer) for name, (edge, _) in VIEWERS.items()},
    }


@dataclass(frozen=True, slots=True)
class Seen:
    """What all viewers saw together. ``latency_ms``: from a frame's hand-over to the network to its last
    byte, sorted; ``missing``: frames that never came; ``route``: the way to the viewers' edge."""

    latency_ms: Floats
    missing: int
    packets_lost: int
    packets_sent: int
    """Of the viewers' downlinks."""
    route: tuple[str, ...]

    @classmethod
    def of(
        cls, latencies: Sequence[float] | Floats, missing: int, lost: int, sent: int, route: Sequence[str]
    ) -> Seen:
        """Sorts latencies."""
        return cls(np.sort(np.asarray(latencies, np.float64)), missing, lost, sent, tuple(route))

    def quantile(self, q: float) -> float:
        """Of latency, ms."""
        return float(np.quantile(self.latency_ms, q))

    @property
    def loss(self) -> float:
        """Share of datagrams that the viewers' downlinks lost."""
        return self.packets_lost / max(self.packets_sent, 1)

    def loss_interval(self) -> tuple[float, float]:
        """95 % of the share that runs of two packets on average leave, if the links are as they say."""
        wanted = access_links()["viewer-1"][1].mean_loss
        # A share of losses in runs of b varies as one of losses on their own account does in n / (2b - 1).
        count = max(self.packets_sent, 1) / (2 * 2.0 - 1)
        half = 1.96 * float(np.sqrt(wanted * (1 - wanted) / count))
        return max(wanted - half, 0.0), wanted + half


# ---- In virtual time -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FilmRates:
    """How large a film's frames are: pictures and sound, bit/s, and a key frame by another frame."""

    video_bps: int = VIDEO_BPS
    audio_bps: int = AUDIO_BPS
    key_ratio: float = 6.0


def run_virtual(
    seconds: float, skip_s: float, seed: int, rates: FilmRates | None = None, bad: bool = False
) -> Seen:
    """What viewers saw of so many seconds, the first ones left out, in virtual time. ``rates``: those that
    the film of the real run turned out to have, so that links are compared and not encoders. ``bad``: see
    `hop_links`."""
    spec = small_world(seed, rates or FilmRates(), bad)
    raw = PacketRun(spec, _scenario(seconds + SETTLE_SECONDS), seed).run()
    if raw.violations:
        raise RuntimeError(f"the virtual run failed: {raw.violations[0].invariant}: {raw.violations[0].text}")
    return _seen(raw, skip_s + SETTLE_SECONDS)


def small_world(seed: int, rates: FilmRates, bad: bool = False) -> WorldSpec:
    """The world as data."""
    edges = tuple(
        EdgeSite(
            node_id=node_id,
            region=region,
            country=country,
            provider="",
            lat=lat,
            lon=lon,
            capacity_bps=0,
            control=LinkModel(delay_us=500),
        )
        for node_id, (region, country, lat, lon) in PLACES.items()
    )
    paths = tuple(
        EdgePath(src=src, dst=dst, model=model, rtt_ms=2 * model.median_delay_us / 1_000)
        for (src, dst), model in hop_links(bad).items()
    )
    return WorldSpec(
        scenario="small-world",
        seed=seed,
        edges=edges,
        paths=paths,
        clients=tuple(_client(name, edge, model) for name, (edge, model) in access_links().items()),
        risk_groups=(),
        films=(_film(rates),),
        control_region=PLACES[PUBLISHER_EDGE][0],
    )


def _film(rates: FilmRates) -> FilmConfig:
    rendition = Rendition(height=HEIGHT, bitrate_bps=rates.video_bps, fps=FRAMERATE)
    return FilmConfig(
        name="film",
        renditions=(rendition,),
        audio_bps=rates.audio_bps,
        gop_ms=1_000,
        sizes="model",
        key_ratio=rates.key_ratio,
    )


def _client(name: str, edge: str, access: LinkModel) -> Client:
    region, country, lat, lon = PLACES[edge]
    kind: Literal["publisher", "viewer"] = "publisher" if name == PUBLISHER else "viewer"
    rtt_ms = 2 * access.median_delay_us / 1_000
    return Client(
        name=name,
        entry=name,
        kind=kind,
        stack="stock",
        transport="quic" if name == PUBLISHER else VIEWERS[name][1],
        market=country,
        country=country,
        region=region,
        lat=lat,
        lon=lon,
        room=ROOM,
        film="film" if kind == "publisher" else "",
        joins_us=0,
        leaves_us=None,
        access_up=access,
        access_down=access,
        access_rtt_ms=rtt_ms,
        access_rate_bps=access.rate_bps or 0,
        reaches=(Reach(node_id=edge, rtt_ms=rtt_ms),),
    )


def _scenario(seconds: float) -> Scenario:
    return Scenario(
        name="small-world",
        title="A small world in virtual and in real time",
        version=1,
        sources=(),
        measured=(),
        synthesised=("everything",),
        seed=1,
        duration_us=round(seconds * 1e6),
        scale="packets",
        world=WorldConfig(
            edges=tuple(EdgeGroup(region=region) for region, *_ in PLACES.values()),
            control_region=PLACES[PUBLISHER_EDGE][0],
        ),
        load=Load(films=(), publishers=(), viewers=()),
        events=(),
        promises=(),
        short=Short(),
        file=Path("small-world"),
    )


def _seen(raw: RawResult, skip_s: float) -> Seen:
    encode_us = np.array([track.encode_us for track in raw.tracks])
    handed_us = raw.frames["capture_us"] + encode_us[raw.frames["track"]]
    from_us, until_us = raw.began_us + round(skip_s * 1e6), raw.ended_us - UNDER_WAY_US
    published = int(((handed_us >= from_us) & (handed_us < until_us)).sum())
    latencies: list[Floats] = []
    missing = 0
    for client in raw.clients:
        if client.kind == "viewer":
            came = client.arrivals[client.arrivals["capture_us"] >= 0]
            began_us = came["capture_us"] + encode_us[came["track"]]
            counts = (began_us >= from_us) & (began_us < until_us)
            latencies.append((came["at_us"] - began_us)[counts] / 1e3)
            missing += published - int(counts.sum())
    down = [link for link in raw.links if link.dst in VIEWERS]
    lost, sent = sum(link.packets_lost for link in down), sum(link.packets for link in down)
    return Seen.of(np.concatenate(latencies), missing, lost, sent + lost, _route(raw))


def _route(raw: RawResult) -> list[str]:
    """Upstream from the viewers' edge, each time by the path with the most bytes."""
    carried = {(link.src, link.dst): link.bytes for link in raw.links if link.kind == "hop"}
    route = [VIEWERS["viewer-1"][0]]
    while route[0] != PUBLISHER_EDGE and len(route) < len(PLACES):
        route.insert(
            0, max((src for src, dst in carried if dst == route[0]), key=lambda s: carried[s, route[0]])
        )
    return route


def ks_distance(a: Floats, b: Floats) -> float:
    """Kolmogorov and Smirnov: the largest difference of two distribution functions; both sorted."""
    at = np.concatenate([a, b])
    of_a = np.searchsorted(a, at, side="right") / a.size
    of_b = np.searchsorted(b, at, side="right") / b.size
    return float(np.abs(of_a - of_b).max())


# ---- One source against another ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class MatrixError:
    """Round trips between the same cities in AWS and in Azure."""

    pairs: int
    error_ms_p50: float
    error_ms_p90: float
    ratio_p10: float
    ratio_p50: float
    ratio_p90: float


def matrix_error() -> MatrixError:
    """A world made of AWS's matrix, tried on Azure's, for the regions that have a short name in both."""
    names = sorted(set(REGIONS) & set(AZURE_REGIONS))
    names = [name for name in names if AZURE_REGIONS[name] in azure().regions]
    fitted = aws().between([REGIONS[name] for name in names]).rtt_ms
    tried = azure().between([AZURE_REGIONS[name] for name in names]).rtt_ms
    pairs = ~np.eye(len(names), dtype=bool)
    error_ms = np.abs(fitted - tried)[pairs]
    ratio = (fitted / np.where(pairs, tried, 1.0))[pairs]
    return MatrixError(
        int(pairs.sum()),
        *(float(np.quantile(error_ms, q)) for q in (0.5, 0.9)),
        *(float(np.quantile(ratio, q)) for q in (0.1, 0.5, 0.9)),
    )


@dataclass(frozen=True, slots=True)
class MobileError:
    """Akamai's loss windows: what good and median conditions let one expect of poor ones, given their mean
    loss alone, against what was measured there. Ratios minus one."""

    window_loss_error: float
    gap_error: float
    ks_distance: float
    """Of the share lost in a window: good and median together against poor."""


def mobile_error() -> MobileError:
    """The windows' depth is taken to be that of good and median conditions; only their distance changes."""
    fitted = [_windows(condition) for condition in ("good", "median")]
    depth = float(np.mean([shares.mean() for shares, _ in fitted]))
    shares, gap_us = _windows("poor")
    mean_loss = float(shares.mean()) * MOBILE_WINDOW_US / (gap_us + MOBILE_WINDOW_US)
    expected_gap_us = MOBILE_WINDOW_US * (depth / mean_loss - 1)
    pooled = np.sort(np.concatenate([each for each, _ in fitted]))
    return MobileError(
        depth / float(shares.mean()) - 1, expected_gap_us / gap_us - 1, ks_distance(pooled, np.sort(shares))
    )


def _windows(condition: str) -> tuple[Floats, float]:
    """The shares lost in windows, and the mean gap between two of them."""
    loss = mobile_windows(condition, np.random.default_rng(0))
    shares = np.array([share for _, _, share in loss.windows])
    return shares, loss.repeat_us / len(loss.windows) - MOBILE_WINDOW_US
