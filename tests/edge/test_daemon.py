"""The daemon: serves, drains, is forced, takes a good configuration over and refuses a bad one."""

from __future__ import annotations

import json
import math
import signal
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from farcast.certificates import HopAuthority
from farcast.edge.config import EdgeConfig, load_config
from farcast.edge.daemon import run_edge
from farcast.edge.driver import Driver
from farcast.edge.node import EdgeNode, open_edge
from farcast.errors import UserError
from farcast.proto._core import ClientTls, DatapathConfig, Runtime
from farcast.proto.agent import Target
from farcast.proto.client import ConnectionConfig, Publisher, PublisherConfig
from farcast.proto.client.events import Disconnected, NamespaceAccepted
from farcast.proto.moqt.names import TrackNamespace

FREE = "127.0.0.1:0"
Scenario = Callable[[EdgeNode], Awaitable[None]]


def run(load: Callable[[], EdgeConfig], scenario: Scenario) -> int:
    """An edge under its daemon, and a scenario beside it that ends it by a signal; the exit code."""
    codes: list[int] = []

    async def main() -> None:
        with trio.fail_after(15):
            async with trio.open_nursery() as nursery:

                async def daemon(*, task_status: trio.TaskStatus[EdgeNode]) -> None:
                    codes.append(await run_edge(load, ready_json=True, task_status=task_status))

                await scenario(await nursery.start(daemon))

    trio.run(main)
    return codes[0]


def dev_config(**changes: Any) -> EdgeConfig:
    return load_config(flags={"dev_cert": True, "auth.mode": "open", "listen": FREE, "ops": FREE, **changes})


async def terminate(node: EdgeNode) -> None:
    signal.raise_signal(signal.SIGTERM)


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_the_ready_line_tells_addresses_certificate_and_drafts(capsys: pytest.CaptureFixture[str]) -> None:
    nodes: list[EdgeNode] = []

    async def scenario(node: EdgeNode) -> None:
        nodes.append(node)
        await terminate(node)

    assert run(dev_config, scenario) == 0
    ready = json.loads(capsys.readouterr().out)
    assert ready == {
        "event": "ready",
        "listen": str(nodes[0].listen),
        "ops": str(nodes[0].ops),
        "cert_sha256": nodes[0].credentials.public.sha256.hex(),
        "drafts": [18, 16],
    }


def test_a_serving_edge_answers_on_its_ops_address_and_tells_browsers_its_certificate() -> None:
    async def scenario(node: EdgeNode) -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://{node.ops}/readyz")).status_code == 200
            assert "farcast_build_info" in (await client.get(f"http://{node.ops}/metrics")).text
            status = (await client.get(f"http://{node.ops}/status.json")).json()
            assert status["listen"] == str(node.listen)
            digest = await client.get(f"http://{node.listen}/certificate.sha256")
            assert digest.text == node.credentials.public.sha256.hex()
        await terminate(node)

    assert run(dev_config, scenario) == 0


def test_interruption_drains_too_and_is_exit_code_130() -> None:
    async def scenario(node: EdgeNode) -> None:
        signal.raise_signal(signal.SIGINT)

    assert run(dev_config, scenario) == 130


def test_a_draining_edge_is_not_ready_and_a_second_signal_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(node: EdgeNode) -> None:
        monkeypatch.setattr(type(node.driver.engine), "is_drained", property(lambda agent: False))
        signal.raise_signal(signal.SIGTERM)
        while node.ready:
            await trio.sleep(0.001)
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://{node.ops}/readyz")).status_code == 503
            assert (await client.get(f"http://{node.ops}/livez")).status_code == 200
        signal.raise_signal(signal.SIGTERM)

    assert run(lambda: dev_config(drain_ms_max=60_000), scenario) == 1


def test_a_drain_ends_at_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(node: EdgeNode) -> None:
        monkeypatch.setattr(type(node.driver.engine), "is_drained", property(lambda agent: False))
        signal.raise_signal(signal.SIGTERM)

    assert run(lambda: dev_config(drain_ms_max=50), scenario) == 0


