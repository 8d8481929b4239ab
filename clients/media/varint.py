"""QUIC variable-length integers (RFC 9000, section 16), as the hang containers use them."""

from __future__ import annotations

from farcast.clients.media.errors import MediaError

VARINT_MAX = (1 << 62) - 1


def write_varint(value: int) -> bytes:
    """Encode ``value`` in the fewest bytes. Raises :class:`ValueError` beyond 62 bits (own bug)."""
    for prefix, size in enumerate((1, 2, 4, 8)):
        if 0 <= value < 1 << (8 * size - 2):
            return (value | prefix << (8 * size - 2)).to_bytes(size, "big")
    raise ValueError(f"{value} does not fit a QUIC variable-length integer")


def read_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Decode one integer at ``offset``: (value, offset behind it). Raises :class:`MediaError`."""
    if offset >= len(data):
        raise MediaError("object ends inside a variable-length integer")
    size = 1 << (data[offset] >> 6)
    end = offset + size
    if end > len(data):
        raise MediaError("object ends inside a variable-length integer")
    return int.from_bytes(data[offset:end], "big") & ((1 << (8 * size - 2)) - 1), end
