"""Prometheus metrics of an edge, rendered from one snapshot of its counters.

Nothing is kept between scrapes: the datapath counts anyway, and what it counted is the metric. Labels
are bounded: transports, directions, reasons, actions, and the edges at the other ends of our hops.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from farcast import __version__
from farcast.proto.access.scopes import Action
from farcast.proto.access.tokens import Cause

if TYPE_CHECKING:
    from farcast.edge.membership import Membership
    from farcast.proto._core import SnapshotDict

TRANSPORTS = ("quic", "webtransport", "hop")
PUBLIC = ("quic", "webtransport")
RATE_BUCKETS = (32e3, 125e3, 250e3, 500e3, 1e6, 2e6, 8e6)
QUEUE_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
"""Bounds of what sessions are counted by: bytes per second, seconds."""

_CONGESTION = {
    "rate_bps": (
        "farcast_session_rate_bytes_per_second",
        "What congestion control lets public sessions send, of those that are open.",
        RATE_BUCKETS,
        1 / 8,
    ),
    "pacing_bps": (
        "farcast_session_pacing_bytes_per_second",
        "What the pacers of public sessions let out, of those that are open.",
        RATE_BUCKETS,
        1 / 8,
    ),
    "queue_delay_us": (
        "farcast_session_queue_delay_seconds",
        "Standing queue on the way to clients, of the sessions that are open.",
        QUEUE_BUCKETS,
        1e-6,
    ),
}
"""Distributions over open sessions: key of the snapshot, name, text, bounds, its unit."""

LAYERS_SHOWN_MAX = 3
"""Subscriptions with more layers withheld count as with so many."""

_TOTALS = {
    "duplicate_bytes_in": ("farcast_duplicate_bytes", "Bytes received of objects that were already held."),
    "second_path_bytes_in": ("farcast_second_path_bytes", "Bytes of objects that second paths brought."),
    "second_path_new_bytes_in": (
        "farcast_second_path_first_bytes",
        "Those of them that nobody had brought before: what one path would have had to repair.",
    ),
    "streams_rejected": ("farcast_streams_rejected", "Data streams of peers that were refused."),
    "protocol_errors": ("farcast_protocol_errors", "Sessions and streams ended because a peer broke a rule."),
    "datagrams_dropped": ("farcast_datagrams_dropped", "Datagrams that could not be taken or sent."),
    "handshakes_refused": ("farcast_handshakes_refused", "Connections refused before they were established."),
    "stalls": (
        "farcast_stalls",
        "Times that the datapath ran 200 ms late or more: the process or its machine stood still.",
    ),
    "commands": ("farcast_agent_commands", "Commands from the Python agent to the datapath."),
    "events": ("farcast_agent_events", "Events from the datapath to the Python agent; not per object."),
}
_DIRECTED = {
    "udp_datagrams": ("farcast_udp_datagrams", "UDP datagrams."),
    "udp_bytes": ("farcast_udp_bytes", "Bytes in UDP datagrams."),
    "objects": ("farcast_objects", "Media objects, whole."),
    "object_bytes": ("farcast_object_bytes", "Bytes of media objects."),
}
_HOP_COUNTERS = {
    "chunks_sent": ("farcast_hop_chunks_sent", "Chunks sent for the first time."),
    "chunks_repaired": ("farcast_hop_chunks_repaired", "Chunks sent again."),
    "chunks_received": ("farcast_hop_chunks_received", "Chunks received."),
    "chunks_duplicate": ("farcast_hop_chunks_duplicate", "Chunks received that were already there."),
    "chunks_lost": ("farcast_hop_chunks_lost", "Chunks that the other end reported missing."),
    "rx_packets": ("farcast_hop_packets_expected", "Datagrams of the other end that were due here."),
    "rx_lost": ("farcast_hop_packets_lost", "Those of them that never came: loss before repair."),
    "chunks_given_up": ("farcast_hop_chunks_given_up", "Chunks whose repair was given up."),
    "symbols_sent": (
        "farcast_hop_repair_symbols_sent",
        "Repair symbols sent, coded over several lost chunks.",
    ),
    "chunks_restored": ("farcast_hop_chunks_restored", "Chunks computed from repair symbols."),
    "repair_bytes": ("farcast_hop_repair_bytes", "Bytes of repairs of every kind."),
    "media_bytes": ("farcast_hop_media_bytes", "Bytes of chunks sent for the first time."),
    "repairs_withheld": (
        "farcast_hop_repairs_withheld",
        "Repairs beyond the bound of repair bytes, or redundant in a full pipe.",
    ),
    "rounds_failed": (
        "farcast_hop_repair_rounds_failed",
        "Chunks that a whole round of repairs did not bring.",
    ),
    "budget_misses": ("farcast_hop_budget_misses", "Chunks that arrived after their budget."),
    "groups_shed": ("farcast_hop_groups_shed", "Groups dropped because the hop could not carry them."),
}


SWITCH_CAUSES = ("silent", "closed", "loss", "delay", "command")

_ROUTING = {
    "upstream_resumes": ("farcast_upstream_resumes", "Switches of upstreams after which media came again."),
    "standby_subscribes": ("farcast_standby_subscribes", "Standbys asked for."),
    "standbys_refused": ("farcast_standbys_refused", "Standbys refused or taken away by their edge."),
    "moves_given_up": ("farcast_moves_given_up", "Planned moves to an edge that did not deliver."),
    "moves_forced": ("farcast_moves_forced", "Planned moves of tracks on which nothing came."),
    "hops_silent": ("farcast_hops_silent", "Hops on which nothing was heard any more."),
    "tracks_starved": ("farcast_tracks_starved", "Tracks that viewers want and that nothing brings."),
    "second_paths_taken": ("farcast_second_paths_taken", "Times that a track took a second path."),
    "second_paths_given_up": ("farcast_second_paths_given_up", "Times that a track gave one up."),
    "sources_lost": ("farcast_sources_lost", "Tracks whose upstream went away."),
    "sessions_refused": ("farcast_sessions_refused", "Sessions refused after their handshake."),
    "sessions_unauthorized": (
        "farcast_sessions_unauthorized",
        "Sessions whose tokens ended.",
    ),
    "circles_ended": ("farcast_circles_ended", "Edges no longer served because the track comes by them."),
}
"""Counters of the agent, by their names there."""


def render(
    snapshot: SnapshotDict,
    *,
    ready: bool,
    hop_peers: dict[int, str],
    counters: Mapping[str, int],
    membership: Membership | None,
    expiries: Mapping[str, float | None] | None = None,
) -> bytes:
    """The text exposition; ``hop_peers`` maps sessions to the node ids at their other ends, ``counters`` are
    the agent's; ``expiries``: when our certificates end (Unix time), by what they are for."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(snapshot, ready, hop_peers))
    registry.register(_Routing(counters, membership))
    registry.register(_Trust(counters, expiries or {}))
    ProcessCollector("farcast", registry=registry)
    return generate_latest(registry)


