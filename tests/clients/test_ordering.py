"""Groups overtake each other on the network and not at the player."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from farcast.clients.ordering import HOLD_MS_MAX, GroupOrder
from farcast.proto.client.events import ObjectReceived, SubgroupEnded


def received(group: int, object: int, at_ms: int = 0) -> ObjectReceived:
    return ObjectReceived(b"t", group, 0, object, 0, 0, b"", b"", at_ms * 1_000, at_ms * 1_000)


def ended(group: int) -> SubgroupEnded:
    return SubgroupEnded(b"t", group, 0, True, False)


def ids(objects: list[ObjectReceived]) -> list[tuple[int, int]]:
    return [(o.group, o.object) for o in objects]


def test_a_group_that_overtakes_waits_for_the_end_of_the_one_before() -> None:
    order = GroupOrder()
    assert ids(list(order.handle_object(received(4, 0)))) == [(4, 0)]
    assert list(order.handle_object(received(5, 0))) == []
    assert ids(list(order.handle_object(received(4, 1)))) == [(4, 1)]
    assert ids(list(order.handle_end(ended(4)))) == [(5, 0)]
    assert ids(list(order.handle_object(received(5, 1)))) == [(5, 1)]


def test_a_group_whose_end_is_known_already_does_not_hold_the_next() -> None:
    order = GroupOrder()
    list(order.handle_object(received(4, 0)))
    assert list(order.handle_object(received(5, 0))) == []
    assert list(order.handle_end(ended(5))) == []
    assert list(order.handle_object(received(6, 0))) == []
    assert ids(list(order.handle_end(ended(4)))) == [(5, 0), (6, 0)]


def test_a_group_that_never_ends_holds_the_next_only_so_long() -> None:
    order = GroupOrder()
    list(order.handle_object(received(4, 0)))
    assert list(order.handle_object(received(5, 0, at_ms=10))) == []
    assert list(order.handle_object(received(5, 1, at_ms=10 + HOLD_MS_MAX))) == []
    late = list(order.handle_object(received(5, 2, at_ms=11 + HOLD_MS_MAX)))
    assert ids(late) == [(5, 0), (5, 1), (5, 2)]


def test_flush_gives_everything_in_order_and_starts_anew() -> None:
    order = GroupOrder()
    list(order.handle_object(received(4, 0)))
    list(order.handle_object(received(6, 0)))
    list(order.handle_object(received(5, 0)))
    assert ids(list(order.flush())) == [(5, 0), (6, 0)]
    assert ids(list(order.handle_object(received(0, 0)))) == [(0, 0)]


def test_a_publisher_that_counts_in_steps_is_waited_for_only_once() -> None:
    order = GroupOrder()
    list(order.handle_object(received(10, 0)))
    list(order.handle_end(ended(10)))
    assert list(order.handle_object(received(20, 0, at_ms=1))) == []
    assert ids(list(order.handle_object(received(20, 1, at_ms=2 + HOLD_MS_MAX)))) == [(20, 0), (20, 1)]
    list(order.handle_end(ended(20)))
    assert ids(list(order.handle_object(received(30, 0, at_ms=3 + HOLD_MS_MAX)))) == [(30, 0)]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_interleaving_of_whole_groups_comes_out_in_order_and_once(
    sizes: list[int], random: object
) -> None:
    streams = [[received(g, o) for o in range(size)] for g, size in enumerate(sizes)]
    order = GroupOrder()
    out = list(order.handle_object(streams[0].pop(0)))
    pending = [[*stream, ended(group)] for group, stream in enumerate(streams)]
    while any(pending):
        stream = random.choice([s for s in pending if s])  # type: ignore[attr-defined]
        event = stream.pop(0)
        step = order.handle_end(event) if isinstance(event, SubgroupEnded) else order.handle_object(event)
        out += list(step)
    out += list(order.flush())
    assert ids(out) == [(g, o) for g, size in enumerate(sizes) for o in range(size)]
