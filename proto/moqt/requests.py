"""Requests and their states.

::

               SEND            ACCEPT                CANCEL, DONE
    QUEUED ──────────► PENDING ──────► ESTABLISHED ───────────────► CLOSED
       │ CANCEL, REJECT   │ REJECT, CANCEL, DONE                       ▲
       └──────────────────┴────────────────────────────────────────────┘

The rules are data: :data:`TRANSITIONS` says what leads where, :data:`ACTORS` who may do it. DONE is the
publisher's end of a subscription (PUBLISH_DONE), so it is the responder's for SUBSCRIBE and the requester's
for PUBLISH; a publisher may end a PUBLISH that is still pending (draft 18, section 5.1), but not a SUBSCRIBE,
which it refuses instead. QUEUED exists on our side only.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from farcast.proto.moqt.events import UpdateRequested
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.values import Interest


class Verb(StrEnum):
    """What a request asks for (those that stay open)."""

    SUBSCRIBE = "SUBSCRIBE"
    PUBLISH = "PUBLISH"
    PUBLISH_NAMESPACE = "PUBLISH_NAMESPACE"
    SUBSCRIBE_NAMESPACE = "SUBSCRIBE_NAMESPACE"


class State(StrEnum):
    """Where a request stands."""

    QUEUED = "QUEUED"
    PENDING = "PENDING"
    ESTABLISHED = "ESTABLISHED"
    CLOSED = "CLOSED"


class Trigger(StrEnum):
    """What moves a request on."""

    SEND = "SEND"
    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    DONE = "DONE"
    CANCEL = "CANCEL"


class Actor(StrEnum):
    """Who does it."""

    REQUESTER = "REQUESTER"
    RESPONDER = "RESPONDER"


_COMMON = {
    State.QUEUED: {Trigger.SEND: State.PENDING, Trigger.CANCEL: State.CLOSED},
    State.PENDING: {
        Trigger.ACCEPT: State.ESTABLISHED,
        Trigger.REJECT: State.CLOSED,
        Trigger.CANCEL: State.CLOSED,
    },
    State.ESTABLISHED: {Trigger.CANCEL: State.CLOSED},
    State.CLOSED: {},
}
_DONE = {Trigger.DONE: State.CLOSED}

TRANSITIONS: dict[Verb, dict[State, dict[Trigger, State]]] = {
    Verb.SUBSCRIBE: _COMMON | {State.ESTABLISHED: _COMMON[State.ESTABLISHED] | _DONE},
    Verb.PUBLISH: _COMMON
    | {
        State.QUEUED: _COMMON[State.QUEUED] | _DONE,
        State.PENDING: _COMMON[State.PENDING] | _DONE,
        State.ESTABLISHED: _COMMON[State.ESTABLISHED] | _DONE,
    },
    Verb.PUBLISH_NAMESPACE: _COMMON,
    Verb.SUBSCRIBE_NAMESPACE: _COMMON,
}

_REQUESTER = frozenset({Actor.REQUESTER})
_RESPONDER = frozenset({Actor.RESPONDER})

ACTORS: dict[Trigger, frozenset[Actor]] = {
    Trigger.SEND: _REQUESTER,
    Trigger.ACCEPT: _RESPONDER,
    Trigger.REJECT: _RESPONDER,
    Trigger.CANCEL: _REQUESTER | _RESPONDER,
}


def allowed_actors(verb: Verb, trigger: Trigger) -> frozenset[Actor]:
    """Who may fire this trigger on a request of this verb."""
    if trigger is Trigger.DONE:
        return _REQUESTER if verb is Verb.PUBLISH else _RESPONDER
    return ACTORS[trigger]


@dataclass(slots=True, eq=False)
class Request:
    """One request, ours or the peer's. ``stream`` is ``None`` where it lives on the control stream."""

    handle: int
    verb: Verb
    ours: bool
    state: State
    request_id: int = -1
    stream: int | None = None
    name: FullTrackName | None = None
    """SUBSCRIBE and PUBLISH."""
    namespace: TrackNamespace = field(default_factory=TrackNamespace)
    """PUBLISH_NAMESPACE: the namespace; SUBSCRIBE_NAMESPACE: the prefix."""
    interest: Interest = Interest.NAMESPACE
    alias: int | None = None
    """Of a subscription where we are the subscriber."""
    suffixes: set[TrackNamespace] = field(default_factory=set)
    """SUBSCRIBE_NAMESPACE: the namespaces announced in answer to it."""
    updates_sent: deque[int] = field(default_factory=deque)
    """Request ids of our updates that have no answer yet."""
    updates_received: deque[int] = field(default_factory=deque)
    """Request ids of the peer's updates that have no answer yet."""
    deferred: list[UpdateRequested] = field(default_factory=list)
    """Updates of a pending request, reported once it is accepted."""
    goaway_sent: bool = False
    goaway_received: bool = False

    @property
    def we_publish(self) -> bool:
        """Whether we are the publisher of this subscription."""
        return self.ours == (self.verb is Verb.PUBLISH)

    @property
    def is_subscription(self) -> bool:
        """SUBSCRIBE or PUBLISH."""
        return self.verb in (Verb.SUBSCRIBE, Verb.PUBLISH)

    def next_state(self, trigger: Trigger, *, local: bool) -> State | None:
        """The state that ``trigger``, fired by us or by the peer, leads to; ``None`` where it is not
        allowed."""
        actor = Actor.REQUESTER if local == self.ours else Actor.RESPONDER
        if actor not in allowed_actors(self.verb, trigger):
            return None
        return TRANSITIONS[self.verb][self.state].get(trigger)
