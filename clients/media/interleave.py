"""Puts the frames of several tracks into one order by decode time.

Files interleave loosely: half a second of pictures, then half a second of sound. Sent at that rhythm, sound
would arrive late and players would stall. A frame is let out when every track that is still running has one
waiting, or when the wait has reached its limit.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")

WINDOW_US_MAX = 2_000_000
"""Longest span of media that is held back for a silent track. FFmpeg's MP4 reader strays by up to 1 s."""
ITEMS_MAX = 8192
"""Most items that are held back."""


class Interleaver(Generic[Item]):
    """A merge of per-track queues. Times are microseconds and rise within a track."""

    def __init__(self, tracks: list[str]) -> None:
        self._queues: dict[str, deque[tuple[int, Item]]] = {name: deque() for name in tracks}
        self._newest_us = 0
        self._count = 0
        self.ended = False
        """Whether :meth:`end` was called."""

    def push(self, track: str, time_us: int, item: Item) -> None:
        """Add the next item of a track."""
        self._queues[track].append((time_us, item))
        self._newest_us = max(self._newest_us, time_us)
        self._count += 1

    def end(self) -> None:
        """Nothing more comes: let everything out."""
        self.ended = True

    def peek_us(self) -> int | None:
        """Time of the item that is let out next; None if it must wait or there is none."""
        heads = [queue[0][0] for queue in self._queues.values() if queue]
        if not heads:
            return None
        complete = len(heads) == len(self._queues) or self.ended
        full = self._newest_us - min(heads) > WINDOW_US_MAX or self._count >= ITEMS_MAX
        return min(heads) if complete or full else None

    def pop(self) -> Item:
        """Take the earliest item. Only after :meth:`peek_us` told a time."""
        queue = min((queue for queue in self._queues.values() if queue), key=lambda queue: queue[0][0])
        self._count -= 1
        return queue.popleft()[1]
