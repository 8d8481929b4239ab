"""Standbys: who has one, what becomes of it, and how tracks move."""

from __future__ import annotations

from farcast.proto._core import Command, Event
from farcast.proto.agent import TrackTiming
from farcast.proto.client.events import TrackEnded, TrackReady, TrackRestarted

from .net import Net
from .plans import Plans, fed_by, session_to, source_of, standbys_of
from .world import World, track_status

TIMING = TrackTiming()


def test_the_next_upstream_of_the_list_stands_by_paused() -> None:
    net = Net()
    assert (source_of(net.e), standbys_of(net.e)) == ("r", ["s"])
    assert (fed_by(net.r), fed_by(net.s)) == (["e"], [])
    assert fed_by(net.o) == ["r", "s"], "a standby's cache is warm"
    (bound,) = [c for c in net.e.commands if isinstance(c, Command.BindStandby)]
    assert bound.rank == 1
    (paused,) = [c for c in net.s.commands if isinstance(c, Command.AddDownstream)]
    assert not paused.forward


def test_standbys_do_not_draw_standbys_behind_them() -> None:
    net = Net("t")
    net.push(e=("r", "s", "o"), s=("o", "t"), r=("o", "t"))
    net.world.run(500)
    assert standbys_of(net.s) == [], "nobody is fed by s"
    assert standbys_of(net.r) == ["t"], "e is fed by r"


def test_a_track_without_viewers_has_no_standby() -> None:
    net = Net()
    assert net.viewer is not None
    net.viewer.engine.close(net.world.now_us)
    net.world.run(100)
    assert (source_of(net.e), standbys_of(net.e)) == ("r", []), "the source lingers, the standby does not"
    net.world.viewer(net.e, "live/a", "video")
    net.world.run(100)
    assert standbys_of(net.e) == ["s"]


def test_when_the_upstream_is_silent_the_records_follow_and_another_one_stands_by() -> None:
    net = Net()
    net.news()
    net.e.reroutes.silence(session_to(net.e, net.r))
    net.world.run(5)
    assert source_of(net.e) == "s"
    net.world.run(100)
    assert standbys_of(net.e) == ["o"], "the silent one does not stand by while there is another"
    assert fed_by(net.s) == ["e"]
    assert net.counter(net.e, "upstream_switches_silent") == 1
    assert net.news() == []
    (switch,) = net.e.engine.status(net.world.now_us)["switches"]
    assert (switch["from"], switch["to"], switch["cause"]) == ("r", "s", "silent")
    assert (switch["silent_us"], switch["gap_us"]) == (200_000, None)


def test_the_gap_of_a_switch_is_kept_with_it() -> None:
    net = Net()
    net.e.reroutes.silence(session_to(net.e, net.r))
    net.world.run(5)
    track = net.e.only_track()
    session, alias = net.e.reroutes.active[track]
    net.world.post(net.e, Event.UpstreamResumed(track=track, session=session, alias=alias, gap_us=240_000))
    net.world.run(5)
    (switch,) = net.e.engine.status(net.world.now_us)["switches"]
    assert switch["gap_us"] == 240_000


def test_when_the_upstreams_session_ends_its_standby_follows_without_a_word_to_viewers() -> None:
    net = Net()
    net.news()
    net.e.crash(session_to(net.e, net.r))
    net.world.run(5)
    assert source_of(net.e) == "s"
    net.world.run(TIMING.publisher_grace_ms + 1_000)
    assert net.news() == []
    assert net.e.count(Command.AddDownstream) == 1
    assert net.e.count(Command.BindUpstream) == 1, "nothing was sought anew"


def test_without_a_standby_a_lost_upstream_is_sought_anew_as_ever() -> None:
    net = Net()
    net.push(e=("r",))
    net.push(e=("r", "o"), o=())
    net.world.run(100)
    for other in (net.s, net.o):
        other.is_listening = False
        for session in [s for s, w in net.e.wires.items() if w.other(net.e) is other]:
            net.e.crash(session)
    net.world.run(100)
    assert standbys_of(net.e) == []
    net.e.crash(session_to(net.e, net.r))
    net.world.run(20)
    assert track_status(net.e)["phase"] == "grace"
    net.world.run(3_000)
    assert source_of(net.e) == "r"
    assert TrackEnded not in net.news()


