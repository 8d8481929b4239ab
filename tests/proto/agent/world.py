"""Engines on a virtual clock, connected by a datapath that carries control streams and nothing else.

A `Host` stands for one machine: an engine and what its commands made of the datapath (tracks,
bindings, downstreams, sinks), kept as plain records for the tests to look at. Media is whatever a
test says it is: `Host.media` writes a largest location, `Host.restart` starts a track over.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from farcast.proto._core import ClientTls, Command, Event
from farcast.proto.agent import Agent, AgentConfig, PlanHops, Target, Upstream
from farcast.proto.client import ConnectionConfig, Publisher, PublisherConfig, Viewer, ViewerConfig
from farcast.proto.moqt.names import TrackNamespace

from .reroutes import Reroutes

DELAY_US = 1_000
STEPS_MAX = 200_000
TLS = ClientTls(insecure=True)


def namespace(text: str) -> TrackNamespace:
    """``a/b`` as a namespace."""
    return TrackNamespace.parse(text)


@dataclass(eq=False)
class Wire:
    """A session between two hosts: ids at both ends, and the stream keys that belong together."""

    ends: dict[Host, int]
    transport: str
    draft: int
    keys: dict[tuple[Host, int], int] = field(default_factory=dict)
    kinds: dict[tuple[Host, int], str] = field(default_factory=dict)
    next_stream: Counter[tuple[Host, bool]] = field(default_factory=Counter)
    open: bool = True

    def other(self, host: Host) -> Host:
        return next(end for end in self.ends if end is not host)


class Host:
    """One engine and the records of its datapath."""

    def __init__(self, world: World, name: str, engine: Any, address: str) -> None:
        self.world = world
        self.name = name
        self.engine = engine
        self.address = address
        self.is_listening = True
        self.wires: dict[int, Wire] = {}
        self.commands: list[Any] = []
        self.tracks: dict[int, Any] = {}
        self.bindings: dict[tuple[int, int], Any] = {}
        self.reroutes = Reroutes(self)
        self.downstreams: dict[int, Any] = {}
        self.fed: dict[int, bool] = {}
        """Which downstreams are fed now."""
        self.updates: list[Any] = []
        self.sinks: dict[int, Any] = {}
        self.published: list[Any] = []
        self.connects = 0
        self.next_incoming = 0
        self.offered: list[str] = ["moqt-18", "moqt-16"]

    def __repr__(self) -> str:
        return self.name

    # --- what tests do ------------------------------------------------------------------------------

    def media(self, track: int, group: int, object: int) -> None:
        """The first byte of an object arrived."""
        self.tracks[track].largest.set((group, object))

    def restart(self, track: int, group: int = 0, object: int = 0) -> None:
        """A track started over; its downstreams are those of now."""
        self.media(track, group, object)
        had = [d.downstream for d in self.downstreams.values() if d.track == track]
        had += [s.downstream for s in self.sinks.values() if s.track == track]
        self.world.post(self, Event.TrackRestarted(track=track, downstreams=had))

    def crash(self, session: int) -> None:
        """A session breaks; both ends notice."""
        wire = self.wires[session]
        for host, number in wire.ends.items():
            self.world.post(host, Event.SessionClosed(session=number, by="timeout", code=0, reason="gone"))
            host.forget(number)
        wire.open = False

    def forget(self, session: int) -> None:
        """A session is over; what was bound to it is not any more."""
        self.wires.pop(session, None)
        gone = [key for key in self.bindings if key[0] == session]
        for key in gone:
            bound = self.bindings.pop(key)
            self.reroutes.gone(bound.track, key)

    def count(self, kind: type) -> int:
        """How many commands of a kind this host's engine has given."""
        return sum(isinstance(command, kind) for command in self.commands)

    def only_track(self) -> int:
        """The id of the one track there is."""
        (track,) = self.tracks
        return track

    def holds_nothing(self) -> bool:
        """Whether neither tracks nor anything about them is left."""
        return not (self.tracks or self.bindings or self.downstreams or self.sinks)

    # --- commands -----------------------------------------------------------------------------------

    def execute(self, command: Any) -> None:
        self.commands.append(command)
        _EXECUTE[type(command)](self, command)

    def connect(self, command: Any) -> None:
        self.connects += 1
        server = self.world.by_address.get(command.remote)
        if server is None or not server.is_listening:
            reason = f"no answer from {command.remote}"
            self.world.post(
                self,
                Event.SessionClosed(session=command.session, by="timeout", code=0, reason=reason),
                10_000,
            )
            return
        incoming = server.next_incoming
        server.next_incoming += 2
        draft = 18 if command.target == "hop" else command.drafts[0]
        wire = Wire({self: command.session, server: incoming}, command.target, draft)
        for host, peer in ((self, server), (server, self)):
            host.wires[wire.ends[host]] = wire
            hop = command.target == "hop"
            opened = Event.SessionOpened(
                session=wire.ends[host],
                transport=command.target,
                draft=draft,
                incoming=host is server,
                remote=peer.address,
                offered=self.offered,
                authority=command.authority if command.target == "webtransport" else "",
                path=command.path if command.target == "webtransport" else "",
                peer_certificates=[peer.name.encode()] if hop else [],
            )
            self.world.post(host, opened)

    def close(self, command: Any) -> None:
        wire = self.wires.get(command.session)
        self.forget(command.session)
        if wire is None or not wire.open:
            return
        wire.open = False
        other = wire.other(self)
        other.forget(wire.ends[other])
        self.world.post(
            other,
            Event.SessionClosed(
                session=wire.ends[other], by="peer", code=command.code, reason=command.reason
            ),
        )

    def open_stream(self, command: Any) -> None:
        wire = self.wires.get(command.session)
        if wire is None:
            return
        other = wire.other(self)
        number = wire.next_stream[self, command.bidi]
        wire.next_stream[self, command.bidi] += 1
        theirs = number << 2 | (0 if wire.ends[self] % 2 else 1) | (0 if command.bidi else 2)
        first = number == 0
        control = (first and command.bidi) if wire.draft == 16 else not command.bidi
        wire.keys[self, command.stream] = theirs
        wire.keys[other, theirs] = command.stream
        wire.kinds[other, theirs] = wire.kinds[self, command.stream] = "control" if control else "request"

    def write(self, command: Any) -> None:
        def event(session: int, stream: int, kind: Any) -> Any:
            return Event.StreamData(
                session=session, stream=stream, kind=kind, data=command.data, fin=command.fin
            )

        self._to_peer(command, event)

    def reset_stream(self, command: Any) -> None:
        self._to_peer(
            command,
            lambda session, stream, _: Event.StreamReset(session=session, stream=stream, code=command.code),
        )

    def stop_stream(self, command: Any) -> None:
        self._to_peer(
            command,
            lambda session, stream, _: Event.StreamStopped(session=session, stream=stream, code=command.code),
        )

    def _to_peer(self, command: Any, make: Callable[[int, int, str], Any]) -> None:
        wire = self.wires.get(command.session)
        if wire is None or not wire.open:
            return
        other = wire.other(self)
        theirs = wire.keys.get((self, command.stream))
        if theirs is None:
            return
        self.world.post(other, make(wire.ends[other], theirs, wire.kinds[other, theirs]))

    def add_track(self, command: Any) -> None:
        assert command.track not in self.tracks
        self.tracks[command.track] = command

    def remove_track(self, command: Any) -> None:
        del self.tracks[command.track]
        self.bindings = {k: b for k, b in self.bindings.items() if b.track != command.track}
        self.reroutes.removed(command.track)
        self.sinks = {k: s for k, s in self.sinks.items() if s.track != command.track}

    def bind(self, command: Any) -> None:
        assert command.track in self.tracks
        key = command.session, command.alias
        assert key not in self.bindings or self.reroutes.stands_by(command.track, key)
        if command.session not in self.wires:
            return  # It closed, and the two crossed.
        self.bindings[key] = command
        self.reroutes.activated(command.track, key)

    def stand_by(self, command: Any) -> None:
        assert command.track in self.tracks
        key = command.session, command.alias
        if command.session in self.wires:
            self.bindings[key] = command
            self.reroutes.stood_by(command.track, key, command.rank)

    def unbind(self, command: Any) -> None:
        bound = self.bindings.pop((command.session, command.alias), None)
        if bound is not None:
            self.reroutes.gone(bound.track, (command.session, command.alias))

    def add_downstream(self, command: Any) -> None:
        assert command.track in self.tracks
        assert command.downstream not in self.downstreams
        self.downstreams[command.downstream] = command
        self.fed[command.downstream] = command.forward

    def end_downstream(self, command: Any) -> None:
        if self.downstreams.pop(command.downstream, None) is not None:
            self.world.post(self, Event.DownstreamEnded(downstream=command.downstream, streams=3))
        self.sinks.pop(command.downstream, None)

    def add_sink(self, command: Any) -> None:
        assert command.track in self.tracks
        self.sinks[command.downstream] = command

    def publish(self, command: Any) -> None:
        self.published.append(command)
        self.media(command.track, command.group, command.object)


