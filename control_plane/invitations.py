"""Join tokens as the control plane makes them: the token for the edge, and what is kept of it here."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from farcast.control_plane.trust_book import Invitation
from farcast.proto.joining.tokens import ID_BYTES, SECRET_BYTES, JoinToken, secret_sha256
from farcast.proto.urls import split_host_port


@dataclass(frozen=True, slots=True)
class Invitee:
    """Whom a token is for. ``node_id`` ``None``: any new edge. ``addresses``: where it reaches the control
    plane, ``HOST:PORT``; empty: as configured."""

    region: str
    node_id: str | None
    valid_s: int
    addresses: tuple[str, ...] = ()


def make_invitation(
    invitee: Invitee, addresses: tuple[str, ...], authority_sha256: bytes, unix_us: int
) -> tuple[JoinToken, Invitation]:
    """A token with a new secret."""
    token = JoinToken(
        addresses=addresses,
        authority_sha256=authority_sha256,
        region=invitee.region,
        node_id=invitee.node_id,
        token_id=secrets.token_hex(ID_BYTES),
        secret=secrets.token_bytes(SECRET_BYTES),
        expires_unix_s=unix_us // 1_000_000 + invitee.valid_s,
    )
    kept = Invitation(
        token_id=token.token_id,
        secret_sha256=secret_sha256(token.secret),
        region=token.region,
        node_id=token.node_id,
        expires_unix_us=token.expires_unix_s * 1_000_000,
    )
    return token, kept


def is_wildcard(address: str) -> bool:
    """Whether an address means all of this machine's, which nobody can connect to."""
    return split_host_port(address)[0] in ("0.0.0.0", "::", "*")
