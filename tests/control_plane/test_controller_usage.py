"""Usage and shares of quotas through the whole controller: reports in, plans out, restarts between."""

from __future__ import annotations

from access_tokens import X
from control_world import Edge, World

from farcast.control_plane import reading_quotas
from farcast.control_plane.metrics import render
from farcast.control_plane.store import Restored, Save
from farcast.proto.access.keys import Quotas, TrustedKey
from farcast.proto.access.records import read_shares
from farcast.proto.control.messages import Epoch, KeyUsage

NODES = ("fra-1", "jkt-1", "sin-1")
KEY = TrustedKey("k1", X, quotas=Quotas(viewers_max=90))


def world(*, takes_shares: bool = True, restored: Restored | None = None) -> World:
    edges = [Edge(node_id, takes_shares=takes_shares) for node_id in NODES]
    return World(NODES, edges=edges, restored=restored)


def uses(edge: Edge, viewers: int, bytes_out: int = 0, refused: int = 0) -> None:
    usage = KeyUsage(meter="b1", key_id="k1", viewers=viewers, bytes_out=bytes_out, refused=refused)
    edge.usage = (usage,)


def shares(made: World) -> dict[str, int]:
    """Of viewers, as edges hold them."""
    return {
        node_id: read_shares(edge.plan.shares)["k1"].viewers
        for node_id, edge in made.edges.items()
        if edge.plan.shares
    }


def test_a_quota_reaches_edges_with_shares_that_follow_its_use() -> None:
    made = world().run(4)
    assert made.controller.trust(KEY, made.now_us) is None
    made.run(1)
    assert shares(made) == {"fra-1": 30, "jkt-1": 30, "sin-1": 30}
    uses(made.edges["sin-1"], 29)
    made.run(12)
    found = shares(made)
    assert found["sin-1"] > 60
    assert min(found.values()) == 90 // 12, "the floor"
    assert sum(found.values()) == 90
    sequence = made.controller.pushes.sequence
    made.run(20)
    assert made.controller.pushes.sequence == sequence, "nothing moves while every edge has room"


def test_who_holds_how_much_of_a_quota_is_told() -> None:
    made = world().run(4)
    made.controller.trust(KEY, made.now_us)
    uses(made.edges["sin-1"], 29, refused=3)
    made.run(12)
    made.disconnect("fra-1")
    made.run(2)
    (row,) = reading_quotas.quotas(made.controller, "k1")["keys"]
    assert row["quota"]["viewers"] == row["held"]["viewers"] == 90
    assert row["used"]["viewers"] == 29
    by_edge = {edge["node_id"]: edge for edge in row["edges"]}
    told = {node_id: edge["share"]["viewers"] for node_id, edge in by_edge.items()}
    assert told == {**shares(made)}
    assert (by_edge["sin-1"]["used"]["viewers"], by_edge["sin-1"]["refused"]) == (29, 3)
    assert [by_edge[node_id]["connected"] for node_id in NODES] == [False, True, True]
    text = render(made.controller, made.now_us, 0).decode()
    assert 'farcast_control_quota_held_ratio{key_id="k1",kind="viewers"} 1.0' in text
    assert f'farcast_control_quota_used_ratio{{key_id="k1",kind="viewers"}} {29 / 90}' in text
    assert 'kind="publishers"' not in text, "no bound"


def test_what_an_edge_holds_beyond_its_share_until_it_acknowledges_less_is_told() -> None:
    made = world().run(4)
    made.controller.trust(KEY, made.now_us)
    made.run(1)
    made.edges["fra-1"].refuse = lambda _: "not now"
    uses(made.edges["sin-1"], 29)
    made.run(8)
    (row,) = reading_quotas.quotas(made.controller, None)["keys"]
    by_edge = {edge["node_id"]: edge for edge in row["edges"]}
    assert by_edge["fra-1"]["share"]["viewers"] < by_edge["fra-1"]["held"]["viewers"] == 30
    assert row["held"]["viewers"] <= 90


def test_an_edge_that_knows_no_shares_is_told_with_its_even_part() -> None:
    made = world(takes_shares=False).run(4)
    made.controller.trust(KEY, made.now_us)
    made.run(1)
    (row,) = reading_quotas.quotas(made.controller, None)["keys"]
    assert [edge["held"]["viewers"] for edge in row["edges"]] == [30, 30, 30]


def test_an_edge_that_is_gone_for_a_while_keeps_its_share_and_the_sum_holds() -> None:
    made = world().run(4)
    made.controller.trust(KEY, made.now_us)
    made.run(1)
    made.disconnect("fra-1")
    uses(made.edges["sin-1"], 30, refused=5)
    made.run(10)
    found = shares(made)
    assert found["fra-1"] == 30
    assert sum(found.values()) == 90
    made.connect(made.edges["fra-1"])
    made.run(12)
    assert shares(made)["fra-1"] < 30
    assert sum(shares(made).values()) <= 90


def test_edges_that_know_no_shares_are_sent_none() -> None:
    made = world(takes_shares=False).run(4)
    made.controller.trust(KEY, made.now_us)
    made.run(2)
    assert shares(made) == {}
    assert all(plan.shares is None for edge in made.edges.values() for plan in edge.plans)


def test_a_control_plane_that_starts_anew_gives_nobody_what_another_may_hold() -> None:
    made = world().run(4)
    made.controller.trust(KEY, made.now_us)
    uses(made.edges["sin-1"], 29)
    made.run(12)
    before = shares(made)
    kept = next(save.shares for save in reversed(made.saves) if save.shares is not None)
    access = next(save.access for save in reversed(made.saves) if save.access is not None)
    restored = Restored(
        Epoch(cluster="shows", number=2),
        members=next(save.members for save in reversed(made.saves) if save.members is not None),
        shares=kept,
        access=access,
    )
    again = World(NODES, edges=made.edges.values(), restored=restored, now_us=made.now_us)
    for _ in range(40):
        again.run(0.25)
        assert sum(shares(again).values()) <= 90
    assert shares(again)["sin-1"] >= before["sin-1"] // 2


def test_usage_is_counted_saved_and_survives_a_restart() -> None:
    made = world().run(3)
    made.controller.trust(KEY, made.now_us)
    for number in range(4):
        uses(made.edges["sin-1"], 1, 1_000 * (number + 1))
        made.run(1)
    assert made.controller.usage.accounts["k1"].total.bytes_out == 4_000
    made.run(12)
    saved: list[Save] = [save for save in made.saves if save.usage is not None]
    assert 1 <= len(saved) <= 3, "not with every report"
    assert saved[-1].usage is not None
    assert saved[-1].usage.accounts["k1"].total.bytes_out == 4_000
