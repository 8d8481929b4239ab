"""The table of hostile tokens: what each is, which cause it is refused for, and a word of the reason given.

The list: T1 to T19 of the project's reliability reference, RFC 8725, and the advisories of JWT libraries
(CVE-2026-32597 ``crit``, CVE-2026-48524 refetching of keys, CVE-2022-29217 key confusion, CVE-2024-37568).
`tests/proto/access/test_tokens.py` shows each row to the reader, `tests/e2e/test_hostile_tokens.py` to a real
edge, where the reason is what the client hears, and the cause what ``farcast_tokens_refused_total`` counts.
DPoP, and with it the replay of its ids, is not spoken here.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from access_tokens import CLUSTER, PRIVATE, X
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import OKPKey

from farcast.proto.access.keys import TrustedKey
from farcast.proto.access.scopes import VIEWER, Scope
from farcast.proto.access.tokens import (
    CLOCK_SKEW_SECONDS,
    LIFE_SECONDS_MAX,
    Cause,
    make_claims,
    write_scope,
    write_token,
)
from farcast.proto.moqt.names import TrackNamespace

ISSUER = "shop.example"
ROOM = TrackNamespace.parse("live/room1")
LIFE_SECONDS = 900
HOUR = 3_600
OTHER = OKPKey.generate_key("Ed25519")
"""Of an issuer whom nobody trusts."""

SECOND = OKPKey.generate_key("Ed25519")
"""Of another trusted issuer, ``k2``."""

KEYS = {
    "k1": TrustedKey("k1", X, issuer=ISSUER),
    "k2": TrustedKey("k2", str(SECOND.as_dict(private=False)["x"]), issuer="mall.example"),
}
HEADER = {"alg": "Ed25519", "typ": "JWT", "kid": "k1"}

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Row:
    """One hostile token, why it is refused, and what the reason has to say."""

    token: bytes
    cause: Cause
    said: str


def part(data: bytes) -> bytes:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def raw(header: Any, payload: bytes, sign: Sign | None = None) -> bytes:
    """A token by hand; ``header`` as JSON, or as bytes."""
    head = part(header if isinstance(header, bytes) else json.dumps(header).encode())
    body = head + b"." + part(payload)
    signature = (sign or PRIVATE.private_key.sign)(body)  # type: ignore[union-attr]
    return body + b"." + part(signature)


def with_a_flipped_bit(token: bytes) -> bytes:
    """``token`` with one bit of its signature turned: still base64url, and nothing else is wrong."""
    body, _, signature = token.rpartition(b".")
    turned = bytearray(base64.urlsafe_b64decode(signature + b"=="))
    turned[-1] ^= 1
    return body + b"." + part(bytes(turned))


def claims(now: int, **changes: Any) -> dict[str, Any]:
    """Those of a good token; ``...`` takes one out."""
    made = make_claims(
        [Scope(VIEWER, ROOM)],
        audience=CLUSTER,
        issuer=ISSUER,
        subject="viewer-7",
        token_id="t1",
        now_unix_s=now,
        life_seconds=LIFE_SECONDS,
    )
    return {name: value for name, value in {**made, **changes}.items() if value is not ...}


def good(now: int, **changes: Any) -> bytes:
    """A good token, unless changes to its claims make it a bad one."""
    return write_token(claims(now, **changes), PRIVATE, "k1").encode()


def table(now: int) -> dict[str, Row]:
    """All rows, for an edge whose clock shows ``now`` (Unix seconds)."""
    return {**_signatures(now), **_shapes(now), **_times(now), **_parties(now), **_scopes(now)}


def _hmac(secret: bytes) -> Sign:
    return lambda body: hmac.new(secret, body, hashlib.sha256).digest()


def _signatures(now: int) -> dict[str, Row]:
    payload = json.dumps(claims(now)).encode()
    public = PRIVATE.public_key
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    jwk = json.dumps(PRIVATE.as_dict(private=False)).encode()
    other = OTHER.private_key.sign  # type: ignore[union-attr]
    algorithm, key, malformed = Cause.ALGORITHM, Cause.KEY, Cause.MALFORMED
    token = good(now)
    return {
        "alg none": Row(raw({**HEADER, "alg": "none"}, payload, lambda _: b""), algorithm, "not signed with"),
        "alg none, other case": Row(raw({**HEADER, "alg": "nOnE"}, payload), algorithm, "not signed with"),
        "alg missing": Row(raw({"kid": "k1", "typ": "JWT"}, payload), malformed, "header"),
        "public key as HMAC secret": Row(
            raw({**HEADER, "alg": "HS256"}, payload, _hmac(PRIVATE.as_bytes(private=False))),
            algorithm,
            "not signed with",
        ),
        "public key in PEM as HMAC secret": Row(
            raw({**HEADER, "alg": "HS256"}, payload, _hmac(pem)), algorithm, "not signed with"
        ),
        "public JWK as HMAC secret": Row(
            raw({**HEADER, "alg": "HS512"}, payload, _hmac(jwk)), algorithm, "not signed with"
        ),
        "signed with RSA": Row(raw({**HEADER, "alg": "RS256"}, payload, _rsa), malformed, "header"),
        "another algorithm": Row(raw({**HEADER, "alg": "ES256"}, payload), algorithm, "not signed with"),
        "algorithm of another type": Row(
            raw({**HEADER, "alg": ["Ed25519"]}, payload), algorithm, "not signed with"
        ),
        "unknown critical extension": Row(raw({**HEADER, "crit": ["exp"]}, payload), malformed, "header"),
        "payload not encoded": Row(
            raw({**HEADER, "b64": False, "crit": ["b64"]}, payload), malformed, "header"
        ),
        "b64 without crit": Row(raw({**HEADER, "b64": False}, payload), malformed, "header"),
        "key in the header": Row(
            raw({**HEADER, "jwk": OTHER.as_dict(private=False)}, payload, other), malformed, "header"
        ),
        "address of a key in the header": Row(
            raw({**HEADER, "jku": "http://127.0.0.1:9/keys"}, payload, other), malformed, "header"
        ),
        "certificate in the header": Row(raw({**HEADER, "x5c": ["MIIB"]}, payload), malformed, "header"),
        "compressed": Row(raw({**HEADER, "zip": "DEF"}, payload), malformed, "header"),
        "of another kind": Row(raw({**HEADER, "typ": "secevent+jwt"}, payload), malformed, "another kind"),
        "kind of another type": Row(raw({**HEADER, "typ": 1}, payload), malformed, ""),
        "signed by another key": Row(raw(HEADER, payload, other), Cause.SIGNATURE, "signature"),
        "key id of another issuer": Row(raw({**HEADER, "kid": "k2"}, payload), Cause.SIGNATURE, "signature"),
        "flipped bit": Row(with_a_flipped_bit(token), Cause.SIGNATURE, "signature"),
        "without a signature": Row(token.rsplit(b".", 1)[0] + b".", Cause.SIGNATURE, "signature"),
        "signature cut off": Row(token[:-10], Cause.SIGNATURE, "signature"),
        "no key id": Row(raw({"alg": "Ed25519"}, payload), key, "names no key"),
        "key id that is a path": Row(
            raw({**HEADER, "kid": "../../etc/passwd"}, payload), key, "names no key"
        ),
        "key id that is a URL": Row(raw({**HEADER, "kid": "http://mallory/k"}, payload), key, "names no key"),
        "key id that is a query": Row(raw({**HEADER, "kid": "k1' OR '1'='1"}, payload), key, "names no key"),
        "key id with a zero": Row(raw({**HEADER, "kid": "k1\0"}, payload), key, "names no key"),
        "key id with a line break": Row(raw({**HEADER, "kid": "k1\n"}, payload), key, "names no key"),
        "key id of 300 characters": Row(raw({**HEADER, "kid": "k" * 300}, payload), key, "names no key"),
        "key id of 2,000 characters": Row(raw({**HEADER, "kid": "k" * 2_000}, payload), malformed, "header"),
        "key id of another type": Row(raw({**HEADER, "kid": {"k": 1}}, payload), key, "names no key"),
        "unknown key id": Row(raw({**HEADER, "kid": "k3"}, payload), key, "not trusted"),
    }


def _rsa(body: bytes) -> bytes:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    return key.sign(body, padding.PKCS1v15(), hashes.SHA256())


def _shapes(now: int) -> dict[str, Row]:
    payload, token = json.dumps(claims(now)).encode(), good(now)
    head, body, signature = token.split(b".")
    flattened = {"protected": head.decode(), "payload": body.decode(), "signature": signature.decode()}

    def malformed(token: bytes, said: str = "") -> Row:
        return Row(token, Cause.MALFORMED, said)

    return {
        "a megabyte": malformed(
            raw(HEADER, json.dumps(claims(now, sub="x" * 1_000_000)).encode()), "over 8192 bytes"
        ),
        "a little too large": malformed(
            raw(HEADER, json.dumps(claims(now, sub="x" * 8_000)).encode()), "over 8192"
        ),
        "deep JSON": malformed(raw(HEADER, b"[" * 5_000 + b"]" * 5_000)),
        "deep header": malformed(raw(b"[" * 300 + b"]" * 300, payload), "header"),
        "header is no object": malformed(raw(b'"k1"', payload), "header"),
        "header twice says who signed": malformed(
            raw(b'{"alg":"Ed25519","typ":"JWT","kid":"k2","kid":"k1"}', payload), "header"
        ),
        "four parts": malformed(token + b".x", "three parts"),
        "five parts, as if encrypted": malformed(token + b".x.y", "three parts"),
        "two parts": malformed(token.rsplit(b".", 1)[0], "three parts"),
        "as JSON instead of a line": malformed(json.dumps(flattened).encode(), "three parts"),
        "empty": malformed(b"", "three parts"),
        "dots": malformed(b"..", "three parts"),
        "not ASCII": malformed(token + "é".encode(), "three parts"),
        "with a line break": malformed(head + b".\n" + body + b"." + signature),
        "with a space": malformed(head + b". " + body + b"." + signature),
        "with padding": malformed(token + b"=="),
        "payload is a list": malformed(raw(HEADER, b"[1]"), "claims"),
        "payload is no JSON": malformed(raw(HEADER, b"{"), "claims"),
        "payload is not UTF-8": malformed(raw(HEADER, b'{"v":"\xff"}'), "claims"),
        "a claim twice": malformed(raw(HEADER, payload[:-1] + b',"exp":4000000000}'), "each name once"),
        "a name twice within a scope": malformed(
            raw(HEADER, payload.replace(b'"actions"', b'"actions":["publish"],"actions"')), "each name once"
        ),
        "no token id": malformed(good(now, jti=...), "jti"),
        "token id of another type": malformed(good(now, jti=7), "jti"),
        "token id of 300 characters": malformed(good(now, jti="x" * 300), "jti"),
        "no subject": malformed(good(now, sub=...), "sub"),
        "subject with a line break": malformed(good(now, sub="a\nlevel=error"), "sub"),
        "no version": Row(good(now, v=...), Cause.VERSION, "version 1"),
        "newer version": Row(good(now, v=2), Cause.VERSION, "version 1"),
        "version as truth": Row(good(now, v=True), Cause.VERSION, "version 1"),
    }


def _times(now: int) -> dict[str, Row]:
    payload = json.dumps(claims(now)).encode()

    def malformed(token: bytes, said: str) -> Row:
        return Row(token, Cause.MALFORMED, said)

    return {
        "expired": Row(good(now, exp=now - 1), Cause.EXPIRED, "expired"),
        "of a clock an hour behind": Row(good(now - HOUR), Cause.EXPIRED, "expired"),
        "of a clock an hour ahead": Row(good(now + HOUR), Cause.EARLY, "not valid yet"),
        "begins later": Row(good(now, nbf=now + CLOCK_SKEW_SECONDS + 30), Cause.EARLY, "not valid yet"),
        "issued later": Row(
            good(now, iat=now + CLOCK_SKEW_SECONDS + 30, nbf=now), Cause.EARLY, "not valid yet"
        ),
        "no end": malformed(good(now, exp=...), "exp is not a time"),
        "no issuing time": malformed(good(now, iat=...), "iat is not a time"),
        "begin of another type": malformed(good(now, nbf=None), "nbf is not a time"),
        "end as text": malformed(good(now, exp=str(now + 900)), "exp is not a time"),
        "end as truth": malformed(good(now, exp=True), "exp is not a time"),
        "end in 1e308 seconds": malformed(good(now, exp=1e308), "exp is not a time"),
        "end beyond every float": malformed(good(now, exp=10**400), "exp is not a time"),
        "NaN": malformed(
            raw(HEADER, payload.replace(b'"exp": %d' % (now + LIFE_SECONDS), b'"exp": NaN')), "claims"
        ),
        "lives for more than a day": Row(
            good(now, exp=now + LIFE_SECONDS_MAX + 1), Cause.LIFETIME, "lives for more"
        ),
        "issued long ago to live long": Row(
            good(now, iat=now - 2 * LIFE_SECONDS_MAX), Cause.LIFETIME, "lives for more"
        ),
    }


def _parties(now: int) -> dict[str, Row]:
    return {
        "another cluster": Row(good(now, aud="tests"), Cause.AUDIENCE, "another cluster"),
        "a cluster whose name begins like ours": Row(
            good(now, aud="shows-2"), Cause.AUDIENCE, "another cluster"
        ),
        "no audience": Row(good(now, aud=...), Cause.AUDIENCE, "another cluster"),
        "audience of another type": Row(good(now, aud={"shows": 1}), Cause.AUDIENCE, "another cluster"),
        "audiences of another type": Row(good(now, aud=["shows", 1]), Cause.AUDIENCE, "another cluster"),
        "another issuer": Row(good(now, iss="mallory.example"), Cause.ISSUER, "issuer"),
        "the other trusted issuer": Row(good(now, iss="mall.example"), Cause.ISSUER, "issuer"),
        "no issuer": Row(good(now, iss=...), Cause.MALFORMED, "iss"),
    }


def _scopes(now: int) -> dict[str, Row]:
    def scope(value: Any, said: str = "scope") -> Row:
        return Row(good(now, scope=value), Cause.SCOPE, said)

    watch: dict[str, Any] = {"actions": ["subscribe"], "namespace": []}
    return {
        "no scope": scope(...),
        "empty scope": scope([]),
        "17 scopes": scope([write_scope(Scope(VIEWER, ROOM))] * 17),
        "scope as text": scope("subscribe"),
        "scope is nothing": scope([None]),
        "scope without a namespace": scope([{"actions": ["subscribe"]}]),
        "namespace as a path": scope([{**watch, "namespace": "live/room1"}]),
        "namespace with an empty field": scope([{**watch, "namespace": ["live", ""]}]),
        "namespace of 33 fields": scope([{**watch, "namespace": ["a"] * 33}]),
        "namespace with half a character": Row(
            raw(HEADER, json.dumps(claims(now, scope=[{**watch, "namespace": ["\ud800"]}])).encode()),
            Cause.SCOPE,
            "namespace",
        ),
        "no actions": scope([{**watch, "actions": []}]),
        "unknown action": scope([{**watch, "actions": ["own"]}]),
        "actions as text": scope([{**watch, "actions": "subscribe"}]),
        "a restriction that is not understood": scope([{**watch, "country": "ID"}]),
        "two ways to match a track": scope([{**watch, "track": {"exact": "a", "prefix": "b"}}]),
        "no way to match a track": scope([{**watch, "track": {}}]),
    }
