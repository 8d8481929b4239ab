"""Who may become an edge: a token is good once, for its region, for nobody who is there already."""

from __future__ import annotations

import msgspec
import pytest

from farcast.control_plane.trust_book import (
    INVITATIONS_MAX,
    NO_TRUST_KEPT,
    REMEMBERED_US,
    Admission,
    Invitation,
    KeptTrust,
    TrustBook,
)
from farcast.proto.joining.revocations import REVOKED_MAX, Certified
from farcast.proto.joining.tokens import secret_sha256

SECRET = b"s" * 32
HOUR = 3_600_000_000
NOW = 1_790_000_000_000_000
KEY, OTHER_KEY = b"k" * 32, b"o" * 32


def book(node_id: str | None = None, region: str = "sin", kept: KeptTrust = NO_TRUST_KEPT) -> TrustBook:
    made = TrustBook(kept)
    assert made.invite(invitation(node_id=node_id, region=region), NOW) is None
    return made


def invitation(token_id: str = "t1", node_id: str | None = None, region: str = "sin") -> Invitation:
    return Invitation(
        token_id=token_id,
        secret_sha256=secret_sha256(SECRET),
        region=region,
        node_id=node_id,
        expires_unix_us=NOW + HOUR,
    )


def admit(
    held: TrustBook,
    *,
    secret: bytes = SECRET,
    key: bytes = KEY,
    wanted: str | None = None,
    known: tuple[str, ...] = (),
    unix_us: int = NOW,
    token_id: str = "t1",
) -> Admission | str:
    return held.admit(token_id, secret, key, wanted, known, unix_us)


def test_a_token_is_good_for_one_key_which_may_ask_again() -> None:
    held = book()
    assert admit(held) == Admission("sin", "sin-1")
    assert admit(held, key=OTHER_KEY) == "the join token was used already, by sin-1; make another one"
    assert admit(held, wanted="sin-9") == Admission("sin", "sin-1")


def test_that_a_token_is_used_survives_the_disk() -> None:
    held = book()
    admit(held)
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(held.kept()), type=KeptTrust)
    assert "used already" in str(admit(TrustBook(kept), key=OTHER_KEY))


def test_an_expired_token_is_told_from_an_unknown_one_for_a_day() -> None:
    held = book()
    assert "has expired" in str(admit(held, unix_us=NOW + HOUR))
    held.forget_ended(NOW + HOUR + REMEMBERED_US)
    assert admit(held, unix_us=NOW + HOUR) == "the join token is not one of this cluster's"


@pytest.mark.parametrize("wrong", [{"secret": b"x" * 32}, {"secret": b""}, {"token_id": "t2"}])
def test_a_guess_is_refused_and_uses_nothing_up(wrong: dict[str, object]) -> None:
    held = book()
    assert admit(held, **wrong) == "the join token is not one of this cluster's"  # type: ignore[arg-type]
    assert admit(held) == Admission("sin", "sin-1")


def test_a_token_for_a_region_makes_nobody_an_edge_that_exists() -> None:
    held = book()
    assert "there is an edge sin-1 already" in str(admit(held, wanted="sin-1", known=("sin-1",)))
    held.note_issued(Certified("sin", "sin-2", "ab", 0), NOW + HOUR)
    assert "there is an edge sin-2 already" in str(admit(held, wanted="sin-2"))
    assert admit(held, known=("sin-1",)) == Admission("sin", "sin-3")


def test_a_token_for_a_node_is_for_no_other_and_replaces_it() -> None:
    held = book(node_id="sin-1")
    assert admit(held, wanted="sin-2") == "the join token is for sin-1, not for sin-2"
    assert admit(held, known=("sin-1",)) == Admission("sin", "sin-1")


def test_revoking_a_node_asks_for_a_later_certificate_and_survives_the_disk() -> None:
    held = book()
    held.note_issued(Certified("sin", "sin-1", "ab", 100), NOW + HOUR)
    assert held.revoke_node("sin-1", 100) is None
    assert held.is_out("sin-1")
    assert held.revoked_until("sin-1") == 100
    again = TrustBook(held.kept())
    assert Certified("sin", "sin-1", "ab", 100) in again.revoked
    again.note_issued(Certified("sin", "sin-1", "cd", 101), NOW + HOUR)
    assert not again.is_out("sin-1")
    assert Certified("sin", "sin-1", "cd", 101) not in again.revoked


def test_a_token_that_was_taken_back_lets_nobody_in_and_one_that_was_used_stays_with_its_edge() -> None:
    held = book()
    held.invite(invitation("unused"), NOW)
    assert held.withdraw("unused") is None
    refused = held.admit("unused", SECRET, b"k" * 32, None, (), NOW)
    assert refused == "the join token is not one of this cluster's"
    held.invite(invitation("used"), NOW)
    admitted = held.admit("used", SECRET, b"k" * 32, None, (), NOW)
    assert isinstance(admitted, Admission)
    assert f"{admitted.node_id} has joined by it" in str(held.withdraw("used"))
    assert "no join token 'never'" in str(held.withdraw("never"))


def test_everything_kept_is_bounded() -> None:
    held = TrustBook(NO_TRUST_KEPT)
    for number in range(INVITATIONS_MAX):
        assert held.invite(invitation(f"t{number}"), NOW) is None
    assert "join tokens already" in str(held.invite(invitation("more"), NOW))
    for number in range(REVOKED_MAX):
        assert held.revoke_serial(f"{number:x}", NOW) is None
    assert "revoked already" in str(held.revoke_serial("fffff", NOW))


@pytest.mark.parametrize("end_us", [NOW, NOW - 1, NOW + 8 * 24 * HOUR])
def test_a_token_lives_for_a_week_at_most(end_us: int) -> None:
    held = TrustBook(NO_TRUST_KEPT)
    wanted = msgspec.structs.replace(invitation(), expires_unix_us=end_us)
    assert "7 days at most" in str(held.invite(wanted, NOW))