class _Routing(Collector):
    """Upstreams, standbys and the plan."""

    def __init__(self, counters: Mapping[str, int], membership: Membership | None) -> None:
        self._counters = counters
        self._membership = membership

    def collect(self) -> Iterator[Metric]:
        switches = CounterMetricFamily(
            "farcast_upstream_switches", "Tracks that took another upstream.", labels=["cause"]
        )
        for cause in SWITCH_CAUSES:
            switches.add_metric([cause], self._counters.get(f"upstream_switches_{cause}", 0))
        yield switches
        gap = self._counters.get("upstream_gap_us", 0) / 1e6
        yield CounterMetricFamily("farcast_upstream_gap_seconds", "Media gaps of all switches together.", gap)
        for key, (name, text) in _ROUTING.items():
            yield CounterMetricFamily(name, text, self._counters.get(key, 0))
        if self._membership is not None:
            yield from self._network(self._membership)

    @staticmethod
    def _network(membership: Membership) -> Iterator[Metric]:
        connected = int(membership.link.joined)
        channel, reporter = membership.link.channel.counters, membership.engine.reporter.counters
        unsent = channel.get("reports_not_sent", 0)
        yield CounterMetricFamily("farcast_reports_not_sent", "Reports that did not get out.", unsent)
        jumps = reporter["clock_jumps"]
        yield CounterMetricFamily("farcast_clock_jumps", "Times that the wall clock jumped.", jumps)
        yield _gauge("farcast_control_connected", "1 while the edge has joined a control plane.", connected)
        offset = membership.clock_offset_seconds
        if offset is not None:
            text = "This machine's clock minus the control plane's, when it joined."
            yield _gauge("farcast_clock_offset_seconds", text, offset)
        plans = CounterMetricFamily("farcast_plans", "Plans considered.", labels=["outcome"])
        plans.add_metric(["applied"], membership.plans_applied)
        plans.add_metric(["refused"], membership.plans_refused)
        plans.add_metric(["file_refused"], membership.plan_files_refused)
        yield plans
        plan, age = membership.plan, membership.plan_age_seconds
        if plan is not None and age is not None:
            yield _gauge("farcast_plan_epoch", "Epoch of the plan in force.", plan.version.epoch.number)
            yield _gauge("farcast_plan_sequence", "Its sequence in the epoch.", plan.version.sequence)
            yield _gauge("farcast_plan_age_seconds", "Time since it was issued.", age)


