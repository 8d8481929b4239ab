"""The command line: exit codes, one-line errors, data on stdout and nothing else there."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from farcast.cli import doctor, main
from farcast.errors import UserError


def run(*tokens: str) -> int:
    return main.run(tokens)


def test_help_groups_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert [text.index(word) for word in ("Run", "Media", "Trust", "Check")] == sorted(
        text.index(word) for word in ("Run", "Media", "Trust", "Check")
    )
    for command in ("edge", "dev", "publish", "watch", "ca", "doctor", "version"):
        assert command in text
    assert "relay media" in text


def test_a_commands_own_help_is_its_whole_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("dev", "--help") == 0
    assert "Insecure" in capsys.readouterr().out


@pytest.mark.parametrize(
    "tokens",
    [
        ("watch", "moqt://127.0.0.1:1", "--namespace", "a", "--seconds", "nan"),
        ("watch", "moqt://127.0.0.1:1", "--namespace", "a", "--timeout", "-1"),
        ("publish", "testsrc", "moqt://127.0.0.1:1", "--namespace", "a", "--seconds", "0"),
        ("dev", "--seconds", "-1"),
        ("dev", "--cut-after", "-1"),
    ],
)
def test_a_length_of_time_that_is_none_is_refused(
    tokens: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*tokens) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_lone_hyphen_is_standard_input() -> None:
    command = [sys.executable, "-P", "-c", "from farcast.cli.main import main; main()"]
    publish = ["publish", "-", "moqt://127.0.0.1:1", "--namespace", "a"]
    done = subprocess.run(
        [*command, *publish], input=b"no film", capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"farcast: ")
    assert b"standard input" in done.stderr


@pytest.mark.parametrize("command", ["edge", "dev", "publish", "watch", "ca", "sim", "doctor", "version"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    assert "Usage: farcast " + command in capsys.readouterr().out


@pytest.mark.parametrize(
    "tokens", [("edgee",), ("edge", "--listn", "127.0.0.1:1"), ("version", "surplus"), ("watch",)]
)
def test_wrong_usage_is_exit_code_2(tokens: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*tokens) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err


def test_version_as_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("version", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["drafts"] == [18, 16]
    assert {"version", "core", "python"} <= facts.keys()


def test_doctor_as_json_holds_every_check(capsys: pytest.CaptureFixture[str]) -> None:
    code = run("doctor", "--json")
    report = json.loads(capsys.readouterr().out)
    assert len(report["checks"]) == len(doctor.CHECKS)
    assert code == (0 if report["passed"] else 1)
    for check in report["checks"]:
        assert check["result"] == "ok" or check["fix"]


def test_doctor_without_a_core_fails_and_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "core_version", lambda: None)
    finding = doctor.check_core()
    assert finding.result == "fail"
    assert "make" in finding.fix


def test_a_wrong_configuration_is_exit_code_2_and_a_line_per_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "edge.toml"
    file.write_text('lisen = "127.0.0.1:1"\ndev_cert = true\nauth.mode = "open"\n')
    assert run("edge", "--config", str(file), "--drafts", "17") == 2
    assert capsys.readouterr().err.splitlines() == [
        f"farcast: {file}:1: unknown key 'lisen'; did you mean 'listen'?",
        "farcast: --drafts: drafts: must be a list out of 18, 16, most wanted first, not [17]",
    ]


def test_a_busy_port_is_exit_code_1_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        ops = f"127.0.0.1:{busy.getsockname()[1]}"
        assert run("edge", "--dev-cert", "--auth", "open", "--listen", "127.0.0.1:0", "--ops", ops) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"farcast: cannot listen on TCP {ops}: it is in use")


def test_errors_inside_nurseries_are_shown_like_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(tokens: object) -> int:
        raise ExceptionGroup("outer", [ExceptionGroup("inner", [UserError("it broke", 2)])])

    monkeypatch.setattr(main, "_run", fail)
    assert run() == 2
    assert capsys.readouterr().err == "farcast: it broke\n"


def test_interruption_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(tokens: object) -> int:
        raise BaseExceptionGroup("nursery", [KeyboardInterrupt()])

    monkeypatch.setattr(main, "_run", interrupt)
    assert run() == 130


def test_a_defect_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tokens: object) -> int:
        raise ExceptionGroup("nursery", [UserError("it broke"), ZeroDivisionError()])

    monkeypatch.setattr(main, "_run", fail)
    with pytest.raises(ExceptionGroup):
        run()
