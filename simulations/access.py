"""How a client is connected to the Internet: its own two links, drawn from measurements of its country.

`mlab` is fixed access: M-Lab's NDT percentiles of October 2025. Four things have to be known of them:

- *minRTT* is to the nearest M-Lab server, which stands in the country only if some tests come near to nothing
  (`SERVER_AT_HOME_MS`). Where it does, a way to an edge abroad comes on top; where it does not, the
  measured RTT stands for that to the nearest edge, as it is. In China and Saudi Arabia it holds a long haul
  to another continent: see `HAUL_MS` and `NO_RTT`.
- *lossrate* is the share of retransmissions of a TCP that fills the link, most of it its own doing. A media
  flow below the link's rate meets a part of it: `Access.loss_fraction`. Its default, 0.1, comes from
  comparing the two sets that we have: eleven paths that Pantheon calibrated (2016-18, emulated loss, not
  self-inflicted) lose 0.5 % on average, the tests of their countries 6 %.
- percentiles are marginals: how RTT, loss and rate go together is unknown. One quantile for all of them, or a
  Gaussian copula of `Access.rank_correlation`.
- nothing is said of jitter or of queues: `JITTER_MEDIAN_US`, `QUEUE_MS`.

`mobile-*` adds what Akamai measured of cellular networks: windows of 70 ms in which packets are lost, and
rates that move. Gaps and losses in windows are drawn from their marginals apart from each other, because the
file pairs equal quantiles. The rate is M-Lab's of the country, the shape of its movement Akamai's.

All of it is synthesised from measured marginals; no trace of a single packet of these countries was at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from statistics import NormalDist
from typing import Final

import numpy as np

from farcast.simulations.backbone import queue_bytes
from farcast.simulations.data_files import read_rows
from farcast.simulations.links import (
    BurstLoss,
    DiurnalLoss,
    LinkModel,
    LossModel,
    TimedBurstLoss,
    TwoLevelLoss,
    WindowLoss,
)
from farcast.simulations.matrices import Floats
from farcast.simulations.scenario import Access

MLAB_PERCENTILES: Final = (1, 5, 10, 25, 50, 75, 90, 95, 99)

SERVER_AT_HOME_MS: Final = 10.0
"""A country whose p5 of minRTT is below this has an M-Lab server."""

HAUL_MS: Final[Mapping[str, float]] = {"SA": 86.8}
"""Long haul inside M-Lab's RTT that is taken off: Saudi tests go to Europe (median 113 ms); Bahrain to
Frankfurt is 86.8 ms in the AWS matrix. What is left is to a server at home."""

HAUL_LEFT_MS: Final = 5.0
"""At least this remains of an RTT that a haul was taken off."""

NO_RTT: Final[Mapping[str, str]] = {"CN": "china-wired"}
"""Countries whose M-Lab RTT says nothing of an edge nearby, and the profile to use instead."""

JITTER_MEDIAN_US: Final = 1_000
JITTER_SIGMA: Final = 1.1
"""Jitter of fixed access, each direction. Assumed: one packet in a thousand meets 30 ms, the maximum that
RFC 8867 reckons with."""

JITTER_REDRAW_US: Final = 100_000

WIFI_JITTER_MEDIAN_US: Final = 4_900
WIFI_JITTER_SIGMA: Final = 1.2
"""Weak Wi-Fi: 10 ms on average, p99 80 ms. Average and order of the tail as in Huitema's generator
(loss_jitter_models.csv, huitema_wifi_jitter) for an average of 10 ms."""

WIFI_LOSS: Final = 0.0477
"""Weak Wi-Fi: Nepal to AWS India, calibrated by Pantheon."""

QUEUE_MS: Final = 300.0
"""Drop-tail queue of an access: the nominal one of RFC 8868."""

PACKET_BYTES: Final = 1_500
"""Pantheon's queues are in packets of this size."""

CHINA_INBOUND: Final = DiurnalLoss(0.05, 0.40, 86_400_000_000, 0.286)
"""Mean 15 %, up to 40 % in the slow period (Zhu et al., SIGMETRICS 2020), which is 6.9 h a day and begins
with the scenario. The figure outside of it is what the mean leaves."""

CHINA_INBOUND_BPS: Final = 1_000_000
"""79 % of pairs were slower than this, inbound."""

