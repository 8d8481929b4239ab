"""Prometheus metrics of the control plane, rendered from the controller at each scrape; nothing is kept."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from farcast import __version__
from farcast.control_plane import reading
from farcast.control_plane.controller import Controller


def render(controller: Controller, now_us: int, save_failures: int) -> bytes:
    """The text exposition."""
    registry = CollectorRegistry()
    registry.register(_Reading(controller, now_us, save_failures))
    return generate_latest(registry)


class _Reading(Collector):
    def __init__(self, controller: Controller, now_us: int, save_failures: int) -> None:
        self._status = reading.status(controller, now_us)
        self._save_failures = save_failures
        self._directory_refused = controller.directory.refused

    def collect(self) -> Iterator[Metric]:
        """All metrics of this moment."""
        status = self._status
        yield InfoMetricFamily("farcast_build", "Version.", {"version": __version__})
        edges = GaugeMetricFamily("farcast_control_edges", "Edges of the cluster.", labels=["state"])
        for state in ("connected", "absent", "awaited"):
            edges.add_metric([state], sum(edge["state"] == state for edge in status["edges"]))
        yield edges
        for name, text, value in (
            ("behind", "Edges that do not follow the newest plan.", len(status["behind"])),
            ("namespaces", "Namespaces of the directory.", status["namespaces"]),
            ("routes", "Routes in force.", status["routes"]),
            ("routes_kept_back", "Upgrades that wait for their turn.", status["kept_back"]),
            ("plan_seconds", "Time of the newest run of the planner.", status["plan_ms"] / 1_000),
            ("plan_epoch", "Reign.", status["epoch"]),
            ("plan_sequence", "Newest plan.", status["sequence"]),
        ):
            yield GaugeMetricFamily(f"farcast_control_{name}", text, value)
        totals = CounterMetricFamily("farcast_control_events", "What happened, by kind.", labels=["kind"])
        for kind, count in status["counters"].items():
            totals.add_metric([kind], count)
        yield totals
        yield CounterMetricFamily(
            "farcast_control_save_failures", "Changes that the disk did not take.", self._save_failures
        )
        yield CounterMetricFamily(
            "farcast_control_offers_refused", "Namespaces beyond a limit.", self._directory_refused
        )
