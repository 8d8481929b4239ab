"""Several edges: the race for one, and the ways from one to another, as the application sees them."""

from __future__ import annotations

from typing import Any

import pytest

from farcast.proto._core import Command, Event
from farcast.proto.client.events import (
    Connected,
    Disconnected,
    Failed,
    Moved,
    NamespaceAccepted,
    SentTo,
    TrackEnded,
    TrackReady,
    TrackRestarted,
)
from farcast.proto.client.race import ATTEMPTS_MAX, STAGGER_US
from farcast.proto.client.trial import US_MIN as TRIAL_US_MIN
from farcast.proto.client.viewer import BEHIND_MS_MAX, LATE_STREAM_MS
from farcast.proto.moqt.errors import PublishDoneCode, RequestCode
from farcast.proto.moqt.events import (
    NamespacePublished,
    NamespaceWithdrawn,
    RequestCancelled,
    SubscribeRequested,
)
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.moqt.values import Filter, FilterKind, Location

from ..agent.raw import RawClient
from ..agent.world import Host, World, events_of, namespace, target


class Edge:
    """An edge that does only what the test says."""

    def __init__(self, world: World, name: str, implementation: str = "farcast/0.1") -> None:
        self.world = world
        self.raw = RawClient(None, implementation=implementation)
        self.host = world.add(name, self.raw)

    def asked(self) -> Any:
        return self.raw.last(SubscribeRequested)

    def accept(self, alias: int, largest: Location | None) -> None:
        self.raw.session.accept_subscribe(self.asked().request, alias, largest=largest)
        self.world.run(20)

    def deliver(self, viewer: Host, alias: int, group: int = 7, object: int = 4) -> None:
        """The first object comes over what was accepted under an alias."""
        (wire,) = self.host.wires.values()
        self.world.post(viewer, Event.UpstreamDelivers(wire.ends[viewer], alias, group, object))
        self.world.run(20)


def two_edges(**options: Any) -> tuple[World, Host, Edge, Edge]:
    """A viewer of one track that has got as far as object 4 of group 7 at the first of two edges."""
    world = World()
    one, two = Edge(world, "one"), Edge(world, "two")
    viewer = world.viewer(one.host, "live/a", "video", others=(two.host,), **options)
    world.run(20)
    one.accept(5, Location(7, 0))
    (sink,) = viewer.sinks
    for number in range(5):
        world.post(viewer, Event.Object(sink, 7, 0, number, b"x"))
    viewer.media(viewer.only_track(), 7, 4)
    world.run(20)
    events_of(viewer)
    return world, viewer, one, two


def silent(world: World, host: Host, *, silent: bool = True) -> None:
    assert host.engine._connection.session_id is not None
    world.post(host, Event.SessionSilent(host.engine._connection.session_id, silent))
    world.run(20)


def wait_for(world: World, edge: Edge, ms: int = 500) -> None:
    world.run(ms)
    assert edge.raw.found(SubscribeRequested), "the client has not come"


def resumed_from(edge: Edge) -> Filter | None:
    found: Filter | None = edge.asked().filter
    return found


RESUME = Filter(FilterKind.ABSOLUTE_START, Location(7, 4))


@pytest.mark.parametrize(
    ("resume_ms_max", "pause_ms", "expected"),
    [(2_000, 0, RESUME), (2_000, 3_000, None), (None, 3_000, RESUME)],
)
def test_after_a_silence_that_is_too_long_a_track_goes_on_with_what_is_on(
    resume_ms_max: int | None, pause_ms: int, expected: Filter | None
) -> None:
    world, viewer, _, two = two_edges(resume_ms_max=resume_ms_max)
    world.run(pause_ms)
    silent(world, viewer)
    wait_for(world, two)
    assert resumed_from(two) == expected


# --- the first connection ------------------------------------------------------------------------


def test_the_first_edge_alone_is_asked_where_it_answers_soon() -> None:
    _, viewer, _, two = two_edges()
    assert viewer.connects == 1
    assert not two.raw.events


