"""The last hour of links: a minute at a time, bounded, and what it says of one link."""

from __future__ import annotations

import numpy as np
import pytest
from control_world import PACKETS, World

from farcast.control_plane import link_history
from farcast.control_plane.link_history import MINUTE_US, MINUTES, LinkHistory

SLOTS = np.arange(3)
COUNTS = np.array([np.full((3, 3), 100), np.full((3, 3), 4), np.full((3, 3), 2)], np.uint32)
KNOWN = ~np.eye(3, dtype=bool)


def filled(minutes: int) -> LinkHistory:
    history = LinkHistory(0)
    for minute in range(minutes):
        for rtt_ms in (20.0, 40.0, 30.0):
            history.sample(np.full((3, 3), rtt_ms + minute), KNOWN)
        history.close("abc", SLOTS, COUNTS, (minute + 1) * MINUTE_US, (minute + 1) * MINUTE_US)
    return history


def test_a_minute_tells_least_mean_greatest_and_counts() -> None:
    (minute,) = filled(1).links("a", "b")["a", "b"]
    assert minute == (60, 20.0, 30.0, 40.0, 100, 4, 2)


def test_an_hour_is_kept_and_no_more() -> None:
    minutes = filled(MINUTES + 5).links("a", "b")["a", "b"]
    assert [minute.unix_s for minute in minutes] == [60 * (k + 1) for k in range(5, MINUTES + 5)]


def test_links_are_told_by_direction_and_by_end() -> None:
    history = filled(1)
    assert set(history.links()) == {(a, b) for a in "abc" for b in "abc" if a != b}
    assert set(history.links(src="a")) == {("a", "b"), ("a", "c")}
    assert set(history.links(dst="a")) == {("b", "a"), ("c", "a")}
    assert history.links("nobody") == {}


def test_a_link_that_was_not_measured_in_a_minute_is_not_in_it() -> None:
    history = LinkHistory(0)
    history.sample(np.full((3, 3), 20.0), np.zeros((3, 3), bool))
    history.sample(np.zeros((3, 3)), KNOWN)
    history.close("abc", SLOTS, COUNTS, MINUTE_US, MINUTE_US)
    assert history.links() == {}


def test_links_beyond_the_limit_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_history, "LINKS_MAX", 4)
    history = filled(2)
    assert len(history.links()) == 4
    assert history.links_left_out == 4


def test_a_node_more_in_the_middle_of_a_minute() -> None:
    history = LinkHistory(0)
    history.sample(np.full((2, 2), 10.0), KNOWN[:2, :2])
    history.sample(np.full((3, 3), 20.0), KNOWN)
    history.close("abc", SLOTS, COUNTS, MINUTE_US, MINUTE_US)
    assert history.links()["a", "b"][0][1:4] == (10.0, 15.0, 20.0)
    assert history.links()["a", "c"][0][1:4] == (20.0, 20.0, 20.0)


def test_the_control_plane_keeps_what_edges_reported() -> None:
    world = World(("fra-1", "sin-1"), lambda a, b: 80.0)
    world.loss["sin-1", "fra-1"] = 0.04
    world.run(200)
    history = world.controller.links.history
    assert history is not None
    minutes = history.links("sin-1", "fra-1")["sin-1", "fra-1"]
    assert len(minutes) == 3
    assert minutes[-1].rtt_ms == pytest.approx(80, rel=0.05)
    assert minutes[-1].packets == pytest.approx(60 * PACKETS, abs=2 * PACKETS)
    assert minutes[-1].lost / minutes[-1].packets == pytest.approx(0.04, abs=0.01)
    assert history.links("fra-1", "sin-1")["fra-1", "sin-1"][-1].lost == 0
