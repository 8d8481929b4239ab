"""Prometheus metrics of the control plane, rendered from the controller at each scrape; nothing is kept.

Labels are bounded: states, kinds, edges (`MembersConfig.nodes_max`), keys with a quota (the first
`QUOTA_KEYS_MAX`) and pairs of regions (the first `REGION_PAIRS_MAX`). Links are told by pairs of regions and
not of edges, because those are a thousand times as many; ``farcast links`` has each. Links and routes are
those of the newest run of the planner, so a scrape costs no work that the planner has not done already.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from farcast import __version__
from farcast.control_plane import reading, reading_quotas
from farcast.control_plane.controller import Controller
from farcast.control_plane.network import Floats, Network
from farcast.proto.access.quotas import Amounts

REGION_PAIRS_MAX: Final = 1_024
QUOTA_KEYS_MAX: Final = 256
"""Keys of which quotas are told, the first by id; ``farcast token quotas`` has all."""
QUANTILES: Final = (0.5, 0.99, 1.0)


def render(
    controller: Controller, now_us: int, save_failures: int, expiry_unix_s: float | None = None
) -> bytes:
    """The text exposition; ``expiry_unix_s``: when our certificate ends."""
    registry = CollectorRegistry()
    registry.register(_Reading(controller, now_us, save_failures, expiry_unix_s))
    registry.register(_Planned(controller))
    registry.register(_Quotas(controller))
    ProcessCollector("farcast", registry=registry)
    return generate_latest(registry)


class _Reading(Collector):
    """Edges, plans and what happened."""

    def __init__(
        self, controller: Controller, now_us: int, save_failures: int, expiry_unix_s: float | None
    ) -> None:
        self._status = reading.status(controller, now_us)
        self._save_failures = save_failures
        self._directory_refused = controller.directory.refused
        self._ignored = controller.links.counters
        self._expiry_unix_s = expiry_unix_s

    def collect(self) -> Iterator[Metric]:
        """All metrics of this moment."""
        status = self._status
        yield InfoMetricFamily("farcast_build", "Version.", {"version": __version__})
        yield GaugeMetricFamily(
            "farcast_control_leading", "Whether this control plane leads, or is the only one.", 1
        )
        for name, text, value in (
            ("behind", "Edges that do not follow the newest plan.", len(status["behind"])),
            ("draining", "Edges that drain.", sum(edge["draining"] for edge in status["edges"])),
            (
                "overloaded",
                "Edges planned beyond what they can send.",
                len(status["overloaded"]),
            ),
            (
                "risk_group_names_unknown",
                "Names in risk groups that no edge of the cluster has.",
                len(status["risk_groups_naming_nobody"]),
            ),
            ("namespaces", "Namespaces of the directory.", status["namespaces"]),
            ("routes", "Routes in force.", status["routes"]),
            ("routes_kept_back", "Upgrades that wait for their turn.", status["kept_back"]),
            ("holding", "1 while no plans are made, after a start.", int(status["holding"])),
            ("plan_seconds", "Time of the newest run of the planner.", status["plan_ms"] / 1_000),
            ("plan_epoch", "Reign.", status["epoch"]),
            ("plan_sequence", "Newest plan.", status["sequence"]),
        ):
            yield GaugeMetricFamily(f"farcast_control_{name}", text, value)
        yield from self._edges(status["edges"])
        yield from self._counters()
        if self._expiry_unix_s is not None:
            expiry = GaugeMetricFamily(
                "farcast_certificate_expiry_timestamp_seconds",
                "When it ends, Unix time.",
                labels=["certificate"],
            )
            expiry.add_metric(["hop"], self._expiry_unix_s)
            yield expiry

    def _edges(self, edges: list[dict[str, Any]]) -> Iterator[Metric]:
        states = GaugeMetricFamily("farcast_control_edges", "Edges of the cluster.", labels=["state"])
        for state in ("connected", "absent", "awaited"):
            states.add_metric([state], sum(edge["state"] == state for edge in edges))
        yield states
        age = GaugeMetricFamily(
            "farcast_control_report_age_seconds", "Time since an edge reported.", labels=["node_id", "region"]
        )
        for edge in edges:
            if edge["report_ms"] is not None:
                age.add_metric([edge["node_id"], edge["region"]], edge["report_ms"] / 1_000)
        yield age
        for key, name, text, unit in (
            ("viewers", "farcast_control_viewers", "Viewers, as edges report.", 1),
            ("publishers", "farcast_control_publishers", "Publishers, as edges report.", 1),
            ("egress_bps", "farcast_control_egress_bytes_per_second", "Sent, as edges report.", 8),
        ):
            by_region: Counter[str] = Counter()
            for edge in edges:
                by_region[edge["region"]] += edge[key]
            family = GaugeMetricFamily(name, text, labels=["region"])
            for region, value in sorted(by_region.items()):
                family.add_metric([region], value / unit)
            yield family

    def _counters(self) -> Iterator[Metric]:
        status = self._status
        yield CounterMetricFamily("farcast_control_plan_runs", "Runs of the planner.", status["plans"])
        for name, text, counted in (
            ("farcast_control_events", "What happened, by kind.", status["counters"]),
            ("farcast_control_ignored", "Parts of reports that do not count, by kind.", self._ignored),
        ):
            totals = CounterMetricFamily(name, text, labels=["kind"])
            for kind, count in sorted(counted.items()):
                totals.add_metric([kind], count)
            yield totals
        yield CounterMetricFamily(
            "farcast_control_save_failures", "Changes that the disk did not take.", self._save_failures
        )
        yield CounterMetricFamily(
            "farcast_control_offers_refused", "Namespaces beyond a limit.", self._directory_refused
        )


class _Quotas(Collector):
    """How much of each key's quota is used, and how much edges hold to give out."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def collect(self) -> Iterator[Metric]:
        """One ratio for each bound of each key."""
        labels = ["key_id", "kind"]
        used = GaugeMetricFamily(
            "farcast_control_quota_used_ratio", "Used of a key's quota, by what is bounded.", labels=labels
        )
        held = GaugeMetricFamily(
            "farcast_control_quota_held_ratio", "Held by edges of a key's quota.", labels=labels
        )
        known = self._controller.access.quotas()
        for key_id in sorted(known)[:QUOTA_KEYS_MAX]:
            told = reading_quotas.totals(self._controller, key_id, known[key_id])
            for family, amounts in zip((used, held), told, strict=True):
                for kind, most, amount in zip(Amounts._fields, known[key_id], amounts, strict=True):
                    if most:
                        family.add_metric([key_id, kind], amount / most)
        yield from (used, held)


