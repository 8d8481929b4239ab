"""Six planned edges as far apart as the cloud's regions, and viewers that may move among them.

The film comes from Jakarta through Singapore to everybody, as it does on a real network; so when Singapore
stops, the edges that its viewers turn to have lost their upstream too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from farcast.cli.dev_world import RTT_MS, Conditions, dev_links
from farcast.clients.server import client_datapath
from farcast.proto._core import ClientTls, LinkConfig
from farcast.proto.agent.config import Target
from farcast.proto.client import ConnectionConfig

from .planned import SECOND, Network, Watcher

NODES = ("sin", "jkt", "dxb", "fra", "lon", "iad")
EGRESSES = ("dxb", "fra", "lon", "iad")
ROUTES = {
    "jkt": {},
    "sin": {"jkt": ["jkt", "dxb"]},
    "dxb": {"jkt": ["sin", "jkt", "fra"]},
    "fra": {"jkt": ["sin", "dxb", "jkt"]},
    "lon": {"jkt": ["sin", "dxb", "jkt"]},
    "iad": {"jkt": ["sin", "lon", "jkt"]},
}
HOME_MS = 10
"""Round trip from a viewer to an edge of its own region."""


def rtt_ms(a: str, b: str) -> int:
    """Between two regions, whole milliseconds."""
    if a == b:
        return HOME_MS
    return round(RTT_MS.get((a, b), RTT_MS.get((b, a), (0.0, 0.0)))[0])


class SixRegions(Network):
    """`Network` of the six regions, the film published in Jakarta from the first second on."""

    def __init__(
        self,
        *,
        seed: int = 7,
        routes: Mapping[str, Mapping[str, Sequence[str]]] = ROUTES,
        conditions: Conditions | None = None,
    ) -> None:
        """``conditions``: jitter, and loss like that, on all links between edges, as in `farcast dev`."""
        pairs = {(a, b): rtt_ms(a, b) for i, a in enumerate(NODES) for b in NODES[i + 1 :]}
        super().__init__(*NODES, seed=seed, rtt_ms=pairs)
        self._seed = seed
        links = {} if conditions is None else dev_links(conditions)
        for (a, b), link in links.items():
            self.twin.world.set_link(self.hosts[a[:3]], self.hosts[b[:3]], link)
        self.push(routes, "jkt")
        self.publish("jkt")
        self._client_hosts: list[int] = []

    def roam(
        self, edges: Sequence[str], *, region: str, at_us: int = 2 * SECOND, access_ms: int | None = None
    ) -> Watcher:
        """A viewer in a region that knows these edges, best first; ``access_ms``: its round trip to any of
        them, where it is not that between the regions."""
        targets = [Target("quic", self.address(e), "localhost", ClientTls(insecure=True)) for e in edges]
        seed = self._seed * 100 + len(self.watchers)
        watcher = Watcher(ConnectionConfig(targets[0], seed=seed, alternatives=tuple(targets[1:])))
        self.watchers.append(watcher)
        number = len(self.publishers) + len(self.watchers)
        host = self.twin.add_host(
            f"10.0.2.{number}:1", watcher.engine, client_datapath((18, 16)), watcher.look
        )
        self._client_hosts.append(host)
        for edge in edges:
            access = rtt_ms(region, edge) if access_ms is None else access_ms
            self.twin.join(host, self.hosts[edge], LinkConfig(delay_us=access * 500))
        self.twin.at(at_us, watcher.engine.start)
        self.twin.at(at_us, lambda now_us: watcher.engine.subscribe(b"video", now_us))
        return watcher

    def stop(self, name: str, *, up: bool = False) -> None:
        """As SIGSTOP: nothing reaches this edge, nothing leaves it, nobody is told; ``up`` lets it go on."""
        for other in NODES:
            if other != name:
                self.cut(name, other, up=up)
        for host in self._client_hosts:
            for a, b in ((host, self.hosts[name]), (self.hosts[name], host)):
                self.twin.world.set_link_up(a, b, up)
