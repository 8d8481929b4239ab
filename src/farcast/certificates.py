"""Certificates: reading them from PEM files, making them, and the names in them.

Two kinds are made here. A *development certificate* is what browsers accept by hash
(``serverCertificateHashes``: ECDSA P-256, valid for less than 14 days). An *authority* issues the
certificates by which the members of one cluster know each other; each names its holder twice:

    role     URI, says who it is                       DNS names, for TLS
    edge     spiffe://farcast/edge/REGION/NODE_ID      NODE_ID.edge.farcast.internal
    control  spiffe://farcast/control/CLUSTER/NAME     NAME.control.farcast.internal, control.farcast.internal

Addresses prove nothing, because any member may be behind a NAT: whoever connects verifies the chain by a DNS
name and then the role by the URI. The last name is in every control certificate, since an edge knows the
addresses of its control plane but not which member of it answers there. The certificate of the authority
itself names its cluster by ``spiffe://farcast/cluster/CLUSTER``.

Keys are ECDSA P-256, or Ed25519 out of a seed for the simulator, whose traces must not depend on the length
of a signature.
"""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from farcast.errors import EXIT_USAGE, UserError
from farcast.proto.control.ranges import is_node_id
from farcast.proto.joining.revocations import Certified
from farcast.remote import load_certificates

DEV_VALID_DAYS = 12
"""Browsers take a certificate by its hash only if it is valid for at most 14 days."""

CLOCK_SKEW = timedelta(hours=1)
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")

CLUSTER_DEV = "dev"
"""Cluster of throw-away authorities."""

AUTHORITY_VALID_DAYS = 3_650
LEAF_VALID_DAYS = 30

_DOMAIN = "farcast.internal"
EDGE_DOMAIN = f"edge.{_DOMAIN}"
CONTROL_DOMAIN = f"control.{_DOMAIN}"
"""Suffix of the DNS names of control planes, and itself a name of each of them."""

_SPIFFE = "spiffe://farcast/"
_CLUSTER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_HOST = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9-]{1,63}(?<!-))*")