def test_when_source_and_standby_go_at_once_the_third_takes_over() -> None:
    net = Net()
    net.news()
    for other in (net.r, net.s):
        net.e.crash(session_to(net.e, other))
    net.world.run(50)
    assert source_of(net.e) == "o"
    assert net.news() == []


def test_a_standby_that_goes_is_replaced_by_the_next() -> None:
    net = Net()
    net.e.crash(session_to(net.e, net.s))
    net.world.run(50)
    assert (source_of(net.e), standbys_of(net.e)) == ("r", ["o"])
    net.world.run(5_000)
    assert standbys_of(net.e) == ["s"], "as soon as it is there again it stands by, as the plan wants"


def test_a_silent_standby_is_replaced_by_one_that_is_heard() -> None:
    net = Net()
    net.e.reroutes.silence(session_to(net.e, net.s))
    net.world.run(50)
    assert standbys_of(net.e) == ["o"]


def test_a_new_parent_is_taken_make_before_break() -> None:
    net = Net()
    net.news()
    net.push(e=("o", "r", "s"))
    net.world.run(50)
    assert source_of(net.e) == "o"
    assert standbys_of(net.e) == ["r"], "the old parent is the next of the list"
    order = [
        type(c).__name__
        for c in net.e.commands
        if isinstance(c, Command.BindStandby | Command.SwitchUpstream)
    ]
    assert order[-2:] == ["BindStandby", "SwitchUpstream"]
    assert net.e.count(Command.BindUpstream) == 1
    assert (fed_by(net.o), fed_by(net.r)) == (["e", "r", "s"], [])
    assert net.counter(net.e, "upstream_switches_command") == 1
    assert net.news() == []


def test_a_parent_that_the_plan_does_not_name_any_more_is_let_go_after_the_move() -> None:
    net = Net()
    net.push(e=("s", "o"))
    net.world.run(50)
    assert (source_of(net.e), standbys_of(net.e)) == ("s", ["o"])
    assert not [d for d in net.r.downstreams.values()], "the old subscription is over"


def test_a_standby_that_becomes_the_parent_needs_no_new_subscription() -> None:
    net = Net()
    before = net.counter(net.e, "standby_subscribes")
    net.push(e=("s", "r", "o"))
    net.world.run(50)
    assert (source_of(net.e), standbys_of(net.e)) == ("s", ["r"])
    assert net.counter(net.e, "standby_subscribes") == before


def test_a_move_that_does_not_deliver_is_given_up_while_the_old_parent_does() -> None:
    net = Net()
    net.e.reroutes.mute.add(session_to(net.e, net.o))
    net.push(e=("o", "r", "s"))
    track = net.e.only_track()
    for group in range(40):
        net.e.media(track, group, 0)
        net.world.run(100)
    assert source_of(net.e) == "r"
    assert net.counter(net.e, "moves_given_up") == 1
    assert fed_by(net.r) == ["e"]


def test_an_idle_track_moves_though_there_is_nothing_to_deliver() -> None:
    net = Net()
    net.news()
    net.e.reroutes.mute.add(session_to(net.e, net.o))
    net.push(e=("o", "r", "s"))
    net.world.run(TIMING.switch_ms_max + 100)
    assert (source_of(net.e), standbys_of(net.e)) == ("o", ["r"])
    assert net.counter(net.e, "moves_forced") == 1
    assert net.news() == []


def test_after_an_escape_the_parent_is_taken_again_later_and_each_time_later() -> None:
    net = Net()
    session = session_to(net.e, net.r)
    for wait_ms in (TIMING.return_ms, 2 * TIMING.return_ms):
        net.e.reroutes.silence(session)
        net.world.run(50)
        assert source_of(net.e) == "s"
        net.e.reroutes.silence(session, silent=False)
        net.world.run(wait_ms - 200)
        assert source_of(net.e) == "s"
        net.world.run(400)
        assert source_of(net.e) == "r"
    assert standbys_of(net.e) == ["s"]


