"""A standby upstream takes over in the datapath: commands in, events out, and the links between cut."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from farcast.certificates import HopAuthority, make_dev_identity
from farcast.proto._core import (
    ClientTls,
    Command,
    DatapathConfig,
    Event,
    LargestCell,
    LinkConfig,
    ServerTls,
    World,
)

if TYPE_CHECKING:
    from farcast.proto._core import SnapshotDict

NOW = datetime.now(UTC)
TRACK = 1
FRAME_US = 33_333
A, B, CHILD = 0, 1, 2
ONE_WAY_US = {A: 40_000, B: 60_000}


class Film:
    """Two parents publish the same film; the child takes it from A, and has a paused subscription at B."""

    def __init__(self) -> None:
        self.world = World(3)
        authority = HopAuthority(NOW, seed=b"a" * 32)
        public = make_dev_identity(NOW, seed=b"p" * 32)
        for host, name in enumerate(("a", "b", "child")):
            ours = authority.issue("sim", name)
            tls = ServerTls(public.chain, public.key, ours.chain, ours.key, [authority.certificate])
            self.world.add_host(f"10.0.0.{host + 1}:1", DatapathConfig(tls))
            self.world.execute(host, [Command.AddTrack(TRACK, LargestCell())])
        ours = authority.issue("sim", "child")
        self.tls = ClientTls(roots=[authority.certificate], chain=ours.chain, key=ours.key)
        self.at_us: dict[type[Event], int] = {}
        self.objects: list[tuple[int, int]] = []
        self.log: list[Event] = []
        self.snapshots: list[SnapshotDict] = []
        self.frames = 0
        self.sessions: dict[tuple[int, int], int] = {}
        for parent, session in ((A, 1), (B, 3)):
            self.connect(parent, session)

    def connect(self, parent: int, session: int) -> None:
        link = LinkConfig(delay_us=ONE_WAY_US[parent])
        self.world.add_link(CHILD, parent, link)
        self.world.add_link(parent, CHILD, link)
        connect = Command.Connect(session, f"10.0.0.{parent + 1}:1", "localhost", "hop", self.tls)
        self.world.execute(CHILD, [connect])
        self.run(1_000_000)

    def run(self, for_us: int) -> None:
        until_us = self.world.now_us() + for_us
        while batch := self.world.run_until(until_us):
            for at_us, host, event in batch:
                self.handle(at_us, host, event)

    def handle(self, at_us: int, host: int, event: Event) -> None:
        match event:
            case Event.SessionOpened(session=session):
                self.sessions[host, len([key for key in self.sessions if key[0] == host])] = session
            case Event.Object(group=group, object=number):
                self.objects.append((group, number))
            case Event.Snapshot(snapshot=snapshot):
                self.snapshots.append(snapshot)
            case Event.SinkSubgroupEnded():
                pass
            case _ if host == CHILD:
                self.at_us[type(event)] = at_us
                self.log.append(event)

    def subscribe(self) -> None:
        at_a, at_b = self.sessions[A, 0], self.sessions[B, 0]
        self.world.execute(A, [Command.AddDownstream(1, at_a, 7, TRACK, (0, 0))])
        self.world.execute(B, [Command.AddDownstream(1, at_b, 8, TRACK, (0, 0), forward=False)])
        upstreams = [Command.BindUpstream(1, 7, TRACK), Command.BindStandby(3, 8, TRACK, rank=1)]
        self.world.execute(CHILD, [*upstreams, Command.AddSink(1, TRACK, (0, 0))])

    def play(self, frames: int) -> None:
        for _ in range(frames):
            group, number = divmod(self.frames, 30)
            last = number == 29
            payload = bytes([number]) * 5_000
            frame = Command.Publish(TRACK, group, 0, number, payload, end_of_subgroup=last, end_of_group=last)
            for parent in (A, B):
                self.world.execute(parent, [frame])
            self.frames += 1
            self.run(FRAME_US)

    def published(self) -> Iterator[tuple[int, int]]:
        return (divmod(number, 30) for number in range(self.frames))


@pytest.fixture
def film() -> Film:
    film = Film()
    film.subscribe()
    film.play(60)
    film.log.clear()
    return film


def test_a_cut_hop_is_left_for_the_standby_without_a_command(film: Film) -> None:
    cut_us = film.world.now_us()
    for ends in ((A, CHILD), (CHILD, A)):
        film.world.set_link_up(*ends, False)

    film.play(45)
    film.run(500_000)

    silent, switched, resumed = film.log
    assert silent == Event.HopSilent(1, True)
    assert isinstance(switched, Event.UpstreamSwitched)
    assert isinstance(resumed, Event.UpstreamResumed)
    assert (switched.track, switched.cause) == (TRACK, "silent")
    assert (switched.from_session, switched.from_alias) == (1, 7)
    assert (switched.session, switched.alias) == (3, 8)
    assert film.at_us[Event.UpstreamSwitched] - cut_us <= 200_000 + ONE_WAY_US[A] + 40_000
    assert film.at_us[Event.UpstreamResumed] - film.at_us[Event.UpstreamSwitched] <= 140_000
    assert film.objects == list(film.published())


def test_a_planned_move_is_reported_when_it_is_made(film: Film) -> None:
    film.world.execute(CHILD, [Command.SwitchUpstream(TRACK, 3, 8)])

    film.play(30)
    film.run(500_000)

    switched = [event for event in film.log if isinstance(event, Event.UpstreamSwitched)]
    assert switched == [Event.UpstreamSwitched(TRACK, 1, 7, 3, 8, "command", 0)]
    assert film.objects == list(film.published())


def test_a_bound_on_delay_moves_the_track(film: Film) -> None:
    film.world.execute(CHILD, [Command.HopBounds(1, rtt_max_us=50_000)])

    film.play(30)

    switched = [event for event in film.log if isinstance(event, Event.UpstreamSwitched)]
    assert switched == [Event.UpstreamSwitched(TRACK, 1, 7, 3, 8, "delay", 0)]


def test_a_snapshot_tells_what_was_measured_of_each_hop(film: Film) -> None:
    film.world.execute(CHILD, [Command.Snapshot(1)])
    film.run(1_000)

    to_a, to_b = (session["hop"] for session in film.snapshots[0]["sessions"])

    assert to_a is not None
    assert to_b is not None
    assert (to_a["has_media"], to_b["has_media"]) == (True, False)
    assert (to_a["is_silent"], to_b["is_silent"]) == (False, False)
    assert (to_a["rtt_min_us"], to_b["rtt_min_us"]) == (80_000, 120_000)
    assert to_a["rx_packets"] > 300
    assert to_a["rx_bytes"] > 60 * 5_000
    assert (to_a["rx_lost"], sum(to_a["rx_bursts"]), len(to_a["rx_bursts"])) == (0, 0, 8)
    assert min(to_a["rtt_sketch"]) == 283
    assert sum(to_a["rtt_sketch"].values()) > 20
    assert to_b["heard_us"] < 60_000
