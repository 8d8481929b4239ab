"""Who may become an edge, who is one by certificate, and who is no more: kept, and pushed with plans.

An *invitation* is what the control plane keeps of a join token. It is good for one key: the first that shows
the secret. The same key may show it again until the invitation ends, because an answer can be lost on the
way; any other one is refused. It admits a node that nobody here knows, unless the operator bound it to a node
id: a token for a region must not be a way to become an edge that exists.

Commands return ``None``, or one sentence that says why not. Times are Unix microseconds.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from farcast.proto.control.ranges import NODES_MAX
from farcast.proto.joining.revocations import (
    REVOKED_MAX,
    Certified,
    Revocations,
    Revoked,
    RevokedNode,
)
from farcast.proto.joining.tokens import secret_sha256

INVITATIONS_MAX: Final = 4_096
VALID_SECONDS_MAX: Final = 7 * 86_400
REMEMBERED_US: Final = 86_400_000_000
"""An invitation that has ended is remembered for a day, so that its edge hears what is wrong."""

CERTIFICATE_DAYS_MAX: Final = 397
"""No certificate of ours lives longer: then a revocation may be forgotten."""

_REVOKED_REMEMBERED_S: Final = (CERTIFICATE_DAYS_MAX + 1) * 86_400
_SECOND_US: Final = 1_000_000


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """Of a join token; ``used_by`` is the SHA-256 of the key that it was good for, ``joined`` its node id."""

    token_id: str
    secret_sha256: bytes
    region: str
    node_id: str | None
    expires_unix_us: int
    used_by: bytes = b""
    joined: str = ""


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """The newest certificate of a node that this control plane has issued."""

    region: str
    serial: str
    expires_unix_us: int


class KeptTrust(msgspec.Struct, frozen=True, kw_only=True):
    """What is on disk. Revocations: to when they were made, Unix seconds."""

    invitations: tuple[Invitation, ...] = ()
    issued: dict[str, Issued] = {}
    revoked_nodes: dict[str, RevokedNode] = {}
    revoked_serials: dict[str, int] = {}


NO_TRUST_KEPT: Final = KeptTrust()


@dataclass(frozen=True, slots=True)
class Admission:
    """An edge may have a certificate for these names."""

    region: str
    node_id: str


class TrustBook:
    """See above."""

    def __init__(self, kept: KeptTrust) -> None:
        self._invitations = {invitation.token_id: invitation for invitation in kept.invitations}
        self._issued: dict[str, Issued] = dict(kept.issued)
        self._revoked_nodes: dict[str, RevokedNode] = dict(kept.revoked_nodes)
        self._revoked_serials: dict[str, int] = dict(kept.revoked_serials)
        self.changed = False
        """Since it was last set to false."""
        self.revoked = Revoked(self.revocations())

    @property
    def issued(self) -> Mapping[str, Issued]:
        """By node id."""
        return self._issued

    @property
    def invitations(self) -> Collection[Invitation]:
        """Oldest first; also those that are used, or ended a short while ago."""
        return self._invitations.values()

    def revocations(self) -> Revocations:
        """What goes to edges."""
        nodes = tuple(node for _, node in sorted(self._revoked_nodes.items()))
        return Revocations(nodes=nodes, serials=tuple(sorted(self._revoked_serials)))

    def kept(self) -> KeptTrust:
        """What goes to disk."""
        return KeptTrust(
            invitations=tuple(self._invitations.values()),
            issued=dict(self._issued),
            revoked_nodes=dict(self._revoked_nodes),
            revoked_serials=dict(self._revoked_serials),
        )

    def revoked_until(self, node_id: str) -> int | None:
        """A certificate of the node has to begin after this, Unix seconds."""
        revoked = self._revoked_nodes.get(node_id)
        return revoked.until_unix_s if revoked else None

    def is_out(self, node_id: str) -> bool:
        """Whether a node was revoked, and has no certificate of ours that is newer."""
        return node_id in self._revoked_nodes and node_id not in self._issued

    # ---- Joining ----------------------------------------------------------------------------------

    def invite(self, invitation: Invitation, unix_us: int) -> str | None:
        """Let an edge in that shows the secret."""
        life_us = invitation.expires_unix_us - unix_us
        if not 0 < life_us <= VALID_SECONDS_MAX * _SECOND_US:
            return f"a join token is valid for {VALID_SECONDS_MAX // 86_400} days at most"
        if len(self._invitations) >= INVITATIONS_MAX:
            return f"there are {INVITATIONS_MAX} join tokens already; the oldest of them have to end first"
        self._invitations[invitation.token_id] = invitation
        self.changed = True
        return None

    def withdraw(self, token_id: str) -> str | None:
        """Let nobody in any more who shows this one's secret; ``None``, or why not."""
        invitation = self._invitations.get(token_id)
        if invitation is None:
            known = ", ".join(i.token_id for i in self._invitations.values() if not i.used_by) or "none"
            return f"no join token {token_id[:80]!r}; not used yet are {known}"
        if invitation.used_by:
            return f"{invitation.joined} has joined by it: farcast remove {invitation.joined} takes it out"
        del self._invitations[token_id]
        self._has_changed()
        return None

    def admit(
        self,
        token_id: str,
        secret: bytes,
        key_sha256: bytes,
        wanted: str | None,
        known: Collection[str],
        unix_us: int,
    ) -> Admission | str:
        """Take a token, once, or say why not. ``wanted``: the node id that the edge would like; ``known``:
        the nodes that are there."""
        invitation = self._invitations.get(token_id)
        if invitation is None or not hmac.compare_digest(secret_sha256(secret), invitation.secret_sha256):
            return "the join token is not one of this cluster's"
        if invitation.used_by and invitation.used_by != key_sha256:
            return f"the join token was used already, by {invitation.joined}; make another one"
        if unix_us >= invitation.expires_unix_us:
            return "the join token has expired; make another one (farcast join-token)"
        if invitation.used_by:
            return Admission(invitation.region, invitation.joined)
        node_id = self._name_for(invitation, wanted, known)
        if isinstance(node_id, _NoName):
            return node_id.why
        used = msgspec.structs.replace(invitation, used_by=key_sha256, joined=node_id)
        self._invitations[token_id] = used
        self.changed = True
        return Admission(invitation.region, node_id)

    def note_issued(self, certified: Certified, expires_unix_us: int) -> None:
        """A certificate was made."""
        self._issued[certified.node_id] = Issued(
            region=certified.region, serial=certified.serial, expires_unix_us=expires_unix_us
        )
        self.changed = True

    def _name_for(self, invitation: Invitation, wanted: str | None, known: Collection[str]) -> str | _NoName:
        if invitation.node_id is not None:
            if wanted not in (None, invitation.node_id):
                return _NoName(f"the join token is for {invitation.node_id}, not for {wanted}")
            return invitation.node_id
        taken = {*known, *self._issued}
        if wanted is not None and wanted in taken:
            return _NoName(
                f"there is an edge {wanted} already; to replace it, bind the token to it "
                f"(farcast join-token --node-id {wanted})"
            )
        if wanted is not None:
            return wanted
        names = (f"{invitation.region}-{number}" for number in range(1, NODES_MAX + 1))
        free = next((name for name in names if name not in taken and len(name) <= 63), None)
        return free or _NoName(f"no name {invitation.region}-N is free; give one with --node-id")

    # ---- Leaving ----------------------------------------------------------------------------------

    def revoke_node(self, node_id: str, until_unix_s: int) -> str | None:
        """No certificate of a node counts that begins by ``until_unix_s``."""
        if node_id not in self._revoked_nodes and len(self._revoked_nodes) >= REVOKED_MAX:
            return f"{REVOKED_MAX} nodes are revoked already; begin a new authority"
        self._revoked_nodes[node_id] = RevokedNode(node_id=node_id, until_unix_s=until_unix_s)
        self._issued.pop(node_id, None)
        self._has_changed()
        return None

    def revoke_serial(self, serial: str, unix_us: int) -> str | None:
        """This certificate counts no more."""
        if serial not in self._revoked_serials and len(self._revoked_serials) >= REVOKED_MAX:
            return f"{REVOKED_MAX} certificates are revoked already; revoke nodes, or begin a new authority"
        self._revoked_serials[serial] = unix_us // _SECOND_US
        self._has_changed()
        return None

    def forget_ended(self, unix_us: int) -> None:
        """Forget what has ended by itself."""
        before = len(self._invitations), len(self._issued)
        self._invitations = {
            token_id: invitation
            for token_id, invitation in self._invitations.items()
            if invitation.expires_unix_us + REMEMBERED_US > unix_us
        }
        self._issued = {n: issued for n, issued in self._issued.items() if issued.expires_unix_us > unix_us}
        self.changed |= before != (len(self._invitations), len(self._issued))
        oldest_s = unix_us // _SECOND_US - _REVOKED_REMEMBERED_S
        nodes = {n: node for n, node in self._revoked_nodes.items() if node.until_unix_s > oldest_s}
        serials = {serial: at_s for serial, at_s in self._revoked_serials.items() if at_s > oldest_s}
        if len(nodes) + len(serials) < len(self._revoked_nodes) + len(self._revoked_serials):
            self._revoked_nodes, self._revoked_serials = nodes, serials
            self._has_changed()

    def _has_changed(self) -> None:
        self.changed = True
        self.revoked = Revoked(self.revocations())


@dataclass(frozen=True, slots=True)
class _NoName:
    why: str
