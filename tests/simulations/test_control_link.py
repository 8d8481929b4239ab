"""The modelled control channel: whole, in order, after the way's delay, through cuts, until given up."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from farcast.proto._core import DatapathConfig, Event
from farcast.simulations.control_link import IDLE_US_MAX, ControlPipe, ControlWay
from farcast.simulations.dialects import Older
from farcast.simulations.twin import Twin

SECOND = 1_000_000
DELAY_US = 40_000


class Quiet:
    """The engine of the host at the edge's end; it does nothing."""

    def handle_event(self, event: Event, now_us: int) -> None:
        pass

    def handle_timeout(self, now_us: int) -> None:
        pass

    def poll_command(self) -> None:
        return None

    def poll_timeout(self) -> None:
        return None


class Ends:
    """Both ends of one pipe; what came when."""

    def __init__(self) -> None:
        self.is_up = True
        self.up: list[tuple[int, bytes]] = []
        self.down: list[tuple[int, bytes]] = []
        self.opened: list[int] = []
        self.over: list[tuple[int, str]] = []
        self.sessions: set[int] = set()

    def knows(self, session: int) -> bool:
        return session in self.sessions

    def accept(self, pipe: ControlPipe, now_us: int) -> int:
        self.sessions.add(len(self.opened) + 1)
        return len(self.opened) + 1

    def data(self, session: int, data: bytes, now_us: int) -> None:
        self.up.append((now_us, data))

    def closed(self, session: int, reason: str, now_us: int) -> None:
        self.sessions.discard(session)

    def control_opened(self, now_us: int) -> None:
        self.opened.append(now_us)

    def control_data(self, data: bytes, now_us: int) -> None:
        self.down.append((now_us, data))

    def control_closed(self, reason: str, now_us: int) -> None:
        self.over.append((now_us, reason))


def make(loss: float = 0.0, seed: int = 1) -> tuple[Twin, ControlPipe, Ends]:
    twin, ends = Twin(1), Ends()
    twin.add_host("10.0.0.1:1", Quiet(), DatapathConfig())
    pipe = ControlPipe(twin, 0, ends, ends, ControlWay(DELAY_US, loss), seed)
    twin.at(0, pipe.start, ())
    twin.run_until(SECOND)
    return twin, pipe, ends


def send(twin: Twin, pipe: ControlPipe, *payloads: bytes, up: bool = True) -> None:
    for payload in payloads:
        if up:
            pipe.send_up(payload, twin.now_us())
        else:
            pipe.send_down(1, payload, twin.now_us())


def test_a_connection_stands_after_its_round_trips() -> None:
    _, pipe, ends = make()
    assert pipe.connected
    assert ends.opened == [4 * DELAY_US]


def test_bytes_come_after_the_delay_of_the_way_and_in_order() -> None:
    twin, pipe, ends = make()
    send(twin, pipe, b"a", b"b")
    send(twin, pipe, b"c", up=False)
    twin.run_until(2 * SECOND)
    assert ends.up == [(SECOND + DELAY_US, b"a"), (SECOND + DELAY_US, b"b")]
    assert ends.down == [(SECOND + DELAY_US, b"c")]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=20), st.floats(0.0, 0.9), st.integers(0, 9))
def test_losses_delay_but_never_lose_or_reorder(sizes: list[int], loss: float, seed: int) -> None:
    twin, ends = Twin(1), Ends()
    twin.add_host("10.0.0.1:1", Quiet(), DatapathConfig())
    pipe = ControlPipe(twin, 0, ends, ends, ControlWay(DELAY_US, loss), seed)
    twin.at(0, pipe.start, ())
    twin.run_until(5 * SECOND)
    payloads = [bytes([k]) * size for k, size in enumerate(sizes)]
    send(twin, pipe, *payloads)
    twin.run_until(500 * SECOND)
    assert [data for _, data in ends.up] == payloads
    times = [at for at, _ in ends.up]
    assert times == sorted(times)


def test_what_is_sent_into_a_short_cut_comes_when_it_is_mended() -> None:
    twin, pipe, ends = make()
    pipe.cut(twin.now_us())
    send(twin, pipe, b"a", b"b")
    twin.run_until(3 * SECOND)
    assert ends.up == []
    pipe.mend(twin.now_us())
    twin.run_until(4 * SECOND)
    assert b"".join(data for _, data in ends.up) == b"ab"
    assert ends.up[0][0] > 3 * SECOND + DELAY_US
    assert ends.over == []


def test_a_long_silence_ends_it_and_it_comes_back_when_it_can() -> None:
    twin, pipe, ends = make()
    pipe.cut(twin.now_us())
    twin.run_until(20 * SECOND)
    ((at_us, reason),) = ends.over
    assert IDLE_US_MAX <= at_us <= SECOND + IDLE_US_MAX + 2 * SECOND
    assert "nothing heard" in reason
    assert not pipe.connected
    pipe.mend(twin.now_us())
    twin.run_until(60 * SECOND)
    assert pipe.connected


def test_cuts_count() -> None:
    twin, pipe, ends = make()
    for _ in range(2):
        pipe.cut(twin.now_us())
    pipe.mend(twin.now_us())
    send(twin, pipe, b"a")
    twin.run_until(2 * SECOND)
    assert ends.up == []
    pipe.mend_all(twin.now_us())
    twin.run_until(3 * SECOND)
    assert len(ends.up) == 1


def test_one_direction_can_be_cut_alone() -> None:
    twin, pipe, ends = make()
    pipe.cut(twin.now_us(), down=False)
    send(twin, pipe, b"a")
    send(twin, pipe, b"b", up=False)
    twin.run_until(2 * SECOND)
    assert (ends.up, [data for _, data in ends.down]) == ([], [b"b"])


def test_a_control_plane_that_forgot_the_session_is_left() -> None:
    """It restarted: nobody answers in the old connection's name any more."""
    twin, _, ends = make()
    ends.sessions.clear()
    twin.run_until(12 * SECOND)
    assert len(ends.over) == 1
    twin.run_until(30 * SECOND)
    assert len(ends.opened) == 2


def test_an_edge_that_crashed_sends_nothing_any_more() -> None:
    twin, pipe, ends = make()
    send(twin, pipe, b"a")
    pipe.stop(twin.now_us())
    twin.run_until(5 * SECOND)
    assert ends.up == []
    assert ends.over == []
    pipe.start(twin.now_us())
    twin.run_until(6 * SECOND)
    assert len(ends.opened) == 2


def test_a_longer_way_takes_longer_from_then_on() -> None:
    twin, pipe, ends = make()
    pipe.extra_us["detour"] = 60_000
    send(twin, pipe, b"a")
    twin.run_until(2 * SECOND)
    assert ends.up[0][0] == SECOND + DELAY_US + 60_000


def framed(**record: object) -> bytes:
    body = msgspec.msgpack.encode(record)
    return len(body).to_bytes(4, "big") + body


def test_an_edge_of_the_build_before_neither_says_nor_hears_what_came_since() -> None:
    twin, pipe, ends = make()
    pipe.older = Older()
    twin.run_until(2 * SECOND)
    whole = framed(type="hello", issues=True, nested=[{"probe": 1, "load": 2}])
    pipe.send_up(whole[:7], twin.now_us())
    pipe.send_up(whole[7:], twin.now_us())
    pipe.send_down(1, framed(type="plan", edge_list=b"x", routes=[]), twin.now_us())
    twin.run_until(3 * SECOND)
    assert b"".join(data for _, data in ends.up) == framed(type="hello", nested=[{"load": 2}])
    assert b"".join(data for _, data in ends.down) == framed(type="plan", routes=[])