def test_a_new_list_of_the_plan_does_not_wait_for_that() -> None:
    net = Net()
    session = session_to(net.e, net.r)
    net.e.reroutes.silence(session)
    net.world.run(50)
    net.e.reroutes.silence(session, silent=False)
    net.push(e=("r", "o"))
    net.world.run(50)
    assert source_of(net.e) == "r"


def test_the_same_plan_again_moves_nothing() -> None:
    net = Net()
    before = len(net.e.commands)
    net.push(e=("r", "s", "o"))
    net.world.run(2_000)
    assert len(net.e.commands) == before


def test_an_edge_that_is_fed_from_here_is_no_standby_of_ours() -> None:
    net = Net()
    net.push(e=("r", "s"), r=("o", "e"))
    net.world.run(500)
    assert standbys_of(net.r) == [], "e is fed by r"
    assert net.counter(net.r, "standby_subscribes") == 0


def test_an_edge_whose_way_leads_through_here_refuses_to_stand_by() -> None:
    net = Net("f")
    net.push(e=("r", "s"), f=("e",), r=("o", "f"))
    net.world.viewer(net.edges["f"], "live/a", "video")
    net.world.run(500)
    assert source_of(net.edges["f"]) == "e"
    assert standbys_of(net.r) == []
    assert net.counter(net.r, "standbys_refused") == 1


def test_two_edges_stand_by_for_each_other_until_one_is_fed_by_the_other() -> None:
    net = Net()
    net.world.viewer(net.r, "live/a", "video")
    net.world.viewer(net.s, "live/a", "video")
    net.push(r=("o", "s"), s=("o", "r"), e=("r", "s"))
    net.world.run(500)
    assert (standbys_of(net.r), standbys_of(net.s)) == (["s"], ["r"])
    net.r.reroutes.silence(session_to(net.r, net.o))
    net.world.run(100)
    assert source_of(net.r) == "s"
    assert standbys_of(net.s) == [], "r is fed by s"
    assert net.counter(net.r, "circles_ended") == 1, "whether or not s has noticed"
    net.s.reroutes.silence(session_to(net.s, net.o))
    net.world.run(TIMING.standby_retry_ms + 1_000)
    assert source_of(net.s) == "o", "better silent than round in a circle"


def test_two_edges_that_lose_their_parents_at_once_do_not_feed_each_other() -> None:
    net = Net()
    net.world.viewer(net.r, "live/a", "video")
    net.world.viewer(net.s, "live/a", "video")
    net.push(r=("o", "s"), s=("o", "r"), e=("r", "s"))
    net.world.run(500)
    for edge in (net.r, net.s):
        edge.reroutes.silence(session_to(edge, net.o))
    net.world.run(2_000)
    assert {source_of(net.r), source_of(net.s)} != {"r", "s"}
    assert not ("r" in fed_by(net.s) and "s" in fed_by(net.r))
    for edge in (net.r, net.s):
        edge.reroutes.silence(session_to(edge, net.o), silent=False)
    net.world.run(TIMING.return_ms * 4)
    assert (source_of(net.r), source_of(net.s)) == ("o", "o")


