"""Keys and revocations as plans carry them to edges, and as the control plane keeps them.

A plan holds all of them or (``None``) leaves them as they were: they are few and change seldom. Namespaces
and names of tracks are bytes here, because MessagePack can hold what JSON cannot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, TypeAlias

import msgspec
from msgspec import Meta

from farcast.proto.access.gate import AccessPolicy
from farcast.proto.access.keys import KEYS_MAX, BadKey, Quotas, TrustedKey
from farcast.proto.access.quotas import Amounts
from farcast.proto.access.scopes import SCOPES_MAX, Action, Match, Scope, TrackMatch
from farcast.proto.access.tokens import TEXT_CHARACTERS_MAX
from farcast.proto.moqt.names import (
    FULL_TRACK_NAME_BYTES_MAX,
    NAMESPACE_FIELDS_MAX,
    InvalidName,
    TrackNamespace,
)

REVOCATIONS_MAX: Final = 65_536
"""Of tokens in force at one time: a token lives for a day at most, and so does its revocation."""

_QUOTA_MAX = 2**53 - 1

Quota: TypeAlias = Annotated[int, Meta(ge=0, le=_QUOTA_MAX)]
NamespaceField: TypeAlias = Annotated[bytes, Meta(min_length=1)]
KeyId: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
TokenId: TypeAlias = Annotated[str, Meta(min_length=1, max_length=TEXT_CHARACTERS_MAX)]


class _Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """As the records of the control channel: unknown fields are ignored, missing ones take their defaults."""


class ScopeRecord(_Record, frozen=True, kw_only=True):
    """One scope; ``match`` is empty where it is for every track."""

    actions: Annotated[tuple[Annotated[int, Meta(ge=0, le=63)], ...], Meta(min_length=1, max_length=64)]
    namespace: Annotated[
        tuple[Annotated[bytes, Meta(min_length=1)], ...], Meta(max_length=NAMESPACE_FIELDS_MAX)
    ]
    match: Annotated[str, Meta(max_length=16)] = ""
    track: Annotated[bytes, Meta(max_length=FULL_TRACK_NAME_BYTES_MAX)] = b""


class KeyRecord(_Record, frozen=True, kw_only=True):
    """A key that a cluster trusts (`TrustedKey`)."""

    key_id: KeyId
    x: Annotated[str, Meta(max_length=64)]
    issuer: Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)] = ""
    scopes: Annotated[tuple[ScopeRecord, ...], Meta(max_length=SCOPES_MAX)] = ()
    publishers_max: Quota = 0
    viewers_max: Quota = 0
    namespaces_max: Quota = 0
    egress_bps_max: Quota = 0


class AccessRules(_Record, frozen=True, kw_only=True):
    """Who may do what in a cluster."""

    keys: Annotated[tuple[KeyRecord, ...], Meta(max_length=KEYS_MAX)] = ()
    revoked_tokens: Annotated[tuple[TokenId, ...], Meta(max_length=REVOCATIONS_MAX)] = ()
    revoked_keys: Annotated[tuple[KeyId, ...], Meta(max_length=KEYS_MAX)] = ()
    exhausted: Annotated[tuple[KeyId, ...], Meta(max_length=KEYS_MAX)] = ()


class ShareRecord(_Record, frozen=True, kw_only=True):
    """The part of a key's quota that one edge may give out; counts where the quota is bounded."""

    key_id: KeyId
    publishers: Quota = 0
    viewers: Quota = 0
    namespaces: Quota = 0
    bps: Quota = 0


Shares: TypeAlias = Annotated[tuple[ShareRecord, ...], Meta(max_length=KEYS_MAX)]

NO_RULES: Final = AccessRules()


def read_rules(rules: AccessRules, audience: str) -> AccessPolicy:
    """The policy that rules make. Raises `BadKey` for a key that is none.

    An action that this version does not know is left out, and so is a scope or a key that is only about such:
    what is not understood allows nothing.
    """
    keys: dict[str, TrustedKey] = {}
    for record in rules.keys:
        scopes = tuple(scope for scope in map(_scope, record.scopes) if scope is not None)
        if len(scopes) < len(record.scopes) and not scopes:
            continue
        quotas = Quotas(
            record.publishers_max, record.viewers_max, record.namespaces_max, record.egress_bps_max
        )
        keys[record.key_id] = TrustedKey(record.key_id, record.x, record.issuer, scopes, quotas)
    return AccessPolicy(
        audience,
        keys,
        frozenset(rules.revoked_tokens),
        frozenset(rules.revoked_keys),
        frozenset(rules.exhausted),
    )


def write_key(key: TrustedKey) -> KeyRecord:
    """The reverse for one key."""
    quotas = key.quotas
    return KeyRecord(
        key_id=key.key_id,
        x=key.x,
        issuer=key.issuer,
        scopes=tuple(map(_record, key.scopes)),
        publishers_max=quotas.publishers_max,
        viewers_max=quotas.viewers_max,
        namespaces_max=quotas.namespaces_max,
        egress_bps_max=quotas.egress_bps_max,
    )


def read_shares(shares: tuple[ShareRecord, ...]) -> dict[str, Amounts]:
    """Shares by key."""
    return {s.key_id: Amounts(s.publishers, s.viewers, s.namespaces, s.bps) for s in shares}


def write_shares(shares: Mapping[str, Amounts]) -> tuple[ShareRecord, ...]:
    """The reverse, in order."""
    return tuple(ShareRecord(key_id=key_id, **share._asdict()) for key_id, share in sorted(shares.items()))


def _scope(record: ScopeRecord) -> Scope | None:
    known = frozenset(Action(number) for number in record.actions if number in _ACTIONS)
    if not known or (record.match and record.match not in _MATCHES):
        return None
    try:
        namespace = TrackNamespace(record.namespace)
    except InvalidName as error:
        raise BadKey(f"a key's scope: {error}") from error
    track = TrackMatch(Match(record.match), record.track) if record.match else None
    return Scope(known, namespace, track)


def _record(scope: Scope) -> ScopeRecord:
    actions = tuple(int(action) for action in sorted(scope.actions))
    if scope.track is None:
        return ScopeRecord(actions=actions, namespace=scope.namespace.fields)
    return ScopeRecord(
        actions=actions,
        namespace=scope.namespace.fields,
        match=scope.track.match.value,
        track=scope.track.value,
    )


_ACTIONS: Final = frozenset(int(action) for action in Action)
_MATCHES: Final = frozenset(match.value for match in Match)
