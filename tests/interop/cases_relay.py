"""A stock relay, moq-rs: our tools at it, and an edge that fetches from it over MoQT instead of a hop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from .films import expect_consecutive, numbers_in_file
from .network import PREFIX, Server, Transport, edge_below
from .results import Case, Group
from .tools import WATCH_SECONDS, farcast_publish, farcast_watch, moq_rs_relay

HEAD_START_SECONDS = 2.0
"""The catalog is long out when the viewer comes."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A relay, and an edge whose upstream it is."""

    relay: Server
    edge: Server
    folder: Path


def relay_group(folder: Path) -> Group[Stage]:
    """All cases with a stock relay."""

    @asynccontextmanager
    async def open_stage() -> AsyncIterator[Stage]:
        async with moq_rs_relay(folder) as relay, edge_below(relay, folder) as edge:
            yield Stage(relay, edge, folder)

    return Group(open_stage, [Case(name, run) for name, run in CASES.items()])


async def at_the_relay_with_draft_18(stage: Stage) -> str:
    return await _film(stage, stage.relay, "quic", 18)


async def at_the_relay_with_draft_16(stage: Stage) -> str:
    return await _film(stage, stage.relay, "webtransport", 16)


async def below_the_relay(stage: Stage) -> str:
    return await _film(stage, stage.edge, "quic", 18)


async def _film(stage: Stage, viewer: Server, transport: Transport, draft: int) -> str:
    namespace = f"{PREFIX}/relay-{transport}-{viewer.address}"
    async with farcast_publish(stage.relay, transport, namespace, stage.folder, draft):
        await trio.sleep(HEAD_START_SECONDS)
        film, _ = await farcast_watch(viewer, transport, namespace, stage.folder, draft)
    return expect_consecutive(numbers_in_file(film), 20 * WATCH_SECONDS)


CASES: dict[str, Callable[[Stage], Awaitable[str]]] = {
    "farcast publish -> moq-rs relay -> farcast watch, QUIC 18": at_the_relay_with_draft_18,
    "farcast publish -> moq-rs relay -> farcast watch, WT 16": at_the_relay_with_draft_16,
    "farcast publish -> moq-rs relay -> our edge -> farcast watch": below_the_relay,
}
