"""What the control plane asks of Consul, answered in memory and in virtual time: locks with sessions, TTL
checks, lock delay, indexes, transactions. The rules are those of Consul 1.8; `make consul` has a real one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from farcast.control_plane.registry.calls import Lane, Reply, Request

SECOND = 1_000_000
TTL_US = 5 * SECOND
LOCK_DELAY_US = 1 * SECOND


@dataclass
class Key:
    """One key."""

    value: bytes
    index: int
    session: str | None = None
    lock_index: int = 0
    free_us: int = 0
    """When its lock delay is over."""


@dataclass
class ConsulKv:
    """One server. ``failing``: the status of every answer; 0 is none, ``None`` is as it should be."""

    index: int = 10
    keys: dict[str, Key] = field(default_factory=dict)
    sessions: dict[str, str] = field(default_factory=dict)
    checks: dict[str, int] = field(default_factory=dict)
    ttls_us: dict[str, int] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)
    failing: int | None = None
    asked: list[Request] = field(default_factory=list)
    made: int = 0

    def empty(self) -> None:
        """As somebody who deletes everything does."""
        self.keys.clear()
        self.index += 1

    def restart(self) -> None:
        """Another Consul in the place of this one: nothing is known, and indexes begin anew."""
        self.keys.clear()
        self.sessions.clear()
        self.checks.clear()
        self.index = 2

    def states(self, now_us: int) -> dict[str, str]:
        """Of all services: passing, warning or critical."""
        return {
            check.removeprefix("service:"): self.said[check] if due_us > now_us else "critical"
            for check, due_us in self.checks.items()
        }

    def expire(self, now_us: int) -> None:
        """Checks that were not heard of in time end their sessions, and those let go of their locks."""
        dead = {check for check, due_us in self.checks.items() if due_us <= now_us}
        for session in [session for session, check in self.sessions.items() if check in dead]:
            self.end_session(session, now_us)

    def end_session(self, session: str, now_us: int) -> None:
        """Its locks are free, after the delay."""
        self.sessions.pop(session, None)
        for key in self.keys.values():
            if key.session == session:
                key.session, key.free_us = None, now_us + LOCK_DELAY_US
                self.index += 1
                key.index = self.index

    def answer(self, request: Request, now_us: int) -> Reply | None:
        """``None``: the query blocks."""
        self.expire(now_us)
        if self.failing is not None:
            return Reply(self.failing, b"No cluster leader")
        parts = urlsplit(request.path)
        query = dict(parse_qsl(parts.query))
        path = unquote(parts.path).removeprefix("/v1/")
        if path.startswith("kv/"):
            return self._kv(request, path.removeprefix("kv/"), query, now_us)
        if path == "txn":
            return self._txn(json.loads(request.body))
        return self._agent(request, path, now_us)

    def _agent(self, request: Request, path: str, now_us: int) -> Reply:
        name = path.rpartition("/")[2]
        if path.startswith("agent/check/"):
            if name not in self.checks:
                return Reply(500, f"CheckID {name!r} does not have associated TTL".encode())
            self._hear(name, path.split("/")[2], now_us)
        elif path == "agent/service/register":
            wanted = json.loads(request.body)
            check = f"service:{wanted['ID']}"
            self.ttls_us[check] = int(wanted["Check"]["TTL"].removesuffix("s")) * SECOND
            self._hear(check, {"passing": "pass", "warning": "warn"}[wanted["Check"]["Status"]], now_us)
        elif path.startswith("agent/service/deregister/"):
            self.checks.pop(f"service:{name}", None)
        elif path == "session/create":
            asked = json.loads(request.body)
            assert asked["LockDelay"] == "1s"
            check = asked["ServiceChecks"][0]["ID"]
            if self.checks.get(check, 0) <= now_us:
                return Reply(500, f"Check {check!r} is in critical state".encode())
            self.made += 1
            session = f"session-{self.made}"
            self.sessions[session] = check
            return Reply(200, json.dumps({"ID": session}).encode())
        elif path.startswith("session/destroy/"):
            self.end_session(name, now_us)
        return Reply(200, b"true")

    def _hear(self, check: str, verb: str, now_us: int) -> None:
        self.checks[check] = now_us + self.ttls_us.get(check, TTL_US)
        self.said[check] = {"pass": "passing", "warn": "warning"}[verb]

    def _kv(self, request: Request, name: str, query: dict[str, str], now_us: int) -> Reply | None:
        if request.method == "PUT":
            return self._put(request, name, query, now_us)
        if "recurse" in query or "keys" in query:
            found = sorted(key for key in self.keys if key.startswith(name))
            rows: list[Any] = found if "keys" in query else [self._row(key) for key in found]
            return Reply(200 if rows else 404, json.dumps(rows).encode(), self.index)
        key = self.keys.get(name)
        index = self.index if key is None else key.index
        if int(query.get("index", 0)) == index:
            return None
        if key is None:
            return Reply(404, b"", index)
        return Reply(200, json.dumps([self._row(name)]).encode(), index)

    def _put(self, request: Request, name: str, query: dict[str, str], now_us: int) -> Reply:
        session = query.get("acquire", query.get("release"))
        if "acquire" in query and session not in self.sessions:
            return Reply(500, f'rpc error: invalid session "{session}"'.encode())
        key = self.keys.get(name) or Key(b"", 0)
        if "release" in query:
            if key.session != session:
                return Reply(200, b"false")
            key.session = None
        elif key.session not in (None, session) or now_us < key.free_us:
            return Reply(200, b"false")
        else:
            key.lock_index += key.session is None
            key.session = session
        self.index += 1
        key.value, key.index = request.body, self.index
        self.keys[name] = key
        return Reply(200, b"true")

    def _txn(self, operations: list[dict[str, Any]]) -> Reply:
        for each in (operation["KV"] for operation in operations):
            key = self.keys.get(each["Key"])
            if each["Verb"] == "check-session" and (key is None or key.session != each["Session"]):
                return Reply(409, b'{"Results": null, "Errors": [{"OpIndex": 0, "What": "lock"}]}')
        self.index += 1
        for each in (operation["KV"] for operation in operations):
            if each["Verb"] == "set":
                self.keys[each["Key"]] = Key(base64.b64decode(each["Value"]), self.index)
            elif each["Verb"] == "delete-tree":
                self.keys = {name: key for name, key in self.keys.items() if not name.startswith(each["Key"])}
        return Reply(200, b'{"Results": []}')

    def _row(self, name: str) -> dict[str, Any]:
        key = self.keys[name]
        row: dict[str, Any] = {"Key": name, "LockIndex": key.lock_index}
        row["Value"] = base64.b64encode(key.value).decode() or None
        return row if key.session is None else {**row, "Session": key.session}


@dataclass
class Pending:
    """A request that waits for its answer; a query that blocks, for a change."""

    request: Request
    until_us: int


@dataclass
class Caller:
    """Carries requests of engines to Consul. ``poll`` gives one that is due, ``take`` gets its answer;
    ``paused``: the process stands still."""

    consul: ConsulKv
    poll: Callable[[int], Request | None]
    take: Callable[[Lane, Reply, int], None]
    paused: bool = False
    pending: list[Pending] = field(default_factory=list)

    def turn(self, now_us: int) -> None:
        """Everything that is due at this moment."""
        if self.paused:
            return
        for _ in range(100):
            for each in list(self.pending):
                self._try(each, now_us)
            request = self.poll(now_us)
            if request is None:
                return
            self.consul.asked.append(request)
            wait_us = 5 * SECOND if "wait=" in request.path else 0
            self.pending.append(Pending(request, now_us + wait_us))
        raise AssertionError("requests without end")

    def _try(self, pending: Pending, now_us: int) -> None:
        reply = self.consul.answer(pending.request, now_us)
        if reply is None and now_us >= pending.until_us:
            path = pending.request.path.partition("?")[0]
            unblocked = Request(pending.request.lane, "GET", path)
            reply = self.consul.answer(unblocked, now_us)
        if reply is not None:
            self.pending.remove(pending)
            self.take(pending.request.lane, reply, now_us)
