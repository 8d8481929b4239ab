"""Asyncio shell of one datapath: the control plane's engine over its runtime, as `farcast.edge.driver` is
for trio, with the same engines, the same names and the same promises.

Events are taken in the event loop's reader callback and not in a task of their own: with some hundred edges
reporting, waking a task for each batch would cost a second pass through the loop. What comes within
`GATHER_S` after a turn is taken together in the next: a report that wakes a process for itself alone finds
nothing of it in the processor's caches and costs more (`make bench-control`). An exception of the engine or
of an observer ends `Driver.run`, which raises it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from farcast.driving import BaseDriver, DriverClosed, E, Engine, Runtime

if TYPE_CHECKING:
    from farcast.proto._core import SnapshotDict

__all__ = ["Driver", "DriverClosed", "Engine", "Runtime"]

TIMER_STEP_US = 1000
"""Timeouts are rounded up to this: uvloop's timers have no finer step, and an early one would spin."""

GATHER_S = 0.025
"""Little beside a report's period of a second; a push waits for it at each level of a tree, parent before
child, unless it is an escape."""


class Driver(BaseDriver[E]):
    """Runs ``engine`` over ``runtime`` and owns the runtime: when `run` ends, the runtime is closed."""

    def __init__(self, runtime: Runtime, engine: E) -> None:
        super().__init__(runtime, engine)
        self._ended: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_us: int | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._snapshots: set[asyncio.Future[SnapshotDict]] = set()

    async def snapshot(self) -> SnapshotDict:
        """All counters of the datapath; `DriverClosed` if it ends before it answers."""
        asked: asyncio.Future[SnapshotDict] = asyncio.get_running_loop().create_future()
        token = self._ask_snapshot(lambda counters: None if asked.done() else asked.set_result(counters))
        self._snapshots.add(asked)
        try:
            return await asked
        finally:
            self._answers.pop(token, None)
            self._snapshots.discard(asked)

    async def run(self) -> None:
        """Run until `close` or cancellation; on the way out commands are flushed and the runtime closed."""
        loop = asyncio.get_running_loop()
        try:
            if not self._closing:
                self._ended = loop.create_future()
                self._flush()
                self._reschedule()
                self._listen()
                await self._ended
        finally:
            self._closing = True
            self._ended = None
            loop.remove_reader(self._runtime.event_fd)
            if self._gathering is not None:
                self._gathering.cancel()
            self._cancel_timer()
            for asked in self._snapshots:
                if not asked.done():
                    asked.set_exception(DriverClosed())
            try:
                self._flush()
            finally:
                await self._close_runtime(loop)

    def close(self) -> None:
        """End `run`. Commands that the engine has ready are still sent."""
        self._closing = True
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _listen(self) -> None:
        asyncio.get_running_loop().add_reader(self._runtime.event_fd, self._on_events)

    def _on_events(self) -> None:
        self._guard(self._take_turn)
        if self._took_all and self._ended is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._runtime.event_fd)
            self._gathering = loop.call_later(GATHER_S, self._listen)

    def _guard(self, turn: Callable[[], None]) -> None:
        """One turn in a callback of the loop, what it gave rise to, and its error for `run` to raise."""
        if self._ended is None or self._ended.done():
            return
        try:
            turn()
            self._flush()
            self._reschedule()
        except Exception as error:
            if not self._ended.done():
                self._ended.set_exception(error)

    def _reschedule(self) -> None:
        if self._ended is None or self._ended.done():
            return
        timeout_us = self.engine.poll_timeout()
        if timeout_us == self._timer_us:
            return
        self._cancel_timer()
        if timeout_us is None:
            return
        steps = max(0, -((self.now_us() - timeout_us) // TIMER_STEP_US))
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(loop.time() + steps * TIMER_STEP_US / 1e6, self._on_timer)
        self._timer_us = timeout_us

    def _on_timer(self) -> None:
        self._timer = self._timer_us = None
        self._guard(self._take_turn)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._timer_us = None

    async def _close_runtime(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until the runtime's threads are gone, even if `run` is cancelled meanwhile."""
        closed = loop.run_in_executor(None, self._runtime.close)
        cancelled: asyncio.CancelledError | None = None
        while not closed.done():
            try:
                await asyncio.wait([closed])
            except asyncio.CancelledError as error:
                cancelled = error
        closed.result()
        if cancelled is not None:
            raise cancelled
