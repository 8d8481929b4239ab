"""A network of planned edges in the twin: real datapaths, real agents, plans as an edge's store takes them.

The publisher sends an object every 20 ms, numbered, and viewers keep when they got which one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

from farcast.certificates import HopAuthority, make_dev_identity
from farcast.edge.credentials import peer_node_id
from farcast.proto._core import ClientTls, DatapathConfig, LinkConfig, ServerTls
from farcast.proto.agent import Agent, AgentConfig, PlanHops, Target
from farcast.proto.client import ConnectionConfig, Publisher, PublisherConfig, Viewer, ViewerConfig
from farcast.proto.client import events as client
from farcast.proto.control.edge_plan import EdgePlan, PlanStore, Refused
from farcast.proto.control.messages import (
    DirectoryEntry,
    Epoch,
    NodeInfo,
    PlanDelta,
    PlanVersion,
    RouteEntry,
)
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.recovery.second_path import SecondPaths
from farcast.simulations.twin import Twin

NOW = datetime.now(UTC)
SPACE = TrackNamespace.parse("live/a")
SECOND = 1_000_000
FRAME_US = 20_000
FRAMES_A_GROUP = 50
OBJECT_BYTES = 2_500
ACCESS = LinkConfig(delay_us=5_000)


class Watcher:
    """A viewer and what it got: time, group and object."""

    def __init__(self, connection: ConnectionConfig) -> None:
        self.engine = Viewer(ViewerConfig(connection, SPACE, wait_ms_max=60_000))
        self.arrived: list[tuple[int, int, int]] = []
        self.others: list[Any] = []

    def look(self, now_us: int) -> None:
        while (event := self.engine.poll_event()) is not None:
            if isinstance(event, client.ObjectReceived):
                self.arrived.append((now_us, event.group, event.object))
            else:
                self.others.append(event)

    def ids(self) -> list[tuple[int, int]]:
        return [(group, number) for _, group, number in self.arrived]

    def doubled(self) -> int:
        return len(self.ids()) - len(set(self.ids()))

    def missing(self) -> list[tuple[int, int]]:
        """Objects between the first and the last that did not arrive."""
        got = set(self.ids())
        first, last = min(got), max(got)
        numbers = range(first[0] * FRAMES_A_GROUP + first[1], last[0] * FRAMES_A_GROUP + last[1] + 1)
        return [divmod(n, FRAMES_A_GROUP) for n in numbers if divmod(n, FRAMES_A_GROUP) not in got]

    def gap_ms(self, since_us: int = 0) -> int:
        """The longest time without an object, from some moment on."""
        times = [at for at, _, _ in self.arrived if at >= since_us]
        return max((b - a for a, b in pairwise(times)), default=0) // 1_000


class Network:
    """Edges with a path between any two of them; ``rtt_ms`` says how long, 40 unless told otherwise."""

    def __init__(
        self,
        *names: str,
        seed: int = 7,
        rtt_ms: Mapping[tuple[str, str], int] | None = None,
        datapath: Mapping[str, int] | None = None,
        second_paths: SecondPaths | None = None,
    ) -> None:
        self.twin = Twin(seed)
        self._second_paths = second_paths or SecondPaths()
        self._datapath: dict[str, Any] = dict(datapath or {})
        self._authority = HopAuthority(NOW, seed=b"a" * 32)
        self._public = make_dev_identity(NOW, seed=b"p" * 32)
        self.hosts: dict[str, int] = {}
        self.agents: dict[str, Agent] = {}
        self.stores = {name: PlanStore(name, "sim") for name in names}
        self.sequence = 0
        self.publishers: list[Publisher] = []
        self.watchers: list[Watcher] = []
        self._frames = 0
        for name in names:
            self._add_edge(name)
        for index, a in enumerate(names):
            for b in names[index + 1 :]:
                given = (rtt_ms or {}).get((a, b), 40)
                self.twin.join(self.hosts[a], self.hosts[b], LinkConfig(delay_us=given * 500))

    def _add_edge(self, name: str) -> None:
        ours = self._authority.issue("sim", name)
        roots = [self._authority.certificate]
        tls = ServerTls(self._public.chain, self._public.key, ours.chain, ours.key, roots)
        hops = PlanHops(ClientTls(roots=roots, chain=ours.chain, key=ours.key))
        config = AgentConfig(
            node_id=name,
            seed=len(self.hosts) + 1,
            peer_identity=peer_node_id,
            plan_hops=hops,
            second_paths=self._second_paths,
        )
        self.agents[name] = Agent(config)
        self.hosts[name] = self.twin.add_host(
            self.address(name), self.agents[name], DatapathConfig(tls, **self._datapath)
        )

    def address(self, name: str) -> str:
        return f"10.0.1.{list(self.stores).index(name) + 1}:443"

    # --- plans --------------------------------------------------------------------------------------

    def delta(
        self,
        routes: Mapping[str, Mapping[str, Sequence[str]]],
        name: str,
        directory: str | None,
        changes: Mapping[str, Any] | None = None,
    ) -> PlanDelta:
        fields: dict[str, Any] = {
            "version": PlanVersion(epoch=Epoch(cluster="sim", number=1), sequence=self.sequence),
            "nodes": tuple(
                NodeInfo(
                    node_id=n, region=n, address=self.address(n), public_url=f"https://{self.address(n)}/"
                )
                for n in self.stores
            ),
            "routes": tuple(
                RouteEntry(origin=origin, upstreams=tuple(upstreams))
                for origin, upstreams in routes.get(name, {}).items()
            ),
            "directory": ()
            if directory is None
            else (DirectoryEntry(namespace=SPACE.fields, origin=directory),),
        }
        return PlanDelta(**{**fields, **(changes or {})})

    def push(self, routes: Mapping[str, Mapping[str, Sequence[str]]], directory: str | None = "o") -> None:
        """``routes``: edge to origin to its upstreams, parent first."""
        self.sequence += 1
        for name in self.stores:
            taken = self.offer(name, self.delta(routes, name, directory))
            assert isinstance(taken, EdgePlan), taken

    def offer(self, name: str, delta: PlanDelta) -> EdgePlan | Refused:
        """What an edge's shell does with a plan."""
        taken = self.stores[name].consider(delta)
        if isinstance(taken, EdgePlan):
            self.agents[name].apply_plan(self.twin.now_us(), taken)
        return taken

    # --- clients ------------------------------------------------------------------------------------

    def publish(self, edge: str, *, at_us: int = 0) -> None:
        publisher = Publisher(PublisherConfig(ConnectionConfig(self._target(edge)), SPACE))
        publisher.add_track(b"video")
        self.publishers.append(publisher)
        self._add_client(publisher, edge, self._drop_events, at_us)
        self.twin.at(max(at_us, SECOND), self._publish)

    def _drop_events(self, now_us: int) -> None:
        for publisher in self.publishers:
            while publisher.poll_event() is not None:
                pass

    def watch(self, edge: str, *, at_us: int = 0, others: Sequence[str] = ()) -> Watcher:
        """``others``: edges to move to."""
        alternatives = tuple(self._target(other) for other in others)
        watcher = Watcher(ConnectionConfig(self._target(edge), alternatives=alternatives))
        self.watchers.append(watcher)
        host = self._add_client(watcher.engine, edge, watcher.look, at_us)
        for other in others:
            self.twin.join(host, self.hosts[other], ACCESS)
        self.twin.at(at_us, lambda now_us: watcher.engine.subscribe(b"video", now_us))
        return watcher

    def _target(self, edge: str) -> Target:
        return Target("quic", self.address(edge), "localhost", ClientTls(insecure=True))

    def _add_client(self, engine: Publisher | Viewer, edge: str, look: Any, at_us: int) -> int:
        number = len(self.publishers) + len(self.watchers)
        host = self.twin.add_host(f"10.0.2.{number}:1", engine, DatapathConfig(), look)
        self.twin.join(host, self.hosts[edge], ACCESS)
        self.twin.at(at_us, engine.start)
        return host

    def _publish(self, now_us: int) -> None:
        group, number = divmod(self._frames, FRAMES_A_GROUP)
        last = number == FRAMES_A_GROUP - 1
        self.publishers[0].publish(b"video", group, number, bytes(OBJECT_BYTES), end_of_group=last)
        self._frames += 1
        self.twin.at(now_us + FRAME_US, self._publish)

    # --- faults -------------------------------------------------------------------------------------

    def cut(self, a: str, b: str, *, up: bool = False, one_way: bool = False) -> None:
        """Cut (or mend) the path from ``a`` to ``b``, and unless ``one_way`` the one back."""
        self.twin.world.set_link_up(self.hosts[a], self.hosts[b], up)
        if not one_way:
            self.twin.world.set_link_up(self.hosts[b], self.hosts[a], up)

    def kill(self, name: str) -> None:
        """Nothing reaches this edge any more, and nothing leaves it."""
        for other in self.stores:
            if other != name:
                self.cut(name, other)

    def run_until(self, t_us: int) -> None:
        self.twin.run_until(t_us)

    def run_for(self, seconds: float) -> None:
        self.twin.run_until(self.twin.now_us() + round(seconds * SECOND))

    def status(self, name: str) -> dict[str, Any]:
        return self.agents[name].status(self.twin.now_us())

    def source(self, name: str) -> str:
        """The edge that feeds the one track of an edge."""
        status = self.status(name)
        (track,) = status["tracks"]
        peers = self.agents[name].hop_peers()
        return peers[track["source_session"]]

    def standbys(self, name: str) -> list[str]:
        (track,) = self.status(name)["tracks"]
        return [standby["node_id"] for standby in track["standbys"] if standby["bound"]]

    def switches(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.status(name)["switches"]
        return found
