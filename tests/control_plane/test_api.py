"""The HTTP API: who may ask, and what is answered."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from control_api import served
from control_world import World

from farcast.control_plane.api_limits import LimitsConfig, Rate

GENEROUS = LimitsConfig(Rate(1e6, 10_000), Rate(1e6, 10_000), Rate(1e6, 10_000))
SIX = ("dxb-1", "fra-1", "iad-1", "jkt-1", "lon-1", "sin-1")


@pytest.fixture(scope="module")
def world() -> World:
    world = World(SIX, lambda a, b: 30.0 if "sin-1" in (a, b) else 200.0).run(8)
    world.offer("jkt-1", "live/film")
    return world.run(1)


@pytest.fixture(scope="module")
def client(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    state_dir = tmp_path_factory.mktemp("state")
    with served(world, state_dir, limits=GENEROUS) as address:
        token = (state_dir / "api.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"http://{address}", headers=headers, trust_env=False) as client:
            yield client


@pytest.mark.parametrize("path", ["/status", "/nodes", "/links", "/routes", "/why", "/plan", "/metrics"])
@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", "Basic abc"])
def test_nobody_reads_without_the_token(client: httpx.Client, path: str, authorization: str) -> None:
    answer = client.get(path, headers={"Authorization": authorization})
    assert answer.status_code == 401
    assert "api.token" in answer.json()["error"]


def test_liveness_and_readiness_are_open(client: httpx.Client) -> None:
    for path in ("/livez", "/readyz"):
        assert client.get(path, headers={"Authorization": ""}).status_code == 200


def test_the_token_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    from farcast.control_plane.api_tokens import load_token

    token = load_token(tmp_path)
    assert len(token) >= 40
    assert load_token(tmp_path) == token
    assert (tmp_path / "api.token").stat().st_mode & 0o777 == 0o600


def test_status_says_who_is_there_and_who_is_behind(client: httpx.Client, world: World) -> None:
    status = client.get("/status").json()
    assert (status["cluster"], status["epoch"], status["connected"]) == ("shows", 1, 6)
    assert status["behind"] == []
    assert [edge["node_id"] for edge in status["edges"]] == list(SIX)
    assert {edge["state"] for edge in status["edges"]} == {"connected"}
    assert status["sequence"] == world.controller.pushes.sequence
    assert status["namespaces"] == 1


def test_routes_name_the_branch_and_its_backups(client: httpx.Client) -> None:
    routes = client.get("/routes", params={"origin": "jkt-1"}).json()["routes"]
    assert {route["node_id"] for route in routes} == set(SIX) - {"jkt-1"}
    for route in routes:
        assert route["path"][0] == "jkt-1"
        assert route["path"][-1] == route["node_id"]
        assert route["delay_p99_ms"] > 0
        assert route["node_id"] not in route["backups"]


def test_links_are_told_by_direction(client: httpx.Client) -> None:
    links = client.get("/links").json()["links"]
    assert len(links) == 30
    one = next(link for link in links if (link["src"], link["dst"]) == ("sin-1", "fra-1"))
    assert one["rtt_ms"] == pytest.approx(30, rel=0.05)
    assert one["usable"]


def test_why_tells_candidates_term_by_term(client: httpx.Client) -> None:
    why = client.get("/why", params={"src": "jkt-1", "dst": "fra-1"}).json()
    assert why["summary"]
    assert why["in_force"][0] == "jkt-1"
    assert sum(candidate["chosen"] for candidate in why["candidates"]) == 1
    assert {"cost_ms", "propagation_ms", "repair_ms", "loss", "why_not"} <= why["candidates"][0].keys()


@pytest.mark.parametrize(
    ("params", "code", "text"),
    [
        ({}, 400, "src: query missing required field `src`"),
        ({"src": "jkt-1"}, 400, "dst: query missing required field `dst`"),
        ({"src": "jkt-1", "dst": "fra-1", "via": "sin-1"}, 400, "via: query contains unknown field `via`"),
        ({"src": "jkt-1", "dst": "nowhere-1"}, 404, "no edge 'nowhere-1'; known are dxb-1"),
        ({"src": "jkt-1", "dst": "jkt-1"}, 404, "name two edges"),
    ],
)
def test_why_not_knows_what_would_be_right(
    client: httpx.Client, params: dict[str, str], code: int, text: str
) -> None:
    answer = client.get("/why", params=params)
    assert answer.status_code == code
    assert text in answer.json()["error"]


def test_the_plan_names_parents_namespaces_and_who_has_it(client: httpx.Client, world: World) -> None:
    plan = client.get("/plan").json()
    assert plan["directory"] == [{"namespace": "live/film", "origin": "jkt-1", "holders": ["jkt-1"]}]
    assert plan["trees"]["jkt-1"]["fra-1"]["parent"] == world.parents("jkt-1")["fra-1"]
    assert set(plan["acked"]) == set(SIX)


def test_metrics_are_prometheus_text(client: httpx.Client) -> None:
    text = client.get("/metrics").text
    assert 'farcast_control_edges{state="connected"} 6.0' in text
    assert 'farcast_control_events_total{kind="joins"} 6.0' in text
    assert "farcast_control_behind 0.0" in text


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"no json", 400),
        (b"[]", 400),
        (b"{}", 400),
        (b'{"node_id": 7}', 400),
        (b'{"node_id": "sin-1", "drain_ms": "5"}', 400),
        (b'{"node_id": "sin-1", "drain_ms": -5}', 400),
        (b'{"node_id": "nobody-1"}', 404),
        (b'{"node_id": "sin-1", "undo": true}', 409),
        (b"[" * 4_000, 400),
        (b" " * 70_000, 413),
    ],
)
def test_orders_that_make_no_sense_change_nothing(client: httpx.Client, body: bytes, code: int) -> None:
    answer = client.post("/drain", content=body)
    assert answer.status_code == code
    assert answer.json()["error"]
    assert not any(edge["draining"] for edge in client.get("/nodes").json()["nodes"])


def test_a_drain_is_ordered_and_taken_back(client: httpx.Client) -> None:
    assert client.post("/drain", json={"node_id": "lon-1", "drain_ms": 5_000}).json()["draining"]
    nodes = {edge["node_id"]: edge for edge in client.get("/nodes").json()["nodes"]}
    assert nodes["lon-1"]["draining"]
    assert not client.post("/drain", json={"node_id": "lon-1", "undo": True}).json()["draining"]
    nodes = {edge["node_id"]: edge for edge in client.get("/nodes").json()["nodes"]}
    assert not nodes["lon-1"]["draining"]
