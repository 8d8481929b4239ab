"""What the API tells of operators' orders, of plan versions and of the last hour; as `reading`, nothing
kept."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Final

from farcast.control_plane.controller import Controller
from farcast.control_plane.edge_list import EdgeListing
from farcast.control_plane.intents import Override, Pin
from farcast.control_plane.link_history import MINUTE_US

HISTORY_LINKS_MAX: Final = 2_048
"""Links of one answer."""


def drains(controller: Controller) -> list[dict[str, Any]]:
    """Edges that drain, by order or by themselves."""
    return [
        {
            "node_id": member.node_id,
            "drain_ms": member.drain_ms if member.drain_us is not None else None,
            "ordered": member.drain_us is not None,
            "told": member.drain_sent,
        }
        for member in sorted(controller.members, key=lambda member: member.node_id)
        if member.draining
    ]


def pins(controller: Controller) -> list[dict[str, Any]]:
    """All pins, and why those are suspended that are."""
    return [pin_row(controller, pin) for pin in controller.orders.book.pins]


def pin_row(controller: Controller, pin: Pin) -> dict[str, Any]:
    """One pin, as the newest run of the planner saw it."""
    planned = controller.cycle.planned
    states = {state.pin: state.suspended for state in planned.plan.pins} if planned else {}
    return {
        "way": list(pin.way),
        "namespace": pin.namespace,
        "until_unix_us": pin.until_unix_us,
        "suspended": states.get(pin, "it comes with the next plan"),
    }


def kept_out(controller: Controller) -> list[dict[str, Any]]:
    """Edges that relay for nobody else."""
    return [
        {"node_id": kept.node_id, "until_unix_us": kept.until_unix_us}
        for kept in controller.orders.book.kept_out
    ]


def overrides(controller: Controller) -> list[dict[str, Any]]:
    """Prices and capacities set by order."""
    return [override_row(override) for override in controller.orders.book.overrides]


def override_row(override: Override) -> dict[str, Any]:
    """One of them."""
    return {
        "src": override.src,
        "dst": override.dst or None,
        "price_per_gb": override.price_per_gb,
        "capacity_bps": override.capacity_bps,
    }


def remark(controller: Controller) -> str:
    """Why prices have no effect, "" where they have or there are none."""
    priced = any(override.price_per_gb is not None for override in controller.orders.book.overrides)
    if not priced or controller.config.cycle.planner.price_ms_per_unit > 0:
        return ""
    return "prices count for nothing while [planner] price_ms_per_unit of the control plane is 0"


def bearing_on(controller: Controller, ways: Iterable[Iterable[str]]) -> list[dict[str, Any]]:
    """Overrides of what these ways send over."""
    hops = {hop for way in ways for hop in pairwise(way)}
    senders = {src for src, _ in hops}
    return [
        override_row(override)
        for override in controller.orders.book.overrides
        if (override.src in senders if not override.dst else override.key in hops)
    ]


def versions(controller: Controller) -> dict[str, Any]:
    """The newest versions of the plan, and who follows each."""
    members = sorted(member.node_id for member in controller.members)
    return {
        "epoch": controller.epoch.number,
        "versions": [
            {
                "sequence": version.sequence,
                "made_unix_us": controller.unix_us(version.made_us),
                "acked_ms": {
                    node_id: max(at_us - version.made_us, 0) // 1_000
                    for node_id, at_us in sorted(version.acked_us.items())
                },
                "missing": [node_id for node_id in members if node_id not in version.acked_us],
            }
            for version in controller.plan_log.versions
        ],
    }


def history(controller: Controller, src: str | None, dst: str | None) -> dict[str, Any] | None:
    """The last hour of links; ``None`` where that is more than one answer can hold."""
    kept = controller.links.history
    links = kept.links(src, dst) if kept is not None else {}
    if len(links) > HISTORY_LINKS_MAX:
        return None
    return {
        "period_s": MINUTE_US // 1_000_000,
        "links": [
            {"src": a, "dst": b, "minutes": [_rounded(minute._asdict()) for minute in minutes]}
            for (a, b), minutes in links.items()
        ],
    }


def edge_list(controller: Controller) -> dict[str, Any]:
    """What viewers are told of edges."""
    listings = [EdgeListing.of(member) for member in controller.members if member.hello.public_url]
    return {
        "signed": controller.pushes.views.edge_list or None,
        "edges": [
            {
                "node_id": each.node_id,
                "region": each.region,
                "url": each.url,
                "draining": each.draining,
                "load": each.load,
            }
            for each in sorted(listings, key=lambda each: each.node_id)
        ],
    }


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 2) if isinstance(value, float) else value for name, value in row.items()}
