"""Certificates as the control plane's authority makes them: names from the admission, no others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from farcast.certificates import (
    CLOCK_SKEW,
    HopAuthority,
    cluster_name,
    control_name,
    edge_certificate,
    edge_name,
    make_authority,
)
from farcast.control_plane.certifying import certifier, open_authority
from farcast.control_plane.issuing import CLOCK_SKEW_SECONDS, Certificate
from farcast.control_plane.trust_book import Admission
from farcast.errors import UserError
from farcast.signing import is_certificate_of, life_of, make_key

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SIN = Admission("sin", "sin-1")


def request(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *uris: str) -> bytes:
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fra-1")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(names, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def certify(csr: bytes, after_unix_s: int | None = None) -> Certificate | str:
    return certifier(make_authority("shows", NOW), timedelta(hours=3), lambda: NOW)(csr, SIN, after_unix_s)


def test_a_request_that_names_others_gets_the_names_of_its_token_and_is_no_authority() -> None:
    csr = request(
        ec.generate_private_key(ec.SECP256R1()),
        "spiffe://farcast/control/shows/c1",
        "spiffe://farcast/edge/fra/fra-1",
        "spiffe://farcast/cluster/shows",
    )
    issued = certify(csr)
    assert isinstance(issued, Certificate)
    assert edge_name(issued.der) == ("sin", "sin-1")
    assert control_name(issued.der) is None
    assert cluster_name(issued.der) is None
    parsed = x509.load_der_x509_certificate(issued.der)
    assert not parsed.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert "fra-1" not in parsed.subject.rfc4514_string()


def test_a_certificate_lives_as_long_as_it_should_and_is_for_the_key_that_asked() -> None:
    authority = make_authority("shows", NOW)
    key = make_key()
    issued = certifier(authority, timedelta(hours=3), lambda: NOW)(key.request, SIN, None)
    assert isinstance(issued, Certificate)
    life = life_of(issued.der)
    assert (life.issued_unix_s, life.seconds) == (NOW.timestamp(), 3 * 3_600)
    assert is_certificate_of(issued.der, key.key, (authority.certificate,))
    assert not is_certificate_of(issued.der, make_key().key, (authority.certificate,))
    assert not is_certificate_of(issued.der, key.key, (HopAuthority(NOW).certificate,))


def test_a_certificate_after_a_revocation_begins_later_even_in_the_same_second() -> None:
    assert CLOCK_SKEW.total_seconds() == CLOCK_SKEW_SECONDS
    until = int(NOW.timestamp()) - CLOCK_SKEW_SECONDS
    issued = certify(make_key().request, until)
    assert isinstance(issued, Certificate)
    certified = edge_certificate(issued.der)
    assert certified is not None
    assert certified.begins_unix_s == until + 1


def test_requests_that_prove_nothing_are_refused_in_a_sentence() -> None:
    csr = make_key().request
    assert certify(b"") == certify(csr[:-3]) == "the signing request is damaged"
    assert certify(csr[:-1] + bytes([csr[-1] ^ 1])) == "the signing request is not signed with its key"
    weak = request(rsa.generate_private_key(65_537, 1_024), "spiffe://farcast/edge/sin/sin-1")
    assert certify(weak) == "the key is neither P-256 nor Ed25519"


def test_an_authority_that_is_not_ours_is_refused_at_the_start(tmp_path: Path) -> None:
    authority = make_authority("shows", NOW)
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem())
    (tmp_path / "ca.key").write_bytes(authority.key_pem())
    assert open_authority(tmp_path, "shows", [authority.certificate], NOW).cluster == "shows"
    with pytest.raises(UserError, match="is of cluster 'shows', this control plane of 'other'"):
        open_authority(tmp_path, "other", [authority.certificate], NOW)
    with pytest.raises(UserError, match="is not in --hop-ca"):
        open_authority(tmp_path, "shows", [HopAuthority(NOW).certificate], NOW)
    (tmp_path / "ca.key").unlink()
    with pytest.raises(UserError, match=r"ca\.key: cannot be read"):
        open_authority(tmp_path, "shows", [authority.certificate], NOW)
