"""Publishers and hops that go and come back."""

from __future__ import annotations

from farcast.proto._core import Command, Event
from farcast.proto.agent import TrackTiming
from farcast.proto.client.events import Disconnected, TrackEnded, TrackReady, TrackRestarted
from farcast.proto.moqt.errors import PublishDoneCode
from farcast.proto.moqt.events import PublishEnded
from farcast.proto.moqt.names import FullTrackName

from .raw import raw_client
from .world import Host, World, events_of, track_status

GRACE_MS = TrackTiming().publisher_grace_ms


def restarts_allowed(host: Host) -> list[bool]:
    return [c.restart_allowed for c in host.commands if isinstance(c, Command.BindUpstream)]


def test_viewers_are_kept_while_a_lost_publisher_may_come_back() -> None:
    world = World()
    edge = world.edge("e1")
    first = world.publisher(edge, "live/a", "video")
    viewer = world.viewer(edge, "live/a", "video")
    world.run(200)
    edge.media(edge.only_track(), 7, 3)
    first.engine.close(world.now_us)
    world.run(GRACE_MS // 2)
    assert track_status(edge)["phase"] == "grace"
    assert len(edge.downstreams) == 1
    events_of(viewer)
    second = world.publisher(edge, "live/a", "video")
    world.run(200)
    assert second.engine.subscriptions(b"video") == 1
    assert track_status(edge)["phase"] == "live"
    assert restarts_allowed(edge) == [False, True]
    world.run(2 * GRACE_MS)
    assert track_status(edge)["viewers"] == 1
    assert events_of(viewer) == []


def test_viewers_of_a_publisher_that_starts_over_subscribe_again() -> None:
    world = World()
    edge = world.edge("e1")
    first = world.publisher(edge, "live/a", "video")
    viewer = world.viewer(edge, "live/a", "video")
    _, raw = raw_client(world, edge, "raw")
    raw.session.subscribe(FullTrackName.of("live/a", "video"))
    world.run(200)
    edge.media(edge.only_track(), 7, 3)
    first.engine.close(world.now_us)
    world.publisher(edge, "live/a", "video")
    world.run(200)
    events_of(viewer)
    edge.restart(edge.only_track())
    world.run(200)
    assert raw.last(PublishEnded).status is PublishDoneCode.EXPIRED
    assert [type(e) for e in events_of(viewer)] == [TrackReady]
    assert [d.start for d in edge.downstreams.values()] == [(0, 0)]
    assert restarts_allowed(viewer) == [False, True]


def test_a_viewer_whose_own_datapath_sees_the_restart_reads_on() -> None:
    world = World()
    edge = world.edge("e1")
    world.publisher(edge, "live/a", "video")
    viewer = world.viewer(edge, "live/a", "video")
    world.run(200)
    events_of(viewer)
    before = list(viewer.sinks)
    viewer.restart(viewer.only_track())
    world.run(50)
    assert [type(e) for e in events_of(viewer)] == [TrackRestarted]
    assert len(viewer.sinks) == 1
    assert list(viewer.sinks) != before


def test_a_downstream_added_while_the_track_starts_over_does_not_wait_for_old_numbers() -> None:
    world = World()
    edge = world.edge("e1")
    world.publisher(edge, "live/a", "video")
    for _ in range(2):
        for track in edge.tracks:
            edge.media(track, 500, 0)
        world.viewer(edge, "live/a", "video")
        world.run(200)
    had, late = edge.downstreams
    assert edge.downstreams[late].start == (500, 0)
    edge.media(edge.only_track(), 0, 2)
    world.post(edge, Event.TrackRestarted(edge.only_track(), [had]))
    world.run(50)
    assert [(u.downstream, u.start) for u in edge.updates] == [(late, (0, 0))]
    assert had not in edge.downstreams


def test_after_the_grace_time_the_track_is_over() -> None:
    world = World()
    edge = world.edge("e1")
    publisher = world.publisher(edge, "live/a", "video")
    viewer = world.viewer(edge, "live/a", "video")
    _, raw = raw_client(world, edge, "raw")
    raw.session.subscribe(FullTrackName.of("live/a", "video"))
    world.run(200)
    publisher.engine.close(world.now_us)
    world.run(GRACE_MS - 100)
    assert not raw.found(PublishEnded)
    world.run(200)
    ended = raw.last(PublishEnded)
    assert (ended.status, ended.reason) == (PublishDoneCode.TRACK_ENDED, "the publisher is gone")
    world.run(2_000)
    assert any(isinstance(e, TrackEnded) for e in events_of(viewer))
    assert edge.tracks == {}


def test_a_broken_hop_is_renewed_and_the_track_goes_on() -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("", origin))
    world.publisher(origin, "live/a", "video")
    viewer = world.viewer(egress, "live/a", "video")
    world.run(500)
    for edge in (origin, egress):
        edge.media(edge.only_track(), 7, 3)
    events_of(viewer)
    egress.crash(1)
    world.run(2_000)
    assert events_of(viewer) == []
    assert track_status(egress)["phase"] == "live"
    assert restarts_allowed(egress) == [False, False]
    assert (egress.connects, len(egress.downstreams)) == (2, 1)


