"""Edges as services of Consul, for whoever looks there already: an engine, as its neighbours.

An edge need not reach Consul, so the leader speaks for all of them, at its own agent: an instance of
``farcast-edge`` for each, with metadata and a TTL check. The check passes as long as the edge reports and is
*warning* while it drains; of an edge that reports no more nothing is said, so it is critical after the TTL.
Who is out of the cluster is deregistered, and so is everybody at the end of a reign. What a leader left that
died is critical after the TTL and gone a minute later; the next one registers what it hears itself.

Consul's agent keeps a check by itself and tells its servers of changes only, so what passes each `BEAT_US`
costs no more than a request on this machine. What edges measure is not in it.

Limits: one request at a time, `EDGES_MAX` edges, values of `META_CHARACTERS_MAX` characters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final
from urllib.parse import quote

from farcast.control_plane.members import Member, Members
from farcast.control_plane.registry.calls import RETRY_US, Lane, Reply, Request, as_json, failure_of
from farcast.proto.urls import split_host_port

SERVICE: Final = "farcast-edge"
TTL_US: Final = 30_000_000
BEAT_US: Final = 10_000_000
DENIED_RETRY_US: Final = 30_000_000
"""After a 403: access control does not change by asking again."""
EDGES_MAX: Final = 1_024
META_CHARACTERS_MAX: Final = 512
"""Consul's own bound; a longer value is left out."""


@dataclass(frozen=True, slots=True)
class EdgeService:
    """One edge as Consul shows it. ``reports``: it was heard lately."""

    node_id: str
    host: str
    port: int
    meta: Mapping[str, str] = field(default_factory=dict)
    reports: bool = True
    draining: bool = False

    def is_shown_as(self, other: EdgeService) -> bool:
        """Whether the registration of one is that of the other."""
        return (self.host, self.port, self.meta) == (other.host, other.port, other.meta)


def services_of(members: Members, now_us: int) -> Iterator[EdgeService]:
    """Edges of the cluster, as they said in their Hello."""
    for member in members:
        try:
            host, port = split_host_port(member.hello.advertise)
        except ValueError:
            continue
        reports = members.is_fresh(member, now_us)
        yield EdgeService(member.node_id, host, port, _meta_of(member), reports, member.draining)


def _meta_of(member: Member) -> dict[str, str]:
    hello = member.hello
    told = {
        "node_id": hello.node_id,
        "region": hello.region,
        "provider": hello.provider,
        "public_url": hello.public_url,
        "version": hello.software,
    }
    return {name: text for name, text in told.items() if 0 < len(text) <= META_CHARACTERS_MAX}


class _Step(Enum):
    REGISTER = auto()
    BEAT = auto()
    DEREGISTER = auto()


