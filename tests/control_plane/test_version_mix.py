"""Edges and control planes of two versions in one cluster: N beside N-1, by the engines of both ends.

Two things differ between versions: what a Hello offers, and which fields there are. A record of a later
version has fields that the other end has never heard of; one of an earlier version lacks those that came
since. Both are made on the way, out of what the real ends write.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from control_world import Edge, World
from versions import NEWER, OLDER, earlier, frame_of, later

from farcast.control_plane.controller import ControllerConfig
from farcast.proto.control.codec import FROM_CONTROL_BYTES_MAX, Framer
from farcast.proto.control.edge_channel import EdgeChannel, EdgeChannelConfig
from farcast.proto.control.server_channel import ServerChannelConfig

NAMES = ("fra-1", "jkt-1", "sin-1")

Rewrite = Callable[[Any], Any]


class MixedWorld(World):
    """A world in which what ``edges`` and the control plane write is rewritten on the way."""

    def __init__(
        self, *args: Any, from_edges: dict[str, Rewrite], from_control: Rewrite, **more: Any
    ) -> None:
        self.from_edges, self.from_control = from_edges, from_control
        self.framers: dict[tuple[str, int], Framer] = defaultdict(lambda: Framer(FROM_CONTROL_BYTES_MAX))
        super().__init__(*args, **more)

    def _up(self, session: int, data: bytes) -> None:
        edge = self._edge_of(session)
        rewrite = self.from_edges.get(edge.node_id, earlier) if edge is not None else earlier
        super()._up(session, self._rewritten("up", session, data, rewrite))

    def _down(self, edge: Edge, data: bytes, session: int) -> None:
        super()._down(edge, self._rewritten("down", session, data, self.from_control), session)

    def _rewritten(self, way: str, session: int, data: bytes, rewrite: Rewrite) -> bytes:
        framer, out = self.framers[way, session], b""
        framer.push(data)
        while (body := framer.next()) is not None:
            out += frame_of(rewrite(msgspec.msgpack.decode(body)))
        return out


def edge_of(name: str, versions: tuple[int, ...]) -> Edge:
    edge = Edge(name)
    hello = msgspec.structs.replace(edge.channel._config.hello, versions=versions)
    edge.channel = EdgeChannel(EdgeChannelConfig(hello, versions=versions))
    return edge


@pytest.mark.parametrize("control", [OLDER, NEWER], ids=["control N-1", "control N"])
@pytest.mark.parametrize("newer", [(), ("sin-1",), ("fra-1", "sin-1"), NAMES], ids=len)
def test_a_cluster_of_two_versions_plans_reroutes_and_drains(
    control: tuple[int, ...], newer: tuple[str, ...]
) -> None:
    edges = [edge_of(name, NEWER if name in newer else OLDER) for name in NAMES]
    world = MixedWorld(
        NAMES,
        lambda a, b: 30.0 if "sin-1" in (a, b) else 200.0,
        edges=edges,
        config=ControllerConfig(channel=ServerChannelConfig(versions=control)),
        from_edges={name: later if name in newer else earlier for name in NAMES},
        from_control=later if control == NEWER else earlier,
    ).run(8)
    for edge in edges:
        channel = world.controller.channel_of(edge.node_id)
        assert channel is not None
        assert edge.refusals == []
        assert (
            channel.version
            == edge.channel.version
            == (2 if control == NEWER and edge.node_id in newer else 1)
        )
    world.offer("jkt-1", "live/film")
    world.run(2)
    assert world.parents("jkt-1") == {"sin-1": "jkt-1", "fra-1": "sin-1"}
    assert all(edge.plan.directory == {(b"live", b"film"): "jkt-1"} for edge in edges)
    world.cut_link("sin-1", "fra-1")
    world.run(3)
    assert world.parents("jkt-1")["fra-1"] == "jkt-1"
    assert world.controller.drain("sin-1", 5_000, world.now_us) is None
    world.run(8)
    assert world.edges["sin-1"].drains == [5_000]
    assert world.counters.get("sessions_lost", 0) == world.counters.get("plans_refused_by_edges", 0) == 0


def test_an_edge_two_versions_apart_is_refused_by_name() -> None:
    edges = [edge_of("fra-1", (3, 2)), edge_of("sin-1", OLDER)]
    world = World(("fra-1", "sin-1"), edges=edges).run(5)
    assert world.controller.channel_of("sin-1") is not None
    assert world.controller.channel_of("fra-1") is None
    assert "versions 3, 2" in world.edges["fra-1"].refusals[0]
