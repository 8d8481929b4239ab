"""Values that messages and events carry, the same in every draft."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag, StrEnum
from typing import NamedTuple

from farcast.proto.moqt.names import FullTrackName, TrackNamespace

U64_MAX = 2**64 - 1


class Location(NamedTuple):
    """A place in a track; compares like the draft says, and is the ``(group, object)`` of the datapath."""

    group: int
    object: int


class GroupOrder(StrEnum):
    """Order of groups; the values are the datapath's words."""

    ASCENDING = "ascending"
    DESCENDING = "descending"


class FilterKind(IntEnum):
    """Type of a subscription filter (draft 18, section 5.1.2)."""

    NEXT_GROUP_START = 0x1
    LARGEST_OBJECT = 0x2
    ABSOLUTE_START = 0x3
    ABSOLUTE_RANGE = 0x4


@dataclass(frozen=True, slots=True)
class Filter:
    """A subscription filter. ``start`` belongs to the two absolute kinds, ``end_group`` (the last group that
    passes) to the range. No filter at all (``None`` wherever a filter may stand) lets every object pass."""

    kind: FilterKind
    start: Location | None = None
    end_group: int | None = None

    def __post_init__(self) -> None:
        absolute = self.kind in (FilterKind.ABSOLUTE_START, FilterKind.ABSOLUTE_RANGE)
        if absolute != (self.start is not None):
            raise ValueError(f"a {self.kind.name} filter {'needs a' if absolute else 'has no'} start")
        if (self.kind is FilterKind.ABSOLUTE_RANGE) != (self.end_group is not None):
            raise ValueError("an end group belongs to ABSOLUTE_RANGE and to nothing else")
        if self.start is not None and self.end_group is not None and self.end_group < self.start.group:
            raise ValueError("the end group lies before the start")


LARGEST_OBJECT = Filter(FilterKind.LARGEST_OBJECT)
NEXT_GROUP_START = Filter(FilterKind.NEXT_GROUP_START)


class Interest(IntEnum):
    """What a SUBSCRIBE_NAMESPACE asks for (draft 16; draft 18 has SUBSCRIBE_TRACKS for the first)."""

    PUBLISH = 0x0
    NAMESPACE = 0x1
    BOTH = 0x2


class TokenAliasType(IntEnum):
    """How a token is given (draft 18, section 10.2.2)."""

    DELETE = 0x0
    REGISTER = 0x1
    USE_ALIAS = 0x2
    USE_VALUE = 0x3


@dataclass(frozen=True, slots=True)
class AuthToken:
    """One AUTHORIZATION_TOKEN as it is on the wire.

    DELETE and USE_ALIAS have an alias only; USE_VALUE has type and value; REGISTER has all three.
    """

    alias_type: TokenAliasType
    alias: int | None = None
    token_type: int | None = None
    value: bytes | None = None

    def __post_init__(self) -> None:
        with_alias = self.alias_type is not TokenAliasType.USE_VALUE
        with_value = self.alias_type in (TokenAliasType.REGISTER, TokenAliasType.USE_VALUE)
        if (self.alias is not None) != with_alias:
            raise ValueError(f"{self.alias_type.name} and alias {self.alias} do not go together")
        if (self.token_type is not None) != with_value or (self.value is not None) != with_value:
            raise ValueError(
                f"{self.alias_type.name}: type and value are {'missing' if with_value else 'too much'}"
            )


@dataclass(frozen=True, slots=True)
class Token:
    """A token with its alias resolved: what authorisation looks at."""

    token_type: int
    value: bytes


class Recovery(IntFlag):
    """Recovery mechanisms that an edge offers on its hops, as bits of the NODE setup option."""

    NONE = 0
    RETRANSMISSION = 1
    SPACED_COPIES = 2
    FORWARD_ERROR_CORRECTION = 4
    SECOND_PATH = 8


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """Who an edge is, as it tells the other end of a hop (setup option NODE, hops only)."""

    node_id: str
    region: str = ""
    recovery: Recovery = Recovery.NONE


_SAME_NAME = FullTrackName(TrackNamespace(), b"")


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a refused request could succeed (draft 18, section 10.6.1). Both parts may be empty."""

    uri: str = ""
    name: FullTrackName = _SAME_NAME


@dataclass(frozen=True, slots=True)
class SetupOptions:
    """What an endpoint says in its SETUP (draft 18, section 10.3.1).

    ``path`` and ``authority`` are a client's over raw QUIC. ``max_request_id`` is draft 16's, and filled in
    by the session from its limits. ``node`` is for hops. ``extra`` are options this code does not know, as
    ``(type, value)``: an integer for an even type, bytes for an odd one.
    """

    path: str | None = None
    authority: str | None = None
    implementation: str | None = None
    max_request_id: int | None = None
    max_auth_token_cache_bytes: int | None = None
    authorization_tokens: tuple[AuthToken, ...] = ()
    node: NodeInfo | None = None
    extra: tuple[tuple[int, int | bytes], ...] = ()
