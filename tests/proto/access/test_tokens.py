"""Tokens, good and hostile (the list of attacks: RFC 8725 and advisories of JWT libraries)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey

from farcast.proto.access.keys import BadKey, TrustedKey
from farcast.proto.access.scopes import PUBLISHER, VIEWER, Action, Match, Scope, TrackMatch
from farcast.proto.access.tokens import (
    CLOCK_SKEW_SECONDS,
    LIFE_SECONDS_MAX,
    TOKEN_BYTES_MAX,
    BadToken,
    make_claims,
    read_scope,
    read_token,
    write_scope,
    write_token,
)
from farcast.proto.moqt.names import TrackNamespace

NOW = 1_800_000_000
CLUSTER = "shows"
PRIVATE = OKPKey.import_key(
    {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo",
     "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}
)  # fmt: skip
X = str(PRIVATE.as_dict(private=False)["x"])
OTHER = OKPKey.generate_key("Ed25519")
KEYS = {"k1": TrustedKey("k1", X, issuer="shop.example")}
ROOM = TrackNamespace.parse("live/room1")


def claims(**changes: Any) -> dict[str, Any]:
    made = make_claims(
        [Scope(VIEWER, ROOM)],
        audience=CLUSTER,
        issuer="shop.example",
        subject="viewer-7",
        token_id="t1",
        now_unix_s=NOW,
        life_seconds=900,
    )
    merged = {**made, **changes}
    return {name: value for name, value in merged.items() if value is not ...}


def token(**changes: Any) -> bytes:
    return write_token(claims(**changes), PRIVATE, "k1").encode()


def raw(header: Any, payload: bytes, sign: Callable[[bytes], bytes] | None = None) -> bytes:
    """A token by hand."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    head = part(header if isinstance(header, bytes) else json.dumps(header).encode())
    body = head + b"." + part(payload)
    signature = (sign or PRIVATE.private_key.sign)(body)  # type: ignore[union-attr]
    return body + b"." + part(signature)


def read(value: bytes, now: float = NOW) -> Any:
    return read_token(value, KEYS, CLUSTER, now)


HEADER = {"alg": "Ed25519", "typ": "JWT", "kid": "k1"}
GOOD = json.dumps(claims()).encode()


def test_a_good_token_grants_what_it_says_and_no_more() -> None:
    grant = read(token())
    assert (grant.key_id, grant.token_id, grant.subject) == ("k1", "t1", "viewer-7")
    assert grant.expires_unix_s == NOW + 900
    assert grant.allows(Action.SUBSCRIBE, ROOM, b"video")
    assert grant.allows(Action.SUBSCRIBE, TrackNamespace.parse("live/room1/alice"), b"video")
    assert not grant.allows(Action.PUBLISH, ROOM, b"video")
    assert not grant.allows(Action.SUBSCRIBE, TrackNamespace.parse("live"), b"video")
    assert not grant.allows(Action.SUBSCRIBE, TrackNamespace.parse("live/room12"), b"video")


def test_the_algorithm_may_have_its_older_name() -> None:
    assert read(raw({**HEADER, "alg": "EdDSA"}, GOOD)).token_id == "t1"


def _hmac(body: bytes) -> bytes:
    return hmac.new(PRIVATE.as_bytes(private=False), body, hashlib.sha256).digest()


