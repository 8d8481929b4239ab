"""The datapath needs no Python: an edge whose Python thread is busy goes on forwarding."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from typing import Any

from crowd import Crowd, first_id
from edges import Edge, Edges

from farcast.proto._core import ClientTls
from farcast.proto.agent import Target
from farcast.proto.client import ConnectionConfig, Publisher, PublisherConfig, Viewer, ViewerConfig
from farcast.proto.client.events import NamespaceAccepted, ObjectReceived
from farcast.proto.moqt.names import TrackNamespace

VIEWERS = 100
RATE_HZ = 25
BLOCKED_SECONDS = 5.0
NAMESPACE = TrackNamespace.parse("live/blocked")
TRACK = b"video"


def connection(edge: Edge, number: int) -> ConnectionConfig:
    """A client's way to an edge with a development certificate."""
    tls = ClientTls(fingerprints=[bytes.fromhex(edge.cert_sha256)])
    target = Target("quic", edge.listen, "localhost", tls, authority=edge.listen)
    return ConnectionConfig(target, first_id=first_id(number))


class Source(threading.Thread):
    """Publishes an object every 40 ms until told to stop."""

    def __init__(self, edge: Edge) -> None:
        super().__init__(daemon=True)
        self.publisher = Publisher(PublisherConfig(connection(edge, 0), NAMESPACE, first_id=first_id(0)))
        self.published: dict[tuple[int, int], float] = {}
        self.ready = threading.Event()
        self.stopping = threading.Event()

    def run(self) -> None:
        crowd = Crowd([self.publisher])
        self.publisher.add_track(TRACK)
        self.publisher.start(crowd.now_us())
        crowd.run(10, self._note, until=self.ready.is_set)
        number = 0
        begin = time.monotonic()
        while not self.stopping.is_set():
            group, object = divmod(number, RATE_HZ)
            self.published[group, object] = time.monotonic()
            self.publisher.publish(TRACK, group, object, bytes(4_096), end_of_subgroup=object == RATE_HZ - 1)
            number += 1
            due = begin + number / RATE_HZ
            crowd.run(max(0.0, due - time.monotonic()), self._note)
        crowd.close()

    def _note(self, number: int, event: Any) -> None:
        if isinstance(event, NamespaceAccepted):
            self.ready.set()


def test_objects_flow_to_100_viewers_while_the_python_thread_is_blocked_for_5_seconds(edges: Edges) -> None:
    edge = edges.start("blocked", hooks=True)
    source = Source(edge)
    source.start()
    assert source.ready.wait(10)
    viewers = [
        Viewer(ViewerConfig(connection(edge, number), NAMESPACE, first_id=first_id(number)))
        for number in range(VIEWERS)
    ]
    crowd = Crowd(viewers)
    for viewer in viewers:
        viewer.start(crowd.now_us())
        viewer.subscribe(TRACK, crowd.now_us())
    arrived: dict[int, list[tuple[int, int]]] = defaultdict(list)
    delays: list[float] = []

    def note(number: int, event: Any) -> None:
        if isinstance(event, ObjectReceived):
            arrived[number].append((event.group, event.object))
            delays.append(time.monotonic() - source.published[event.group, event.object])

    crowd.run(20, note, until=lambda: len(arrived) == VIEWERS)
    assert len(arrived) == VIEWERS

    before = edge.status()["datapath"]["totals"]
    delays.clear()
    blocker = threading.Thread(target=edge.block, args=(BLOCKED_SECONDS,))
    blocker.start()
    crowd.run(BLOCKED_SECONDS, note)
    during = sorted(delays)
    blocker.join()
    crowd.run(1, note)
    after = edge.status()["datapath"]["totals"]
    source.stopping.set()
    source.join()
    crowd.run(1, note)

    expected = int(BLOCKED_SECONDS * RATE_HZ * VIEWERS)
    assert len(during) > 0.9 * expected, "objects arrived while Python was blocked"
    assert during[len(during) * 99 // 100] < BLOCKED_SECONDS / 2, "and on time"
    for ids in arrived.values():
        first = ids[0][0] * RATE_HZ + ids[0][1]
        assert [group * RATE_HZ + object for group, object in ids] == list(range(first, first + len(ids)))
    forwarded = after["objects_out"] - before["objects_out"]
    assert forwarded > 0.9 * expected
    crossings = after["events"] + after["commands"] - before["events"] - before["commands"]
    assert crossings < forwarded / 100, "nothing per object crosses to Python"
    crowd.close()