def test_edges_below_learn_a_new_route_and_drop_what_has_become_a_circle() -> None:
    """b takes from r, r falls back to a: then a's standby must not be b, whose way leads through a now."""
    world = World()
    edges = {name: world.planned_edge(name) for name in ("o", "a", "b", "r")}
    plans = Plans(world, *edges.values())
    world.publisher(edges["o"], "live/a", "video")
    routes = {"a": {"o": ["o", "b"]}, "r": {"o": ["o", "a"]}, "b": {"o": ["r"]}}
    plans.push({"live/a": "o"}, routes)
    world.run(200)
    for name in ("a", "b"):
        world.viewer(edges[name], "live/a", "video")
    world.run(500)
    assert (standbys_of(edges["a"]), standbys_of(edges["r"])) == (["b"], ["a"])
    edges["r"].reroutes.silence(session_to(edges["r"], edges["o"]))
    world.run(TIMING.reroute_ms + 500)
    assert source_of(edges["r"]) == "a"
    assert track_status(edges["b"])["route"] == ["o", "a", "r"]
    assert standbys_of(edges["a"]) == []
    session = session_to(edges["b"], edges["r"])
    assert [key for key in edges["b"].bindings if key[0] == session] == [(session, 2)], "the old one is over"


def test_when_a_parent_goes_away_its_children_move_before_it_is_gone() -> None:
    net = Net()
    net.news()
    net.r.engine.drain(net.world.now_us)
    net.world.run(100)
    assert source_of(net.e) == "s"
    assert fed_by(net.r) == []
    assert net.counter(net.e, "upstream_switches_command") == 1
    assert net.r.engine.is_drained
    assert net.news() == []


def test_when_a_standby_goes_away_another_one_stands_by() -> None:
    net = Net()
    net.s.engine.drain(net.world.now_us)
    net.world.run(100)
    assert (source_of(net.e), standbys_of(net.e)) == ("r", ["o"])


def test_a_track_that_ends_ends_its_standbys_first() -> None:
    net = Net()
    net.publisher.engine.end_track(b"video")
    net.world.run(5 * TIMING.late_stream_ms)
    assert net.viewer is not None
    net.viewer.engine.close(net.world.now_us)
    net.world.run(4 * TIMING.track_linger_ms)
    assert TrackEnded in net.news()
    assert all(edge.holds_nothing() for edge in (net.r, net.s, net.e))
    assert net.counter(net.e, "upstream_switches_closed") == 0


def test_a_publisher_that_starts_over_elsewhere_is_taken_as_a_new_source() -> None:
    net = Net()
    net.e.media(net.e.only_track(), 5, 0)
    net.publisher.engine.close(net.world.now_us)
    net.world.publisher(net.s, "live/a", "video")
    net.world.run(100)
    routes = {name: {"s": ["s"], "o": ["o"]} for name in ("o", "r", "e")}
    net.plans.push({"live/a": "s"}, {**routes, "s": {"o": ["o"]}, "o": {"s": ["s"]}})
    net.world.run(100)
    assert source_of(net.e) == "s"
    net.world.run(TIMING.reroute_ms + 500)
    assert source_of(net.e) == "s"
    last = [c for c in net.e.commands if isinstance(c, Command.BindUpstream)][-1]
    assert last.restart_allowed
    assert TrackEnded not in net.news()


def test_a_track_that_starts_over_goes_on_with_a_standby_of_the_new_numbers() -> None:
    net = Net()
    for edge in (net.o, net.r, net.s, net.e):
        edge.media(edge.only_track(), 9, 0)
    net.o.restart(net.o.only_track())
    net.world.run(3_000)
    assert source_of(net.e) == "r"
    assert standbys_of(net.e) == ["s"]
    kinds = net.news()
    assert TrackReady in kinds or TrackRestarted in kinds


def test_a_switch_to_what_was_just_let_go_is_ignored() -> None:
    net = Net()
    track = net.e.only_track()
    session = session_to(net.e, net.s)
    event = Event.UpstreamSwitched(
        track=track, from_session=1, from_alias=1, session=session, alias=999, cause="silent", silent_us=0
    )
    net.world.post(net.e, event)
    net.world.run(50)
    assert source_of(net.e) == "r"
    assert net.counter(net.e, "upstream_switches_crossed") == 1


def test_bounds_of_loss_and_delay_are_set_on_every_hop_of_ours() -> None:
    net = Net()
    bounds = [c for c in net.e.commands if isinstance(c, Command.HopBounds)]
    assert [(c.loss_max_permille, c.rtt_max_us) for c in bounds] == [(150, 800_000)] * 3