HOSTILE: dict[str, bytes] = {
    "alg none": raw({**HEADER, "alg": "none"}, GOOD, lambda _: b""),
    "public key as HMAC secret": raw({**HEADER, "alg": "HS256"}, GOOD, _hmac),
    "another algorithm": raw({**HEADER, "alg": "ES256"}, GOOD),
    "algorithm of another type": raw({**HEADER, "alg": ["Ed25519"]}, GOOD),
    "unknown critical extension": raw({**HEADER, "crit": ["exp"]}, GOOD),
    "payload not encoded": raw({**HEADER, "b64": False, "crit": ["b64"]}, GOOD),
    "b64 without crit": raw({**HEADER, "b64": False}, GOOD),
    "key in the header": raw({**HEADER, "jwk": OTHER.as_dict(private=False)}, GOOD, OTHER.private_key.sign),  # type: ignore[union-attr]
    "signed by another key": raw(HEADER, GOOD, OTHER.private_key.sign),  # type: ignore[union-attr]
    "no key id": raw({"alg": "Ed25519"}, GOOD),
    "key id that is a path": raw({**HEADER, "kid": "../../etc/passwd"}, GOOD),
    "key id of 2,000 characters": raw({**HEADER, "kid": "k" * 2_000}, GOOD),
    "key id of another type": raw({**HEADER, "kid": {"k": 1}}, GOOD),
    "unknown key id": raw({**HEADER, "kid": "k2"}, GOOD),
    "flipped bit": token()[:-3] + bytes([token()[-3] ^ 1]) + token()[-2:],
    "a megabyte": raw(HEADER, json.dumps(claims(sub="x" * 1_000_000)).encode()),
    "deep JSON": raw(HEADER, b"[" * 5_000 + b"]" * 5_000),
    "deep header": raw(b"[" * 300 + b"]" * 300, GOOD),
    "four parts": token() + b".x",
    "two parts": token().rsplit(b".", 1)[0],
    "empty": b"",
    "not ASCII": token() + "é".encode(),
    "payload is a list": raw(HEADER, b"[1]"),
    "payload is no JSON": raw(HEADER, b"{"),
    "payload is not UTF-8": raw(HEADER, b'{"v":"\xff"}'),
    "a claim twice": raw(HEADER, GOOD[:-1] + b',"exp":4000000000}'),
    "a name twice within a scope": raw(
        HEADER, GOOD.replace(b'"actions"', b'"actions":["publish"],"actions"')
    ),
    "NaN": raw(HEADER, GOOD.replace(b'"exp": %d' % (NOW + 900), b'"exp": NaN')),
    "expired": token(exp=NOW - 1),
    "no end": token(exp=...),
    "no issuing time": token(iat=...),
    "begins later": token(nbf=NOW + CLOCK_SKEW_SECONDS + 1),
    "issued later": token(iat=NOW + CLOCK_SKEW_SECONDS + 1),
    "end as text": token(exp=str(NOW + 900)),
    "end as truth": token(exp=True),
    "end in 1e308 seconds": token(exp=1e308),
    "end beyond every float": token(exp=10**400),
    "lives for more than a day": token(exp=NOW + LIFE_SECONDS_MAX + 1),
    "issued long ago to live long": token(iat=NOW - 2 * LIFE_SECONDS_MAX),
    "another cluster": token(aud="tests"),
    "no audience": token(aud=...),
    "audience of another type": token(aud={"shows": 1}),
    "another issuer": token(iss="mallory.example"),
    "no issuer": token(iss=...),
    "no version": token(v=...),
    "newer version": token(v=2),
    "version as truth": token(v=True),
    "no token id": token(jti=...),
    "subject with a line break": token(sub="a\nlevel=error"),
    "no scope": token(scope=...),
    "empty scope": token(scope=[]),
    "17 scopes": token(scope=[write_scope(Scope(VIEWER, ROOM))] * 17),
    "scope as text": token(scope="subscribe"),
    "scope without a namespace": token(scope=[{"actions": ["subscribe"]}]),
    "namespace as a path": token(scope=[{"actions": ["subscribe"], "namespace": "live/room1"}]),
    "namespace with an empty field": token(scope=[{"actions": ["subscribe"], "namespace": ["live", ""]}]),
    "namespace of 33 fields": token(scope=[{"actions": ["subscribe"], "namespace": ["a"] * 33}]),
    "no actions": token(scope=[{"actions": [], "namespace": []}]),
    "unknown action": token(scope=[{"actions": ["own"], "namespace": []}]),
    "a restriction that is not understood": token(
        scope=[{"actions": ["subscribe"], "namespace": [], "country": "ID"}]
    ),
    "two ways to match a track": token(
        scope=[{"actions": ["subscribe"], "namespace": [], "track": {"exact": "a", "prefix": "b"}}]
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_token_is_refused_for_a_reason_that_quotes_nothing_of_it(name: str) -> None:
    with pytest.raises(BadToken) as caught:
        read(HOSTILE[name])
    assert 0 < len(str(caught.value)) < 200
    for secret in ("viewer-7", "t1", "mallory", "passwd", "k2"):
        assert secret not in str(caught.value)


def test_only_a_token_whose_time_is_over_is_called_expired() -> None:
    for name, value in HOSTILE.items():
        with pytest.raises(BadToken) as caught:
            read(value)
        assert caught.value.expired == (name == "expired"), name


def test_a_token_ends_when_it_says() -> None:
    assert read(token(), NOW + 899.9)
    with pytest.raises(BadToken, match="expired"):
        read(token(), NOW + 900)


def test_an_issuers_clock_may_be_two_minutes_ahead() -> None:
    assert read(token(), NOW - CLOCK_SKEW_SECONDS)
    with pytest.raises(BadToken, match="not valid yet"):
        read(token(), NOW - CLOCK_SKEW_SECONDS - 1)


def test_a_key_bounds_what_its_tokens_allow() -> None:
    bound = TrustedKey("k1", X, scopes=(Scope(PUBLISHER | VIEWER, TrackNamespace.parse("live/room1/a")),))
    grant = read_token(token(), {"k1": bound}, CLUSTER, NOW)
    assert grant.allows(Action.SUBSCRIBE, TrackNamespace.parse("live/room1/a/b"), b"video")
    assert not grant.allows(Action.SUBSCRIBE, ROOM, b"video")
    assert not grant.allows(Action.PUBLISH, TrackNamespace.parse("live/room1/a"), b"video")


@pytest.mark.parametrize(
    ("match", "covered", "not_covered"),
    [
        (Match.EXACT, b"video", b"video2"),
        (Match.PREFIX, b"video/1", b"a/video"),
        (Match.SUFFIX, b"1/video", b"x"),
    ],
)
def test_a_scope_may_be_for_some_tracks_only(match: Match, covered: bytes, not_covered: bytes) -> None:
    scope = Scope(VIEWER, ROOM, TrackMatch(match, b"video"))
    assert scope.allows(Action.SUBSCRIBE, ROOM, covered)
    assert not scope.allows(Action.SUBSCRIBE, ROOM, not_covered)
    assert not scope.allows(Action.SUBSCRIBE, ROOM, None)
    assert scope.allows(Action.SUBSCRIBE_NAMESPACE, ROOM)


@pytest.mark.parametrize(
    ("key_id", "x"), [("", X), ("a/b", X), ("k" * 65, X), ("k1", ""), ("k1", "AAAA"), ("k1", X + "!")]
)
def test_what_is_no_key_is_refused(key_id: str, x: str) -> None:
    with pytest.raises(BadKey, match="key"):
        TrustedKey(key_id, x)


FIELDS = st.lists(st.text(min_size=1, max_size=8).filter(lambda t: max(t) < "\ud800"), max_size=4)


@given(
    st.frozensets(st.sampled_from(Action), min_size=1),
    FIELDS,
    st.none() | st.builds(TrackMatch, st.sampled_from(Match), st.text(max_size=8).map(
        lambda t: t.encode("utf-8", "ignore"))),
)  # fmt: skip
def test_scopes_survive_being_written_and_read(
    actions: frozenset[Action], fields: list[str], track: TrackMatch | None
) -> None:
    scope = Scope(actions, TrackNamespace(tuple(part.encode() for part in fields)), track)
    assert read_scope(json.loads(json.dumps(write_scope(scope)))) == scope


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_fail_in_another_way(data: bytes) -> None:
    with pytest.raises(BadToken):
        read(data)
    with pytest.raises(BadToken):
        read(raw(HEADER, data))


def test_a_token_at_the_limit_of_size_is_read() -> None:
    scopes = [write_scope(Scope(VIEWER, TrackNamespace((b"n" * 250,))))] * 8
    assert len(token(scope=scopes)) < TOKEN_BYTES_MAX
    assert len(read(token(scope=scopes)).scopes) == 8


def test_a_token_is_a_jws_that_others_can_read() -> None:
    assert jws.deserialize_compact(token(), PRIVATE, ["Ed25519"]).payload
