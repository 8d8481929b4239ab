"""``farcast completion``: scripts that the shells themselves accept, with the verbs in them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from farcast.cli import main

CHECKS = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}


@pytest.mark.parametrize("shell", CHECKS)
def test_a_script_names_the_verbs_and_their_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("publish", "links", "export", "state-dir", "completion"):
        assert word in out


@pytest.mark.parametrize("shell", CHECKS)
def test_the_shell_reads_its_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert main.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    subprocess.run(CHECKS[shell], input=script, text=True, check=True, capture_output=True)


def test_an_unknown_shell_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", "tcsh"]) == 2
    assert "tcsh" in capsys.readouterr().err
