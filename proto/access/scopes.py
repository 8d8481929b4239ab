"""What a token allows: actions on tracks under a namespace.

The shape is that of the ``moqt`` claim of C4M (draft-ietf-moq-c4m-02, section 2.1): a list of scopes, each
with actions, a namespace and a track; a request is allowed if one scope allows all of it. Namespaces match by
fields, never by characters: ``live/foo`` does not cover ``live/foobar``. What no scope names is denied.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from farcast.proto.moqt.names import TrackNamespace

SCOPES_MAX = 16
"""In one token."""


class Action(IntEnum):
    """What can be allowed, numbered as in C4M's table of actions."""

    CLIENT_SETUP = 0
    SERVER_SETUP = 1
    PUBLISH_NAMESPACE = 2
    SUBSCRIBE_NAMESPACE = 3
    SUBSCRIBE = 4
    REQUEST_UPDATE = 5
    PUBLISH = 6
    FETCH = 7
    TRACK_STATUS = 8


PUBLISHER = frozenset({Action.CLIENT_SETUP, Action.PUBLISH_NAMESPACE, Action.PUBLISH})
"""What a publisher does."""

VIEWER = frozenset(
    {
        Action.CLIENT_SETUP,
        Action.SUBSCRIBE_NAMESPACE,
        Action.SUBSCRIBE,
        Action.REQUEST_UPDATE,
        Action.FETCH,
        Action.TRACK_STATUS,
    }
)
"""What a viewer does."""

_OF_TRACKS = frozenset({Action.SUBSCRIBE, Action.PUBLISH, Action.FETCH, Action.TRACK_STATUS})


class Match(StrEnum):
    """How the name of a track is compared."""

    EXACT = "exact"
    PREFIX = "prefix"
    SUFFIX = "suffix"


@dataclass(frozen=True, slots=True)
class TrackMatch:
    """Names of tracks, compared byte by byte."""

    match: Match
    value: bytes

    def covers(self, name: bytes) -> bool:
        """Whether a track of this name is meant."""
        match self.match:
            case Match.EXACT:
                return name == self.value
            case Match.PREFIX:
                return name.startswith(self.value)
            case Match.SUFFIX:
                return name.endswith(self.value)


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions under a namespace, on every track there or on some. The empty namespace is everything."""

    actions: frozenset[Action]
    namespace: TrackNamespace
    track: TrackMatch | None = None

    def allows(self, action: Action, namespace: TrackNamespace, track: bytes | None = None) -> bool:
        """Whether this scope allows an action; ``track`` is ``None`` for what concerns a whole namespace.

        A scope for some tracks allows to announce and look up the namespace they are in.
        """
        if action not in self.actions or not namespace.starts_with(self.namespace):
            return False
        if self.track is None or action not in _OF_TRACKS:
            return True
        return track is not None and self.track.covers(track)


def allows(
    scopes: tuple[Scope, ...], action: Action, namespace: TrackNamespace, track: bytes | None = None
) -> bool:
    """Whether one of the scopes allows an action."""
    return any(scope.allows(action, namespace, track) for scope in scopes)


def is_party(scopes: tuple[Scope, ...], actions: frozenset[Action]) -> bool:
    """Whether one of the scopes allows one of the actions anywhere."""
    return any(scope.actions & actions for scope in scopes)
