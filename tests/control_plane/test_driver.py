"""The asyncio driver: keeps order and timeouts, ends cleanly, and serves real edges on loopback."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import uvloop
from aioquic.quic.connection import QuicConnection
from control_clients import ControlClient, configuration, control_client
from fake_runtime import FakeRuntime

from farcast import driving
from farcast.certificates import HopAuthority, edge_name
from farcast.control_plane import driver as driver_module
from farcast.control_plane.driver import Driver, DriverClosed
from farcast.proto._core import Command, CoreError, DatapathConfig, Event, Runtime, ServerTls

SECONDS_MAX = 20
MIB = 1 << 20
EXCESSIVE_LOAD = 0x9
TLS_ALERTS = range(0x100, 0x200)

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    return LOOPS[request.param]


class Recorder:
    """An engine that notes what it is given and sends what it is told to."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.timeouts: list[int] = []
        self.commands: deque[Any] = deque()
        self.timeout_us: int | None = None
        self.on_event: Callable[[Any], None] = lambda event: None
        self.changed = asyncio.Event()

    def handle_event(self, event: Any, now_us: int) -> None:
        self.events.append(event)
        self.on_event(event)
        self.changed.set()

    def handle_timeout(self, now_us: int) -> None:
        self.timeouts.append(now_us)
        self.timeout_us = None
        self.changed.set()

    def poll_command(self) -> Any:
        return self.commands.popleft() if self.commands else None

    def poll_timeout(self) -> int | None:
        return self.timeout_us

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.changed.clear()
            await self.changed.wait()


Scenario = Callable[[Driver[Recorder]], Awaitable[None]]


def drive(
    new_loop: Callable[[], asyncio.AbstractEventLoop], runtime: Any, engine: Recorder, scenario: Scenario
) -> None:
    """Run a driver and a scenario beside it, then close the driver."""

    async def main() -> None:
        driver = Driver(runtime, engine)
        async with asyncio.timeout(SECONDS_MAX), asyncio.TaskGroup() as group:
            group.create_task(driver.run())
            await asyncio.sleep(0)
            try:
                await scenario(driver)
            finally:
                driver.close()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


def close_command(session: int) -> Any:
    return Command.Close(session=session, code=0, reason="")


def silence(session: int) -> Any:
    return Event.HopSilent(session=session, silent=True)


# ---- A runtime that does what it is told -----------------------------------------------------------


def test_events_reach_the_engine_in_order_and_its_commands_the_runtime(
    new_loop: Any, runtime: FakeRuntime
) -> None:
    engine = Recorder()
    engine.on_event = lambda event: engine.commands.append(close_command(event.session))

    async def scenario(driver: Driver[Recorder]) -> None:
        runtime.emit(silence(1), silence(3))
        await engine.until(lambda: len(engine.events) == 2)
        assert runtime.executed == [close_command(1), close_command(3)]
        runtime.emit(silence(5))
        await engine.until(lambda: len(engine.events) == 3)

    drive(new_loop, runtime, engine, scenario)
    assert engine.events == [silence(1), silence(3), silence(5)]
    assert runtime.executed == [close_command(1), close_command(3), close_command(5)]


def test_nothing_wakes_the_driver_when_nothing_happens(new_loop: Any, runtime: FakeRuntime) -> None:
    async def scenario(driver: Driver[Recorder]) -> None:
        await asyncio.sleep(0.05)
        assert runtime.drains == 0

    drive(new_loop, runtime, Recorder(), scenario)


def test_the_engines_timeout_is_kept_and_comes_once(new_loop: Any, runtime: FakeRuntime) -> None:
    engine = Recorder()
    engine.timeout_us = 20_300

    async def scenario(driver: Driver[Recorder]) -> None:
        await engine.until(lambda: bool(engine.timeouts))

    drive(new_loop, runtime, engine, scenario)
    assert len(engine.timeouts) == 1
    assert engine.timeouts[0] >= 20_300
    assert runtime.drains <= 2, "an early timer makes turns for nothing"


