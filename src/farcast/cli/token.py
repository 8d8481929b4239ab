"""``farcast token``: keys of issuers, and tokens for publishers and viewers."""

from __future__ import annotations

import json as json_module
import re
import secrets
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number
from joserfc import jws
from joserfc.errors import JoseError

from farcast.cli.control_api import Api, StateDir, TokenFile, control_api
from farcast.cli.options import Flag, Json
from farcast.cli.output import note, print_json, print_table
from farcast.errors import EXIT_FAILED, EXIT_OK, EXIT_USAGE, UserError
from farcast.files import write_files
from farcast.issuers import IssuerKey, load_issuer_key, load_public_keys, make_issuer_key
from farcast.proto.access.keys import TrustedKey
from farcast.proto.access.scopes import PUBLISHER, VIEWER, Action, Scope
from farcast.proto.access.tokens import (
    LIFE_SECONDS_MAX,
    TOKEN_BYTES_MAX,
    BadToken,
    make_claims,
    read_token,
    write_scope,
    write_token,
)
from farcast.proto.moqt.names import InvalidName, TrackNamespace
from farcast.redaction import NOT_THE_TOKEN, looks_like_token

KEY_MODE = 0o600
VALID_DEFAULT = "15m"

_DURATION = re.compile(r"([0-9]{1,9})([smhd])\Z")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

Quota = Annotated[int | None, Parameter(validator=Number(gte=0, lte=2**53 - 1))]
Paths = Annotated[Sequence[str], Parameter(consume_multiple=True, negative=())]

token = App(name="token", help="Make keys of issuers, and tokens for publishers and viewers.")
"""The commands ``farcast token …``."""


@token.command
def key(file: Path, *, key_id: str | None = None, force: Flag = False) -> None:
    """Make the key of an issuer, and print its public half as one JSON line.

    An issuer is an application that gives tokens to its publishers and viewers. Who holds this file can let
    anybody in: keep it where the application is, and give the line on stdout to the cluster.

    Example: farcast token key shop.jwk > shop.public.json

    Parameters
    ----------
    file
        File to put the private key into; only its owner may read it.
    key_id
        Name of the key in tokens, such as shop-2026; random unless given.
    force
        Replace a key that is there. Tokens that it signed are worthless when the cluster forgets it.
    """
    made = make_issuer_key(key_id or secrets.token_urlsafe(9))
    write_files(file.parent, {file.name: (made.content(), KEY_MODE)}, force=force)
    note(f"key {made.key_id}: {file}")
    print_json({"kty": "OKP", "crv": "Ed25519", "kid": made.key_id, "x": made.x})


@token.command
def issue(
    *,
    key: Path,
    cluster: str,
    publish: Paths = (),
    watch: Paths = (),
    subject: str = "anonymous",
    issuer: str = "",
    valid: str = VALID_DEFAULT,
    json: Json = False,
) -> None:
    """Make a token and print it.

    Example: farcast token issue --key shop.jwk --cluster shows --watch live/room1 --valid 1h

    Parameters
    ----------
    key
        Key file of the issuer, of farcast token key.
    cluster
        The cluster that the token opens.
    publish
        Namespaces to publish in, fields separated by slashes; what is below them is included.
    watch
        Namespaces to watch.
    subject
        Who it is for, as the application calls them.
    issuer
        Who issues it; the key's id unless given.
    valid
        How long, such as 90s, 15m, 12h; a day at most.
    """
    held = load_issuer_key(key)
    scopes = [*_scopes("--publish", publish, PUBLISHER), *_scopes("--watch", watch, VIEWER)]
    if not scopes:
        raise UserError("a token that allows nothing: give --publish or --watch, and a namespace", EXIT_USAGE)
    claims = make_claims(
        scopes,
        audience=cluster,
        issuer=issuer or held.key_id,
        subject=subject,
        token_id=secrets.token_urlsafe(12),
        now_unix_s=int(time.time()),
        life_seconds=_life(valid),
    )
    made = write_token(claims, held.private, held.key_id)
    _check(made, held, cluster)
    if json:
        print_json(
            {"token": made, "token_id": claims["jti"], "key_id": held.key_id, "expires": claims["exp"]}
        )
    else:
        note(f"token {claims['jti']}, valid until {_date(claims['exp'])}")
        print(made)


