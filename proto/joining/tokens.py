"""Join tokens: one line of text by which an edge that has nothing finds its cluster and is let in, once.

    fcjoin1_ BASE64URL( JSON: addresses, authority's SHA-256, region, node id, id, secret, end )

The SHA-256 of the authority's certificate is what makes the first contact safe: the edge talks to nobody
whose certificate does not lead there, so it never shows the secret to an impostor. (As k3s and kubeadm do it;
a token that names only a host would trust whoever answers.) The secret is 32 random bytes, and the control
plane keeps its SHA-256 only: with so much entropy nothing slower is needed. Region and node id are told so
that the edge knows its name; what counts is what the control plane has written down under the id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from farcast.proto.control.ranges import Address, Count, NodeId

PREFIX: Final = "fcjoin1_"
CHARACTERS_MAX: Final = 4_096
ADDRESSES_MAX: Final = 16
SECRET_BYTES: Final = 32
ID_BYTES: Final = 8


class BadJoinToken(ValueError):
    """The text is no join token; one sentence, without the text."""


class _Claims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Short names: people paste this."""

    a: Annotated[tuple[Address, ...], Meta(min_length=1, max_length=ADDRESSES_MAX)]
    f: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    r: NodeId
    n: NodeId | None = None
    i: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}\Z")]
    s: Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
    x: Count


@dataclass(frozen=True, slots=True, repr=False)
class JoinToken:
    """``addresses``: ``HOST:PORT`` of the control planes. ``node_id``: the only one it is good for; ``None``
    is any new one. ``token_id`` may be told to anybody, ``secret`` to nobody, so it is in no ``repr``."""

    addresses: tuple[str, ...]
    authority_sha256: bytes
    region: str
    node_id: str | None
    token_id: str
    secret: bytes
    expires_unix_s: int

    def __repr__(self) -> str:
        return f"JoinToken({self.token_id}, region={self.region}, node_id={self.node_id})"

    def encode(self) -> str:
        """The text. Raises `BadJoinToken` for what cannot be told."""
        claims = _Claims(
            a=self.addresses,
            f=self.authority_sha256.hex(),
            r=self.region,
            n=self.node_id,
            i=self.token_id,
            s=self.secret.hex(),
            x=self.expires_unix_s,
        )
        text = PREFIX + base64.urlsafe_b64encode(msgspec.json.encode(claims)).decode().rstrip("=")
        decode_join_token(text)
        return text


def decode_join_token(text: str) -> JoinToken:
    """Raises `BadJoinToken`."""
    text = text.strip()
    if not text.startswith(PREFIX):
        raise BadJoinToken(f"is no join token: those begin with {PREFIX} (farcast join-token makes them)")
    if len(text) > CHARACTERS_MAX:
        raise BadJoinToken(f"has {len(text)} characters, a join token {CHARACTERS_MAX} at most")
    body = text.removeprefix(PREFIX)
    try:
        data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        claims = msgspec.json.decode(data, type=_Claims)
    except (binascii.Error, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise BadJoinToken("is cut off or damaged; copy all of the line") from error
    return JoinToken(
        claims.a, bytes.fromhex(claims.f), claims.r, claims.n, claims.i, bytes.fromhex(claims.s), claims.x
    )


def secret_sha256(secret: bytes) -> bytes:
    """What the control plane keeps of a secret."""
    return hashlib.sha256(b"farcast join token" + secret).digest()
