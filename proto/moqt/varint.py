"""The two variable-length integers of MoQT.

========  =====================================  =========  ==================
name      first byte                             bytes      largest value
========  =====================================  =========  ==================
RFC 9000  two bits hold log2 of the length       1, 2, 4, 8 2**62 - 1
vi64      leading ones count the further bytes   1 to 9     2**64 - 1
========  =====================================  =========  ==================

RFC 9000, section 16, is used up to draft 16; vi64 (draft 18, section 1.4.1) from draft 17 on. Neither needs
the shortest form on input; both give it on output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class Truncated(Exception):
    """The bytes end inside a value. Whether that is an error or "wait for more" is the caller's to say."""


@dataclass(frozen=True, slots=True)
class Varint:
    """One kind of variable-length integer."""

    name: str
    value_max: int
    encode: Callable[[int], bytes]
    """Shortest form. Raises ``ValueError`` for a value outside 0 to ``value_max``."""
    length: Callable[[int], int]
    """Number of bytes of an encoding, from its first byte."""
    payload: Callable[[int, int], int]
    """The value bits of a first byte, given it and the length."""

    def decode(self, data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int]:
        """The value at ``offset`` and the offset behind it. Raises :class:`Truncated`."""
        if offset >= len(data):
            raise Truncated
        first = data[offset]
        end = offset + self.length(first)
        if end > len(data):
            raise Truncated
        value = self.payload(first, end - offset)
        for byte in data[offset + 1 : end]:
            value = value << 8 | byte
        return value, end


def _encode_rfc9000(value: int) -> bytes:
    for prefix, length in ((0, 1), (1, 2), (2, 4), (3, 8)):
        if 0 <= value < 1 << (8 * length - 2):
            return (value | prefix << (8 * length - 2)).to_bytes(length, "big")
    raise ValueError(f"{value} does not fit an RFC 9000 varint")


def _encode_vi64(value: int) -> bytes:
    for length in range(1, 9):
        if 0 <= value < 1 << 7 * length:
            ones = (0xFF << (9 - length)) & 0xFF
            return (value | ones << 8 * (length - 1)).to_bytes(length, "big")
    if 0 <= value < 1 << 64:
        return b"\xff" + value.to_bytes(8, "big")
    raise ValueError(f"{value} does not fit a vi64")


def _length_vi64(first: int) -> int:
    return 9 - (first ^ 0xFF).bit_length()


RFC9000 = Varint(
    name="rfc9000",
    value_max=2**62 - 1,
    encode=_encode_rfc9000,
    length=lambda first: 1 << (first >> 6),
    payload=lambda first, length: first & 0x3F,
)
VI64 = Varint(
    name="vi64",
    value_max=2**64 - 1,
    encode=_encode_vi64,
    length=_length_vi64,
    payload=lambda first, length: first & (0xFF >> length),
)
