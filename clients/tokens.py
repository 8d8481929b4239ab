"""The token that a tool shows: given as it is, or in a file that somebody keeps fresh.

Tokens are short-lived; a show is not. Whoever runs a tool for long puts a new token into the file before the
old one ends (`farcast token issue > FILE`), and the tool shows it to its edge while all goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from farcast.errors import EXIT_USAGE, UserError
from farcast.proto.access.tokens import TOKEN_BYTES_MAX

if TYPE_CHECKING:
    from farcast.clients.viewing import Note
    from farcast.edge.driver import Driver

VARIABLE = "FARCAST_TOKEN"
LOOK_SECONDS = 2.0
"""The file is looked at so often."""


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where the token comes from. ``value``: at the start; empty is none."""

    value: bytes = b""
    file: Path | None = None

    async def keep_fresh(self, driver: Driver[Any], note: Note) -> None:
        """Show a token that has come into the file since. Never raises for the file's sake."""
        shown = self.value
        complained = False
        while self.file is not None:
            await trio.sleep(LOOK_SECONDS)
            try:
                found = _read(self.file)
            except UserError as error:
                if not complained:
                    note(f"{error.message}; going on with the token shown before")
                complained = True
                continue
            complained = False
            if found != shown:
                shown = found
                _show(driver, found)


NO_TOKEN = TokenSource()


def token_from_option(text: str | None, environ: Mapping[str, str]) -> TokenSource:
    """``--token``: a token, or @FILE that holds one; otherwise the environment's. `UserError` for a bad one.

    A token on a command line can be read by everybody on the machine: @FILE cannot.
    """
    given = text if text is not None else environ.get(VARIABLE, "")
    if not given:
        return TokenSource()
    if given.startswith("@"):
        file = Path(given[1:])
        return TokenSource(_read(file), file)
    return TokenSource(_check(given.encode("utf-8", "replace"), "--token"))


def _show(driver: Driver[Any], token: bytes) -> None:
    driver.call(lambda engine, now_us: engine.show_token(now_us, token))


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(TOKEN_BYTES_MAX + 2)
    except OSError as error:
        raise UserError(f"--token @{file}: cannot be read: {error.strerror}", EXIT_USAGE) from error
    return _check(content.strip(), f"--token @{file}")


def _check(token: bytes, where: str) -> bytes:
    if len(token) > TOKEN_BYTES_MAX or token.count(b".") != 2 or not token.isascii():
        raise UserError(f"{where}: no token: three parts of base64url, with dots", EXIT_USAGE)
    return token
