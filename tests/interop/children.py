"""Processes that a case needs: started in a process group of their own, watched by line, ended by pid."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import trio

STOP_SECONDS_MAX = 8.0
LINE_BYTES_MAX = 64 << 20
_CHUNK_BYTES = 1 << 16


class ChildFailed(Exception):
    """A process ended, or said that it failed, before it did what the case waits for."""


class Child:
    """A running process that reports with JSON lines on stdout; its stderr goes to a log file."""

    def __init__(self, name: str, process: trio.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._buffer = bytearray()

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    async def line(self) -> dict[str, Any]:
        """Its next line; `ChildFailed` if there is none, or if the line says ``"event": "failed"``."""
        while b"\n" not in self._buffer:
            assert self._process.stdout is not None
            chunk = await self._process.stdout.receive_some(_CHUNK_BYTES)
            if not chunk or len(self._buffer) > LINE_BYTES_MAX:
                await self._process.wait()
                raise ChildFailed(f"{self.name} ended with code {self.returncode}: {self.log_tail()}")
            self._buffer += chunk
        text, _, rest = self._buffer.partition(b"\n")
        self._buffer = bytearray(rest)
        line = json.loads(text)
        if not isinstance(line, dict):
            raise ChildFailed(f"{self.name} printed {line!r}")
        if line.get("event") == "failed":
            raise ChildFailed(f"{self.name}: {line.get('reason')}")
        return line

    async def event(self, name: str) -> dict[str, Any]:
        """Its next line with this ``event``; others are skipped."""
        while (line := await self.line()).get("event") != name:
            pass
        return line

    async def tell(self, message: Mapping[str, Any]) -> None:
        """Write a JSON line to its stdin."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps(message).encode() + b"\n")

    async def output(self) -> bytes:
        """All that it still prints until it ends by itself."""
        assert self._process.stdout is not None
        while chunk := await self._process.stdout.receive_some(_CHUNK_BYTES):
            self._buffer += chunk
        await self._process.wait()
        return bytes(self._buffer)

    async def stop(self, sign: signal.Signals = signal.SIGTERM) -> None:
        """Ask it to end; after a while end its whole group. Safe to call again."""
        with trio.CancelScope(shield=True):
            if self._process.poll() is None:
                self._process.send_signal(sign)
                with trio.move_on_after(STOP_SECONDS_MAX):
                    await self._discard_output()
            self._end_group()
            await self._process.wait()

    def log_tail(self, lines: int = 3) -> str:
        """The last lines that it logged."""
        text = self.log.read_text(errors="replace").strip() if self.log.exists() else ""
        return " | ".join(text.splitlines()[-lines:])

    async def _discard_output(self) -> None:
        assert self._process.stdout is not None
        while await self._process.stdout.receive_some(_CHUNK_BYTES):
            pass
        await self._process.wait()

    def _end_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


@asynccontextmanager
async def child(
    name: str,
    command: Sequence[str | Path],
    folder: Path,
    *,
    environ: Mapping[str, str] | None = None,
    stdin: bool = False,
) -> AsyncIterator[Child]:
    """Run a command for the length of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{name}.log"
    with log.open("wb") as stderr:
        process = await trio.lowlevel.open_process(
            [str(word) for word in command],
            stdin=PIPE if stdin else None,
            stdout=PIPE,
            stderr=stderr,
            env={**os.environ, **(environ or {})},
            start_new_session=True,
        )
    running = Child(name, process, log)
    try:
        yield running
    finally:
        await running.stop()
