"""Draining over the regions' round trips: a viewer's edge, and a relay that feeds all the others.

Links lose nothing here: what a lost packet costs on a way (a round trip of it) it costs with or without a
drain. What is left of a move is the step from the shorter to the longer way, once.
"""

from __future__ import annotations

import pytest

from .planned import SECOND, Watcher
from .six_regions import EGRESSES, ROUTES, SixRegions
from .test_failing_over import assert_whole, edges_of

GAP_MS_MAX = 183
"""A pause in a film that people notice."""

CROWD = 24


def drained(
    node_id: str, region: str, *, access_ms: int | None = None, url: str = ""
) -> tuple[SixRegions, Watcher]:
    """A viewer at the edge of its region, others at all other egresses, and an edge that drains in the
    middle of a group; the plan follows, as the control plane's would."""
    net = SixRegions()
    for edge in EGRESSES:
        if edge != region:
            net.watch(edge, at_us=2 * SECOND)
    order = [region, *(edge for edge in ("sin", *EGRESSES) if edge != region)]
    viewer = net.roam(order, region=region, access_ms=access_ms)
    net.run_for(5.3)
    next_url = f"moqt://{net.address(url)}" if url else ""
    net.agents[node_id].drain(net.twin.now_us(), drain_ms=8_000, next_url=next_url)
    net.run_for(0.3)
    without = {
        node: {origin: [u for u in upstreams if u != node_id] for origin, upstreams in routes.items()}
        for node, routes in ROUTES.items()
    }
    net.push(without, "jkt")
    net.run_for(6)
    return net, viewer


@pytest.mark.parametrize("access_ms", [None, 0], ids=["far", "loopback"])
@pytest.mark.parametrize("region", ["sin", *EGRESSES])
def test_a_viewer_of_a_draining_edge_sees_no_pause(region: str, access_ms: int | None) -> None:
    net, viewer = drained(region, region, access_ms=access_ms)
    assert viewer.gap_ms(4 * SECOND) < GAP_MS_MAX
    assert_whole(viewer)
    assert len(edges_of(net, viewer)) == 2, "one move"
    assert viewer.arrived[-1][0] > net.twin.now_us() - SECOND // 4


@pytest.mark.parametrize("region", EGRESSES)
def test_viewers_below_a_draining_relay_see_no_pause(region: str) -> None:
    net, viewer = drained("sin", region)
    for watcher in net.watchers:
        assert watcher.gap_ms(4 * SECOND) < GAP_MS_MAX
        assert_whole(watcher)
    assert edges_of(net, viewer) == [region], "only the edges move"


def test_a_crowd_at_a_draining_edge_sees_no_pause() -> None:
    net = SixRegions()
    order = ["fra", *(edge for edge in ("sin", *EGRESSES) if edge != "fra")]
    crowd = [net.roam(order, region="fra", at_us=2 * SECOND + k * 20_000) for k in range(CROWD)]
    net.run_for(5.3)
    net.agents["fra"].drain(net.twin.now_us(), drain_ms=8_000, next_url="")
    net.run_for(6.3)
    for viewer in crowd:
        assert viewer.gap_ms(4 * SECOND) < GAP_MS_MAX
        assert_whole(viewer)
        assert len(edges_of(net, viewer)) == 2, "one move"


@pytest.mark.parametrize(("region", "nearest"), [("fra", {"lon"}), ("iad", {"fra", "lon"}), ("dxb", {"sin"})])
def test_of_the_edges_left_the_one_with_the_shortest_way_is_taken(region: str, nearest: set[str]) -> None:
    net, viewer = drained(region, region)
    assert edges_of(net, viewer)[-1] in nearest
