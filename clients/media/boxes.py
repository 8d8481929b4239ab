"""Reading and writing ISO BMFF boxes (ISO/IEC 14496-12, 4.2).

::

    0      4      8                     16
    +------+------+---------------------+------------
    | size | type | (64-bit size if = 1)| payload ...
    +------+------+---------------------+------------
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from farcast.clients.media.errors import MediaError

BOXES_MAX = 4096
"""Most boxes looked at on one level of one object."""


def box(kind: bytes, *payload: bytes) -> bytes:
    """One box of four-character type ``kind``."""
    body = b"".join(payload)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def full_box(kind: bytes, version: int, flags: int, *payload: bytes) -> bytes:
    """One box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *payload)


def iter_boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int, int]]:
    """Boxes between two offsets as (type, box start, payload start, box end).

    Raises :class:`MediaError` if a box does not fit or there are more than ``BOXES_MAX``.
    """
    for _ in range(BOXES_MAX):
        if start == end:
            return
        if end - start < 8:
            raise MediaError("MP4 data ends inside a box header")
        size, kind = struct.unpack_from(">I4s", data, start)
        payload = start + 8
        if size == 1:
            if end - start < 16:
                raise MediaError("MP4 data ends inside a box header")
            (size,) = struct.unpack_from(">Q", data, payload)
            payload += 8
        elif size == 0:
            size = end - start
        if size < payload - start or size > end - start:
            raise MediaError(f"MP4 box {_name(kind)} of {size} bytes does not fit into its parent")
        yield kind, start, payload, start + size
        start += size
    raise MediaError(f"more than {BOXES_MAX} MP4 boxes in one place")


def find_box(data: bytes, start: int, end: int, *path: bytes) -> tuple[int, int]:
    """Payload bounds of the first box under ``path``. Raises :class:`MediaError` if there is none."""
    for wanted in path:
        for kind, _, payload, stop in iter_boxes(data, start, end):
            if kind == wanted:
                start, end = payload, stop
                break
        else:
            raise MediaError(f"MP4 box {_name(wanted)} is missing")
    return start, end


class BoxReader:
    """Reads big-endian fields of one box. Reading behind its end raises :class:`MediaError`."""

    __slots__ = ("_data", "_end", "offset")

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self._data = data
        self._end = end
        self.offset = start

    @property
    def remaining(self) -> int:
        """Bytes not read yet."""
        return self._end - self.offset

    def uint(self, size: int) -> int:
        """An unsigned integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big")

    def sint(self, size: int) -> int:
        """A signed integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big", signed=True)

    def version_and_flags(self) -> tuple[int, int]:
        """The two fields every full box starts with."""
        word = self.uint(4)
        return word >> 24, word & 0xFFFFFF

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size > self.remaining:
            raise MediaError("MP4 box ends inside one of its fields")
        start, self.offset = self.offset, self.offset + size
        return self._data[start : self.offset]

    def rest(self) -> bytes:
        """All bytes up to the end of the box."""
        return self.take(self.remaining)


def _name(kind: bytes) -> str:
    return kind.decode("latin-1").encode("unicode_escape").decode("ascii")
