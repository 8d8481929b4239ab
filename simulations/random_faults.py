"""Faults drawn from the seed (`RandomFaults`): which, where, when and for how long; as ordinary events.

As in TigerBeetle's and FoundationDB's simulators any fault may meet any other, at any place. What is drawn is
bounded, so that every run has a calm end: each fault is undone by the end of the stretch at the latest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from farcast.simulations.events import (
    RANDOM_FAULTS_MAX,
    AnyEvent,
    BadPlan,
    BadPlanKind,
    ClockStep,
    Clog,
    ControlStop,
    Crash,
    Detour,
    DiskFault,
    Gray,
    Isolate,
    LossFault,
    Partition,
    Pause,
    RandomFaults,
    Swizzle,
    Upgrade,
)
from farcast.simulations.world_spec import WorldSpec

FAULT_US_MIN: Final = 200_000
RESTART_US: Final = (500_000, 3_000_000)
PAUSE_US_MAX: Final = 5_000_000
BAD_PLANS: Final[tuple[BadPlanKind, ...]] = (
    "empty",
    "older",
    "foreign",
    "circular",
    "nobody",
    "truncated",
    "doubled",
    "garbage",
)


def draw_faults(event: RandomFaults, spec: WorldSpec, seed: int) -> list[AnyEvent]:
    """The events of one stretch of random faults, in order of time."""
    draw = Random(f"faults {seed} {event.at_us}")
    found: list[AnyEvent] = []
    at_us, end_us = event.at_us, event.at_us + event.for_us
    while len(found) < RANDOM_FAULTS_MAX:
        at_us += round(draw.expovariate(event.per_minute / 60e6))
        if at_us >= end_us - FAULT_US_MIN:
            break
        longest_us = min(event.fault_us_max, end_us - at_us)
        for_us = round(draw.uniform(min(FAULT_US_MIN, longest_us), longest_us))
        found += _MAKERS[draw.choice(event.kinds)](_Draw(draw, spec, at_us, for_us, end_us))
    return sorted(found, key=lambda made: made.at_us)


class _Draw:
    """What a maker needs."""

    def __init__(self, draw: Random, spec: WorldSpec, at_us: int, for_us: int, end_us: int) -> None:
        self.draw = draw
        self.at_us = at_us
        self.for_us = for_us
        self.end_us = end_us
        self.nodes = [edge.node_id for edge in spec.edges]

    def node(self) -> str:
        return self.draw.choice(self.nodes)

    def pair(self) -> tuple[tuple[str, str], ...]:
        if len(self.nodes) < 2:
            return ()
        a, b = self.draw.sample(self.nodes, 2)
        return ((a, b),)

    def one_way(self) -> bool:
        return self.draw.random() < 0.5


def _loss(d: _Draw) -> Iterator[AnyEvent]:
    share, burst = d.draw.uniform(0.0, 0.3), d.draw.uniform(1.0, 10.0)
    if d.draw.random() < 0.3:
        yield Gray(at_us=d.at_us, links=d.pair(), for_us=d.for_us, one_way=d.one_way(), loss=share + 0.3)
        return
    yield LossFault(
        at_us=d.at_us, links=d.pair(), for_us=d.for_us, one_way=d.one_way(), loss=share, burst=burst
    )


def _delay(d: _Draw) -> Iterator[AnyEvent]:
    rise_ms = d.draw.uniform(10.0, 300.0)
    yield Detour(at_us=d.at_us, links=d.pair(), for_us=d.for_us, one_way=d.one_way(), rise_ms=rise_ms)


def _clog(d: _Draw) -> Iterator[AnyEvent]:
    delay_ms = d.draw.uniform(100.0, 2_000.0)
    yield Clog(at_us=d.at_us, links=d.pair(), for_us=d.for_us, one_way=d.one_way(), delay_ms=delay_ms)


def _partition(d: _Draw) -> Iterator[AnyEvent]:
    shuffled = d.draw.sample(d.nodes, len(d.nodes))
    at = d.draw.randint(1, max(1, len(shuffled) - 1))
    a, b = tuple(shuffled[:at]), tuple(shuffled[at:])
    if b:
        yield Partition(at_us=d.at_us, a=a, b=b, one_way=d.one_way(), for_us=d.for_us)


def _isolate(d: _Draw) -> Iterator[AnyEvent]:
    yield Isolate(at_us=d.at_us, place=d.node(), one_way=d.one_way(), for_us=d.for_us)


def _swizzle(d: _Draw) -> Iterator[AnyEvent]:
    count = d.draw.randint(1, len(d.nodes))
    places = tuple(d.draw.sample(d.nodes, count))
    yield Swizzle(at_us=d.at_us, places=places, gap_us=d.for_us // (2 * count + 1), for_us=d.for_us)


def _crash(d: _Draw) -> Iterator[AnyEvent]:
    yield Crash(at_us=d.at_us, node=d.node(), for_us=d.for_us)


def _restart(d: _Draw) -> Iterator[AnyEvent]:
    down_us = min(round(d.draw.uniform(*RESTART_US)), d.end_us - d.at_us)
    yield Crash(at_us=d.at_us, node=d.node(), for_us=down_us)


def _pause(d: _Draw) -> Iterator[AnyEvent]:
    yield Pause(at_us=d.at_us, node=d.node(), for_us=min(d.for_us, PAUSE_US_MAX))


def _clock(d: _Draw) -> Iterator[AnyEvent]:
    step_us = d.draw.choice((-3_600_000_000, -1_000_000, 1_000_000, 3_600_000_000))
    yield ClockStep(at_us=d.at_us, place=d.node(), step_us=step_us, drift_ppm=d.draw.uniform(-500, 500))


def _disk(d: _Draw) -> Iterator[AnyEvent]:
    """A damaged plan file shows at the next start: crash right after it."""
    node, what = d.node(), d.draw.choice(("truncated", "flipped", "gone"))
    yield DiskFault(at_us=d.at_us, node=node, what=what)  # type: ignore[arg-type]
    yield Crash(at_us=d.at_us, node=node, for_us=min(RESTART_US[0], d.end_us - d.at_us))


def _bad_plan(d: _Draw) -> Iterator[AnyEvent]:
    yield BadPlan(at_us=d.at_us, what=d.draw.choice(BAD_PLANS), places=(d.node(),))


def _upgrade(d: _Draw) -> Iterator[AnyEvent]:
    """One edge is drained and started again; with it, sometimes, the control plane."""
    third_us = d.for_us // 3
    yield Upgrade(at_us=d.at_us, nodes=(d.node(),), gap_us=1, drain_us=third_us, down_us=third_us)
    if d.draw.random() < 0.3:
        yield ControlStop(at_us=d.at_us + third_us, for_us=third_us)


def _mixed_versions(d: _Draw) -> Iterator[AnyEvent]:
    """One edge is rolled back to the build before, and upgraded again when the time is over."""
    node, step_us = (d.node(),), max(d.for_us // 6, 1)
    for at_us, to_before in ((d.at_us, True), (d.at_us + d.for_us - 2 * step_us, False)):
        yield Upgrade(
            at_us=at_us, nodes=node, gap_us=1, drain_us=step_us, down_us=step_us, to_before=to_before
        )


_MAKERS: Final[dict[str, Callable[[_Draw], Iterator[AnyEvent]]]] = {
    "loss": _loss,
    "delay": _delay,
    "clog": _clog,
    "partition": _partition,
    "isolate": _isolate,
    "swizzle": _swizzle,
    "crash": _crash,
    "restart": _restart,
    "pause": _pause,
    "clock": _clock,
    "disk": _disk,
    "bad-plan": _bad_plan,
    "upgrade": _upgrade,
    "mixed-versions": _mixed_versions,
}
"""By the kinds of `RandomFaultKind`."""
