"""The edges that cases run against: two real processes with a hop between them.

Publishers go to the first one, viewers to the second, so that everything a peer sees crosses the hop.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import trio

from farcast.certificates import HopAuthority

from .children import child
from .results import expect

Transport = Literal["quic", "webtransport"]
SCHEMES: dict[Transport, str] = {"quic": "moqt", "webtransport": "https"}

FARCAST = Path(sys.executable).with_name("farcast")
"""The tools as users call them."""

PREFIX = "interop"
"""All namespaces here begin with it; the second edge fetches them from the first."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where peers connect; ``cert_sha256`` in hex; ``ops`` is HOST:PORT of an edge's status."""

    address: str
    cert_sha256: str
    ops: str

    def url(self, transport: Transport) -> str:
        """The server's URL."""
        return f"{SCHEMES[transport]}://{self.address}"

    def client_flags(self, transport: Transport) -> list[str]:
        """What our tools are told to connect here."""
        return [self.url(transport), "--cert-sha256", self.cert_sha256]

    async def status(self) -> dict[str, Any]:
        """Its ``/status.json``."""
        return dict(json.loads(await trio.to_thread.run_sync(self._fetch)))

    async def expect_session(self, implementation: str, transport: Transport, draft: int) -> None:
        """`Unmet` unless such a peer is connected by such means."""
        wanted = (implementation, transport, draft)
        sessions = (await self.status())["agent"]["sessions"]
        found = [(s["implementation"], s["transport"], s["draft"]) for s in sessions]
        expect(wanted in found, f"no session {wanted}, only {found}")

    def _fetch(self) -> bytes:
        with urllib.request.urlopen(f"http://{self.ops}/status.json", timeout=5) as response:
            return bytes(response.read())


@dataclass(frozen=True, slots=True)
class Network:
    """Where to publish and where to watch."""

    origin: Server
    viewer: Server

    async def hop_chunks(self) -> int:
        """How many chunks of media the second edge has received from the first."""
        sessions = (await self.viewer.status())["datapath"]["sessions"]
        return sum(session["hop"]["chunks_received"] for session in sessions if session["hop"])


class OnNetwork(Protocol):
    """What cases share, with a network in it."""

    @property
    def network(self) -> Network: ...


S = TypeVar("S", bound=OnNetwork)


def over_the_hop(run: Callable[[S], Awaitable[str]]) -> Callable[[S], Awaitable[str]]:
    """A case that also fails if no media crossed the hop meanwhile."""

    async def checked(stage: S) -> str:
        before = await stage.network.hop_chunks()
        remark = await run(stage)
        expect(await stage.network.hop_chunks() > before, "no media crossed the hop")
        return remark

    return checked


@asynccontextmanager
async def two_edges(
    folder: Path, origin_drafts: Sequence[int], viewer_drafts: Sequence[int]
) -> AsyncIterator[Network]:
    """Two edges on loopback for the length of the block, the second fetching from the first."""
    authority = HopAuthority(datetime.now(UTC))
    issued = _issue(authority, folder, "origin")
    async with _edge("origin", folder, origin_drafts, issued) as origin:
        upstream = [
            "--upstream",
            f"{PREFIX}=farcast://{origin.address}",
            *_issue(authority, folder, "viewer"),
        ]
        async with _edge("viewer", folder, viewer_drafts, upstream) as viewer:
            yield Network(origin, viewer)


@asynccontextmanager
async def edge_below(relay: Server, folder: Path) -> AsyncIterator[Server]:
    """One edge on loopback for the length of the block, fetching from a relay over raw QUIC."""
    config = folder / "edge.toml"
    upstream = {"prefix": PREFIX, "url": relay.url("quic"), "cert_sha256": relay.cert_sha256}
    lines = [f"{key} = {json.dumps(value)}" for key, value in upstream.items()]
    config.write_text("\n".join(["[[upstream]]", *lines, ""]))
    async with _edge("below", folder, (18, 16), ["--config", str(config)]) as edge:
        yield edge


@asynccontextmanager
async def _edge(name: str, folder: Path, drafts: Sequence[int], more: Sequence[str]) -> AsyncIterator[Server]:
    spoken = ",".join(map(str, drafts))
    fixed = [
        "--listen",
        "127.0.0.1:0",
        "--ops",
        "127.0.0.1:0",
        "--dev-cert",
        "--auth",
        "open",
        "--ready-json",
    ]
    flags = [*fixed, "--drafts", spoken, "--log-level", "debug", *more]
    async with child(f"edge-{name}", [FARCAST, "edge", *flags], folder) as process:
        with trio.fail_after(30):
            ready = await process.event("ready")
        yield Server(ready["listen"], ready["cert_sha256"], ready["ops"])


def _issue(authority: HopAuthority, folder: Path, name: str) -> list[str]:
    """Write an edge's hop certificate; the flags that name the files."""
    identity = authority.issue("test", name)
    folder.mkdir(parents=True, exist_ok=True)
    cert, key, ca = (folder / f"{name}.pem", folder / f"{name}.key", folder / "ca.pem")
    cert.write_bytes(identity.chain_pem())
    key.write_bytes(identity.key_pem())
    ca.write_bytes(authority.certificate_pem())
    return ["--hop-cert", str(cert), "--hop-key", str(key), "--hop-ca", str(ca)]