_UNREADABLE = (
    ValueError,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey


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
    if _public_der(private) != _public_of(cert, chain[0]):
        raise CertificateError(f"{key}: is not the key of the first certificate in {cert}")
    return Identity(tuple(chain), _key_der(private))


def expiry_unix_s(leaf: bytes) -> float | None:
    """When a certificate (DER) ends, Unix time; ``None`` for what is no certificate."""
    try:
        return x509.load_der_x509_certificate(leaf).not_valid_after_utc.timestamp()
    except (ValueError, x509.InvalidVersion):
        return None


def edge_name(leaf: bytes) -> tuple[str, str] | None:
    """Region and node id that a certificate (DER) names, ``None`` if it names no edge."""
    return _named(leaf, "edge")


def edge_certificate(leaf: bytes) -> Certified | None:
    """What a certificate (DER) says of the edge that it names, ``None`` if it names no edge."""
    named = edge_name(leaf)
    if named is None:
        return None
    parsed = x509.load_der_x509_certificate(leaf)
    return Certified(*named, f"{parsed.serial_number:x}", int(parsed.not_valid_before_utc.timestamp()))


def control_name(leaf: bytes) -> tuple[str, str] | None:
    """Cluster and name that a certificate (DER) names, ``None`` if it names no control plane."""
    return _named(leaf, "control")


def certificate_hosts(leaf: bytes) -> list[str]:
    """The host names and addresses in a certificate (DER) that do not stand for a member."""
    try:
        parsed = x509.load_der_x509_certificate(leaf)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except _UNREADABLE:
        return []
    hosts = [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]
    return [host for host in hosts if not f".{host}".endswith(f".{_DOMAIN}")]


def cluster_name(certificate: bytes) -> str | None:
    """The cluster whose authority a certificate (DER) is, ``None`` if it is none."""
    paths = [path for path in _paths(certificate) if path[0] == "cluster" and len(path) == 2 and path[1]]
    return paths[0][1] if paths else None


def edge_server_name(node_id: str) -> str:
    """The DNS name by which TLS verifies the edge."""
    return f"{node_id}.{EDGE_DOMAIN}"


def make_dev_identity(now: datetime, names: Iterable[str] = (), seed: bytes | None = None) -> Identity:
    """A self-signed certificate for this machine's loopback and ``names`` (host names or addresses).

    With a ``seed`` the key is Ed25519 and everything follows from the arguments alone.
    """
    key = _make_key(seed)
    subject = _name("Farcast", "development")
    wanted = dict.fromkeys([*LOCAL_NAMES, *names])
    builder = (
        _builder(subject, now, seed, DEV_VALID_DAYS)
        .issuer_name(subject)
        .public_key(key.public_key())
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in wanted]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    return Identity((_der(builder.sign(key, _algorithm(key))),), _key_der(key))


class Authority:
    """Issues the certificates of one cluster's members.

    ``certificate`` is its own one (DER), ``now`` the time of issue, ``seed`` makes the keys that it issues
    Ed25519 and reproducible.
    """

    def __init__(
        self,
        certificate: bytes,
        key: PrivateKey,
        cluster: str,
        now: datetime,
        leaf_valid_days: int,
        seed: bytes | None,
    ) -> None:
        self.certificate = certificate
        self.cluster = cluster
        self._key = key
        self._now = now
        self._leaf_valid_days = leaf_valid_days
        self._seed = seed
        self._parsed = x509.load_der_x509_certificate(certificate)

    def issue(self, region: str, node_id: str, names: Iterable[str] = LOCAL_NAMES) -> Identity:
        """The identity of an edge, for both ends of its hops and for its control channel."""
        dns = (edge_server_name(node_id),)
        return self._issue(_name("Farcast edge", node_id), f"edge/{region}/{node_id}", dns, names)

    def issue_control(self, name: str, names: Iterable[str] = LOCAL_NAMES) -> Identity:
        """The identity of a control plane."""
        dns = (f"{name}.{CONTROL_DOMAIN}", CONTROL_DOMAIN)
        return self._issue(_name("Farcast control", name), f"control/{self.cluster}/{name}", dns, names)

    def certify(
        self,
        key: PublicKey,
        region: str,
        node_id: str,
        now: datetime,
        life: timedelta,
        after: datetime | None,
    ) -> bytes:
        """The certificate (DER) of an edge for a key that it made itself; valid from later than ``after``."""
        begins = now - CLOCK_SKEW
        if after is not None and begins <= after:
            begins = after + timedelta(seconds=1)
        ends = min(now + life, self._parsed.not_valid_after_utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name("Farcast edge", node_id))
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
        )
        names = (edge_server_name(node_id), *LOCAL_NAMES)
        return self._sign(builder, key, f"edge/{region}/{node_id}", names)

    def has_issued(self, leaf: bytes) -> bool:
        """Whether a certificate (DER) is of this authority."""
        try:
            x509.load_der_x509_certificate(leaf).verify_directly_issued_by(self._parsed)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def certificate_pem(self) -> bytes:
        """The authority's certificate as a PEM file's content."""
        return Identity((self.certificate,), b"").chain_pem()

    def key_pem(self) -> bytes:
        """The authority's key as a PEM file's content; who has it can be any member."""
        return Identity((), _key_der(self._key)).key_pem()

    def _issue(self, subject: x509.Name, path: str, dns: Iterable[str], names: Iterable[str]) -> Identity:
        seed = self._seed and hashlib.sha256(self._seed + path.encode()).digest()
        key = _make_key(seed)
        end = self._parsed.not_valid_after_utc
        builder = _builder(subject, self._now, seed, self._leaf_valid_days, end)
        certificate = self._sign(builder, key.public_key(), path, [*dns, *names])
        return Identity((certificate,), _key_der(key))

    def _sign(
        self, builder: x509.CertificateBuilder, key: PublicKey, path: str, names: Iterable[str]
    ) -> bytes:
        """A member's certificate (DER), of a builder with subject, serial number and validity."""
        alternatives = [
            x509.UniformResourceIdentifier(_SPIFFE + path),
            *(_general_name(name) for name in dict.fromkeys(names)),
        ]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return _der(
            builder.issuer_name(self._parsed.subject)
            .public_key(key)
            .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(key_cert_sign=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, _algorithm(self._key))
        )


class HopAuthority(Authority):
    """A throw-away authority, for development and simulations; its key lives in this object only."""

    def __init__(
        self,
        now: datetime,
        seed: bytes | None = None,
        cluster: str = CLUSTER_DEV,
        valid_days: int = DEV_VALID_DAYS,
    ) -> None:
        key = _make_key(seed)
        certificate = _authority_certificate(key, cluster, now, seed, valid_days)
        super().__init__(certificate, key, cluster, now, valid_days, seed)


def make_authority(cluster: str, now: datetime) -> Authority:
    """A new authority to be kept; `CertificateError` for a name that no cluster can have."""
    check_cluster(cluster)
    key = _make_key(None)
    certificate = _authority_certificate(key, cluster, now, None, AUTHORITY_VALID_DAYS)
    return Authority(certificate, key, cluster, now, LEAF_VALID_DAYS, None)


