"""Every table has a bound, and what is beyond it is refused by name."""

from __future__ import annotations

import pytest

from farcast.proto.agent import AgentConfig, AgentLimits, TrackTiming
from farcast.proto.moqt.errors import RequestCode, SessionCode
from farcast.proto.moqt.events import RequestAccepted, RequestRejected, SubscribeAccepted
from farcast.proto.moqt.names import FullTrackName
from farcast.proto.moqt.parameters import Parameters

from .raw import raw_client
from .world import World, namespace


def name(track: str) -> FullTrackName:
    return FullTrackName.of("live/a", track)


def test_sessions() -> None:
    world = World()
    edge = world.edge("e1", limits=AgentLimits(sessions_max=2))
    clients = [raw_client(world, edge)[1] for _ in range(3)]
    assert [client.is_closed for client in clients] == [False, False, True]
    assert "2 sessions" in clients[2].closed.reason


def test_subscriptions_per_session() -> None:
    world = World()
    edge = world.edge("e1", limits=AgentLimits(subscriptions_per_session_max=2))
    world.publisher(edge, "live/a", "1", "2", "3")
    _, client = raw_client(world, edge)
    for track in "123":
        client.session.subscribe(name(track))
    world.run(100)
    assert len(client.found(SubscribeAccepted)) == 2
    rejected = client.last(RequestRejected)
    assert (rejected.code, rejected.retry_ms) == (RequestCode.EXCESSIVE_LOAD, 1_000)


def test_subscriptions_in_all() -> None:
    world = World()
    edge = world.edge("e1", limits=AgentLimits(subscriptions_max=2))
    world.publisher(edge, "live/a", "1")
    clients = [raw_client(world, edge)[1] for _ in range(3)]
    for client in clients:
        client.session.subscribe(name("1"))
    world.run(100)
    assert [bool(client.found(SubscribeAccepted)) for client in clients] == [True, True, False]
    assert clients[2].last(RequestRejected).code is RequestCode.EXCESSIVE_LOAD


def test_tracks() -> None:
    world = World()
    edge = world.edge("e1", limits=AgentLimits(tracks_max=1))
    world.publisher(edge, "live/a", "1", "2")
    _, client = raw_client(world, edge)
    for track in "12":
        client.session.subscribe(name(track))
    world.run(100)
    assert client.last(RequestRejected).code is RequestCode.EXCESSIVE_LOAD
    assert len(edge.tracks) == 1


def test_those_who_wait_for_one_track() -> None:
    world = World()
    edge = world.edge("e1", limits=AgentLimits(pending_per_track_max=2))
    clients = [raw_client(world, edge)[1] for _ in range(3)]
    for client in clients:
        client.session.subscribe(name("1"), parameters=Parameters(rendezvous_timeout_ms=60_000))
    world.run(100)
    assert [len(client.found(RequestRejected)) for client in clients] == [0, 0, 1]


def test_namespaces_per_session_and_in_all() -> None:
    world = World()
    limits = AgentLimits(namespaces_per_session_max=2, namespaces_max=3)
    edge = world.edge("e1", limits=limits)
    clients = [raw_client(world, edge)[1] for _ in range(2)]
    for n, client in enumerate(clients):
        for m in range(3):
            client.session.publish_namespace(namespace(f"live/{n}/{m}"))
        world.run(50)
    assert [len(client.found(RequestAccepted)) for client in clients] == [2, 1]
    codes = {rejected.code for client in clients for rejected in client.found(RequestRejected)}
    assert codes == {RequestCode.EXCESSIVE_LOAD}


def test_prefixes_per_session() -> None:
    world = World()
    edge = world.edge("e1", limits=AgentLimits(prefixes_per_session_max=1))
    _, client = raw_client(world, edge)
    client.session.subscribe_namespace(namespace("a"))
    client.session.subscribe_namespace(namespace("b"))
    world.run(50)
    assert client.last(RequestRejected).code is RequestCode.EXCESSIVE_LOAD


def test_published_tracks_per_session() -> None:
    world = World()
    edge = world.edge("e1", limits=AgentLimits(published_tracks_per_session_max=1))
    _, client = raw_client(world, edge)
    client.session.publish(name("1"), 1)
    client.session.publish(name("2"), 2)
    world.run(50)
    assert client.last(RequestRejected).code is RequestCode.EXCESSIVE_LOAD


def test_a_session_that_never_sends_setup_is_closed() -> None:
    world = World()
    edge = world.edge("e1")
    _, silent = raw_client(world, edge, mute=True)
    world.run(TrackTiming().setup_ms_max - 100)
    assert not silent.is_closed
    world.run(200)
    assert silent.closed.code == SessionCode.CONTROL_MESSAGE_TIMEOUT


def test_a_rendezvous_is_as_long_as_asked_but_not_longer_than_allowed() -> None:
    world = World()
    edge = world.edge("e1", timing=TrackTiming(rendezvous_ms_max=3_000))
    clients = {ms: raw_client(world, edge)[1] for ms in (0, 1_000, 10_000)}
    for ms, client in clients.items():
        client.session.subscribe(name("1"), parameters=Parameters(rendezvous_timeout_ms=ms))
    for wait_ms, refused in ((100, 1), (1_000, 2), (1_000, 2), (1_000, 3)):
        world.run(wait_ms)
        assert sum(bool(client.found(RequestRejected)) for client in clients.values()) == refused
    assert clients[0].last(RequestRejected).code is RequestCode.DOES_NOT_EXIST
    assert clients[10_000].last(RequestRejected).code is RequestCode.TIMEOUT
    assert edge.engine.poll_timeout() is None


@pytest.mark.parametrize("node_id", ["", "a\nb", "x" * 65])
def test_a_node_id_that_cannot_be_told_is_refused_at_the_start(node_id: str) -> None:
    with pytest.raises(ValueError, match="node id"):
        AgentConfig(node_id=node_id)