def test_a_call_sends_commands_at_once_and_takes_over_an_earlier_timeout(
    new_loop: Any, runtime: FakeRuntime
) -> None:
    engine = Recorder()
    engine.timeout_us = 3_600_000_000

    def set_timer(engine: Recorder, now_us: int, after_us: int) -> str:
        engine.commands.append(close_command(7))
        engine.timeout_us = now_us + after_us
        return "done"

    async def scenario(driver: Driver[Recorder]) -> None:
        assert driver.call(set_timer, after_us=1000) == "done"
        assert runtime.executed == [close_command(7)]
        await engine.until(lambda: bool(engine.timeouts))

    drive(new_loop, runtime, engine, scenario)


def test_a_flood_of_events_lets_other_tasks_run(
    new_loop: Any, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "EVENTS_PER_TURN_MAX", 2)
    engine = Recorder()
    seen: set[int] = set()

    async def scenario(driver: Driver[Recorder]) -> None:
        runtime.emit(*(silence(2 * n + 1) for n in range(20)))
        while len(engine.events) < 20:
            seen.add(len(engine.events))
            await asyncio.sleep(0)

    drive(new_loop, runtime, engine, scenario)
    assert len(seen) > 3


def test_what_comes_soon_after_a_turn_is_taken_together(
    new_loop: Any, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "GATHER_S", 3_600.0)
    engine = Recorder()

    def set_timer(engine: Recorder, now_us: int) -> None:
        engine.timeout_us = now_us

    async def scenario(driver: Driver[Recorder]) -> None:
        runtime.emit(silence(1))
        await engine.until(lambda: len(engine.events) == 1)
        for number in (3, 5):
            runtime.emit(silence(number))
            for _ in range(5):
                await asyncio.sleep(0)
        assert runtime.drains == 1
        driver.call(set_timer)
        await engine.until(lambda: len(engine.events) == 3)
        assert runtime.drains == 2, "the engine's own timeout waits for nothing"

    drive(new_loop, runtime, engine, scenario)


def test_after_a_turn_that_took_all_it_may_the_rest_follows_at_once(
    new_loop: Any, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "GATHER_S", 3_600.0)
    monkeypatch.setattr(driving, "EVENTS_PER_TURN_MAX", 2)
    engine = Recorder()

    async def scenario(driver: Driver[Recorder]) -> None:
        runtime.emit(*(silence(2 * n + 1) for n in range(7)))
        await engine.until(lambda: len(engine.events) == 7)

    drive(new_loop, runtime, engine, scenario)


def test_gathering_ends_by_itself(
    new_loop: Any, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver_module, "GATHER_S", 0.002)
    engine = Recorder()

    async def scenario(driver: Driver[Recorder]) -> None:
        for number in (1, 3, 5):
            runtime.emit(silence(number))
            await engine.until(lambda: not runtime.events)

    drive(new_loop, runtime, engine, scenario)


def test_snapshot_is_answered_and_kept_from_the_engine(new_loop: Any, runtime: FakeRuntime) -> None:
    counters: Any = {"now_us": 5}
    runtime.answer = lambda command: [Event.Snapshot(token=command.token, snapshot=counters)]
    engine = Recorder()

    async def scenario(driver: Driver[Recorder]) -> None:
        assert (await driver.snapshot())["now_us"] == 5

    drive(new_loop, runtime, engine, scenario)
    assert engine.events == []


def test_an_answer_after_its_asker_has_gone_does_no_harm(new_loop: Any, runtime: FakeRuntime) -> None:
    counters: Any = {"now_us": 5}
    engine = Recorder()

    async def scenario(driver: Driver[Recorder]) -> None:
        asking = asyncio.create_task(driver.snapshot())
        await asyncio.sleep(0)
        asking.cancel()
        (asked,) = runtime.executed
        runtime.emit(Event.Snapshot(token=asked.token, snapshot=counters), silence(1))
        await engine.until(lambda: engine.events == [silence(1)])

    drive(new_loop, runtime, engine, scenario)


