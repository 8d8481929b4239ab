"""Four edges that follow a plan from their disks, with no control plane anywhere; a relay dies or is drained.

Processes and sockets on loopback, hops over shaped paths. Every frame is counted.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from edges import Edge, Edges

from farcast.clients.ledger import FrameLedger
from farcast.clients.media.testsrc import TestSource, TestSourceOptions
from farcast.clients.publish import PublishOptions, publish
from farcast.clients.server import Server
from farcast.clients.watch import Watcher, WatchOptions
from farcast.edge.plan_file import PlanFile, prepare_folder
from farcast.proto._core import LinkConfig, UdpShaper
from farcast.proto.control.edge_plan import EdgePlan, PlanStore
from farcast.proto.control.messages import (
    DirectoryEntry,
    Epoch,
    NodeInfo,
    PlanDelta,
    PlanVersion,
    RouteEntry,
)
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.urls import parse_url
from farcast.remote import Trust

NAMESPACE = TrackNamespace.parse("live/test")
FILM_SECONDS = 8.0
FRAMES = int(FILM_SECONDS * 30)
TROUBLE_SECONDS = 4.3
"""After the start of the film; not where a group begins."""
HOP = LinkConfig(delay_us=30_000)
NOBODY = "127.0.0.1:9"
ROUTES = {"e": ("r", "s", "o"), "r": ("o",), "s": ("o",), "o": ()}

BLOCKED_SECONDS = 2.5

GAP_MS_MAX = 500
"""After a failure in mid-tree; noticing it takes 200 ms of these."""


def free_address() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Stage:
    """Origin ``o``, relays ``r`` and ``s``, egress ``e``; each has its plan on disk before it starts."""

    def __init__(self, edges: Edges, folder: Path) -> None:
        self.addresses = {name: free_address() for name in ROUTES}
        self.shapers = {name: UdpShaper("127.0.0.1:0", a, HOP, HOP) for name, a in self.addresses.items()}
        self.edges: dict[str, Edge] = {}
        for name, address in self.addresses.items():
            self._keep_plan(folder / f"state-{name}", name)
            network = ("--control", NOBODY, "--state-dir", str(folder / f"state-{name}"))
            self.edges[name] = edges.start(name, *network, listen=address, hooks=name == "e")
        self.trust = Trust(fingerprints=tuple(bytes.fromhex(e.cert_sha256) for e in self.edges.values()))
        self.ledger = FrameLedger()

    def _keep_plan(self, folder: Path, name: str) -> None:
        plan = PlanDelta(
            version=PlanVersion(epoch=Epoch(cluster="dev", number=1), sequence=1),
            nodes=tuple(
                NodeInfo(node_id=n, region="local", address=shaper.local_addr)
                for n, shaper in self.shapers.items()
            ),
            routes=tuple(
                RouteEntry(origin="o", upstreams=upstreams) for upstreams in (ROUTES[name],) if upstreams
            ),
            directory=(DirectoryEntry(namespace=NAMESPACE.fields, origin="o"),),
        )
        store = PlanStore(name)
        assert isinstance(store.consider(plan), EdgePlan)
        prepare_folder(folder)
        PlanFile(folder).write(store.dump())

    def play(self, trouble: Callable[[], object]) -> Watcher:
        """The film from beginning to end, with trouble on the way."""
        source = TestSource(
            TestSourceOptions(width=320, height=180, gop_s=1.0, duration_s=FILM_SECONDS),
            lambda: time.time_ns() // 1000,
        )
        origin, egress = (Server(parse_url(f"moqt://{self.addresses[n]}/"), self.trust) for n in ("o", "e"))
        watcher = Watcher(WatchOptions(egress, NAMESPACE), note=print, on_frame=self.ledger.received)

        async def main() -> None:
            accepted = trio.Event()

            async def publisher() -> None:
                options = PublishOptions(origin, NAMESPACE)
                await publish(source, options, note=print, on_frame=self.ledger.published, accepted=accepted)

            with trio.fail_after(60):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(publisher)
                    await accepted.wait()
                    nursery.start_soon(watcher.run)
                    await trio.sleep(TROUBLE_SECONDS)
                    trouble()

        trio.run(main)
        return watcher

    def switches(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.edges[name].status()["agent"]["switches"]
        return found

    def close(self) -> None:
        for shaper in self.shapers.values():
            shaper.close()


def check_all_arrived(stage: Stage) -> None:
    ledger = stage.ledger
    counts = (ledger.frames_missing, ledger.frames_repeated, ledger.frames_disordered, ledger.frames_corrupt)
    assert counts == (0, 0, 0, 0), "lost, doubled, out of order, corrupt"
    assert ledger.frames_intact > FRAMES


@pytest.mark.slow
def test_a_killed_relay_is_left_and_every_frame_arrives(
    edges: Edges, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    stage = Stage(edges, tmp_path)
    stage.play(lambda: os.kill(stage.edges["r"].process.pid, signal.SIGKILL))
    switches = stage.switches("e")
    tell(f"gaps: {[switch['gap_us'] // 1000 for switch in switches if switch['gap_us'] is not None]} ms")
    check_all_arrived(stage)
    assert {(switch["cause"], switch["from"], switch["to"]) for switch in switches} == {("silent", "r", "s")}
    assert max(switch["gap_us"] or 0 for switch in switches) <= GAP_MS_MAX * 1_000
    status = stage.edges["e"].status()["control"]
    assert (status["connected"], status["plan_from_disk"]) == (False, True)
    stage.close()


@pytest.mark.slow
def test_a_killed_relay_is_left_while_the_python_of_the_edge_below_is_blocked(
    edges: Edges, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    stage = Stage(edges, tmp_path)
    blocked = threading.Thread(target=stage.edges["e"].block, args=(BLOCKED_SECONDS,))

    def trouble() -> None:
        blocked.start()
        threading.Timer(0.5, lambda: os.kill(stage.edges["r"].process.pid, signal.SIGKILL)).start()

    stage.play(trouble)
    blocked.join()
    switches = stage.switches("e")
    tell(f"gaps: {[switch['gap_us'] // 1000 for switch in switches if switch['gap_us'] is not None]} ms")
    check_all_arrived(stage)
    assert {(switch["cause"], switch["from"], switch["to"]) for switch in switches} == {("silent", "r", "s")}
    assert max(switch["gap_us"] or 0 for switch in switches) <= GAP_MS_MAX * 1_000
    stage.close()


@pytest.mark.slow
def test_a_relay_that_is_told_to_drain_is_left_and_every_frame_arrives(
    edges: Edges, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    stage = Stage(edges, tmp_path)
    relay = stage.edges["r"]
    stage.play(lambda: httpx.post(f"http://{relay.ops}/drain?ms=5000").raise_for_status())
    switches = stage.switches("e")
    tell(f"gaps: {[switch['gap_us'] for switch in switches]} us")
    check_all_arrived(stage)
    assert {(switch["cause"], switch["from"], switch["to"]) for switch in switches} == {("command", "r", "s")}
    assert relay.process.wait(10) == 0, "it has gone by itself"
    stage.close()
