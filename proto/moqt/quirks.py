"""How some implementations differ from the drafts, and what a session does about it.

Chosen by the MOQT_IMPLEMENTATION option of the peer's SETUP (a prefix of it); pass ``quirks={}`` to a
session to have none. ``moq-lite-js`` is `@moq/net`, ``moq-lite-rs`` is moq-net behind moq-rs and moq-relay;
read from their source (moq-dev/moq, August 2026) and seen in runs of @moq/net 0.3.4:

- @moq/net sends a SUBSCRIBE_NAMESPACE for each part of a page that waits for an announcement, often several
  with one prefix, and takes PREFIX_OVERLAP for the end of that part.
- Both cancel a subscription on one stream and may ask for the same track again on the next, which can
  overtake the cancellation.
- From draft 17 on @moq/net reads LARGEST_OBJECT behind a length that is not there, and moq-net does not know
  it in SUBSCRIBE_OK; neither needs it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Quirks:
    """Departures from the draft towards one kind of peer."""

    overlapping_prefixes: bool = False
    """Accept SUBSCRIBE_NAMESPACE with overlapping prefixes."""
    repeated_subscriptions: bool = False
    """Accept a second SUBSCRIBE for a track."""
    largest_omitted: bool = False
    """Leave LARGEST_OBJECT out where it is a bare Location (from draft 17 on)."""


NO_QUIRKS = Quirks()

MOQ_LITE = Quirks(overlapping_prefixes=True, repeated_subscriptions=True, largest_omitted=True)

HOP_QUIRKS: Mapping[str, Quirks] = MappingProxyType({"": Quirks(repeated_subscriptions=True)})
"""Between edges: a subscription is made again beside the old one to learn a track's new route, and one that
was just cancelled may be overtaken by the next."""

DEFAULT_QUIRKS: Mapping[str, Quirks] = MappingProxyType({"moq-lite": MOQ_LITE})


def quirks_for(implementation: str | None, table: Mapping[str, Quirks]) -> Quirks:
    """The quirks of the first prefix of ``table`` that the implementation's name has."""
    name = implementation or ""
    return next((quirks for prefix, quirks in table.items() if name.startswith(prefix)), NO_QUIRKS)
