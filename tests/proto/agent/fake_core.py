"""Stand-in for the vocabulary of ``farcast.proto._core``, for trees where the extension is not built.

Same names and fields as the real classes; no behaviour.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass, field, make_dataclass
from types import ModuleType
from typing import Any

LOCAL_STREAM_BIT = 1 << 62
_EXPORTED = ("LOCAL_STREAM_BIT", "LargestCell", "ClientTls", "CacheLimits", "QueueLimits", "Command", "Event")


class LargestCell:
    """The largest location of a track."""

    def __init__(self) -> None:
        self._location: tuple[int, int] | None = None

    def get(self) -> tuple[int, int] | None:
        return self._location

    def set(self, location: tuple[int, int] | None) -> None:
        self._location = location


@dataclass(frozen=True)
class ClientTls:
    roots: list[bytes] | None = None
    fingerprints: list[bytes] | None = None
    insecure: bool = False
    chain: list[bytes] | None = None
    key: bytes | None = None


@dataclass(frozen=True)
class CacheLimits:
    cache_bytes_max: int = 64 << 20
    cache_ms_max: int = 10_000
    cache_groups_max: int = 64


@dataclass(frozen=True)
class QueueLimits:
    queue_bytes_max: int = 8 << 20
    queue_ms_max: int = 2_000


class Command:
    """Base of the commands; one nested class per variant."""


class Event:
    """Base of the events; one nested class per variant."""


def _variants(base: type, variants: dict[str, str]) -> None:
    for name, fields in variants.items():
        specs: list[Any] = []
        for word in fields.split():
            key, _, default = word.partition("=")
            specs.append((key, Any, field(default=eval(default))) if default else (key, Any))
        variant = make_dataclass(name, specs, bases=(base,), frozen=True)
        variant.__qualname__ = f"{base.__name__}.{name}"
        setattr(base, name, variant)


_variants(
    Command,
    {
        "Connect": "session remote server_name target tls drafts=() authority='' path=''",
        "Close": "session code reason",
        "OpenStream": "session stream bidi",
        "Write": "session stream data fin",
        "ResetStream": "session stream code",
        "StopStream": "session stream code",
        "AddTrack": "track largest cache",
        "RemoveTrack": "track",
        "BindUpstream": "session alias track default_priority=128 restart_allowed=False",
        "UnbindUpstream": "session alias",
        "AddDownstream": "downstream session alias track start end_group subscriber_priority "
        "group_order forward limits",
        "UpdateDownstream": "downstream start=None end_group=None subscriber_priority=None forward=None",
        "RemoveDownstream": "downstream code",
        "FinishDownstream": "downstream",
        "AddSink": "downstream track start",
        "Publish": "track group subgroup object priority status properties payload "
        "end_of_subgroup end_of_group",
        "Snapshot": "token",
    },
)
_variants(
    Event,
    {
        "SessionOpened": "session transport draft incoming remote offered authority path peer_certificates",
        "SessionClosed": "session by code reason",
        "StreamData": "session stream kind data fin",
        "StreamReset": "session stream code",
        "StreamStopped": "session stream code",
        "TrackRestarted": "track downstreams",
        "TrackMalformed": "session alias track reason",
        "DownstreamEnded": "downstream streams",
        "Object": "downstream group subgroup object priority status properties payload "
        "first_byte_us complete_us",
        "SinkSubgroupEnded": "downstream group subgroup end_of_group reset",
        "HopSilent": "session silent",
        "Snapshot": "token snapshot",
    },
)


def install() -> None:
    """Let ``farcast.proto._core`` be this module's classes, unless the extension is built."""
    try:
        importlib.import_module("farcast.proto._core")
    except ModuleNotFoundError:
        sys.modules["farcast.proto._core"] = _module()


def _module() -> ModuleType:
    made = ModuleType("farcast.proto._core")
    for name in _EXPORTED:
        setattr(made, name, globals()[name])
    return made
