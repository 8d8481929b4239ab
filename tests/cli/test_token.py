"""``farcast token``: keys and tokens that open a cluster, and one line for what would not."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest

from farcast.cli import main


def run(*tokens: str | Path) -> int:
    return main.run([str(token) for token in tokens])


@pytest.fixture
def key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    file = tmp_path / "shop.jwk"
    assert run("token", "key", file, "--key-id", "shop-1") == 0
    capsys.readouterr()
    return file


def issued(key: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    options = more or ("--watch", "live/room1")
    assert run("token", "issue", "--key", key, "--cluster", "shows", *options) == 0
    return capsys.readouterr().out.strip()


def refused(capsys: pytest.CaptureFixture[str], *tokens: str | Path) -> str:
    assert run(*tokens) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    [line] = captured.err.splitlines()
    return line


def test_a_key_is_its_owners_and_its_public_half_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "shop.jwk"
    assert run("token", "key", file) == 0
    public = json.loads(capsys.readouterr().out)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    private = json.loads(file.read_bytes())
    assert public == {name: private[name] for name in ("kty", "crv", "kid", "x")}
    assert "d" in private
    assert run("token", "key", file) == 1
    assert "--force replaces" in capsys.readouterr().err
    assert json.loads(file.read_bytes()) == private


def test_a_token_opens_its_cluster_and_no_other(key: Path, capsys: pytest.CaptureFixture[str]) -> None:
    token = issued(key, capsys, "--publish", "live/a", "--watch", "live/a", "live/b", "--subject", "ann")
    assert run("token", "inspect", token, "--key", key, "--cluster", "shows", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["header"]["kid"], shown["claims"]["sub"]) == ("shop-1", "ann")
    assert [scope["namespace"] for scope in shown["claims"]["scope"]] == [
        ["live", "a"],
        ["live", "a"],
        ["live", "b"],
    ]
    assert shown["claims"]["exp"] - shown["claims"]["iat"] == 900
    assert (shown["verified"], shown["fault"]) == (True, "")
    assert run("token", "inspect", token, "--key", key, "--cluster", "tests") == 1
    assert "for another cluster" in capsys.readouterr().out


def test_a_token_may_be_read_from_standard_input(
    key: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = issued(key, capsys, "--watch", "/", "--valid", "1d")
    monkeypatch.setattr("sys.stdin", io.StringIO(token + "\n"))
    assert run("token", "inspect", "-") == 0
    out = capsys.readouterr().out
    assert "not verified" in out
    assert "shop-1" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "allows nothing"),
        (("--watch", ""), "no namespace"),
        (("--watch", "a/" * 40), "namespace fields"),
        (("--watch", "a", "--valid", "2d"), "--valid '2d'"),
        (("--watch", "a", "--valid", "0s"), "--valid '0s'"),
        (("--watch", "a", "--valid", "soon"), "--valid 'soon'"),
        (("--watch", "a", "--subject", "a\nb"), "sub is not a text"),
        (("--watch", *"abcdefghijklmnopq"), "scope: a list of 1 to 16"),
    ],
)
def test_a_token_that_would_be_refused_is_not_made(
    key: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], said: str
) -> None:
    assert said in refused(capsys, "token", "issue", "--key", key, "--cluster", "shows", *options)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[1]", b"\xff", b'{"kty":"OKP","crv":"X25519","x":"","d":"","kid":"a"}']
)
def test_what_is_no_key_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    file = tmp_path / "bad.jwk"
    file.write_bytes(content)
    line = refused(capsys, "token", "issue", "--key", file, "--cluster", "shows", "--watch", "a")
    assert str(file) in line
    assert "farcast token key makes one" in line
    missing = refused(capsys, "token", "issue", "--key", tmp_path / "none", "--cluster", "s", "--watch", "a")
    assert "No such file" in missing


def test_what_is_no_token_or_half_a_question_is_refused(
    key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not a signed JWT" in refused(capsys, "token", "inspect", "hello")
    assert "give both" in refused(capsys, "token", "inspect", "a.b.c", "--key", key)
    assert "key id 'a b'" in refused(capsys, "token", "key", key.with_name("x"), "--key-id", "a b")