class _Trust(Collector):
    """Who was turned away, and how long we can prove ourselves."""

    def __init__(self, counters: Mapping[str, int], expiries: Mapping[str, float | None]) -> None:
        self._counters = counters
        self._expiries = expiries

    def collect(self) -> Iterator[Metric]:
        refused = CounterMetricFamily(
            "farcast_requests_unauthorized", "Requests that no token allows.", labels=["action"]
        )
        for action in Action:
            name = action.name.lower()
            refused.add_metric([name], self._counters.get(f"unauthorized_{name}", 0))
        yield refused
        tokens = CounterMetricFamily(
            "farcast_tokens_refused", "Tokens that clients showed and that are no good.", labels=["cause"]
        )
        for cause in Cause:
            tokens.add_metric([cause.value], self._counters.get(f"tokens_refused_{cause}", 0))
        yield tokens
        hops = self._counters.get("hops_refused", 0)
        yield CounterMetricFamily("farcast_hops_refused", "Hops whose certificate does not count.", hops)
        failed = self._counters.get("tls_handshakes_failed", 0)
        text = "Incoming connections without a certificate that is good, where one is needed."
        yield CounterMetricFamily("farcast_tls_handshakes_failed", text, failed)
        expiry = GaugeMetricFamily(
            "farcast_certificate_expiry_timestamp_seconds", "When it ends, Unix time.", labels=["certificate"]
        )
        for certificate, unix_s in self._expiries.items():
            if unix_s is not None:
                expiry.add_metric([certificate], unix_s)
        yield expiry


