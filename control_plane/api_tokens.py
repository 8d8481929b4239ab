"""Bearer tokens of the HTTP API: who asks, and what they may.

Two kinds. The **local** token is made at the first start and lies in the state directory (``api.token``,
0600), so that commands on this machine need nothing but the directory; it may everything. All others are
**issued**, each with a name (which the audit log writes down), scopes and an end; of those the disk holds
SHA-256 hashes only (``api-tokens.json``), and the text is told once. Tokens are 256 random bits, so a plain
hash is enough: there is nothing to guess from, and looking one up by its hash gives nothing away by its
timing.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from farcast.errors import UserError

TOKEN_FILE: Final = "api.token"
TOKENS_FILE: Final = "api-tokens.json"
LOCAL: Final = "local"
"""Name of the token in `TOKEN_FILE`."""
PREFIX: Final = "farcast_"
"""Of issued tokens, so that a scanner for secrets knows one when it sees it."""
TOKENS_MAX: Final = 256
TOKEN_BYTES: Final = 32
VALID_SECONDS_MAX: Final = 366 * 86_400
_LOCAL: Final = re.compile(r"[A-Za-z0-9_-]{40,}")
"""A token that was cut off could be guessed."""
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


class Scope(StrEnum):
    """What a token may. `OPERATE` and `TRUST` include `READ`, and not each other."""

    READ = "read"
    """Look at everything but secrets."""
    OPERATE = "operate"
    """Drains, pins, overrides, taking edges out."""
    TRUST = "trust"
    """Issuers' keys, join tokens, certificates, tokens of this API."""


@dataclass(frozen=True, slots=True)
class ApiToken:
    """One token, without its text. ``expires_unix_s``: ``None`` is never."""

    name: str
    scopes: frozenset[Scope]
    created_unix_s: int = 0
    expires_unix_s: int | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether it may that."""
        return scope in self.scopes or (scope is Scope.READ and bool(self.scopes))


class _Kept(msgspec.Struct, frozen=True):
    name: str
    scopes: tuple[Scope, ...]
    sha256: str
    created_unix_s: int
    expires_unix_s: int | None = None


def load_token(directory: Path) -> str:
    """The local token, made if there is none. `UserError` if that cannot be done."""
    file = directory / TOKEN_FILE
    try:
        if file.exists() and (token := file.read_text().strip()):
            if _LOCAL.fullmatch(token) is None:
                raise UserError(f"{file}: is damaged: no token; remove it, another one is made at the start")
            return token
        token = secrets.token_urlsafe(TOKEN_BYTES)
        write_private(file, f"{token}\n")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}: is damaged: no text; remove it, another one is made at the start"
        ) from error
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read or made: {error.strerror}; choose another folder with --state-dir"
        ) from error
    return token


def write_private(file: Path, text: str) -> None:
    """Replace a file whole; only its owner can read it. Raises `OSError`."""
    scratch = file.with_name(f".{file.name}.new")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    scratch.replace(file)


class ApiTokens:
    """All tokens of one control plane. Commands raise `OSError` where the disk does not take them; nothing
    has changed then."""

    def __init__(self, directory: Path) -> None:
        """Reads the files of ``directory``; raises `UserError` where one is damaged."""
        self._file = directory / TOKENS_FILE
        self._local = _digest(load_token(directory))
        self._kept: dict[str, _Kept] = {}
        try:
            if self._file.exists():
                kept = msgspec.json.decode(self._file.read_bytes(), type=list[_Kept])
                self._kept = {each.name: each for each in kept}
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UserError(
                f"{self._file}: cannot be read: {error}; put a copy back, or move it away and issue anew"
            ) from error
        self._by_digest = {each.sha256: each for each in self._kept.values()}

    @property
    def issued(self) -> list[ApiToken]:
        """Without the local one, by name; those that have ended too, until they are revoked or replaced."""
        return [_token(each) for _, each in sorted(self._kept.items())]

    def find(self, text: str, now_unix_s: int) -> ApiToken | None:
        """Whose token this is; ``None`` for none, or one that has ended."""
        digest = _digest(text)
        if digest == self._local:
            return ApiToken(LOCAL, frozenset(Scope))
        kept = self._by_digest.get(digest)
        if kept is None or (kept.expires_unix_s is not None and kept.expires_unix_s <= now_unix_s):
            return None
        return _token(kept)

    def why_not_issue(self, name: str, scopes: Collection[Scope], now_unix_s: int) -> str | None:
        """Why there can be no such token."""
        if name == LOCAL or not _NAME.fullmatch(name):
            return f"{name[:80]!r}: lower-case letters, digits, dots and hyphens between them, 63 at most"
        if not scopes:
            return "a token without scopes may nothing"
        held = self._kept.get(name)
        if held is not None and (held.expires_unix_s is None or held.expires_unix_s > now_unix_s):
            return f"there is a token {name!r} already; revoke it first"
        if held is None and len(self._kept) >= TOKENS_MAX:
            return f"there are {TOKENS_MAX} tokens already"
        return None

    def issue(self, name: str, scopes: Collection[Scope], expires_unix_s: int | None, now_unix_s: int) -> str:
        """A new token's text, once; check `why_not_issue` first."""
        text = PREFIX + secrets.token_urlsafe(TOKEN_BYTES)
        ordered = tuple(scope for scope in Scope if scope in scopes)
        self._keep({**self._kept, name: _Kept(name, ordered, _digest(text), now_unix_s, expires_unix_s)})
        return text

    def revoke(self, name: str) -> bool:
        """End a token at once; False where there is none of that name."""
        if name not in self._kept:
            return False
        self._keep({each: kept for each, kept in self._kept.items() if each != name})
        return True

    def _keep(self, kept: dict[str, _Kept]) -> None:
        write_private(self._file, msgspec.json.encode(list(kept.values())).decode() + "\n")
        self._kept = kept
        self._by_digest = {each.sha256: each for each in kept.values()}


def _token(kept: _Kept) -> ApiToken:
    return ApiToken(kept.name, frozenset(kept.scopes), kept.created_unix_s, kept.expires_unix_s)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
