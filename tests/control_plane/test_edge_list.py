"""The signed list of edges: who is in it, when it is signed anew, and that clients read it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa

from farcast.certificates import Authority, HopAuthority, make_authority
from farcast.control_plane.edge_list import (
    BadEdgeList,
    EdgeListing,
    EdgeLists,
    make_signer,
    verify_edge_list,
)
from farcast.errors import UserError

SECOND = 1_000_000
NOW = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.fixture(scope="module", params=[None, b"seed"], ids=["P-256", "Ed25519"])
def authority(request: pytest.FixtureRequest) -> Authority:
    return HopAuthority(NOW, request.param, "shows")


def listing(node_id: str, url: str = "https://edge.example/", load: float = 0.0) -> EdgeListing:
    return EdgeListing(node_id, node_id.partition("-")[0], url, draining=False, load=load)


def lists(authority: Authority) -> EdgeLists:
    identity = authority.issue_control("c1")
    return EdgeLists("shows", make_signer(identity.chain, identity.key))


def test_a_list_is_verified_by_the_clusters_authority_and_by_no_other(authority: Authority) -> None:
    token = lists(authority).signed([listing("sin-1"), listing("fra-1")], 0, 5)
    assert token is not None
    payload = verify_edge_list(token, [authority.certificate])
    assert (payload["cluster"], payload["issued_unix_us"]) == ("shows", 5)
    assert [edge["node_id"] for edge in payload["edges"]] == ["fra-1", "sin-1"]
    with pytest.raises(BadEdgeList, match="another authority"):
        verify_edge_list(token, [make_authority("shows", NOW).certificate])


def test_a_changed_list_is_found_out(authority: Authority) -> None:
    token = lists(authority).signed([listing("sin-1")], 0, 5)
    other = lists(authority).signed([listing("sin-2")], 0, 5)
    assert token is not None
    assert other is not None
    head, _, signature = token.split(".")
    for forged in (
        f"{head}.{other.split('.')[1]}.{signature}",
        token[:-8],
        "a.b.c",
        "",
        token.replace(".", ""),
    ):
        with pytest.raises(BadEdgeList):
            verify_edge_list(forged, [authority.certificate])


def test_who_has_no_usable_url_is_left_out(authority: Authority) -> None:
    made = lists(authority)
    bad = ("nonsense", "farcast://hop.example:443", "https://" + "x" * 600 + ".example/")
    token = made.signed([listing("sin-1"), *(listing("fra-1", url) for url in bad)], 0, 0)
    assert token is not None
    assert [e["node_id"] for e in verify_edge_list(token, [authority.certificate])["edges"]] == ["sin-1"]
    assert made.left_out == 3


def test_a_load_alone_is_signed_seldom_and_an_edge_at_once(authority: Authority) -> None:
    made = lists(authority)
    first = made.signed([listing("sin-1")], 0, 0)
    assert made.signed([listing("sin-1", load=0.5)], 9 * SECOND, 0) == first
    second = made.signed([listing("sin-1", load=0.5)], 10 * SECOND, 0)
    assert second != first
    assert made.signed([listing("sin-1", load=0.5)], 60 * SECOND, 0) == second
    assert made.signed([listing("sin-1", load=0.5), listing("fra-1")], 60 * SECOND, 0) != second


def test_a_thousand_edges_fit(authority: Authority) -> None:
    token = lists(authority).signed([listing(f"edge-{k}") for k in range(1_000)], 0, 0)
    assert token is not None
    assert len(verify_edge_list(token, [authority.certificate])["edges"]) == 1_000


def test_a_kind_of_key_without_a_name_in_jws_is_refused() -> None:
    key = dsa.generate_private_key(1_024).private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(UserError, match="ECDSA P-256"):
        make_signer([b""], key)
