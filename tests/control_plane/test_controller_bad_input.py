"""Edges that say what they must not: refused, counted, and nobody else notices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from control_world import SECOND, Edge, World
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from farcast.proto.control.messages import LinkReport, Offer, Report, TrackLoad

THREE = ("fra-1", "jkt-1", "sin-1")


def settled() -> World:
    return World(THREE, lambda a, b: 100.0).run(4)


def nothing_else_disturbed(world: World) -> None:
    """Edges other than fra-1 hear of new things as ever."""
    world.offer("jkt-1", "live/after")
    world.run(0.2)
    for node_id in THREE[1:]:
        assert world.edges[node_id].channel.joined
        assert (b"live", b"after") in world.edges[node_id].plan.directory
    assert world.counters.get("routes_escaped", 0) == 0


def raw(message: object) -> bytes:
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(4, "big") + body


def changed(world: World, **fields: Any) -> bytes:
    edge = world.edges["fra-1"]
    told = msgspec.msgpack.decode(msgspec.msgpack.encode(world.report(edge)))
    return raw({**told, **fields})


LINK = {"peer": "sin-1"}


@pytest.mark.parametrize(
    "fields",
    [
        {"links": "many"},
        {"sequence": "7"},
        {"sequence": -1},
        {"interval_us": 0},
        {"interval_us": 1 << 60},
        {"sent_us": -5},
        {"boot_id": "another"},
        {"links": [{**LINK, "rtt_smoothed_us": 1 << 50}]},
        {"links": [{**LINK, "rx_lost": 5, "rx_packets": 3}]},
        {"links": [{**LINK, "peer": "a" * 64}]},
        {"links": [LINK] * 2_000},
        {"offered": [{"namespace": [b"x" * 5_000]}]},
        {"load": {"cpu": float("nan")}},
    ],
    ids=str,
)
def test_a_report_of_wrong_types_sizes_or_times_ends_the_session_of_its_sender(
    fields: dict[str, Any],
) -> None:
    world = settled()
    world.controller.handle_data(world.edges["fra-1"].session, changed(world, **fields), world.now_us)
    world.flush()
    assert world.controller.channel_of("fra-1") is None
    assert world.counters["sessions_lost"] == 1
    (line,) = world.logged("edge lost its control session")
    assert line["node_id"] == "fra-1"
    assert line["reason"].startswith("edge sent what it must not: ")
    assert "fra-1" in world.controller.members
    nothing_else_disturbed(world)


@pytest.mark.parametrize(
    "data", [b"\xff" * 64, raw({"is": "nobody"}), raw([1, 2]), (1 << 30).to_bytes(4, "big")]
)
def test_bytes_that_are_no_message_end_the_session(data: bytes) -> None:
    world = settled()
    world.controller.handle_data(world.edges["fra-1"].session, data, world.now_us)
    world.flush()
    assert world.controller.channel_of("fra-1") is None
    nothing_else_disturbed(world)


def test_links_to_strangers_are_counted_and_left_out_and_the_rest_counts() -> None:
    world = settled()
    edge = world.edges["fra-1"]
    strangers = [LinkReport(peer=peer, silent=True) for peer in ("nobody-1", "no body\x1b[1m\n", "-")]
    links = (*world.report(edge).links, *strangers, LinkReport(peer="fra-1"))
    world.send(edge, world.report(edge, links=links))
    world.run(0.2)
    assert world.counters["links_to_strangers"] == 4
    member = world.controller.members.get("fra-1")
    assert member is not None
    assert set(member.hears) == {"jkt-1", "sin-1"}
    assert "nobody-1" not in world.controller.links.network(world.now_us).node_ids
    nothing_else_disturbed(world)


def test_demand_for_strangers_is_counted_and_left_out() -> None:
    world = settled()
    edge = world.edges["fra-1"]
    demand = (TrackLoad(origin="nobody-1", tracks=1, bps=5), TrackLoad(origin="sin-1", tracks=1, bps=7))
    world.send(edge, world.report(edge, demand=demand))
    world.run(0.07)
    assert world.counters["demand_for_strangers"] == 1
    member = world.controller.members.get("fra-1")
    assert member is not None
    assert member.demand == {"sin-1": 7}


def test_a_clock_that_goes_back_makes_a_report_distrusted() -> None:
    world = settled()
    edge = world.edges["fra-1"]
    silent = tuple(LinkReport(peer=peer, silent=True) for peer in THREE[1:])
    before = {origin: world.parents(origin) for origin in THREE}
    world.send(edge, world.report(edge, sent_us=SECOND, links=silent))
    world.run(0.3)
    assert world.counters["reports_with_a_clock_that_went_back"] == 1
    assert {origin: world.parents(origin) for origin in THREE} == before


def test_an_hour_of_wrong_wall_clock_changes_nothing() -> None:
    world = World(THREE, lambda a, b: 100.0)
    world.controller._unix_minus_clock_us -= 3_600 * SECOND
    world.run(4)
    nothing_else_disturbed(world)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"node_id": "sin-1"}, "Hello says node 'sin-1', the certificate 'fra-2'"),
        ({"region": "sin"}, "Hello says region 'sin', the certificate 'fra'"),
        ({"versions": (40_000,)}, "edge speaks versions 40000"),
        ({"advertise": "nowhere"}, "$.advertise"),
        ({"advertise": "192.0.2.1:99999"}, "port 99999"),
    ],
)
def test_a_hello_that_differs_from_the_certificate_is_refused(said: dict[str, Any], reason: str) -> None:
    world = settled()
    hello = {
        "is": "hello",
        "versions": (1,),
        "node_id": "fra-2",
        "region": "fra",
        "boot_id": "b1",
        "advertise": "192.0.2.1:443",
    }
    world.controller.handle_connected(99, ("fra", "fra-2"), world.now_us)
    world.controller.handle_data(99, raw({**hello, **said}), world.now_us)
    world.flush()
    (line,) = world.logged("session ended before it joined")
    assert reason in line["reason"]
    assert world.counters["sessions_refused"] == 1
    assert "fra-2" not in world.controller.members
    nothing_else_disturbed(world)


@pytest.mark.parametrize("identity", [None, ("fra", "Not_A_Node"), ("", "fra-2")])
def test_a_certificate_of_another_role_gets_no_session(identity: tuple[str, str] | None) -> None:
    world = settled()
    world.controller.handle_connected(99, identity, world.now_us)
    session, reason = world.controller.poll_close() or (0, "")
    assert session == 99
    assert "certificate names no edge" in reason
    assert world.counters["sessions_refused"] == 1
    nothing_else_disturbed(world)


def test_sessions_are_bounded() -> None:
    world = settled()
    for session in range(100, 100 + world.controller.config.sessions_max):
        world.controller.handle_connected(session, ("fra", "fra-2"), world.now_us)
    assert world.controller.sessions == world.controller.config.sessions_max
    assert world.counters["sessions_refused"] == 3
    world.run(6)
    assert world.controller.sessions == 3


def test_an_edge_that_offers_too_much_fills_its_own_share_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farcast.control_plane.directory.NAMESPACES_PER_NODE_MAX", 10)
    world = settled()
    edge = world.edges["fra-1"]
    offers = tuple(Offer(namespace=(b"spam", str(k).encode())) for k in range(50))
    world.send(edge, world.report(edge, offered=offers))
    world.run(0.2)
    assert world.controller.directory.offers_of("fra-1") == 10
    assert world.controller.directory.refused == 40
    nothing_else_disturbed(world)


_REPORTS: st.SearchStrategy[Callable[[World, Edge], Report]] = st.builds(
    lambda links, full, distrust, draining: (
        lambda world, edge: world.report(edge, links=links, full=full, distrust=distrust, draining=draining)
    ),
    st.lists(
        st.builds(
            LinkReport,
            peer=st.sampled_from((*THREE, "x")),
            silent=st.booleans(),
            rtt_smoothed_us=st.integers(0, 60_000_000),
            rx_packets=st.integers(10, 1 << 40),
            rx_lost=st.integers(0, 10),
            rtt_sketch=st.dictionaries(st.integers(0, 1_023), st.integers(0, 1 << 40), max_size=3),
        ),
        max_size=4,
    ).map(tuple),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@settings(
    max_examples=20,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.lists(_REPORTS, min_size=1, max_size=4))
def test_whatever_an_edge_reports_within_the_rules_every_edge_takes_every_plan(
    reports: list[Callable[[World, Edge], Report]],
) -> None:
    world = settled()
    edge = world.edges["fra-1"]
    edge.muted = True
    for make in reports:
        world.send(edge, make(world, edge))
        world.run(0.5)
    world.run(2)
    for other in world.edges.values():
        assert not other.refusals
        assert world.controller.pushes.is_current(other.node_id)


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    world = World(())
    world.controller.handle_connected(1, ("fra", "fra-1"), world.now_us)
    world.controller.handle_data(1, data, world.now_us)
    world.flush()
    assert len(world.controller.members) == 0


def test_an_edge_that_claims_to_have_held_a_namespace_for_ever_takes_it_from_nobody() -> None:
    world = settled()
    world.run(100)
    world.offer("sin-1", "live/film")
    world.run(100)
    edge = world.edges["fra-1"]
    edge.restart("b2")
    world.connect(edge)
    world.run(2)
    world.send(edge, world.report(edge, offered=(Offer(namespace=(b"live", b"film"), age_us=1 << 50),)))
    world.run(0.2)
    assert world.controller.directory.table[b"live", b"film"] == "sin-1"
    assert world.counters["offers_older_than_their_edge"] == 1
    nothing_else_disturbed(world)


def test_reports_that_come_too_often_are_counted_and_a_full_one_makes_up_for_them() -> None:
    world = settled()
    edge = world.edges["fra-1"]
    before = world.counters["reports"]
    for k in range(100):
        edge.channel._reports_unacked.clear()
        fields = (b"live", str(k).encode())
        edge.offers[fields] = world.now_us
        world.send(edge, world.report(edge, offered=(Offer(namespace=fields),)))
    world.run(0.06)
    channel = world.controller.channel_of("fra-1")
    assert channel is not None
    assert channel.counters["reports_too_frequent"] == 60
    assert world.counters["reports"] - before <= 45
    world.run(3)
    assert world.controller.directory.offers_of("fra-1") == 100
    nothing_else_disturbed(world)


def test_an_edge_that_does_not_stop_flooding_loses_its_session() -> None:
    world = settled()
    edge = world.edges["fra-1"]
    for _ in range(500):
        edge.channel._reports_unacked.clear()
        world.send(edge, world.report(edge))
    world.run(0.06)
    assert world.controller.channel_of("fra-1") is None
    (line,) = world.logged("edge lost its control session")
    assert "reports come too often" in line["reason"]
    nothing_else_disturbed(world)
