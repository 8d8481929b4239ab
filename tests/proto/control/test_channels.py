"""The two ends of a control channel with each other: joining, reports, plans."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace as changed

from farcast.proto.control import events as e
from farcast.proto.control import messages as m
from farcast.proto.control.codec import (
    encode,
)
from farcast.proto.control.edge_channel import EdgeChannel, EdgeChannelConfig
from farcast.proto.control.server_channel import ServerChannel, ServerChannelConfig

from .pair import Pair, events_of, report
from .records import EPOCH, HELLO, PLAN, REPORT, WELCOME, version

# ---- Joining --------------------------------------------------------------------------------------


def test_an_edge_that_says_hello_is_welcomed() -> None:
    pair = Pair()
    assert pair.server_events == [e.HelloReceived(HELLO)]
    assert not pair.edge.joined
    pair.server.welcome(EPOCH)
    pair.pump()
    assert pair.edge_events == [e.Joined(WELCOME)]
    assert (pair.edge.version, pair.server.version) == (1, 1)


def test_the_interval_of_reports_is_told_with_the_welcome() -> None:
    pair = Pair(server=ServerChannelConfig(report_interval_us=250_000))
    pair.server.welcome(EPOCH)
    pair.pump()
    assert pair.edge_events == [e.Joined(changed(WELCOME, report_interval_us=250_000))]


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        ({"node_id": "sin-2"}, "Hello says node 'sin-2', the certificate 'sin-1'"),
        ({"region": "fra"}, "Hello says region 'fra', the certificate 'sin'"),
    ],
)
def test_a_hello_that_differs_from_the_certificate_is_refused(hello: dict[str, Any], reason: str) -> None:
    pair = Pair(EdgeChannelConfig(changed(HELLO, **hello)))
    assert pair.server_events == [e.Broken(reason)]
    assert pair.edge_events == [e.Refused(reason)]
    assert pair.server.should_close
    assert pair.edge.should_close


def test_an_edge_that_may_not_join_hears_why() -> None:
    pair = Pair()
    pair.server.refuse("cluster is full\nreally")
    pair.pump()
    assert pair.edge_events == [e.Refused("cluster is full really")]
    assert pair.server_events == [e.HelloReceived(HELLO)]
    assert pair.server.should_close


def test_an_edge_that_was_in_can_be_sent_away() -> None:
    pair = Pair().join()
    pair.server.refuse("certificate revoked")
    pair.pump()
    assert pair.edge_events == [e.Refused("certificate revoked")]
    assert not pair.edge.joined


@pytest.mark.parametrize(
    ("edge", "server", "agreed"),
    [((2, 1), (2, 1), 2), ((2, 1), (3, 2), 2), ((3, 2), (2, 1), 2), ((1,), (2, 1), 1), ((2, 1), (1,), 1)],
)
def test_ends_one_version_apart_take_the_highest_that_both_speak(
    edge: tuple[int, ...], server: tuple[int, ...], agreed: int
) -> None:
    pair = Pair(EdgeChannelConfig(HELLO, versions=edge), ServerChannelConfig(versions=server)).join()
    assert (pair.edge.version, pair.server.version) == (agreed, agreed)


def test_ends_two_versions_apart_say_so_and_part() -> None:
    pair = Pair(EdgeChannelConfig(HELLO, versions=(2, 1)), ServerChannelConfig(versions=(4, 3)))
    reason = "edge speaks versions 2, 1 of the control channel, the control plane 4, 3"
    assert pair.edge_events == [e.Refused(reason)]
    assert pair.server_events == [e.Broken(reason)]


def test_a_version_that_was_not_offered_breaks_the_channel() -> None:
    edge = EdgeChannel(EdgeChannelConfig(HELLO))
    edge.handle_connected(0)
    edge.handle_data(encode(changed(WELCOME, version=2)), 0)
    (broken,) = events_of(edge)
    assert "version 2, this edge offered 1" in broken.reason


class _OldHello(msgspec.Struct, tag="hello", tag_field="is"):
    """A peer of the version before: it never heard of half of the fields."""

    versions: list[int]
    node_id: str
    region: str
    boot_id: str
    advertise: str


class _OldReport(msgspec.Struct, tag="report", tag_field="is"):
    boot_id: str
    sequence: int
    sent_us: int
    interval_us: int
    full: bool


class _NewWelcome(msgspec.Struct, tag="welcome", tag_field="is"):
    """A peer of the version after: it says more than we know."""

    version: int
    epoch: dict[str, Any]
    features: dict[str, list[int]]


def _frame(record: object) -> bytes:
    body = msgspec.msgpack.encode(record)
    return len(body).to_bytes(4, "big") + body


def test_an_edge_of_the_version_before_is_served() -> None:
    server = ServerChannel(ServerChannelConfig(versions=(2, 1)), "sin-1", "sin", 0)
    server.handle_data(_frame(_OldHello([1], "sin-1", "sin", "b1", "192.0.2.1:443")), 0)
    server.welcome(EPOCH)
    server.handle_data(_frame(_OldReport("b1", 1, 5, 7, True)), 0)
    hello, got = events_of(server)
    assert (hello.hello.public_url, hello.hello.holds) == ("", None)
    assert got.report == m.Report(boot_id="b1", sequence=1, sent_us=5, interval_us=7, full=True)
    assert server.version == 1


def test_a_control_plane_of_the_version_after_is_followed() -> None:
    edge = EdgeChannel(EdgeChannelConfig(HELLO))
    edge.handle_connected(0)
    edge.handle_data(
        _frame(_NewWelcome(1, {"cluster": "shows", "number": 3, "term": 9}, {"repair": [1, 2]})), 0
    )
    assert events_of(edge) == [e.Joined(WELCOME)]


# ---- Fencing --------------------------------------------------------------------------------------


def _refusal_by(edge: EdgeChannel, epoch: m.Epoch) -> str:
    edge.handle_connected(0)
    edge.handle_data(encode(changed(WELCOME, epoch=epoch)), 0)
    assert edge.should_close
    refused = events_of(edge)[-1]
    assert isinstance(refused, e.Refused)
    return refused.reason


def test_a_control_plane_of_another_cluster_is_not_followed() -> None:
    other = m.Epoch(cluster="others", number=99)
    reason = "control plane is of cluster 'others', this edge belongs to 'shows'"
    assert _refusal_by(EdgeChannel(EdgeChannelConfig(HELLO, cluster="shows")), other) == reason
    held = EdgeChannel(EdgeChannelConfig(HELLO))
    held.set_holds(version(4))
    assert _refusal_by(held, other) == reason
    joined = Pair().join().edge
    assert _refusal_by(joined, other) == reason


def test_a_deposed_control_plane_is_not_followed() -> None:
    deposed = m.Epoch(cluster="shows", number=2)
    reason = "control plane is deposed: its epoch 2 is older than 3, seen here"
    held = EdgeChannel(EdgeChannelConfig(HELLO))
    held.set_holds(version(4))
    assert _refusal_by(held, deposed) == reason
    assert _refusal_by(Pair().join().edge, deposed) == reason


def test_the_next_reign_is_followed() -> None:
    pair = Pair().join()
    pair.connect()
    pair.server.welcome(m.Epoch(cluster="shows", number=4))
    pair.pump()
    assert pair.edge.joined


# ---- Reports --------------------------------------------------------------------------------------


def test_reports_are_taken_in_order_and_acknowledged() -> None:
    pair = Pair().join()
    for sequence in (5, 6):
        assert pair.edge.send_report(report(sequence, full=sequence == 5), 0) is None
        pair.pump()
        pair.server.ack_report(sequence)
        pair.pump()
    assert [ev.report.sequence for ev in pair.server_events if isinstance(ev, e.ReportReceived)] == [5, 6]
    assert pair.edge_events == [e.ReportAcked(5, False), e.ReportAcked(6, False)]


def test_a_channel_that_does_not_begin_with_a_full_report_gets_one() -> None:
    pair = Pair().join()
    resyncs = []
    for sequence, full in ((1, False), (2, False), (3, True), (4, False)):
        pair.edge.send_report(report(sequence, full=full), 0)
        pair.pump()
        pair.server.ack_report(sequence)
        pair.pump()
        resyncs.append(pair.edge_events[-1].resync)  # type: ignore[union-attr]
    assert resyncs == [True, True, False, False]


def test_a_report_that_was_missed_is_made_up_for_by_a_full_one() -> None:
    pair = Pair().join()
    for sequence, full in ((1, True), (3, False), (4, True), (9, True)):
        pair.edge.send_report(report(sequence, full=full), 0)
        pair.pump()
        pair.server.ack_report(sequence)
        pair.pump()
    assert [ev.resync for ev in pair.edge_events if isinstance(ev, e.ReportAcked)] == [
        False,
        True,
        False,
        False,
    ]


def test_the_control_plane_can_ask_for_a_full_report() -> None:
    pair = Pair().join()
    pair.edge.send_report(report(1, full=True), 0)
    pair.pump()
    pair.server.ack_report(1, resync=True)
    pair.pump()
    assert pair.edge_events == [e.ReportAcked(1, True)]


def test_repeated_and_older_reports_are_counted_and_not_taken() -> None:
    pair = Pair().join()
    for sequence in (2, 2, 1):
        pair.server.handle_data(encode(report(sequence, full=True)), 0)
    pair.pump()
    assert len(pair.server_events) == 1
    assert pair.server.counters["reports_repeated"] == 2
    assert not pair.server.should_close


def test_an_edge_waits_for_acknowledgements_instead_of_flooding() -> None:
    pair = Pair(EdgeChannelConfig(HELLO, reports_unacked_max=2)).join()
    assert [pair.edge.send_report(report(n), 0) for n in (1, 2, 3)] == [
        None,
        None,
        "2 reports wait for their acknowledgement",
    ]
    assert pair.edge.counters["reports_not_sent"] == 1
    pair.pump()
    pair.server.ack_report(2)
    pair.pump()
    assert pair.edge.send_report(report(4), 0) is None


def test_a_report_that_cannot_be_sent_says_why() -> None:
    edge = EdgeChannel(EdgeChannelConfig(HELLO))
    assert edge.send_report(REPORT, 0) == "not joined"
    pair = Pair().join()
    offers = tuple(m.Offer(namespace=(b"x" * 4_000,)) for _ in range(300))
    assert "bytes, at most 1048576" in (pair.edge.send_report(changed(REPORT, offered=offers), 0) or "")
    assert pair.edge.send_report(report(2), 0) is None
    assert pair.edge.send_report(report(2), 0) == "report 2 is not newer than 2"


# ---- Plans ----------------------------------------------------------------------------------------


def test_a_plan_is_pushed_answered_and_said_at_the_next_hello() -> None:
    pair = Pair().join()
    assert pair.server.push(PLAN) is None
    pair.pump()
    assert pair.edge_events == [e.PlanReceived(PLAN)]
    assert list(pair.server.plans_unanswered) == [PLAN.version]
    pair.edge.answer_plan(PLAN.version, None)
    pair.pump()
    assert pair.server_events == [e.PlanAcked(PLAN.version)]
    assert list(pair.server.plans_unanswered) == []
    pair.connect()
    assert pair.server_events[-1] == e.HelloReceived(changed(HELLO, holds=PLAN.version))


def test_a_refused_plan_is_answered_with_the_reason_and_what_is_held() -> None:
    pair = Pair()
    pair.edge.set_holds(version(6))
    pair.join()
    pair.server.push(PLAN)
    pair.pump()
    pair.edge.answer_plan(PLAN.version, "it is empty")
    pair.pump()
    assert pair.server_events == [e.PlanNacked(PLAN.version, "it is empty", version(6))]
    assert pair.edge.holds == version(6)


def test_a_plan_taken_after_its_connection_broke_is_said_at_the_next_hello() -> None:
    pair = Pair().join()
    pair.server.push(PLAN)
    pair.pump()
    pair.edge.handle_disconnected("lost", 0)
    pair.edge.answer_plan(PLAN.version, None)
    assert pair.edge.poll_data() is None
    pair.connect()
    assert pair.server_events[-1] == e.HelloReceived(changed(HELLO, holds=PLAN.version))


def test_a_plan_that_cannot_be_pushed_says_why() -> None:
    pair = Pair(server=ServerChannelConfig(plans_unanswered_max=2))
    assert pair.server.push(PLAN) == "edge has not joined"
    pair.join()
    too_large = changed(
        PLAN, directory=tuple(m.DirectoryEntry(namespace=(b"x" * 4_000,), origin="a") for _ in range(4_500))
    )
    assert "bytes, at most 16777216" in (pair.server.push(too_large) or "")
    assert pair.server.push(PLAN) is None
    assert pair.server.push(changed(PLAN, version=version(8))) is None
    assert pair.server.push(changed(PLAN, version=version(9))) == "edge has 2 plans to answer"


def test_an_edge_that_does_not_read_holds_a_bounded_queue() -> None:
    pair = Pair(server=ServerChannelConfig(queue_bytes_max=2_000)).join()
    big = changed(PLAN, edge_list="x" * 3_000)
    assert pair.server.push(big) is None
    assert "bytes wait for the edge" in (pair.server.push(big) or "")
    pair.server.order_drain(1)
    (broken,) = events_of(pair.server)
    assert "edge does not read" in broken.reason
    assert pair.server.poll_data() is None


def test_a_repeated_answer_is_counted_and_not_taken() -> None:
    pair = Pair().join()
    pair.server.push(PLAN)
    pair.pump()
    for _ in range(2):
        pair.server.handle_data(encode(m.PlanAck(version=PLAN.version)), 0)
    assert events_of(pair.server) == [e.PlanAcked(PLAN.version)]
    assert pair.server.counters["answers_repeated"] == 1


def test_a_drain_order_arrives() -> None:
    pair = Pair().join()
    pair.server.order_drain(30_000)
    pair.pump()
    assert pair.edge_events == [e.DrainOrdered(30_000)]
