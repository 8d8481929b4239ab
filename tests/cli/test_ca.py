"""``farcast ca``: what it writes can be used, and what it refuses leaves the files as they were."""

from __future__ import annotations

import json
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from farcast.certificates import control_name, edge_name, load_authority, load_identity, make_authority
from farcast.cli import main
from farcast.remote import load_certificates


def run(*tokens: str | Path) -> int:
    return main.run([str(token) for token in tokens])


def refused(capsys: pytest.CaptureFixture[str], *tokens: str | Path) -> str:
    """The one line that a command was refused with."""
    capsys.readouterr()
    assert run(*tokens) in (1, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    return line


def init(folder: Path, cluster: str = "shows") -> Path:
    assert run("ca", "init", "--dir", folder, "--cluster", cluster) == 0
    return folder


def edge(authority: Path, out: Path, *more: str) -> tuple[str | Path, ...]:
    who = ("--role", "edge", "--region", "sin", "--node-id", "sin-1")
    return ("ca", "issue", "--dir", authority, *who, "--out", out, *more)


def control(authority: Path, out: Path, *more: str) -> tuple[str | Path, ...]:
    return ("ca", "issue", "--dir", authority, "--role", "control", "--name", "c1", "--out", out, *more)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def leaf(file: Path) -> x509.Certificate:
    return x509.load_der_x509_certificate(load_certificates(file)[0])


def test_an_edge_and_a_control_plane_prove_themselves_to_each_other(tmp_path: Path) -> None:
    authority, out = init(tmp_path / "ca"), tmp_path / "certs"
    assert run(*edge(authority, out)) == 0
    assert run(*control(authority, out)) == 0
    ends = []
    for protocol, name in ((ssl.PROTOCOL_TLS_CLIENT, "sin-1"), (ssl.PROTOCOL_TLS_SERVER, "c1")):
        context = ssl.SSLContext(protocol)
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(out / f"{name}.pem", out / f"{name}.key")
        context.load_verify_locations(out / "ca.pem")
        ends.append(context)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = ends[0].wrap_bio(to_client, to_server, server_hostname="control.farcast.internal")
    server = ends[1].wrap_bio(to_server, to_client, server_side=True)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    found = server.getpeercert(binary_form=True), client.getpeercert(binary_form=True)
    assert edge_name(found[0] or b"") == ("sin", "sin-1")
    assert control_name(found[1] or b"") == ("shows", "c1")


def test_keys_are_p256_and_only_their_owner_may_read_them(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        authority = init(tmp_path / "ca")
        assert run(*edge(authority, tmp_path)) == 0
    finally:
        os.umask(old)
    for name in ("ca/ca.key", "sin-1.key"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    key = leaf(tmp_path / "sin-1.pem").public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    load_identity(tmp_path / "sin-1.pem", tmp_path / "sin-1.key")


def test_authorities_are_valid_for_ten_years_and_leaves_for_thirty_days(tmp_path: Path) -> None:
    authority = init(tmp_path / "ca")
    assert run(*edge(authority, tmp_path)) == 0
    now, hour = datetime.now(UTC), timedelta(hours=1)
    for file, days in ((authority / "ca.pem", 3_650), (tmp_path / "sin-1.pem", 30)):
        assert abs(leaf(file).not_valid_after_utc - now - timedelta(days=days)) < hour
        assert leaf(file).not_valid_before_utc <= now


def test_a_leaf_does_not_outlive_its_authority(tmp_path: Path) -> None:
    authority = init(tmp_path / "ca")
    end = leaf(authority / "ca.pem").not_valid_after_utc
    late = load_authority(authority / "ca.pem", authority / "ca.key", end - timedelta(days=1))
    issued = x509.load_der_x509_certificate(late.issue("sin", "sin-1").chain[0])
    assert issued.not_valid_after_utc == end


def test_hosts_are_added_to_the_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = init(tmp_path / "ca")
    assert run(*control(authority, tmp_path, "--host", "c1.example", "--host", "192.0.2.7")) == 0
    capsys.readouterr()
    assert run("ca", "show", tmp_path / "c1.pem", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["role"], facts["cluster"], facts["name"]) == ("control", "shows", "c1")
    assert facts["names"] == [
        "c1.control.farcast.internal",
        "control.farcast.internal",
        "localhost",
        "c1.example",
        "127.0.0.1",
        "::1",
        "192.0.2.7",
    ]
    assert facts["expired"] is False


def test_show_tells_an_authority_from_an_edge(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = init(tmp_path / "ca")
    assert run(*edge(authority, tmp_path)) == 0
    capsys.readouterr()
    assert run("ca", "show", tmp_path / "ca.pem") == 0
    assert "role\tauthority\ncluster\tshows\n" in capsys.readouterr().out
    assert run("ca", "show", tmp_path / "sin-1.pem") == 0
    assert "role\tedge\nregion\tsin\nnode_id\tsin-1\n" in capsys.readouterr().out
    assert "no PEM certificate" in refused(capsys, "ca", "show", tmp_path / "sin-1.key")
    assert "cannot be read" in refused(capsys, "ca", "show", tmp_path / "none.pem")


def test_nothing_is_overwritten_without_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority, out = init(tmp_path / "ca"), tmp_path / "certs"
    assert run(*edge(authority, out)) == 0
    before = contents(authority), contents(out)
    again = ("ca", "init", "--dir", authority, "--cluster", "shows")
    assert "ca.pem" in refused(capsys, *again)
    assert "--force" in refused(capsys, *edge(authority, out))
    assert (contents(authority), contents(out)) == before
    assert run(*edge(authority, out, "--force")) == 0
    assert contents(out)["sin-1.pem"] != before[1]["sin-1.pem"]
    assert contents(out)["ca.pem"] == before[1]["ca.pem"]
    assert run(*again, "--force") == 0
    assert contents(authority)["ca.pem"] != before[0]["ca.pem"]


def test_certificates_of_two_authorities_do_not_mix_in_one_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, out = init(tmp_path / "1"), init(tmp_path / "2"), tmp_path / "certs"
    assert run(*edge(first, out)) == 0
    assert f"{out / 'ca.pem'}: there already" in refused(capsys, *control(second, out))
    assert "another authority" in refused(capsys, *control(second, first, "--force"))


def test_a_member_called_ca_cannot_take_the_place_of_the_authority(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = init(tmp_path / "ca")
    before = contents(authority)
    who = ("--role", "control", "--name", "ca", "--force")
    assert "'ca'" in refused(capsys, "ca", "issue", "--dir", authority, "--out", authority, *who)
    assert contents(authority) == before


@pytest.mark.parametrize(
    ("who", "complaint"),
    [
        (("--role", "edge", "--region", "sin", "--node-id", "Sin_1"), "--node-id 'Sin_1'"),
        (("--role", "edge", "--region", "../sin", "--node-id", "sin-1"), "--region '../sin'"),
        (("--role", "edge", "--region", "sin", "--node-id", "s" * 64), "63 at most"),
        (("--role", "edge", "--region", "sin"), "needs --region and --node-id"),
        (("--role", "edge", "--region", "sin", "--node-id", "sin-1", "--name", "x"), "no --name"),
        (("--role", "control", "--name", "c1/x"), "--name 'c1/x'"),
        (("--role", "control"), "needs --name"),
        (("--role", "control", "--name", "c1", "--region", "sin"), "no --region"),
        (("--role", "root", "--name", "c1"), "--role"),
        (("--role", "control", "--name", "c1", "--host", "a b"), "host 'a b'"),
        (("--role", "control", "--name", "c1", "--host", "münchen.example"), "host 'münchen.example'"),
        (("--role", "control", "--name", "c1", "--host", "a-.example"), "host 'a-.example'"),
        (("--role", "control", "--name", "c1", "--host", ""), "host ''"),
        (("--role", "control", "--name", "c1", "--host", "Sin-1.Edge.farcast.internal"), "stand for members"),
    ],
)
def test_what_names_nobody_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], who: tuple[str, ...], complaint: str
) -> None:
    authority, out = init(tmp_path / "ca"), tmp_path / "certs"
    assert complaint in refused(capsys, "ca", "issue", "--dir", authority, "--out", out, *who)
    assert not out.exists()


@pytest.mark.parametrize("cluster", ["", "a/b", ".", "ü", "x" * 65])
def test_what_names_no_cluster_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], cluster: str
) -> None:
    line = refused(capsys, "ca", "init", "--dir", tmp_path / "ca", "--cluster", cluster)
    assert f"cluster {cluster!r}" in line
    assert not (tmp_path / "ca").exists()


def test_the_longest_names_fit(tmp_path: Path) -> None:
    authority = init(tmp_path / "ca", "x" * 64)
    who = ("--role", "edge", "--region", "r" * 63, "--node-id", "n" * 63)
    assert run("ca", "issue", "--dir", authority, "--out", tmp_path, *who) == 0
    assert run(*control(authority, tmp_path)) == 0
    assert edge_name(load_certificates(tmp_path / f"{'n' * 63}.pem")[0]) == ("r" * 63, "n" * 63)
    assert control_name(load_certificates(tmp_path / "c1.pem")[0]) == ("x" * 64, "c1")


def test_a_folder_that_is_none_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority, file = init(tmp_path / "ca"), tmp_path / "file"
    file.write_bytes(b"")
    assert str(file) in refused(capsys, *edge(authority, file))
    assert str(file) in refused(capsys, "ca", "init", "--dir", file, "--cluster", "shows")
    assert "ca.pem: cannot be read" in refused(capsys, *edge(tmp_path / "nowhere", tmp_path))


def test_a_foreign_key_and_a_certificate_that_is_no_authority_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority, out = init(tmp_path / "ca"), tmp_path / "certs"
    assert run(*edge(authority, out)) == 0
    (authority / "ca.key").write_bytes((init(tmp_path / "other") / "ca.key").read_bytes())
    assert "ca.key: is not the key of" in refused(capsys, *control(authority, out))
    for kind in ("pem", "key"):
        (authority / f"ca.{kind}").write_bytes((out / f"sin-1.{kind}").read_bytes())
    assert "ca.pem: is not a cluster's authority" in refused(capsys, *control(authority, out))


def test_an_expired_authority_issues_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = make_authority("shows", datetime.now(UTC) - timedelta(days=3_651))
    (tmp_path / "ca.pem").write_bytes(old.certificate_pem())
    (tmp_path / "ca.key").write_bytes(old.key_pem())
    assert "ca.pem: has expired" in refused(capsys, *edge(tmp_path, tmp_path))


def test_a_renewed_certificate_has_the_same_names_and_a_key_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority, out = init(tmp_path / "ca"), tmp_path / "certs"
    assert run(*edge(authority, out, "--host", "sin.example")) == 0
    assert run(*control(authority, out)) == 0
    for name, who in (("sin-1", edge_name), ("c1", control_name)):
        file = out / f"{name}.pem"
        before, key = load_certificates(file)[0], (out / f"{name}.key").read_bytes()
        assert run("ca", "renew", file, "--dir", authority) == 0
        after = load_identity(file, out / f"{name}.key").chain[0]
        assert who(after) == who(before) is not None
        old, new = (x509.load_der_x509_certificate(der) for der in (before, after))
        names = [c.extensions.get_extension_for_class(x509.SubjectAlternativeName).value for c in (old, new)]
        assert set(names[0]) == set(names[1])
        assert old.serial_number != new.serial_number
        assert (out / f"{name}.key").read_bytes() != key
    other = init(tmp_path / "other")
    line = refused(capsys, "ca", "renew", out / "c1.pem", "--dir", other)
    assert "was not issued by the authority in" in line
    assert "name an edge, or give --serial HEX" in refused(capsys, "ca", "revoke")
