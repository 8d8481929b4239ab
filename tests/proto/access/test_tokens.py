"""Tokens, good and hostile (the list of attacks: RFC 8725 and advisories of JWT libraries)."""

from __future__ import annotations

import json
from typing import Any

import hostile_tokens
import pytest
from access_tokens import CLUSTER, PRIVATE, X
from hostile_tokens import HEADER, KEYS, ROOM, raw
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws

from farcast.proto.access.keys import BadKey, TrustedKey
from farcast.proto.access.scopes import PUBLISHER, VIEWER, Action, Match, Scope, TrackMatch
from farcast.proto.access.tokens import (
    CLOCK_SKEW_SECONDS,
    TOKEN_BYTES_MAX,
    BadToken,
    Cause,
    read_scope,
    read_token,
    write_scope,
)
from farcast.proto.moqt.names import TrackNamespace

NOW = 1_800_000_000


def token(**changes: Any) -> bytes:
    return hostile_tokens.good(NOW, **changes)


def read(value: bytes, now: float = NOW) -> Any:
    return read_token(value, KEYS, CLUSTER, now)


GOOD = json.dumps(hostile_tokens.claims(NOW)).encode()


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


HOSTILE = hostile_tokens.table(NOW)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_token_is_refused_for_its_cause_in_words_that_quote_nothing_of_it(name: str) -> None:
    row = HOSTILE[name]
    with pytest.raises(BadToken) as caught:
        read_token(row.token, hostile_tokens.KEYS, CLUSTER, NOW)
    assert caught.value.cause is row.cause
    assert row.said in str(caught.value)
    assert 0 < len(str(caught.value)) < 200
    assert caught.value.expired == (row.cause is Cause.EXPIRED), "a newer one would do"
    for secret in ("viewer-7", "t1", "mallory", "passwd", "k2", "k3"):
        assert secret not in str(caught.value)


def test_every_cause_but_revocation_has_a_hostile_token() -> None:
    assert {row.cause for row in HOSTILE.values()} == set(Cause) - {Cause.REVOKED}


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
