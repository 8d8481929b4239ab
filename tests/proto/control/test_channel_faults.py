"""The two ends of a control channel against broken rules, silence, lost connections and garbage."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from farcast.proto.control import events as e
from farcast.proto.control import messages as m
from farcast.proto.control.codec import (
    FROM_CONTROL_BYTES_MAX,
    FROM_EDGE_BYTES_MAX,
    decode_from_control,
    decode_from_edge,
    encode,
)
from farcast.proto.control.edge_channel import EdgeChannel, EdgeChannelConfig
from farcast.proto.control.server_channel import ServerChannel, ServerChannelConfig
from farcast.proto.control.stream_end import EVENTS_MAX

from .pair import SECOND, Pair, drain, events_of, messages_of, report
from .records import EPOCH, HELLO, PLAN, REPORT, WELCOME, from_control, from_edge, version

# ---- Broken rules ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([REPORT], "Report before Welcome"),
        ([m.PlanAck(version=version(1))], "PlanAck before Welcome"),
        ([HELLO, HELLO], "a second Hello"),
        ([HELLO, REPORT], "Report before Welcome"),
        ([HELLO, "welcome", HELLO], "a second Hello"),
        ([HELLO, "welcome", changed(REPORT, boot_id="b2")], "Report of boot 'b2', Hello was of 'b1'"),
        ([HELLO, "welcome", m.PlanAck(version=version(1))], "answer to plan shows/3.1, which was not sent"),
        ([HELLO, "welcome", *[report(n) for n in range(1, 18)]], "more than 16 reports without an answer"),
    ],
)
def test_an_edge_that_breaks_the_rules_is_cut_off_with_a_reason(messages: list[Any], reason: str) -> None:
    server = ServerChannel(ServerChannelConfig(), "sin-1", "sin", 0)
    for message in messages:
        if message == "welcome":
            server.welcome(EPOCH)
        else:
            server.handle_data(encode(message), 0)
    assert events_of(server)[-1] == e.Broken(f"edge sent what it must not: {reason}")
    assert server.should_close


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([PLAN], "PlanDelta before Welcome"),
        ([m.DrainOrder(drain_ms=1)], "DrainOrder before Welcome"),
        ([m.ReportAck(sequence=0)], "ReportAck before Welcome"),
        ([WELCOME, WELCOME], "a second Welcome"),
        ([WELCOME, m.ReportAck(sequence=1)], "acknowledgement of report 1, which was not sent"),
        ([WELCOME, *[PLAN] * 9], "more than 8 plans without an answer"),
        ([WELCOME, *[m.DrainOrder(drain_ms=1)] * 100], f"more than {EVENTS_MAX} messages at once"),
    ],
)
def test_a_control_plane_that_breaks_the_rules_is_left_with_a_reason(
    messages: list[Any], reason: str
) -> None:
    edge = EdgeChannel(EdgeChannelConfig(HELLO))
    edge.handle_connected(0)
    edge.handle_data(b"".join(map(encode, messages)), 0)
    found = events_of(edge)
    assert found[-1] == e.Broken(f"control plane sent what it must not: {reason}")
    assert len(found) <= EVENTS_MAX + 1
    assert edge.should_close
    assert edge.poll_timeout() is None


def test_nothing_is_taken_after_the_channel_broke() -> None:
    pair = Pair().join()
    pair.server.handle_data(b"\x00\x00\x00\x01\xc1" + encode(report(1)), 0)
    pair.server.handle_data(encode(report(2)), 0)
    assert len(events_of(pair.server)) == 1
    pair.server.ack_report(1)
    pair.server.order_drain(1)
    assert pair.server.push(PLAN) == "edge has not joined"
    assert pair.server.poll_data() is None


# ---- Time -----------------------------------------------------------------------------------------


def test_a_control_plane_that_does_not_welcome_is_left() -> None:
    edge = EdgeChannel(EdgeChannelConfig(HELLO))
    edge.handle_connected(SECOND)
    assert edge.poll_timeout() == 6 * SECOND
    edge.handle_timeout(6 * SECOND - 1)
    assert edge.poll_event() is None
    edge.handle_timeout(6 * SECOND)
    assert events_of(edge) == [e.Broken("control plane is silent: no Welcome in 5000 ms")]


def test_a_control_plane_that_does_not_acknowledge_is_left() -> None:
    pair = Pair().join()
    assert pair.edge.poll_timeout() is None
    pair.edge.send_report(report(1), SECOND)
    pair.edge.send_report(report(2), 2 * SECOND)
    assert pair.edge.poll_timeout() == 11 * SECOND
    pair.pump()
    pair.server.ack_report(1)
    pair.pump()
    assert pair.edge.poll_timeout() == 12 * SECOND
    pair.edge.handle_timeout(12 * SECOND)
    assert "no acknowledgement of a report in 10000 ms" in events_of(pair.edge)[-1].reason


def test_an_edge_that_never_says_hello_is_given_up_however_it_dribbles() -> None:
    server = ServerChannel(ServerChannelConfig(), "sin-1", "sin", 0)
    for now_s, byte in enumerate(encode(HELLO)[:6]):
        server.handle_data(bytes([byte]), now_s * SECOND)
        server.handle_timeout(now_s * SECOND)
    assert events_of(server) == [e.Broken("edge is silent: no Hello in 5000 ms")]


def test_an_edge_that_joined_and_falls_silent_is_given_up() -> None:
    pair = Pair().join()
    pair.server.handle_data(encode(report(1)), 3 * SECOND)
    assert pair.server.poll_timeout() == 18 * SECOND
    events_of(pair.server)
    pair.server.handle_timeout(18 * SECOND)
    assert events_of(pair.server) == [e.Broken("edge is silent: nothing heard in 15000 ms")]


def test_a_message_that_never_ends_is_given_up_at_both_ends() -> None:
    pair = Pair().join()
    half_report, half_plan = encode(report(1))[:-1], encode(PLAN)[:-1]
    for second, end, half in ((0, pair.server, half_report), (0, pair.edge, half_plan)):
        for now_s in range(30):
            end.handle_data(half[now_s : now_s + 1], (second + now_s) * SECOND)
            end.handle_timeout((second + now_s) * SECOND)
        assert not end.should_close
        end.handle_timeout(30 * SECOND)
        assert "half a message and no more in 30000 ms" in events_of(end)[-1].reason


# ---- Connections ----------------------------------------------------------------------------------


def test_a_lost_connection_is_reported_once() -> None:
    pair = Pair().join()
    for end in (pair.edge, pair.server):
        end.handle_disconnected("timed out", 0)
        end.handle_disconnected("timed out", 0)
        assert events_of(end) == [e.Broken("timed out")]
    assert not pair.edge.should_close


def test_a_refused_edge_reports_no_lost_connection() -> None:
    pair = Pair()
    pair.server.refuse("no")
    pair.pump()
    pair.edge.handle_disconnected("closed", 0)
    assert events_of(pair.edge) == []


def test_half_a_message_of_one_connection_is_not_continued_by_the_next() -> None:
    pair = Pair().join()
    pair.edge.handle_data(encode(PLAN)[:-5], 0)
    pair.edge.handle_disconnected("lost", 0)
    pair.connect()
    pair.join()
    pair.server.push(PLAN)
    pair.pump()
    assert pair.edge_events == [e.PlanReceived(PLAN)]


def test_what_was_meant_for_one_connection_is_not_sent_on_the_next() -> None:
    pair = Pair().join()
    pair.edge.send_report(report(1), 0)
    pair.edge.handle_disconnected("lost", 0)
    pair.edge.handle_connected(0)
    assert messages_of(drain(pair.edge), decode_from_edge) == [HELLO]


# ---- Properties -----------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 5, 7])
def test_a_conversation_is_the_same_however_the_stream_is_cut(chunk_bytes: int) -> None:
    def talk(pair: Pair) -> list[Any]:
        pair.server.welcome(EPOCH)
        pair.edge.handle_timeout(0)
        pair.pump()
        pair.edge.send_report(report(1), 0)
        pair.server.push(PLAN)
        pair.pump()
        pair.server.ack_report(1)
        pair.edge.answer_plan(PLAN.version, None)
        pair.server.order_drain(5)
        pair.pump()
        return [pair.edge_events, pair.server_events]

    assert talk(Pair(chunk_bytes=chunk_bytes)) == talk(Pair())


_sent_by_edge = st.lists(from_edge | st.sampled_from((HELLO, REPORT)) | st.just("welcome"), max_size=12)
_sent_by_control = st.lists(from_control | st.sampled_from((WELCOME, PLAN)), max_size=12)


def _damaged(data: st.DataObject, stream: bytes) -> bytes:
    """Cut off, doubled, garbled or as it was."""
    kind = data.draw(st.sampled_from(("whole", "cut", "doubled", "garbled", "garbage")))
    if kind == "cut":
        return stream[: data.draw(st.integers(0, len(stream)))]
    if kind == "doubled":
        return stream + stream
    if kind == "garbage":
        return data.draw(st.binary(max_size=64))
    if kind == "garbled" and stream:
        at = data.draw(st.integers(0, len(stream) - 1))
        return stream[:at] + bytes([data.draw(st.integers(0, 255))]) + stream[at + 1 :]
    return stream


def _check_end(end: EdgeChannel | ServerChannel, found: list[Any]) -> None:
    ends = [event for event in found if isinstance(event, e.Broken | e.Refused)]
    assert len(ends) <= 1
    assert bool(ends) == end.should_close
    assert all(event.reason for event in ends)
    assert len(found) <= EVENTS_MAX + 1


@given(_sent_by_edge, st.data())
def test_whatever_an_edge_sends_the_other_end_goes_on_or_says_why(
    sent: list[Any], data: st.DataObject
) -> None:
    server, found = ServerChannel(ServerChannelConfig(), "sin-1", "sin", 0), []
    for message in sent:
        if message == "welcome":
            server.welcome(EPOCH)
            continue
        server.handle_data(_damaged(data, encode(message)), 0)
        found += events_of(server)
        server.poll_timeout()
    _check_end(server, found)


@given(_sent_by_control, st.data())
def test_whatever_a_control_plane_sends_the_edge_goes_on_or_says_why(
    sent: list[Any], data: st.DataObject
) -> None:
    edge, found = EdgeChannel(EdgeChannelConfig(HELLO)), []
    edge.handle_connected(0)
    for message in sent:
        edge.handle_data(_damaged(data, encode(message)), 0)
        found += events_of(edge)
        edge.poll_timeout()
    _check_end(edge, found)


def test_limits_of_both_ends_fit_each_other() -> None:
    """An edge by default never sends more unacknowledged reports than the control plane bears, and so on."""
    edge, server = EdgeChannelConfig(HELLO), ServerChannelConfig()
    assert edge.reports_unacked_max <= server.reports_unacked_max
    assert server.plans_unanswered_max <= edge.plans_unanswered_max
    assert FROM_EDGE_BYTES_MAX < FROM_CONTROL_BYTES_MAX <= server.queue_bytes_max
    assert replace(edge, cluster="x").cluster == "x"


def test_control_messages_are_not_taken_for_an_edges() -> None:
    assert messages_of(encode(WELCOME), decode_from_control) == [WELCOME]
    server = ServerChannel(ServerChannelConfig(), "sin-1", "sin", 0)
    server.handle_data(encode(WELCOME), 0)
    assert "'welcome'" in events_of(server)[0].reason
