"""What every driver of an engine does, whichever event loop it sleeps in.

A driver runs one engine over one datapath runtime. The runtime's threads move media and know nothing of
Python. They put events into a queue and make a file descriptor readable; the driver sleeps until that
happens or until the engine's own timeout, hands the events over, and takes the engine's commands back. It
never polls, and everything that touches the engine happens in one thread, so that an engine needs no locks.

The sleeping is the business of `farcast.edge.driver` (trio) and `farcast.control_plane.driver` (asyncio).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from farcast.proto._core import Command, Event, SnapshotDict

EVENTS_PER_TURN_MAX = 512
"""Events taken from the runtime before other tasks get a turn."""

COMMANDS_PER_BATCH_MAX = 1024
"""Commands given to the runtime in one call."""

P = ParamSpec("P")
R = TypeVar("R")


class Runtime(Protocol):
    """The datapath as a driver sees it: `farcast.proto._core.Runtime`, or a test's stand-in."""

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


class BaseDriver(Generic[E]):
    """Turns and commands of ``engine`` over ``runtime``; a subclass sleeps between the turns."""

    def __init__(self, runtime: Runtime, engine: E) -> None:
        self.engine = engine
        self._runtime = runtime
        self._closing = False
        self._took_all = False
        """Whether the last turn left no event waiting."""
        self._answers: dict[int, Callable[[SnapshotDict], None]] = {}
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
        self._reschedule()
        return result

    def _reschedule(self) -> None:
        """The engine's timeout may have changed outside of a turn."""
        raise NotImplementedError

    def _ask_snapshot(self, answer: Callable[[SnapshotDict], None]) -> int:
        """Ask the datapath for its counters; the token under which ``answer`` waits in ``_answers``."""
        from farcast.proto._core import Command

        if self._closing:
            raise DriverClosed
        self._snapshots_asked += 1
        token = self._snapshots_asked
        self._answers[token] = answer
        self._runtime.execute([Command.Snapshot(token=token)])
        return token

    def _take_turn(self) -> None:
        """Hand over what waits, and the engine's timeout if it has come."""
        events = self._runtime.drain_events(EVENTS_PER_TURN_MAX)
        self._took_all = len(events) < EVENTS_PER_TURN_MAX
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
        if (answer := self._answers.pop(event.token, None)) is not None:
            answer(event.snapshot)
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
