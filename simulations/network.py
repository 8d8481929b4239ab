"""The network of one run: every edge, path and client of a `WorldSpec`, standing in a `Twin`.

What is made here is made of the spec and the seed alone, in the spec's order; certificates are issued at a
fixed date. Faults change it through the methods of `Paths` and the hosts; nothing here decides anything.

Names are resolved from a table and in no time: edge ``sin-1`` is ``sin-1.example``, port 443.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from farcast.certificates import HopAuthority, Identity, make_dev_identity
from farcast.clients.server import CONNECT_SECONDS_MAX, DRAFTS, client_datapath
from farcast.clients.viewing import RESUME_MS_MAX
from farcast.control_plane.controller import ControllerConfig
from farcast.control_plane.edge_list import make_signer
from farcast.control_plane.link_state import LinkStateConfig
from farcast.control_plane.risk_groups import RiskGroup, RiskGroups
from farcast.edge.assembly import probe_intervals
from farcast.proto._core import ClientTls, DatapathConfig, ServerTls
from farcast.proto.agent import BackoffConfig, PlanHops, Target, Upstream
from farcast.proto.client import ConnectionConfig, Publisher, PublisherConfig, Viewer, ViewerConfig
from farcast.proto.moqt.names import TrackNamespace
from farcast.proto.recovery.policy import PLAIN, Assumptions
from farcast.proto.recovery.second_path import SecondPaths
from farcast.proto.urls import ServerUrl, parse_url
from farcast.simulations.client_host import IDS_PER_ENGINE, PublisherHost, ViewerHost
from farcast.simulations.constants import STOCK_CONNECT_MS_MAX, STOCK_RETRY_MS, STOCK_RETRY_MS_MAX
from farcast.simulations.control_host import ControlHost, Note
from farcast.simulations.control_link import ControlPipe, ControlWay
from farcast.simulations.edge_host import EdgeConfig, EdgeHost
from farcast.simulations.links import LinkModel
from farcast.simulations.media import FilmModel
from farcast.simulations.tokens import PRETENCES, Issuer
from farcast.simulations.twin import Engine, Twin
from farcast.simulations.worlds import Client, EdgeSite, WorldSpec

CLUSTER: Final = "sim"
ISSUED: Final = datetime(2026, 1, 1, tzinfo=UTC)
UNIX_US: Final = int(ISSUED.timestamp()) * 1_000_000
"""The wall clock of all machines at virtual time 0."""

VALID_DAYS: Final = 7_000
"""TLS compares certificates with this machine's clock, not with the world's; a trace hash must not care."""

DOMAIN: Final = "example"
EDGE_PORT: Final = 443
CLIENT_PORT: Final = 40_000
HOSTS_MAX: Final = 65_000

PROBE_BPS: Final = 4_000
"""`[control] probe_bps` of an edge."""

EDGES_NAMED_MAX: Final = 3
"""URLs that a user of ours names: the nearest edges."""

WAIT_MS_MAX: Final = 3_600_000
"""Viewers do not give up: how long nothing came is what is measured."""

SEED_STRIDE: Final = 7_919

HOSTILE_LINK: Final = LinkModel(delay_us=10_000)
"""The way of strangers to an edge."""

LinkChangeFn: TypeAlias = Callable[[LinkModel], LinkModel]


@dataclass(frozen=True, slots=True)
class _Trust:
    """Certificates of the whole network."""

    authority: HopAuthority
    public: Identity
    viewers: ClientTls

    @classmethod
    def make(cls) -> _Trust:
        public = make_dev_identity(ISSUED, seed=b"farcast simulator: public certificate")
        seed = b"farcast simulator: hop authority"
        authority = HopAuthority(ISSUED, seed, CLUSTER, VALID_DAYS)
        return cls(authority, public, ClientTls(fingerprints=[public.sha256]))


class SimNames:
    """The resolver: edges by their host names."""

    def __init__(self, trust: _Trust) -> None:
        self._trust = trust
        self._remotes: dict[str, str] = {}
        self.outages = 0
        """Faults that keep the resolver from answering."""

    def add(self, node_id: str, remote: str) -> None:
        """This edge is at ``ip:port``."""
        self._remotes[host_of(node_id)] = remote

    def target(self, url: ServerUrl) -> Target | None:
        """An edge as a client connects to it; ``None`` for a name that there is not, and for all while the
        resolver has no answers."""
        return None if self.outages else self.known(url)

    def known(self, url: ServerUrl) -> Target | None:
        """The same, resolver or not."""
        remote = self._remotes.get(url.host)
        if remote is None or url.target == "hop":
            return None
        path = url.path or "/"
        return Target(url.target, remote, url.host, self._trust.viewers, url.authority, path, DRAFTS)


def host_of(node_id: str) -> str:
    """The host name of an edge."""
    return f"{node_id}.{DOMAIN}"


def url_of(node_id: str, transport: str = "webtransport") -> str:
    """The public URL of an edge."""
    scheme = "https" if transport == "webtransport" else "moqt"
    return f"{scheme}://{host_of(node_id)}:{EDGE_PORT}"


class Paths:
    """What every directed path is like now: as the world made it, and what faults did to it.

    Faults come and go in any order, so each is kept by a key of its own, and the link is set anew from the
    world's model and all changes that are in force.
    """

    def __init__(self, twin: Twin) -> None:
        self._twin = twin
        self._models: dict[tuple[int, int], LinkModel] = {}
        self._of_host: dict[int, list[tuple[int, int]]] = {}
        self._changes: dict[tuple[int, int], dict[object, LinkChangeFn]] = {}
        self._cuts: dict[tuple[int, int], dict[object, None]] = {}

    def add(self, src: int, dst: int, model: LinkModel) -> None:
        """A path of the world."""
        self._models[src, dst] = model
        self._of_host.setdefault(src, []).append((src, dst))
        self._of_host.setdefault(dst, []).append((src, dst))
        self._twin.world.add_link(src, dst, model.config)

    def of_host(self, host: int) -> list[tuple[int, int]]:
        """All paths from and to a host."""
        return list(self._of_host.get(host, ()))

    def __contains__(self, path: tuple[int, int]) -> bool:
        return path in self._models

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._models)

    def model(self, src: int, dst: int) -> LinkModel:
        """As it is now."""
        model = self._models[src, dst]
        for change in self._changes.get((src, dst), {}).values():
            model = change(model)
        return model

    def replace(self, src: int, dst: int, model: LinkModel) -> None:
        """Another link of the world takes this one's place (other access); faults stay on it."""
        self._models[src, dst] = model
        self._apply(src, dst)

    def change(self, key: object, src: int, dst: int, how: LinkChangeFn) -> None:
        """Change the path until `undo` with the same key."""
        self._changes.setdefault((src, dst), {})[key] = how
        self._apply(src, dst)

    def cut(self, key: object, src: int, dst: int) -> None:
        """Nothing passes until `undo` with the same key."""
        self._cuts.setdefault((src, dst), {})[key] = None
        self._twin.world.set_link_up(src, dst, False)

    def undo(self, key: object, src: int, dst: int) -> None:
        """Take back what was done under a key."""
        cuts = self._cuts.get((src, dst), {})
        if key in cuts:
            del cuts[key]
            self._twin.world.set_link_up(src, dst, not cuts)
        if self._changes.get((src, dst), {}).pop(key, None) is not None:
            self._apply(src, dst)

    def mend(self, src: int, dst: int) -> None:
        """As the world made it, whatever was done to it."""
        self._cuts.pop((src, dst), None)
        self._twin.world.set_link_up(src, dst, True)
        if self._changes.pop((src, dst), None) is not None:
            self._apply(src, dst)

    def is_cut(self, src: int, dst: int) -> bool:
        """Whether anything holds it cut."""
        return bool(self._cuts.get((src, dst)))

    def _apply(self, src: int, dst: int) -> None:
        self._twin.world.set_link(src, dst, self.model(src, dst).config)