MOBILE_WINDOW_US: Final = 70_000
MOBILE_RATE_STEP_US: Final = 1_000_000
MOBILE_RATE_BOUNDS: Final = (0.3, 1.5)
"""Rates move between these multiples of the country's, by the marginal of Akamai's ``fair`` by its median."""

MOBILE_CONDITIONS: Final = ("good", "median", "poor")

RFC8867_DELAY_US: Final = 50_000
RFC8867_JITTER_US: Final = 30_000
RFC8867_REPEAT_US: Final[Mapping[str, int]] = {"5.1": 100_000_000, "5.2": 125_000_000, "5.3": 100_000_000}
"""How long a schedule is, as in the code that the file is from."""


class AccessError(ValueError):
    """No access can be like that; ``key`` of the access table is at fault."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True, slots=True)
class DrawnAccess:
    """Two links, without any way beyond the access network. ``reaches_edge``: the delay is that to the
    nearest edge, wherever that is; else it ends in the client's own city."""

    up: LinkModel
    down: LinkModel
    reaches_edge: bool

    @property
    def rtt_ms(self) -> float:
        """In the median, with empty queues."""
        return (self.up.median_delay_us + self.down.median_delay_us) / 1_000


@dataclass(frozen=True, slots=True)
class Quantiles:
    """How bad a client's RTT, loss and rates are, 0 to 1 (0.75: RTT at p75, rates at p25)."""

    rtt: float
    loss: float
    rate: float


@dataclass(frozen=True, slots=True)
class MlabCountry:
    """Percentiles of one country: RTT in ms, loss a share, rates in Mbit/s, at `MLAB_PERCENTILES`."""

    country: str
    tests: int
    minrtt_ms: tuple[float, ...]
    lossrate: tuple[float, ...]
    down_mbps: tuple[float, ...]
    up_mbps: tuple[float, ...]

    @property
    def server_at_home(self) -> bool:
        """Whether an M-Lab server stands in the country."""
        return self.country in HAUL_MS or at_quantile(self.minrtt_ms, 0.05) < SERVER_AT_HOME_MS


@lru_cache(maxsize=1)
def mlab() -> Mapping[str, MlabCountry]:
    """M-Lab's percentiles by country (ISO 3166)."""
    metrics = ("minrtt_ms", "lossrate", "down_mbps", "up_mbps")
    return {
        row["country"]: MlabCountry(
            row["country"],
            int(row["tests"]),
            *(tuple(float(row[f"{metric}_p{p}"]) for p in MLAB_PERCENTILES) for metric in metrics),
        )
        for row in _rows("mlab_ndt_country_percentiles_2025_10.csv")
    }


def at_quantile(values: tuple[float, ...], share: float) -> float:
    """Between percentiles a straight line; beyond p1 and p99 nothing is known, and nothing is made up."""
    return float(np.interp(share * 100, MLAB_PERCENTILES, values))


def draw_quantiles(access: Access, draw: np.random.Generator) -> Quantiles:
    """How bad one client's access is: the access's one quantile, or three drawn between its two."""
    low, high = access.quantile
    common, *own = draw.standard_normal(4)
    weight = access.rank_correlation
    normal = NormalDist()
    ranks = (normal.cdf(weight**0.5 * common + (1 - weight) ** 0.5 * each) for each in own)
    return Quantiles(*(low + (high - low) * rank for rank in ranks))


def draw_access(access: Access, country: str, draw: np.random.Generator) -> DrawnAccess:
    """One client's links. `AccessError` names the key that asks for what there is not."""
    family, _, which = access.profile.partition(":")
    if family not in _PROFILES:
        raise AccessError("profile", f"unknown profile {access.profile!r}; known are {', '.join(PROFILES)}")
    quantiles = draw_quantiles(access, draw)
    drawn = _PROFILES[family](access, country, which, quantiles, draw)
    return _overridden(drawn, access)


