"""What engines here ask of Consul's HTTP API, and what it answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

TIMEOUT_US: Final = 3_000_000
RETRY_US: Final = 500_000
"""Waits after a failure are from this to twice this, by the jitter."""
BODY_BYTES_MAX: Final = 64 << 10
"""Of an answer, unless its request says otherwise."""
NOT_UNDERSTOOD: Final = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
"""What comes of reading an answer that is none."""


class Lane(Enum):
    """What a request is for; each lane has one request at a time."""

    BEAT = auto()
    LOCK = auto()
    STATE = auto()
    EDGES = auto()


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request to the agent; ``body``: JSON or empty. A longer answer than ``bytes_max`` is none."""

    lane: Lane
    method: str
    path: str
    body: bytes = b""
    timeout_us: int = TIMEOUT_US
    bytes_max: int = BODY_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Reply:
    """Its answer; ``status`` 0: there was none, and ``body`` is why, where more is known. ``index``:
    ``X-Consul-Index``, 0 where there is none."""

    status: int
    body: bytes = b""
    index: int = 0


def as_json(value: object) -> bytes:
    """A body."""
    return json.dumps(value, separators=(",", ":")).encode()


def failure_of(reply: Reply) -> str:
    """What is wrong, as one sentence."""
    text = " ".join(reply.body[:200].decode(errors="replace").split())
    if reply.status == 0:
        return f"Consul does not answer{': ' if text else ''}{text}"
    return f"Consul says {reply.status}: {text}"
