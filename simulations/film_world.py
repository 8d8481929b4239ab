"""A film in the twin: publishers, edges with hops between them, and viewers, on a virtual clock.

The engines are those of the deployed edges and tools: `Agent`, `Publisher` with `Film`, `Viewer` with
`Viewing`. What is here stands for their shells: it takes frames from a source when they are due, and keeps
what a viewer got. Certificates are Ed25519 out of a seed of their own, because the length of an ECDSA
signature varies and a trace must not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from farcast.certificates import HopAuthority, make_dev_identity
from farcast.clients.film import Film, hand_over
from farcast.clients.media.playback import PlaybackReport
from farcast.clients.media.source import Source
from farcast.clients.media.tracks import Sample, TrackInfo
from farcast.clients.moves import MovesReport
from farcast.clients.server import client_datapath
from farcast.clients.viewing import Viewing
from farcast.edge.credentials import peer_node_id
from farcast.proto._core import ClientTls, DatapathConfig, LinkConfig, ServerTls
from farcast.proto.agent import Agent, AgentConfig, Target, Upstream
from farcast.proto.client import ConnectionConfig, Publisher, PublisherConfig, Viewer, ViewerConfig
from farcast.proto.client import events as client
from farcast.proto.client.edge_list import EdgeList
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
        self._paths: list[tuple[int, int]] = []
        self.edges: dict[str, EdgeHost] = {}
        """By node id."""

    def add_edge(
        self,
        node_id: str,
        *,
        upstream: EdgeHost | None = None,
        hop: LinkConfig | None = None,
        others: Sequence[EdgeHost] = (),
    ) -> EdgeHost:
        """An edge; what nobody publishes there it fetches from ``upstream`` over a path like ``hop``, or from
        one of the ``others``, over paths of the same sort."""
        identity = self._authority.issue("twin", node_id)
        roots = (self._authority.certificate,)
        server = ServerTls(self._public.chain, self._public.key, identity.chain, identity.key, roots)
        tls = ClientTls(roots=roots, chain=identity.chain, key=identity.key)
        reached = [edge for edge in (upstream, *others) if edge is not None]
        upstreams = tuple(
            Upstream(TrackNamespace(), Target("hop", edge.remote, SERVER_NAME, tls)) for edge in reached
        )
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
        for edge in reached:
            self._join(host, edge.host, hop or LinkConfig())
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
        others: Sequence[EdgeHost] = (),
    ) -> FilmPublisher:
        """Connect at a time and publish the source from the moment when the namespace is accepted.

        ``others``: edges to move to, over paths like that to ``edge``.
        """
        access = access or Access()
        config = PublisherConfig(self.connection(edge, access, others), namespace)
        publisher = FilmPublisher(self.twin, source, Publisher(config))
        publisher.host = self.add_client(publisher.engine, access, publisher.progress, (edge, *others))
        self.twin.at(at_us, publisher.engine.start)
        return publisher

    def watch(
        self,
        namespace: TrackNamespace,
        edge: EdgeHost,
        *,
        at_us: int = 0,
        access: Access | None = None,
        others: Sequence[EdgeHost] = (),
        reachable: Sequence[EdgeHost] = (),
    ) -> FilmViewer:
        """Connect at a time and watch what there is until it ends; ``others`` as for `publish`.

        ``reachable``: edges with a path to the viewer of which an edge list has to tell it.
        """
        access = access or Access()
        config = ViewerConfig(self.connection(edge, access, others), namespace, follow_edge_list=True)
        viewer = FilmViewer(at_us, Viewer(config), lambda edges: self._targets(edges, access))
        paths = (edge, *others, *reachable)
        viewer.host = self.add_client(viewer.engine, access, viewer.progress, paths)
        self.twin.at(at_us, viewer.start)
        return viewer

    def cut(self, a: int, b: int, *, up: bool = False) -> None:
        """Cut (or mend) the path between two hosts, both ways."""
        self.twin.world.set_link_up(a, b, up)
        self.twin.world.set_link_up(b, a, up)

    def kill(self, edge: EdgeHost) -> None:
        """From now on nothing reaches the edge, and nothing leaves it."""
        for a, b in self._paths:
            if edge.host in (a, b):
                self.cut(a, b)

    def drain(self, edge: EdgeHost, now_us: int) -> None:
        """What SIGTERM does: GOAWAY to all."""
        edge.agent.drain(now_us)

    def add_client(
        self,
        engine: Publisher | Viewer,
        access: Access,
        progress: Callable[[int], None],
        edges: Sequence[EdgeHost],
    ) -> int:
        """Put an engine at a host of its own, with paths to edges; the host's number."""
        datapath = client_datapath(access.drafts)
        host = self.twin.add_host(self._address(), engine, datapath, progress)
        for edge in edges:
            self._join(host, edge.host, access.link)
        return host

    def _join(self, a: int, b: int, link: LinkConfig) -> None:
        self.twin.join(a, b, link)
        self._paths.append((a, b))

    def run_until(self, t_us: int) -> None:
        """Let virtual time pass."""
        self.twin.run_until(t_us)

    def trace_hash(self) -> str:
        """Of time, size and direction of every datagram so far."""
        return self.twin.world.trace_hash()

    def connection(self, edge: EdgeHost, access: Access, others: Sequence[EdgeHost] = ()) -> ConnectionConfig:
        """How a client connects to the first of some edges, and knows the others."""
        target, *alternatives = (self.target(each, access) for each in (edge, *others))
        seed = self._seed + self._hosts
        return ConnectionConfig(target, seed=seed, alternatives=tuple(alternatives))

    def _targets(self, edges: EdgeList, access: Access) -> list[Target]:
        """What a shell finds out about the edges of a list by asking for their addresses."""
        by_authority = {edge.remote: edge for edge in self.edges.values()}
        listed = (by_authority.get(edge.url.authority) for edge in edges.edges)
        return [self.target(edge, access) for edge in listed if edge is not None]

    def target(self, edge: EdgeHost, access: Access) -> Target:
        """An edge as a client connects to it."""
        tls = ClientTls(fingerprints=[self._public.sha256])
        authority = edge.remote
        return Target(
            access.transport, edge.remote, SERVER_NAME, tls, authority=authority, drafts=access.drafts
        )

    def _address(self) -> str:
        if self._hosts >= HOSTS_MAX:
            raise ValueError(f"a world has at most {HOSTS_MAX} hosts")
        self._hosts += 1
        return f"10.0.{self._hosts >> 8}.{self._hosts & 255}:{PORT}"