def _mlab(access: Access, country: str, _: str, at: Quantiles, draw: np.random.Generator) -> DrawnAccess:
    if country not in mlab():
        raise AccessError("country", f"M-Lab's file has no country {country!r}")
    figures = mlab()[country]
    if country in NO_RTT and access.rtt_ms is None:
        raise AccessError(
            "profile",
            f"M-Lab's RTT of {country} holds the haul to another continent: give rtt_ms, or take the "
            f"profile {NO_RTT[country]!r}",
        )
    rtt_ms = at_quantile(figures.minrtt_ms, at.rtt)
    if country in HAUL_MS:
        rtt_ms = max(rtt_ms - HAUL_MS[country], HAUL_LEFT_MS)
    loss = access.loss_fraction * at_quantile(figures.lossrate, at.loss)
    one_way = LinkModel(
        delay_us=round(rtt_ms * 500),
        delay_log_median_us=JITTER_MEDIAN_US,
        delay_log_sigma=JITTER_SIGMA,
        delay_redraw_us=JITTER_REDRAW_US,
        losses=_burst(loss, access.loss_burst),
    )
    rates = (at_quantile(mbps, 1 - at.rate) for mbps in (figures.up_mbps, figures.down_mbps))
    up, down = (_with_rate(one_way, round(mbps * 1e6)) for mbps in rates)
    return DrawnAccess(up, down, reaches_edge=not figures.server_at_home)


def _wifi_weak(
    access: Access, country: str, which: str, at: Quantiles, draw: np.random.Generator
) -> DrawnAccess:
    drawn = _mlab(access, country, which, at, draw)
    loss = BurstLoss(WIFI_LOSS)

    def worse(model: LinkModel) -> LinkModel:
        return replace(
            model,
            delay_log_median_us=WIFI_JITTER_MEDIAN_US,
            delay_log_sigma=WIFI_JITTER_SIGMA,
            losses=(loss,),
        )

    return replace(drawn, up=worse(drawn.up), down=worse(drawn.down))


def _mobile(
    access: Access, country: str, which: str, at: Quantiles, draw: np.random.Generator
) -> DrawnAccess:
    condition = access.profile.removeprefix("mobile-")
    drawn = _mlab(access, country, which, at, draw)
    median_us, sigma = mobile_jitter()

    def moving(model: LinkModel) -> LinkModel:
        rate_bps = model.rate_bps or 0
        return replace(
            model,
            delay_log_median_us=median_us,
            delay_log_sigma=sigma,
            delay_redraw_us=5 * JITTER_REDRAW_US,
            losses=(mobile_windows(condition, draw),),
            rate_schedule=_moving_rate(rate_bps, draw),
            rate_repeat_us=len(_akamai("experience_based", "fair")) * MOBILE_RATE_STEP_US,
        )

    return replace(drawn, up=moving(drawn.up), down=moving(drawn.down))


def mobile_windows(condition: str, draw: np.random.Generator) -> WindowLoss:
    """Windows of 70 ms in which the share of packets is lost that Akamai measured, after gaps as measured;
    both in an order drawn for this link."""
    rows = _akamai("loss_based", condition)
    gaps = draw.permutation([float(row["gap_between_loss_s"]) for row in rows])
    losses = draw.permutation([float(row["loss_pct_in_70ms_window"]) / 100 for row in rows])
    windows: list[tuple[int, int, float]] = []
    at_us = 0
    for gap_s, loss in zip(gaps, losses, strict=True):
        at_us += round(gap_s * 1e6)
        windows.append((at_us, MOBILE_WINDOW_US, float(loss)))
        at_us += MOBILE_WINDOW_US
    return WindowLoss(tuple(windows), at_us)


@lru_cache(maxsize=1)
def mobile_jitter() -> tuple[int, float]:
    """Median (us) and sigma of one direction's delay above its least: half of Akamai's RTTs above their p5,
    by p50 and p90 of them."""
    rtt_ms = np.array([float(row["rtt_ms"]) for row in _akamai("loss_based", "poor")])
    least, p50, p90 = np.quantile(rtt_ms, [0.05, 0.5, 0.9])
    return round((p50 - least) * 500), float(
        np.log((p90 - least) / (p50 - least)) / NormalDist().inv_cdf(0.9)
    )


def _moving_rate(rate_bps: int, draw: np.random.Generator) -> tuple[tuple[int, int], ...]:
    kbps = np.array([float(row["throughput_kbps"]) for row in _akamai("experience_based", "fair")])
    shape: Floats = np.clip(draw.permutation(kbps / np.median(kbps)), *MOBILE_RATE_BOUNDS)
    return tuple(
        (at * MOBILE_RATE_STEP_US, max(round(rate_bps * factor), 1)) for at, factor in enumerate(shape)
    )


