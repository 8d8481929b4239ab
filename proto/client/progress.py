"""How far a viewer has a track: where another edge has to go on so that nothing is left out.

That is not the object after the newest one. Groups overtake one another, so an older group may still be
incomplete, or not have begun. The answer is the least location at which something may be missing, given as
the last object that is held there: the edge sends that one again, and the stream then shows what follows
it, whether or not the publisher counts objects by one. The datapath drops what it has.
"""

from __future__ import annotations

from itertools import pairwise

from farcast.proto.moqt.values import Location

GROUPS_REMEMBERED_MAX = 16
"""Groups that are looked back at; what is missing in older ones is too late to be of use."""

SUBGROUPS_REMEMBERED_MAX = 64
"""Subgroups looked at in each group."""


class Progress:
    """What has been handed over of one track."""

    def __init__(self) -> None:
        self._groups: dict[int, _Group] = {}

    def object(self, group: int, subgroup: int, object: int) -> None:
        """An object was handed over."""
        seen = self._group(group)
        if subgroup in seen.last or len(seen.last) < SUBGROUPS_REMEMBERED_MAX:
            seen.last[subgroup] = object
            seen.open.add(subgroup)

    def ended(self, group: int, subgroup: int) -> None:
        """No more of a subgroup comes."""
        seen = self._group(group)
        if subgroup in seen.last or len(seen.last) < SUBGROUPS_REMEMBERED_MAX:
            seen.last.setdefault(subgroup, 0)
            seen.open.discard(subgroup)

    def restart(self) -> None:
        """The track begins anew."""
        self._groups.clear()

    def resume(self) -> Location | None:
        """From where on the track is wanted; ``None`` if nothing of it has come."""
        if not self._groups:
            return None
        numbers = sorted(self._groups)
        steps = [after - before for before, after in pairwise(numbers)]
        counts_by_one = 1 in steps
        for number, step in zip(numbers, [*steps, 1], strict=True):
            seen = self._groups[number]
            if seen.open:
                return Location(number, min(seen.last[subgroup] for subgroup in seen.open))
            if step > 1 and counts_by_one:
                return Location(number + 1, 0)
        newest = numbers[-1]
        return Location(newest, max(self._groups[newest].last.values()))

    def _group(self, group: int) -> _Group:
        """What is known of a group; of one that is too old nothing is kept."""
        known = self._groups.get(group)
        if known is not None:
            return known
        seen = _Group()
        if len(self._groups) >= GROUPS_REMEMBERED_MAX:
            oldest = min(self._groups)
            if group < oldest:
                return seen
            del self._groups[oldest]
        self._groups[group] = seen
        return seen


class _Group:
    __slots__ = ("last", "open")

    def __init__(self) -> None:
        self.last: dict[int, int] = {}
        self.open: set[int] = set()
