"""Keys and tokens for tests: one issuer, whose key is ``k1``, and a cluster ``shows``."""

from __future__ import annotations

from typing import Any

from joserfc.jwk import OKPKey

from farcast.proto.access.gate import AccessPolicy
from farcast.proto.access.keys import TrustedKey
from farcast.proto.access.scopes import VIEWER, Action, Scope
from farcast.proto.access.tokens import make_claims, write_token
from farcast.proto.moqt.names import TrackNamespace

NOW_UNIX_S = 1_800_000_000
LIFE_SECONDS = 900
CLUSTER = "shows"
PRIVATE = OKPKey.import_key(
    {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
        "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    }
)
"""The key of RFC 8037, appendix A: everybody knows it."""

X = str(PRIVATE.as_dict(private=False)["x"])
POLICY = AccessPolicy(CLUSTER, {"k1": TrustedKey("k1", X)})


def make_token(
    namespace: str = "live/a",
    actions: frozenset[Action] = VIEWER,
    *,
    token_id: str = "t1",
    now_unix_s: int = NOW_UNIX_S,
    life_seconds: int = LIFE_SECONDS,
    **changes: Any,
) -> bytes:
    """A good token, unless ``changes`` to its claims make it a bad one."""
    claims = make_claims(
        [Scope(actions, TrackNamespace.parse(namespace))],
        audience=CLUSTER,
        issuer="shop",
        subject="ann",
        token_id=token_id,
        now_unix_s=now_unix_s,
        life_seconds=life_seconds,
    )
    return write_token({**claims, **changes}, PRIVATE, "k1").encode()
