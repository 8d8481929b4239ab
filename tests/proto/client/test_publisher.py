"""The publisher as its application and as its subscribers see it."""

from __future__ import annotations

import pytest

from farcast.proto._core import Command, Event
from farcast.proto.agent import AgentLimits
from farcast.proto.client.events import (
    Connected,
    Disconnected,
    NamespaceAccepted,
    Refused,
    Subscribed,
    Unsubscribed,
)
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode
from farcast.proto.moqt.events import (
    NamespaceAnnounced,
    NamespacePublished,
    PublishEnded,
    RequestRejected,
    SubscribeAccepted,
)
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.moqt.values import LARGEST_OBJECT, Filter, FilterKind, Location
from farcast.proto.properties import Property

from ..agent.raw import RawClient
from ..agent.world import Host, World, events_of, namespace

NAME = FullTrackName.of("live/a", "video")


def at_a_server(
    drafts: tuple[int, ...] = (18,), implementation: str = "raw"
) -> tuple[World, Host, RawClient]:
    """A publisher connected to a server that does only what the test says."""
    world = World()
    server = RawClient(None, implementation=implementation)
    host = world.add("server", server)
    publisher = world.publisher(host, "live/a", "video", drafts=drafts)
    world.run(50)
    return world, publisher, server


@pytest.mark.parametrize("draft", [16, 18])
def test_it_connects_and_announces_its_namespace(draft: int) -> None:
    world = World()
    edge = world.edge("e1")
    publisher = world.publisher(edge, "live/a", "video", drafts=(draft,))
    assert publisher.engine.state == "connecting"
    world.run(50)
    assert publisher.engine.state == "established"
    assert events_of(publisher) == [Connected("quic", draft), NamespaceAccepted(namespace("live/a"))]


@pytest.mark.parametrize("draft", [16, 18])
def test_subscriptions_are_served_from_its_tracks(draft: int) -> None:
    world, publisher, server = at_a_server((draft,))
    events_of(publisher)
    publisher.engine.publish(b"video", 4, 0, b"key")
    publisher.engine.publish(b"video", 4, 1, b"delta")
    world.run(10)
    request = server.session.subscribe(NAME, priority=9)
    server.session.subscribe(FullTrackName.of("live/a", "audio"))
    server.session.subscribe(FullTrackName.of("live", "video"))
    world.run(10)
    accepted = server.last(SubscribeAccepted)
    assert (accepted.request, accepted.largest) == (request, Location(4, 1))
    assert Property(0x0E, 128) in accepted.track_properties
    assert [r.code for r in server.found(RequestRejected)] == [RequestCode.DOES_NOT_EXIST] * 2
    (made,) = publisher.downstreams.values()
    assert (made.start, made.alias, made.subscriber_priority) == ((4, 0), accepted.alias, 9)
    assert events_of(publisher) == [Subscribed(b"video", 1)]


def test_filters_and_updates_reach_the_datapath() -> None:
    world, publisher, server = at_a_server()
    publisher.engine.publish(b"video", 4, 5, b"x")
    world.run(10)
    request = server.session.subscribe(NAME, filter=LARGEST_OBJECT, forward=False)
    world.run(10)
    (made,) = publisher.downstreams.values()
    assert (made.start, made.forward) == ((4, 6), False)
    later = Filter(FilterKind.ABSOLUTE_RANGE, Location(6, 0), 8)
    server.session.update(request, forward=True, filter=later)
    world.run(10)
    (update,) = publisher.updates
    assert (update.start, update.end_group, update.forward) == ((6, 0), 8, True)


@pytest.mark.parametrize(("implementation", "start"), [("moq-lite-rs", (4, 0)), ("raw", (4, 6))])
def test_a_relay_of_the_moq_dev_family_gets_the_running_group_from_its_start(
    implementation: str, start: tuple[int, int]
) -> None:
    world, publisher, server = at_a_server(implementation=implementation)
    publisher.engine.publish(b"video", 4, 5, b"x")
    world.run(10)
    server.session.subscribe(NAME, filter=LARGEST_OBJECT)
    world.run(10)
    (made,) = publisher.downstreams.values()
    assert made.start == start


def test_a_subscriber_that_leaves_is_taken_out() -> None:
    world, publisher, server = at_a_server()
    request = server.session.subscribe(NAME)
    world.run(10)
    server.session.cancel(request)
    world.run(10)
    assert publisher.downstreams == {}
    assert events_of(publisher)[-1] == Unsubscribed(b"video", 0)


