"""What a connection tells the engine above it: `Opened`, `Lost`, `GaveUp`, `SentTo`, `OldOver`, `FromOld`.

Events of the current MoQT session come as they are; those of a session beside it come in a `FromOld`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from farcast.proto.moqt.session import Session

Cause: TypeAlias = Literal["ended", "silent", "goaway"]
"""Why a session is left. A session that is left before it delivered anything is left as ``silent``."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A session is the current one. ``previous`` is the edge of the one before, if there was any, ``cause``
    why that was left. It may be one that was current before, and delivers first after all."""

    session: int
    transport: str
    draft: int
    implementation: str | None = None
    edge: str = ""
    previous: str | None = None
    cause: Cause = "ended"


@dataclass(frozen=True, slots=True)
class Lost:
    """The session ended, or an attempt failed; the next attempt follows by itself."""

    reason: str


@dataclass(frozen=True, slots=True)
class GaveUp:
    """There will be no session."""

    reason: str


@dataclass(frozen=True, slots=True)
class SentTo:
    """GOAWAY names a URI that is none of the edges we know: `Connection.answer_uri` with its target."""

    uri: str


@dataclass(frozen=True, slots=True)
class OldOver:
    """A session beside the current one is closed."""

    session: int


@dataclass(frozen=True, slots=True)
class FromOld:
    """An event of a session beside the current one: that which is being left, or one that was tried."""

    session: int
    moqt: Session
    event: Any
