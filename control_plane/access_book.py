"""Whose tokens open the cluster, and which do no more: what operators say, kept and pushed with plans.

A revoked token is remembered for as long as any token can live, and then forgotten: it has ended by itself.
A key that is no longer trusted ends its tokens at once; revoking it says the same, and outlives a copy of the
state that is put back with the key in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from farcast.proto.access.keys import KEYS_MAX, TrustedKey, is_key_id
from farcast.proto.access.quotas import Amounts
from farcast.proto.access.records import REVOCATIONS_MAX, AccessRules, KeyRecord, write_key
from farcast.proto.access.tokens import LIFE_SECONDS_MAX, TEXT_CHARACTERS_MAX

REMEMBERED_US: Final = LIFE_SECONDS_MAX * 1_000_000


class KeptAccess(msgspec.Struct, frozen=True, kw_only=True):
    """What is on disk. ``revoked_tokens``: token id to when it was revoked, Unix microseconds."""

    keys: tuple[KeyRecord, ...] = ()
    revoked_tokens: dict[str, int] = {}
    revoked_keys: tuple[str, ...] = ()


NOTHING_KEPT: Final = KeptAccess()


class AccessBook:
    """Commands return ``None``, or one sentence that says why not."""

    def __init__(self, kept: KeptAccess) -> None:
        self._keys: dict[str, KeyRecord] = {key.key_id: key for key in kept.keys}
        self._revoked_tokens: dict[str, int] = dict(kept.revoked_tokens)
        self._revoked_keys: dict[str, None] = dict.fromkeys(kept.revoked_keys)
        self.changed = False
        """Since it was last set to false."""

    @property
    def keys(self) -> Mapping[str, KeyRecord]:
        """By id."""
        return self._keys

    @property
    def revoked_tokens(self) -> Mapping[str, int]:
        """Token id to when it was revoked, Unix microseconds."""
        return self._revoked_tokens

    @property
    def revoked_keys(self) -> tuple[str, ...]:
        """In the order in which they were revoked."""
        return tuple(self._revoked_keys)

    def quotas(self) -> dict[str, Amounts]:
        """Of the keys that have any."""
        found = {
            key_id: Amounts(key.publishers_max, key.viewers_max, key.namespaces_max, key.egress_bps_max)
            for key_id, key in self._keys.items()
        }
        return {key_id: quotas for key_id, quotas in found.items() if any(quotas)}

    def rules(self) -> AccessRules:
        """What goes to edges."""
        keys = tuple(key for key_id, key in sorted(self._keys.items()) if key_id not in self._revoked_keys)
        return AccessRules(
            keys=keys,
            revoked_tokens=tuple(sorted(self._revoked_tokens)),
            revoked_keys=tuple(sorted(self._revoked_keys)),
        )

    def kept(self) -> KeptAccess:
        """What goes to disk."""
        return KeptAccess(
            keys=tuple(self._keys.values()),
            revoked_tokens=self._revoked_tokens,
            revoked_keys=self.revoked_keys,
        )

    # ---- Commands ---------------------------------------------------------------------------------

    def trust(self, key: TrustedKey) -> str | None:
        """Take the tokens of a key from now on; one by the same id is replaced."""
        if key.key_id in self._revoked_keys:
            return f"key {key.key_id} was revoked; make another one"
        if key.key_id not in self._keys and len(self._keys) >= KEYS_MAX:
            return f"there are {KEYS_MAX} keys already"
        self._keys[key.key_id] = write_key(key)
        self.changed = True
        return None

    def distrust(self, key_id: str) -> str | None:
        """Take no token of a key any more, and forget the key."""
        if self._keys.pop(key_id, None) is None:
            return f"no key {key_id[:80]!r}"
        self.changed = True
        return None

    def revoke_key(self, key_id: str) -> str | None:
        """Take no token of a key ever again, whether it is known here or not."""
        if not is_key_id(key_id):
            return f"{key_id[:80]!r} is not the id of a key"
        if key_id not in self._revoked_keys and len(self._revoked_keys) >= KEYS_MAX:
            return f"{KEYS_MAX} keys are revoked already"
        self._keys.pop(key_id, None)
        self._revoked_keys[key_id] = None
        self.changed = True
        return None

    def revoke_token(self, token_id: str, unix_us: int) -> str | None:
        """Take this token no more."""
        if not 0 < len(token_id) <= TEXT_CHARACTERS_MAX or not token_id.isprintable():
            return "a token's id (jti) is a text of 1 to 256 printable characters"
        if token_id not in self._revoked_tokens and len(self._revoked_tokens) >= REVOCATIONS_MAX:
            return f"{REVOCATIONS_MAX} tokens are revoked already; revoke their key"
        self._revoked_tokens[token_id] = unix_us
        self.changed = True
        return None

    def forget_ended(self, unix_us: int) -> None:
        """Forget tokens that have ended by themselves."""
        ended = [token for token, at_us in self._revoked_tokens.items() if at_us + REMEMBERED_US <= unix_us]
        for token in ended:
            del self._revoked_tokens[token]
        self.changed |= bool(ended)
