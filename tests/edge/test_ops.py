"""The ops listener: health, metrics and status over HTTP, and errors that name the port."""

from __future__ import annotations

import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route

from farcast.edge import ops
from farcast.edge.driver import DriverClosed
from farcast.edge.metrics import render
from farcast.edge.ops import bind_http, certificate_app, ops_app
from farcast.edge.settings import Address
from farcast.errors import UserError

HOP = {
    "chunks_sent": 10, "chunks_repaired": 1, "chunks_received": 20, "chunks_duplicate": 2, "chunks_lost": 1,
    "chunks_given_up": 0, "acks_sent": 3, "acks_received": 4, "heartbeats_sent": 5, "queue_bytes": 6,
    "unacked_bytes": 7, "groups_shed": 0, "datagrams_malformed": 0, "rtt_us": 80_000,
    "rx_packets": 8, "rx_lost": 1, "symbols_sent": 2, "chunks_restored": 1, "repair_bytes": 1_200,
    "media_bytes": 12_000, "repairs_withheld": 0, "rounds_failed": 0, "budget_misses": 0,
}  # fmt: skip
SESSION = {
    "session": 1, "transport": "hop", "remote": "127.0.0.1:9", "rtt_us": 80_000, "rtt_min_us": 79_000,
    "congestion_window_bytes": 1, "rate_bps": 3_000_000, "delivered_bps": 1, "pacing_bps": 3_000_000,
    "queue_delay_us": 7_000, "is_rate_capped": False, "is_rate_competing": False, "congestion": "media",
    "packets_sent": 1, "packets_lost": 0, "bytes_sent": 1, "bytes_received": 1,
    "hop": HOP,
}  # fmt: skip
TOTALS = [
    "udp_datagrams_in", "udp_bytes_in", "udp_datagrams_out", "udp_bytes_out", "objects_in", "object_bytes_in",
    "objects_out", "object_bytes_out", "duplicate_bytes_in",
    "second_path_bytes_in", "second_path_new_bytes_in", "groups_dropped_slow", "groups_dropped_evicted",
    "layers_dropped", "layer_switches_down", "layer_switches_up",
    "streams_rejected", "datagrams_dropped", "protocol_errors", "handshakes_refused", "stalls", "commands",
    "events",
]  # fmt: skip


def snapshot() -> Any:
    return {
        "now_us": 1,
        "totals": {name: number for number, name in enumerate(TOTALS)},
        "sessions": [SESSION, {**SESSION, "session": 2, "transport": "quic", "hop": None}],
        "downstreams": [
            {
                "downstream": 1,
                "session": 2,
                "objects": 1,
                "bytes": 1,
                "groups_dropped": 0,
                "layers_given_up": 1,
                "queue_bytes": 9,
            }
        ],
        "tracks": 3,
        "tracks_on_two_paths": 1,
        "cache_bytes": 4,
    }


class Reporter:
    """An edge that answers, or that is stuck."""

    def __init__(self, *, ready: bool = True, stuck: bool = False) -> None:
        self.ready = ready
        self.stuck = stuck
        self.blocked: list[float] = []
        self.drains: list[int | None] = []

    def order_drain(self, drain_ms: int | None) -> bool:
        self.drains.append(drain_ms)
        return len(self.drains) == 1

    async def metrics(self) -> bytes:
        if self.stuck:
            await trio.sleep_forever()
        return render(snapshot(), ready=self.ready, hop_peers={1: "fra-1"}, counters={}, membership=None)

    async def status(self) -> dict[str, Any]:
        return {"ready": self.ready}

    def block(self, seconds: float) -> None:
        self.blocked.append(seconds)


def serve(app: Any, scenario: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
    async def main() -> None:
        listener = bind_http(Address("127.0.0.1", 0), "--ops")
        url = f"http://{listener.address}"
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(listener.serve, app)
                async with httpx.AsyncClient(base_url=url) as client:
                    await scenario(client)
                nursery.cancel_scope.cancel()

    trio.run(main)


def test_livez_is_always_ok_and_readyz_follows_the_edge() -> None:
    reporter = Reporter()

    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        reporter.ready = False
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503

    serve(ops_app(reporter), scenario)


def test_metrics_and_status_are_served() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get("/metrics")
        assert answer.headers["content-type"] == ops.METRICS_TYPE
        assert 'farcast_hop_chunks_repaired_total{peer="fra-1"} 1.0' in answer.text
        assert (await client.get("/status.json")).json() == {"ready": True}

    serve(ops_app(Reporter()), scenario)


def test_a_datapath_that_does_not_answer_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops, "ANSWER_SECONDS_MAX", 0.01)

    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get("/metrics")
        assert (answer.status_code, answer.text) == (503, "the datapath does not answer\n")

    serve(ops_app(Reporter(stuck=True)), scenario)


