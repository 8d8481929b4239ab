"""The key files of issuers: a private Ed25519 key as a JWK (RFC 8037), with its id."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from farcast.errors import EXIT_USAGE, UserError
from farcast.proto.access.keys import KEYS_MAX, BadKey, TrustedKey, is_key_id, read_quotas
from farcast.proto.access.tokens import BadToken, read_scope

KEY_FILE_BYTES_MAX = 64 << 10
PUBLIC_FILE_BYTES_MAX = 8 << 20


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


def load_public_keys(file: Path) -> dict[str, TrustedKey]:
    """The public keys in a file, by id: one JWK, several of them one a line, or a JWK set (RFC 7517).

    Besides what a JWK has, a key may name its ``issuer``, and bound what its tokens allow by a ``scope`` as
    in a token, and by ``quotas`` (`read_quotas`). Raises `UserError` that names the file and the key.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}", EXIT_USAGE) from error
    if len(content) > PUBLIC_FILE_BYTES_MAX:
        raise UserError(f"{file}: over {PUBLIC_FILE_BYTES_MAX} bytes", EXIT_USAGE)
    keys: dict[str, TrustedKey] = {}
    for number, value in enumerate(_jwks(file, content), 1):
        try:
            key = read_public_key(value)
        except (BadKey, BadToken) as error:
            raise UserError(f"{file}: key {number}: {error}", EXIT_USAGE) from error
        if key.key_id in keys:
            raise UserError(f"{file}: key {number}: id {key.key_id} is there already", EXIT_USAGE)
        keys[key.key_id] = key
    if not 0 < len(keys) <= KEYS_MAX:
        raise UserError(f"{file}: holds {len(keys)} keys, not 1 to {KEYS_MAX}", EXIT_USAGE)
    return keys


def read_public_key(value: object) -> TrustedKey:
    """A public key out of JSON. Raises `BadKey` or `BadToken` (of its scope)."""
    if not isinstance(value, dict):
        raise BadKey("not a JWK")
    if "d" in value:
        raise BadKey("is a private key: give the public half, which farcast token key prints")
    if (value.get("kty"), value.get("crv")) != ("OKP", "Ed25519"):
        raise BadKey("not an Ed25519 key (kty OKP, crv Ed25519)")
    key_id, x, issuer, scopes = (value.get(name, "") for name in ("kid", "x", "issuer", "scope"))
    if not all(isinstance(text, str) for text in (key_id, x, issuer)):
        raise BadKey("kid, x and issuer are texts")
    if scopes and not isinstance(scopes, list):
        raise BadKey("scope is a list as in a token")
    quotas = read_quotas(value.get("quotas", {}))
    return TrustedKey(key_id, x, issuer, tuple(read_scope(scope) for scope in scopes), quotas)


def _jwks(file: Path, content: bytes) -> list[object]:
    try:
        text = content.decode()
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError):
        lines = []
    try:
        value = lines[0] if len(lines) == 1 else lines or json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: not JSON: {error}", EXIT_USAGE) from error
    if isinstance(value, dict) and isinstance(value.get("keys"), list):
        value = value["keys"]
    return value if isinstance(value, list) else [value]


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