def _china(access: Access, country: str, which: str, at: Quantiles, draw: np.random.Generator) -> DrawnAccess:
    ids = {
        "china-wired": ("aws_korea_to_china", 0.0006),
        "china-mobile": ("china_cell_to_aws_korea_2016-12-30", 0.0025),
    }
    path, loss = ids[access.profile]
    row = _pantheon()[path]
    up = LinkModel(
        delay_us=round(float(row["one_way_delay_ms"]) * 1_000),
        delay_log_median_us=JITTER_MEDIAN_US,
        delay_log_sigma=JITTER_SIGMA,
        delay_redraw_us=JITTER_REDRAW_US,
        rate_bps=round(float(row["bottleneck_mbps"]) * 1e6),
        queue_bytes=int(row["queue_packets"]) * PACKET_BYTES,
        losses=_burst(loss, 1.0),
    )
    rate_bps = CHINA_INBOUND_BPS
    queue = queue_bytes(rate_bps, QUEUE_MS)
    down = replace(up, rate_bps=rate_bps, queue_bytes=queue, losses=(CHINA_INBOUND,))
    return DrawnAccess(up, down, reaches_edge=True)


def _pantheon_path(
    access: Access, country: str, which: str, at: Quantiles, draw: np.random.Generator
) -> DrawnAccess:
    if which not in _pantheon():
        raise AccessError("profile", f"unknown Pantheon path {which!r}; known are {', '.join(_pantheon())}")
    row = _pantheon()[which]
    model = LinkModel(
        delay_us=round(float(row["one_way_delay_ms"]) * 1_000),
        rate_bps=round(float(row["bottleneck_mbps"]) * 1e6),
        queue_bytes=int(row["queue_packets"]) * PACKET_BYTES,
    )
    forward, backward = (
        replace(model, losses=_burst(float(row[f"{side}link_loss"]), 1.0)) for side in ("up", "down")
    )
    # Forward is the direction of data: from the cloud where the path begins there, else from the client.
    up, down = (backward, forward) if row["src"].startswith("AWS") else (forward, backward)
    return DrawnAccess(up, down, reaches_edge=True)


def _atc(access: Access, country: str, which: str, at: Quantiles, draw: np.random.Generator) -> DrawnAccess:
    rows = {row["profile"]: row for row in _rows("meta_atc_profiles.csv")}
    if which not in rows:
        raise AccessError("profile", f"unknown ATC profile {which!r}; known are {', '.join(rows)}")
    up, down = (
        _with_rate(
            LinkModel(
                delay_us=round(float(rows[which][f"{side}_delay_ms"]) * 1_000),
                losses=_burst(float(rows[which][f"{side}_loss_pct"]) / 100, 1.0),
            ),
            round(float(rows[which][f"{side}_kbps"]) * 1_000),
        )
        for side in ("up", "down")
    )
    return DrawnAccess(up, down, reaches_edge=True)


def _rfc8867(
    access: Access, country: str, which: str, at: Quantiles, draw: np.random.Generator
) -> DrawnAccess:
    if which not in RFC8867_REPEAT_US:
        known = ", ".join(RFC8867_REPEAT_US)
        raise AccessError("profile", f"unknown RFC 8867 case {which!r}; known are {known}")
    model = LinkModel(delay_us=RFC8867_DELAY_US, jitter_us=RFC8867_JITTER_US)
    up, down = (_scheduled(model, which, side) for side in ("backward", "forward"))
    return DrawnAccess(up, down, reaches_edge=True)


def _scheduled(model: LinkModel, case: str, side: str) -> LinkModel:
    rows = [row for row in _rows("rfc8867_capacity_schedules.csv") if row["case"] == case]
    steps = tuple(
        (
            round(float(row["t_s"]) * 1e6),
            round(float(row["capacity_ratio"]) * float(row["reference_mbps"]) * 1e6),
        )
        for row in rows
        if row["direction"] == side
    )
    if not steps:
        return model
    repeat_us = RFC8867_REPEAT_US[case]
    kept = tuple(step for step in steps if step[0] < repeat_us)
    highest = max(bps for _, bps in kept)
    return replace(
        model, rate_schedule=kept, rate_repeat_us=repeat_us, queue_bytes=queue_bytes(highest, QUEUE_MS)
    )


def _plain(access: Access, country: str, which: str, at: Quantiles, draw: np.random.Generator) -> DrawnAccess:
    if access.rtt_ms is None:
        raise AccessError("rtt_ms", "the profile 'plain' needs rtt_ms")
    return DrawnAccess(LinkModel(), LinkModel(), reaches_edge=True)


