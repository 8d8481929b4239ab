"""A control plane's end as far as the edge's link can tell: the real datapath and a real `ServerChannel`."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import trio

from farcast.certificates import HopAuthority, Identity, edge_name
from farcast.edge.driver import Driver
from farcast.proto._core import Command, DatapathConfig, Event, Runtime, ServerTls
from farcast.proto.control import events as e
from farcast.proto.control import messages as m
from farcast.proto.control.codec import VERSIONS
from farcast.proto.control.server_channel import ServerChannel, ServerChannelConfig

EPOCH = m.Epoch(cluster="dev", number=1)
SECONDS_MAX = 20


@dataclass
class Changes:
    """Wakes those who wait for something to be true; nobody polls."""

    _event: trio.Event = field(default_factory=trio.Event)

    def note(self) -> None:
        self._event.set()
        self._event = trio.Event()

    async def until(self, true: Callable[[], object], seconds_max: float = SECONDS_MAX) -> None:
        with trio.fail_after(seconds_max):
            while not true():
                await self._event.wait()


class ControlEngine:
    """Welcomes every edge; ``garbage`` is sent in place of the first answer."""

    def __init__(self, changes: Changes, garbage: bytes | None) -> None:
        self.channels: dict[int, ServerChannel] = {}
        self.names: list[tuple[str, str] | None] = []
        self.events: list[e.ServerEvent] = []
        self.closed: list[str] = []
        self.versions: tuple[int, ...] = VERSIONS
        self.rewrite: Callable[[bytes], bytes] = lambda frame: frame
        """What each frame becomes on its way to the edge."""
        self.unix_us = 0
        """What `Welcome` says of its clock."""
        self._changes = changes
        self._garbage = garbage
        self._streams: dict[int, int] = {}
        self._commands: deque[Any] = deque()

    def handle_event(self, event: Any, now_us: int) -> None:
        match event:
            case Event.SessionOpened():
                name = edge_name(event.peer_certificates[0])
                assert (event.transport, name) == ("control", ("sin", "sin-1"))
                self.names.append(name)
                self.channels[event.session] = ServerChannel(
                    ServerChannelConfig(versions=self.versions), "sin-1", "sin", now_us
                )
            case Event.StreamData():
                self._streams[event.session] = event.stream
                self._handle_data(event.session, event.data, now_us)
            case Event.SessionClosed():
                self.closed.append(event.reason)
                self.channels.pop(event.session, None)
        self._changes.note()

    def push(self, delta: m.PlanDelta) -> None:
        [(session, channel)] = self.channels.items()
        assert channel.push(delta) is None
        self._send(session)

    def order_drain(self, drain_ms: int) -> None:
        [(session, channel)] = self.channels.items()
        channel.order_drain(drain_ms)
        self._send(session)

    def _handle_data(self, session: int, data: bytes, now_us: int) -> None:
        if self._garbage is not None:
            stream = self._streams[session]
            self._commands.append(Command.Write(session=session, stream=stream, data=self._garbage))
            self._garbage = None
            return
        channel = self.channels[session]
        channel.handle_data(data, now_us)
        while (event := channel.poll_event()) is not None:
            self.events.append(event)
            match event:
                case e.HelloReceived():
                    channel.welcome(EPOCH, unix_us=self.unix_us)
                case e.ReportReceived(report):
                    channel.ack_report(report.sequence)
        self._send(session)

    def _send(self, session: int) -> None:
        while (data := self.channels[session].poll_data()) is not None:
            stream = self._streams[session]
            frame = self.rewrite(data)
            self._commands.append(Command.Write(session=session, stream=stream, data=frame))

    def handle_timeout(self, now_us: int) -> None:
        pass

    def poll_command(self) -> Any:
        return self._commands.popleft() if self._commands else None

    def poll_timeout(self) -> int | None:
        return None


class ControlServer:
    """A datapath with control sessions, on loopback."""

    def __init__(
        self,
        authority: HopAuthority,
        changes: Changes,
        *,
        identity: Identity | None = None,
        listen: str = "127.0.0.1:0",
        garbage: bytes | None = None,
    ) -> None:
        own = identity or authority.issue_control("c1")
        tls = ServerTls(own.chain, own.key, own.chain, own.key, [authority.certificate])
        runtime = Runtime(listen, DatapathConfig(tls, control=True))
        self.address = runtime.local_addr
        self.engine = ControlEngine(changes, garbage)
        self.driver = Driver(runtime, self.engine)

    def push(self, delta: m.PlanDelta) -> None:
        """Send a plan to the one edge that is there."""
        self.driver.call(lambda engine, now_us: engine.push(delta))

    async def while_running(self, scenario: Callable[[], Awaitable[None]]) -> None:
        """Serve for the length of the scenario, and close the socket."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.driver.run)
            await scenario()
            self.driver.close()


def make_authority(cluster: str = "dev") -> HopAuthority:
    """One that is valid now."""
    return HopAuthority(datetime.now(UTC), cluster=cluster)


class Wire:
    """A UDP path to a server that can be cut: then it swallows everything, as a dead host does."""

    def __init__(self, to: str) -> None:
        host, _, port = to.rpartition(":")
        self._to = (host, int(port))
        self._near = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self._far = trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM)
        self.cut = False
        self.address = ""

    async def open(self) -> None:
        for end in (self._near, self._far):
            await end.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._near.getsockname()[1]}"

    async def run(self) -> None:
        client: list[Any] = []

        async def backward() -> None:
            while True:
                data, _ = await self._far.recvfrom(65_535)
                if not self.cut:
                    await self._near.sendto(data, client[0])

        with self._near, self._far:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(backward)
                while True:
                    data, sender = await self._near.recvfrom(65_535)
                    client[:] = [sender]
                    if not self.cut:
                        await self._far.sendto(data, self._to)
