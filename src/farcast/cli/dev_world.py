"""The six regions of ``farcast dev`` and the links between them.

Round trips are those between AWS regions, median and 90th percentile over one year to July 2025
(cloudping.co, as collected in commonwarexyz/monorepo, examples/estimator). The difference of the two is
spread over both directions as jitter. Loss is synthesised: `LOSS` everywhere (XRON, SIGCOMM 2023, table 3:
0.18 % on average between cloud regions over the Internet), and `LOSS_FAR` on Jakarta's own links to other
continents, as an access network's long hauls have it. So it pays to go through Singapore, and the plan shows
that it does.
"""

from __future__ import annotations

from dataclasses import dataclass

from farcast.cli.cluster import Place
from farcast.errors import EXIT_USAGE, UserError
from farcast.proto._core import LinkConfig

ORIGIN = "jkt-1"
"""Where the demo's film is published."""

EGRESSES = ("fra-1", "dxb-1", "iad-1")
"""Where it is watched."""

PLACES = tuple(Place(f"{region}-1", region) for region in ("sin", "jkt", "dxb", "fra", "lon", "iad"))
LOSS = 0.002
LOSS_FAR = 0.02
BURST = 3.0

RTT_MS = {
    ("sin", "jkt"): (17.6, 20.4),
    ("sin", "dxb"): (90.1, 93.4),
    ("sin", "fra"): (161.2, 165.2),
    ("sin", "lon"): (169.9, 177.7),
    ("sin", "iad"): (219.0, 231.1),
    ("jkt", "dxb"): (107.2, 116.8),
    ("jkt", "fra"): (178.8, 190.4),
    ("jkt", "lon"): (190.8, 201.8),
    ("jkt", "iad"): (235.9, 246.1),
    ("dxb", "fra"): (116.9, 121.8),
    ("dxb", "lon"): (123.5, 128.9),
    ("dxb", "iad"): (194.4, 199.1),
    ("fra", "lon"): (17.6, 20.3),
    ("fra", "iad"): (92.7, 95.3),
    ("lon", "iad"): (77.5, 80.4),
}
"""Median and 90th percentile of the round trip, by pair of regions. ap-southeast-1 and -3, me-central-1,
eu-central-1, eu-west-2, us-east-1."""

FAR = frozenset({"dxb", "fra", "lon", "iad"})


@dataclass(frozen=True, slots=True)
class Conditions:
    """Shares lost, in bursts of so many packets: between any two regions, and on Jakarta's long hauls."""

    loss: float = LOSS
    loss_far: float = LOSS_FAR
    burst: float = BURST


def dev_links(conditions: Conditions) -> dict[tuple[str, str], LinkConfig]:
    """Each direction between every two places; `UserError` if a link cannot be like that."""
    links: dict[tuple[str, str], LinkConfig] = {}
    for (a, b), (p50_ms, p90_ms) in RTT_MS.items():
        is_far = "jkt" in (a, b) and not FAR.isdisjoint((a, b))
        loss = conditions.loss_far if is_far else conditions.loss
        try:
            link = LinkConfig(
                delay_us=round(p50_ms * 500),
                jitter_us=round((p90_ms - p50_ms) * 500),
                loss=loss,
                loss_burst=conditions.burst if loss else None,
            )
        except (ValueError, OverflowError) as error:
            raise UserError(f"the links cannot be like that: {error}", EXIT_USAGE) from error
        links[f"{a}-1", f"{b}-1"] = links[f"{b}-1", f"{a}-1"] = link
    return links