@token.command
def inspect(
    token: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    key: Path | None = None,
    cluster: str | None = None,
    json: Json = False,
) -> int:
    """Show what a token says; with a key and a cluster, whether it opens it now.

    Example: farcast token inspect - --key shop.jwk --cluster shows < token.txt

    Parameters
    ----------
    token
        The token; - reads it from standard input, so that it stays out of the shell's history.
    key
        Key file to verify it with.
    cluster
        Cluster that it should open.
    """
    if (key is None) != (cluster is None):
        raise UserError("--key and --cluster are for each other: give both, or none", EXIT_USAGE)
    text = (sys.stdin.read(TOKEN_BYTES_MAX + 2) if token == "-" else token).strip()
    header, claims = _parts(text)
    verdict = None if key is None or cluster is None else _verdict(text, load_issuer_key(key), cluster)
    if json:
        print_json({"header": header, "claims": claims, "verified": verdict == "", "fault": verdict})
    else:
        print_table(("", "token"), _rows(header, claims, verdict))
    return EXIT_FAILED if verdict else EXIT_OK


@token.command
def trust(
    file: Path,
    *,
    issuer: str = "",
    max_publishers: Quota = None,
    max_viewers: Quota = None,
    max_namespaces: Quota = None,
    max_mbps: Annotated[float | None, Parameter(validator=Number(gte=0, lte=1e9))] = None,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Take the tokens of issuers: give a cluster the public halves of their keys.

    A key that is given again is as it is given last: name its issuer and all bounds anew.

    Example: farcast token trust shop.public.json --issuer shop.example --state-dir control

    Parameters
    ----------
    file
        Public keys: what farcast token key printed, or a JWK set. A key may have a scope, as a token has;
        its tokens allow nothing beyond it.
    issuer
        What the issuer calls itself in its tokens; any name unless given.
    max_publishers
        So many sessions by tokens of a key may publish at one time, in the whole cluster; 0 is no bound.
    max_viewers
        So many may watch.
    max_namespaces
        So many namespaces may be published.
    max_mbps
        So many megabits per second may its publishers send, and its viewers get.
    """
    told = {
        "publishers_max": max_publishers,
        "viewers_max": max_viewers,
        "namespaces_max": max_namespaces,
        "egress_bps_max": None if max_mbps is None else round(max_mbps * 1e6),
    }
    bounds = {name: most for name, most in told.items() if most is not None}
    keys = load_public_keys(file)
    cluster = control_api(state_dir, api, token_file)
    done: dict[str, Any] = {}
    for each in keys.values():
        jwk: dict[str, object] = {"kty": "OKP", "crv": "Ed25519", "kid": each.key_id, "x": each.x}
        jwk |= {"issuer": issuer or each.issuer, "scope": [write_scope(scope) for scope in each.scopes]}
        jwk |= {"quotas": {**asdict(each.quotas), **bounds}}
        done = cluster.post("/access", {"trust": jwk})
    return _done(done, f"trusted: {', '.join(keys)}", json=json)


@token.command
def distrust(
    key_id: str,
    *,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Forget an issuer's key: its tokens are worthless within seconds. The inverse of trust.

    Example: farcast token distrust shop-2026 --state-dir control

    Parameters
    ----------
    key_id
        The key, as farcast token keys shows it.
    """
    done = control_api(state_dir, api, token_file).post("/access", {"distrust": key_id})
    return _done(done, f"forgotten: {key_id}", json=json)


@token.command
def revoke(
    token_id: str | None = None,
    *,
    key_id: str | None = None,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Take a token no more, or every token of a key: who uses it is closed within seconds.

    Example: farcast token revoke 2bOtSLLs00r7BLjc --state-dir control

    Parameters
    ----------
    token_id
        The token's id, as farcast token issue and inspect show it (jti).
    key_id
        The key whose tokens end, for ever.
    """
    if (token_id is None) == (key_id is None):
        raise UserError("say what to revoke: TOKEN_ID, or --key-id KEY_ID", EXIT_USAGE)
    if looks_like_token(token_id or ""):
        raise UserError(f"TOKEN_ID: {NOT_THE_TOKEN}", EXIT_USAGE)
    order = {"revoke_token": token_id} if token_id is not None else {"revoke_key": key_id}
    done = control_api(state_dir, api, token_file).post("/access", order)
    return _done(done, f"revoked: {token_id or key_id}", json=json)


@token.command
def keys(
    *, state_dir: StateDir = None, api: Api = None, token_file: TokenFile = None, json: Json = False
) -> int:
    """Show the keys whose tokens open a cluster, and what was revoked.

    Example: farcast token keys --state-dir control
    """
    found = control_api(state_dir, api, token_file).get("/access")
    if json:
        print_json(found)
        return EXIT_OK
    rows = [
        (key["key_id"], key["issuer"], _bounds(key["scope"]), _quotas(key["quotas"]), "trusted")
        for key in found["keys"]
    ]
    rows += [(key_id, "", "", "", "revoked") for key_id in found["revoked_keys"]]
    print_table(("key", "issuer", "bounds", "quotas", "state"), rows)
    if found["revoked_tokens"]:
        note(f"{len(found['revoked_tokens'])} tokens are revoked and have not ended yet")
    return EXIT_OK


@token.command
def usage(
    key_id: str | None = None,
    *,
    days: Annotated[int, Parameter(validator=Number(gte=0, lte=400))] = 0,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Show what the sessions of each issuer's key have used in a cluster: bytes and minutes, and now.

    Nothing is counted twice; what an edge counted in its last seconds before it died may be missing.

    Example: farcast token usage --days 31 --state-dir control

    Parameters
    ----------
    key_id
        Only of this key.
    days
        Also for each of so many days of UTC, today included.
    """
    query = {"days": str(days), **({} if key_id is None else {"key_id": key_id})}
    found = control_api(state_dir, api, token_file).get("/v1/usage", **query)
    if json:
        print_json(found)
        return EXIT_OK
    rows = []
    for key in found["keys"]:
        now = f"{key['now']['publishers']} publishers, {key['now']['viewers']} viewers"
        rows.append((key["key_id"], "all", *_used(key["total"]), now if key["trusted"] else "not trusted"))
        rows += [("", day["day"], *_used(day), "") for day in key["days"]]
    print_table(("key", "day", "in", "out", "published", "watched", "now"), rows)
    if found["left_out"]:
        note(f"{found['left_out']} counts found no room and are missing")
    return EXIT_OK


@token.command
def quotas(
    key_id: str | None = None,
    *,
    state_dir: StateDir = None,
    api: Api = None,
    token_file: TokenFile = None,
    json: Json = False,
) -> int:
    """Show the quotas of issuers' keys: what is used of them, and which edge may give out how much.

    All edges together never hold more than the quota: one gets more only when another has less.

    Example: farcast token quotas shop-1 --state-dir control

    Parameters
    ----------
    key_id
        Only of this key.
    """
    query = {} if key_id is None else {"key_id": key_id}
    found = control_api(state_dir, api, token_file).get("/v1/quotas", **query)
    if json:
        print_json(found)
        return EXIT_OK
    rows = []
    for key in found["keys"]:
        rows.append((key["key_id"], "all", *_of_quota(key["used"], key["held"], key["quota"]), ""))
        for edge in key["edges"]:
            refused = f"{edge['refused']} refused" if edge["refused"] else ""
            away = "" if edge["connected"] else "away"
            remark = ", ".join(filter(None, (refused, away)))
            rows.append(("", edge["node_id"], *_of_quota(edge["used"], edge["held"], key["quota"]), remark))
    print_table(("key", "edge", "publishers", "viewers", "namespaces", "Mbit/s", "remark"), rows)
    note("each: used / held of the quota; - is no bound")
    return EXIT_OK


def _of_quota(used: dict[str, int], held: dict[str, int], quota: dict[str, int]) -> tuple[str, ...]:
    units = {"publishers": 1, "viewers": 1, "namespaces": 1, "bps": 1_000_000}
    return tuple(
        f"{used[name] / unit:g} / {held[name] / unit:g}" if quota[name] else "-"
        for name, unit in units.items()
    )


def _used(used: dict[str, Any]) -> tuple[str, ...]:
    sizes = (f"{used[name] / 1e9:.3f} GB" for name in ("bytes_in", "bytes_out"))
    return (*sizes, *(f"{used[name]:.1f} min" for name in ("publisher_minutes", "viewer_minutes")))


def _quotas(quotas: dict[str, int]) -> str:
    said = [
        (quotas["publishers_max"], "publishers"),
        (quotas["viewers_max"], "viewers"),
        (quotas["namespaces_max"], "namespaces"),
        (quotas["egress_bps_max"] / 1e6, "Mbit/s"),
    ]
    return ", ".join(f"{most:g} {what}" for most, what in said if most) or "none"


def _bounds(scopes: list[dict[str, Any]]) -> str:
    return (
        "; ".join(f"{'/'.join(s['namespace']) or '/'}: {', '.join(s['actions'])}" for s in scopes) or "none"
    )


def _done(done: dict[str, Any], text: str, *, json: bool) -> int:
    if json:
        print_json(done)
    else:
        note(text)
    return EXIT_OK


# ---- Making -----------------------------------------------------------------------------------------


def _scopes(option: str, paths: Iterable[str], actions: frozenset[Action]) -> list[Scope]:
    return [Scope(actions, _namespace(option, path)) for path in paths]


def _namespace(option: str, path: str) -> TrackNamespace:
    try:
        namespace = TrackNamespace.parse(path)
    except (InvalidName, UnicodeEncodeError) as error:
        raise UserError(f"{option} {path!r}: {error}", EXIT_USAGE) from error
    if not namespace.fields and path != "/":
        raise UserError(f"{option} {path!r}: no namespace; / is everything", EXIT_USAGE)
    return namespace


def _life(text: str) -> int:
    match = _DURATION.match(text)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not 0 < seconds <= LIFE_SECONDS_MAX:
        raise UserError(f"--valid {text!r}: a time such as 90s, 15m or 12h, a day at most", EXIT_USAGE)
    return seconds


def _check(made: str, held: IssuerKey, cluster: str) -> None:
    """What an edge would say of a token just made."""
    fault = _verdict(made, held, cluster)
    if fault:
        raise UserError(f"this token would be refused: {fault}", EXIT_USAGE)


# ---- Showing ----------------------------------------------------------------------------------------


def _verdict(text: str, held: IssuerKey, cluster: str) -> str:
    """Why the token does not open the cluster; empty if it does."""
    try:
        read_token(text.encode(), {held.key_id: TrustedKey(held.key_id, held.x)}, cluster, time.time())
    except BadToken as error:
        return str(error)
    return ""


def _parts(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims, not verified."""
    try:
        signed = jws.extract_compact(text.encode())
        header, claims = signed.headers(), json_module.loads(signed.payload)
    except (JoseError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            "not a signed JWT: three parts in base64url, separated by dots", EXIT_USAGE
        ) from error
    if not isinstance(claims, dict):
        raise UserError("not a signed JWT: its claims are no object", EXIT_USAGE)
    return header, claims


def _rows(header: dict[str, Any], claims: dict[str, Any], verdict: str | None) -> list[tuple[str, str]]:
    said = "not verified: give --key and --cluster" if verdict is None else verdict or "opens the cluster"
    shown = [(name, _shown(name, value)) for name, value in {**header, **claims}.items()]
    return [("verdict", said), *shown]


def _shown(name: str, value: Any) -> str:
    if name in ("exp", "iat", "nbf") and isinstance(value, int | float):
        return _date(value)
    return value if isinstance(value, str) else json_module.dumps(value)


def _date(unix_s: float) -> str:
    try:
        return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):
        return str(unix_s)