class FilmPublisher:
    """Publishes a source in (virtual) real time, as ``farcast publish`` does."""

    def __init__(self, twin: Twin, source: Source, engine: Publisher) -> None:
        self.engine = engine
        self.host = -1
        """Its number in the twin."""
        self.moves: list[client.Moved] = []
        self.frames = 0
        self.ended = False
        """Whether the source is at its end."""
        self._twin = twin
        self._source = source
        self._film = Film(source.tracks)
        self._start_us: int | None = None
        for name, priority in self._film.priorities.items():
            properties = self._film.properties.get(name, ())
            engine.add_track(name.encode(), priority=priority, properties=properties)

    def progress(self, now_us: int) -> None:
        """Take what the engine has to say; the film begins when its namespace is accepted."""
        while (event := self.engine.poll_event()) is not None:
            if isinstance(event, client.NamespaceAccepted) and self._start_us is None:
                self._start_us = now_us
                hand_over(self.engine, self._film.catalog_objects())
                self._schedule()
            elif isinstance(event, client.Moved):
                self.moves.append(event)

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

    def __init__(
        self, started_us: int, engine: Viewer, resolve: Callable[[EdgeList], Sequence[Target]]
    ) -> None:
        self.engine = engine
        self._resolve = resolve
        self.host = -1
        """Its number in the twin."""
        self.samples: dict[str, list[Sample]] = {}
        """Per track, in order of arrival."""
        self.remarks: list[str] = []
        """What a user would have been told."""
        self.objects: dict[str, list[tuple[int, int]]] = {}
        """Per track: group and object, in order of arrival."""
        self.arrivals_us: dict[str, list[int]] = {}
        """Per track: when objects arrived."""
        self._now_us = started_us
        self._viewing = Viewing(
            started_us,
            note=self.remarks.append,
            on_frame=self._note_object,
            sink=self,
            on_edges=self._learn,
        )

    @property
    def over(self) -> bool:
        """Whether every track has ended."""
        return self._viewing.over

    def report(self) -> PlaybackReport:
        """The figures that ``farcast watch`` prints."""
        return self._viewing.playback.report()

    def moves(self) -> MovesReport:
        """Its moves from edge to edge."""
        return self._viewing.moves.report()

    def start(self, now_us: int) -> None:
        """Connect and ask for the catalogs."""
        self.engine.start(now_us)
        self._viewing.start(self.engine, now_us)

    def progress(self, now_us: int) -> None:
        """Take what the engine has to say."""
        self._now_us = now_us
        self._viewing.poll(self.engine, now_us)

    def begin(self, tracks: Sequence[TrackInfo]) -> None:
        """See `SampleSink`."""
        self.samples = {track.name: [] for track in tracks}

    def take(self, track: str, samples: Sequence[Sample], config: bytes | None) -> None:
        """See `SampleSink`."""
        self.samples.setdefault(track, []).extend(samples)

    def start_over(self) -> None:
        """See `SampleSink`."""

    def _learn(self, event: client.EdgeEvent | client.Connected) -> None:
        if isinstance(event, client.EdgesListed):
            self.engine.learn(self._now_us, self._resolve(event.edges))

    def _note_object(self, track: str, group: int, object: int, payload: bytes) -> None:
        self.objects.setdefault(track, []).append((group, object))
        self.arrivals_us.setdefault(track, []).append(self._now_us)
