"""What a byte-exact track holds: every object's payload follows from its place, at each peer alike.

The same function stands in ``pages/payloads.js``.
"""

from __future__ import annotations

import hashlib

OBJECTS_PER_GROUP = 5
INTERVAL_SECONDS = 0.05
TRACK = "data"

_SIZES = (1, 63, 1199, 4096, 40_000)


def payload(group: int, object: int) -> bytes:
    """The payload of one object."""
    size = _SIZES[object % len(_SIZES)]
    cycle = bytes((i * 31 + group * 7 + object * 13) % 251 for i in range(251))
    return (cycle * (size // 251 + 1))[:size]


def digest(data: bytes) -> str:
    """What a peer reports of a payload."""
    return hashlib.sha256(data).hexdigest()
