"""Certificates that count no more, although their time is not over: as plans carry them, and the question.

A certificate is revoked by its serial number, or with all that its node was given until some moment. The
second is what operators want mostly ("this machine is not ours any more"), needs no list of what was issued,
and does not stand in the way of a certificate issued later, with a new token. The moment is compared with the
beginning of a certificate's validity, which its authority has set and nobody else can.
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple, TypeAlias

import msgspec
from msgspec import Meta

from farcast.proto.control.ranges import Count, NodeId

REVOKED_MAX: Final = 4_096
"""Nodes, and serial numbers, that are revoked at one time."""

Serial: TypeAlias = Annotated[str, Meta(pattern=r"^[0-9a-f]{1,40}\Z")]
"""Serial number of a certificate, hexadecimal; 20 bytes at most (RFC 5280, 4.1.2.2)."""


class Certified(NamedTuple):
    """What the certificate of an edge says. ``begins_unix_s``: of its validity."""

    region: str
    node_id: str
    serial: str = ""
    begins_unix_s: int = 0


class RevokedNode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All certificates of a node whose validity begins at ``until_unix_s`` or before."""

    node_id: NodeId
    until_unix_s: Count


class Revocations(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that is revoked in a cluster; unknown fields are ignored, missing ones take their defaults."""

    nodes: Annotated[tuple[RevokedNode, ...], Meta(max_length=REVOKED_MAX)] = ()
    serials: Annotated[tuple[Serial, ...], Meta(max_length=REVOKED_MAX)] = ()


class Revoked:
    """The same, to be asked; for each handshake a look-up or two."""

    def __init__(self, revocations: Revocations | None = None) -> None:
        said = revocations or Revocations()
        self._until = {node.node_id: node.until_unix_s for node in said.nodes}
        self._serials = frozenset(said.serials)

    def __contains__(self, certified: Certified) -> bool:
        until = self._until.get(certified.node_id)
        return certified.serial in self._serials or (until is not None and certified.begins_unix_s <= until)
