"""The key files of issuers: a private Ed25519 key as a JWK (RFC 8037), with its id."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from farcast.errors import EXIT_USAGE, UserError
from farcast.proto.access.keys import is_key_id

KEY_FILE_BYTES_MAX = 64 << 10


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """Signs tokens; ``x`` is the public half as a JWK has it."""

    key_id: str
    private: OKPKey

    @property
    def x(self) -> str:
        return str(self.private.as_dict(private=False)["x"])

    def content(self) -> bytes:
        """The file."""
        return json.dumps({**self.private.as_dict(private=True), "kid": self.key_id}).encode() + b"\n"


def make_issuer_key(key_id: str) -> IssuerKey:
    """A new key. Raises `UserError` for an id that is none."""
    if not is_key_id(key_id):
        raise UserError(f"key id {key_id!r}: up to 64 letters, digits, - and _", EXIT_USAGE)
    return IssuerKey(key_id, OKPKey.generate_key("Ed25519"))


def load_issuer_key(file: Path) -> IssuerKey:
    """The key in a file. Raises `UserError` that names the file."""
    try:
        content = file.read_bytes()[: KEY_FILE_BYTES_MAX + 1]
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}", EXIT_USAGE) from error
    try:
        values = json.loads(content)
        private = OKPKey.import_key({name: values[name] for name in ("kty", "crv", "x", "d")})
        if private.curve_name != "Ed25519" or not private.is_private or not is_key_id(values["kid"]):
            raise ValueError("not an Ed25519 key with an id")
    except (JoseError, ValueError, KeyError, TypeError, RecursionError) as error:
        what = "not a private Ed25519 key as a JWK with a kid; farcast token key makes one"
        raise UserError(f"{file}: {what}", EXIT_USAGE) from error
    return IssuerKey(values["kid"], private)
