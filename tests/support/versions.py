"""Records of the control channel as other versions write them: made of real ones, on their way."""

from __future__ import annotations

from typing import Any, Final

import msgspec

OLDER: Final = (1,)
NEWER: Final = (2, 1)
"""What ends of version N-1 and N offer, were N the next one."""

SINCE_ADDED: Final = frozenset(
    {"issues", "revoked", "access", "edge_list", "offers_follow", "resync", "probe", "unix_us"}
    | {"usage", "shares", "takes_shares"}
)
"""Fields that an end of an earlier version does not write."""


def later(part: Any) -> Any:
    """As a later version might write it: every map with one field more, of a kind that nobody expects."""
    if isinstance(part, dict):
        more = {"later": {"x": [1, None, b"\xff"]}} if all(isinstance(key, str) for key in part) else {}
        return {key: later(each) for key, each in part.items()} | more
    return [later(each) for each in part] if isinstance(part, list) else part


def earlier(part: Any) -> Any:
    """Without what an earlier version does not know."""
    if isinstance(part, dict):
        return {key: earlier(each) for key, each in part.items() if key not in SINCE_ADDED}
    return [earlier(each) for each in part] if isinstance(part, list) else part


def frame_of(record: Any) -> bytes:
    """A record, as plain data, in its frame."""
    body = msgspec.msgpack.encode(record)
    return len(body).to_bytes(4, "big") + body


def record_in(frame: bytes) -> Any:
    """The reverse."""
    return msgspec.msgpack.decode(frame[4:])
