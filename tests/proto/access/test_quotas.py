"""What the sessions of one key may take together at one edge, and at all edges of a plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.access.keys import BadKey, Quotas, read_quotas
from farcast.proto.access.quotas import OVER_SNAPSHOTS, QuotaTable, Totals
from farcast.proto.access.scopes import Action
from farcast.proto.moqt.names import TrackNamespace

SECOND = 1_000_000
A, B = TrackNamespace.parse("live/a"), TrackNamespace.parse("live/b")


def table(quotas: Quotas, held: dict[int, set[TrackNamespace]] | None = None) -> QuotaTable:
    made = QuotaTable(lambda session: (held or {}).get(session, ()))
    made.handle_quotas({"k1": quotas, "k2": Quotas()}, (), 1, 0)
    return made


def watch(quotas: QuotaTable, session: int, *keys: str) -> str | None:
    return quotas.admit(keys or ("k1",), session, Action.SUBSCRIBE, A)


def publish(quotas: QuotaTable, session: int, namespace: TrackNamespace = A) -> str | None:
    return quotas.admit(("k1",), session, Action.PUBLISH, namespace)


def moved(quotas: QuotaTable, at_s: int, session: int, received: int, sent: int) -> None:
    counters = {"session": session, "bytes_received": received, "bytes_sent": sent}
    quotas.handle_snapshot([counters], at_s * SECOND)


def test_a_viewer_too_many_is_refused_and_let_in_when_another_one_has_gone() -> None:
    quotas = table(Quotas(viewers_max=2))
    assert [watch(quotas, session) for session in (1, 2, 1)] == [None, None, None]
    assert watch(quotas, 3) == "key k1 has used up its quota of 2 viewers (2 at this edge)"
    assert quotas.refused("k1") == 1
    quotas.forget(1)
    assert watch(quotas, 3) is None


def test_a_full_key_keeps_out_nobody_of_another_key() -> None:
    quotas = table(Quotas(viewers_max=1))
    assert watch(quotas, 1) is None
    assert watch(quotas, 2, "k1", "k2") is None
    assert quotas.used("k2").viewers == 1


def test_publishers_and_namespaces_are_bounded_each() -> None:
    held: dict[int, set[TrackNamespace]] = {}
    quotas = table(Quotas(publishers_max=2, namespaces_max=1), held)
    assert publish(quotas, 1) is None
    held[1] = {A}
    assert publish(quotas, 1, B) == "key k1 has used up its quota of 1 namespaces (1 at this edge)"
    assert publish(quotas, 2, A) is None
    assert publish(quotas, 3, A) == "key k1 has used up its quota of 2 publishers (2 at this edge)"
    held[1] = set()
    assert publish(quotas, 1, B) is None


@given(st.integers(1, 1_000), st.integers(1, 40))
def test_edges_of_a_plan_divide_a_quota_without_a_rest(most: int, edges: int) -> None:
    together = 0
    for rank in range(edges):
        quotas = QuotaTable(lambda _: ())
        quotas.handle_quotas({"k1": Quotas(viewers_max=most)}, ("k1",), edges, rank)
        limits = quotas.limits("k1")
        assert limits is not None
        together += limits.viewers
    assert together == most


def test_a_key_that_sends_too_much_for_long_loses_its_newest_publisher_and_no_other_key_does() -> None:
    quotas = table(Quotas(egress_bps_max=8_000))
    assert publish(quotas, 1) is None
    assert publish(quotas, 2) is None
    assert quotas.admit(("k2",), 3, Action.PUBLISH, B) is None
    for second in range(OVER_SNAPSHOTS + 1):
        assert quotas.over() is None
        moved(quotas, second, 1, 2_000 * second, 0)
    assert quotas.over() == (2, "k1")
    assert quotas.over() is None
    assert publish(quotas, 4) == "key k1 has used up its quota of 8000 bit/s (8000 at this edge)"


def test_viewers_are_kept_out_while_the_key_is_sent_as_much_as_it_may() -> None:
    quotas = table(Quotas(egress_bps_max=8_000))
    assert watch(quotas, 1) is None
    moved(quotas, 0, 1, 0, 0)
    moved(quotas, 1, 1, 0, 1_000)
    assert watch(quotas, 2) is not None
    moved(quotas, 2, 1, 0, 1_100)
    assert watch(quotas, 2) is None


def test_bytes_and_time_are_metered_by_key_and_never_fall() -> None:
    quotas = table(Quotas())
    assert publish(quotas, 1) is None
    moved(quotas, 0, 1, 100, 10)
    moved(quotas, 2, 1, 300, 30)
    assert quotas.totals("k1") == Totals(300, 30, 2 * SECOND, 0)
    quotas.forget(1)
    moved(quotas, 3, 1, 0, 0)
    assert quotas.totals("k1") == Totals(300, 30, 2 * SECOND, 0)


@pytest.mark.parametrize("value", [[], {"viewers": 1}, {"viewers_max": -1}, {"viewers_max": True}])
def test_quotas_that_are_none_are_refused(value: object) -> None:
    with pytest.raises(BadKey):
        read_quotas(value)
