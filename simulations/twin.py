"""The in-memory twin: shipped engines over modelled links, on a virtual clock.

A host is a datapath (Rust) with the engine that commands it (an edge's agent, a publisher, a viewer), the
same classes that the deployed daemons and tools run; only the shell differs. Here the shell is the packet
kernel: it moves datagrams between datapaths and returns to Python only when some engine has an event, when
an engine's own timeout has come, or when something was scheduled. Nothing sleeps, and nothing is drawn at
random but from the seed: two runs of one world give one trace hash.

Not in it: sockets, threads, trio. Tests over loopback cover those.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from farcast.proto._core import Command, DatapathConfig, Event, LinkConfig, World

COMMANDS_PER_FLUSH_MAX = 100_000
"""An engine that gives more commands than this at one instant is taken to be in a loop."""


class Engine(Protocol):
    """A sans-IO engine as every shell drives it; times in virtual microseconds."""

    def handle_event(self, event: Event, now_us: int) -> None: ...
    def handle_timeout(self, now_us: int) -> None: ...
    def poll_command(self) -> Command | None: ...
    def poll_timeout(self) -> int | None: ...


@dataclass(slots=True)
class _Host:
    engine: Engine
    after: Callable[[int], None] | None


class Twin:
    """A world of hosts with their engines. ``seed`` decides every loss, jitter and connection id."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self._hosts: list[_Host] = []
        self._scheduled: list[tuple[int, int, Callable[[int], None]]] = []
        self._order = count()

    def now_us(self) -> int:
        """Virtual time since the world began."""
        return self.world.now_us()

    def add_host(
        self,
        addr: str,
        engine: Engine,
        config: DatapathConfig,
        after: Callable[[int], None] | None = None,
    ) -> int:
        """Put an engine with a datapath at ``ip:port``.

        ``after(now_us)`` is called whenever the engine had input, to poll what it has for its application.
        """
        host = self.world.add_host(addr, config)
        self._hosts.append(_Host(engine, after))
        return host

    def join(self, a: int, b: int, config: LinkConfig, back: LinkConfig | None = None) -> None:
        """A path between two hosts; ``back`` is the direction from ``b`` to ``a`` where it differs."""
        self.world.add_link(a, b, config)
        self.world.add_link(b, a, back or config)

    def at(self, t_us: int, action: Callable[[int], None]) -> None:
        """Call ``action(now_us)`` at a virtual time, before the network's events of that instant."""
        heapq.heappush(self._scheduled, (t_us, next(self._order), action))

    def run_until(self, t_us: int) -> None:
        """Let virtual time pass."""
        self._flush()
        while True:
            self._run_due()
            target = min(t_us, self._next_wake())
            events = self.world.run_until(max(target, self.now_us()))
            for at_us, host, event in events:
                self._hosts[host].engine.handle_event(event, at_us)
            touched = {host for _, host, _ in events}
            self._settle(touched)
            if not events and self.now_us() >= t_us:
                return

    def _next_wake(self) -> int:
        timeouts = (host.engine.poll_timeout() for host in self._hosts)
        times = [timeout for timeout in timeouts if timeout is not None]
        if self._scheduled:
            times.append(self._scheduled[0][0])
        return min(times, default=2**62)

    def _run_due(self) -> None:
        """Run what was scheduled for now, and the timeouts of engines that have come."""
        now_us = self.now_us()
        touched: set[int] = set()
        while self._scheduled and self._scheduled[0][0] <= now_us:
            heapq.heappop(self._scheduled)[2](now_us)
            touched.update(range(len(self._hosts)))
        for number, host in enumerate(self._hosts):
            timeout_us = host.engine.poll_timeout()
            if timeout_us is not None and timeout_us <= now_us:
                host.engine.handle_timeout(now_us)
                touched.add(number)
        self._settle(touched)

    def _settle(self, touched: set[int]) -> None:
        now_us = self.now_us()
        for number in sorted(touched):
            after = self._hosts[number].after
            if after is not None:
                after(now_us)
        self._flush()

    def _flush(self) -> None:
        """Hand every engine's commands to its datapath, in order of hosts."""
        for number, host in enumerate(self._hosts):
            commands: list[Command] = []
            while (command := host.engine.poll_command()) is not None:
                commands.append(command)
                if len(commands) > COMMANDS_PER_FLUSH_MAX:
                    raise RuntimeError(f"host {number} does not stop giving commands at {self.now_us()} us")
            if commands:
                self.world.execute(number, commands)
