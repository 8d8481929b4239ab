"""Tokens of a simulated world, and those of peers that want in without one.

In a world with ``access = "tokens"`` every edge trusts one issuer, and every client shows a token of its for
what its room needs, as `farcast token issue` makes them; keys and ids are fixed, so that the
same seed gives the same bytes.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import OKPKey

from farcast.proto.access.gate import AccessPolicy
from farcast.proto.access.keys import TrustedKey
from farcast.proto.access.scopes import PUBLISHER, VIEWER, Scope
from farcast.proto.access.tokens import CLOCK_SKEW_SECONDS, LIFE_SECONDS_MAX, make_claims, write_token
from farcast.proto.moqt.names import TrackNamespace

KEY_ID: Final = "sim"

Pretence = Literal["none", "elsewhere", "forged", "expired"]
"""No token; a good one for another room; one that another key signed; one whose time is over."""

PRETENCES: Final[tuple[Pretence, ...]] = get_args(Pretence)

ELSEWHERE: Final = TrackNamespace.parse("live/another-room")


class Issuer:
    """The issuer that a world's edges trust; tokens hold from ``now_unix_s`` for a day."""

    def __init__(self, cluster: str, now_unix_s: int) -> None:
        self._cluster = cluster
        self._now_unix_s = now_unix_s
        self._private = _private_key(b"farcast simulator: issuer")
        self._forger = _private_key(b"farcast simulator: forger")
        public = str(self._private.as_dict(private=False)["x"])
        self.policy = AccessPolicy(cluster, {KEY_ID: TrustedKey(KEY_ID, public, "simulator")})
        """What edges are told."""

    def token(self, room: TrackNamespace, subject: str) -> bytes:
        """For all that publishers and viewers do under a room."""
        return self._write(room, subject, self._private, self._now_unix_s)

    def pretence(self, what: Pretence, room: TrackNamespace) -> bytes:
        """What somebody shows who may not be there."""
        now = self._now_unix_s
        match what:
            case "none":
                return b""
            case "elsewhere":
                return self._write(ELSEWHERE, what, self._private, now)
            case "forged":
                return self._write(room, what, self._forger, now)
            case "expired":
                return self._write(room, what, self._private, now - LIFE_SECONDS_MAX - 2 * CLOCK_SKEW_SECONDS)

    def _write(self, room: TrackNamespace, subject: str, private: OKPKey, now_unix_s: int) -> bytes:
        claims = make_claims(
            (Scope(PUBLISHER | VIEWER, room),),
            audience=self._cluster,
            issuer="simulator",
            subject=subject,
            token_id=subject,
            now_unix_s=now_unix_s,
            life_seconds=LIFE_SECONDS_MAX,
        )
        return write_token(claims, private, KEY_ID).encode()


def _private_key(seed: bytes) -> OKPKey:
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed).digest())
    return OKPKey.import_key(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
