"""Objects of one track in the order of its groups.

Streams overtake each other: a group can begin to arrive while the tail of the one before is still being
repaired. Inside a group the datapath keeps the order; across groups a player or a recorder needs it too. So a
group's objects wait until the group before has ended, but no longer than `HOLD_MS_MAX`: what is missing then
will not come in time to be of use. A number left out may be a group that is late altogether, or the way the
publisher counts: the first time it is waited for, and if it does not come, never again.
"""

from __future__ import annotations

from collections.abc import Iterator

from farcast.proto.client.events import ObjectReceived, SubgroupEnded

HOLD_MS_MAX = 2_000
"""How long the first object of a group waits for the end of the group before."""

OBJECTS_HELD_MAX = 10_000
"""Objects that wait; with more the oldest group goes on."""


class GroupOrder:
    """Orders one track whose groups have one subgroup each. Times are the datapath's microseconds."""

    def __init__(self) -> None:
        self._current: int | None = None
        self._held: dict[int, list[ObjectReceived]] = {}
        self._ended: set[int] = set()
        self._counts_by_one = True

    def handle_object(self, received: ObjectReceived) -> Iterator[ObjectReceived]:
        """An object arrived; gives what can be used now, in order. What comes too late comes at once."""
        if self._current is None:
            self._current = received.group
        if received.group > self._current:
            self._held.setdefault(received.group, []).append(received)
        else:
            yield received
        yield from self._advance(received.complete_us)

    def handle_end(self, ended: SubgroupEnded) -> Iterator[ObjectReceived]:
        """A group is over, whole or not; gives what waited for that."""
        if self._current is None or ended.group >= self._current:
            self._ended.add(ended.group)
        yield from self._advance(None)

    def flush(self) -> Iterator[ObjectReceived]:
        """The track is over or starts over: everything that waits, and nothing is expected any more."""
        for group in sorted(self._held):
            yield from self._held[group]
        self._current = None
        self._held.clear()
        self._ended.clear()

    def _advance(self, now_us: int | None) -> Iterator[ObjectReceived]:
        while self._held and (self._is_next() or self._is_overdue(now_us)):
            first = min(self._held)
            if self._current is not None and self._current in self._ended and first > self._current + 1:
                self._counts_by_one = False
            self._current = first
            yield from self._held.pop(self._current)
            self._ended = {group for group in self._ended if group >= self._current}

    def _is_next(self) -> bool:
        """Whether the group before the first that waits is over, and none can lie between them."""
        if self._current is None or self._current not in self._ended:
            return False
        return not self._counts_by_one or min(self._held) == self._current + 1

    def _is_overdue(self, now_us: int | None) -> bool:
        if sum(map(len, self._held.values())) > OBJECTS_HELD_MAX:
            return True
        waiting_since_us = self._held[min(self._held)][0].complete_us
        return now_us is not None and now_us - waiting_since_us > HOLD_MS_MAX * 1_000
