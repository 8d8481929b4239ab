"""Keys that never leave the machine they were made on: signing requests (PKCS#10), from both sides."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from farcast.certificates import CLOCK_SKEW, PublicKey
from farcast.proto.joining.renewal import Life

CURVE = "secp256r1"


class BadRequest(ValueError):
    """A signing request that cannot be answered; one sentence."""


@dataclass(frozen=True, slots=True, repr=False)
class FreshKey:
    """A key without a certificate: PKCS#8 (DER), and the request (DER) that asks for one."""

    key: bytes
    request: bytes


def make_key() -> FreshKey:
    """A new P-256 key. The request names nobody: who the edge is, its token or its session says."""
    private = ec.generate_private_key(ec.SECP256R1())
    return FreshKey(
        private.private_bytes(
            serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        _request(private),
    )


def request_of(key_pem: bytes) -> FreshKey:
    """The same for a P-256 key that lies in a file. Raises ``ValueError``, ``TypeError``."""
    private = serialization.load_pem_private_key(key_pem, password=None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError("not a P-256 key")
    der = private.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return FreshKey(der, _request(private))


def read_request(der: bytes) -> PublicKey:
    """The key that a peer asks to have certified, and has proved to hold. Raises `BadRequest`."""
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        is_good = request.is_signature_valid
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise BadRequest("the signing request is damaged") from error
    known = isinstance(key, ed25519.Ed25519PublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == CURVE
    )
    if not known:
        raise BadRequest("the key is neither P-256 nor Ed25519")
    if not is_good:
        raise BadRequest("the signing request is not signed with its key")
    return key  # type: ignore[return-value]  # mypy does not follow ``known``


def key_sha256(key: PublicKey) -> bytes:
    """SHA-256 of a public key (SubjectPublicKeyInfo)."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).digest()


def is_certificate_of(certificate: bytes, key: bytes, authorities: tuple[bytes, ...]) -> bool:
    """Whether a certificate (DER) is for a private key (PKCS#8, DER) and issued by one of the authorities."""
    try:
        leaf = x509.load_der_x509_certificate(certificate)
        private = serialization.load_der_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
    formats = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    if leaf.public_key().public_bytes(*formats) != private.public_key().public_bytes(*formats):
        return False
    return any(_issued(leaf, authority) for authority in authorities)


def life_of(certificate: bytes) -> Life:
    """Of a certificate (DER) of ours. Its validity begins `CLOCK_SKEW` before its issue."""
    leaf = x509.load_der_x509_certificate(certificate)
    begins = (leaf.not_valid_before_utc + CLOCK_SKEW).timestamp()
    return Life(min(begins, leaf.not_valid_after_utc.timestamp() - 1.0), leaf.not_valid_after_utc.timestamp())


def _request(private: ec.EllipticCurvePrivateKey) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def _issued(leaf: x509.Certificate, authority: bytes) -> bool:
    try:
        leaf.verify_directly_issued_by(x509.load_der_x509_certificate(authority))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
