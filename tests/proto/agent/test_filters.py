"""Where a subscription starts, by filter and by what has been published."""

from __future__ import annotations

from typing import Any

import pytest

from farcast.proto.agent import Quirks
from farcast.proto.agent.filters import is_moq_net, is_over, start_location
from farcast.proto.moqt.errors import RequestCode
from farcast.proto.moqt.events import RequestRejected, SubscribeAccepted
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.moqt.values import LARGEST_OBJECT, NEXT_GROUP_START, Filter, FilterKind, Location

from .raw import RawClient
from .world import World


def absolute(group: int, object: int, end: int | None = None) -> Filter:
    kind = FilterKind.ABSOLUTE_START if end is None else FilterKind.ABSOLUTE_RANGE
    return Filter(kind, Location(group, object), end)


TABLE = [
    (None, (0, 0), (5, 0)),
    (absolute(0, 0), (0, 0), (5, 0)),
    (absolute(3, 7), (3, 7), (5, 0)),
    (absolute(5, 0), (5, 0), (5, 0)),
    (absolute(5, 6), (5, 6), (5, 6)),
    (absolute(8, 1), (8, 1), (8, 1)),
    (absolute(4, 2, 5), (4, 2), (5, 0)),
    (absolute(6, 2, 9), (6, 2), (6, 2)),
    (LARGEST_OBJECT, (0, 0), (5, 10)),
    (NEXT_GROUP_START, (0, 0), (6, 0)),
]


@pytest.mark.parametrize(("filter", "nothing_yet", "running"), TABLE)
def test_the_start_table(filter: Filter | None, nothing_yet: Any, running: Any) -> None:
    assert start_location(filter, None) == nothing_yet
    assert start_location(filter, Location(5, 9)) == running


def test_the_quirk_gives_the_running_group_from_its_start_and_touches_nothing_else() -> None:
    for filter, nothing_yet, running in TABLE:
        expected = (5, 0) if filter is LARGEST_OBJECT else running
        assert start_location(filter, Location(5, 9), whole_group=True) == expected
        assert start_location(filter, None, whole_group=True) == nothing_yet


def test_to_another_farcast_an_absolute_start_is_what_it_says() -> None:
    for filter, nothing_yet, running in TABLE:
        expected = filter.start if filter is not None and filter.start is not None else running
        assert start_location(filter, Location(5, 9), resumes=True) == expected
        assert start_location(filter, None, resumes=True) == nothing_yet


def test_a_range_is_over_when_its_last_group_is() -> None:
    assert is_over(absolute(1, 0, 4), Location(5, 9))
    assert not is_over(absolute(1, 0, 5), Location(5, 9))
    assert not is_over(absolute(1, 0, 4), None)
    assert not is_over(absolute(1, 0), Location(5, 9))
    assert not is_over(None, Location(5, 9))


def test_an_offer_of_moq_lite_marks_moq_net() -> None:
    assert is_moq_net(["moq-lite-05-wip", "moqt-16"])
    assert not is_moq_net(["moqt-18", "moqt-16"])
    assert not is_moq_net([])


@pytest.mark.parametrize(
    ("offered", "quirks", "start"),
    [
        (["moqt-16"], Quirks(), (5, 10)),
        (["moq-lite-05", "moqt-16"], Quirks(), (5, 0)),
        (["moq-lite-05", "moqt-16"], Quirks(whole_group_for_moq_net=False), (5, 10)),
    ],
)
def test_the_edge_tells_browser_clients_by_their_offer(
    offered: list[str], quirks: Quirks, start: Any
) -> None:
    world = World()
    edge = world.edge("e1", quirks=quirks)
    world.publisher(edge, "live/a", "video")
    world.viewer(edge, "live/a", "video")
    world.run(200)
    edge.media(edge.only_track(), 5, 9)
    browser = RawClient(edge, kind="webtransport", drafts=(16,))
    host = world.add("browser", browser)
    host.offered = offered
    world.run(50)
    browser.session.subscribe(FullTrackName.of("live/a", "video"), filter=LARGEST_OBJECT)
    world.run(50)
    assert browser.last(SubscribeAccepted).largest == Location(5, 9)
    assert list(edge.downstreams.values())[-1].start == start


def test_the_edge_programs_range_priority_and_forward_as_asked() -> None:
    from farcast.proto.moqt.values import GroupOrder

    world = World()
    edge = world.edge("e1")
    world.publisher(edge, "live/a", "video")
    client = RawClient(edge)
    world.add("raw", client)
    world.run(50)
    request = client.session.subscribe(
        FullTrackName.of("live/a", "video"),
        filter=absolute(6, 2, 9),
        priority=7,
        group_order=GroupOrder.DESCENDING,
        forward=False,
    )
    world.run(50)
    (made,) = edge.downstreams.values()
    assert (made.start, made.end_group, made.subscriber_priority) == ((6, 2), 9, 7)
    assert (made.group_order, made.forward) == ("descending", False)
    client.session.update(request, forward=True, priority=9, filter=absolute(7, 0, 8))
    world.run(50)
    (update,) = edge.updates
    assert (update.start, update.end_group) == ((7, 0), 8)
    assert (update.subscriber_priority, update.forward) == (9, True)


def test_a_range_that_is_over_is_refused() -> None:
    world = World()
    edge = world.edge("e1")
    world.publisher(edge, "live/a", "video")
    world.viewer(edge, "live/a", "video")
    world.run(200)
    edge.media(edge.only_track(), 5, 9)
    client = RawClient(edge)
    world.add("raw", client)
    world.run(50)
    client.session.subscribe(FullTrackName.of("live/a", "video"), filter=absolute(1, 0, 4))
    world.run(50)
    assert client.last(RequestRejected).code is RequestCode.INVALID_RANGE
    assert len(edge.downstreams) == 1
