"""Catalogs are there before anybody asks, and so is what our publishers list in them."""

from __future__ import annotations

import pytest

from farcast.proto.agent import TrackTiming
from farcast.proto.agent import ahead as module
from farcast.proto.agent.config import TRACKS_AHEAD
from farcast.proto.client.events import TrackReady
from farcast.proto.properties import COMPANIONS, Property

from .plans import Plans
from .world import Host, World, events_of

LINGER_MS = TrackTiming().track_linger_ms


def network(*names: str) -> tuple[World, list[Host], Plans]:
    world = World()
    edges = [world.planned_edge(name, ahead=TRACKS_AHEAD) for name in names]
    return world, edges, Plans(world, *edges)


def publisher_of(world: World, edge: Host, *tracks: str, beside: bytes = b"audio\nvideo") -> Host:
    """A publisher with a catalog that names these companions."""
    host = world.publisher(edge, "live/a", *tracks, start=False)
    host.engine.add_track(b"catalog", properties=(Property(COMPANIONS, beside),))
    host.engine.start(world.now_us)
    return host


def held(edge: Host) -> set[str]:
    """The names of the tracks that an edge holds."""
    return {name.name.decode() for name in edge.engine.track_names().values()}


def asked(edge: Host) -> int:
    counters = edge.engine.status(edge.world.now_us)["counters"]
    return int(counters.get("upstream_subscribes", 0))


def test_an_edge_takes_catalog_and_companions_of_its_publisher_and_keeps_them_unwatched() -> None:
    world, (edge,), _ = network("o")
    publisher = publisher_of(world, edge, "audio", "video", "other")
    world.run(3 * LINGER_MS)
    assert held(edge) == {"catalog", "audio", "video"}
    assert publisher.engine.subscriptions(b"video") == 1
    assert publisher.engine.subscriptions(b"other") == 0


def test_what_was_taken_ahead_is_let_go_when_the_namespace_goes() -> None:
    world, (edge,), _ = network("o")
    publisher = publisher_of(world, edge, "audio", "video")
    world.run(500)
    publisher.engine.close(world.now_us)
    world.run(3 * LINGER_MS)
    assert edge.holds_nothing()


def test_a_track_that_was_taken_ahead_outlives_its_viewers() -> None:
    world, (edge,), _ = network("o")
    publisher = publisher_of(world, edge, "audio", "video")
    world.run(500)
    viewer = world.viewer(edge, "live/a", "video")
    world.run(500)
    viewer.engine.unsubscribe(b"video")
    world.run(3 * LINGER_MS)
    assert publisher.engine.subscriptions(b"video") == 1


def test_another_edge_takes_the_catalog_alone_and_answers_its_first_viewer_from_it() -> None:
    world, (origin, egress), plans = network("o", "e")
    publisher_of(world, origin, "audio", "video")
    plans.push({"live/a": "o"}, {"e": {"o": ["o"]}})
    world.run(3 * LINGER_MS)
    assert held(egress) == {"catalog"}
    before = asked(egress)
    viewer = world.viewer(egress, "live/a", "catalog")
    world.run(500)
    assert TrackReady in [type(event) for event in events_of(viewer)]
    assert asked(egress) == before


def test_a_catalog_that_is_not_there_is_asked_for_a_few_times_and_no_more() -> None:
    world, (origin, egress), plans = network("o", "e")
    publisher_of(world, origin, "audio", "video")
    world.run(200)
    for _ in range(10):
        plans.push({"live/a": "o"}, {"e": {"o": ["o"]}})
        world.run(10_000)
    assert asked(egress) == 1 + module.TRIES_MAX


def test_a_catalog_that_the_edge_above_does_not_know_yet_is_asked_for_again() -> None:
    world, (origin, egress), plans = network("o", "e")
    plans.push({"live/a": "o"}, {"e": {"o": ["o"]}})
    world.run(1_000)
    publisher_of(world, origin, "audio", "video")
    world.run(2 * module.RETRY_MS)
    assert held(egress) == {"catalog"}


def test_a_namespace_that_has_another_origin_is_taken_from_there() -> None:
    world, (first, second, egress), plans = network("o", "p", "e")
    publisher = publisher_of(world, first, "audio", "video")
    world.run(200)
    plans.push({"live/a": "o"}, {"e": {"o": ["o"], "p": ["p"]}})
    world.run(500)
    publisher.engine.close(world.now_us)
    world.run(3 * LINGER_MS)
    publisher_of(world, second, "audio", "video")
    world.run(200)
    plans.push({"live/a": "p"}, {"e": {"o": ["o"], "p": ["p"]}})
    world.run(TrackTiming().switch_ms_max + 1_000)
    assert held(egress) == {"catalog"}
    (track,) = egress.engine.status(world.now_us)["tracks"]
    assert track["route"] == ["p"]


def test_an_edge_that_drains_is_rid_of_those_that_only_hold_catalogs() -> None:
    world, (origin, relay, egress), plans = network("o", "r", "e")
    publisher_of(world, origin, "audio", "video")
    world.run(200)
    plans.push({"live/a": "o"}, {"r": {"o": ["o"]}, "e": {"o": ["r", "o"]}})
    world.run(500)
    (track,) = egress.engine.status(world.now_us)["tracks"]
    assert track["route"] == ["o", "r"]
    relay.engine.drain(world.now_us, 10_000)
    world.run(1_000)
    assert relay.engine.is_drained
    (track,) = egress.engine.status(world.now_us)["tracks"]
    assert track["route"] == ["o"]


def test_catalogs_of_no_more_than_so_many_namespaces_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NAMESPACES_MAX", 3)
    world, (edge,), _ = network("o")
    for number in range(5):
        world.publisher(edge, f"live/{number}", "catalog")
    world.run(500)
    assert len(held(edge)) == 1
    assert len(edge.engine.status(world.now_us)["tracks"]) == 3


@pytest.mark.parametrize("beside", [b"", b"\n\n", b"x" * 2_000])
def test_companions_that_name_nothing_are_nothing(beside: bytes) -> None:
    world, (edge,), _ = network("o")
    publisher_of(world, edge, "audio", "video", beside=beside)
    world.run(500)
    assert held(edge) == {"catalog"}


def test_companions_beyond_the_most_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COMPANIONS_MAX", 1)
    world, (edge,), _ = network("o")
    publisher_of(world, edge, "audio", "video")
    world.run(500)
    assert held(edge) == {"catalog", "audio"}


def test_companions_come_last_while_nobody_watches_them() -> None:
    world, (edge,), _ = network("o")
    publisher = publisher_of(world, edge, "audio", "video")
    world.run(500)
    first = {d.track: d.subscriber_priority for d in publisher.downstreams.values()}
    assert sorted(first.values()) == [128, module.IDLE_PRIORITY, module.IDLE_PRIORITY]
    assert len(publisher.engine.idle_downstreams) == 2
    viewer = world.viewer(edge, "live/a", "video")
    world.run(500)
    assert len(publisher.engine.idle_downstreams) == 1
    viewer.engine.unsubscribe(b"video")
    world.run(500)
    changes = [update.subscriber_priority for update in publisher.updates]
    assert changes == [module.WATCHED_PRIORITY, module.IDLE_PRIORITY]


def test_nothing_is_taken_ahead_unless_the_configuration_says_what() -> None:
    world = World()
    edge = world.edge("o")
    publisher_of(world, edge, "audio", "video")
    world.run(500)
    assert held(edge) == set()
