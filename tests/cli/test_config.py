"""``farcast config``: what would be run with, who said so, and no secret among it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from farcast.cli import main

EDGE = """
listen = "127.0.0.1:4500"
log_level = "debug"
dev_cert = true
[auth]
mode = "open"
[[upstream]]
prefix = "live"
url = "moqt://other:4433"
"""

CONTROL = """
state_dir = "state"
[hop]
cert = "c.pem"
key = "c.key"
ca = "ca.pem"
[planner]
loss_max = 0.2
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


def shown(capsys: pytest.CaptureFixture[str], *tokens: str) -> dict[str, dict[str, str]]:
    assert main.run(["config", "show", *tokens, "--json"]) == 0
    found: dict[str, dict[str, str]] = json.loads(capsys.readouterr().out)["settings"]
    return found


def test_each_value_of_an_edge_says_where_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(EDGE)
    monkeypatch.setenv("FARCAST_EDGE_LOG_LEVEL", "warning")
    monkeypatch.setenv("FARCAST_EDGE_DRAIN_MS_MAX", "5000")
    found = shown(capsys, "edge", str(file), "--set", "drain_ms_max=7000")
    assert found["listen"] == {"value": "127.0.0.1:4500", "origin": f"{file}:2"}
    assert found["log_level"] == {"value": "warning", "origin": "environment FARCAST_EDGE_LOG_LEVEL"}
    assert found["drain_ms_max"] == {"value": "7000", "origin": "--drain-ms-max"}
    assert found["ops"] == {"value": "127.0.0.1:4434", "origin": "default"}
    assert found["upstream.0.url"] == {"value": "moqt://other:4433", "origin": f"{file}:9"}
    assert int(found["limits.sessions_max"]["value"]) > 0


def test_upstreams_of_a_flag_replace_those_of_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(EDGE)
    found = shown(capsys, "edge", str(file), "--set", "upstream=tv=moqt://third:4433")
    assert found["upstream.0.url"] == {"value": "moqt://third:4433", "origin": "--upstream"}
    assert found["upstream.0.prefix"]["value"] == "tv"


def test_each_value_of_a_control_plane_says_where_it_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "control.toml"
    file.write_text(CONTROL)
    found = shown(capsys, "control", str(file), "--set", "epoch_min=4")
    assert found["state_dir"] == {"value": str(tmp_path / "state"), "origin": f"{file}:2"}
    assert found["planner.loss_max"] == {"value": "0.2", "origin": f"{file}:8"}
    assert found["epoch_min"] == {"value": "4", "origin": "--epoch-min"}
    assert found["api"] == {"value": "127.0.0.1:4441", "origin": "default"}


def test_what_is_wrong_is_told_as_the_daemon_tells_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('lisen = "127.0.0.1:1"\nops = 3\n')
    assert main.run(["config", "check", "edge", str(file)]) == 2
    err = capsys.readouterr().err
    assert f"{file}:1" in err
    assert "did you mean 'listen'?" in err
    assert f"{file}:2: ops" in err


def test_a_good_file_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(EDGE)
    assert main.run(["config", "check", "edge", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["valid"] is True


def test_a_setting_that_is_none_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["config", "check", "edge", "--set", "listn=1"]) == 2
    assert "did you mean 'listen'?" in capsys.readouterr().err


def test_a_token_in_the_query_of_an_upstream_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(EDGE.replace("moqt://other:4433", "https://other:4433/live?token=hush-hush"))
    assert main.run(["config", "show", "edge", str(file)]) == 0
    out, err = capsys.readouterr()
    assert "hush-hush" not in out + err
    assert "(set, not shown)" in out
