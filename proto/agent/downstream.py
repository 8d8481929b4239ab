"""Commands about tracks and downstreams, as edges and clients all give them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from farcast.proto._core import CacheLimits, Command, QueueLimits
from farcast.proto.moqt.values import GroupOrder
from farcast.proto.properties import DEFAULT_PUBLISHER_GROUP_ORDER, find_integer

if TYPE_CHECKING:
    from farcast.proto.agent.config import MediaLimits
    from farcast.proto.moqt.events import UpdateRequested
    from farcast.proto.moqt.values import Filter, Location
    from farcast.proto.properties import Properties

STREAM_CANCELLED = 0x1
"""Stream reset code CANCELLED, the same number in drafts 16 and 18 (draft-18 section 15.8.4)."""
STREAM_MALFORMED_TRACK = 0x12
"""Stream reset code MALFORMED_TRACK, the same number in drafts 16 and 18."""


def cache_limits(media: MediaLimits) -> CacheLimits:
    """How much of a track the datapath keeps."""
    return CacheLimits(
        cache_bytes_max=media.cache_bytes_max,
        cache_ms_max=media.cache_ms_max,
        cache_groups_max=media.cache_groups_max,
    )


def add_downstream(
    downstream: int,
    *,
    session: int,
    alias: int,
    track: int,
    start: Location,
    filter: Filter | None,
    priority: int,
    group_order: GroupOrder,
    forward: bool,
    media: MediaLimits,
) -> Command:
    """Send a track to a session from ``start`` on."""
    return Command.AddDownstream(
        downstream=downstream,
        session=session,
        alias=alias,
        track=track,
        start=start,
        end_group=filter.end_group if filter is not None else None,
        subscriber_priority=priority,
        group_order=group_order.value,
        forward=forward,
        limits=QueueLimits(
            queue_bytes_max=media.queue_bytes_max,
            queue_ms_max=media.queue_ms_max,
            layer_ms_max=media.layer_ms_max,
            unheard_ms_max=media.unheard_ms_max,
        ),
    )


def update_downstream(downstream: int, update: UpdateRequested, start: Location | None) -> Command:
    """What a REQUEST_UPDATE changes; ``start`` is the new filter's, where it has one."""
    return Command.UpdateDownstream(
        downstream=downstream,
        start=start,
        end_group=update.filter.end_group if update.filter is not None else None,
        subscriber_priority=update.priority,
        forward=update.forward,
    )


def move_downstream(downstream: int, start: Location) -> Command:
    """Start a downstream elsewhere."""
    return Command.UpdateDownstream(
        downstream=downstream, start=start, end_group=None, subscriber_priority=None, forward=None
    )


def effective_group_order(asked: GroupOrder | None, properties: Properties) -> GroupOrder:
    """As the subscriber asked, else as the publisher prefers, else ascending (draft-18 section 10.2.9)."""
    if asked is not None:
        return asked
    preferred = find_integer(properties, DEFAULT_PUBLISHER_GROUP_ORDER)
    return GroupOrder.DESCENDING if preferred == 2 else GroupOrder.ASCENDING
