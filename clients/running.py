"""Runs a client's engine for as long as a block of code needs it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
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
async def running(driver: Driver[C], *beside: Callable[[Driver[C]], Awaitable[None]]) -> AsyncIterator[None]:
    """Start the engine; close its session and the datapath at the end of the block, in whatever way.

    What is ``beside`` runs as long as the block, and is cancelled with it.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        driver.call(lambda engine, now_us: engine.start(now_us))
        helping = [trio.CancelScope() for _ in beside]
        for scope, task in zip(helping, beside, strict=True):
            nursery.start_soon(_run_in, scope, task, driver)
        try:
            yield
        finally:
            for scope in helping:
                scope.cancel()
            driver.call(lambda engine, now_us: engine.close(now_us))
            driver.close()


async def _run_in(
    scope: trio.CancelScope, task: Callable[[Driver[C]], Awaitable[None]], driver: Driver[C]
) -> None:
    with scope:
        await task(driver)


def cannot_connect(server: Server, reason: str) -> UserError:
    """The error for a connection that is given up: what, where and what to do."""
    if reason.startswith("no edge can be used"):
        return UserError(f"{reason}{_advice(reason)}")
    if reason.startswith("no answer") or "timed out" in reason:
        return UserError(server.no_answer)
    return UserError(f"{server.url}: the server refuses: {reason}{_advice(reason)}")


def _advice(reason: str) -> str:
    if "certificate" not in reason.lower():
        return ""
    return "; trust it by --cert-sha256 HEX, --ca FILE or, for a trial, --insecure"
