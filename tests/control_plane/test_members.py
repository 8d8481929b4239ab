"""Who belongs to the cluster, and how patient one is with those that are absent."""

from __future__ import annotations

from farcast.control_plane.members import Member, Members, MembersConfig
from farcast.proto.control.messages import Hello, LinkReport, Report

SECOND = 1_000_000


def hello(node_id: str, boot_id: str = "b1") -> Hello:
    return Hello(
        versions=(1,),
        node_id=node_id,
        region=node_id.partition("-")[0],
        boot_id=boot_id,
        advertise="192.0.2.1:443",
    )


def cluster(*node_ids: str) -> Members:
    members = Members(MembersConfig())
    for session, node_id in enumerate(node_ids):
        members.join(hello(node_id), session, 0)
    return members


def member(members: Members, node_id: str) -> Member:
    found = members.get(node_id)
    assert found is not None
    return found


def says(members: Members, node_id: str, now_s: float, **silent_by_peer: bool) -> frozenset[str]:
    links = tuple(
        LinkReport(peer=peer.replace("_", "-"), silent=silent, media=not silent)
        for peer, silent in silent_by_peer.items()
    )
    report = Report(boot_id="b1", sequence=1, sent_us=0, interval_us=SECOND, links=links)
    return members.handle_report(member(members, node_id), report, int(now_s * SECOND))


def lose(members: Members, now_s: float, *node_ids: str) -> None:
    for node_id in node_ids:
        session = member(members, node_id).session
        assert session is not None
        assert members.leave(node_id, session, int(now_s * SECOND))


def overdue(members: Members, now_s: float) -> tuple[list[str], list[str]]:
    gone, kept = members.overdue(int(now_s * SECOND))
    return [m.node_id for m in gone], [m.node_id for m in kept]


def test_a_lost_session_takes_nobody_out_before_the_grace_is_over() -> None:
    members = cluster("sin-1", "fra-1")
    lose(members, 10, "sin-1")
    says(members, "fra-1", 14)
    assert overdue(members, 14.9) == ([], [])
    assert overdue(members, 15) == (["sin-1"], [])


def test_an_edge_that_others_hear_stays_for_ever() -> None:
    members = cluster("sin-1", "fra-1", "iad-1")
    lose(members, 10, "sin-1")
    for now in range(11, 200):
        says(members, "fra-1", now, sin_1=True)
        says(members, "iad-1", now, sin_1=False)
        assert overdue(members, now + 0.5) == ([], [])


def test_an_edge_that_nobody_hears_is_taken_out_at_once() -> None:
    members = cluster("sin-1", "fra-1", "iad-1")
    lose(members, 10, "sin-1")
    says(members, "fra-1", 10.2, sin_1=True)
    says(members, "iad-1", 10.2, sin_1=True)
    assert overdue(members, 10.3) == (["sin-1"], [])


def test_the_word_of_one_edge_among_several_is_not_enough_to_take_another_out_at_once() -> None:
    members = cluster("sin-1", "fra-1", "iad-1")
    lose(members, 10, "sin-1")
    for now in (10.2, 12.0, 14.0):
        says(members, "fra-1", now, sin_1=True)
        says(members, "iad-1", now)
        assert overdue(members, now + 0.5) == ([], [])
    assert overdue(members, 15) == (["sin-1"], [])


def test_a_connected_edge_is_never_taken_out() -> None:
    members = cluster("sin-1", "fra-1")
    says(members, "fra-1", 10, sin_1=True)
    assert overdue(members, 1_000) == ([], [])


def test_an_isolated_control_plane_takes_out_one_region_at_most() -> None:
    members = cluster("sin-1", "fra-1", "fra-2", "iad-1", "lon-1")
    lose(members, 10, "fra-1", "fra-2", "iad-1", "lon-1")
    says(members, "sin-1", 10.1, fra_1=True, fra_2=True, iad_1=True, lon_1=True)
    assert overdue(members, 10.5) == (["fra-1", "fra-2"], ["iad-1", "lon-1"])
    for node_id in ("fra-1", "fra-2"):
        members.withdraw(node_id)
    assert overdue(members, 40.2) == ([], [])
    says(members, "sin-1", 40.3, iad_1=True, lon_1=True)
    assert overdue(members, 40.4) == ([], ["iad-1", "lon-1"])
    members.join(hello("iad-1"), 9, 40_400_000)
    assert overdue(members, 40.6) == (["lon-1"], [])


def test_stale_words_of_others_count_for_nothing() -> None:
    members = cluster("sin-1", "fra-1")
    says(members, "fra-1", 1, sin_1=False)
    lose(members, 10, "sin-1")
    assert members.is_heard("sin-1", 10 * SECOND) is None
    members.join(hello("fra-1", "b2"), 9, 14 * SECOND)
    says(members, "fra-1", 14.5)
    assert overdue(members, 15) == (["sin-1"], [])


