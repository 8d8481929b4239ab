"""Tracks come where the plan says they come from."""

from __future__ import annotations

from farcast.proto._core import Command
from farcast.proto.agent import PlanHops
from farcast.proto.client.events import TrackReady
from farcast.proto.moqt.events import NamespaceAnnounced, RequestRejected
from farcast.proto.moqt.names import FullTrackName

from .plans import Plans, source_of, standbys_of
from .raw import raw_client
from .world import TLS, Host, World, events_of, namespace, track_status


def network(*names: str) -> tuple[World, list[Host], Plans]:
    """Edges that know nothing of each other but what plans tell them."""
    world = World()
    edges = [world.planned_edge(name) for name in names]
    return world, edges, Plans(world, *edges)


def test_a_track_comes_from_the_plans_parent_and_not_from_its_origin() -> None:
    world, (origin, relay, egress), plans = network("o", "r", "e")
    world.publisher(origin, "live/a", "video")
    plans.push({"live/a": "o"}, {"e": {"o": ["r", "o"]}, "r": {"o": ["o"]}})
    world.run(200)
    viewer = world.viewer(egress, "live/a", "video")
    world.run(300)
    assert source_of(egress) == "r"
    assert source_of(relay) == "o"
    assert track_status(egress)["route"] == ["o", "r"]
    assert [type(event) for event in events_of(viewer)].count(TrackReady) == 1


def test_a_namespace_that_is_published_here_needs_no_plan() -> None:
    world, (origin, other), plans = network("o", "x")
    plans.push({}, {})
    world.publisher(origin, "live/a", "video")
    viewer = world.viewer(origin, "live/a", "video")
    world.run(300)
    assert track_status(origin)["source"] == "announcer"
    assert TrackReady in [type(event) for event in events_of(viewer)]
    assert other.tracks == {}


def test_the_origin_of_a_namespace_asks_nobody_for_it() -> None:
    world, (origin, _), plans = network("o", "x")
    plans.push({"live/a": "o"}, {"x": {"o": ["o"]}, "o": {"x": ["x"]}})
    world.run(100)
    _, client = raw_client(world, origin)
    client.session.subscribe(FullTrackName.of("live/a", "video"))
    world.run(300)
    assert client.found(RequestRejected)
    assert origin.engine.status(world.now_us)["counters"].get("upstream_subscribes", 0) == 0


def test_who_waits_is_served_at_once_when_the_directory_learns_the_namespace() -> None:
    world, (origin, egress), plans = network("o", "e")
    plans.push({"other": "o"}, {"e": {"o": ["o"]}})
    world.run(100)
    viewer = world.viewer(egress, "live/a", "video", wait_ms=30_000)
    world.run(10_000)
    world.publisher(origin, "live/a", "video")
    world.run(100)
    assert source_of_any(egress) is None
    plans.push({"other": "o", "live/a": "o"}, {"e": {"o": ["o"]}})
    world.run(20)
    assert source_of(egress) == "o"
    assert TrackReady in [type(event) for event in events_of(viewer)]


def source_of_any(edge: Host) -> str | None:
    tracks = edge.engine.status(edge.world.now_us)["tracks"]
    return source_of(edge) if tracks else None


def test_a_namespace_that_the_plan_does_not_know_comes_from_the_configured_upstream() -> None:
    world = World()
    stock = world.edge("stock")
    origin, egress = world.planned_edge("o"), world.planned_edge("e", ("", stock))
    world.publisher(stock, "live/b", "video")
    Plans(world, origin, egress).push({"live/a": "o"}, {"e": {"o": ["o"]}})
    world.viewer(egress, "live/b", "video")
    world.run(500)
    assert source_of(egress) == "stock"
    assert standbys_of(egress) == []


def test_a_viewer_who_does_not_wait_is_refused_where_the_plan_does_not_know_the_namespace() -> None:
    world, (_, egress), plans = network("o", "e")
    plans.push({"live/a": "o"}, {"e": {"o": ["o"]}})
    _, client = raw_client(world, egress)
    client.session.subscribe(FullTrackName.of("live/b", "video"))
    world.run(500)
    assert client.found(RequestRejected)


def test_hops_to_all_edges_of_the_plan_are_opened_and_kept_open_as_probes() -> None:
    world, (one, two, three), plans = network("a", "b", "c")
    plans.push({}, {})
    world.run(200)
    assert [edge.connects for edge in (one, two, three)] == [2, 2, 2]
    (session,) = [s for s, wire in one.wires.items() if s % 2 and wire.other(one) is two]
    one.crash(session)
    world.run(5_000)
    assert one.connects == 3
    assert sorted(one.engine.hop_peers().values()) == ["b", "b", "c", "c"]


def test_an_edge_that_nobody_measures_is_connected_if_it_is_on_a_way() -> None:
    world, (one, _, _), plans = network("a", "b", "c")
    plans.push({"live/a": "b"}, {"a": {"b": ["b"]}}, probe=False)
    world.run(200)
    assert sorted(one.engine.hop_peers().values()) == ["b"]


def test_an_edge_that_the_plan_drops_loses_its_hop_when_no_track_hangs_on_it() -> None:
    world, (origin, egress, third), plans = network("o", "e", "x")
    world.publisher(origin, "live/a", "video")
    plans.push({"live/a": "o"}, {"e": {"o": ["o"]}})
    viewer = world.viewer(egress, "live/a", "video")
    world.run(500)
    plans.push({"live/a": "o"}, {"e": {"o": ["o"]}}, to=[egress], left_out=["x"])
    world.run(100)
    assert "x" not in {peer_name(egress, s) for s in egress.wires if s % 2}
    assert source_of(egress) == "o"
    assert third.connects == 2
    viewer.engine.close(world.now_us)