class _Snapshot(Collector):
    def __init__(self, snapshot: SnapshotDict, ready: bool, hop_peers: dict[int, str]) -> None:
        self._snapshot = snapshot
        self._ready = ready
        self._hop_peers = hop_peers

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily(
            "farcast_build",
            "The running build.",
            {"version": __version__, "core": "rust", "python": platform.python_version()},
        )
        yield _gauge("farcast_ready", "1 while new viewers are accepted.", int(self._ready))
        yield from self._totals()
        yield from self._state()
        yield from self._congestion()
        yield from self._hops()

    def _totals(self) -> Iterator[Metric]:
        totals: dict[str, int] = dict(self._snapshot["totals"])  # type: ignore[arg-type]
        for key, (name, text) in _TOTALS.items():
            yield CounterMetricFamily(name, text, totals[key])
        for key, (name, text) in _DIRECTED.items():
            family = CounterMetricFamily(name, text, labels=["direction"])
            for direction in ("in", "out"):
                family.add_metric([direction], totals[f"{key}_{direction}"])
            yield family
        dropped = CounterMetricFamily(
            "farcast_groups_dropped", "Groups that a viewer did not get to its end.", labels=["reason"]
        )
        for reason in ("slow", "evicted"):
            dropped.add_metric([reason], totals[f"groups_dropped_{reason}"])
        yield dropped
        switches = CounterMetricFamily(
            "farcast_layer_switches", "Layers that viewers gave up, and got back.", labels=["direction"]
        )
        for way in ("down", "up"):
            switches.add_metric([way], totals[f"layer_switches_{way}"])
        yield switches

    def _state(self) -> Iterator[Metric]:
        snapshot = self._snapshot
        counts: Counter[str] = Counter(session["transport"] for session in snapshot["sessions"])
        sessions = GaugeMetricFamily("farcast_sessions", "Open sessions.", labels=["transport"])
        for transport in TRANSPORTS:
            sessions.add_metric([transport], counts[transport])
        yield sessions
        yield _gauge("farcast_tracks", "Tracks held.", snapshot["tracks"])
        two = snapshot["tracks_on_two_paths"]
        yield _gauge("farcast_tracks_on_two_paths", "Tracks that two edges send at the same time.", two)
        yield _gauge("farcast_cache_bytes", "Media kept for late joiners.", snapshot["cache_bytes"])
        yield _gauge(
            "farcast_downstreams", "Subscriptions that are being served.", len(snapshot["downstreams"])
        )
        queued = sum(downstream["queue_bytes"] for downstream in snapshot["downstreams"])
        yield _gauge("farcast_queue_bytes", "Media that waits for slow viewers.", queued)
        thinned = Counter(min(d["layers_given_up"], LAYERS_SHOWN_MAX) for d in snapshot["downstreams"])
        family = GaugeMetricFamily(
            "farcast_downstreams_thinned",
            "Subscriptions from which so many layers are withheld.",
            labels=["layers"],
        )
        for layers in range(1, LAYERS_SHOWN_MAX + 1):
            family.add_metric([str(layers)], thinned[layers])
        yield family

    def _congestion(self) -> Iterator[Metric]:
        public = [session for session in self._snapshot["sessions"] if session["transport"] in PUBLIC]
        for key, (name, text, bounds, unit) in _CONGESTION.items():
            values = [session[key] * unit for session in public]  # type: ignore[literal-required]
            buckets = [(str(bound), float(sum(value <= bound for value in values))) for bound in bounds]
            buckets.append(("+Inf", float(len(values))))
            yield GaugeHistogramMetricFamily(name, text, buckets=buckets, gsum_value=sum(values))
        limited = GaugeMetricFamily(
            "farcast_sessions_rate_limited", "Public sessions held below a limit.", labels=["cause"]
        )
        limited.add_metric(["capped"], sum(session["is_rate_capped"] for session in public))
        limited.add_metric(["competing"], sum(session["is_rate_competing"] for session in public))
        yield limited

    def _hops(self) -> Iterator[Metric]:
        hops = [
            (self._hop_peers.get(session["session"], session["remote"]), session, session["hop"])
            for session in self._snapshot["sessions"]
            if session["hop"] is not None
        ]
        rtt = GaugeMetricFamily("farcast_hop_rtt_seconds", "Smoothed round-trip time.", labels=["peer"])
        queue = GaugeMetricFamily("farcast_hop_queue_bytes", "Chunks that wait to be sent.", labels=["peer"])
        counters = {
            key: CounterMetricFamily(name, text, labels=["peer"])
            for key, (name, text) in _HOP_COUNTERS.items()
        }
        for peer, session, hop in hops:
            rtt.add_metric([peer], session["rtt_us"] / 1e6)
            queue.add_metric([peer], hop["queue_bytes"])
            for key, family in counters.items():
                family.add_metric([peer], hop[key])  # type: ignore[literal-required]
        yield from (rtt, queue, *counters.values())


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)
