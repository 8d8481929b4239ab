"""Certificates: what is made is what browsers and hops take, and what is read is checked."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from farcast.certificates import (
    CONTROL_DOMAIN,
    HopAuthority,
    Identity,
    cluster_name,
    control_name,
    edge_name,
    edge_server_name,
    load_identity,
    make_dev_identity,
)
from farcast.errors import UserError
from farcast.remote import load_certificates

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def write(folder: Path, identity: Identity) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(identity.chain_pem())
    key.write_bytes(identity.key_pem())
    return cert, key


def leaf(identity: Identity) -> x509.Certificate:
    return x509.load_der_x509_certificate(identity.chain[0])


def test_dev_certificate_meets_the_rules_of_server_certificate_hashes() -> None:
    certificate = leaf(make_dev_identity(NOW))
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert certificate.not_valid_after_utc - certificate.not_valid_before_utc < timedelta(days=14)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_hash_is_that_of_the_der_certificate() -> None:
    identity = make_dev_identity(NOW)
    assert hashlib.sha256(identity.chain[0]).digest() == identity.sha256


def test_files_written_are_read_back_the_same(tmp_path: Path) -> None:
    identity = HopAuthority(NOW).issue("eu", "fra-1")
    assert identity == load_identity(*write(tmp_path, identity))


def test_hop_certificate_names_its_edge_and_chains_to_the_authority(tmp_path: Path) -> None:
    authority = HopAuthority(NOW)
    identity = authority.issue("eu", "fra-1")
    assert edge_name(identity.chain[0]) == ("eu", "fra-1")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.certificate_pem())
    assert [authority.certificate] == load_certificates(ca)
    leaf(identity).verify_directly_issued_by(x509.load_der_x509_certificate(authority.certificate))


def test_roles_are_told_apart() -> None:
    authority = HopAuthority(NOW, cluster="shows")
    control, edge = authority.issue_control("c1").chain[0], authority.issue("eu", "fra-1").chain[0]
    names = (edge_name, control_name, cluster_name)
    assert [name(control) for name in names] == [None, ("shows", "c1"), None]
    assert [name(edge) for name in names] == [("eu", "fra-1"), None, None]
    assert [name(authority.certificate) for name in names] == [None, None, "shows"]


def test_members_have_dns_names_that_do_not_depend_on_their_address() -> None:
    authority = HopAuthority(NOW)
    for identity, wanted in (
        (authority.issue("eu", "fra-1", ()), [edge_server_name("fra-1")]),
        (authority.issue_control("c1", ()), ["c1.control.farcast.internal", CONTROL_DOMAIN]),
    ):
        names = leaf(identity).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == wanted
    assert edge_server_name("fra-1") == "fra-1.edge.farcast.internal"


def test_ordinary_certificate_and_garbage_name_nobody() -> None:
    for certificate in (make_dev_identity(NOW).chain[0], b"garbage", b""):
        assert edge_name(certificate) is None
        assert control_name(certificate) is None
        assert cluster_name(certificate) is None


def test_tls_handshake_between_hop_certificates_succeeds_in_openssl(tmp_path: Path) -> None:
    authority = HopAuthority(datetime.now(UTC))
    cert, key = write(tmp_path, authority.issue("eu", "fra-1"))
    ends = []
    for protocol in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER):
        context = ssl.SSLContext(protocol)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(cert, key)
        context.load_verify_locations(cadata=authority.certificate)
        ends.append(context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ends[0].wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    server = ends[1].wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    assert client.version() == "TLSv1.3"
    assert server.getpeercert() is not None


def test_a_seed_makes_everything_reproducible() -> None:
    authority = HopAuthority(NOW, seed=b"1")
    first, control = authority.issue("eu", "fra-1"), authority.issue_control("c1")
    assert first == HopAuthority(NOW, seed=b"1").issue("eu", "fra-1")
    assert control == HopAuthority(NOW, seed=b"1").issue_control("c1")
    assert first != HopAuthority(NOW, seed=b"2").issue("eu", "fra-1")
    assert make_dev_identity(NOW, seed=b"1") == make_dev_identity(NOW, seed=b"1")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pem: cannot be read: No such file"):
        load_certificates(tmp_path / "none.pem")


def test_cert_and_key_swapped_are_named(tmp_path: Path) -> None:
    cert, key = write(tmp_path, make_dev_identity(NOW))
    with pytest.raises(UserError, match=r"key\.pem: holds no PEM certificate"):
        load_identity(key, cert)
    with pytest.raises(UserError, match=r"cert\.pem: holds no PEM private key"):
        load_identity(cert, cert)


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    cert, key = write(tmp_path, make_dev_identity(NOW))
    key.write_bytes(make_dev_identity(NOW).key_pem())
    with pytest.raises(UserError, match=r"key\.pem: is not the key of the first certificate"):
        load_identity(cert, key)