def test_a_newer_session_of_one_edge_replaces_the_older_which_then_ends_unnoticed() -> None:
    members = cluster("sin-1")
    assert members.join(hello("sin-1", "b2"), 7, SECOND) == 0
    assert not members.leave("sin-1", 0, 2 * SECOND)
    assert member(members, "sin-1").session == 7


def test_what_is_ordered_outlives_a_restart_of_the_edge_and_what_it_heard_does_not() -> None:
    members = cluster("sin-1", "fra-1")
    says(members, "sin-1", 1, fra_1=True)
    member(members, "sin-1").drain_us = 1
    members.join(hello("sin-1", "b1"), 5, 2 * SECOND)
    assert member(members, "sin-1").silent == {"fra-1"}
    members.join(hello("sin-1", "b2"), 6, 3 * SECOND)
    assert member(members, "sin-1").silent == frozenset()
    assert member(members, "sin-1").draining


def test_a_report_that_distrusts_itself_raises_no_alarm() -> None:
    members = cluster("sin-1", "fra-1")
    report = Report(
        boot_id="b1",
        sequence=1,
        sent_us=0,
        interval_us=SECOND,
        distrust=True,
        links=(LinkReport(peer="fra-1", silent=True),),
    )
    assert members.handle_report(member(members, "sin-1"), report, SECOND) == frozenset()


def test_restored_edges_are_expected_back_for_longer() -> None:
    members = Members(MembersConfig())
    members.restore([hello("sin-1"), hello("fra-1")], {"fra-1": 5_000}, 0)
    assert sorted(members.awaited()) == ["fra-1", "sin-1"]
    assert member(members, "fra-1").draining
    assert overdue(members, 14.9) == ([], [])
    members.join(hello("sin-1"), 1, SECOND)
    says(members, "sin-1", 14)
    assert overdue(members, 15) == (["fra-1"], [])


def test_there_is_room_for_so_many() -> None:
    members = Members(MembersConfig(nodes_max=1))
    members.join(hello("sin-1"), 1, 0)
    assert members.why_not_join(hello("sin-1", "b2")) is None
    assert members.why_not_join(hello("fra-1")) == "the cluster has 1 edges, at most 1 are allowed"


def test_a_restored_edge_is_awaited_until_it_has_reported_in_full() -> None:
    members = Members(MembersConfig())
    members.restore([hello("sin-1")], {}, 0)
    members.join(hello("sin-1"), 1, SECOND)
    assert members.awaited() == ["sin-1"]
    says(members, "sin-1", 2)
    assert members.awaited() == ["sin-1"]
    says_in_full(members, "sin-1", 3)
    assert members.awaited() == []


def says_in_full(members: Members, node_id: str, now_s: float) -> None:
    report = Report(boot_id="b1", sequence=2, sent_us=0, interval_us=SECOND, full=True)
    members.handle_report(member(members, node_id), report, int(now_s * SECOND))


def test_nobody_is_taken_out_for_want_of_news_while_less_than_half_of_the_cluster_reports() -> None:
    members = cluster("sin-1", "fra-1", "iad-1", "lon-1")
    lose(members, 10, "fra-1", "iad-1", "lon-1")
    says(members, "sin-1", 999)
    assert overdue(members, 1_000) == ([], [])
    members.join(hello("lon-1"), 7, 1_000 * SECOND)
    says(members, "lon-1", 1_001)
    assert overdue(members, 1_001) == (["fra-1"], ["iad-1"])


def test_an_edge_that_was_told_to_drain_and_starts_anew_is_not_drained_again() -> None:
    members = cluster("sin-1")
    ordered = member(members, "sin-1")
    ordered.drain_us, ordered.drain_ms, ordered.drain_sent = 1, 1_000, True
    members.join(hello("sin-1", "b1"), 5, SECOND)
    assert member(members, "sin-1").draining
    members.join(hello("sin-1", "b2"), 6, 2 * SECOND)
    assert not member(members, "sin-1").draining


def test_a_report_that_distrusts_itself_still_tells_which_links_have_gone() -> None:
    members = cluster("sin-1", "fra-1", "iad-1")
    says(members, "sin-1", 1, fra_1=False, iad_1=True)
    report = Report(
        boot_id="b1", sequence=2, sent_us=0, interval_us=SECOND, distrust=True, unlinked=("fra-1",)
    )
    members.handle_report(member(members, "sin-1"), report, 2 * SECOND)
    assert member(members, "sin-1").hears == {"iad-1": False}
