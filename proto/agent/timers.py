"""Deadlines by key, popped in time order; the order of setting breaks ties."""

from __future__ import annotations

import heapq
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Timers(Generic[Key]):
    """At most one deadline per key. A cancelled or moved entry stays in the heap until it surfaces."""

    def __init__(self) -> None:
        self._deadlines: dict[Key, tuple[int, int]] = {}
        self._heap: list[tuple[int, int, Key]] = []
        self._serial = 0

    def set(self, key: Key, at_us: int) -> None:
        """Call for ``key`` at ``at_us``, instead of when it was set for before."""
        self._serial += 1
        self._deadlines[key] = (at_us, self._serial)
        heapq.heappush(self._heap, (at_us, self._serial, key))
        self._compact()

    def set_if_unset(self, key: Key, at_us: int) -> None:
        """As ``set``, unless the key has a deadline already."""
        if key not in self._deadlines:
            self.set(key, at_us)

    def cancel(self, key: Key) -> None:
        """Forget the deadline of ``key``, if it has one."""
        self._deadlines.pop(key, None)

    def is_set(self, key: Key) -> bool:
        """Whether ``key`` has a deadline."""
        return key in self._deadlines

    def next_at(self) -> int | None:
        """The earliest deadline, microseconds, or ``None``."""
        self._drop_stale()
        return self._heap[0][0] if self._heap else None

    def pop_due(self, now_us: int) -> Key | None:
        """Remove and return one key whose deadline has come, earliest first."""
        self._drop_stale()
        if not self._heap or self._heap[0][0] > now_us:
            return None
        _, _, key = heapq.heappop(self._heap)
        del self._deadlines[key]
        return key

    def _drop_stale(self) -> None:
        while self._heap and not self._is_current(self._heap[0]):
            heapq.heappop(self._heap)

    def _is_current(self, entry: tuple[int, int, Key]) -> bool:
        at_us, serial, key = entry
        return self._deadlines.get(key) == (at_us, serial)

    def _compact(self) -> None:
        """Keep the heap within twice the live deadlines, whatever is set and cancelled."""
        if len(self._heap) > 2 * len(self._deadlines) + 64:
            self._heap = [entry for entry in self._heap if self._is_current(entry)]
            heapq.heapify(self._heap)
