"""Our tools and the peers' script as processes of a case."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from .children import Child, child
from .network import FARCAST, Server, Transport
from .results import expect

ROOT = Path(__file__).parents[2]
PEERS_PYTHON = Path(os.environ.get("PEERS_PYTHON", ROOT / ".venv-peers/bin/python"))
WATCH_SECONDS = 3


@asynccontextmanager
async def farcast_publish(
    server: Server, transport: Transport, namespace: str, folder: Path, draft: int, more: Sequence[str] = ()
) -> AsyncIterator[Child]:
    """``farcast publish testsrc`` for the length of the block."""
    flags = [*server.client_flags(transport), "--namespace", namespace, "--draft", str(draft), *more]
    async with child("farcast-publish", [FARCAST, "publish", "testsrc", *flags], folder) as process:
        yield process


async def farcast_watch(
    server: Server, transport: Transport, namespace: str, folder: Path, draft: int
) -> tuple[Path, dict[str, Any]]:
    """Run ``farcast watch --out`` for `WATCH_SECONDS`; the film and the figures that it printed."""
    film = folder / "watched.mp4"
    flags = [*server.client_flags(transport), "--namespace", namespace, "--draft", str(draft)]
    more = ["--seconds", str(WATCH_SECONDS), "--out", str(film), "--json"]
    async with child("farcast-watch", [FARCAST, "watch", *flags, *more], folder) as process:
        printed = await process.output()
        code = process.returncode
        expect(code == 0, f"farcast watch: exit code {code}: {process.log_tail()}")
    figures = json.loads(printed)
    expect(figures["objects_malformed"] == 0, f"{figures['objects_malformed']} malformed objects")
    expect(figures["gaps"] == 0, f"{figures['gaps']} gaps")
    return film, figures


def moq_rs(
    role: str, server: Server, transport: Transport, namespace: str, folder: Path, more: Sequence[Path] = ()
) -> AbstractAsyncContextManager[Child]:
    """A role of ``moq_rs.py`` for the length of the block."""
    words = [role, server.url(transport), server.cert_sha256, namespace, *more]
    return _peer(f"moq-rs-{role}", ["tests.interop.moq_rs", *map(str, words)], folder)


@asynccontextmanager
async def moq_rs_relay(folder: Path) -> AsyncIterator[Server]:
    """moq-rs as a relay for the length of the block."""
    async with _peer("moq-rs-relay", ["tests.interop.moq_rs_relay"], folder) as process:
        ready = await process.event("ready")
        yield Server(ready["listen"], ready["cert_sha256"], ops="")


def _peer(name: str, words: Sequence[str], folder: Path) -> AbstractAsyncContextManager[Child]:
    """A module in the peers' environment."""
    return child(name, [PEERS_PYTHON, "-m", *words], folder, environ={"PYTHONPATH": str(ROOT)})
