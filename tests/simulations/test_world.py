"""What a world keeps, schedules and breaks, with real datapaths, as Python sees it."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from farcast.certificates import make_dev_identity
from farcast.proto._core import (
    ClientTls,
    Command,
    DatapathConfig,
    Event,
    LargestCell,
    LinkConfig,
    Loss,
    ServerTls,
    World,
)
from farcast.simulations.records import OBJECT_TRACE_DTYPE, RECORD_DTYPE, object_trace, records

SECOND = 1_000_000
DELAY_US = 30_000
SERVER, VIEWER = 0, 1
SERVER_ADDR, VIEWER_ADDR = "10.0.0.1:1", "10.0.0.2:1"
TRACK, ALIAS, SINK = 1, 7, 2
FRAMES, FRAME_US = 90, 33_333
BEGIN_US = SECOND
IDENTITY = make_dev_identity(datetime(2026, 1, 1, tzinfo=UTC), seed=b"w" * 32)


def server_config() -> DatapathConfig:
    return DatapathConfig(ServerTls(IDENTITY.chain, IDENTITY.key))


def frames() -> list[tuple[int, Command]]:
    """Three groups of 30 frames, each first frame large."""

    def publish(number: int) -> Command:
        group, place = divmod(number, 30)
        last = place == 29
        payload = bytes(20_000 if place == 0 else 3_000 + number)
        return Command.Publish(TRACK, group, 0, place, payload, end_of_subgroup=last, end_of_group=last)

    return [(BEGIN_US + number * FRAME_US, publish(number)) for number in range(FRAMES)]


class Pair:
    """A server that publishes one track by a schedule, and a viewer whose objects are recorded."""

    def __init__(self, link: LinkConfig | None = None, seed: int = 1, *, record: bool = True) -> None:
        self.world = World(seed)
        self.world.add_host(SERVER_ADDR, server_config())
        self.world.add_host(VIEWER_ADDR, DatapathConfig(idle_timeout_ms=3_000, keep_alive_ms=200))
        for ends in ((SERVER, VIEWER), (VIEWER, SERVER)):
            self.world.add_link(*ends, link or LinkConfig(delay_us=DELAY_US))
        self.world.execute(SERVER, [Command.AddTrack(TRACK, LargestCell())])
        if record:
            self.world.record(VIEWER, SINK)
        self.connect()
        self.events: list[tuple[int, int, Event]] = []

    def connect(self) -> None:
        tls = ClientTls(insecure=True)
        connect = Command.Connect(1, SERVER_ADDR, "localhost", "quic", tls)
        self.world.execute(VIEWER, [connect])

    def run(self, until_us: int) -> list[tuple[int, int, Event]]:
        """Let time pass; the server sends the track to every session that opens. Returns all events."""
        while found := self.world.run_until(until_us):
            for at_us, host, event in found:
                self.events.append((at_us, host, event))
                if isinstance(event, Event.SessionOpened):
                    self.world.execute(host, self.opened(host, event.session))
        return self.events

    def opened(self, host: int, session: int) -> list[Command]:
        if host == SERVER:
            return [Command.AddDownstream(1, session, ALIAS, TRACK, (0, 0))]
        bind = Command.BindUpstream(session, ALIAS, TRACK)
        return [Command.AddTrack(TRACK, LargestCell()), bind, Command.AddSink(SINK, TRACK, (0, 0))]

    def take(self) -> np.ndarray:
        return records(self.world.take_record(VIEWER))


def test_a_record_has_every_object_at_its_time_and_no_event_comes_for_it() -> None:
    pair = Pair()
    pair.world.schedule(SERVER, frames())
    events = pair.run(10 * SECOND)
    assert not [e for _, host, e in events if host == VIEWER and not isinstance(e, Event.SessionOpened)]
    got = pair.take()
    assert got.dtype == RECORD_DTYPE
    assert list(zip(got["group"], got["object"], strict=True)) == [divmod(n, 30) for n in range(FRAMES)]
    assert set(got["downstream"]) == {SINK}
    assert list(got["bytes"]) == [20_000 if n % 30 == 0 else 3_000 + n for n in range(FRAMES)]
    sent_us = BEGIN_US + np.arange(FRAMES) * FRAME_US
    assert np.all(got["first_us"] >= sent_us + DELAY_US)
    calm = got["object"] > 10  # not in the wake of a large frame, which QUIC paces
    assert np.array_equal(got["at_us"][calm], (sent_us + DELAY_US)[calm])
    assert np.all(got["at_us"] >= got["first_us"])
    assert len(pair.take()) == 0, "what was taken is gone"


def test_a_record_and_events_tell_the_same() -> None:
    link = LinkConfig(delay_us=DELAY_US, loss=0.05, loss_burst=3.0, rate_bps=3_000_000)
    recorded, told = Pair(link), Pair(link, record=False)
    for pair in (recorded, told):
        pair.world.schedule(SERVER, frames())
        pair.run(10 * SECOND)
    objects = [event for _, _, event in told.events if isinstance(event, Event.Object)]
    as_told = [(e.complete_us, e.first_byte_us, e.group, e.object, len(e.payload)) for e in objects]
    got = recorded.take()
    fields = [got[name].tolist() for name in ("at_us", "first_us", "group", "object", "bytes")]
    assert list(zip(*fields, strict=True)) == as_told
    assert len(got) == FRAMES
    assert recorded.world.trace_hash() == told.world.trace_hash()


def test_a_trace_has_the_first_and_last_byte_of_each_object_at_each_host() -> None:
    pair = Pair(LinkConfig(delay_us=DELAY_US, rate_bps=2_000_000))
    for host in (SERVER, VIEWER):
        pair.world.trace_objects(host, True)
    pair.world.schedule(SERVER, frames())
    pair.run(10 * SECOND)
    sent, came = (object_trace(pair.world.take_object_trace(host)) for host in (SERVER, VIEWER))
    assert sent.dtype == OBJECT_TRACE_DTYPE
    assert list(sent["group"] * 30 + sent["object"]) == list(range(FRAMES))
    assert np.array_equal(sent["first_us"], sent["last_us"]), "a publisher has an object at once"
    assert set(sent["track"]) == {TRACK}
    record = pair.take()
    assert np.array_equal(came["last_us"], record["at_us"])
    assert np.array_equal(came["first_us"], record["first_us"])
    # A frame of 20 kB takes 80 ms at 2 Mbit/s.
    spread = (came["last_us"] - came["first_us"])[record["bytes"] == 20_000]
    assert np.all(spread > 70_000)
    pair.world.trace_objects(VIEWER, False)
    assert pair.world.take_object_trace(VIEWER) == b""
    assert pair.world.stats()["traces_dropped"] == 0


LOSSES = {
    "random": Loss.random(0.05),
    "gilbert": Loss.gilbert_elliott(0.05, 3.0),
    "gilbert in time": Loss.gilbert_elliott_time(0.05, 15_000),
    "two levels": Loss.two_level(0.01, 0.3, 0.01, 0.1, burst_bad_packets=3.0),
    "windows": Loss.windows([(0, 70_000, 0.37), (550_000, 70_000, 0.37)], 1_100_000),
    "diurnal": Loss.diurnal(0.01, 0.15, 2 * SECOND, 0.5, 300_000),
    "series": Loss.any_of([Loss.random(0.02), Loss.gilbert_elliott(0.03, 4.0)]),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_a_bad_path_of_one_seed_is_the_same_every_time(loss: Loss) -> None:
    link = LinkConfig(
        delay_us=DELAY_US,
        jitter_us=3_000,
        loss_model=loss,
        delay_log_median_us=8_000,
        delay_log_sigma=0.4,
        rate_schedule=((0, 4_000_000), (SECOND, 2_500_000)),
        rate_repeat_us=2 * SECOND,
        queue_bytes=60_000,
        duplicate=0.01,
        reorder=0.01,
        reorder_us=5_000,
    )

    def run(seed: int) -> tuple[str, list[object]]:
        pair = Pair(link, seed)
        pair.world.schedule(SERVER, frames())
        pair.run(20 * SECOND)
        assert pair.world.link_stats(SERVER, VIEWER)["packets_lost"] > 0
        return pair.world.trace_hash(), pair.take().tolist()

    first, again, other = run(1), run(1), run(2)
    assert first == again
    assert first[0] != other[0]
    assert len(first[1]) == FRAMES, "QUIC repairs what such a path loses"


def test_a_viewer_finds_a_restarted_server_with_what_it_publishes_then() -> None:
    pair = Pair()
    pair.world.schedule(SERVER, frames())
    pair.run(2 * SECOND)
    before = len(pair.take())
    pair.world.stop_host(SERVER)
    pair.run(6 * SECOND)
    closed = [e for _, host, e in pair.events if host == VIEWER and isinstance(e, Event.SessionClosed)]
    assert [event.by for event in closed] == ["timeout"]
    assert 0 < before < FRAMES
    assert pair.world.stats()["datagrams_host_down"] > 0
    pair.world.restart_host(SERVER, server_config())
    pair.world.execute(SERVER, [Command.AddTrack(TRACK, LargestCell())])
    later = [(7 * SECOND + at_us, command) for at_us, command in frames()]
    pair.world.schedule(SERVER, later)
    pair.world.execute(VIEWER, [Command.RemoveTrack(TRACK)])
    pair.connect()
    pair.run(20 * SECOND)
    assert len(pair.take()) == FRAMES


def test_a_moved_client_keeps_its_session() -> None:
    pair = Pair()
    pair.world.schedule(SERVER, frames())
    pair.run(2 * SECOND)
    pair.world.move_host(VIEWER, "10.0.9.9:77")
    pair.run(10 * SECOND)
    assert len(pair.take()) == FRAMES, "nothing is lost for good"
    assert not [e for _, _, e in pair.events if isinstance(e, Event.SessionClosed)]
    assert pair.world.stats()["datagrams_host_down"] > 0


def test_a_paused_viewer_has_everything_as_soon_as_it_goes_on() -> None:
    pair = Pair()
    pair.world.schedule(SERVER, frames())
    pair.world.pause_host(VIEWER, 100)
    pair.run(2 * SECOND)
    pair.world.pause_host(VIEWER, 3 * SECOND)
    pair.run(10 * SECOND)
    at_us = pair.take()["at_us"]
    assert len(at_us) == FRAMES
    assert not [at for at in at_us if 2 * SECOND < at < 3 * SECOND]
    assert sum(at == 3 * SECOND for at in at_us) >= 3, "what was sent before QUIC missed answers"


def test_hosts_and_sinks_that_do_not_exist_are_refused_or_empty() -> None:
    world = World(1)
    with pytest.raises(ValueError, match="world has no host 5"):
        world.take_record(5)
    with pytest.raises(ValueError, match="world has no link from 0 to 1"):
        world.remove_link(0, 1)
    host = world.add_host(SERVER_ADDR, DatapathConfig())
    assert world.take_record(host) == b""
    assert world.take_object_trace(host) == b""
