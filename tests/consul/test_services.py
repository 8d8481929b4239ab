"""What Consul shows of the edges, and Consul by TLS and with access control (`make consul`)."""

from __future__ import annotations

import json
import re
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trio
from consul_cluster import SETUP_SECONDS_MAX, THREE, Cluster, Consul, free_port, until, wait_for

from farcast.certificates import make_authority

DOCS = Path(__file__).parents[2] / "docs" / "consul.md"
MASTER = "8e3a2c1f-0000-4000-8000-6d6173746572"
"""Of the Consul of a test."""


@pytest.fixture
def consul(tmp_path: Path) -> Iterator[Consul]:
    server = Consul(tmp_path / "consul")
    try:
        wait_for(lambda: server.has_leader, SETUP_SECONDS_MAX)
        yield server
    finally:
        server.kill()


def told_by(consul: Consul) -> set[str]:
    rows = consul.ask("GET", "/v1/catalog/service/farcast-edge")
    return {row["ServiceMeta"]["told_by"] for row in rows}


def play(cluster: Cluster, scenario: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    """Run it beside the edges, once all have joined."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for edge in cluster.edges:
                nursery.start_soon(edge.run)
            await until(cluster.all_joined)
            await scenario(nursery)
            nursery.cancel_scope.cancel()

    try:
        trio.run(main)
    finally:
        cluster.close()


def test_edges_are_services_that_outlive_their_leader_and_end_with_the_edge(
    tmp_path: Path, consul: Consul
) -> None:
    cluster = Cluster(tmp_path, [consul.port] * 2)
    passing = dict.fromkeys(THREE, "passing")

    async def scenario(nursery: trio.Nursery) -> None:
        await until(lambda: consul.edges() == passing)
        cluster.controls[0].api.post("/drain", {"node_id": "sin-1", "drain_ms": 600_000})
        await until(lambda: consul.edges() == {**passing, "sin-1": "warning"}, 5)
        cluster.controls[0].api.post("/drain", {"node_id": "sin-1", "undo": True})
        await until(lambda: consul.edges() == passing, 5)

        cluster.controls[0].signal(signal.SIGTERM)
        await until(lambda: told_by(consul) == {"c2"}, 15)  # Who stopped took its own away.
        await until(lambda: consul.edges() == passing, 10)

        cluster.controls[1].api.post("/remove", {"node_id": "fra-1"})
        await until(lambda: sorted(consul.edges()) == ["jkt-1", "sin-1"], 5)

    play(cluster, scenario)


def test_consul_by_tls_with_access_control_and_the_documented_rights(tmp_path: Path) -> None:
    tls_port, token_file = free_port(socket.SOCK_STREAM), tmp_path / "consul.token"
    consul = Consul(tmp_path / "consul", hcl=[*tls(tmp_path, tls_port), *ACL], token=MASTER)
    flags = [f"--consul=https://127.0.0.1:{tls_port}", f"--consul-ca={tmp_path / 'consul-ca.pem'}"]
    try:
        wait_for(lambda: consul.has_leader, SETUP_SECONDS_MAX)
        wait_for(lambda: grant(consul, token_file), SETUP_SECONDS_MAX)
        cluster = Cluster(tmp_path, [consul.port] * 2, [*flags, f"--consul-token-file={token_file}"])

        async def scenario(nursery: trio.Nursery) -> None:
            await until(lambda: consul.edges() == dict.fromkeys(THREE, "passing"))
            cluster.controls[0].api.post("/drain", {"node_id": "sin-1", "drain_ms": 600_000})
            cluster.controls[0].signal(signal.SIGKILL)
            await until(lambda: cluster.controls[1].says().startswith("leads"), 15)
            drains = cluster.controls[1].api.get("/drains")["drains"]
            assert [drain["node_id"] for drain in drains] == ["sin-1"]
            secret = token_file.read_text()
            pid = cluster.controls[1].process.pid
            assert secret not in Path(f"/proc/{pid}/cmdline").read_text()
            for control in cluster.controls:
                assert secret not in (tmp_path / f"{control.name}.log").read_text()

        play(cluster, scenario)
    finally:
        consul.kill()


def test_a_consul_of_another_authority_is_refused_and_the_log_says_why(tmp_path: Path) -> None:
    tls_port = free_port(socket.SOCK_STREAM)
    consul = Consul(tmp_path / "consul", hcl=tls(tmp_path, tls_port))
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(make_authority("consul", datetime.now(UTC)).certificate_pem())
    try:
        wait_for(lambda: consul.has_leader, SETUP_SECONDS_MAX)
        flags = [f"--consul=https://127.0.0.1:{tls_port}", f"--consul-ca={stranger}"]
        cluster = Cluster(tmp_path, [], flags)
        cluster.add("c1", cluster.addresses[0], tls_port)
        log = tmp_path / "c1.log"
        try:
            wait_for(lambda: "its certificate is refused" in log.read_text(), SETUP_SECONDS_MAX)
            assert consul.named() is None
        finally:
            cluster.close()
    finally:
        consul.kill()


def tls(directory: Path, port: int) -> list[str]:
    """Configuration of a server that has HTTPS at ``port``."""
    authority = make_authority("consul", datetime.now(UTC))
    identity = authority.issue("here", "consul", ("127.0.0.1",))
    for name, text in (
        ("consul-ca.pem", authority.certificate_pem()),
        ("consul.pem", identity.chain_pem()),
        ("consul.key", identity.key_pem()),
    ):
        (directory / name).write_bytes(text)
    return [
        f"ports {{ https = {port} }}",
        f'cert_file = "{directory / "consul.pem"}"',
        f'key_file = "{directory / "consul.key"}"',
    ]


ACL = [
    f'acl {{ enabled = true, default_policy = "deny", tokens {{ master = "{MASTER}", agent = "{MASTER}" }} }}'
]


def grant(consul: Consul, file: Path) -> bool:
    """A token with the rights that the documentation says suffice; whether Consul was so far."""
    (rules,) = re.findall(r"```hcl\n(.*?)```", DOCS.read_text(), re.DOTALL)
    policy = {"Name": "farcast", "Rules": rules.replace("CLUSTER", "shows")}
    if consul.ask("PUT", "/v1/acl/policy", json.dumps(policy).encode()) is None:
        return False
    token = consul.ask("PUT", "/v1/acl/token", json.dumps({"Policies": [{"Name": "farcast"}]}).encode())
    file.write_text(token["SecretID"])
    return True
