"""The authorization tokens that a peer has registered in a session (draft 18, section 10.2.2)."""

from __future__ import annotations

from collections.abc import Iterable

from farcast.proto.moqt.errors import ProtocolError, SessionCode, violation
from farcast.proto.moqt.values import AuthToken, Token, TokenAliasType

TOKEN_OVERHEAD_BYTES = 16
"""What a registered token costs besides its value."""


class TokenCache:
    """Resolves tokens; bounded by ``bytes_max`` as MAX_AUTH_TOKEN_CACHE_SIZE counts."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._tokens: dict[int, Token] = {}

    def resolve(self, tokens: Iterable[AuthToken], *, in_setup: bool = False) -> tuple[Token, ...]:
        """What the tokens of one message stand for, after registering and deleting what it says.

        Raises :class:`ProtocolError`: DUPLICATE_AUTH_TOKEN_ALIAS, UNKNOWN_AUTH_TOKEN_ALIAS,
        AUTH_TOKEN_CACHE_OVERFLOW (but in SETUP a token that does not fit is merely used), and a violation for
        DELETE and USE_ALIAS in SETUP.
        """
        resolved = (self._resolve(token, in_setup) for token in tokens)
        return tuple(token for token in resolved if token is not None)

    def _resolve(self, token: AuthToken, in_setup: bool) -> Token | None:
        if token.token_type is not None and token.value is not None:
            value = Token(token.token_type, token.value)
            if token.alias is not None:
                self._register(token.alias, value, in_setup)
            return value
        if in_setup:
            raise violation(f"{token.alias_type.name} in SETUP")
        assert token.alias is not None
        known = self._tokens.get(token.alias)
        if known is None:
            raise ProtocolError(SessionCode.UNKNOWN_AUTH_TOKEN_ALIAS, f"token alias {token.alias}")
        if token.alias_type is TokenAliasType.DELETE:
            self._bytes -= _size(self._tokens.pop(token.alias))
            return None
        return known

    def _register(self, alias: int, token: Token, in_setup: bool) -> None:
        if alias in self._tokens:
            raise ProtocolError(SessionCode.DUPLICATE_AUTH_TOKEN_ALIAS, f"token alias {alias}")
        if self._bytes + _size(token) > self._bytes_max:
            if in_setup:
                return
            raise ProtocolError(
                SessionCode.AUTH_TOKEN_CACHE_OVERFLOW, f"more than {self._bytes_max} bytes of tokens"
            )
        self._tokens[alias] = token
        self._bytes += _size(token)


def _size(token: Token) -> int:
    return TOKEN_OVERHEAD_BYTES + len(token.value)