def test_a_publisher_that_changed_while_the_hop_was_broken_may_start_over() -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("", origin))
    publisher = world.publisher(origin, "live/a", "video")
    world.viewer(egress, "live/a", "video")
    world.run(500)
    origin.is_listening = False
    egress.crash(1)
    publisher.engine.close(world.now_us)
    world.run(3_000)
    origin.is_listening = True
    world.publisher(origin, "live/a", "video")
    world.run(5_000)
    assert track_status(egress)["phase"] == "live"
    assert restarts_allowed(egress) == [False, True]


def test_a_restart_reaches_viewers_behind_a_hop() -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("", origin))
    first = world.publisher(origin, "live/a", "video")
    viewer = world.viewer(egress, "live/a", "video")
    world.run(500)
    first.engine.close(world.now_us)
    world.publisher(origin, "live/a", "video")
    world.run(500)
    events_of(viewer)
    origin.restart(origin.only_track())
    world.run(500)
    assert restarts_allowed(egress) == [False, True]
    assert len(egress.downstreams) == 1
    egress.restart(egress.only_track())
    world.run(500)
    assert [type(e) for e in events_of(viewer)] == [TrackReady]
    assert len(egress.downstreams) == 1


def test_a_malformed_track_ends_for_everybody_and_can_be_asked_for_again() -> None:
    world = World()
    edge = world.edge("e1")
    publisher = world.publisher(edge, "live/a", "video")
    _, raw = raw_client(world, edge, "raw")
    raw.session.subscribe(FullTrackName.of("live/a", "video"))
    world.run(200)
    (binding,) = edge.bindings
    world.post(edge, Event.TrackMalformed(*binding, edge.only_track(), "two payloads of one object"))
    world.run(100)
    assert raw.last(PublishEnded).status is PublishDoneCode.MALFORMED_TRACK
    assert publisher.engine.subscriptions(b"video") == 0
    raw.session.subscribe(FullTrackName.of("live/a", "video"))
    world.run(100)
    assert track_status(edge)["phase"] == "live"


def test_a_client_that_lost_its_edge_comes_back_with_its_tracks() -> None:
    world = World()
    edge = world.edge("e1")
    publisher = world.publisher(edge, "live/a", "video")
    viewer = world.viewer(edge, "live/a", "video")
    world.run(500)
    publisher.crash(1)
    viewer.crash(1)
    world.run(3_000)
    assert any(isinstance(e, Disconnected) for e in events_of(publisher))
    assert [type(e) for e in events_of(viewer)][-1] is TrackReady
    assert publisher.engine.subscriptions(b"video") == 1
    assert publisher.count(Command.AddTrack) == viewer.count(Command.AddTrack) == 1


def test_a_publisher_that_crashed_unnoticed_is_replaced_by_its_successor() -> None:
    world = World()
    edge = world.edge("e1")
    crashed = world.publisher(edge, "live/a", "video")
    viewer = world.viewer(edge, "live/a", "video")
    world.run(200)
    edge.media(edge.only_track(), 7, 3)
    world.run(200)
    world.publisher(edge, "live/a", "video")
    world.run(TrackTiming().takeover_ms - 100)
    assert track_status(edge)["source_session"] == crashed.wires[1].ends[edge]
    world.run(200)
    assert track_status(edge)["source_session"] != crashed.wires[1].ends[edge]
    assert restarts_allowed(edge) == [False, True]
    assert len(edge.bindings) == len(edge.downstreams) == 1
    assert [type(e) for e in events_of(viewer)][-1] is TrackReady


def test_a_publisher_that_is_alive_keeps_its_tracks() -> None:
    world = World()
    edge = world.edge("e1")
    alive = world.publisher(edge, "live/a", "video", "catalog")
    world.viewer(edge, "live/a", "video", "catalog")
    world.run(200)
    standby = world.publisher(edge, "live/a", "video", "catalog")
    world.run(500)
    edge.media(min(edge.tracks), 7, 3)
    world.run(2_000)
    assert alive.engine.subscriptions(b"video") == alive.engine.subscriptions(b"catalog") == 1
    assert standby.engine.subscriptions(b"video") == 0


def test_a_stalled_publisher_whose_rival_does_not_have_the_track_keeps_it() -> None:
    world = World()
    edge = world.edge("e1")
    first = world.publisher(edge, "live/a", "video")
    world.viewer(edge, "live/a", "video")
    world.run(200)
    world.publisher(edge, "live/a", "audio")
    world.run(3_000)
    assert first.engine.subscriptions(b"video") == 1
    assert track_status(edge)["phase"] == "live"