def test_who_waits_for_a_snapshot_is_told_that_the_driver_closed(new_loop: Any, runtime: FakeRuntime) -> None:
    async def main() -> None:
        driver = Driver(runtime, Recorder())
        running = asyncio.create_task(driver.run())
        asking = asyncio.create_task(driver.snapshot())
        await asyncio.sleep(0)
        driver.close()
        with pytest.raises(DriverClosed):
            await asking
        await running
        with pytest.raises(DriverClosed):
            await driver.snapshot()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(asyncio.wait_for(main(), SECONDS_MAX))


def test_closing_sends_what_the_engine_has_ready_and_closes_the_runtime(
    new_loop: Any, runtime: FakeRuntime
) -> None:
    engine = Recorder()

    async def scenario(driver: Driver[Recorder]) -> None:
        engine.commands.append(close_command(9))

    drive(new_loop, runtime, engine, scenario)
    assert runtime.executed == [close_command(9)]
    assert runtime.closed


def test_cancellation_closes_the_runtime_too(new_loop: Any, runtime: FakeRuntime) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await Driver(runtime, Recorder()).run()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert runtime.closed


def test_an_error_of_the_engine_ends_the_driver_with_it(new_loop: Any, runtime: FakeRuntime) -> None:
    engine = Recorder()

    def fail(event: Any) -> None:
        raise ValueError("a fault of the engine")

    engine.on_event = fail
    runtime.emit(silence(1))
    with asyncio.Runner(loop_factory=new_loop) as runner, pytest.raises(ValueError, match="a fault of the"):
        runner.run(asyncio.wait_for(Driver(runtime, engine).run(), SECONDS_MAX))
    assert runtime.closed


def test_observers_are_called_after_a_turn_and_what_they_cause_is_sent(
    new_loop: Any, runtime: FakeRuntime
) -> None:
    engine = Recorder()

    async def scenario(driver: Driver[Recorder]) -> None:
        driver.on_progress(lambda: engine.commands.append(close_command(len(engine.events))))
        runtime.emit(silence(1))
        await engine.until(lambda: bool(engine.events))
        await asyncio.sleep(0)
        assert runtime.executed == [close_command(1)]

    drive(new_loop, runtime, engine, scenario)


# ---- Edges on loopback -----------------------------------------------------------------------------


class Cluster:
    """A control plane's datapath on loopback, and the authority of its certificates."""

    def __init__(self) -> None:
        self.authority = HopAuthority(datetime.now(UTC))
        self.edge = self.authority.issue("sin", "sin-1")
        server = self.authority.issue("control", "c1")
        tls = ServerTls(server.chain, server.key, server.chain, server.key, [self.authority.certificate])
        self.runtime = Runtime("127.0.0.1:0", DatapathConfig(server=tls, drafts=[], control=True))

    def settings(self, **changes: Any) -> Any:
        return configuration(self.authority.certificate_pem(), **{"identity": self.edge} | changes)

    def client(self, **changes: Any) -> Any:
        return control_client(self.runtime.local_addr, self.settings(**changes))


@pytest.fixture
def cluster() -> Any:
    made = Cluster()
    yield made
    made.runtime.close()


class Echo(Recorder):
    """Sends back what it gets."""

    def handle_event(self, event: Any, now_us: int) -> None:
        super().handle_event(event, now_us)
        if isinstance(event, Event.StreamData):
            assert event.kind == "request"
            back = Command.Write(event.session, event.stream, event.data, event.fin)
            self.commands.append(back)


