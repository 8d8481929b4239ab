"""Writes the four dashboards beside it: ``python deploy/grafana/make_dashboards.py``.

The JSON is what Grafana's provisioning reads; it is made here because a panel is a line here and fifty there;
four files kept by hand drift apart. A test compares the files with what this makes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 39
"""Of Grafana 11; older ones are migrated when read."""

WIDTH, HEIGHT, COLUMNS = 12, 8, 24
FOLDER = Path(__file__).parent / "dashboards"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel: queries by their legend, and a unit by Grafana's name."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: str = "timeseries"
    text: str = ""


def rate(metric: str, by: str = "") -> str:
    """Of a counter, over the panel's interval, summed ``by`` labels."""
    edges = '{instance=~"$instance"}'
    return f"sum by ({by or 'instance'}) (rate({metric}{edges}[$__rate_interval]))"


def gauge(metric: str, by: str = "instance") -> str:
    """Of a gauge, summed ``by`` labels."""
    return f'sum by ({by}) ({metric}{{instance=~"$instance"}})'


def ratio(part: str, whole: str, by: str) -> str:
    """Of two counters' rates; nothing where the whole stands still."""
    return f"{rate(part, by)} / ({rate(whole, by)} > 0)"


HERE, HOP = "{{instance}}", "{{instance}} to {{peer}}"

NETWORK = [
    Panel("Edges", {"{{state}}": "sum by (state) (farcast_control_edges)"}, kind="stat"),
    Panel("Edges behind the newest plan", {"behind": "sum(farcast_control_behind)"}, kind="stat"),
    Panel(
        "Round trip by regions",
        {"{{src_region}} to {{dst_region}}": "farcast_control_link_rtt_seconds"},
        "s",
        text="Median of the links of two regions, as the planner sees them.",
    ),
    Panel(
        "Highest loss by regions",
        {"{{src_region}} to {{dst_region}}": "farcast_control_link_loss_ratio"},
        "percentunit",
        text="Before repair; the worst link of two regions.",
    ),
    Panel("Links", {"{{state}}": "sum by (state) (farcast_control_links)"}),
    Panel(
        "Age of reports",
        {"{{node_id}}": "farcast_control_report_age_seconds"},
        "s",
        text="Edges report each second.",
    ),
    Panel("Hop round trip", {HOP: 'farcast_hop_rtt_seconds{instance=~"$instance"}'}, "s"),
    Panel(
        "Hop loss before repair",
        {
            "{{peer}} to {{instance}}": ratio(
                "farcast_hop_packets_lost_total", "farcast_hop_packets_expected_total", "instance, peer"
            )
        },
        "percentunit",
    ),
    Panel("Run time of a plan", {"newest": "farcast_control_plan_seconds"}, "s"),
    Panel(
        "Events of the control plane",
        {"{{kind}}": "sum by (kind) (rate(farcast_control_events_total[$__rate_interval]))"},
        "ops",
    ),
]
EDGE = [
    Panel("Ready", {HERE: gauge("farcast_ready")}, kind="stat"),
    Panel("Sessions", {"{{instance}} {{transport}}": gauge("farcast_sessions", "instance, transport")}),
    Panel(
        "Bytes on the wire",
        {"{{instance}} {{direction}}": rate("farcast_udp_bytes_total", "instance, direction")},
        "Bps",
    ),
    Panel(
        "Datagrams on the wire",
        {"{{instance}} {{direction}}": rate("farcast_udp_datagrams_total", "instance, direction")},
        "pps",
    ),
    Panel("Datagrams dropped", {HERE: rate("farcast_datagrams_dropped_total")}, "pps"),
    Panel("Processor", {HERE: rate("farcast_process_cpu_seconds_total")}, "percentunit", text="Of one core."),
    Panel(
        "Memory",
        {
            f"{HERE} resident": gauge("farcast_process_resident_memory_bytes"),
            f"{HERE} cache": gauge("farcast_cache_bytes"),
            f"{HERE} queues": gauge("farcast_queue_bytes"),
        },
        "bytes",
    ),
    Panel("Tracks held", {HERE: gauge("farcast_tracks")}),
    Panel(
        "Peers that misbehave",
        {
            f"{HERE} streams": rate("farcast_streams_rejected_total"),
            f"{HERE} errors": rate("farcast_protocol_errors_total"),
            f"{HERE} handshakes": rate("farcast_handshakes_refused_total"),
        },
        "ops",
    ),
    Panel(
        "Requests that no token allows",
        {"{{instance}} {{action}}": rate("farcast_requests_unauthorized_total", "instance, action")},
        "ops",
    ),
    Panel(
        "Between Python and Rust",
        {
            f"{HERE} commands": rate("farcast_agent_commands_total"),
            f"{HERE} events": rate("farcast_agent_events_total"),
        },
        "ops",
        text="Not per object: if this follows the media rate, something is wrong.",
    ),
    Panel(
        "Days until certificates end",
        {"{{instance}} {{certificate}}": "(farcast_certificate_expiry_timestamp_seconds - time()) / 86400"},
        "d",
    ),
]
ROUTES = [
    Panel(
        "Delay of planned routes",
        {"quantile {{quantile}}": "farcast_control_route_delay_seconds"},
        "s",
        text="p99 delay of a frame from origin to edge, as planned; quantiles over all routes.",
    ),
    Panel(
        "Loss of planned routes before repair",
        {"quantile {{quantile}}": "farcast_control_route_loss_ratio"},
        "percentunit",
    ),
    Panel("Routes", {"in force": "farcast_control_routes", "kept back": "farcast_control_routes_kept_back"}),
    Panel("Switches of upstreams", {"{{cause}}": rate("farcast_upstream_switches_total", "cause")}, "ops"),
    Panel(
        "Mean media gap of a switch",
        {HERE: ratio("farcast_upstream_gap_seconds_total", "farcast_upstream_resumes_total", "instance")},
        "s",
    ),
    Panel(
        "Standbys",
        {
            f"{HERE} asked": rate("farcast_standby_subscribes_total"),
            f"{HERE} refused": rate("farcast_standbys_refused_total"),
        },
        "ops",
    ),
    Panel(
        "Chunks repaired",
        {HOP: ratio("farcast_hop_chunks_repaired_total", "farcast_hop_chunks_sent_total", "instance, peer")},
        "percentunit",
    ),
    Panel(
        "Chunks given up",
        {HOP: rate("farcast_hop_chunks_given_up_total", "instance, peer")},
        "ops",
        text="Media that came too late to be repaired.",
    ),
    Panel("Queues of hops", {HOP: gauge("farcast_hop_queue_bytes", "instance, peer")}, "bytes"),
    Panel("Age of the plan", {HERE: 'farcast_plan_age_seconds{instance=~"$instance"}'}, "s"),
    Panel("Plans", {"{{instance}} {{outcome}}": rate("farcast_plans_total", "instance, outcome")}, "ops"),
    Panel("Tracks that starve", {HERE: rate("farcast_tracks_starved_total")}, "ops"),
]
AUDIENCE = [
    Panel("Viewers", {"all": "sum(farcast_control_viewers)"}, kind="stat"),
    Panel("Publishers", {"all": "sum(farcast_control_publishers)"}, kind="stat"),
    Panel("Viewers by region", {"{{region}}": "farcast_control_viewers"}),
    Panel("Sent by region", {"{{region}}": "farcast_control_egress_bytes_per_second"}, "Bps"),
    Panel("Subscriptions served", {HERE: gauge("farcast_downstreams")}),
    Panel("Transports", {"{{transport}}": gauge("farcast_sessions", "transport")}),
    Panel(
        "Groups that viewers missed",
        {"{{instance}} {{reason}}": rate("farcast_groups_dropped_total", "instance, reason")},
        "ops",
    ),
    Panel("Media waiting for slow viewers", {HERE: gauge("farcast_queue_bytes")}, "bytes"),
    Panel(
        "Objects", {"{{instance}} {{direction}}": rate("farcast_objects_total", "instance, direction")}, "ops"
    ),
    Panel(
        "Viewers served per byte taken",
        {
            HERE: 'sum by (instance) (rate(farcast_object_bytes_total{direction="out",instance=~"$instance"}'
            '[$__rate_interval])) / (sum by (instance) (rate(farcast_object_bytes_total{direction="in",'
            'instance=~"$instance"}[$__rate_interval])) > 0)'
        },
        text="Bytes out for each byte in.",
    ),
    Panel(
        "Quotas used",
        {"{{key_id}} {{kind}}": "max by (key_id, kind) (farcast_control_quota_used_ratio)"},
        "percentunit",
        text="Of what an issuer's key may use in the whole cluster; at 100 % its next viewer is refused.",
    ),
    Panel(
        "Quotas held by edges",
        {"{{key_id}} {{kind}}": "max by (key_id, kind) (farcast_control_quota_held_ratio)"},
        "percentunit",
        text="What edges may give out of it by themselves; farcast token quotas says which edge holds what.",
    ),
]
DASHBOARDS = {"network": NETWORK, "edge": EDGE, "route-quality": ROUTES, "audience": AUDIENCE}


