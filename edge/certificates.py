"""Certificates: reading them from PEM files, and making throw-away ones for development.

Three kinds are made here. A *development certificate* is what browsers accept by hash
(``serverCertificateHashes``: ECDSA P-256, valid for less than 14 days). A *hop authority* issues
certificates that name an edge by the URI ``spiffe://farcast/edge/REGION/NODE_ID``. Both come with Ed25519
keys out of a seed for the simulator, whose traces must not depend on the length of a signature.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from farcast.errors import EXIT_USAGE, UserError
from farcast.remote import load_certificates

DEV_VALID_DAYS = 12
"""Browsers take a certificate by its hash only if it is valid for at most 14 days."""

CLOCK_SKEW = timedelta(hours=1)
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
SPIFFE_EDGE = "spiffe://farcast/edge/"

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class CertificateError(UserError):
    """A key file is not what it should be; names the file."""

    def __init__(self, message: str) -> None:
        super().__init__(message, EXIT_USAGE)


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate chain (DER, leaf first) and the PKCS#8 key (DER) of its leaf."""

    chain: tuple[bytes, ...]
    key: bytes

    @property
    def sha256(self) -> bytes:
        """SHA-256 of the leaf, as browsers want it in ``serverCertificateHashes``."""
        return hashlib.sha256(self.chain[0]).digest()

    def chain_pem(self) -> bytes:
        """The chain as a PEM file's content."""
        return b"".join(
            x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) for der in self.chain
        )

    def key_pem(self) -> bytes:
        """The key as a PEM file's content."""
        key = serialization.load_der_private_key(self.key, password=None)
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def load_identity(cert: Path, key: Path) -> Identity:
    """The identity in two PEM files; `UserError` names the file that is wrong."""
    chain = load_certificates(cert)
    private = _load_key(key)
    if _public_der(private) != _public_der(x509.load_der_x509_certificate(chain[0])):
        raise CertificateError(f"{key}: is not the key of the first certificate in {cert}")
    return Identity(tuple(chain), _key_der(private))


def edge_name(leaf: bytes) -> tuple[str, str] | None:
    """Region and node id that a hop certificate (DER) names, None if it names no edge."""
    try:
        certificate = x509.load_der_x509_certificate(leaf)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (ValueError, x509.ExtensionNotFound):
        return None
    for uri in names.value.get_values_for_type(x509.UniformResourceIdentifier):
        region, slash, node_id = uri.removeprefix(SPIFFE_EDGE).partition("/")
        if uri.startswith(SPIFFE_EDGE) and region and slash and node_id and "/" not in node_id:
            return region, node_id
    return None


def make_dev_identity(now: datetime, names: Iterable[str] = (), seed: bytes | None = None) -> Identity:
    """A self-signed certificate for this machine's loopback and ``names`` (host names or addresses).

    With a ``seed`` the key is Ed25519 and everything follows from the arguments alone.
    """
    key = _make_key(seed)
    wanted = dict.fromkeys([*LOCAL_NAMES, *names])
    builder = (
        _builder("Farcast development", now, seed)
        .issuer_name(_name("Farcast development"))
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in wanted]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return Identity((_der(builder.sign(key, _algorithm(key))),), _key_der(key))


class HopAuthority:
    """A throw-away authority that issues hop certificates; its key lives in this object only."""

    def __init__(self, now: datetime, seed: bytes | None = None) -> None:
        self._now = now
        self._seed = seed
        self._key = _make_key(seed)
        self._name = _name("Farcast throw-away hop authority")
        certificate = (
            _builder("Farcast throw-away hop authority", now, seed)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(key_cert_sign=True), critical=True)
            .sign(self._key, _algorithm(self._key))
        )
        self.certificate = _der(certificate)

    def issue(self, region: str, node_id: str, names: Iterable[str] = LOCAL_NAMES) -> Identity:
        """The identity of an edge, for both ends of its hops."""
        seed = self._seed and hashlib.sha256(self._seed + f"{region}/{node_id}".encode()).digest()
        key = _make_key(seed)
        alternatives = [
            x509.UniformResourceIdentifier(f"{SPIFFE_EDGE}{region}/{node_id}"),
            *(_general_name(name) for name in names),
        ]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        certificate = (
            _builder(f"Farcast edge {node_id}", self._now, seed)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(key_cert_sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self._key, _algorithm(self._key))
        )
        return Identity((_der(certificate),), _key_der(key))

    def certificate_pem(self) -> bytes:
        """The authority's certificate as a PEM file's content."""
        return Identity((self.certificate,), b"").chain_pem()


# ---- Parts ------------------------------------------------------------------------------------------


def _load_key(file: Path) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise CertificateError(f"{file}: cannot be read: {error.strerror}") from error
    except TypeError as error:
        raise CertificateError(f"{file}: the key is encrypted; decrypt it first (openssl pkey)") from error
    except ValueError as error:
        raise CertificateError(f"{file}: holds no PEM private key (-----BEGIN PRIVATE KEY-----)") from error


def _make_key(seed: bytes | None) -> PrivateKey:
    if seed is None:
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed).digest())


def _algorithm(key: PrivateKey) -> hashes.SHA256 | None:
    """The hash to sign with; Ed25519 has its own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _builder(name: str, now: datetime, seed: bytes | None) -> x509.CertificateBuilder:
    serial = x509.random_serial_number()
    if seed is not None:
        serial = int.from_bytes(hashlib.sha256(b"serial number" + seed).digest()[:16], "big")
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .serial_number(serial)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=DEV_VALID_DAYS))
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def _key_der(key: PrivateKeyTypes) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public_der(holder: x509.Certificate | PrivateKeyTypes) -> bytes:
    return holder.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
