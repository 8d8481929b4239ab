"""A whole run: edges with the real control plane, a show, viewers; what it hands back, and that it is the
same again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from tests.simulations.small_world import SECOND, small_scenario, small_spec

from farcast.simulations.events import ControlStop, Crash, Cut, LossFault
from farcast.simulations.packet_run import TRACE_ALL, PacketRun
from farcast.simulations.raw import RawResult

LINKS = (("fra", "jkt"),)
TROUBLE = (
    LossFault(at_us=SECOND, links=LINKS, loss=0.1, burst=3.0, for_us=2 * SECOND),
    ControlStop(at_us=SECOND, for_us=2 * SECOND),
    Cut(at_us=2 * SECOND, links=LINKS, for_us=2 * SECOND),
    Crash(at_us=3 * SECOND, node="dxb-1", for_us=SECOND),
)


@lru_cache(maxsize=1)
def quiet() -> RawResult:
    """Six seconds without any fault."""
    return PacketRun(small_spec(), small_scenario(6.0), 1, traced=(TRACE_ALL,)).run()


def troubled(seed: int = 1) -> RawResult:
    return PacketRun(small_spec(), small_scenario(6.0, TROUBLE), seed).run()


def test_every_viewer_gets_every_object_from_its_first_one_on_once_and_in_order() -> None:
    result = quiet()
    assert result.violations == ()
    viewers = [client for client in result.clients if client.kind == "viewer"]
    assert len(viewers) == 4
    for client in viewers:
        assert client.errors == ()
        for track in (watched.track for watched in client.watched):
            mine = client.arrivals[client.arrivals["track"] == track]
            assert len(mine) > 50
            numbers = np.sort(mine["capture_us"])
            steps = np.diff(numbers)
            assert set(steps.tolist()) == {result.tracks[track].frame_us}
            assert mine["at_us"].min() >= client.tapped_us
            assert (mine["at_us"] > mine["capture_us"]).all()


def test_a_cold_start_has_its_steps_in_order() -> None:
    for client in quiet().clients:
        if client.kind == "viewer":
            steps = [client.tapped_us, client.connected_us, client.catalog_us, client.first_object_us]
            assert None not in steps
            assert steps == sorted(steps)  # type: ignore[type-var]


def test_arrivals_and_frames_name_the_same_objects_and_sizes() -> None:
    result = quiet()
    sizes = {
        (row["track"], row["group"], row["object"]): (row["bytes"], row["capture_us"])
        for row in result.frames
    }
    for client in result.clients:
        for row in client.arrivals:
            assert sizes[row["track"], row["group"], row["object"]] == (row["bytes"], row["capture_us"])


def test_a_rendition_that_was_just_asked_for_is_not_missed_yet() -> None:
    spec = small_spec()
    choosing = tuple(replace(c, adapts=c.kind == "viewer" and c.stack == "farcast") for c in spec.clients)
    run = PacketRun(replace(spec, clients=choosing), small_scenario(6.0), 1)
    run.run()
    viewer = next(v for name, v in run.network.viewers.items() if run.network.clients[name].adapts)
    newest = max(viewer.watched(), key=lambda watched: watched.at_us)
    assert newest.track in viewer.wanted_since(newest.at_us)
    assert newest.track not in viewer.wanted_since(newest.at_us - 1)


def test_a_viewer_takes_sound_and_one_picture_that_fits_its_access() -> None:
    for client in quiet().clients:
        names = sorted(quiet().tracks[watched.track].name for watched in client.watched)
        assert names == (["audio", "video-720p"] if client.kind == "viewer" else [])
    spec = small_spec(viewers=("fra",))
    slow = replace(spec, clients=(spec.clients[0], replace(spec.clients[1], access_rate_bps=1_500_000)))
    result = PacketRun(slow, small_scenario(2.0), 1).run()
    names = sorted(result.tracks[watched.track].name for watched in result.clients[1].watched)
    assert names == ["audio", "video-360p"]


def test_an_object_can_be_followed_over_its_hops() -> None:
    result = quiet()
    rows = result.object_hops
    one = rows[(rows["track"] == 0) & (rows["group"] == 4) & (rows["object"] == 3)]
    at = {result.hosts[row["host"]]: row["last_us"] for row in one}
    assert at["host"] < at["jkt-1"] < at["fra-1"] < at["viewer-0"]
    assert (one["first_us"] <= one["last_us"]).all()
    (arrival,) = (
        row for row in result.clients[1].arrivals if (row["track"], row["group"], row["object"]) == (0, 4, 3)
    )
    assert arrival["at_us"] == at["viewer-0"]


def test_links_and_hops_are_accounted_for() -> None:
    result = quiet()
    hops = {(use.src, use.dst): use for use in result.links if use.kind == "hop"}
    assert hops["jkt-1", "fra-1"].bytes > 1_000_000
    assert sum(use.chunks_sent for use in result.hops) > 1_000
    assert any(use.kind == "access" and use.src == "host" and use.bytes > 1_000_000 for use in result.links)


def test_one_seed_gives_one_trace_with_loss_faults_and_the_control_plane_in_it() -> None:
    first, second = troubled(), troubled()
    assert first.trace_hash == second.trace_hash
    assert first.notes == second.notes
    assert [len(c.arrivals) for c in first.clients] == [len(c.arrivals) for c in second.clients]
    assert first.route_changes
    assert first.trace_hash != troubled(seed=2).trace_hash


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_trace_does_not_depend_on_the_process(hash_seed: str) -> None:
    """Sets of strings come in another order in every process; nothing may hang on that."""
    program = "from tests.simulations.test_packet_run import troubled\nprint(troubled().trace_hash)\n"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == troubled().trace_hash


def test_clients_that_come_late_or_leave_early_have_their_times() -> None:
    spec = small_spec(viewers=("fra", "dxb"))
    host, early, late = spec.clients
    spec = replace(
        spec,
        clients=(host, replace(early, leaves_us=2 * SECOND), replace(late, joins_us=3 * SECOND)),
    )
    result = PacketRun(spec, small_scenario(5.0), 1).run()
    _, early_trace, late_trace = result.clients
    assert early_trace.left_us == result.began_us + 2 * SECOND
    assert early_trace.arrivals["at_us"].max() <= early_trace.left_us
    assert late_trace.tapped_us == result.began_us + 3 * SECOND
    assert late_trace.first_object_us is not None


def test_a_run_says_how_far_it_is() -> None:
    shares: list[float] = []
    PacketRun(small_spec(viewers=()), small_scenario(1.0), 1).run(shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_several_publishers_in_a_room_are_all_watched() -> None:
    spec = small_spec(viewers=("fra",))
    host = spec.clients[0]
    other = replace(host, name="guest", access_up=host.access_up, reaches=host.reaches[::-1])
    result = PacketRun(replace(spec, clients=(*spec.clients, other)), small_scenario(4.0), 1).run()
    viewer = next(client for client in result.clients if client.kind == "viewer")
    seen = Counter(result.tracks[row["track"]].publisher for row in viewer.arrivals)
    assert set(seen) == {"host", "guest"}
    assert result.violations == ()