def test_an_ended_track_says_so_and_is_not_served_again() -> None:
    world, publisher, server = at_a_server()
    server.session.subscribe(NAME)
    world.run(10)
    publisher.engine.end_track(b"video")
    world.run(10)
    ended = server.last(PublishEnded)
    assert (ended.status, ended.stream_count) == (PublishDoneCode.TRACK_ENDED, 3)
    server.session.subscribe(NAME)
    world.run(10)
    assert server.last(RequestRejected).code is RequestCode.DOES_NOT_EXIST


def test_an_object_crosses_to_the_datapath_unchanged() -> None:
    world, publisher, _ = at_a_server()
    publisher.engine.add_track(b"audio", priority=3, properties=(Property(0x22, 1),))
    publisher.engine.publish(b"audio", 1, 2, b"payload", subgroup=5, properties=b"\x02\x01")
    publisher.engine.publish(b"audio", 1, 3, b"", status=3, priority=9, end_of_group=True)
    world.run(10)
    one, two = publisher.published
    assert (one.group, one.subgroup, one.object, one.payload, one.properties) == (
        1,
        5,
        2,
        b"payload",
        b"\x02\x01",
    )
    assert (one.priority, one.status, one.end_of_subgroup, one.end_of_group) == (3, 0, False, False)
    assert (two.priority, two.status, two.end_of_subgroup, two.end_of_group) == (9, 3, True, True)


def test_a_server_that_asks_for_namespaces_is_told() -> None:
    world, _, server = at_a_server()
    server.session.subscribe_namespace(namespace("live"))
    world.run(20)
    assert server.last(NamespaceAnnounced).namespace == namespace("live/a")


def test_a_refused_namespace_is_tried_again_when_the_server_says_so() -> None:
    world = World()
    edge = world.edge("e1", limits=AgentLimits(namespaces_max=1))
    first = world.publisher(edge, "live/a")
    world.run(20)
    second = world.publisher(edge, "live/b")
    world.run(50)
    refused = events_of(second)[-1]
    assert isinstance(refused, Refused)
    assert not refused.final
    assert "live/b" in refused.reason
    first.engine.close(world.now_us)
    world.run(2_000)
    assert events_of(second)[-1] == NamespaceAccepted(namespace("live/b"))


def test_a_server_that_does_not_answer_is_given_up_with_one_sentence() -> None:
    world = World()
    edge = world.edge("e1")
    edge.is_listening = False
    publisher = world.publisher(edge, "live/a", connect_ms_max=3_000)
    world.run(2_900)
    assert publisher.engine.state in ("connecting", "waiting")
    world.run(200)
    assert publisher.engine.state == "refused"
    *_, last = events_of(publisher)
    assert last == Refused(f"no answer from {edge.address}", final=True)
    connects = publisher.connects
    world.run(20_000)
    assert publisher.connects == connects


def test_a_wrong_certificate_is_not_tried_twice() -> None:
    world = World()
    edge = world.edge("e1")
    publisher = world.publisher(edge, "live/a", start=False)
    publisher.engine.start(0)
    assert isinstance(publisher.engine.poll_command(), Command.Connect)
    publisher.engine.handle_event(Event.SessionClosed(1, "tls", 0, "certificate unknown"), 5)
    assert events_of(publisher) == [Refused("certificate unknown", final=True)]
    assert publisher.engine.poll_timeout() is None


def test_a_lost_session_is_renewed_and_the_tracks_are_still_there() -> None:
    world = World()
    edge = world.edge("e1")
    publisher = world.publisher(edge, "live/a", "video")
    world.viewer(edge, "live/a", "video")
    world.run(200)
    events_of(publisher)
    publisher.crash(1)
    world.run(2_000)
    kinds = [type(event) for event in events_of(publisher)]
    assert kinds == [Disconnected, Unsubscribed, Connected, NamespaceAccepted, Subscribed]
    assert publisher.count(Command.AddTrack) == 1


def test_a_closed_publisher_is_silent() -> None:
    world, publisher, _ = at_a_server()
    publisher.engine.close(world.now_us, "done")
    world.run(100)
    events_of(publisher)
    assert publisher.engine.state == "closed"
    world.run(60_000)
    assert events_of(publisher) == []
    assert publisher.engine.poll_timeout() is None


def test_tracks_have_names_of_their_own() -> None:
    _, publisher, _ = at_a_server()
    with pytest.raises(ValueError, match="exists already"):
        publisher.engine.add_track(b"video")


def test_a_server_that_is_going_away_is_not_a_final_refusal() -> None:
    world, publisher, server = at_a_server()
    (announced,) = server.found(NamespacePublished)
    server.session.reject(announced.request, RequestCode.GOING_AWAY, "moving")
    world.run(50)
    refused = next(event for event in events_of(publisher) if isinstance(event, Refused))
    assert not refused.final
    world.run(1_500)
    assert len(server.found(NamespacePublished)) == 2
