"""What is broken, how, and how it is mended. Each fault hits the branch that brings the film to a viewer."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

from farcast.cli.cluster import Cluster

Kind = Literal["link cut", "one direction cut", "20 % loss one way", "relay killed", "relay stopped"]
KINDS: tuple[Kind, ...] = (
    "link cut",
    "one direction cut",
    "20 % loss one way",
    "relay killed",
    "relay stopped",
)

LOSS = 0.20
BURST = 3.0


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: ``upstream`` is the edge that feeds ``victim``. ``outward``: the direction that media takes
    is the one that is cut. ``breaks``: media by this upstream stops (a lossy link only gets worse).
    ``stands_in``: a relay was to fail, no branch had one, and a link was cut instead."""

    kind: Kind
    upstream: str
    victim: str
    outward: bool = True
    stands_in: bool = False

    @property
    def breaks(self) -> bool:
        """Whether nothing comes through any more."""
        return self.kind != "20 % loss one way"

    @property
    def dead_edge(self) -> str | None:
        """The edge whose own viewers have nobody to serve them."""
        return self.upstream if self.kind in ("relay killed", "relay stopped") else None

    def ways_ms(self, cluster: Cluster) -> dict[str, float]:
        """How long, without jitter, each edge that can notice it still gets what was under way before: one
        way; where the way towards the upstream is cut, a round trip: the upstream answers what reached it."""
        delay_us = {ends: link.delay_us for ends, link in cluster.links.normal.items()}
        ways = {to: us for (source, to), us in delay_us.items() if source == self.upstream}
        if self.dead_edge is None:
            ways = {self.victim: ways[self.victim]}
        if self.kind == "one direction cut" and not self.outward:
            ways[self.victim] += delay_us[self.victim, self.upstream]
        return {to: us / 1_000 for to, us in ways.items()}

    def begin(self, cluster: Cluster) -> None:
        """Break it now."""
        links = cluster.links
        match self.kind:
            case "link cut":
                links.cut(self.upstream, self.victim)
            case "one direction cut" if self.outward:
                links.cut(self.upstream, self.victim, both=False)
            case "one direction cut":
                links.cut(self.victim, self.upstream, both=False)
            case "20 % loss one way":
                links.worsen(self.upstream, self.victim, LOSS, BURST)
            case "relay killed":
                cluster.edges[self.upstream].kill()
            case "relay stopped":
                cluster.edges[self.upstream].signal(signal.SIGSTOP)

    async def end(self, cluster: Cluster) -> None:
        """Mend it."""
        match self.kind:
            case "relay killed":
                await cluster.edges[self.upstream].wait()
                await cluster.start_edge(self.upstream)
            case "relay stopped":
                cluster.edges[self.upstream].signal(signal.SIGCONT)
            case _:
                cluster.links.mend(self.upstream, self.victim)
