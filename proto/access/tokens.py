"""Tokens: JWTs signed with Ed25519, read strictly.

    header   alg (Ed25519, or EdDSA as older libraries say), kid, typ
    claims   iss, sub, aud (the cluster), jti, iat, nbf, exp, v (1), scope

``scope`` is a list of ``{"actions": ["subscribe", …], "namespace": ["live", "room1"], "track": {"prefix":
"video"}}``; ``track`` may be absent. The model is that of C4M, so that a CWT can fill the same objects later.

Rules, each because somebody was bitten (RFC 8725, and the advisories of the JWT libraries):

- The key is chosen by ``kid`` among the keys that are here, never fetched, and says the algorithm; a token
  that wants another one, none, or a critical extension is refused.
- One of two equal names in an object could be what another reader sees: refused.
- Times are numbers, finite, and a token lives for a day at most, however far away its end is.
- ``aud`` must name this cluster: a token for a test network opens nothing here.
- Nothing of a refused token is repeated in the reason: it may be secret, and is somebody else's text.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey

from farcast.proto.access.keys import TrustedKey, is_key_id
from farcast.proto.access.scopes import SCOPES_MAX, Action, Match, Scope, TrackMatch, allows
from farcast.proto.moqt.names import FULL_TRACK_NAME_BYTES_MAX, InvalidName, TrackNamespace

TOKEN_TYPE: Final = 0
"""Of an AUTHORIZATION TOKEN that holds a JWT: "negotiated out of band" (draft 18, section 10.2.2)."""

TOKEN_BYTES_MAX: Final = 8_192
CLAIMS_VERSION: Final = 1
LIFE_SECONDS_MAX: Final = 86_400
CLOCK_SKEW_SECONDS: Final = 120
"""An issuer's clock may be so far ahead of ours."""

TIME_MAX: Final = 2**53
"""No time of a token is later; NaN and infinity are not below it either."""

TEXT_CHARACTERS_MAX: Final = 256
"""Of issuer, subject and token id."""

ALGORITHMS: Final = ("Ed25519", "EdDSA")
TYPE: Final = "JWT"
"""What ``typ`` says where it stands: a key that signs other things too must not open anything by them
(RFC 8725, 3.11)."""

_PARTS: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\Z")
_HEADER_NAMES: Final = frozenset({"alg", "kid", "typ"})
_ACTIONS: Final = {action.name.lower(): action for action in Action}


class Cause(StrEnum):
    """Why a token was refused, in one word: what is counted."""

    MALFORMED = "malformed"
    ALGORITHM = "algorithm"
    KEY = "key"
    SIGNATURE = "signature"
    VERSION = "version"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EARLY = "early"
    EXPIRED = "expired"
    LIFETIME = "lifetime"
    SCOPE = "scope"
    REVOKED = "revoked"


class BadToken(ValueError):
    """A token is refused; the reason quotes nothing of it."""

    def __init__(self, reason: str, cause: Cause = Cause.MALFORMED) -> None:
        super().__init__(reason)
        self.cause = cause

    @property
    def expired(self) -> bool:
        """Whether a newer one may do."""
        return self.cause is Cause.EXPIRED


class _Registry(jws.JWSRegistry):
    max_header_length = 512
    max_payload_length = TOKEN_BYTES_MAX
    max_signature_length = 128

    def get_alg(self, name: str) -> Any:
        """The base class warns of EdDSA, because it can mean two curves; our keys are of one."""
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError("not signed with Ed25519")
        return self.algorithms[name]


_REGISTRY: Final = _Registry(algorithms=list(ALGORITHMS))


@dataclass(frozen=True, slots=True)
class Grant:
    """What a good token allows, to whom and until when (Unix seconds)."""

    key_id: str
    token_id: str
    subject: str
    scopes: tuple[Scope, ...]
    expires_unix_s: float
    bounds: tuple[Scope, ...] = ()
    """Of the key; empty is none."""

    def allows(self, action: Action, namespace: TrackNamespace, track: bytes | None = None) -> bool:
        """Whether token and key both allow an action."""
        within = not self.bounds or allows(self.bounds, action, namespace, track)
        return within and allows(self.scopes, action, namespace, track)


