"""Tokens of a simulated world: its own clients are let in, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
from tests.simulations.small_world import small_scenario, small_spec

from farcast.proto.access.gate import AccessPolicy
from farcast.proto.access.scopes import Action
from farcast.proto.access.tokens import BadToken, read_token
from farcast.proto.client import events as client
from farcast.proto.moqt.names import TrackNamespace
from farcast.simulations.invariants import served
from farcast.simulations.network import Network
from farcast.simulations.packet_run import PacketRun
from farcast.simulations.tokens import PRETENCES, Issuer, Pretence

ROOM = TrackNamespace.parse("live/show")
NOW = 1_767_225_600


def test_a_client_may_do_what_its_room_needs_and_the_same_world_has_the_same_tokens() -> None:
    issuer, again = Issuer("sim", NOW), Issuer("sim", NOW)
    token = issuer.token(ROOM, "host")

    grant = read_token(token, issuer.policy.keys, "sim", NOW)

    assert grant.allows(Action.SUBSCRIBE, TrackNamespace.parse("live/show/host"), b"video")
    assert not grant.allows(Action.SUBSCRIBE, TrackNamespace.parse("live/other/host"), b"video")
    assert token == again.token(ROOM, "host")


@pytest.mark.parametrize("pretence", PRETENCES)
def test_no_pretence_opens_the_room(pretence: Pretence) -> None:
    issuer = Issuer("sim", NOW)
    token = issuer.pretence(pretence, ROOM)

    try:
        grant = read_token(token, issuer.policy.keys, "sim", NOW)
    except BadToken:
        return

    assert pretence == "elsewhere"
    assert not grant.allows(Action.SUBSCRIBE, TrackNamespace.parse("live/show/host"), b"video")


def test_what_is_given_to_somebody_without_a_right_is_found() -> None:
    events = [client.Waiting(ROOM, b"video"), client.TrackReady(b"video", None, ())]

    assert served("viewer 0, token: none", events) == ["viewer 0, token: none: TrackReady"]


@pytest.mark.parametrize("access", ["tokens", "open"])
def test_an_edge_that_asks_for_tokens_serves_its_clients_and_no_intruder(
    access: Literal["tokens", "open"],
) -> None:
    """The open world shows that the check can fail."""
    spec = replace(small_spec(), access=access)
    run = PacketRun(spec, small_scenario(3.0), 1)
    network: Network = run.network

    def intrude(now_us: int) -> None:
        for number in range(2 * len(PRETENCES)):
            network.add_intruder(spec.edges[0].node_id, number, now_us)

    network.twin.at(6_000_000, intrude, ())
    raw = run.run()

    found = {violation.invariant for violation in raw.violations}
    assert found == ({"authorised-only"} if access == "open" else set())
    assert all(len(viewer.arrivals) for viewer in raw.clients if viewer.kind == "viewer")


def test_a_policy_names_the_cluster() -> None:
    assert isinstance(Issuer("sim", NOW).policy, AccessPolicy)
    assert Issuer("sim", NOW).policy.audience == "sim"
