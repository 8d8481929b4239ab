"""Tracks that go on where viewers were who come from an edge that is gone."""

from __future__ import annotations

from typing import Any

import pytest

from farcast.proto.moqt.events import RequestCancelled, SubscribeAccepted, SubscribeRequested
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.moqt.values import Filter, FilterKind, Location

from .raw import RawClient, raw_client
from .world import Host, World, namespace

VIDEO = FullTrackName(namespace("live/a"), b"video")
START = Location(6, 2)
RESUME = Filter(FilterKind.ABSOLUTE_START, START)


def edge_with_publisher(implementation: str = "farcast/0.1") -> tuple[World, Host, RawClient]:
    world = World()
    edge = world.edge("e1")
    _, publisher = raw_client(world, edge, "publisher", implementation=implementation)
    publisher.session.publish_namespace(namespace("live/a"))
    world.run(20)
    return world, edge, publisher


def viewer(world: World, edge: Host, filter: Filter | None, implementation: str = "farcast/0.1") -> RawClient:
    _, client = raw_client(world, edge, "viewer", implementation=implementation)
    client.session.subscribe(VIDEO, filter=filter)
    world.run(20)
    return client


def asked(publisher: RawClient) -> list[Filter | None]:
    return [event.filter for event in publisher.found(SubscribeRequested)]


def accept(world: World, publisher: RawClient, alias: int, largest: Location | None) -> None:
    request = publisher.last(SubscribeRequested).request
    publisher.session.accept_subscribe(request, alias, largest=largest)
    world.run(20)


def starts(edge: Host) -> list[Any]:
    return [downstream.start for downstream in edge.downstreams.values()]


@pytest.mark.parametrize(("implementation", "start"), [("farcast/0.1", START), ("other/1", Location(7, 0))])
def test_a_farcast_that_resumes_gets_cached_groups_and_others_the_running_one(
    implementation: str, start: Location
) -> None:
    world, edge, publisher = edge_with_publisher()
    viewer(world, edge, None)
    accept(world, publisher, 1, Location(7, 5))
    viewer(world, edge, RESUME, implementation)
    assert starts(edge) == [(7, 0), start]


def test_an_edge_that_has_not_got_the_track_asks_from_where_its_viewer_was() -> None:
    world, edge, publisher = edge_with_publisher()
    resuming = viewer(world, edge, RESUME)
    viewer(world, edge, None)
    assert asked(publisher) == [RESUME]
    accept(world, publisher, 1, Location(7, 5))
    assert resuming.last(SubscribeAccepted).largest == Location(7, 5)
    assert starts(edge) == [START, (7, 0)]


def test_a_publisher_of_others_is_asked_for_all() -> None:
    world, edge, publisher = edge_with_publisher("other/1")
    viewer(world, edge, RESUME)
    assert asked(publisher) == [None]


def from_group(group: int) -> Filter:
    return Filter(FilterKind.ABSOLUTE_START, Location(group, 0))


@pytest.mark.parametrize(
    ("largest", "again"),
    [(None, None), (Location(0, 3), from_group(0)), (Location(6, 1), from_group(6))],
    ids=["has nothing", "started over", "a picture behind"],
)
def test_a_publisher_that_is_not_as_far_is_asked_again_for_all_of_the_group_that_runs(
    largest: Location | None, again: Filter | None
) -> None:
    """By its name: when the second question is there, the next group may run, and the end of this one would
    never come."""
    world, edge, publisher = edge_with_publisher()
    viewer(world, edge, RESUME)
    accept(world, publisher, 1, largest)
    assert asked(publisher) == [RESUME, again]
    assert publisher.found(RequestCancelled)
    accept(world, publisher, 2, largest)
    assert [binding.alias for binding in edge.bindings.values()] == [2]
    assert len(starts(edge)) == 1


def test_a_track_that_lost_its_publisher_goes_on_in_the_group_that_was_running() -> None:
    world, edge, publisher = edge_with_publisher()
    viewer(world, edge, None)
    accept(world, publisher, 1, Location(7, 5))
    edge.media(edge.only_track(), 7, 9)
    _, other = raw_client(world, edge, "publisher again", implementation="farcast/0.1")
    edge.crash(0)
    other.session.publish_namespace(namespace("live/a"))
    world.run(20)
    assert asked(other) == [Filter(FilterKind.ABSOLUTE_START, Location(7, 0))]
