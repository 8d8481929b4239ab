"""The leader's state in Consul, as an engine: saves go in, transactions come out.

    elected ─► load: all keys, one consistent read ─► begin a reign with them ─► saves ─► fenced transactions

Every transaction begins with ``check-session`` on the leader's key: one that does not hold the lock any more
and has not noticed writes nothing, and says so to whoever waits for an answer (`verdict`). A new leader reads
after it has the lock, so it sees all that a leader before it can ever have written.

Orders are written at once, what follows them at its pace (`PACES`): that bounds how fast each document fills
Consul's log, which keeps every version for a while. Where the lock was taken anew, and where the look every
`LOOK_US` misses a key, all is written again: somebody has emptied Consul, or put another one there.

Where Consul fails everything waits here, in the newest version only, and is written when it is back.
"""

from __future__ import annotations

import base64
import json
from collections import deque
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from farcast.control_plane.registry.calls import (
    NOT_UNDERSTOOD,
    RETRY_US,
    Lane,
    Reply,
    Request,
    as_json,
    failure_of,
)
from farcast.control_plane.registry.documents import (
    FOLLOWING,
    NAMES,
    ORDERS,
    BadDocument,
    Known,
    Packed,
    merged,
    strays,
    unpack,
)
from farcast.control_plane.store import Restored, Save
from farcast.control_plane.usage_book import SAVE_US


class Pace(NamedTuple):
    """How often a document is written at most, and how many bytes of Consul's log it may take."""

    pause_us: int
    bytes_per_second: int = 128 << 10


PACES: Final = {
    "trees": Pace(200_000),
    "members": Pace(1_000_000),
    "offers": Pace(1_000_000),
    "shares": Pace(1_000_000),
    "usage": Pace(SAVE_US, 32 << 10),
}
"""Trees change seldom, by damping; usage as often as it goes to disk."""
LOOK_US: Final = 10_000_000
STATE_TIMEOUT_US: Final = 10_000_000
STATE_BYTES_MAX: Final = 128 << 20
"""Of all documents of a cluster, as Consul answers them."""
KEYS_BYTES_MAX: Final = 1 << 20
STRAYS_MAX: Final = 32
"""Deleted in one transaction."""


class Verdict(Enum):
    """How it stands with what was ordered here."""

    SHARED = auto()
    """A new leader would know all of it."""
    WAITING = auto()
    """Consul does not have it yet."""
    FENCED = auto()
    """It will never have it: the lock is another's."""


class _Step(Enum):
    LOAD = auto()
    WRITE = auto()
    LOOK = auto()


