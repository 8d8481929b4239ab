"""The other end of a byte-exact track: our own engines, without the tools' media."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager

import trio

from farcast.clients.server import open_runtime, server_from_options
from farcast.edge.driver import Driver
from farcast.proto.client.config import ConnectionConfig, ViewerConfig
from farcast.proto.client.events import (
    Connected,
    Failed,
    NamespaceAccepted,
    ObjectReceived,
    Refused,
    TrackEnded,
)
from farcast.proto.client.publisher import Publisher, PublisherConfig
from farcast.proto.client.viewer import Viewer
from farcast.proto.moqt.names import TrackNamespace

from .network import Server, Transport
from .payloads import INTERVAL_SECONDS, OBJECTS_PER_GROUP, TRACK, digest, payload
from .results import expect

STATUS_NORMAL = 0


class ClientFailed(Exception):
    """Our client was refused or lost its track."""


@asynccontextmanager
async def publishing(server: Server, transport: Transport, draft: int, namespace: str) -> AsyncIterator[str]:
    """Publish the byte-exact track for the length of the block; yields what was negotiated."""
    connection = await _connection(server, transport, draft)
    engine = Publisher(PublisherConfig(connection, TrackNamespace.parse(namespace)))
    driver = Driver(open_runtime(connection.target), engine)
    accepted = trio.Event()
    negotiated: list[str] = []

    def progress() -> None:
        while (event := engine.poll_event()) is not None:
            if isinstance(event, Connected):
                negotiated.append(f"{event.transport} draft {event.draft}")
            if isinstance(event, NamespaceAccepted):
                accepted.set()
            if isinstance(event, Refused):
                raise ClientFailed(f"our publisher was refused: {event.reason}")

    driver.on_progress(progress)
    engine.add_track(TRACK.encode())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        driver.call(lambda publisher, now_us: publisher.start(now_us))
        await accepted.wait()
        nursery.start_soon(_publish, driver)
        yield negotiated[-1]
        driver.call(lambda publisher, now_us: publisher.close(now_us))
        nursery.cancel_scope.cancel()


async def receive(
    server: Server, transport: Transport, draft: int, namespace: str, count: int
) -> list[tuple[int, int, str]]:
    """The first objects of the byte-exact track: group, object, digest."""
    connection = await _connection(server, transport, draft)
    engine = Viewer(ViewerConfig(connection, TrackNamespace.parse(namespace)))
    driver = Driver(open_runtime(connection.target), engine)
    received: list[tuple[int, int, str]] = []
    done = trio.Event()

    def progress() -> None:
        while (event := engine.poll_event()) is not None:
            if isinstance(event, Failed | TrackEnded):
                raise ClientFailed(f"our viewer: {event.reason}")
            if isinstance(event, ObjectReceived) and event.status == STATUS_NORMAL:
                received.append((event.group, event.object, digest(event.payload)))
        if len(received) >= count:
            done.set()

    driver.on_progress(progress)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(driver.run)
        driver.call(lambda viewer, now_us: viewer.start(now_us))
        driver.call(lambda viewer, now_us: viewer.subscribe(TRACK.encode(), now_us))
        await done.wait()
        driver.call(lambda viewer, now_us: viewer.close(now_us))
        nursery.cancel_scope.cancel()
    return received


def expect_exact(received: Sequence[tuple[int, int, str]]) -> str:
    """`Unmet` unless objects (group, object, digest), in order of arrival, are what was published.

    Every group begins at object 0 and has no gap, and no object comes twice. Returns a remark.
    """
    expected: dict[int, int] = {}
    for group, object, sha256 in received:
        wanted = expected.get(group, 0)
        expect(object == wanted, f"group {group}: object {object} came instead of {wanted}")
        expect(sha256 == digest(payload(group, object)), f"object {group}/{object} was changed on the way")
        expected[group] = object + 1
    expect(len(expected) > 1, "all objects are of one group")
    return f"{len(received)} objects of groups {min(expected)} to {max(expected)}, byte-exact"


async def _publish(driver: Driver[Publisher]) -> None:
    for group, object in _places():
        last = object == OBJECTS_PER_GROUP - 1
        driver.call(_publish_one, group, object, last)
        await trio.sleep(INTERVAL_SECONDS)


def _publish_one(publisher: Publisher, now_us: int, group: int, object: int, last: bool) -> None:
    publisher.publish(TRACK.encode(), group, object, payload(group, object), end_of_group=last)


def _places() -> Iterator[tuple[int, int]]:
    group = 0
    while True:
        yield from ((group, object) for object in range(OBJECTS_PER_GROUP))
        group += 1


async def _connection(server: Server, transport: Transport, draft: int) -> ConnectionConfig:
    tool = server_from_options(server.url(transport), draft=draft, cert_sha256=server.cert_sha256)
    return ConnectionConfig(await tool.target())
