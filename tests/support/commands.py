"""``farcast`` commands as their users run them: processes of their own."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edges import FARCAST

END_SECONDS_MAX = 30


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """The lines in which it says what is wrong; remarks on its progress are none."""
        return [line for line in self.err.splitlines() if line.startswith("farcast: ")]


def start(*arguments: str) -> subprocess.Popen[str]:
    """A command in the background."""
    return subprocess.Popen([FARCAST, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: subprocess.Popen[str], seconds_max: float = END_SECONDS_MAX) -> Outcome:
    """Wait for its end."""
    try:
        out, err = process.communicate(timeout=seconds_max)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"{process.args!r} did not end: {err}") from None
    return Outcome(process.returncode, out, err)


def figures(process: subprocess.Popen[str], seconds_max: float = END_SECONDS_MAX) -> dict[str, Any]:
    """The JSON line of a command that has ended well."""
    outcome = end(process, seconds_max)
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = json.loads(outcome.out)
    return found


@contextlib.contextmanager
def killed_at_end(*processes: subprocess.Popen[str]) -> Iterator[None]:
    """Whatever happens in the block, no process outlives it."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            process.communicate()
