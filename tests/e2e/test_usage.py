"""Metering on real processes: what merchants use is counted once, whoever dies in between."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from commands import end, figures, killed_at_end, start

from .test_joining import FILM, Edge, Network, network, until

__all__ = ["network"]

CLIENT = ("--namespace", "live/room1", "--insecure", "--no-edge-list")


class Shop:
    """An issuer whose tokens the network takes."""

    def __init__(self, network: Network) -> None:
        self.network, self.key = network, network.folder / "shop.jwk"
        public = network.folder / "shop.json"
        public.write_text(end(start("token", "key", str(self.key), "--key-id", "shop-1")).out)
        network.done("token", "trust", str(public), "--issuer", "shop")
        self.files = [self._token("--publish"), self._token("--watch")]

    def _token(self, action: str) -> str:
        wanted = ("--key", str(self.key), "--cluster", "shows", "--issuer", "shop", action, "live/room1")
        file = self.network.folder / f"{action}.token"
        file.write_text(end(start("token", "issue", *wanted)).out)
        return str(file)

    def show(self, edge: Edge, seconds: str) -> None:
        """A film is published and watched for a while, and all of it has been metered."""
        url = f"moqt://{edge.ready['listen']}"
        publisher = start("publish", FILM, url, *CLIENT, "--token-file", self.files[0])
        with killed_at_end(publisher):
            watching = ("--token-file", self.files[1], "--seconds", seconds, "--json")
            with killed_at_end(watcher := start("watch", url, *CLIENT, *watching)):
                assert figures(watcher)["frames"] > 10
            publisher.terminate()
            end(publisher)
        until(lambda: at_edge(edge)["viewers"] == at_edge(edge)["publishers"] == 0)

    def usage(self) -> dict[str, Any]:
        """As the control plane counts it."""
        state = self.network.folder / "control"
        api = json.loads((state / "api.json").read_text())["api"]
        headers = {"Authorization": f"Bearer {(state / 'api.token').read_text().strip()}"}
        (row,) = httpx.get(f"{api}/v1/usage?days=2", headers=headers, timeout=20).json()["keys"]
        found: dict[str, Any] = row
        return found


def at_edge(edge: Edge) -> dict[str, int]:
    """What the edge itself has counted since it began."""
    status = httpx.get(f"http://{edge.ready['ops']}/status.json", timeout=20).json()
    found: dict[str, int] = status["agent"]["access"]["usage"]["shop-1"]
    return found


def arguments(network: Network, name: str, *options: str) -> list[str]:
    listen = ["--listen=127.0.0.1:0", "--ops=127.0.0.1:0", "--dev-cert"]
    return ["edge", *listen, f"--state-dir={network.folder / name}", *options]


@pytest.mark.slow
def test_usage_is_counted_once_over_restarts_of_edge_and_control_plane(network: Network) -> None:
    ready = network.control()
    control = network.running[-1]
    joined = ("--join", network.token())
    edge = Edge(*network.serve("sin", *arguments(network, "sin", *joined)))
    shop = Shop(network)
    until(lambda: httpx.get(f"http://{edge.ready['ops']}/status.json").json()["agent"]["access"]["keys"] == 1)
    shop.show(edge, "3")
    first = at_edge(edge)
    assert first["bytes_out"] > 10_000
    until(lambda: shop.usage()["total"]["bytes_out"] == first["bytes_out"])
    told = shop.usage()
    assert told["total"]["bytes_in"] == first["bytes_in"]
    assert told["total"]["viewer_minutes"] == pytest.approx(first["viewer_us"] / 60e6, abs=0.001)
    assert sum(day["bytes_out"] for day in told["days"]) == first["bytes_out"]

    # The control plane is gone; the edge meters on, ends in order, and its next process tells what it left.
    control.kill()
    control.wait()
    shop.show(edge, "2")
    second = at_edge(edge)
    assert second["bytes_out"] > first["bytes_out"]
    edge.stop(signal.SIGTERM)
    edge = Edge(*network.serve("sin", *arguments(network, "sin")))
    network.control(listen=ready["listen"])
    until(lambda: shop.usage()["total"]["bytes_out"] == second["bytes_out"])
    shop.show(edge, "1")
    third = at_edge(edge)["bytes_out"]
    until(lambda: shop.usage()["total"]["bytes_out"] == second["bytes_out"] + third)

    # An edge that dies leaves what it has told; nothing is told twice.
    edge.stop(signal.SIGKILL)
    edge = Edge(*network.serve("sin", *arguments(network, "sin")))
    until(lambda: edge.control()["connected"])
    shop.show(edge, "1")
    fourth = at_edge(edge)["bytes_out"]
    until(lambda: shop.usage()["total"]["bytes_out"] == second["bytes_out"] + third + fourth)
    table = end(start("token", "usage", *network.state)).out
    assert "shop-1" in table
    assert "GB" in table


def test_a_damaged_file_of_meters_is_one_line_and_the_edge_serves(network: Network) -> None:
    network.control()
    edge = network.edge("sin", "--join", network.token())
    until(lambda: edge.control()["connected"])
    edge.stop()
    file: Path = network.folder / "sin" / "usage"
    file.write_bytes(b"nonsense")
    back = network.edge("sin")
    until(lambda: back.control()["connected"])
    lines = (network.folder / "sin.log").read_text().splitlines()
    (line,) = [json.loads(line) for line in lines if "metered usage is lost" in line]
    assert (line["level"], line["file"]) == ("error", str(file))
