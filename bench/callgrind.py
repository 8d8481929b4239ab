"""Counts a program's instructions by valgrind's callgrind, which a busy machine does not change."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path


def instructions(command: Sequence[str], *, text: str | None = None, cwd: Path | None = None) -> int:
    """What a run of ``command`` takes, with ``text`` on standard input.

    `ValueError` where callgrind does not say, `subprocess.CalledProcessError` where the run fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = f"--callgrind-out-file={Path(folder) / 'out'}"
        whole = ["valgrind", "--tool=callgrind", out, *command]
        done = subprocess.run(whole, input=text, capture_output=True, text=True, check=True, cwd=cwd)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        raise ValueError(f"callgrind said nothing of what it collected: {done.stderr[-200:]}")
    return int(found[1])
