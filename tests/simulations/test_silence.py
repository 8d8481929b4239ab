"""When the datapath says that a session of a client has gone silent, and when it does not."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from farcast.certificates import make_dev_identity
from farcast.proto._core import ClientTls, Command, DatapathConfig, Event, LinkConfig, ServerTls, World

SECOND = 1_000_000
DELAY_US = 50_000
PATIENCE_US = 1_500_000
CLIENT, SERVER = 0, 1
CONFIG = DatapathConfig(idle_timeout_ms=10_000, keep_alive_ms=150, silence_ms=600)


class Pair:
    """A client that does nothing, and its server."""

    def __init__(
        self, link: LinkConfig | None = None, config: DatapathConfig = CONFIG, *, target: str = "quic"
    ) -> None:
        self.world = World(3)
        identity = make_dev_identity(datetime.now(UTC), seed=b"s" * 32)
        self.world.add_host("10.0.0.1:1", config)
        server = ServerTls(identity.chain, identity.key)
        self.world.add_host("10.0.0.2:1", DatapathConfig(server, silence_ms=600))
        self.link = link or LinkConfig(delay_us=DELAY_US)
        self.world.add_link(CLIENT, SERVER, self.link)
        self.world.add_link(SERVER, CLIENT, self.link)
        tls = ClientTls(insecure=True)
        connect: Any = Command.Connect(1, "10.0.0.2:1", "localhost", target, tls, authority="localhost")  # type: ignore[arg-type]
        self.world.execute(CLIENT, [connect])
        self.told: list[tuple[int, int, Event]] = []

    def run(self, seconds: float) -> list[tuple[int, bool]]:
        """When, in microseconds, each session was said to be silent or heard again."""
        until_us = self.world.now_us() + int(seconds * SECOND)
        while found := self.world.run_until(until_us):
            self.told += found
        events = [(at_us, event) for at_us, _, event in self.told]
        return [(at_us, e.silent) for at_us, e in events if isinstance(e, Event.SessionSilent)]

    def set_link(self, *, up: bool) -> None:
        for ends in ((CLIENT, SERVER), (SERVER, CLIENT)):
            self.world.set_link_up(*ends, up)


def test_an_idle_session_over_a_good_path_is_never_silent() -> None:
    assert Pair().run(60) == []


def test_a_cut_path_is_reported_once_after_the_limit_and_again_when_it_is_mended() -> None:
    pair = Pair()
    pair.run(5)
    pair.set_link(up=False)
    ((silent_us, silent),) = pair.run(3)
    assert silent
    assert 5 * SECOND + 350_000 <= silent_us <= 5 * SECOND + 650_000
    pair.set_link(up=True)
    (_, (heard_us, silent)) = pair.run(6)
    assert not silent
    assert heard_us > 8 * SECOND


def test_one_deaf_direction_is_enough() -> None:
    pair = Pair()
    pair.run(5)
    pair.world.set_link_up(CLIENT, SERVER, False)
    ((silent_us, silent),) = pair.run(2)
    assert silent
    assert silent_us <= 5 * SECOND + 850_000


def test_webtransport_is_watched_as_well() -> None:
    pair = Pair(target="webtransport")
    pair.run(5)
    pair.set_link(up=False)
    assert [silent for _, silent in pair.run(2)] == [True]


def test_a_long_way_is_given_its_time() -> None:
    assert Pair(LinkConfig(delay_us=300_000)).run(60) == []


def test_without_media_four_of_five_false_alarms_of_a_lossy_path_are_waited_out() -> None:
    told = Pair(LinkConfig(delay_us=DELAY_US, loss=0.1, loss_burst=3.0)).run(600)
    times = [at_us for at_us, _ in told]
    lasted_us = [heard_us - silent_us for silent_us, heard_us in zip(times[::2], times[1::2], strict=True)]
    patient = sum(us < PATIENCE_US for us in lasted_us)
    assert patient >= 0.8 * len(lasted_us)


def test_without_a_limit_nobody_is_told() -> None:
    pair = Pair(config=DatapathConfig(idle_timeout_ms=10_000))
    pair.run(5)
    pair.set_link(up=False)
    assert pair.run(3) == []
