"""A hop that is cut for good and then mended: in the twin, with the real datapath at both ends."""

from __future__ import annotations

from datetime import UTC, datetime

from farcast.certificates import HopAuthority, Identity, make_dev_identity
from farcast.edge.credentials import peer_node_id
from farcast.proto._core import ClientTls, DatapathConfig, LinkConfig, ServerTls
from farcast.proto.agent import Agent, AgentConfig, Target, Upstream
from farcast.proto.client import ConnectionConfig, Publisher, PublisherConfig, Viewer, ViewerConfig
from farcast.proto.client import events as client
from farcast.proto.moqt.names import TrackNamespace
from farcast.simulations.twin import Twin

NOW = datetime.now(UTC)
SPACE = TrackNamespace.parse("live/a")
SECOND = 1_000_000
FRAME_US = 40_000
FRAMES_A_GROUP = 25
IDLE_MS = 6_000


class Show:
    """Publisher, origin edge, hop, egress edge, viewer; a frame every 40 ms."""

    def __init__(self) -> None:
        self.twin = Twin(7)
        self.authority = HopAuthority(NOW, seed=b"a" * 32)
        self.public = make_dev_identity(NOW, seed=b"p" * 32)
        self.origin = self.edge("origin", "10.0.0.1:1")
        hop = Target("hop", "10.0.0.1:1", "localhost", self.hop_tls("egress"))
        self.egress = self.edge("egress", "10.0.0.2:1", Upstream(TrackNamespace(()), hop))
        self.twin.join(self.origin, self.egress, LinkConfig(delay_us=20_000))
        self.publisher = Publisher(PublisherConfig(self.to("10.0.0.1:1"), SPACE))
        self.publisher.add_track(b"video")
        self.viewer = Viewer(ViewerConfig(self.to("10.0.0.2:1"), SPACE, wait_ms_max=60_000))
        self.arrived: list[tuple[int, int, int]] = []
        self.add_client("10.0.0.3:1", self.publisher, self.origin)
        self.add_client("10.0.0.4:1", self.viewer, self.egress)
        self.viewer.subscribe(b"video", 0)
        self.twin.at(SECOND, self.publish)
        self.frames = 0

    def identity(self, node_id: str) -> Identity:
        return self.authority.issue("sim", node_id)

    def hop_tls(self, node_id: str) -> ClientTls:
        ours = self.identity(node_id)
        return ClientTls(roots=[self.authority.certificate], chain=ours.chain, key=ours.key)

    def edge(self, node_id: str, address: str, *upstreams: Upstream) -> int:
        ours = self.identity(node_id)
        tls = ServerTls(
            self.public.chain, self.public.key, ours.chain, ours.key, [self.authority.certificate]
        )
        agent = Agent(AgentConfig(node_id=node_id, upstreams=upstreams, peer_identity=peer_node_id))
        return self.twin.add_host(address, agent, DatapathConfig(tls, idle_timeout_ms=IDLE_MS))

    def to(self, address: str) -> ConnectionConfig:
        return ConnectionConfig(Target("quic", address, "localhost", ClientTls(insecure=True)))

    def add_client(self, address: str, engine: Publisher | Viewer, edge: int) -> None:
        host = self.twin.add_host(address, engine, DatapathConfig(), self.look)
        self.twin.join(host, edge, LinkConfig(delay_us=5_000))
        engine.start(0)

    def publish(self, now_us: int) -> None:
        group, number = divmod(self.frames, FRAMES_A_GROUP)
        last = number == FRAMES_A_GROUP - 1
        self.publisher.publish(b"video", group, number, bytes(500), end_of_group=last)
        self.frames += 1
        self.twin.at(now_us + FRAME_US, self.publish)

    def look(self, now_us: int) -> None:
        while self.publisher.poll_event() is not None:
            pass
        while (event := self.viewer.poll_event()) is not None:
            if isinstance(event, client.ObjectReceived):
                self.arrived.append((now_us, event.group, event.object))

    def set_hop(self, *, up: bool) -> None:
        for a, b in ((self.origin, self.egress), (self.egress, self.origin)):
            self.twin.world.set_link_up(a, b, up)


def test_live_tracks_are_taken_up_again_when_a_cut_hop_is_mended() -> None:
    show = Show()
    show.twin.run_until(4 * SECOND)
    assert show.arrived
    show.set_hop(up=False)
    show.twin.run_until(14 * SECOND)
    cut = len(show.arrived)
    show.set_hop(up=True)
    show.twin.run_until(30 * SECOND)
    after = show.arrived[cut:]
    assert after, "the viewer gets nothing after the hop was mended"
    assert after[0][0] < 26 * SECOND
    assert len({(group, number) for _, group, number in show.arrived}) == len(show.arrived)
    last = after[-1][1:]
    newest = divmod(show.frames - 1, FRAMES_A_GROUP)
    assert newest[0] - last[0] <= 1
