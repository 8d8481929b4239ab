"""The audit log: who changed what, when, and how it was before; appended to, never rewritten.

One JSON object a line in ``audit.jsonl`` of the state directory (0600), on disk (fsync) when the answer goes
out. ``seq`` rises by one for each entry over restarts and rotations, so a gap shows that something was taken
out. At `FILE_BYTES_MAX` the file becomes ``audit.jsonl.1``, and so on; the oldest of `FILES_MAX` goes. So the
log takes 32 MiB at most, some hundred thousand changes.

Orders that were refused are entries too. Secrets are never in it: who writes an entry gives names and
figures, not bodies. A disk that does not take an entry stops no operator: entries wait in memory
(`PENDING_MAX`), the log says so, and the next one tries again.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
import structlog

from farcast.errors import UserError

AUDIT_FILE: Final = "audit.jsonl"
FILE_BYTES_MAX: Final = 4 << 20
FILES_MAX: Final = 8
PENDING_MAX: Final = 1_024
DETAIL_BYTES_MAX: Final = 8_192
"""Of ``before`` and ``after`` each, as JSON; longer ones are cut to that with a mark."""
READ_MAX: Final = 1_000
"""Entries of one reading."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change. ``who``: name of the token; ``about``: what was changed, an edge or a way, say; ``reason``:
    why it was refused."""

    seq: int
    at_unix_us: int
    who: str
    action: str
    about: str
    request_id: str
    outcome: Literal["done", "refused"] = "done"
    before: Any = None
    after: Any = None
    reason: str = ""
    address: str = ""


_DECODER: Final = msgspec.json.Decoder(Entry)


class AuditLog:
    """The log of one state directory; one process writes it. `failure`: why the newest entries are not on
    disk."""

    def __init__(self, directory: Path, bytes_max: int = FILE_BYTES_MAX, files_max: int = FILES_MAX) -> None:
        """Finds out where the numbers go on; raises `UserError` where the file cannot be read."""
        self.file = directory / AUDIT_FILE
        self.failure: str | None = None
        self.lost = 0
        """Entries that had no room in memory while the disk took none."""
        self._bytes_max, self._files_max = bytes_max, files_max
        self._pending: deque[bytes] = deque()
        try:
            newest = next(read_entries(directory), None)
        except OSError as error:
            raise UserError(f"{self.file}: cannot be read: {error.strerror}") from error
        self._sequence = 0 if newest is None else newest.seq + 1

    def append(self, at_unix_us: int, **fields: Any) -> None:
        """Write an entry; ``fields`` are those of `Entry` but its number and time."""
        for name in ("before", "after"):
            fields[name] = _bounded(fields.get(name))
        line = msgspec.json.encode(Entry(self._sequence, at_unix_us, **fields)) + b"\n"
        self._sequence += 1
        if len(self._pending) >= PENDING_MAX:
            self._pending.popleft()
            self.lost += 1
        self._pending.append(line)
        self._write()

    def _write(self) -> None:
        try:
            while self._pending:
                self._rotate(len(self._pending[0]))
                _append(self.file, self._pending[0])
                self._pending.popleft()
        except OSError as error:
            if self.failure is None:
                log.error("audit log is not written", file=str(self.file), reason=error.strerror)
            self.failure = f"{self.file}: {error.strerror}"
        else:
            if self.failure is not None:
                log.info("audit log is written again", file=str(self.file), lost=self.lost)
            self.failure = None

    def _rotate(self, more_bytes: int) -> None:
        if not self.file.exists() or self.file.stat().st_size + more_bytes <= self._bytes_max:
            return
        for number in range(self._files_max - 1, 0, -1):
            older = _numbered(self.file, number - 1)
            if older.exists():
                older.replace(_numbered(self.file, number))


def read_entries(directory: Path, before_seq: int | None = None) -> Iterator[Entry]:
    """Entries of a state directory, the newest first, those before ``before_seq``. Lines that are no entries
    (one that a crash cut off) are left out. Raises `OSError`."""
    file = directory / AUDIT_FILE
    for number in range(FILES_MAX):
        numbered = _numbered(file, number)
        if not numbered.exists():
            return
        for line in reversed(numbered.read_bytes().splitlines()):
            try:
                entry = _DECODER.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                continue
            if before_seq is None or entry.seq < before_seq:
                yield entry


def _append(file: Path, line: bytes) -> None:
    """All of the line, or none of it."""
    descriptor = os.open(file, os.O_CREAT | os.O_APPEND | os.O_RDWR, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(descriptor, line) != len(line):
            os.ftruncate(descriptor, size)
            raise OSError(28, os.strerror(28))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _numbered(file: Path, number: int) -> Path:
    return file if number == 0 else file.with_name(f"{file.name}.{number}")


def _bounded(detail: Any) -> Any:
    encoded = msgspec.json.encode(detail)
    if len(encoded) <= DETAIL_BYTES_MAX:
        return detail
    return {"cut": encoded[:DETAIL_BYTES_MAX].decode("utf-8", "replace"), "bytes": len(encoded)}
