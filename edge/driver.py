"""Trio shell of one datapath: runs one engine over one runtime, for edges, publishers and viewers alike.

The runtime's threads move media and know nothing of Python. They put events into a queue and make a file
descriptor readable; the driver sleeps until that happens or until the engine's own timeout, hands the
events over, and takes the engine's commands back. It never polls, and everything that touches the engine
happens in the one trio thread, so that an engine needs no locks.

Whoever else wants to call the engine does it through `Driver.call`, which also sends the commands that
the call gave rise to and takes over a changed timeout.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, Protocol, TypeVar

import trio

if TYPE_CHECKING:
    from farcast.proto._core import Command, Event, SnapshotDict

EVENTS_PER_TURN_MAX = 512
"""Events taken from the runtime before other tasks get a turn."""

COMMANDS_PER_BATCH_MAX = 1024
"""Commands given to the runtime in one call."""

P = ParamSpec("P")
R = TypeVar("R")


class Runtime(Protocol):
    """The datapath as the driver sees it: `farcast.proto._core.Runtime`, or a test's stand-in."""

    @property
    def event_fd(self) -> int: ...
    def execute(self, commands: Sequence[Command]) -> None: ...
    def drain_events(self, max: int) -> list[Event]: ...
    def now_us(self) -> int: ...
    def close(self) -> None: ...


class Engine(Protocol):
    """A sans-IO engine that is driven by datapath events; times in microseconds of the runtime's clock."""

    def handle_event(self, event: Event, now_us: int) -> None: ...
    def handle_timeout(self, now_us: int) -> None: ...
    def poll_command(self) -> Command | None: ...
    def poll_timeout(self) -> int | None: ...


E = TypeVar("E", bound=Engine)


class DriverClosed(Exception):
    """The driver ended while somebody waited for an answer of the datapath."""


class Driver(Generic[E]):
    """Runs ``engine`` over ``runtime`` and owns the runtime: when `run` ends, the runtime is closed."""

    def __init__(self, runtime: Runtime, engine: E) -> None:
        self.engine = engine
        self._runtime = runtime
        self._waiting: trio.CancelScope | None = None
        self._closing = False
        self._snapshots: dict[int, trio.MemorySendChannel[SnapshotDict]] = {}
        self._snapshots_asked = 0
        self._observers: list[Callable[[], None]] = []
        self._event_observers: list[Callable[[Event], None]] = []

    def now_us(self) -> int:
        """The runtime's clock, microseconds since its start."""
        return self._runtime.now_us()

    def on_progress(self, observer: Callable[[], None]) -> None:
        """Have ``observer`` called after each batch of events or timeout, to poll the engine."""
        self._observers.append(observer)

    def on_event(self, observer: Callable[[Event], None]) -> None:
        """Have ``observer`` see each event after the engine has had it."""
        self._event_observers.append(observer)

    def call(self, method: Callable[Concatenate[E, int, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """``method(engine, now_us, …)``, and then send the engine's commands."""
        result = method(self.engine, self.now_us(), *args, **kwargs)
        self._flush()
        if self._waiting is not None:
            self._waiting.deadline = self._deadline()
        return result

    async def snapshot(self) -> SnapshotDict:
        """All counters of the datapath; `DriverClosed` if it ends before it answers."""
        from farcast.proto._core import Command

        if self._closing:
            raise DriverClosed
        self._snapshots_asked += 1
        token = self._snapshots_asked
        send, receive = trio.open_memory_channel["SnapshotDict"](1)
        self._snapshots[token] = send
        self._runtime.execute([Command.Snapshot(token=token)])
        try:
            return await receive.receive()
        except trio.EndOfChannel as error:
            raise DriverClosed from error
        finally:
            self._snapshots.pop(token, None)

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
            for channel in self._snapshots.values():
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

    def _take_turn(self) -> None:
        events = self._runtime.drain_events(EVENTS_PER_TURN_MAX)
        now_us = self.now_us()
        for event in events:
            if self._answers_snapshot(event):
                continue
            self.engine.handle_event(event, now_us)
            for event_observer in self._event_observers:
                event_observer(event)
        timeout_us = self.engine.poll_timeout()
        if timeout_us is not None and timeout_us <= now_us:
            self.engine.handle_timeout(now_us)
        for observer in self._observers:
            observer()

    def _answers_snapshot(self, event: Event) -> bool:
        from farcast.proto._core import Event as CoreEvent

        if not isinstance(event, CoreEvent.Snapshot):
            return False
        if (channel := self._snapshots.pop(event.token, None)) is not None:
            channel.send_nowait(event.snapshot)
            channel.close()
        return True

    def _flush(self) -> None:
        """Hand all commands of the engine to the runtime, in order."""
        batch: list[Command] = []
        while (command := self.engine.poll_command()) is not None:
            batch.append(command)
            if len(batch) == COMMANDS_PER_BATCH_MAX:
                self._runtime.execute(batch)
                batch = []
        if batch:
            self._runtime.execute(batch)
