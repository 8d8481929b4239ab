"""Viewers whose edge stops without a word, where that edge fed the others too.

Every case runs over the regions' round trips. What a viewer waits for is: the silence after which it takes
its edge for dead (600 ms), a handshake, and the film's way through an edge that has just lost its upstream.
"""

from __future__ import annotations

from itertools import pairwise

import pytest

from farcast.proto.client import events as client

from .planned import SECOND, Watcher
from .six_regions import EGRESSES, SixRegions

RESUMED_MS_MAX = 1_500
COLD_RESUMED_MS_MAX = 2_000
"""Where no other edge has the film, and each has first to find out that the one it would ask is dead."""


def order_from(region: str) -> list[str]:
    """Its own edge, then Singapore; London does not know Frankfurt, which would always be faster."""
    others = [edge for edge in EGRESSES if (region, edge) != ("lon", "fra")]
    return [region, *(edge for edge in ("sin", *others) if edge != region)]


def viewer_at_sin(
    region: str, watched: tuple[str, ...], *, seed: int, access_ms: int | None = None
) -> tuple[SixRegions, Watcher]:
    """A viewer that has come to Singapore because the edge of its own region was away for a while; others
    watch at some edges."""
    net = SixRegions(seed=seed)
    for edge in watched:
        net.watch(edge, at_us=2 * SECOND)
    viewer = net.roam(order_from(region), region=region, access_ms=access_ms)
    net.run_until(5 * SECOND)
    if region != "sin":
        net.stop(region)
        net.run_for(2.5)
        net.stop(region, up=True)
        net.run_for(4)
    assert edges_of(net, viewer)[-1] == "sin"
    return net, viewer


def edges_of(net: SixRegions, viewer: Watcher) -> list[str]:
    """Where it has been, in order."""
    names = {net.address(name): name for name in net.stores}
    return [names[event.edge] for event in viewer.others if isinstance(event, client.Connected)]


def gap_after_stop(net: SixRegions, viewer: Watcher, *, after_ms: int = 0) -> float:
    """Stop Singapore a while later, for good; the longest time without an object, milliseconds."""
    net.run_for(after_ms / 1_000)
    before = net.twin.now_us()
    net.stop("sin")
    net.run_for(4)
    times = [at for at, _, _ in viewer.arrived if at >= before - SECOND // 2] + [net.twin.now_us()]
    return max(b - a for a, b in pairwise(times)) / 1_000


def assert_whole(viewer: Watcher) -> None:
    assert viewer.missing() == []
    assert viewer.doubled() == 0


@pytest.mark.parametrize("access_ms", [None, 0], ids=["far", "loopback"])
@pytest.mark.parametrize("region", ["sin", *EGRESSES])
def test_a_viewer_of_a_stopped_edge_that_fed_the_others_resumes_in_time(
    region: str, access_ms: int | None
) -> None:
    watched = tuple(edge for edge in EGRESSES if edge != region)
    for seed, after_ms in ((7, 0), (8, 370), (9, 810)):
        net, viewer = viewer_at_sin(region, watched, seed=seed, access_ms=access_ms)
        assert gap_after_stop(net, viewer, after_ms=after_ms) <= RESUMED_MS_MAX
        assert_whole(viewer)


@pytest.mark.parametrize("region", ["sin", *EGRESSES])
def test_a_viewer_of_a_stopped_edge_resumes_where_no_other_edge_has_the_film(region: str) -> None:
    for seed, after_ms in ((7, 130), (8, 600)):
        net, viewer = viewer_at_sin(region, (), seed=seed)
        assert gap_after_stop(net, viewer, after_ms=after_ms) <= COLD_RESUMED_MS_MAX
        assert_whole(viewer)


def test_edges_that_began_with_the_running_group_get_the_end_of_the_one_before_from_above() -> None:
    """The viewer moves to London, Dubai and London again, which have both just begun with the film."""
    net, viewer = viewer_at_sin("lon", (), seed=7)
    gap_after_stop(net, viewer, after_ms=130)
    assert edges_of(net, viewer)[-3:] == ["lon", "dxb", "lon"]
    assert_whole(viewer)


def test_back_at_the_first_edge_that_lost_its_upstream_a_viewer_does_not_wait_for_it() -> None:
    """Its own edge is trusted again, has the shortest way, answers first, and has nothing to show."""
    net, viewer = viewer_at_sin("fra", ("dxb", "lon", "iad"), seed=7, access_ms=0)
    net.run_for(60)
    assert gap_after_stop(net, viewer, after_ms=937) <= 1_000
    assert edges_of(net, viewer)[:3] == ["fra", "sin", "fra"]
    assert_whole(viewer)


def test_an_edge_that_has_only_the_running_group_is_not_all_that_is_asked() -> None:
    net, viewer = viewer_at_sin("fra", ("dxb", "lon", "iad"), seed=7)
    net.run_for(60)
    gap_after_stop(net, viewer, after_ms=3_437)
    assert_whole(viewer)


def test_when_all_is_over_a_viewer_has_one_session_left() -> None:
    net, viewer = viewer_at_sin("lon", ("dxb",), seed=7)
    gap_after_stop(net, viewer)
    net.run_for(10)
    assert viewer.engine._connection.old_session_ids == ()
    assert viewer.engine._connection._race is None
