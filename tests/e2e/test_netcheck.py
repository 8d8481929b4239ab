"""``farcast netcheck`` and ``farcast bench`` as users type them, against edges that run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from edges import Edges

from farcast.cli.cluster import ClusterOptions, Place, open_cluster
from farcast.clients.netcheck import EdgeCheck, choose, clock_offset_ms
from farcast.proto._core import LinkConfig

FARCAST = str(Path(sys.executable).parent / "farcast")
SECONDS_MAX = 90


def run(*tokens: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([FARCAST, *tokens], capture_output=True, text=True, timeout=SECONDS_MAX)


def figures(*tokens: str, code: int = 0) -> dict[str, Any]:
    done = run(*tokens, "--json")
    assert done.returncode == code, done.stderr
    (line,) = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_both_transports_and_a_new_port_are_tried(edges: Edges) -> None:
    edge = edges.start("local-1")
    found = figures("netcheck", f"moqt://{edge.listen}", "--cert-sha256", edge.cert_sha256)
    assert found["udp"] == "open"
    assert found["verdict"] == "it works"
    assert [(s["transport"], s["connected"]) for s in found["handshakes"]] == [
        ("quic", True),
        ("webtransport", True),
    ]
    assert found["rebinding_survived"] is True
    (only,) = found["edges"]
    assert only["loss"] < 1
    assert only["udp_payload_bytes_max"] >= 1_472
    assert found["chosen"] == only["node_id"]
    assert abs(found["clock_offset_ms"]) <= found["clock_offset_error_ms"] + 1
    assert found["clock_offset_error_ms"] < 2_000


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b"{}", b'{"unix_us": "1"}', b'{"unix_us": 1e9}', b'{"unix_us": true}', b"[" * 5_000],
)
def test_an_answer_that_is_no_time_is_none(payload: bytes) -> None:
    assert clock_offset_ms(10, 20, payload) is None


def test_the_offset_is_that_of_halfway_between_question_and_answer() -> None:
    assert clock_offset_ms(1_000_000, 1_200_000, b'{"unix_us": 600000}') == (500.0, 150.0)
    assert clock_offset_ms(1_000_000, 1_200_000, b'{"unix_us": 2100000}') == (-1_000.0, 150.0)


def test_a_certificate_that_is_not_trusted_is_not_taken_for_a_blocked_port(edges: Edges) -> None:
    edge = edges.start("local-1")
    found = figures("netcheck", f"moqt://{edge.listen}", "--cert-sha256", "00" * 32, code=1)
    assert found["udp"] == "open"
    assert "the certificate is not trusted" in found["verdict"]
    assert {shake["cause"] for shake in found["handshakes"]} == {"certificate"}
    assert found["rebinding_survived"] is None


def test_a_port_on_which_nothing_listens_is_told_so() -> None:
    found = figures("netcheck", "moqt://127.0.0.1:9", "--insecure", "--probes", "2", code=1)
    assert found["udp"] == "refused"
    assert "nothing listens" in found["verdict"]
    assert found["chosen"] is None


def test_a_token_is_never_printed(edges: Edges) -> None:
    edge = edges.start("local-1")
    url = f"https://{edge.listen}/?token=hush-hush"
    done = run("netcheck", url, "--cert-sha256", edge.cert_sha256, "--token", "very-secret", "--probes", "1")
    assert "hush-hush" not in done.stdout + done.stderr
    assert "very-secret" not in done.stdout + done.stderr


def test_wrong_usage_is_told_apart() -> None:
    assert run("netcheck", "127.0.0.1:9").returncode == 2
    assert run("netcheck", "moqt://127.0.0.1:9", "--probes", "101").returncode == 2
    assert run("bench", "moqt://127.0.0.1:9", "--viewers", "33").returncode == 2
    assert run("bench", "moqt://127.0.0.1:9", "--seconds", "0").returncode == 2


@pytest.mark.slow
def test_every_edge_of_the_list_is_measured(tmp_path: Path) -> None:
    places = [Place("sin-1", "sin"), Place("fra-1", "fra")]
    link = LinkConfig(delay_us=5_000)
    links = {("sin-1", "fra-1"): link, ("fra-1", "sin-1"): link}

    async def use() -> dict[str, Any]:
        async with open_cluster(places, links, tmp_path, ClusterOptions()) as cluster:
            tokens = ("netcheck", f"moqt://{cluster.listen('sin-1')}", "--insecure")
            for _ in range(20):
                found = await trio.to_thread.run_sync(lambda: figures(*tokens))
                if len(found["edges"]) == 2:
                    return found
        raise AssertionError(f"the list never had both edges: {found['edge_list']}")

    found = trio.run(use)
    assert {edge["node_id"] for edge in found["edges"]} == {"sin-1", "fra-1"}
    assert all(edge["udp"] == "open" for edge in found["edges"])
    assert found["chosen"] in ("sin-1", "fra-1")


@pytest.mark.slow
def test_bench_shows_latency_and_loss_of_every_viewer(edges: Edges) -> None:
    edge = edges.start("local-1")
    url = f"moqt://{edge.listen}"
    found = figures("bench", url, "--cert-sha256", edge.cert_sha256, "--seconds", "3", "--viewers", "2")
    assert (found["viewers"], found["viewers_served"]) == (2, 2)
    assert found["frames"] > 100
    assert found["loss"] < 0.05
    assert 0 < found["latency_p50_ms"] <= found["latency_p99_ms"]
    assert len(found["seats"]) == 2


def test_bench_where_nobody_listens_fails_in_one_line() -> None:
    done = run("bench", "moqt://127.0.0.1:9", "--insecure", "--seconds", "1")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "127.0.0.1:9" in done.stderr


def edge_check(node_id: str, rtt_ms: float | None, loss: float = 0.0, draining: bool = False) -> EdgeCheck:
    udp = "open" if rtt_ms is not None else "silent"
    return EdgeCheck(node_id, "r", f"{node_id}:1", udp, draining, rtt_ms, loss=loss)  # type: ignore[arg-type]


def test_the_nearest_edge_that_serves_and_does_not_lose_is_chosen() -> None:
    near_lossy, near_draining = edge_check("a", 5.0, loss=0.2), edge_check("b", 6.0, draining=True)
    good, far, dead = edge_check("c", 20.0), edge_check("d", 90.0), edge_check("e", None, loss=1.0)
    chosen, why = choose([far, near_lossy, dead, near_draining, good])
    assert chosen == "c"
    assert "next is d" in why
    assert "passed over for loss: a" in why
    assert "draining: b" in why


def test_where_all_lose_the_least_loss_is_chosen() -> None:
    chosen, why = choose([edge_check("a", 5.0, loss=0.4), edge_check("b", 50.0, loss=0.1)])
    assert (chosen, why.split(",")[0]) == ("b", "least loss")


def test_of_edges_that_do_not_answer_none_is_chosen() -> None:
    assert choose([edge_check("a", None, loss=1.0)]) == (None, "no edge answers")
