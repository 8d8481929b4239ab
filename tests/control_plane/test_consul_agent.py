"""How Consul is spoken to: what is wrong with the files is one line, and no token is shown."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest

from farcast.certificates import make_authority
from farcast.control_plane.config import ConsulAddress, ControlConfig, load_config
from farcast.control_plane.registry.consul_agent import open_agent
from farcast.errors import UserError


def config(directory: Path, **flags: str) -> ControlConfig:
    needed = {"state_dir": "state", "hop.cert": "c", "hop.key": "k", "hop.ca": "a"}
    named = {name: str(directory / value) if name != "consul" else value for name, value in flags.items()}
    return load_config(None, {**needed, **named})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8500", ConsulAddress("127.0.0.1", 8500)),
        ("http://consul.internal:8500", ConsulAddress("consul.internal", 8500)),
        ("https://consul.internal:8501/", ConsulAddress("consul.internal", 8501, tls=True)),
        ("https://[::1]:8501", ConsulAddress("::1", 8501, tls=True)),
    ],
)
def test_consul_is_named_by_host_and_port_or_by_a_url(
    tmp_path: Path, text: str, address: ConsulAddress
) -> None:
    assert config(tmp_path, consul=text).consul == address


@pytest.mark.parametrize(
    "text",
    [
        "consul",
        "ftp://consul:8500",
        "https://consul",
        "http://me:secret@consul:8500",
        "consul:8500/v1",
        "a b:1",
        "c:0",
    ],
)
def test_an_address_that_is_none_is_a_line_that_shows_the_form(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="HOST:PORT or https://HOST:PORT") as caught:
        config(tmp_path, consul=text)
    assert "secret" not in caught.value.message


def test_tls_trusts_the_authority_that_is_given_and_checks_the_name(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(make_authority("consul", datetime.now(UTC)).certificate_pem())
    agent = open_agent(config(tmp_path, consul="https://consul.internal:8501", consul_ca="ca.pem"))
    assert agent.tls is not None
    assert agent.tls.check_hostname
    assert agent.tls.verify_mode == ssl.CERT_REQUIRED
    assert len(agent.tls.get_ca_certs()) == 1, "and nobody else"


def test_a_client_certificate_is_shown_where_one_is_given(tmp_path: Path) -> None:
    identity = make_authority("consul", datetime.now(UTC)).issue_control("c1")
    (tmp_path / "c.pem").write_bytes(identity.chain_pem())
    (tmp_path / "c.key").write_bytes(identity.key_pem())
    files = {"consul_cert": "c.pem", "consul_key": "c.key"}
    assert open_agent(config(tmp_path, consul="https://127.0.0.1:8501", **files)).tls is not None


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ({"consul_ca": "ca.pem"}, "--consul-ca is for TLS, and http://127.0.0.1:8500 is none"),
        ({"consul": "https://c:1", "consul_cert": "c.pem"}, "--consul-cert and --consul-key belong together"),
        (
            {"consul": "https://c:1", "consul_ca": "none.pem"},
            "none.pem: of no use for TLS to Consul: No such file",
        ),
        ({"consul": "https://c:1", "consul_ca": "text"}, "text: of no use for TLS to Consul: no certificate"),
        (
            {"consul": "https://c:1", "consul_cert": "text", "consul_key": "text"},
            "text: of no use for TLS to Consul",
        ),
        ({"consul_token_file": "none"}, "none: the token of Consul cannot be read"),
        ({"consul_token_file": "empty"}, "empty: holds no token of Consul"),
    ],
)
def test_a_file_that_is_of_no_use_is_one_line(tmp_path: Path, flags: dict[str, str], line: str) -> None:
    (tmp_path / "text").write_text("not PEM\n")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(UserError) as caught:
        open_agent(config(tmp_path, **flags))
    assert line in caught.value.message
    assert "\n" not in caught.value.message


def test_a_token_that_would_cross_a_network_in_the_clear_is_remarked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("0f5c1d9e-secret\n")
    agent = open_agent(config(tmp_path, consul="192.0.2.7:8500", consul_token_file="token"))
    shown = capsys.readouterr()
    assert "in the clear" in shown.out + shown.err
    assert agent.token == "0f5c1d9e-secret"
    assert "0f5c1d9e-secret" not in shown.out + shown.err + repr(agent)
    open_agent(config(tmp_path, consul="127.0.0.1:8500", consul_token_file="token"))
    assert "in the clear" not in "".join(capsys.readouterr())
