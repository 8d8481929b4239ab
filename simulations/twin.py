"""The in-memory twin: shipped engines over modelled links, on a virtual clock.

A host is a datapath (Rust) with the engine that commands it (an edge's agent, a publisher, a viewer), the
same classes that the deployed daemons and tools run; only the shell differs. Here the shell is the packet
kernel: it moves datagrams between datapaths and returns to Python only when some engine has an event, when
an engine's own timeout has come, or when something was scheduled. Nothing sleeps, and nothing is drawn at
random but from the seed: two runs of one world give one trace hash.

What a return costs does not grow with the number of hosts: only those are looked at whose engine had input
(an event, its timeout, something scheduled for it) or which somebody has called (`touch`). Each of them is
asked for its commands and its next timeout, in order of their numbers; timeouts wait in a heap.

Not in it: sockets, threads, trio. Tests over loopback cover those.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from farcast.proto._core import Command, DatapathConfig, Event, LinkConfig, World

COMMANDS_PER_FLUSH_MAX = 100_000
"""An engine that gives more commands than this at one instant is taken to be in a loop."""

TURNS_PER_INSTANT_MAX = 100_000
"""So many returns to Python without the clock moving on are a loop between engines."""

_NEVER = 1 << 62


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
    timeout_us: int = _NEVER
    """Of the one entry in the heap that counts."""


class Twin:
    """A world of hosts with their engines. ``seed`` decides every loss, jitter and connection id."""

    def __init__(self, seed: int) -> None:
        self.world = World(seed)
        self.turns = 0
        """Returns to Python so far."""
        self._hosts: list[_Host] = []
        self._scheduled: list[tuple[int, int, Callable[[int], None], tuple[int, ...] | None]] = []
        self._timeouts: list[tuple[int, int]] = []
        self._order = count()
        self._touched: set[int] = set()
        self._observers: list[Callable[[int], None]] = []
        self._turns_at_instant = 0
        self._instant_us = -1

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
        self._touched.add(host)
        return host

    def replace_engine(self, host: int, engine: Engine, after: Callable[[int], None] | None = None) -> None:
        """Another engine commands this host from now on (after a crash and a restart)."""
        self._hosts[host].engine, self._hosts[host].after = engine, after
        self._touched.add(host)

    def join(self, a: int, b: int, config: LinkConfig, back: LinkConfig | None = None) -> None:
        """A path between two hosts; ``back`` is the direction from ``b`` to ``a`` where it differs."""
        self.world.add_link(a, b, config)
        self.world.add_link(b, a, back or config)

    def at(self, t_us: int, action: Callable[[int], None], hosts: Iterable[int] | None = None) -> None:
        """Call ``action(now_us)`` at a virtual time, before the network's events of that instant.

        ``hosts``: those whose engines it calls; unless it says, any may have been.
        """
        concerned = None if hosts is None else tuple(hosts)
        heapq.heappush(self._scheduled, (t_us, next(self._order), action, concerned))

    def touch(self, host: int) -> None:
        """Somebody has called this host's engine: take its commands before time passes."""
        self._touched.add(host)

    def observe(self, observer: Callable[[int], None]) -> None:
        """Call ``observer(now_us)`` after every return to Python, when all engines have had their turn."""
        self._observers.append(observer)

    def run_until(self, t_us: int) -> None:
        """Let virtual time pass."""
        self._touched.update(range(len(self._hosts)))
        self._settle()
        while True:
            self._run_due()
            target = min(t_us, self._next_wake())
            events = self.world.run_until(max(target, self.now_us()))
            for at_us, host, event in events:
                self._hosts[host].engine.handle_event(event, at_us)
                self._touched.add(host)
            self._settle()
            if not events and self.now_us() >= t_us and self._next_wake() > t_us:
                return

    def _next_wake(self) -> int:
        timeouts, hosts = self._timeouts, self._hosts
        while timeouts and hosts[timeouts[0][1]].timeout_us != timeouts[0][0]:
            heapq.heappop(timeouts)
        next_timeout = timeouts[0][0] if timeouts else _NEVER
        return min(next_timeout, self._scheduled[0][0]) if self._scheduled else next_timeout

    def _run_due(self) -> None:
        """Run what was scheduled for now, and the timeouts of engines that have come."""
        now_us = self.now_us()
        while self._scheduled and self._scheduled[0][0] <= now_us:
            _, _, action, concerned = heapq.heappop(self._scheduled)
            action(now_us)
            self._touched.update(range(len(self._hosts)) if concerned is None else concerned)
        due: list[int] = []
        while self._timeouts and self._timeouts[0][0] <= now_us:
            timeout_us, number = heapq.heappop(self._timeouts)
            host = self._hosts[number]
            if host.timeout_us == timeout_us:
                host.timeout_us = _NEVER
                due.append(number)
        for number in sorted(due):
            engine = self._hosts[number].engine
            timeout = engine.poll_timeout()
            if timeout is not None and timeout <= now_us:
                engine.handle_timeout(now_us)
            self._touched.add(number)
        if self._touched:
            self._settle()

    def _settle(self) -> None:
        """Let the applications of all touched hosts look, hand over their commands, note their timeouts."""
        now_us = self.now_us()
        self._count_turn(now_us)
        while self._touched:
            numbers = sorted(self._touched)
            self._touched.clear()
            for number in numbers:
                after = self._hosts[number].after
                if after is not None:
                    after(now_us)
            if self._touched:
                numbers = sorted(self._touched.union(numbers))
                self._touched.clear()
            for number in numbers:
                self._flush(number)
        for observer in self._observers:
            observer(now_us)

    def _flush(self, number: int) -> None:
        host = self._hosts[number]
        commands: list[Command] = []
        while (command := host.engine.poll_command()) is not None:
            commands.append(command)
            if len(commands) > COMMANDS_PER_FLUSH_MAX:
                raise RuntimeError(f"host {number} does not stop giving commands at {self.now_us()} us")
        if commands:
            self.world.execute(number, commands)
        timeout_us = host.engine.poll_timeout()
        if timeout_us is None:
            host.timeout_us = _NEVER
        elif timeout_us != host.timeout_us:
            host.timeout_us = timeout_us
            heapq.heappush(self._timeouts, (timeout_us, number))

    def _count_turn(self, now_us: int) -> None:
        self.turns += 1
        self._turns_at_instant += 1
        if now_us != self._instant_us:
            self._instant_us, self._turns_at_instant = now_us, 0
        if self._turns_at_instant > TURNS_PER_INSTANT_MAX:
            raise RuntimeError(f"engines answer one another endlessly at {now_us} us")