class _Planned(Collector):
    """Links and routes, as the newest run of the planner saw them."""

    def __init__(self, controller: Controller) -> None:
        self._planned = controller.cycle.planned

    def collect(self) -> Iterator[Metric]:
        """All metrics of the newest plan; none before the first."""
        if self._planned is None:
            return
        network = self._planned.job.network
        off_diagonal = ~np.eye(len(network.nodes), dtype=bool)
        measured = (network.rtt_ms > 0) & off_diagonal
        links = GaugeMetricFamily("farcast_control_links", "Directed links measured.", labels=["state"])
        fresh = network.usable & network.fresh
        for state, those in (
            ("fresh", fresh),
            ("stale", network.usable & ~network.fresh),
            ("unusable", ~network.usable),
        ):
            links.add_metric([state], int((those & measured).sum()))
        yield links
        yield from _region_links(network, measured & network.usable)
        trees = self._planned.plan.trees.values()
        delays_s = [ms / 1_000 for tree in trees for node, ms in tree.delay_ms.items() if node != tree.origin]
        losses = [loss for tree in trees for node, loss in tree.loss.items() if node != tree.origin]
        yield _quantiles("farcast_control_route_delay_seconds", "p99 delay of frames, by route.", delays_s)
        yield _quantiles("farcast_control_route_loss_ratio", "Loss of a planned route before repair.", losses)


def _region_links(network: Network, measured: Any) -> Iterator[Metric]:
    """The median round trip and the highest loss between each two regions, by direction."""
    rtt = GaugeMetricFamily(
        "farcast_control_link_rtt_seconds", "Median round trip.", labels=["src_region", "dst_region"]
    )
    loss = GaugeMetricFamily(
        "farcast_control_link_loss_ratio", "Highest loss of a link.", labels=["src_region", "dst_region"]
    )
    by_region: defaultdict[str, list[int]] = defaultdict(list)
    for position, node in enumerate(network.nodes):
        by_region[node.region].append(position)
    pairs = [(src, dst) for src in sorted(by_region) for dst in sorted(by_region)]
    for src, dst in pairs[:REGION_PAIRS_MAX]:
        block = np.ix_(by_region[src], by_region[dst])
        told = measured[block]
        if told.any():
            rtt.add_metric([src, dst], _finite(np.median(network.rtt_ms[block][told]) / 1_000))
            loss.add_metric([src, dst], _finite(network.loss[block][told].max()))
    yield from (rtt, loss)


def _quantiles(name: str, text: str, values: list[float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["quantile"])
    finite: Floats = np.array([value for value in values if np.isfinite(value)])
    if finite.size:
        for quantile in QUANTILES:
            family.add_metric([f"{quantile:g}"], float(np.quantile(finite, quantile)))
    return family


def _finite(value: Any) -> float:
    return float(value) if np.isfinite(value) else 0.0