def read_token(token: bytes, keys: Mapping[str, TrustedKey], audience: str, now_unix_s: float) -> Grant:
    """The grant in a token by one of these keys (by id), for this cluster and time. Raises `BadToken`."""
    key = _key_of(token, keys)
    try:
        signed = jws.deserialize_compact(token, key.public, registry=_REGISTRY)
    except (JoseError, ValueError, TypeError) as error:
        raise BadToken("signature does not fit the key", Cause.SIGNATURE) from error
    claims = _object(signed.payload, "claims")
    return _grant(claims, key, audience, now_unix_s)


def write_token(claims: Mapping[str, Any], private: OKPKey, key_id: str) -> str:
    """A token with these claims (see `make_claims`), signed."""
    header = {"alg": "Ed25519", "typ": "JWT", "kid": key_id}
    payload = json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode()
    return jws.serialize_compact(header, payload, private, registry=_REGISTRY)


def make_claims(
    scopes: Iterable[Scope],
    *,
    audience: str,
    issuer: str,
    subject: str,
    token_id: str,
    now_unix_s: int,
    life_seconds: int,
) -> dict[str, Any]:
    """Claims that `read_token` understands, valid from now. ``ValueError`` for a life that is too long."""
    if not 0 < life_seconds <= LIFE_SECONDS_MAX:
        raise ValueError(f"a token lives for 1 to {LIFE_SECONDS_MAX} seconds, not {life_seconds}")
    return {
        "v": CLAIMS_VERSION,
        "iss": issuer,
        "sub": subject,
        "aud": audience,
        "jti": token_id,
        "iat": now_unix_s,
        "nbf": now_unix_s,
        "exp": now_unix_s + life_seconds,
        "scope": [write_scope(scope) for scope in scopes],
    }


def write_scope(scope: Scope) -> dict[str, Any]:
    """A scope as it stands in claims. ``ValueError`` (UnicodeDecodeError) for names that are not UTF-8."""
    written: dict[str, Any] = {
        "actions": [action.name.lower() for action in sorted(scope.actions)],
        "namespace": [part.decode() for part in scope.namespace.fields],
    }
    if scope.track is not None:
        written["track"] = {scope.track.match.value: scope.track.value.decode()}
    return written


def read_scope(value: object) -> Scope:
    """The reverse of `write_scope`. Raises `BadToken`."""
    scope = _members(value, "a scope", {"actions", "namespace"}, {"track"})
    names = scope["actions"]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise BadToken("actions of a scope: a list of names", Cause.SCOPE)
    unknown = [name for name in names if name not in _ACTIONS]
    if unknown:
        known = ", ".join(_ACTIONS)
        raise BadToken(f"actions of a scope: {len(unknown)} unknown, known are {known}", Cause.SCOPE)
    actions = frozenset(_ACTIONS[name] for name in names)
    return Scope(actions, _namespace(scope["namespace"]), _track(scope.get("track")))


# ---- Reading ----------------------------------------------------------------------------------------


def _key_of(token: bytes, keys: Mapping[str, TrustedKey]) -> TrustedKey:
    """The key that the header names; the header is good then."""
    if len(token) > TOKEN_BYTES_MAX:
        raise BadToken(f"over {TOKEN_BYTES_MAX} bytes")
    if not _PARTS.match(token):
        raise BadToken("not a signed JWT: three parts in base64url")
    try:
        jws.extract_compact(token, registry=_REGISTRY)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise BadToken("header cannot be read") from error
    header = _object(_decoded(token.partition(b".")[0]), "the names in the header")
    if not _HEADER_NAMES.issuperset(header):
        raise BadToken("header has more than alg, kid and typ")
    if header.get("alg") not in ALGORITHMS:
        raise BadToken("not signed with Ed25519", Cause.ALGORITHM)
    if not _is_jwt(header.get("typ", TYPE)):
        raise BadToken("a token of another kind (typ)")
    key_id = header.get("kid")
    if not isinstance(key_id, str) or not is_key_id(key_id):
        raise BadToken("header names no key (kid)", Cause.KEY)
    key = keys.get(key_id)
    if key is None:
        raise BadToken("signed with a key that is not trusted here", Cause.KEY)
    return key


