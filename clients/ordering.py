"""Objects of one track in the order in which a decoder needs them.

Streams overtake each other: a group can begin to arrive while the tail of the one before is still being
repaired. Inside a subgroup the datapath keeps the order; across groups a player or a recorder needs it too.
So a group's objects wait until the group before has ended, but no longer than `HOLD_MS_MAX`: what is
missing then will not come in time to be of use. A number left out may be a group that is late altogether,
or the way the publisher counts: the first time it is waited for, and if it does not come, never again.

A track with temporal layers has a stream for each of them, so its objects overtake each other inside a
group as well (`_Layers`). Object ids there count all frames in decode order, whatever their layer. A frame
behind a gap waits for what is in the gap only if that may still come: while a layer of the group is
running, or, before anything of a layer has come, if the last group had one. It never waits longer than
`LAYER_HOLD_MS_MAX`, and a layer that was waited for in vain is not waited for again in that group. What
comes too late then is of no use to a decoder, since nothing refers to it, and is left out; the base is
never left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from farcast.clients.film import STATUS_END_OF_GROUP
from farcast.proto.client.events import ObjectReceived, SubgroupEnded

HOLD_MS_MAX = 2_000
"""How long the first object of a group waits for the end of the group before."""

LAYER_HOLD_MS_MAX = 120
"""How long a frame waits for one of a layer that comes before it: a few frames, far below a jitter buffer's
most, and as long as an edge needs to notice that a layer has to be given up."""

OBJECTS_HELD_MAX = 10_000
"""Objects that wait; with more the oldest group goes on."""


class GroupOrder:
    """Orders one track. Times are the datapath's microseconds; ``layers`` as the catalog tells them."""

    def __init__(self, layers: int = 1) -> None:
        self.late_layer_objects = 0
        """Frames of layers that came when their turn was over."""
        self._layered = layers > 1
        self._current: int | None = None
        self._inside = _Layers(expected=self._layered)
        self._held: dict[int, list[ObjectReceived]] = {}
        self._ends: dict[int, list[SubgroupEnded]] = {}
        self._ended: set[int] = set()
        self._counts_by_one = True

    def handle_object(self, received: ObjectReceived) -> Iterator[ObjectReceived]:
        """An object arrived; gives what can be used now, in order. What comes too late comes at once."""
        if self._current is None:
            self._current = received.group
        if received.group > self._current:
            self._held.setdefault(received.group, []).append(received)
        elif received.group == self._current:
            yield from self._use(received)
        elif self._layered and received.subgroup:
            self.late_layer_objects += 1
        elif received.status != STATUS_END_OF_GROUP:
            yield received
        yield from self._advance(received.complete_us)

    def handle_end(self, ended: SubgroupEnded) -> Iterator[ObjectReceived]:
        """A subgroup is over, whole or not; gives what waited for that."""
        if self._current is None or ended.group >= self._current:
            if ended.subgroup == 0 or not self._layered:
                self._ended.add(ended.group)
            if ended.group == self._current and self._layered:
                yield from self._inside.handle_end(ended)
            elif self._layered:
                self._ends.setdefault(ended.group, []).append(ended)
        yield from self._advance(None)

    def flush(self) -> Iterator[ObjectReceived]:
        """The track is over or starts over: everything that waits, and nothing is expected any more."""
        yield from self._inside.flush()
        for group in sorted(self._held):
            media = [held for held in self._held[group] if held.status != STATUS_END_OF_GROUP]
            yield from sorted(media, key=lambda held: held.object)
        self._current = None
        self._held.clear()
        self._ends.clear()
        self._ended.clear()
        self._inside = _Layers(expected=self._layered)

    def _use(self, received: ObjectReceived) -> Iterator[ObjectReceived]:
        if not self._layered:
            yield received
        elif received.subgroup and self._inside.is_past(received.object):
            self.late_layer_objects += 1
        else:
            yield from self._inside.handle_object(received)

    def _advance(self, now_us: int | None) -> Iterator[ObjectReceived]:
        while self._held and (self._is_next(now_us) or self._is_overdue(now_us)):
            first = min(self._held)
            if self._current is not None and self._current in self._ended and first > self._current + 1:
                self._counts_by_one = False
            yield from self._begin(first)

    def _begin(self, group: int) -> Iterator[ObjectReceived]:
        """Go on with the next group: what is left of the one before, then what is there of this one."""
        yield from self._inside.flush()
        self._inside = _Layers(expected=self._inside.had_layer)
        self._current = group
        for received in self._held.pop(group):
            yield from self._use(received)
        for ended in self._ends.pop(group, ()):
            yield from self._inside.handle_end(ended)
        self._ended = {ended for ended in self._ended if ended >= group}
        self._ends = {ended: ends for ended, ends in self._ends.items() if ended > group}

    def _is_next(self, now_us: int | None) -> bool:
        """Whether the group before the first that waits is over, and none can lie between them."""
        if self._current is None or self._current not in self._ended:
            return False
        if self._inside.awaits_more and not self._has_waited(now_us, LAYER_HOLD_MS_MAX):
            return False
        return not self._counts_by_one or min(self._held) == self._current + 1

    def _is_overdue(self, now_us: int | None) -> bool:
        if sum(map(len, self._held.values())) > OBJECTS_HELD_MAX:
            return True
        return self._has_waited(now_us, HOLD_MS_MAX)

    def _has_waited(self, now_us: int | None, wait_ms: int) -> bool:
        """Whether the first group that waits has waited for so long."""
        waiting_since_us = self._held[min(self._held)][0].complete_us
        return now_us is not None and now_us - waiting_since_us > wait_ms * 1_000


