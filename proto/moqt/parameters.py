"""Message parameters as values: one frozen set of optional fields, the same for every draft.

Which number, form and messages each has is the profile's business; ``None`` (or an empty tuple) means that
the parameter is absent, and the comment says what absence means.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.moqt.values import AuthToken, Filter, GroupOrder, Location

DEFAULT_PRIORITY = 128

HOP_PATH_NODES_MAX = 16
NODE_TEXT_BYTES_MAX = 64


@dataclass(frozen=True, slots=True)
class Parameters:
    """Parameters of one message (draft 18, section 10.2; draft 16, section 9.2).

    ``hop_path`` and ``origin`` are ours and only on hops: the node ids of the edges that a subscription has
    passed so far, the asking edge last, and the node id of the edge where the publisher is.
    """

    object_delivery_timeout_ms: int | None = None
    """Draft 16's DELIVERY_TIMEOUT, draft 18's OBJECT_DELIVERY_TIMEOUT; absent: no timeout."""
    authorization_tokens: tuple[AuthToken, ...] = ()
    rendezvous_timeout_ms: int | None = None
    """How long to wait for a publisher to appear; absent: not at all."""
    subgroup_delivery_timeout_ms: int | None = None
    expires_ms: int | None = None
    """When the sender will end the subscription; absent or 0: never, or unknown."""
    largest: Location | None = None
    """Largest object the sender has seen; absent: none yet."""
    fill_timeout_ms: int | None = None
    forward: bool | None = None
    """Absent: true, and in REQUEST_UPDATE unchanged."""
    subscriber_priority: int | None = None
    """0 is first; absent: 128, and in REQUEST_UPDATE unchanged."""
    filter: Filter | None = None
    """Absent: every object, and in REQUEST_UPDATE unchanged."""
    group_order: GroupOrder | None = None
    """Absent: what the publisher prefers."""
    new_group_request: int | None = None
    """Largest group the subscriber knows, plus 1; 0: it knows none."""
    namespace_prefix: TrackNamespace | None = None
    hop_path: tuple[str, ...] = ()
    origin: str | None = None

    def with_(self, **changes: object) -> Parameters:
        """A copy with those of ``changes`` that are not ``None``."""
        return replace(self, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]


NO_PARAMETERS = Parameters()