def test_who_stays_to_the_end_of_a_drain_is_told_that_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard: list[str] = []

    async def scenario(node: EdgeNode) -> None:
        tls = ClientTls(fingerprints=[node.credentials.public.sha256])
        connection = ConnectionConfig(Target("quic", str(node.listen), "localhost", tls))
        publisher = Publisher(PublisherConfig(connection, TrackNamespace.parse("live/film")))
        driver = Driver(Runtime("127.0.0.1:0", DatapathConfig()), publisher)

        def look() -> None:
            while (event := publisher.poll_event()) is not None:
                if isinstance(event, NamespaceAccepted):
                    signal.raise_signal(signal.SIGTERM)
                elif isinstance(event, Disconnected):
                    heard.append(event.reason)
                    driver.close()

        driver.on_progress(look)
        driver.call(lambda engine, now_us: engine.start(now_us))
        await driver.run()

    # Both the engine and its shell wait for the same moment; here the shell is always the first.
    monkeypatch.setattr(Driver, "_deadline", lambda driver: math.inf)
    assert run(lambda: dev_config(drain_ms_max=50), scenario) == 0
    assert heard == ["the edge is going away"]


def test_reload_takes_over_what_can_change_and_names_what_needs_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edge.toml"
    fixed = f'dev_cert = true\nauth.mode = "open"\nlisten = "{FREE}"\nops = "{FREE}"\n'
    file.write_text(fixed)

    async def scenario(node: EdgeNode) -> None:
        file.write_text(fixed + 'drain_ms_max = 77\nregion = "eu"\n')
        signal.raise_signal(signal.SIGHUP)
        while node.config.drain_ms_max != 77:
            await trio.sleep(0.001)
        assert node.config.region == ""
        await terminate(node)

    assert run(lambda: load_config(file), scenario) == 0
    reloaded = next(line for line in logged(capsys) if line["event"] == "configuration reloaded")
    assert reloaded["changed"] == {"drain_ms_max": ["10000", "77"]}
    assert reloaded["needs_restart"] == ["region"]


def test_a_bad_configuration_is_refused_and_the_old_one_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edge.toml"
    fixed = f'dev_cert = true\nauth.mode = "open"\nlisten = "{FREE}"\nops = "{FREE}"\n'
    file.write_text(fixed)

    async def scenario(node: EdgeNode) -> None:
        before = node.config
        file.write_text(fixed + "drain_ms_max = 0\nlog_levle = 3\n")
        signal.raise_signal(signal.SIGHUP)
        await trio.sleep(0.05)
        assert node.config is before
        assert node.ready
        await terminate(node)

    assert run(lambda: load_config(file), scenario) == 0
    refused = next(line for line in logged(capsys) if line["level"] == "error")
    assert len(refused["errors"]) == 2
    assert "did you mean 'log_level'?" in refused["errors"][0]


def test_a_busy_udp_port_is_one_line_and_the_tcp_ports_are_given_back() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as busy:
        busy.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{busy.getsockname()[1]}"
        with pytest.raises(UserError, match=f"cannot listen on UDP {address}: it is in use"):
            trio.run(open_edge, dev_config(listen=address))
    with socket.socket() as free_again:
        host, _, port = address.rpartition(":")
        free_again.bind((host, int(port)))


def test_a_hop_certificate_for_another_edge_is_refused(tmp_path: Path) -> None:
    authority = HopAuthority(datetime.now(UTC))
    identity = authority.issue("eu", "fra-1")
    for name, content in (
        ("ca.pem", authority.certificate_pem()),
        ("hop.pem", identity.chain_pem()),
        ("hop.key", identity.key_pem()),
    ):
        (tmp_path / name).write_bytes(content)
    hop = {f"hop.{key}": str(tmp_path / name) for key, name in (("cert", "hop.pem"), ("key", "hop.key"))}
    hop["hop.ca"] = str(tmp_path / "ca.pem")
    with pytest.raises(UserError, match=r"hop\.pem: is for node_id 'fra-1', but node_id is set to 'sin-1'"):
        trio.run(open_edge, dev_config(node_id="sin-1", **hop))