def test_an_edge_that_ends_meanwhile_is_a_503() -> None:
    reporter = Reporter()

    async def ended() -> dict[str, Any]:
        raise DriverClosed

    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.get("/status.json")).status_code == 503

    reporter.status = ended  # type: ignore[method-assign]
    serve(ops_app(reporter), scenario)


def test_the_blocking_hook_exists_only_where_it_is_asked_for() -> None:
    reporter = Reporter()

    async def without(client: httpx.AsyncClient) -> None:
        assert (await client.post("/test/block?seconds=5")).status_code == 404

    async def with_hook(client: httpx.AsyncClient) -> None:
        assert (await client.post("/test/block?seconds=5")).status_code == 200

    serve(ops_app(reporter), without)
    serve(ops_app(reporter, test_hooks=True), with_hook)
    assert reporter.blocked == [5.0]


def test_every_endpoint_of_an_edge_is_asked_by_a_test_of_this_file() -> None:
    apps = (ops_app(Reporter(), test_hooks=True), certificate_app(bytes(32)))
    served = {route.path for app in apps for route in app.routes if isinstance(route, Route)}
    asked = re.findall(r"""client\.(?:get|post)\(f?"(/[a-z0-9/.]+)""", Path(__file__).read_text())
    assert served == set(asked)


def test_an_operator_drains_the_edge_and_a_web_page_does_not() -> None:
    reporter = Reporter()

    async def scenario(client: httpx.AsyncClient) -> None:
        assert (await client.get("/drain")).status_code == 405
        page = await client.post("/drain", headers={"Origin": "https://evil.example"})
        assert page.status_code == 403
        for bad in ("x", "-1", "1e3", "99999999999"):
            answer = await client.post(f"/drain?ms={bad}")
            assert (answer.status_code, answer.text.partition(":")[0]) == (400, "ms")
        assert reporter.drains == []
        answers = [await client.post(path) for path in ("/drain?ms=500", "/drain")]
        assert [(a.status_code, a.text) for a in answers] == [
            (202, "draining\n"),
            (202, "draining already\n"),
        ]

    serve(ops_app(reporter), scenario)
    assert reporter.drains == [500, None]


def test_switches_are_counted_by_cause() -> None:
    counters = {"upstream_switches_silent": 3, "upstream_gap_us": 250_000}
    text = render(snapshot(), ready=True, hop_peers={}, counters=counters, membership=None).decode()
    assert 'farcast_upstream_switches_total{cause="silent"} 3.0' in text
    assert 'farcast_upstream_switches_total{cause="loss"} 0.0' in text
    assert "farcast_upstream_gap_seconds_total 0.25" in text
    assert "farcast_control_connected" not in text, "this edge is in no network"


def test_certificate_hash_is_hex_and_open_to_every_origin() -> None:
    async def scenario(client: httpx.AsyncClient) -> None:
        answer = await client.get("/certificate.sha256")
        assert answer.text == "ab" * 32
        assert answer.headers["access-control-allow-origin"] == "*"

    serve(certificate_app(b"\xab" * 32), scenario)


def test_a_busy_port_is_one_line_with_the_flag_that_changes_it() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        address = Address("127.0.0.1", busy.getsockname()[1])
        with pytest.raises(
            UserError, match=f"cannot listen on TCP {address}: it is in use.* --ops"
        ) as caught:
            bind_http(address, "--ops")
    assert caught.value.exit_code == 1
    assert "\n" not in caught.value.message


def test_metric_names_have_the_prefix_a_base_unit_and_help() -> None:
    text = render(snapshot(), ready=True, hop_peers={}, counters={}, membership=None).decode()
    families = list(text_string_to_metric_families(text))
    assert len(families) > 20
    for family in families:
        assert family.name.startswith("farcast_")
        assert family.documentation.endswith(".")
        assert not family.name.endswith(("_ms", "_us", "_kb", "_percent"))


def test_sessions_are_counted_by_transport() -> None:
    text = render(snapshot(), ready=False, hop_peers={}, counters={}, membership=None).decode()
    assert 'farcast_sessions{transport="quic"} 1.0' in text
    assert 'farcast_sessions{transport="webtransport"} 0.0' in text
    assert "farcast_ready 0.0" in text
    assert 'farcast_hop_rtt_seconds{peer="127.0.0.1:9"} 0.08' in text


def test_rates_and_queues_of_public_sessions_are_told_as_distributions() -> None:
    text = render(snapshot(), ready=True, hop_peers={}, counters={}, membership=None).decode()
    for name in ("rate_bytes_per_second", "pacing_bytes_per_second", "queue_delay_seconds"):
        assert f'farcast_session_{name}_bucket{{le="+Inf"}} 1.0' in text, "hops do not count"
    assert 'farcast_session_queue_delay_seconds_bucket{le="0.005"} 0.0' in text
    assert 'farcast_sessions_rate_limited{cause="competing"} 0.0' in text