def test_an_edge_that_does_not_answer_is_not_waited_for() -> None:
    world = World()
    one, two, three = (world.add(name, RawClient(None, mute=True)) for name in "abc")
    good = world.edge("good")
    viewer = world.viewer(one, "live/a", others=(two, good, three))
    world.run(2 * STAGGER_US // 1_000 + 50)
    assert [type(event) for event in events_of(viewer)] == [Connected]
    assert viewer.connects == 3, "the fourth is not needed any more"
    assert len(viewer.wires) == 1, "the others are closed"


def test_at_most_three_are_tried_at_a_time_and_slow_ones_give_their_place_away() -> None:
    world = World()
    mute = [world.add(f"mute{n}", RawClient(None, mute=True)) for n in range(5)]
    good = world.edge("good")
    viewer = world.viewer(mute[0], "live/a", others=(*mute[1:], good), connect_ms_max=60_000)
    world.run(2_000)
    assert viewer.connects == ATTEMPTS_MAX
    world.run(10_000)
    assert [type(event) for event in events_of(viewer)] == [Connected]
    assert viewer.connects == 6


def test_a_failed_attempt_makes_room_for_the_next_edge_at_once() -> None:
    world = World()
    gone, good = world.edge("gone"), world.edge("good")
    gone.is_listening = False
    viewer = world.viewer(gone, "live/a", others=(good,))
    world.run(30)
    assert events_of(viewer) == [Connected("quic", 18)]


def test_when_every_edge_fails_each_is_named_with_its_reason() -> None:
    world = World()
    gone, mute = world.edge("gone"), world.add("mute", RawClient(None, mute=True))
    gone.is_listening = False
    viewer = world.viewer(gone, "live/a", others=(mute,), connect_ms_max=2_000)
    world.run(3_000)
    failures = [event for event in events_of(viewer) if isinstance(event, Failed)]
    reason = f"no edge can be used: {gone.address}: no answer from {gone.address}; {mute.address}: no answer"
    assert failures == [Failed(reason)]
    assert viewer.engine.poll_timeout() is None
    assert viewer.wires == {}


# --- a silent edge -------------------------------------------------------------------------------


def test_from_a_silent_edge_a_track_goes_on_at_the_next_one_with_its_last_object() -> None:
    world, viewer, one, two = two_edges()
    silent(world, viewer)
    wait_for(world, two)
    assert resumed_from(two) == RESUME
    two.accept(9, Location(7, 20))
    moved = Moved(one.host.address, two.host.address, "silent")
    assert events_of(viewer) == [Connected("quic", 18), moved, TrackReady(b"video", Location(7, 20), ())]
    assert len(viewer.tracks) == len(viewer.sinks) == 1, "the same track and the same sink"


def test_both_sessions_feed_the_track_until_the_old_one_has_had_its_time() -> None:
    world, viewer, _, two = two_edges(overlap_ms=1_000)
    silent(world, viewer)
    wait_for(world, two)
    two.accept(9, Location(7, 20))
    world.run(1_100)
    assert sorted(bound.alias for bound in viewer.bindings.values()) == [5, 9], "it has not delivered yet"
    two.deliver(viewer, 9)
    world.run(900)
    assert sorted(bound.alias for bound in viewer.bindings.values()) == [5, 9]
    world.run(200)
    assert [bound.alias for bound in viewer.bindings.values()] == [9]
    assert len(viewer.wires) == 1


def test_an_edge_that_is_heard_again_before_another_stands_is_kept() -> None:
    world, viewer, one, two = two_edges()
    two.host.is_listening = False
    silent(world, viewer)
    silent(world, viewer, silent=False)
    two.host.is_listening = True
    world.run(5_000)
    assert events_of(viewer) == []
    assert len(one.raw.found(SubscribeRequested)) == 1
    assert not two.raw.events


def test_a_silent_edge_without_another_one_is_tried_anew() -> None:
    world = World()
    one = Edge(world, "one")
    viewer = world.viewer(one.host, "live/a", "video")
    world.run(20)
    one.accept(5, Location(7, 0))
    silent(world, viewer)
    world.run(100)
    assert viewer.connects == 2
    assert [type(e) for e in events_of(viewer)] == [Connected, TrackReady, Connected], "that is no move"


def test_while_nobody_answers_the_silent_session_stays() -> None:
    world, viewer, _, two = two_edges()
    two.host.is_listening = False
    silent(world, viewer)
    world.run(20_000)
    assert events_of(viewer) == []
    assert [bound.alias for bound in viewer.bindings.values()] == [5]
    assert viewer.connects < 12, "with growing pauses"


def test_a_session_that_ends_moves_on_at_once() -> None:
    world, viewer, _, two = two_edges()
    viewer.crash(1)
    world.run(30)
    assert resumed_from(two) == RESUME
    found = [event for event in events_of(viewer) if not isinstance(event, TrackReady)]
    assert [type(event) for event in found] == [Disconnected, Connected, Moved]


# --- on trial ------------------------------------------------------------------------------------


def three_edges() -> tuple[World, Host, Edge, Edge, Edge]:
    """As `two_edges`, with a third one to go to."""
    world = World()
    one, two, three = (Edge(world, name) for name in ("one", "two", "three"))
    viewer = world.viewer(one.host, "live/a", "video", others=(two.host, three.host))
    world.run(20)
    one.accept(5, Location(7, 0))
    (sink,) = viewer.sinks
    world.post(viewer, Event.Object(sink, 7, 0, 4, b"x"))
    viewer.media(viewer.only_track(), 7, 4)
    world.run(20)
    events_of(viewer)
    return world, viewer, one, two, three


def edges_of(events: list[Any]) -> list[str]:
    return [event.edge for event in events if isinstance(event, Moved)]


def test_an_edge_that_accepts_but_delivers_nothing_is_not_waited_for() -> None:
    world, viewer, _, two, three = three_edges()
    silent(world, viewer)
    two.accept(9, Location(7, 20))
    assert not three.raw.found(SubscribeRequested)
    world.run(TRIAL_US_MIN // 1_000 + 50)
    assert resumed_from(three) == RESUME
    assert sorted(bound.alias for bound in viewer.bindings.values()) == [5, 9], "the first is still awaited"
    three.accept(11, Location(7, 21))
    three.deliver(viewer, 11)
    assert edges_of(events_of(viewer)) == [two.host.address, three.host.address]
    world.run(1_100)
    assert [bound.alias for bound in viewer.bindings.values()] == [11]
    assert len(viewer.wires) == 1


def test_of_two_edges_that_were_asked_the_one_that_delivers_first_is_kept() -> None:
    world, viewer, _, two, three = three_edges()
    silent(world, viewer)
    world.run(TRIAL_US_MIN // 1_000 + 50)
    assert three.raw.found(SubscribeRequested)
    two.accept(9, Location(7, 20))
    two.deliver(viewer, 9)
    assert edges_of(events_of(viewer)) == [two.host.address, three.host.address, two.host.address]
    world.run(1_100)
    assert [bound.alias for bound in viewer.bindings.values()] == [9]
    assert len(viewer.wires) == 1


def test_an_edge_that_delivers_in_time_is_the_only_one_that_is_asked() -> None:
    world, viewer, _, two, three = three_edges()
    silent(world, viewer)
    two.accept(9, Location(7, 20))
    two.deliver(viewer, 9)
    world.run(3_000)
    assert not three.raw.found(SubscribeRequested)
    assert edges_of(events_of(viewer)) == [two.host.address]


def test_what_comes_later_than_what_was_asked_for_is_looked_for_at_one_more_edge() -> None:
    world, viewer, _, two, three = three_edges()
    silent(world, viewer)
    two.accept(9, Location(8, 20))
    two.deliver(viewer, 9, 8, 0)
    world.run(TRIAL_US_MIN // 1_000 + 50)
    assert resumed_from(three) == RESUME
    three.accept(11, Location(8, 21))
    three.deliver(viewer, 11, 8, 0)
    world.run(1_100)
    assert len(viewer.wires) == 1, "two lack it: it is gone"


def test_an_edge_on_trial_that_ends_the_session_leaves_the_other_one() -> None:
    world, viewer, _, two, three = three_edges()
    silent(world, viewer)
    two.accept(9, Location(7, 20))
    world.run(TRIAL_US_MIN // 1_000 + 50)
    (wire,) = three.host.wires.values()
    viewer.crash(wire.ends[viewer])
    world.run(20)
    two.deliver(viewer, 9)
    world.run(1_100)
    assert [bound.alias for bound in viewer.bindings.values()] == [9]
    assert edges_of(events_of(viewer))[-1] == two.host.address


def test_an_edge_on_trial_that_goes_away_is_left_for_the_next() -> None:
    world, viewer, _, two, three = three_edges()
    silent(world, viewer)
    go_away(two)
    world.run(300)
    assert resumed_from(three) == RESUME


def test_where_nobody_delivers_the_last_one_stays_and_the_sessions_are_bounded() -> None:
    world, viewer, _, two, three = three_edges()
    silent(world, viewer)
    world.run(30_000)
    assert len(viewer.wires) <= 2
    assert two.raw.found(SubscribeRequested)
    assert three.raw.found(SubscribeRequested)


# --- where to go on ------------------------------------------------------------------------------


def test_an_edge_that_is_behind_by_the_longer_way_to_it_is_given_a_moment() -> None:
    world, viewer, _, two = two_edges()
    silent(world, viewer)
    wait_for(world, two)
    two.accept(9, Location(7, 3))
    assert sorted(bound.alias for bound in viewer.bindings.values()) == [5, 9]
    two.deliver(viewer, 9)
    world.run(3_000)
    assert len(two.raw.found(SubscribeRequested)) == 1
    assert [bound.alias for bound in viewer.bindings.values()] == [9]


def test_an_edge_that_stays_behind_is_asked_for_the_track_as_it_runs() -> None:
    world, viewer, _, two = two_edges()
    silent(world, viewer)
    wait_for(world, two)
    two.accept(9, Location(6, 30))
    world.run(BEHIND_MS_MAX + 50)
    assert two.asked().filter is None
    two.accept(10, Location(6, 30))
    assert sorted(bound.alias for bound in viewer.bindings.values()) == [5, 10]
    assert viewer.bindings[max(viewer.bindings)].restart_allowed


def test_a_second_request_that_overtakes_the_end_of_the_first_is_made_again() -> None:
    world, viewer, _, two = two_edges()
    silent(world, viewer)
    wait_for(world, two)
    two.accept(9, Location(0, 1))
    two.raw.session.reject(two.asked().request, RequestCode.DUPLICATE_SUBSCRIPTION)
    world.run(200)
    assert [event for event in events_of(viewer) if isinstance(event, Failed)] == []
    assert len(two.raw.found(SubscribeRequested)) == 3
    assert two.asked().filter is None


@pytest.mark.parametrize("largest", [None, Location(5, 3), Location(0, 9)])
def test_at_an_edge_that_is_not_as_far_the_track_is_asked_for_as_it_runs(largest: Location | None) -> None:
    world, viewer, _, two = two_edges()
    silent(world, viewer)
    wait_for(world, two)
    two.accept(9, largest)
    assert len(two.raw.found(SubscribeRequested)) == 2
    assert two.asked().filter is None
    assert two.raw.found(RequestCancelled)
    two.accept(10, largest)
    bound = viewer.bindings[max(viewer.bindings)]
    assert (bound.alias, bound.restart_allowed) == (10, True)


def test_a_relay_of_others_is_asked_for_the_running_group() -> None:
    world = World()
    one, two = Edge(world, "one"), Edge(world, "two", "some-relay/1")
    viewer = world.viewer(one.host, "live/a", "video", others=(two.host,))
    world.run(20)
    one.accept(5, Location(7, 0))
    world.post(viewer, Event.Object(next(iter(viewer.sinks)), 7, 0, 0, b"x"))
    world.run(20)
    viewer.crash(1)
    wait_for(world, two)
    assert resumed_from(two) is None


def test_a_start_that_is_refused_is_left_out() -> None:
    world, viewer, _, two = two_edges()
    viewer.crash(1)
    wait_for(world, two)
    two.raw.session.reject(two.asked().request, RequestCode.INVALID_RANGE)
    world.run(20)
    assert resumed_from(two) is None
    assert len(two.raw.found(SubscribeRequested)) == 2


def test_a_track_that_starts_over_at_the_new_edge_hears_no_more_of_the_old_one() -> None:
    world, viewer, _, two = two_edges()
    silent(world, viewer)
    wait_for(world, two)
    two.accept(9, Location(0, 1))
    two.accept(10, Location(0, 1))
    viewer.restart(viewer.only_track())
    world.run(20)
    assert [bound.alias for bound in viewer.bindings.values()] == [10]
    assert isinstance(events_of(viewer)[-1], TrackRestarted)


# --- GOAWAY --------------------------------------------------------------------------------------


def go_away(edge: Edge, uri: str = "", timeout_ms: int = 4_000) -> None:
    edge.raw.session.goaway(uri, timeout_ms)
    edge.world.run(5)


def test_goaway_makes_the_new_session_before_it_breaks_the_old_one() -> None:
    world, viewer, one, two = two_edges()
    go_away(one)
    wait_for(world, two)
    assert [bound.alias for bound in viewer.bindings.values()] == [5], "the new edge has not answered yet"
    two.accept(9, Location(7, 6))
    assert len(viewer.bindings) == 2
    assert Moved(one.host.address, two.host.address, "goaway") in events_of(viewer)
    world.run(1_100)
    assert len(viewer.bindings) == 2, "the new edge has not delivered yet"
    two.deliver(viewer, 9)
    world.run(1_100)
    assert [bound.alias for bound in viewer.bindings.values()] == [9]


def test_the_old_session_is_closed_before_the_edge_does_it_whatever_is_missing() -> None:
    world, viewer, one, two = two_edges()
    go_away(one, timeout_ms=4_000)
    wait_for(world, two)
    world.run(3_000)
    assert len(viewer.wires) == 2, "the track has no answer from the new edge"
    world.run(500)
    assert len(viewer.wires) == 1
    assert one.raw.closed.by == "peer"


def test_goaway_without_a_uri_leads_to_whichever_edge_answers_first() -> None:
    world, _, one, two, three = three_edges()
    two.raw._mute = True
    go_away(one)
    wait_for(world, three, ms=210)
    assert not two.raw.found(SubscribeRequested)


def test_goaway_with_a_known_uri_leads_there() -> None:
    world = World()
    one, two, three = (Edge(world, name) for name in ("one", "two", "three"))
    viewer = world.viewer(one.host, "live/a", "video")
    known = [target("quic", e.host.address, authority=e.host.name + ":1") for e in (two, three)]
    viewer.engine.learn(world.now_us, known)
    world.run(20)
    go_away(one, "moqt://three:1")
    wait_for(world, three)
    assert not two.raw.events


def test_goaway_with_an_unknown_uri_is_resolved_by_the_application() -> None:
    world, viewer, one, two = two_edges()
    three = Edge(world, "three")
    go_away(one, "moqt://three.example")
    assert events_of(viewer) == [SentTo("moqt://three.example")]
    there = target("quic", three.host.address)
    viewer.engine.answer_uri(world.now_us, "moqt://three.example", there)
    wait_for(world, three)
    assert not two.raw.events


@pytest.mark.parametrize("answers", [True, False])
def test_a_uri_that_leads_nowhere_leaves_the_other_edges(answers: bool) -> None:
    world, viewer, one, two = two_edges()
    go_away(one, "moqt://nowhere.example")
    if answers:
        viewer.engine.answer_uri(world.now_us, "moqt://nowhere.example", None)
    wait_for(world, two, ms=1_500)


def test_a_track_that_ends_at_the_old_edge_while_it_moves_has_ended() -> None:
    world, viewer, one, two = two_edges()
    request = one.asked().request
    go_away(one)
    wait_for(world, two)
    one.raw.session.publish_done(request, PublishDoneCode.TRACK_ENDED, stream_count=1, reason="bye")
    world.run(LATE_STREAM_MS + 100)
    assert events_of(viewer)[-1] == TrackEnded(b"video", "bye")
    assert two.raw.found(RequestCancelled)
    assert viewer.holds_nothing()


def test_edges_that_send_one_another_their_viewers_are_not_hammered() -> None:
    world = World()
    edges = [world.edge("a"), world.edge("b")]
    viewer = world.viewer(edges[0], "live/a", "video", others=(edges[1],))
    for edge in edges:
        edge.engine.drain(world.now_us)
    world.run(10_000)
    assert viewer.connects < 20


# --- publishers ----------------------------------------------------------------------------------


def subscribe(edge: Edge, start: Location | None = None) -> int:
    filter = None if start is None else Filter(FilterKind.ABSOLUTE_START, start)
    request = edge.raw.session.subscribe(FullTrackName(namespace("live/a"), b"video"), filter=filter)
    edge.world.run(20)
    return request


def publishing() -> tuple[World, Host, Edge, Edge]:
    """A publisher whose track is at object 4 of group 7; the first of two edges has its namespace."""
    world = World()
    one, two = Edge(world, "one"), Edge(world, "two")
    publisher = world.publisher(one.host, "live/a", "video", others=(two.host,))
    world.run(20)
    one.raw.session.accept(one.raw.last(NamespacePublished).request)
    world.run(20)
    publisher.engine.publish(b"video", 7, 4, b"x")
    world.run(20)
    events_of(publisher)
    return world, publisher, one, two


def test_a_publisher_announces_at_the_next_edge_and_then_withdraws_at_the_old_one() -> None:
    world, publisher, one, two = publishing()
    go_away(one)
    world.run(500)
    assert not one.raw.found(NamespaceWithdrawn), "the new edge has not answered yet"
    two.raw.session.accept(two.raw.last(NamespacePublished).request)
    world.run(20)
    assert one.raw.found(NamespaceWithdrawn)
    moved = Moved(one.host.address, two.host.address, "goaway")
    assert events_of(publisher) == [
        Connected("quic", 18),
        moved,
        NamespaceAccepted(namespace("live/a")),
    ]
    world.run(1_100)
    assert len(publisher.wires) == 1


def test_who_subscribes_over_the_old_session_is_served_until_it_leaves() -> None:
    world, publisher, one, two = publishing()
    request = subscribe(one)
    go_away(one, timeout_ms=30_000)
    world.run(500)
    two.raw.session.accept(two.raw.last(NamespacePublished).request)
    world.run(3_000)
    assert [d.session for d in publisher.downstreams.values()] == [1]
    subscribe(two)
    assert sorted(d.session for d in publisher.downstreams.values()) == [1, 3]
    one.raw.session.cancel(request)
    world.run(1_200)
    assert [d.session for d in publisher.downstreams.values()] == [3]
    assert len(publisher.wires) == 1


def test_a_publisher_leaves_a_silent_edge_and_begins_no_new_track() -> None:
    world, publisher, one, two = publishing()
    subscribe(one)
    silent(world, publisher)
    world.run(200)
    two.raw.session.accept(two.raw.last(NamespacePublished).request)
    subscribe(two, Location(6, 2))
    assert [d.start for d in publisher.downstreams.values()] == [(7, 0), (6, 2)], (
        "an edge that resumes gets what is cached"
    )
    assert publisher.count(Command.AddTrack) == 1


def test_a_session_without_media_is_given_more_time() -> None:
    world, publisher, _, two = publishing()
    silent(world, publisher)
    world.run(1_000)
    silent(world, publisher, silent=False)
    world.run(1_000)
    assert not two.raw.events
    silent(world, publisher)
    world.run(1_600)
    assert two.raw.found(NamespacePublished)


def test_a_closed_publisher_withdraws_at_both_edges() -> None:
    world, publisher, one, two = publishing()
    go_away(one)
    world.run(500)
    publisher.engine.close(world.now_us)
    world.run(20)
    assert one.raw.found(NamespaceWithdrawn)
    assert two.raw.found(NamespaceWithdrawn)
    assert publisher.wires == {}
    assert publisher.engine.poll_timeout() is None
