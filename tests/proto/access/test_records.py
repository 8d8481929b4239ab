"""Keys and revocations as plans carry them."""

from __future__ import annotations

import msgspec
import pytest
from access_tokens import X
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.access.keys import BadKey, Quotas, TrustedKey
from farcast.proto.access.records import AccessRules, KeyRecord, ScopeRecord, read_rules, write_key
from farcast.proto.access.scopes import Action, Match, Scope, TrackMatch
from farcast.proto.moqt.names import TrackNamespace

FIELDS = st.lists(st.binary(min_size=1, max_size=6), max_size=4).map(tuple)
SCOPES = st.builds(
    Scope,
    st.frozensets(st.sampled_from(Action), min_size=1),
    st.builds(TrackNamespace, FIELDS),
    st.none() | st.builds(TrackMatch, st.sampled_from(Match), st.binary(max_size=6)),
)
COUNT = st.integers(0, 2**53 - 1)
KEYS = st.builds(
    TrustedKey,
    st.from_regex(r"[A-Za-z0-9_-]{1,12}", fullmatch=True),
    st.just(X),
    st.text(max_size=12),
    st.lists(SCOPES, max_size=3).map(tuple),
    st.builds(Quotas, COUNT, COUNT, COUNT, COUNT),
)


@given(
    st.lists(KEYS, max_size=3, unique_by=lambda key: key.key_id),
    st.frozensets(st.text(min_size=1, max_size=9)),
)
def test_a_policy_is_the_same_after_a_plan_carried_it(
    keys: list[TrustedKey], revoked: frozenset[str]
) -> None:
    rules = AccessRules(keys=tuple(map(write_key, keys)), revoked_tokens=tuple(sorted(revoked)))
    carried = msgspec.msgpack.decode(msgspec.msgpack.encode(rules), type=AccessRules)
    policy = read_rules(carried, "shows")
    assert policy.keys == {key.key_id: key for key in keys}
    assert policy.revoked_tokens == revoked
    assert policy.audience == "shows"


def test_what_a_newer_version_allows_and_this_one_does_not_know_allows_nothing() -> None:
    newer = ScopeRecord(actions=(42,), namespace=(b"live",))
    known = ScopeRecord(actions=(42, int(Action.SUBSCRIBE)), namespace=(b"live",))
    odd = ScopeRecord(actions=(int(Action.SUBSCRIBE),), namespace=(), match="regex", track=b".*")
    rules = AccessRules(
        keys=(
            KeyRecord(key_id="newer", x=X, scopes=(newer, odd)),
            KeyRecord(key_id="both", x=X, scopes=(newer, known)),
        )
    )
    policy = read_rules(rules, "shows")
    assert set(policy.keys) == {"both"}
    assert policy.keys["both"].scopes == (Scope(frozenset({Action.SUBSCRIBE}), TrackNamespace((b"live",))),)


@pytest.mark.parametrize("record", [KeyRecord(key_id="k", x="AAAA"), KeyRecord(key_id="k", x="")])
def test_a_key_that_is_none_is_refused(record: KeyRecord) -> None:
    with pytest.raises(BadKey):
        read_rules(AccessRules(keys=(record,)), "shows")
