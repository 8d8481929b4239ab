"""When frames arrive, and where."""

from __future__ import annotations

from .__main__ import GUIDE, one_way_ms
from .steps import machines
from .wire import NOTES_BYTES, Wire

MACS = {"a": b"\x02aaaaa", "b": b"\x02bbbbb", "c": b"\x02ccccc"}
EVERYBODY = b"\xff" * 6


def frame(source: str, to: bytes, text: bytes = b"") -> bytes:
    return bytes(NOTES_BYTES) + to + MACS[source] + text


def wire() -> Wire:
    delays = {"ab": 10.0, "ac": 30.0, "bc": 5.0}
    return Wire(MACS, lambda one, other: delays["".join(sorted(one + other))])


def test_a_frame_arrives_after_the_delay_of_its_way_and_not_before() -> None:
    joined = wire()
    joined.take("b", frame("b", EVERYBODY), 0.0)
    assert [joined.give(1.0), joined.give(1.0), joined.give(1.0)] == [
        ("c", frame("b", EVERYBODY)),
        ("a", frame("b", EVERYBODY)),
        None,
    ]
    joined.take("a", frame("a", MACS["b"]), 2.0)
    assert joined.wait_s(2.0) is not None
    assert joined.give(2.009) is None
    assert joined.give(2.0101) == ("b", frame("a", MACS["b"]))
    assert joined.wait_s(3.0) is None, "it went to nobody else: who it is for is known"


def test_frames_of_one_way_arrive_in_the_order_in_which_they_were_sent() -> None:
    joined = wire()
    joined.take("b", frame("b", EVERYBODY), 0.0)
    while joined.give(1.0):
        pass
    sent = [frame("a", MACS["b"], bytes([number])) for number in range(9)]
    for each in sent:
        joined.take("a", each, 2.0)
    assert [joined.give(3.0) for _ in sent] == [("b", each) for each in sent]


def test_every_machine_of_the_guide_is_somewhere_and_continents_are_apart() -> None:
    names = machines(GUIDE.read_text())
    assert all(one_way_ms(one, other) > 0 for one in names for other in names)
    assert one_way_ms("studio", "sin") < one_way_ms("fra", "iad") < one_way_ms("iad", "sin")
