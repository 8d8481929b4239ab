"""``farcast completion``: scripts that the shells themselves accept, and complete by.

Shells that are not installed are taken from the folder in ``FARCAST_SHELLS`` (`make completions`).
"""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from farcast.cli import main

CHECKS = {"bash": ["-n"], "zsh": ["-n"], "fish": ["--no-execute"]}
SECONDS_MAX = 60

BASH = """
source "$1"
COMP_WORDS=(farcast dra) COMP_CWORD=1 COMP_LINE="farcast dra" COMP_POINT=11
$(complete -p farcast | sed 's/.*-F \\([^ ]*\\).*/\\1/') farcast dra farcast
echo "${COMPREPLY[@]}"
"""
FISH = 'source $argv[1]; complete -C "farcast dra"'
ZSH = "autoload -Uz compinit; compinit -u -D"


def unpacked() -> Path | None:
    """Where shells lie that are not this machine's own."""
    folder = os.environ.get("FARCAST_SHELLS")
    return None if folder is None else Path(folder)


def program(shell: str) -> str:
    """Its path; the test is skipped where there is none."""
    folders = [folder / name for folder in filter(None, [unpacked()]) for name in ("bin", "usr/bin")]
    path = os.pathsep.join([*map(str, folders), os.environ["PATH"]])
    found = shutil.which(shell, path=path)
    if found is None:
        pytest.skip(f"{shell} is not installed: make completions unpacks it")
    return found


def environment(home: Path) -> dict[str, str]:
    """That of whoever types, without any settings."""
    libraries = {"LD_LIBRARY_PATH": str(next(unpacked().glob("usr/lib/*-linux-gnu")))} if unpacked() else {}  # type: ignore[union-attr]
    return {"PATH": os.environ["PATH"], "HOME": str(home), "TERM": "dumb", "LANG": "C.UTF-8", **libraries}


@pytest.fixture
def script(request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """The file that ``farcast completion`` makes, under the name that zsh wants."""
    assert main.run(["completion", request.param]) == 0
    file = tmp_path / "_farcast"
    file.write_text(capsys.readouterr().out)
    return file


@pytest.mark.parametrize("shell", CHECKS)
def test_a_script_names_the_verbs_and_their_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", shell]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for word in ("publish", "links", "export", "state-dir", "completion"):
        assert word in out


@pytest.mark.parametrize(("shell", "script"), [(shell, shell) for shell in CHECKS], indirect=["script"])
def test_the_shell_reads_its_script(shell: str, script: Path) -> None:
    command = [program(shell), *CHECKS[shell], str(script)]
    done = subprocess.run(command, env=environment(script.parent), capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_completes_a_verb(script: Path) -> None:
    assert said_by([program("bash"), "--norc", "-c", BASH, "bash", str(script)], script).split() == ["drain"]


@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish_completes_a_verb_with_its_line_of_help(script: Path) -> None:
    own = unpacked()
    functions = f"set -p fish_function_path {own}/usr/share/fish/functions; " if own else ""
    said = said_by([program("fish"), "--no-config", "-c", functions + FISH, str(script)], script)
    lines = [line for line in said.splitlines() if line.startswith("dra")]
    assert [line.partition("\t")[0] for line in lines] == ["drain"]
    assert "Empty an edge" in lines[0]


@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_completes_a_verb_when_tab_is_pressed(script: Path) -> None:
    own = unpacked()
    functions = own.glob("usr/share/zsh/functions/**/") if own else []
    modules = f"module_path=({next(own.glob('usr/lib/*/zsh/*'))}); " if own else ""
    fpath = " ".join(map(str, [script.parent, *functions]))
    more = "" if own else " $fpath"
    settings = script.parent / ".zshrc"
    settings.write_text(f"{modules}fpath=({fpath}{more}); {ZSH}; echo SET-UP\n")
    shown = typed([program("zsh"), "-d", "-i"], script, b"farcast dra\t", b"farcast drain")
    assert b"farcast drain" in shown


def said_by(command: list[str], script: Path) -> str:
    """What a shell prints."""
    done = subprocess.run(
        command, env=environment(script.parent), capture_output=True, text=True, timeout=SECONDS_MAX
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def typed(command: list[str], script: Path, keys: bytes, awaited: bytes) -> bytes:
    """What a terminal shows when keys are pressed, once the shell has said ``SET-UP``: up to what is awaited,
    or for as long as a shell may take."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], command, environment(script.parent))
    try:
        _read_until(terminal, b"SET-UP")
        os.write(terminal, keys)
        return _read_until(terminal, awaited)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def _read_until(terminal: int, awaited: bytes) -> bytes:
    shown, deadline = b"", time.monotonic() + SECONDS_MAX
    while awaited not in shown and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            shown += os.read(terminal, 65_536)
    return shown


def test_an_unknown_shell_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", "tcsh"]) == 2
    assert "tcsh" in capsys.readouterr().err
