"""An edge that was asked for a track and is not heard any more, before it has answered."""

from __future__ import annotations

from farcast.proto._core import Event

from .net import Net
from .plans import session_to, source_of


def silence(net: Net) -> None:
    net.world.post(net.e, Event.HopSilent(session=session_to(net.e, net.r), silent=True))


def test_what_was_asked_of_a_silent_edge_is_asked_of_the_next_one() -> None:
    net = Net(viewer=False)
    net.world.viewer(net.e, "live/a", "video")
    net.world.run(2)
    silence(net)
    net.world.run(200)
    assert source_of(net.e) == "s"


def test_where_there_is_no_next_one_the_answer_is_waited_for() -> None:
    net = Net(viewer=False)
    net.push(e=("o",))
    net.world.run(200)
    net.world.viewer(net.e, "live/a", "video")
    net.world.run(2)
    net.world.post(net.e, Event.HopSilent(session=session_to(net.e, net.o), silent=True))
    net.world.run(500)
    assert source_of(net.e) == "o"
    assert net.counter(net.e, "upstream_cancels") == 0


def test_a_source_that_is_silent_is_for_the_standby_to_replace() -> None:
    net = Net()
    cancels = net.counter(net.e, "upstream_cancels")
    silence(net)
    net.world.run(100)
    assert source_of(net.e) == "r", "the datapath says when"
    assert net.counter(net.e, "upstream_cancels") == cancels
