"""Which way the film takes to each viewer, as the edges themselves tell it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import httpx
import trio

from farcast.cli.cluster import Cluster
from farcast.proto._core import LinkConfig

from .faults import Fault, Kind

RELAY_FAULTS = ("relay killed", "relay stopped")
POLL_SECONDS = 0.5
POLLS_MAX = 60
ANSWER_SECONDS_MAX = 10.0
TRACK = "video"


def propagation(
    before: Sequence[str], after: Sequence[str], links: Mapping[tuple[str, str], LinkConfig]
) -> float:
    """Milliseconds that the move of a branch takes by distance alone: what was last sent on the old way has
    to reach the edge that left it, a question the new upstream, and the answer the end of the branch."""
    common = 0
    while common < min(len(before), len(after)) and before[-1 - common] == after[-1 - common]:
        common += 1
    if common in (0, len(before), len(after)):
        return 0.0
    ask = (after[-common], after[-common - 1])
    ways = [(before[-common - 1], before[-common]), ask, ask[::-1], *pairwise(after[-common:])]
    return sum(links[source, to].delay_us for source, to in ways) / 1_000


def fed_by(fault: Fault, routes: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Edges that took the film from the fault's upstream by what broke, by the branches that were in use."""
    if fault.dead_edge is None:
        return frozenset({fault.victim})
    pairs = (pair for path in routes.values() for pair in pairwise(path))
    return frozenset(to for source, to in pairs if source == fault.upstream)


def untouched(
    fault: Fault, routes: Mapping[str, Sequence[str]], rerouted: Mapping[str, Sequence[str]]
) -> frozenset[str]:
    """Edges by whose branch nothing broke, and whose branch is the same afterwards."""

    def is_whole(path: Sequence[str]) -> bool:
        broken = (fault.upstream, fault.victim)
        return fault.dead_edge not in path if fault.dead_edge else broken not in pairwise(path)

    return frozenset(n for n, path in routes.items() if is_whole(path) and rerouted.get(n) == path)


class Branches:
    """Asks edges by which way they take the film that an origin publishes."""

    def __init__(self, cluster: Cluster, origin: str) -> None:
        self._cluster = cluster
        self._origin = origin

    async def of(self, node_ids: Sequence[str]) -> dict[str, list[str]]:
        """The branch to each node that takes the film now, from the origin on; waits until any does."""
        for _ in range(POLLS_MAX):
            routes = {node_id: await self._route(node_id) for node_id in node_ids}
            found = {node_id: route for node_id, route in routes.items() if route}
            if found:
                return found
            await trio.sleep(POLL_SECONDS)
        raise RuntimeError(f"the film from {self._origin} comes to none of {list(node_ids)}")

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
            return Fault("link cut", upstream, victim, stands_in=True)
        return Fault(kind, upstream, victim, outward=draw.random() < 0.5)

    async def drainable(self, seats: Sequence[str]) -> list[tuple[str, bool]]:
        """A relay that feeds somebody, if there is one, and one viewer's edge that feeds none; with each
        whether it feeds another."""
        branches = await self.of(seats)
        relays = sorted({path[-2] for path in branches.values() if len(path) > 2})
        leaves = [seat for seat in branches if all(seat not in path[:-1] for path in branches.values())]
        return [*((relay, True) for relay in relays[:1]), *((leaf, False) for leaf in leaves[:1])]

    async def _route(self, node_id: str) -> list[str]:
        """From the origin to the node; empty while the film does not come."""
        ops = self._cluster.edges[node_id].ready["ops"]
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS_MAX) as client:
            status: dict[str, Any] = (await client.get(f"http://{ops}/status.json")).json()
        for track in status["agent"]["tracks"]:
            if track["name"] == TRACK and track["route"]:
                return [*track["route"], node_id]
        return []
