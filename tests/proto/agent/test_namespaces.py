"""Who hears of which namespace, here and across edges."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farcast.proto.agent.namespaces import NamespaceTable, PrefixSubscriber
from farcast.proto.moqt.errors import RequestCode
from farcast.proto.moqt.events import (
    NamespaceAnnounced,
    NamespaceGone,
    RequestAccepted,
    RequestRejected,
)
from farcast.proto.moqt.names import TrackNamespace

from .raw import RawClient, raw_client
from .world import World, namespace


def heard(client: RawClient) -> list[str]:
    """The namespaces that a client knows now."""
    known: list[str] = []
    for event in client.events:
        if isinstance(event, NamespaceAnnounced):
            known.append(event.namespace.path())
        elif isinstance(event, NamespaceGone):
            known.remove(event.namespace.path())
    return sorted(known)


def test_what_is_there_and_what_comes_is_announced() -> None:
    world = World()
    edge = world.edge("e1")
    world.publisher(edge, "live/a")
    world.run(50)
    _, client = raw_client(world, edge)
    client.session.subscribe_namespace(namespace("live"))
    world.run(50)
    assert heard(client) == ["live/a"]
    later = world.publisher(edge, "live/b")
    world.publisher(edge, "liver/c")
    world.run(50)
    assert heard(client) == ["live/a", "live/b"]
    later.engine.close(world.now_us)
    world.run(50)
    assert heard(client) == ["live/a"]


def test_the_empty_prefix_is_everything_but_ones_own() -> None:
    for draft in (16, 18):
        world = World()
        edge = world.edge("e1")
        _, client = raw_client(world, edge, drafts=(draft,))
        client.session.subscribe_namespace(namespace(""))
        client.session.publish_namespace(namespace("mine"))
        world.publisher(edge, "live/a")
        world.run(50)
        assert heard(client) == ["live/a"]
        assert len(client.found(RequestAccepted)) == 2


def test_a_viewer_at_one_edge_discovers_a_namespace_of_another() -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("live", origin))
    _, client = raw_client(world, egress)
    client.session.subscribe_namespace(namespace(""))
    publisher = world.publisher(origin, "live/a")
    world.publisher(origin, "elsewhere/b")
    world.run(200)
    assert heard(client) == ["live/a"]
    publisher.engine.close(world.now_us)
    world.run(200)
    assert heard(client) == []


def test_an_edge_asks_an_upstream_once_however_many_want_to_know() -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("live", origin))
    for prefix in ("", "live", "live/a", "other"):
        _, client = raw_client(world, egress)
        client.session.subscribe_namespace(namespace(prefix))
    world.run(200)
    assert egress.engine.status(world.now_us)["counters"]["upstream_prefix_queries"] == 1


def test_two_edges_that_ask_each_other_know_all_and_forget_all() -> None:
    world = World()
    one = world.edge("e1", ("", "10.0.0.2:4433"))
    two = world.edge("e2", ("", one))
    clients = []
    for edge in (one, two):
        _, client = raw_client(world, edge)
        client.session.subscribe_namespace(namespace(""))
        clients.append(client)
    publishers = [world.publisher(edge, f"live/{edge.name}") for edge in (one, two)]
    world.run(500)
    assert [heard(client) for client in clients] == [["live/e1", "live/e2"]] * 2
    for publisher in publishers:
        publisher.engine.close(world.now_us)
    world.run(500)
    assert [heard(client) for client in clients] == [[], []]
    assert one.engine.status(world.now_us)["namespaces"] == []


def test_a_withdrawn_namespace_does_not_go_round_in_a_ring() -> None:
    world = World()
    addresses = [f"10.0.0.{n + 1}:4433" for n in range(4)]
    edges = [world.edge(f"e{n}", ("", addresses[(n + 1) % 4])) for n in range(4)]
    clients = []
    for edge in edges:
        _, client = raw_client(world, edge)
        client.session.subscribe_namespace(namespace(""))
        clients.append(client)
    publisher = world.publisher(edges[0], "live/a")
    world.run(1_000)
    assert [heard(client) for client in clients] == [["live/a"]] * 4
    publisher.engine.close(world.now_us)
    world.run(1_000)
    assert [heard(client) for client in clients] == [[]] * 4


def test_a_lost_hop_takes_its_namespaces_along_and_brings_them_back() -> None:
    world = World()
    origin = world.edge("e1")
    egress = world.edge("e2", ("", origin))
    _, client = raw_client(world, egress)
    client.session.subscribe_namespace(namespace(""))
    world.publisher(origin, "live/a")
    world.run(500)
    egress.crash(1)
    world.run(20)
    assert heard(client) == []
    world.run(2_000)
    assert heard(client) == ["live/a"]


def test_one_namespace_of_two_publishers_is_one_until_both_are_gone() -> None:
    world = World()
    edge = world.edge("e1")
    _, client = raw_client(world, edge)
    client.session.subscribe_namespace(namespace("live"))
    publishers = [world.publisher(edge, "live/a") for _ in range(2)]
    world.run(50)
    for publisher, known in zip(publishers, (["live/a"], []), strict=True):
        publisher.engine.close(world.now_us)
        world.run(50)
        assert heard(client) == known
    assert len(client.found(NamespaceAnnounced)) == 1


def test_overlapping_prefixes_of_one_session_are_refused() -> None:
    world = World()
    edge = world.edge("e1")
    _, client = raw_client(world, edge)
    client.session.subscribe_namespace(namespace("live"))
    world.run(20)
    client.session.subscribe_namespace(namespace("live/a"))
    world.run(20)
    assert client.last(RequestRejected).code is RequestCode.PREFIX_OVERLAP


def test_who_no_longer_wants_to_know_is_not_told() -> None:
    world = World()
    edge = world.edge("e1")
    _, client = raw_client(world, edge)
    request = client.session.subscribe_namespace(namespace("live"))
    world.run(20)
    client.session.cancel(request)
    world.run(20)
    world.publisher(edge, "live/a")
    world.run(50)
    assert heard(client) == []


# --- the table against a model that remembers everything ------------------------------------------------

fields = st.sampled_from([b"a", b"b"])
names = st.lists(fields, max_size=3).map(lambda f: TrackNamespace(tuple(f)))
paths = st.lists(st.sampled_from("xyz"), max_size=2)
actions = st.sampled_from(["announce", "withdraw", "forget"])


@given(
    st.lists(st.tuples(actions, names, st.integers(0, 3), paths), max_size=30),
    names,
    st.sampled_from([None, "x", "y"]),
)
def test_a_subscriber_always_knows_just_what_it_may_know(
    steps: list[tuple[str, TrackNamespace, int, list[str]]], prefix: TrackNamespace, node: str | None
) -> None:
    table = NamespaceTable()
    subscriber = PrefixSubscriber(0, 7, prefix, node)
    table.subscribe(subscriber)
    model: dict[tuple[TrackNamespace, int], tuple[str, ...]] = {}
    told: dict[TrackNamespace, tuple[str, ...]] = {}
    for action, name, session, path in steps:
        if action == "announce":
            notices = table.announce(name, session, tuple(path))
            model[name, session] = tuple(path)
        elif action == "withdraw":
            notices = table.withdraw(name, session)
            model.pop((name, session), None)
        elif session == 0:
            continue
        else:
            notices = table.forget_session(session)
            model = {key: value for key, value in model.items() if key[1] != session}
        for notice in notices:
            if notice.path is None:
                del told[notice.namespace]
            else:
                assert notice.namespace not in told
                told[notice.namespace] = notice.path
    expected = {n for (n, s), path in model.items() if s != 0 and n.starts_with(prefix) and node not in path}
    assert set(told) == expected
    if node is not None:
        assert all(node not in path for path in told.values())
