"""Groups overtake each other on the network and not at the player."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from farcast.clients.film import STATUS_END_OF_GROUP
from farcast.clients.ordering import HOLD_MS_MAX, LAYER_HOLD_MS_MAX, GroupOrder
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


# ---- Layers ------------------------------------------------------------------------------------------


def layered(object: int, at_ms: int = 0, *, group: int = 0, layer: int | None = None) -> ObjectReceived:
    """Object ids that are even are base, odd ones of the layer, unless told."""
    subgroup = object % 2 if layer is None else layer
    return ObjectReceived(b"t", group, subgroup, object, 0, 0, b"", b"", at_ms * 1_000, at_ms * 1_000)


def mark(object: int, at_ms: int = 0, group: int = 0) -> ObjectReceived:
    status = STATUS_END_OF_GROUP
    return ObjectReceived(b"t", group, 0, object, 0, status, b"", b"", at_ms * 1_000, at_ms * 1_000)


def over(subgroup: int, *, group: int = 0, reset: bool = False) -> SubgroupEnded:
    return SubgroupEnded(b"t", group, subgroup, False, reset)


def test_a_frame_that_overtakes_one_of_a_layer_waits_for_it() -> None:
    order = GroupOrder(layers=2)
    assert ids(list(order.handle_object(layered(0)))) == [(0, 0)]
    assert ids(list(order.handle_object(layered(1)))) == [(0, 1)]
    assert list(order.handle_object(layered(4, at_ms=40))) == []
    assert ids(list(order.handle_object(layered(2, at_ms=41)))) == [(0, 2)]
    assert ids(list(order.handle_object(layered(3, at_ms=45)))) == [(0, 3), (0, 4)]


def test_a_frame_of_a_layer_that_overtakes_the_base_waits_for_it() -> None:
    order = GroupOrder(layers=2)
    list(order.handle_object(layered(0)))
    assert list(order.handle_object(layered(2, layer=1))) == []
    assert ids(list(order.handle_object(layered(1, at_ms=5_000, layer=0)))) == [(0, 1), (0, 2)]


def test_a_layer_that_is_not_there_is_waited_for_once_and_shortly() -> None:
    order = GroupOrder(layers=2)
    list(order.handle_object(layered(0)))
    assert list(order.handle_object(layered(2, at_ms=66))) == []
    assert list(order.handle_object(layered(4, at_ms=66 + LAYER_HOLD_MS_MAX))) == []
    out = list(order.handle_object(layered(6, at_ms=67 + LAYER_HOLD_MS_MAX)))
    assert ids(out) == [(0, 2), (0, 4), (0, 6)]
    assert ids(list(order.handle_object(layered(8, at_ms=400)))) == [(0, 8)]
    assert list(order.handle_object(layered(3, at_ms=401))) == []
    assert order.late_layer_objects == 1
    list(order.handle_object(mark(9)))
    list(order.handle_end(over(0)))
    assert ids(list(order.handle_object(layered(0, group=1)))) == [(1, 0)]
    assert ids(list(order.handle_object(layered(2, group=1)))) == [(1, 2)]


def test_a_layer_that_an_edge_gives_up_is_not_waited_for() -> None:
    order = GroupOrder(layers=2)
    list(order.handle_object(layered(0)))
    list(order.handle_object(layered(1)))
    assert ids(list(order.handle_object(layered(2)))) == [(0, 2)]
    assert list(order.handle_object(layered(4))) == []
    assert ids(list(order.handle_end(over(1, reset=True)))) == [(0, 4)]
    assert ids(list(order.handle_object(layered(6)))) == [(0, 6)]


def test_the_next_group_does_not_wait_for_the_end_of_a_layer_that_has_come_whole() -> None:
    order = GroupOrder(layers=2)
    for number in range(4):
        list(order.handle_object(layered(number)))
    list(order.handle_object(mark(4)))
    list(order.handle_end(over(0)))
    assert ids(list(order.handle_object(layered(0, group=1)))) == [(1, 0)]


def test_the_next_group_waits_shortly_for_frames_of_a_layer_that_are_on_their_way() -> None:
    order = GroupOrder(layers=2)
    for number in range(3):
        list(order.handle_object(layered(number)))
    list(order.handle_object(mark(4)))
    list(order.handle_end(over(0)))
    assert list(order.handle_object(layered(0, 10, group=1))) == []
    late = list(order.handle_object(layered(1, 11 + LAYER_HOLD_MS_MAX, group=1)))
    assert ids(late) == [(1, 0), (1, 1)]


@given(
    st.lists(st.lists(st.sampled_from([0, 0, 1, 2]), max_size=8), min_size=1, max_size=5),
    st.integers(0, 400),
    st.randoms(use_true_random=False),
)
def test_however_layers_overtake_each_other_the_base_comes_whole_and_all_in_order(
    groups: list[list[int]], lag_ms: int, random: Random
) -> None:
    layers = [[0, *rest] for rest in groups]
    streams: list[list[ObjectReceived | SubgroupEnded]] = []
    for group, of in enumerate(layers):
        for subgroup in sorted(set(of)):
            numbers = [number for number, layer in enumerate(of) if layer == subgroup]
            stream: list[ObjectReceived | SubgroupEnded] = [
                layered(number, group=group, layer=subgroup) for number in numbers
            ]
            if subgroup == 0:
                stream.append(mark(len(of), group=group))
            if subgroup and random.random() < 0.2:
                stream = stream[: random.randrange(len(stream) + 1)]
                streams.append([*stream, over(subgroup, group=group, reset=True)])
            elif not subgroup or random.random() < 0.9:
                streams.append([*stream, over(subgroup, group=group)])
    order, out, at_ms = GroupOrder(layers=3), [], 0
    first = streams[0].pop(0)
    assert isinstance(first, ObjectReceived)
    out += list(order.handle_object(first))
    while any(streams):
        event = random.choice([stream for stream in streams if stream]).pop(0)
        at_ms += random.randrange(lag_ms + 1)
        if isinstance(event, SubgroupEnded):
            out += list(order.handle_end(event))
        else:
            stamped = replace(event, complete_us=at_ms * 1_000)
            out += list(order.handle_object(stamped))
    out += list(order.flush())
    base = [(received.group, received.object) for received in out if received.subgroup == 0]
    expected = [(g, o) for g, of in enumerate(layers) for o, layer in enumerate(of) if layer == 0]
    assert sorted(base) == expected
    assert len(set(ids(out))) == len(out)
    for group, of in enumerate(layers):
        numbers = [received.object for received in out if received.group == group]
        for at, number in enumerate(numbers):
            if of[number]:
                assert max(numbers[:at], default=-1) < number, "a frame of a layer out of its turn"
        in_base = [number for number in numbers if not of[number]]
        assert in_base == sorted(in_base)
