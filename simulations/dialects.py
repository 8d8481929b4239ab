"""What an edge of the build before says on the control channel, made of what this build's engines write.

The same build at both ends of a pipe proves nothing about two builds in one mesh. Two things differ on the
wire between neighbouring builds: what a Hello offers, and which fields there are. An edge of the build before
never writes the fields that came since, and does not know them where it reads; so its engine, which is this
build's, is kept from both: what goes either way is taken apart, loses these fields and is put together again.
Records and their checks are the real ones, and whatever hangs on a field that is absent happens.

`SINCE` is the list to be kept: a field that a build adds is added here, one that nobody lacks any more goes.
Not in it: what an older build *did* otherwise with the same record, and the hops between edges, whose bytes
have had one form so far.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from farcast.proto.control.codec import FROM_CONTROL_BYTES_MAX, FROM_EDGE_BYTES_MAX, Framer

SINCE: Final = frozenset({"issues", "revoked", "access", "edge_list", "offers_follow", "resync", "probe"})
"""Fields of records that the build before does not know."""

LENGTH_BYTES: Final = 4
DEPTH_MAX: Final = 32


class Older:
    """Both directions of one connection of an edge of the build before; `reset` at each new connection."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nothing is half-way."""
        self._up, self._down = Framer(FROM_EDGE_BYTES_MAX), Framer(FROM_CONTROL_BYTES_MAX)

    def up(self, data: bytes) -> bytes:
        """What the edge writes, as the build before would have."""
        return _without(self._up, data)

    def down(self, data: bytes) -> bytes:
        """What the edge reads, as far as the build before knows it."""
        return _without(self._down, data)


def _without(framer: Framer, data: bytes) -> bytes:
    framer.push(data)
    out = bytearray()
    while (body := framer.next()) is not None:
        record = msgspec.msgpack.encode(_stripped(msgspec.msgpack.decode(body), DEPTH_MAX))
        out += len(record).to_bytes(LENGTH_BYTES, "big") + record
    return bytes(out)


def _stripped(part: Any, depth: int) -> Any:
    if depth == 0:
        return part
    if isinstance(part, dict):
        return {key: _stripped(each, depth - 1) for key, each in part.items() if key not in SINCE}
    return [_stripped(each, depth - 1) for each in part] if isinstance(part, list) else part
