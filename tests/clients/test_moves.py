"""What the tools make of edges: addresses, lists, and the figures of moves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest
import trio
from edge_lists import edge_list, entry

from farcast.clients.moves import AFTERMATH_US, MoveMeter, MovesReport, describe
from farcast.clients.roaming import Edges, Roaming, connection_to, find_edges
from farcast.clients.running import cannot_connect
from farcast.clients.server import SERVERS_MAX, Server, servers_from_options
from farcast.errors import UserError
from farcast.proto.agent.config import Target
from farcast.proto.client import events as client
from farcast.proto.client.edge_list import parse_edge_list

SECOND = 1_000_000


def servers(*urls: str) -> Sequence[Server]:
    return servers_from_options(urls, insecure=True)


# --- figures -------------------------------------------------------------------------------------


def test_the_longest_pause_is_that_around_a_move_and_no_other() -> None:
    meter = MoveMeter()
    meter.connected(client.Connected("quic", 18, "a:1"))
    for at_us in (0, 5 * SECOND, 5_100_000):
        meter.arrived("video", at_us)
    assert meter.report() == MovesReport(0, None, ("a:1",), "a:1")
    meter.connected(client.Connected("quic", 18, "b:1"))
    meter.moved(6 * SECOND)
    meter.arrived("audio", 6_050_000)
    for at_us in (6_200_000, 6_300_000, 12 * SECOND):
        meter.arrived("video", at_us)
    assert meter.report() == MovesReport(1, 5_700.0, ("a:1", "b:1"), "b:1")
    meter.arrived("video", 6 * SECOND + AFTERMATH_US + 60 * SECOND)
    assert meter.report().move_gap_ms_max == 5_700.0, "much later is another matter"


def test_a_client_that_comes_back_to_an_edge_is_there_now() -> None:
    meter = MoveMeter()
    for edge in ("a:1", "b:1", "a:1"):
        meter.connected(client.Connected("quic", 18, edge))
    assert (meter.report().edges, meter.report().edge) == (("a:1", "b:1"), "a:1")


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        ("silent", "moved from a:1 to b:1: nothing was heard any more"),
        ("goaway", "moved from a:1 to b:1: the edge is going away"),
        ("ended", "moved from a:1 to b:1: the session ended"),
    ],
)
def test_a_move_is_told_with_its_cause(cause: Any, text: str) -> None:
    assert describe(client.Moved("a:1", "b:1", cause)) == text


# --- what the user names -------------------------------------------------------------------------


def test_all_edges_that_have_an_address_are_used_and_the_others_are_named() -> None:
    notes: list[str] = []
    named = servers("moqt://127.0.0.1:1", "moqt://nowhere.invalid:2", "moqt://127.0.0.1:3", "moqt://[::1]:4")
    edges = trio.run(find_edges, named, notes.append)
    config = connection_to(edges)
    assert (config.target.remote, [t.remote for t in config.alternatives]) == ("127.0.0.1:1", ["127.0.0.1:3"])
    assert [note.startswith("left out: moqt://") for note in notes] == [True, True]
    assert "[::1]:4 cannot be reached from where 127.0.0.1:1 can" in notes[1]


def test_edges_without_any_address_are_one_line_that_names_each() -> None:
    with pytest.raises(UserError, match=r"one\.invalid.*; .*two\.invalid"):
        trio.run(find_edges, servers("moqt://one.invalid", "moqt://two.invalid"), print)


def test_too_many_urls_are_a_usage_error() -> None:
    with pytest.raises(UserError, match="17 URLs: name at most 16 edges") as caught:
        servers(*["moqt://a"] * (SERVERS_MAX + 1))
    assert caught.value.exit_code == 2


def test_the_error_of_several_edges_keeps_every_reason_and_gives_advice() -> None:
    (server,) = servers("moqt://a:1")
    reason = "no edge can be used: a:1: no answer; b:1: invalid peer certificate: UnknownIssuer"
    message = cannot_connect(server, reason).message
    assert message.startswith(reason)
    assert "--cert-sha256" in message


# --- what the engine asks ------------------------------------------------------------------------


class FakeDriver:
    """Stands for the driver of an engine: keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.answered = trio.Event()

    def call(self, method: Any, *args: Any) -> None:
        method(self, 7, *args)

    def learn(self, now_us: int, targets: Sequence[Target], draining: Sequence[Target] = ()) -> None:
        self.told.append(([t.remote for t in targets], [t.remote for t in draining]))
        self.answered.set()

    def answer_uri(self, now_us: int, uri: str, target: Target | None) -> None:
        self.told.append((uri, target and target.remote))
        self.answered.set()


def answer(event: client.EdgeEvent) -> tuple[list[tuple[Any, ...]], list[str]]:
    """What an engine is told after it said something, and what the user is."""
    notes: list[str] = []
    driver = FakeDriver()

    async def main() -> None:
        (server,) = servers("moqt://127.0.0.1:1")
        edges: Edges = await find_edges([server], notes.append)
        roaming = Roaming(server, edges.target, notes.append)
        roaming.handle(client.Connected("quic", 18, "127.0.0.1:1"))
        roaming.handle(event)
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(roaming.run, cast("Any", driver))
                await driver.answered.wait()
                nursery.cancel_scope.cancel()

    trio.run(main)
    return driver.told, notes


def test_a_list_becomes_targets_that_can_be_reached_from_here() -> None:
    edges = parse_edge_list(
        edge_list(
            entry("far", "moqt://127.0.0.1:9", "far"),
            entry("out", "moqt://10.9.9.9:9"),
            entry("gone", "moqt://nowhere.invalid:9"),
            entry("near", "https://127.0.0.1:8"),
            entry("here", "moqt://127.0.0.1:1"),
            entry("leaving", "moqt://127.0.0.1:7") | {"draining": True},
        )
    )
    told, notes = answer(client.EdgesListed(edges))
    assert told == [(["127.0.0.1:8", "127.0.0.1:1", "127.0.0.1:9", "127.0.0.1:7"], ["127.0.0.1:7"])]
    assert len(notes) == 1
    assert "nowhere.invalid" in notes[0]


@pytest.mark.parametrize(
    ("uri", "remote", "remark"),
    [
        ("moqt://127.0.0.1:5", "127.0.0.1:5", None),
        ("moqt://nowhere.invalid", None, "nowhere.invalid"),
        ("gopher://x", None, "scheme 'gopher' is not known"),
        ("farcast://127.0.0.1:5", None, "which is for edges"),
    ],
)
def test_the_uri_of_a_goaway_is_resolved_or_declined(
    uri: str, remote: str | None, remark: str | None
) -> None:
    told, notes = answer(client.SentTo(uri))
    assert told == [(uri, remote)]
    assert (remark is None) == (not notes)
    if remark is not None:
        assert remark in notes[0]
