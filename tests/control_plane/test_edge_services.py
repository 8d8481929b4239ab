"""Edges as services in Consul: there while they report, warning while they drain, gone with the reign."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from consul_kv import SECOND, Caller, ConsulKv
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.control_plane.members import Members, MembersConfig
from farcast.control_plane.registry import edge_services
from farcast.control_plane.registry.calls import Lane, Reply, Request
from farcast.control_plane.registry.edge_services import (
    BEAT_US,
    DENIED_RETRY_US,
    META_CHARACTERS_MAX,
    TTL_US,
    EdgeService,
    EdgeServices,
    services_of,
)
from farcast.proto.control.messages import Hello, Report

SIN = EdgeService("sin-1", "192.0.2.1", 443, {"region": "sin"})
FRA = EdgeService("fra-1", "192.0.2.2", 443, {"region": "fra"})


class Shown:
    """One leader beside a Consul in memory."""

    def __init__(self, consul: ConsulKv | None = None, name: str = "c1") -> None:
        self.consul = consul or ConsulKv()
        self.services = EdgeServices("shows", name, lambda: 0.5)
        self.now_us = 0
        self.caller = Caller(self.consul, self.services.poll_request, self._take)

    def _take(self, lane: Lane, reply: Reply, now_us: int) -> None:
        assert lane is Lane.EDGES
        self.services.handle_reply(reply, now_us)

    def run(self, seconds: float, edges: Sequence[EdgeService] | None = None) -> None:
        end_us = self.now_us + int(seconds * SECOND)
        while self.now_us < end_us:
            if edges is not None and self.now_us % SECOND == 0:
                self.services.set_edges(edges)
            self.now_us += 50_000
            self.caller.turn(self.now_us)

    @property
    def states(self) -> dict[str, str]:
        return self.consul.states(self.now_us)


def of(node_id: str, name: str = "c1") -> str:
    return f"farcast-edge:shows:{node_id}:{name}"


def test_an_edge_that_reports_is_a_passing_service_with_its_address_and_metadata() -> None:
    shown = Shown()
    shown.run(120, [SIN, FRA])
    assert shown.states == {of("sin-1"): "passing", of("fra-1"): "passing"}
    registered = json.loads(shown.consul.asked[0].body)
    assert (registered["Name"], registered["Address"], registered["Port"]) == (
        "farcast-edge",
        "192.0.2.1",
        443,
    )
    assert registered["Meta"] == {"region": "sin", "cluster": "shows", "told_by": "c1"}
    assert registered["Check"]["TTL"] == "30s"


def test_an_edge_passes_once_a_beat_and_is_registered_once() -> None:
    shown = Shown()
    shown.run(100, [SIN, FRA])
    paths = [request.path for request in shown.consul.asked]
    assert paths.count("/v1/agent/service/register") == 2
    assert len(paths) <= 2 + 2 * (100 * SECOND // BEAT_US)


def test_an_edge_that_reports_no_more_is_critical_after_the_ttl_and_passes_when_it_is_back() -> None:
    shown = Shown()
    shown.run(20, [SIN, FRA])
    shown.run(TTL_US / SECOND + 1, [replace(SIN, reports=False), FRA])
    assert shown.states == {of("sin-1"): "critical", of("fra-1"): "passing"}
    shown.run(BEAT_US / SECOND + 1, [SIN, FRA])
    assert shown.states[of("sin-1")] == "passing"


def test_an_edge_that_was_not_heard_yet_is_not_there() -> None:
    shown = Shown()
    shown.run(20, [replace(SIN, reports=False)])
    assert shown.states == {}


def test_an_edge_that_drains_is_warning_at_once_and_passes_again_when_that_is_taken_back() -> None:
    shown = Shown()
    shown.run(3, [SIN])
    shown.run(1.1, [replace(SIN, draining=True)])
    assert shown.states == {of("sin-1"): "warning"}
    shown.run(60, [replace(SIN, draining=True)])
    assert shown.states == {of("sin-1"): "warning"}
    shown.run(1.1, [SIN])
    assert shown.states == {of("sin-1"): "passing"}


def test_an_edge_that_left_the_cluster_is_deregistered_and_so_are_all_at_the_end_of_a_reign() -> None:
    shown = Shown()
    shown.run(3, [SIN, FRA])
    shown.run(1.1, [FRA])
    assert shown.states == {of("fra-1"): "passing"}
    shown.services.end()
    shown.run(1)
    assert shown.states == {}


def test_an_edge_that_moved_is_registered_anew() -> None:
    shown = Shown()
    shown.run(3, [SIN])
    shown.run(1.1, [replace(SIN, host="192.0.2.9")])
    assert json.loads(shown.consul.asked[-1].body)["Address"] == "192.0.2.9"


def test_what_the_next_leader_shows_is_not_what_the_one_before_takes_away() -> None:
    consul = ConsulKv()
    old, new = Shown(consul, "c1"), Shown(consul, "c2")
    old.run(3, [SIN])
    new.run(3, [SIN])
    old.services.end()
    old.run(1)
    assert old.states == {of("sin-1", "c2"): "passing"}


def test_who_resigns_takes_all_of_them_out() -> None:
    shown = Shown()
    shown.run(3, [SIN, FRA])
    for request in shown.services.resignation():
        shown.consul.answer(request, shown.now_us)
    assert shown.states == {}


def test_a_consul_that_forgot_everything_is_told_again() -> None:
    shown = Shown()
    shown.run(20, [SIN, FRA])
    shown.consul.restart()
    shown.run(BEAT_US / SECOND + 1, [SIN, FRA])
    assert shown.states == {of("sin-1"): "passing", of("fra-1"): "passing"}


@pytest.mark.parametrize(("status", "wait_us"), [(0, 500_000), (500, 500_000), (403, DENIED_RETRY_US)])
def test_a_consul_that_refuses_is_asked_seldom_and_the_reason_told(status: int, wait_us: int) -> None:
    shown = Shown()
    shown.consul.failing = status
    shown.run(120, [SIN, FRA])
    assert shown.services.failure is not None
    assert len(shown.consul.asked) <= 120 * SECOND / wait_us + 1
    shown.consul.failing = None
    shown.run(60, [SIN, FRA])
    assert shown.services.failure is None
    assert set(shown.states.values()) == {"passing"}


def test_no_more_edges_are_shown_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_services, "EDGES_MAX", 5)
    shown = Shown()
    shown.run(3, [EdgeService(f"e-{at}", "192.0.2.1", 443) for at in range(9)])
    assert len(shown.states) == 5


def test_an_edge_is_shown_as_it_said_in_its_hello() -> None:
    members = Members(MembersConfig())
    hello = Hello(
        versions=(1,),
        node_id="sin-1",
        region="sin",
        boot_id="b1",
        advertise="[2001:db8::1]:443",
        public_url="https://" + "x" * META_CHARACTERS_MAX,
        provider="acme",
    )
    members.join(hello, 1, 0)
    (silent,) = services_of(members, 1)
    assert not silent.reports
    member = members.get("sin-1")
    assert member is not None
    members.handle_report(
        member, Report(boot_id="b1", sequence=1, sent_us=1, interval_us=1_000_000, full=True), 2
    )
    (shown,) = services_of(members, 3)
    assert shown == EdgeService(
        "sin-1",
        "2001:db8::1",
        443,
        {"node_id": "sin-1", "region": "sin", "provider": "acme"},
    ), "what is longer than Consul takes is left out"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.sampled_from([0, 200, 403, 404, 500]),
            st.lists(st.sampled_from([SIN, FRA, replace(SIN, draining=True)]), max_size=2),
        ),
        max_size=60,
    )
)
def test_whatever_consul_answers_and_edges_do_there_is_one_request_at_a_time(
    steps: list[int | list[EdgeService]],
) -> None:
    services, now_us = EdgeServices("shows", "c1", lambda: 0.0), 0
    asked: Request | None = None
    for step in steps:
        now_us += 700_000
        if isinstance(step, list):
            services.set_edges(step)
        elif asked is not None:
            services.handle_reply(Reply(step), now_us)
            asked = None
        due = services.poll_request(now_us)
        assert asked is None or due is None
        asked = asked or due
        assert asked is None or services.poll_timeout() is None
