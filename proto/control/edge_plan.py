"""The plan at one edge: the view that the agent reads, and the store that decides what comes into force.

`PlanStore.consider` takes a plan whole or leaves everything as it is; a plan that was taken is followed
without expiry, whatever becomes of the control plane. `PlanStore.dump` and `PlanStore.load` carry it over a
restart: version and SHA-256 stand before the contents, and a file is believed only if all of it is as it
was written and it is a plan that this edge would take from a control plane too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from farcast.proto.access.records import AccessRules, ShareRecord
from farcast.proto.control.codec import BadMessage, check_message, decode_record
from farcast.proto.control.messages import (
    DirectoryEntry,
    NodeInfo,
    PlanDelta,
    PlanVersion,
    Record,
    RouteEntry,
)
from farcast.proto.control.plan_rules import (
    EMPTY,
    Change,
    Tables,
    apply_delta,
    why_not_change,
    why_not_delta,
    why_not_version,
)
from farcast.proto.control.ranges import NodeId
from farcast.proto.joining.revocations import Revocations
from farcast.proto.moqt.names import TrackNamespace

PLAN_FILE_VERSION: Final = 1
PLAN_FILE_BYTES_MAX: Final = 32 << 20

_MAGIC: Final = b"FARCAST-PLAN"
_VERSION_BYTES: Final = 2
_DIGEST_BYTES: Final = 32
_HEAD_BYTES: Final = len(_MAGIC) + _VERSION_BYTES + _DIGEST_BYTES


class Route(NamedTuple):
    """Where a namespace comes from: its origin, and the node ids to ask, in their order."""

    origin: str
    upstreams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EdgePlan:
    """A plan in force. Mappings are by node id, by origin and by the fields of a namespace; read only."""

    node_id: str
    version: PlanVersion
    nodes: Mapping[str, NodeInfo]
    routes: Mapping[str, RouteEntry]
    directory: Mapping[tuple[bytes, ...], str]
    edge_list: str | None = None
    issued_unix_us: int = 0
    access: AccessRules | None = None
    """``None``: the control plane has said nothing of it yet."""
    revoked: Revocations | None = None
    """Likewise."""
    shares: tuple[ShareRecord, ...] | None = None
    """Likewise; quotas are divided evenly then."""
    _lengths: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lengths = sorted(set(map(len, self.directory)), reverse=True)
        object.__setattr__(self, "_lengths", tuple(lengths))

    def route_for(self, namespace: TrackNamespace) -> Route | None:
        """The route to the origin whose announced namespace is the longest prefix, or ``None``.

        Where this edge itself is the origin there are no upstreams. Costs one look-up for each length that
        occurs in the directory, however many namespaces there are.
        """
        origin = self.origin_of(namespace)
        return None if origin is None else Route(origin, self.candidates(origin))

    def origin_of(self, namespace: TrackNamespace) -> str | None:
        """The node that holds the longest prefix of ``namespace``, or ``None``."""
        fields = namespace.fields
        for length in self._lengths:
            if length <= len(fields):
                origin = self.directory.get(fields[:length])
                if origin is not None:
                    return origin
        return None

    def candidates(self, origin: str) -> tuple[str, ...]:
        """Node ids to take an origin's tracks from: parent, backups, and at last the origin itself.

        Empty for our own tracks and for an origin that is no node of the plan.
        """
        if origin == self.node_id or origin not in self.nodes:
            return ()
        route = self.routes.get(origin)
        upstreams = () if route is None else route.upstreams
        return upstreams if origin in upstreams else (*upstreams, origin)

    def nearest(
        self, exclude: Collection[str] = (), rtt_us: Mapping[str, int] | None = None
    ) -> list[NodeInfo]:
        """The other nodes that do not drain: those with a measured RTT, then the own region, then by RTT,
        then by id. Without any measured nobody knows which of them are there."""
        own = self.nodes.get(self.node_id)
        region = own.region if own else None
        measured = rtt_us or {}

        def distance(node: NodeInfo) -> tuple[bool, bool, int, str]:
            rtt = measured.get(node.node_id)
            return rtt is None, node.region != region, rtt or 0, node.node_id

        skipped = {self.node_id, *exclude}
        others = (node for node in self.nodes.values() if node.node_id not in skipped and not node.draining)
        return sorted(others, key=distance)


@dataclass(frozen=True, slots=True)
class Refused:
    """A plan that was not taken; the one before stays. ``reason`` is one sentence."""

    reason: str


class BadPlanFile(Exception):
    """The bytes are no plan for this edge; ``reason`` is one sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _PlanFile(Record, frozen=True, kw_only=True, tag="plan_file"):
    """Contents of a file: the full plan, and whose it is."""

    node_id: NodeId
    plan: PlanDelta