def _decoded(part: bytes) -> bytes:
    """Of base64url without padding."""
    try:
        return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    except binascii.Error as error:
        raise BadToken("header cannot be read") from error


def _is_jwt(kind: object) -> bool:
    return isinstance(kind, str) and kind.upper() == TYPE


def _grant(claims: dict[str, Any], key: TrustedKey, audience: str, now_unix_s: float) -> Grant:
    if claims.get("v") != CLAIMS_VERSION or isinstance(claims["v"], bool):
        raise BadToken(f"claims are not of version {CLAIMS_VERSION} (v)", Cause.VERSION)
    issuer = _text(claims, "iss")
    if key.issuer and issuer != key.issuer:
        raise BadToken("issuer (iss) is not the one of its key", Cause.ISSUER)
    _check_audience(claims.get("aud"), audience)
    expires = _check_times(claims, now_unix_s)
    scopes = claims.get("scope")
    if not isinstance(scopes, list) or not 0 < len(scopes) <= SCOPES_MAX:
        raise BadToken(f"scope: a list of 1 to {SCOPES_MAX}", Cause.SCOPE)
    return Grant(
        key_id=key.key_id,
        token_id=_text(claims, "jti"),
        subject=_text(claims, "sub"),
        scopes=tuple(read_scope(scope) for scope in scopes),
        expires_unix_s=expires,
        bounds=key.scopes,
    )


def _check_audience(value: object, audience: str) -> None:
    audiences = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) for item in audiences) or audience not in audiences:
        raise BadToken("for another cluster (aud)", Cause.AUDIENCE)


def _check_times(claims: dict[str, Any], now_unix_s: float) -> float:
    """When the token ends."""
    issued, expires = _time(claims, "iat"), _time(claims, "exp")
    begins = _time(claims, "nbf") if "nbf" in claims else issued
    if expires - issued > LIFE_SECONDS_MAX:
        raise BadToken(f"lives for more than {LIFE_SECONDS_MAX} s (exp - iat)", Cause.LIFETIME)
    if max(issued, begins) > now_unix_s + CLOCK_SKEW_SECONDS:
        raise BadToken("not valid yet (nbf, iat)", Cause.EARLY)
    if expires <= now_unix_s:
        raise BadToken("expired (exp)", Cause.EXPIRED)
    return expires


def _time(claims: dict[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < TIME_MAX:
        raise BadToken(f"{name} is not a time in seconds")
    return float(value)


def _text(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= TEXT_CHARACTERS_MAX or not value.isprintable():
        raise BadToken(f"{name} is not a text of 1 to {TEXT_CHARACTERS_MAX} printable characters")
    return value


def _namespace(value: object) -> TrackNamespace:
    if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
        raise BadToken("namespace of a scope: a list of fields", Cause.SCOPE)
    try:
        return TrackNamespace(tuple(part.encode() for part in value))
    except (InvalidName, UnicodeEncodeError) as error:
        raise BadToken("namespace of a scope: not one that MoQT allows", Cause.SCOPE) from error


def _track(value: object) -> TrackMatch | None:
    if value is None:
        return None
    track = _members(value, "track of a scope", set(), {match.value for match in Match})
    if len(track) != 1:
        raise BadToken("track of a scope: one of exact, prefix, suffix", Cause.SCOPE)
    ((kind, text),) = track.items()
    if not isinstance(text, str) or len(text) > FULL_TRACK_NAME_BYTES_MAX:
        raise BadToken("track of a scope: not a name", Cause.SCOPE)
    try:
        return TrackMatch(Match(kind), text.encode())
    except UnicodeEncodeError as error:
        raise BadToken("track of a scope: not a name", Cause.SCOPE) from error


def _members(value: object, what: str, needed: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or not needed <= value.keys() <= needed | optional:
        names = ", ".join(sorted(needed | optional))
        raise BadToken(f"{what}: an object of {names}", Cause.SCOPE)
    return value


def _object(data: bytes, what: str) -> dict[str, Any]:
    """JSON as an object, without two equal names at any depth."""
    try:
        value = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise BadToken(f"{what} are not one JSON object with each name once") from error
    if not isinstance(value, dict):
        raise BadToken(f"{what} are not a JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name comes twice")
    return value


def _no_constant(_: str) -> float:
    raise ValueError("not a number")
