"""What operators want: what is refused, what survives, what a registry gets."""

from __future__ import annotations

from contextlib import suppress

import pytest
from control_world import World
from hypothesis import given
from hypothesis import strategies as st

from farcast.control_plane.intents import (
    NO_INTENTS,
    OVERRIDES_MAX,
    PINS_MAX,
    BadIntents,
    IntentBook,
    Intents,
    KeptOut,
    Override,
    Pin,
    decode,
    encode,
)
from farcast.control_plane.store import Restored, Save
from farcast.proto.control.messages import Epoch

NAMES = st.sampled_from(["a", "b-1", "sin-1", "fra-1", "x9", "lon-2"])
UNTIL = st.none() | st.integers(0, 2**53)
THREE = ("fra-1", "jkt-1", "sin-1")


@st.composite
def intents(draw: st.DrawFn) -> Intents:
    book = IntentBook(NO_INTENTS)
    for way in draw(st.lists(st.lists(NAMES, max_size=5), max_size=6)):
        book.pin(Pin(tuple(way), draw(UNTIL), draw(st.text(max_size=5))))
    for name in draw(st.lists(NAMES, max_size=3)):
        book.keep_out(KeptOut(name, draw(UNTIL)))
    figures = st.tuples(NAMES, NAMES | st.just(""), st.none() | st.floats(), st.none() | st.integers())
    for override in draw(st.lists(figures, max_size=6)):
        book.override(Override(*override))
    return book.with_drains(draw(st.dictionaries(NAMES, st.integers(0, 86_400_000), max_size=3)))


@given(intents())
def test_what_was_ordered_comes_back_from_a_registry(wanted: Intents) -> None:
    assert decode(encode(wanted)) == wanted


@given(st.binary(max_size=80) | st.text(max_size=40).map(str.encode))
def test_nonsense_in_a_registry_raises_nothing_else(data: bytes) -> None:
    with suppress(BadIntents):
        assert isinstance(decode(data), Intents)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"[" * 100_000, "no intents"),
        (b" " * 600_000, "600000 bytes"),
        (b'{"pins": [{"way": ["a"]}]}', "two ends"),
        (b'{"pins": [{"way": ["a", "A b"]}]}', "cannot be the name"),
        (b'{"pins": [{"way": "ab"}]}', "no intents"),
        (b'{"drains": {"a": -1}}', "drain of 'a'"),
        (b'{"overrides": [{"src": "a", "price_per_gb": -1.0}]}', "price_per_gb is -1"),
        (b'{"kept_out": [{"node_id": ""}]}', "cannot be the name"),
    ],
)
def test_what_could_not_have_been_ordered_is_refused_by_name(data: bytes, text: str) -> None:
    with pytest.raises(BadIntents, match=text):
        decode(data)


def test_a_field_of_a_later_version_is_ignored() -> None:
    assert decode(b'{"drains": {"a": 5}, "wishes": 7}') == Intents({"a": 5})


def test_pins_that_contradict_each_other_are_refused() -> None:
    book = IntentBook(NO_INTENTS)
    assert book.pin(Pin(("o", "x", "a"))) is None
    assert "x is pinned to take o from o" in str(book.pin(Pin(("o", "y", "x", "b"))))
    assert book.pin(Pin(("o", "x", "b"))) is None
    assert book.pin(Pin(("p", "y", "x", "b"))) is None, "of another origin"
    assert book.keep_out(KeptOut("z")) is None
    assert "z is kept out of transit" in str(book.pin(Pin(("o", "z", "c"))))
    assert "relays on the pinned way" in str(book.keep_out(KeptOut("x")))


def test_a_pin_replaces_the_one_between_the_same_two_edges() -> None:
    book = IntentBook(NO_INTENTS)
    book.pin(Pin(("o", "x", "a")))
    assert book.pin(Pin(("o", "y", "a"))) is None
    assert [pin.way for pin in book.pins] == [("o", "y", "a")]


def test_figures_are_set_and_taken_back_one_by_one() -> None:
    book = IntentBook(NO_INTENTS)
    assert book.override(Override("a", "", 0.1)) is None
    assert book.override(Override("a", "", None, 5)) is None
    assert list(book.overrides) == [Override("a", "", 0.1, 5)]
    assert book.reset("a", "", price=True) is None
    assert list(book.overrides) == [Override("a", "", None, 5)]
    assert book.reset("a", "", price=True) == "no price of a is overridden"
    assert book.reset("a", "", price=True, capacity=True) is None
    assert list(book.overrides) == []
    assert book.reset("a", "b", capacity=True) == "no capacity of a > b is overridden"


def test_there_are_limits() -> None:
    book = IntentBook(NO_INTENTS)
    for k in range(PINS_MAX):
        assert book.pin(Pin(("o", f"n{k}"))) is None
    assert str(PINS_MAX) in str(book.pin(Pin(("o", "more"))))
    for k in range(OVERRIDES_MAX):
        assert book.override(Override(f"n{k}", "", 0.0)) is None
    assert str(OVERRIDES_MAX) in str(book.override(Override("more", "", 0.0)))
    assert len(encode(book.with_drains({}))) < 512 << 10, "one value of a registry"


def test_orders_survive_the_control_plane() -> None:
    world = World(THREE, lambda a, b: 30.0 if "sin-1" in (a, b) else 200.0).run(6)
    ordered = (
        lambda orders: orders.pin(Pin(("jkt-1", "fra-1"), None)),
        lambda orders: orders.override(Override("sin-1", "", None, 7_000_000)),
        lambda orders: orders.drain("sin-1", 9_000, world.now_us),
    )
    for order in ordered:
        assert world.controller.order(order, world.now_us) is None
    world.run(4)
    assert world.parents("jkt-1")["fra-1"] == "jkt-1"
    kept = [save.intents for save in world.saves if save.intents is not None][-1]
    assert kept == world.controller.orders.intents
    hellos = [save.members for save in world.saves if save.members is not None][-1]
    restored = Restored(Epoch(cluster="shows", number=2), members=hellos, intents=kept)
    again = World(THREE, lambda a, b: 30.0 if "sin-1" in (a, b) else 200.0, restored=restored).run(15)
    assert again.controller.orders.intents.pins == kept.pins
    assert again.parents("jkt-1")["fra-1"] == "jkt-1"
    network = again.controller.links.network(again.now_us)
    assert network.node("sin-1").capacity_bps == 7_000_000


def test_a_change_is_saved_before_anything_acts_on_it() -> None:
    world = World(THREE, lambda a, b: 50.0).run(6)
    world.controller.order(lambda orders: orders.keep_out(KeptOut("sin-1")), world.now_us)
    save = world.controller.poll_save()
    assert isinstance(save, Save)
    assert save.intents is not None
    assert [kept.node_id for kept in save.intents.kept_out] == ["sin-1"]


def test_unknown_edges_are_named_with_those_that_there_are() -> None:
    world = World(THREE, lambda a, b: 50.0).run(6)
    why_not = world.controller.order(lambda orders: orders.pin(Pin(("jkt-1", "mars-1"))), world.now_us)
    assert why_not == "no edge 'mars-1'; known are fra-1, jkt-1, sin-1"
    assert world.controller.orders.book.pins == ()
