"""The edge's watchdog is fed by answers of the datapath and by nothing else."""

from __future__ import annotations

from typing import Any, cast

import trio
from trio.testing import MockClock

from farcast.driving import DriverClosed
from farcast.edge.daemon import feed_watchdog
from farcast.edge.node import EdgeNode
from farcast.service_manager import ServiceManager


class Manager(ServiceManager):
    """Counts what it is told."""

    fed = 0

    def feed(self) -> None:
        """Told that we live."""
        self.fed += 1


class Datapath:
    """A driver whose datapath answers so often, and then hangs or ends."""

    def __init__(self, answers: int, *, ends: bool = False) -> None:
        self.answers, self.ends = answers, ends
        self.driver = self

    async def snapshot(self) -> Any:
        """Counters, or never."""
        if self.answers == 0:
            if self.ends:
                raise DriverClosed
            await trio.sleep_forever()
        self.answers -= 1


def fed(datapath: Datapath, seconds: float | None) -> int:
    """How often within a minute."""
    manager = Manager("/run/notify", seconds)

    async def main() -> None:
        with trio.move_on_after(60):
            await feed_watchdog(cast("EdgeNode", datapath), manager)

    trio.run(main, clock=MockClock(autojump_threshold=0))
    return manager.fed


def test_it_is_fed_each_time_the_datapath_has_answered() -> None:
    assert fed(Datapath(1_000), 10.0) == 6


def test_a_datapath_that_hangs_starves_it() -> None:
    assert fed(Datapath(3), 10.0) == 3


def test_an_edge_that_ends_or_is_not_watched_feeds_nobody() -> None:
    assert fed(Datapath(2, ends=True), 10.0) == 2
    assert fed(Datapath(1_000), None) == 0
