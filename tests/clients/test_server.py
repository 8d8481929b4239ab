"""What the user types about a server, and the errors for what makes no sense."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from farcast.clients.running import cannot_connect
from farcast.clients.server import Server, server_from_options
from farcast.errors import UserError
from farcast.proto.urls import parse_url
from farcast.remote import Trust, load_certificates, resolve


@pytest.mark.parametrize(
    ("text", "target", "authority", "path"),
    [
        ("moqt://edge.example:4433", "quic", "edge.example:4433", ""),
        ("moqt://edge.example/room?x=1", "quic", "edge.example:443", "/room?x=1"),
        ("https://127.0.0.1:4433", "webtransport", "127.0.0.1:4433", "/"),
        ("https://[::1]:4433/a", "webtransport", "[::1]:4433", "/a"),
        ("farcast://fra-1.example:443", "hop", "fra-1.example:443", ""),
    ],
)
def test_a_url_says_what_to_speak_and_where(text: str, target: str, authority: str, path: str) -> None:
    url = parse_url(text)
    assert (url.target, url.authority, url.path) == (target, authority, path)
    assert parse_url(url.whole) == url


def test_a_url_is_shown_without_its_query_which_may_hold_a_token() -> None:
    url = parse_url("https://edge.example/room?jwt=eyJh.eyJp.c2ln")
    assert str(url) == "https://edge.example:443/room?…"
    assert "jwt" not in repr(url)
    with pytest.raises(ValueError, match="no URL") as caught:
        parse_url("edge.example/?jwt=eyJh.eyJp.c2ln")
    assert "eyJ" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("edge.example:4433", "is no URL: write moqt://edge.example:4433"),
        ("http://edge.example", "scheme 'http' is not known"),
        ("moqt://", "the host is missing"),
        ("moqt://edge.example:0", "the port must be a number from 1 to 65535"),
        ("moqt://edge.example:x", "the port must be a number from 1 to 65535"),
        ("moqt://me@edge.example", "user names"),
        ("farcast://edge.example/x", "a hop has no path"),
        ("moqt://[::1", "is no URL"),
    ],
)
def test_a_wrong_url_is_named_with_its_fault(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fault)):
        parse_url(text)


@given(st.text())
def test_no_text_makes_the_url_parser_fail_otherwise(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_url(text)


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"draft": 17}, "--draft 17: Farcast speaks 18 and 16"),
        ({"cert_sha256": "ab"}, "--cert-sha256: 'ab' is not a SHA-256 of 64 hex digits"),
        ({"cert_sha256": "ab" * 32, "insecure": True}, "exclude each other"),
    ],
)
def test_wrong_options_are_usage_errors(options: dict[str, object], fault: str) -> None:
    with pytest.raises(UserError, match=fault) as caught:
        server_from_options("moqt://h", **options)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2


def test_a_hop_is_not_for_clients() -> None:
    with pytest.raises(UserError, match="hops are for edges"):
        server_from_options("farcast://h")


@pytest.mark.parametrize("name", ["nowhere.invalid", "no..name", "label" * 13 + ".invalid"])
def test_a_name_without_an_address_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match=f"the name '{re.escape(name)}' has no address: ") as caught:
        trio.run(resolve, parse_url(f"moqt://{name}"))
    assert "\n" not in caught.value.message


def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    with pytest.raises(UserError, match=r"ca\.pem: cannot be read: No such file"):
        load_certificates(file)
    file.write_text("nothing")
    with pytest.raises(UserError, match=r"ca\.pem: holds no PEM certificate"):
        load_certificates(file)


def test_refusals_for_a_certificate_say_how_to_trust_it() -> None:
    server = Server(parse_url("moqt://h:1"), Trust())
    assert "--cert-sha256" in cannot_connect(server, "invalid peer certificate: UnknownIssuer").message
    assert "--cert-sha256" not in cannot_connect(server, "no common ALPN").message
    assert cannot_connect(server, "no answer from 1.2.3.4:1").message.startswith("no answer from h:1 within")