_PLAN_FILE = msgspec.msgpack.Decoder(_PlanFile)


class PlanStore:
    """The plan of the edge ``node_id``. ``cluster``: the only one whose plans are taken; empty is any, until
    the first plan names one. Deltas are expected as decoding leaves them: each field within its range.
    """

    def __init__(self, node_id: str, cluster: str = "") -> None:
        self._node_id = node_id
        self._cluster = cluster
        self._tables = EMPTY
        self._plan: EdgePlan | None = None

    @property
    def plan(self) -> EdgePlan | None:
        """The plan in force."""
        return self._plan

    @property
    def version(self) -> PlanVersion | None:
        """Of the plan in force."""
        return self._plan.version if self._plan else None

    def consider(self, delta: PlanDelta) -> EdgePlan | Refused:
        """Take the plan and return it, or leave everything as it is and say why."""
        why_not = why_not_version(self.version, self._cluster, delta) or why_not_delta(delta)
        if why_not is not None:
            return Refused(why_not)
        tables = apply_delta(EMPTY if delta.base is None else self._tables, delta)
        why_not = why_not_change(Change(self._node_id, delta, self._tables, tables))
        if why_not is not None:
            return Refused(f"plan {delta.version} refused: {why_not}")
        self._tables = tables
        self._cluster = delta.version.epoch.cluster
        self._plan = self._view(tables, delta)
        return self._plan

    def dump(self) -> bytes:
        """The plan in force for a file, with version and checksum. Raises ``ValueError`` without a plan."""
        if self._plan is None:
            raise ValueError("no plan is in force")
        tables = self._tables
        plan = PlanDelta(
            version=self._plan.version,
            nodes=tuple(tables.nodes.values()),
            routes=tuple(tables.routes.values()),
            directory=tuple(DirectoryEntry(namespace=n, origin=o) for n, o in tables.directory.items()),
            edge_list=tables.edge_list,
            access=tables.access,
            revoked=tables.revoked,
            shares=tables.shares,
            issued_unix_us=self._plan.issued_unix_us,
        )
        body = msgspec.msgpack.encode(_PlanFile(node_id=self._node_id, plan=plan))
        head = _MAGIC + PLAN_FILE_VERSION.to_bytes(_VERSION_BYTES, "big")
        return head + _digest(head, body) + body

    def load(self, data: bytes) -> EdgePlan:
        """Put the plan of a file in force. Raises `BadPlanFile` and leaves everything as it is.

        A plan that the store would not take from a control plane (an older one, another cluster's) is not
        taken from a file either.
        """
        contents = _read_file(data)
        if contents.node_id != self._node_id:
            raise BadPlanFile(f"plan of node {contents.node_id!r}, this is {self._node_id!r}")
        taken = self.consider(contents.plan)
        if isinstance(taken, Refused):
            raise BadPlanFile(taken.reason)
        return taken

    def _view(self, tables: Tables, delta: PlanDelta) -> EdgePlan:
        return EdgePlan(
            self._node_id,
            delta.version,
            MappingProxyType(tables.nodes),
            MappingProxyType(tables.routes),
            MappingProxyType(tables.directory),
            tables.edge_list,
            delta.issued_unix_us,
            tables.access,
            tables.revoked,
            tables.shares,
        )


def _read_file(data: bytes) -> _PlanFile:
    head, version_at = data[:_HEAD_BYTES], len(_MAGIC)
    if len(head) < _HEAD_BYTES:
        raise BadPlanFile(f"file of {len(data)} bytes is cut off: its head alone has {_HEAD_BYTES}")
    if not head.startswith(_MAGIC):
        raise BadPlanFile("file is no plan: it begins with other bytes")
    version = int.from_bytes(head[version_at : version_at + _VERSION_BYTES], "big")
    if version != PLAN_FILE_VERSION:
        raise BadPlanFile(f"plan file of version {version}, this edge reads {PLAN_FILE_VERSION}")
    digest, body = head[-_DIGEST_BYTES:], data[_HEAD_BYTES:]
    if _digest(head[:-_DIGEST_BYTES], body) != digest:
        raise BadPlanFile("file is damaged or cut off: its checksum does not fit")
    try:
        contents = decode_record(_PLAN_FILE, body, PLAN_FILE_BYTES_MAX)
        check_message(contents.plan)
    except BadMessage as bad:
        raise BadPlanFile(f"contents of the file: {bad.reason}") from None
    return contents


def _digest(head: bytes, body: bytes) -> bytes:
    return hashlib.sha256(head + body).digest()
