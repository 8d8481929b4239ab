"""Joining, renewing and leaving, by the controller: names come from tokens and sessions, never from words."""

from __future__ import annotations

from control_world import SECOND, World

from farcast.control_plane.issuing import NO_AUTHORITY, Certificate, Joining
from farcast.control_plane.trust_book import Admission, Invitation
from farcast.proto.joining.revocations import Certified
from farcast.proto.joining.tokens import secret_sha256

THREE = ("fra-1", "lon-1", "sin-1")
SECRET = b"s" * 32
ISSUED: list[tuple[bytes, Admission, int | None]] = []


def certify(request: bytes, admitted: Admission, after: int | None) -> Certificate | str:
    ISSUED.append((request, admitted, after))
    if request == b"bad":
        return "the signing request is damaged"
    begins = (after or 0) + 1
    certified = Certified(admitted.region, admitted.node_id, f"{len(ISSUED):x}", begins)
    return Certificate(b"der of " + admitted.node_id.encode(), certified, 2**50)


def settled(*, issues: bool = True) -> World:
    ISSUED.clear()
    return World(THREE, certify=certify if issues else None).run(30)


def invite(world: World, region: str = "sin", node_id: str | None = None) -> str | None:
    kept = Invitation(
        token_id="t1",
        secret_sha256=secret_sha256(SECRET),
        region=region,
        node_id=node_id,
        expires_unix_us=world.controller.unix_us(world.now_us) + 60 * SECOND,
    )
    return world.controller.invite(kept, world.now_us)


def admit(world: World, request: bytes = b"csr", key: bytes = b"k" * 32) -> Certificate | str:
    return world.controller.admit(Joining("t1", SECRET, key, request, None), world.now_us)


def test_that_a_token_is_used_is_saved_before_its_answer_can_be_sent() -> None:
    world = settled()
    assert invite(world) is None
    issued = admit(world)
    assert isinstance(issued, Certificate)
    assert issued.certified[:2] == ("sin", "sin-2")
    saved = [save.trust for save in iter(world.controller.poll_save, None) if save.trust is not None]
    assert saved[-1].invitations[0].used_by == b"k" * 32
    assert saved[-1].issued["sin-2"].serial == issued.certified.serial
    assert "used already" in str(admit(world, key=b"o" * 32))


def test_without_an_authority_there_are_no_tokens_and_one_line_says_why() -> None:
    world = settled(issues=False)
    assert invite(world) == NO_AUTHORITY
    assert admit(world) == NO_AUTHORITY
    assert "--ca-dir" in NO_AUTHORITY


def test_an_edge_is_renewed_for_the_names_of_its_session_and_no_others() -> None:
    world = settled()
    assert world.edges["fra-1"].channel.want_certificate(b"csr") is None
    world.run(2)
    assert [(b"csr", Admission("fra", "fra-1"), None)] == ISSUED
    (line,) = world.logged("certificate renewed")
    assert line["node_id"] == "fra-1"


def test_a_bad_request_costs_the_edge_nothing_but_its_certificate() -> None:
    world = settled()
    assert world.edges["fra-1"].channel.want_certificate(b"bad") is None
    world.run(2)
    assert world.logged("certificate refused")
    assert world.edges["fra-1"].channel.joined


def test_a_removed_edge_is_out_at_once_everywhere_and_needs_a_later_certificate() -> None:
    world = settled()
    assert world.controller.remove("lon-1", world.now_us) is None
    world.run(2)
    assert "lon-1" not in world.controller.members
    assert "comes back with a new join token" in world.edges["lon-1"].refusals[-1]
    for name in ("fra-1", "sin-1"):
        plan = world.edges[name].plan
        assert "lon-1" not in plan.nodes
        assert plan.revoked is not None
        assert [node.node_id for node in plan.revoked.nodes] == ["lon-1"]
    until = world.controller.trust_book.revoked_until("lon-1")
    assert until is not None

    world.controller.handle_connected(90, Certified("lon", "lon-1", "aa", until), world.now_us)
    session, reason = world.controller.poll_close() or (0, "")
    assert (session, "join token" in reason) == (90, True)
    assert invite(world, "lon", "lon-1") is None
    issued = admit(world)
    assert isinstance(issued, Certificate)
    assert ISSUED[-1] == (b"csr", Admission("lon", "lon-1"), until)
    world.controller.handle_connected(91, issued.certified, world.now_us)
    assert world.controller.poll_close() is None


def test_an_edge_nobody_knows_cannot_be_removed() -> None:
    world = settled()
    assert world.controller.remove("ams-1", world.now_us) == (
        "no edge 'ams-1'; known are fra-1, lon-1, sin-1"
    )


def test_one_certificate_is_revoked_by_its_serial_number() -> None:
    world = settled()
    world.controller.handle_connected(90, Certified("ams", "ams-1", "ab", 5), world.now_us)
    assert world.controller.revoke_serial("0A:B", world.now_us) is None
    world.run(1)
    assert world.controller.revoke_serial("xyz", world.now_us) == (
        "a serial number has 1 to 40 hexadecimal digits (farcast ca show prints it)"
    )
    world.controller.handle_connected(91, Certified("ams", "ams-1", "ab", 5), world.now_us)
    assert (world.controller.poll_close() or (0,))[0] == 91
    assert world.edges["fra-1"].plan.revoked is not None
    assert world.edges["fra-1"].plan.revoked.serials == ("ab",)
