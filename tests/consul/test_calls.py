"""The subset of Consul's API that the control plane uses, pinned against a real Consul (`make consul`).

Twelve calls: check pass and warn, service register and deregister, session create and destroy, KV read
(blocking, below a prefix, keys), acquire, release, transaction. Other versions may word errors otherwise;
what is asserted here is what the engines rely on.
"""

from __future__ import annotations

import base64
import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from consul_cluster import Consul, wait_for

from farcast.control_plane.registry.calls import Reply, Request
from farcast.control_plane.registry.documents import PART_BYTES_MAX
from farcast.control_plane.registry.edge_services import EdgeService, EdgeServices
from farcast.control_plane.registry.leader import Election

KEYS = itertools.count()


@pytest.fixture(scope="module")
def consul() -> Iterator[Consul]:
    server = Consul()
    wait_for(lambda: server.has_leader, 15)
    yield server
    server.kill()


@pytest.fixture
def key() -> str:
    """A key that nothing is at."""
    return f"farcast/calls/{next(KEYS)}"


def ask(consul: Consul, method: str, path: str, body: Any = None) -> tuple[int, bytes, int]:
    """Status, body, index."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{consul.port}/v1/{path}", data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read(), int(answer.headers.get("X-Consul-Index") or 0)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), int(error.headers.get("X-Consul-Index") or 0)


def ask_as(consul: Consul, request: Request) -> tuple[int, bytes, int]:
    """What an engine asks."""
    return ask(consul, request.method, request.path.removeprefix("/v1/"), request.body or None)


def session(consul: Consul, name: str) -> str:
    """A session as ours are, made by the election's own requests."""
    election = Election("calls", name, "x", 1, lambda: 0.0)
    assert ask_as(consul, registration(election))[0] == 200
    check = f"service:{election.service_id}"
    wanted = {"Name": name, "LockDelay": "1s", "NodeChecks": ["serfHealth"], "ServiceChecks": [{"ID": check}]}
    status, body, _ = ask(consul, "PUT", "session/create", wanted)
    assert status == 200, body
    made: str = json.loads(body)["ID"]
    return made


def registration(election: Election) -> Request:
    """The second request of its beat, once the first has failed."""
    beat = election.poll_request(0)
    assert beat is not None
    election.handle_reply(beat.lane, Reply(404), 0)
    wanted = election.poll_request(0)
    assert wanted is not None
    return wanted


def txn(consul: Consul, *operations: dict[str, Any]) -> tuple[int, bytes]:
    return ask(consul, "PUT", "txn", [{"KV": operation} for operation in operations])[:2]


def put(key: str, value: bytes) -> dict[str, Any]:
    return {"Verb": "set", "Key": key, "Value": base64.b64encode(value).decode()}


def test_a_check_that_nobody_registered_does_not_pass_and_ours_does(consul: Consul) -> None:
    assert ask(consul, "PUT", "agent/check/pass/service:nobody")[0] in (404, 500)
    election = Election("calls", "passing", "x", 1, lambda: 0.0)
    assert ask_as(consul, registration(election))[0] == 200
    assert ask(consul, "PUT", f"agent/check/pass/service:{election.service_id}")[0] == 200
    assert ask(consul, "PUT", f"agent/service/deregister/{election.service_id}")[0] == 200


def test_an_edges_service_passes_warns_and_goes(consul: Consul) -> None:
    shown = EdgeServices("calls", "c1", lambda: 0.0)

    def give(*edges: EdgeService) -> None:
        shown.set_edges(edges)
        while (request := shown.poll_request(0)) is not None:
            status, body, _ = ask_as(consul, request)
            assert status == 200, body
            shown.handle_reply(Reply(status, body), 0)

    def health() -> list[tuple[str, int, str, str]]:
        rows = json.loads(ask(consul, "GET", "health/service/farcast-edge")[1])
        return [
            (
                row["Service"]["Address"],
                row["Service"]["Port"],
                row["Service"]["Meta"]["region"],
                next(c["Status"] for c in row["Checks"] if c["CheckID"].startswith("service:")),
            )
            for row in rows
        ]

    edge = EdgeService("sin-1", "192.0.2.1", 443, {"region": "sin", "public_url": "moqt://x"})
    give(edge)
    wait_for(lambda: health() == [("192.0.2.1", 443, "sin", "passing")], 5)
    give(replace(edge, draining=True))
    wait_for(lambda: health() == [("192.0.2.1", 443, "sin", "warning")], 5)
    give(edge)
    wait_for(lambda: health() == [("192.0.2.1", 443, "sin", "passing")], 5)
    give()
    wait_for(lambda: health() == [], 5)
    beat = "agent/check/pass/service:farcast-edge:calls:sin-1:c1"
    assert ask(consul, "PUT", beat)[0] in (404, 500), "nothing is left of it"
    assert ask(consul, "PUT", "agent/service/deregister/farcast-edge:calls:sin-1:c1")[0] in (200, 404)