def pattern(length: int) -> bytes:
    return bytes(range(251)) * (length // 251 + 1)


async def echoes(client: ControlClient, data: bytes) -> bool:
    """Whether the other end sends the same back, on a stream of its own."""
    stream = client.open()
    client.send(stream, data, fin=True)
    await client.until(lambda client: stream in client.ended)
    return bytes(client.received[stream]) == data


def test_an_edge_with_a_certificate_of_the_cluster_is_told_with_it(new_loop: Any, cluster: Cluster) -> None:
    engine = Echo()

    async def scenario(driver: Driver[Recorder]) -> None:
        async with cluster.client() as client:
            assert await echoes(client, b"hello")
            (opened,) = engine.of(Event.SessionOpened)
            assert (opened.transport, opened.incoming) == ("control", True)
            assert edge_name(opened.peer_certificates[0]) == ("sin", "sin-1")
            (session,) = (await driver.snapshot())["sessions"]
            assert (session["session"], session["transport"]) == (opened.session, "control")
            assert session["hop"] is None

    drive(new_loop, cluster.runtime, engine, scenario)
    assert len(engine.of(Event.SessionClosed)) == 1


def test_a_mebibyte_goes_both_ways_unchanged(new_loop: Any, cluster: Cluster) -> None:
    async def scenario(driver: Driver[Recorder]) -> None:
        async with cluster.client() as client:
            assert await echoes(client, pattern(MIB))

    drive(new_loop, cluster.runtime, Echo(), scenario)


@pytest.mark.parametrize("certificate", ["none", "of another authority"])
def test_an_edge_without_a_certificate_of_the_cluster_is_refused_and_others_are_served(
    new_loop: Any, cluster: Cluster, certificate: str
) -> None:
    foreign = HopAuthority(datetime.now(UTC)).issue("sin", "sin-1")
    engine = Echo()

    async def scenario(driver: Driver[Recorder]) -> None:
        async with cluster.client(identity=None if certificate == "none" else foreign) as client:
            await client.until(lambda client: client.terminated)
            assert client.terminated.error_code in TLS_ALERTS
        await engine.until(lambda: bool(engine.of(Event.SessionClosed)))
        assert engine.of(Event.SessionOpened) == []
        assert engine.of(Event.SessionClosed)[0].by == "tls"
        async with cluster.client() as client:
            assert await echoes(client, b"hello")

    drive(new_loop, cluster.runtime, engine, scenario)


def test_a_unidirectional_stream_is_stopped_and_the_session_goes_on(new_loop: Any, cluster: Cluster) -> None:
    engine = Echo()

    async def scenario(driver: Driver[Recorder]) -> None:
        async with cluster.client() as client:
            stream = client.open(uni=True)
            client.send(stream, b"not wanted")
            await client.until(lambda client: client.stopped == [stream])
            assert engine.of(Event.StreamData) == []
            assert (await driver.snapshot())["totals"]["streams_rejected"] == 1
            assert await echoes(client, b"still here")

    drive(new_loop, cluster.runtime, engine, scenario)


def test_an_edge_that_never_reads_is_given_up_after_two_plans_and_others_are_served(
    new_loop: Any, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Echo()
    plan = bytes(16 * MIB)

    async def scenario(driver: Driver[Recorder]) -> None:
        with monkeypatch.context() as patch:
            for limits in ("_write_connection_limits", "_write_stream_limits"):
                patch.setattr(QuicConnection, limits, lambda *args, **kwargs: None)
            async with cluster.client() as client:
                client.send(client.open(), b"hello")
                await engine.until(lambda: bool(engine.of(Event.StreamData)))
                (asked,) = engine.of(Event.StreamData)
                for waiting in range(1, 4):
                    engine.commands.append(Command.Write(asked.session, asked.stream, plan))
                    driver.call(lambda engine, now_us: None)
                    await driver.snapshot()
                    assert bool(engine.of(Event.SessionClosed)) == (waiting == 3)
                await client.until(lambda client: client.terminated)
                assert client.terminated.error_code == EXCESSIVE_LOAD
        async with cluster.client() as client:
            assert await echoes(client, b"hello")

    drive(new_loop, cluster.runtime, engine, scenario)


def test_control_sessions_without_a_hop_certificate_are_refused_at_the_start() -> None:
    identity = HopAuthority(datetime.now(UTC)).issue("control", "c1")
    with pytest.raises(CoreError, match="hop certificate"):
        Runtime("127.0.0.1:0", DatapathConfig(server=ServerTls(identity.chain, identity.key), control=True))