_EXECUTE: dict[type, Callable[[Host, Any], None]] = {
    Command.Connect: Host.connect,
    Command.Close: Host.close,
    Command.OpenStream: Host.open_stream,
    Command.Write: Host.write,
    Command.ResetStream: Host.reset_stream,
    Command.StopStream: Host.stop_stream,
    Command.AddTrack: Host.add_track,
    Command.RemoveTrack: Host.remove_track,
    Command.BindUpstream: Host.bind,
    Command.UnbindUpstream: Host.unbind,
    Command.BindStandby: Host.stand_by,
    Command.SwitchUpstream: lambda host, c: host.reroutes.move(c.track, (c.session, c.alias)),
    Command.ReachBack: lambda host, command: None,
    Command.HopBounds: lambda host, command: None,
    Command.HopPolicy: lambda host, command: None,
    Command.HopSecondPaths: lambda host, command: None,
    Command.AddDownstream: Host.add_downstream,
    Command.UpdateDownstream: lambda host, command: host.updates.append(command),
    Command.RemoveDownstream: Host.end_downstream,
    Command.FinishDownstream: Host.end_downstream,
    Command.AddSink: Host.add_sink,
    Command.Publish: Host.publish,
}


class World:
    """Hosts, what is under way between them, and the clock."""

    def __init__(self) -> None:
        self.now_us = 0
        self.by_address: dict[str, Host] = {}
        self.hosts: list[Host] = []
        self._queue: list[tuple[int, int, Host, Any]] = []
        self._serial = 0

    # --- building -----------------------------------------------------------------------------------

    def add(self, name: str, engine: Any) -> Host:
        address = f"10.0.0.{len(self.hosts) + 1}:4433"
        host = Host(self, name, engine, address)
        self.hosts.append(host)
        self.by_address[address] = host
        return host

    def edge(self, name: str, *upstreams: tuple[str, str | Host], **settings: Any) -> Host:
        """An edge; each upstream is a prefix and a host (or an address that is given to a host later)."""
        configured = tuple(
            Upstream(namespace(prefix), target("hop", to if isinstance(to, str) else to.address))
            for prefix, to in upstreams
        )
        settings.setdefault("peer_identity", lambda chain: chain[0].decode())
        return self.add(name, Agent(AgentConfig(node_id=name, upstreams=configured, **settings)))

    def planned_edge(self, name: str, *upstreams: tuple[str, str | Host], **settings: Any) -> Host:
        """An edge that follows plans."""
        settings.setdefault("plan_hops", PlanHops(TLS))
        settings.setdefault("seed", len(self.hosts) + 1)
        return self.edge(name, *upstreams, **settings)

    def publisher(
        self,
        to: Host,
        space: str,
        *tracks: str,
        start: bool = True,
        others: tuple[Host, ...] = (),
        **options: Any,
    ) -> Host:
        """``others``: edges to move to."""
        connection = _connection(to, others, options)
        engine = Publisher(PublisherConfig(connection, namespace(space)))
        host = self.add("publisher", engine)
        for track in tracks:
            engine.add_track(track.encode())
        if start:
            engine.start(self.now_us)
        return host

    def viewer(
        self,
        to: Host,
        space: str,
        *tracks: str,
        wait_ms: int = 30_000,
        others: tuple[Host, ...] = (),
        follow_edge_list: bool = False,
        resume_ms_max: int | None = None,
        **options: Any,
    ) -> Host:
        """``others``: edges to move to."""
        connection = _connection(to, others, options)
        config = ViewerConfig(
            connection,
            namespace(space),
            wait_ms_max=wait_ms,
            follow_edge_list=follow_edge_list,
            resume_ms_max=resume_ms_max,
        )
        engine = Viewer(config)
        host = self.add("viewer", engine)
        engine.start(self.now_us)
        for track in tracks:
            engine.subscribe(track.encode(), self.now_us)
        return host

    # --- running ------------------------------------------------------------------------------------

    def post(self, host: Host, event: Any, delay_us: int = DELAY_US) -> None:
        """An event reaches a host's engine a moment from now; those of one moment keep their order."""
        self._serial += 1
        heapq.heappush(self._queue, (self.now_us + delay_us, self._serial, host, event))

    def run(self, ms: int = 100) -> None:
        """Let that much time pass."""
        until_us = self.now_us + ms * 1_000
        for _ in range(STEPS_MAX):
            self._execute_all()
            at_us = self._next_us()
            if at_us is None or at_us > until_us:
                self.now_us = until_us
                return
            self.now_us = max(at_us, self.now_us)
            self._step()
        raise AssertionError("the world does not come to rest")

    def _next_us(self) -> int | None:
        times = [t for host in self.hosts if (t := host.engine.poll_timeout()) is not None]
        times += [self._queue[0][0]] if self._queue else []
        return min(times, default=None)

    def _step(self) -> None:
        while self._queue and self._queue[0][0] <= self.now_us:
            _, _, host, event = heapq.heappop(self._queue)
            host.engine.handle_event(event, self.now_us)
            self._execute_all()
        for host in self.hosts:
            at_us = host.engine.poll_timeout()
            if at_us is not None and at_us <= self.now_us:
                host.engine.handle_timeout(self.now_us)
                self._execute_all()

    def _execute_all(self) -> None:
        for host in self.hosts:
            while (command := host.engine.poll_command()) is not None:
                host.execute(command)


def _connection(to: Host, others: tuple[Host, ...], options: dict[str, Any]) -> ConnectionConfig:
    """``kind``, ``drafts`` and ``path`` are the targets', the rest the connection's."""
    ours = {key: options.pop(key) for key in ("drafts", "path") if key in options}
    kind = options.pop("kind", "quic")
    first, *rest = (target(kind, host.address, **ours) for host in (to, *others))
    return ConnectionConfig(first, alternatives=tuple(rest), **options)


def target(kind: str, address: str, **options: Any) -> Target:
    """A target with development TLS."""
    return Target(kind, address, "edge.example", TLS, **options)  # type: ignore[arg-type]


def events_of(host: Host) -> list[Any]:
    """What a client has told its application since the last time."""
    found = []
    while (event := host.engine.poll_event()) is not None:
        found.append(event)
    return found


def track_status(edge: Host) -> dict[str, Any]:
    """Status of the one track that an edge has."""
    (track,) = edge.engine.status(edge.world.now_us)["tracks"]
    return dict(track)
