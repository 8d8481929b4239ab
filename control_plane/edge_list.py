"""The list of edges for viewers and publishers, signed with the control plane's certificate.

A compact JWS (RFC 7515) whose header carries the certificate chain (``x5c``), so that whoever holds the
cluster's authority can check it wherever it came from. Its payload is JSON: ``cluster``, ``issued_unix_us``
and ``edges``, each with ``node_id``, ``region``, ``url``, ``draining`` and ``load`` (0 to 1 in quarters: it
tells busy from idle and seldom changes). Edges without a public URL are not in it.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from farcast.control_plane.members import Member
from farcast.errors import EXIT_USAGE, UserError
from farcast.proto.urls import parse_url

EDGES_LISTED_MAX: Final = 1_024
URL_CHARACTERS_MAX: Final = 512
LIST_BYTES_MAX: Final = 256 << 10
"""Of the signed list: what clients take."""

REFRESH_US: Final = 10_000_000
"""A list that differs in load only is not signed anew before."""

LOAD_STEPS: Final = 4

_IMPORTERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "ES256": ECKey.import_key,
    "ES384": ECKey.import_key,
    "Ed25519": OKPKey.import_key,
    "PS256": RSAKey.import_key,
}


class _Registry(jws.JWSRegistry):
    """Sizes for a chain in the header and a thousand edges in the payload."""

    max_header_length = 32 << 10
    max_payload_length = LIST_BYTES_MAX


_REGISTRY: Final = _Registry(algorithms=list(_IMPORTERS))

Sign: TypeAlias = Callable[[bytes], str]
"""Payload to compact JWS."""


@dataclass(frozen=True, slots=True)
class EdgeListing:
    """One edge as viewers see it."""

    node_id: str
    region: str
    url: str
    draining: bool
    load: float

    @classmethod
    def of(cls, member: Member) -> EdgeListing:
        """As the member says itself."""
        hello, load = member.hello, member.load
        filled = load.egress_bps / hello.egress_bps_max if hello.egress_bps_max else 0.0
        share = min(max(load.cpu, filled), 1.0)
        steps = round(share * LOAD_STEPS) / LOAD_STEPS
        return cls(hello.node_id, hello.region, hello.public_url, member.draining, steps)

    @property
    def is_usable(self) -> bool:
        """Whether clients understand the URL; one that they do not would spoil the list for all."""
        return _is_usable(self.url)


class EdgeLists:
    """The newest signed list; without ``sign`` there is none."""

    def __init__(self, cluster: str, sign: Sign | None) -> None:
        self._cluster = cluster
        self._sign = sign
        self._listed: tuple[EdgeListing, ...] = ()
        self._signed: str | None = None
        self._signed_us = -(1 << 62)
        self.left_out = 0
        """Edges whose public URL cannot be used, in the newest list."""

    def signed(self, listings: Sequence[EdgeListing], now_us: int, unix_us: int) -> str | None:
        """The list for these edges; the one before where nothing of weight is new."""
        if self._sign is None:
            return None
        usable = tuple(sorted((li for li in listings if li.is_usable), key=lambda li: li.node_id))
        self.left_out = len(listings) - len(usable)
        usable = usable[:EDGES_LISTED_MAX]
        if usable == self._listed:
            return self._signed
        if _who(usable) == _who(self._listed) and now_us < self._signed_us + REFRESH_US:
            return self._signed
        token = self._sign(_payload(self._cluster, usable, unix_us))
        if len(token) > LIST_BYTES_MAX:
            return self._signed
        self._listed, self._signed, self._signed_us = usable, token, now_us
        return token


def make_signer(chain: Sequence[bytes], key: bytes) -> Sign:
    """A signer by the certificate chain (DER, leaf first) and its PKCS#8 key (DER). `UserError` for a kind of
    key that JWS has no name for."""
    private = serialization.load_der_private_key(key, password=None)
    jwk: ECKey | OKPKey | RSAKey
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    match private:
        case ec.EllipticCurvePrivateKey() if isinstance(private.curve, ec.SECP256R1):
            algorithm, jwk = "ES256", ECKey.import_key(pem)
        case ec.EllipticCurvePrivateKey() if isinstance(private.curve, ec.SECP384R1):
            algorithm, jwk = "ES384", ECKey.import_key(pem)
        case ed25519.Ed25519PrivateKey():
            algorithm, jwk = "Ed25519", OKPKey.import_key(pem)
        case rsa.RSAPrivateKey():
            algorithm, jwk = "PS256", RSAKey.import_key(pem)
        case _:
            raise UserError("the control key must be ECDSA P-256 or P-384, Ed25519 or RSA", EXIT_USAGE)
    header = {"alg": algorithm, "typ": "JWT", "x5c": [base64.b64encode(der).decode() for der in chain]}

    def sign(payload: bytes) -> str:
        return jws.serialize_compact(header, payload, jwk, registry=_REGISTRY)

    return sign


class BadEdgeList(ValueError):
    """The list cannot be trusted; says why."""


def verify_edge_list(token: str, roots: Sequence[bytes]) -> dict[str, Any]:
    """The payload of a list signed by a leaf that one of ``roots`` (DER) issued. Raises `BadEdgeList`."""
    try:
        unverified = jws.extract_compact(token.encode(), registry=_REGISTRY)
        leaf = x509.load_der_x509_certificate(base64.b64decode(unverified.headers()["x5c"][0]))
        _check_issued(leaf, roots)
        pem = leaf.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        algorithm = unverified.headers()["alg"]
        verified = jws.deserialize_compact(token, _IMPORTERS[algorithm](pem), registry=_REGISTRY)
        payload = json.loads(verified.payload)
    except (JoseError, ValueError, KeyError, IndexError, TypeError) as error:
        raise BadEdgeList(f"edge list: {error}") from error
    if not isinstance(payload, dict):
        raise BadEdgeList("edge list: payload is no object")
    return payload


def _check_issued(leaf: x509.Certificate, roots: Sequence[bytes]) -> None:
    for der in roots:
        try:
            leaf.verify_directly_issued_by(x509.load_der_x509_certificate(der))
        except (ValueError, TypeError, InvalidSignature):
            continue
        return
    raise BadEdgeList("edge list: signed by a certificate of another authority")


@lru_cache(EDGES_LISTED_MAX)
def _is_usable(url: str) -> bool:
    if len(url) > URL_CHARACTERS_MAX:
        return False
    try:
        return parse_url(url).target != "hop"
    except ValueError:
        return False


def _payload(cluster: str, listed: Sequence[EdgeListing], unix_us: int) -> bytes:
    edges = [asdict(listing) for listing in listed]
    content = {"cluster": cluster, "issued_unix_us": unix_us, "edges": edges}
    return json.dumps(content, separators=(",", ":")).encode()


def _who(listed: Sequence[EdgeListing]) -> tuple[tuple[str, str, bool], ...]:
    """A list without its loads."""
    return tuple((listing.node_id, listing.url, listing.draining) for listing in listed)
