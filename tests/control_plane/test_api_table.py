"""Every endpoint of the HTTP API: its answers are what its description says, and bad requests are told
apart."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from control_api import WorldService, served
from control_world import Edge, World
from openapi_spec_validator import validate

from farcast.control_plane.api import api_table, open_access
from farcast.control_plane.api_limits import LimitsConfig, Rate
from farcast.control_plane.api_table import BODY_BYTES_MAX, Endpoint
from farcast.control_plane.api_tokens import Scope
from farcast.proto.joining.tokens import PREFIX

NAMES = ("fra-1", "jkt-1", "lon-1", "sin-1")
GENEROUS = LimitsConfig(*[Rate(1e6, 10_000)] * 3)
JWK = {"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}

Case = tuple[str, str, Any, int]
"""Method, path with its query, body, status."""

GOOD: tuple[Case, ...] = (
    ("GET", "/livez", None, 200),
    ("GET", "/readyz", None, 200),
    ("GET", "/openapi.json", None, 200),
    ("GET", "/metrics", None, 200),
    ("POST", "/drain", {"node_id": "lon-1", "drain_ms": 60_000}, 200),
    ("GET", "/drains", None, 200),
    ("POST", "/drain", {"node_id": "lon-1", "undo": True}, 200),
    ("POST", "/pins", {"way": ["jkt-1", "lon-1", "fra-1"], "valid_s": 600, "namespace": "live/film"}, 200),
    ("POST", "/kept-out", {"node_id": "sin-1", "valid_s": None}, 200),
    ("POST", "/overrides", {"src": "jkt-1", "price_per_gb": 0.08}, 200),
    ("POST", "/overrides", {"src": "jkt-1", "dst": "lon-1", "capacity_bps": 5_000_000}, 200),
    ("GET", "/pins", None, 200),
    ("GET", "/kept-out", None, 200),
    ("GET", "/overrides", None, 200),
    ("POST", "/access", {"trust": {**JWK, "issuer": "shop", "quotas": {"viewers_max": 90}}}, 200),
    ("POST", "/access", {"revoke_token": "t1"}, 200),
    ("GET", "/access", None, 200),
    ("POST", "/join-tokens", {"region": "fra", "valid_s": 60, "control": ["192.0.2.1:4440"]}, 200),
    ("POST", "/trust", {"revoke_node": "gone-1"}, 200),
    ("POST", "/trust", {"revoke_serial": "0AF3"}, 200),
    ("GET", "/v1/usage", None, 200),
    ("GET", "/v1/usage?key_id=k1&days=31", None, 200),
    ("GET", "/v1/quotas", None, 200),
    ("GET", "/v1/quotas?key_id=k1", None, 200),
    ("GET", "/trust", None, 200),
    ("POST", "/api-tokens", {"name": "grafana", "scopes": ["read"], "valid_s": None}, 200),
    ("GET", "/api-tokens", None, 200),
    ("GET", "/status", None, 200),
    ("GET", "/nodes", None, 200),
    ("GET", "/links", None, 200),
    ("GET", "/links/history", None, 200),
    ("GET", "/links/history?src=jkt-1&dst=fra-1", None, 200),
    ("GET", "/routes", None, 200),
    ("GET", "/routes?origin=jkt-1", None, 200),
    ("GET", "/why?src=jkt-1&dst=fra-1", None, 200),
    ("GET", "/plan", None, 200),
    ("GET", "/plan/versions", None, 200),
    ("GET", "/edge-list", None, 200),
    ("GET", "/audit?limit=5", None, 200),
    ("DELETE", "/pins/jkt-1/fra-1", None, 200),
    ("DELETE", "/kept-out/sin-1", None, 200),
    ("DELETE", "/overrides/jkt-1?figure=price", None, 200),
    ("DELETE", "/overrides/jkt-1?dst=lon-1", None, 200),
    ("DELETE", "/api-tokens/grafana", None, 200),
    ("POST", "/remove", {"node_id": "sin-1"}, 200),
)

BAD: tuple[tuple[str, str, Any, int, str], ...] = (
    ("GET", "/routes?origin=mars-1", None, 404, ""),
    ("GET", "/routes?from=jkt-1", None, 400, "from"),
    ("GET", "/why?src=jkt-1", None, 400, "dst"),
    ("GET", "/why?src=jkt-1&dst=mars-1", None, 404, ""),
    ("GET", "/links/history?via=sin-1", None, 400, "via"),
    ("GET", "/audit?limit=0", None, 400, "limit"),
    ("GET", "/audit?limit=many", None, 400, "limit"),
    ("GET", "/audit?limit=5&before=-1", None, 400, "before"),
    ("GET", "/v1/usage?key_id=k9", None, 404, ""),
    ("GET", "/v1/quotas?key_id=k9", None, 404, ""),
    ("GET", "/v1/quotas?key=k1", None, 400, "key"),
    ("GET", "/v1/usage?days=401", None, 400, "days"),
    ("GET", "/v1/usage?day=1", None, 400, "day"),
    ("GET", "/nowhere", None, 404, ""),
    ("PUT", "/status", None, 405, ""),
    ("POST", "/drain", {}, 400, "node_id"),
    ("POST", "/drain", {"node_id": "Sin_1"}, 400, "node_id"),
    ("POST", "/drain", {"node_id": "sin-1", "drain_ms": 1.5}, 400, "drain_ms"),
    ("POST", "/drain", {"node_id": "sin-1", "when": "now"}, 400, "when"),
    ("POST", "/drain", {"node_id": "mars-1"}, 404, ""),
    ("POST", "/drain", {"node_id": "sin-1", "undo": True}, 409, ""),
    ("POST", "/pins", {"way": ["jkt-1"]}, 400, "way"),
    ("POST", "/pins", {"way": ["jkt-1", "a", "b", "c", "fra-1"]}, 400, "way"),
    ("POST", "/pins", {"way": ["jkt-1", 7]}, 400, "way[1]"),
    ("POST", "/pins", {"way": ["jkt-1", "fra-1"], "valid_s": 0}, 400, "valid_s"),
    ("POST", "/pins", {"way": ["jkt-1", "mars-1"]}, 404, ""),
    ("POST", "/pins", {"way": ["jkt-1", "sin-1", "jkt-1"]}, 409, ""),
    ("DELETE", "/pins/jkt-1/fra-1", None, 404, ""),
    ("POST", "/kept-out", {"node": "sin-1"}, 400, "node"),
    ("POST", "/kept-out", {"node_id": "mars-1"}, 404, ""),
    ("DELETE", "/kept-out/sin-1", None, 404, ""),
    ("POST", "/overrides", {"src": "sin-1"}, 400, "price_per_gb"),
    ("POST", "/overrides", {"src": "sin-1", "price_per_gb": -1}, 400, "price_per_gb"),
    ("POST", "/overrides", {"src": "sin-1", "capacity_bps": "1M"}, 400, "capacity_bps"),
    ("POST", "/overrides", {"src": "sin-1", "dst": "sin-1", "capacity_bps": 1}, 400, "dst"),
    ("POST", "/overrides", {"src": "mars-1", "capacity_bps": 1}, 404, ""),
    ("DELETE", "/overrides/sin-1", None, 404, ""),
    ("DELETE", "/overrides/sin-1?figure=colour", None, 400, "figure"),
    ("POST", "/remove", {"node_id": "mars-1"}, 404, ""),
    ("POST", "/remove", {"node_id": None}, 400, "node_id"),
    ("POST", "/access", {}, 400, ""),
    ("POST", "/access", {"trust": "k1"}, 400, "trust"),
    ("POST", "/access", {"trust": {**JWK, "d": "x"}}, 400, "trust"),
    ("POST", "/access", {"distrust": "k9", "revoke_key": "k9"}, 400, "revoke_key"),
    ("POST", "/access", {"distrust": "k9"}, 409, ""),
    ("POST", "/trust", {"revoke_node": "a", "revoke_serial": "b"}, 400, "revoke_serial"),
    ("POST", "/trust", {"revoke_serial": "no hex"}, 409, ""),
    ("POST", "/trust", {"revoke_join_token": "nobody's"}, 409, ""),
    ("POST", "/trust", {"revoke_join_token": f"{PREFIX}abc"}, 400, "revoke_join_token"),
    ("POST", "/join-tokens", {"region": "No Such"}, 400, "region"),
    ("POST", "/join-tokens", {"region": "fra", "valid_s": 10**9}, 400, "valid_s"),
    ("POST", "/join-tokens", {"region": "fra", "control": ["nowhere"]}, 400, "control[0]"),
    ("POST", "/join-tokens", {"region": "fra", "node_id": "x" * 64}, 400, "node_id"),
    ("POST", "/api-tokens", {"name": "a", "scopes": ["fly"]}, 400, "scopes[0]"),
    ("POST", "/api-tokens", {"name": "a", "scopes": []}, 400, "scopes"),
    ("POST", "/api-tokens", {"name": "local"}, 409, ""),
    ("POST", "/api-tokens", {"name": "../up"}, 409, ""),
    ("DELETE", "/api-tokens/nobody", None, 404, ""),
)


@pytest.fixture
def world() -> World:
    edges = [Edge(name, public_url=f"https://{name}.example/") for name in NAMES]
    world = World(
        NAMES,
        lambda a, b: 30.0 if "sin-1" in (a, b) else 200.0,
        edges=edges,
        sign=lambda payload: "a.b.c",
        certify=lambda request, admitted, after: "no",
    )
    for edge in edges:
        edge.restart()
    world.run(65)
    world.offer("jkt-1", "live/film")
    return world.run(2)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def client(world: World, state_dir: Path) -> Iterator[httpx.Client]:
    with served(world, state_dir, limits=GENEROUS) as address:
        token = (state_dir / "api.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"http://{address}", headers=headers, trust_env=False) as client:
            yield client


def ask(client: httpx.Client, case: Case, **more: Any) -> httpx.Response:
    method, path, body, _ = case
    return (
        client.request(method, path, json=body, **more)
        if body is not None
        else client.request(method, path, **more)
    )


def rows(world: World, directory: Path) -> list[Endpoint]:
    return api_table(WorldService(world), open_access(directory))


def row_of(path: str, document: dict[str, Any]) -> str:
    """The path of the document that a request's path is of."""
    parts = path.partition("?")[0].split("/")
    for template in sorted(document["paths"], key=lambda each: each.count("{")):
        names = template.split("/")
        if len(names) == len(parts) and all(
            name.startswith("{") or name == part for name, part in zip(names, parts, strict=True)
        ):
            return str(template)
    raise LookupError(path)


