"""Shares of quotas: where a key is used, and never more than the quota together."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.control_plane.quota_shares import FIELDS, QuotaShares, ShareEdge, desired
from farcast.control_plane.usage_book import Using
from farcast.proto.access.quotas import Amounts

NODES = ("fra-1", "jkt-1", "sin-1")
QUOTA = Amounts(viewers=100)


def edges(*node_ids: str) -> list[ShareEdge]:
    return [ShareEdge(node_id) for node_id in node_ids or NODES]


def viewers(shares: QuotaShares, *, possible: bool = False) -> dict[str, int]:
    table = shares.possible if possible else shares.targets
    return {node: keys["k1"].viewers for node, keys in sorted(table.items()) if "k1" in keys}


def deal(
    shares: QuotaShares, use: dict[str, int] | None = None, who: list[ShareEdge] | None = None, *,
    refused: dict[str, int] | None = None, look: bool = True, quota: Amounts = QUOTA,
) -> dict[str, int]:  # fmt: skip
    now = {node: Using(Amounts(viewers=n), (refused or {}).get(node, 0)) for node, n in (use or {}).items()}
    shares.deal({"k1": quota}, who or edges(), lambda _: now, look=look)
    return viewers(shares)


def acknowledge(shares: QuotaShares, *node_ids: str) -> None:
    for node_id in node_ids or NODES:
        shares.acknowledged(node_id)


def test_it_begins_with_even_shares_of_all_of_it() -> None:
    shares = QuotaShares()
    assert deal(shares) == {"fra-1": 34, "jkt-1": 33, "sin-1": 33}
    assert shares.changed


def test_an_edge_alone_has_all_of_it() -> None:
    assert deal(QuotaShares(), who=edges("sin-1"), quota=Amounts(viewers=1)) == {"sin-1": 1}


def test_nothing_moves_while_every_edge_has_room() -> None:
    shares = QuotaShares()
    before = deal(shares)
    acknowledge(shares)
    shares.changed = False
    assert deal(shares, {"jkt-1": 26, "sin-1": 2}) == before
    assert not shares.changed


def test_the_edge_where_the_key_is_used_gets_more_once_others_have_acknowledged_less() -> None:
    shares = QuotaShares()
    deal(shares)
    acknowledge(shares)
    first = deal(shares, {"jkt-1": 30})
    assert first["jkt-1"] == 33, "nobody has given anything up yet"
    assert first["sin-1"] < 33
    acknowledge(shares, "sin-1")
    second = deal(shares, {"jkt-1": 30}, look=False)
    assert second["jkt-1"] == 33 + (33 - first["sin-1"])
    acknowledge(shares, "fra-1", "jkt-1")
    third = deal(shares, {"jkt-1": 30}, look=False)
    assert sum(third.values()) == 100
    assert third == {"fra-1": 8, "jkt-1": 84, "sin-1": 8}


def test_whoever_was_refused_somebody_is_looked_at() -> None:
    shares = QuotaShares()
    deal(shares)
    acknowledge(shares)
    use = {"jkt-1": 1, "sin-1": 1}
    assert deal(shares, use, refused={"jkt-1": 3})["jkt-1"] == 33
    acknowledge(shares)
    assert deal(shares, use, refused={"jkt-1": 3}, look=False)["jkt-1"] > 40


def test_a_new_edge_is_at_its_floor_when_the_others_have_acknowledged() -> None:
    shares = QuotaShares()
    deal(shares, {"sin-1": 40}, edges("sin-1"))
    acknowledge(shares, "sin-1")
    both = edges("fra-1", "sin-1")
    assert deal(shares, {"sin-1": 40}, both)["fra-1"] == 0
    acknowledge(shares, "sin-1")
    assert deal(shares, {"sin-1": 40}, both, look=False)["fra-1"] == 100 // 8
    assert sum(viewers(shares).values()) == 100


def test_nobody_is_given_less_than_it_uses() -> None:
    shares = QuotaShares()
    deal(shares)
    acknowledge(shares)
    found = deal(shares, {"fra-1": 10, "jkt-1": 80, "sin-1": 10})
    assert found["fra-1"] >= 10
    assert found["sin-1"] >= 10


def test_an_edge_that_is_cut_off_keeps_its_share_and_nobody_else_gets_it() -> None:
    shares = QuotaShares()
    deal(shares)
    acknowledge(shares)
    cut = [ShareEdge("fra-1", takes=False), ShareEdge("jkt-1"), ShareEdge("sin-1")]
    for _ in range(3):
        deal(shares, {"jkt-1": 60}, cut)
        acknowledge(shares, "jkt-1", "sin-1")
    held = viewers(shares)
    assert held["fra-1"] == 34
    assert held["jkt-1"] + held["sin-1"] == 66
    for _ in range(3):
        deal(shares, {"jkt-1": 60}, edges("jkt-1", "sin-1"))
        acknowledge(shares, "jkt-1", "sin-1")
    assert sum(viewers(shares).values()) == 100, "it was taken out of the cluster"


def test_an_edge_that_knows_no_shares_has_its_even_part() -> None:
    old = [ShareEdge("fra-1", takes=False, divides=True), ShareEdge("jkt-1"), ShareEdge("sin-1")]
    shares = QuotaShares()
    assert sum(deal(shares, who=old).values()) == 100 - 34


def test_a_control_plane_that_starts_anew_knows_what_edges_may_hold() -> None:
    shares = QuotaShares()
    deal(shares)
    acknowledge(shares)
    deal(shares, {"jkt-1": 30})
    again = QuotaShares(possible={node: dict(keys) for node, keys in shares.possible.items()})
    found = deal(again, {"jkt-1": 30})
    assert all(found[node] <= shares.possible[node]["k1"].viewers for node in NODES), "nobody can have more"


def test_a_key_without_quota_any_more_has_no_shares() -> None:
    shares = QuotaShares()
    deal(shares)
    shares.deal({}, edges(), lambda _: {}, look=True)
    assert viewers(shares) == {}


@given(
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 50)), min_size=1, max_size=9),
)
def test_desired_shares_are_all_of_the_room_and_cover_what_is_used_where_that_fits(
    room: int, figures: list[tuple[int, int]]
) -> None:
    used = {f"n{i}": use for i, (use, _) in enumerate(figures)}
    found = desired(room, used, {f"n{i}": extra for i, (_, extra) in enumerate(figures)})
    assert sum(found.values()) == room
    assert min(found.values()) >= 0
    if sum(used.values()) <= room:
        assert all(found[node] >= use for node, use in used.items())
        floor = room // (4 * len(used))
        spare = room - sum(int(use * 1.25) for use in used.values())
        if spare >= floor * len(used):
            assert all(share >= min(floor, share) for share in found.values())
            assert min(found.values()) >= floor


STEP = st.tuples(
    st.sampled_from(["use", "ack", "cut", "back", "gone", "quota", "restart"]),
    st.sampled_from(NODES),
    st.integers(0, 120),
)


@settings(max_examples=200)
@given(st.lists(STEP, max_size=40))
def test_what_edges_may_hold_together_is_never_more_than_the_quota(steps: list[tuple[str, str, int]]) -> None:
    """``holds`` is what each edge acts by: its last acknowledged target, or the newest one, already."""
    shares, use, quota = QuotaShares(), dict.fromkeys(NODES, 0), 100
    there = dict.fromkeys(NODES, True)
    takes = dict.fromkeys(NODES, True)
    holds: dict[str, int] = dict.fromkeys(NODES, 0)
    for what, node, n in steps:
        if what == "use":
            use[node] = n
        elif what == "ack" and takes[node] and there[node]:
            holds[node] = viewers(shares).get(node, 0)
            shares.acknowledged(node)
        elif what == "cut":
            takes[node] = False
        elif what == "back":
            takes[node] = there[node] = True
        elif what == "gone":
            there[node], takes[node], holds[node] = False, False, 0
        elif what == "restart":
            shares = QuotaShares(possible={node: dict(keys) for node, keys in shares.possible.items()})
        who = [ShareEdge(name, takes[name]) for name in NODES if there[name]]
        deal(shares, {name: use[name] for name in NODES if there[name]}, who or edges("x"))
        assert sum(viewers(shares, possible=True).values()) <= quota
        targets = viewers(shares)
        early = {name: targets.get(name, 0) if takes[name] else holds[name] for name in NODES}
        for mix in itertools.product((False, True), repeat=len(NODES)):
            acting = sum(
                early[name] if first and there[name] else holds[name]
                for name, first in zip(NODES, mix, strict=True)
            )
            assert acting <= quota


@pytest.mark.parametrize("field", FIELDS)
def test_each_bound_is_dealt_by_itself(field: int) -> None:
    quota = Amounts(*(90 if at == field else 0 for at in FIELDS))
    shares = QuotaShares()
    shares.deal({"k1": quota}, edges(), lambda _: {}, look=True)
    for node in NODES:
        assert shares.of(node)["k1"] == Amounts(*(30 if at == field else 0 for at in FIELDS))