class EdgeServices:
    """Those of one leader; ``name`` is its own, ``uniform`` gives the jitter, from 0 to 1."""

    def __init__(self, cluster: str, name: str, uniform: Callable[[], float]) -> None:
        self.failure: str | None = None
        """Why Consul does not have all of them."""
        self._cluster, self._name = cluster, name
        self._uniform = uniform
        self._wanted: dict[str, EdgeService] = {}
        self._there: dict[str, EdgeService] = {}
        """As Consul has them, as far as is known."""
        self._changed: dict[str, None] = {}
        """To be looked at, in this order."""
        self._beats_us: dict[str, int] = {}
        """When each is to pass again, the earliest first."""
        self._asked: tuple[_Step, str, EdgeService | None] | None = None
        self._due_us = 0

    # ---- Commands ---------------------------------------------------------------------------------

    def set_edges(self, edges: Iterable[EdgeService]) -> None:
        """All edges of the cluster, as they are now."""
        self._wanted = {edge.node_id: edge for edge, _ in zip(edges, range(EDGES_MAX), strict=False)}
        self._changed.update(dict.fromkeys(self._there.keys() - self._wanted.keys()))
        for node_id in self._wanted:
            if self._step_of(node_id) is not None:
                self._changed[node_id] = None

    def end(self) -> None:
        """We lead no more: whoever does tells of the edges."""
        self.set_edges(())
        self.failure = None

    # ---- Requests ---------------------------------------------------------------------------------

    def poll_request(self, now_us: int) -> Request | None:
        """A request that is due."""
        if self._asked is not None or now_us < self._due_us:
            return None
        while self._changed:
            node_id = next(iter(self._changed))
            del self._changed[node_id]
            if (step := self._step_of(node_id)) is not None:
                return self._ask(step, node_id)
        while (overdue := self._overdue(now_us)) is not None:
            del self._beats_us[overdue]
            edge = self._wanted.get(overdue)
            if edge is None or overdue not in self._there:
                continue
            if edge.reports:
                return self._ask(_Step.BEAT, overdue)
            self._beats_us[overdue] = now_us + BEAT_US
        return None

    def poll_timeout(self) -> int | None:
        """When `poll_request` is to be asked again; ``None``: after the next reply or command."""
        if self._asked is not None:
            return None
        if self._changed:
            return self._due_us
        first = next(iter(self._beats_us.values()), None)
        return None if first is None else max(self._due_us, first)

    def resignation(self) -> list[Request]:
        """What takes all of them out, for a process that ends."""
        return [self._request(_Step.DEREGISTER, node_id) for node_id in self._there]

    def _step_of(self, node_id: str) -> _Step | None:
        """What is to be done about a change."""
        wanted, there = self._wanted.get(node_id), self._there.get(node_id)
        if wanted is None:
            return None if there is None else _Step.DEREGISTER
        if not wanted.reports:
            return None
        if there is None or not wanted.is_shown_as(there):
            return _Step.REGISTER
        return None if wanted.draining == there.draining else _Step.BEAT

    def _overdue(self, now_us: int) -> str | None:
        first = next(iter(self._beats_us.items()), None)
        return first[0] if first is not None and first[1] <= now_us else None

    def _ask(self, step: _Step, node_id: str) -> Request:
        self._asked = step, node_id, self._wanted.get(node_id)
        return self._request(step, node_id)

    def _request(self, step: _Step, node_id: str) -> Request:
        service_id = f"{SERVICE}:{self._cluster}:{node_id}:{self._name}"
        match step:
            case _Step.REGISTER:
                body = as_json(self._service(service_id, self._wanted[node_id]))
                return Request(Lane.EDGES, "PUT", "/v1/agent/service/register", body)
            case _Step.BEAT:
                verb = "warn" if self._wanted[node_id].draining else "pass"
                path = f"/v1/agent/check/{verb}/{quote(f'service:{service_id}')}"
                return Request(Lane.EDGES, "PUT", path)
            case _Step.DEREGISTER:
                path = f"/v1/agent/service/deregister/{quote(service_id)}"
                return Request(Lane.EDGES, "PUT", path)

    def _service(self, service_id: str, edge: EdgeService) -> dict[str, Any]:
        return {
            "ID": service_id,
            "Name": SERVICE,
            "Address": edge.host,
            "Port": edge.port,
            "Meta": {**edge.meta, "cluster": self._cluster, "told_by": self._name},
            "Check": {
                "Name": "reports to its control plane",
                "TTL": f"{TTL_US // 1_000_000}s",
                "Status": "warning" if edge.draining else "passing",
                "DeregisterCriticalServiceAfter": "1m",
            },
        }

    # ---- Replies ----------------------------------------------------------------------------------

    def handle_reply(self, reply: Reply, now_us: int) -> None:
        """The answer to the newest request."""
        if self._asked is None:
            return
        (step, node_id, edge), self._asked = self._asked, None
        self._due_us = now_us
        if reply.status == 200 or (step is _Step.DEREGISTER and reply.status == 404):
            self.failure = None
            self._beats_us.pop(node_id, None)
            if step is _Step.DEREGISTER or edge is None:
                self._there.pop(node_id, None)
            else:
                self._there[node_id] = edge
                self._beats_us[node_id] = now_us + BEAT_US
            if self._step_of(node_id) is not None:
                self._changed[node_id] = None
        elif step is _Step.BEAT and reply.status in (404, 500):
            self._there.pop(node_id)  # 1.8 says 500 of a check that it does not know.
            self._changed[node_id] = None
        else:
            self._changed[node_id] = None
            self._fail(reply, now_us)

    def _fail(self, reply: Reply, now_us: int) -> None:
        self.failure = failure_of(reply)
        wait_us = DENIED_RETRY_US if reply.status == 403 else RETRY_US
        self._due_us = now_us + wait_us + int(wait_us * self._uniform())
