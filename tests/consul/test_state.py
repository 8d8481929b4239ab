"""What was ordered of one leader holds with the next: it lies in Consul, under the lock (`make consul`)."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import commands
import pytest
import trio
from access_tokens import X
from consul_cluster import SETUP_SECONDS_MAX, Cluster, Consul, until, wait_for

from farcast.edge.joining import JoinRefused, Wanted, join
from farcast.errors import UserError
from farcast.proto.control.messages import KeyUsage
from farcast.proto.joining.tokens import JoinToken, decode_join_token


@pytest.fixture
def consul(tmp_path: Path) -> Iterator[Consul]:
    server = Consul(tmp_path / "consul")
    try:
        wait_for(lambda: server.has_leader, SETUP_SECONDS_MAX)
        yield server
    finally:
        server.kill()


@pytest.fixture
def cluster(tmp_path: Path, consul: Consul) -> Iterator[Cluster]:
    made = Cluster(tmp_path, [consul.port] * 2)
    yield made
    made.close()


def jwk(key_id: str) -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": X, "kid": key_id}


def join_token(cluster: Cluster, region: str) -> JoinToken:
    answer = cluster.controls[0].api.post("/join-tokens", {"region": region})
    return decode_join_token(answer["token"])


async def take_over(cluster: Cluster, by: signal.Signals) -> None:
    """c1 goes, c2 leads."""
    cluster.controls[0].signal(by)
    await until(lambda: cluster.controls[1].says().startswith("leads"), 15)


def test_orders_trust_and_used_tokens_outlive_the_leader(cluster: Cluster, tmp_path: Path) -> None:
    used, fresh = join_token(cluster, "lon"), join_token(cluster, "lon")
    old = cluster.controls[0].api

    async def scenario(nursery: trio.Nursery) -> None:
        for edge in cluster.edges:
            nursery.start_soon(edge.run)
        await until(cluster.all_joined)
        joined = await join(Wanted(used, ""), tmp_path / "lon")
        assert joined.node_id == "lon-1"
        old.post("/drain", {"node_id": "sin-1", "drain_ms": 600_000})
        old.post("/pins", {"way": ["jkt-1", "fra-1"]})
        old.post("/overrides", {"src": "fra-1", "price_per_gb": 0.02, "capacity_bps": 10**9})
        old.post("/access", {"trust": jwk("k1")})
        old.post("/access", {"trust": jwk("k2")})
        old.post("/access", {"revoke_key": "k1"})
        old.post("/access", {"revoke_token": "t1"})
        old.post("/remove", {"node_id": "fra-1"})
        await take_over(cluster, signal.SIGKILL)

        new = cluster.controls[1].api
        assert [row["node_id"] for row in new.get("/drains")["drains"]] == ["sin-1"]
        assert [row["way"] for row in new.get("/pins")["pins"]] == [["jkt-1", "fra-1"]]
        (override,) = new.get("/overrides")["overrides"]
        assert (override["price_per_gb"], override["capacity_bps"]) == (0.02, 10**9)
        access = new.get("/access")
        assert [key["key_id"] for key in access["keys"]] == ["k2"]
        assert access["revoked_keys"] == ["k1"]
        assert [token["token_id"] for token in access["revoked_tokens"]] == ["t1"]
        assert [row["node_id"] for row in new.get("/trust")["revoked_nodes"]] == ["fra-1"]

        frankfurt = cluster.edges[0]
        await until(lambda: any("was removed" in reason for reason in frankfurt.refusals))
        assert not frankfurt.link.joined
        with pytest.raises(JoinRefused, match="was used already, by lon-1"):
            await join(Wanted(used, ""), tmp_path / "thief")
        assert (await join(Wanted(fresh, ""), tmp_path / "lon-two")).node_id == "lon-2"
        nursery.cancel_scope.cancel()

    run(scenario)


def test_what_keys_have_used_outlives_the_leader(cluster: Cluster, consul: Consul) -> None:
    def used() -> dict[str, int]:
        answer = cluster.controls[1].api.get("/v1/usage")
        return {key["key_id"]: key["total"]["bytes_out"] for key in answer["keys"]}

    def version() -> int:
        row = consul.ask("GET", "/v1/kv/farcast/shows/state/usage")
        return int(row[0]["ModifyIndex"]) if row else 0

    async def scenario(nursery: trio.Nursery) -> None:
        for edge in cluster.edges:
            nursery.start_soon(edge.run)
        await until(cluster.all_joined)
        cluster.controls[0].api.post("/access", {"trust": jwk("k1")})
        await until(lambda: version() > 0)
        before = version()
        cluster.edges[0].usage = (KeyUsage(meter="b0", key_id="k1", bytes_out=700),)
        await until(lambda: version() > before)
        cluster.edges[0].usage = ()  # It was acknowledged; nobody tells it any more.
        await take_over(cluster, signal.SIGKILL)
        assert used() == {"k1": 700}
        nursery.cancel_scope.cancel()

    run(scenario)


def test_a_join_that_no_standby_would_know_of_is_refused(
    cluster: Cluster, consul: Consul, tmp_path: Path
) -> None:
    token = join_token(cluster, "lon")

    async def scenario(nursery: trio.Nursery) -> None:
        consul.kill()
        with pytest.raises(JoinRefused, match="nobody but this control plane would know"):
            await join(Wanted(token, ""), tmp_path / "lon")
        await trio.to_thread.run_sync(consul.start)
        await until(lambda: consul.named() == "c1")
        assert (await join(Wanted(token, ""), tmp_path / "lon")).node_id == "lon-1", "the same key may"
        nursery.cancel_scope.cancel()

    run(scenario)


def test_a_leader_that_was_deposed_while_it_stood_still_takes_no_order(cluster: Cluster) -> None:
    async def scenario(nursery: trio.Nursery) -> None:
        for edge in cluster.edges:
            nursery.start_soon(edge.run)
        await until(cluster.all_joined)
        old, answers = cluster.controls[0].api, []

        def order() -> None:
            try:
                answers.append(str(old.post("/drain", {"node_id": "sin-1"})))
            except UserError as error:
                answers.append(f"refused: {error.message}")

        cluster.controls[0].signal(signal.SIGSTOP)
        await until(lambda: cluster.controls[1].says().startswith("leads"), 15)
        nursery.start_soon(trio.to_thread.run_sync, order)
        await trio.sleep(0.3)
        cluster.controls[0].signal(signal.SIGCONT)
        await until(lambda: bool(answers), 15)
        assert answers[0].startswith("refused: ")
        await until(cluster.all_joined)
        assert cluster.controls[1].api.get("/drains")["drains"] == []
        nursery.cancel_scope.cancel()

    run(scenario)


def test_a_standby_says_who_leads(cluster: Cluster, tmp_path: Path) -> None:
    state_dir = f"--state-dir={cluster.controls[1].state_dir}"
    for command in (["status"], ["drain", "sin-1"], ["routes"]):
        asked = commands.end(commands.start(*command, state_dir))
        assert asked.code == 1
        assert asked.complaints == ["farcast: this control plane stands by; the leader is c1"]
    at_standby = replace(join_token(cluster, "lon"), addresses=(cluster.addresses[1],))

    async def scenario(nursery: trio.Nursery) -> None:
        with pytest.raises(UserError, match="no control plane answers"):
            await join(Wanted(at_standby, ""), tmp_path / "lon")

    run(scenario)


def test_a_standby_is_ready_for_the_service_manager_and_stays_so_when_it_leads(
    cluster: Cluster, consul: Consul, tmp_path: Path
) -> None:
    cluster.controls[1].end()
    told: list[str] = []

    def heard(what: str) -> bool:
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(manager.recv(4_096).decode())
        return what in told

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        watched = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1500000"}
        standby = cluster.add("c3", "127.0.0.1:0", consul.port, **watched)
        wait_for(lambda: heard("STATUS=stands by; the leader is c1"), SETUP_SECONDS_MAX)
        wait_for(lambda: heard("WATCHDOG=1"), 5)
        assert "READY=1" in told
        cluster.controls[0].signal(signal.SIGKILL)
        wait_for(lambda: standby.says().startswith("leads"), 15)
        del told[:]
        wait_for(lambda: heard("WATCHDOG=1"), 5)
        standby.signal(signal.SIGTERM)
        wait_for(lambda: heard("STOPPING=1"), 5)
        standby.process.wait(10)
    assert not (standby.state_dir / "api.json").exists()


def run(scenario: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await scenario(nursery)

    trio.run(main)
