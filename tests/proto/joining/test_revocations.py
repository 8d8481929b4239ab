"""A certificate is revoked by its serial number, or with all that its node was given until a moment."""

from __future__ import annotations

from farcast.proto.joining.revocations import Certified, Revocations, Revoked, RevokedNode


def test_a_node_is_revoked_until_a_moment_and_a_later_certificate_counts() -> None:
    revoked = Revoked(Revocations(nodes=(RevokedNode(node_id="sin-1", until_unix_s=100),)))
    assert Certified("sin", "sin-1", "a", 99) in revoked
    assert Certified("sin", "sin-1", "a", 100) in revoked
    assert Certified("sin", "sin-1", "b", 101) not in revoked
    assert Certified("sin", "sin-2", "a", 50) not in revoked


def test_one_certificate_is_revoked_by_its_serial_number() -> None:
    revoked = Revoked(Revocations(serials=("ab12",)))
    assert Certified("sin", "sin-1", "ab12", 5) in revoked
    assert Certified("sin", "sin-1", "ab13", 5) not in revoked
    assert Certified("sin", "sin-1", "ab12", 5) not in Revoked()
