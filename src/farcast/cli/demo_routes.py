"""What the demo says of routes, and which way its film takes at this moment."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

READS_MAX = 5
"""How often routes and their reason are read until both are of one plan."""

ANSWER_SECONDS_MAX = 2.0

Get = Callable[..., dict[str, Any]]
"""`ControlApi.get`."""


@dataclass(frozen=True, slots=True)
class Told:
    """Routes to some edges and why one of them is as it is. ``sequence``: of the plan that both are of; where
    the plan moved at every reading, that of the routes, and ``is_one_plan`` is false."""

    sequence: int = 0
    is_one_plan: bool = True
    routes: list[dict[str, Any]] = field(default_factory=list)
    reason: dict[str, Any] = field(default_factory=dict)

    def lines(self) -> Iterator[str]:
        """For people."""
        both = "routes and why are those of this plan"
        yield f"plan    {self.sequence}: {both if self.is_one_plan else 'it moved while they were read'}"
        for route in self.routes:
            backups = ", ".join(route["backups"]) or "none"
            yield f"route   {' > '.join(route['path'])}   backups: {backups}"
        yield f"why     {self.reason['summary']}"
        if self.reason["kept_back"]:
            waits = self.reason["why_kept_back"] or "it was planned this moment"
            yield f"        not in force yet ({waits}); now it is {' > '.join(self.reason['in_force'])}"


def read_told(get: Get, origin: str, dst: str, node_ids: Sequence[str]) -> Told:
    """Routes from ``origin`` to edges, and why that to ``dst`` is so; read again while the plan moves."""
    for _ in range(READS_MAX):
        before = get("/plan")["sequence"]
        routes = [route for route in get("/routes", origin=origin)["routes"] if route["node_id"] in node_ids]
        reason = get("/why", src=origin, dst=dst)
        path: list[str] = next((route["path"] for route in routes if route["node_id"] == dst), [])
        is_one_plan = before == get("/plan")["sequence"] and path == reason["in_force"]
        if is_one_plan:
            break
    return Told(before, is_one_plan, routes, reason)


def status_of(ops: str) -> dict[str, Any] | None:
    """What an edge says of itself at its ops listener; ``None`` if it does not answer now."""
    try:
        with urllib.request.urlopen(f"http://{ops}/status.json", timeout=ANSWER_SECONDS_MAX) as answer:
            status: dict[str, Any] = json.load(answer)
    except (OSError, ValueError):
        return None
    return status


def film_way(status: dict[str, Any] | None, node_id: str) -> list[str]:
    """By which edges pictures come to ``node_id``, by its own word, itself the last; empty while none do."""
    tracks = status["agent"]["tracks"] if status is not None else []
    return next(
        ([*track["route"], node_id] for track in tracks if track["name"] == "video" and track["route"]), []
    )
