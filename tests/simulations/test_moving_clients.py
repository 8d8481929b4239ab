"""Viewers and publishers that go from edge to edge in mid-film, in the twin, with the real datapath.

Access paths take 50 ms one way, as far as from one continent to the next; what is asserted of times is exact
in virtual time, up to the frames' distance.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from edge_lists import edge_list, entry
from films import packets

from farcast.clients.media.sources import open_source
from farcast.clients.media.testfilm import FilmOptions, write_test_film
from farcast.proto._core import LinkConfig
from farcast.proto.moqt.names import TrackNamespace
from farcast.simulations.film_world import Access, EdgeHost, FilmPublisher, FilmViewer, FilmWorld

NAMESPACE = TrackNamespace.parse("live/film")
NOW = datetime.now(UTC)
FILM_SECONDS = 9
END_US = 20_000_000
ACCESS_US = 50_000
HOP = LinkConfig(delay_us=40_000)
RESUMED_MS_MAX = 1_500
GAP_MS_MAX = 183
"""A pause in sound or picture that people notice."""

Trouble = Callable[[FilmWorld, EdgeHost, int, int], None]
"""What happens at a time: world, the client's edge, the client's host, microseconds."""


def kill(world: FilmWorld, edge: EdgeHost, host: int, now_us: int) -> None:
    world.kill(edge)


def cut(world: FilmWorld, edge: EdgeHost, host: int, now_us: int) -> None:
    world.cut(host, edge.host)


def drain(world: FilmWorld, edge: EdgeHost, host: int, now_us: int) -> None:
    world.drain(edge, now_us)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_test_film(path, FilmOptions(duration_s=FILM_SECONDS))
    return path


def access(transport: str = "quic", loss: float = 0.0) -> Access:
    link = LinkConfig(delay_us=ACCESS_US, loss=loss)
    return Access("webtransport" if transport == "webtransport" else "quic", link=link)


def publish(world: FilmWorld, film: Path, edge: EdgeHost, *others: EdgeHost) -> FilmPublisher:
    source = open_source(str(film), clock_us=world.twin.now_us)
    return world.publish(source, NAMESPACE, edge, at_us=500_000, access=access(), others=others)


def check_whole(viewer: FilmViewer, film: Path) -> None:
    """Every sample once, in order, unchanged, to the end of the film."""
    assert viewer.over, viewer.remarks
    assert {track: [s.data for s in got] for track, got in viewer.samples.items()} == packets(film)
    for track, objects in viewer.objects.items():
        assert objects == sorted(set(objects)), f"{track}: doubled or out of order"


def gap_ms(viewer: FilmViewer) -> float:
    """The longest pause between two frames of the film."""
    return max(b - a for a, b in pairwise(viewer.arrivals_us["video"])) / 1_000


def watched(
    film: Path, trouble: Trouble, at_us: int, *, seed: int = 1, how: Access | None = None
) -> FilmViewer:
    """A viewer whose edge has trouble at a time, beside another edge that can serve as well."""
    world = FilmWorld(seed, certificates_from=NOW)
    origin = world.add_edge("origin")
    near, far = (world.add_edge(name, upstream=origin, hop=HOP) for name in ("near", "far"))
    publish(world, film, origin)
    viewer = world.watch(NAMESPACE, near, access=how or access(), others=(far,))
    world.twin.at(at_us, lambda now_us: trouble(world, near, viewer.host, now_us))
    world.run_until(END_US)
    return viewer


@pytest.mark.parametrize("at_us", [4_400_000, 5_000_000, 5_700_000, 6_300_000])
@pytest.mark.parametrize("trouble", [kill, cut])
@pytest.mark.parametrize("transport", ["quic", "webtransport"])
def test_a_viewer_of_a_dead_edge_goes_on_where_it_was(
    film: Path, trouble: Trouble, transport: str, at_us: int
) -> None:
    viewer = watched(film, trouble, at_us, how=access(transport))
    check_whole(viewer, film)
    assert gap_ms(viewer) <= RESUMED_MS_MAX
    assert viewer.moves().moves == 1


@pytest.mark.parametrize("at_us", [4_400_000, 5_000_000, 5_700_000, 6_300_000])
@pytest.mark.parametrize("transport", ["quic", "webtransport"])
def test_a_viewer_of_a_draining_edge_notices_nothing(film: Path, transport: str, at_us: int) -> None:
    viewer = watched(film, drain, at_us, how=access(transport))
    check_whole(viewer, film)
    assert gap_ms(viewer) < GAP_MS_MAX
    assert viewer.moves().moves == 1


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("trouble", [kill, drain])
def test_on_a_lossy_path_nothing_is_lost_or_doubled_either(film: Path, trouble: Trouble, seed: int) -> None:
    viewer = watched(film, trouble, 5_000_000 + seed * 77_000, seed=seed, how=access(loss=0.03))
    check_whole(viewer, film)


def test_bursts_of_loss_on_the_access_path_are_seldom_taken_for_a_dead_edge(film: Path) -> None:
    """A handshake whose packets are lost three times over is silent for longer than a viewer waits."""
    how = Access(link=LinkConfig(delay_us=ACCESS_US, loss=0.1, loss_burst=3.0))
    viewers = [watched(film, lambda *_: None, 5_000_000, seed=seed, how=how) for seed in range(40)]
    assert sum(viewer.moves().moves > 0 for viewer in viewers) <= 4


def test_a_path_that_is_back_before_another_edge_answers_is_kept(film: Path) -> None:
    def interrupt(world: FilmWorld, edge: EdgeHost, host: int, now_us: int) -> None:
        world.cut(host, edge.host)
        world.twin.at(now_us + 650_000, lambda _: world.cut(host, edge.host, up=True))

    viewer = watched(film, interrupt, 5_000_000)
    check_whole(viewer, film)
    assert viewer.moves().moves <= 1


def test_the_only_edge_is_taken_up_again_when_its_path_is_mended(film: Path) -> None:
    world = FilmWorld(3, certificates_from=NOW)
    edge = world.add_edge("edge")
    publish(world, film, edge)
    viewer = world.watch(NAMESPACE, edge, access=access())
    world.twin.at(3_000_000, lambda _: world.cut(viewer.host, edge.host))
    world.twin.at(5_000_000, lambda _: world.cut(viewer.host, edge.host, up=True))
    world.run_until(END_US)
    check_whole(viewer, film)
    assert viewer.moves().moves == 0


@pytest.mark.parametrize("at_us", [4_400_000, 5_700_000])
@pytest.mark.parametrize("trouble", [kill, drain])
def test_publisher_and_viewer_of_one_edge_meet_at_the_next_one(
    film: Path, trouble: Trouble, at_us: int
) -> None:
    world = FilmWorld(4, certificates_from=NOW)
    one, two = world.add_edge("one"), world.add_edge("two")
    publisher = publish(world, film, one, two)
    viewer = world.watch(NAMESPACE, one, access=access(), others=(two,))
    world.twin.at(at_us, lambda now_us: trouble(world, one, viewer.host, now_us))
    world.run_until(END_US)
    check_whole(viewer, film)
    assert [move.edge for move in publisher.moves] == [two.remote]
    assert not any("starts over" in remark for remark in viewer.remarks)
    assert gap_ms(viewer) < (GAP_MS_MAX if trouble is drain else RESUMED_MS_MAX)


def test_viewers_elsewhere_take_a_publisher_that_moved_for_the_same(film: Path) -> None:
    world = FilmWorld(5, certificates_from=NOW)
    one, two = world.add_edge("one"), world.add_edge("two")
    egress = world.add_edge("egress", upstream=one, others=(two,), hop=HOP)
    publisher = publish(world, film, one, two)
    viewer = world.watch(NAMESPACE, egress, access=access())
    world.twin.at(2_000_000, lambda now_us: one.agent.drain(now_us, drain_ms=1_000))
    world.run_until(END_US)
    check_whole(viewer, film)
    assert [move.edge for move in publisher.moves] == [two.remote]
    assert not any("starts over" in remark for remark in viewer.remarks)


def test_a_viewer_learns_its_second_edge_from_the_first(film: Path) -> None:
    world = FilmWorld(6, certificates_from=NOW)
    origin = world.add_edge("origin")
    near, far = (world.add_edge(name, upstream=origin, hop=HOP) for name in ("near", "far"))
    publish(world, film, origin)
    how = access()
    served = edge_list(*(entry(edge.node_id, f"moqt://{edge.remote}") for edge in (near, far)))
    world.twin.at(0, lambda now_us: near.agent.publish_edge_list(now_us, served))
    viewer = world.watch(NAMESPACE, near, at_us=1_000_000, access=how, reachable=(far,))
    world.twin.at(5_000_000, lambda _: world.kill(near))
    world.run_until(END_US)
    check_whole(viewer, film)
    assert viewer.moves().edges == (near.remote, far.remote)
