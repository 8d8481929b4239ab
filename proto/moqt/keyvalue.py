"""Key-value pairs: properties of tracks and objects, setup options, and the parameters of draft 16.

::

    Key-Value-Pair {
      Delta Type (varint),        type minus the type before it
      [Length (varint),]          odd types only
      Value (..)                  even: a varint; odd: Length bytes, at most 65,535
    }

Draft 18, section 1.4.3; draft 16, section 1.4.2 (the same with RFC 9000 varints).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from farcast.proto.moqt.errors import ProtocolError, SessionCode, violation
from farcast.proto.moqt.values import U64_MAX
from farcast.proto.moqt.varint import Truncated, Varint

VALUE_BYTES_MAX = 65_535


class Pair(NamedTuple):
    """One pair: an integer value for an even type, bytes for an odd one."""

    type: int
    value: int | bytes


Pairs = tuple[Pair, ...]


def encode_pairs(pairs: Iterable[tuple[int, int | bytes]], varint: Varint) -> bytes:
    """The pairs in ascending order of type (those of one type keep their order).

    Raises ``ValueError`` for a value of the wrong kind or one that does not fit.
    """
    data = bytearray()
    previous = 0
    for kind, value in sorted(pairs, key=lambda pair: pair[0]):
        data += varint.encode(kind - previous)
        data += _encode_value(kind, value, varint)
        previous = kind
    return bytes(data)


def decode_pairs(data: bytes, varint: Varint, *, pairs_max: int | None = None) -> Pairs:
    """All pairs of ``data``, in order.

    Raises :class:`ProtocolError`: KEY_VALUE_FORMATTING_ERROR where the bytes end inside a pair,
    PROTOCOL_VIOLATION for a type above 2**64 - 1, a value above 65,535 bytes, or more than ``pairs_max``
    pairs.
    """
    pairs: list[Pair] = []
    offset = kind = 0
    while offset < len(data):
        if pairs_max is not None and len(pairs) >= pairs_max:
            raise violation(f"more than {pairs_max} key-value pairs")
        pair, offset = decode_pair(data, offset, kind, varint)
        kind = pair.type
        pairs.append(pair)
    return tuple(pairs)


def decode_pair(data: bytes, offset: int, previous: int, varint: Varint) -> tuple[Pair, int]:
    """The pair at ``offset`` after one of type ``previous``, and the offset behind it; errors as above."""
    try:
        delta, offset = varint.decode(data, offset)
        kind = previous + delta
        if kind > U64_MAX:
            raise violation("key-value type above 2**64 - 1")
        number, offset = varint.decode(data, offset)
    except Truncated:
        raise _formatting_error() from None
    if kind % 2 == 0:
        return Pair(kind, number), offset
    if number > VALUE_BYTES_MAX:
        raise violation(f"key-value length {number}, at most {VALUE_BYTES_MAX} is allowed")
    if offset + number > len(data):
        raise _formatting_error()
    return Pair(kind, bytes(data[offset : offset + number])), offset + number


def expressible(pairs: Pairs, varint: Varint) -> Pairs:
    """Those pairs that this kind of varint can express (all but numbers above 2**62 - 1 in RFC 9000)."""
    return tuple(pair for pair in pairs if _fits(pair, varint))


def _fits(pair: Pair, varint: Varint) -> bool:
    if pair.type > varint.value_max:
        return False
    return isinstance(pair.value, bytes) or pair.value <= varint.value_max


def _encode_value(kind: int, value: int | bytes, varint: Varint) -> bytes:
    if isinstance(value, int) != (kind % 2 == 0):
        raise ValueError(f"type {kind:#x} wants {'bytes' if kind % 2 else 'an integer'}")
    if isinstance(value, int):
        return varint.encode(value)
    if len(value) > VALUE_BYTES_MAX:
        raise ValueError(f"type {kind:#x}: {len(value)} bytes, at most {VALUE_BYTES_MAX}")
    return varint.encode(len(value)) + value


def _formatting_error() -> ProtocolError:
    return ProtocolError(SessionCode.KEY_VALUE_FORMATTING_ERROR, "the bytes end inside a key-value pair")