class _Layers:
    """The objects of one group of a layered track. ``expected``: a layer is to come, though none has yet."""

    def __init__(self, *, expected: bool) -> None:
        self._next: int | None = None
        self._held: dict[int, ObjectReceived] = {}
        self._base_at = -1
        self._base_ended = False
        self._running: set[int] = set()
        self._expected = expected
        self._seen = False
        self._is_broken = False
        self._length: int | None = None

    @property
    def had_layer(self) -> bool:
        """Whether a layer came, and to its end as far as is known."""
        return self._seen and not self._is_broken

    @property
    def awaits_more(self) -> bool:
        """Whether frames may still come that the group is known, or not known not, to have."""
        if self._length is not None and self._next is not None and self._next >= self._length:
            return False
        return self._may_come()

    def is_past(self, object: int) -> bool:
        """Whether the turn of an object is over."""
        return self._next is not None and object < self._next

    def handle_object(self, received: ObjectReceived) -> Iterator[ObjectReceived]:
        """An object; gives what can be used now."""
        if received.subgroup:
            self._seen = True
            self._running.add(received.subgroup)
        else:
            self._base_at = max(self._base_at, received.object)
        if received.status == STATUS_END_OF_GROUP:
            self._length = received.object
        elif self.is_past(received.object):
            yield received
        else:
            self._held[received.object] = received
        yield from self._release(received.complete_us)

    def handle_end(self, ended: SubgroupEnded) -> Iterator[ObjectReceived]:
        """A subgroup is over."""
        if ended.subgroup == 0:
            self._base_ended = True
        else:
            self._running.discard(ended.subgroup)
            self._expected = False
            self._is_broken |= ended.reset
        yield from self._release(None)

    def flush(self) -> Iterator[ObjectReceived]:
        """Whatever waits."""
        for object in sorted(self._held):
            yield self._held[object]
        self._held.clear()

    def _release(self, now_us: int | None) -> Iterator[ObjectReceived]:
        while self._held:
            first = min(self._held)
            if self._next is not None and first > self._next and self._has_to_wait(first, now_us):
                return
            self._next = first + 1
            yield self._held.pop(first)

    def _has_to_wait(self, first: int, now_us: int | None) -> bool:
        """Whether the first object that waits, behind a gap, waits on."""
        if self._base_at < first and not self._base_ended:
            return True  # A layer has overtaken the base.
        if not self._may_come():
            return False
        waited_us = 0 if now_us is None else now_us - self._held[first].complete_us
        if waited_us > LAYER_HOLD_MS_MAX * 1_000 or len(self._held) > OBJECTS_HELD_MAX:
            self._is_broken = True
            return False
        return True

    def _may_come(self) -> bool:
        """Whether frames of a layer may still come in time."""
        return not self._is_broken and (bool(self._running) or (self._expected and not self._seen))