def peer_name(edge: Host, session: int) -> str:
    return edge.wires[session].other(edge).name


def test_an_edge_at_another_ones_address_is_not_taken_for_it() -> None:
    world = World()
    names = ("a", "b", "c")
    wrong = PlanHops(TLS, {"b": "10.0.0.3:4433"})
    edges = [world.planned_edge(name, plan_hops=wrong if name == "a" else PlanHops(TLS)) for name in names]
    Plans(world, *edges).push({}, {})
    world.run(100)
    closed = [c.reason for c in edges[0].commands if isinstance(c, Command.Close)]
    assert closed[0] == "the plan says b is here, but it is c"
    links = edges[0].engine.status(world.now_us)["upstreams"]
    assert [(link["planned"], link["state"]) for link in links] == [("b", "waiting"), ("c", "open")]


def test_an_edge_that_is_somewhere_else_now_is_looked_for_there_at_once() -> None:
    world, (one, two), plans = network("a", "b")
    real, two.address = two.address, "10.9.9.9:1"
    plans.push({}, {})
    world.run(30_000)
    assert "b" not in one.engine.hop_peers().values() or one.connects > 1
    two.address = real
    plans.push({}, {}, to=[one])
    world.run(50)
    (link,) = one.engine.status(world.now_us)["upstreams"]
    assert link["state"] == "open"


def test_an_edge_without_a_hop_certificate_keeps_the_plan_and_connects_to_nobody() -> None:
    world = World()
    edges = [world.planned_edge("a", plan_hops=None), world.planned_edge("b")]
    Plans(world, *edges).push({"live/a": "b"}, {"a": {"b": ["b"]}})
    world.run(100)
    assert edges[0].connects == 0
    _, client = raw_client(world, edges[0])
    client.session.subscribe(FullTrackName.of("live/a", "video"))
    world.run(300)
    assert client.found(RequestRejected)


def test_an_edge_whose_address_is_a_name_is_told_and_not_connected() -> None:
    world = World()
    hops = PlanHops(TLS, {"b": "b.example:443"})
    edges = [world.planned_edge("a", plan_hops=hops), world.planned_edge("b"), world.planned_edge("c")]
    Plans(world, *edges).push({}, {})
    world.run(100)
    assert edges[0].engine.unusable_nodes == ("b",)
    assert edges[0].connects == 1


def test_who_asks_for_namespaces_hears_of_those_in_the_directory() -> None:
    world, (_, egress), plans = network("o", "e")
    _, client = raw_client(world, egress)
    client.session.subscribe_namespace(namespace("live"))
    world.run(50)
    plans.push({"live/a": "o", "other/b": "o"}, {"e": {"o": ["o"]}})
    world.run(50)
    assert [event.namespace for event in client.found(NamespaceAnnounced)] == [namespace("live/a")]


def test_a_directory_of_any_size_leaves_room_for_publishers_here() -> None:
    world, (_, egress), plans = network("o", "e")
    limit = egress.engine.config.limits.namespaces_max
    plans.push({f"n/{number}": "o" for number in range(limit)}, {"e": {"o": ["o"]}})
    publisher = world.publisher(egress, "live/mine", "video")
    world.run(200)
    assert publisher.engine.state == "established"
    assert [offer.namespace for offer in egress.engine.offers(world.now_us)] == [(b"live", b"mine")]


def test_offers_are_the_namespaces_of_publishers_here_with_their_age() -> None:
    world, (origin, egress), plans = network("o", "e")
    plans.push({"live/a": "o"}, {"e": {"o": ["o"]}})
    world.publisher(origin, "live/a", "video")
    world.run(200)
    before = origin.engine.offers_serial
    assert [offer.namespace for offer in origin.engine.offers(world.now_us)] == [(b"live", b"a")]
    assert egress.engine.offers(world.now_us) == ()
    world.run(1_000)
    assert origin.engine.offers(world.now_us)[0].age_us == 1_000_000
    _, client = raw_client(world, origin)
    client.session.publish(FullTrackName.of("live/b", "video"), 7)
    world.run(20)
    assert origin.engine.offers_serial != before
    assert len(origin.engine.offers(world.now_us)) == 2


def test_demand_counts_tracks_and_bits_by_origin() -> None:
    world, (origin, egress), plans = network("o", "e")
    plans.push({"live/a": "o"}, {"e": {"o": ["o"]}})
    world.publisher(origin, "live/a", "video", "audio")
    world.viewer(egress, "live/a", "video", "audio")
    world.run(300)
    ids = sorted(egress.downstreams)

    def snapshot(*counts: int) -> dict[str, object]:
        return {"downstreams": [{"downstream": d, "bytes": b} for d, b in zip(ids, counts, strict=True)]}

    egress.engine.measure_demand(1_000_000, snapshot(1_000, 0))
    (load,) = egress.engine.measure_demand(3_000_000, snapshot(251_000, 25_000))
    assert (load.origin, load.tracks, load.bps) == ("o", 2, 1_100_000)
    assert origin.engine.measure_demand(0, snapshot(0, 0)) == ()
