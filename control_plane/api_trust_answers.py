"""What the HTTP API answers of keys, certificates and tokens, and of what was used with them."""

from __future__ import annotations

from typing import Any, TypedDict

from farcast.control_plane.api_tokens import Scope


class Used(TypedDict):
    """What sessions by tokens of a key have used together. ``bytes_in`` came from publishers, ``bytes_out``
    went to viewers; a minute is that of one session."""

    bytes_in: int
    bytes_out: int
    publisher_minutes: float
    viewer_minutes: float


class UsedOnDay(Used):
    """On one day of UTC, such as 2026-11-26."""

    day: str


class UsingNow(TypedDict):
    """What a key takes now at all edges, as those last reported; ``refused``: how often a quota kept
    something out since the edges began."""

    edges: int
    publishers: int
    viewers: int
    namespaces: int
    bps: int
    refused: int


class KeyUsageRow(TypedDict):
    """One key. ``trusted``: its tokens open the cluster still."""

    key_id: str
    issuer: str
    trusted: bool
    total: Used
    now: UsingNow
    days: list[UsedOnDay]


class UsageAnswer(TypedDict):
    """What each key has used. ``left_out``: counts that found no room; 0 where all is counted."""

    cluster: str
    keys: list[KeyUsageRow]
    left_out: int


class QuotaAmounts(TypedDict):
    """Sessions, namespaces, bits per second; of a quota, 0 is no bound."""

    publishers: int
    viewers: int
    namespaces: int
    bps: int


class QuotaEdge(TypedDict):
    """One edge. ``share``: what it is to give out; ``held``: the most that it may act by until it has
    acknowledged that; ``used``: what it last reported; ``refused``: how often it kept something out."""

    node_id: str
    connected: bool
    share: QuotaAmounts
    held: QuotaAmounts
    used: QuotaAmounts
    refused: int


class QuotaRow(TypedDict):
    """One key, in all and by edge; all edges together never hold more than the quota."""

    key_id: str
    issuer: str
    quota: QuotaAmounts
    used: QuotaAmounts
    held: QuotaAmounts
    edges: list[QuotaEdge]


class QuotasAnswer(TypedDict):
    """Keys that have a quota."""

    cluster: str
    keys: list[QuotaRow]


class AccessKey(TypedDict):
    """One issuer's key. ``scope``: bounds of what its tokens allow; ``quotas``: what they may use at once, 0
    for no bound."""

    key_id: str
    x: str
    issuer: str
    scope: list[dict[str, Any]]
    quotas: dict[str, int]


class RevokedToken(TypedDict):
    """One token that opens nothing."""

    token_id: str
    revoked_unix_us: int


class Access(TypedDict):
    """Whose tokens open the cluster."""

    cluster: str
    keys: list[AccessKey]
    revoked_keys: list[str]
    revoked_tokens: list[RevokedToken]


class CertificateRow(TypedDict):
    """The newest certificate of an edge."""

    node_id: str
    region: str
    serial: str
    expires_unix_us: int


class InvitationRow(TypedDict):
    """A join token without its secret; ``joined``: who used it."""

    token_id: str
    region: str
    node_id: str | None
    expires_unix_us: int
    joined: str | None


class RevokedNode(TypedDict):
    """Certificates of a node that began until then count no more."""

    node_id: str
    until_unix_s: int


class Trust(TypedDict):
    """Certificates and join tokens."""

    certificates: list[CertificateRow]
    join_tokens: list[InvitationRow]
    revoked_nodes: list[RevokedNode]
    revoked_serials: list[str]


class JoinTokenAnswer(TypedDict):
    """A join token, told once."""

    token: str
    token_id: str
    region: str
    node_id: str | None
    control: list[str]
    authority_sha256: str
    expires_unix_s: int


class ApiTokenRow(TypedDict):
    """A token without its text."""

    name: str
    scopes: list[Scope]
    created_unix_s: int
    expires_unix_s: int | None


class ApiTokensAnswer(TypedDict):
    """All issued tokens."""

    tokens: list[ApiTokenRow]


class ApiTokenMade(TypedDict):
    """A new token; ``token`` is its text, told once."""

    token: str
    name: str
    scopes: list[Scope]
    created_unix_s: int
    expires_unix_s: int | None


class ApiTokenRevoked(TypedDict):
    """The token opens nothing any more."""

    name: str
    revoked: bool
