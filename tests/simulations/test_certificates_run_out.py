"""F22: certificates run out while nobody is there to issue others.

What stands goes on, because nothing asks a certificate again. An edge that starts with one that has run out
is let in by no other edge: its viewers are served elsewhere, and nobody else notices.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from tests.simulations.small_world import small_scenario, small_spec

from farcast.certificates import HopAuthority
from farcast.proto._core import ClientTls
from farcast.proto.agent import PlanHops
from farcast.simulations.network import CLUSTER, ISSUED, VALID_DAYS, Network
from farcast.simulations.packet_run import PacketRun
from farcast.simulations.raw import ClientTrace, RawResult

RUN_OUT = datetime(2025, 1, 1, tzinfo=UTC)
RESTART_US = 4_000_000


def with_certificate_of(network: Network, node_id: str, issued: datetime, days: int) -> None:
    """The edge's next process finds this certificate in its folder."""
    seed = b"farcast simulator: hop authority"
    edge = network.edges[node_id]
    identity = HopAuthority(issued, seed, CLUSTER, days).issue(edge.config.region, node_id)
    roots = [HopAuthority(ISSUED, seed, CLUSTER, VALID_DAYS).certificate]
    hops = PlanHops(ClientTls(roots=roots, chain=identity.chain, key=identity.key))
    edge.config = replace(edge.config, datapath=network._edge_datapath(identity), plan_hops=hops)


def run_with(issued: datetime, days: int) -> RawResult:
    run = PacketRun(small_spec(), small_scenario(14.0), 1)
    network = run.network

    def go_on(now_us: int) -> None:
        network.restart_edge("dxb-1", now_us)

    def stop(now_us: int) -> None:
        if now_us < run.began_us + RESTART_US:
            network.twin.at(run.began_us + RESTART_US, stop, ())
            return
        network.edges["dxb-1"].crash(now_us)
        network.twin.world.stop_host(network.edges["dxb-1"].host)
        with_certificate_of(network, "dxb-1", issued, days)
        network.twin.at(now_us + 200_000, go_on, ())

    network.twin.at(9_000_000, stop, ())
    return run.run()


def longest_gap_ms(client: ClientTrace) -> float:
    times = np.unique(client.arrivals["at_us"])
    return float(np.diff(times).max()) / 1e3


def hops_of(raw: RawResult, edge: str) -> int:
    """Bytes that came to an edge over hops, in all its lives."""
    return sum(use.rx_bytes for use in raw.hops if use.edge == edge)


def test_an_edge_whose_certificate_has_run_out_hurts_nobody_and_its_viewers_are_served_elsewhere() -> None:
    raw = run_with(RUN_OUT, 30)

    assert not raw.violations
    viewers = {client.client: client for client in raw.clients if client.kind == "viewer"}
    moved = viewers.pop("viewer-2")
    assert [move.before for move in moved.moves][:1] == ["dxb-1"]
    assert moved.edges[-1][1] != "dxb-1"
    assert moved.arrivals["at_us"].max() > raw.ended_us - 500_000, "served to the end"
    for client in viewers.values():
        assert not client.moves
        assert longest_gap_ms(client) < 183, client.client


def test_with_a_certificate_that_holds_the_edge_is_one_of_the_mesh_again() -> None:
    """What tells the test above apart from one in which an edge that starts again is never let in."""
    good, bad = run_with(ISSUED, VALID_DAYS), run_with(RUN_OUT, 30)

    assert hops_of(good, "dxb-1") > hops_of(bad, "dxb-1")
