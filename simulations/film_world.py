"""A film in the twin: publishers, edges with hops between them, and viewers, on a virtual clock.

The engines are those of the deployed edges and tools: `Agent`, `Publisher` with `Film`, `Viewer` with
`Viewing`. What is here stands for their shells: it takes frames from a source when they are due, and keeps
what a viewer got. Certificates are Ed25519 out of a seed of their own, because the length of an ECDSA
signature varies and a trace must not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from farcast.certificates import HopAuthority, make_dev_identity
from farcast.clients.film import Film, hand_over
from farcast.clients.media.playback import PlaybackReport
from farcast.clients.media.source import Source
from farcast.clients.media.tracks import Sample, TrackInfo
from farcast.clients.viewing import Viewing
from farcast.edge.credentials import peer_node_id
from farcast.proto._core import ClientTls, DatapathConfig, LinkConfig, ServerTls
from farcast.proto.agent import Agent, AgentConfig, Target, Upstream
from farcast.proto.client import ConnectionConfig, Publisher, PublisherConfig, Viewer, ViewerConfig
from farcast.proto.client import events as client
from farcast.proto.moqt.names import TrackNamespace
from farcast.simulations.twin import Twin

DRAFTS = (18, 16)
PORT = 4433
HOSTS_MAX = 65_000
SERVER_NAME = "localhost"

Transport = Literal["quic", "webtransport"]


@dataclass(frozen=True, slots=True)
class Access:
    """How a client reaches its edge: what it speaks, and over what sort of path (both ways alike)."""

    transport: Transport = "quic"
    drafts: tuple[int, ...] = DRAFTS
    link: LinkConfig = field(default_factory=lambda: LinkConfig(delay_us=5_000))


@dataclass(frozen=True, slots=True)
class EdgeHost:
    """An edge of the world; ``host`` is its number in the twin."""

    host: int
    node_id: str
    remote: str
    agent: Agent


class FilmWorld:
    """Builds a network around films and lets it run. Times are virtual microseconds."""

    def __init__(self, seed: int, *, certificates_from: datetime | None = None) -> None:
        self.twin = Twin(seed)
        now = certificates_from or datetime.now(UTC)
        self._seed = seed
        self._authority = HopAuthority(now, b"farcast twin: hop authority")
        self._public = make_dev_identity(now, seed=b"farcast twin: public certificate")
        self._hosts = 0
        self.edges: dict[str, EdgeHost] = {}
        """By node id."""

    def add_edge(
        self, node_id: str, *, upstream: EdgeHost | None = None, hop: LinkConfig | None = None
    ) -> EdgeHost:
        """An edge; what nobody publishes there it fetches from ``upstream`` over a path like ``hop``."""
        identity = self._authority.issue("twin", node_id)
        roots = (self._authority.certificate,)
        server = ServerTls(self._public.chain, self._public.key, identity.chain, identity.key, roots)
        upstreams: tuple[Upstream, ...] = ()
        if upstream is not None:
            tls = ClientTls(roots=roots, chain=identity.chain, key=identity.key)
            target = Target("hop", upstream.remote, SERVER_NAME, tls)
            upstreams = (Upstream(TrackNamespace(), target),)
        agent = Agent(
            AgentConfig(
                node_id=node_id,
                upstreams=upstreams,
                seed=self._seed + self._hosts,
                peer_identity=peer_node_id,
            )
        )
        remote = self._address()
        host = self.twin.add_host(remote, agent, DatapathConfig(server, DRAFTS))
        if upstream is not None:
            self.twin.join(host, upstream.host, hop or LinkConfig())
        self.edges[node_id] = EdgeHost(host, node_id, remote, agent)
        return self.edges[node_id]

    def publish(
        self,
        source: Source,
        namespace: TrackNamespace,
        edge: EdgeHost,
        *,
        at_us: int = 0,
        access: Access | None = None,
    ) -> FilmPublisher:
        """Connect at a time and publish the source from the moment when the namespace is accepted."""
        access = access or Access()
        config = PublisherConfig(self._connection(edge, access), namespace)
        publisher = FilmPublisher(self.twin, source, Publisher(config))
        datapath = DatapathConfig(drafts=access.drafts)
        host = self.twin.add_host(self._address(), publisher.engine, datapath, publisher.progress)
        self.twin.join(host, edge.host, access.link)
        self.twin.at(at_us, publisher.engine.start)
        return publisher

    def watch(
        self, namespace: TrackNamespace, edge: EdgeHost, *, at_us: int = 0, access: Access | None = None
    ) -> FilmViewer:
        """Connect at a time and watch what there is until it ends."""
        access = access or Access()
        viewer = FilmViewer(at_us, Viewer(ViewerConfig(self._connection(edge, access), namespace)))
        datapath = DatapathConfig(drafts=access.drafts)
        host = self.twin.add_host(self._address(), viewer.engine, datapath, viewer.progress)
        self.twin.join(host, edge.host, access.link)
        self.twin.at(at_us, viewer.start)
        return viewer

    def run_until(self, t_us: int) -> None:
        """Let virtual time pass."""
        self.twin.run_until(t_us)

    def trace_hash(self) -> str:
        """Of time, size and direction of every datagram so far."""
        return self.twin.world.trace_hash()

    def _connection(self, edge: EdgeHost, access: Access) -> ConnectionConfig:
        tls = ClientTls(fingerprints=[self._public.sha256])
        target = Target(
            access.transport,
            edge.remote,
            SERVER_NAME,
            tls,
            authority=f"{SERVER_NAME}:{PORT}",
            drafts=access.drafts,
        )
        return ConnectionConfig(target, seed=self._seed + self._hosts)

    def _address(self) -> str:
        if self._hosts >= HOSTS_MAX:
            raise ValueError(f"a world has at most {HOSTS_MAX} hosts")
        self._hosts += 1
        return f"10.0.{self._hosts >> 8}.{self._hosts & 255}:{PORT}"


class FilmPublisher:
    """Publishes a source in (virtual) real time, as ``farcast publish`` does."""

    def __init__(self, twin: Twin, source: Source, engine: Publisher) -> None:
        self.engine = engine
        self.frames = 0
        self.ended = False
        """Whether the source is at its end."""
        self._twin = twin
        self._source = source
        self._film = Film(source.tracks)
        self._start_us: int | None = None
        for name, priority in self._film.priorities.items():
            engine.add_track(name.encode(), priority=priority)

    def progress(self, now_us: int) -> None:
        """Take what the engine has to say; the film begins when its namespace is accepted."""
        while (event := self.engine.poll_event()) is not None:
            if isinstance(event, client.NamespaceAccepted) and self._start_us is None:
                self._start_us = now_us
                hand_over(self.engine, self._film.catalog_objects())
                self._schedule()

    def _schedule(self) -> None:
        due_us = self._source.next_time_us()
        if due_us is not None:
            self._twin.at((self._start_us or 0) + due_us, self._publish)
            return
        self.ended = True
        hand_over(self.engine, self._film.last_objects())
        for name in self._film.priorities:
            self.engine.end_track(name.encode())

    def _publish(self, now_us: int) -> None:
        frame = next(self._source, None)
        if frame is not None:
            self.frames += 1
            hand_over(self.engine, self._film.objects(frame, now_us))
        self._schedule()


class FilmViewer:
    """Watches, as ``farcast watch`` does, and keeps every sample it got."""

    def __init__(self, started_us: int, engine: Viewer) -> None:
        self.engine = engine
        self.samples: dict[str, list[Sample]] = {}
        """Per track, in order of arrival."""
        self.remarks: list[str] = []
        """What a user would have been told."""
        self.objects: dict[str, list[tuple[int, int]]] = {}
        """Per track: group and object, in order of arrival."""
        self._viewing = Viewing(started_us, note=self.remarks.append, on_frame=self._note_object, sink=self)

    @property
    def over(self) -> bool:
        """Whether every track has ended."""
        return self._viewing.over

    def report(self) -> PlaybackReport:
        """The figures that ``farcast watch`` prints."""
        return self._viewing.playback.report()

    def start(self, now_us: int) -> None:
        """Connect and ask for the catalogs."""
        self.engine.start(now_us)
        self._viewing.start(self.engine, now_us)

    def progress(self, now_us: int) -> None:
        """Take what the engine has to say."""
        self._viewing.poll(self.engine, now_us)

    def begin(self, tracks: Sequence[TrackInfo]) -> None:
        """See `SampleSink`."""
        self.samples = {track.name: [] for track in tracks}

    def take(self, track: str, samples: Sequence[Sample], config: bytes | None) -> None:
        """See `SampleSink`."""
        self.samples.setdefault(track, []).extend(samples)

    def start_over(self) -> None:
        """See `SampleSink`."""

    def _note_object(self, track: str, group: int, object: int, payload: bytes) -> None:
        self.objects.setdefault(track, []).append((group, object))
