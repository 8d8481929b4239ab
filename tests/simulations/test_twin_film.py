"""A film through two edges and a bad hop in memory, on a virtual clock, by the engines that are deployed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from films import has_b_frames, is_tail, keyframes, packets

from farcast.clients.media.sources import open_source
from farcast.clients.media.testfilm import FilmOptions, write_test_film
from farcast.proto._core import LinkConfig
from farcast.proto.agent import Agent
from farcast.proto.client import Publisher, Viewer
from farcast.proto.moqt.names import TrackNamespace
from farcast.simulations.film_world import Access, FilmPublisher, FilmViewer, FilmWorld

FILM_SECONDS = 60
LATE_SECONDS = 20
END_SECONDS = FILM_SECONDS + 10
NAMESPACE = TrackNamespace.parse("live/film")
HOP = LinkConfig(delay_us=40_000, loss=0.03, loss_burst=3.0)
VIEWERS = {
    "quic, draft 18": (0, Access("quic", (18,))),
    "quic, draft 16": (0, Access("quic", (16,))),
    "webtransport": (0, Access("webtransport")),
    "late": (LATE_SECONDS, Access("quic")),
}
NOW = datetime.now(UTC)


@dataclass
class Run:
    """One film in one world, to its end."""

    world: FilmWorld
    publisher: FilmPublisher
    viewers: dict[str, FilmViewer]
    wall_seconds: float
    losses: int


def run(film: Path, seed: int) -> Run:
    world = FilmWorld(seed, certificates_from=NOW)
    origin = world.add_edge("origin")
    egress = world.add_edge("egress", upstream=origin, hop=HOP)
    source = open_source(str(film), clock_us=world.twin.now_us)
    publisher = world.publish(source, NAMESPACE, origin, at_us=500_000)
    viewers = {
        name: world.watch(NAMESPACE, egress, at_us=seconds * 1_000_000, access=access)
        for name, (seconds, access) in VIEWERS.items()
    }
    begin = time.perf_counter()
    world.run_until(END_SECONDS * 1_000_000)
    wall_seconds = time.perf_counter() - begin
    links = ((origin.host, egress.host), (egress.host, origin.host))
    losses = sum(world.twin.world.link_stats(*link)["packets_lost"] for link in links)
    source.close()
    return Run(world, publisher, viewers, wall_seconds, losses)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    write_test_film(path, FilmOptions(duration_s=FILM_SECONDS))
    return path


@pytest.fixture(scope="module")
def first(film: Path) -> Run:
    return run(film, seed=1)


@pytest.mark.slow
def test_every_viewer_gets_every_sample_once_in_order_and_unchanged(
    film: Path, first: Run, tell: Callable[[str], None]
) -> None:
    sent = packets(film)
    assert has_b_frames(film)
    assert first.losses > 100, "the hop was a bad one"
    for name, viewer in first.viewers.items():
        tell(f"{name}, in memory: {json.dumps(viewer.report().as_dict())}")
        assert viewer.over, f"{name}: {viewer.remarks}"
        assert viewer.report().missing == 0
        if name != "late":
            assert {track: [s.data for s in got] for track, got in viewer.samples.items()} == sent, name
    late = first.viewers["late"].samples
    missed = len(sent["video"]) - len(late["video"])
    assert missed in keyframes(film), "the late viewer begins with a GOP"
    assert 0 < missed < LATE_SECONDS * 30
    for track, got in late.items():
        assert is_tail([sample.data for sample in got], sent[track]), track


@pytest.mark.slow
def test_time_is_virtual_and_the_engines_are_the_shipped_ones(
    first: Run, tell: Callable[[str], None]
) -> None:
    assert first.world.twin.now_us() == END_SECONDS * 1_000_000
    ratio = END_SECONDS / first.wall_seconds
    tell(f"{END_SECONDS} s took {first.wall_seconds:.2f} s: {ratio:.0f} times faster than real time")
    assert isinstance(first.publisher.engine, Publisher)
    assert all(isinstance(viewer.engine, Viewer) for viewer in first.viewers.values())
    assert isinstance(first.world.edges["egress"].agent, Agent)
    latency = first.viewers["webtransport"].report().video_latency_ms
    assert latency.p50 == pytest.approx(5 + 40 + 5, abs=1), "exactly the paths' delays"


@pytest.mark.slow
def test_one_seed_gives_one_trace_and_another_seed_another(film: Path, first: Run) -> None:
    again, other = run(film, seed=1), run(film, seed=2)
    assert again.world.trace_hash() == first.world.trace_hash()
    assert [v.report() for v in again.viewers.values()] == [v.report() for v in first.viewers.values()]
    assert other.world.trace_hash() != first.world.trace_hash()
