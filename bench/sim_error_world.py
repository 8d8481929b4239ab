"""The small world that `bench/sim_error.py` runs twice: its edges, links, clients and film.

Three edges: Jakarta, Singapore, Frankfurt. The way from Jakarta straight to Frankfurt is so long and loses so
much that the plan goes by Singapore, in both runs. The host publishes in Jakarta, two viewers watch in
Frankfurt, over raw QUIC and over WebTransport, each over an access of its own. Figures are chosen, not
measured: here the simulator is compared with reality, not with the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from farcast.clients.media.testsrc import TestSourceOptions
from farcast.simulations.links import BurstLoss, LinkModel

FRAMERATE: Final = 30
HEIGHT: Final = 360
VIDEO_BPS: Final = 800_000
AUDIO_BPS: Final = 64_000


@dataclass(frozen=True, slots=True)
class Edge:
    """One edge."""

    node_id: str
    region: str
    country: str
    lat: float
    lon: float


EDGES: Final = (
    Edge("jkt-1", "jkt", "ID", -6.2, 106.8),
    Edge("sin-1", "sin", "SG", 1.35, 103.8),
    Edge("fra-1", "fra", "DE", 50.1, 8.7),
)
PUBLISHER_EDGE: Final = "jkt-1"
VIEWERS: Final = {"viewer-1": ("fra-1", "quic"), "viewer-2": ("fra-1", "webtransport")}
"""By name: the edge and the transport."""


def _way(rtt_ms: float, jitter_ms: float, loss: float, burst: float = 3.0) -> LinkModel:
    return LinkModel(
        delay_us=round(rtt_ms * 500),
        jitter_us=round(jitter_ms * 1000),
        losses=(BurstLoss(loss, burst),) if loss else (),
    )


def hop_links() -> dict[tuple[str, str], LinkModel]:
    """Each direction between every two edges."""
    ways = {
        ("jkt-1", "sin-1"): _way(18, 2, 0.002),
        ("sin-1", "fra-1"): _way(161, 4, 0.01),
        ("jkt-1", "fra-1"): _way(260, 8, 0.03),
    }
    return {**ways, **{(b, a): model for (a, b), model in ways.items()}}


def access_links() -> dict[str, tuple[str, LinkModel, LinkModel]]:
    """By client: its edge, and its access up and down."""
    uplink = LinkModel(delay_us=5_000, jitter_us=1_000, rate_bps=20_000_000, losses=(BurstLoss(0.001, 2.0),))
    viewers = LinkModel(
        delay_us=10_000, jitter_us=4_000, rate_bps=10_000_000, losses=(BurstLoss(0.005, 2.0),)
    )
    return {
        "host": (PUBLISHER_EDGE, uplink, uplink),
        **{name: (edge, viewers, viewers) for name, (edge, _) in VIEWERS.items()},
    }


def film_options() -> TestSourceOptions:
    """The film of the real run; the virtual one has its rates, frames and groups."""
    return TestSourceOptions(
        width=640, height=HEIGHT, framerate=FRAMERATE, bitrate=VIDEO_BPS, gop_s=1.0, audio_bitrate=AUDIO_BPS
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """What all viewers saw: latencies from hand-over to complete arrival in ms, objects that never came, and
    datagrams of their downlinks."""

    latency_ms: NDArray[np.float64]
    missing: int
    packets_lost: int
    packets_sent: int

    @classmethod
    def of(cls, latencies: Sequence[float], missing: int, lost: int, sent: int) -> Seen:
        return cls(np.sort(np.asarray(latencies, np.float64)), missing, lost, sent)

    def quantile(self, q: float) -> float:
        """Of latency, ms."""
        return float(np.quantile(self.latency_ms, q))

    @property
    def loss(self) -> float:
        """Share of datagrams that the downlinks lost."""
        return self.packets_lost / max(self.packets_sent, 1)


def ks_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Kolmogorov-Smirnov: the largest difference of two distribution functions; both sorted."""
    at = np.concatenate([a, b])
    of_a = np.searchsorted(a, at, side="right") / a.size
    of_b = np.searchsorted(b, at, side="right") / b.size
    return float(np.abs(of_a - of_b).max())
