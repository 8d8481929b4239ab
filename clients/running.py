"""Runs a client's engine for as long as a block of code needs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

import trio

from farcast.clients.server import Server
from farcast.edge.driver import Driver, Engine
from farcast.errors import UserError


class ClientEngine(Engine, Protocol):
    """An engine with a session of its own, such as `Publisher` and `Viewer`."""

    def start(self, now_us: int) -> None: ...
    def close(self, now_us: int, reason: str = "") -> None: ...


C = TypeVar("C", bound=ClientEngine)


@asynccontextmanager
async def running(driver: Driver[C]) -> AsyncIterator[None]:
    """Start the engine; close its session and the datapath at the end of the block, in whatever way."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        driver.call(lambda engine, now_us: engine.start(now_us))
        try:
            yield
        finally:
            driver.call(lambda engine, now_us: engine.close(now_us))
            driver.close()


def cannot_connect(server: Server, reason: str) -> UserError:
    """The error for a connection that is given up: what, where and what to do."""
    if reason.startswith("no answer") or "timed out" in reason:
        return UserError(server.no_answer)
    advice = ""
    if "certificate" in reason.lower():
        advice = "; trust it by --cert-sha256 HEX, --ca FILE or, for a trial, --insecure"
    return UserError(f"{server.url}: the server refuses: {reason}{advice}")
