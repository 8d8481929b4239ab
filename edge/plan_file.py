"""The plan on disk: what lets an edge start, and reroute, with the control plane gone.

The file is written beside the old one, flushed to the disk, and put in its place in one step; so there is a
whole plan at every moment, the old one or the new one. What is in it, its version and its checksum are the
business of `farcast.proto.control.edge_plan`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

from farcast.errors import UserError
from farcast.proto.control.edge_plan import PLAN_FILE_BYTES_MAX

NAME = "plan"
FOLDER_MODE = 0o700


class PlanFile:
    """The plan file in a folder, or another one (``name``) that is kept in the same way."""

    def __init__(self, folder: Path, name: str = NAME) -> None:
        self.path = folder / name

    def read(self) -> bytes | None:
        """Its contents; ``None`` if there is none. Raises ``OSError`` if it cannot be read, ``ValueError``
        if it is larger than any plan."""
        try:
            with self.path.open("rb") as file:
                data = file.read(PLAN_FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return None
        if len(data) > PLAN_FILE_BYTES_MAX:
            raise ValueError(f"it has more than {PLAN_FILE_BYTES_MAX} bytes")
        return data

    def write(self, data: bytes) -> None:
        """Put new contents in its place; they are on the disk when this returns. Raises ``OSError``, and
        then the old contents are still there."""
        fresh = self.path.with_name(f"{self.path.name}.new")
        try:
            with fresh.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
        _sync_folder(self.path.parent)


def prepare_folder(folder: Path) -> None:
    """Make the folder, and be sure that it can be written to; `UserError` if not."""
    try:
        folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise UserError(
            f"state_dir {folder}: cannot be used: {error.strerror}; choose another with --state-dir"
        ) from error


def state_directory(environ: Mapping[str, str]) -> Path | None:
    """What systemd gives a service (``StateDirectory=``)."""
    given = environ.get("STATE_DIRECTORY")
    return Path(given.split(":")[0]) if given else None


def usual_folder(node_id: str, environ: Mapping[str, str]) -> Path:
    """Where state is kept if nobody says so: systemd's ``$STATE_DIRECTORY``, else below the home folder,
    for each edge its own."""
    if (given := state_directory(environ)) is not None:
        return given
    base = environ.get("XDG_STATE_HOME") or str(
        Path(environ.get("HOME") or "~").expanduser() / ".local/state"
    )
    return Path(base) / "farcast" / node_id


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
