"""An edge's membership as an engine: when it reports, what becomes of plans, what the shell is told."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from farcast.proto.agent import Agent, AgentConfig
from farcast.proto.control import events as channel
from farcast.proto.control import messages as m
from farcast.proto.control.edge_plan import BadPlanFile
from farcast.proto.membership import (
    DrainWanted,
    EdgeMembership,
    MembershipConfig,
    PlanRefused,
    PlanTaken,
    ReportAcknowledged,
    SnapshotWanted,
)

SECOND = 1_000_000
EPOCH = m.Epoch(cluster="dev", number=1)
HELLO = m.Hello(
    versions=(1,), node_id="sin-1", region="sin", boot_id="b", advertise="10.0.0.1:1", software="x"
)
NODES = (
    m.NodeInfo(node_id="sin-1", region="sin", address="10.0.0.1:1", public_url="https://sin.example/"),
    m.NodeInfo(node_id="fra-1", region="fra", address="10.0.0.2:1", public_url="https://fra.example/"),
    m.NodeInfo(node_id="dxb-1", region="dxb", address="10.0.0.3:1", public_url="https://dxb.example/"),
)


def plan(sequence: int, **changes: Any) -> m.PlanDelta:
    fields: dict[str, Any] = {
        "version": m.PlanVersion(epoch=EPOCH, sequence=sequence),
        "nodes": NODES,
        "routes": (m.RouteEntry(origin="fra-1", upstreams=("fra-1",)),),
    }
    return m.PlanDelta(**{**fields, **changes})


def snapshot(now_us: int) -> Any:
    return {
        "now_us": now_us,
        "totals": {"udp_bytes_out": 0, "stalls": 0},
        "sessions": [],
        "downstreams": [],
        "tracks": 0,
        "cache_bytes": 0,
    }


class Edge:
    """An engine that has joined, and what it sent."""

    def __init__(self, *, joined: bool = True) -> None:
        self.agent = Agent(AgentConfig(node_id="sin-1"))
        self.engine = EdgeMembership(MembershipConfig(HELLO, "dev"), self.agent)
        self.engine.start(0)
        if joined:
            self.engine.channel.handle_connected(0)
            self.feed(m.Welcome(version=1, epoch=EPOCH), 0)
        self.events()
        self.sent()

    def feed(self, message: Any, now_us: int) -> None:
        from farcast.proto.control.codec import encode

        self.engine.channel.handle_data(encode(message), now_us)
        while (event := self.engine.channel.poll_event()) is not None:
            self.engine.handle_event(event, now_us)

    def events(self) -> list[Any]:
        found = []
        while (event := self.engine.poll_event()) is not None:
            found.append(event)
        return found

    def sent(self) -> list[dict[str, Any]]:
        data = b""
        while (more := self.engine.channel.poll_data()) is not None:
            data += more
        found = []
        while data:
            length = int.from_bytes(data[:4], "big")
            found.append(msgspec.msgpack.decode(data[4 : 4 + length]))
            data = data[4 + length :]
        return found

    def report(self, now_us: int) -> m.Report | None:
        self.engine.handle_timeout(now_us)
        assert self.events() == [SnapshotWanted()]
        return self.engine.handle_snapshot(snapshot(now_us), lambda counters, publishers: m.Load(), now_us)


def test_a_report_is_due_every_interval_and_once_each() -> None:
    edge = Edge()
    for second in range(5):
        assert edge.engine.poll_timeout() == second * SECOND
        edge.engine.handle_timeout(second * SECOND - 1)
        assert edge.events() == []
        assert edge.report(second * SECOND) is not None
        edge.engine.handle_timeout(second * SECOND)
        assert edge.events() == []
        edge.feed(m.ReportAck(sequence=second + 1), second * SECOND)
        assert edge.events() == [ReportAcknowledged(second + 1)]


def test_while_the_datapath_has_not_answered_nothing_else_is_asked() -> None:
    edge = Edge()
    edge.engine.handle_timeout(0)
    assert edge.events() == [SnapshotWanted()]
    assert edge.engine.poll_timeout() is None
    edge.engine.handle_timeout(5 * SECOND)
    assert edge.events() == []
    edge.engine.handle_no_snapshot()
    assert edge.engine.poll_timeout() == SECOND


def test_news_are_reported_early_but_not_too_often() -> None:
    edge = Edge()
    edge.report(0)
    edge.engine.report_soon()
    assert edge.engine.poll_timeout() == 250_000
    edge.report(250_000)
    assert edge.engine.poll_timeout() == 1_250_000
    edge.engine.report_now(300_000)
    assert edge.events() == [SnapshotWanted()]


def test_without_a_control_plane_nothing_is_sent_and_then_all_is_said() -> None:
    edge = Edge(joined=False)
    assert edge.report(0) is None
    edge.engine.channel.handle_connected(SECOND)
    edge.feed(m.Welcome(version=1, epoch=EPOCH), SECOND)
    report = edge.report(SECOND)
    assert report is not None
    assert report.full


def test_a_plan_is_followed_and_acknowledged() -> None:
    edge = Edge()
    edge.feed(plan(1), 0)
    (taken,) = edge.events()
    assert isinstance(taken, PlanTaken)
    assert edge.agent.plan is taken.plan
    assert [message["is"] for message in edge.sent()] == ["ack"]
    assert edge.engine.plans_applied == 1


def test_a_bad_plan_is_refused_with_the_reason_and_the_old_one_stays() -> None:
    edge = Edge()
    edge.feed(plan(2), 0)
    edge.events()
    edge.sent()
    edge.feed(plan(1), 0)
    (refused,) = edge.events()
    assert isinstance(refused, PlanRefused)
    assert "older" in refused.reason
    assert refused.holds == plan(2).version
    assert edge.agent.plan is not None
    assert edge.agent.plan.version == plan(2).version
    assert [message["is"] for message in edge.sent()] == ["nack"]


def test_the_plan_of_an_earlier_run_is_followed_and_said_in_the_next_hello() -> None:
    before = Edge()
    before.feed(plan(7), 0)
    kept = before.engine.store.dump()
    edge = Edge(joined=False)
    edge.engine.load_plan(kept, 0)
    assert edge.engine.from_disk
    assert edge.agent.plan is not None
    edge.engine.channel.handle_connected(0)
    (hello,) = edge.sent()
    assert hello["holds"]["sequence"] == 7
    with pytest.raises(BadPlanFile):
        edge.engine.load_plan(kept[:-3], 0)


def test_an_order_to_drain_is_for_the_shell() -> None:
    edge = Edge()
    edge.feed(m.DrainOrder(drain_ms=300), 0)
    assert edge.events() == [DrainWanted(300)]


def test_viewers_are_sent_to_an_edge_that_they_can_reach() -> None:
    edge = Edge()
    assert edge.engine.next_url() == ""
    edge.feed(plan(1), 0)
    assert edge.engine.next_url() == "https://dxb.example/"


def test_viewers_are_not_sent_to_an_edge_that_is_silent_or_that_nobody_hears(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    edge = Edge()
    near = m.NodeInfo(
        node_id="sin-2", region="sin", address="10.0.0.4:1", public_url="https://sin-2.example/"
    )
    edge.feed(plan(1, nodes=(*NODES, near)), 0)
    hops = {1: ("sin-2", 900, True), 3: ("fra-1", 160_000, False), 5: ("dxb-1", 90_000, False)}
    monkeypatch.setattr(
        edge.agent, "hop_peers", lambda: {session: node for session, (node, _, _) in hops.items()}
    )
    sessions = [
        {"session": session, "hop": {"rtt_us": rtt_us, "is_silent": silent}}
        for session, (_, rtt_us, silent) in hops.items()
    ]
    monkeypatch.setattr(edge.engine.reporter, "handle_snapshot", lambda *args, **kwargs: None)
    monkeypatch.setattr(edge.engine, "_send", lambda report, now_us: None)
    counters: Any = {**snapshot(1), "sessions": sessions}
    edge.engine.handle_snapshot(counters, lambda *_: m.Load(), 1)
    assert edge.engine.next_url() == "https://dxb.example/", "sin-2 is dead, fra-1 is further away"


def test_events_of_a_broken_channel_change_nothing() -> None:
    edge = Edge()
    edge.feed(plan(1), 0)
    edge.engine.handle_event(channel.Broken("gone"), 0)
    assert edge.agent.plan is not None
