"""Leadership by a lock in Consul, as an engine: answers of Consul come in, requests go out.

    TTL check of our own service ──► session (lock delay 1 s) ──► lock key ──► epoch ──► leader

Two lanes, one request each at a time: *beat* keeps our check passing, *lock* watches the key by blocking
queries and takes it where it is free. The session hangs on our check, so a process that is gone loses the
lock after the check's TTL plus the lock delay; Consul's defaults take up to 35 s.

The key's value names the leader and its epoch and outlives the lock. An epoch is above the lock's index,
above every epoch that stood in the key, and above every one that edges told of: a deleted key or an empty
Consul cannot make edges refuse a rightful leader, and two leaders never share a number that edges have seen.

Where Consul fails (refused, 500, no quorum) nothing changes: the leader leads on, since its edges fence it by
its epoch; nobody new is elected, since that takes an answer. A leader stands down only where Consul says
that another holds the lock. One whose session is gone, or whose key was deleted, takes the lock again and
goes on in its reign, unless another one has reigned between. Where Consul has just come back, or the key
itself is gone, whoever knew another leader leaves the lock to that one for `EMPTY_US`: it alone knows what
was ordered meanwhile, and can put back what was beside the key.

Indexes follow Consul's rules: one that falls starts anew at 0, and looks are `WATCH_PAUSE_US` apart at least.

Limits: one request a lane, `WAIT_US` below `WAIT_TIMEOUT_US`, values of at most `VALUE_BYTES_MAX` bytes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from enum import Enum, auto
from typing import Any, Final
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

CHECK_TTL_US: Final = 5_000_000
BEAT_US: Final = 1_000_000
WAIT_US: Final = 5_000_000
WAIT_TIMEOUT_US: Final = 10_000_000
"""Consul adds up to a sixteenth of the wait; the client is more patient than both."""
WATCH_PAUSE_US: Final = 100_000
"""Between two looks at the key, however fast Consul answers."""
EMPTY_US: Final = 5_000_000
"""So long a lock that is free because Consul failed belongs to the leader that was known."""
UNSETTLED_US: Final = 10_000_000
"""After a failure of Consul, what it says of sessions and checks may still be of that."""
VALUE_BYTES_MAX: Final = 4_096
EPOCH_MAX: Final = 2**53
SERVICE: Final = "farcast-control"
_LANES: Final = (Lane.BEAT, Lane.LOCK)


class _Step(Enum):
    BEAT = auto()
    REGISTER = auto()
    SESSION = auto()
    WATCH = auto()
    ACQUIRE = auto()
    ANNOUNCE = auto()


class Election:
    """One candidate. `epoch` is that of our reign, else 0. ``instance`` is drawn anew for each process, so
    that one that is started again does not keep the session of the one before alive. ``uniform`` gives the
    jitter, from 0 to 1; ``meta`` stands with our service in Consul, for people."""

    def __init__(
        self,
        cluster: str,
        name: str,
        instance: str,
        epoch_min: int,
        uniform: Callable[[], float],
        meta: Mapping[str, str] | None = None,
    ) -> None:
        self.key = f"farcast/{cluster}/leader"
        self._path = f"/v1/kv/{quote(self.key)}"
        self._meta = {} if meta is None else meta
        self.name = name
        self.service_id = f"farcast-control-{cluster}-{name}-{instance}"
        self._uniform = uniform
        self.epoch = 0
        self.leader: str | None = None
        """Who leads, as far as is known."""
        self.failure: str | None = None
        """Why Consul is of no use at the moment."""
        self._seen = epoch_min - 1
        self._reign = 0
        """Of the epoch that we announce or rule in."""
        self._session: str | None = None
        self._passing = False
        self._index = 0
        self._settled_us = 0
        """From when on a lock that comes free says something about its holder."""
        self._vacant_us: int | None = None
        """Since when the lock is free for no fault of the leader."""
        self.acquired = 0
        """How often the lock was taken: each time what stands beside it in Consul may be gone."""
        self._steps = {Lane.BEAT: _Step.BEAT, Lane.LOCK: _Step.SESSION}
        self._due_us = {Lane.BEAT: 0, Lane.LOCK: 0}
        self._in_flight: set[Lane] = set()

    @property
    def session(self) -> str | None:
        """Our session at Consul."""
        return self._session

    def see_epoch(self, number: int) -> None:
        """An edge follows this epoch."""
        self._seen = max(self._seen, number)

    def poll_request(self, now_us: int) -> Request | None:
        """A request that is due."""
        for lane in _LANES:
            if lane in self._in_flight or self._due_us[lane] > now_us:
                continue
            if lane is Lane.LOCK and not self._passing and self._session is None:
                self._due_us[lane] = now_us + RETRY_US
                continue
            self._in_flight.add(lane)
            return self._request(lane)
        return None

    def poll_timeout(self) -> int | None:
        """When `poll_request` is to be asked again; ``None``: after the next reply."""
        return min((due for lane, due in self._due_us.items() if lane not in self._in_flight), default=None)

    def handle_reply(self, lane: Lane, reply: Reply, now_us: int) -> None:
        """The answer to the lane's request."""
        self._in_flight.discard(lane)
        self._due_us[lane] = now_us
        if lane is Lane.BEAT:
            self._take_beat(reply, now_us)
            return
        try:
            self._take_lock(reply, now_us)
        except NOT_UNDERSTOOD:
            self._fail(lane, f"Consul's answer to {self._steps[lane].name.lower()} is not understood", now_us)

    def resignation(self) -> list[Request]:
        """What gives the lock up, in order; a release has no lock delay, a session that ends has."""
        requests = []
        if self._session is not None:
            if self.epoch:
                value = as_json({"name": self.name, "epoch": self._reign})
                path = f"{self._path}?release={self._session}"
                requests.append(Request(Lane.LOCK, "PUT", path, value))
            requests.append(Request(Lane.LOCK, "PUT", f"/v1/session/destroy/{self._session}"))
        path = f"/v1/agent/service/deregister/{quote(self.service_id)}"
        return [*requests, Request(Lane.BEAT, "PUT", path)]

    # ---- Requests ---------------------------------------------------------------------------------

    def _request(self, lane: Lane) -> Request:
        step, check = self._steps[lane], f"service:{self.service_id}"
        match step:
            case _Step.BEAT:
                return Request(lane, "PUT", f"/v1/agent/check/pass/{quote(check)}")
            case _Step.REGISTER:
                return Request(lane, "PUT", "/v1/agent/service/register", as_json(self._service()))
            case _Step.SESSION:
                session = {
                    "Name": self.service_id,
                    "LockDelay": "1s",
                    "NodeChecks": ["serfHealth"],
                    "ServiceChecks": [{"ID": check}],
                }
                return Request(lane, "PUT", "/v1/session/create", as_json(session))
            case _Step.WATCH:
                path = f"{self._path}?index={self._index}&wait={WAIT_US // 1_000_000}s"
                return Request(lane, "GET", path, timeout_us=WAIT_TIMEOUT_US)
            case _:
                number = self._reign if step is _Step.ANNOUNCE else max(self._reign, self._seen)
                value = {"name": self.name, "epoch": number}
                return Request(lane, "PUT", f"{self._path}?acquire={self._session}", as_json(value))

    def _service(self) -> dict[str, Any]:
        return {
            "ID": self.service_id,
            "Name": SERVICE,
            "Meta": dict(self._meta),
            "Check": {
                "TTL": f"{CHECK_TTL_US // 1_000_000}s",
                "Status": "passing",
                "DeregisterCriticalServiceAfter": "1m",
            },
        }

    # ---- Replies ----------------------------------------------------------------------------------

    def _take_beat(self, reply: Reply, now_us: int) -> None:
        was_register = self._steps[Lane.BEAT] is _Step.REGISTER
        self._steps[Lane.BEAT] = _Step.BEAT
        self._passing = reply.status == 200
        if self._passing:
            self._due_us[Lane.BEAT] = now_us + BEAT_US
        elif reply.status in (404, 500) and not was_register:
            self._steps[Lane.BEAT] = _Step.REGISTER  # 1.8 says 500 of a check that it does not know.
        else:
            self._fail(Lane.BEAT, failure_of(reply), now_us)

    def _take_lock(self, reply: Reply, now_us: int) -> None:
        step = self._steps[Lane.LOCK]
        if step is _Step.WATCH and reply.status in (200, 404):
            self._take_key(json.loads(reply.body)[0] if reply.status == 200 else None, reply, now_us)
        elif reply.status != 200:
            if b"invalid session" in reply.body:  # It ended with our check.
                self._session = None
            # A session that may still hold the lock is kept: our own new one would never get it.
            self._steps[Lane.LOCK] = _Step.WATCH if self._session else _Step.SESSION
            self._fail(Lane.LOCK, failure_of(reply), now_us)
        elif step is _Step.SESSION:
            self._session = str(json.loads(reply.body)["ID"])
            self._watch_anew()
        elif step is _Step.ANNOUNCE and json.loads(reply.body) is True:
            self.epoch, self.leader = self._reign, self.name
            self._watch_anew()
        else:
            if json.loads(reply.body) is True:
                self.acquired += step is _Step.ACQUIRE
            else:  # Another was faster, or the lock delay runs.
                self._due_us[Lane.LOCK] = now_us + self._jittered_us()
            self._watch_anew()

    def _take_key(self, key: dict[str, Any] | None, reply: Reply, now_us: int) -> None:
        self.failure = None
        self._index = reply.index if reply.index >= self._index else 0
        value = _value(key)
        holder = None if key is None else key.get("Session")
        self._seen = max(self._seen, value["epoch"])
        self._due_us[Lane.LOCK] = now_us + WATCH_PAUSE_US
        if holder is None and self._is_anothers(key is None or now_us < self._settled_us, now_us):
            pass  # Looked at again after `WAIT_US` or the next change.
        elif holder is None:
            if self.epoch and self._seen > self.epoch:
                self.epoch = self._reign = 0
            self._steps[Lane.LOCK] = _Step.ACQUIRE if self._session else _Step.SESSION
            self._due_us[Lane.LOCK] = now_us
        elif holder != self._session:
            self.epoch = self._reign = 0
            self.leader, self._vacant_us = value["name"], None
        elif self._reign == 0 or self._seen > self._reign:
            lock_index = int(key["LockIndex"]) if key else 0
            if lock_index > EPOCH_MAX:
                raise ValueError(lock_index)
            self._reign = max(lock_index, self._seen) + 1
            self._seen = self._reign
            self._steps[Lane.LOCK], self._due_us[Lane.LOCK] = _Step.ANNOUNCE, now_us
        elif self.epoch == 0 or value != {"name": self.name, "epoch": self._reign}:
            self._steps[Lane.LOCK] = _Step.ANNOUNCE

    def _is_anothers(self, consul_failed: bool, now_us: int) -> bool:
        """Whether a free lock is left to the leader of before: it is not that which failed."""
        if self.epoch or self.leader in (None, self.name):
            return False
        if self._vacant_us is None and consul_failed:
            self._vacant_us = now_us
        return self._vacant_us is not None and now_us < self._vacant_us + EMPTY_US

    def _watch_anew(self) -> None:
        self._steps[Lane.LOCK], self._index = _Step.WATCH, 0

    def _fail(self, lane: Lane, reason: str, now_us: int) -> None:
        self.failure, self._index, self._settled_us = reason, 0, now_us + UNSETTLED_US
        self._due_us[lane] = now_us + self._jittered_us()

    def _jittered_us(self) -> int:
        return RETRY_US + int(RETRY_US * self._uniform())


def _value(key: dict[str, Any] | None) -> dict[str, Any]:
    """What the key holds; anything that is not ours counts as nothing."""
    nothing = {"name": None, "epoch": 0}
    raw = (key or {}).get("Value")
    if not isinstance(raw, str) or len(raw) > VALUE_BYTES_MAX:
        return nothing
    try:
        value = json.loads(base64.b64decode(raw))
        number, name = value["epoch"], value["name"]
    except NOT_UNDERSTOOD:
        return nothing
    is_ours = type(number) is int and 0 <= number <= EPOCH_MAX and isinstance(name, str)
    return {"name": name, "epoch": number} if is_ours else nothing
