"""Options that several commands share."""

from __future__ import annotations

import math
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import trio
from cyclopts import Parameter

from farcast.cli.output import note
from farcast.clients.tokens import TokenSource, token_from_option
from farcast.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, UserError
from farcast.proto.moqt.names import InvalidName, TrackNamespace

Flag = Annotated[bool, Parameter(negative=())]
"""An option that is given or not."""

Namespace = Annotated[str, Parameter(help="Namespace, its fields separated by slashes, such as live/room1.")]
Draft = Annotated[int | None, Parameter(help="Offer this MoQT draft only: 18 or 16.")]
CertSha256 = Annotated[
    str | None, Parameter(help="Trust the server whose certificate has this SHA-256 (64 hex digits).")
]
Ca = Annotated[Path | None, Parameter(help="Trust servers of the authorities in this PEM file.")]
Insecure = Annotated[bool, Parameter(negative=(), help="Trust any server. For trials only.")]
NoEdgeList = Annotated[
    bool, Parameter(negative=(), help="Keep to the edges named here, whatever others the edge knows.")
]
Token = Annotated[
    str | None,
    Parameter(help="Token that the network asks for, or @FILE that holds it; $FARCAST_TOKEN unless set."),
]
MediaTokenFile = Annotated[
    Path | None,
    Parameter(
        name="--token-file", help="File that holds the token, read again when it changes; hidden from ps."
    ),
]
Json = Annotated[bool, Parameter(negative=(), help="Print the result as one JSON line.")]


def token_source(token: str | None, file: Path | None) -> TokenSource:
    """Of ``--token``, ``--token-file`` or the environment. `UserError` for a bad one."""
    if token is not None and file is not None:
        raise UserError("--token and --token-file are both given: choose one", EXIT_USAGE)
    if token and not token.startswith("@"):
        note(
            "a token on the command line can be read by everybody on this machine; --token-file FILE hides it"
        )
    return token_from_option(token if file is None else f"@{file}", os.environ)


def parse_namespace(text: str) -> TrackNamespace:
    """The namespace, or a `UserError` that says what is wrong with it."""
    try:
        namespace = TrackNamespace.parse(text)
    except InvalidName as error:
        raise UserError(f"--namespace {text!r}: {error}", EXIT_USAGE) from error
    if not namespace.fields:
        raise UserError("--namespace: an empty namespace cannot be used; try live/demo", EXIT_USAGE)
    return namespace


_DURATION: Final = re.compile(r"([1-9]\d{0,8})([smhd])")
_UNIT_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_duration(option: str, text: str, seconds_max: int) -> int:
    """Seconds of a time such as 90s, 15m, 1h or 2d, ``seconds_max`` at most; `UserError` for any other."""
    match = _DURATION.fullmatch(text)
    seconds = int(match[1]) * _UNIT_SECONDS[match[2]] if match else 0
    if not 0 < seconds <= seconds_max:
        most = f"{seconds_max // 86_400}d" if seconds_max >= 86_400 else f"{seconds_max}s"
        raise UserError(f"{option} {text!r}: a time such as 90s, 15m, 1h or 2d, {most} at most", EXIT_USAGE)
    return seconds


def check_seconds(option: str, seconds: float | None) -> None:
    """`UserError` for a time that makes no sense."""
    if seconds is not None and not 0 < seconds < math.inf:
        raise UserError(f"{option} {seconds:g}: must be a number of seconds above 0", EXIT_USAGE)


@dataclass(slots=True)
class Interruption:
    """Whether the user interrupted; ``exit_code`` is 130 then."""

    exit_code: int = EXIT_OK


@asynccontextmanager
async def interruptible(stop: Callable[[], None]) -> AsyncIterator[Interruption]:
    """Call ``stop`` on the first SIGINT or SIGTERM in the block; a second one is a `KeyboardInterrupt`."""
    interruption = Interruption()

    async def listen(signals: AsyncIterator[int]) -> None:
        first = await anext(signals)
        interruption.exit_code = EXIT_INTERRUPTED if first == signal.SIGINT else EXIT_OK
        stop()
        await anext(signals)
        raise KeyboardInterrupt

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, signals)
            yield interruption
            nursery.cancel_scope.cancel()
