"""In which order edges are told of a plan: new parents first, and who need not wait for them."""

from __future__ import annotations

from typing import cast

from farcast.control_plane.branches import Tree, Trees, Upstreams
from farcast.control_plane.journal import Journal
from farcast.control_plane.pushes import PushConfig, Pushes
from farcast.proto.control.messages import Epoch, NodeInfo, PlanDelta
from farcast.proto.control.server_channel import ServerChannel

ORIGIN = "o"
OLD: Tree = {node: Upstreams("e") for node in ("a", "b", "c", "d")} | {"e": Upstreams(ORIGIN)}
NEW: Tree = {node: Upstreams(ORIGIN) for node in ("a", "c", "e")} | {"b": Upstreams("a"), "d": Upstreams("c")}
"""``b`` is to take from ``a`` and ``d`` from ``c``, which change themselves."""


class Channels:
    """Every edge is there and takes what it is sent."""

    joined = True

    def push(self, plan: PlanDelta) -> str | None:
        return None


def told(pushes: Pushes, now_us: int) -> list[str]:
    channel = cast(ServerChannel, Channels())
    return pushes.push_all(lambda _: channel, now_us, 0)


def committed(hurried: frozenset[str]) -> Pushes:
    pushes = Pushes(PushConfig(), Epoch(cluster="x", number=1), Journal())
    nodes = (ORIGIN, *OLD)
    pushes.views.set_nodes({n: NodeInfo(node_id=n, region="r", address="192.0.2.1:1") for n in nodes})
    for node_id in nodes:
        pushes.rollout(node_id)
    trees: Trees = {ORIGIN: OLD}
    pushes.commit_trees(trees, 0)
    for node_id in told(pushes, 0):
        pushes.rollout(node_id).handle_ack(pushes.version, 0)
    assert pushes.commit_trees({ORIGIN: NEW}, 1, hurried=hurried)
    return pushes


def test_an_edge_is_told_after_its_new_parent_has_acknowledged() -> None:
    pushes = committed(frozenset())
    first = told(pushes, 1)
    assert {*first} == {"a", "c"}
    pushes.rollout("a").handle_ack(pushes.version, 2)
    assert told(pushes, 2) == ["b"]
    assert told(pushes, 1 + 500_000) == ["d"], "or after a time"


def test_an_escape_is_told_at_once_and_an_upgrade_beside_it_still_waits() -> None:
    pushes = committed(frozenset({"b"}))
    first = told(pushes, 1)
    assert {*first} == {"a", "b", "c"}
    assert first.index("a") < first.index("b"), "its new parent is told first"
