"""Which way the film takes to each viewer, as the control plane tells it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import trio

from farcast.cli.cluster import Cluster
from farcast.cli.control_api import control_api

from .faults import Fault, Kind

RELAY_FAULTS = ("relay killed", "relay stopped")
POLL_SECONDS = 0.5
POLLS_MAX = 60


class Branches:
    """Asks the control plane for the routes of one origin."""

    def __init__(self, cluster: Cluster, origin: str) -> None:
        self._origin = origin
        self._api = control_api(cluster.state_dir, None, None)

    async def of(self, node_ids: Sequence[str]) -> dict[str, list[str]]:
        """The branch to each node, from the origin on; waits until there is one for each."""
        for _ in range(POLLS_MAX):
            routes = await self._routes()
            if all(node_id in routes for node_id in node_ids):
                return {node_id: routes[node_id] for node_id in node_ids}
            await trio.sleep(POLL_SECONDS)
        raise RuntimeError(f"the control plane has no route from {self._origin} to all of {list(node_ids)}")

    async def pick(self, kind: Kind, seats: Sequence[str], draw: random.Random) -> Fault:
        """A fault of this kind that hits somebody's branch; a relay's where any branch has a relay."""
        branches = await self.of(seats)
        relayed = {seat: path for seat, path in branches.items() if len(path) > 2}
        if kind in RELAY_FAULTS and relayed:
            victim = draw.choice(sorted(relayed))
            return Fault(kind, relayed[victim][-2], victim)
        victim = draw.choice(sorted(branches))
        upstream = branches[victim][-2]
        if kind in RELAY_FAULTS:
            return Fault("link cut", upstream, victim)
        return Fault(kind, upstream, victim, outward=draw.random() < 0.5)

    async def drainable(self, seats: Sequence[str]) -> list[str]:
        """A relay that feeds somebody, if there is one, and one viewer's edge."""
        branches = await self.of(seats)
        relays = sorted({path[-2] for path in branches.values() if len(path) > 2})
        leaves = [seat for seat in seats if all(seat not in path[:-1] for path in branches.values())]
        return [*relays[:1], *leaves[:1]]

    async def _routes(self) -> dict[str, list[str]]:
        answer: dict[str, Any] = await trio.to_thread.run_sync(
            lambda: self._api.get("/routes", origin=self._origin)
        )
        return {route["node_id"]: route["path"] for route in answer["routes"]}
