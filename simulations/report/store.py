"""Files of results: one JSON line for each scenario, and where the last result of each scenario is kept."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from farcast.errors import EXIT_USAGE, UserError
from farcast.simulations.results import RESULT_BYTES_MAX, Result, from_json, to_json


def save(results: Sequence[Result], file: Path) -> None:
    """Write results; `UserError` if that is not possible."""
    write(file, b"".join(to_json(result) + b"\n" for result in results))


def write(file: Path, data: bytes) -> None:
    """Write a report, whole or not at all."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(file)
    except OSError as error:
        with suppress(OSError):
            beside.unlink()
        raise UserError(f"{file}: cannot be written: {error.strerror or error}") from error


def load(file: Path) -> list[Result]:
    """The results in a file. `UserError` if there are none."""
    try:
        if file.stat().st_size > RESULT_BYTES_MAX:
            raise UserError(f"{file}: too large to be results of simulations", EXIT_USAGE)
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}", EXIT_USAGE) from error
    found = [
        from_json(line, f"{file}, line {number}") for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not found:
        raise UserError(f"{file}: empty: write one with farcast sim run SCENARIO --save {file}", EXIT_USAGE)
    return found


def last_file(called: str, *, short: bool) -> Path:
    """Where the last result of a scenario is kept: ``$XDG_CACHE_HOME/farcast/sim``, ``~/.cache`` by
    default. ``called``: a name or a path, as in `Ask`; two files of one name do not share a place."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    file = Path(called)
    own = f"-{sha256(str(file.resolve()).encode()).hexdigest()[:16]}" if file.suffix or file.is_file() else ""
    return cache / "farcast" / "sim" / f"{file.stem}{own}{'-short' if short else ''}.json"


def keep_last(result: Result) -> None:
    """Keep it for ``replay``; a machine without a home can do without."""
    file = last_file(result.scenario.called, short=result.scenario.short)
    with suppress(OSError, UserError):
        file.parent.mkdir(parents=True, exist_ok=True)
        save([result], file)


def last(called: str, *, short: bool) -> Result | None:
    """The last result of a scenario, if there is one that this build can read."""
    file = last_file(called, short=short)
    with suppress(UserError):
        return load(file)[0]
    return None
