"""moq-rs and our tools in all pairs: drafts 16 and 18, raw QUIC and WebTransport, and some of each mixed."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import ours
from .children import Child
from .films import expect_consecutive, numbers_in_file, numbers_in_frames, write_fragmented_film
from .network import PREFIX, Network, Transport, over_the_hop, two_edges
from .results import Case, Group
from .tools import WATCH_SECONDS, farcast_publish, farcast_watch, moq_rs

PEER = "moq-lite-rs"
OBJECTS = 25
FRAMES = 60


@dataclass(frozen=True, slots=True)
class Stage:
    """What the cases of one pair of drafts share."""

    network: Network
    folder: Path
    film: Path


@dataclass(frozen=True, slots=True)
class Ends:
    """How the publisher and the viewer of a case are connected."""

    publisher: tuple[Transport, int]
    viewer: tuple[Transport, int]

    def __str__(self) -> str:
        ends = (self.publisher, self.viewer)
        first, second = (f"{TRANSPORT_NAMES[transport]} {draft}" for transport, draft in ends)
        return first if first == second else f"{first} to {second}"


TRANSPORT_NAMES: dict[Transport, str] = {"quic": "QUIC", "webtransport": "WT"}

ENDS = [
    Ends(("quic", 18), ("quic", 18)),
    Ends(("webtransport", 18), ("webtransport", 18)),
    Ends(("quic", 16), ("quic", 16)),
    Ends(("webtransport", 16), ("webtransport", 16)),
    Ends(("quic", 18), ("webtransport", 16)),
    Ends(("webtransport", 16), ("quic", 18)),
]


def moq_rs_groups(folder: Path) -> list[Group[Stage]]:
    """All cases with moq-rs; edges are started anew for each pair of drafts, which they are restricted to."""
    film = folder / "film.mp4"
    return [_group(ends, folder, film) for ends in ENDS]


def _group(ends: Ends, folder: Path, film: Path) -> Group[Stage]:
    @asynccontextmanager
    async def open_stage() -> AsyncIterator[Stage]:
        if not film.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_fragmented_film(film)
        async with two_edges(folder, ends.publisher[1:], ends.viewer[1:]) as network:
            yield Stage(network, folder, film)

    cases = [Case(f"{name}, {ends}", over_the_hop(partial(run, ends))) for name, run in CASES.items()]
    return Group(open_stage, cases)


async def data_from_us(ends: Ends, stage: Stage) -> str:
    namespace = f"{PREFIX}/data-from-us"
    async with (
        ours.publishing(stage.network.origin, *ends.publisher, namespace),
        _viewing("subscribe-data", ends, stage, namespace) as subscriber,
    ):
        return ours.expect_exact(await _objects(subscriber))


async def data_to_us(ends: Ends, stage: Stage) -> str:
    namespace = f"{PREFIX}/data-to-us"
    async with _publishing("publish-data", ends, stage, namespace):
        received = await ours.receive(stage.network.viewer, *ends.viewer, namespace, OBJECTS)
    return ours.expect_exact(received)


async def data_between_them(ends: Ends, stage: Stage) -> str:
    namespace = f"{PREFIX}/data-between-them"
    async with (
        _publishing("publish-data", ends, stage, namespace),
        _viewing("subscribe-data", ends, stage, namespace) as subscriber,
    ):
        return ours.expect_exact(await _objects(subscriber))


async def film_from_us(ends: Ends, stage: Stage) -> str:
    namespace = f"{PREFIX}/film-from-us"
    transport, draft = ends.publisher
    async with (
        farcast_publish(stage.network.origin, transport, namespace, stage.folder, draft),
        _viewing("watch-film", ends, stage, namespace) as viewer,
    ):
        catalog = await viewer.event("catalog")
        (video,) = catalog["video"].values()
        frames: list[bytes] = []
        sounds = 0
        while len(frames) < FRAMES or not sounds:
            line = await viewer.line()
            sounds += line["event"] == "audio"
            if line["event"] == "video":
                frames.append(base64.b64decode(line["payload"]))
    numbers = numbers_in_frames(bytes.fromhex(video["description"]), frames)
    return f"{expect_consecutive(numbers, FRAMES)}, {video['codec']}"


async def film_to_us(ends: Ends, stage: Stage) -> str:
    namespace = f"{PREFIX}/film-to-us"
    transport, draft = ends.viewer
    async with _publishing("publish-film", ends, stage, namespace, stage.film):
        film, _ = await farcast_watch(stage.network.viewer, transport, namespace, stage.folder, draft)
    return expect_consecutive(numbers_in_file(film), 20 * WATCH_SECONDS)


@asynccontextmanager
async def _publishing(
    role: str, ends: Ends, stage: Stage, namespace: str, *more: Path
) -> AsyncIterator[Child]:
    """moq-rs publishes at the first edge for the length of the block."""
    server, (transport, draft) = stage.network.origin, ends.publisher
    async with moq_rs(role, server, transport, namespace, stage.folder, more) as process:
        await process.event("publishing")
        await server.expect_session(PEER, transport, draft)
        yield process


@asynccontextmanager
async def _viewing(role: str, ends: Ends, stage: Stage, namespace: str) -> AsyncIterator[Child]:
    """moq-rs watches at the second edge for the length of the block."""
    server, (transport, draft) = stage.network.viewer, ends.viewer
    async with moq_rs(role, server, transport, namespace, stage.folder) as process:
        await process.event("connected")
        await server.expect_session(PEER, transport, draft)
        yield process


async def _objects(subscriber: Child) -> list[tuple[int, int, str]]:
    received: list[tuple[int, int, str]] = []
    while len(received) < OBJECTS:
        line = await subscriber.event("object")
        received.append((line["group"], line["object"], line["sha256"]))
    return received


CASES: dict[str, Callable[[Ends, Stage], Awaitable[str]]] = {
    "our publisher -> moq-rs": data_from_us,
    "moq-rs -> our viewer": data_to_us,
    "moq-rs -> moq-rs": data_between_them,
    "farcast publish -> moq-rs": film_from_us,
    "moq-rs (film) -> farcast watch": film_to_us,
}
