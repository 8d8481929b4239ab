"""Two paths at the same time where one is lossy or late: real datapaths, real agents, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from farcast.proto._core import LinkConfig
from farcast.proto.recovery.second_path import SecondPaths

from .planned import SECOND, Network

ROUTES = {"e": {"o": ["r", "s", "o"]}, "r": {"o": ["o", "s"]}, "s": {"o": ["o", "r"]}, "o": {}}
RTT_MS = 140
STALL_MS_MAX = 183
WAYS = {("r", "e"): RTT_MS, ("s", "e"): RTT_MS, ("o", "e"): 200}


def playing(second_paths: SecondPaths | None = None, **options: Any) -> tuple[Network, Any]:
    """A film from ``o`` by relay ``r`` to a viewer at ``e``; ``s`` stands by."""
    net = Network("o", "r", "s", "e", rtt_ms=WAYS, second_paths=second_paths, **options)
    net.push(ROUTES)
    net.publish("o")
    viewer = net.watch("e", at_us=2 * SECOND)
    net.run_until(6 * SECOND)
    assert (net.source("e"), net.standbys("e")) == ("r", ["s"])
    return net, viewer


def change(net: Network, src: str, dst: str, **fields: Any) -> None:
    link = LinkConfig(**{"delay_us": RTT_MS * 500, **fields})
    net.twin.world.set_link(net.hosts[src], net.hosts[dst], link)


def lose(net: Network, src: str = "r", dst: str = "e", loss: float = 0.1) -> None:
    change(net, src, dst, loss=loss, loss_burst=3.0)


def is_paired(net: Network) -> bool:
    (track,) = net.status("e")["tracks"]
    sends = any(standby["sends"] for standby in track["standbys"])
    assert track["two_paths"] == sends
    return sends


def assert_whole(net: Network, viewer: Any) -> None:
    net.run_for(3)
    assert viewer.missing() == []
    assert viewer.doubled() == 0


def longest_gap_ms(viewer: Any, from_us: int) -> int:
    return int(viewer.gap_ms(from_us))


def test_a_lossy_hop_gets_a_second_path_and_gives_it_up_when_it_is_clean_again() -> None:
    net, viewer = playing()
    lose(net)
    net.run_for(1.5)
    assert is_paired(net)
    assert net.source("e") == "r"
    settled = net.twin.now_us()
    net.run_for(8)
    assert longest_gap_ms(viewer, settled) <= STALL_MS_MAX
    change(net, "r", "e")
    net.run_for(8)
    assert is_paired(net), "not at once"
    net.run_for(16)
    assert not is_paired(net)
    counters = net.status("e")["counters"]
    assert (counters["second_paths_taken"], counters["second_paths_given_up"]) == (1, 1)
    assert_whole(net, viewer)
    assert net.switches("e") == []


def test_without_the_table_the_same_loss_is_left_to_repair() -> None:
    net, viewer = playing(SecondPaths(which="off"))
    lose(net)
    begun = net.twin.now_us() + SECOND
    net.run_for(8)
    assert not is_paired(net)
    assert longest_gap_ms(viewer, begun) > RTT_MS
    assert_whole(net, viewer)


def test_with_sound_only_a_film_of_pictures_stays_on_one_path() -> None:
    net, viewer = playing(SecondPaths(which="audio"))
    lose(net)
    net.run_for(4)
    assert not is_paired(net)
    assert_whole(net, viewer)
    net, viewer = playing(SecondPaths(which="audio", small_bps_max=2_000_000))
    lose(net)
    net.run_for(4)
    assert is_paired(net)
    assert_whole(net, viewer)


@pytest.mark.parametrize("dies", ["r", "s"])
def test_with_two_paths_the_death_of_either_edge_is_no_pause(dies: str) -> None:
    net, viewer = playing()
    lose(net)
    net.run_for(3)
    assert is_paired(net)
    before = net.twin.now_us()
    net.kill(dies)
    net.run_for(0.25)
    assert longest_gap_ms(viewer, before) <= (STALL_MS_MAX if dies == "r" else 2 * RTT_MS)
    net.run_for(3)
    assert net.source("e") == ("s" if dies == "r" else "r")
    assert_whole(net, viewer)


def test_the_edge_that_sends_beside_the_source_knows_whom_it_feeds() -> None:
    net, viewer = playing()

    def is_taken() -> bool:
        (track,) = net.status("s")["tracks"]
        return bool(track["taken"])

    assert not is_taken()
    lose(net)
    net.run_for(3)
    assert is_taken()
    assert "e" not in net.standbys("s")
    assert_whole(net, viewer)


def test_a_plan_that_moves_the_source_to_the_second_path_costs_nothing() -> None:
    net, viewer = playing()
    lose(net)
    net.run_for(3)
    assert is_paired(net)
    before = net.twin.now_us()
    net.push({**ROUTES, "e": {"o": ["s", "r", "o"]}})
    net.run_for(3)
    assert net.source("e") == "s"
    assert longest_gap_ms(viewer, before) <= STALL_MS_MAX
    assert_whole(net, viewer)


def test_two_edges_do_not_end_up_feeding_each_other() -> None:
    net, viewer = playing()
    other = net.watch("s", at_us=net.twin.now_us())
    net.run_for(2)
    for src, dst in (("r", "e"), ("o", "s")):
        lose(net, src, dst)
    net.run_for(12)
    for edge in "es":
        (track,) = net.status(edge)["tracks"]
        assert not track["starved"]
    net.kill("r")
    net.run_for(5)
    for watcher in (viewer, other):
        assert_whole(net, watcher)


def test_media_that_comes_later_and_later_takes_the_other_path_beside_it() -> None:
    net, viewer = playing()
    before = net.twin.now_us()
    change(net, "r", "e", delay_us=RTT_MS * 500 + 150_000)
    net.run_for(2)
    assert is_paired(net) or net.source("e") == "s"
    assert longest_gap_ms(viewer, before) <= STALL_MS_MAX
    assert_whole(net, viewer)
