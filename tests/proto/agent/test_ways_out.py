"""What becomes of a track whose upstream is no good any more: another one first, else the truth."""

from __future__ import annotations

from farcast.proto._core import Command, Event
from farcast.proto.agent import AgentLimits, TrackTiming
from farcast.proto.client.events import TrackEnded
from farcast.proto.moqt.errors import PublishDoneCode
from farcast.proto.moqt.events import PublishEnded
from farcast.proto.moqt.names import FullTrackName

from .net import Net
from .plans import fed_by, session_to, source_of, standbys_of
from .raw import raw_client
from .world import Host, track_status

TIMING = TrackTiming()


def binding_to(edge: Host, other: Host) -> tuple[int, int]:
    """Session and alias under which an edge has the track from another one."""
    session = session_to(edge, other)
    (key,) = [key for key in edge.bindings if key[0] == session]
    return key


def throw_out(net: Net, edge: Host, other: Host) -> None:
    """The datapath finds that what ``other`` sends contradicts what is held."""
    key = binding_to(edge, other)
    track = edge.bindings.pop(key).track
    session, alias = key
    net.world.post(
        edge, Event.TrackMalformed(session=session, alias=alias, track=track, reason="other bytes")
    )
    edge.reroutes.gone(track, key)


def test_a_standby_whose_media_contradicts_the_sources_is_replaced_and_nobody_notices() -> None:
    net = Net()
    net.news()
    throw_out(net, net.e, net.s)
    net.world.run(50)
    assert (source_of(net.e), standbys_of(net.e)) == ("r", ["o"])
    assert net.counter(net.e, "standbys_refused") == 1
    assert net.news() == []


def test_a_source_whose_media_contradicts_what_is_held_gives_way_to_its_standby() -> None:
    net = Net()
    net.news()
    throw_out(net, net.e, net.r)
    net.world.run(50)
    assert (source_of(net.e), standbys_of(net.e)) == ("s", ["o"])
    assert fed_by(net.r) == [], "its subscription is over"
    assert net.news() == []
    net.world.run(TIMING.standby_retry_ms)
    assert standbys_of(net.e) == ["r"], "after a while it is asked again"


def test_a_track_whose_every_upstream_contradicts_what_is_held_is_malformed() -> None:
    net = Net()
    net.news()
    for other in (net.r, net.s, net.o):
        throw_out(net, net.e, other)
        net.world.run(50)
    assert net.counter(net.e, "tracks_malformed") == 1
    net.world.run(3_000)
    assert TrackEnded in net.news()


def test_an_edge_above_that_may_not_or_cannot_go_on_gives_way_to_a_standby() -> None:
    for status in (PublishDoneCode.UNAUTHORIZED, PublishDoneCode.MALFORMED_TRACK):
        net = Net()
        net.news()
        (downstream,) = net.r.engine._tracks.downstreams.values()
        peer = net.r.engine._peers.get(downstream.session)
        peer.roles.pop(downstream.request)
        peer.moqt.publish_done(downstream.request, status, stream_count=0, reason="so it is")
        net.r.engine._peers.pump(lambda *_: None)
        net.world.run(50)
        assert (source_of(net.e), standbys_of(net.e)) == ("s", ["o"])
        assert net.news() == []


def test_a_track_that_is_over_above_is_over_here_whatever_stands_by() -> None:
    net = Net()
    net.news()
    net.publisher.engine.end_track(b"video")
    net.world.run(5 * TIMING.late_stream_ms)
    assert TrackEnded in net.news()


def test_escapes_are_forgotten_after_a_calm_time() -> None:
    net = Net()
    session = session_to(net.e, net.r)

    def escape_and_return() -> int:
        """How long the parent is not taken again, milliseconds."""
        net.e.reroutes.silence(session)
        net.world.run(50)
        net.e.reroutes.silence(session, silent=False)
        for waited_ms in range(0, 16 * TIMING.return_ms, 1_000):
            if source_of(net.e) == "r":
                return waited_ms
            net.world.run(1_000)
        raise AssertionError("it never returns")

    first, second = escape_and_return(), escape_and_return()
    assert second >= 2 * first - 1_000
    net.world.run(TIMING.escapes_kept_ms + 1_000)
    assert escape_and_return() <= first + 1_000