def load_authority(cert: Path, key: Path, now: datetime) -> Authority:
    """The authority in two PEM files; `CertificateError` names the one that is wrong."""
    certificate = load_certificates(cert)[0]
    private = _load_key(key)
    parsed = x509.load_der_x509_certificate(certificate)
    if _public_der(private) != _public_of(cert, certificate):
        raise CertificateError(f"{key}: is not the key of the certificate in {cert}")
    cluster = cluster_name(certificate)
    if cluster is None or not isinstance(private, PrivateKey):
        raise CertificateError(f"{cert}: is not a cluster's authority; make one with farcast ca init")
    if parsed.not_valid_after_utc <= now:
        raise CertificateError(
            f"{cert}: has expired on {parsed.not_valid_after_utc:%Y-%m-%d}; make a new authority"
        )
    return Authority(certificate, private, cluster, now, LEAF_VALID_DAYS, None)


# ---- Names ------------------------------------------------------------------------------------------


def check_label(what: str, text: str) -> None:
    """`CertificateError` unless ``text`` can be a region, a node id or a control plane's name."""
    if not is_node_id(text):
        rule = "lower-case letters, digits and hyphens between them, 63 at most"
        raise CertificateError(f"{what} {text!r}: must be {rule}")


def check_cluster(text: str) -> None:
    """`CertificateError` unless ``text`` can be the name of a cluster."""
    if not is_cluster(text):
        rule = "letters, digits, hyphens, underscores and dots, no dot first, 64 at most"
        raise CertificateError(f"cluster {text!r}: must be {rule}")


def is_cluster(text: str) -> bool:
    """Whether this can be the name of a cluster."""
    return _CLUSTER.fullmatch(text) is not None


def check_host(text: str) -> None:
    """`CertificateError` unless ``text`` is an IP address or a host name that does not stand for a member."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(text)
        return
    if _HOST.fullmatch(text) is None:
        raise CertificateError(f"host {text!r}: is neither a host name nor an IP address")
    if f".{text.lower()}".endswith(f".{_DOMAIN}"):
        raise CertificateError(f"host {text!r}: names in {_DOMAIN} stand for members; the role gives them")


def _named(leaf: bytes, role: str) -> tuple[str, str] | None:
    for path in _paths(leaf):
        if path[0] == role and len(path) == 3 and all(path):
            return path[1], path[2]
    return None


def _paths(certificate: bytes) -> list[list[str]]:
    """The paths of the URIs of ours in a certificate (DER); none where it is garbage."""
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except _UNREADABLE:
        return []
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return [uri.removeprefix(_SPIFFE).split("/") for uri in uris if uri.startswith(_SPIFFE)]


# ---- Parts ------------------------------------------------------------------------------------------


def _load_key(file: Path) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise CertificateError(f"{file}: cannot be read: {error.strerror}") from error
    except TypeError as error:
        raise CertificateError(f"{file}: the key is encrypted; decrypt it first (openssl pkey)") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"{file}: holds no PEM private key (-----BEGIN PRIVATE KEY-----)") from error


def _public_of(file: Path, certificate: bytes) -> bytes:
    """The public key in a certificate (DER) of a file; `CertificateError` where it is none."""
    try:
        return _public_der(x509.load_der_x509_certificate(certificate))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CertificateError(
            f"{file}: the key in its certificate cannot be read; is it damaged?"
        ) from error


def _make_key(seed: bytes | None) -> PrivateKey:
    if seed is None:
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.from_private_bytes(hashlib.sha256(seed).digest())


def _algorithm(key: PrivateKey) -> hashes.SHA256 | None:
    """The hash to sign with; Ed25519 has its own."""
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _authority_certificate(
    key: PrivateKey, cluster: str, now: datetime, seed: bytes | None, valid_days: int
) -> bytes:
    """The self-signed certificate (DER) of a cluster's authority."""
    subject = _name("Farcast authority", cluster)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"{_SPIFFE}cluster/{cluster}")])
    certificate = (
        _builder(subject, now, seed, valid_days)
        .issuer_name(subject)
        .public_key(key.public_key())
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, _algorithm(key))
    )
    return _der(certificate)


def _builder(
    subject: x509.Name, now: datetime, seed: bytes | None, valid_days: int, end: datetime | None = None
) -> x509.CertificateBuilder:
    """Subject, serial number and validity, which never goes beyond ``end``."""
    serial = x509.random_serial_number()
    if seed is not None:
        serial = int.from_bytes(hashlib.sha256(b"serial number" + seed).digest()[:16], "big")
    valid_until = now + timedelta(days=valid_days)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .serial_number(serial)
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(valid_until if end is None else min(valid_until, end))
    )


def _name(kind: str, text: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, kind), x509.NameAttribute(NameOID.COMMON_NAME, text)]
    )


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