class Network:
    """Everything that runs. ``note`` gets the lines of all logs."""

    def __init__(self, spec: WorldSpec, seed: int, note: Note) -> None:
        self.spec = spec
        self.seed = seed
        self.twin = Twin(seed)
        self.paths = Paths(self.twin)
        self.edges: dict[str, EdgeHost] = {}
        self.viewers: dict[str, ViewerHost] = {}
        self.publishers: dict[str, PublisherHost] = {}
        self.sites: dict[str, EdgeSite] = {site.node_id: site for site in spec.edges}
        self.clients: dict[str, Client] = {client.name: client for client in spec.clients}
        self.first_track: dict[str, int] = {}
        """By publisher: the index of its first track."""
        self.films: dict[str, FilmModel] = {}
        self.until_us = 0
        """When the run ends."""
        self.on_client: Callable[[str, int], None] = lambda name, host: None
        """Told of every client that comes, and its host, before its tap."""
        self._names_of_hosts: dict[int, str] = {}
        self._note = note
        self._addresses = 0
        self.intruders: list[tuple[str, Viewer | Publisher]] = []
        """Peers that no edge may serve, and what each pretends."""
        self._trust = _Trust.make()
        self._issuer = Issuer(CLUSTER, UNIX_US // 1_000_000)
        self._asks_for_tokens = spec.access == "tokens" and spec.routing == "planned"
        self.names = SimNames(self._trust)
        self._node_of = {f"{host_of(site.node_id)}:{EDGE_PORT}": site.node_id for site in spec.edges}
        self.control = self._make_control()
        for index, site in enumerate(spec.edges):
            self.names.add(site.node_id, _edge_address(index))
        for index, site in enumerate(spec.edges):
            self._add_edge(index, site)
        for path in spec.paths:
            self.paths.add(self.edges[path.src].host, self.edges[path.dst].host, path.model)
        self._make_films()

    # ---- The control plane and edges -------------------------------------------------------------------

    def _make_control(self) -> ControlHost:
        groups = tuple(RiskGroup(g.name, g.kind, g.nodes, g.links) for g in self.spec.risk_groups)
        config = ControllerConfig(links=LinkStateConfig(risk_groups=RiskGroups(groups)))
        identity = self._trust.authority.issue_control("c1")
        sign = make_signer(identity.chain, identity.key)
        region = self.spec.control_region
        return ControlHost(self.twin, config, CLUSTER, UNIX_US, self._note, sign, region)

    def _add_edge(self, index: int, site: EdgeSite) -> None:
        address = _edge_address(index)
        identity = self._trust.authority.issue(site.region, site.node_id)
        hops = ClientTls(roots=[self._trust.authority.certificate], chain=identity.chain, key=identity.key)
        config = EdgeConfig(
            node_id=site.node_id,
            region=site.region,
            provider=site.provider,
            advertise=address,
            public_url=url_of(site.node_id),
            cluster=CLUSTER,
            egress_bps_max=site.capacity_bps,
            datapath=self._edge_datapath(identity),
            plan_hops=PlanHops(hops),
            seed=self.seed * SEED_STRIDE + index,
            unix_us=UNIX_US,
            upstreams=self._origins(site.node_id) if self.spec.routing == "origin-streams" else (),
            access=self._issuer.policy if self._asks_for_tokens else None,
            recovery=PLAIN if self.spec.repair == "plain" else Assumptions(),
            second_paths=SecondPaths(which=self.spec.second_paths),
        )
        edge = EdgeHost(config, self._note)
        edge.host = self.twin.add_host(address, edge, config.datapath)
        if self.spec.routing == "planned":
            way = ControlWay(site.control.median_delay_us, site.control.mean_loss)
            edge.pipe = ControlPipe(self.twin, edge.host, edge, self.control, way, config.seed)
            self.control.register(edge.pipe, site.region, site.node_id)
        self.edges[site.node_id] = edge

    def _origins(self, node_id: str) -> tuple[Upstream, ...]:
        """For each publisher that is nearest to another edge: that edge, as any MoQT relay is asked."""
        return tuple(
            Upstream(TrackNamespace.parse(namespace_of(client)), self._target(client.edges[0], "quic"))
            for client in self.spec.publishers
            if client.edges[0] != node_id
        )

    def _edge_datapath(self, identity: Identity) -> DatapathConfig:
        trust = self._trust
        server = ServerTls(
            trust.public.chain,
            trust.public.key,
            identity.chain,
            identity.key,
            [trust.authority.certificate],
        )
        return DatapathConfig(server, DRAFTS, **probe_intervals(PROBE_BPS))  # type: ignore[arg-type]

    def restart_edge(self, node_id: str, now_us: int) -> None:
        """A new process at an edge's place, with what lies on its disk."""
        edge = self.edges[node_id]
        self.twin.world.restart_host(edge.host, edge.config.datapath)
        edge.boot(now_us)
        self.twin.touch(edge.host)

    # ---- Clients ---------------------------------------------------------------------------------------

    def _make_films(self) -> None:
        index = 0
        for k, client in enumerate(self.spec.publishers):
            config = self.spec.film(client.film)
            film = FilmModel(config, client.name, namespace_of(client), UNIX_US, self.seed * SEED_STRIDE + k)
            self.films[client.name], self.first_track[client.name] = film, index
            index += len(film.tracks)

    def add_publisher(self, client: Client, tapped_us: int, until_us: int) -> PublisherHost:
        """A publisher at a host of its own; `PublisherHost.start` is its tap."""
        config = PublisherConfig(
            self._connection(client, 0),
            TrackNamespace.parse(namespace_of(client)),
            follow_edge_list=True,
        )
        host = PublisherHost(
            self.twin,
            Publisher(config),
            self.films[client.name],
            self.names,
            self._node_of,
            tapped_us,
            until_us,
        )
        datapath = client_datapath(DRAFTS)
        host.host = self.twin.add_host(self.next_address(), host, datapath, host.look)
        self._join(client, host.host)
        self.publishers[client.name] = host
        return host

    def add_viewer(self, client: Client, tapped_us: int) -> ViewerHost:
        """A viewer at a host of its own, of everything in its room; `ViewerHost.start` is its tap."""
        shows: list[tuple[Viewer, FilmModel, int]] = []
        for publisher in self.spec.publishers:
            if publisher.room == client.room:
                config = ViewerConfig(
                    self._connection(client, len(shows)),
                    TrackNamespace.parse(namespace_of(publisher)),
                    WAIT_MS_MAX,
                    first_id=len(shows) * IDS_PER_ENGINE + 1,
                    follow_edge_list=client.stack == "farcast",
                    resume_ms_max=RESUME_MS_MAX,
                )
                film = self.films[publisher.name]
                shows.append((Viewer(config), film, self.first_track[publisher.name]))
        host = ViewerHost(
            self.twin,
            shows,
            self.names,
            self._node_of,
            client.access_rate_bps,
            tapped_us,
            adapts=client.adapts,
        )
        datapath = client_datapath(DRAFTS)
        host.host = self.twin.add_host(self.next_address(), host, datapath, host.look)
        self._join(client, host.host)
        self.viewers[client.name] = host
        return host

    def _connection(self, client: Client, number: int) -> ConnectionConfig:
        is_own = client.stack == "farcast"
        named = client.edges[: EDGES_NAMED_MAX if is_own else 1]
        targets = [self._target(node_id, client.transport) for node_id in named]
        return ConnectionConfig(
            targets[0],
            seed=self.seed * SEED_STRIDE + self._addresses,
            first_id=number * 2 * IDS_PER_ENGINE + 1,
            connect_ms_max=round(CONNECT_SECONDS_MAX * 1_000) if is_own else STOCK_CONNECT_MS_MAX,
            backoff=BackoffConfig() if is_own else BackoffConfig(STOCK_RETRY_MS, STOCK_RETRY_MS_MAX),
            alternatives=tuple(targets[1:]),
            token=self._token(client),
        )

    def _token(self, client: Client) -> bytes:
        if not self._asks_for_tokens:
            return b""
        return self._issuer.token(TrackNamespace.parse(client.room), client.name)

    def _target(self, node_id: str, transport: str) -> Target:
        target = self.names.known(parse_url(url_of(node_id, transport)))
        if target is None:
            raise LookupError(node_id)
        return target

    def _join(self, client: Client, host: int) -> None:
        for reach in client.reaches:
            edge = self.edges[reach.node_id].host
            up, down = client.models_to(reach.node_id)
            self.paths.add(host, edge, up)
            self.paths.add(edge, host, down)
        self._names_of_hosts[host] = client.name
        self.on_client(client.name, host)

    def name_of(self, host: int) -> str:
        """The client at a host."""
        return self._names_of_hosts[host]

    # ---- Strangers -------------------------------------------------------------------------------------

    def add_stranger(self, engine: Engine, node_id: str, *, hears: bool = True) -> int:
        """A host of nobody's load with a clean path to one edge; without one back it ``hears`` nothing."""
        host = self.twin.add_host(self.next_address(), engine, client_datapath(DRAFTS))
        edge = self.edges[node_id].host
        self.paths.add(host, edge, HOSTILE_LINK)
        if hears:
            self.paths.add(edge, host, HOSTILE_LINK)
        self._names_of_hosts[host] = f"stranger-{host}"
        return host

    def add_stranger_viewer(self, node_id: str, now_us: int) -> int:
        """A viewer of nobody's load: it subscribes everything that the first publisher has."""
        publisher = self.spec.publishers[0]
        target = self._target(node_id, "quic")
        seed = self.seed * SEED_STRIDE + self._addresses
        connection = ConnectionConfig(target, seed=seed, token=self._token(publisher))
        viewer = Viewer(ViewerConfig(connection, TrackNamespace.parse(namespace_of(publisher)), WAIT_MS_MAX))
        host = self.add_stranger(viewer, node_id)
        viewer.start(now_us)
        for track in self.films[publisher.name].tracks:
            viewer.subscribe(track.info.name.encode(), now_us)
        self.twin.touch(host)
        return host

    def add_intruder(self, node_id: str, number: int, now_us: int) -> Callable[[int], None]:
        """A viewer or a publisher of the first publisher's namespace whose token is none; what ends it."""
        publisher = self.spec.publishers[0]
        namespace = TrackNamespace.parse(namespace_of(publisher))
        pretence = PRETENCES[number // 2 % len(PRETENCES)]
        connection = ConnectionConfig(
            self._target(node_id, "quic"),
            seed=self.seed * SEED_STRIDE + self._addresses,
            token=self._issuer.pretence(pretence, TrackNamespace.parse(publisher.room)),
        )
        engine: Viewer | Publisher
        if number % 2:
            engine = Publisher(PublisherConfig(connection, namespace))
        else:
            engine = Viewer(ViewerConfig(connection, namespace, WAIT_MS_MAX))
        host = self.add_stranger(engine, node_id)
        engine.start(now_us)
        if isinstance(engine, Viewer):
            for track in self.films[publisher.name].tracks:
                engine.subscribe(track.info.name.encode(), now_us)
        self.twin.touch(host)
        self.intruders.append((f"{type(engine).__name__.lower()} {number}, token: {pretence}", engine))
        return lambda at_us: self.twin.at(at_us, lambda now_us: engine.close(now_us), (host,))

    def client_host(self, name: str) -> PublisherHost | ViewerHost | None:
        """A client that has come; ``None`` before its tap."""
        return self.viewers.get(name) or self.publishers.get(name)

    def next_address(self) -> str:
        """An address that nobody has had."""
        if self._addresses >= HOSTS_MAX:
            raise ValueError(f"a world has at most {HOSTS_MAX} addresses of clients")
        self._addresses += 1
        return f"10.2.{self._addresses >> 8}.{self._addresses & 255}:{CLIENT_PORT}"


def _edge_address(index: int) -> str:
    return f"10.1.{index >> 8}.{index & 255}:{EDGE_PORT}"


def namespace_of(publisher: Client) -> str:
    """What a publisher publishes under: the room, and its name."""
    return f"{publisher.room}/{publisher.name}"
