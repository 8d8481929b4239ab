"""Tracks that are PUBLISHed: silent until somebody watches."""

from __future__ import annotations

from farcast.proto._core import Command
from farcast.proto.agent import TrackTiming
from farcast.proto.client.events import TrackEnded, TrackReady
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode
from farcast.proto.moqt.events import (
    PublishAccepted,
    PublishEnded,
    RequestRejected,
    SubscribeAccepted,
    UpdateRequested,
)
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.moqt.parameters import Parameters
from farcast.proto.moqt.values import Location
from farcast.proto.properties import Property

from .raw import RawClient, raw_client
from .world import Host, World, events_of, track_status

NAME = FullTrackName.of("live/a", "video")


def published(world: World, edge: Host, draft: int = 18, alias: int = 40) -> tuple[RawClient, int]:
    _, client = raw_client(world, edge, "publisher", drafts=(draft,))
    request = client.session.publish(
        NAME, alias, largest=Location(3, 4), track_properties=(Property(0x0E, 7),)
    )
    world.run(20)
    return client, request


def answer_updates(world: World, client: RawClient) -> list[bool | None]:
    """What the edge asked of the publisher's forward state; each is accepted."""
    asked = client.found(UpdateRequested)
    client.events = [event for event in client.events if not isinstance(event, UpdateRequested)]
    for event in asked:
        client.session.accept_update(event.request)
    world.run(20)
    return [event.forward for event in asked]


def test_a_published_track_is_silent_until_it_is_watched_and_after() -> None:
    for draft in (16, 18):
        world = World()
        edge = world.edge("e1")
        publisher, _ = published(world, edge, draft)
        assert publisher.last(PublishAccepted).forward is False
        assert edge.tracks == {}
        _, viewer = raw_client(world, edge, "viewer")
        request = viewer.session.subscribe(NAME)
        world.run(20)
        accepted = viewer.last(SubscribeAccepted)
        assert (accepted.largest, accepted.track_properties) == (Location(3, 4), (Property(0x0E, 7),))
        assert answer_updates(world, publisher) == [True]
        (bound,) = edge.bindings.values()
        assert (bound.alias, bound.default_priority, bound.restart_allowed) == (40, 7, False)
        viewer.session.cancel(request)
        world.run(TrackTiming().track_linger_ms + 100)
        assert answer_updates(world, publisher) == [False]
        assert edge.holds_nothing()


def test_a_track_that_somebody_waits_for_is_taken_with_forward() -> None:
    world = World()
    edge = world.edge("e1")
    _, viewer = raw_client(world, edge, "viewer")
    viewer.session.subscribe(NAME, parameters=Parameters(rendezvous_timeout_ms=5_000))
    world.run(1_000)
    publisher, _ = published(world, edge)
    assert publisher.last(PublishAccepted).forward is True
    assert viewer.found(SubscribeAccepted)
    assert not publisher.found(UpdateRequested)


def test_the_end_of_a_published_track_reaches_its_viewers_with_the_stream_count() -> None:
    world = World()
    edge = world.edge("e1")
    publisher, request = published(world, edge)
    viewer = world.viewer(edge, "live/a", "video")
    _, raw = raw_client(world, edge, "raw")
    raw.session.subscribe(NAME)
    world.run(100)
    publisher.session.publish_done(request, PublishDoneCode.TRACK_ENDED, stream_count=9, reason="bye")
    world.run(TrackTiming().late_stream_ms - 50)
    assert len(edge.downstreams) == 2
    assert not raw.found(PublishEnded)
    world.run(2_000)
    ended = raw.last(PublishEnded)
    assert (ended.status, ended.stream_count, ended.reason) == (PublishDoneCode.TRACK_ENDED, 3, "bye")
    assert [e.track for e in events_of(viewer) if isinstance(e, TrackEnded)] == [b"video"]
    assert edge.holds_nothing()


def test_a_track_published_again_while_the_old_one_ends_is_a_new_track() -> None:
    world = World()
    edge = world.edge("e1")
    publisher, request = published(world, edge)
    old = world.viewer(edge, "live/a", "video")
    world.run(100)
    publisher.session.publish_done(request, PublishDoneCode.TRACK_ENDED, stream_count=0)
    world.run(50)
    publisher.session.publish(NAME, 41)
    world.run(50)
    new = world.viewer(edge, "live/a", "video")
    world.run(100)
    assert any(isinstance(e, TrackReady) for e in events_of(new))
    assert len(edge.tracks) == 2
    world.run(3_000)
    assert any(isinstance(e, TrackEnded) for e in events_of(old))
    assert not any(isinstance(e, TrackEnded) for e in events_of(new))
    assert track_status(edge)["phase"] == "live"


def test_a_second_publication_stands_by() -> None:
    world = World()
    edge = world.edge("e1")
    first, _ = published(world, edge)
    second, _ = published(world, edge, alias=50)
    world.viewer(edge, "live/a", "video")
    world.run(50)
    assert answer_updates(world, first) == [True]
    assert answer_updates(world, second) == []
    first.session.close()
    world.run(100)
    assert answer_updates(world, second) == [True]
    assert [b.alias for b in edge.bindings.values()] == [50]
    assert edge.count(Command.AddTrack) == 1


def test_one_session_publishes_a_track_once() -> None:
    world = World()
    edge = world.edge("e1")
    client, _ = published(world, edge)
    client.session.publish(NAME, 41)
    world.run(20)
    assert client.last(RequestRejected).code is RequestCode.DUPLICATE_SUBSCRIPTION