def strict(schema: Any) -> Any:
    """The same, and no other fields than those that are told."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    told = {name: strict(each) for name, each in schema.items()}
    if isinstance(told.get("properties"), dict):
        told.setdefault("additionalProperties", False)
    return told


def check_schema(document: dict[str, Any], path: str, answer: httpx.Response) -> None:
    method, template = answer.request.method.lower(), row_of(path, document)
    responses = document["paths"][template][method]["responses"]
    assert str(answer.status_code) in responses, (template, answer.status_code)
    ((media, told),) = responses[str(answer.status_code)]["content"].items()
    if media != "application/json":
        assert answer.headers["content-type"] == media
        return
    whole = {**strict(copy.deepcopy(told["schema"])), "components": strict(document["components"])}
    jsonschema.Draft202012Validator(whole).validate(answer.json())


def test_the_description_is_valid_openapi(client: httpx.Client) -> None:
    document = client.get("/openapi.json", headers={"Authorization": ""}).json()
    assert document["openapi"].startswith("3.1")
    validate(document)


def test_every_endpoint_answers_what_its_description_says(world: World, client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for case in GOOD:
        answer = ask(client, case)
        assert answer.status_code == case[3], (case, answer.text)
        check_schema(document, case[1], answer)
        world.run(1)


def test_no_endpoint_is_left_out(world: World, tmp_path: Path, client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    table = rows(world, tmp_path)
    served = {(row.method, row.path) for row in table}
    assert served == {(m.upper(), path) for path, methods in document["paths"].items() for m in methods}
    asked = {(case[0], row_of(case[1], document)) for case in GOOD}
    assert asked == served
    takes = {(row.method, row.path) for row in table if row.body is not None or row.query is not None}
    assert takes == {(m, row_of(path, document)) for m, path, _, code, _ in BAD if code == 400}


@pytest.mark.parametrize(("method", "path", "body", "status", "field"), BAD)
def test_what_is_wrong_is_told_by_status_and_field(
    client: httpx.Client, method: str, path: str, body: Any, status: int, field: str
) -> None:
    answer = ask(client, (method, path, body, status))
    assert answer.status_code == status, answer.text
    told = answer.json()
    assert told.get("field", "") == field
    assert told["error"]
    assert "\n" not in told["error"]
    assert told["request_id"] == answer.headers["x-request-id"]
    if status not in (404, 405) or "nowhere" not in path:
        document = client.get("/openapi.json").json()
        if status != 405:
            check_schema(document, path, answer)


@pytest.mark.parametrize("case", [case for case in GOOD if case[0] == "POST"][:3])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"\xff", 400),
        (b"[" * 9_000, 400),
        (b" " * (BODY_BYTES_MAX + 1), 413),
    ],
)
def test_bodies_that_are_none(client: httpx.Client, case: Case, data: bytes, status: int) -> None:
    answer = client.request(case[0], case[1], content=data)
    assert (answer.status_code, "body" in answer.json()["error"]) == (status, True)


def scoped(client: httpx.Client, *scopes: str) -> dict[str, str]:
    name = "-".join(scopes)
    made = client.post("/api-tokens", json={"name": name, "scopes": list(scopes)})
    return {"Authorization": f"Bearer {made.json()['token']}"}


def test_each_scope_opens_its_part_and_no_more(world: World, client: httpx.Client, state_dir: Path) -> None:
    table = {(row.method, row.path): row for row in rows(world, state_dir)}
    document = client.get("/openapi.json").json()
    headers = {scope: scoped(client, scope) for scope in Scope}
    for case in GOOD:
        row = table[case[0], row_of(case[1], document)]
        for scope, header in headers.items():
            allowed = row.scope in (None, Scope.READ, scope)
            if not allowed:
                answer = ask(client, case, headers=header)
                assert answer.status_code == 403, (case, scope)
                assert f"takes the scope {row.scope}" in answer.json()["error"]
                check_schema(document, case[1], answer)
            elif not row.action:
                assert ask(client, case, headers=header).status_code != 403, (case, scope)


def test_every_endpoint_but_the_open_ones_wants_a_token(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for case in GOOD:
        answer = ask(client, case, headers={"Authorization": "Bearer wrong"})
        is_open = document["paths"][row_of(case[1], document)][case[0].lower()]["security"] == []
        assert (answer.status_code == 401) is not is_open, case
        if not is_open:
            check_schema(document, case[1], answer)


def test_a_token_ends_when_it_is_revoked(client: httpx.Client) -> None:
    header = scoped(client, "read")
    assert client.get("/status", headers=header).status_code == 200
    client.delete("/api-tokens/read")
    assert client.get("/status", headers=header).status_code == 401


def test_whoever_asks_too_often_is_told_when_again(world: World, tmp_path: Path) -> None:
    now = [0.0]
    limits = LimitsConfig(reads=Rate(2, 3), changes=Rate(0.1, 1), failures=Rate(0.5, 2))
    with served(world, tmp_path, limits=limits, clock=lambda: now[0]) as address:
        token = (tmp_path / "api.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"http://{address}", headers=headers, trust_env=False) as client:
            codes = [client.get("/status").status_code for _ in range(4)]
            assert codes == [200, 200, 200, 429]
            late = client.get("/status")
            assert (late.headers["retry-after"], "2 a second" in late.json()["error"]) == ("1", True)
            check_schema(client.get("/openapi.json").json(), "/status", late)
            now[0] += 0.5
            assert client.get("/status").status_code == 200
            order = {"node_id": "lon-1"}
            assert [client.post("/drain", json=order).status_code for _ in range(2)] == [200, 429]
            assert client.post("/drain", json=order).headers["retry-after"] == "10"
            wrong = {"Authorization": "Bearer wrong"}
            assert [client.get("/status", headers=wrong).status_code for _ in range(3)] == [401, 401, 429]
            now[0] += 1
            assert client.get("/status").status_code == 200, (
                "who has the right token is not kept out by others"
            )


def test_a_request_keeps_the_id_that_it_came_with(client: httpx.Client) -> None:
    assert client.get("/status", headers={"X-Request-Id": "ticket-7"}).headers["x-request-id"] == "ticket-7"
    made = client.get("/status", headers={"X-Request-Id": "no good\tone"}).headers["x-request-id"]
    assert len(made) == 16


def test_a_pin_is_held_to_and_told_by_why(world: World, client: httpx.Client) -> None:
    before = client.get("/why?src=jkt-1&dst=fra-1").json()
    assert before["in_force"] == ["jkt-1", "sin-1", "fra-1"]
    client.post("/pins", json={"way": ["jkt-1", "lon-1", "fra-1"]})
    world.run(3)
    told = client.get("/why?src=jkt-1&dst=fra-1").json()
    assert told["in_force"] == ["jkt-1", "lon-1", "fra-1"]
    assert [pin["suspended"] for pin in told["pins"]] == [""]
    assert "by order, pinned" in told["summary"]
    world.disconnect("lon-1")
    world.isolate("lon-1")
    world.run(10)
    told = client.get("/why?src=jkt-1&dst=fra-1").json()
    assert told["in_force"] == ["jkt-1", "sin-1", "fra-1"]
    assert told["pins"][0]["suspended"] in ("lon-1 is not there", "the link jkt-1 > lon-1 is silent")
    assert "is suspended" in told["summary"]


def test_a_pin_ends_by_itself(world: World, client: httpx.Client) -> None:
    client.post("/pins", json={"way": ["jkt-1", "fra-1"], "valid_s": 5})
    client.post("/kept-out", json={"node_id": "lon-1", "valid_s": 5})
    world.run(3)
    assert len(client.get("/pins").json()["pins"]) == len(client.get("/kept-out").json()["kept_out"]) == 1
    world.run(3)
    assert client.get("/pins").json()["pins"] == client.get("/kept-out").json()["kept_out"] == []


def test_a_pin_of_a_namespace_waits_for_it(world: World, client: httpx.Client) -> None:
    client.post("/pins", json={"way": ["jkt-1", "fra-1"], "namespace": "live/news"})
    world.run(2)
    assert client.get("/pins").json()["pins"][0]["suspended"] == "nobody publishes live/news"
    world.offer("fra-1", "live/news")
    world.run(2)
    assert client.get("/pins").json()["pins"][0]["suspended"] == "live/news is published at fra-1"


def test_versions_say_who_acknowledged_and_who_is_missing(world: World, client: httpx.Client) -> None:
    world.edges["lon-1"].refuse = lambda _: "I will not"
    world.offer("jkt-1", "live/news")
    world.run(1)
    newest = client.get("/plan/versions").json()["versions"][0]
    assert newest["missing"] == ["lon-1"]
    assert set(newest["acked_ms"]) == {"fra-1", "jkt-1", "sin-1"}
    assert all(0 < ms < 1_000 for ms in newest["acked_ms"].values())


def test_prices_without_effect_are_remarked(client: httpx.Client) -> None:
    told = client.post("/overrides", json={"src": "jkt-1", "price_per_gb": 0.1}).json()
    assert "price_ms_per_unit" in told["remark"]
    assert client.get("/why?src=jkt-1&dst=fra-1").json()["overrides"] == told["overrides"]


def test_the_description_holds_no_more_than_a_browser_takes(client: httpx.Client) -> None:
    assert len(json.dumps(client.get("/openapi.json").json())) < 200_000


def test_a_refusal_before_the_body_was_read_says_that_the_connection_ends(client: httpx.Client) -> None:
    order = {"node_id": "lon-1"}
    wrong = {"Authorization": "Bearer wrong"}
    assert client.post("/drain", json=order, headers=wrong).headers.get("connection") == "close"
    assert client.post("/drain", content=b" " * (BODY_BYTES_MAX + 1)).headers.get("connection") == "close"
    assert "connection" not in client.post("/drain", json=order).headers
    assert "connection" not in client.get("/status", headers=wrong).headers
