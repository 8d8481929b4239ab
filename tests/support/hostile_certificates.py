"""The table of hostile certificates: who shows what to an edge's hop listener or to a control plane.

row                      hop                                control channel
none, self-signed,       TLS alert;                         TLS alert;
another authority,       farcast_tls_handshakes_failed_     handshakes_failed in /status and
expired, not yet valid,  total; the dialling edge logs      farcast_control_events_total; the edge
for servers only         "hop closed" with the alert        logs "control plane not connected"
another role             closed, UNAUTHORIZED;              refused, sessions_refused;
                         farcast_hops_refused_total;        "certificate names no edge"
                         "hop closed" with both names
another node, region     likewise                           Refusal by name, joins_refused
revoked                  likewise, "was revoked"            closed, sessions_refused, "was removed, or
                                                            its certificate revoked"
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from farcast.certificates import (
    CONTROL_DOMAIN,
    LOCAL_NAMES,
    Authority,
    HopAuthority,
    Identity,
    edge_server_name,
)

DAY = timedelta(days=1)


def self_signed(region: str, node_id: str) -> Identity:
    """A certificate that says all the right names, by nobody's authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_id)])
    return _signed(key, subject, subject, key, region, node_id, [ExtendedKeyUsageOID.CLIENT_AUTH])


def for_servers_only(authority: Authority, region: str, node_id: str) -> Identity:
    """Of the right authority, but not good for a client."""
    key = ec.generate_private_key(ec.SECP256R1())
    parsed = x509.load_der_x509_certificate(authority.certificate)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, node_id)])
    ca_key = serialization.load_pem_private_key(authority.key_pem(), None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    usage = [ExtendedKeyUsageOID.SERVER_AUTH]
    return _signed(key, subject, parsed.subject, ca_key, region, node_id, usage)


def at(authority: Authority, begins: datetime, region: str, node_id: str, life: timedelta = DAY) -> Identity:
    """Of the right authority, valid from an hour before ``begins`` for ``life`` from it."""
    key = ec.generate_private_key(ec.SECP256R1())
    der = authority.certify(key.public_key(), region, node_id, begins, life, None)
    return Identity((der,), _key(key))


def control_at(authority: Authority, name: str, life: timedelta) -> Identity:
    """Of a control plane of the right authority, valid from an hour ago for ``life`` from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + life)
    )
    names = [f"{name}.{CONTROL_DOMAIN}", CONTROL_DOMAIN, *LOCAL_NAMES]
    path = f"control/{authority.cluster}/{name}"
    return Identity((authority._sign(builder, key.public_key(), path, names),), _key(key))


def expired(authority: Authority, region: str, node_id: str) -> Identity:
    """Since an hour; as of an edge whose clock is fine and whose renewal is not, or of one an hour behind."""
    return at(authority, datetime.now(UTC) - 2 * timedelta(hours=1), region, node_id, timedelta(hours=1))


def not_yet_valid(authority: Authority, region: str, node_id: str) -> Identity:
    """For another hour; as of an authority whose clock is two hours ahead."""
    return at(authority, datetime.now(UTC) + 2 * timedelta(hours=1), region, node_id)


def foreign(region: str, node_id: str, cluster: str) -> Identity:
    """Of another authority that calls its cluster the same."""
    return HopAuthority(datetime.now(UTC), cluster=cluster).issue(region, node_id)


def refused_by_tls(authority: Authority, region: str, node_id: str) -> dict[str, Identity | None]:
    """Those that no handshake survives."""
    return {
        "none": None,
        "self-signed": self_signed(region, node_id),
        "another authority": foreign(region, node_id, authority.cluster),
        "expired": expired(authority, region, node_id),
        "not yet valid": not_yet_valid(authority, region, node_id),
        "for servers only": for_servers_only(authority, region, node_id),
    }


def _signed(
    key: ec.EllipticCurvePrivateKey,
    subject: x509.Name,
    issuer: x509.Name,
    ca_key: ec.EllipticCurvePrivateKey,
    region: str,
    node_id: str,
    usages: list[x509.ObjectIdentifier],
) -> Identity:
    now = datetime.now(UTC)
    names = [
        x509.UniformResourceIdentifier(f"spiffe://farcast/edge/{region}/{node_id}"),
        x509.DNSName(edge_server_name(node_id)),
    ]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    return Identity((certificate.public_bytes(serialization.Encoding.DER),), _key(key))


def _key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def serial(identity: Identity) -> str:
    """Of its leaf, hexadecimal."""
    return f"{x509.load_der_x509_certificate(identity.chain[0]).serial_number:x}"
