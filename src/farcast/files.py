"""Files that must be whole: written beside their place, synchronised, put there in one step."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from farcast.errors import UserError


def write_files(folder: Path, files: dict[str, tuple[bytes, int]], *, force: bool) -> None:
    """Write files (name to content and mode) into a folder: none if one is in the way, each whole or not
    at all. Raises `UserError` that names the file."""
    try:
        there = [str(folder / name) for name in files if (folder / name).exists()]
        if there and not force:
            raise UserError(f"{', '.join(there)}: there already; --force replaces")
        folder.mkdir(parents=True, exist_ok=True)
        for name, (content, mode) in files.items():
            _write(folder / name, content, mode)
    except OSError as error:
        raise UserError(f"{error.filename or folder}: cannot be written: {error.strerror}") from error


def _write(file: Path, content: bytes, mode: int) -> None:
    """Replace ``file`` in one step; nobody but its owner can ever read one that is made with 0600."""
    new = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(file)
    finally:
        with contextlib.suppress(FileNotFoundError):
            new.unlink()