def test_one_session_has_a_lock_and_the_index_of_the_lock_rises(consul: Consul, key: str) -> None:
    first, second = session(consul, "a"), session(consul, "b")
    assert ask(consul, "PUT", f"kv/{key}?acquire={first}", b"1")[1].strip() == b"true"
    assert ask(consul, "PUT", f"kv/{key}?acquire={second}", b"2")[1].strip() == b"false"
    (row,) = json.loads(ask(consul, "GET", f"kv/{key}")[1])
    assert (row["Session"], row["LockIndex"]) == (first, 1)
    assert ask(consul, "PUT", f"kv/{key}?acquire={first}", b"3")[1].strip() == b"true", "again, as an update"
    assert ask(consul, "PUT", f"kv/{key}?release={first}", b"4")[1].strip() == b"true"
    assert ask(consul, "PUT", f"kv/{key}?acquire={second}", b"5")[1].strip() == b"true", "without a delay"
    (row,) = json.loads(ask(consul, "GET", f"kv/{key}")[1])
    assert (row["Session"], row["LockIndex"]) == (second, 2)


def test_a_session_that_ended_holds_nothing_and_its_lock_is_free_after_a_second(
    consul: Consul, key: str
) -> None:
    first, second = session(consul, "c"), session(consul, "d")
    ask(consul, "PUT", f"kv/{key}?acquire={first}", b"1")
    assert ask(consul, "PUT", f"session/destroy/{first}")[0] == 200
    (row,) = json.loads(ask(consul, "GET", f"kv/{key}")[1])
    assert "Session" not in row
    assert ask(consul, "PUT", f"kv/{key}?acquire={second}", b"2")[1].strip() == b"false", "the lock delay"
    begun = time.monotonic()
    wait_for(lambda: ask(consul, "PUT", f"kv/{key}?acquire={second}", b"2")[1].strip() == b"true", 3)
    assert time.monotonic() - begun < 2
    status, body, _ = ask(consul, "PUT", f"kv/{key}?acquire={first}", b"3")
    assert status == 500
    assert b"invalid session" in body


def test_a_query_blocks_until_its_wait_is_over_or_the_key_changes(consul: Consul, key: str) -> None:
    status, _, index = ask(consul, "GET", f"kv/{key}")
    assert status == 404
    assert index >= 1, "a key that is not there has an index too"
    begun = time.monotonic()
    assert ask(consul, "GET", f"kv/{key}?index={index}&wait=1s")[0] == 404
    assert 0.9 < time.monotonic() - begun < 1.5
    assert ask(consul, "GET", f"kv/{key}?index=0&wait=5s")[0] == 404
    assert time.monotonic() - begun < 3, "index 0 does not block"


def test_a_transaction_holds_only_under_the_lock(consul: Consul, key: str) -> None:
    first, second = session(consul, "e"), session(consul, "f")
    lock, folder = f"{key}/leader", f"{key}/state"
    fence = {"Verb": "check-session", "Key": lock, "Session": first}
    assert txn(consul, fence, put(f"{folder}/a", b"1"))[0] == 409, "there is no lock"
    ask(consul, "PUT", f"kv/{lock}?acquire={first}", b"")
    assert txn(consul, fence, put(f"{folder}/a", b"1"))[0] == 200
    assert txn(consul, {**fence, "Session": second}, put(f"{folder}/a", b"2"))[0] == 409
    (row,) = json.loads(ask(consul, "GET", f"kv/{folder}/?recurse=true&consistent=true")[1])
    assert base64.b64decode(row["Value"]) == b"1"


def test_a_transaction_takes_a_whole_part_and_deletes_what_may_not_be_there(consul: Consul, key: str) -> None:
    holder = session(consul, "g")
    lock, folder = f"{key}/leader", f"{key}/state"
    ask(consul, "PUT", f"kv/{lock}?acquire={holder}", b"")
    fence = {"Verb": "check-session", "Key": lock, "Session": holder}
    nothing = {"Verb": "delete-tree", "Key": f"{folder}/nothing/"}
    part = bytes(range(256)) * (PART_BYTES_MAX // 256)
    head = put(folder, b"{}")
    status, body = txn(consul, fence, put(f"{folder}/x/0", part), head, nothing)
    assert status == 200, body[:200]
    assert json.loads(ask(consul, "GET", f"kv/{folder}/?keys=true")[1]) == [f"{folder}/x/0"]
    assert txn(consul, fence, {"Verb": "delete-tree", "Key": f"{folder}/x/"})[0] == 200
    assert ask(consul, "GET", f"kv/{folder}/?keys=true")[0] == 404
