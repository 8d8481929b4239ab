"""Plans for edges of a `World`, taken by a `PlanStore` as those of a control plane are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from farcast.proto.control.edge_plan import EdgePlan, PlanStore
from farcast.proto.control.messages import (
    DirectoryEntry,
    Epoch,
    NodeInfo,
    PlanDelta,
    PlanVersion,
    RouteEntry,
)
from farcast.proto.joining.revocations import Revocations

from .world import Host, World


class Plans:
    """Makes one plan after the other for all edges of a world: where namespaces are, and for each edge and
    origin its upstreams."""

    def __init__(self, world: World, *edges: Host) -> None:
        self.world = world
        self.edges = {edge.name: edge for edge in edges}
        self.stores = {edge.name: PlanStore(edge.name) for edge in edges}
        self.sequence = 0
        self.public_urls: dict[str, str] = {}

    def push(
        self,
        directory: Mapping[str, str],
        routes: Mapping[str, Mapping[str, Sequence[str]]],
        *,
        to: Sequence[Host] | None = None,
        probe: bool = True,
        edge_list: str | None = None,
        left_out: Sequence[str] = (),
        revoked: Revocations | None = None,
    ) -> None:
        """``directory``: namespace to origin; ``routes``: edge to origin to its upstreams, parent first."""
        self.sequence += 1
        version = PlanVersion(epoch=Epoch(cluster="test", number=1), sequence=self.sequence)
        for edge in to if to is not None else self.edges.values():
            delta = PlanDelta(
                version=version,
                nodes=tuple(
                    NodeInfo(
                        node_id=name,
                        region=name,
                        address=host.address,
                        probe=probe,
                        public_url=self.public_urls.get(name, ""),
                    )
                    for name, host in self.edges.items()
                    if name not in left_out
                ),
                routes=tuple(
                    RouteEntry(origin=origin, upstreams=tuple(upstreams))
                    for origin, upstreams in routes.get(edge.name, {}).items()
                ),
                directory=tuple(
                    DirectoryEntry(namespace=tuple(f.encode() for f in space.split("/")), origin=origin)
                    for space, origin in directory.items()
                ),
                edge_list=edge_list,
                revoked=revoked,
            )
            plan = self.stores[edge.name].consider(delta)
            assert isinstance(plan, EdgePlan), plan
            edge.engine.apply_plan(self.world.now_us, plan)


def source_of(edge: Host) -> str | None:
    """The edge that feeds the one track of this edge: as its agent says and its datapath does."""
    (track,) = edge.engine.status(edge.world.now_us)["tracks"]
    key = edge.reroutes.active.get(track["track"])
    assert key is None or key[0] == track["source_session"], "agent and datapath differ"
    return None if key is None else peer_of(edge, key[0])


def standbys_of(edge: Host) -> list[str | None]:
    """The edges that stand by for the one track of this edge."""
    (track,) = edge.engine.status(edge.world.now_us)["tracks"]
    bound = [standby for standby in track["standbys"] if standby["bound"]]
    in_datapath = {key[0] for key in edge.reroutes.standbys(track["track"])}
    assert in_datapath == {standby["session"] for standby in bound}, "agent and datapath differ"
    return [standby["node_id"] for standby in bound]


def peer_of(edge: Host, session: int) -> str:
    """Who is at the other end of a session."""
    return edge.wires[session].other(edge).name


def session_to(edge: Host, other: Host) -> int:
    """The session that ``edge`` made to ``other``."""
    (session,) = [s for s, wire in edge.wires.items() if s % 2 and wire.other(edge) is other]
    return session


def fed_by(edge: Host) -> list[str]:
    """Which edges are fed from here, by the word of their datapaths."""
    return sorted(
        edge.wires[d.session].other(edge).name
        for d in edge.downstreams.values()
        if edge.fed[d.downstream] and d.session in edge.wires
    )
