"""Where a subscription starts (draft-18, Subscription Filters; draft-16 the same).

==================  ==================================  ===============================
filter              objects exist, largest is ``(g,o)``  nothing published yet
==================  ==================================  ===============================
none                ``(g, 0)``                          ``(0, 0)``
Absolute ``s``      the later of ``s`` and ``(g, 0)``   ``s``
Largest Object      ``(g, o + 1)``; quirk: ``(g, 0)``   ``(0, 0)``
Next Group Start    ``(g + 1, 0)``                      ``(0, 0)``
==================  ==================================  ===============================

What lies before the running group is not sent: that is what FETCH is for. One exception: to another
Farcast, client or edge, an absolute start is what it says. It comes from one who held the track until there
and moved here, and misses what it does not get now; as much of it is sent as is cached.
"""

from __future__ import annotations

from collections.abc import Sequence

from farcast.proto.moqt.values import Filter, FilterKind, Location


def start_location(
    filter: Filter | None, largest: Location | None, *, whole_group: bool = False, resumes: bool = False
) -> Location:
    """The first location to send. ``whole_group``: Largest Object means its group from object 0.
    ``resumes``: an absolute start may lie before the running group."""
    if filter is None:
        return Location(largest.group, 0) if largest else Location(0, 0)
    if filter.start is not None and resumes:
        return filter.start
    if filter.start is not None:
        return max(filter.start, Location(largest.group, 0)) if largest else filter.start
    if largest is None:
        return Location(0, 0)
    if filter.kind is FilterKind.NEXT_GROUP_START:
        return Location(largest.group + 1, 0)
    return Location(largest.group, 0 if whole_group else largest.object + 1)


def is_over(filter: Filter | None, largest: Location | None) -> bool:
    """Whether every group that can pass the filter has been published (INVALID_RANGE)."""
    if filter is None or filter.end_group is None or largest is None:
        return False
    return filter.end_group < largest.group


def is_ours(implementation: str | None) -> bool:
    """Whether a peer is Farcast, by what its SETUP says."""
    return (implementation or "").startswith("farcast/")


def is_moq_net(offered: Sequence[str], implementation: str | None = None) -> bool:
    """Whether a client is ``@moq/net`` or its sibling in Rust: what it offered says so, or its SETUP.

    Both names start alike; a client that was told to speak one draft only offers no more than that.
    """
    return any(name.startswith("moq-lite") for name in (*offered, implementation or ""))
