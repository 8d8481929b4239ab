"""Properties of tracks and objects (draft 18, sections 2.5 and 12; draft 16 calls them extension headers).

Inside Farcast they are key-value pairs with RFC 9000 varints and delta-coded types, draft 16's form; sessions
and the datapath convert for drafts that use vi64. The bytes of IMMUTABLE_PROPERTIES are never touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from farcast.proto.moqt.errors import ProtocolError
from farcast.proto.moqt.keyvalue import Pair, Pairs, decode_pairs, encode_pairs
from farcast.proto.moqt.varint import RFC9000

Property = Pair
Properties = Pairs

OBJECT_DELIVERY_TIMEOUT: Final = 0x02
MAX_CACHE_DURATION: Final = 0x04
SUBGROUP_DELIVERY_TIMEOUT: Final = 0x06
IMMUTABLE_PROPERTIES: Final = 0x0B
DEFAULT_PUBLISHER_PRIORITY: Final = 0x0E
DEFAULT_PUBLISHER_GROUP_ORDER: Final = 0x22
DYNAMIC_GROUPS: Final = 0x30
PRIOR_GROUP_ID_GAP: Final = 0x3C
PRIOR_OBJECT_ID_GAP: Final = 0x3E

CAPTURE_TIME: Final = 0x38C4
"""Object property: wall-clock time of capture, microseconds since the Unix epoch."""

COMPANIONS: Final = 0x3FC3
"""Track property of a catalog (of the range for private use, section 2.5): names of the tracks that belong to
it, the most urgent first, separated by line feeds."""


class MalformedProperties(ValueError):
    """The bytes are not a sequence of key-value pairs."""


def encode_properties(properties: Iterable[tuple[int, int | bytes]]) -> bytes:
    """Properties as the agent and the datapath exchange them. Raises ``ValueError`` for what does not fit."""
    return encode_pairs(properties, RFC9000)


def decode_properties(data: bytes) -> Properties:
    """The inverse. Raises :class:`MalformedProperties`."""
    try:
        return decode_pairs(data, RFC9000)
    except ProtocolError as error:
        raise MalformedProperties(error.reason) from None


def find_integer(properties: Properties, kind: int) -> int | None:
    """The first integer value of this (even) type, or ``None``."""
    return next(
        (pair.value for pair in properties if pair.type == kind and isinstance(pair.value, int)), None
    )
