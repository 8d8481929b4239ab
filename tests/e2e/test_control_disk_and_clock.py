"""`farcast control` on a disk that is full, and with a wall clock that is an hour off, while edges go on."""

from __future__ import annotations

import asyncio
import json
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from farcast.control_plane.config import ControlConfig, load_config
from farcast.control_plane.service import ControlService, open_service
from farcast.proto.control import messages as m

from .test_control import SECONDS_MAX, THREE, Cluster, Edge, cluster, play

__all__ = ["cluster"]

FILM = (b"live", b"film")
HOUR_US = 3_600_000_000


async def all_have(edges: list[Edge], directory: dict[tuple[bytes, ...], str]) -> None:
    for edge in edges:
        await edge.until(lambda edge: edge.directory == directory)


def set_file_size_max(pid: int, size: int) -> None:
    """As a full disk: the process can make no file larger."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


def test_a_full_disk_is_one_line_in_the_log_and_plans_go_on_and_it_is_made_up_for(cluster: Cluster) -> None:
    cluster.start()
    assert cluster.process is not None
    pid = cluster.process.pid
    edges = [Edge(cluster, node_id, THREE) for node_id in THREE]
    many = [m.Offer(namespace=(b"live", b"%04d" % n, b"x" * 200)) for n in range(400)]

    async def scenario() -> None:
        for edge in edges:
            await edge.until(lambda edge: edge.store.plan is not None and len(edge.store.plan.nodes) == 3)
        set_file_size_max(pid, 4_096)
        edges[1].report(full=False, offered=tuple(many))
        await edges[0].until(lambda edge: len(edge.directory) == 400)
        edges[2].report(full=False, offered=(m.Offer(namespace=FILM),))
        await edges[0].until(lambda edge: edge.directory.get(FILM) == "sin-1")
        set_file_size_max(pid, resource.RLIM_INFINITY)
        edges[2].report(full=False, withdrawn=(FILM,))
        await edges[0].until(lambda edge: FILM not in edge.directory)

    play(edges, scenario)
    outcome = cluster.stop()
    assert outcome.code == 0
    events = [json.loads(line) for line in outcome.err.splitlines() if line.startswith("{")]
    told = [event for event in events if event["event"] == "state is not saved; serving on from memory"]
    assert len(told) == 1, outcome.err
    assert "control.sqlite3" in told[0]["reason"]
    assert [event["event"] for event in events].count("state is saved again") == 1

    cluster.start()
    newcomer = Edge(cluster, "fra-1", THREE)

    async def after() -> None:
        await newcomer.until(lambda edge: len(edge.directory) == 400)

    play([newcomer], after)
    cluster.stop()


@contextmanager
def served(config: ControlConfig, shift_us: int) -> Iterator[ControlService]:
    """The real service, sockets and disk, in a thread of this process; its wall clock is ``shift_us`` off."""
    loops: list[asyncio.AbstractEventLoop] = []
    service = open_service(config, lambda: time.time_ns() // 1_000 + shift_us)

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        await service.run(ready_json=False)

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    while not service.ready:
        time.sleep(0.01)
    try:
        yield service
    finally:
        loops[0].call_soon_threadsafe(service.stop)
        thread.join(SECONDS_MAX)
        assert not thread.is_alive()


def config_of(cluster: Cluster) -> ControlConfig:
    directory: Path = cluster.directory
    return load_config(
        None,
        {
            "listen": "127.0.0.1:0",
            "api": "127.0.0.1:0",
            "state_dir": str(cluster.state_dir),
            "hop.cert": str(directory / "c1.pem"),
            "hop.key": str(directory / "c1.key"),
            "hop.ca": str(directory / "ca.pem"),
        },
    )


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_is_an_hour_off_after_a_restart_moves_no_namespace(cluster: Cluster, hours: int) -> None:
    """Two edges hold it, the older offer counts; its edge is back first, and the other one later."""
    config = config_of(cluster)
    held: dict[tuple[bytes, ...], str] = {FILM: "sin-1"}
    began = time.monotonic()

    def edges_of(*node_ids: str) -> list[Edge]:
        edges = [Edge(cluster, node_id, THREE) for node_id in node_ids]
        for edge in edges:
            age_us = {"sin-1": 40_000_000, "fra-1": 20_000_000}.get(edge.node_id)
            if age_us is not None:
                age_us += int((time.monotonic() - began) * 1e6)
                edge.offers = (m.Offer(namespace=FILM, age_us=age_us),)
        return edges

    with served(config, 0) as service:
        cluster.ready = {"listen": str(service.listen)}
        edges = edges_of(*THREE)
        play(edges, lambda: all_have(edges, held))
        assert service.controller.directory.holders(FILM) == ("sin-1", "fra-1")

    with served(config, hours * HOUR_US) as service:
        cluster.ready = {"listen": str(service.listen)}
        seen: list[str | None] = []
        first = edges_of("sin-1", "jkt-1")

        async def hold_on() -> None:
            await all_have(first, held)
            for _ in range(10):
                await trio.sleep(0.05)
                seen.append(service.controller.directory.table.get(FILM))

        play(first, hold_on)
        everybody = edges_of(*THREE)
        play(everybody, lambda: all_have(everybody, held))
        assert set(seen) == {"sin-1"}
        assert service.controller.directory.table == held
