"""Messages to bytes and back, in every draft, and the bytes that the drafts prescribe."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.proto.moqt import messages as m
from farcast.proto.moqt.codec import MessageTooLarge, decode_message, encode_message, row_for
from farcast.proto.moqt.errors import ProtocolError, PublishDoneCode, RequestCode, SessionCode, StreamCode
from farcast.proto.moqt.framer import Framer
from farcast.proto.moqt.keyvalue import Pair
from farcast.proto.moqt.names import FullTrackName, TrackNamespace
from farcast.proto.moqt.parameters import Parameters
from farcast.proto.moqt.profile import Profile
from farcast.proto.moqt.profiles import DRAFT_16, DRAFT_18, HOP
from farcast.proto.moqt.values import (
    LARGEST_OBJECT,
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

from .strategies import ALL_PROFILES, any_message, messages_of

CASES = [
    pytest.param(profile, kind, id=f"{profile.name}-{kind.__name__}")
    for profile in ALL_PROFILES
    for kind in profile.layouts
]

VIDEO = FullTrackName.of("a/bc", "v")


def message_bytes(wire: str) -> bytes:
    """A message from its type and payload in hexadecimal, ``"TT | PP PP"``; the length is put between."""
    kind, payload = (bytes.fromhex(part) for part in wire.split("|"))
    return kind + len(payload).to_bytes(2, "big") + payload


def decode(data: bytes, profile: Profile) -> m.Message:
    """The one message in ``data``."""
    framer = Framer(profile, 65_535)
    framer.push(data)
    item = framer.next()
    assert item is not None
    assert framer.buffered_bytes == 0
    return decode_message(*item, profile)


@pytest.mark.parametrize(("profile", "kind"), CASES)
@settings(max_examples=25)
@given(data=st.data())
def test_every_message_survives_the_wire(
    profile: Profile, kind: type[m.Message], data: st.DataObject
) -> None:
    message = data.draw(messages_of(profile, kind))
    assert decode(encode_message(message, profile), profile) == message


@pytest.mark.parametrize(("profile", "kind"), CASES)
@settings(max_examples=25)
@given(data=st.data())
def test_a_payload_that_is_too_short_or_too_long_is_a_protocol_error(
    profile: Profile, kind: type[m.Message], data: st.DataObject
) -> None:
    message = data.draw(messages_of(profile, kind))
    payload = encode_message(message, profile)[len(profile.varint.encode(profile.layouts[kind].number)) + 2 :]
    cut = data.draw(st.integers(0, len(payload)))
    changed = payload[:cut] + data.draw(st.binary(max_size=3))
    try:
        decoded = decode_message(profile.layouts[kind], changed, profile)
    except ProtocolError:
        return
    assert isinstance(decoded, kind)


@pytest.mark.parametrize("profile", ALL_PROFILES, ids=lambda profile: profile.name)
@settings(max_examples=25)
@given(data=st.data())
def test_arbitrary_bytes_give_a_message_or_a_protocol_error(profile: Profile, data: st.DataObject) -> None:
    row = data.draw(st.sampled_from(list(profile.messages.values())))
    with contextlib.suppress(ProtocolError):
        decode_message(row, data.draw(st.binary(max_size=60)), profile)


@pytest.mark.parametrize("profile", ALL_PROFILES, ids=lambda profile: profile.name)
@settings(max_examples=25)
@given(data=st.data())
def test_the_framer_finds_the_same_messages_however_the_bytes_are_cut(
    profile: Profile, data: st.DataObject
) -> None:
    messages = data.draw(st.lists(any_message(profile), max_size=4))
    wire = b"".join(encode_message(message, profile) for message in messages)
    framer = Framer(profile, 65_535)
    found = []
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        framer.push(wire[:size])
        wire = wire[size:]
        while (item := framer.next()) is not None:
            found.append(decode_message(*item, profile))
    assert found == messages


KNOWN = [
    # SUBSCRIBE: id 4, namespace ("a", "bc"), name "v"; FORWARD 0x10, SUBSCRIBER_PRIORITY +0x10,
    # SUBSCRIPTION_FILTER +1, GROUP_ORDER +1. Draft 16 has varints for the numbers, draft 18 bytes: 200
    # differs.
    (
        DRAFT_16,
        m.Subscribe(
            request_id=4,
            name=VIDEO,
            parameters=Parameters(
                forward=True,
                subscriber_priority=200,
                filter=LARGEST_OBJECT,
                group_order=GroupOrder.DESCENDING,
            ),
        ),
        "03 | 04 02 01 61 02 6263 01 76 04 10 01 10 40c8 01 01 02 01 02",
    ),
    (
        DRAFT_18,
        m.Subscribe(
            request_id=4,
            name=VIDEO,
            parameters=Parameters(
                forward=True,
                subscriber_priority=200,
                filter=LARGEST_OBJECT,
                group_order=GroupOrder.DESCENDING,
            ),
        ),
        "03 | 04 02 01 61 02 6263 01 76 04 10 01 10 c8 01 01 02 01 02",
    ),
    # A range up to group 9: absolute in draft 16, three after the start in draft 18.
    (
        DRAFT_16,
        m.RequestUpdate(
            request_id=6,
            existing_request_id=4,
            parameters=Parameters(filter=Filter(FilterKind.ABSOLUTE_RANGE, Location(6, 1), 9)),
        ),
        "02 | 06 04 01 21 04 04 06 01 09",
    ),
    (
        DRAFT_18,
        m.RequestUpdate(
            request_id=6,
            parameters=Parameters(filter=Filter(FilterKind.ABSOLUTE_RANGE, Location(6, 1), 9)),
        ),
        "02 | 06 01 21 04 04 06 01 03",
    ),
    # LARGEST_OBJECT is behind a length in draft 16 only; the request id is gone from responses in draft 18.
    (
        DRAFT_16,
        m.SubscribeOk(
            request_id=4,
            alias=7,
            parameters=Parameters(largest=Location(3, 300)),
            track_properties=(Pair(0x0E, 5),),
        ),
        "04 | 04 07 01 09 03 03 412c 0e 05",
    ),
    (
        DRAFT_18,
        m.SubscribeOk(
            alias=7, parameters=Parameters(largest=Location(3, 300)), track_properties=(Pair(0x0E, 5),)
        ),
        "04 | 07 01 09 03 812c 0e 05",
    ),
    # SUBSCRIBE_NAMESPACE with an empty prefix, as @moq/net and moq-rs send it.
    (
        DRAFT_16,
        m.SubscribeNamespace(request_id=0, prefix=TrackNamespace(), interest=Interest.NAMESPACE),
        "11 | 00 00 01 00",
    ),
    (DRAFT_18, m.SubscribeNamespace(request_id=0, prefix=TrackNamespace()), "50 | 00 00 00"),
    (DRAFT_16, m.PublishNamespace(request_id=2, namespace=TrackNamespace((b"a",))), "06 | 02 01 01 61 00"),
    (DRAFT_16, m.Namespace(suffix=TrackNamespace()), "08 | 00"),
    (DRAFT_16, m.RequestOk(request_id=0), "07 | 00 00"),
    (DRAFT_18, m.RequestOk(), "07 | 00"),
    (
        DRAFT_16,
        m.RequestError(request_id=1, code=0x10, retry=0, reason="no"),
        "05 | 01 10 00 02 6e6f",
    ),
    (
        DRAFT_18,
        m.RequestError(code=0x34, reason="", redirect=Redirect("moqt://x", VIDEO)),
        "05 | 34 00 00 08 6d6f71743a2f2f78 02 01 61 02 6263 01 76",
    ),
    (DRAFT_16, m.Unsubscribe(request_id=4), "0a | 04"),
    (
        DRAFT_16,
        m.PublishDone(request_id=4, status=2, stream_count=2**62 - 1, reason=""),
        "0b | 04 02 ffffffffffffffff 00",
    ),
    (DRAFT_18, m.PublishDone(status=2, stream_count=128, reason=""), "0b | 02 8080 00"),
    (DRAFT_16, m.MaxRequestId(request_id=128), "15 | 4080"),
    (DRAFT_16, m.Goaway(uri=""), "10 | 00"),
    (DRAFT_18, m.Goaway(uri="", timeout_ms=10, request_id=1), "10 | 00 0a 01"),
    # Setup options: PATH 1, then MAX_REQUEST_ID +1, AUTHORITY +3, MOQT_IMPLEMENTATION +2; counted in draft
    # 16.
    (
        DRAFT_16,
        m.ClientSetup(
            options=SetupOptions(path="/x", max_request_id=100, authority="h:1", implementation="f")
        ),
        "20 | 04 01 02 2f78 01 4064 03 03 683a31 02 01 66",
    ),
    (DRAFT_16, m.ServerSetup(options=SetupOptions(max_request_id=9)), "21 | 01 02 09"),
    (DRAFT_18, m.Setup(options=SetupOptions(path="/x", implementation="f")), "af00 | 01 02 2f78 06 01 66"),
    (
        HOP,
        m.Setup(options=SetupOptions(node=NodeInfo("s1", "sin", Recovery.RETRANSMISSION))),
        "af00 | c04645 08 02 7331 03 73696e 01",
    ),
    (
        HOP,
        m.Subscribe(request_id=0, name=VIDEO, parameters=Parameters(hop_path=("s1", "d2"), origin="f")),
        "03 | 00 02 01 61 02 6263 01 76 02 c04641 07 02 02 7331 02 6432 02 02 01 66",
    ),
    # A token: USE_VALUE, type 0, value "t".
    (
        DRAFT_18,
        m.PublishNamespace(
            request_id=0,
            namespace=TrackNamespace((b"a",)),
            parameters=Parameters(authorization_tokens=(AuthToken(TokenAliasType.USE_VALUE, None, 0, b"t"),)),
        ),
        "06 | 00 01 01 61 01 03 03 03 00 74",
    ),
]


@pytest.mark.parametrize(("profile", "message", "wire"), KNOWN)
def test_known_bytes(profile: Profile, message: m.Message, wire: str) -> None:
    assert encode_message(message, profile).hex() == message_bytes(wire).hex()
    assert decode(message_bytes(wire), profile) == message


VIOLATIONS = [
    (DRAFT_16, "02 | 06 04 01 0b", "unknown parameter 0xb"),
    (DRAFT_18, "02 | 06 01 0c 00", "unknown parameter 0xc"),
    (DRAFT_18, "02 | 06 02 10 01 00 01", "parameter 0x10 is repeated"),
    (DRAFT_18, "02 | 06 01 10 02", "2 is not a valid flag"),
    (DRAFT_16, "02 | 06 04 01 10 02", "2 is not a valid flag"),
    (DRAFT_16, "02 | 06 04 01 20 4100", "256 is not a valid priority"),
    (DRAFT_16, "02 | 06 04 01 02 00", "0 is not a valid duration"),
    (DRAFT_18, "02 | 06 01 21 01 05", "filter type 0x5"),
    (DRAFT_18, "02 | 06 01 21 02 02 00", "1 bytes follow"),
    (DRAFT_16, "02 | 06 04 01 21 04 04 06 01 05", "from group 6 to group 5"),
    (DRAFT_18, "02 | 06 01 21 0c 04 ffffffffffffffffff 00 01", "to group 18446744073709551616"),
    (DRAFT_18, "02 | 06 02 10 01 fffffffffffffffffff0", r"parameter type above 2\*\*64"),
    (DRAFT_18, "50 | 00 00 01 20 05", "0x20 does not belong into SubscribeNamespace"),
    (DRAFT_18, "04 | 07 00 0e 80", "inside a key-value pair"),
    (DRAFT_18, "04 | 07 00 0e 8100", "property 0xe must not be 256"),
    (DRAFT_18, "04 | 07 00 22 03", "property 0x22 must not be 3"),
    (DRAFT_18, "04 | 07 00 30 02", "property 0x30 must not be 2"),
    (DRAFT_16, "04 | 04 07 00 02 00", "property 0x2 must not be 0"),
    (DRAFT_16, "06 | 02 00 00", "namespace of 0 fields"),
    (DRAFT_18, "06 | 02 01 00 00", "field is empty"),
    (DRAFT_18, "06 | 02 21 00", "namespace of 33 fields"),
    (DRAFT_18, "16 | 00 04 00", "fetch type 0x4"),
    (DRAFT_16, "11 | 00 00 03 00", "subscribe options 0x3"),
    (DRAFT_16, "07 | 00 00 00", "1 bytes follow the last field"),
    (DRAFT_18, "05 | 00 00 8401 00 00", "reason of 1025 bytes"),
    (DRAFT_16, "10 | 6001 00", "URI of 8193 bytes"),
    (DRAFT_16, "20 | 40ff", "255 setup options"),
    (DRAFT_16, "20 | 02 02 09 00 09", "setup option 0x2 is repeated"),
    (HOP, "03 | 00 01 01 61 01 76 01 c04641 02 11 00", "hop path of 17 nodes"),
]


@pytest.mark.parametrize(("profile", "wire", "reason"), VIOLATIONS)
def test_what_the_drafts_forbid_is_a_protocol_error(profile: Profile, wire: str, reason: str) -> None:
    with pytest.raises(ProtocolError, match=reason):
        decode(message_bytes(wire), profile)


def test_malformed_tokens_and_options_are_formatting_errors() -> None:
    cases = [
        (DRAFT_18, "06 | 00 01 01 61 01 03 01 04"),  # alias type 4
        (DRAFT_18, "06 | 00 01 01 61 01 03 01 01"),  # REGISTER without an alias
        (DRAFT_16, "04 | 04 07 01 09 01 03"),  # LARGEST_OBJECT with a group only
        (DRAFT_18, "af00 | 03 01 09"),  # a token of alias type 9 in SETUP
        (DRAFT_18, "af00 | 01 05 2f"),  # PATH shorter than its length
    ]
    for profile, wire in cases:
        with pytest.raises(ProtocolError) as caught:
            decode(message_bytes(wire), profile)
        assert caught.value.code is SessionCode.KEY_VALUE_FORMATTING_ERROR


def test_draft_16_ignores_parameters_that_do_not_belong() -> None:
    message = decode(message_bytes("11 | 00 00 01 01 20 05"), DRAFT_16)
    assert message == m.SubscribeNamespace(request_id=0, prefix=TrackNamespace(), interest=Interest.NAMESPACE)


def test_larger_numbers_than_a_draft_knows_are_cut_to_its_largest() -> None:
    huge = 2**64 - 1
    message = m.SubscribeOk(request_id=0, alias=1, parameters=Parameters(largest=Location(huge, huge)))
    decoded = decode(encode_message(message, DRAFT_16), DRAFT_16)
    assert isinstance(decoded, m.SubscribeOk)
    assert decoded.parameters.largest == Location(2**62 - 1, 2**62 - 1)


def test_properties_that_a_draft_cannot_express_are_left_out() -> None:
    message = m.SubscribeOk(
        request_id=0, alias=1, track_properties=(Pair(0x100, 2**63), Pair(0x102, 1), Pair(2**63, 0))
    )
    decoded = decode(encode_message(message, DRAFT_16), DRAFT_16)
    assert isinstance(decoded, m.SubscribeOk)
    assert decoded.track_properties == (Pair(0x102, 1),)


def test_a_reason_is_cut_between_characters() -> None:
    decoded = decode(encode_message(m.RequestError(code=0, reason="é" * 1_000), DRAFT_18), DRAFT_18)
    assert isinstance(decoded, m.RequestError)
    assert decoded.reason == "é" * 512


def test_a_message_that_does_not_fit_is_not_sent() -> None:
    message = m.SubscribeOk(alias=1, track_properties=(Pair(1, b"x" * 40_000), Pair(3, b"x" * 40_000)))
    with pytest.raises(MessageTooLarge):
        encode_message(message, DRAFT_18)


def test_a_message_that_the_draft_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="draft-18 has no Unsubscribe"):
        encode_message(m.Unsubscribe(request_id=0), DRAFT_18)
    with pytest.raises(ProtocolError):
        row_for(0x0A, DRAFT_18)


@pytest.mark.parametrize("profile", ALL_PROFILES, ids=lambda profile: profile.name)
def test_codes_that_a_draft_lacks_become_internal_error_both_ways(profile: Profile) -> None:
    for request_code in RequestCode:
        number = profile.request_number(request_code)
        assert profile.request_code(number) in (request_code, RequestCode.INTERNAL_ERROR)
    for done_code in PublishDoneCode:
        number = profile.publish_done_number(done_code)
        assert profile.publish_done_code(number) in (done_code, PublishDoneCode.INTERNAL_ERROR)
    for stream_code in StreamCode:
        assert profile.stream_number(stream_code) >= 0
    assert profile.request_code(404) is RequestCode.INTERNAL_ERROR
    assert profile.publish_done_code(200) is PublishDoneCode.INTERNAL_ERROR


def test_two_publish_done_codes_changed_places_between_the_drafts() -> None:
    assert DRAFT_16.publish_done_number(PublishDoneCode.EXPIRED) == 5
    assert DRAFT_16.publish_done_number(PublishDoneCode.TOO_FAR_BEHIND) == 6
    assert DRAFT_18.publish_done_number(PublishDoneCode.EXPIRED) == 6
    assert DRAFT_18.publish_done_number(PublishDoneCode.TOO_FAR_BEHIND) == 5
