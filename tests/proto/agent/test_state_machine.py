"""Aggregation under every order of events: rules of hypothesis against what must always hold."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from farcast.proto.agent import TrackTiming
from farcast.proto.client import Publisher, Viewer

from .world import Host, World

TRACKS = ("audio", "video")
TIMING = TrackTiming(publisher_grace_ms=3_000, track_linger_ms=500)
SETTLED_MS = 40_000

viewers = Bundle("viewers")
publishers = Bundle("publishers")


class Aggregation(RuleBasedStateMachine):
    """Two edges that point at each other, publishers and viewers at both, broken hops."""

    @initialize()
    def build(self) -> None:
        self.world = World()
        self.edges = [
            self.world.edge("e0", ("", "10.0.0.2:4433"), timing=TIMING),
            self.world.edge("e1", ("", "10.0.0.1:4433"), timing=TIMING),
        ]
        self.clients: list[Host] = []

    @rule(target=publishers, at=st.integers(0, 1), space=st.sampled_from(["live/a", "live/b"]))
    def publish(self, at: int, space: str) -> Host:
        host = self.world.publisher(self.edges[at], space, *TRACKS)
        self.clients.append(host)
        return host

    @rule(target=viewers, at=st.integers(0, 1), space=st.sampled_from(["live/a", "live/b"]))
    def watch(self, at: int, space: str) -> Host:
        host = self.world.viewer(self.edges[at], space, *TRACKS, wait_ms=20_000)
        self.clients.append(host)
        return host

    @rule(host=viewers | publishers)
    def leave(self, host: Host) -> None:
        host.engine.close(self.world.now_us)

    @rule(host=viewers, track=st.sampled_from(TRACKS))
    def unsubscribe(self, host: Host, track: str) -> None:
        host.engine.unsubscribe(track.encode())

    @rule(host=viewers, track=st.sampled_from(TRACKS))
    def subscribe(self, host: Host, track: str) -> None:
        if host.engine.state != "closed":
            host.engine.subscribe(track.encode(), self.world.now_us)

    @rule(host=viewers | publishers)
    def break_connection(self, host: Host) -> None:
        for session in list(host.wires):
            host.crash(session)

    @rule(at=st.integers(0, 1))
    def break_hop(self, at: int) -> None:
        for session in [s for s in self.edges[at].wires if s % 2]:
            self.edges[at].crash(session)

    @rule(at=st.integers(0, 1), group=st.integers(0, 3))
    def start_over(self, at: int, group: int) -> None:
        for track in self.edges[at].tracks:
            self.edges[at].restart(track, group)

    @rule(ms=st.sampled_from([0, 1, 10, 400, 4_000]))
    def wait(self, ms: int) -> None:
        self.world.run(ms)

    @invariant()
    def at_most_one_upstream_per_track(self) -> None:
        for edge in self.edges:
            bound = [binding.track for binding in edge.bindings.values()]
            assert len(bound) == len(set(bound))
            names = [(t["namespace"], t["name"]) for t in self.tracks(edge) if t["phase"] != "retired"]
            assert len(names) == len(set(names))

    @invariant()
    def what_the_datapath_holds_is_what_the_agent_knows(self) -> None:
        for edge in self.edges:
            known = {t["track"] for t in self.tracks(edge)}
            assert set(edge.tracks) <= known
            assert {d.track for d in edge.downstreams.values()} <= set(edge.tracks)

    def tracks(self, edge: Host) -> list[dict[str, Any]]:
        tracks: list[dict[str, Any]] = edge.engine.status(self.world.now_us)["tracks"]
        return tracks

    def teardown(self) -> None:
        """When all have settled, everybody who can be served is; when all have left, nothing is left."""
        if not hasattr(self, "world"):
            return
        self.world.run(SETTLED_MS)
        self.check_served()
        for host in self.clients:
            host.engine.close(self.world.now_us)
        self.world.run(SETTLED_MS)
        for edge in self.edges:
            assert self.tracks(edge) == []
            assert edge.holds_nothing()
            assert edge.engine.status(self.world.now_us)["namespaces"] == []

    def check_served(self) -> None:
        published = {
            host.engine._config.namespace
            for host in self.clients
            if isinstance(host.engine, Publisher) and host.engine.state == "established"
        }
        for host in self.clients:
            engine = host.engine
            if not isinstance(engine, Viewer) or engine.state != "established":
                continue
            if engine._config.namespace in published:
                session = engine._connection.session_id
                here = [track.at(session) for track in engine._tracks.values()]
                assert all(found is not None and found.request is not None for found in here)


Aggregation.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestAggregation = Aggregation.TestCase