_PROFILES: Final[Mapping[str, Callable[[Access, str, str, Quantiles, np.random.Generator], DrawnAccess]]] = {
    "mlab": _mlab,
    "wifi-weak": _wifi_weak,
    "mobile-good": _mobile,
    "mobile-median": _mobile,
    "mobile-poor": _mobile,
    "china-wired": _china,
    "china-mobile": _china,
    "pantheon": _pantheon_path,
    "atc": _atc,
    "rfc8867": _rfc8867,
    "plain": _plain,
}

PROFILES: Final = tuple(
    f"{name}:{{name}}" if name in ("pantheon", "atc", "rfc8867") else name for name in _PROFILES
)
"""How profiles are written."""


def _overridden(drawn: DrawnAccess, access: Access) -> DrawnAccess:
    up, down = drawn.up, drawn.down
    if access.rtt_ms is not None:
        delay_us = round(access.rtt_ms * 500)
        up, down = (replace(model, delay_us=delay_us) for model in (up, down))
        drawn = replace(drawn, reaches_edge=True)
    if access.loss is None and (access.loss_bad is not None or access.loss_burst_ms is not None):
        key = "loss_bad" if access.loss_bad is not None else "loss_burst_ms"
        raise AccessError(key, "says how losses come, and there is no loss beside it that says how many")
    if access.loss is not None:
        losses = _losses(access, access.loss)
        up, down = (replace(model, losses=losses) for model in (up, down))
    if access.jitter_ms is not None:
        jitter_us = round(access.jitter_ms * 1_000)
        up, down = (
            replace(model, jitter_us=jitter_us, delay_log_median_us=0, delay_log_sigma=0.0)
            for model in (up, down)
        )
    up = _limited(up, access.up_bps, access)
    down = _limited(down, access.down_bps, access)
    return replace(drawn, up=up, down=down)


def _limited(model: LinkModel, rate_bps: int | None, access: Access) -> LinkModel:
    """With the access's own rate, queue and policer, where it gives them."""
    if rate_bps is not None:
        model = _with_rate(replace(model, rate_schedule=(), rate_repeat_us=0), rate_bps)
    bps = model.rate_bps or max((bps for _, bps in model.rate_schedule), default=None)
    if access.queue_ms is not None and bps is not None:
        model = replace(model, queue_bytes=queue_bytes(bps, access.queue_ms))
    if access.policer_bps is not None:
        burst = max(access.policer_bps // 80, PACKET_BYTES)  # 100 ms
        model = replace(model, policer_bps=access.policer_bps, policer_burst_bytes=burst)
    return model


def _with_rate(model: LinkModel, rate_bps: int) -> LinkModel:
    return replace(model, rate_bps=max(rate_bps, 1), queue_bytes=queue_bytes(rate_bps, QUEUE_MS))


def _losses(access: Access, loss: float) -> tuple[LossModel, ...]:
    """Losses in the form that an access asks for: runs of packets, outages in time, or two levels."""
    if access.loss_burst_ms is not None:
        return (TimedBurstLoss(loss, max(round(access.loss_burst_ms * 1_000), 1)),) if loss > 0 else ()
    if access.loss_bad is None:
        return _burst(loss, access.loss_burst)
    if not 0.0 < access.bad_share < 1.0:
        raise AccessError("bad_share", f"{access.bad_share:g}: neither none nor all of the packets")
    leaves = 1.0 / access.bad_packets
    return (
        TwoLevelLoss(
            good=BurstLoss(loss, 1.0),
            bad=BurstLoss(access.loss_bad, access.loss_burst),
            good_to_bad=leaves * access.bad_share / (1.0 - access.bad_share),
            bad_to_good=leaves,
        ),
    )


def _burst(loss: float, burst: float) -> tuple[BurstLoss, ...]:
    return (BurstLoss(loss, burst),) if loss > 0 else ()


@lru_cache(maxsize=16)
def _akamai(mode: str, condition: str) -> tuple[Mapping[str, str], ...]:
    rows = _rows("akamai_cellular_conditions.csv")
    return tuple(row for row in rows if (row["mode"], row["condition"]) == (mode, condition))


@lru_cache(maxsize=1)
def _pantheon() -> Mapping[str, Mapping[str, str]]:
    return {row["id"]: row for row in _rows("pantheon_calibrated_paths.csv")}


@lru_cache(maxsize=16)
def _rows(name: str) -> tuple[Mapping[str, str], ...]:
    return tuple(read_rows(name))
