"""The keys of the issuers that a cluster trusts, and what each may allow at most.

An issuer is somebody's application: it holds an Ed25519 key and makes tokens for its publishers and viewers.
The cluster holds the public half with bounds of its own: whatever a token says, it allows nothing that its
key may not. So many merchants can share one network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from farcast.proto.access.scopes import Scope

KEYS_MAX: Final = 4_096
"""Keys of one cluster."""

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")


class BadKey(ValueError):
    """A key that cannot be trusted; says why."""


@dataclass(frozen=True, slots=True)
class Quotas:
    """What all sessions by tokens of one key may take together; 0 is no bound."""

    publishers_max: int = 0
    viewers_max: int = 0
    namespaces_max: int = 0
    egress_bps_max: int = 0


QUOTA_MAX: Final = 2**53 - 1


def read_quotas(value: object) -> Quotas:
    """Quotas out of JSON: whole numbers by the names of `Quotas`. Raises `BadKey`."""
    names = tuple(Quotas.__dataclass_fields__)
    if not isinstance(value, dict) or not value.keys() <= set(names):
        raise BadKey(f"quotas is an object of {', '.join(names)}")
    for name, most in value.items():
        if type(most) is not int or not 0 <= most <= QUOTA_MAX:
            raise BadKey(f"{name} of quotas: a whole number, 0 (no bound) to {QUOTA_MAX}")
    return Quotas(**value)


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """An issuer's public key. ``x``: base64url as in a JWK. ``scopes``: bounds of its tokens; empty is none.

    Raises `BadKey` for an id or a key that is not what it should be.
    """

    key_id: str
    x: str
    issuer: str = ""
    scopes: tuple[Scope, ...] = ()
    quotas: Quotas = Quotas()
    public: OKPKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not is_key_id(self.key_id):
            raise BadKey(f"key id {self.key_id[:80]!r}: up to 64 letters, digits, - and _")
        try:
            public = OKPKey.import_key({"kty": "OKP", "crv": "Ed25519", "x": self.x})
            public.public_key  # noqa: B018 - reads the bytes, and refuses what is no key
        except (JoseError, ValueError, TypeError) as error:
            raise BadKey(f"key {self.key_id}: not an Ed25519 public key") from error
        object.__setattr__(self, "public", public)


def is_key_id(text: str) -> bool:
    """Whether this can be the id of a key; such an id is safe in logs and file names."""
    return _KEY_ID.match(text) is not None
