"""Hypothesis strategies for everything that control messages carry."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hypothesis import strategies as st

from farcast.proto.moqt import messages as m
from farcast.proto.moqt.errors import RequestCode
from farcast.proto.moqt.keyvalue import Pair, Pairs
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.parameters import Parameters
from farcast.proto.moqt.profile import Profile
from farcast.proto.moqt.profiles import DRAFT_16, DRAFT_18, HOP
from farcast.proto.moqt.values import (
    AuthToken,
    Filter,
    FilterKind,
    GroupOrder,
    Interest,
    Location,
    NodeInfo,
    Recovery,
    Redirect,
    SetupOptions,
    TokenAliasType,
)

ALL_PROFILES = (DRAFT_16, DRAFT_18, HOP)

byte_fields = st.binary(min_size=1, max_size=12)
namespaces = st.lists(byte_fields, max_size=5).map(lambda parts: TrackNamespace(tuple(parts)))
nonempty_namespaces = st.lists(byte_fields, min_size=1, max_size=5).map(
    lambda parts: TrackNamespace(tuple(parts))
)
node_ids = st.text(st.characters(codec="utf-8"), max_size=12)
reasons = st.text(st.characters(codec="utf-8"), max_size=40)


def numbers(profile: Profile) -> st.SearchStrategy[int]:
    """Integers that fit the varints of a draft, the lengths of their encodings equally likely."""
    bits = st.integers(0, profile.varint.value_max.bit_length())
    return bits.flatmap(lambda n: st.integers(0, min(2**n, profile.varint.value_max)))


def locations(profile: Profile) -> st.SearchStrategy[Location]:
    return st.builds(Location, numbers(profile), numbers(profile))


def track_names(profile: Profile) -> st.SearchStrategy[FullTrackName]:
    spaces = nonempty_namespaces if profile.namespace_fields_min else namespaces
    return st.builds(FullTrackName, spaces, st.binary(max_size=12))


@st.composite
def filters(draw: st.DrawFn, profile: Profile) -> Filter:
    kind = draw(st.sampled_from(FilterKind))
    if kind in (FilterKind.NEXT_GROUP_START, FilterKind.LARGEST_OBJECT):
        return Filter(kind)
    start = draw(locations(profile))
    if kind is FilterKind.ABSOLUTE_START:
        return Filter(kind, start)
    return Filter(kind, start, draw(st.integers(start.group, profile.varint.value_max)))


@st.composite
def tokens(draw: st.DrawFn, profile: Profile) -> AuthToken:
    kind = draw(st.sampled_from(TokenAliasType))
    alias = None if kind is TokenAliasType.USE_VALUE else draw(numbers(profile))
    if kind in (TokenAliasType.DELETE, TokenAliasType.USE_ALIAS):
        return AuthToken(kind, alias)
    return AuthToken(kind, alias, draw(numbers(profile)), draw(st.binary(max_size=20)))


def _value(profile: Profile, attribute: str) -> st.SearchStrategy[Any]:
    special: dict[str, st.SearchStrategy[Any]] = {
        "authorization_tokens": st.lists(tokens(profile), max_size=3).map(tuple),
        "largest": locations(profile),
        "forward": st.booleans(),
        "subscriber_priority": st.integers(0, 255),
        "filter": filters(profile),
        "group_order": st.sampled_from(GroupOrder),
        "namespace_prefix": namespaces,
        "hop_path": st.lists(node_ids, max_size=4).map(tuple),
        "origin": node_ids,
        "object_delivery_timeout_ms": st.integers(1, 2**40),
    }
    return special.get(attribute, numbers(profile))


@st.composite
def parameters(draw: st.DrawFn, profile: Profile, message: type[m.Message]) -> Parameters:
    """Any parameters that the draft allows in this kind of message."""
    rows = [row for row in profile.parameters.values() if message in row.messages]
    chosen = draw(st.lists(st.sampled_from(rows), unique_by=lambda row: row.number)) if rows else []
    return Parameters(**{row.attribute: draw(_value(profile, row.attribute)) for row in chosen})


@st.composite
def pairs(draw: st.DrawFn, profile: Profile) -> Pairs:
    """Key-value pairs in ascending order, of types without a meaning to the draft."""
    kinds = st.integers(0x100, 2**20) | st.integers(0x100, profile.varint.value_max)
    chosen = sorted(draw(st.lists(kinds, max_size=4)))
    values: dict[int, st.SearchStrategy[Any]] = {0: numbers(profile), 1: st.binary(max_size=20)}
    return tuple(Pair(kind, draw(values[kind % 2])) for kind in chosen)


def redirects() -> st.SearchStrategy[Redirect]:
    return st.builds(Redirect, reasons, st.builds(FullTrackName, namespaces, st.binary(max_size=8)))


@st.composite
def setup_options(draw: st.DrawFn, profile: Profile) -> SetupOptions:
    text = st.none() | reasons
    limited = profile.request_ids_limited
    extra = [pair for pair in draw(pairs(profile)) if pair.type not in profile.setup_options]
    node = st.builds(NodeInfo, node_ids, node_ids, st.builds(Recovery, st.integers(0, 15)))
    return SetupOptions(
        path=draw(text),
        authority=draw(text),
        implementation=draw(text),
        max_request_id=draw(st.none() | numbers(profile)) if limited else None,
        max_auth_token_cache_bytes=draw(st.none() | numbers(profile)),
        authorization_tokens=draw(st.lists(tokens(profile), max_size=2).map(tuple)),
        node=draw(st.none() | node) if profile is HOP else None,
        extra=tuple((pair.type, pair.value) for pair in extra),
    )


def _fetches(profile: Profile) -> st.SearchStrategy[Any]:
    standalone = st.builds(m.StandaloneFetch, track_names(profile), locations(profile), locations(profile))
    return standalone | st.builds(m.JoiningFetch, st.booleans(), numbers(profile), numbers(profile))


@st.composite
def messages_of(draw: st.DrawFn, profile: Profile, kind: type[m.Message]) -> m.Message:
    """Any message of this kind that the draft can express."""
    present = {field.attribute for field in profile.layouts[kind].fields}
    values: dict[str, Any] = {}
    for each in fields(kind):
        if each.name in present:
            values[each.name] = draw(_field(profile, kind, each.name))
    if "redirect" in present:
        code = profile.request_codes[RequestCode.REDIRECT]
        values["redirect"] = draw(redirects()) if values["code"] == code else None
    return kind(**values)


def _field(profile: Profile, kind: type[m.Message], name: str) -> st.SearchStrategy[Any]:
    special: dict[str, st.SearchStrategy[Any]] = {
        "options": setup_options(profile),
        "parameters": parameters(profile, kind),
        "track_properties": pairs(profile),
        "name": track_names(profile),
        "namespace": nonempty_namespaces if profile.namespace_fields_min else namespaces,
        "prefix": namespaces,
        "suffix": namespaces,
        "track_name": st.binary(max_size=12),
        "reason": reasons,
        "uri": reasons,
        "interest": st.sampled_from(Interest),
        "fetch": _fetches(profile),
        "end_of_track": st.booleans(),
        "end": locations(profile),
        "redirect": st.none(),
        "code": st.sampled_from(sorted(profile.request_codes.values())) | numbers(profile),
    }
    if kind is m.Goaway and name == "request_id":
        return st.none() | numbers(profile)
    return special.get(name, numbers(profile))


@st.composite
def any_message(draw: st.DrawFn, profile: Profile) -> m.Message:
    """Any message of a draft."""
    kind = draw(st.sampled_from(sorted(profile.layouts, key=lambda cls: cls.__name__)))
    return draw(messages_of(profile, kind))
