"""Trio shell of one datapath: runs one engine over one runtime, for edges, publishers and viewers alike.

Whoever else wants to call the engine does it through `Driver.call`, which also sends the commands that
the call gave rise to and takes over a changed timeout. See `farcast.driving` for what it has in common with
the control plane's driver.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import trio

from farcast.driving import BaseDriver, DriverClosed, E, Engine, Runtime

if TYPE_CHECKING:
    from farcast.proto._core import SnapshotDict

__all__ = ["Driver", "DriverClosed", "Engine", "Runtime"]


class Driver(BaseDriver[E]):
    """Runs ``engine`` over ``runtime`` and owns the runtime: when `run` ends, the runtime is closed."""

    def __init__(self, runtime: Runtime, engine: E) -> None:
        super().__init__(runtime, engine)
        self._waiting: trio.CancelScope | None = None
        self._snapshots: set[trio.MemorySendChannel[SnapshotDict]] = set()

    async def snapshot(self) -> SnapshotDict:
        """All counters of the datapath; `DriverClosed` if it ends before it answers."""
        send, receive = trio.open_memory_channel["SnapshotDict"](1)
        token = self._ask_snapshot(send.send_nowait)
        self._snapshots.add(send)
        try:
            return await receive.receive()
        except trio.EndOfChannel as error:
            raise DriverClosed from error
        finally:
            self._answers.pop(token, None)
            self._snapshots.discard(send)
            send.close()

    async def run(self) -> None:
        """Run until `close` or cancellation; on the way out commands are flushed and the runtime closed."""
        try:
            while not self._closing:
                self._flush()
                if await self._wait():
                    self._take_turn()
        finally:
            self._closing = True
            self._flush()
            for channel in self._snapshots:
                channel.close()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._runtime.close)

    def close(self) -> None:
        """End `run`. Commands that the engine has ready are still sent."""
        self._closing = True
        if self._waiting is not None:
            self._waiting.cancel()

    def block(self, seconds: float) -> None:
        """For tests: keep the Python thread busy, while the datapath has to go on by itself."""
        time.sleep(seconds)

    def _reschedule(self) -> None:
        if self._waiting is not None:
            self._waiting.deadline = self._deadline()

    def _deadline(self) -> float:
        """The engine's timeout on trio's clock."""
        timeout_us = self.engine.poll_timeout()
        if timeout_us is None:
            return math.inf
        return trio.current_time() + max(0, timeout_us - self.now_us()) / 1e6

    async def _wait(self) -> bool:
        """Sleep until events wait, the engine's timeout has come (True), or `close` (False)."""
        with trio.CancelScope(deadline=self._deadline()) as self._waiting:
            await trio.lowlevel.wait_readable(self._runtime.event_fd)
        self._waiting = None
        return not self._closing
