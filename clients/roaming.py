"""The addresses of edges: of those the user names, of those in an edge list, of one that GOAWAY names.

Engines know addresses, people and lists know names. Here names are resolved, in the background where the
engine asks for it, so that an edge that dies finds the addresses of the others at hand. The datapath of a
client has one socket, of one address family, and on loopback if its first edge is there: what cannot be
reached from it is left out.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import trio

from farcast.clients.server import CONNECT_SECONDS_MAX, Server
from farcast.edge.driver import Driver, Engine
from farcast.errors import EXIT_USAGE, UserError
from farcast.proto.client import ConnectionConfig
from farcast.proto.client import events as client
from farcast.proto.client.edge_list import EdgeList
from farcast.proto.client.edges import EDGES_MAX
from farcast.proto.urls import ServerUrl, parse_url, split_host_port

if TYPE_CHECKING:
    from farcast.clients.viewing import Note
    from farcast.proto.agent.config import Target

REQUESTS_WAITING_MAX = 16
"""Lists and URIs that wait to be resolved; of more the newest are dropped."""

RESOLVE_SECONDS_MAX = 2.0
"""A name that has no address by then is left out."""


class RoamingEngine(Engine, Protocol):
    """A client's engine, as far as it concerns edges."""

    def learn(self, now_us: int, targets: Sequence[Target], draining: Sequence[Target] = ()) -> None: ...
    def answer_uri(self, now_us: int, uri: str, target: Target | None) -> None: ...


C = TypeVar("C", bound=RoamingEngine)


@dataclass(frozen=True, slots=True)
class Edges:
    """The edges that the user named: the one to try first, and the others that can be reached beside it."""

    target: Target
    alternatives: tuple[Target, ...] = ()


async def find_edges(servers: Sequence[Server], note: Note) -> Edges:
    """Resolve what the user named; `UserError` that names each if none has an address, or for
    wrong usage (a file of authorities that cannot be read)."""
    found: list[Target] = []
    faults: list[str] = []
    for server in servers:
        try:
            target = await server.target()
        except UserError as error:
            if error.exit_code == EXIT_USAGE:
                raise
            faults.append(error.message)
            continue
        if found and not _same_socket(found[0], target):
            faults.append(f"{server.url}: {target.remote} cannot be reached from where {found[0].remote} can")
        else:
            found.append(target)
    if not found:
        raise UserError("; ".join(faults))
    for fault in faults:
        note(f"left out: {fault}")
    return Edges(found[0], tuple(found[1:]))


def connection_to(edges: Edges, token: bytes = b"") -> ConnectionConfig:
    """How a tool connects, and the token that it shows."""
    return ConnectionConfig(
        edges.target,
        alternatives=edges.alternatives,
        seed=secrets.randbits(63),
        connect_ms_max=int(CONNECT_SECONDS_MAX * 1000),
        token=token,
    )


class Roaming:
    """Resolves for one running client; ``server`` says whom to trust and what to speak."""

    def __init__(self, server: Server, first: Target, note: Note) -> None:
        self._server = server
        self._first = first
        self._note = note
        self._noted: set[str] = set()
        send, receive = trio.open_memory_channel[EdgeList | str](REQUESTS_WAITING_MAX)
        self._send, self._receive = send, receive
        self._edge = ""

    def handle(self, event: client.EdgeEvent | client.Connected) -> None:
        """Take what the engine says of edges."""
        match event:
            case client.Connected(edge=edge):
                self._edge = edge
            case client.EdgesListed(edges):
                self._ask(edges)
            case client.SentTo(uri):
                self._ask(uri)
            case client.EdgeListRefused(reason):
                self._note_once(f"{self._edge}: {reason}")
            case _:
                pass

    async def run(self, driver: Driver[C]) -> None:
        """Answer the engine; ends by cancellation."""
        async for asked in self._receive:
            if isinstance(asked, str):
                target = await self._resolve_uri(asked)
                driver.call(_answer_uri, asked, target)
            else:
                targets, draining = await self._resolve_list(asked)
                driver.call(_learn, targets, draining)

    def _ask(self, asked: EdgeList | str) -> None:
        try:
            self._send.send_nowait(asked)
        except trio.WouldBlock:
            self._note_once("more edge lists and moves than can be followed; some are ignored")

    async def _resolve_list(self, edges: EdgeList) -> tuple[list[Target], list[Target]]:
        targets: list[Target] = []
        draining: list[Target] = []
        for edge in edges.seen_from(self._edge)[:EDGES_MAX]:
            target = await self._resolve(edge.url)
            if target is not None:
                targets.append(target)
                draining += [target] if edge.draining else []
        return targets, draining

    async def _resolve_uri(self, uri: str) -> Target | None:
        try:
            url = parse_url(uri)
        except ValueError as error:
            self._note_once(f"{self._edge} sends us to a URL that cannot be used: {error}")
            return None
        if url.target == "hop":
            self._note_once(f"{self._edge} sends us to {uri}, which is for edges")
            return None
        return await self._resolve(url)

    async def _resolve(self, url: ServerUrl) -> Target | None:
        with trio.move_on_after(RESOLVE_SECONDS_MAX):
            try:
                target = await replace(self._server, url=url).target()
            except UserError as error:
                self._note_once(f"left out: {error.message}")
                return None
            return target if _same_socket(self._first, target) else None
        self._note_once(f"left out: {url}: its name was not resolved within {RESOLVE_SECONDS_MAX:g} s")
        return None

    def _note_once(self, text: str) -> None:
        if text not in self._noted and len(self._noted) < REQUESTS_WAITING_MAX:
            self._noted.add(text)
            self._note(text)


def _same_socket(first: Target, other: Target) -> bool:
    """Whether both can be reached from one socket."""
    a, b = (ipaddress.ip_address(split_host_port(target.remote)[0]) for target in (first, other))
    return a.version == b.version and (a.is_loopback == b.is_loopback)


def _learn(engine: C, now_us: int, targets: Sequence[Target], draining: Sequence[Target]) -> None:
    engine.learn(now_us, targets, draining)


def _answer_uri(engine: C, now_us: int, uri: str, target: Target | None) -> None:
    engine.answer_uri(now_us, uri, target)