class SharedState:
    """``lock``: key of the leader's lock; ``uniform`` gives the jitter, from 0 to 1."""

    def __init__(self, cluster: str, lock: str, uniform: Callable[[], float]) -> None:
        self.prefix = f"farcast/{cluster}/state"
        self.failure: str | None = None
        """Why the newest request came to nothing."""
        self.loaded: dict[str, Any] | None = None
        """Documents by name, once `load` has them."""
        self._lock = lock
        self._uniform = uniform
        self._known: Known | None = None
        self._there: dict[str, str] = {}
        """Name to the hash of the document that Consul has, as far as is known."""
        self._strays: dict[str, set[str]] = {}
        """Name to hashes of what is no document, or not the newest one: to be deleted."""
        self._dirty: set[str] = set()
        self._writing: tuple[str, Packed] | None = None
        self._batches: deque[list[dict[str, Any]]] = deque()
        self._acquired = 0
        self._fenced = False
        self._step: _Step | None = None
        """Of the request that is on its way."""
        self._loading = False
        self._due_us = 0
        self._pausing_us: dict[str, int] = {}
        """Name of a document that follows to when it may be written again."""
        self._look_us = 0

    # ---- Commands ---------------------------------------------------------------------------------

    def load(self) -> None:
        """Read everything; `loaded` has it when it is there."""
        self._known, self.loaded, self._loading = None, None, True
        self._dirty.clear()
        self._batches.clear()
        self._writing, self._fenced, self._due_us = None, False, 0

    def begin(self, restored: Restored, acquired: int, now_us: int) -> Restored:
        """A reign begins: what ``restored`` is with what was loaded. ``acquired``: `Election.acquired`."""
        restored = merged(restored, self.loaded or {})
        self._known, self._loading = Known(restored), False
        self._dirty, self._acquired = set(NAMES), acquired
        self._pausing_us, self._look_us = dict.fromkeys(FOLLOWING, now_us), now_us + LOOK_US
        return restored

    def handle_save(self, save: Save) -> None:
        """The leader knows something new."""
        if self._known is not None:
            self._dirty |= self._known.take(save)

    def end(self) -> None:
        """The reign is over."""
        self._known, self._loading = None, False
        self._batches.clear()

    @property
    def verdict(self) -> Verdict:
        """Of all orders so far."""
        if self._known is None or self._fenced:
            return Verdict.FENCED
        writing = self._writing is not None and self._writing[0] in ORDERS
        return Verdict.WAITING if writing or self._dirty.intersection(ORDERS) else Verdict.SHARED

    # ---- Requests ---------------------------------------------------------------------------------

    def poll_request(self, session: str | None, acquired: int, now_us: int) -> Request | None:
        """A request that is due. ``session``: that of our lock, if we hold it; ``acquired`` as in `begin`."""
        if self._step is not None or now_us < self._due_us:
            return None
        if self._loading and self.loaded is None:
            return self._ask(_Step.LOAD, f"{self._path()}?recurse=true&consistent=true", STATE_BYTES_MAX)
        if self._known is None or session is None:
            return None
        if acquired != self._acquired:
            self._acquired = acquired
            self._forget_written()
        while not self._batches and (name := self._next(now_us)) is not None:
            self._prepare(name)
        if self._batches:
            self._step = _Step.WRITE
            fence = {"Verb": "check-session", "Key": self._lock, "Session": session}
            body = as_json([{"KV": each} for each in (fence, *self._batches[0])])
            return Request(Lane.STATE, "PUT", "/v1/txn", body, STATE_TIMEOUT_US, STATE_BYTES_MAX)
        if now_us >= self._look_us:
            return self._ask(_Step.LOOK, f"{self._path()}?keys=true&consistent=true", KEYS_BYTES_MAX)
        return None

    def poll_timeout(self, session: str | None) -> int | None:
        """When `poll_request` is to be asked again; ``None``: after the next reply or command."""
        if self._step is not None:
            return None
        if self._loading:
            return self._due_us if self.loaded is None else None
        if self._known is None or session is None:
            return None
        if self._batches or self._dirty.intersection(ORDERS):
            return self._due_us
        return max(self._due_us, min([self._look_us, *(self._pausing_us[name] for name in self._dirty)]))

    def _ask(self, step: _Step, path: str, bytes_max: int) -> Request:
        self._step = step
        return Request(Lane.STATE, "GET", path, timeout_us=STATE_TIMEOUT_US, bytes_max=bytes_max)

    def _path(self) -> str:
        return f"/v1/kv/{quote(self.prefix)}/"

    def _next(self, now_us: int) -> str | None:
        if "members" in self._dirty and self._dirty.intersection(ORDERS):
            return "members"  # An order about an edge means nothing to who does not know the edge.
        due = (*ORDERS, *(name for name in FOLLOWING if now_us >= self._pausing_us[name]))
        return next((name for name in due if name in self._dirty), None)

    def _prepare(self, name: str) -> None:
        """Transactions that put a document there; none where it is there already."""
        assert self._known is not None
        self._dirty.discard(name)
        packed = self._known.pack(name)
        before = self._there.get(name)
        if before == packed.sha256:
            return
        old = {*self._strays.pop(name, ()), *([before] if before else [])} - {packed.sha256}
        self._writing = name, packed
        folder = f"{self.prefix}/{name}"
        self._batches.extend(
            [_set(f"{folder}/{packed.sha256}/{at}", part)] for at, part in enumerate(packed.parts)
        )
        self._batches[-1].append(_set(folder, packed.head))
        self._batches[-1] += [
            {"Verb": "delete-tree", "Key": f"{folder}/{sha256}/"} for sha256 in sorted(old)[:STRAYS_MAX]
        ]

    def _forget_written(self) -> None:
        """Consul may have nothing of it any more."""
        given_up = [] if self._writing is None else [(self._writing[0], self._writing[1].sha256)]
        for name, sha256 in (*self._there.items(), *given_up):
            self._strays.setdefault(name, set()).add(sha256)
        self._there.clear()
        self._batches.clear()
        self._writing = None
        self._dirty = set(NAMES)

    # ---- Replies ----------------------------------------------------------------------------------

    def handle_reply(self, reply: Reply, now_us: int) -> None:
        """The answer to the newest request."""
        step, self._step = self._step, None
        try:
            if step is _Step.LOAD:
                self._take_load(reply, now_us)
            elif step is _Step.WRITE:
                self._take_write(reply, now_us)
            elif step is _Step.LOOK:
                self._take_look(reply, now_us)
        except BadDocument as error:
            self._fail(str(error), now_us)
        except NOT_UNDERSTOOD:
            self._fail("Consul's answer is not understood", now_us)

    def _take_load(self, reply: Reply, now_us: int) -> None:
        if reply.status not in (200, 404):
            self._fail(failure_of(reply), now_us)
            return
        rows = json.loads(reply.body) if reply.status == 200 else []
        values = {row["Key"]: base64.b64decode(row["Value"] or "") for row in rows}
        self.loaded, self._there = unpack(self.prefix, values)
        self._strays = strays(self.prefix, values, self._there)
        self.failure = None

    def _take_write(self, reply: Reply, now_us: int) -> None:
        if reply.status != 200:
            self._fenced = reply.status == 409
            self._fail("the lock is not ours" if self._fenced else failure_of(reply), now_us)
            return
        self.failure, self._fenced = None, False
        if self._batches:
            self._batches.popleft()
        if self._batches or self._writing is None:
            return
        (name, packed), self._writing = self._writing, None
        self._there[name] = packed.sha256
        if (pace := PACES.get(name)) is not None:
            log_us = sum(map(len, packed.parts)) * 1_000_000 // pace.bytes_per_second
            self._pausing_us[name] = now_us + max(pace.pause_us, log_us)

    def _take_look(self, reply: Reply, now_us: int) -> None:
        if reply.status not in (200, 404):
            self._fail(failure_of(reply), now_us)
            return
        self.failure, self._look_us = None, now_us + LOOK_US
        keys = set(json.loads(reply.body)) if reply.status == 200 else set()
        for name, sha256 in list(self._there.items()):
            folder = f"{self.prefix}/{name}"
            if not {folder, f"{folder}/{sha256}/0"} <= keys:
                del self._there[name]
                self._dirty.add(name)

    def _fail(self, reason: str, now_us: int) -> None:
        self.failure = reason
        self._due_us = now_us + RETRY_US + int(RETRY_US * self._uniform())


def _set(key: str, value: bytes) -> dict[str, Any]:
    return {"Verb": "set", "Key": key, "Value": base64.b64encode(value).decode()}
