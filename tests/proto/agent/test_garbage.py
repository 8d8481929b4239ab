"""Whatever a peer sends on control and request streams, only its own session suffers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.proto._core import Event
from farcast.proto.client.events import TrackReady
from farcast.proto.moqt.errors import SessionCode

from .raw import RawClient, raw_client
from .world import Host, World, events_of


def watched_edge() -> tuple[World, Host, Host]:
    """An edge with a publisher and a viewer that must not notice anything."""
    world = World()
    edge = world.edge("e1")
    world.publisher(edge, "live/a", "video")
    viewer = world.viewer(edge, "live/a", "video")
    world.run(200)
    assert TrackReady in [type(event) for event in events_of(viewer)]
    return world, edge, viewer


@pytest.mark.parametrize("draft", [16, 18])
@pytest.mark.parametrize(
    "data", [b"\x00" * 100, b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\x2f\x00\xff\xff"]
)
def test_garbage_instead_of_setup_closes_that_session_only(draft: int, data: bytes) -> None:
    world, edge, viewer = watched_edge()
    host, client = raw_client(world, edge, mute=True, drafts=(draft,))
    world.post(edge, Event.StreamData(host.wires[1].ends[edge], 2, "control", data, True))
    world.run(100)
    assert client.closed is not None
    assert client.closed.code != SessionCode.NO_ERROR
    assert len(edge.downstreams) == 1
    assert events_of(viewer) == []


@pytest.mark.parametrize("draft", [16, 18])
def test_garbage_after_setup_closes_that_session_only(draft: int) -> None:
    world, edge, viewer = watched_edge()
    host, client = raw_client(world, edge, drafts=(draft,))
    wire = host.wires[1]
    control = next(key for (end, key), kind in wire.kinds.items() if end is edge and kind == "control")
    world.post(edge, Event.StreamData(wire.ends[edge], control, "control", b"\x3f\xff\xff\xff\xff", False))
    world.run(100)
    assert client.closed.code == SessionCode.PROTOCOL_VIOLATION
    assert edge.engine.status(world.now_us)["counters"]["protocol_errors"] == 1
    assert len(edge.downstreams) == 1
    assert events_of(viewer) == []


chunks = st.tuples(
    st.sampled_from(["control", "request"]), st.integers(0, 40), st.binary(max_size=80), st.booleans()
)
ends = st.tuples(st.sampled_from(["reset", "stopped"]), st.integers(0, 40), st.just(b""), st.just(False))


@given(
    st.lists(chunks | ends, max_size=12),
    st.sampled_from([16, 18]),
    st.sampled_from(["quic", "hop"]),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_no_input_raises_or_reaches_another_session(
    steps: list[tuple[str, int, bytes, bool]], draft: int, kind: str, mute: bool
) -> None:
    world, edge, viewer = watched_edge()
    client = RawClient(edge, kind=kind, drafts=(draft,), node_id="e9" if kind == "hop" else "", mute=mute)
    host = world.add("e9", client)
    world.run(20)
    session = host.wires[1].ends[edge]
    for what, stream, data, fin in steps:
        world.post(edge, _event(session, what, stream, data, fin))
    world.run(100)
    assert [d.session for d in edge.downstreams.values()] != []
    assert events_of(viewer) == []


def _event(session: int, what: Any, stream: int, data: bytes, fin: bool) -> object:
    if what == "reset":
        return Event.StreamReset(session, stream, 0)
    if what == "stopped":
        return Event.StreamStopped(session, stream, 0)
    return Event.StreamData(session, stream, what, data, fin)
