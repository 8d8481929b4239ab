"""Who came and went leaves nothing behind: every table of the agent returns to its size."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable
from enum import Enum
from types import FunctionType, MethodType, ModuleType

import pytest

from farcast.proto.agent import TrackTiming

from .world import Host, World

VIEWERS = 1_000
VIEWERS_AT_A_TIME = 50
LINGER_MS = TrackTiming().track_linger_ms

_LEAVES = (type, ModuleType, FunctionType, Enum, str, bytes, int, float)


def held(root: object) -> dict[str, int]:
    """How many entries all containers and objects below ``root`` hold, by kind."""
    counts: dict[str, int] = {}
    seen: set[int] = set()
    left = [root]
    while left:
        found = left.pop()
        if id(found) in seen or isinstance(found, _LEAVES):
            continue
        seen.add(id(found))
        if isinstance(found, dict | list | set | deque | tuple):
            kind = type(found).__name__
            counts[kind] = counts.get(kind, 0) + len(found)
        else:
            counts[type(found).__name__] = counts.get(type(found).__name__, 0) + 1
        left += [found.__self__] if isinstance(found, MethodType) else gc.get_referents(found)
    return counts


def come_and_go(world: World, to: Host, times: int, leave: Callable[[Host], None], draft: int) -> None:
    """So many viewers join and leave, some at a time; afterwards nobody watches."""
    for _ in range(times // VIEWERS_AT_A_TIME):
        viewers = [world.viewer(to, "live/a", "video", drafts=(draft,)) for _ in range(VIEWERS_AT_A_TIME)]
        world.run(50)
        assert len(to.downstreams) == VIEWERS_AT_A_TIME
        for viewer in viewers:
            leave(viewer)
        world.run(10)
        world.hosts = [host for host in world.hosts if host not in viewers]
    world.run(2 * LINGER_MS)


def close(viewer: Host) -> None:
    viewer.engine.close(viewer.world.now_us)


def crash(viewer: Host) -> None:
    for session in list(viewer.wires):
        viewer.crash(session)
    close(viewer)


def unsubscribe(viewer: Host) -> None:
    viewer.engine.unsubscribe(b"video")
    viewer.world.run(1)
    close(viewer)


@pytest.mark.parametrize("draft", [16, 18])
@pytest.mark.parametrize("leave", [close, crash, unsubscribe])
def test_a_thousand_viewers_leave_nothing_behind(draft: int, leave: Callable[[Host], None]) -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("live", origin))
    world.publisher(origin, "live/a", "video")
    come_and_go(world, egress, VIEWERS_AT_A_TIME, leave, draft)
    before = held(egress.engine), held(origin.engine)
    come_and_go(world, egress, VIEWERS, leave, draft)
    assert egress.holds_nothing()
    assert origin.holds_nothing()
    assert (held(egress.engine), held(origin.engine)) == before
