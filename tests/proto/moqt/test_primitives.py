"""Varints, names, key-value pairs, tokens and seen ids on their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.moqt.errors import ProtocolError, SessionCode
from farcast.proto.moqt.keyvalue import Pair, decode_pairs, encode_pairs, expressible
from farcast.proto.moqt.names import FullTrackName, InvalidName, TrackNamespace
from farcast.proto.moqt.seen import SeenIds
from farcast.proto.moqt.tokens import TokenCache
from farcast.proto.moqt.values import AuthToken, Filter, FilterKind, Location, Token, TokenAliasType
from farcast.proto.moqt.varint import RFC9000, VI64, Truncated, Varint

VARINTS = pytest.mark.parametrize("varint", [RFC9000, VI64], ids=lambda varint: varint.name)


class TestVarint:
    # Draft 18, section 1.4.1, table 2; the second is the first in more bytes than it needs.
    @pytest.mark.parametrize(
        ("wire", "value"),
        [
            ("25", 37),
            ("8025", 37),
            ("bbbd", 15_293),
            ("ed7f3e7d", 226_442_877),
            ("faa1a0e403d8", 2_893_212_287_960),
            ("fc8998abc66bc0", 151_288_809_941_952),
            ("fefa318fa8e3ca11", 70_423_237_261_249_041),
            ("ffffffffffffffffff", 18_446_744_073_709_551_615),
        ],
    )
    def test_examples_of_the_draft(self, wire: str, value: int) -> None:
        assert VI64.decode(bytes.fromhex(wire)) == (value, len(wire) // 2)

    # RFC 9000, appendix A.1.
    @pytest.mark.parametrize(
        ("wire", "value"),
        [
            ("c2197c5eff14e88c", 151_288_809_941_952_652),
            ("9d7f3e7d", 494_878_333),
            ("7bbd", 15_293),
            ("25", 37),
            ("4025", 37),
        ],
    )
    def test_examples_of_the_rfc(self, wire: str, value: int) -> None:
        assert RFC9000.decode(bytes.fromhex(wire)) == (value, len(wire) // 2)

    @VARINTS
    @given(data=st.data())
    def test_values_survive_in_the_shortest_form(self, varint: Varint, data: st.DataObject) -> None:
        bits = data.draw(st.integers(0, varint.value_max.bit_length()))
        value = data.draw(st.integers(0, min(2**bits, varint.value_max)))
        wire = varint.encode(value)
        assert varint.decode(b"x" + wire + b"rest", 1) == (value, 1 + len(wire))
        room = {"rfc9000": (0, 6, 14, 30, 62), "vi64": (0, 7, 14, 21, 28, 35, 42, 49, 56, 64)}[varint.name]
        shortest = next(index for index, size in enumerate(room) if index and value < 2**size)
        assert len(wire) == (2 ** (shortest - 1) if varint is RFC9000 else shortest)

    @VARINTS
    def test_missing_bytes_are_told_from_wrong_ones(self, varint: Varint) -> None:
        for value in (64, 2**21, varint.value_max):
            wire = varint.encode(value)
            for length in range(len(wire)):
                with pytest.raises(Truncated):
                    varint.decode(wire[:length])

    @VARINTS
    def test_what_does_not_fit_is_refused(self, varint: Varint) -> None:
        for value in (-1, varint.value_max + 1):
            with pytest.raises(ValueError, match="does not fit"):
                varint.encode(value)


class TestNames:
    def test_the_example_of_the_draft(self) -> None:
        name = FullTrackName(TrackNamespace((b"example.net", b"team2", b"project_x")), b"report")
        assert str(name) == "example.2enet-team2-project_x--report"
        assert FullTrackName.parse(str(name)) == name

    @given(st.lists(st.binary(min_size=1, max_size=5), max_size=4), st.binary(max_size=5))
    def test_text_is_bijective(self, fields: list[bytes], name: bytes) -> None:
        full = FullTrackName(TrackNamespace(tuple(fields)), name)
        assert FullTrackName.parse(str(full)) == full

    @pytest.mark.parametrize("text", ["a", "a--.61", "a--.2E", "a--.2", "a--.", "a b--c", "-a--b"])
    def test_text_that_is_not_canonical_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidName):
            FullTrackName.parse(text)

    def test_limits(self) -> None:
        TrackNamespace((b"x",) * 32)
        FullTrackName(TrackNamespace((b"x" * 4_000,)), b"y" * 96)
        with pytest.raises(InvalidName):
            TrackNamespace((b"x",) * 33)
        with pytest.raises(InvalidName):
            TrackNamespace((b"x" * 4_097,))
        with pytest.raises(InvalidName):
            TrackNamespace((b"x", b""))
        with pytest.raises(InvalidName):
            FullTrackName(TrackNamespace((b"x" * 4_000,)), b"y" * 97)

    def test_prefixes_are_of_whole_fields(self) -> None:
        room = TrackNamespace.parse("live/room1")
        alice = TrackNamespace.parse("/live/room1//alice/")
        assert alice.starts_with(room)
        assert alice.starts_with(TrackNamespace())
        assert not TrackNamespace.parse("live/room12").starts_with(room)
        assert alice.suffix_after(room) == TrackNamespace((b"alice",))
        assert room.join(alice.suffix_after(room)) == alice
        assert room.overlaps(alice)
        assert alice.overlaps(room)
        assert not alice.overlaps(TrackNamespace.parse("live/room1/bob"))
        assert alice.path() == "live/room1/alice"
        with pytest.raises(ValueError, match="does not start with"):
            room.suffix_after(alice)


class TestPairs:
    @VARINTS
    @given(data=st.data())
    def test_pairs_survive_in_ascending_order(self, varint: Varint, data: st.DataObject) -> None:
        kinds = data.draw(st.lists(st.integers(0, varint.value_max), max_size=6))
        pairs = [Pair(kind, kind // 2 if kind % 2 == 0 else b"v" * (kind % 7)) for kind in kinds]
        wire = encode_pairs(pairs, varint)
        assert list(decode_pairs(wire, varint)) == sorted(pairs, key=lambda pair: pair.type)

    @VARINTS
    @given(data=st.binary(max_size=40))
    def test_arbitrary_bytes_give_pairs_or_a_protocol_error(self, varint: Varint, data: bytes) -> None:
        try:
            pairs = decode_pairs(data, varint)
        except ProtocolError:
            return
        assert decode_pairs(encode_pairs(pairs, varint), varint) == pairs

    def test_a_value_above_65535_bytes_is_a_violation_before_its_bytes_are_there(self) -> None:
        with pytest.raises(ProtocolError) as caught:
            decode_pairs(b"\x01" + VI64.encode(65_536), VI64)
        assert caught.value.code is SessionCode.PROTOCOL_VIOLATION

    def test_a_type_above_64_bits_is_a_violation(self) -> None:
        with pytest.raises(ProtocolError) as caught:
            decode_pairs(VI64.encode(2**64 - 2) + b"\x00\x02\x00", VI64)
        assert caught.value.code is SessionCode.PROTOCOL_VIOLATION

    def test_values_of_the_wrong_kind_are_refused(self) -> None:
        for pair in (Pair(1, 5), Pair(2, b"x"), Pair(1, b"x" * 65_536)):
            with pytest.raises(ValueError, match="type"):
                encode_pairs([pair], VI64)

    def test_what_a_varint_cannot_express_is_left_out(self) -> None:
        pairs = (Pair(2, 2**62), Pair(3, b"x"), Pair(2**62, 1))
        assert expressible(pairs, RFC9000) == (Pair(3, b"x"),)
        assert expressible(pairs, VI64) == pairs


class TestTokens:
    def register(self, alias: int, value: bytes) -> AuthToken:
        return AuthToken(TokenAliasType.REGISTER, alias, 1, value)

    def test_aliases_stand_for_tokens_until_they_are_deleted(self) -> None:
        cache = TokenCache(1_000)
        use = AuthToken(TokenAliasType.USE_ALIAS, 5)
        assert cache.resolve([self.register(5, b"v"), use]) == (Token(1, b"v"), Token(1, b"v"))
        assert cache.resolve([AuthToken(TokenAliasType.DELETE, 5)]) == ()
        with pytest.raises(ProtocolError) as caught:
            cache.resolve([use])
        assert caught.value.code is SessionCode.UNKNOWN_AUTH_TOKEN_ALIAS

    def test_an_alias_cannot_be_registered_twice(self) -> None:
        cache = TokenCache(1_000)
        cache.resolve([self.register(5, b"v")])
        with pytest.raises(ProtocolError) as caught:
            cache.resolve([self.register(5, b"w")])
        assert caught.value.code is SessionCode.DUPLICATE_AUTH_TOKEN_ALIAS

    def test_the_cache_is_bounded_and_deleting_makes_room(self) -> None:
        cache = TokenCache(2 * 20)
        cache.resolve([self.register(1, b"abcd"), self.register(2, b"abcd")])
        cache.resolve([AuthToken(TokenAliasType.DELETE, 1), self.register(3, b"abcd")])
        with pytest.raises(ProtocolError) as caught:
            cache.resolve([self.register(4, b"")])
        assert caught.value.code is SessionCode.AUTH_TOKEN_CACHE_OVERFLOW

    def test_in_setup_a_token_that_does_not_fit_is_used_and_aliases_are_violations(self) -> None:
        cache = TokenCache(0)
        assert cache.resolve([self.register(1, b"v")], in_setup=True) == (Token(1, b"v"),)
        for kind in (TokenAliasType.DELETE, TokenAliasType.USE_ALIAS):
            with pytest.raises(ProtocolError) as caught:
                cache.resolve([AuthToken(kind, 1)], in_setup=True)
            assert caught.value.code is SessionCode.PROTOCOL_VIOLATION

    def test_a_token_has_the_fields_of_its_kind(self) -> None:
        for arguments in (
            (TokenAliasType.USE_VALUE, 1, 0, b""),
            (TokenAliasType.DELETE,),
            (TokenAliasType.REGISTER, 1),
        ):
            with pytest.raises(ValueError, match=r"alias|type and value"):
                AuthToken(*arguments)


class TestFilter:
    def test_a_filter_has_the_fields_of_its_kind(self) -> None:
        for arguments in (
            (FilterKind.LARGEST_OBJECT, Location(0, 0)),
            (FilterKind.ABSOLUTE_START,),
            (FilterKind.ABSOLUTE_START, Location(0, 0), 1),
            (FilterKind.ABSOLUTE_RANGE, Location(5, 0)),
            (FilterKind.ABSOLUTE_RANGE, Location(5, 0), 4),
        ):
            with pytest.raises(ValueError, match=r"start|end group"):
                Filter(*arguments)


class TestSeenIds:
    @given(st.permutations(range(1, 41, 2)))
    def test_each_id_is_taken_once_in_any_order(self, ids: list[int]) -> None:
        seen = SeenIds(1, 2, 100)
        for number in ids:
            assert number not in seen
            assert seen.add(number)
            assert not seen.add(number)
        assert seen.next == 41

    def test_ids_of_the_other_side_do_not_belong(self) -> None:
        seen = SeenIds(1, 2, 100)
        assert not seen.add(2)
        assert 2 not in seen

    def test_a_leap_is_refused(self) -> None:
        seen = SeenIds(0, 2, 10)
        assert seen.add(20)
        assert not seen.add(1_000_000)

    def test_ids_that_never_come_are_given_up(self) -> None:
        seen = SeenIds(0, 2, 10)
        for number in range(2, 200, 2):
            assert seen.add(number)
        assert 0 in seen
        assert not seen.add(0)