def test_a_new_session_to_a_parent_that_sent_the_old_one_away_is_moved_to_make_before_break() -> None:
    """There is no other upstream, and the old session serves until the new one delivers."""
    net = Net()
    net.push(e=("r",))
    net.world.run(100)
    for other in (net.s, net.o):
        other.is_listening = False
        for session in [s for s, wire in net.e.wires.items() if wire.other(net.e) is other]:
            net.e.crash(session)
    net.world.run(100)
    counted = ("upstream_subscribes", "standby_subscribes")
    before = [net.counter(net.e, name) for name in counted]
    old = session_to(net.e, net.r)
    engine = net.r.engine
    (peer,) = [p for p in engine._peers.by_id.values() if p.is_hop and p.incoming and p.node_id == "e"]
    peer.moqt.goaway("", timeout_ms=5_000)
    engine._peers.pump(lambda *_: None)
    net.world.run(2_000)
    new = net.e.reroutes.active[net.e.only_track()][0]
    assert source_of(net.e) == "r"
    assert new != old
    after = [net.counter(net.e, name) for name in counted]
    assert [b - a for a, b in zip(before, after, strict=True)] == [0, 1]
    assert net.e.count(Command.BindUpstream) == 1
    assert net.counter(net.e, "upstream_switches_command") == 1


def test_a_planned_move_to_an_upstream_that_falls_silent_is_given_up_though_the_track_is_idle() -> None:
    net = Net()
    net.news()
    net.e.reroutes.mute.add(session_to(net.e, net.o))
    net.push(e=("o", "r", "s"))
    net.world.run(TIMING.switch_ms_max // 2)
    net.e.reroutes.silence(session_to(net.e, net.o))
    net.world.run(TIMING.switch_ms_max)
    assert source_of(net.e) == "r"
    assert (net.counter(net.e, "moves_given_up"), net.counter(net.e, "moves_forced")) == (1, 0)
    assert fed_by(net.r) == ["e"]
    assert net.news() == []


def test_an_upstream_that_refuses_to_stand_by_is_asked_again_though_another_one_answered_meanwhile() -> None:
    full = {"limits": AgentLimits(tracks_max=0)}
    net = Net(settings={"s": full})
    assert (source_of(net.e), standbys_of(net.e)) == ("r", ["o"])
    assert net.counter(net.s, "subscribes") == 1
    net.world.run(TIMING.standby_retry_ms + 100)
    assert net.counter(net.s, "subscribes") == 2
    assert standbys_of(net.e) == ["o"]


def test_an_edge_that_has_lost_its_way_ends_the_track_for_its_viewers_and_not_for_edges() -> None:
    net = Net()
    net.push(e=("r",), r=("o",))
    _, here = raw_client(net.world, net.r)
    here.session.subscribe(FullTrackName.of("live/a", "video"))
    net.world.run(100)
    net.news()
    net.o.is_listening = net.s.is_listening = False
    for edge in (net.r, net.e, net.s):
        for session in [s for s, wire in edge.wires.items() if wire.other(edge) in (net.o, net.s)]:
            if session in edge.wires:
                edge.crash(session)
    net.world.run(TIMING.publisher_grace_ms + 1_000)
    assert [event.status for event in here.found(PublishEnded)] == [PublishDoneCode.TRACK_ENDED]
    assert TrackEnded not in net.news(), "for e it is only the way that is lost"
    assert track_status(net.e)["phase"] == "grace"


def test_an_edge_that_only_stands_by_seeks_another_upstream_when_it_has_lost_its_own() -> None:
    net = Net()
    net.push(e=("r", "s", "o"), s=("r", "o"))
    net.world.run(100)
    assert (source_of(net.s), standbys_of(net.s)) == ("r", [])
    net.s.reroutes.silence(session_to(net.s, net.r))
    net.world.run(50)
    assert (source_of(net.s), standbys_of(net.s)) == ("o", [])
    assert net.counter(net.s, "tracks_starved") == 1


def test_a_standby_that_has_the_track_by_the_parent_is_kept_and_one_that_does_not_is_added() -> None:
    net = Net()
    net.push(e=("r", "s", "o"), s=("r", "o"))
    net.world.run(TIMING.reroute_ms + 500)
    assert (source_of(net.e), sorted(map(str, standbys_of(net.e)))) == ("r", ["o", "s"])
    net.push(e=("r", "s", "o"), s=("o", "r"))
    net.world.run(TIMING.reroute_ms + 500)
    assert standbys_of(net.e) == ["s"], "now it comes another way, as the plan wants"
