"""A process for each run: seeds side by side on all cores, and none can disturb another.

A run is minutes of one core in Rust and Python with a world of its own, so threads gain nothing; a pool of
workers that live on would carry the memory and the faults of one run into the next. Each run therefore gets a
process that is started for it (spawn: no inherited state, another hash seed, which is what makes running one
seed twice a test of determinism). What was rejected: `concurrent.futures`, which answers the death of one
worker by breaking all, without saying whose it was.

The parent reads one pipe per process. Results come in the order in which runs were asked for, whatever order
they end in, so that reports do not depend on the machine.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final, Generic, Literal, TypeVar

from farcast.errors import UserError

JOBS_MAX: Final = 256
STOP_SECONDS_MAX: Final = 5.0
"""A process that is told to end and does not is killed after so long."""

TRACE_CHARACTERS_MAX: Final = 20_000

J = TypeVar("J")
R = TypeVar("R")

Progress = Callable[[float], None]
"""What a run is given to say how far it is, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no result. ``kind``: the user can put it right, the run raised, or its process died."""

    kind: Literal["user", "raised", "died"]
    what: str
    """One line, or one line per fault."""
    trace: str = ""


@dataclass(slots=True)
class _Running(Generic[J]):
    number: int
    job: J
    process: SpawnProcess
    pipe: Connection
    outcome: Any = None
    has_outcome: bool = False


@dataclass(slots=True)
class Pool(Generic[J, R]):
    """Runs ``work(job, progress)`` for each job, at most ``jobs_max`` at a time.

    ``work`` is a function of a module, ``job`` and what it returns can be pickled. ``on_progress(number, job,
    share)`` is called in this process.
    """

    work: Callable[[J, Progress], R]
    jobs_max: int = field(default_factory=lambda: available_cores())
    on_progress: Callable[[int, J, float], None] = lambda number, job, share: None

    def run(self, jobs: Sequence[J]) -> Iterator[tuple[J, R | Failure]]:
        """The outcome of each job, in the order of ``jobs``; leaving early ends all processes."""
        waiting = list(enumerate(jobs))[::-1]
        running: dict[int, _Running[J]] = {}
        done: dict[int, R | Failure] = {}
        try:
            for number, job in enumerate(jobs):
                while number not in done:
                    while waiting and len(running) < min(self.jobs_max, JOBS_MAX):
                        started = self._start(*waiting.pop())
                        running[started.number] = started
                    self._collect(running, done)
                yield job, done.pop(number)
        finally:
            _end(list(running.values()))

    def _start(self, number: int, job: J) -> _Running[J]:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=_child, args=(theirs, self.work, job), name=f"farcast-sim-{number}", daemon=True
        )
        with _without_sigint():
            process.start()
        theirs.close()
        return _Running(number, job, process, ours)

    def _collect(self, running: dict[int, _Running[J]], done: dict[int, R | Failure]) -> None:
        """Wait for whatever comes first, and take it."""
        by_pipe = {each.pipe: each for each in running.values()}
        for ready in wait(list(by_pipe)):
            each = by_pipe[ready]  # type: ignore[index]  # only pipes were given
            try:
                kind, value = each.pipe.recv()
            except (EOFError, OSError):
                done[each.number] = _outcome(each)
                del running[each.number]
                continue
            if kind == "progress":
                self.on_progress(each.number, each.job, value)
            else:
                each.outcome, each.has_outcome = value, True


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def _outcome(each: _Running[Any]) -> Any:
    """What a process left behind whose pipe is closed."""
    each.process.join()
    each.pipe.close()
    if each.has_outcome:
        return each.outcome
    code = each.process.exitcode or 0
    if code >= 0:
        return Failure("died", f"its process ended with exit code {code} and without a result")
    name = signal.Signals(-code).name
    hint = ": was there enough memory?" if name == "SIGKILL" else ""
    return Failure("died", f"its process was ended by {name}{hint}")


def _end(running: Sequence[_Running[Any]]) -> None:
    for each in running:
        each.process.terminate()
    for each in running:
        each.process.join(STOP_SECONDS_MAX)
        if each.process.is_alive():
            each.process.kill()
            each.process.join()
        each.pipe.close()


@contextmanager
def _without_sigint() -> Iterator[None]:
    """What is started in the block has SIGINT blocked for ever: Ctrl-C reaches the whole process group, and
    the parent alone decides what it means."""
    # It is started with the first process, and unblocks SIGINT as it does so (Python 3.11 to 3.13).
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _child(pipe: Connection, work: Callable[[Any, Progress], Any], job: Any) -> None:
    """The life of one process."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    shown = -1.0

    def progress(share: float) -> None:
        nonlocal shown
        if share - shown >= 0.01:
            shown = share
            with suppress(OSError):
                pipe.send(("progress", share))

    try:
        result = work(job, progress)
    except UserError as error:
        result = Failure("user", error.message)
    except Exception as error:
        trace = traceback.format_exc()[-TRACE_CHARACTERS_MAX:]
        result = Failure("raised", f"{type(error).__name__}: {error}", trace)
    pipe.send(("outcome", result))
    pipe.close()


def _end_with_parent() -> None:
    """A child whose parent was killed has nobody left to work for."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
