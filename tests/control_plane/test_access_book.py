"""Issuers' keys and revocations: what operators say, what survives, what edges get."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from access_tokens import X
from control_api import served
from control_world import World

from farcast.control_plane.access_book import NOTHING_KEPT, REMEMBERED_US, AccessBook, KeptAccess
from farcast.control_plane.store import Save, Store
from farcast.proto.access.keys import TrustedKey
from farcast.proto.access.records import AccessRules

KEY = TrustedKey("k1", X, issuer="shop")
JWK = {"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": X}
DAY_US = 86_400_000_000


def test_a_revoked_key_cannot_be_trusted_again() -> None:
    book = AccessBook(NOTHING_KEPT)
    assert book.trust(KEY) is None
    assert [key.key_id for key in book.rules().keys] == ["k1"]
    assert book.revoke_key("k1") is None
    assert book.rules() == AccessRules(revoked_keys=("k1",))
    assert book.trust(KEY) == "key k1 was revoked; make another one"
    assert book.distrust("k1") == "no key 'k1'"


def test_a_revocation_outlives_a_copy_of_the_state_with_the_key_in_it() -> None:
    kept = KeptAccess(keys=AccessBook(NOTHING_KEPT).kept().keys, revoked_keys=("k1",))
    book = AccessBook(kept)
    assert book.trust(KEY) is not None


def test_a_revoked_token_is_forgotten_when_it_has_ended_by_itself() -> None:
    book = AccessBook(NOTHING_KEPT)
    assert book.revoke_token("t1", 5) is None
    assert DAY_US == REMEMBERED_US
    book.forget_ended(5 + DAY_US - 1)
    assert book.rules().revoked_tokens == ("t1",)
    book.changed = False
    book.forget_ended(5 + DAY_US)
    assert (book.rules().revoked_tokens, book.changed) == ((), True)


@pytest.mark.parametrize("token_id", ["", "x" * 257, "a\nb"])
def test_what_is_no_id_of_a_token_is_refused(token_id: str) -> None:
    book = AccessBook(NOTHING_KEPT)
    assert "1 to 256 printable characters" in (book.revoke_token(token_id, 0) or "")
    assert not book.changed


def test_keys_and_revocations_survive_a_restart(tmp_path: Path) -> None:
    book = AccessBook(NOTHING_KEPT)
    book.trust(KEY)
    book.revoke_token("t1", 7)
    book.revoke_key("k0")
    store = Store(tmp_path)
    assert store.open_reign("shows").access == NOTHING_KEPT
    store.save(Save(sequence=1, access=book.kept()))
    store.save(Save(sequence=2))
    store.close()
    again = Store(tmp_path)
    assert AccessBook(again.open_reign("shows").access).rules() == book.rules()
    again.close()


def test_edges_get_what_changed_and_the_api_says_what_is_in_force(tmp_path: Path) -> None:
    world = World(("fra-1", "sin-1"), lambda a, b: 50.0).run(4)
    with served(world, tmp_path) as address:
        token = (tmp_path / "api.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=f"http://{address}", headers=headers, trust_env=False) as client:
            assert client.get("/access").json()["keys"] == []
            answer = client.post("/access", json={"trust": {**JWK, "issuer": "shop"}})
            assert (answer.status_code, answer.json()["keys"][0]["key_id"]) == (200, "k1")
            assert client.post("/access", json={"revoke_token": "t1"}).status_code == 200
            bad: list[tuple[object, int]] = [
                ({}, 400),
                ({"trust": {**JWK, "d": "secret"}}, 400),
                ({"trust": {**JWK, "crv": "X25519"}}, 400),
                ({"trust": {**JWK, "scope": [{"actions": ["fly"], "namespace": []}]}}, 400),
                ({"distrust": "nobody"}, 409),
                ({"revoke_key": "../etc"}, 409),
                ({"revoke_token": 7}, 400),
                ({"own": "k1"}, 400),
            ]
            for body, code in bad:
                refused = client.post("/access", json=body)
                assert (refused.status_code, "error" in refused.json()) == (code, True), body
                assert "secret" not in refused.text
    world.run(2)
    for edge in world.edges.values():
        plan = edge.store.plan
        assert plan is not None
        assert plan.access is not None
        assert [key.key_id for key in plan.access.keys] == ["k1"]
        assert plan.access.revoked_tokens == ("t1",)
