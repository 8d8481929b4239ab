"""The driver: wakes for events and timeouts only, keeps order, and leaves nothing behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from fake_runtime import FakeRuntime

from farcast import driving
from farcast.edge.driver import Driver, DriverClosed
from farcast.proto._core import Command, Event


class Recorder:
    """An engine that notes what it is given and sends what it is told to."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.timeouts: list[int] = []
        self.commands: deque[Any] = deque()
        self.timeout_us: int | None = None
        self.on_event: Callable[[Any], None] = lambda event: None

    def handle_event(self, event: Any, now_us: int) -> None:
        self.events.append(event)
        self.on_event(event)

    def handle_timeout(self, now_us: int) -> None:
        self.timeouts.append(now_us)
        self.timeout_us = None

    def poll_command(self) -> Any:
        return self.commands.popleft() if self.commands else None

    def poll_timeout(self) -> int | None:
        return self.timeout_us


def close_command(session: int) -> Any:
    return Command.Close(session=session, code=0, reason="")


def silence(session: int) -> Any:
    return Event.HopSilent(session=session, silent=True)


def drive(
    runtime: FakeRuntime, engine: Recorder, scenario: Callable[[Driver[Recorder]], Awaitable[None]]
) -> None:
    """Run a driver and a scenario beside it, then close the driver."""

    async def main() -> None:
        driver = Driver(runtime, engine)
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(driver.run)
                await scenario(driver)
                driver.close()

    trio.run(main)


def test_events_reach_the_engine_in_order_and_its_commands_the_runtime(runtime: FakeRuntime) -> None:
    engine = Recorder()
    engine.on_event = lambda event: engine.commands.append(close_command(event.session))

    async def scenario(driver: Driver[Recorder]) -> None:
        runtime.emit(silence(1), silence(3))
        await trio.testing.wait_all_tasks_blocked(0.01)
        runtime.emit(silence(5))
        await trio.testing.wait_all_tasks_blocked(0.01)

    drive(runtime, engine, scenario)
    assert [silence(1), silence(3), silence(5)] == engine.events
    assert [close_command(1), close_command(3), close_command(5)] == runtime.executed


def test_nothing_wakes_the_driver_when_nothing_happens(runtime: FakeRuntime) -> None:
    async def scenario(driver: Driver[Recorder]) -> None:
        await trio.sleep(0.05)
        assert runtime.drains == 0

    drive(runtime, Recorder(), scenario)


def test_the_engines_timeout_is_kept(runtime: FakeRuntime) -> None:
    engine = Recorder()
    engine.timeout_us = 20_000

    async def scenario(driver: Driver[Recorder]) -> None:
        while not engine.timeouts:
            await trio.sleep(0.001)

    drive(runtime, engine, scenario)
    assert engine.timeouts[0] >= 20_000
    assert len(engine.timeouts) == 1


def test_a_call_sends_commands_at_once_and_takes_over_a_new_timeout(runtime: FakeRuntime) -> None:
    engine = Recorder()

    def set_timer(engine: Recorder, now_us: int, after_us: int) -> str:
        engine.commands.append(close_command(7))
        engine.timeout_us = now_us + after_us
        return "done"

    async def scenario(driver: Driver[Recorder]) -> None:
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert driver.call(set_timer, after_us=1000) == "done"
        assert [close_command(7)] == runtime.executed
        while not engine.timeouts:
            await trio.sleep(0.001)

    drive(runtime, engine, scenario)


def test_a_flood_of_events_lets_other_tasks_run(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "EVENTS_PER_TURN_MAX", 2)
    engine = Recorder()
    seen: list[int] = []

    async def scenario(driver: Driver[Recorder]) -> None:
        runtime.emit(*(silence(2 * n + 1) for n in range(20)))
        while len(engine.events) < 20:
            seen.append(len(engine.events))
            await trio.lowlevel.checkpoint()

    drive(runtime, engine, scenario)
    assert len(set(seen)) > 3


def test_snapshot_is_answered_and_kept_from_the_engine(runtime: FakeRuntime) -> None:
    counters: Any = {
        "now_us": 5,
        "totals": {},
        "sessions": [],
        "downstreams": [],
        "tracks": 0,
        "cache_bytes": 0,
    }
    runtime.answer = lambda command: (
        [Event.Snapshot(token=command.token, snapshot=counters)]
        if isinstance(command, Command.Snapshot)
        else []
    )
    engine = Recorder()
    answers: list[Any] = []

    async def scenario(driver: Driver[Recorder]) -> None:
        answers.append(await driver.snapshot())

    drive(runtime, engine, scenario)
    assert answers[0]["now_us"] == 5
    assert engine.events == []


def test_an_answer_after_its_asker_has_gone_does_no_harm(runtime: FakeRuntime) -> None:
    counters: Any = {"now_us": 5}
    outcome: list[str] = []

    async def scenario(driver: Driver[Recorder]) -> None:
        with trio.move_on_after(0.01):
            await driver.snapshot()
        (asked,) = runtime.executed
        runtime.emit(Event.Snapshot(token=asked.token, snapshot=counters), silence(1))
        await trio.testing.wait_all_tasks_blocked(0.01)
        outcome.append("still there")

    engine = Recorder()
    drive(runtime, engine, scenario)
    assert outcome == ["still there"]
    assert engine.events == [silence(1)]


def test_who_waits_for_a_snapshot_is_told_that_the_driver_closed(runtime: FakeRuntime) -> None:
    outcome: list[bool] = []

    async def ask(driver: Driver[Recorder]) -> None:
        try:
            await driver.snapshot()
        except DriverClosed:
            outcome.append(True)

    async def main() -> None:
        driver = Driver(runtime, Recorder())
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(driver.run)
                nursery.start_soon(ask, driver)
                await trio.testing.wait_all_tasks_blocked(0.01)
                driver.close()

    trio.run(main)
    assert outcome == [True]


def test_closing_sends_what_the_engine_has_ready_and_closes_the_runtime(runtime: FakeRuntime) -> None:
    engine = Recorder()

    async def scenario(driver: Driver[Recorder]) -> None:
        await trio.testing.wait_all_tasks_blocked(0.01)
        engine.commands.append(close_command(9))

    drive(runtime, engine, scenario)
    assert [close_command(9)] == runtime.executed
    assert runtime.closed


def test_cancellation_closes_the_runtime_too(runtime: FakeRuntime) -> None:
    async def main() -> None:
        with trio.move_on_after(0.02):
            await Driver(runtime, Recorder()).run()

    trio.run(main)
    assert runtime.closed


def test_observers_are_called_after_a_turn(runtime: FakeRuntime) -> None:
    engine = Recorder()
    seen: list[int] = []

    async def scenario(driver: Driver[Recorder]) -> None:
        driver.on_progress(lambda: seen.append(len(engine.events)))
        runtime.emit(silence(1))
        await trio.testing.wait_all_tasks_blocked(0.01)

    drive(runtime, engine, scenario)
    assert seen == [1]