def dashboard(name: str, panels: list[Panel]) -> dict[str, Any]:
    """One dashboard as Grafana reads it."""
    instances = "label_values(farcast_build_info, instance)"
    variables = [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        {
            "name": "instance",
            "label": "Edge",
            "type": "query",
            "datasource": SOURCE,
            "query": instances,
            "definition": instances,
            "refresh": 2,
            "includeAll": True,
            "multi": True,
            "allValue": ".*",
            "current": {"text": ["All"], "value": ["$__all"]},
            "sort": 1,
        },
    ]
    return {
        "uid": f"farcast-{name}",
        "title": f"Farcast: {name.replace('-', ' ')}",
        "tags": ["farcast"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": variables},
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "tags": ["farcast"], "title": "Farcast", "asDropdown": False}],
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    column, row = number * WIDTH % COLUMNS, number * WIDTH // COLUMNS
    targets = [
        {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": query, "legendFormat": legend}
        for i, (legend, query) in enumerate(panel.queries.items())
    ]
    return {
        "id": number + 1,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "gridPos": {"x": column, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "options": {},
        "targets": targets,
    }


def texts() -> dict[str, str]:
    """The files' contents by name."""
    return {
        f"{name}.json": json.dumps(dashboard(name, panels), indent=1) + "\n"
        for name, panels in DASHBOARDS.items()
    }


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text)
